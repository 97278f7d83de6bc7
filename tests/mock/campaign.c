/*
 * Every way in which a token can fail, tried: each order (tests/mock/lane.h) x each C_ function it
 * calls x CK_RV x {once, the second time, for ever}, against a real kbs-token with a played judge
 * and the mock behind it. What must come of it is said once, in expected(), from the class that
 * hsm/ckr.c gives the code; a new table there, or a new way of handling errors, has to agree with
 * it.
 *
 *   campaign [--quick]     prints what was done, exits 1 on any mismatch
 *
 * All CK_RVs are tried with the first six orders, one of each class with the others. --quick tries
 * one of each class, once, and of the rest and of what ends a worker every twentieth case.
 *
 * Also held: no answer takes longer than half its deadline, no worker dies but by its own decision,
 * one login per worker, an order that failed leaves nothing that is in the way of its repetition,
 * and every answer that says OK is right: what was released opens to the key, what was signed
 * verifies.
 *
 * Ordinary answers are no proof that a fault was met, so the mock counts the faults it made.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/process.h"
#include "hsm/ckr.h"
#include "lane.h"

#define ANSWER_LIMIT_MS 5000u /* half the deadline of a token call, on a machine that is busy */

enum mode {
    ONCE,
    SECOND,
    ALWAYS,
    MODE_COUNT
};
static const char *const mode_names[MODE_COUNT] = {"once", "nth 2", "always"};

/* Not a code: the call succeeds, and what it gives back is a byte short. */
#define LIE_OF_LENGTH (~0UL)

struct code {
    CK_RV rv;
    bool quick; /* one of each class is in the quick run */
};
static const struct code codes[] = {
    {CKR_HOST_MEMORY, false},
    {CKR_SLOT_ID_INVALID, false},
    {CKR_GENERAL_ERROR, true},
    {CKR_FUNCTION_FAILED, false},
    {CKR_ARGUMENTS_BAD, false},
    {CKR_ATTRIBUTE_READ_ONLY, false},
    {CKR_ATTRIBUTE_VALUE_INVALID, false},
    {CKR_DATA_LEN_RANGE, false},
    {CKR_DEVICE_ERROR, true},
    {CKR_DEVICE_MEMORY, true},
    {CKR_DEVICE_REMOVED, false},
    {CKR_ENCRYPTED_DATA_INVALID, true},
    {CKR_FUNCTION_NOT_SUPPORTED, false},
    {CKR_KEY_HANDLE_INVALID, true},
    {CKR_OBJECT_HANDLE_INVALID, false},
    {CKR_WRAPPING_KEY_HANDLE_INVALID, false},
    {CKR_KEY_SIZE_RANGE, false},
    {CKR_KEY_FUNCTION_NOT_PERMITTED, false},
    {CKR_KEY_UNEXTRACTABLE, false},
    {CKR_MECHANISM_INVALID, true},
    {CKR_MECHANISM_PARAM_INVALID, false},
    {CKR_OPERATION_ACTIVE, false},
    {CKR_OPERATION_NOT_INITIALIZED, false},
    {CKR_PIN_EXPIRED, false},
    {CKR_SESSION_CLOSED, false},
    {CKR_SESSION_COUNT, false},
    {CKR_SESSION_HANDLE_INVALID, true},
    {CKR_SESSION_READ_ONLY, false},
    {CKR_TEMPLATE_INCONSISTENT, false},
    {CKR_TOKEN_NOT_PRESENT, false},
    {CKR_USER_NOT_LOGGED_IN, false},
    {CKR_WRAPPED_KEY_INVALID, false},
    {CKR_BUFFER_TOO_SMALL, false},
    {CKR_CRYPTOKI_NOT_INITIALIZED, false},
    {CKR_VENDOR_DEFINED | 0x1234, false},
    {LIE_OF_LENGTH, true},
};

/* One fault: a code, or a lie, at a function of an order. */
struct fault {
    enum order order;
    size_t function; /* its place in struct mock_calls */
    const char *name;
    CK_RV rv;
    enum mode mode;
};

struct outcome {
    enum kbs_category category;
    enum verdict verdict; /* of an OK */
    bool ended;
    int status; /* of a worker that ended */
    bool fired;
    bool selftest;
    bool looked_again;
    uint64_t ms;
};

