/*
 * Unit tests of evidence and attestation results: sample, our claims set, and Trustee's tokens as
 * we read them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "attest/ear.h"
#include "base/encoding.h"
#include "jose/read/jose.h"
#include "vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define NONCE "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define SID "00112233445566778899aabbccddeeff"
#define ISSUER "https://kbs.example"
/* The digest of the message below (vector of section 1.8), as sample evidence carries it. */
#define REPORT_DATA "imJERBsbEXGzodVqaT1M4RbB+coa5Vi8X1nUba2lTPSekqNhqyRyxDRlL+1Yh/Ft"
#define MESSAGE                                                                                                         \
    "{\"runtime-data\":{\"nonce\":\"" NONCE                                                                             \
    "\",\"tee-pubkey\":{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-256\","                                                  \
    "\"kty\":\"EC\",\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","                                             \
    "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}},\"init-data\":{\"format\":\"toml\",\"body\":\"x\"},"       \
    "\"tee-evidence\":{\"additional_evidence\":\"\",\"primary_evidence\":{\"svn\":\"1\",\"report_data\":\"" REPORT_DATA \
    "\"}}}"

/* With no verifier but those that are built in. */
static int verify(enum kbs_tee tee, enum kbs_evidence_place place, const json_t *evidence,
                  const struct kbs_digest *report_data, struct kbs_evidence_result *ret,
                  struct kbs_error *err)
{
    struct kbs_verdict verdict = KBS_VERDICT_NULL;
    const struct kbs_evidence_context context = {.verdict = &verdict};
    int r = kbs_evidence_verify(tee, place, evidence, report_data, &context, ret, err);

    kbs_verdict_deinit(&verdict);
    return r;
}

static void attested(struct kbs_rcar_attestation *a, struct kbs_digest *digest)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_rcar_attestation_parse(KBS_SPAN_LIT(MESSAGE), KBS_PROTOCOL_0_4_0, a, &err),
                     0);
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &a->tee_key, a->nonce,
                                            kbs_rcar_additional(a), digest, &err),
                     0);
}

