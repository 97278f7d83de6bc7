/*
 * kbs-audit: the only writer of the ledger. Judges ask it to append a record and get an ACK once
 * the record is on the disk.
 *
 * One thread, one poll loop, rounds: take at most one record from every client that has one, stage
 * them all, commit them with one fdatasync, acknowledge them all. Under load the group grows by
 * itself, because clients queue while the disk is busy; there is no timer that trades latency for
 * it.
 *
 * An order is sent before its token operation begins, and nobody waits for it until the token's
 * deed is durable (`later`). It is staged and starts no sync; the deed does, or any other record,
 * or a timer if none comes. An order is never in a later group than its deed: it was in its judge's
 * socket before the token began, so once a deed has been read, the judges that have nothing staged
 * are read again before the group is closed. And judges are staged before tokens, so that the order
 * stands before its deed in the file, and a group that a crash cuts short has no deed without its
 * order.
 *
 * Who may append what is a table: deeds come from token workers, mutations and heads from the admin
 * lane, so that no judge can play the token, and no guest lane the administrator.
 *
 * A client may be a compromised judge. Its bytes are gathered without ever waiting for it, so it
 * cannot hold up the others; whatever breaks the protocol (a second question before the answer,
 * another type, a bad field, a descriptor) costs it its channel.
 *
 * When the disk refuses, everybody is told that nothing is durable (ACK with number 0), kbsd is
 * told so that readiness can fall, and the disk is tried again with every record and once a second.
 * While little of it is free, refusals are counted instead of written: what anybody can cause must
 * not take the room that releases need.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "audit/ledger.h"
#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "role/role.h"

#define CONTROL_MS 5000
#define FIELDS_MAX (KBS_LIMIT_WIRE_LIST_ITEMS / 2)

/* Who a client is: bits of who may append a kind. */
#define GUEST 1u
#define ADMIN 2u
#define TOKEN 4u

static const struct kind {
    const char *name;
    unsigned int who;
    bool refusal; /* anybody can cause it */
} kinds[] = {
    {"attest", GUEST, false},
    {"attest-refused", GUEST, true},
    {"request-refused", GUEST, true},
    {"release", GUEST, false},
    {"release-failed", GUEST, false},
    {"release-denied", GUEST, true},
    {"register", GUEST, false},
    {"register-failed", GUEST, false},
    {"register-denied", GUEST, true},
    {"key-generate", ADMIN, false},
    {"key-import", ADMIN, false},
    {"key-adopt", ADMIN, false},
    {"key-policy", ADMIN, false},
    {"key-state", ADMIN, false},
    {"key-destroy", ADMIN, false},
    {"secret-set", ADMIN, false},
    {"secret-policy", ADMIN, false},
    {"secret-delete", ADMIN, false},
    {"resource-policy-set", ADMIN, false},
    {"attestation-policy-set", ADMIN, false},
    {"reference-value-set", ADMIN, false},
    {"kept-forget", ADMIN, false},
    {"nek-wrap", ADMIN, false},
    {"alias-set", ADMIN, false},
    {"alias-remove", ADMIN, false},
    {"approval-request", ADMIN, false},
    {"approval-give", ADMIN, false},
    {"approval-withdraw", ADMIN, false},
    {"reference-value-delete", ADMIN, false},
    {"wrapping-key-generate", ADMIN, false},
    {"wrapping-key-rewrap", ADMIN, false},
    {"wrapping-key-destroy", ADMIN, false},
    {"seal-key-generate", ADMIN, false},
    {"seal-key-reseal", ADMIN, false},
    {"seal-key-destroy", ADMIN, false},
    {"sign-key-generate", ADMIN, false},
    {"sign-key-destroy", ADMIN, false},
    {"receipt-key-generate", ADMIN, false},
    {"tls-key-generate", ADMIN, false},
    {"tls-key-destroy", ADMIN, false},
    {"order", ADMIN, false},
    {"order-failed", ADMIN, false},
    {"store-accept", ADMIN, false},
    {"store-recovered", ADMIN, false},
    {"head", ADMIN, false},
    {"admin-denied", ADMIN, true},
    {"deed", TOKEN, false},
};

