/*
 * kbs-front: the only role that talks to the network. Bytes to typed requests for the judges, and
 * their answers back; no keys but its TLS key, no knowledge of what a route means.
 *
 * The problem: all of the network's hostility meets one process. The approach: it is given
 * everything it needs by descriptor before it serves (startup.c), then runs one loop in one thread:
 * listeners (acceptor.c), connections (conns.c, step.c), lanes (lanes.c) and the control channel
 * (here). It opens no file and makes no connection.
 *
 * The end: DRAIN stops accepting, lets requests in hand finish, and exits 0 within the drain
 * timeout; end of file on the control channel means kbsd is gone and ends everything at once; so
 * does a control message that breaks the protocol.
 */
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "front/front.h"
#include "front/handshake.h"
#include "role/role.h"

#define CONTROL_MS 1000      /* for the rest of a control message whose first byte is here */
#define SPARE_DESCRIPTORS 64 /* lanes, listeners, the loop's own */

/* Closes every handle; the loop then runs out of work and uv_run() returns. */
static void close_all(struct kbs_front *f, int exit_status)
{
    if (f->closing) {
        return;
    }
    f->closing = true;
    f->exit_status = exit_status;
    kbs_acceptor_stop(&f->acceptor);
    kbs_conns_close_all(&f->conns);
    kbs_lanes_close(&f->lanes);
    kbs_relay_close(&f->relay);
    uv_close((uv_handle_t *)&f->control, NULL);
    uv_close((uv_handle_t *)&f->drain_timer, NULL);
}

static void on_room(void *data)
{
    struct kbs_front *f = data;

    if (f->conns.draining && f->conns.count == 0) {
        close_all(f, KBS_EXIT_OK);
    } else {
        kbs_acceptor_resume(&f->acceptor);
    }
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct kbs_front *f = timer->data;

    kbs_log(KBS_LOG_WARN, "drain-cut", "connections=%u", f->conns.count);
    close_all(f, KBS_EXIT_OK);
}

static void drain(struct kbs_front *f)
{
    kbs_log(KBS_LOG_INFO, "drain", "connections=%u", f->conns.count);
    kbs_acceptor_stop(&f->acceptor);
    if (f->conns.count == 0) {
        close_all(f, KBS_EXIT_OK);
        return;
    }
    (void)uv_timer_start(&f->drain_timer, on_drain_timeout, f->conns.timeouts->drain_ms, 0);
    kbs_conns_drain(&f->conns);
}

/*
 * A certificate or its key. One that cannot be used is told, and the one before goes on: it was somebody's
 * mistake in a file.
 */
static int renew(struct kbs_front *f, int r, struct kbs_error *err)
{
    if (r != 0) {
        kbs_log_error("tls-kept", err);
        *err = KBS_ERROR_NONE;
        return 0;
    }
    if (f->conns.tls != f->certificate.context) {
        f->conns.tls = f->certificate.context;
        kbs_log(KBS_LOG_INFO, "tls-renewed", "key=%s",
                f->certificate.signers != NULL ? "token" : "file");
    }
    return 0;
}

/* While running. Takes m->fd where it is kept. */
static int take_attach(struct kbs_front *f, struct kbs_channel_msg *m, struct kbs_error *err)
{
    struct kbs_wire_attach attach;
    int fd = m->fd;

    if (kbs_channel_msg_decode(m, KBS_WIRE_ATTACH, &attach, err) < 0) {
        return -1;
    }
    if (attach.what == KBS_ATTACH_TLS_KEY) {
        return renew(f, kbs_certificate_key(&f->certificate, fd, err), err);
    }
    m->fd = -1;
    switch (attach.what) {
    case KBS_ATTACH_LANE:
        return kbs_lanes_attach(&f->lanes, attach.index, fd, err);
    case KBS_ATTACH_FETCH:
        return kbs_relay_attach(&f->relay, fd, err);
    case KBS_ATTACH_SIGN:
        return kbs_certificate_signer(&f->certificate, attach.index, fd, err);
    default:
        m->fd = fd;
        return kbs_fail(err, KBS_INPUT, "a descriptor that no running front expects was attached");
    }
}

/* One message of the running phase: ATTACH, DETACH, HEALTH, CONFIG_TLS, DRAIN. */
static int take_control(struct kbs_front *f, struct kbs_channel_msg *m, struct kbs_error *err)
{
    struct kbs_wire_detach detach;
    struct kbs_wire_health health;

    if (m->frame.type == KBS_WIRE_DRAIN) {
        if (!f->conns.draining) {
            drain(f);
        }
        return 0;
    }
    if (m->frame.type == KBS_WIRE_HEALTH) {
        if (kbs_channel_msg_decode(m, KBS_WIRE_HEALTH, &health, err) < 0) {
            return -1;
        }
        f->lanes.ledger_down = health.writable == 0;
        return 0;
    }
    if (m->frame.type == KBS_WIRE_DETACH) {
        return kbs_channel_msg_decode(m, KBS_WIRE_DETACH, &detach, err) < 0
                   ? -1
                   : kbs_lanes_detach(&f->lanes, detach.index, err);
    }
    if (m->frame.type == KBS_WIRE_CONFIG_TLS) {
        return renew(f, kbs_certificate_config(&f->certificate, m, err), err);
    }
    return take_attach(f, m, err);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    struct kbs_front *f = poll->data;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    int r = status < 0 ? KBS_CHANNEL_EOF
                       : kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(CONTROL_MS), &err);

    (void)events;
    if (r == 0) {
        r = take_control(f, &m, &err);
    }
    if (r == KBS_CHANNEL_EOF) {
        kbs_log(KBS_LOG_INFO, "control-closed", "kbsd is gone");
        close_all(f, KBS_EXIT_OK);
    } else if (r < 0) {
        kbs_log_error("control-failed", &err);
        close_all(f, KBS_EXIT_FAILURE);
    }
    kbs_channel_msg_deinit(&m);
}

