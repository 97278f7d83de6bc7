/*
 * The transport rungs: the one-use wrapping key passes through this process, because the token has
 * no KDF that JOSE or COSE could use. The shared secret and the released key stay in the token.
 */
#ifndef KBS_HSM_TRANSPORT_H
#define KBS_HSM_TRANSPORT_H

#include "hsm/derive.h"

/*
 * ECDH in the token, Z digested there by C_DigestKey, the wrapping key brought in by
 * C_CreateObject.
 */
kbs_derive_fn kbs_derive_jose_transport;
kbs_derive_fn kbs_derive_cose_transport;
/* The same, brought in by C_UnwrapKey under the token's transport pair. */
kbs_derive_fn kbs_derive_jose_transport_unwrap;
kbs_derive_fn kbs_derive_cose_transport_unwrap;

/*
 * Makes t->transport: an RSA-2048 session pair that can only unwrap, and finds which OAEP the token
 * opens with it (SHA-256, else SHA-1). It lives as long as the session.
 */
KBS_MUST_CHECK int kbs_transport_pair_make(struct kbs_token *t, struct kbs_error *err);
void kbs_transport_pair_destroy(struct kbs_token *t);

/*
 * Brings a one-use AES key of KBS_DERIVE_KEK_BYTES into the token, by the way that start found to
 * work (t->transport.needed): a session object, sensitive, not extractable, good for `usage` only.
 */
KBS_MUST_CHECK int kbs_transport_import(struct kbs_scratch *s, const struct kbs_secret *value,
                                        unsigned int usage, CK_OBJECT_HANDLE *ret,
                                        struct kbs_error *err);

#endif
