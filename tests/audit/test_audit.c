/*
 * kbs-audit itself, started as kbsd starts it. With the argument "measure" it prints how many
 * appends a second it acknowledges instead, for 1 to 32 clients.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "audit/ledger.h"
#include "base/io.h"
#include "base/process.h"
#include "channel/channel.h"

#define LIMIT_MS 20000

struct role {
    pid_t pid;
    int control;
    int ledger;
    char path[32];
};

static void tell(int fd, enum kbs_wire_type type, const void *msg, int send_fd)
{
    struct kbs_error err = KBS_ERROR_NONE;
    assert_int_equal(
        kbs_channel_send(fd, type, 0, msg, send_fd, kbs_deadline_in_ms(LIMIT_MS), &err), 0);
}

static void attach(struct role *r, enum kbs_attach what, uint32_t index, int fd)
{
    struct kbs_wire_attach a = {.what = (uint8_t)what, .index = index};
    tell(r->control, KBS_WIRE_ATTACH, &a, fd);
}

static void become_audit(int control)
{
    char path[1024];
    char name[] = "kbs-audit";
    char *argv[] = {name, NULL};
    const char *folder = getenv("KBS_BIN_DIR");
    snprintf(path, sizeof(path), "%s/kbs-audit", folder != NULL ? folder : ".");
    if (control == KBS_FD_CONTROL) {
        (void)fcntl(control, F_SETFD, 0);
    } else {
        (void)dup2(control, KBS_FD_CONTROL);
    }
    (void)execv(path, argv);
    _exit(127);
}

/* Starts it on the ledger at r->path up to GO. */
static void start(struct role *r)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_config_audit config = {.production = 0};
    int pair[2];
    int fd = open(r->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(kbs_channel_pair(pair, &err), 0);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        become_audit(pair[1]);
    }
    close(pair[1]);
    r->control = pair[0];
    tell(r->control, KBS_WIRE_CONFIG_AUDIT, &config, -1);
    attach(r, KBS_ATTACH_LEDGER, 0, fd);
    tell(r->control, KBS_WIRE_GO, NULL, -1);
    close(fd);
}

static void until_ready(struct role *r)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_ready ready;
    assert_int_equal(kbs_channel_recv(r->control, &m, kbs_deadline_in_ms(LIMIT_MS), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_READY, &ready, &err), 0);
    kbs_channel_msg_deinit(&m);
}

/* Waits for its end; the control channel tells when. Returns the exit status, or minus the
 * signal. */
static int ended(struct role *r)
{
    int status;
    struct pollfd p = {.fd = r->control, .events = 0};
    assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    r->pid = -1;
    kbs_io_close(&r->control);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int drain(struct role *r)
{
    tell(r->control, KBS_WIRE_DRAIN, NULL, -1);
    return ended(r);
}

static int set_up(void **state)
{
    struct role *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    *r = (struct role){.pid = -1, .control = -1};
    snprintf(r->path, sizeof(r->path), "/tmp/kbs-audit-XXXXXX");
    int fd = mkostemp(r->path, O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
    start(r);
    until_ready(r);
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct role *r = *state;
    if (r->pid > 0) {
        (void)kill(r->pid, SIGKILL);
        (void)waitpid(r->pid, NULL, 0);
    }
    kbs_io_close(&r->control);
    (void)unlink(r->path);
    free(r);
    return 0;
}

static int client_as(struct role *r, enum kbs_attach who, uint32_t index)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int pair[2];
    assert_int_equal(kbs_channel_pair(pair, &err), 0);
    attach(r, who, index, pair[1]);
    close(pair[1]);
    return pair[0];
}

static int client(struct role *r, uint32_t index)
{
    return client_as(r, KBS_ATTACH_CLIENT, index);
}

/* `later`: as a judge sends an order, which nobody waits for yet. */
static void ask_as(int fd, uint64_t id, const char *kind, bool later)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf fields = KBS_BUF(1024);
    struct kbs_wire_list_builder list = {.buf = &fields};
    kbs_wire_list_add_pair(&list, "kid", KBS_SPAN_LIT("a/b/c/v1"));
    kbs_wire_list_add_pair(&list, "tee", KBS_SPAN_LIT("sample"));
    struct kbs_wire_append append = {
        .kind = kbs_span_str(kind), .later = later ? 1 : 0, .fields = kbs_wire_list_done(&list)};
    assert_int_equal(
        kbs_channel_send(fd, KBS_WIRE_APPEND, id, &append, -1, kbs_deadline_in_ms(LIMIT_MS), &err),
        0);
    kbs_buf_deinit(&fields);
}