/* What is printed. */
static struct tally {
    unsigned int cases;
    unsigned int met; /* the fault was made */
    unsigned int categories[KBS_CATEGORY_COUNT];
    unsigned int ended;
    unsigned int selftests;
    unsigned int looked_again;
} tallies[KBS_CKR_CLASS_COUNT];
static unsigned int mismatches;
static unsigned int logins;
static unsigned int starts;
static uint64_t slowest_ms;
static FILE *report;

static const char *const class_names[KBS_CKR_CLASS_COUNT] = {
    [KBS_CKR_OK] = "too short",          [KBS_CKR_REQUEST] = "REQUEST",
    [KBS_CKR_BYTES] = "BYTES",           [KBS_CKR_STALE] = "STALE",
    [KBS_CKR_AMBIGUOUS] = "AMBIGUOUS",   [KBS_CKR_CAPACITY] = "CAPACITY",
    [KBS_CKR_LOGGED_OUT] = "LOGGED_OUT", [KBS_CKR_DEVICE] = "DEVICE",
    [KBS_CKR_OPERATOR] = "OPERATOR"};

static void lane_close(struct lane *l)
{
    if (!lane_down(l)) {
        (void)fprintf(report, "a worker did not end well when it was hung up on\n");
        mismatches++;
    }
    starts += l->starts;
    logins += (unsigned int)lane_calls_of(l->calls, "C_Login");
    if (lane_calls_of(l->calls, "C_Login") != l->starts) {
        (void)fprintf(report, "%llu logins of %u workers\n",
                      (unsigned long long)lane_calls_of(l->calls, "C_Login"), l->starts);
        mismatches++;
    }
    lane_remove(l);
}

/* ---- what must come of it ---- */

static bool is_one_of(const char *name, const char *const *list)
{
    while (*list != NULL && strcmp(*list, name) != 0) {
        list++;
    }
    return *list != NULL;
}

/* Called by the self-test: with a fault that stays, it fails too. */
static bool is_in_selftest(const struct fault *f)
{
    static const char *const all[] = {"C_GenerateKey",   "C_WrapKey", "C_UnwrapKey",
                                      "C_SignInit",      "C_Sign",    "C_GetAttributeValue",
                                      "C_DestroyObject", NULL};

    return is_one_of(f->name, all);
}

/* Opens bytes from outside, which may be at fault instead of the token. */
static bool is_receiving(const struct fault *f)
{
    static const char *const opening[] = {"C_UnwrapKey", "C_DecryptInit", "C_Decrypt", NULL};
    bool receives = f->order == IMPORT || f->order == IMPORT_WRAPPED || f->order == SEAL ||
                    f->order == OPEN_SECRET || f->order == RESEAL;

    return receives && is_one_of(f->name, opening);
}

/* What the service goes on without. */
static bool is_not_needed(const struct fault *f)
{
    return strcmp(f->name, "C_FindObjectsFinal") == 0; /* the search has had its answer */
}

/* C_UnwrapKey is asked once more with another template where the token does not like this one. */
static bool is_asked_otherwise(const struct fault *f)
{
    return strcmp(f->name, "C_UnwrapKey") == 0 && f->mode != ALWAYS &&
           (f->rv == CKR_ATTRIBUTE_READ_ONLY || f->rv == CKR_TEMPLATE_INCONSISTENT);
}

static enum kbs_ckr_class class_of(const struct fault *f)
{
    return f->rv == LIE_OF_LENGTH ? KBS_CKR_OK : kbs_ckr_lookup(f->name, f->rv, NULL);
}

/* Bytes at fault, or the token: a self-test has told. */
static const char *expected_of_doubt(const struct fault *f, const struct outcome *o)
{
    bool alive = !o->ended;

    if (f->mode == ALWAYS && is_in_selftest(f)) {
        return o->category == KBS_TOKEN_DOWN && !alive ? NULL : "an end: the self-test fails";
    }
    if (is_receiving(f) && f->mode != SECOND) {
        return o->category == KBS_UNPROCESSABLE && alive ? NULL : "the sender's fault";
    }
    return alive && (o->category == KBS_INTERNAL ||
                     (is_receiving(f) && o->category == KBS_UNPROCESSABLE))
               ? NULL
               : "INTERNAL after a self-test";
}

