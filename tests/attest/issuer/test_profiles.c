/*
 * What only one kind of token can get wrong, and what becomes of one that is good; real tokens, whose report data is
 * recomputed; key sets and configurations. What can be wrong with any token is in test_issuers.c.
 */
#include "mint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attest/ear.h"
#include "base/io.h"
#include "jose/read/x5c.h"

#define EVIDENCE "ear.veraison.annotated-evidence"
#define CPU "submods|cpu0|"
#define VECTOR "|ear.trustworthiness-vector"
#define ZEROS "\"00\""

static struct mint *mint_named(const char *name)
{
    size_t i = 0;

    while (i + 1 < MINT_COUNT && strcmp(mints[i].name, name) != 0) {
        i++;
    }
    assert_string_equal(mints[i].name, name);
    return &mints[i];
}

static bool is_passport_only(const struct mint *m)
{
    return strcmp(m->name, "maa-cvm") == 0;
}

static int verify_by(const struct kbs_issuer_config *config, bool allow_sample,
                     struct kbs_span token, const struct kbs_issuer_expected *expected,
                     struct kbs_issuer_result *ret, struct kbs_error *err)
{
    struct kbs_issuers *issuers = NULL;
    int rc = kbs_issuers_new(config, 1, allow_sample, &issuers, err);

    if (rc != 0) {
        fail_msg("configuration: %s", err->detail);
    }
    rc = kbs_issuer_verify(issuers, token, expected, ret, err);
    ret->issuer = NULL; /* theirs */
    ret->agree_with = NULL;
    kbs_issuers_free(issuers);
    return rc;
}

static int verify(struct mint *m, const json_t *claims, bool session,
                  const struct kbs_issuer_requirement *require, size_t count,
                  struct kbs_issuer_result *ret, struct kbs_error *err)
{
    struct kbs_issuer_config config = mint_config(m, m->source, KBS_SPAN_EMPTY);
    struct kbs_issuer_expected expected = session ? mint_session(m) : mint_passport();
    struct kbs_buf token = KBS_BUF(MINT_TEXT_BYTES);
    int rc;

    if (require != NULL) {
        config.require = require;
        config.require_count = count;
    }
    mint_token(m, &m->maker, NULL, claims, &token);
    *err = KBS_ERROR_NONE;
    rc = verify_by(&config, false, kbs_buf_span(&token), &expected, ret, err);
    kbs_buf_deinit(&token);
    return rc;
}

/* ---- the minimum of each profile ---- */

/* One member set to a JSON text (NULL: taken away), and why it is refused; why NULL: it is taken. */
struct change {
    const char *mint;
    const char *path;
    const char *value;
    const char *why;
};

