/*
 * The problem: a front must be able to have handshakes signed without any limit, so nothing that this key
 * signs may mean anything elsewhere, and this worker, which signs without a judge and without a ledger, must
 * not get hold of another key. Hence one key, chosen by configuration and not by message; what is signed for
 * TLS is looked at (hsm/tls13.c); and the service's other keys are refused here, though the PIN would do.
 *
 * An operator's key is not as this folder makes keys. Tools make RSA keys that may decrypt and unwrap, and EC
 * keys that may derive: that is told in the log and no more, for it is of use to nobody but those who have
 * the PIN anyway. A key that can leave the token in the clear is no token-held key: refused in production.
 *
 * Which methods a token has is found out by doing them. Its mechanism list is not asked (DESIGN: custody), and
 * what a token takes for PSS without looking at its parameters shows when OpenSSL verifies it.
 *
 * ECDSA is asked for by CKM_ECDSA over a digest made here, cut to the curve's length here: tokens do not agree
 * on who does that. RSA by CKM_RSA_PKCS_PSS and CKM_RSA_PKCS over a digest as well. Rejected: CKM_RSA_X_509 where
 * there is no PSS, with the padding made here: a worker that pads is a worker that can have anything signed.
 */
#include "hsm/sole.h"

#include <openssl/evp.h>

#include "base/log.h"
#include "hsm/ckr.h"
#include "hsm/service.h"
#include "hsm/uri.h"

#define SOLE_SIGNATURE_MAX_BYTES KBS_LIMIT_RSA_BYTES_MAX /* more than any of ECDSA */
#define SOLE_OWN "pkcs11:" /* a URI that names nothing: the service's own */
#define SOLE_PROOF KBS_SPAN_LIT("kbs-hsm start-up check")

/* ---- what it signs by ---- */

/* DigestInfo of RFC 8017 section 9.2, note 1, but for the digest. */
struct sole_info {
    uint8_t p[19];
};

static const struct sole_hash {
    CK_MECHANISM_TYPE mechanism;
    CK_ULONG mgf;
    struct sole_info info;
} sole_hashes[KBS_HASH_COUNT] = {
    [KBS_HASH_SHA256] = {CKM_SHA256,
                         CKG_MGF1_SHA256,
                         {{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                           0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}}},
    [KBS_HASH_SHA384] = {CKM_SHA384,
                         CKG_MGF1_SHA384,
                         {{0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                           0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}}},
    [KBS_HASH_SHA512] = {CKM_SHA512,
                         CKG_MGF1_SHA512,
                         {{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                           0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}}},
};

/* What is tried at start; bit i of kbs_sole.proven is row i. */
static const struct sole_method {
    enum kbs_sign_alg alg;
    enum kbs_hash hash;
    enum kbs_curve curve;
    bool general; /* not for TLS */
    const char *name;
} sole_methods[] = {
    {KBS_SIGN_ECDSA, KBS_HASH_SHA256, KBS_CURVE_P256, false, "ECDSA-P-256"},
    {KBS_SIGN_ECDSA, KBS_HASH_SHA384, KBS_CURVE_P384, false, "ECDSA-P-384"},
    {KBS_SIGN_RSA_PSS, KBS_HASH_SHA256, KBS_CURVE_NONE, false, "RSA-PSS-SHA256"},
    {KBS_SIGN_RSA_PSS, KBS_HASH_SHA384, KBS_CURVE_NONE, false, "RSA-PSS-SHA384"},
    {KBS_SIGN_RSA_PSS, KBS_HASH_SHA512, KBS_CURVE_NONE, false, "RSA-PSS-SHA512"},
    {KBS_SIGN_RSA_PKCS1, KBS_HASH_SHA256, KBS_CURVE_NONE, true, "RSA-PKCS1"},
};
#define SOLE_METHODS (sizeof(sole_methods) / sizeof(sole_methods[0]))

/* A request to the token: a mechanism with its parameters, and what is handed to it. */
struct sole_call {
    CK_RSA_PKCS_PSS_PARAMS pss;
    CK_MECHANISM mechanism; /* points to pss */
    uint8_t in[sizeof(struct sole_info) + KBS_DIGEST_MAX_BYTES];
    size_t in_len;
};

