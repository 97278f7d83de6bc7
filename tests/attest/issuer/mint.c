/* See mint.h. Claims are the services' own, shortened to what counts and a little beside. */
#include "mint.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/encoding.h"
#include "jose/write/jose.h"

#define EVIDENCE "ear.veraison.annotated-evidence"
#define LIFE_S 300

struct mint_guest mint_guest;
const char *mint_twice;
int64_t mint_now = MINT_NOW;

/* ---- what is said of the guest ---- */

static void digest_of(const struct mint_guest *g, enum kbs_hash hash, struct kbs_digest *ret)
{
    const struct kbs_span text = kbs_buf_span(&g->runtime);

    kbs_digest(hash, &text, 1, ret);
}

/* The digest in hex, filled up to a field of 64 bytes. */
static const char *field_of(const struct mint_guest *g, enum kbs_hash hash)
{
    static char hex[129];
    struct kbs_digest digest;
    uint8_t field[64] = {0};

    digest_of(g, hash, &digest);
    memcpy(field, digest.p, digest.len);
    kbs_hex_cstr(kbs_span(field, sizeof(field)), hex, sizeof(hex));
    return hex;
}

static json_t *runtime_of(const struct mint_guest *g)
{
    json_t *v = json_loadb((const char *)g->runtime.p, g->runtime.len, 0, NULL);

    assert_non_null(v);
    return v;
}

static json_t *times(json_t *claims)
{
    json_object_set_new(claims, "iat", json_integer(mint_now - 10));
    json_object_set_new(claims, "nbf", json_integer(mint_now - 10));
    json_object_set_new(claims, "exp", json_integer(mint_now - 10 + LIFE_S));
    return claims;
}

static json_t *ear_claims(const struct mint_guest *g, const char *iss, const char *developer)
{
    json_t *device = json_object();
    json_t *runtime = runtime_of(g);

    json_object_set(device, "nonce", json_object_get(runtime, "nonce"));
    json_object_set(device, "tee-pubkey", json_object_get(runtime, "tee-pubkey"));
    return times(json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:{"
        "s:{s:s, s:{s:i, s:i, s:i}, s:s, s:{s:{s:s}, s:s, s:o, s:s, s:n}},"
        "s:{s:s, s:{s:i}, s:s, s:{s:{s:s}, s:o}}}}",
        "eat_profile", "tag:github.com,2024:confidential-containers/Trustee", "iss", iss,
        "ear.verifier-id", "developer", developer, "build", "test", "submods", "cpu0", "ear.status",
        "affirming", "ear.trustworthiness-vector", "configuration", 3, "executables", 3, "hardware",
        2, "ear.appraisal-policy-id", "default", EVIDENCE, "snp", "measurement", "abcd",
        "report_data", field_of(g, KBS_HASH_SHA384), "runtime_data_claims", runtime, "init_data",
        "00", "init_data_claims", "gpu0", "ear.status", "affirming", "ear.trustworthiness-vector",
        "hardware", 2, "ear.appraisal-policy-id", "default", EVIDENCE, "nvidia", "arch", "hopper",
        "runtime_data_claims", device));
}

static json_t *coco_claims(const struct mint_guest *g)
{
    return ear_claims(g, "CoCo-Attestation-Service", "https://confidentialcontainers.org");
}

static json_t *kbs_claims(const struct mint_guest *g)
{
    json_t *v = ear_claims(g, "another-kbs", "kbs-hsm");

    json_object_set_new(v, "sid", json_string("00112233445566778899aabbccddeeff"));
    return v;
}

static json_t *simple_claims(const struct mint_guest *g)
{
    struct kbs_buf tcb = KBS_BUF(4096);
    json_t *v;

    kbs_buf_printf(&tcb, "{\"tdx.quote.body.report_data\":\"%s\",\"tdx.ccel.ok\":true}",
                   field_of(g, KBS_HASH_SHA384));
    v = times(json_pack("{s:s, s:s, s:s, s:[{s:s, s:s}], s:s, s:{s:s, s:o}}", "iss",
                        "CoCo-Attestation-Service-simple", "jti", "1", "tee", "tdx",
                        "evaluation-reports", "policy-id", "default", "policy-hash", "f00d",
                        "tcb-status", kbs_buf_cstr(&tcb), "customized_claims", "init_data", "00",
                        "runtime_data", runtime_of(g)));
    kbs_buf_deinit(&tcb);
    return v;
}