static void sample_evidence(void **state)
{
    struct kbs_rcar_attestation a;
    struct kbs_evidence_result r;
    struct kbs_digest digest;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    attested(&a, &digest);
    assert_int_equal(
        verify(KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &digest, &r, &err), 0);
    assert_int_equal(r.binding, KBS_BINDING_EVIDENCE);
    assert_string_equal(r.status, "contraindicated");
    assert_int_equal(r.hardware, 97);
    assert_string_equal(json_string_value(json_object_get(r.claims, "svn")), "1");
    assert_int_equal(json_object_size(r.claims), 1);
    kbs_evidence_result_deinit(&r);
    kbs_evidence_result_deinit(&r);

    assert_int_equal(
        verify(KBS_TEE_NONE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &digest, &r, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    assert_int_equal(
        verify((enum kbs_tee)77, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &digest, &r, &err), -1);
    digest.p[47] ^= 1; /* another key, nonce or TEE: another digest */
    assert_int_equal(
        verify(KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &digest, &r, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    assert_null(r.claims);
    digest.len = 0;
    assert_int_equal(
        verify(KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &digest, &r, &err), -1);
    kbs_rcar_attestation_deinit(&a);
}

static void sample_evidence_refused(void **state)
{
    static const struct {
        const char *text;
        int category;
    } rows[] = {
        {"{\"svn\":\"1\",\"report_data\":\"" REPORT_DATA "\",\"more\":[]}", KBS_OK},
        {"[]", KBS_INPUT},
        {"{}", KBS_INPUT},
        {"{\"svn\":\"1\"}", KBS_INPUT},
        {"{\"svn\":1,\"report_data\":\"" REPORT_DATA "\"}", KBS_INPUT},
        {"{\"svn\":\"12345678901234567890123456789012345678901234567890123456789012345\",\"report_data\":\"" REPORT_DATA
         "\"}",
         KBS_INPUT},
        {"{\"svn\":\"1\",\"report_data\":\"\"}", KBS_UNAUTHENTICATED},
        /*
         * zero-padded to 64 bytes, as real report fields are; URL-safe alphabet; white space; half
         * of it
         */
        {"{\"svn\":\"1\",\"report_data\":\"" REPORT_DATA "AAAAAAAAAAAAAAAAAAAAAA==\"}",
         KBS_UNAUTHENTICATED},
        {"{\"svn\":\"1\",\"report_data\":\"imJERBsbEXGzodVqaT1M4RbB-coa5Vi8X1nUba2lTPSekqNhqyRyxDRlL-1Yh_Ft\"}",
         KBS_UNAUTHENTICATED},
        {"{\"svn\":\"1\",\"report_data\":\"" REPORT_DATA "\\n\"}", KBS_UNAUTHENTICATED},
        {"{\"svn\":\"1\",\"report_data\":\"imJERBsbEXGzodVqaT1M4RbB\"}", KBS_UNAUTHENTICATED},
    };
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;

    (void)state;
    attested(&a, &digest);
    for (size_t i = 0; i < COUNT(rows); i++) {
        KBS_AUTO_JSON evidence = json_loads(rows[i].text, 0, NULL);
        struct kbs_evidence_result r;
        struct kbs_error err = KBS_ERROR_NONE;

        (void)!verify(KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, evidence, &digest, &r, &err);
        if ((int)err.category != rows[i].category) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        kbs_evidence_result_deinit(&r);
    }
    kbs_rcar_attestation_deinit(&a);
}

/* Verifies one piece of sample evidence into *ret; the digest is of the message. */
static void part_of(const struct kbs_rcar_attestation *a, enum kbs_tee tee,
                    enum kbs_evidence_place place, const json_t *evidence,
                    const struct kbs_span *additional, struct kbs_ear_part *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;

    ret->tee = tee;
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &a->tee_key, a->nonce, additional,
                                            &ret->report_digest, &err),
                     0);
    if (verify(tee, place, evidence, &ret->report_digest, &ret->result, &err) != 0) {
        fail_msg("%s: %s", kbs_tee_name(tee), err.detail);
    }
}

/* The claims set of a message, as kbs-judge makes it. Returns owned. */
static json_t *claims_of_message(const struct kbs_rcar_attestation *a, struct kbs_span issuer,
                                 struct kbs_span sid)
{
    struct kbs_ear_part parts[KBS_EAR_PARTS_MAX];
    const struct kbs_ear ear = {.issuer = issuer,
                                .sid = sid,
                                .iat = 1000,
                                .exp = 1300,
                                .attestation = a,
                                .parts = parts,
                                .part_count = 1 + a->device_count};
    struct kbs_error err = KBS_ERROR_NONE;
    json_t *claims = NULL;

    part_of(a, KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a->primary_evidence, kbs_rcar_additional(a),
            &parts[0]);
    for (size_t i = 0; i < a->device_count; i++) {
        part_of(a, a->devices[i].tee, KBS_EVIDENCE_DEVICE, a->devices[i].evidence, NULL,
                &parts[1 + i]);
    }
    (void)!kbs_ear_build(&ear, &claims, &err);
    for (size_t i = 0; i < ear.part_count; i++) {
        kbs_evidence_result_deinit(&parts[i].result);
    }
    return claims;
}

static json_t *claims_of(struct kbs_span issuer, struct kbs_span sid)
{
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;
    json_t *claims;

    attested(&a, &digest);
    claims = claims_of_message(&a, issuer, sid);
    kbs_rcar_attestation_deinit(&a);
    return claims;
}

/* What is verified as a TEE is not verified as a device, and the other way round. */
static void evidence_in_its_place(void **state)
{
    static const struct {
        enum kbs_tee tee;
        enum kbs_evidence_place place;
        const char *detail;
    } rows[] = {
        {KBS_TEE_SAMPLE, KBS_EVIDENCE_DEVICE, "no verifier here for sample as a device"},
        {KBS_TEE_SAMPLEDEVICE, KBS_EVIDENCE_PRIMARY, "no verifier here for sampledevice as a TEE"},
        {KBS_TEE_TDX, KBS_EVIDENCE_PRIMARY, "no verifier here for tdx as a TEE"},
        {KBS_TEE_AZ_SNP_VTPM, KBS_EVIDENCE_PRIMARY, "no verifier here for az-snp-vtpm as a TEE"},
        {KBS_TEE_NVIDIA, KBS_EVIDENCE_DEVICE, "no verifier here for nvidia as a device"},
        {KBS_TEE_SNP, KBS_EVIDENCE_DEVICE, "no verifier here for snp as a device"},
        {KBS_TEE_SNP, KBS_EVIDENCE_PRIMARY,
         "no verifier here for snp as a TEE: none is configured"},
    };
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;

    (void)state;
    attested(&a, &digest);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_evidence_result r;
        struct kbs_error err = KBS_ERROR_NONE;

        assert_int_equal(verify(rows[i].tee, rows[i].place, a.primary_evidence, &digest, &r, &err),
                         -1);
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
        assert_non_null(strstr(err.detail, rows[i].detail));
        assert_null(r.claims);
    }
    kbs_rcar_attestation_deinit(&a);
}

/* A verifier that makes two checks, told by `with` what they come to. */
struct told {
    bool fail;
    enum kbs_init_data init_data;
    size_t digest_len; /* of init-data, as it was seen */
};

static int told_appraise(const void *with, const json_t *evidence,
                         const struct kbs_expected *expected, struct kbs_verdict *ret,
                         struct kbs_error *err)
{
    static const struct kbs_check_kind bound = {"report-data", KBS_BINDING_EVIDENCE};
    static const struct kbs_check_kind floor = {"floor", KBS_BINDING_FULL};
    struct told *told = (struct told *)(uintptr_t)with;

    (void)evidence;
    (void)err;
    *ret = KBS_VERDICT_NULL;
    assert_int_equal(expected->now_s, 77);
    assert_int_equal(expected->report_data.len, 48);
    told->digest_len = expected->init_data.len;
    kbs_verdict_pass(ret, &bound, "it is");
    if (told->fail) {
        kbs_verdict_fail(ret, &floor, "too low");
    }
    ret->init_data = told->init_data;
    ret->claims = json_pack("{s:s}", "init_data", "c0ffee");
    return 0;
}

/* Of evidence that a configured verifier looks at, every check must hold. */
static void configured_verifier(void **state)
{
    struct told told = {.init_data = KBS_INIT_DATA_ABSENT};
    const struct kbs_verifier verifiers[KBS_TEE_COUNT] = {
        [KBS_TEE_SNP] = {told_appraise, &told}, [KBS_TEE_TDX] = {told_appraise, &told}};
    struct kbs_verdict verdict = KBS_VERDICT_NULL;
    struct kbs_evidence_context context = {
        .now_s = 77, .verifiers = verifiers, .verdict = &verdict};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_evidence_result r;
    struct kbs_digest digest = {.len = 48};
    const struct kbs_digest none = {.len = 0};
    json_t *evidence = json_object();

    (void)state;
    assert_int_equal(kbs_evidence_verify(KBS_TEE_SNP, KBS_EVIDENCE_PRIMARY, evidence, &digest,
                                         &context, &r, &err),
                     0);
    assert_int_equal(r.binding, KBS_BINDING_FULL);
    assert_string_equal(r.class, "cpu");
    assert_string_equal(r.status, "warning");
    assert_int_equal(r.hardware, 2);
    assert_non_null(json_object_get(r.claims, "init_data"));
    assert_null(verdict.claims);
    assert_int_equal(told.digest_len, 0);
    kbs_evidence_result_deinit(&r);
    context.init_data = KBS_SPAN_LIT("version = \"0.1.0\"\nalgorithm = \"sha256\"\n");
    assert_int_equal(kbs_evidence_verify(KBS_TEE_SNP, KBS_EVIDENCE_PRIMARY, evidence, &digest,
                                         &context, &r, &err),
                     0);
    assert_int_equal(told.digest_len, 32);
    kbs_evidence_result_deinit(&r);
    context.init_data = KBS_SPAN_LIT("x");
    assert_int_equal(kbs_evidence_verify(KBS_TEE_SNP, KBS_EVIDENCE_PRIMARY, evidence, &digest,
                                         &context, &r, &err),
                     -1);
    assert_int_equal(err.category, KBS_INPUT);
    context.init_data = KBS_SPAN_EMPTY;
    told.fail = true;
    assert_int_equal(kbs_evidence_verify(KBS_TEE_SNP, KBS_EVIDENCE_PRIMARY, evidence, &digest,
                                         &context, &r, &err),
                     -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    assert_string_equal(err.detail, "evidence: floor: too low");
    assert_int_equal(verdict.count, 2);
    assert_null(r.claims);
    told.fail = false;
    /* Nothing to compare with is never "compared". */
    assert_int_equal(
        kbs_evidence_verify(KBS_TEE_SNP, KBS_EVIDENCE_PRIMARY, evidence, &none, &context, &r, &err),
        -1);
    /* A verifier alone makes no kind: it needs its row. */
    assert_int_equal(kbs_evidence_verify(KBS_TEE_TDX, KBS_EVIDENCE_PRIMARY, evidence, &digest,
                                         &context, &r, &err),
                     -1);
    assert_int_equal(verdict.count, 0);
    json_decref(evidence);
    kbs_verdict_deinit(&verdict);
}

/* init_data stands beside the TEE's claims only if it was matched. */
static void init_data_in_claims(void **state)
{
    static const enum kbs_init_data states[] = {KBS_INIT_DATA_ABSENT, KBS_INIT_DATA_MATCHED,
                                                KBS_INIT_DATA_UNEXPLAINED,
                                                KBS_INIT_DATA_MISMATCHED};
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;

    (void)state;
    attested(&a, &digest);
    for (size_t i = 0; i < COUNT(states); i++) {
        struct kbs_ear_part part = {.tee = KBS_TEE_SNP,
                                    .report_digest = digest,
                                    .result = {.binding = KBS_BINDING_FULL,
                                               .class = "cpu",
                                               .status = "warning",
                                               .claims = json_pack("{s:s}", "init_data", "c0ffee"),
                                               .init_data = states[i]}};
        const struct kbs_ear ear = {.issuer = KBS_SPAN_LIT(ISSUER),
                                    .sid = KBS_SPAN_LIT(SID),
                                    .iat = 1,
                                    .exp = 2,
                                    .attestation = &a,
                                    .parts = &part,
                                    .part_count = 1};
        struct kbs_error err = KBS_ERROR_NONE;
        json_t *claims = NULL;

        assert_int_equal(kbs_ear_build(&ear, &claims, &err), 0);
        assert_int_equal(kbs_ear_init_data_matched(claims), states[i] == KBS_INIT_DATA_MATCHED);
        json_decref(claims);
        kbs_evidence_result_deinit(&part.result);
    }
    assert_false(kbs_ear_init_data_matched(NULL));
    kbs_rcar_attestation_deinit(&a);
}

/* The same handshake with a device beside it, and in 0.2.0. */
#define DEVICE_DATA "kN8tkobKJMiohstH5cp+tfgSULK/PK4q21HRl4tJaQq51O/hwXOFAo+R+D0/7wGT"
#define TEE_PUBKEY                                                  \
    "{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-256\",\"kty\":\"EC\"," \
    "\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","        \
    "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}"
#define MESSAGE_DEVICE                                                                            \
    "{\"runtime-data\":{\"nonce\":\"" NONCE "\",\"tee-pubkey\":" TEE_PUBKEY "},\"tee-evidence\":" \
    "{\"primary_evidence\":{\"svn\":\"1\",\"report_data\":"                                       \
    "\"bxeVpj+2QFlaTCTgPiwObNbcYDX69u4BkqMkSuCNEWUFUMjUK88KaeX97vgD9Oq9\"},"                      \
    "\"additional_evidence\":\"{\\\"sampledevice\\\":{\\\"svn\\\":\\\"2\\\","                     \
    "\\\"report_data\\\":\\\"" DEVICE_DATA "\\\"}}\"}}"
#define MESSAGE_0_2_0                                                                 \
    "{\"tee-pubkey\":" TEE_PUBKEY ",\"tee-evidence\":{\"svn\":\"1\",\"report_data\":" \
    "\"" DEVICE_DATA "\"}}"

static const char *text_at(const json_t *v, const char *submod, const char *name,
                           const char *member)
{
    const json_t *evidence = json_object_get(json_object_get(json_object_get(v, "submods"), submod),
                                             "ear.veraison.annotated-evidence");
    const json_t *at = name != NULL ? json_object_get(evidence, name) : evidence;

    return json_string_value(json_object_get(at, member));
}

static void ear_of_a_device(void **state)
{
    struct kbs_rcar_attestation a;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON claims = NULL;

    (void)state;
    assert_int_equal(
        kbs_rcar_attestation_parse(KBS_SPAN_LIT(MESSAGE_DEVICE), KBS_PROTOCOL_0_4_0, &a, &err), 0);
    claims = claims_of_message(&a, KBS_SPAN_LIT(ISSUER), KBS_SPAN_LIT(SID));
    assert_non_null(claims);
    assert_int_equal(json_object_size(json_object_get(claims, "submods")), 2);
    assert_string_equal(text_at(claims, "cpu0", "sample", "svn"), "1");
    assert_null(text_at(claims, "cpu0", "runtime_data_claims", "additional-evidence"));
    assert_string_equal(text_at(claims, "gpu0", "sampledevice", "svn"), "2");
    assert_string_equal(text_at(claims, "gpu0", NULL, "report_data"), DEVICE_DATA);
    assert_string_equal(text_at(claims, "gpu0", "runtime_data_claims", "nonce"), NONCE);
    assert_null(text_at(claims, "gpu0", "runtime_data_claims", "additional-evidence"));
    kbs_rcar_attestation_deinit(&a);
}

static void ear_of_0_2_0(void **state)
{
    struct kbs_rcar_attestation a;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON claims = NULL;

    (void)state;
    assert_int_equal(
        kbs_rcar_attestation_parse(KBS_SPAN_LIT(MESSAGE_0_2_0), KBS_PROTOCOL_0_2_0, &a, &err), 0);
    a.nonce = KBS_SPAN_LIT(NONCE);
    claims = claims_of_message(&a, KBS_SPAN_LIT(ISSUER), KBS_SPAN_LIT(SID));
    assert_non_null(claims);
    assert_int_equal(json_object_size(json_object_get(claims, "submods")), 1);
    assert_string_equal(text_at(claims, "cpu0", "runtime_data_claims", "nonce"), NONCE);
    assert_null(text_at(claims, "cpu0", "runtime_data_claims", "additional-evidence"));
    kbs_rcar_attestation_deinit(&a);
}

/* Several of one class are numbered; what was not verified makes no claims. */
static void ear_numbers_its_parts(void **state)
{
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;
    struct kbs_ear_part parts[3];
    struct kbs_ear ear = {.issuer = KBS_SPAN_LIT(ISSUER),
                          .sid = KBS_SPAN_LIT(SID),
                          .attestation = &a,
                          .parts = parts,
                          .part_count = 3};
    struct kbs_error err = KBS_ERROR_NONE;
    json_t *claims = NULL;

    (void)state;
    attested(&a, &digest);
    for (size_t i = 0; i < COUNT(parts); i++) {
        part_of(&a, KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &a.additional,
                &parts[i]);
    }
    parts[1].result.class = "gpu";
    parts[2].result.class = "gpu";
    assert_int_equal(kbs_ear_build(&ear, &claims, &err), 0);
    assert_non_null(json_object_get(json_object_get(claims, "submods"), "cpu0"));
    assert_non_null(json_object_get(json_object_get(claims, "submods"), "gpu0"));
    assert_non_null(json_object_get(json_object_get(claims, "submods"), "gpu1"));
    json_decref(claims);

    ear.part_count = 0;
    assert_int_equal(kbs_ear_build(&ear, &claims, &err), -1);
    ear.part_count = 3;
    parts[2].report_digest.len = 0;
    assert_int_equal(kbs_ear_build(&ear, &claims, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
    assert_null(claims);
    for (size_t i = 0; i < COUNT(parts); i++) {
        kbs_evidence_result_deinit(&parts[i].result);
    }
    kbs_rcar_attestation_deinit(&a);
}

#define DOCUMENT "version = \"0.1.0\"\nalgorithm = \"sha256\"\n"

/* What a service vouched for; init_data: hex of its field, or NULL. Returns owned. */
static json_t *vouched(const char *name, const char *status, const char *init_data)
{
    json_t *evidence =
        json_pack("{s:{s:s}, s:s, s:{s:s, s:s}}", "snp", "measurement", "00", "report_data", "00",
                  "runtime_data_claims", "nonce", NONCE, "additional-evidence", "long");

    if (init_data != NULL) {
        assert_int_equal(json_object_set_new(evidence, "init_data", json_string(init_data)), 0);
        assert_int_equal(json_object_set_new(evidence, "init_data_claims", json_object()), 0);
    }
    return json_pack("{s:{s:s, s:s, s:{s:i}, s:o}}", name, "ear.status", status, KBS_EAR_AUTHORITY,
                     "them", "ear.trustworthiness-vector", "executables", 3,
                     "ear.veraison.annotated-evidence", evidence);
}

/* The init-data's digest as a field of 32 bytes has it, in hex. */
static void document_field(char out[2 * 32 + 1])
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_digest digest;
    enum kbs_hash hash;

    assert_int_equal(kbs_init_data_digest(KBS_SPAN_LIT(DOCUMENT), &hash, &digest, &err), 0);
    kbs_hex_cstr(kbs_digest_span(&digest), out, 65);
}

/* Claims of what was only verified elsewhere; `document` came with the handshake. Owned, NULL if refused. */
static json_t *claims_elsewhere(const json_t *submods, struct kbs_span document)
{
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;
    struct kbs_error err = KBS_ERROR_NONE;
    json_t *claims = NULL;

    attested(&a, &digest);
    a.init_data = document;
    const struct kbs_ear ear = {.issuer = KBS_SPAN_LIT(ISSUER),
                                .sid = KBS_SPAN_LIT(SID),
                                .attestation = &a,
                                .submods = submods};
    if (kbs_ear_build(&ear, &claims, &err) != 0) {
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    }
    kbs_rcar_attestation_deinit(&a);
    return claims;
}

static void ear_of_evidence_verified_elsewhere(void **state)
{
    char field[65];
    KBS_AUTO_JSON plain = vouched("cpu0", "affirming", NULL);
    KBS_AUTO_JSON gpu = vouched("gpu0", "affirming", NULL);
    KBS_AUTO_JSON claims = claims_elsewhere(plain, KBS_SPAN_EMPTY);

    (void)state;
    document_field(field);
    assert_true(kbs_span_equal_str(kbs_ear_status(claims), "affirming"));
    assert_string_equal(text_at(claims, "cpu0", "runtime_data_claims", "additional-evidence"),
                        "long");
    assert_null(claims_elsewhere(gpu, KBS_SPAN_EMPTY)); /* nothing of the TEE itself */
    const struct {
        const char *field;
        struct kbs_span document;
        bool accepted;
        bool matched;
    } rows[] = {
        {field, KBS_SPAN_LIT(DOCUMENT), true, true},
        {field, KBS_SPAN_EMPTY, true, false}, /* nobody sent what would explain it */
        {"00", KBS_SPAN_LIT(DOCUMENT), false, false},
        {"", KBS_SPAN_LIT(DOCUMENT), false, false},
        {"no hex", KBS_SPAN_LIT(DOCUMENT), false, false},
        {NULL, KBS_SPAN_LIT(DOCUMENT), true, false}, /* a kind without such a field */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        KBS_AUTO_JSON submods = vouched("cpu0", "affirming", rows[i].field);
        KBS_AUTO_JSON c = claims_elsewhere(submods, rows[i].document);

        assert_int_equal(c != NULL, rows[i].accepted);
        assert_int_equal(c != NULL && kbs_ear_init_data_matched(c), rows[i].matched);
    }
}

static void ear_of_evidence_verified_twice(void **state)
{
    static const struct {
        const char *theirs;
        const char *both;
    } rows[] = {{"affirming", "contraindicated"}, {"contraindicated", "contraindicated"}};
    struct kbs_rcar_attestation a;
    struct kbs_digest digest;
    struct kbs_ear_part part;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    attested(&a, &digest);
    part_of(&a, KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &a.additional, &part);
    for (size_t i = 0; i < COUNT(rows) + 1; i++) {
        const char *theirs = i < COUNT(rows) ? rows[i].theirs : "warning";
        KBS_AUTO_JSON submods = vouched("cpu0", theirs, NULL);
        KBS_AUTO_JSON claims = NULL;
        const struct kbs_ear ear = {.issuer = KBS_SPAN_LIT(ISSUER),
                                    .sid = KBS_SPAN_LIT(SID),
                                    .attestation = &a,
                                    .parts = &part,
                                    .part_count = 1,
                                    .submods = submods};

        part.result.status = i < COUNT(rows) ? "contraindicated" : "affirming";
        assert_int_equal(kbs_ear_build(&ear, &claims, &err), 0);
        const json_t *cpu = json_object_get(json_object_get(claims, "submods"), "cpu0");
        assert_true(
            kbs_span_equal_str(kbs_ear_status(claims), i < COUNT(rows) ? rows[i].both : "warning"));
        assert_null(json_object_get(cpu, KBS_EAR_AUTHORITY)); /* the claims are ours */
        cpu = json_object_get(cpu, KBS_EAR_DELEGATED);
        assert_string_equal(json_string_value(json_object_get(cpu, "ear.status")), theirs);
        assert_string_equal(json_string_value(json_object_get(cpu, KBS_EAR_AUTHORITY)), "them");
        assert_string_equal(text_at(claims, "cpu0", "sample", "svn"), "1");
    }
    kbs_evidence_result_deinit(&part.result);
    kbs_rcar_attestation_deinit(&a);
}

static void ear_claims(void **state)
{
    KBS_AUTO_JSON claims = claims_of(KBS_SPAN_LIT(ISSUER), KBS_SPAN_LIT(SID));
    struct kbs_buf out = KBS_BUF(8192);
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_non_null(claims);
    assert_int_equal(kbs_json_canonical(claims, &out, &err), 0);
    assert_string_equal(
        kbs_buf_cstr(&out),
        "{\"ear.verifier-id\":{\"build\":\"kbs-judge 0.1.0\",\"developer\":\"kbs-hsm\"},"
        "\"eat_profile\":\"tag:github.com,2024:confidential-containers/Trustee\",\"exp\":1300,\"iat\":1000,"
        "\"iss\":\"" ISSUER "\",\"sid\":\"" SID
        "\",\"submods\":{\"cpu0\":{\"ear.appraisal-policy-id\":\"default\","
        "\"ear.status\":\"contraindicated\",\"ear.trustworthiness-vector\":{\"configuration\":36,"
        "\"executables\":33,\"hardware\":97},\"ear.veraison.annotated-evidence\":{\"report_data\":\"" REPORT_DATA
        "\",\"runtime_data_claims\":{\"additional-evidence\":\"\",\"nonce\":\"" NONCE
        "\",\"tee-pubkey\":{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-256\",\"kty\":\"EC\","
        "\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","
        "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}},\"sample\":{\"svn\":\"1\"}}}}}");
    kbs_buf_deinit(&out);
    assert_null(claims_of(KBS_SPAN_LIT("\xff"), KBS_SPAN_LIT(SID)));
}

static void ear_check_accepts_our_own(void **state)
{
    KBS_AUTO_JSON claims = claims_of(KBS_SPAN_LIT(ISSUER), KBS_SPAN_LIT(SID));
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span sid;

    (void)state;
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), 1000, &sid, &err), 0);
    assert_true(kbs_span_equal_str(sid, SID));
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), 1299, &sid, &err), 0);
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), 999, &sid, &err), -1);
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), 1300, &sid, &err), -1);
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT("https://kbs.exampl"), 1000, &sid, &err),
                     -1);
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT("https://KBS.example"), 1000, &sid, &err),
                     -1);
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_EMPTY, 1000, &sid, &err), -1);
    assert_int_equal(sid.len, 0);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
}