static const struct change changes[] = {
    {"coco-ear", "eat_profile", "\"tag:github.com,2023:veraison/ear\"", "another \"eat_profile\""},
    {"coco-ear", "submods|cpu0", NULL, "no submodule cpu0"},
    {"coco-ear", "submods", NULL, "no submodule cpu0"},
    {"coco-ear", "submods", "{}", "no submodule cpu0"},
    {"coco-ear", "submods|gpu0", NULL, NULL},
    {"coco-ear", CPU EVIDENCE "|tdx", "{}", "two kinds of TEE"},
    {"coco-ear", CPU EVIDENCE "|snp", NULL, "no kind of TEE"},
    {"coco-ear", "submods|gpu0|" EVIDENCE "|nvidia", NULL, "no kind of TEE"},
    {"coco-ear", "submods|gpu0|" EVIDENCE, "{\"sampledevice\":{}}", "sample evidence"},
    {"coco-ear", CPU EVIDENCE, "{\"sample\":{},\"report_data\":\"AAAA\"}", "sample evidence"},
    {"coco-ear", CPU EVIDENCE "|report_data", "null", "no valid \"report_data\""},
    {"coco-ear", CPU EVIDENCE "|runtime_data_claims", "null", "no TEE key"},
    {"coco-ear", "submods|gpu0|" EVIDENCE "|runtime_data_claims|nonce", "\"other\"",
     "a device's nonce is another one"},
    {"coco-ear", CPU "ear.status", "\"excellent\"", "no valid status"},
    {"coco-ear", CPU "ear.status", NULL, "no valid status"},
    {"coco-ear", CPU "ear.status", "\"warning\"", NULL}, /* worse than it need be */
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "97", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "33", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "-97", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "1", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "-1", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "0", NULL},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "31", NULL},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "-32", NULL},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "-33", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "128", "not a small integer"},
    {"coco-ear", "submods|cpu0" VECTOR "|hardware", "2.0", "not a small integer"},
    {"coco-ear", "submods|cpu0" VECTOR, "{}", "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR, NULL, "better than what it stands on"},
    {"coco-ear", "submods|cpu0" VECTOR, "[]", "not an object"},
    {"coco-ear", "submods|gpu0" VECTOR "|hardware", "96", "better than what it stands on"},
    {"coco-ear", "submods|gpu0|ear.status", "7", "no valid status"},
    {"coco-ear", "submods|gpu0", "7", "no kind of TEE"},

    {"kbs", "sid", NULL, "not of a service like this one"},
    {"kbs", "ear.verifier-id|developer", "\"other\"", "not of a service like this one"},

    {"coco-simple", "evaluation-reports", "[]", "no policy was met"},
    {"coco-simple", "evaluation-reports", NULL, "no policy was met"},
    {"coco-simple", "evaluation-reports", "[{\"policy-id\":\"default\",\"policy-hash\":\"bad\"}]",
     "\"policy-hash\" is not one that is allowed"},
    {"coco-simple", "evaluation-reports",
     "[{\"policy-id\":\"a\",\"policy-hash\":\"f00d\"},{\"policy-id\":\"b\",\"policy-hash\":\"x\"}]",
     "\"policy-hash\" is not one that is allowed"},
    {"coco-simple", "tee", "\"toaster\"", "kind of TEE that is not known"},
    {"coco-simple", "tee", "\"sample\"", "sample evidence"},
    {"coco-simple", "tcb-status", "\"{}\"", "no valid \"report_data\""},
    {"coco-simple", "tcb-status", "\"x\"", "no valid \"tcb-status\""},

    {"ita-v2", "tdx|attester_type", "\"SGX\"", "\"attester_type\" is not"},
    {"ita-v2", "tdx|attester_type", NULL, "\"attester_type\" is not"},
    {"ita-v2", "sgx", "{}", "\"attester_type\" is not"},
    {"ita-v2", "dbgstat", "\"enabled\"", "debugging is not disabled"},
    {"ita-v2", "tdx|tdx_is_debuggable", "true", "\"tdx_is_debuggable\" is not false"},
    {"ita-v2", "tdx|tdx_is_debuggable", NULL, "\"tdx_is_debuggable\" is not false"},
    {"ita-v2", "tdx|attester_tcb_status", "\"OutOfDate\"", "\"attester_tcb_status\" is not one"},
    {"ita-v2", "tdx|attester_tcb_status", NULL, "\"attester_tcb_status\" is not one"},
    {"ita-v2", "tdx|policy_ids_matched", "[]", "a required policy was not met"},
    {"ita-v2", "tdx|policy_ids_unmatched", "[{\"id\":\"policy-1\"}]",
     "a required policy was not met"},
    {"ita-v2", "tdx|tdx_report_data", ZEROS, "report data is not"},
    {"ita-v2", "tdx|verifier_nonce", "{\"val\":\"AAAA\",\"iat\":\"AAAA\"}", "not the digest of"},
    {"ita-v2", "tdx|verifier_nonce", "{\"val\":\"?\"}", "no valid \"val\""},
    {"ita-v1", "attester_type", NULL, "\"attester_type\" is not"},
    {"ita-v1", "policy_ids_matched", "[\"policy-1\"]", NULL},
    {"ita-v1", "tdx_is_debuggable", "true", "\"tdx_is_debuggable\" is not false"},

    {"maa-snp", "x-ms-attestation-type", "\"tpm\"", "\"x-ms-attestation-type\" is not"},
    {"maa-snp", "x-ms-attestation-type", NULL, "\"x-ms-attestation-type\" is not"},
    {"maa-snp", "x-ms-compliance-status", "\"azure-none\"", "\"x-ms-compliance-status\" is not"},
    {"maa-snp", "x-ms-compliance-status", "\"azure-compliant-cvm\"", NULL},
    {"maa-snp", "x-ms-policy-hash", "\"other\"", "\"x-ms-policy-hash\" is not"},
    {"maa-snp", "x-ms-policy-hash", NULL, "\"x-ms-policy-hash\" is not"},
    {"maa-snp", "x-ms-sevsnpvm-is-debuggable", "true", "is-debuggable\" is not false"},
    {"maa-snp", "x-ms-sevsnpvm-is-debuggable", NULL, "is-debuggable\" is not false"},
    {"maa-snp", "x-ms-sevsnpvm-migration-allowed", "true", "migration-allowed\" is not false"},
    {"maa-snp", "x-ms-sevsnpvm-vmpl", "1", "not of VMPL 0"},
    {"maa-snp", "x-ms-sevsnpvm-vmpl", NULL, "not of VMPL 0"},
    {"maa-snp", "x-ms-sevsnpvm-launchmeasurement", "\"beef\"", "launchmeasurement\" is not one"},
    {"maa-snp", "x-ms-sevsnpvm-reportdata", ZEROS, "report data is not"},
    {"maa-tdx", "tdx_td_attributes_debug", "true", "\"tdx_td_attributes_debug\" is not false"},
    {"maa-tdx", "tdx_td_attributes_debug", NULL, "\"tdx_is_debuggable\" is not false"},
    {"maa-tdx", "attester_tcb_status", "\"OutOfDate\"", "\"attester_tcb_status\" is not one"},
    {"maa-tdx", "tdx_mrtd", "\"beef\"", "\"tdx_mrtd\" is not one"},
    {"maa-sgx", "x-ms-sgx-is-debuggable", "true", "is-debuggable\" is not false"},
    {"maa-sgx", "x-ms-sgx-mrenclave", "\"beef\"", "mrenclave\" is not one"},
    {"maa-cvm", "x-ms-isolation-tee", NULL, "\"x-ms-attestation-type\" is not"},
    {"maa-cvm", "x-ms-isolation-tee|x-ms-attestation-type", "\"sgx\"",
     "\"x-ms-attestation-type\" is not"},
    {"maa-cvm", "x-ms-isolation-tee|x-ms-compliance-status", NULL,
     "\"x-ms-compliance-status\" is not"},
    {"maa-cvm", "x-ms-isolation-tee|x-ms-sevsnpvm-is-debuggable", "true",
     "is-debuggable\" is not false"},
    {"maa-cvm", "x-ms-isolation-tee|x-ms-sevsnpvm-vmpl", "2", "not of VMPL 0"},

    {"google", "secboot", "false", "\"secboot\" is not true"},
    {"google", "oemid", "1", "not of a Confidential Space"},
    {"google", "swname", "\"GCE\"", "not of a Confidential Space"},
    {"google", "dbgstat", "\"enabled\"", "debugging is not disabled"},
    {"google", "hwmodel", "\"GCP_SHIELDED_VM\"", "kind of TEE that is not known"},
    {"google", "hwmodel", "\"GCP_AMD_SEV\"", "kind of TEE that is not known"},
    {"google", "aud", "[\"kbs.example\",\"https://sts.googleapis.com\"]", "the default one"},
    {"google", "submods|confidential_space|support_attributes", "[\"LATEST\"]",
     "not a supported one"},
    {"google", "submods|container|image_digest", "\"sha256:bb\"", "\"image_digest\" is not one"},
    {"google", "eat_nonce", "\"Hh459Yb8p3scemptkzC7Od5EBi16hbNUPTZzKRoFH/E=\"",
     "its nonces are not"}, /* the session's, but no key */
    {"google", "eat_nonce", NULL, "its nonces are not"},

    {"veraison", "eat_profile", "\"tag:github.com,2024:confidential-containers/Trustee\"",
     "another \"eat_profile\""},
    {"veraison", "eat_profile", "\"tag:ietf.org,2026:rats/ear#03\"", "two of them mixed"},
    {"veraison", "ear.verifier-id", NULL, "no verifier-id"},
    {"veraison", "submods|PSA", "{}", "a submodule that is not configured"},
    {"veraison", "submods|CCA_REALM", NULL, "no submodule is the TEE's"},
    {"veraison", "submods|CCA_PLATFORM", NULL, NULL},
    {"veraison", "submods|CCA_PLATFORM|ear_status", "\"affirming\"", "of two profiles"},
    {"veraison", "submods|CCA_REALM|eat_nonce", NULL, "no valid \"eat_nonce\""},
    {"veraison", "submods|CCA_PLATFORM" VECTOR "|hardware", "97", "better than"},
    {"veraison", "submods|CCA_REALM|ear.veraison.key-attestation|akpub", "\"AAAA\"",
     "its TEE key:"},

    {"nras", "sub", "\"other\"", "not an overall one"},
    {"nras", "x-nvidia-overall-att-result", "false", "overall-att-result\" is not true"},
    {"nras", "x-nvidia-overall-att-result", NULL, "overall-att-result\" is not true"},
    {"nras", "eat_nonce", ZEROS, "the nonce is not ours"},
};