static void ask(int fd, uint64_t id)
{
    ask_as(fd, id, "release", false);
}

/* The seq of the answer to `id`; 0 when the channel was closed. */
static uint64_t answer(int fd, uint64_t id)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_ack ack = {.seq = 0};
    int rc = kbs_channel_recv(fd, &m, kbs_deadline_in_ms(LIMIT_MS), &err);
    if (rc == 0) {
        assert_int_equal(m.frame.id, id);
        assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_ACK, &ack, &err), 0);
        assert_int_not_equal(ack.seq, 0);
    } else {
        assert_int_equal(rc, KBS_CHANNEL_EOF);
    }
    kbs_channel_msg_deinit(&m);
    return ack.seq;
}

/* Answered, and not durable. */
static void refused(int fd, uint64_t id)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_ack ack = {.seq = 1};
    assert_int_equal(kbs_channel_recv(fd, &m, kbs_deadline_in_ms(LIMIT_MS), &err), 0);
    assert_int_equal(m.frame.id, id);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_ACK, &ack, &err), 0);
    assert_int_equal(ack.seq, 0);
    kbs_channel_msg_deinit(&m);
}

/* What it tells kbsd next. */
static int health(struct role *r)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_health health = {.writable = 2};
    assert_int_equal(kbs_channel_recv(r->control, &m, kbs_deadline_in_ms(LIMIT_MS), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_HEALTH, &health, &err), 0);
    kbs_channel_msg_deinit(&m);
    return health.writable;
}

/* How often the ledger's file has a text in it. */
static int count(const struct role *r, const char *text)
{
    struct kbs_buf all = KBS_BUF(1u << 20);
    struct kbs_error err = KBS_ERROR_NONE;
    int n = 0;
    assert_int_equal(kbs_io_read_file(r->path, &all, &err), 0);
    for (const char *p = kbs_buf_cstr(&all); (p = strstr(p, text)) != NULL; p++) {
        n++;
    }
    kbs_buf_deinit(&all);
    return n;
}

static uint64_t records(const struct role *r)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ledger_report report;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(kbs_ledger_verify(fd, &report, &err), 0);
    close(fd);
    return report.records;
}

static void test_many_clients(void **state)
{
    enum {
        CLIENTS = 32,
        ROUNDS = 20
    };
    struct role *r = *state;
    int fds[CLIENTS];
    uint8_t seen[CLIENTS * ROUNDS + 2] = {0};
    for (uint32_t i = 0; i < CLIENTS; i++) {
        fds[i] = client(r, i);
    }
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t last = 0;
        for (uint64_t i = 0; i < CLIENTS; i++) {
            ask(fds[i], round << 32 | i);
        }
        for (uint64_t i = 0; i < CLIENTS; i++) {
            uint64_t seq = answer(fds[i], round << 32 | i);
            assert_in_range(seq, 2 + round * CLIENTS, 1 + (round + 1) * CLIENTS);
            assert_int_equal(seen[seq]++, 0);
            last = seq > last ? seq : last;
        }
        assert_int_equal(last, 1 + (round + 1) * CLIENTS);
        assert_int_equal(records(r), last); /* acknowledged means written */
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        close(fds[i]);
    }
    assert_int_equal(drain(r), 0);
    assert_int_equal(records(r), 1 + CLIENTS * ROUNDS);
}