static int start_threads(void *data, struct kbs_error *err)
{
    (void)data;
    return kbs_handshake_threads(err);
}

static int start_loop(struct kbs_front *f, struct kbs_error *err)
{
    const struct kbs_wire_ready ready = {.detail = KBS_SPAN_LIT("kbs-front"),
                                         .pid = (uint32_t)getpid()};
    const struct kbs_confine_plan plan = {.role = KBS_CONFINE_FRONT,
                                          .production = f->production,
                                          .descriptors = f->conns.max + SPARE_DESCRIPTORS,
                                          .threads = f->certificate.signers != NULL ? start_threads
                                                                                    : NULL};

    kbs_lanes_init(&f->lanes);
    if (f->fetch_fd >= 0 && kbs_relay_attach(&f->relay, f->fetch_fd, err) < 0) {
        return -1;
    }
    if (kbs_acceptor_start(&f->acceptor, &f->loop, err) < 0) {
        return -1;
    }
    if (uv_timer_init(&f->loop, &f->drain_timer) != 0 ||
        uv_poll_init(&f->loop, &f->control, KBS_FD_CONTROL) != 0 ||
        uv_poll_start(&f->control, UV_READABLE, on_control) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the control channel cannot be polled");
    }
    f->control.data = f;
    f->drain_timer.data = f;
    if (kbs_confine(&plan, err) != 0) {
        return -1;
    }
    return kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_READY, 0, &ready, -1,
                            kbs_deadline_in_ms(CONTROL_MS), err);
}

static void wire_up(struct kbs_front *f)
{
    const struct kbs_front_timeouts *timeouts = kbs_front_timeouts();

    f->lanes.loop = &f->loop;
    f->lanes.metrics = &f->metrics;
    f->lanes.timeouts = timeouts;
    f->lanes.deliver = kbs_conns_deliver;
    f->lanes.data = &f->conns;
    f->lanes.fetch = kbs_relay_fetch;
    f->lanes.fetch_data = &f->relay;
    f->relay.loop = &f->loop;
    f->relay.lanes = &f->lanes;
    f->relay.metrics = &f->metrics;
    f->relay.timeouts = timeouts;
    f->conns.relay = &f->relay;
    f->conns.loop = &f->loop;
    f->conns.timeouts = timeouts;
    f->conns.tls = f->certificate.context;
    f->conns.lanes = &f->lanes;
    f->conns.metrics = &f->metrics;
    f->conns.room = on_room;
    f->conns.data = f;
    f->acceptor.conns = &f->conns;
    f->acceptor.metrics = &f->metrics;
    f->acceptor.retry_ms = timeouts->accept_retry_ms;
}

/*
 * Descriptors for all connections, as far as the hard limit goes; accept(2) failing is survived
 * anyway.
 */
static void raise_descriptor_limit(const struct kbs_front *f)
{
    struct rlimit limit;
    rlim_t want = (rlim_t)f->conns.max + SPARE_DESCRIPTORS;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want) {
        return;
    }
    if (limit.rlim_max < want) {
        kbs_log(KBS_LOG_WARN, "descriptor-limit", "wanted=%llu hard=%llu", (unsigned long long)want,
                (unsigned long long)limit.rlim_max);
    }
    limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int serve(struct kbs_front *f, struct kbs_error *err)
{
    raise_descriptor_limit(f);
    wire_up(f);
    kbs_confine_no_io_uring(); /* libuv 1.45 and later would use it, whatever it is told */
    if (uv_loop_init(&f->loop) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the event loop cannot be made");
    }
    if (start_loop(f, err) < 0) {
        return -1; /* the process ends; nothing to unwind */
    }
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    return uv_loop_close(&f->loop) == 0 ? 0 : kbs_fail(err, KBS_INTERNAL, "a handle was left open");
}

static void front_free(struct kbs_front *f)
{
    kbs_conns_deinit(&f->conns);
    kbs_certificate_deinit(&f->certificate);
    free(f);
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_front *f = NULL;
    int status;
    int r;

    if (kbs_confine_print(KBS_CONFINE_FRONT, argc, argv)) {
        return KBS_EXIT_OK;
    }
    if (kbs_role_begin(&err) < 0 || (f = calloc(1, sizeof(*f))) == NULL) {
        kbs_log_error("start-failed", &err);
        return kbs_role_end(kbs_exit_of(&err));
    }
    r = kbs_front_startup(f, &err);
    if (r != 0) {
        kbs_log_error("start-failed", &err);
        front_free(f);
        return kbs_role_end(r < 0 ? (int)kbs_exit_of(&err) : KBS_EXIT_FAILURE);
    }
    r = serve(f, &err);
    if (r != 0) {
        kbs_log_error("failed", &err);
    }
    status = r == 0 ? f->exit_status : (int)kbs_exit_of(&err);
    front_free(f);
    return kbs_role_end(status);
}
