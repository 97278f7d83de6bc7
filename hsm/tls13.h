/* What a sign worker signs for TLS: the content of a server's CertificateVerify, and nothing else. */
#ifndef KBS_HSM_TLS13_H
#define KBS_HSM_TLS13_H

#include "base/digest.h"
#include "base/ec.h"
#include "base/terms.h"

#define KBS_TLS13_HEAD_BYTES 98                                /* padding, context string, zero */
#define KBS_TLS13_VERIFY_MAX_BYTES (KBS_TLS13_HEAD_BYTES + 48) /* and the longest hash */

/*
 * True for exactly what a TLS 1.3 server signs (RFC 8446 section 4.4.3): 64 spaces, "TLS 1.3, server
 * CertificateVerify", a zero byte, and a transcript hash of 32 or 48 bytes (the cipher suites of TLS 1.3
 * hash by SHA-256 or SHA-384).
 */
bool kbs_tls13_is_server_verify(struct kbs_span content);

/* A SignatureScheme of TLS 1.3 servers (RFC 8446 section 4.2.3), as far as tokens can have keys for it. */
struct kbs_tls13_scheme {
    uint16_t number;
    const char *name; /* as the RFC spells it */
    enum kbs_sign_alg alg;
    enum kbs_hash hash;   /* of the content; PSS: of the mask too, and the salt is as long */
    enum kbs_curve curve; /* ECDSA: the key's; NONE for RSA */
};

#define KBS_TLS13_SCHEMES 5u
extern const struct kbs_tls13_scheme kbs_tls13_schemes[KBS_TLS13_SCHEMES];

#endif