/* What waits together is answered in one order and one group: nobody is left for later. */
static void test_group(void **state)
{
    enum {
        CLIENTS = 16
    };
    struct role *r = *state;
    int fds[CLIENTS];
    for (uint32_t i = 0; i < CLIENTS; i++) {
        fds[i] = client(r, i);
    }
    ask(fds[0], 1); /* the answer shows that all of them were attached */
    assert_int_equal(answer(fds[0], 1), 2);
    assert_int_equal(kill(r->pid, SIGSTOP), 0);
    for (uint64_t i = 0; i < CLIENTS; i++) {
        ask(fds[i], i);
    }
    assert_int_equal(kill(r->pid, SIGCONT), 0);
    for (uint64_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(answer(fds[i], i), 3 + i);
        close(fds[i]);
    }
    assert_int_equal(drain(r), 0);
}

static void send_raw(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

static size_t frame_of(uint8_t out[512], const char *kind, const char *const *items, uint16_t n)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf fields = KBS_BUF(1024);
    struct kbs_buf frame = KBS_BUF(512);
    struct kbs_wire_list_builder list = {.buf = &fields};
    for (uint16_t i = 0; i < n; i++) {
        kbs_wire_list_add(&list, kbs_span_str(items[i]));
    }
    struct kbs_wire_append append = {.kind = kbs_span_str(kind),
                                     .fields = kbs_wire_list_done(&list)};
    assert_int_equal(kbs_wire_encode(&frame, KBS_WIRE_APPEND, 7, KBS_DEADLINE_NONE, &append, &err),
                     0);
    size_t len = frame.len;
    memcpy(out, frame.p, len);
    kbs_buf_deinit(&fields);
    kbs_buf_deinit(&frame);
    return len;
}

static void test_breakers_are_dropped(void **state)
{
    static const char *const items[] = {"a", "1", "b", "2"};
    static const char *const twice[] = {"a", "1", "a", "2"};
    struct role *r = *state;
    int honest = client(r, 0);
    for (int i = 0; i < 7; i++) {
        uint8_t frame[1024] = {0};
        int fd = client(r, 1);
        size_t len = frame_of(frame, "release", items, 4);
        if (i == 0) {
            memset(frame, 'x', 64); /* no frame at all */
        } else if (i == 1) {
            len = frame_of(frame, "release", items, 3); /* a name without a value */
        } else if (i == 2) {
            len = frame_of(frame, "NO", items, 4);
        } else if (i == 3) {
            len = frame_of(frame, "release", twice, 4);
        } else if (i == 4) {
            frame[6] = KBS_WIRE_ACK; /* another type */
        } else if (i == 5) {
            memcpy(frame + len, frame, len); /* two questions */
            len *= 2;
        } else {
            frame[len - 1 - 4 - 1] = 0xff; /* a field that is longer than the body */
            frame[len - 2] = 0xff;
        }
        send_raw(fd, frame, len);
        ask(honest, 100); /* and the others do not notice */
        assert_int_not_equal(answer(honest, 100), 0);
        assert_int_equal(answer(fd, 7), 0);
        close(fd);
    }
    close(honest);
    assert_int_equal(drain(r), 0);
    assert_int_equal(records(r), 1 + 7);
}

static void test_slow_client_holds_nobody_up(void **state)
{
    static const char *const items[] = {"a", "1"};
    struct role *r = *state;
    uint8_t frame[512];
    size_t len = frame_of(frame, "release", items, 2);
    int slow = client(r, 0);
    int honest = client(r, 1);
    for (size_t i = 0; i < len; i++) { /* one byte at a time */
        send_raw(slow, frame + i, 1);
        if (i % 16 == 0) {
            ask(honest, i);
            assert_int_not_equal(answer(honest, i), 0);
        }
    }
    assert_int_not_equal(answer(slow, 7), 0);
    send_raw(slow, frame, len - 1);
    close(slow); /* in the middle */
    ask(honest, 9);
    assert_int_not_equal(answer(honest, 9), 0);
    close(honest);
    assert_int_equal(drain(r), 0);
}

/* A client that has been asked something is attached. */
static void until_attached(int judge)
{
    ask(judge, 1);
    assert_int_not_equal(answer(judge, 1), 0);
}