static json_t *ita_tdx(const struct mint_guest *g)
{
    return json_pack("{s:s, s:s, s:b, s:s, s:s, s:o, s:[{s:s}], s:[]}", "attester_type", "TDX",
                     "attester_tcb_status", "UpToDate", "tdx_is_debuggable", 0, "tdx_mrtd", "beef",
                     "tdx_report_data", field_of(g, KBS_HASH_SHA512), "attester_runtime_data",
                     runtime_of(g), "policy_ids_matched", "id", "policy-1", "policy_ids_unmatched");
}

static json_t *ita_v2_claims(const struct mint_guest *g)
{
    return times(json_pack("{s:s, s:s, s:s, s:o}", "iss", "https://portal.trustauthority.intel.com",
                           "ver", "2.0.0", "dbgstat", "disabled", "tdx", ita_tdx(g)));
}

static json_t *ita_v1_claims(const struct mint_guest *g)
{
    json_t *v = ita_tdx(g);

    json_object_set_new(v, "iss", json_string("Intel Trust Authority"));
    json_object_set_new(v, "ver", json_string("1.0.0"));
    return times(v);
}

static json_t *maa_snp_report(const char *field)
{
    return json_pack("{s:s, s:s, s:b, s:b, s:i, s:s, s:s, s:s, s:s}", "x-ms-attestation-type",
                     "sevsnpvm", "x-ms-compliance-status", "azure-compliant-uvm",
                     "x-ms-sevsnpvm-is-debuggable", 0, "x-ms-sevsnpvm-migration-allowed", 0,
                     "x-ms-sevsnpvm-vmpl", 0, "x-ms-sevsnpvm-launchmeasurement", "cafe",
                     "x-ms-sevsnpvm-idkeydigest", "1d", "x-ms-sevsnpvm-hostdata", "00",
                     "x-ms-sevsnpvm-reportdata", field);
}

/* {"keys":[a signature key, the TEE's]}: its digest is what the report data of this guest would be. */
static json_t *maa_claims_with(json_t *v, const char *iss, json_t *runtime)
{
    json_object_set_new(v, "iss", json_string(iss));
    json_object_set_new(v, "jti", json_string("1"));
    json_object_set_new(v, "x-ms-ver", json_string("1.0"));
    json_object_set_new(v, "x-ms-policy-hash", json_string("policy-hash-1"));
    json_object_set_new(v, "x-ms-runtime", runtime);
    return times(v);
}

static json_t *maa_snp_claims(const struct mint_guest *g)
{
    return maa_claims_with(maa_snp_report(field_of(g, KBS_HASH_SHA256)),
                           "https://snp.weu.attest.azure.net", runtime_of(g));
}

static json_t *maa_tdx_claims(const struct mint_guest *g)
{
    return maa_claims_with(json_pack("{s:s, s:s, s:b, s:s, s:s}", "x-ms-attestation-type", "tdxvm",
                                     "attester_tcb_status", "UpToDate", "tdx_td_attributes_debug",
                                     0, "tdx_mrtd", "cafe", "tdx_report_data",
                                     field_of(g, KBS_HASH_SHA256)),
                           "https://tdx.weu.attest.azure.net", runtime_of(g));
}

static json_t *maa_sgx_claims(const struct mint_guest *g)
{
    struct kbs_buf held = KBS_BUF(4096);
    json_t *v;

    kbs_base64url_put(&held, kbs_buf_span(&g->runtime));
    v = json_pack("{s:s, s:b, s:s, s:s, s:s, s:s}", "x-ms-attestation-type", "sgx",
                  "x-ms-sgx-is-debuggable", 0, "x-ms-sgx-mrenclave", "cafe", "x-ms-sgx-mrsigner",
                  "51", "x-ms-sgx-report-data", field_of(g, KBS_HASH_SHA256), "x-ms-sgx-ehd",
                  kbs_buf_cstr(&held));
    kbs_buf_deinit(&held);
    return maa_claims_with(v, "https://sgx.weu.attest.azure.net", runtime_of(g));
}

