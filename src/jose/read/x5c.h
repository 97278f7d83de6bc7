/*
 * Certificate chains in JOSE (`x5c`, RFC 7517 section 4.7): from certificates that came with a token or
 * a key set, and anchors that an operator pinned, to a key.
 *
 * Who holds a certificate under a pinned anchor may sign: anchors are an issuer's own, never a public CA's.
 */
#ifndef KBS_JOSE_READ_X5C_H
#define KBS_JOSE_READ_X5C_H

#include "jose/read/jwt.h"

#define KBS_X5C_CERTIFICATES 10 /* of one chain */
#define KBS_X5C_ANCHORS 16

/* Anchors, and perhaps revocation lists. */
struct kbs_x5c_trust;
/*
 * anchors: PEM certificates, 1 to KBS_X5C_ANCHORS, roots or not; crls: PEM, empty for none, else one is needed
 * for every issuer in a chain. KBS_INPUT if that is not what they are. Returns owned.
 */
KBS_MUST_CHECK int kbs_x5c_trust_new(struct kbs_span anchors, struct kbs_span crls,
                                     struct kbs_x5c_trust **ret, struct kbs_error *err);
void kbs_x5c_trust_free(struct kbs_x5c_trust *trust); /* NULL is fine */

/*
 * Verifies the chain at that time (RFC 5280 section 6) and gives the key of the leaf, which is the first
 * certificate; the order of the others does not matter, and what does not belong to the chain is passed over.
 * x5c: an array of DER in base64, standard or URL-safe, with padding or without. KBS_UNAUTHENTICATED.
 */
KBS_MUST_CHECK int kbs_x5c_verify(const struct kbs_x5c_trust *trust, const json_t *x5c,
                                  int64_t now_s, struct kbs_jws_key *ret, struct kbs_error *err);
/* The key of the leaf, nothing verified: for a chain whose sender is known otherwise. */
KBS_MUST_CHECK int kbs_x5c_leaf(const json_t *x5c, struct kbs_jws_key *ret, struct kbs_error *err);

#endif