static void sole_call_make(const struct kbs_sole *key, enum kbs_sign_alg alg, enum kbs_hash hash,
                           size_t salt, struct kbs_span digest, struct sole_call *ret)
{
    const struct sole_hash *h = &sole_hashes[hash];
    size_t head = 0;

    ret->mechanism = (CK_MECHANISM){.mechanism = CKM_ECDSA};
    if (alg == KBS_SIGN_RSA_PSS) {
        ret->pss = (CK_RSA_PKCS_PSS_PARAMS){h->mechanism, h->mgf, salt};
        ret->mechanism = (CK_MECHANISM){CKM_RSA_PKCS_PSS, &ret->pss, sizeof(ret->pss)};
    } else if (alg == KBS_SIGN_RSA_PKCS1) {
        ret->mechanism.mechanism = CKM_RSA_PKCS;
        memcpy(ret->in, h->info.p, sizeof(h->info.p));
        head = sizeof(h->info.p);
    } else if (digest.len > key->bytes) { /* FIPS 186-5 section 6.4.1: its leftmost bits */
        digest.len = key->bytes;
    }
    memcpy(ret->in + head, digest.p, digest.len);
    ret->in_len = head + digest.len;
}

/* As the token gives it: r || s, or as long as the modulus. */
static int sole_sign(const struct kbs_sole *key, const struct kbs_token *t, enum kbs_sign_alg alg,
                     enum kbs_hash hash, size_t salt, struct kbs_span digest,
                     uint8_t ret[SOLE_SIGNATURE_MAX_BYTES], size_t *ret_len, struct kbs_error *err)
{
    struct sole_call call;
    CK_ULONG len = SOLE_SIGNATURE_MAX_BYTES;
    CK_RV rv;

    sole_call_make(key, alg, hash, salt, digest, &call);
    rv = t->f->C_SignInit(t->session, &call.mechanism, key->private_key);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_SignInit", __LINE__);
    }
    rv = t->f->C_Sign(t->session, call.in, call.in_len, ret, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Sign", __LINE__);
    }
    *ret_len = alg == KBS_SIGN_ECDSA ? 2 * key->bytes : key->bytes;
    if (len != *ret_len) {
        return kbs_fail(err, KBS_INTERNAL, "the token's signature has %lu bytes", len);
    }
    return 0;
}

/* The same as the asker wants it. */
static int sole_sign_put(const struct kbs_sole *key, const struct kbs_token *t,
                         enum kbs_sign_alg alg, enum kbs_hash hash, size_t salt,
                         struct kbs_span digest, struct kbs_buf *ret, struct kbs_error *err)
{
    uint8_t signature[SOLE_SIGNATURE_MAX_BYTES];
    uint8_t der[KBS_ECDSA_DER_MAX_BYTES];
    size_t len = 0;

    if (sole_sign(key, t, alg, hash, salt, digest, signature, &len, err) != 0) {
        return -1;
    }
    if (alg == KBS_SIGN_ECDSA) {
        kbs_buf_put(ret, der, kbs_ecdsa_der_put(kbs_span(signature, len), der));
    } else {
        kbs_buf_put(ret, signature, len);
    }
    return kbs_buf_check(ret, "the signature", err);
}

/* ---- which key it is ---- */

/* Of whose making a private key is: the purpose of a service key, with its version; else NONE. */
static enum kbs_purpose sole_purpose(struct kbs_span cka_id, uint32_t *ret_version)
{
    uint8_t key_id[KBS_KEY_ID_BYTES];

    for (int p = KBS_PURPOSE_NONE + 1; cka_id.len == KBS_CKA_ID_BYTES && p < KBS_PURPOSE_COUNT;
         p++) {
        kbs_service_key_id((enum kbs_purpose)p, key_id);
        if (memcmp(key_id, cka_id.p, sizeof(key_id)) == 0) {
            *ret_version = 0;
            for (size_t i = sizeof(key_id); i < cka_id.len; i++) {
                *ret_version = *ret_version << 8 | cka_id.p[i];
            }
            return (enum kbs_purpose)p;
        }
    }
    return KBS_PURPOSE_NONE;
}