static void test_changes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];
        struct mint *m = mint_named(c->mint);
        json_t *claims = m->claims(&mint_guest);
        struct kbs_issuer_result result;
        struct kbs_error err;
        json_error_t why;
        json_t *value = c->value != NULL ? json_loads(c->value, JSON_DECODE_ANY, &why) : NULL;

        assert_true(c->value == NULL || value != NULL);
        mint_set(claims, c->path, value);
        int rc = verify(m, claims, !is_passport_only(m), NULL, 0, &result, &err);
        if (c->why == NULL && rc != 0) {
            fail_msg("%s %s=%s: %s", c->mint, c->path, c->value, err.detail);
        } else if (c->why != NULL && (rc == 0 || strstr(err.detail, c->why) == NULL)) {
            fail_msg("%s %s=%s: %s", c->mint, c->path, c->value != NULL ? c->value : "none",
                     rc == 0 ? "taken" : err.detail);
        }
        kbs_issuer_result_deinit(&result);
        json_decref(claims);
    }
}

/* What a passport repeats must explain itself. */
static void test_passport_explains_itself(void **state)
{
    static const struct change own[] = {
        {"coco-ear", CPU EVIDENCE "|runtime_data_claims|nonce", "\"AAAA\"", "not the digest of"},
        {"coco-ear", CPU EVIDENCE "|runtime_data_claims|additional-evidence", NULL,
         "not the digest of"}, /* not a verbose token */
        {"coco-simple", "customized_claims|runtime_data|nonce", "\"AAAA\"", "not the digest of"},
        {"ita-v2", "tdx|attester_runtime_data|nonce", "\"AAAA\"", "not the digest of"},
        {"ita-v1", "attester_runtime_data|nonce", "\"AAAA\"", "not the digest of"},
        {"maa-snp", "x-ms-runtime|nonce", "\"AAAA\"", "not the digest of"}, /* canonical_runtime */
        {"maa-sgx", "x-ms-sgx-ehd", "\"AAAA\"", "not the digest of"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        struct mint *m = mint_named(own[i].mint);
        json_t *claims = m->claims(&mint_guest);
        struct kbs_issuer_result result;
        struct kbs_error err;

        mint_set(claims, own[i].path,
                 own[i].value != NULL ? json_loads(own[i].value, JSON_DECODE_ANY, NULL) : NULL);
        assert_int_equal(verify(m, claims, false, NULL, 0, &result, &err), -1);
        if (strstr(err.detail, own[i].why) == NULL) {
            fail_msg("%s %s: %s", own[i].mint, own[i].path, err.detail);
        }
        json_decref(claims);
    }
}

/* ---- what is required ---- */

#define TEXT(s)                             \
    {                                       \
        (const uint8_t *)(s), sizeof(s) - 1 \
    }
#define R(n, v)                           \
    {                                     \
        .name = TEXT(n), .value = TEXT(v) \
    }

static void expect_required(const char *name, const struct kbs_issuer_requirement *require,
                            size_t count, const char *why)
{
    struct mint *m = mint_named(name);
    json_t *claims = m->claims(&mint_guest);
    struct kbs_issuer_result result;
    struct kbs_error err;
    int rc = verify(m, claims, !is_passport_only(m), require, count, &result, &err);

    if (why == NULL && rc != 0) {
        fail_msg("%s: %s", name, err.detail);
    } else if (why != NULL && (rc == 0 || strstr(err.detail, why) == NULL)) {
        fail_msg("%s: %s", name, rc == 0 ? "taken" : err.detail);
    }
    kbs_issuer_result_deinit(&result);
    json_decref(claims);
}

static void test_requirements(void **state)
{
    static const struct kbs_issuer_requirement tees[] = {R("tees", "tdx")};
    static const struct kbs_issuer_requirement both[] = {R("tees", "tdx"), R("tees", "snp")};
    static const struct kbs_issuer_requirement ids[] = {R("policy_ids", "strict")};
    static const struct kbs_issuer_requirement ids_ok[] = {R("policy_ids", "strict"),
                                                           R("policy_ids", "default")};
    static const struct kbs_issuer_requirement ita_two[] = {R("policy_ids", "policy-1"),
                                                            R("policy_ids", "policy-2")};
    static const struct kbs_issuer_requirement ita_tcb[] = {R("tcb_statuses", "SWHardeningNeeded")};
    static const struct kbs_issuer_requirement ita_mrtd[] = {R("measurements", "0000")};
    static const struct kbs_issuer_requirement maa_id[] = {R("policy_hashes", "policy-hash-1"),
                                                           R("id_keys", "1d")};
    static const struct kbs_issuer_requirement maa_bad_id[] = {R("policy_hashes", "policy-hash-1"),
                                                               R("id_keys", "2d")};
    static const struct kbs_issuer_requirement maa_host[] = {
        R("policy_hashes", "policy-hash-1"), R("id_keys", "1d"), R("host_data", "ff")};
    static const struct kbs_issuer_requirement maa_cvm_only[] = {
        R("policy_hashes", "policy-hash-1"), R("id_keys", "1d"),
        R("compliance", "azure-compliant-cvm")};
    static const struct kbs_issuer_requirement usable[] = {R("support", "USABLE")};

    (void)state;
    expect_required("coco-ear", tees, 1, "not a kind of TEE that its issuer is trusted for");
    expect_required("coco-ear", both, 2, NULL);
    expect_required("coco-ear", ids, 1, "\"ear.appraisal-policy-id\" is not one");
    expect_required("coco-ear", ids_ok, 2, NULL);
    expect_required("ita-v2", ita_two, 2, "a required policy was not met");
    expect_required("ita-v2", ita_tcb, 1, "\"attester_tcb_status\" is not one");
    expect_required("ita-v2", ita_mrtd, 1, "\"tdx_mrtd\" is not one");
    expect_required("maa-snp", maa_id, 2, NULL);
    expect_required("maa-snp", maa_bad_id, 2, "idkeydigest\" is not one");
    expect_required("maa-snp", maa_host, 3, "hostdata\" is not one");
    expect_required("maa-snp", maa_cvm_only, 3, "\"x-ms-compliance-status\" is not");
    expect_required("google", usable, 1, "not a supported one");
}

/* ---- what becomes of them ---- */

static const json_t *at(const json_t *v, const char *path)
{
    char name[128];

    for (const char *bar; (bar = strchr(path, '|')) != NULL; path = bar + 1) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)(bar - path), path);
        v = json_object_get(v, name);
    }
    return json_object_get(v, path);
}

static void assert_text(const json_t *v, const char *path, const char *expected)
{
    const json_t *text = at(v, path);

    assert_non_null(text);
    assert_true(json_is_string(text));
    assert_string_equal(json_string_value(text), expected);
}

static void take(const char *name, const struct kbs_issuer_requirement *require, size_t count,
                 struct kbs_issuer_result *ret)
{
    struct mint *m = mint_named(name);
    json_t *claims = m->claims(&mint_guest);
    struct kbs_error err;

    if (verify(m, claims, !is_passport_only(m), require, count, ret, &err) != 0) {
        fail_msg("%s: %s", name, err.detail);
    }
    json_decref(claims);
}