/* What the class of a code asks for. NULL, or what should have been. */
static const char *expected_of_class(enum kbs_ckr_class class, const struct fault *f,
                                     const struct outcome *o)
{
    bool alive = !o->ended;

    switch (class) {
    case KBS_CKR_OK:
    case KBS_CKR_CLASS_COUNT:
        break;
    case KBS_CKR_REQUEST:
        return o->category == KBS_INTERNAL && alive ? NULL : "INTERNAL, and the lane lives";
    case KBS_CKR_STALE:
        if (f->mode != ALWAYS) {
            return o->category == KBS_OK && alive && o->looked_again ? NULL : "OK after a new look";
        }
        return o->category == KBS_INTERNAL && alive ? NULL : "INTERNAL, and the lane lives";
    case KBS_CKR_BYTES:
    case KBS_CKR_AMBIGUOUS:
        return expected_of_doubt(f, o);
    case KBS_CKR_CAPACITY:
        return o->category == KBS_BUSY && alive ? NULL : "BUSY, and the lane lives";
    case KBS_CKR_LOGGED_OUT:
    case KBS_CKR_DEVICE:
    case KBS_CKR_OPERATOR:
        return o->category == KBS_TOKEN_DOWN && !alive && o->status == KBS_EXIT_FAILURE
                   ? NULL
                   : "TOKEN_DOWN, and the worker ends";
    }
    return "a code that has a class";
}

/* NULL, or what should have been. */
static const char *expected(const struct fault *f, const struct outcome *o)
{
    enum kbs_ckr_class class = class_of(f);
    bool reading = strcmp(f->name, "C_GetAttributeValue") == 0;
    bool alive = !o->ended;

    if (o->category == KBS_OK && o->verdict != VERDICT_RIGHT) {
        return "an answer that is right, or none";
    }
    if (!o->fired || is_not_needed(f)) {
        return o->category == KBS_OK && alive ? NULL : "OK, as without the fault";
    }
    if (class == KBS_CKR_OK) {
        return alive ? NULL : "a lane that lives: the token answers";
    }
    if (strcmp(f->name, "C_DestroyObject") == 0 && f->order != DESTROY) {
        return o->category == KBS_TOKEN_DOWN && !alive ? NULL
                                                       : "an end: a session object may be left";
    }
    if (reading && f->mode != ALWAYS && o->category == KBS_OK && alive) {
        return NULL; /* CKA_VALUE_LEN, which tokens need not tell */
    }
    if (is_asked_otherwise(f) && o->category == KBS_OK && alive) {
        return NULL;
    }
    if (f->order == ADOPT && alive &&
        (o->category == KBS_UNPROCESSABLE || (o->category == KBS_OK && f->mode != ALWAYS))) {
        return NULL; /* it tries one rung after the other, and takes no key that it cannot read */
    }
    if (reading && f->rv == CKR_BUFFER_TOO_SMALL && o->category != KBS_INTERNAL) {
        class = KBS_CKR_STALE; /* an id that is longer: another object */
    }
    return expected_of_class(class, f, o);
}

/* ---- cases ---- */

static bool hung_up(const struct lane *l)
{
    struct pollfd p = {.fd = l->w.judge, .events = POLLIN};

    return poll(&p, 1, 5000) == 1 && (p.revents & POLLHUP) != 0;
}

static void note(const struct fault *f, const struct outcome *o, const char *what)
{
    mismatches++;
    (void)fprintf(report, "MISMATCH %s, %s %s %s: got %s, %s%s; wanted %s\n", order_names[f->order],
                  f->name, mode_names[f->mode],
                  f->rv == LIE_OF_LENGTH ? "wrong-length" : kbs_ckr_name(f->rv),
                  kbs_category_name(o->category), o->ended ? "ended" : "lives",
                  o->fired ? "" : " (fault not met)", what);
}

static void count(const struct fault *f, const struct outcome *o)
{
    struct tally *t = &tallies[class_of(f)];

    t->cases++;
    if (o->fired) {
        t->met++;
        t->categories[o->category]++;
        t->ended += o->ended ? 1 : 0;
        t->selftests += o->selftest ? 1 : 0;
        t->looked_again += o->looked_again ? 1 : 0;
    }
    slowest_ms = o->ms > slowest_ms ? o->ms : slowest_ms;
}