/* One member of a good claims set replaced (NULL: removed). */
static void ear_check_refuses(void **state)
{
    static const struct {
        const char *name;
        const char *value;
    } rows[] = {
        {"iss", NULL},
        {"iss", "[\"" ISSUER "\"]"},
        {"iss", "\"\""},
        {"iss", "null"},
        {"eat_profile", NULL},
        {"eat_profile", "\"tag:github.com,2023:veraison/ear\""},
        {"eat_profile", "1"},
        {"exp", NULL},
        {"exp", "\"1300\""},
        {"exp", "1300.0"},
        {"exp", "1e308"},
        {"exp", "-1"},
        {"exp", "1000"},
        {"exp", "null"},
        {"iat", NULL},
        {"iat", "\"1000\""},
        {"iat", "1000.5"},
        {"iat", "-1"},
        {"iat", "9000000000000"},
        {"iat", "1200"},
        {"nbf", "1200"},
        {"nbf", "\"0\""},
        {"nbf", "null"},
        {"sid", NULL},
        {"sid", "\"\""},
        {"sid", "1"},
        {"sid", "\"AABB\""},
        {"sid", "\"../etc\""},
        {"sid", "\"" SID SID "0\""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        KBS_AUTO_JSON claims = claims_of(KBS_SPAN_LIT(ISSUER), KBS_SPAN_LIT(SID));
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_span sid;

        if (rows[i].value == NULL) {
            assert_int_equal(json_object_del(claims, rows[i].name), 0);
        } else {
            json_t *v = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);
            assert_non_null(v);
            assert_int_equal(json_object_set_new(claims, rows[i].name, v), 0);
        }
        if (kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), 1100, &sid, &err) != -1) {
            fail_msg("accepted: %s %s", rows[i].name,
                     rows[i].value != NULL ? rows[i].value : "removed");
        }
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    }
}