/* A guest of a confidential VM: the TEE's key is the vTPM's ephemeral one. */
static json_t *maa_cvm_claims(const struct mint_guest *g)
{
    json_t *key = json_loads(g->jwk, 0, NULL);
    json_t *inner = maa_snp_report("00");
    json_t *runtime;

    assert_non_null(key);
    json_object_set_new(key, "kid", json_string("TpmEphemeralEncryptionKey"));
    json_object_set_new(key, "key_ops", json_pack("[s]", "deriveKey"));
    runtime = json_pack("{s:[{s:s, s:s, s:[s]}, o], s:{s:s}}", "keys", "kid", "Signing", "kty",
                        "RSA", "key_ops", "sign", key, "client-payload", "nonce", "AAAA");
    json_object_set_new(inner, "x-ms-compliance-status", json_string("azure-compliant-cvm"));
    return maa_claims_with(json_pack("{s:s, s:b, s:o}", "x-ms-attestation-type", "azurevm",
                                     "secureboot", 1, "x-ms-isolation-tee", inner),
                           "https://cvm.weu.attest.azure.net", runtime);
}

static json_t *google_claims(const struct mint_guest *g)
{
    struct kbs_buf text = KBS_BUF(64);
    uint8_t digest[KBS_SHA256_BYTES];
    json_t *v;

    kbs_sha256(kbs_span_str(g->jwk), digest);
    kbs_base64url_put(&text, kbs_span(digest, sizeof(digest)));
    v = times(json_pack(
        "{s:s, s:s, s:s, s:b, s:i, s:s, s:s, s:s, s:[s,s], s:{s:{s:[s,s]}, s:{s:s}}}", "iss",
        "https://confidentialcomputing.googleapis.com", "aud", "kbs.example", "sub",
        "https://instance", "secboot", 1, "oemid", 11129, "hwmodel", "GCP_INTEL_TDX", "swname",
        "CONFIDENTIAL_SPACE", "dbgstat", "disabled-since-boot", "eat_nonce", g->nonce,
        kbs_buf_cstr(&text), "submods", "confidential_space", "support_attributes", "LATEST",
        "STABLE", "container", "image_digest", "sha256:aa"));
    kbs_buf_deinit(&text);
    return v;
}

/* The TEE's key as a SubjectPublicKeyInfo, which is a fixed head and the point on P-256. */
static void spki_put(const struct kbs_ec_public *key, struct kbs_buf *out)
{
    static const uint8_t head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                   0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                   0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
    uint8_t der[sizeof(head) + KBS_EC_POINT_MAX_BYTES];
    size_t n = sizeof(head);

    memcpy(der, head, sizeof(head));
    n += kbs_ec_point_put(key, der + n);
    kbs_base64url_put(out, kbs_span(der, n));
}

static json_t *veraison_claims(const struct mint_guest *g)
{
    struct kbs_buf spki = KBS_BUF(512);
    struct kbs_buf nonce = KBS_BUF(512);
    struct kbs_digest digest;
    json_t *v;

    spki_put(&g->key.ec, &spki);
    digest_of(g, KBS_HASH_SHA512, &digest);
    kbs_base64url_put(&nonce, kbs_digest_span(&digest));
    v = json_pack("{s:s, s:s, s:{s:s, s:s}, s:I, s:s, s:{"
                  "s:{s:s, s:{s:i}, s:s, s:s, s:{s:s}, s:{s:s}},"
                  "s:{s:s, s:{s:i}, s:s}}}",
                  "eat_profile", "tag:github.com,2023:veraison/ear", "iss", "veraison.example",
                  "ear.verifier-id", "developer", "Veraison", "build", "1", "iat",
                  (json_int_t)(mint_now - 10), "eat_nonce", "echo", "submods", "CCA_REALM",
                  "ear.status", "affirming", "ear.trustworthiness-vector", "instance-identity", 2,
                  "ear.appraisal-policy-id", "policy:CCA", "eat_nonce", kbs_buf_cstr(&nonce),
                  "ear.veraison.key-attestation", "akpub", kbs_buf_cstr(&spki), EVIDENCE,
                  "cca-realm-hash-algo-id", "sha-256", "CCA_PLATFORM", "ear.status", "affirming",
                  "ear.trustworthiness-vector", "hardware", 2, "ear.appraisal-policy-id",
                  "policy:CCA");
    kbs_buf_deinit(&spki);
    kbs_buf_deinit(&nonce);
    return v;
}

static json_t *nras_claims(const struct mint_guest *g)
{
    struct kbs_digest digest;
    char nonce[65];

    digest_of(g, KBS_HASH_SHA384, &digest);
    kbs_hex_cstr(kbs_span(digest.p, 32), nonce, sizeof(nonce));
    return times(json_pack("{s:s, s:s, s:s, s:b, s:s}", "iss",
                           "https://nras.attestation.nvidia.com", "sub",
                           "NVIDIA-PLATFORM-ATTESTATION", "x-nvidia-ver", "2.0",
                           "x-nvidia-overall-att-result", 1, "eat_nonce", nonce));
}