/* An EAR keeps what it says; what it says in our name is dropped. */
static void test_ear_claims(void **state)
{
    struct mint *m = mint_named("coco-ear");
    json_t *claims = m->claims(&mint_guest);
    struct kbs_issuer_result r;
    struct kbs_error err;
    KBS_AUTO_JSON input = NULL;
    struct kbs_span iss;
    const json_t *said = NULL;

    (void)state;
    mint_set(claims, CPU KBS_EAR_AUTHORITY, json_string("me"));
    mint_set(claims, CPU KBS_EAR_CLAIMS_AT, json_string("snp"));
    mint_set(claims, "submods|gpu0|ear.status", json_string("none"));
    assert_int_equal(verify(m, claims, true, NULL, 0, &r, &err), 0);
    assert_string_equal(r.status, "none"); /* of all of them */
    assert_int_equal(r.minimum_binding, KBS_BINDING_EVIDENCE);
    assert_int_equal(json_object_size(r.submods), 2);
    assert_string_equal(json_object_iter_key(json_object_iter(r.submods)), "cpu0");
    assert_text(r.submods, "cpu0|ear.status", "affirming");
    assert_text(r.submods, "cpu0|" EVIDENCE "|snp|measurement", "abcd");
    assert_text(r.submods, "cpu0|" KBS_EAR_AUTHORITY, "CoCo-Attestation-Service");
    assert_text(r.submods, "cpu0|" KBS_EAR_PROFILE, "coco-ear");
    assert_null(at(r.submods, "cpu0|" KBS_EAR_CLAIMS_AT));
    assert_text(r.submods, "gpu0|" KBS_EAR_AUTHORITY, "CoCo-Attestation-Service");

    assert_int_equal(
        kbs_ear_wrap(KBS_SPAN_LIT("ours"), KBS_SPAN_LIT("00"), 1, 2, r.submods, &input, &err), 0);
    assert_true(kbs_ear_authority(input, &iss, &said));
    assert_true(kbs_span_equal_str(iss, "CoCo-Attestation-Service"));
    assert_ptr_equal(said, input);
    kbs_issuer_result_deinit(&r);
    json_decref(claims);
}