/* An order starts no sync: it is written with its deed, before it in the file, and its ACK is there
 * before the deed's. */
static void test_order_waits_for_its_deed(void **state)
{
    struct role *r = *state;
    int judge = client(r, 0);
    int token = client_as(r, KBS_ATTACH_CLIENT_TOKEN, 0);
    struct pollfd p = {.fd = judge, .events = POLLIN};
    until_attached(judge);
    ask_as(judge, 2, "release", true);
    assert_int_equal(poll(&p, 1, KBS_LIMIT_AUDIT_LATER_MS / 5), 0);
    ask_as(token, 3, "deed", false);
    assert_int_equal(answer(token, 3), 4);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(answer(judge, 2), 3);
    assert_int_equal(records(r), 4);
    close(judge);
    close(token);
    assert_int_equal(drain(r), 0);
}

/* No deed ever comes: the order is durable soon all the same, and so is one whose judge died. */
static void test_order_without_a_deed(void **state)
{
    struct role *r = *state;
    int judge = client(r, 0);
    int other = client(r, 1);
    until_attached(judge);
    until_attached(other);
    ask_as(judge, 2, "release", true);
    assert_int_equal(answer(judge, 2), 4);
    ask_as(judge, 3, "release", true);
    close(judge);
    ask_as(other, 2, "release", true);
    assert_in_range(answer(other, 2), 5, 6);
    close(other);
    assert_int_equal(drain(r), 0);
    assert_int_equal(records(r), 6);
}

/* Keeps kbs-audit going round until it is killed. */
static pid_t keep_busy(int fd)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    for (uint64_t id = 0; pid == 0; id++) {
        ask(fd, id);
        if (answer(fd, id) == 0) {
            _exit(0);
        }
    }
    return pid;
}

/*
 * An order that was sent before its deed is never in a later group: when the deed's ACK is there, so
 * is the order's. The clients are laid out for the race: poll(2) looks at the judge first and at
 * the token last, with many in between, and order and deed are sent while it looks.
 */
static void test_order_is_never_behind_its_deed(void **state)
{
    enum {
        ROUNDS = 500,
        BETWEEN = 120
    };
    struct role *r = *state;
    int judge = client(r, 0);
    int between[BETWEEN];
    for (uint32_t i = 0; i < BETWEEN; i++) {
        between[i] = client(r, i + 1);
    }
    int token = client_as(r, KBS_ATTACH_CLIENT_TOKEN, BETWEEN + 1);
    until_attached(judge);
    until_attached(between[BETWEEN - 1]);
    pid_t busy = keep_busy(between[0]);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct pollfd p = {.fd = judge, .events = POLLIN};
        ask_as(judge, round, "release", true);
        ask_as(token, round, "deed", false);
        uint64_t deed = answer(token, round);
        assert_int_equal(poll(&p, 1, 0), 1);
        assert_true(answer(judge, round) < deed);
    }
    assert_int_equal(kill(busy, SIGKILL), 0);
    assert_int_equal(waitpid(busy, NULL, 0), busy);
    for (uint32_t i = 0; i < BETWEEN; i++) {
        close(between[i]);
    }
    close(token);
    close(judge);
    assert_int_equal(drain(r), 0);
}

static void limit_file(const struct role *r, rlim_t bytes)
{
    const struct rlimit limit = {bytes, RLIM_INFINITY};
    assert_int_equal(prlimit(r->pid, RLIMIT_FSIZE, &limit, NULL), 0);
}

static void test_full_disk(void **state)
{
    struct role *r = *state;
    struct stat st;
    int fd = client(r, 0);
    ask(fd, 1);
    assert_int_equal(answer(fd, 1), 2);
    assert_int_equal(stat(r->path, &st), 0);
    limit_file(r, (rlim_t)st.st_size + 50);
    for (uint64_t id = 2; id < 5; id++) {
        ask(fd, id);
        refused(fd, id);
    }
    assert_int_equal(health(r), 0); /* once */
    assert_int_equal(records(r), 2);
    limit_file(r, RLIM_INFINITY);
    ask(fd, 5); /* the lost records' number is free again */
    assert_int_equal(answer(fd, 5), 3);
    assert_int_equal(health(r), 1);
    close(fd);
    assert_int_equal(drain(r), 0);
    assert_int_equal(count(r, "\"kind\":\"resumed\",\"refused\":\"3\"}"), 1);
}

