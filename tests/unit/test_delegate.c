/*
 * What attestation services are asked and answer: the bytes, against their own documentation; and that no
 * answer but a token's is taken for one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "attest/delegate/delegate.h"
#include "base/encoding.h"
#include "jose/read/json.h"

#define RUNTIME "{\"nonce\":\"n\",\"tee-pubkey\":{\"alg\":\"a\"}}"
#define INIT_DATA "version = \"0.1.0\"\nalgorithm = \"sha256\"\n"
#define TOKEN "aGVhZGVy.cGF5bG9hZA.c2ln"

#define TEXT(s)                                         \
    {                                                   \
        .p = (const uint8_t *)(s), .len = sizeof(s) - 1 \
    }

static const struct kbs_span policies[] = {TEXT("default"), TEXT("a\"b")};

/* A request for one or two pieces of evidence; `free_with` keeps the evidence. */
static struct kbs_delegate_question question(struct kbs_delegate_part parts[2], json_t **free_with,
                                             size_t count)
{
    *free_with =
        json_pack("[{s:s}, {s:s, s:s}]", "svn", "1", "quote", "cXVvdGU=", "cc_eventlog", "bG9n");
    parts[0] = (struct kbs_delegate_part){.tee = KBS_TEE_SNP,
                                          .evidence = json_array_get(*free_with, 0),
                                          .runtime_data = KBS_SPAN_LIT(RUNTIME)};
    parts[1] = (struct kbs_delegate_part){.tee = KBS_TEE_TDX,
                                          .evidence = json_array_get(*free_with, 1),
                                          .runtime_data = KBS_SPAN_LIT(RUNTIME)};
    return (struct kbs_delegate_question){.parts = parts,
                                          .count = count,
                                          .hash = KBS_HASH_SHA384,
                                          .init_data = KBS_SPAN_LIT(INIT_DATA),
                                          .policy_ids = policies,
                                          .policy_count = 2};
}

static json_t *asked(enum kbs_delegate type, const struct kbs_delegate_question *q,
                     const char *suffix)
{
    struct kbs_delegate_request r = KBS_DELEGATE_REQUEST;
    struct kbs_error err = KBS_ERROR_NONE;
    json_t *root = NULL;

    assert_int_equal(kbs_delegate_ask(type, q, &r, &err), 0);
    assert_string_equal(r.suffix, suffix);
    assert_string_equal(r.content_type, "application/json");
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&r.body), "request", &root, &err), 0);
    kbs_delegate_request_deinit(&r);
    return root;
}

static void check_evidence(const json_t *text, const char *expected)
{
    struct kbs_buf bytes = KBS_BUF(4096);

    assert_int_equal(kbs_base64url_get(&bytes, kbs_span_str(json_string_value(text))), 0);
    assert_string_equal(kbs_buf_cstr(&bytes), expected);
    kbs_buf_deinit(&bytes);
}

static void test_coco_rest(void **state)
{
    struct kbs_delegate_part parts[2];
    json_t *evidence;
    struct kbs_delegate_question q = question(parts, &evidence, 2);
    KBS_AUTO_JSON root = asked(KBS_DELEGATE_COCO_REST, &q, "/attestation");
    const json_t *requests = json_object_get(root, "verification_requests");
    const json_t *first = json_array_get(requests, 0);
    const json_t *second = json_array_get(requests, 1);
    const json_t *init_data = json_object_get(first, "init_data");

    (void)state;
    assert_int_equal(json_array_size(requests), 2);
    assert_string_equal(json_string_value(json_object_get(first, "tee")), "snp");
    assert_string_equal(json_string_value(json_object_get(second, "tee")), "tdx");
    check_evidence(json_object_get(first, "evidence"), "{\"svn\":\"1\"}");
    assert_string_equal(
        json_string_value(json_object_get(
            json_object_get(json_object_get(first, "runtime_data"), "structured"), "nonce")),
        "n");
    assert_string_equal(json_string_value(json_object_get(first, "runtime_data_hash_algorithm")),
                        "sha384");
    assert_string_equal(json_string_value(json_object_get(init_data, "init_data_toml")), INIT_DATA);
    assert_null(json_object_get(second, "init_data"));
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "policy_ids"), 1)),
                        "a\"b");
    assert_int_equal(json_object_size(root), 2);
    json_decref(evidence);
}