/* What a client waits for. */
enum pending {
    PENDING_NONE,
    PENDING_RECORD,  /* it is in the current group */
    PENDING_COUNTED, /* a refusal that is only counted */
    PENDING_HEAD     /* HEAD_WANT */
};

struct client {
    int fd;            /* -1: free slot */
    uint32_t index;    /* kbsd's name for it */
    unsigned int who;  /* GUEST, ADMIN or TOKEN */
    struct kbs_buf in; /* the frame that is being received */
    bool whole;        /* it is: `frame` and its body */
    struct kbs_frame frame;
    enum pending pending;
    uint64_t pending_id; /* of the question */
    uint64_t pending_seq;
};

struct audit {
    struct kbs_ledger ledger;
    int ledger_fd;
    struct client clients[KBS_LIMIT_AUDIT_CLIENTS];
    bool urgent;         /* something that is staged is waited for */
    uint64_t later_ns;   /* when the oldest staged record is to be written at the latest */
    bool refusing;       /* the last commit failed: said once, not for every record */
    uint64_t retry_ns;   /* while refusing: when to try the disk by ourselves */
    uint64_t refused;    /* records since it began to refuse, not yet told in the ledger */
    uint64_t suppressed; /* refusals that were counted, not yet told in the ledger */
    bool telling;        /* the current group tells one of the two numbers */
    bool draining;
};

static void client_drop(struct client *c, const char *why)
{
    if (why != NULL) {
        kbs_log(KBS_LOG_WARN, "client-dropped", "client=%u why=\"%s\"", c->index, why);
    }
    kbs_io_close(&c->fd);
    kbs_buf_deinit(&c->in);
    c->whole = false;
    c->pending = PENDING_NONE;
}

/* Takes the descriptor. */
static void client_add(struct audit *a, int fd, uint32_t index, unsigned int who)
{
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        struct client *c = &a->clients[i];
        if (c->fd < 0) {
            *c = (struct client){.fd = fd, .index = index, .who = who};
            kbs_buf_init(&c->in, KBS_WIRE_HEADER_BYTES + KBS_LIMIT_AUDIT_RECORD_BYTES);
            return;
        }
    }
    kbs_log(KBS_LOG_ERROR, "client-refused", "client=%u why=\"all %d places are taken\"", index,
            KBS_LIMIT_AUDIT_CLIENTS);
    kbs_io_close(&fd);
}

static const struct kind *kind_find(struct kbs_span name, unsigned int who)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kbs_span_equal_str(name, kinds[i].name) && (kinds[i].who & who) != 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* More free disk than what is kept. A file system that cannot be asked is not saved from. */
static bool has_room(const struct audit *a)
{
    struct statvfs st;
    return fstatvfs(a->ledger_fd, &st) != 0 ||
           (uint64_t)st.f_bavail * st.f_frsize >= KBS_LIMIT_AUDIT_RESERVE_BYTES;
}

static int stage_append(struct audit *a, struct client *c, const struct kbs_wire_append *append,
                        struct kbs_error *err)
{
    struct kbs_ledger_field fields[FIELDS_MAX];
    size_t n = 0;
    const struct kind *kind = kind_find(append->kind, c->who);
    if (kind == NULL || (append->phase != KBS_PHASE_NONE && c->who != ADMIN) || append->later > 1) {
        return kbs_fail(err, KBS_DENIED, "appends what is not its to append");
    }
    if (append->fields.count % 2 != 0 || append->fields.count / 2 > FIELDS_MAX) {
        return kbs_fail(err, KBS_INPUT, "names and values do not go together");
    }
    if (kind->refusal && !has_room(a)) {
        a->suppressed++;
        c->pending = PENDING_COUNTED;
        return 0;
    }
    if (a->ledger.staged_seq == a->ledger.durable_seq) {
        a->later_ns = kbs_deadline_in_ms(KBS_LIMIT_AUDIT_LATER_MS);
    }
    struct kbs_wire_iter it = kbs_wire_list_iter(&append->fields);
    while (n < FIELDS_MAX && kbs_wire_list_next(&it, &fields[n].name) &&
           kbs_wire_list_next(&it, &fields[n].value)) {
        n++;
    }
    if (kbs_ledger_stage_phase(&a->ledger, append->kind, (enum kbs_phase)append->phase,
                               append->epoch, fields, n, &c->pending_seq, err) != 0) {
        return -1;
    }
    c->pending = PENDING_RECORD;
    a->urgent = a->urgent || append->later == 0;
    return 0;
}