/* For what is no EAR: the claims verbatim, and where an authority's are looked up. */
static void test_derived_claims(void **state)
{
    static const struct {
        const char *mint;
        const char *tee;
        const char *status;
        int executables;
        const char *claim;
    } rows[] = {
        {"coco-simple", "tdx", "affirming", 3, "jti"},
        {"ita-v2", "tdx", "affirming", 3, "ver"},
        {"ita-v1", "tdx", "affirming", 3, "ver"},
        {"maa-snp", "snp", "affirming", 3, "x-ms-policy-hash"},
        {"maa-tdx", "tdx", "affirming", 3, "x-ms-policy-hash"},
        {"maa-sgx", "sgx", "affirming", 3, "x-ms-policy-hash"},
        {"maa-cvm", "az-snp-vtpm", "warning", 33, "x-ms-policy-hash"},
        {"google", "tdx", "affirming", 3, "swname"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kbs_issuer_result r;
        struct kbs_error err = KBS_ERROR_NONE;
        KBS_AUTO_JSON input = NULL;
        const json_t *said = NULL;
        struct kbs_span iss;

        take(rows[i].mint, NULL, 0, &r);
        assert_string_equal(r.status, rows[i].status);
        assert_text(r.submods, "cpu0|ear.status", rows[i].status);
        assert_int_equal(json_integer_value(at(r.submods, "cpu0" VECTOR "|executables")),
                         rows[i].executables);
        assert_text(r.submods, "cpu0|" KBS_EAR_CLAIMS_AT, rows[i].tee);
        assert_int_equal(
            kbs_ear_wrap(KBS_SPAN_LIT("ours"), KBS_SPAN_LIT("00"), 1, 2, r.submods, &input, &err),
            0);
        assert_true(kbs_ear_authority(input, &iss, &said));
        assert_true(kbs_span_equal_str(iss, mint_named(rows[i].mint)->iss));
        assert_ptr_not_equal(said, input);
        assert_non_null(json_object_get(said, rows[i].claim));
        assert_text(said, "iss", mint_named(rows[i].mint)->iss);
        kbs_issuer_result_deinit(&r);
    }
}

/* What nobody compared with anything is no more than a warning, and so is an old platform. */
static void test_derived_status_is_honest(void **state)
{
    static const struct kbs_issuer_requirement old[] = {R("tcb_statuses", "OutOfDate"),
                                                        R("measurements", "beef")};
    static const struct kbs_issuer_requirement any[] = {R("tees", "tdx")};
    struct mint *m = mint_named("ita-v2");
    json_t *claims = m->claims(&mint_guest);
    struct kbs_issuer_result r;
    struct kbs_error err;

    (void)state;
    take("ita-v2", any, 1, &r);
    assert_string_equal(r.status, "warning");
    kbs_issuer_result_deinit(&r);
    take("google", any, 1, &r);
    assert_string_equal(r.status, "warning");
    kbs_issuer_result_deinit(&r);
    mint_set(claims, "tdx|attester_tcb_status", json_string("OutOfDate"));
    assert_int_equal(verify(m, claims, true, old, 2, &r, &err), 0);
    assert_string_equal(r.status, "warning");
    kbs_issuer_result_deinit(&r);
    json_decref(claims);
}

static void test_veraison_claims(void **state)
{
    struct kbs_issuer_result r;

    (void)state;
    take("veraison", NULL, 0, &r);
    assert_string_equal(r.status, "affirming");
    assert_int_equal(r.tee, KBS_TEE_CCA);
    assert_text(r.submods, "cpu0|" EVIDENCE "|cca|cca-realm-hash-algo-id", "sha-256");
    assert_text(r.submods, "cpu0|ear.appraisal-policy-id", "policy:CCA");
    assert_non_null(at(r.submods, "CCA_PLATFORM|" EVIDENCE "|cca"));
    kbs_issuer_result_deinit(&r);
}

/* The names of draft 03 become ours; a token of it with ours is refused. */
static void test_veraison_draft_03(void **state)
{
    struct mint *m = mint_named("veraison");
    json_t *old = m->claims(&mint_guest);
    const json_t *realm = at(old, "submods|CCA_REALM");
    json_t *claims = json_pack(
        "{s:s, s:s, s:I, s:{s:s, s:s}, s:{s:{s:s, s:{s:i}, s:[s], s:O, s:O}}}", "eat_profile",
        "tag:ietf.org,2026:rats/ear#03", "iss", m->iss, "iat", (json_int_t)(mint_now - 10),
        "ear_verifier_id", "developer", "d", "build", "b", "submods", "CCA_REALM", "ear_status",
        "affirming", "ear_trustworthiness_vector", "instance_identity", 2,
        "ear_appraisal_policy_ids", "policy:1", "eat_nonce", json_object_get(realm, "eat_nonce"),
        "ear_veraison_key_attestation", json_object_get(realm, "ear.veraison.key-attestation"));
    struct kbs_issuer_result r;
    struct kbs_error err;

    (void)state;
    if (verify(m, claims, true, NULL, 0, &r, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    assert_int_equal(json_integer_value(at(r.submods, "cpu0" VECTOR "|instance-identity")), 2);
    assert_text(r.submods, "cpu0|ear.appraisal-policy-id", "policy:1");
    assert_true(r.has_tee_key);
    kbs_issuer_result_deinit(&r);
    mint_set(claims, "submods|CCA_REALM|ear.status", json_string("affirming"));
    assert_int_equal(verify(m, claims, true, NULL, 0, &r, &err), -1);
    json_decref(claims);
    json_decref(old);
}

/* ---- NRAS: what its array may be ---- */

static void nras_refuse(struct kbs_span text, const char *why)
{
    struct mint *m = mint_named("nras");
    struct kbs_issuer_config config = mint_config(m, m->source, KBS_SPAN_EMPTY);
    struct kbs_issuer_expected expected = mint_session(m);
    struct kbs_issuer_result r;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(verify_by(&config, false, text, &expected, &r, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    if (strstr(err.detail, why) == NULL) {
        fail_msg("%s, not %s", err.detail, why);
    }
}

/* The text with `from` replaced by `to`. */
static void nras_edit(struct kbs_buf *text, const char *from, const char *to, struct kbs_buf *out)
{
    const char *all = kbs_buf_cstr(text);
    const char *found = strstr(all, from);

    assert_non_null(found);
    kbs_buf_clear(out);
    kbs_buf_put(out, all, (size_t)(found - all));
    kbs_buf_put_str(out, to);
    kbs_buf_put_str(out, found + strlen(from));
}

static void test_nras_array(void **state)
{
    struct mint *m = mint_named("nras");
    struct mint *coco = mint_named("coco-ear");
    json_t *claims = m->claims(&mint_guest);
    struct kbs_buf good = KBS_BUF(MINT_TEXT_BYTES);
    struct kbs_buf text = KBS_BUF(MINT_TEXT_BYTES);

    (void)state;
    mint_token(m, &m->maker, NULL, claims, &good);
    nras_edit(&good, "GPU-0", "GPU-1", &text);
    nras_refuse(kbs_buf_span(&text), "not the one of the overall token");
    nras_edit(&good, "{\"GPU-0\"", "{\"GPU-1\":\"x\",\"GPU-0\"", &text);
    nras_refuse(kbs_buf_span(&text), "not of the devices that the overall one names");
    nras_edit(&good, "\"JWT\"", "\"CWT\"", &text);
    nras_refuse(kbs_buf_span(&text), "not [[\"JWT\", overall]");
    nras_edit(&good, "[[", "[[]", &text);
    nras_refuse(kbs_buf_span(&text), "not a strict JSON array");
    nras_refuse(KBS_SPAN_LIT("[]"), "not [[\"JWT\", overall]");
    nras_refuse(KBS_SPAN_LIT("[],\"x\":[]"), "not [[\"JWT\", overall]");

    /* An overall token alone, and an array of another issuer's. */
    kbs_buf_clear(&text);
    nras_edit(&good, "[[\"JWT\",\"", "", &text);
    nras_refuse(kbs_span(text.p, strcspn(kbs_buf_cstr(&text), "\"")), "not an overall one");
    json_decref(claims);
    claims = coco->claims(&mint_guest);
    kbs_buf_clear(&good);
    kbs_buf_clear(&text);
    mint_token(coco, &coco->maker, NULL, claims, &good);
    kbs_buf_printf(&text, "[[\"JWT\",\"%s\"],{\"cpu0\":\"x\"}]", kbs_buf_cstr(&good));
    {
        struct kbs_issuer_config config = mint_config(coco, coco->source, KBS_SPAN_EMPTY);
        struct kbs_issuer_expected expected = mint_session(coco);
        struct kbs_issuer_result r;
        struct kbs_error err = KBS_ERROR_NONE;

        assert_int_equal(verify_by(&config, false, kbs_buf_span(&text), &expected, &r, &err), -1);
        assert_non_null(strstr(err.detail, "has no detached ones"));
    }
    json_decref(claims);
    kbs_buf_deinit(&good);
    kbs_buf_deinit(&text);
}

/* ---- keys ---- */

struct documents {
    struct kbs_span text;
    int64_t fetched_s;
    unsigned int asked;
    unsigned int again;
    struct kbs_span second; /* what a second look gives; empty: the same */
};

static int documents_get(void *with, const char *document, bool look_again, struct kbs_span *ret,
                         int64_t *ret_fetched_s, struct kbs_error *err)
{
    struct documents *d = with;

    assert_string_equal(document, "keys");
    d->asked++;
    d->again += look_again ? 1 : 0;
    if (d->text.len == 0) {
        return kbs_fail(err, KBS_BUSY, "not fetched yet");
    }
    *ret = look_again && d->second.len != 0 ? d->second : d->text;
    *ret_fetched_s = d->fetched_s;
    return 0;
}

static int verify_document(struct mint *m, struct documents *d, struct kbs_span anchor,
                           const char *header, struct kbs_error *err)
{
    struct kbs_issuer_config config = mint_config(m, MINT_DOCUMENT, KBS_SPAN_EMPTY);
    struct kbs_issuer_expected expected = mint_session(m);
    struct kbs_buf token = KBS_BUF(MINT_TEXT_BYTES);
    struct kbs_issuer_result r;
    json_t *claims = m->claims(&mint_guest);
    int rc;

    config.document = KBS_SPAN_LIT("keys");
    config.anchor = anchor;
    expected.keys = documents_get;
    expected.keys_with = d;
    mint_token(m, &m->maker, header, claims, &token);
    *err = KBS_ERROR_NONE;
    rc = verify_by(&config, false, kbs_buf_span(&token), &expected, &r, err);
    kbs_issuer_result_deinit(&r);
    kbs_buf_deinit(&token);
    json_decref(claims);
    return rc;
}

static void test_documents(void **state)
{
    struct mint *m = mint_named("coco-ear"); /* its tokens name no key */
    struct kbs_buf set = KBS_BUF(65536);
    struct kbs_buf other = KBS_BUF(65536);
    struct maker stranger = maker_new("ES256");
    struct documents d = {.fetched_s = mint_now};
    struct kbs_error err;

    (void)state;
    assert_int_equal(verify_document(m, &d, KBS_SPAN_EMPTY, NULL, &err), -1);
    assert_int_equal(err.category, KBS_BUSY);

    /* Without a kid, any key for that algorithm may have been it. */
    kbs_buf_put_str(&set, "{\"keys\":[");
    maker_jwk(&stranger, "ES256", "a", NULL, &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&m->maker, NULL, NULL, ",\"use\":\"sig\"", &set);
    kbs_buf_put_str(&set, "]}");
    d.text = kbs_buf_span(&set);
    assert_int_equal(verify_document(m, &d, KBS_SPAN_EMPTY, NULL, &err), 0);
    /* With one, only that one; and one that is not there is looked for again. */
    assert_int_equal(
        verify_document(m, &d, KBS_SPAN_EMPTY, "{\"alg\":\"ES256\",\"kid\":\"a\"}", &err), -1);
    assert_non_null(strstr(err.detail, "does not verify"));
    assert_int_equal(d.again, 0);
    assert_int_equal(
        verify_document(m, &d, KBS_SPAN_EMPTY, "{\"alg\":\"ES256\",\"kid\":\"b\"}", &err), -1);
    assert_non_null(strstr(err.detail, "names a key that its issuer does not have"));
    assert_int_equal(d.again, 1);
    kbs_buf_put_str(&other, "{\"keys\":[");
    maker_jwk(&m->maker, "ES256", "b", NULL, &other);
    kbs_buf_put_str(&other, "]}");
    d.second = kbs_buf_span(&other);
    assert_int_equal(
        verify_document(m, &d, KBS_SPAN_EMPTY, "{\"alg\":\"ES256\",\"kid\":\"b\"}", &err), 0);

    d.fetched_s = mint_now - 3601;
    assert_int_equal(verify_document(m, &d, KBS_SPAN_EMPTY, NULL, &err), -1);
    assert_int_equal(err.category, KBS_BUSY);
    d.fetched_s = mint_now;
    d.text = KBS_SPAN_LIT("<html>");
    assert_int_equal(verify_document(m, &d, KBS_SPAN_EMPTY, NULL, &err), -1);
    assert_int_equal(err.category, KBS_BUSY);
    maker_free(&stranger);
    kbs_buf_deinit(&set);
    kbs_buf_deinit(&other);
}

/* A set whose keys have chains: by an anchor, only those that lead to it; without numbers, the certificate's. */
static void test_documents_with_chains(void **state)
{
    struct mint *m = mint_named("coco-ear");
    struct mint_pki pki;
    struct kbs_buf set = KBS_BUF(65536);
    struct kbs_buf more = KBS_BUF(65536);
    struct documents d = {.fetched_s = mint_now};
    struct kbs_error err;

    (void)state;
    mint_pki_begin(&pki, &m->maker);
    kbs_buf_printf(&more, ",\"x5c\":[%s]", kbs_buf_cstr(&pki.chain));
    kbs_buf_put_str(&set, "{\"keys\":[");
    maker_jwk(&m->maker, "ES256", NULL, kbs_buf_cstr(&more), &set);
    kbs_buf_put_str(&set, "]}");
    d.text = kbs_buf_span(&set);
    assert_int_equal(verify_document(m, &d, kbs_buf_span(&pki.anchor), NULL, &err), 0);
    assert_int_equal(verify_document(m, &d, kbs_buf_span(&pki.decoy_anchor), NULL, &err), -1);
    assert_int_equal(err.category, KBS_BUSY);
    assert_non_null(strstr(err.detail, "no chain to a pinned anchor"));

    kbs_buf_clear(&set);
    kbs_buf_printf(&set, "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"k\",\"x5c\":[%s]}]}",
                   kbs_buf_cstr(&pki.direct));
    d.text = kbs_buf_span(&set);
    assert_int_equal(verify_document(m, &d, KBS_SPAN_EMPTY, NULL, &err), 0);
    assert_int_equal(verify_document(m, &d, kbs_buf_span(&pki.anchor), NULL, &err), 0);

    d.text = kbs_buf_span(&m->jwks); /* no certificates at all */
    assert_int_equal(verify_document(m, &d, kbs_buf_span(&pki.anchor), NULL, &err), -1);
    mint_pki_end(&pki);
    kbs_buf_deinit(&set);
    kbs_buf_deinit(&more);
}

/* Every algorithm that there is, by a configuration that names it. */
static void test_algorithms(void **state)
{
    static const char *const algs[] = {"ES256", "ES384", "ES512", "RS256", "RS384",
                                       "RS512", "PS256", "PS384", "PS512", "EdDSA"};
    struct mint *m = mint_named("coco-ear");
    struct maker rsa = maker_new("RS256");

    (void)state;
    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        bool is_rsa = algs[i][0] == 'R' || algs[i][0] == 'P';
        struct maker by = is_rsa ? maker_as(&rsa, algs[i]) : maker_new(algs[i]);
        struct kbs_buf pem = KBS_BUF(4096);
        struct kbs_buf token = KBS_BUF(MINT_TEXT_BYTES);
        struct kbs_issuer_config config = mint_config(m, MINT_PEM, KBS_SPAN_EMPTY);
        struct kbs_issuer_expected expected = mint_session(m);
        const struct kbs_span alg = kbs_span_str(algs[i]);
        struct kbs_issuer_result r;
        struct kbs_error err = KBS_ERROR_NONE;
        json_t *claims = m->claims(&mint_guest);

        maker_pem(&by, &pem);
        config.keys = kbs_buf_span(&pem);
        config.algorithms = &alg;
        config.algorithm_count = 1;
        mint_token(m, &by, NULL, claims, &token);
        if (verify_by(&config, false, kbs_buf_span(&token), &expected, &r, &err) != 0) {
            fail_msg("%s: %s", algs[i], err.detail);
        }
        kbs_issuer_result_deinit(&r);
        json_decref(claims);
        kbs_buf_deinit(&pem);
        kbs_buf_deinit(&token);
        if (!is_rsa) {
            maker_free(&by);
        }
    }
    maker_free(&rsa);
}

/* ---- a key at a place of its own ---- */

static void expect_key_path(const char *mint, const char *path, const char *member,
                            const char *value, const char *why)
{
    struct mint *m = mint_named(mint);
    struct kbs_issuer_config config = mint_config(m, m->source, KBS_SPAN_EMPTY);
    struct kbs_issuer_expected expected = mint_passport();
    struct kbs_buf token = KBS_BUF(MINT_TEXT_BYTES);
    struct kbs_issuer_result r;
    struct kbs_error err = KBS_ERROR_NONE;
    json_t *claims = m->claims(&mint_guest);

    if (member != NULL) {
        mint_set(claims, member, json_loads(value, JSON_DECODE_ANY, NULL));
    }
    config.key_path = kbs_span_str(path);
    mint_token(m, &m->maker, NULL, claims, &token);
    int rc = verify_by(&config, false, kbs_buf_span(&token), &expected, &r, &err);
    if (why == NULL && rc != 0) {
        fail_msg("%s: %s", path, err.detail);
    } else if (why != NULL && (rc == 0 || strstr(err.detail, why) == NULL)) {
        fail_msg("%s: %s", path, rc == 0 ? "taken" : err.detail);
    }
    kbs_issuer_result_deinit(&r);
    json_decref(claims);
    kbs_buf_deinit(&token);
}

static void test_key_paths(void **state)
{
    struct kbs_buf jwk = KBS_BUF(2048);

    (void)state;
    kbs_buf_printf(&jwk, "{\"a/b\":{\"~\":%s}}", mint_guest.jwk);
    expect_key_path("coco-ear", "/own/a~1b/~0", "own", kbs_buf_cstr(&jwk), NULL);
    expect_key_path("coco-ear", "/own/a~1b/~", "own", kbs_buf_cstr(&jwk), "malformed");
    expect_key_path("coco-ear", "/own/a", "own", kbs_buf_cstr(&jwk), "no TEE key");
    kbs_buf_clear(&jwk);
    kbs_buf_printf(&jwk, "%s", mint_guest.other_jwk);
    expect_key_path("coco-ear", "/own", "own", kbs_buf_cstr(&jwk),
                    "not the one in its runtime data");
    expect_key_path("maa-cvm", "/x-ms-runtime/keys/kid:TpmEphemeralEncryptionKey", NULL, NULL,
                    NULL);
    expect_key_path("maa-cvm", "/x-ms-runtime/keys/kid:Signing", NULL, NULL, "its TEE key:");
    expect_key_path("maa-cvm", "/x-ms-runtime/keys/1", NULL, NULL, "no TEE key");
    expect_key_path("maa-cvm", "/x-ms-runtime/keys/use:enc", NULL, NULL, NULL);
    expect_key_path("maa-cvm", "/x-ms-runtime/keys", NULL, NULL, "its TEE key:");
    kbs_buf_deinit(&jwk);
}

/* ---- real tokens ---- */

/* NULL, saying so, if the vectors are not there. */
static char *vector(const char *name)
{
    char path[4096];
    struct kbs_buf text = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;
    char *ret = NULL;

    (void)snprintf(path, sizeof(path), "%s/%s", KBS_VECTORS_DIR, name);
    if (kbs_io_read_file(path, &text, &err) == 0) {
        ret = strdup(kbs_buf_cstr(&text));
        assert_non_null(ret);
        ret[strcspn(ret, "\n")] = '\0';
    } else {
        print_message("%s is not there: skipped\n", path);
    }
    kbs_buf_deinit(&text);
    return ret;
}

/* The JWK that a token has in its header, as a set: pinned by whoever runs this. */
static void header_keys(const char *token, struct kbs_buf *out)
{
    struct kbs_jose_jws jws;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_jws_split(kbs_span_str(token), KBS_JWS_ALGS_ALL, &jws, &err), 0);
    kbs_buf_put_str(out, "{\"keys\":[");
    assert_int_equal(kbs_json_dump(json_object_get(jws.header, "jwk"), out, &err), 0);
    kbs_buf_put_str(out, "]}");
    kbs_jose_jws_deinit(&jws);
}

/*
 * Trustee's of an Arm CCA realm, of before it had `iss`. Its signature holds, and its report data is SHA-384 of
 * its runtime data; its TEE key is one of 1024 bits, which nobody gets keys for.
 */
static void test_real_trustee_token(void **state)
{
    char *token = vector("ear/trustee-cca-expired.jwt");
    struct kbs_buf keys = KBS_BUF(4096);
    struct kbs_issuer_expected expected = {.now_s = 1752059139 + 60, .issuer = "old"};
    struct kbs_issuer_config config = {.name = KBS_SPAN_LIT("old"),
                                       .profile = KBS_ISSUER_COCO_EAR,
                                       .key_path = KBS_SPAN_LIT("none"),
                                       .max_age_s = 300};
    struct kbs_issuer_result r;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    if (token == NULL) {
        skip();
    }
    header_keys(token, &keys);
    config.keys = kbs_buf_span(&keys);
    if (verify_by(&config, false, kbs_span_str(token), &expected, &r, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    assert_int_equal(r.tee, KBS_TEE_CCA);
    assert_string_equal(r.status, "affirming");
    assert_text(r.submods, "cpu0|" KBS_EAR_AUTHORITY, "old"); /* it has no iss */
    kbs_issuer_result_deinit(&r);

    expected.now_s = 1752059439 + 1;
    assert_int_equal(verify_by(&config, false, kbs_span_str(token), &expected, &r, &err), -1);
    assert_non_null(strstr(err.detail, "expired"));
    expected.now_s = 1752059139;
    config.key_path = KBS_SPAN_EMPTY;
    err = KBS_ERROR_NONE;
    assert_int_equal(verify_by(&config, false, kbs_span_str(token), &expected, &r, &err), -1);
    assert_non_null(strstr(err.detail, "its TEE key:"));
    kbs_buf_deinit(&keys);
    free(token);
}

/* Veraison's of 2022, signed by the key in its header: good only if that one is pinned. It names no TEE key. */
static void test_real_veraison_token(void **state)
{
    static const struct kbs_issuer_requirement submods[] = {R("submods", "test=cca")};
    char *token = vector("ear/header-jwk-self-signed.jwt");
    struct mint *m = mint_named("veraison");
    struct kbs_buf keys = KBS_BUF(4096);
    struct kbs_issuer_expected expected = {.now_s = 1666091373 + 60, .issuer = "v"};
    struct kbs_issuer_config config = {.name = KBS_SPAN_LIT("v"),
                                       .profile = KBS_ISSUER_VERAISON,
                                       .key_path = KBS_SPAN_LIT("none"),
                                       .max_age_s = 300,
                                       .require = submods,
                                       .require_count = 1};
    struct kbs_issuer_result r;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    if (token == NULL) {
        skip();
    }
    header_keys(token, &keys);
    config.keys = kbs_buf_span(&keys);
    if (verify_by(&config, false, kbs_span_str(token), &expected, &r, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    assert_string_equal(r.status, "affirming");
    assert_int_equal(r.exp, 1666091373 + 300);
    kbs_issuer_result_deinit(&r);
    expected.now_s = 1666091373 + 301;
    assert_int_equal(verify_by(&config, false, kbs_span_str(token), &expected, &r, &err), -1);
    assert_non_null(strstr(err.detail, "older than 300 s"));
    expected.now_s = 1666091373;
    config.keys = kbs_buf_span(&m->pem);
    err = KBS_ERROR_NONE;
    assert_int_equal(verify_by(&config, false, kbs_span_str(token), &expected, &r, &err), -1);
    assert_non_null(strstr(err.detail, "does not verify"));
    kbs_buf_deinit(&keys);
    free(token);
}

/* Trustee's scenarios of a JWK and its certificates, as published. */
static void test_real_chains(void **state)
{
    static const bool good[] = {true, false, false, false, true, true, true};

    (void)state;
    for (unsigned int i = 1; i <= 7; i++) {
        char name[64];
        struct kbs_x5c_trust *trust = NULL;
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_jws_key leaf;
        struct kbs_jws_key key;
        KBS_AUTO_JSON jwk = NULL;
        struct kbs_buf pem = KBS_BUF(65536);
        char path[4096];

        (void)snprintf(name, sizeof(name), "jwk-x5c/scenario%02u-jwk.json", i);
        (void)snprintf(path, sizeof(path), "%s/%s", KBS_VECTORS_DIR, name);
        if (kbs_io_read_file(path, &pem, &err) != 0) {
            print_message("%s is not there: skipped\n", path);
            skip();
        }
        assert_int_equal(kbs_json_parse_object(kbs_buf_span(&pem), "JWK", &jwk, &err), 0);
        kbs_buf_clear(&pem);
        (void)snprintf(path, sizeof(path), "%s/jwk-x5c/scenario%02u-trust.pem", KBS_VECTORS_DIR, i);
        assert_int_equal(kbs_io_read_file(path, &pem, &err), 0);
        assert_int_equal(kbs_x5c_trust_new(kbs_buf_span(&pem), KBS_SPAN_EMPTY, &trust, &err), 0);
        assert_int_equal(
            kbs_jws_key_from_jwk_for(jwk, KBS_JWS_ALG_BIT(KBS_JWS_ALG_RS256), &key, &err), 0);
        bool holds =
            kbs_x5c_verify(trust, json_object_get(jwk, "x5c"), 1800000000, &leaf, &err) == 0 &&
            kbs_jws_key_equal(&leaf, &key);
        print_message("scenario %02u: %s\n", i, holds ? "ok" : err.detail);
        assert_int_equal(holds, good[i - 1]);
        if (holds) { /* and not before it was made, nor after it has expired */
            assert_int_equal(
                kbs_x5c_verify(trust, json_object_get(jwk, "x5c"), 1700000000, &leaf, &err), -1);
            assert_int_equal(
                kbs_x5c_verify(trust, json_object_get(jwk, "x5c"), 2200000000, &leaf, &err), -1);
        }
        kbs_x5c_trust_free(trust);
        kbs_buf_deinit(&pem);
    }
}

/* ---- configurations ---- */

static void refuse_config(const struct kbs_issuer_config *configs, size_t count, const char *why)
{
    struct kbs_issuers *issuers = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_issuers_new(configs, count, false, &issuers, &err) == 0) {
        fail_msg("taken: %s", why);
    }
    assert_int_equal(err.category, KBS_INPUT);
    if (strstr(err.detail, why) == NULL) {
        fail_msg("%s, not %s", err.detail, why);
    }
}

static void test_configurations(void **state)
{
    struct mint *coco = mint_named("coco-ear");
    struct mint *google = mint_named("google");
    struct kbs_issuer_config c = mint_config(coco, MINT_PEM, KBS_SPAN_EMPTY);
    const struct kbs_issuer_config good = c;
    const struct kbs_span hs = KBS_SPAN_LIT("HS256");
    const struct kbs_span rs = KBS_SPAN_LIT("RS256");
    static const struct kbs_issuer_requirement unknown[] = {R("colour", "red")};
    static const struct kbs_issuer_requirement foreign[] = {R("images", "x")};
    static const struct kbs_issuer_requirement hashes[] = {R("policy_hashes", "x")};

    (void)state;
    c.document = KBS_SPAN_LIT("also");
    refuse_config(&c, 1, "exactly one of keys, document and anchor");
    c = good;
    c.keys = KBS_SPAN_EMPTY;
    refuse_config(&c, 1, "exactly one of keys, document and anchor");
    c = good;
    c.crl = KBS_SPAN_LIT("x");
    refuse_config(&c, 1, "crl is for an anchor");
    c = good;
    c.algorithms = &hs;
    c.algorithm_count = 1;
    refuse_config(&c, 1, "not a signature algorithm of ours");
    c.algorithms = &rs; /* which its key cannot */
    refuse_config(&c, 1, "for another algorithm");
    c = good;
    c.key_path = KBS_SPAN_LIT("submods.cpu0");
    refuse_config(&c, 1, "neither a JSON pointer nor");
    c = good;
    c.key_path = KBS_SPAN_LIT("none");
    refuse_config(&c, 1, "passport: its tokens name no TEE key");
    c = good;
    c.minimum_binding = KBS_BINDING_EVIDENCE;
    refuse_config(&c, 1, "passport: a token alone");
    c = good;
    c.max_age_s = 0;
    refuse_config(&c, 1, "max_age_s");
    c = good;
    c.require = unknown;
    c.require_count = 1;
    refuse_config(&c, 1, "colour is not for profile coco-ear");
    c.require = foreign;
    refuse_config(&c, 1, "images is not for profile coco-ear");
    c = good;
    c.agree_with = KBS_SPAN_LIT("coco-ear");
    refuse_config(&c, 1, "agree_with names no other issuer");
    c = good;
    c.profile = KBS_ISSUER_COUNT;
    refuse_config(&c, 1, "an unknown profile");

    const struct kbs_issuer_config twice[] = {good, good};
    refuse_config(twice, 2, "another one has the same");

    c = mint_config(google, MINT_JWKS, KBS_SPAN_EMPTY);
    c.audience_count = 0;
    refuse_config(&c, 1, "audience: tokens of profile google have one");
    c = mint_config(google, MINT_JWKS, KBS_SPAN_EMPTY);
    c.issuer_count = 0;
    refuse_config(&c, 1, "issuer: tokens of profile google have one");
    c = mint_config(google, MINT_JWKS, KBS_SPAN_EMPTY);
    c.passport = true;
    refuse_config(&c, 1, "passport: its tokens name no TEE key");
    c = mint_config(mint_named("maa-snp"), MINT_JWKS, KBS_SPAN_EMPTY);
    c.require = hashes;
    c.require_count = 1;
    refuse_config(&c, 1, "needs measurements or id_keys");
    c.require_count = 0;
    refuse_config(&c, 1, "profile maa needs policy_hashes");
    c = mint_config(mint_named("veraison"), MINT_JWKS, KBS_SPAN_EMPTY);
    c.require_count = 0;
    refuse_config(&c, 1, "profile veraison needs submods");
}

static int group_begin(void **state)
{
    (void)state;
    mint_begin();
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    mint_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_passport_explains_itself),
        cmocka_unit_test(test_requirements),
        cmocka_unit_test(test_ear_claims),
        cmocka_unit_test(test_derived_claims),
        cmocka_unit_test(test_derived_status_is_honest),
        cmocka_unit_test(test_veraison_claims),
        cmocka_unit_test(test_veraison_draft_03),
        cmocka_unit_test(test_nras_array),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_documents_with_chains),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_key_paths),
        cmocka_unit_test(test_real_trustee_token),
        cmocka_unit_test(test_real_veraison_token),
        cmocka_unit_test(test_real_chains),
        cmocka_unit_test(test_configurations),
    };

    return cmocka_run_group_tests_name("profiles", tests, group_begin, group_end);
}
