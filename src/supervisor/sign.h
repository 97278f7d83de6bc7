/* Sign workers: two units for each front whose TLS key is in the token, of which one serves. */
#ifndef KBS_SUPERVISOR_SIGN_H
#define KBS_SUPERVISOR_SIGN_H

#include "supervisor/unit.h"

/* The TLS of one server while the service runs. */
struct kbsd_server_tls {
    struct kbsd_tls now;
    struct kbsd_tls next; /* of a unit that is a renewal */
};

/* True if every front that needs one has a sign worker that serves. */
bool kbsd_sign_serves(const struct kbsd_unit *units, size_t n_units);

/* True while a renewal is under way, until the worker that it replaces has left. */
bool kbsd_sign_renews(const struct kbsd_unit *units, size_t n_units);

/*
 * SIGHUP: the server's certificate, and what else it has of TLS, as it is now. A key in a file: the front
 * is told. A key in the token: the spare unit becomes a renewal, to be started, if anything has changed.
 * What cannot be read is logged, and nothing changes.
 */
void kbsd_sign_renew(struct kbsd_server_tls *tls, const struct kbs_config_server *server,
                     struct kbsd_unit *front, struct kbsd_unit *units, size_t n_units);

/*
 * Hands the channels of a unit that is ready to its front; of a renewal, with its certificate before. Then
 * *ret_old is the unit that it replaced, to be drained; else NULL. -1: the front does not take them.
 */
KBS_MUST_CHECK int kbsd_sign_attach(struct kbsd_server_tls *tls,
                                    const struct kbs_config_server *server,
                                    const struct kbsd_unit *front, struct kbsd_unit *u,
                                    struct kbsd_unit *units, size_t n_units,
                                    struct kbsd_unit **ret_old, struct kbs_error *err);

/* A unit whose processes are gone: true if it stays down, because another serves in its place. */
bool kbsd_sign_rests(struct kbsd_unit *u);

#endif