/* ---- the issuers ---- */

#define TEXT(s)                             \
    {                                       \
        (const uint8_t *)(s), sizeof(s) - 1 \
    }
#define R(n, v)                           \
    {                                     \
        .name = TEXT(n), .value = TEXT(v) \
    }
static const struct kbs_issuer_requirement simple_r[] = {R("policy_hashes", "f00d")};
static const struct kbs_issuer_requirement ita_r[] = {R("policy_ids", "policy-1")};
static const struct kbs_issuer_requirement maa_r[] = {R("policy_hashes", "policy-hash-1"),
                                                      R("measurements", "cafe")};
static const struct kbs_issuer_requirement maa_snp_r[] = {
    R("policy_hashes", "policy-hash-1"), R("measurements", "cafe"), R("canonical_runtime", "true")};
static const struct kbs_issuer_requirement google_r[] = {R("images", "sha256:aa")};
static const struct kbs_issuer_requirement veraison_r[] = {R("submods", "CCA_REALM=cca"),
                                                           R("submods", "CCA_PLATFORM=cca")};
#define REQUIRES(list) .require = (list), .require_count = sizeof(list) / sizeof((list)[0])

struct mint mints[MINT_COUNT] = {
    {.name = "coco-ear",
     .profile = KBS_ISSUER_COCO_EAR,
     .alg = "ES256",
     .other_alg = "ES384",
     .iss = "CoCo-Attestation-Service",
     .source = MINT_PEM,
     .tee = KBS_TEE_SNP,
     .hash = KBS_HASH_SHA384,
     .passport = true,
     .claims = coco_claims},
    {.name = "coco-simple",
     .profile = KBS_ISSUER_COCO_SIMPLE,
     .alg = "RS384",
     .other_alg = "RS256",
     .iss = "CoCo-Attestation-Service-simple",
     .source = MINT_PEM,
     .tee = KBS_TEE_TDX,
     .hash = KBS_HASH_SHA384,
     .passport = true,
     .claims = simple_claims,
     REQUIRES(simple_r)},
    {.name = "ita-v2",
     .profile = KBS_ISSUER_ITA,
     .alg = "PS384",
     .other_alg = "RS256",
     .iss = "https://portal.trustauthority.intel.com",
     .source = MINT_DOCUMENT,
     .tee = KBS_TEE_TDX,
     .hash = KBS_HASH_SHA512,
     .passport = true,
     .claims = ita_v2_claims,
     REQUIRES(ita_r)},
    {.name = "ita-v1",
     .profile = KBS_ISSUER_ITA,
     .alg = "PS384",
     .other_alg = "PS256",
     .iss = "Intel Trust Authority",
     .source = MINT_JWKS,
     .tee = KBS_TEE_TDX,
     .hash = KBS_HASH_SHA512,
     .passport = true,
     .claims = ita_v1_claims,
     REQUIRES(ita_r)},
    {.name = "maa-snp",
     .profile = KBS_ISSUER_MAA,
     .alg = "RS256",
     .other_alg = "PS256",
     .iss = "https://snp.weu.attest.azure.net",
     .source = MINT_DOCUMENT,
     .tee = KBS_TEE_SNP,
     .hash = KBS_HASH_SHA256,
     .passport = true,
     .claims = maa_snp_claims,
     REQUIRES(maa_snp_r)},
    {.name = "maa-tdx",
     .profile = KBS_ISSUER_MAA,
     .alg = "RS256",
     .other_alg = "RS512",
     .iss = "https://tdx.weu.attest.azure.net",
     .source = MINT_DOCUMENT,
     .tee = KBS_TEE_TDX,
     .hash = KBS_HASH_SHA256,
     .passport = true,
     .claims = maa_tdx_claims,
     REQUIRES(maa_snp_r)},
    {.name = "maa-sgx",
     .profile = KBS_ISSUER_MAA,
     .alg = "RS256",
     .other_alg = "RS512",
     .iss = "https://sgx.weu.attest.azure.net",
     .source = MINT_JWKS,
     .tee = KBS_TEE_SGX,
     .hash = KBS_HASH_SHA256,
     .passport = true,
     .claims = maa_sgx_claims,
     REQUIRES(maa_r)},
    {.name = "maa-cvm",
     .profile = KBS_ISSUER_MAA,
     .alg = "RS256",
     .other_alg = "RS384",
     .iss = "https://cvm.weu.attest.azure.net",
     .source = MINT_DOCUMENT,
     .tee = KBS_TEE_AZ_SNP_VTPM,
     .hash = KBS_HASH_SHA256,
     .passport = true,
     .claims = maa_cvm_claims,
     REQUIRES(maa_r)},
    {.name = "google",
     .profile = KBS_ISSUER_GOOGLE,
     .alg = "RS256",
     .other_alg = "PS256",
     .iss = "https://confidentialcomputing.googleapis.com",
     .aud = "kbs.example",
     .source = MINT_DOCUMENT,
     .tee = KBS_TEE_TDX,
     .hash = KBS_HASH_SHA384,
     .claims = google_claims,
     REQUIRES(google_r)},
    {.name = "veraison",
     .profile = KBS_ISSUER_VERAISON,
     .alg = "ES256",
     .other_alg = "ES512",
     .iss = "veraison.example",
     .source = MINT_JWKS,
     .tee = KBS_TEE_CCA,
     .hash = KBS_HASH_SHA512,
     .passport = true,
     .claims = veraison_claims,
     REQUIRES(veraison_r)},
    {.name = "nras",
     .profile = KBS_ISSUER_NRAS,
     .alg = "ES384",
     .other_alg = "ES256",
     .iss = "https://nras.attestation.nvidia.com",
     .source = MINT_DOCUMENT,
     .tee = KBS_TEE_NVIDIA,
     .hash = KBS_HASH_SHA384,
     .claims = nras_claims},
    {.name = "kbs",
     .profile = KBS_ISSUER_KBS,
     .alg = "ES256",
     .other_alg = "ES512",
     .iss = "another-kbs",
     .source = MINT_JWKS,
     .tee = KBS_TEE_SNP,
     .hash = KBS_HASH_SHA384,
     .passport = true,
     .claims = kbs_claims},
};

