/* Trust vectors, the built-in appraisal, and the readers of reference values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "attest/appraise.h"
#include "attest/reference.h"
#include "base/limits.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- vectors ---- */

static void test_tiers(void **state)
{
    static const struct {
        int value;
        const char *tier;
    } cases[] = {
        {0, "none"},      {2, "affirming"},         {31, "affirming"},         {32, "warning"},
        {95, "warning"},  {96, "contraindicated"},  {127, "contraindicated"},  {1, "warning"},
        {-1, "warning"},  {-2, "affirming"},        {-32, "affirming"},        {-33, "warning"},
        {-96, "warning"}, {-97, "contraindicated"}, {-128, "contraindicated"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_string_equal(kbs_trust_tier(cases[i].value), cases[i].tier);
    }
}

static void test_status_is_the_worst(void **state)
{
    struct kbs_trust_vector v = {.claim = {0}};

    (void)state;
    assert_string_equal(kbs_trust_status(&v), "none");
    v.claim[KBS_TRUST_HARDWARE] = 2;
    assert_string_equal(kbs_trust_status(&v), "affirming");
    v.claim[KBS_TRUST_STORAGE_OPAQUE] = 33;
    assert_string_equal(kbs_trust_status(&v), "warning");
    v.claim[KBS_TRUST_FILE_SYSTEM] = 96;
    assert_string_equal(kbs_trust_status(&v), "contraindicated");
}

static void test_claims_of_a_policy(void **state)
{
    static const struct {
        const char *claims;
        const char *status; /* NULL: refused with `why` */
        const char *why;
    } cases[] = {
        {"{\"executables\":3,\"hardware\":2,\"configuration\":2}", "affirming", NULL},
        {"{\"executables\":3,\"file-system\":0,\"instance_identity\":0}", "affirming", NULL},
        {"{\"executables\":33,\"hardware\":2}", "warning", NULL},
        {"{\"executables\":33,\"hardware\":97}", "contraindicated", NULL},
        {"{\"sourced_data\":-128}", "contraindicated", NULL},
        {"{}", NULL, "no trust claim"},
        {"{\"executables\":0}", NULL, "no trust claim"},
        {"{\"executable\":3}", NULL, "is no trust claim"},
        {"{\"executables\":\"3\"}", NULL, "not an integer"},
        {"{\"executables\":3.0}", NULL, "not an integer"},
        {"{\"executables\":null}", NULL, "not an integer"},
        {"{\"executables\":128}", NULL, "not an integer"},
        {"{\"executables\":-129}", NULL, "not an integer"},
        {"{\"file-system\":2,\"file_system\":3}", NULL, "twice"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        KBS_AUTO_JSON claims = json_loads(cases[i].claims, 0, NULL);
        struct kbs_trust_vector v;
        struct kbs_error err = KBS_ERROR_NONE;
        int rc = kbs_trust_read(claims, &v, &err);

        assert_int_equal(rc, cases[i].status != NULL ? 0 : -1);
        if (rc == 0) {
            assert_string_equal(kbs_trust_status(&v), cases[i].status);
        } else {
            assert_non_null(strstr(err.detail, cases[i].why));
        }
    }
}

/* ---- the built-in appraisal ---- */

#define SNP                                                                                      \
    "{\"snp\":{\"measurement\":\"aa\",\"reported_tcb_bootloader\":3,\"reported_tcb_tee\":0,"     \
    "\"reported_tcb_snp\":8,\"reported_tcb_microcode\":115,\"platform_smt_enabled\":true,"       \
    "\"platform_tsme_enabled\":false,\"policy_abi_major\":0,\"policy_abi_minor\":31,"            \
    "\"policy_single_socket\":false,\"policy_smt_allowed\":true,\"policy_debug_allowed\":false," \
    "\"policy_migrate_ma\":false}}"
#define TCB \
    "\"snp_bootloader\":[3],\"snp_tee_svn\":[0],\"snp_snp_svn\":[7,8],\"snp_microcode\":[115]"
#define CONFIG                                                                         \
    "\"snp_smt_enabled\":true,\"snp_tsme_enabled\":[false],\"snp_guest_abi_major\":0," \
    "\"snp_guest_abi_minor\":31,\"snp_single_socket\":false,\"snp_smt_allowed\":true"
#define SAMPLE "{\"sample\":{\"svn\":\"1\"}}"

static const struct builtin {
    const char *name;
    enum kbs_tee tee;
    const char *evidence;
    const char *references;
    int executables;
    int hardware;
    int configuration;
    const char *status;
} builtins[] = {
    {"no reference values", KBS_TEE_SNP, SNP, "{}", 33, 2, 3, "warning"},
    {"the measurement", KBS_TEE_SNP, SNP, "{\"snp_launch_measurement\":[\"bb\",\"aa\"]}", 3, 2, 3,
     "affirming"},
    {"the measurement, alone", KBS_TEE_SNP, SNP, "{\"snp_launch_measurement\":\"aa\"}", 3, 2, 3,
     "affirming"},
    {"another measurement", KBS_TEE_SNP, SNP, "{\"snp_launch_measurement\":[\"AA\"]}", 33, 2, 3,
     "warning"},
    {"an empty list", KBS_TEE_SNP, SNP, "{\"snp_launch_measurement\":[]}", 33, 2, 3, "warning"},
    {"everything", KBS_TEE_SNP, SNP, "{\"snp_launch_measurement\":[\"aa\"]," TCB "," CONFIG "}", 3,
     2, 2, "affirming"},
    {"a part of the configuration", KBS_TEE_SNP, SNP,
     "{\"snp_launch_measurement\":[\"aa\"],\"snp_smt_enabled\":true}", 3, 2, 3, "affirming"},
    {"another configuration", KBS_TEE_SNP, SNP,
     "{\"snp_launch_measurement\":[\"aa\"],\"snp_smt_enabled\":false}", 3, 2, 32, "warning"},
    {"another TCB", KBS_TEE_SNP, SNP,
     "{\"snp_launch_measurement\":[\"aa\"],\"snp_microcode\":[116]}", 3, 97, 3, "contraindicated"},
    {"a number as text", KBS_TEE_SNP, SNP, "{\"snp_microcode\":[\"115\"]}", 33, 97, 3,
     "contraindicated"},
    {"a claim that is not there", KBS_TEE_SNP, "{\"snp\":{}}", "{\"snp_microcode\":[1]}", 33, 97, 3,
     "contraindicated"},
    {"names of another kind", KBS_TEE_SNP, SNP, "{\"svn\":[\"2\"],\"launch_digest\":[\"x\"]}", 33,
     2, 3, "warning"},
    {"sample, nothing", KBS_TEE_SAMPLE, SAMPLE, "{}", 33, 97, 36, "contraindicated"},
    {"sample, a part", KBS_TEE_SAMPLE, SAMPLE, "{\"svn\":[\"1\"]}", 33, 97, 36, "contraindicated"},
    {"sample, everything", KBS_TEE_SAMPLE, SAMPLE,
     "{\"launch_digest\":[\"abcde\"],\"svn\":[\"1\"],\"major_version\":1,"
     "\"minimum_minor_version\":3}",
     3, 2, 36, "warning"},
    {"sample, too old", KBS_TEE_SAMPLE, SAMPLE,
     "{\"svn\":[\"1\"],\"major_version\":1,\"minimum_minor_version\":5}", 33, 97, 36,
     "contraindicated"},
    {"a device", KBS_TEE_SAMPLEDEVICE, "{\"sampledevice\":{\"svn\":\"2\"}}", "{\"svn\":[\"2\"]}",
     33, 97, 36, "contraindicated"},
};

static void count_each(void *ctx, const struct kbs_comparison *c)
{
    unsigned int *counts = ctx;

    counts[c->match]++;
    assert_non_null(c->reference);
    assert_true((c->expected == NULL) == (c->match == KBS_MATCH_UNKNOWN));
}

static void test_builtin(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(builtins); i++) {
        const struct builtin *b = &builtins[i];
        KBS_AUTO_JSON evidence = json_loads(b->evidence, 0, NULL);
        KBS_AUTO_JSON before = json_deep_copy(evidence);
        KBS_AUTO_JSON references = json_loads(b->references, 0, NULL);
        KBS_AUTO_JSON input = kbs_appraise_input(b->tee, evidence);
        bool snp = b->tee == KBS_TEE_SNP;
        struct kbs_trust_vector v = {.claim = {[KBS_TRUST_EXECUTABLES] = 33,
                                               [KBS_TRUST_HARDWARE] = snp ? 2 : 97,
                                               [KBS_TRUST_CONFIGURATION] = snp ? 3 : 36}};
        unsigned int counts[3] = {0, 0, 0};

        kbs_appraise_builtin(b->tee, input, references, &v, count_each, counts);
        if (v.claim[KBS_TRUST_EXECUTABLES] != b->executables ||
            v.claim[KBS_TRUST_HARDWARE] != b->hardware ||
            v.claim[KBS_TRUST_CONFIGURATION] != b->configuration ||
            strcmp(kbs_trust_status(&v), b->status) != 0) {
            fail_msg("%s: executables %d, hardware %d, configuration %d", b->name,
                     v.claim[KBS_TRUST_EXECUTABLES], v.claim[KBS_TRUST_HARDWARE],
                     v.claim[KBS_TRUST_CONFIGURATION]);
        }
        assert_int_equal(counts[0] + counts[1] + counts[2], snp                        ? 11
                                                            : b->tee == KBS_TEE_SAMPLE ? 4
                                                                                       : 0);
        assert_true(json_equal(evidence, before)); /* what the token says stays as it is */
    }
}

static void test_policy_input(void **state)
{
    KBS_AUTO_JSON evidence = json_loads(SNP, 0, NULL);
    KBS_AUTO_JSON input = kbs_appraise_input(KBS_TEE_SNP, evidence);
    const json_t *newer = json_object_get(json_object_get(input, "snp"), "evidence");

    (void)state;
    assert_string_equal(json_string_value(json_object_get(newer, "measurement")), "aa");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(newer, "reported_tcb"), "microcode")),
        115);
    assert_true(json_is_false(json_object_get(json_object_get(newer, "policy"), "debug_allowed")));
    assert_true(json_is_true(json_object_get(json_object_get(newer, "plat_info"), "smt_enabled")));
}

