/*
 * From a token to a result. The input is the claims of a token, which is signed here by the issuers' one key, so
 * that what is behind the signature is reached; or, after a "T", a token as it is. Its iss chooses the issuer.
 *
 * The properties: whatever is refused is the token's fault and leaves nothing; what is taken is of that issuer,
 * has submodules whose first is the TEE's (but for NVIDIA's), a status that is none better than theirs, an
 * end, a key that can be wrapped to if it has one, and says of us only what we say.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "attest/ear.h"
#include "attest/issuer/issuer.h"
#include "base/encoding.h"
#include "jose/write/jose.h"

#define NOW 1800000000
#define TEXT(s)                             \
    {                                       \
        (const uint8_t *)(s), sizeof(s) - 1 \
    }
#define REQUIRE(n, v)                     \
    {                                     \
        .name = TEXT(n), .value = TEXT(v) \
    }
#define COUNT 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct kbs_issuer_requirement hashes[] = {REQUIRE("policy_hashes", "f00d")};
static const struct kbs_issuer_requirement maa[] = {REQUIRE("policy_hashes", "f00d"),
                                                    REQUIRE("id_keys", "1d")};
static const struct kbs_issuer_requirement submods[] = {REQUIRE("submods", "A=cca"),
                                                        REQUIRE("submods", "B=snp")};

static const struct {
    enum kbs_issuer_profile profile;
    const char *iss; /* and the name */
    const struct kbs_issuer_requirement *require;
    size_t require_count;
} rows[COUNT] = {
    {KBS_ISSUER_COCO_EAR, "coco-ear", NULL, 0}, {KBS_ISSUER_COCO_SIMPLE, "coco-simple", hashes, 1},
    {KBS_ISSUER_ITA, "ita", NULL, 0},           {KBS_ISSUER_MAA, "maa", maa, 2},
    {KBS_ISSUER_GOOGLE, "google", NULL, 0},     {KBS_ISSUER_VERAISON, "veraison", submods, 2},
    {KBS_ISSUER_NRAS, "nras", NULL, 0},         {KBS_ISSUER_KBS, "kbs", NULL, 0},
};

/* Ed25519: the same signature every time, and the quickest to make. */
static EVP_PKEY *signer(void)
{
    static const uint8_t secret[32] = {7};
    static EVP_PKEY *key;

    if (key == NULL) {
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
    }
    if (key == NULL) {
        abort();
    }
    return key;
}

static struct kbs_issuers *issuers_make(void)
{
    static struct kbs_issuers *issuers;
    static const struct kbs_span alg = TEXT("EdDSA");
    static const struct kbs_span aud = TEXT("kbs");
    struct kbs_issuer_config configs[COUNT];
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span iss[COUNT];
    char *pem = NULL;
    BIO *bio;
    long len;

    if (issuers != NULL) {
        return issuers;
    }
    bio = BIO_new(BIO_s_mem());
    if (bio == NULL || PEM_write_bio_PUBKEY(bio, signer()) != 1) {
        abort();
    }
    len = BIO_get_mem_data(bio, &pem);
    for (size_t i = 0; i < COUNT; i++) {
        iss[i] = kbs_span_str(rows[i].iss);
        configs[i] = (struct kbs_issuer_config){
            .name = iss[i],
            .profile = rows[i].profile,
            .issuers = &iss[i],
            .issuer_count = 1,
            .audiences = &aud,
            .audience_count = rows[i].profile == KBS_ISSUER_GOOGLE ? 1 : 0,
            .algorithms = &alg,
            .algorithm_count = 1,
            .keys = kbs_span(pem, (size_t)len),
            .max_age_s = 300,
            .skew_s = 30,
            .passport = rows[i].profile != KBS_ISSUER_GOOGLE && rows[i].profile != KBS_ISSUER_NRAS,
            .require = rows[i].require,
            .require_count = rows[i].require_count,
        };
    }
    if (kbs_issuers_new(configs, COUNT, true, &issuers, &err) != 0) {
        abort();
    }
    BIO_free(bio);
    return issuers;
}

static void sign(struct kbs_span claims, struct kbs_buf *out)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[64];
    size_t len = sizeof(signature);

    kbs_jose_jws_input_put(out, "EdDSA", "k", "JWT", claims);
    if (out->failed || ctx == NULL || EVP_DigestSignInit(ctx, NULL, NULL, NULL, signer()) != 1 ||
        EVP_DigestSign(ctx, signature, &len, out->p, out->len) != 1) {
        abort();
    }
    EVP_MD_CTX_free(ctx);
    kbs_jose_jws_signature_put(out, kbs_span(signature, len));
}

static int rank(const char *status)
{
    static const char *const names[] = {"affirming", "none", "warning", "contraindicated"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(status, names[i]) == 0) {
            return i;
        }
    }
    abort();
}

static void result_properties(const struct kbs_issuer_result *r)
{
    struct kbs_error err = KBS_ERROR_NONE;
    const char *name;
    json_t *submod;

    if (r->issuer == NULL || r->exp > r->iat + 300 || json_object_size(r->submods) == 0 ||
        (r->has_tee_key && (kbs_tee_key_check(&r->tee_key, &err) != 0 || r->thumbprint[0] == 0))) {
        abort();
    }
    if (r->profile != KBS_ISSUER_NRAS && json_object_get(r->submods, "cpu0") == NULL) {
        abort();
    }
    json_object_foreach(r->submods, name, submod)
    {
        const char *status = json_string_value(json_object_get(submod, "ear.status"));
        const char *by = json_string_value(json_object_get(submod, KBS_EAR_AUTHORITY));

        if (status == NULL || rank(status) > rank(r->status) || by == NULL ||
            strcmp(by, r->issuer) != 0) {
            abort();
        }
    }
}

static void verify(struct kbs_span token, bool session)
{
    static const uint8_t digest_bytes[48] = {1};
    struct kbs_digest digest = {.len = sizeof(digest_bytes)};
    struct kbs_issuer_expected expected = {.now_s = NOW};
    struct kbs_issuer_result r;
    struct kbs_error err = KBS_ERROR_NONE;

    memcpy(digest.p, digest_bytes, sizeof(digest_bytes));
    if (session) {
        expected.report_data = &digest;
    }
    if (kbs_issuer_verify(issuers_make(), token, &expected, &r, &err) == 0) {
        result_properties(&r);
    } else if (err.category != KBS_UNAUTHENTICATED || r.submods != NULL || r.has_tee_key) {
        abort();
    }
    kbs_issuer_result_deinit(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_buf token = KBS_BUF(1u << 18);

    if (size == 0) {
        return 0;
    }
    if (data[0] == 'T') { /* a token as it is */
        verify(kbs_span(data + 1, size - 1), false);
        return 0;
    }
    if (size <= 40000) {
        sign(kbs_span(data, size), &token);
        verify(kbs_buf_span(&token), false);
        verify(kbs_buf_span(&token), true);
    }
    kbs_buf_deinit(&token);
    return 0;
}
