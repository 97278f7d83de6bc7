/*
 * kbs-audit: the only writer of the ledger. Judges ask it to append a record and get an ACK once
 * the record is on the disk.
 *
 * One thread, one poll loop, rounds: take at most one record from every client that has one, stage
 * them all, commit them with one fdatasync, acknowledge them all. Under load the group grows by
 * itself, because clients queue while the disk is busy; there is no timer that trades latency for
 * it.
 *
 * A client may be a compromised judge. Its bytes are gathered without ever waiting for it, so it
 * cannot hold up the others; whatever breaks the protocol (a second question before the answer,
 * another type, a bad field, a descriptor) costs it its channel. When the disk refuses, nobody gets
 * an ACK: the judges' own deadlines turn that into 503, and the next record tries the disk again.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "audit/ledger.h"
#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "channel/channel.h"

#define CONTROL_MS 5000
#define FIELDS_MAX (KBS_LIMIT_WIRE_LIST_ITEMS / 2)

struct client {
    int fd;              /* -1: free slot */
    uint32_t index;      /* kbsd's name for it */
    struct kbs_buf in;   /* the frame that is being received */
    bool pending;        /* its record is in the current group */
    uint64_t pending_id; /* of the question */
    uint64_t pending_seq;
};

struct audit {
    struct kbs_ledger ledger;
    int ledger_fd;
    struct client clients[KBS_LIMIT_AUDIT_CLIENTS];
    bool refusing; /* the last commit failed: said once, not for every record */
    bool draining;
};

static void client_drop(struct client *c, const char *why)
{
    if (why != NULL) {
        kbs_log(KBS_LOG_WARN, "client-dropped", "client=%u why=\"%s\"", c->index, why);
    }
    kbs_io_close(&c->fd);
    kbs_buf_deinit(&c->in);
    c->pending = false;
}

/* Takes the descriptor. */
static void client_add(struct audit *a, int fd, uint32_t index)
{
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        struct client *c = &a->clients[i];
        if (c->fd < 0) {
            *c = (struct client){.fd = fd, .index = index};
            kbs_buf_init(&c->in, KBS_WIRE_HEADER_BYTES + KBS_LIMIT_AUDIT_RECORD_BYTES);
            return;
        }
    }
    kbs_log(KBS_LOG_ERROR, "client-refused", "client=%u why=\"all %d places are taken\"", index,
            KBS_LIMIT_AUDIT_CLIENTS);
    kbs_io_close(&fd);
}

/* Reads up to the end of the frame, and one byte more to notice one that should not be there.
 * Without waiting. */
static int client_fill(struct client *c, size_t want)
{
    while (c->in.len < want) {
        uint8_t *room = kbs_buf_reserve(&c->in, want - c->in.len);
        if (room == NULL) {
            return -1;
        }
        ssize_t n = recv(c->fd, room, want - c->in.len, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        if (n <= 0) {
            return -1;
        }
        kbs_buf_commit(&c->in, (size_t)n);
    }
    return 0;
}

static int stage(struct audit *a, struct client *c, const struct kbs_frame *frame,
                 struct kbs_error *err)
{
    struct kbs_wire_append append;
    struct kbs_ledger_field fields[FIELDS_MAX];
    struct kbs_span body = kbs_span_skip(kbs_buf_span(&c->in), KBS_WIRE_HEADER_BYTES);
    size_t n = 0;
    if (kbs_wire_decode(KBS_WIRE_APPEND, body, &append, err) != 0) {
        return -1;
    }
    if (append.fields.count % 2 != 0 || append.fields.count / 2 > FIELDS_MAX) {
        return kbs_fail(err, KBS_INPUT, "names and values do not go together");
    }
    struct kbs_wire_iter it = kbs_wire_list_iter(&append.fields);
    while (n < FIELDS_MAX && kbs_wire_list_next(&it, &fields[n].name) &&
           kbs_wire_list_next(&it, &fields[n].value)) {
        n++;
    }
    if (kbs_ledger_stage(&a->ledger, append.kind, fields, n, &c->pending_seq, err) != 0) {
        return -1;
    }
    c->pending = true;
    c->pending_id = frame->id;
    return 0;
}

/* What a readable client has: part of a frame, a whole one, or its end. */
static void client_read(struct audit *a, struct client *c)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_frame frame;
    if (client_fill(c, KBS_WIRE_HEADER_BYTES) != 0) {
        client_drop(c, c->in.len > 0 ? "closed in the middle of a message" : NULL);
        return;
    }
    if (c->in.len < KBS_WIRE_HEADER_BYTES) {
        return;
    }
    if (kbs_wire_header_decode(c->in.p, &frame, &err) != 0 || frame.type != KBS_WIRE_APPEND) {
        client_drop(c, "sent something else than APPEND");
        return;
    }
    size_t want = KBS_WIRE_HEADER_BYTES + (size_t)frame.body_len;
    if (client_fill(c, want) != 0) {
        client_drop(c, "closed in the middle of a message");
        return;
    }
    if (c->in.len < want) {
        return;
    }
    uint8_t more;
    if (recv(c->fd, &more, 1, MSG_DONTWAIT | MSG_PEEK) > 0) {
        client_drop(c, "did not wait for its answer");
        return;
    }
    if (stage(a, c, &frame, &err) != 0) {
        client_drop(c, err.detail);
        return;
    }
    kbs_buf_clear(&c->in);
}