/* ---- reference values ---- */

#define DIGEST48                                       \
    "000102030405060708090a0b0c0d0e0f1011121314151617" \
    "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
#define DIGEST32_BASE64 "h0KPxSKAPTEGXnvOPPA/5HUJZjHl4Hu9eg/eYMTPJcc="
#define DIGEST32 "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7"

static const struct read {
    const char *name;
    const char *text;
    enum kbs_reference_form form;
    const char *as;
    const char *values; /* NULL: refused with `why` */
    const char *why;
} reads[] = {
    {"digests", "# launch digests\n" DIGEST48 "\n\n  " DIGEST32 "  kernel.bin\r\n",
     KBS_REFERENCE_ANY, "snp_launch_measurement",
     "{\"snp_launch_measurement\":[\"" DIGEST48 "\",\"" DIGEST32 "\"]}", NULL},
    {"upper case", "87428FC522803D31065E7BCE3CF03FE475096631E5E07BBD7A0FDE60C4CF25C7",
     KBS_REFERENCE_LIST, "a", "{\"a\":[\"" DIGEST32 "\"]}", NULL},
    {"no name", DIGEST48, KBS_REFERENCE_ANY, NULL, NULL, "needs a name"},
    {"no digests", "# none\n", KBS_REFERENCE_ANY, "a", NULL, "no reference values"},
    {"empty", "", KBS_REFERENCE_LIST, "a", NULL, "no reference values"},
    {"not hex", DIGEST48 "\nxyz\n", KBS_REFERENCE_ANY, "a", NULL, "line 2"},
    {"short", "00112233\n", KBS_REFERENCE_ANY, "a", NULL, "line 1"},
    {"long", DIGEST48 DIGEST48 "\n", KBS_REFERENCE_ANY, "a", NULL, "line 1"},
    {"message", "{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"eyJhIjpbMV19\"}",
     KBS_REFERENCE_ANY, NULL, "{\"a\":[1]}", NULL},
    {"message without version", "{\"type\":\"sample\",\"payload\":\"eyJhIjpbMV19\"}",
     KBS_REFERENCE_ANY, NULL, "{\"a\":[1]}", NULL},
    {"message of another type", "{\"type\":\"corim\",\"payload\":\"eyJhIjpbMV19\"}",
     KBS_REFERENCE_ANY, NULL, NULL, "type sample"},
    {"message with more", "{\"type\":\"sample\",\"payload\":\"e30=\",\"x\":1}", KBS_REFERENCE_ANY,
     NULL, NULL, "is unknown"},
    {"values", "{\"svn\":[\"1\"],\"major_version\":1}", KBS_REFERENCE_ANY, NULL,
     "{\"svn\":[\"1\"],\"major_version\":1}", NULL},
    {"values with a name", "{\"svn\":[\"1\"]}", KBS_REFERENCE_ANY, "a", NULL, "names of their own"},
    {"null", "{\"svn\":null}", KBS_REFERENCE_ANY, NULL, NULL, "is null"},
    {"no values", "{}", KBS_REFERENCE_ANY, NULL, NULL, "no reference values"},
    {"JSON that is none", "{\"a\":", KBS_REFERENCE_ANY, NULL, NULL, ""},
    {"CBOR", "\xd9\x01\xf5\xa1", KBS_REFERENCE_ANY, NULL, NULL, "CBOR"},
    {"XML", "<SoftwareIdentity/>", KBS_REFERENCE_ANY, NULL, NULL, "SWID"},
};

