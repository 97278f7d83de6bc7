/*
 * Start-up: the conversation with kbsd before the loop runs.
 *
 * The problem: a front that serves with half its configuration is worse than none. The approach:
 * plain blocking reads with a deadline and an allow-list per phase (first CONFIG_FRONT, then
 * CONFIG_TLS and ATTACHes, then GO); anything else, a repeated TLS key, or a TLS listener without a key is fatal.
 * The TLS key is read here, once, before a byte from the network is.
 */
#include "channel/channel.h"
#include "front/front.h"

#include "base/io.h"
#include "base/process.h"

static int take_config(struct kbs_front *f, const struct kbs_channel_msg *m, struct kbs_error *err)
{
    struct kbs_wire_config_front config;

    if (kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_FRONT, &config, err) < 0) {
        return -1;
    }
    if (config.listener != KBS_LISTENER_GUEST && config.listener != KBS_LISTENER_ADMIN) {
        return kbs_fail(err, KBS_INPUT, "the listener kind is unknown");
    }
    if (config.lanes == 0 || config.lanes > KBS_LIMIT_LANES) {
        return kbs_fail(err, KBS_INPUT, "the number of lanes is out of range");
    }
    if (config.body_bytes == 0 || config.body_bytes > KBS_LIMIT_HTTP_BODY_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the bound of request bodies is out of range");
    }
    f->production = config.production != 0;
    f->conns.listener = (enum kbs_listener)config.listener;
    f->conns.max = config.max_connections;
    f->conns.sources.per_s = config.auth_per_s;
    f->conns.request_body_max = config.body_bytes;
    f->lanes.count = config.lanes;
    return kbs_conns_init(&f->conns, err);
}

/* Takes m->fd where the descriptor is kept. */
static int take_attach(struct kbs_front *f, struct kbs_channel_msg *m, struct kbs_error *err)
{
    struct kbs_wire_attach attach;
    int fd = m->fd;

    if (kbs_channel_msg_decode(m, KBS_WIRE_ATTACH, &attach, err) < 0) {
        return -1;
    }
    if (attach.what == KBS_ATTACH_TLS_KEY) {
        return kbs_certificate_key(&f->certificate, fd, err);
    }
    if (attach.what == KBS_ATTACH_LISTENER_TLS || attach.what == KBS_ATTACH_LISTENER_PLAIN) {
        m->fd = -1;
        return kbs_acceptor_add(&f->acceptor, fd, attach.what == KBS_ATTACH_LISTENER_TLS, err);
    }
    if (attach.what == KBS_ATTACH_FETCH && f->fetch_fd < 0) {
        m->fd = -1;
        f->fetch_fd = fd;
        return 0;
    }
    return kbs_fail(err, KBS_INPUT, "a descriptor that no front expects was attached");
}

static int check_complete(const struct kbs_front *f, struct kbs_error *err)
{
    for (size_t i = 0; i < f->acceptor.count; i++) {
        if (f->acceptor.listeners[i].tls && f->certificate.context == NULL) {
            return kbs_fail(err, KBS_INPUT, "there is a TLS listener, but no TLS key");
        }
    }
    return f->acceptor.count > 0 ? 0 : kbs_fail(err, KBS_INPUT, "there is no listener");
}

static int converse(struct kbs_front *f, struct kbs_channel_msg *m, struct kbs_error *err)
{
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    int r = kbs_channel_recv(KBS_FD_CONTROL, m, deadline_ns, err);

    if (r != 0) {
        return r;
    }
    if (take_config(f, m, err) < 0) {
        return -1;
    }
    while ((r = kbs_channel_recv(KBS_FD_CONTROL, m, deadline_ns, err)) == 0 &&
           (m->frame.type == KBS_WIRE_ATTACH || m->frame.type == KBS_WIRE_CONFIG_TLS)) {
        if ((m->frame.type == KBS_WIRE_CONFIG_TLS ? kbs_certificate_config(&f->certificate, m, err)
                                                  : take_attach(f, m, err)) < 0) {
            return -1;
        }
    }
    if (r != 0) {
        return r;
    }
    if (kbs_channel_msg_decode(m, KBS_WIRE_GO, NULL, err) < 0) {
        return -1;
    }
    return check_complete(f, err);
}

int kbs_front_startup(struct kbs_front *f, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int r;

    f->fetch_fd = -1;
    f->certificate = KBS_CERTIFICATE;
    r = converse(f, &m, err);

    kbs_channel_msg_deinit(&m);
    return r;
}
