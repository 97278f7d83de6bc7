/*
 * A stand-in for kbs-audit that acknowledges at once and writes nothing: what a service without its
 * ledger would cost, for ci/bench alone. Nothing that is shipped can be told to do this; it takes
 * another executable in the folder that kbsd is told to start its roles from.
 *
 * It reads the ledger that is there, so that judges are told the head they remember.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "audit/ledger.h"
#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "channel/channel.h"

#define WAIT_MS 5000u

struct stand_in {
    struct kbs_ledger_report report;
    uint64_t seq;
    int ledger_fd;
    size_t n_clients;
    int clients[KBS_LIMIT_AUDIT_CLIENTS];
    struct kbs_channel_msg msg;
};

/* ATTACH: the ledger, or a client. */
static int take_attach(struct stand_in *s, struct kbs_error *err)
{
    struct kbs_wire_attach attach;

    if (kbs_channel_msg_decode(&s->msg, KBS_WIRE_ATTACH, &attach, err) != 0) {
        return -1;
    }
    if (attach.what == KBS_ATTACH_LEDGER) {
        s->ledger_fd = s->msg.fd;
    } else if (s->n_clients < KBS_LIMIT_AUDIT_CLIENTS) {
        s->clients[s->n_clients++] = s->msg.fd;
    } else {
        return kbs_fail(err, KBS_INPUT, "too many clients");
    }
    s->msg.fd = -1;
    return 0;
}

/* One message of kbsd. 1 to end. */
static int serve_control(struct stand_in *s, struct kbs_error *err)
{
    struct kbs_wire_ready ready = {.detail = KBS_SPAN_LIT("stand-in for benchmarks")};
    struct kbs_wire_config_audit config;
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &s->msg, kbs_deadline_in_ms(KBS_LIMIT_START_MS), err);

    if (rc != 0 || s->msg.frame.type == KBS_WIRE_DRAIN) {
        return rc != 0 ? rc : 1;
    }
    if (s->msg.frame.type == KBS_WIRE_CONFIG_AUDIT) {
        return kbs_channel_msg_decode(&s->msg, KBS_WIRE_CONFIG_AUDIT, &config, err);
    }
    if (s->msg.frame.type != KBS_WIRE_GO) {
        return take_attach(s, err);
    }
    if (kbs_ledger_verify(s->ledger_fd, &s->report, err) < 0) {
        return -1;
    }
    s->seq = s->report.records;
    return kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_READY, 0, &ready, -1,
                            kbs_deadline_in_ms(WAIT_MS), err);
}

/* A question, answered. KBS_CHANNEL_EOF when the client is gone. */
static int serve_client(struct stand_in *s, int fd, struct kbs_error *err)
{
    uint64_t deadline = kbs_deadline_in_ms(WAIT_MS);
    int rc = kbs_channel_recv(fd, &s->msg, deadline, err);

    if (rc == 0 && s->msg.frame.type == KBS_WIRE_HEAD_WANT) {
        struct kbs_wire_head head = {.seq = s->report.records,
                                     .hash = kbs_span(s->report.head, sizeof(s->report.head)),
                                     .epoch = s->report.epoch,
                                     .outcome = s->report.outcome ? 1 : 0};

        return kbs_channel_send(fd, KBS_WIRE_HEAD, s->msg.frame.id, &head, -1, deadline, err);
    }
    if (rc == 0) {
        struct kbs_wire_append append;
        struct kbs_wire_ack ack = {.seq = ++s->seq};

        rc = kbs_channel_msg_decode(&s->msg, KBS_WIRE_APPEND, &append, err);
        if (rc == 0) {
            rc = kbs_channel_send(fd, KBS_WIRE_ACK, s->msg.frame.id, &ack, -1, deadline, err);
        }
    }
    return rc;
}

static int serve(struct stand_in *s, struct kbs_error *err)
{
    struct pollfd fds[KBS_LIMIT_AUDIT_CLIENTS + 1] = {{.fd = KBS_FD_CONTROL, .events = POLLIN}};
    int rc = 0;

    while (rc == 0) {
        size_t n = s->n_clients;

        for (size_t i = 0; i < n; i++) {
            fds[i + 1] = (struct pollfd){.fd = s->clients[i], .events = POLLIN};
        }
        if (poll(fds, n + 1, -1) < 0) {
            return kbs_fail_errno(err, KBS_INTERNAL, "poll failed");
        }
        for (size_t i = 0; i < n && rc == 0; i++) {
            if (fds[i + 1].revents != 0 && serve_client(s, s->clients[i], err) != 0) {
                kbs_io_close(&s->clients[i]); /* poll() passes over descriptor -1 */
            }
        }
        if (fds[0].revents != 0) {
            rc = serve_control(s, err);
        }
    }
    return rc;
}

int main(void)
{
    struct stand_in s = {.ledger_fd = -1, .msg = KBS_CHANNEL_MSG};
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = kbs_process_harden(KBS_FD_CONTROL, &err);

    if (rc == 0) {
        rc = serve(&s, &err);
    }
    if (rc < 0) {
        kbs_log_error("stand-in", &err);
    }
    kbs_channel_msg_deinit(&s.msg);
    return rc < 0 ? KBS_EXIT_FAILURE : KBS_EXIT_OK;
}