/* A whole question. */
static int question(struct audit *a, struct client *c, struct kbs_error *err)
{
    struct kbs_wire_append append;
    struct kbs_span body = kbs_span_skip(kbs_buf_span(&c->in), KBS_WIRE_HEADER_BYTES);
    c->pending_id = c->frame.id;
    if (c->frame.type == KBS_WIRE_HEAD_WANT) {
        c->pending = PENDING_HEAD;
        return kbs_wire_decode(KBS_WIRE_HEAD_WANT, body, NULL, err);
    }
    if (kbs_wire_decode(KBS_WIRE_APPEND, body, &append, err) != 0) {
        return -1;
    }
    return stage_append(a, c, &append, err);
}

static bool may_ask(const struct client *c, enum kbs_wire_type type)
{
    return type == KBS_WIRE_APPEND || (type == KBS_WIRE_HEAD_WANT && c->who != TOKEN);
}

/*
 * What a client may have for us: nothing, part of a frame, a whole one, or its end. One read takes
 * a frame and whatever was sent after it, which should not be there. Without waiting.
 */
static void client_read(struct client *c)
{
    struct kbs_error err = KBS_ERROR_NONE;
    size_t room = c->in.max - c->in.len;
    uint8_t *to = kbs_buf_reserve(&c->in, room);
    ssize_t n = to != NULL ? recv(c->fd, to, room, MSG_DONTWAIT) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        client_drop(c, c->in.len > 0 ? "closed in the middle of a message" : NULL);
        return;
    }
    kbs_buf_commit(&c->in, (size_t)n);
    if (c->in.len < KBS_WIRE_HEADER_BYTES) {
        return;
    }
    if (kbs_wire_header_decode(c->in.p, &c->frame, &err) != 0 || !may_ask(c, c->frame.type)) {
        client_drop(c, "sent something else than APPEND or HEAD_WANT");
        return;
    }
    size_t want = KBS_WIRE_HEADER_BYTES + (size_t)c->frame.body_len;
    if (c->in.len > want) {
        client_drop(c, "did not wait for its answer");
        return;
    }
    c->whole = c->in.len == want;
}

/* Takes the question that was gathered. */
static void client_take(struct audit *a, struct client *c)
{
    struct kbs_error err = KBS_ERROR_NONE;
    c->whole = false;
    if (question(a, c, &err) != 0) {
        client_drop(c, err.detail);
        return;
    }
    kbs_buf_clear(&c->in);
}

/* Nothing of it is staged or gathered: it may have something that we have not read. */
static bool may_have_more(const struct client *c)
{
    return c->fd >= 0 && !c->whole && c->pending == PENDING_NONE;
}

/* A deed was gathered: so are the orders that were sent before it. */
static void gather_orders(struct audit *a)
{
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        struct client *c = &a->clients[i];
        if (may_have_more(c) && c->who != TOKEN) {
            client_read(c);
        }
    }
}

/* Stages what was gathered: judges first. */
static void take_gathered(struct audit *a)
{
    for (int tokens = 0; tokens < 2; tokens++) {
        for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
            struct client *c = &a->clients[i];
            if (c->whole && (c->who == TOKEN) == (tokens == 1)) {
                client_take(a, c);
            }
        }
    }
}

/* Without waiting: a client that has no room for so little has not read the answers before this
 * one. */
static void client_send(struct client *c, enum kbs_wire_type type, const void *msg)
{
    struct kbs_buf frame = KBS_BUF(256);
    struct kbs_error err = KBS_ERROR_NONE;
    errno = 0;
    if (kbs_wire_encode(&frame, type, c->pending_id, KBS_DEADLINE_NONE, msg, &err) != 0 ||
        send(c->fd, frame.p, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)frame.len) {
        client_drop(c, errno == EPIPE ? "died before its answer" : "does not take its answer");
    }
    kbs_buf_deinit(&frame);
}