/*
 * Splits and verifies a token with the key in its own header: what no production code does. Returns
 * owned.
 */
static json_t *self_verified(const char *name)
{
    struct kbs_buf file = KBS_BUF(1 << 16);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jws jws;
    struct kbs_ec_public key;
    json_t *payload;

    vectors_read(name, &file);
    while (file.len > 0 && file.p[file.len - 1] == '\n') {
        file.len--;
    }
    assert_int_equal(kbs_jose_jws_split(kbs_buf_span(&file), &jws, &err), 0);
    assert_int_equal(kbs_jose_jwk_get(json_object_get(jws.header, "jwk"), "ES256", &key, &err), 0);
    assert_int_equal(kbs_jose_jws_verify(&jws, &key, &payload, &err), 0);
    kbs_jose_jws_deinit(&jws);

    file.p[file.len - 1] =
        file.p[file.len - 1] == 'A' ? 'Q' : 'A'; /* the detector: a changed signature */
    if (kbs_jose_jws_split(kbs_buf_span(&file), &jws, &err) == 0) {
        json_t *none = NULL;

        assert_int_equal(kbs_jose_jws_verify(&jws, &key, &none, &err), -1);
        kbs_jose_jws_deinit(&jws);
    }
    kbs_buf_deinit(&file);
    return payload;
}

