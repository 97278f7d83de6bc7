/*
 * A judge that runs an attacker's code, in front of a real kbs-token of duty `release` with a real
 * kbs-audit behind it. It can order releases, and cannot hide one; everything else it tries ends
 * the worker.
 */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "audit/ledger.h"
#include "base/io.h"
#include "base/secret.h"

#define TIMEOUT_MS 30000

struct audit {
    pid_t pid;
    int control;
    char path[64];
};

static struct token_dir made; /* a token with one key, made once */
static struct key_ref made_key;

static void tell(int fd, enum kbs_wire_type type, const void *msg, int attach)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(fd, type, 0, msg, attach, kbs_deadline_in_ms(TIMEOUT_MS), &err), 0);
}

static void audit_exec(int control)
{
    char path[512];
    const char *bin = getenv("KBS_BIN_DIR");

    (void)snprintf(path, sizeof(path), "%s/kbs-audit", bin != NULL ? bin : "bin");
    (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    if (dup2(control, 3) < 0) {
        _exit(126);
    }
    (void)fcntl(3, F_SETFD, 0);
    (void)execl(path, "kbs-audit", (char *)NULL);
    _exit(127);
}

static void audit_start(struct audit *a)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_config_audit config = {.production = 0};
    struct kbs_wire_attach ledger = {.what = KBS_ATTACH_LEDGER};
    int pair[2];
    int fd;

    (void)snprintf(a->path, sizeof(a->path), "/tmp/kbs-hostile-XXXXXX");
    fd = mkostemp(a->path, O_CLOEXEC | O_APPEND);
    assert_true(fd >= 0);
    assert_int_equal(kbs_channel_pair(pair, &err), 0);
    a->pid = fork();
    assert_true(a->pid >= 0);
    if (a->pid == 0) {
        audit_exec(pair[1]);
    }
    a->control = pair[0];
    kbs_io_close(&pair[1]);
    tell(a->control, KBS_WIRE_CONFIG_AUDIT, &config, -1);
    tell(a->control, KBS_WIRE_ATTACH, &ledger, fd);
    tell(a->control, KBS_WIRE_GO, NULL, -1);
    kbs_io_close(&fd);
    assert_int_equal(kbs_channel_recv(a->control, &m, kbs_deadline_in_ms(TIMEOUT_MS), &err), 0);
    assert_int_equal(m.frame.type, KBS_WIRE_READY);
    kbs_channel_msg_deinit(&m);
}

/* The worker's ledger is kbs-audit from now on, not the harness. */
static void audit_take(struct audit *a, struct worker *w)
{
    struct kbs_wire_attach client = {.what = KBS_ATTACH_CLIENT_TOKEN};

    tell(a->control, KBS_WIRE_ATTACH, &client, w->audit);
    kbs_io_close(&w->audit);
}

/* Drains it and counts a text in what it wrote. */
static int audit_end(struct audit *a, const char *text)
{
    struct kbs_buf all = KBS_BUF(1u << 20);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ledger_report report;
    int status = 0;
    int n = 0;
    int fd;

    tell(a->control, KBS_WIRE_DRAIN, NULL, -1);
    assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
    assert_int_equal(status, 0);
    kbs_io_close(&a->control);
    fd = open(a->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(kbs_ledger_verify(fd, &report, &err), 0);
    kbs_io_close(&fd);
    assert_int_equal(kbs_io_read_file(a->path, &all, &err), 0);
    for (const char *p = kbs_buf_cstr(&all); (p = strstr(p, text)) != NULL; p++) {
        n++;
    }
    kbs_buf_deinit(&all);
    (void)unlink(a->path);
    return n;
}

static void hostile_start(struct worker *w, struct token_dir *d)
{
    dir_copy(&made, d);
    worker_start(w, d, &(struct start_options){.duty = KBS_DUTY_RELEASE});
}

static void order_send(struct worker *w, enum kbs_wire_type type, const void *msg)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(w->judge, type, 1, msg, -1, kbs_deadline_in_ms(TIMEOUT_MS), &err), 0);
}

static void test_orders_appear(void **state)
{
    struct token_dir d;
    struct worker w;
    struct audit a;
    struct kbs_agree_key *tee = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &tee, &err), 0);
    hostile_start(&w, &d);
    audit_start(&a);
    audit_take(&a, &w);
    struct kbs_wire_release order =
        release_order(&made_key, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(worker_order(&w, KBS_WIRE_RELEASE, &order).category, KBS_OK);
    }
    /* Refused ones too, with whatever was in them. */
    order.kid = KBS_SPAN_LIT("\xff\xfe\"}\n");
    assert_int_equal(worker_order(&w, KBS_WIRE_RELEASE, &order).category, KBS_DENIED);
    order.order = KBS_SPAN_EMPTY;
    assert_int_equal(worker_order(&w, KBS_WIRE_RELEASE, &order).category, KBS_INPUT);
    assert_int_equal(worker_stop(&w), 0);
    assert_int_equal(audit_end(&a, "\"kind\":\"deed\",\"op\":\"release\""), 7);
    (void)kbs_agree_key_free(tee);
    dir_remove(&d);
}

static int readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, timeout_ms);
}

/*
 * While kbs-audit does not say that the deed is durable there is no answer, not even for a judge
 * that recorded no order. And if the worker dies then, the deed is in kbs-audit's socket.
 */