static void guest_key(struct kbs_tee_key *ret, char *jwk, size_t size)
{
    struct maker m = maker_new("ES256");
    struct kbs_buf text = KBS_BUF(2048);
    struct kbs_jws_key key;
    struct kbs_error err = KBS_ERROR_NONE;

    maker_pem(&m, &text);
    assert_int_equal(kbs_jws_key_from_pem(kbs_buf_span(&text), &key, &err), 0);
    *ret = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = key.ec};
    kbs_buf_clear(&text);
    kbs_jose_tee_jwk_put(&text, ret);
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), jwk, size));
    kbs_buf_deinit(&text);
    maker_free(&m);
}

void mint_guest_set(const struct kbs_tee_key *key)
{
    struct mint_guest *g = &mint_guest;
    const struct kbs_span none = KBS_SPAN_EMPTY;
    struct kbs_buf text = KBS_BUF(2048);

    g->key = *key;
    kbs_jose_tee_jwk_put(&text, key);
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), g->jwk, sizeof(g->jwk)));
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&g->runtime);
    g->runtime = KBS_BUF(4096);
    kbs_rcar_runtime_data_put(&g->runtime, &g->key, kbs_span_str(g->nonce), &none);
}

void mint_begin(void)
{
    struct mint_guest *g = &mint_guest;
    struct kbs_tee_key key;

    g->nonce = "Hh459Yb8p3scemptkzC7Od5EBi16hbNUPTZzKRoFH/E=";
    guest_key(&key, g->jwk, sizeof(g->jwk));
    guest_key(&g->other_key, g->other_jwk, sizeof(g->other_jwk));
    mint_guest_set(&key);
    for (size_t i = 0; i < MINT_COUNT; i++) {
        struct mint *m = &mints[i];

        /* Neighbours of one profile share a key: making those of RSA takes longer than all the rest. */
        if (i > 0 && m->profile == mints[i - 1].profile) {
            m->maker = maker_as(&mints[i - 1].maker, m->alg);
            assert_int_equal(EVP_PKEY_up_ref(m->maker.pkey), 1);
        } else {
            m->maker = maker_new(m->alg);
        }
        m->pem = KBS_BUF(4096);
        m->jwks = KBS_BUF(4096);
        maker_pem(&m->maker, &m->pem);
        kbs_buf_put_str(&m->jwks, "{\"keys\":[");
        /* MAA's say no alg; ITA's do */
        maker_jwk(&m->maker, m->profile == KBS_ISSUER_MAA ? NULL : m->alg, "k1", NULL, &m->jwks);
        kbs_buf_put_str(&m->jwks, "]}");
    }
}

