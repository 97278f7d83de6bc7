/*
 * Every way in which a token can fail, tried: each order (generate, import, release, sign) x each
 * C_ function it calls x each CK_RV x {once, the second time, for ever}, against a real kbs-token
 * with a played judge and the mock behind it. What must come of it is said once, in expected(), from
 * the class that hsm/ckr.c gives the code; a new table there, or a new way of handling errors, has
 * to agree with it.
 *
 *   campaign [--quick]     prints what was done, exits 1 on any mismatch
 *
 * Also held: no answer takes longer than half its deadline, no worker dies but by its own decision, one login
 * per worker, an order that failed leaves nothing that is in the way of its repetition, and every
 * answer that says OK is right: what was released opens to the key by its check value, what was
 * signed verifies.
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

#include "base/digest.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "calls.h"
#include "hsm/ckr.h"
#include "jose/write/jose.h"
#include "tests/token/harness.h"

#define ANSWER_LIMIT_MS 5000u /* half the deadline of a token call, on a machine that is busy */
#define WARM_VERSION 1u

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

enum order {
    GENERATE,
    IMPORT,
    RELEASE_JOSE,
    RELEASE_COSE,
    RELEASE_COLD,
    SIGN,
    ORDER_COUNT
};
static const char *const order_names[ORDER_COUNT] = {"generate",     "import",       "release JOSE",
                                                     "release COSE", "release cold", "sign"};

/* One token folder and the worker on it. */
struct lane {
    struct token_dir dir;
    const struct mock_calls *calls;
    struct worker w;
    bool up;
    unsigned int starts;
    uint32_t next_version;
    struct kbs_agree_key *tee;
    struct key_ref warm; /* released often: its handle is in the worker's cache */
    uint8_t warm_kcv[KBS_KCV_BYTES];
    uint8_t import_point[65];
    struct kbs_ec_public sign_key;
};

/* One order to be given, made before the fault is in force. */
struct attempt {
    enum order order;
    struct key_ref key;
    uint8_t key_kcv[KBS_KCV_BYTES]; /* of what is released or imported */
    uint8_t wrapped[40];
    struct kbs_ec_public epk;
};

struct outcome {
    enum kbs_category category;
    bool right; /* an OK that is what it says */
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
} tallies[KBS_CKR_OPERATOR + 1];
static unsigned int mismatches;
static unsigned int logins;
static unsigned int starts;
static uint64_t slowest_ms;
static FILE *report;

static const char *const class_names[] = {"too short", "REQUEST",    "STALE",  "AMBIGUOUS",
                                          "CAPACITY",  "LOGGED_OUT", "DEVICE", "OPERATOR"};

/* ---- the token's files ---- */

/* By rename, so that a half is never read; with a number, so that no two scripts are the same. */
static void script_write(const struct lane *l, const char *text)
{
    static unsigned int number;
    char path[300];
    char fresh[300];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/script", l->dir.path);
    (void)snprintf(fresh, sizeof(fresh), "%s/script.new", l->dir.path);
    f = fopen(fresh, "we");
    assert_non_null(f);
    assert_true(fprintf(f, "%s# %u\n", text, number++) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(fresh, path), 0);
}

static const struct mock_calls *calls_map(const struct token_dir *d)
{
    char path[300];
    int fd;
    void *p;

    (void)snprintf(path, sizeof(path), "%s/calls", d->path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    p = mmap(NULL, sizeof(struct mock_calls), PROT_READ, MAP_SHARED, fd, 0);
    kbs_io_close(&fd);
    assert_true(p != MAP_FAILED);
    return p;
}

static uint64_t calls_of(const struct mock_calls *c, const char *name)
{
    for (size_t i = 0; i < MOCK_CALLS_FUNCTIONS; i++) {
        if (strcmp(c->functions[i].name, name) == 0) {
            return c->functions[i].calls;
        }
    }
    fail_msg("the mock has no %s", name);
    return 0;
}

/* Adds a line to the token's configuration. */
static void configure(const struct token_dir *d, const char *line)
{
    const char *path = strchr(d->env, '=') + 1;
    FILE *f = fopen(path, "ae");

    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", line) > 0);
    assert_int_equal(fclose(f), 0);
}

/* ---- the lane ---- */

static void lane_up(struct lane *l)
{
    struct kbs_wire_described described;

    if (l->up) {
        return;
    }
    worker_start(&l->w, &l->dir, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    l->starts++;
    l->up = true;
    described = worker_describe(&l->w);
    assert_int_equal(described.import_public.len, sizeof(l->import_point));
    memcpy(l->import_point, described.import_public.p, sizeof(l->import_point));
    struct kbs_error err = KBS_ERROR_NONE;
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, described.sign_public, &l->sign_key, &err),
                     0);
}

