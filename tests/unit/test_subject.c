/*
 * Unit tests of the `kbs` root: what of a guest is ours to say, and that nothing of it comes from claims that
 * somebody else vouched for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/context.h"
#include "policy/release.h"

#define SNP                                                                                          \
    "\"snp\":{\"policy_debug_allowed\":false,\"vmpl\":1,\"chip_id\":\"c1\",\"reported_tcb_snp\":23," \
    "\"reported_tcb_microcode\":72,\"current_tcb_snp\":99,\"measurement\":\"m\""
#define CLAIMS(more, evidence)                                                    \
    "{\"iss\":\"us\",\"kbs\":{\"binding\":\"full\"},\"submods\":{\"cpu0\":{" more \
    "\"ear.veraison.annotated-evidence\":{" evidence "},\"init_data\":\"00\"}}}}"

struct case_of {
    enum kbs_binding binding;
    enum kbs_tee tee;
    const char *claims;
    const char *expected; /* members that the root has, as JSON */
    const char *native;   /* all of `native` */
};

static const struct case_of cases[] = {
    {KBS_BINDING_FULL, KBS_TEE_SNP, CLAIMS("", SNP),
     "{\"mode\":\"rcar\",\"issuer\":\"us\",\"tee\":\"snp\",\"binding\":\"full\",\"binding_level\":5,"
     "\"token_age_s\":60,\"session_age_s\":90,\"init_data_matched\":true,\"pop\":false,"
     "\"encrypted\":false,\"locality\":\"token\",\"time\":1000}",
     "{\"chain\":true,\"debug\":false,\"vmpl\":1,\"place\":\"c1\",\"tcb\":{\"snp\":23,"
     "\"microcode\":72}}"},
    {KBS_BINDING_HARDWARE, KBS_TEE_SNP, CLAIMS("", SNP ",\"csp_id\":\"p\""),
     "{\"binding\":\"hardware\",\"binding_level\":4}",
     "{\"chain\":true,\"debug\":false,\"vmpl\":1,\"place\":\"p\",\"tcb\":{\"snp\":23,"
     "\"microcode\":72}}"},
    /* nobody here looked at the signatures */
    {KBS_BINDING_EVIDENCE, KBS_TEE_SNP, CLAIMS("", SNP), "{\"binding_level\":3}",
     "{\"chain\":false}"},
    /* somebody else's words, whatever they are called */
    {KBS_BINDING_FULL, KBS_TEE_SNP, CLAIMS("\"ear.kbs-hsm.authority\":\"https://maa\",", SNP),
     "{\"issuer\":\"https://maa\",\"mode\":\"rcar\"}", "{\"chain\":true}"},
    {KBS_BINDING_TOKEN, KBS_TEE_SNP, CLAIMS("\"ear.kbs-hsm.authority\":\"https://maa\",", SNP),
     "{\"issuer\":\"https://maa\",\"mode\":\"passport\",\"binding\":\"token\"}",
     "{\"chain\":false}"},
    /* a TEE without a table, and evidence of another kind than the session's */
    {KBS_BINDING_FULL, KBS_TEE_TDX, CLAIMS("", "\"tdx\":{\"vmpl\":0"), "{\"tee\":\"tdx\"}",
     "{\"chain\":true}"},
    {KBS_BINDING_FULL, KBS_TEE_SNP, CLAIMS("", "\"tdx\":{\"vmpl\":0"), "{\"tee\":\"snp\"}",
     "{\"chain\":true}"},
};

static json_t *root_of(const struct case_of *c)
{
    static struct kbs_api api = {.issuer = "us"};
    struct kbs_session session = {
        .tee = c->tee,
        .binding = c->binding,
        .passport = c->binding == KBS_BINDING_TOKEN ? "them" : NULL,
        .created_s = 910,
        .attested_s = 940,
        .tee_key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = {.curve = KBS_CURVE_P256}}};
    const struct kbs_key key = {.path = "a/b/c", .version = 7};
    const struct kbs_circumstances how = {.session = &session,
                                          .key = &key,
                                          .locality = KBS_LOCALITY_TOKEN,
                                          .plugin = "key",
                                          .method = "POST",
                                          .target = KBS_SPAN_LIT("/kbs/v0/key/a/b/c"),
                                          .now_s = 1000};
    KBS_AUTO_JSON input = json_loads(c->claims, 0, NULL);

    assert_non_null(input);
    json_t *root = kbs_subject_root(&api, &how, input);
    assert_non_null(root);
    return root;
}

static void says_what_we_know(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        KBS_AUTO_JSON root = root_of(&cases[i]);
        KBS_AUTO_JSON expected = json_loads(cases[i].expected, 0, NULL);
        KBS_AUTO_JSON native = json_loads(cases[i].native, 0, NULL);
        const char *name = NULL;
        json_t *value = NULL;

        assert_non_null(expected);
        json_object_foreach(expected, name, value)
        {
            if (json_equal(value, json_object_get(root, name)) != 1) {
                fail_msg("case %zu: %s", i, name);
            }
        }
        if (json_equal(native, json_object_get(root, "native")) != 1) {
            fail_msg("case %zu: native is %s", i,
                     json_dumps(json_object_get(root, "native"), JSON_COMPACT));
        }
        assert_int_equal(
            json_integer_value(json_object_get(json_object_get(root, "key"), "version")), 7);
    }
}

/* A member `kbs` of the claims is not reached by any path. */
static void is_not_the_tokens_to_say(void **state)
{
    KBS_AUTO_JSON root = root_of(&cases[2]);
    KBS_AUTO_JSON input = json_loads(cases[2].claims, 0, NULL);
    const struct kbs_policy_subject subject = {.input = input, .kbs = root};
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(
        kbs_policy_decide(
            KBS_SPAN_LIT("{\"version\":\"1.0.0\",\"anyOf\":[{\"anyOf\":["
                         "{\"claim\":\"kbs.binding\",\"equals\":\"full\"},"
                         "{\"claim\":\"\\\"kbs\\\".binding\",\"equals\":\"full\"}]}]}"),
            &subject, &err),
        -1);
    assert_string_equal(err.detail, "policy: anyOf[0] kbs.binding differs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_we_know),
        cmocka_unit_test(is_not_the_tokens_to_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
