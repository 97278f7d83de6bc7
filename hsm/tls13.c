/*
 * The context string is why one key can sign for TLS and be of no use for anything else: no other
 * protocol here has a signature's input begin with 64 spaces. A JWS begins with base64url, a COSE
 * Sig_structure with an array, rows and heads are hashed with names of their own, and a TLS client's
 * CertificateVerify says that it is one. So the worker is given what is signed, not its hash: of a hash
 * nobody can tell what it is of.
 *
 * TLS 1.2 has no such string (its ServerKeyExchange begins with the client's random bytes), and so it is
 * not signed for.
 */
#include "hsm/tls13.h"

bool kbs_tls13_is_server_verify(struct kbs_span content)
{
    static const char head[] = "                                                                "
                               "TLS 1.3, server CertificateVerify";

    _Static_assert(sizeof(head) == KBS_TLS13_HEAD_BYTES, "its terminator is the zero byte");
    return (content.len == KBS_TLS13_HEAD_BYTES + 32 || content.len == KBS_TLS13_HEAD_BYTES + 48) &&
           memcmp(content.p, head, sizeof(head)) == 0;
}

const struct kbs_tls13_scheme kbs_tls13_schemes[KBS_TLS13_SCHEMES] = {
    {0x0403, "ecdsa_secp256r1_sha256", KBS_SIGN_ECDSA, KBS_HASH_SHA256, KBS_CURVE_P256},
    {0x0503, "ecdsa_secp384r1_sha384", KBS_SIGN_ECDSA, KBS_HASH_SHA384, KBS_CURVE_P384},
    {0x0804, "rsa_pss_rsae_sha256", KBS_SIGN_RSA_PSS, KBS_HASH_SHA256, KBS_CURVE_NONE},
    {0x0805, "rsa_pss_rsae_sha384", KBS_SIGN_RSA_PSS, KBS_HASH_SHA384, KBS_CURVE_NONE},
    {0x0806, "rsa_pss_rsae_sha512", KBS_SIGN_RSA_PSS, KBS_HASH_SHA512, KBS_CURVE_NONE},
};