/* A key of the catalog: its label is its kid, and its CKA_ID ends in its version. */
static bool sole_is_catalog(struct kbs_span label, struct kbs_span cka_id)
{
    struct kbs_span path;
    uint32_t version = 0;
    uint8_t id[KBS_CKA_ID_BYTES];

    if (cka_id.len != sizeof(id) || !kbs_kid_split(label, &path, &version)) {
        return false;
    }
    kbs_cka_id(cka_id.p, version, id);
    return memcmp(id, cka_id.p, sizeof(id)) == 0;
}

/* That nothing else of the service's is signed with: neither its own keys nor the catalog's. */
static int sole_check_owner(const struct kbs_sole *key, struct kbs_token *t, struct kbs_span cka_id,
                            struct kbs_error *err)
{
    char text[KBS_LIMIT_KID_BYTES];
    struct kbs_span label;
    uint32_t version = 0;
    enum kbs_purpose purpose = sole_purpose(cka_id, &version);
    CK_OBJECT_HANDLE own = CK_INVALID_HANDLE;

    if (purpose != KBS_PURPOSE_NONE && purpose != KBS_PURPOSE_TLS) {
        return kbs_fail(err, KBS_INPUT, "the URI names the service's own %s key: not for TLS",
                        kbs_purpose_name(purpose));
    }
    if (purpose == KBS_PURPOSE_TLS) { /* as it was made, or not at all */
        if (kbs_service_find(t, CKO_PRIVATE_KEY, purpose, version, &own, err) != 0) {
            return -1;
        }
        return own == key->private_key
                   ? 0
                   : kbs_fail(err, KBS_INPUT, "the token has several keys with that CKA_ID");
    }
    if (kbs_object_label(t, key->private_key, text, sizeof(text), &label, err) != 0) {
        return -1;
    }
    if (kbs_span_starts_with(label, "kbs-hsm/")) {
        return kbs_fail(err, KBS_INPUT, "labels under \"kbs-hsm/\" are the service's own");
    }
    if (sole_is_catalog(label, cka_id)) {
        return kbs_fail(err, KBS_INPUT, "the URI names a key of the service's catalog: %.*s",
                        (int)label.len, (const char *)label.p);
    }
    return 0;
}

/* The service's own key: of its versions the one that the certificate is of, else the newest. */
static int sole_find_own(struct kbs_token *t, struct kbs_span certificate, CK_OBJECT_HANDLE *ret,
                         struct kbs_error *err)
{
    uint32_t versions[KBS_LIMIT_KEY_VERSIONS];
    struct kbs_ec_public public_key;
    uint64_t from_s;
    size_t n = 0;
    uint32_t version;

    if (kbs_service_versions(t, KBS_PURPOSE_TLS, versions, &n, err) != 0) {
        return -1;
    }
    if (n == 0) {
        return kbs_fail(err, KBS_MISSING,
                        "the token has no tls key of the service's (`kbs-admin tls make-key`), and "
                        "no other was named");
    }
    version = versions[n - 1];
    for (size_t i = n; i > 0 && certificate.len > 0; i--) {
        bool same = false;

        if (kbs_service_public(t, KBS_PURPOSE_TLS, versions[i - 1], &public_key, &from_s, err) !=
                0 ||
            kbs_sole_certified(&public_key, certificate, &same, err) != 0) {
            return -1;
        }
        if (same) {
            version = versions[i - 1];
            break;
        }
    }
    return kbs_service_find(t, CKO_PRIVATE_KEY, KBS_PURPOSE_TLS, version, ret, err);
}