static struct key_ref lane_new_key(struct lane *l)
{
    return key_ref(1, l->next_version++);
}

/* Releases a key and compares what a TEE finds with its check value. */
static bool release_opens(struct lane *l, const struct key_ref *k, enum kbs_format format,
                          const uint8_t kcv[KBS_KCV_BYTES], struct kbs_wire_result *ret)
{
    KBS_AUTO_SECRET key = NULL;
    struct kbs_wire_release order = release_order(k, kbs_agree_key_public(l->tee), format);
    uint8_t got[KBS_KCV_BYTES];

    *ret = worker_order(&l->w, KBS_WIRE_RELEASE, &order);
    if (ret->category != KBS_OK) {
        return false;
    }
    open_released(l->tee, &order, ret, &key);
    kbs_agree_kcv(kbs_secret_span(key), got);
    return memcmp(got, kcv, sizeof(got)) == 0;
}

/* `line`: of the token's configuration, beyond the usual. */
static void lane_open(struct lane *l, const struct token_dir *template, const char *line)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_result r;

    *l = (struct lane){.next_version = WARM_VERSION + 1};
    dir_copy(template, &l->dir);
    configure(&l->dir, line);
    l->calls = calls_map(&l->dir);
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &l->tee, &err), 0);
    l->starts = (unsigned int)calls_of(l->calls, "C_Login"); /* those of the template */
    lane_up(l);
    l->warm = key_ref(1, WARM_VERSION);
    r = order_generate(&l->w, &l->warm, 32);
    assert_int_equal(r.category, KBS_OK);
    memcpy(l->warm_kcv, r.body.p, sizeof(l->warm_kcv));
    assert_true(release_opens(l, &l->warm, KBS_FORMAT_JOSE, l->warm_kcv, &r));
}

static void lane_close(struct lane *l)
{
    if (l->up && worker_stop(&l->w) != 0) {
        (void)fprintf(report, "a worker did not end well when it was hung up on\n");
        mismatches++;
    }
    starts += l->starts;
    logins += (unsigned int)calls_of(l->calls, "C_Login");
    if (calls_of(l->calls, "C_Login") != l->starts) {
        (void)fprintf(report, "%llu logins of %u workers\n",
                      (unsigned long long)calls_of(l->calls, "C_Login"), l->starts);
        mismatches++;
    }
    (void)munmap((void *)(uintptr_t)l->calls, sizeof(*l->calls));
    (void)kbs_agree_key_free(l->tee);
    dir_remove(&l->dir);
}

/* ---- orders ---- */

static void prepare_import(struct lane *l, struct attempt *a)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_agree_key *sender = NULL;
    struct kbs_ec_public import_key;
    struct kbs_buf info = KBS_BUF(512);
    uint8_t key[32];
    size_t len = 0;

    memset(key, (int)(a->key.version & 0xff), sizeof(key));
    kbs_agree_kcv(kbs_span(key, sizeof(key)), a->key_kcv);
    kbs_jose_other_info_put(&info, KBS_SPAN_LIT("kbs-import-v1"), kbs_span_str(a->key.kid));
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &sender, &err), 0);
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256,
                                      kbs_span(l->import_point, sizeof(l->import_point)),
                                      &import_key, &err),
                     0);
    assert_int_equal(kbs_agree_ecdh(sender, &import_key, &z, &err), 0);
    assert_int_equal(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err), 0);
    assert_int_equal(
        kbs_agree_wrap(kbs_secret_span(kek), kbs_span(key, sizeof(key)), a->wrapped, &len, &err),
        0);
    a->epk = *kbs_agree_key_public(sender);
    kbs_buf_deinit(&info);
    (void)kbs_agree_key_free(sender);
}