static void fault_script(const struct lane *l, const struct fault *f)
{
    char script[128];

    if (f->rv == LIE_OF_LENGTH) {
        (void)snprintf(script, sizeof(script), "%s %s wrong-length\n", f->name,
                       mode_names[f->mode]);
    } else {
        (void)snprintf(script, sizeof(script), "%s %s rv 0x%lx\n", f->name, mode_names[f->mode],
                       f->rv);
    }
    lane_script(l, script);
}

/* More calls of a function than the order makes when nothing is wrong. */
static bool calls_more(const struct lane *l, const struct mock_calls *before,
                       const struct mock_calls *clean, const char *function)
{
    return lane_calls_of(l->calls, function) - lane_calls_of(before, function) >
           lane_calls_of(clean, function);
}

static void run_case(struct lane *l, const struct fault *f, const struct mock_calls *clean)
{
    struct attempt a = attempt_prepare(l, f->order);
    struct mock_calls before = *l->calls;
    struct outcome o = {.ended = false};
    uint64_t start_ns = kbs_clock_mono_ns();
    const char *wanted;

    fault_script(l, f);
    o.category = attempt_give(l, &a, &o.verdict);
    o.ms = (kbs_clock_mono_ns() - start_ns) / KBS_NS_PER_MS;
    o.fired = l->calls->functions[f->function].faults > before.functions[f->function].faults;
    o.looked_again = calls_more(l, &before, clean, "C_FindObjectsInit");
    o.selftest = !o.looked_again && calls_more(l, &before, clean, "C_GenerateKey");
    lane_script(l, "");
    if (o.category == KBS_TOKEN_DOWN) {
        o.ended = hung_up(l);
        o.status = o.ended ? worker_wait(&l->w) : 0;
        l->up = !o.ended;
    }
    count(f, &o);
    wanted = expected(f, &o);
    if (wanted == NULL && o.ms > ANSWER_LIMIT_MS) {
        wanted = "an answer in time";
    }
    if (wanted == NULL &&
        !attempt_check(l, &a, o.category, strcmp(f->name, "C_DestroyObject") == 0)) {
        wanted = "a lane that serves afterwards, and nothing left behind";
    }
    if (wanted != NULL) {
        note(f, &o, wanted);
    }
}

/* What an order calls when nothing is wrong: the functions to attack it at. */
static void clean_run(struct lane *l, enum order order, struct mock_calls *ret)
{
    struct attempt a = attempt_prepare(l, order);
    struct mock_calls before = *l->calls;
    enum verdict verdict = VERDICT_NOTHING;
    enum kbs_category category = attempt_give(l, &a, &verdict);

    assert_int_equal(category, KBS_OK);
    assert_int_equal(verdict, VERDICT_RIGHT);
    *ret = *l->calls;
    for (size_t i = 0; i < MOCK_CALLS_FUNCTIONS; i++) {
        ret->functions[i].calls -= before.functions[i].calls;
    }
}

/* A worker's start takes longer than everything else, so there are few cases that end one. */
static bool is_due(const struct fault *f, const struct code *code, bool quick)
{
    static unsigned int turn;
    enum kbs_ckr_class class = class_of(f);
    bool ends = class >= KBS_CKR_LOGGED_OUT || strcmp(f->name, "C_DestroyObject") == 0;

    if (!quick) { /* what ends a worker has no time to come again */
        return code->quick || (f->order <= SIGN && !(ends && f->mode == ALWAYS));
    }
    if (!code->quick) {
        return false;
    }
    if (f->mode == ONCE && !ends) {
        return true;
    }
    return turn++ % 20 == 0;
}

static void run_function(struct lane *l, struct fault f, bool quick, const struct mock_calls *clean)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        f.rv = codes[i].rv;
        for (int mode = 0; mode < MODE_COUNT; mode++) {
            f.mode = (enum mode)mode;
            if (is_due(&f, &codes[i], quick)) {
                run_case(l, &f, clean);
            }
        }
    }
}

/*
 * An order on a token of that profile; added: only at the functions that a token calls for which
 * needs the transport rung.
 */
static void run_order(const struct token_dir *template, enum order order, const char *profile,
                      bool added, bool quick)
{
    struct mock_calls clean;
    struct lane l;
    char line[64];

    (void)snprintf(line, sizeof(line), "profile = %s", profile);
    lane_open(&l, template, line);
    clean_run(&l, order, &clean);
    for (size_t i = 0; i < MOCK_CALLS_FUNCTIONS; i++) {
        struct fault f = {.order = order, .function = i, .name = clean.functions[i].name};
        bool by_transport =
            strncmp(f.name, "C_Digest", 8) == 0 || strcmp(f.name, "C_CreateObject") == 0;

        if (clean.functions[i].calls == 0 || (added && !by_transport)) {
            continue;
        }
        if (!quick) { /* a token that does not fill up */
            lane_close(&l);
            lane_open(&l, template, line);
        }
        run_function(&l, f, quick, &clean);
    }
    lane_close(&l);
}

