/*
 * A guest's requests so that who carries them cannot use them (docs/protocol/requests.md): encrypted, and with a proof
 * of possession, as `how` says.
 */
#ifndef KBS_CLI_PROTECT_H
#define KBS_CLI_PROTECT_H

#include "cli/handshake.h"

/* What a protected request borrows from. Zero-initialise. */
struct kbs_guest_protected {
    struct kbs_buf body;
    struct kbs_buf proof;
};
void kbs_guest_protected_deinit(struct kbs_guest_protected *p);

/*
 * Fetches a nonce and protects `q` in place; q->cookie is set already. With a proof session->one_request is made anew.
 * Nothing is done if `how` asks for neither. KBS_INPUT if there is no body to encrypt, KBS_UNSUPPORTED if the
 * service has no request key.
 */
KBS_MUST_CHECK int kbs_guest_protect(struct kbs_http_client *http, const struct kbs_guest_how *how,
                                     struct kbs_guest_session *session,
                                     struct kbs_guest_protected *p, struct kbs_http_request *q,
                                     struct kbs_error *err);

/* What opens the answer to the last request: the one-request key, or the TEE key. */
const struct kbs_guest_key *kbs_guest_receiver(const struct kbs_guest_session *session,
                                               const struct kbs_guest_key *tee_key);

#endif
