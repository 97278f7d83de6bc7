/*
 * ECDSA signatures in software (RFC 7518 section 3.4): of an administrator, ES256; of a guest whose TEE key signs,
 * by its curve.
 */
#ifndef KBS_CLI_SIGN_H
#define KBS_CLI_SIGN_H

#include "base/buf.h"
#include "base/ec.h"
#include "base/secret.h"

struct kbs_cli_signer;

/* From an unencrypted PEM private key on P-256; KBS_INPUT for anything else. Returns owned. */
KBS_MUST_CHECK int kbs_cli_signer_from_pem(struct kbs_span pem, struct kbs_cli_signer **ret,
                                           struct kbs_error *err);
/* The same of any of the three curves. */
KBS_MUST_CHECK int kbs_cli_signer_of_any(struct kbs_span pem, struct kbs_cli_signer **ret,
                                         struct kbs_error *err);
const struct kbs_ec_public *kbs_cli_signer_public(const struct kbs_cli_signer *s); /* borrowed */
struct kbs_cli_signer *kbs_cli_signer_free(
    struct kbs_cli_signer *s); /* NULL is fine; returns NULL */

/* Appends a compact JWS {"alg":by the curve,"kid":thumbprint,"typ":typ} over `payload` (RFC 7515 section
 * 7.1). */
KBS_MUST_CHECK int kbs_cli_signer_jws(const struct kbs_cli_signer *s, const char *typ,
                                      struct kbs_span payload, struct kbs_buf *out,
                                      struct kbs_error *err);

#endif