void mint_end(void)
{
    for (size_t i = 0; i < MINT_COUNT; i++) {
        maker_free(&mints[i].maker);
        kbs_buf_deinit(&mints[i].pem);
        kbs_buf_deinit(&mints[i].jwks);
    }
    kbs_buf_deinit(&mint_guest.runtime);
}

struct kbs_issuer_config mint_config(struct mint *m, enum mint_source source,
                                     struct kbs_span anchor)
{
    static struct kbs_span iss[MINT_COUNT];
    static struct kbs_span aud[MINT_COUNT];
    size_t i = (size_t)(m - mints);

    iss[i] = kbs_span_str(m->iss);
    aud[i] = kbs_span_str(m->aud);
    return (struct kbs_issuer_config){
        .name = kbs_span_str(m->name),
        .profile = m->profile,
        .issuers = &iss[i],
        .issuer_count = 1,
        .audiences = &aud[i],
        .audience_count = m->aud != NULL ? 1 : 0,
        .keys = source == MINT_PEM    ? kbs_buf_span(&m->pem)
                : source == MINT_JWKS ? kbs_buf_span(&m->jwks)
                                      : KBS_SPAN_EMPTY,
        .document = source == MINT_DOCUMENT ? kbs_span_str(m->name) : KBS_SPAN_EMPTY,
        .anchor = source == MINT_ANCHOR ? anchor : KBS_SPAN_EMPTY,
        .max_age_s = LIFE_S,
        .skew_s = 30,
        .max_stale_s = 3600,
        .passport = m->passport,
        .require = m->require,
        .require_count = m->require_count,
    };
}

static int document(void *with, const char *name, bool look_again, struct kbs_span *ret,
                    int64_t *ret_fetched_s, struct kbs_error *err)
{
    (void)with;
    (void)look_again;
    for (size_t i = 0; i < MINT_COUNT; i++) {
        if (strcmp(mints[i].name, name) == 0) {
            *ret = kbs_buf_span(&mints[i].jwks);
            *ret_fetched_s = mint_now - 60;
            return 0;
        }
    }
    return kbs_fail(err, KBS_BUSY, "no such document");
}

struct kbs_issuer_expected mint_passport(void)
{
    return (struct kbs_issuer_expected){.now_s = mint_now, .keys = document};
}

struct kbs_issuer_expected mint_session(const struct mint *m)
{
    static struct kbs_digest digest;
    struct kbs_issuer_expected e = mint_passport();

    digest_of(&mint_guest, m->hash, &digest);
    e.tee = m->tee;
    e.tee_key = &mint_guest.key;
    e.runtime_data = kbs_buf_span(&mint_guest.runtime);
    e.nonce = kbs_span_str(mint_guest.nonce);
    e.report_data = &digest;
    return e;
}

/* ---- tokens ---- */

void mint_header(const struct mint *m, const char *alg, const char *more, struct kbs_buf *out)
{
    kbs_buf_printf(out, "{\"alg\":\"%s\",\"typ\":\"JWT\"%s%s}", alg,
                   m->source == MINT_PEM ? "" : ",\"kid\":\"k1\"", more != NULL ? more : "");
}

static void jws_of(const struct mint *m, const struct maker *by, const char *header,
                   const json_t *claims, struct kbs_buf *out)
{
    struct kbs_buf own = KBS_BUF(4096);
    struct kbs_buf payload = KBS_BUF(MINT_TEXT_BYTES);
    char *text = json_dumps(claims, JSON_COMPACT);

    assert_non_null(text);
    kbs_buf_printf(&payload, "{%s%s", mint_twice != NULL ? mint_twice : "", text + 1);
    mint_header(m, by->alg, NULL, &own);
    maker_jws(by, header != NULL ? header : kbs_buf_cstr(&own), kbs_buf_cstr(&payload), out);
    free(text);
    kbs_buf_deinit(&payload);
    kbs_buf_deinit(&own);
}

