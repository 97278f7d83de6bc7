/* The guest's TEE key, EC or RSA: what the service wraps to, and the one place where it is used. */
#ifndef KBS_CLI_GUEST_KEY_H
#define KBS_CLI_GUEST_KEY_H

#include "agree/agree.h"
#include "cli/sign.h"

/* Owned; zero-initialise. One of the three private keys is there; with `signer` nothing is unwrapped. */
struct kbs_guest_key {
    struct kbs_tee_key public_key;
    struct kbs_agree_key *ec;
    struct kbs_agree_rsa *rsa;
    struct kbs_cli_signer *signer; /* of ES256, ES384, ES512 */
};
void kbs_guest_key_deinit(struct kbs_guest_key *key); /* safe on a zeroed one */

/*
 * From a PEM file, or a fresh one when `file` is NULL: on `curve` ("P-256", ...) for ECDH-ES+A256KW and for those that sign
 * (whose alg is then the curve's), of 3072 bits for RSA. KBS_INPUT if the file holds another kind of key than `alg` says.
 */
KBS_MUST_CHECK int kbs_guest_key_get(const char *file, enum kbs_tee_alg alg, const char *curve,
                                     struct kbs_guest_key *ret, struct kbs_error *err);

/*
 * Unwraps what was wrapped to the key. EC: AES-KW under the Concat KDF of (key, epk, other_info); RSA: OAEP, where
 * epk and other_info are not used. KBS_UNPROCESSABLE if it does not open. Returns owned.
 */
KBS_MUST_CHECK int kbs_guest_key_unwrap(const struct kbs_guest_key *key,
                                        const struct kbs_ec_public *epk, struct kbs_span other_info,
                                        struct kbs_span encrypted_key, struct kbs_secret **ret,
                                        struct kbs_error *err);

#endif