/* Order and deed are refused together, and everything starts again with the next. */
static void test_full_disk_refuses_both(void **state)
{
    struct role *r = *state;
    struct stat st;
    int judge = client(r, 0);
    int token = client_as(r, KBS_ATTACH_CLIENT_TOKEN, 0);
    until_attached(judge);
    assert_int_equal(stat(r->path, &st), 0);
    limit_file(r, (rlim_t)st.st_size + 250); /* room for one of the two */
    ask_as(judge, 2, "release", true);
    ask_as(token, 3, "deed", false);
    refused(token, 3);
    refused(judge, 2);
    assert_int_equal(records(r), 2);
    limit_file(r, RLIM_INFINITY);
    ask_as(token, 4, "deed", false); /* again */
    assert_int_not_equal(answer(token, 4), 0);
    close(judge);
    close(token);
    assert_int_equal(drain(r), 0);
}

/* Nobody asks, and it finds out by itself that it can write again. */
static void test_recovers_alone(void **state)
{
    struct role *r = *state;
    struct stat st;
    int fd = client(r, 0);
    assert_int_equal(stat(r->path, &st), 0);
    limit_file(r, (rlim_t)st.st_size + 50);
    ask(fd, 1);
    refused(fd, 1);
    assert_int_equal(health(r), 0);
    limit_file(r, RLIM_INFINITY);
    assert_int_equal(health(r), 1);
    close(fd);
    assert_int_equal(drain(r), 0);
    assert_int_equal(count(r, "\"kind\":\"resumed\",\"refused\":\"1\"}"), 1);
}

static void append_as(int fd, const char *kind, enum kbs_phase phase, uint64_t epoch)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_append append = {
        .kind = kbs_span_str(kind), .phase = (uint8_t)phase, .epoch = epoch};
    assert_int_equal(
        kbs_channel_send(fd, KBS_WIRE_APPEND, 1, &append, -1, kbs_deadline_in_ms(LIMIT_MS), &err),
        0);
}

static bool takes(struct role *r, enum kbs_attach who, const char *kind, enum kbs_phase phase,
                  uint64_t epoch)
{
    int fd = client_as(r, who, 0);
    append_as(fd, kind, phase, epoch);
    bool taken = answer(fd, 1) != 0;
    close(fd);
    return taken;
}

static void test_who_may_append(void **state)
{
    struct role *r = *state;
    const enum kbs_attach guest = KBS_ATTACH_CLIENT;
    const enum kbs_attach admin = KBS_ATTACH_CLIENT_ADMIN;
    const enum kbs_attach token = KBS_ATTACH_CLIENT_TOKEN;
    assert_true(takes(r, token, "deed", KBS_PHASE_NONE, 0));
    assert_false(takes(r, guest, "deed", KBS_PHASE_NONE, 0)); /* no judge plays the token */
    assert_false(takes(r, admin, "deed", KBS_PHASE_NONE, 0));
    assert_false(takes(r, token, "release", KBS_PHASE_NONE, 0));
    assert_false(takes(r, guest, "key-generate", KBS_PHASE_INTENT, 1));
    assert_false(takes(r, guest, "release", KBS_PHASE_INTENT, 1));
    assert_false(takes(r, guest, "head", KBS_PHASE_NONE, 0));
    assert_false(takes(r, admin, "open", KBS_PHASE_NONE, 0));
    assert_false(takes(r, admin, "resumed", KBS_PHASE_NONE, 0));
    assert_false(takes(r, admin, "suppressed", KBS_PHASE_NONE, 0));
    assert_true(takes(r, guest, "release-denied", KBS_PHASE_NONE, 0));
    assert_true(takes(r, admin, "head", KBS_PHASE_NONE, 0));
    assert_int_equal(drain(r), 0);
}