static void test_no_answer_before_its_deed(void **state)
{
    struct token_dir d;
    struct worker w;
    struct audit a;
    struct kbs_agree_key *tee = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    int deeds;

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &tee, &err), 0);
    hostile_start(&w, &d);
    audit_start(&a);
    deeds = dup(w.audit); /* sees what kbs-audit has not read yet */
    audit_take(&a, &w);
    struct kbs_wire_release order =
        release_order(&made_key, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    assert_int_equal(kill(a.pid, SIGSTOP), 0); /* it is busy with the disk, say */
    order_send(&w, KBS_WIRE_RELEASE, &order);
    assert_int_equal(readable(deeds, TIMEOUT_MS), 1);
    assert_int_equal(readable(w.judge, 50), 0);
    assert_int_equal(kill(w.pid, SIGKILL), 0);
    assert_int_equal(worker_stop(&w), 128 + SIGKILL);
    assert_int_equal(kill(a.pid, SIGCONT), 0);
    kbs_io_close(&deeds);
    assert_int_equal(audit_end(&a, "\"outcome\":\"done\""), 1);
    (void)kbs_agree_key_free(tee);
    dir_remove(&d);
}

static void test_admin_orders_end_it(void **state)
{
    static const uint8_t hash[32] = {1};
    const struct kbs_wire_generate generate = {.order = KBS_SPAN_LIT(ORDER),
                                               .purpose = KBS_PURPOSE_SIGN_ROW};
    const struct kbs_wire_import import = {.order = KBS_SPAN_LIT(ORDER), .key_version = 1};
    const struct kbs_wire_adopt adopt = {.order = KBS_SPAN_LIT(ORDER), .key_version = 1};
    const struct kbs_wire_recard recard = {.order = KBS_SPAN_LIT(ORDER)};
    const struct kbs_wire_rewrap_catalog rewrap = {.order = KBS_SPAN_LIT(ORDER)};
    const struct kbs_wire_destroy destroy = {.order = KBS_SPAN_LIT(ORDER)};
    const struct kbs_wire_seal seal = {.order = KBS_SPAN_LIT(ORDER)};
    const struct kbs_wire_sign_row row = {.content = KBS_SPAN_LIT("a row of mine")};
    const struct kbs_wire_sign_head head = {.seq = 1, .hash = kbs_span(hash, sizeof(hash))};
    const struct {
        enum kbs_wire_type type;
        const void *msg;
    } orders[] = {{KBS_WIRE_GENERATE, &generate},
                  {KBS_WIRE_IMPORT, &import},
                  {KBS_WIRE_ADOPT, &adopt},
                  {KBS_WIRE_RECARD, &recard},
                  {KBS_WIRE_REWRAP_CATALOG, &rewrap},
                  {KBS_WIRE_DESTROY, &destroy},
                  {KBS_WIRE_SEAL, &seal},
                  {KBS_WIRE_SIGN_ROW, &row},
                  {KBS_WIRE_SIGN_HEAD, &head}};

    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        struct token_dir d;
        struct worker w;
        struct audit a;

        hostile_start(&w, &d);
        audit_start(&a);
        audit_take(&a, &w);
        order_send(&w, orders[i].type, orders[i].msg);
        assert_int_equal(worker_wait(&w), 1);
        assert_int_equal(audit_end(&a, "\"kind\":\"deed\""), 0);
        dir_remove(&d);
    }
}

/* While the disk refuses nothing comes out, one deed per worker waits, and nothing else is begun. */
static void test_full_ledger(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result result;
    struct kbs_agree_key *tee = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    char deed[sizeof(w.last_deed)];

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &tee, &err), 0);
    hostile_start(&w, &d);
    struct kbs_wire_release order =
        release_order(&made_key, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    w.ledger_full = true;
    result = worker_order(&w, KBS_WIRE_RELEASE, &order);
    assert_int_equal(result.category, KBS_BUSY);
    assert_int_equal(result.body.len, 0);
    assert_non_null(strstr(w.last_deed, "op=release outcome=done"));
    (void)snprintf(deed, sizeof(deed), "%s", w.last_deed);
    order.order = KBS_SPAN_LIT("another order 16");
    assert_int_equal(worker_order(&w, KBS_WIRE_RELEASE, &order).category, KBS_BUSY);
    assert_string_equal(w.last_deed, deed); /* the same once more: the other was not begun */
    assert_int_equal(w.deeds, 0);
    w.ledger_full = false;
    assert_int_equal(worker_order(&w, KBS_WIRE_RELEASE, &order).category, KBS_OK);
    assert_string_not_equal(w.last_deed, deed);
    assert_int_equal(w.deeds, 2);
    kbs_io_close(&w.audit); /* the ledger is gone altogether */
    assert_int_equal(worker_wait(&w), 1);
    (void)kbs_agree_key_free(tee);
    dir_remove(&d);
}

static int make_token(void **state)
{
    struct worker w;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    made_key = key_ref(1, 1);
    assert_true(kbs_secret_heap_init(&err) >= 0);
    dir_new(&made);
    worker_start(&w, &made, &(struct start_options){.init = true, .so_pin = SO_PIN});
    order_service_keys(&w);
    assert_int_equal(order_generate(&w, &made_key, 32).category, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    return 0;
}

static int remove_token(void **state)
{
    (void)state;
    dir_remove(&made);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders_appear),
        cmocka_unit_test(test_no_answer_before_its_deed),
        cmocka_unit_test(test_admin_orders_end_it),
        cmocka_unit_test(test_full_ledger),
    };

    if (!harness_select("softhsm")) {
        print_message("no SoftHSM here\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, make_token, remove_token);
}