static void client_answer(struct audit *a, struct client *c, bool durable)
{
    const struct kbs_ledger *l = &a->ledger;
    struct kbs_wire_ack ack = {.seq = durable ? c->pending_seq : 0};
    struct kbs_wire_head head = {.seq = l->durable_seq,
                                 .hash = kbs_span(l->durable_head, sizeof(l->durable_head)),
                                 .epoch = l->durable_epoch,
                                 .outcome = l->durable_outcome ? 1 : 0};
    enum pending pending = c->pending;
    c->pending = PENDING_NONE;
    if (pending == PENDING_HEAD) {
        client_send(c, KBS_WIRE_HEAD, &head);
    } else if (pending == PENDING_COUNTED) {
        ack.seq = l->durable_seq;
        client_send(c, KBS_WIRE_ACK, &ack);
    } else if (pending == PENDING_RECORD) {
        a->refused += durable ? 0 : 1;
        client_send(c, KBS_WIRE_ACK, &ack);
    }
}

static void tell_kbsd(bool writable)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_health health = {.writable = writable ? 1 : 0};
    if (kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_HEALTH, 0, &health, -1,
                         kbs_deadline_in_ms(CONTROL_MS), &err) != 0) {
        kbs_log_error("control-channel", &err); /* its end is found by the loop */
    }
}

/* Writes the group. False if nothing of it is durable. */
static bool commit(struct audit *a)
{
    struct kbs_error err = KBS_ERROR_NONE;
    bool ok = kbs_ledger_commit(&a->ledger, &err) == 0;
    bool was_refusing = a->refusing;
    a->refusing = !ok;
    a->retry_ns = kbs_deadline_in_ms(KBS_LIMIT_AUDIT_RETRY_MS);
    if (ok && a->telling) {
        a->refused = 0;
        a->suppressed = 0;
    }
    a->telling = false;
    if (!ok && !was_refusing) {
        kbs_log_error("ledger-refuses", &err);
        kbs_log(KBS_LOG_ERROR, "ledger-refuses",
                "advice=\"nothing is acknowledged or released until it can be written\"");
        tell_kbsd(false);
    }
    if (ok && was_refusing) {
        kbs_log(KBS_LOG_INFO, "ledger-works-again", "seq=%" PRIu64, a->ledger.durable_seq);
        tell_kbsd(true);
    }
    return ok;
}

/* A record of our own with one number in it. */
static void stage_number(struct audit *a, struct kbs_span kind, struct kbs_span name,
                         uint64_t number)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf text = KBS_BUF(32);
    uint64_t seq;
    kbs_buf_printf(&text, "%" PRIu64, number);
    struct kbs_ledger_field field = {.name = name, .value = kbs_buf_span(&text)};
    if (kbs_ledger_stage(&a->ledger, kind, &field, 1, &seq, &err) == 0) {
        a->telling = true;
        a->urgent = true;
    }
    kbs_buf_deinit(&text);
}

/* What we owe the ledger: how much was refused, and how much was only counted. */
static void stage_owed(struct audit *a)
{
    bool retry = a->refusing && kbs_clock_mono_ns() >= a->retry_ns;
    bool refused = a->refused > 0 && (!a->refusing || retry);
    bool counted = a->suppressed > 0 && (!a->refusing || retry) && (has_room(a) || a->draining);
    if (refused || retry) {
        stage_number(a, KBS_SPAN_LIT("resumed"), KBS_SPAN_LIT("refused"), a->refused);
    }
    if (counted || (a->telling && a->suppressed > 0)) {
        stage_number(a, KBS_SPAN_LIT("suppressed"), KBS_SPAN_LIT("count"), a->suppressed);
    }
}

/* What is staged goes to the disk now. */
static bool commit_is_due(const struct audit *a)
{
    return a->ledger.staged_seq != a->ledger.durable_seq &&
           (a->urgent || a->draining || kbs_clock_mono_ns() >= a->later_ns);
}

/* Ends a round: the group to the disk if somebody waits for it, then everybody's answer. Judges
 * come before tokens: an order's ACK is there when the RESULT is. */