static void test_coco_rest_v1(void **state)
{
    struct kbs_delegate_part parts[2];
    json_t *evidence;
    struct kbs_delegate_question q = question(parts, &evidence, 1);
    struct kbs_delegate_request r = KBS_DELEGATE_REQUEST;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    parts[0].tee = KBS_TEE_AZ_SNP_VTPM;
    KBS_AUTO_JSON root = asked(KBS_DELEGATE_COCO_REST_V1, &q, "/attestation");
    assert_string_equal(json_string_value(json_object_get(root, "tee")), "azsnpvtpm");
    check_evidence(json_object_get(root, "evidence"), "{\"svn\":\"1\"}");
    check_evidence(json_object_get(json_object_get(root, "init_data"), "raw"), INIT_DATA);
    assert_string_equal(json_string_value(json_object_get(root, "init_data_hash_algorithm")),
                        "sha256");
    assert_int_equal(json_array_size(json_object_get(root, "policy_ids")), 2);
    q.count = 2;
    assert_int_equal(kbs_delegate_ask(KBS_DELEGATE_COCO_REST_V1, &q, &r, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    kbs_delegate_request_deinit(&r);
    json_decref(evidence);
}

static void test_ita(void **state)
{
    struct kbs_delegate_part parts[2];
    json_t *evidence;
    struct kbs_delegate_question q = question(parts, &evidence, 1);
    struct kbs_delegate_request r = KBS_DELEGATE_REQUEST;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf runtime = KBS_BUF(4096);

    (void)state;
    parts[0] = parts[1];
    KBS_AUTO_JSON root = asked(KBS_DELEGATE_INTEL_TA, &q, "/appraisal/v2/attest");
    const json_t *tdx = json_object_get(root, "tdx");
    assert_true(json_is_true(json_object_get(root, "policy_must_match")));
    assert_string_equal(json_string_value(json_object_get(root, "token_signing_alg")), "PS384");
    assert_string_equal(json_string_value(json_object_get(tdx, "quote")), "cXVvdGU=");
    assert_string_equal(json_string_value(json_object_get(tdx, "event_log")), "bG9n");
    assert_int_equal(kbs_base64_get(&runtime, kbs_span_str(json_string_value(
                                                  json_object_get(tdx, "runtime_data")))),
                     0);
    assert_string_equal(kbs_buf_cstr(&runtime), RUNTIME);
    kbs_buf_deinit(&runtime);
    assert_int_equal(kbs_delegate_hash(KBS_DELEGATE_INTEL_TA, KBS_TEE_TDX), KBS_HASH_SHA512);
    assert_int_equal(kbs_delegate_hash(KBS_DELEGATE_INTEL_TA, KBS_TEE_SGX), KBS_HASH_SHA256);
    parts[0].tee = KBS_TEE_SNP;
    assert_int_equal(kbs_delegate_ask(KBS_DELEGATE_INTEL_TA, &q, &r, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    err = KBS_ERROR_NONE;
    parts[0].tee = KBS_TEE_SGX;
    parts[0].evidence = json_array_get(evidence, 0); /* without a quote */
    assert_int_equal(kbs_delegate_ask(KBS_DELEGATE_INTEL_TA, &q, &r, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    kbs_delegate_request_deinit(&r);
    json_decref(evidence);
}

static void test_without_runtime_data(void **state)
{
    struct kbs_delegate_part parts[2];
    json_t *evidence;
    struct kbs_delegate_question q = question(parts, &evidence, 1);
    struct kbs_delegate_request r = KBS_DELEGATE_REQUEST;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    parts[0].runtime_data = KBS_SPAN_EMPTY;
    assert_int_equal(kbs_delegate_ask(KBS_DELEGATE_COCO_REST, &q, &r, &err), -1);
    kbs_delegate_request_deinit(&r);
    json_decref(evidence);
}

/* As protoc's own encoder has it. */
static void test_grpc_bytes(void **state)
{
    static const uint8_t head[] = {0, 0, 0, 0, 0x61, 0x0a, 0x52, 0x0a, 3, 's', 'n', 'p', 0x1a};
    struct kbs_delegate_part parts[2];
    json_t *evidence;
    struct kbs_delegate_question q = question(parts, &evidence, 1);
    struct kbs_delegate_request r = KBS_DELEGATE_REQUEST;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span text = KBS_SPAN_EMPTY;

    (void)state;
    q.init_data = KBS_SPAN_EMPTY;
    assert_int_equal(kbs_delegate_ask(KBS_DELEGATE_COCO_GRPC, &q, &r, &err), 0);
    assert_string_equal(r.content_type, "application/grpc");
    assert_string_equal(r.suffix, "/attestation.AttestationService/AttestationEvaluate");
    assert_int_equal(r.body.len, 5 + 2 + r.body.p[6] + 9 + 5);
    assert_int_equal(r.body.p[4], r.body.len - 5);
    assert_memory_equal(r.body.p + 5, head + 5, 1);
    assert_memory_equal(r.body.p + 7, head + 7, 6);
    assert_non_null(memmem(r.body.p, r.body.len, "\x2a\x26" RUNTIME "\x42\x06sha384", 48));
    assert_memory_equal(r.body.p + r.body.len - 14,
                        "\x12\x07"
                        "default\x12\x03"
                        "a\"b",
                        14);
    kbs_delegate_request_deinit(&r);
    assert_int_equal(
        kbs_delegate_ask_challenge(KBS_DELEGATE_COCO_GRPC, KBS_TEE_SE, KBS_SPAN_LIT("p"), &r, &err),
        0);
    assert_int_equal(r.body.len, 5 + 2 + 9 + 2 + 15);
    assert_memory_equal(
        r.body.p, "\0\0\0\0\x1c\x0a\x09\x0a\x03tee\x12\x02se\x0a\x0f\x0a\x0atee_params\x12\x01p",
        33);
    kbs_delegate_request_deinit(&r);
    /* read: unknown fields of every kind are stepped over, the last of ours counts */
    const char answer[] = "\0\0\0\0\x1c\x08\xff\x01\x19"
                          "12345678\x25"
                          "1234\x12\x01x\x0a\x01y\x0a\x03tok";
    assert_int_equal(kbs_coco_grpc_get(kbs_span(answer, sizeof(answer) - 1), &text, &err), 0);
    assert_true(kbs_span_equal_str(text, "tok"));
    json_decref(evidence);
}

static void test_grpc_malformed(void **state)
{
    static const struct kbs_span bad[] = {
        TEXT(""),
        TEXT("\0\0\0\0"),
        TEXT("\1\0\0\0\0"),             /* compressed */
        TEXT("\0\0\0\0\1"),             /* cut */
        TEXT("\0\0\0\0\0x"),            /* something behind it */
        TEXT("\0\0\0\0\2\x0a\x01"),     /* string cut */
        TEXT("\0\0\0\0\3\x0b\x0c\x0c"), /* a group */
        TEXT("\0\0\0\0\2\x0f\x0f"),     /* no such wire type */
        TEXT("\0\0\0\0\2\x02\0"),       /* field 0 */
        TEXT("\0\0\0\0\1\x80"),         /* varint cut */
        TEXT("\0\0\0\0\xc\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* too long */
        TEXT("\0\0\0\0\xb\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),     /* huge length */
    };
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span text;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (kbs_coco_grpc_get(bad[i], &text, &err) == 0) {
            print_error("case %zu was read\n", i);
            fail();
        }
        assert_int_equal(text.len, 0);
    }
}

/* What the answer comes to: a token, or who is to blame. */
static enum kbs_category judged(enum kbs_delegate type, struct kbs_delegate_answer answer)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf token = KBS_BUF(2 * KBS_LIMIT_JWT_BYTES);
    int rc = kbs_delegate_token(type, &answer, &token, &err);

    if (rc == 0) {
        assert_string_equal(kbs_buf_cstr(&token), TOKEN);
    }
    kbs_buf_deinit(&token);
    return rc == 0 ? KBS_OK : err.category;
}

static void test_answers(void **state)
{
    const struct kbs_span text = KBS_SPAN_LIT("text/plain; charset=utf-8");
    const struct kbs_span json = KBS_SPAN_LIT("application/json");
    const struct kbs_span grpc = KBS_SPAN_LIT("application/grpc+proto");
    const struct kbs_span token = KBS_SPAN_LIT(TOKEN);
    const struct kbs_span framed = KBS_SPAN_LIT("\0\0\0\0\x1a\x0a\x18" TOKEN);
    static const struct {
        uint32_t status;
        enum kbs_category rest;
    } statuses[] = {{400, KBS_UNAUTHENTICATED},
                    {422, KBS_UNAUTHENTICATED},
                    {500, KBS_UNAUTHENTICATED},
                    {401, KBS_BUSY},
                    {403, KBS_BUSY},
                    {404, KBS_BUSY},
                    {429, KBS_BUSY},
                    {502, KBS_BUSY},
                    {503, KBS_BUSY},
                    {302, KBS_BUSY},
                    {204, KBS_BUSY},
                    {0, KBS_BUSY}};

    (void)state;
#define ANSWER(...) ((struct kbs_delegate_answer){__VA_ARGS__})
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        assert_int_equal(
            judged(KBS_DELEGATE_COCO_REST,
                   ANSWER(.status = statuses[i].status, .content_type = text, .body = token)),
            statuses[i].rest);
        assert_int_equal(judged(KBS_DELEGATE_INTEL_TA, ANSWER(.status = statuses[i].status,
                                                              .content_type = json, .body = token)),
                         statuses[i].rest);
    }
    assert_int_equal(judged(KBS_DELEGATE_COCO_REST, ANSWER(.status = 200, .body = token)), KBS_OK);
    assert_int_equal(judged(KBS_DELEGATE_COCO_REST_V1, ANSWER(.status = 200, .content_type = text,
                                                              .body = KBS_SPAN_LIT(TOKEN "\r\n"))),
                     KBS_OK);
    assert_int_equal(
        judged(KBS_DELEGATE_COCO_REST,
               ANSWER(.status = 200, .content_type = KBS_SPAN_LIT("text/html"), .body = token)),
        KBS_BUSY);
    assert_int_equal(
        judged(KBS_DELEGATE_COCO_REST,
               ANSWER(.status = 200, .content_type = KBS_SPAN_LIT("text/plainly"), .body = token)),
        KBS_BUSY);
    assert_int_equal(
        judged(KBS_DELEGATE_COCO_REST, ANSWER(.status = 200, .body = KBS_SPAN_LIT("a.b"))),
        KBS_BUSY);
    assert_int_equal(
        judged(KBS_DELEGATE_COCO_REST, ANSWER(.status = 200, .body = KBS_SPAN_LIT("a.b.c.d"))),
        KBS_BUSY);
    assert_int_equal(
        judged(KBS_DELEGATE_COCO_REST, ANSWER(.status = 200, .body = KBS_SPAN_LIT("a.b.\"c"))),
        KBS_BUSY);
    assert_int_equal(judged(KBS_DELEGATE_COCO_REST, ANSWER(.status = 200)), KBS_BUSY);
    assert_int_equal(
        judged(KBS_DELEGATE_INTEL_TA, ANSWER(.status = 200, .content_type = json,
                                             .body = KBS_SPAN_LIT("{\"token\":\"" TOKEN "\"}"))),
        KBS_OK);
    assert_int_equal(
        judged(KBS_DELEGATE_INTEL_TA, ANSWER(.status = 200, .content_type = text,
                                             .body = KBS_SPAN_LIT("{\"token\":\"" TOKEN "\"}"))),
        KBS_BUSY);
    assert_int_equal(judged(KBS_DELEGATE_INTEL_TA, ANSWER(.status = 200, .content_type = json,
                                                          .body = KBS_SPAN_LIT("{\"token\":1}"))),
                     KBS_BUSY);
    assert_int_equal(judged(KBS_DELEGATE_COCO_GRPC, ANSWER(.status = 200, .has_grpc_status = true,
                                                           .content_type = grpc, .body = framed)),
                     KBS_OK);
    assert_int_equal(
        judged(KBS_DELEGATE_COCO_GRPC, ANSWER(.status = 200, .content_type = grpc, .body = framed)),
        KBS_BUSY); /* broken off before its trailer */
    for (uint32_t code = 1; code < 20; code++) {
        bool refused = code == 2 || code == 3 || code == 9 || code == 10 || code == 13;

        assert_int_equal(
            judged(KBS_DELEGATE_COCO_GRPC, ANSWER(.status = 200, .has_grpc_status = true,
                                                  .grpc_status = code, .content_type = grpc)),
            refused ? KBS_UNAUTHENTICATED : KBS_BUSY);
    }
#undef ANSWER
}

static void test_challenge(void **state)
{
    const struct kbs_delegate_answer good = {.status = 200,
                                             .body = KBS_SPAN_LIT("{\"request_blob\":\"x\"}\n")};
    const struct kbs_delegate_answer bad = {.status = 200, .body = KBS_SPAN_LIT("x\x01")};
    struct kbs_delegate_request r = KBS_DELEGATE_REQUEST;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf text = KBS_BUF(65536);

    (void)state;
    assert_true(kbs_delegate_challenges(KBS_DELEGATE_COCO_REST, KBS_TEE_SE));
    assert_false(kbs_delegate_challenges(KBS_DELEGATE_COCO_REST, KBS_TEE_SNP));
    assert_false(kbs_delegate_challenges(KBS_DELEGATE_INTEL_TA, KBS_TEE_SE));
    assert_int_equal(kbs_delegate_ask_challenge(KBS_DELEGATE_COCO_REST, KBS_TEE_SE,
                                                KBS_SPAN_LIT("a\"b"), &r, &err),
                     0);
    assert_string_equal(kbs_buf_cstr(&r.body), "{\"tee\":\"se\",\"tee_params\":\"a\\\"b\"}");
    kbs_delegate_request_deinit(&r);
    assert_int_equal(kbs_delegate_challenge(KBS_DELEGATE_COCO_REST, &good, &text, &err), 0);
    assert_string_equal(kbs_buf_cstr(&text), "{\"request_blob\":\"x\"}");
    kbs_buf_clear(&text);
    assert_int_equal(kbs_delegate_challenge(KBS_DELEGATE_COCO_REST, &bad, &text, &err), -1);
    assert_int_equal(err.category, KBS_BUSY);
    kbs_buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coco_rest),  cmocka_unit_test(test_coco_rest_v1),
        cmocka_unit_test(test_ita),        cmocka_unit_test(test_without_runtime_data),
        cmocka_unit_test(test_grpc_bytes), cmocka_unit_test(test_grpc_malformed),
        cmocka_unit_test(test_answers),    cmocka_unit_test(test_challenge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