static void run_orders(const struct token_dir *template, bool quick)
{
    static const enum order by_transport[] = {IMPORT, RELEASE_JOSE, RELEASE_COSE, RELEASE_COLD,
                                              SEAL};

    for (int order = 0; order < ORDER_COUNT; order++) {
        run_order(template, (enum order)order, "all", false, quick);
    }
    for (size_t i = 0; i < sizeof(by_transport) / sizeof(by_transport[0]); i++) {
        run_order(template, by_transport[i], "softhsm", true, quick);
    }
    run_order(template, RELEASE_JWE, "no-gcm", false, quick); /* the worker's */
}

/* ---- garbled results ---- */

/*
 * One bit of what the token wraps is wrong. Nothing in kbs-token can see that in an answer to a TEE;
 * the guest does, by the integrity check of AES Key Wrap, GCM or OAEP. What stays in the store is
 * found by the worker, which opens it again.
 */
static void run_garbled(const struct token_dir *template)
{
    static const enum order orders[] = {
        RELEASE_JOSE, RELEASE_COSE,     RELEASE_WRAPPED, RELEASE_RSA, RELEASE_JWE, GENERATE,
        IMPORT,       GENERATE_WRAPPED, IMPORT_WRAPPED,  REWRAP,      ADOPT};
    unsigned int refused = 0;
    unsigned int not_opened = 0;
    unsigned int harmless = 0;
    struct lane l;

    lane_open(&l, template, "profile = all");
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        for (int nth = 1; nth <= 3; nth++) {
            struct attempt a = attempt_prepare(&l, orders[i]);
            enum verdict verdict = VERDICT_NOTHING;
            enum kbs_category category;
            char script[64];

            (void)snprintf(script, sizeof(script), "C_WrapKey nth %d garble\n", nth);
            lane_script(&l, script);
            category = attempt_give(&l, &a, &verdict);
            lane_script(&l, "");
            refused += category != KBS_OK;
            not_opened += category == KBS_OK && verdict == VERDICT_NOTHING;
            harmless += category == KBS_OK && verdict == VERDICT_RIGHT;
            if ((category == KBS_OK && verdict == VERDICT_WRONG) ||
                (verdict != VERDICT_NOTHING && !attempt_check(&l, &a, category, false))) {
                mismatches++;
                (void)fprintf(report, "MISMATCH %s, C_WrapKey nth %d garbled: %s\n",
                              order_names[orders[i]], nth, kbs_category_name(category));
            }
        }
    }
    lane_close(&l);
    (void)fprintf(report,
                  "garbled  %zu results: %u refused by the worker, %u not opened by the guest, %u "
                  "not met or not used\n",
                  3 * sizeof(orders) / sizeof(orders[0]), refused, not_opened, harmless);
}

/* ---- the start ---- */

/* A worker whose token fails while it starts: one login at most, and an end by its own decision. */
static void run_start(const struct token_dir *template, const char *function, bool before_login,
                      CK_RV rv, unsigned int *served, unsigned int *statuses)
{
    struct start_options options = {.duty = KBS_DUTY_ADMIN, .expect_failure = true};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct lane l = {.up = false};
    bool operator_error = before_login && kbs_ckr_lookup(function, rv, NULL) == KBS_CKR_OPERATOR;
    bool ready;
    int status;
    uint64_t before;
    char script[128];

    dir_copy(template, &l.dir);
    l.calls = lane_calls_map(&l.dir);
    before = lane_calls_of(l.calls, "C_Login");
    (void)snprintf(script, sizeof(script), "%s once rv 0x%lx\n", function, rv);
    lane_script(&l, script);
    worker_start(&l.w, &l.dir, &options);
    ready = kbs_channel_recv(l.w.control, &m, kbs_deadline_in_ms(30000), &err) == 0 &&
            m.frame.type == KBS_WIRE_READY; /* LEAVING otherwise */
    kbs_channel_msg_deinit(&m);
    status = ready ? worker_stop(&l.w) : worker_wait(&l.w);
    if (lane_calls_of(l.calls, "C_Login") - before > 1 || status > KBS_EXIT_CONFIG ||
        (operator_error != (status == KBS_EXIT_PIN)) || (ready && status != 0)) {
        mismatches++;
        (void)fprintf(report, "MISMATCH start, %s once %s: %s, status %d\n", function,
                      kbs_ckr_name(rv), ready ? "ready" : "not ready", status);
    }
    *served += ready ? 1 : 0;
    statuses[status == KBS_EXIT_FAILURE ? 0 : status == KBS_EXIT_PIN ? 1 : 2] += ready ? 0 : 1;
    (void)munmap((void *)(uintptr_t)l.calls, sizeof(*l.calls));
    dir_remove(&l.dir);
}

