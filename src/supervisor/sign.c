/*
 * A new certificate may have a new key. The problem: front and sign worker must change over together, no
 * handshake may fail for it, and a mistake in a file must cost nothing. The approach: a second worker is
 * started with the new certificate, and finds its key in the token or does not; only when it is ready is
 * the front told of the certificate and given its channels, in one go. Then the first one is drained: it
 * signs what was begun with it, and leaves. Before that it serves as if nothing had been asked.
 */
#include "supervisor/sign.h"

#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"

#define SEND_MS 5000

bool kbsd_sign_serves(const struct kbsd_unit *units, size_t n_units)
{
    for (size_t i = 0; i < n_units; i++) {
        if (units[i].kind == KBSD_UNIT_SIGN && !units[i].spare && units[i].ready_ns == 0) {
            return false;
        }
    }
    return true;
}

bool kbsd_sign_renews(const struct kbsd_unit *units, size_t n_units)
{
    for (size_t i = 0; i < n_units; i++) {
        const struct kbsd_unit *u = &units[i];
        bool leaving = u->spare && (u->state == KBSD_UNIT_UP || u->state == KBSD_UNIT_ENDING);
        if (u->kind == KBSD_UNIT_SIGN && (u->renewal || leaving)) {
            return true;
        }
    }
    return false;
}

/* One of the server's sign units that is (not) spare, and is not `but`; NULL if there is none. */
static struct kbsd_unit *find(struct kbsd_unit *units, size_t n_units, enum kbs_listener listener,
                              bool spare, const struct kbsd_unit *but)
{
    for (size_t i = 0; i < n_units; i++) {
        struct kbsd_unit *u = &units[i];
        if (u->kind == KBSD_UNIT_SIGN && u->listener == listener && u->spare == spare && u != but) {
            return u;
        }
    }
    return NULL;
}

static void kept(const struct kbsd_unit *front, const char *why)
{
    char text[KBS_LIMIT_ERROR_DETAIL_BYTES + 64];
    kbs_log(KBS_LOG_ERROR, "tls-kept",
            "unit=%s detail=%s advice=\"the certificate of before stays\"", front->name,
            kbs_log_text(kbs_span_str(why), text, sizeof(text)));
}

static int renew(struct kbsd_server_tls *tls, const struct kbs_config_server *server,
                 struct kbsd_unit *front, struct kbsd_unit *units, size_t n_units,
                 struct kbs_error *err)
{
    struct kbsd_unit *spare = find(units, n_units, front->listener, true, NULL);
    if (kbsd_tls_read(&tls->next, server, err) != 0) {
        return -1;
    }
    if (server->key_uri == NULL) {
        return front->children[0].state == KBSD_READY
                   ? kbsd_tls_tell(&tls->next, server, front->children[0].control, err)
                   : 0; /* it reads them when it starts */
    }
    if (spare == NULL || spare->state != KBSD_UNIT_DOWN) {
        return kbs_fail(err, KBS_BUSY, "there is no worker to take its place");
    }
    spare->spare = kbsd_tls_equal(&tls->now, &tls->next);
    spare->renewal = !spare->spare;
    spare->restart_at_ns = 0;
    return 0;
}

void kbsd_sign_renew(struct kbsd_server_tls *tls, const struct kbs_config_server *server,
                     struct kbsd_unit *front, struct kbsd_unit *units, size_t n_units)
{
    struct kbs_error err = KBS_ERROR_NONE;
    if (server->n_sockets != 0 && renew(tls, server, front, units, n_units, &err) != 0) {
        kept(front, err.detail);
    }
}

static int attach_all(const struct kbsd_unit *front, struct kbsd_unit *u, struct kbs_error *err)
{
    for (uint32_t i = 0; i < KBS_LIMIT_TLS_SIGNERS; i++) {
        const struct kbs_wire_attach msg = {.what = KBS_ATTACH_SIGN, .index = i};
        if (kbs_channel_send(front->children[0].control, KBS_WIRE_ATTACH, 0, &msg, u->sign_ends[i],
                             kbs_deadline_in_ms(SEND_MS), err) != 0) {
            return -1;
        }
    }
    kbsd_unit_close_ends(u);
    return 0;
}

int kbsd_sign_attach(struct kbsd_server_tls *tls, const struct kbs_config_server *server,
                     const struct kbsd_unit *front, struct kbsd_unit *u, struct kbsd_unit *units,
                     size_t n_units, struct kbsd_unit **ret_old, struct kbs_error *err)
{
    *ret_old = NULL;
    if (u->renewal && kbsd_tls_tell(&tls->next, server, front->children[0].control, err) != 0) {
        return -1;
    }
    if (attach_all(front, u, err) != 0) {
        return -1;
    }
    if (u->renewal) {
        u->renewal = false;
        kbsd_tls_deinit(&tls->now);
        tls->now = tls->next;
        tls->next = (struct kbsd_tls){0};
        struct kbsd_unit *old = find(units, n_units, u->listener, false, u);
        if (old != NULL) {
            old->spare = true;
        }
        *ret_old = old;
    }
    return 0;
}

bool kbsd_sign_rests(struct kbsd_unit *u)
{
    if (u->kind == KBSD_UNIT_SIGN && u->renewal) {
        kept(u, "the sign worker cannot use it, see above");
        u->renewal = false;
        u->spare = true;
    }
    return u->spare;
}