#define COMID                                                                                  \
    "{\"tag-identity\":{\"id\":\"x\"},\"triples\":{\"reference-values\":[{\"environment\":{"   \
    "\"class\":{\"vendor\":\"ACME Inc.\",\"model\":\"Road/Runner\"}},\"measurements\":["       \
    "{\"key\":{\"type\":\"uuid\",\"value\":\"31fb5abf-023e-4992-aa4e-95f9c1503bfa\"},"         \
    "\"value\":{\"digests\":[\"sha-256;" DIGEST32_BASE64 "\",\"sha-256:" DIGEST32_BASE64       \
    "\"],\"svn\":{\"type\":\"exact-value\",\"value\":3}}},"                                    \
    "{\"key\":{\"type\":\"uint\",\"value\":700},\"value\":{\"raw-value\":{\"type\":\"bytes\"," \
    "\"value\":\"3q2+7w==\"}}}]}]}}"
#define COMID_VALUES                                                                       \
    "{\"ACME_Inc./Road_Runner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests\":[\"" DIGEST32 \
    "\",\"" DIGEST32 "\"],\"ACME_Inc./Road_Runner/claim700/raw_bytes\":[\"deadbeef\"]}"

static const struct read comids[] = {
    {"CoMID", COMID, KBS_REFERENCE_ANY, NULL, COMID_VALUES, NULL},
    {"CoMID under one name", COMID, KBS_REFERENCE_COMID, "m",
     "{\"m\":[\"" DIGEST32 "\",\"" DIGEST32 "\",\"deadbeef\"]}", NULL},
    {"no triples", "{\"tag-identity\":{}}", KBS_REFERENCE_COMID, NULL, NULL,
     "triples/reference-values"},
    {"no measurements", "{\"triples\":{\"reference-values\":[{}]}}", KBS_REFERENCE_ANY, NULL, NULL,
     "measurements"},
    {"nothing in it", "{\"triples\":{\"reference-values\":[]}}", KBS_REFERENCE_ANY, NULL, NULL,
     "no reference values"},
    {"a digest that is none",
     "{\"triples\":{\"reference-values\":[{\"measurements\":[{\"value\":{\"digests\":[\"x\"]}}]}]}}",
     KBS_REFERENCE_ANY, NULL, NULL, "sha-384;"},
    {"a digest that is no text",
     "{\"triples\":{\"reference-values\":[{\"measurements\":[{\"value\":{\"digests\":[1]}}]}]}}",
     KBS_REFERENCE_ANY, NULL, NULL, "sha-384;"},
    {"a raw value that is none",
     "{\"triples\":{\"reference-values\":[{\"measurements\":[{\"value\":{\"raw-value\":{}}}]}]}}",
     KBS_REFERENCE_ANY, NULL, NULL, "raw value"},
};