static struct attempt prepare(struct lane *l, enum order order)
{
    struct attempt a = {.order = order};
    struct kbs_wire_result r;

    lane_up(l);
    a.key = order == RELEASE_JOSE || order == RELEASE_COSE ? l->warm : lane_new_key(l);
    if (order == IMPORT) {
        prepare_import(l, &a);
    } else if (order == RELEASE_COLD) {
        r = order_generate(&l->w, &a.key, 32);
        assert_int_equal(r.category, KBS_OK);
        memcpy(a.key_kcv, r.body.p, sizeof(a.key_kcv));
    } else if (order != GENERATE) {
        /* After a restart the cache is empty again. */
        assert_true(release_opens(l, &l->warm, KBS_FORMAT_JOSE, l->warm_kcv, &r));
        memcpy(a.key_kcv, l->warm_kcv, sizeof(a.key_kcv));
    }
    return a;
}

/* A compact JWS by the lane's signing key. */
static bool jws_is_right(const struct lane *l, struct kbs_span jws)
{
    uint8_t signature[KBS_ES256_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    size_t dot = jws.len;

    while (dot > 0 && jws.p[dot - 1] != '.') {
        dot--;
    }
    if (dot == 0) {
        return false;
    }
    kbs_sha256(kbs_span(jws.p, dot - 1), digest);
    return kbs_base64url_get_exact(signature, sizeof(signature), kbs_span_skip(jws, dot)) == 0 &&
           kbs_ec_verify(&l->sign_key, digest, signature);
}

static struct kbs_wire_result give(struct lane *l, const struct attempt *a, bool *ret_right)
{
    struct kbs_wire_import import = {.order = KBS_SPAN_LIT(ORDER),
                                     .key_id = kbs_span(a->key.id, sizeof(a->key.id)),
                                     .key_version = a->key.version,
                                     .label = kbs_span_str(a->key.kid),
                                     .epk_x = kbs_ec_x(&a->epk),
                                     .epk_y = kbs_ec_y(&a->epk),
                                     .wrapped = kbs_span(a->wrapped, sizeof(a->wrapped))};
    struct kbs_wire_result r = {.category = KBS_OK};

    *ret_right = true; /* a key that was made is released by check_after() */
    switch (a->order) {
    case GENERATE:
        return order_generate(&l->w, &a->key, 32);
    case IMPORT:
        return worker_order(&l->w, KBS_WIRE_IMPORT, &import);
    case SIGN:
        r = worker_order(&l->w, KBS_WIRE_SIGN_EAR,
                         &(struct kbs_wire_sign_ear){.claims = KBS_SPAN_LIT("{\"iss\":\"x\"}")});
        *ret_right = r.category == KBS_OK && jws_is_right(l, r.body);
        return r;
    case RELEASE_JOSE:
    case RELEASE_COLD:
        *ret_right = release_opens(l, &a->key, KBS_FORMAT_JOSE, a->key_kcv, &r);
        return r;
    case RELEASE_COSE:
        *ret_right = release_opens(l, &a->key, KBS_FORMAT_COSE, a->key_kcv, &r);
        return r;
    case ORDER_COUNT:
        break;
    }
    return r;
}

/* Without the fault: the lane serves, and what the order made is there as a whole or not at all. */
static bool check_after(struct lane *l, const struct attempt *a,
                        const struct kbs_wire_result *first, enum kbs_category category,
                        bool destroy_failed)
{
    struct kbs_wire_result r;
    uint8_t kcv[KBS_KCV_BYTES] = {0};
    bool repeated_right = true;

    if (category == KBS_OK && a->order == GENERATE) {
        memcpy(kcv, first->body.p, sizeof(kcv)); /* before the next answer takes its place */
    }
    lane_up(l);
    if (a->order == GENERATE || a->order == IMPORT) {
        if (category != KBS_OK) {
            r = give(l, a, &repeated_right);
            if (r.category == KBS_CONFLICT && destroy_failed) {
                return true; /* nobody could take it away */
            }
            if (r.category != KBS_OK) {
                return false;
            }
            memcpy(kcv, r.body.p, sizeof(kcv));
        }
        return release_opens(l, &a->key, KBS_FORMAT_JOSE, a->order == IMPORT ? a->key_kcv : kcv,
                             &r);
    }
    r = give(l, a, &repeated_right);
    return r.category == KBS_OK && repeated_right;
}

/* ---- what must come of it ---- */

static bool is_in_selftest(const char *function)
{
    static const char *const all[] = {"C_GenerateKey", "C_WrapKey", "C_UnwrapKey",
                                      "C_SignInit",    "C_Sign",    "C_GetAttributeValue"};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(function, all[i]) == 0) {
            return true;
        }
    }
    return false;
}