/*
 * A real token of Trustee's (CCA, expired): its report_data is our canonical digest of its runtime
 * data.
 */
static void trustee_token(void **state)
{
    KBS_AUTO_JSON claims = self_verified("ear/trustee-cca-expired.jwt");
    const json_t *cpu0 = json_object_get(json_object_get(claims, "submods"), "cpu0");
    const json_t *evidence = json_object_get(cpu0, "ear.veraison.annotated-evidence");
    struct kbs_buf canonical = KBS_BUF(4096);
    struct kbs_buf hex = KBS_BUF(256);
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t padded[64] = {0};
    struct kbs_digest d;
    struct kbs_span part;
    struct kbs_span sid;

    (void)state;
    assert_int_equal(
        kbs_json_canonical(json_object_get(evidence, "runtime_data_claims"), &canonical, &err), 0);
    part = kbs_buf_span(&canonical);
    kbs_digest(KBS_HASH_SHA384, &part, 1, &d);
    memcpy(padded, d.p, d.len);
    kbs_hex_put(&hex, kbs_span(padded, sizeof(padded)));
    assert_string_equal(kbs_buf_cstr(&hex),
                        json_string_value(json_object_get(evidence, "report_data")));
    assert_int_equal(
        kbs_ear_check(claims, KBS_SPAN_LIT("CoCo-Attestation-Service"), 1752059200, &sid, &err),
        -1);
    kbs_buf_deinit(&canonical);
    kbs_buf_deinit(&hex);
}

static void veraison_token(void **state)
{
    KBS_AUTO_JSON claims = self_verified("ear/header-jwk-self-signed.jwt");
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span sid;

    (void)state;
    assert_int_equal(kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), 1666091373, &sid, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample_evidence),
        cmocka_unit_test(sample_evidence_refused),
        cmocka_unit_test(ear_claims),
        cmocka_unit_test(ear_check_accepts_our_own),
        cmocka_unit_test(ear_check_refuses),
        cmocka_unit_test(trustee_token),
        cmocka_unit_test(veraison_token),
        cmocka_unit_test(evidence_in_its_place),
        cmocka_unit_test(configured_verifier),
        cmocka_unit_test(init_data_in_claims),
        cmocka_unit_test(ear_of_a_device),
        cmocka_unit_test(ear_of_0_2_0),
        cmocka_unit_test(ear_numbers_its_parts),
        cmocka_unit_test(ear_of_evidence_verified_elsewhere),
        cmocka_unit_test(ear_of_evidence_verified_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