static void read_one(const struct read *r, size_t left_out)
{
    struct kbs_reference_import import = {.form = r->form, .as = r->as};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON values = NULL;
    int rc = kbs_reference_read(kbs_span_str(r->text), &import, &values, &err);

    if (rc != (r->values != NULL ? 0 : -1) || (rc != 0 && strstr(err.detail, r->why) == NULL)) {
        fail_msg("%s: %s", r->name, rc == 0 ? "taken" : err.detail);
    }
    if (rc == 0) {
        KBS_AUTO_JSON expected = json_loads(r->values, 0, NULL);

        assert_true(json_equal(values, expected));
        assert_int_equal(import.left_out, left_out);
    } else {
        assert_null(values);
    }
}

static void test_reference_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(reads); i++) {
        read_one(&reads[i], 0);
    }
}

static void test_comid(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(comids); i++) {
        read_one(&comids[i], 1); /* the svn */
    }
}

/* A name that grows beyond what a document can have. */
static void test_comid_long_name(void **state)
{
    struct kbs_buf text = KBS_BUF(8192);
    struct kbs_reference_import import = {.form = KBS_REFERENCE_ANY};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON values = NULL;

    (void)state;
    kbs_buf_put_str(&text, "{\"triples\":{\"reference-values\":[{\"environment\":{\"class\":{"
                           "\"vendor\":\"");
    for (int i = 0; i < KBS_LIMIT_DOCUMENT_NAME_BYTES; i++) {
        kbs_buf_put_u8(&text, 'v');
    }
    kbs_buf_put_str(&text,
                    "\"}},\"measurements\":[{\"value\":{\"digests\":[\"sha-256;" DIGEST32_BASE64
                    "\"]}}]}]}}");
    assert_int_equal(kbs_reference_read(kbs_buf_span(&text), &import, &values, &err), -1);
    assert_non_null(strstr(err.detail, "too long"));
    kbs_buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_status_is_the_worst),
        cmocka_unit_test(test_claims_of_a_policy),
        cmocka_unit_test(test_builtin),
        cmocka_unit_test(test_policy_input),
        cmocka_unit_test(test_reference_forms),
        cmocka_unit_test(test_comid),
        cmocka_unit_test(test_comid_long_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