static enum kbs_ckr_class class_of(CK_RV rv)
{
    return rv == LIE_OF_LENGTH ? KBS_CKR_OK : kbs_ckr_class(rv);
}

/* What the class of a code asks for. NULL, or what should have been. */
static const char *expected_of_class(enum kbs_ckr_class class, enum order order,
                                     const char *function, CK_RV rv, enum mode mode,
                                     const struct outcome *o)
{
    bool release = order == RELEASE_JOSE || order == RELEASE_COSE || order == RELEASE_COLD;
    bool alive = !o->ended;

    switch (class) {
    case KBS_CKR_OK:
        break;
    case KBS_CKR_REQUEST:
        if (rv == CKR_KEY_SIZE_RANGE && strcmp(function, "C_SignInit") == 0 &&
            o->category == KBS_UNSUPPORTED && alive) {
            return NULL;
        }
        return o->category == KBS_INTERNAL && alive ? NULL : "INTERNAL, and the lane lives";
    case KBS_CKR_STALE:
        if (rv == CKR_BUFFER_TOO_SMALL && o->category == KBS_INTERNAL && alive) {
            return NULL; /* it was another object's attributes */
        }
        if (release && mode != ALWAYS) {
            return o->category == KBS_OK && alive && o->looked_again ? NULL : "OK after a new look";
        }
        return o->category == KBS_INTERNAL && alive ? NULL : "INTERNAL, and the lane lives";
    case KBS_CKR_AMBIGUOUS:
        if (mode == ALWAYS && is_in_selftest(function)) {
            return o->category == KBS_TOKEN_DOWN && !alive ? NULL : "an end: the self-test fails";
        }
        return o->category == KBS_INTERNAL && alive ? NULL : "INTERNAL after a self-test";
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
static const char *expected(enum order order, const char *function, CK_RV rv, enum mode mode,
                            const struct outcome *o)
{
    enum kbs_ckr_class class = class_of(rv);
    bool release = order == RELEASE_JOSE || order == RELEASE_COSE || order == RELEASE_COLD;
    bool reading = strcmp(function, "C_GetAttributeValue") == 0;
    bool blob = order == IMPORT && strcmp(function, "C_UnwrapKey") == 0;
    bool alive = !o->ended;

    if (o->category == KBS_OK && !o->right) {
        return "an answer that is right, or none";
    }
    if (!o->fired) {
        return o->category == KBS_OK && alive ? NULL : "OK, for the fault was not met";
    }
    if (class == KBS_CKR_OK) {
        return alive && (o->category == KBS_OK || o->category == KBS_INTERNAL)
                   ? NULL
                   : "INTERNAL, or OK where no length was looked at";
    }
    if (strcmp(function, "C_FindObjectsFinal") == 0) {
        return o->category == KBS_OK && alive ? NULL : "OK: the search had its answer";
    }
    if (strcmp(function, "C_DestroyObject") == 0) {
        return o->category == KBS_TOKEN_DOWN && !alive ? NULL
                                                       : "an end: a session object may be left";
    }
    if (reading && mode != ALWAYS && o->category == KBS_OK && alive) {
        return NULL; /* CKA_VALUE_LEN, which tokens need not tell */
    }
    if (reading && rv == CKR_BUFFER_TOO_SMALL && class == KBS_CKR_REQUEST && release) {
        class = KBS_CKR_STALE; /* another object's longer id */
    }
    if (blob && o->category == KBS_UNPROCESSABLE && alive && mode != ALWAYS) {
        /* Tokens call a bad blob anything; with a token that works right after, it was the blob. */
        return class != KBS_CKR_STALE && class != KBS_CKR_CAPACITY && class != KBS_CKR_LOGGED_OUT
                   ? NULL
                   : "nothing said of the blob";
    }
    return expected_of_class(class, order, function, rv, mode, o);
}

/* ---- cases ---- */

static bool hung_up(const struct lane *l)
{
    struct pollfd p = {.fd = l->w.judge, .events = POLLIN};

    return poll(&p, 1, 5000) == 1 && (p.revents & POLLHUP) != 0;
}

static void note(enum order order, const char *function, CK_RV rv, enum mode mode,
                 const struct outcome *o, const char *what)
{
    mismatches++;
    (void)fprintf(report, "MISMATCH %s, %s %s %s: got %s, %s%s; wanted %s\n", order_names[order],
                  function, mode_names[mode],
                  rv == LIE_OF_LENGTH ? "wrong-length" : kbs_ckr_name(rv),
                  kbs_category_name(o->category), o->ended ? "ended" : "lives",
                  o->fired ? "" : " (fault not met)", what);
}

static void count(CK_RV rv, const struct outcome *o)
{
    struct tally *t = &tallies[class_of(rv)];

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

static void run_case(struct lane *l, enum order order, size_t function, CK_RV rv, enum mode mode,
                     const struct mock_calls *clean)
{
    const char *name = l->calls->functions[function].name;
    struct attempt a = prepare(l, order);
    struct mock_calls before = *l->calls;
    struct outcome o = {.ended = false};
    struct kbs_wire_result r;
    char script[128];
    uint64_t start_ns = kbs_clock_mono_ns();
    const char *wanted;

    if (rv == LIE_OF_LENGTH) {
        (void)snprintf(script, sizeof(script), "%s %s wrong-length\n", name, mode_names[mode]);
    } else {
        (void)snprintf(script, sizeof(script), "%s %s rv 0x%lx\n", name, mode_names[mode], rv);
    }
    script_write(l, script);
    r = give(l, &a, &o.right);
    o.ms = (kbs_clock_mono_ns() - start_ns) / 1000000;
    o.category = (enum kbs_category)r.category;
    o.fired = l->calls->functions[function].faults > before.functions[function].faults;
    o.selftest = (order >= RELEASE_JOSE) &&
                 calls_of(l->calls, "C_GenerateKey") > calls_of(&before, "C_GenerateKey");
    o.looked_again =
        calls_of(l->calls, "C_FindObjectsInit") - calls_of(&before, "C_FindObjectsInit") >
        calls_of(clean, "C_FindObjectsInit");
    script_write(l, "");
    if (o.category == KBS_TOKEN_DOWN) {
        o.ended = hung_up(l);
        o.status = o.ended ? worker_wait(&l->w) : 0;
        l->up = !o.ended;
    }
    count(rv, &o);
    wanted = expected(order, name, rv, mode, &o);
    if (wanted == NULL && o.ms > ANSWER_LIMIT_MS) {
        wanted = "an answer in time";
    }
    if (wanted == NULL &&
        !check_after(l, &a, &r, o.category, strcmp(name, "C_DestroyObject") == 0)) {
        wanted = "a lane that serves afterwards, and nothing left behind";
    }
    if (wanted != NULL) {
        note(order, name, rv, mode, &o, wanted);
    }
}

/* What an order calls when nothing is wrong: the functions to attack it at. */
static void clean_run(struct lane *l, enum order order, struct mock_calls *ret)
{
    struct attempt a = prepare(l, order);
    struct mock_calls before = *l->calls;
    bool right = false;
    struct kbs_wire_result r = give(l, &a, &right);

    assert_int_equal(r.category, KBS_OK);
    assert_true(right);
    *ret = *l->calls;
    for (size_t i = 0; i < MOCK_CALLS_FUNCTIONS; i++) {
        ret->functions[i].calls -= before.functions[i].calls;
    }
}

/* transport: the token is one that needs the transport rung, and only what that adds is attacked. */
static void run_order(const struct token_dir *template, enum order order, bool quick,
                      bool transport)
{
    const char *line = transport ? "profile = softhsm" : "profile = all";
    struct mock_calls clean;
    struct lane l;

    lane_open(&l, template, line);
    clean_run(&l, order, &clean);
    lane_close(&l);
    for (size_t f = 0; f < MOCK_CALLS_FUNCTIONS; f++) {
        const char *name = clean.functions[f].name;
        bool added = strncmp(name, "C_Digest", 8) == 0 || strcmp(name, "C_CreateObject") == 0;

        if (clean.functions[f].calls == 0 || transport != added) {
            continue;
        }
        lane_open(&l, template, line);
        for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
            for (int mode = 0; mode < MODE_COUNT && (!quick || codes[i].quick); mode++) {
                run_case(&l, order, f, codes[i].rv, (enum mode)mode, &clean);
            }
        }
        lane_close(&l);
    }
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
    bool operator_error = before_login && kbs_ckr_class(rv) == KBS_CKR_OPERATOR;
    bool ready;
    int status;
    uint64_t before;
    char script[128];

    dir_copy(template, &l.dir);
    l.calls = calls_map(&l.dir);
    before = calls_of(l.calls, "C_Login");
    (void)snprintf(script, sizeof(script), "%s once rv 0x%lx\n", function, rv);
    script_write(&l, script);
    worker_start(&l.w, &l.dir, &options);
    ready = kbs_channel_recv(l.w.control, &m, kbs_deadline_in_ms(30000), &err) == 0 &&
            m.frame.type == KBS_WIRE_READY; /* LEAVING otherwise */
    kbs_channel_msg_deinit(&m);
    status = ready ? worker_stop(&l.w) : worker_wait(&l.w);
    if (calls_of(l.calls, "C_Login") - before > 1 || status > KBS_EXIT_CONFIG ||
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
            if (codes[i].rv != LIE_OF_LENGTH && (!quick || codes[i].quick)) {
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

static void template_make(struct token_dir *d)
{
    struct worker w;

    dir_new(d);
    worker_start(&w, d, &(struct start_options){.init = true});
    assert_int_equal(order_service_key(&w, KBS_PURPOSE_IMPORT).category, KBS_OK);
    assert_int_equal(order_service_key(&w, KBS_PURPOSE_SIGN_TOKEN).category, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
}

static void print_tallies(void)
{
    static const enum kbs_category shown[] = {
        KBS_OK, KBS_BUSY, KBS_TOKEN_DOWN, KBS_UNPROCESSABLE, KBS_UNSUPPORTED, KBS_INTERNAL};
    unsigned int cases = 0;
    unsigned int met = 0;

    (void)fprintf(report, "%-11s %6s %6s %6s %6s %6s %6s %6s %6s %6s %9s %8s\n", "class", "cases",
                  "met", "ok", "busy", "down", "422", "501", "500", "ended", "self-test",
                  "new look");
    for (size_t c = KBS_CKR_OK; c <= KBS_CKR_OPERATOR; c++) {
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
    template_make(&template);
    /* The workers' logs, thousands of lines of errors as ordered, are not what is to be read. */
    log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (report == NULL || log_fd < 0 || dup2(log_fd, STDERR_FILENO) < 0) {
        return 2;
    }
    for (int order = 0; order < ORDER_COUNT; order++) {
        run_order(&template, (enum order)order, quick, false);
        run_order(&template, (enum order)order, quick, true);
    }
    run_starts(&template, quick);
    print_tallies();
    dir_remove(&template);
    return mismatches == 0 ? 0 : 1;
}