static struct kbs_wire_head head_of(int fd)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_head head;
    assert_int_equal(kbs_channel_call(fd, KBS_WIRE_HEAD_WANT, NULL, KBS_WIRE_HEAD, &head, &m,
                                      kbs_deadline_in_ms(LIMIT_MS), &err),
                     0);
    assert_int_equal(head.hash.len, KBS_SHA256_BYTES);
    kbs_channel_msg_deinit(&m);
    return head;
}

static void expect_head(struct role *r, uint64_t seq, uint64_t epoch, int outcome)
{
    int fd = client(r, 0);
    struct kbs_wire_head head = head_of(fd);
    assert_int_equal(head.seq, seq);
    assert_int_equal(head.epoch, epoch);
    assert_int_equal(head.outcome, outcome);
    close(fd);
}

/* Epochs follow each other, and are found again in the file. */
static void test_epochs(void **state)
{
    struct role *r = *state;
    const enum kbs_attach admin = KBS_ATTACH_CLIENT_ADMIN;
    expect_head(r, 1, 0, 1);
    assert_false(takes(r, admin, "key-generate", KBS_PHASE_INTENT, 2));
    assert_false(takes(r, admin, "key-generate", KBS_PHASE_OUTCOME, 1));
    assert_true(takes(r, admin, "key-generate", KBS_PHASE_INTENT, 1));
    expect_head(r, 2, 1, 0);
    assert_false(takes(r, admin, "key-generate", KBS_PHASE_INTENT, 2));
    assert_true(takes(r, admin, "key-generate", KBS_PHASE_INTENT, 1)); /* tried again */
    assert_true(takes(r, admin, "store-recovered", KBS_PHASE_OUTCOME, 1));
    expect_head(r, 4, 1, 1);
    assert_false(takes(r, admin, "key-generate", KBS_PHASE_INTENT, 1));
    assert_true(takes(r, admin, "key-import", KBS_PHASE_INTENT, 2));
    assert_int_equal(drain(r), 0);
    start(r);
    until_ready(r);
    expect_head(r, 6, 2, 0);
    assert_false(takes(r, admin, "store-accept", KBS_PHASE_RESTORE, 4));
    assert_true(takes(r, admin, "store-accept", KBS_PHASE_RESTORE, 3));
    assert_int_equal(drain(r), 0);
    start(r);
    until_ready(r);
    expect_head(r, 8, 3, 1);
    int token = client_as(r, KBS_ATTACH_CLIENT_TOKEN, 0);
    struct kbs_error err = KBS_ERROR_NONE;
    assert_int_equal(kbs_channel_send(token, KBS_WIRE_HEAD_WANT, 1, NULL, -1,
                                      kbs_deadline_in_ms(LIMIT_MS), &err),
                     0);
    assert_int_equal(answer(token, 1), 0); /* not its question */
    close(token);
    assert_int_equal(drain(r), 0);
}

static void test_restart_continues_and_cuts(void **state)
{
    struct role *r = *state;
    int fd = client(r, 0);
    ask(fd, 1);
    assert_int_equal(answer(fd, 1), 2);
    assert_int_equal(kill(r->pid, SIGKILL), 0);
    assert_int_equal(answer(fd, 2), 0);
    close(fd);
    assert_int_equal(ended(r), -SIGKILL);
    int file = open(r->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(file, "0123", 4), 4);
    close(file);
    start(r);
    until_ready(r);
    fd = client(r, 0);
    ask(fd, 1);
    assert_int_equal(answer(fd, 1), 4);
    close(fd);
    assert_int_equal(drain(r), 0);
    struct kbs_buf text = KBS_BUF(8192);
    struct kbs_error err = KBS_ERROR_NONE;
    assert_int_equal(kbs_io_read_file(r->path, &text, &err), 0);
    assert_non_null(strstr(kbs_buf_cstr(&text), "\"kind\":\"open\",\"cut_bytes\":\"4\"}"));
    kbs_buf_deinit(&text);
}