/* A GPU's token, and its digest in the overall one. */
static void nras_token(const struct mint *m, const struct maker *by, const char *header,
                       const json_t *claims, struct kbs_buf *out)
{
    json_t *overall = json_deep_copy(claims);
    json_t *gpu =
        json_pack("{s:s, s:b, s:s, s:s, s:b}", "measres", "success", "secboot", 1, "dbgstat",
                  "disabled", "hwmodel", "GH100", "x-nvidia-gpu-attestation-report-nonce-match", 1);
    struct kbs_buf detached = KBS_BUF(65536);
    uint8_t digest[KBS_SHA256_BYTES];
    char hex[65];

    times(gpu);
    json_object_set_new(gpu, "iss", json_string(m->iss));
    jws_of(m, &m->maker, NULL, gpu, &detached);
    kbs_sha256(kbs_buf_span(&detached), digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex, sizeof(hex));
    json_object_set_new(overall, "submods",
                        json_pack("{s:[s,[s,s]]}", "GPU-0", "DIGEST", "SHA-256", hex));
    kbs_buf_put_str(out, "[[\"JWT\",\"");
    jws_of(m, by, header, overall, out);
    kbs_buf_printf(out, "\"],{\"GPU-0\":\"%s\"}]", kbs_buf_cstr(&detached));
    kbs_buf_deinit(&detached);
    json_decref(overall);
    json_decref(gpu);
}

void mint_token(const struct mint *m, const struct maker *by, const char *header,
                const json_t *claims, struct kbs_buf *out)
{
    if (m->profile == KBS_ISSUER_NRAS) {
        nras_token(m, by, header, claims, out);
    } else {
        jws_of(m, by, header, claims, out);
    }
    assert_false(out->failed);
}

void mint_set(json_t *claims, const char *path, json_t *value)
{
    char name[128];
    json_t *at = claims;

    for (const char *bar; (bar = strchr(path, '|')) != NULL; path = bar + 1) {
        assert_true((size_t)(bar - path) < sizeof(name));
        memcpy(name, path, (size_t)(bar - path));
        name[bar - path] = '\0';
        at = json_object_get(at, name);
        assert_non_null(at);
    }
    if (value == NULL) {
        assert_int_equal(json_object_del(at, path), 0);
    } else {
        assert_int_equal(json_object_set_new(at, path, value), 0);
    }
}

/* ---- certificates ---- */

struct cert {
    const char *subject;
    const char *issuer;
    const struct maker *key;
    const struct maker *by;
    bool ca;
    int64_t from_s;
    int64_t until_s;
    long serial;
};

static void name_set(X509_NAME *name, const char *text)
{
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)text, -1, -1, 0),
                     1);
}

static void extend(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

static const EVP_MD *md_of(const struct maker *m)
{
    return EVP_PKEY_is_a(m->pkey, "ED25519") ? NULL : EVP_sha384();
}

static X509 *cert_new(const struct cert *c)
{
    X509 *x = X509_new();

    assert_non_null(x);
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), c->serial);
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)c->from_s);
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)c->until_s);
    name_set(X509_get_subject_name(x), c->subject);
    name_set(X509_get_issuer_name(x), c->issuer);
    assert_int_equal(X509_set_pubkey(x, c->key->pkey), 1);
    extend(x, NID_basic_constraints, c->ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extend(x, NID_key_usage, c->ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    assert_true(X509_sign(x, c->by->pkey, md_of(c->by)) > 0);
    return x;
}

static void pem_put(X509 *x, struct kbs_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long n;

    assert_int_equal(PEM_write_bio_X509(bio, x), 1);
    n = BIO_get_mem_data(bio, &text);
    kbs_buf_put(out, text, (size_t)n);
    BIO_free(bio);
}

static void der_put(X509 *x, struct kbs_buf *out)
{
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);

    assert_true(n > 0);
    kbs_buf_put_str(out, out->len > 0 ? ",\"" : "\"");
    kbs_base64_put(out, kbs_span(der, (size_t)n));
    kbs_buf_put_u8(out, '"');
    OPENSSL_free(der);
    assert_false(out->failed);
}

static void crl_put(const char *issuer, const struct maker *by, long revoked, struct kbs_buf *out)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *at = ASN1_TIME_set(NULL, mint_now - 1000);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    X509_NAME *name = X509_NAME_new();
    long n;

    name_set(name, issuer);
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, name);
    X509_CRL_set1_lastUpdate(crl, at);
    ASN1_TIME_set(at, mint_now + 100000);
    X509_CRL_set1_nextUpdate(crl, at);
    if (revoked != 0) {
        X509_REVOKED *r = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();

        ASN1_INTEGER_set(serial, revoked);
        X509_REVOKED_set_serialNumber(r, serial);
        X509_REVOKED_set_revocationDate(r, at);
        X509_CRL_add0_revoked(crl, r);
        ASN1_INTEGER_free(serial);
    }
    assert_true(X509_CRL_sign(crl, by->pkey, md_of(by)) > 0);
    assert_int_equal(PEM_write_bio_X509_CRL(bio, crl), 1);
    n = BIO_get_mem_data(bio, &text);
    kbs_buf_put(out, text, (size_t)n);
    BIO_free(bio);
    X509_NAME_free(name);
    ASN1_TIME_free(at);
    X509_CRL_free(crl);
}