static int sole_find(struct kbs_token *t, const struct kbs_sole_wanted *wanted,
                     CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_span uri = wanted->uri;
    CK_OBJECT_HANDLE found[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    size_t n = 0;

    if (uri.len == 0 || kbs_span_equal_str(uri, SOLE_OWN)) {
        return sole_find_own(t, wanted->certificate, ret, err);
    }
    if (kbs_uri_objects(t, uri, CKO_PRIVATE_KEY, false, found, 2, &n, err) != 0) {
        return -1;
    }
    if (n == 0) {
        return kbs_fail(err, KBS_MISSING, "the token has no private key that the URI matches");
    }
    if (n > 1) {
        return kbs_fail(err, KBS_INPUT,
                        "the URI matches more than one private key: give object= and id=, which "
                        "`p11tool --list-privkeys` or `pkcs11-tool -O` print");
    }
    *ret = found[0];
    return 0;
}

/* ---- what it may be used for ---- */

/* A key that others could use for more than this worker does, in words. */
static void sole_warn_wide(const struct kbs_sole *key, const struct kbs_token *t)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
        bool general; /* asked for there */
    } rights[] = {
        {CKA_DECRYPT, "decrypt", false},        {CKA_UNWRAP, "unwrap", false},
        {CKA_DERIVE, "derive", true},           {CKA_SIGN_RECOVER, "sign-recover", false},
        {CKA_MODIFIABLE, "be-modified", false},
    };
    struct kbs_buf text = KBS_BUF(256);
    const char *list;

    for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
        if (!(key->general && rights[i].general) &&
            kbs_object_bool(t, key->private_key, rights[i].type, false)) {
            kbs_buf_printf(&text, "%s%s", text.len > 0 ? "," : "", rights[i].name);
        }
    }
    list = kbs_buf_cstr(&text);
    if (text.len > 0 && list != NULL) {
        kbs_log(KBS_LOG_WARN, "sign-key-wide", "may=%s why=\"whoever has the PIN could use it so\"",
                list);
    }
    kbs_buf_deinit(&text);
}

static int sole_check_rights(const struct kbs_sole *key, const struct kbs_token *t, bool production,
                             struct kbs_error *err)
{
    bool loose = kbs_object_bool(t, key->private_key, CKA_EXTRACTABLE, true) ||
                 !kbs_object_bool(t, key->private_key, CKA_SENSITIVE, false);

    if (!kbs_object_bool(t, key->private_key, CKA_SIGN, true)) {
        return kbs_fail(err, KBS_INPUT, "the key is not CKA_SIGN: it cannot sign");
    }
    if (kbs_object_bool(t, key->private_key, CKA_ALWAYS_AUTHENTICATE, false)) {
        return kbs_fail(err, KBS_INPUT,
                        "the key is CKA_ALWAYS_AUTHENTICATE: it wants the PIN for every signature");
    }
    if (loose && production) {
        return kbs_fail(err, KBS_INPUT,
                        "the key is CKA_EXTRACTABLE or not CKA_SENSITIVE: it can leave the token");
    }
    if (loose) {
        kbs_log(KBS_LOG_WARN, "sign-key-loose",
                "why=\"CKA_EXTRACTABLE, or not CKA_SENSITIVE: it can leave the token\"");
    }
    sole_warn_wide(key, t);
    return 0;
}

/* ---- proof ---- */

static bool sole_method_fits(const struct kbs_sole *key, const struct sole_method *m)
{
    return m->curve == key->curve && (key->general || !m->general);
}

/* One signature by that method, made and verified. */
static int sole_try(const struct kbs_sole *key, const struct kbs_token *t,
                    const struct sole_method *m, bool *ret_right, struct kbs_error *err)
{
    struct kbs_span text = SOLE_PROOF;
    struct kbs_digest digest;
    uint8_t signature[SOLE_SIGNATURE_MAX_BYTES];
    size_t len = 0;

    kbs_digest(m->hash, &text, 1, &digest);
    if (sole_sign(key, t, m->alg, m->hash, digest.len, kbs_digest_span(&digest), signature, &len,
                  err) != 0) {
        return -1;
    }
    *ret_right = kbs_sole_verify(key, m->alg, m->hash, digest.len, kbs_digest_span(&digest),
                                 kbs_span(signature, len));
    return 0;
}

static int sole_prove_none(const struct kbs_sole *key, bool wrong, bool has_certificate,
                           struct kbs_error *err)
{
    if (!wrong) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token does not sign with %s",
                        key->curve == KBS_CURVE_NONE ? "RSA-PSS (CKM_RSA_PKCS_PSS)" : "ECDSA");
    }
    return has_certificate ? kbs_fail(err, KBS_INPUT,
                                      "the certificate does not belong to the TLS key in the token")
                           : kbs_fail(err, KBS_INPUT,
                                      "the public key object of that CKA_ID is not the key's own");
}