static void run_starts(const struct token_dir *template, bool quick)
{
    static const struct {
        const char *name;
        bool before_login; /* and its errors are told: a token without info is only not there */
    } functions[] = {{"C_Initialize", true},  {"C_GetSlotList", true}, {"C_GetTokenInfo", false},
                     {"C_OpenSession", true}, {"C_Login", true},       {"C_GenerateKey", false},
                     {"C_DeriveKey", false}};
    unsigned int served = 0;
    unsigned int statuses[3] = {0};
    unsigned int n = 0;

    for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
        for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
            if (codes[i].rv != LIE_OF_LENGTH &&
                (!quick || codes[i].rv == CKR_GENERAL_ERROR || codes[i].rv == CKR_DEVICE_ERROR)) {
                run_start(template, functions[f].name, functions[f].before_login, codes[i].rv,
                          &served, statuses);
                n++;
            }
        }
        run_start(template, functions[f].name, functions[f].before_login, CKR_PIN_INCORRECT,
                  &served, statuses);
        run_start(template, functions[f].name, functions[f].before_login, CKR_PIN_LOCKED, &served,
                  statuses);
        n += 2;
    }
    (void)fprintf(report,
                  "starts   %u cases: %u served all the same, %u ended to be tried again, %u with "
                  "the PIN, %u with the configuration\n",
                  n, served, statuses[0], statuses[1], statuses[2]);
}

/* ---- the whole ---- */

static void print_tallies(void)
{
    static const enum kbs_category shown[] = {
        KBS_OK, KBS_BUSY, KBS_TOKEN_DOWN, KBS_UNPROCESSABLE, KBS_UNSUPPORTED, KBS_INTERNAL};
    unsigned int cases = 0;
    unsigned int met = 0;

    (void)fprintf(report, "%-11s %6s %6s %6s %6s %6s %6s %6s %6s %6s %9s %8s\n", "class", "cases",
                  "met", "ok", "busy", "down", "422", "501", "500", "ended", "self-test",
                  "new look");
    for (size_t c = KBS_CKR_OK; c < KBS_CKR_CLASS_COUNT; c++) {
        const struct tally *t = &tallies[c];

        (void)fprintf(report, "%-11s %6u %6u", class_names[c], t->cases, t->met);
        for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
            (void)fprintf(report, " %6u", t->categories[shown[i]]);
        }
        (void)fprintf(report, " %6u %9u %8u\n", t->ended, t->selftests, t->looked_again);
        cases += t->cases;
        met += t->met;
    }
    (void)fprintf(report,
                  "%u cases, %u faults met, %u workers started, %u logins, slowest answer %llu ms, "
                  "%u mismatches\n",
                  cases, met, starts, logins, (unsigned long long)slowest_ms, mismatches);
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    struct kbs_error err = KBS_ERROR_NONE;
    struct token_dir template;
    int log_fd;

    if (!harness_select("mock") || kbs_secret_heap_init(&err) < 0) {
        (void)fprintf(stderr, "no mock module, or no memory for secrets\n");
        return 2;
    }
    report = fdopen(dup(STDOUT_FILENO), "we");
    lane_template(&template);
    /* The workers' logs, thousands of lines of errors as ordered, are not what is to be read. */
    log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (report == NULL || log_fd < 0 || dup2(log_fd, STDERR_FILENO) < 0) {
        return 2;
    }
    run_orders(&template, quick);
    run_garbled(&template);
    run_starts(&template, quick);
    print_tallies();
    dir_remove(&template);
    return mismatches == 0 ? 0 : 1;
}