#define VALID .from_s = mint_now - 5000, .until_s = mint_now + 500000

void mint_pki_begin(struct mint_pki *pki, const struct maker *leaf)
{
    struct kbs_buf *const bufs[] = {&pki->anchor,       &pki->decoy_anchor, &pki->direct,
                                    &pki->chain,        &pki->shuffled,     &pki->partial,
                                    &pki->decoy_direct, &pki->old,          &pki->crl,
                                    &pki->chain_crl,    &pki->empty_crl};

    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        *bufs[i] = KBS_BUF(65536);
    }
    pki->root = maker_new("ES256");
    pki->decoy = maker_new("ES256");
    pki->intermediate[0] = maker_new("ES256");
    pki->intermediate[1] = maker_new("ES384");
    const struct maker *a = &pki->intermediate[0];
    const struct maker *b = &pki->intermediate[1];
    X509 *root =
        cert_new(&(struct cert){"root", "root", &pki->root, &pki->root, true, VALID, .serial = 1});
    X509 *decoy = cert_new(
        &(struct cert){"decoy", "decoy", &pki->decoy, &pki->decoy, true, VALID, .serial = 1});
    X509 *in_a = cert_new(&(struct cert){"int-a", "root", a, &pki->root, true, VALID, .serial = 2});
    X509 *in_b = cert_new(&(struct cert){"int-b", "int-a", b, a, true, VALID, .serial = 3});
    X509 *direct =
        cert_new(&(struct cert){"leaf", "root", leaf, &pki->root, false, VALID, .serial = 7});
    X509 *under_a = cert_new(&(struct cert){"leaf", "int-a", leaf, a, false, VALID, .serial = 8});
    X509 *under_b = cert_new(&(struct cert){"leaf", "int-b", leaf, b, false, VALID, .serial = 9});
    X509 *other =
        cert_new(&(struct cert){"leaf", "decoy", leaf, &pki->decoy, false, VALID, .serial = 10});
    X509 *old =
        cert_new(&(struct cert){"leaf", "root", leaf, &pki->root, false, .from_s = mint_now - 5000,
                                .until_s = mint_now - 1, .serial = 11});

    pem_put(root, &pki->anchor);
    pem_put(decoy, &pki->decoy_anchor);
    der_put(direct, &pki->direct);
    der_put(under_a, &pki->chain);
    der_put(in_a, &pki->chain);
    der_put(under_b, &pki->shuffled);
    der_put(decoy, &pki->shuffled);
    der_put(root, &pki->shuffled);
    der_put(in_a, &pki->shuffled);
    der_put(in_b, &pki->shuffled);
    der_put(under_b, &pki->partial);
    der_put(in_a, &pki->partial);
    der_put(in_b, &pki->partial);
    der_put(other, &pki->decoy_direct);
    der_put(old, &pki->old);
    crl_put("root", &pki->root, 7, &pki->crl);
    crl_put("root", &pki->root, 0, &pki->empty_crl);
    crl_put("root", &pki->root, 2, &pki->chain_crl);
    crl_put("int-a", a, 0, &pki->chain_crl);
    X509 *const all[] = {root, decoy, in_a, in_b, direct, under_a, under_b, other, old};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        X509_free(all[i]);
    }
}

void mint_pki_end(struct mint_pki *pki)
{
    struct kbs_buf *const bufs[] = {&pki->anchor,       &pki->decoy_anchor, &pki->direct,
                                    &pki->chain,        &pki->shuffled,     &pki->partial,
                                    &pki->decoy_direct, &pki->old,          &pki->crl,
                                    &pki->chain_crl,    &pki->empty_crl};

    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        kbs_buf_deinit(bufs[i]);
    }
    maker_free(&pki->root);
    maker_free(&pki->decoy);
    maker_free(&pki->intermediate[0]);
    maker_free(&pki->intermediate[1]);
}