static int sole_prove(struct kbs_sole *key, const struct kbs_token *t, bool has_certificate,
                      struct kbs_error *err)
{
    bool wrong = false;

    for (size_t i = 0; i < SOLE_METHODS; i++) {
        const struct sole_method *m = &sole_methods[i];
        bool right = false;

        if (!sole_method_fits(key, m)) {
            continue;
        }
        if (sole_try(key, t, m, &right, err) != 0) {
            if (kbs_ckr_class(err, t->quirk) != KBS_CKR_REQUEST) {
                return -1;
            }
            *err = KBS_ERROR_NONE; /* it does not do that */
            continue;
        }
        wrong = wrong || !right;
        key->proven |= right ? 1u << i : 0;
    }
    return key->proven != 0 ? 0 : sole_prove_none(key, wrong, has_certificate, err);
}

int kbs_sole_selftest(const struct kbs_sole *key, const struct kbs_token *t, struct kbs_error *err)
{
    for (size_t i = 0; i < SOLE_METHODS; i++) {
        bool right = false;

        if ((key->proven & 1u << i) != 0) {
            return sole_try(key, t, &sole_methods[i], &right, err) != 0 ? -1
                   : right                                              ? 0
                           : kbs_fail(err, KBS_TOKEN_DOWN, "a signature does not verify");
        }
    }
    return kbs_fail(err, KBS_INTERNAL, "there is no method to try");
}

int kbs_sole_load(struct kbs_sole *key, struct kbs_token *t, const struct kbs_sole_wanted *wanted,
                  struct kbs_error *err)
{
    uint8_t cka_id[KBS_CKA_ID_MAX_BYTES];
    size_t cka_id_len = 0;

    key->general = wanted->general;
    if (sole_find(t, wanted, &key->private_key, err) != 0) {
        return -1;
    }
    if (kbs_object_cka_id(t, key->private_key, cka_id, &cka_id_len, err) != 0) {
        if (err->category != KBS_UNPROCESSABLE) {
            return -1;
        }
        *err = KBS_ERROR_NONE; /* none, or one that is not of our making */
        cka_id_len = 0;
    }
    if (sole_check_owner(key, t, kbs_span(cka_id, cka_id_len), err) != 0 ||
        kbs_sole_public(key, t, kbs_span(cka_id, cka_id_len), wanted->certificate, err) != 0 ||
        sole_check_rights(key, t, wanted->production, err) != 0) {
        return -1;
    }
    return sole_prove(key, t, wanted->certificate.len > 0, err);
}

void kbs_sole_deinit(struct kbs_sole *key)
{
    EVP_PKEY_free(key->public_key);
    key->public_key = NULL;
    kbs_buf_deinit(&key->spki);
}

void kbs_sole_print(const struct kbs_sole *key, struct kbs_buf *out)
{
    size_t n = 0;

    if (key->curve == KBS_CURVE_NONE) {
        kbs_buf_printf(out, "key=RSA-%zu signs=", 8 * key->bytes);
    } else {
        kbs_buf_printf(out, "key=%s signs=", kbs_curve_jose_name(key->curve));
    }
    for (size_t i = 0; i < SOLE_METHODS; i++) {
        if ((key->proven & 1u << i) != 0) {
            kbs_buf_printf(out, "%s%s", n++ > 0 ? "," : "", sole_methods[i].name);
        }
    }
}

/* ---- orders ---- */

/* By method of the table, if there is one for it; PSS and ECDSA with other hashes than the table's fit too. */
static bool sole_is_proven(const struct kbs_sole *key, enum kbs_sign_alg alg, enum kbs_hash hash)
{
    for (size_t i = 0; i < SOLE_METHODS; i++) {
        const struct sole_method *m = &sole_methods[i];

        if ((key->proven & 1u << i) != 0 && m->alg == alg &&
            (alg != KBS_SIGN_RSA_PSS || m->hash == hash)) {
            return true;
        }
    }
    return false;
}