static void answer_round(struct audit *a)
{
    bool due = commit_is_due(a);
    bool durable = !due || commit(a);
    a->urgent = a->urgent && !due;
    for (int tokens = 0; tokens < 2; tokens++) {
        for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
            struct client *c = &a->clients[i];
            bool ready = c->pending != PENDING_NONE && (due || c->pending != PENDING_RECORD);
            if (ready && (c->who == TOKEN) == (tokens == 1)) {
                client_answer(a, c, durable);
            }
        }
    }
}

static unsigned int who_is(enum kbs_attach what)
{
    return what == KBS_ATTACH_CLIENT         ? GUEST
           : what == KBS_ATTACH_CLIENT_ADMIN ? ADMIN
           : what == KBS_ATTACH_CLIENT_TOKEN ? TOKEN
                                             : 0;
}

/* A control message; NULL phases are not needed: before GO `started` is false. Returns -1 to
 * exit. */
static int control_read(struct audit *a, bool started, bool *ret_go, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_attach attach;
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(CONTROL_MS), err);
    if (rc != 0) {
        kbs_channel_msg_deinit(&m);
        return rc == KBS_CHANNEL_EOF ? kbs_fail(err, KBS_INTERNAL, "kbsd is gone") : -1;
    }
    if (m.frame.type == KBS_WIRE_DRAIN && started) {
        a->draining = true;
    } else if (m.frame.type == KBS_WIRE_GO && !started && a->ledger_fd >= 0) {
        *ret_go = true;
    } else if (kbs_channel_msg_decode(&m, KBS_WIRE_ATTACH, &attach, err) != 0) {
        rc = -1;
    } else if (who_is((enum kbs_attach)attach.what) != 0) {
        client_add(a, m.fd, attach.index, who_is((enum kbs_attach)attach.what));
        m.fd = -1;
    } else if (attach.what == KBS_ATTACH_LEDGER && a->ledger_fd < 0) {
        a->ledger_fd = m.fd;
        m.fd = -1;
    } else {
        rc = kbs_fail(err, KBS_INPUT, "a descriptor that has no place here");
    }
    kbs_channel_msg_deinit(&m);
    return rc;
}

static int configure(struct audit *a, bool *ret_production, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_config_audit config;
    bool go = false;
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(CONTROL_MS), err);
    if (rc == KBS_CHANNEL_EOF) {
        rc = kbs_fail(err, KBS_INTERNAL,
                      "no configuration on descriptor 3: kbs-audit is started by kbsd");
    }
    if (rc == 0) {
        rc = kbs_channel_msg_decode(&m, KBS_WIRE_CONFIG_AUDIT, &config, err);
    }
    *ret_production = rc == 0 && config.production != 0;
    kbs_channel_msg_deinit(&m);
    while (rc == 0 && !go) {
        rc = control_read(a, false, &go, err);
    }
    return rc;
}

/* Verifies the ledger and says in it that we are here. */
static int open_ledger(struct audit *a, struct kbs_error *err)
{
    uint64_t cut_bytes;
    uint64_t seq;
    char text[32];
    uint64_t begin_ns = kbs_clock_mono_ns();
    if (kbs_ledger_open(&a->ledger, a->ledger_fd, &cut_bytes, err) < 0) {
        return -1;
    }
    kbs_log(KBS_LOG_INFO, "ledger-verified", "records=%" PRIu64 " bytes=%" PRIu64 " ms=%" PRIu64,
            a->ledger.durable_seq, a->ledger.durable_bytes,
            (kbs_clock_mono_ns() - begin_ns) / KBS_NS_PER_MS);
    struct kbs_buf number = KBS_BUF(sizeof(text));
    kbs_buf_printf(&number, "%" PRIu64, cut_bytes);
    struct kbs_ledger_field cut = {.name = KBS_SPAN_LIT("cut_bytes"),
                                   .value = kbs_buf_span(&number)};
    int rc =
        kbs_ledger_stage(&a->ledger, KBS_SPAN_LIT("open"), &cut, cut_bytes > 0 ? 1 : 0, &seq, err);
    kbs_buf_deinit(&number);
    if (cut_bytes > 0) {
        kbs_log(KBS_LOG_WARN, "ledger-cut",
                "bytes=%" PRIu64 " why=\"the last line was not written to its end\"", cut_bytes);
    }
    return rc == 0 ? kbs_ledger_commit(&a->ledger, err) : -1;
}