/* Without waiting: a client that has no room for 40 bytes has not read the answers before this
 * one. */
static void client_ack(struct client *c)
{
    struct kbs_buf frame = KBS_BUF(128);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_ack ack = {.seq = c->pending_seq};
    c->pending = false;
    errno = 0;
    if (kbs_wire_encode(&frame, KBS_WIRE_ACK, c->pending_id, KBS_DEADLINE_NONE, &ack, &err) != 0 ||
        send(c->fd, frame.p, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)frame.len) {
        client_drop(c, errno == EPIPE ? "died before its answer" : "does not take its answer");
    }
    kbs_buf_deinit(&frame);
}

static void commit(struct audit *a)
{
    struct kbs_error err = KBS_ERROR_NONE;
    bool ok = kbs_ledger_commit(&a->ledger, &err) == 0;
    if (!ok && !a->refusing) {
        kbs_log_error("ledger-refuses", &err);
        kbs_log(KBS_LOG_ERROR, "ledger-refuses",
                "advice=\"nothing is acknowledged or released until it can be written\"");
    }
    if (ok && a->refusing) {
        kbs_log(KBS_LOG_INFO, "ledger-works-again", "seq=%" PRIu64, a->ledger.durable_seq);
    }
    a->refusing = !ok;
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        struct client *c = &a->clients[i];
        if (c->pending && ok) {
            client_ack(c);
        }
        c->pending = false;
    }
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
    } else if (attach.what == KBS_ATTACH_CLIENT) {
        client_add(a, m.fd, attach.index);
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

static int configure(struct audit *a, struct kbs_error *err)
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

/* One round: waits, unless draining; false when a drain has nothing left to do. */
static bool round_clients(struct audit *a, struct pollfd *fds, bool *ret_control)
{
    size_t n_ready = 0;
    fds[0] = (struct pollfd){.fd = KBS_FD_CONTROL, .events = POLLIN};
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        fds[i + 1] = (struct pollfd){.fd = a->clients[i].fd, .events = POLLIN};
    }
    if (poll(fds, KBS_LIMIT_AUDIT_CLIENTS + 1, a->draining ? 0 : -1) < 0) {
        return true; /* EINTR: nothing is marked */
    }
    for (size_t i = 0; i < KBS_LIMIT_AUDIT_CLIENTS && n_ready < KBS_LIMIT_AUDIT_BATCH; i++) {
        if (fds[i + 1].revents != 0 && a->clients[i].fd >= 0) {
            client_read(a, &a->clients[i]);
            n_ready++;
        }
    }
    if (a->ledger.staged_seq != a->ledger.durable_seq) {
        commit(a);
    }
    *ret_control = fds[0].revents != 0;
    return !a->draining || n_ready > 0;
}

static int serve(struct audit *a, struct kbs_error *err)
{
    struct pollfd fds[KBS_LIMIT_AUDIT_CLIENTS + 1] = {{.fd = -1}};
    bool control = false;
    bool go;
    while (round_clients(a, fds, &control)) {
        if (control && !a->draining && control_read(a, true, &go, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int run(struct audit *a, struct kbs_error *err)
{
    struct kbs_wire_ready ready = {.detail = KBS_SPAN_EMPTY};
    if (configure(a, err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    if (open_ledger(a, err) != 0) {
        return err->category == KBS_CONFLICT ? KBS_EXIT_CONFIG : KBS_EXIT_FAILURE;
    }
    if (kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_READY, 0, &ready, -1,
                         kbs_deadline_in_ms(CONTROL_MS), err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    return serve(a, err) == 0 ? KBS_EXIT_OK : KBS_EXIT_FAILURE;
}

int main(void)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct audit *a = calloc(1, sizeof(*a));
    if (a == NULL || kbs_process_harden(KBS_FD_CONTROL, &err) != 0) {
        kbs_log_error("start-failed", &err);
        free(a);
        return KBS_EXIT_FAILURE;
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
    return status;
}