static void test_broken_chain_is_refused(void **state)
{
    struct role *r = *state;
    assert_int_equal(drain(r), 0);
    int file = open(r->path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(file, "x", 1, 80), 1);
    close(file);
    start(r);
    assert_int_equal(ended(r), KBS_EXIT_CONFIG);
}

static void test_too_many_clients(void **state)
{
    struct role *r = *state;
    int fds[KBS_LIMIT_AUDIT_CLIENTS];
    for (uint32_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        fds[i] = client(r, i);
    }
    int more = client(r, 99);
    assert_int_equal(answer(more, 0), 0); /* closed at once */
    close(more);
    close(fds[5]); /* its place is free for the next */
    ask(fds[6], 1);
    assert_int_not_equal(answer(fds[6], 1), 0);
    fds[5] = client(r, 100);
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        ask(fds[i], i);
        assert_int_not_equal(answer(fds[i], i), 0);
        close(fds[i]);
    }
    assert_int_equal(drain(r), 0);
}

/* A drain takes what has been asked before it. */
static void test_drain_answers(void **state)
{
    struct role *r = *state;
    int fd = client(r, 0);
    assert_int_equal(kill(r->pid, SIGSTOP), 0);
    ask(fd, 1);
    tell(r->control, KBS_WIRE_DRAIN, NULL, -1);
    assert_int_equal(kill(r->pid, SIGCONT), 0);
    assert_int_equal(answer(fd, 1), 2);
    assert_int_equal(answer(fd, 2), 0);
    close(fd);
    assert_int_equal(ended(r), 0);
}

static void test_kbsd_gone(void **state)
{
    struct role *r = *state;
    int fd = client(r, 0);
    assert_int_equal(shutdown(r->control, SHUT_WR), 0);
    assert_int_equal(answer(fd, 0), 0);
    assert_int_equal(ended(r), KBS_EXIT_FAILURE);
    close(fd);
}

static int measure(void)
{
    enum {
        APPENDS = 8000
    };
    void *state = NULL;
    (void)set_up(&state);
    struct role *r = state;
    for (uint32_t clients = 1; clients <= 32; clients *= 2) {
        struct pollfd fds[32];
        uint64_t asked = 0;
        uint64_t got = 0;
        for (uint32_t i = 0; i < clients; i++) {
            fds[i] = (struct pollfd){.fd = client(r, i), .events = POLLIN};
        }
        uint64_t begin_ns = kbs_clock_mono_ns();
        for (uint32_t i = 0; i < clients; i++) {
            ask(fds[i].fd, asked++);
        }
        while (got < APPENDS && poll(fds, clients, LIMIT_MS) > 0) {
            for (uint32_t i = 0; i < clients; i++) {
                struct kbs_channel_msg m = KBS_CHANNEL_MSG;
                struct kbs_error err = KBS_ERROR_NONE;
                if (fds[i].revents != 0 &&
                    kbs_channel_recv(fds[i].fd, &m, kbs_deadline_in_ms(LIMIT_MS), &err) == 0) {
                    got++;
                    if (asked < APPENDS) {
                        ask(fds[i].fd, asked++);
                    }
                }
                kbs_channel_msg_deinit(&m);
            }
        }
        double seconds = (double)(kbs_clock_mono_ns() - begin_ns) / 1e9;
        printf("%2u clients: %8.0f appends/s, %.3f ms each\n", clients, (double)got / seconds,
               seconds * 1e3 * clients / (double)got);
        for (uint32_t i = 0; i < clients; i++) {
            close(fds[i].fd);
        }
    }
    (void)tear_down(&state);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_clients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_breakers_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_client_holds_nobody_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_waits_for_its_deed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_without_a_deed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_order_is_never_behind_its_deed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk_refuses_both, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recovers_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_may_append, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_epochs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restart_continues_and_cuts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_chain_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_clients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drain_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kbsd_gone, set_up, tear_down),
    };
    if (argc > 1 && strcmp(argv[1], "measure") == 0) {
        return measure();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