int kbs_sole_tls(const struct kbs_sole *key, const struct kbs_token *t,
                 const struct kbs_wire_sign_tls *m, struct kbs_buf *ret, struct kbs_error *err)
{
    if (!kbs_tls13_is_server_verify(m->content)) {
        return kbs_fail(err, KBS_DENIED, "what is to be signed is no server's CertificateVerify");
    }
    for (size_t i = 0; i < KBS_TLS13_SCHEMES; i++) {
        const struct kbs_tls13_scheme *s = &kbs_tls13_schemes[i];
        struct kbs_digest digest;

        if (s->number == m->scheme && s->curve == key->curve &&
            sole_is_proven(key, s->alg, s->hash)) {
            kbs_digest(s->hash, &m->content, 1, &digest);
            return sole_sign_put(key, t, s->alg, s->hash, digest.len, kbs_digest_span(&digest), ret,
                                 err);
        }
    }
    return kbs_fail(err, KBS_UNSUPPORTED, "the key does not sign by the scheme 0x%04x", m->scheme);
}

int kbs_sole_digest(const struct kbs_sole *key, const struct kbs_token *t,
                    const struct kbs_wire_sign_digest *m, struct kbs_buf *ret,
                    struct kbs_error *err)
{
    enum kbs_sign_alg alg = (enum kbs_sign_alg)m->alg;
    enum kbs_hash hash = (enum kbs_hash)m->hash;

    if (m->hash >= KBS_HASH_COUNT || sole_hashes[hash].mechanism == 0 ||
        !sole_is_proven(key, alg, hash)) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the key does not sign by that algorithm and hash");
    }
    if (m->digest.len != kbs_hash_bytes(hash)) {
        return kbs_fail(err, KBS_INPUT, "a digest of %zu bytes", m->digest.len);
    }
    if (alg == KBS_SIGN_RSA_PSS && m->salt > key->bytes - m->digest.len - 2) {
        return kbs_fail(err, KBS_INPUT, "a salt of %u bytes does not fit", m->salt);
    }
    return sole_sign_put(key, t, alg, hash, m->salt, m->digest, ret, err);
}

/* Z as a session object that can be read: the one thing here that leaves the token, as it is meant to. */
static void sole_z_template(struct kbs_template *z, size_t bytes)
{
    kbs_template_number(z, CKA_CLASS, CKO_SECRET_KEY);
    kbs_template_number(z, CKA_KEY_TYPE, CKK_GENERIC_SECRET);
    kbs_template_bool(z, CKA_TOKEN, false);
    kbs_template_bool(z, CKA_PRIVATE, true);
    kbs_template_bool(z, CKA_SENSITIVE, false);
    kbs_template_bool(z, CKA_EXTRACTABLE, true);
    kbs_template_number(z, CKA_VALUE_LEN, bytes);
}

int kbs_sole_agree(const struct kbs_sole *key, struct kbs_token *t, const struct kbs_wire_agree *m,
                   struct kbs_buf *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    CK_ECDH1_DERIVE_PARAMS params = {CKD_NULL, 0, NULL, m->point.len, kbs_p11_in(m->point.p)};
    CK_MECHANISM mech = {CKM_ECDH1_DERIVE, &params, sizeof(params)};
    struct kbs_template template = {.n = 0};
    struct kbs_ec_public peer;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t z[KBS_EC_FIELD_MAX_BYTES];
    CK_ATTRIBUTE value = {CKA_VALUE, z, sizeof(z)};
    CK_RV rv;

    if (key->curve == KBS_CURVE_NONE) {
        return kbs_fail(err, KBS_UNSUPPORTED, "an RSA key does not agree on anything");
    }
    if (kbs_ec_point_get(key->curve, m->point, &peer, err) != 0 ||
        kbs_ec_public_check(&peer, err) != 0) {
        return -1;
    }
    sole_z_template(&template, key->bytes);
    if (kbs_scratch_derive(&scratch, &mech, key->private_key, &template, &object, err) != 0) {
        return -1;
    }
    rv = t->f->C_GetAttributeValue(t->session, object, &value, 1);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    if (value.ulValueLen == key->bytes) {
        kbs_buf_put(ret, z, key->bytes);
    }
    kbs_cleanse(z, sizeof(z));
    return value.ulValueLen == key->bytes
               ? kbs_buf_check(ret, "the shared secret", err)
               : kbs_fail(err, KBS_INTERNAL, "the token's shared secret has %lu bytes",
                          value.ulValueLen);
}