/* Something can be told at once. */
static bool owes(const struct audit *a)
{
    return !a->refusing && (a->refused > 0 || (a->suppressed > 0 && has_room(a)));
}

/* How long the loop may sleep. */
static int wait_ms(const struct audit *a)
{
    uint64_t until_ns = a->refusing ? a->retry_ns : KBS_DEADLINE_NONE;
    if (a->draining || owes(a)) {
        return 0;
    }
    if (a->ledger.staged_seq != a->ledger.durable_seq && a->later_ns < until_ns) {
        until_ns = a->later_ns;
    }
    return kbs_deadline_poll_ms(until_ns);
}

/* One round: waits, unless draining; false when a drain has nothing left to do. */
static bool round_clients(struct audit *a, bool *ret_control)
{
    struct pollfd fds[KBS_LIMIT_AUDIT_CLIENTS + 1];
    struct client *asked[KBS_LIMIT_AUDIT_CLIENTS + 1];
    nfds_t n = 1;
    bool deed = false;
    bool any = false;
    fds[0] = (struct pollfd){.fd = KBS_FD_CONTROL, .events = POLLIN};
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        if (may_have_more(&a->clients[i])) { /* the others have their question in the group */
            asked[n] = &a->clients[i];
            fds[n++] = (struct pollfd){.fd = a->clients[i].fd, .events = POLLIN};
        }
    }
    *ret_control = false;
    if (poll(fds, n, wait_ms(a)) < 0) {
        return true; /* EINTR: nothing is marked */
    }
    stage_owed(a);
    for (nfds_t i = 1; i < n; i++) {
        if (fds[i].revents != 0) {
            client_read(asked[i]);
            deed = deed || (asked[i]->whole && asked[i]->who == TOKEN);
            any = true;
        }
    }
    if (deed) {
        gather_orders(a);
    }
    take_gathered(a);
    answer_round(a);
    *ret_control = fds[0].revents != 0;
    return !a->draining || any;
}

static int serve(struct audit *a, struct kbs_error *err)
{
    bool control = false;
    bool go;
    while (round_clients(a, &control)) {
        if (control && !a->draining && control_read(a, true, &go, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int run(struct audit *a, struct kbs_error *err)
{
    struct kbs_wire_ready ready = {.detail = KBS_SPAN_EMPTY, .pid = (uint32_t)getpid()};
    struct kbs_confine_plan plan = {.role = KBS_CONFINE_AUDIT};
    if (configure(a, &plan.production, err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    if (open_ledger(a, err) != 0) {
        return err->category == KBS_CONFLICT ? KBS_EXIT_CONFIG : KBS_EXIT_FAILURE;
    }
    if (kbs_confine(&plan, err) != 0) {
        return KBS_EXIT_CONFIG;
    }
    if (kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_READY, 0, &ready, -1,
                         kbs_deadline_in_ms(CONTROL_MS), err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    return serve(a, err) == 0 ? KBS_EXIT_OK : KBS_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (kbs_confine_print(KBS_CONFINE_AUDIT, argc, argv)) {
        return KBS_EXIT_OK;
    }
    struct kbs_error err = KBS_ERROR_NONE;
    struct audit *a = calloc(1, sizeof(*a));
    if (a == NULL || kbs_role_begin(&err) != 0) {
        kbs_log_error("start-failed", &err);
        free(a);
        return kbs_role_end(kbs_exit_of(&err));
    }
    /* A file size limit is a full disk like any other: an error of write(2), not a death. */
    (void)signal(SIGXFSZ, SIG_IGN);
    a->ledger_fd = -1;
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        a->clients[i].fd = -1;
    }
    int status = run(a, &err);
    if (status != KBS_EXIT_OK) {
        kbs_log_error("exit", &err);
    }
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        client_drop(&a->clients[i], NULL);
    }
    kbs_ledger_deinit(&a->ledger);
    kbs_io_close(&a->ledger_fd);
    free(a);
    return kbs_role_end(status);
}
