/*
 * Receipts from kbs-token, against real tokens: of every order that ends at a TEE, in the form that goes
 * with its answer, by the key that DESCRIBE tells; they say what was done and not what a judge would like,
 * and hold for the answer that they came with alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/encoding.h"
#include "base/random.h"
#include "harness.h"
#include "hsm/service.h"
#include "jose/write/jose.h"
#include "receipt/read/receipt.h"
#include "seal/nek.h"
#include "wire/nek.h"

/* Initialised once, with all service keys; never used by a test itself. */
static struct token_dir template_dir;

static const struct start_options admin_lane = {.duty = KBS_DUTY_ADMIN};

/* What every test has: a worker, its receipt key, a TEE, and the word of a judge. */
struct bench {
    struct token_dir d;
    struct worker w;
    struct kbs_ec_public key;
    struct kbs_agree_key *tee;
    struct kbs_receipt_word word;
    uint8_t said[KBS_RECEIPT_WORD_BYTES];
    uint8_t party_v[KBS_SHA256_BYTES];
};

static int group_setup(void **state)
{
    (void)state;
    dir_new_with_keys(&template_dir);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    dir_remove(&template_dir);
    return 0;
}

/* ---- a bench ---- */

static void word_say(struct bench *b)
{
    kbs_receipt_word_put(&b->word, b->said);
    kbs_party_v(kbs_digest_span(&b->word.report), b->word.nonce, b->party_v);
}

static void bench_start(struct bench *b)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_described described;

    *b = (struct bench){.word = {.binding = KBS_BINDING_HARDWARE, .report = {.len = 48}}};
    dir_copy(&template_dir, &b->d);
    worker_start(&b->w, &b->d, &admin_lane);
    described = worker_describe(&b->w);
    must(kbs_ec_point_get(KBS_CURVE_P256, described.receipt_public, &b->key, &err), &err);
    must(kbs_agree_key_generate(KBS_CURVE_P384, &b->tee, &err), &err);
    kbs_random(b->word.nonce, sizeof(b->word.nonce));
    kbs_random(b->word.report.p, b->word.report.len);
    word_say(b);
}

static void bench_end(struct bench *b)
{
    assert_int_equal(worker_stop(&b->w), 0);
    (void)kbs_agree_key_free(b->tee);
    dir_remove(&b->d);
}

static struct key_ref bench_key(struct bench *b, uint8_t n)
{
    struct key_ref k = key_ref(n, 1);
    struct kbs_wire_result r = order_generate(&b->w, &k, 32);

    assert_category(&r, KBS_OK);
    return k;
}

static struct kbs_wire_release bench_release(struct bench *b, const struct key_ref *k,
                                             enum kbs_format format)
{
    struct kbs_wire_release m = release_order(k, kbs_agree_key_public(b->tee), format);

    m.party_v = kbs_span(b->party_v, sizeof(b->party_v));
    m.receipt = kbs_span(b->said, sizeof(b->said));
    return m;
}

/* ---- what a receipt says ---- */

static void assert_deed_has(const struct bench *b, struct kbs_span receipt)
{
    uint8_t digest[KBS_SHA256_BYTES];
    char hex[2 * KBS_SHA256_BYTES + 1];
    char wanted[sizeof(hex) + 16];

    kbs_sha256(receipt, digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex, sizeof(hex));
    (void)snprintf(wanted, sizeof(wanted), "receipt=%s", hex);
    assert_non_null(strstr(b->w.last_deed, wanted));
}

static void assert_tee(const struct bench *b, const struct kbs_receipt *said)
{
    const struct kbs_tee_key tee = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW,
                                    .ec = *kbs_agree_key_public(b->tee)};
    uint8_t thumbprint[KBS_SHA256_BYTES];
    char text[44];

    kbs_jose_tee_thumbprint(&tee, text);
    assert_int_equal(kbs_base64url_get_exact(thumbprint, sizeof(thumbprint), kbs_span_str(text)),
                     0);
    assert_memory_equal(said->tee_key, thumbprint, sizeof(thumbprint));
}

static void assert_word(const struct kbs_receipt_word *a, const struct kbs_receipt_word *b)
{
    uint8_t one[KBS_RECEIPT_WORD_BYTES];
    uint8_t other[KBS_RECEIPT_WORD_BYTES];

    kbs_receipt_word_put(a, one);
    kbs_receipt_word_put(b, other);
    assert_memory_equal(one, other, sizeof(one));
}

/* The receipt of a result, by the key that was described; everything in it as it was. */
static struct kbs_receipt_in assert_receipt(struct bench *b, const struct kbs_wire_result *r,
                                            enum kbs_receipt_op op, struct kbs_span kid,
                                            struct kbs_span card)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt_in in;
    uint8_t digest[KBS_SHA256_BYTES];
    char again[44];

    assert_category(r, KBS_OK);
    assert_true(r->receipt.len > 0 && r->receipt.len <= KBS_LIMIT_RECEIPT_BYTES);
    must(kbs_receipt_open(r->receipt, &b->key, 1, &in, &err), &err);
    struct kbs_span answer =
        op == KBS_RECEIPT_PROVISION ? kbs_span_skip(r->body, KBS_MARK_BYTES) : r->body;
    must(kbs_receipt_check_answer(&in.said, answer, &err), &err);
    assert_int_equal(in.form, r->format == KBS_FORMAT_COSE ? KBS_RECEIPT_COSE : KBS_RECEIPT_JWS);
    kbs_jose_thumbprint(&b->key, again);
    assert_string_equal(in.signer, again);
    assert_int_equal(in.said.op, op);
    assert_true(kbs_span_equal_str(kid, in.said.kid));
    assert_int_equal(in.said.key_version, 1);
    kbs_sha256(card, digest);
    assert_memory_equal(in.said.card, digest, sizeof(digest));
    assert_memory_equal(in.said.policy, POLICY, sizeof(in.said.policy));
    assert_int_equal(in.said.locality, r->locality);
    assert_int_equal(in.said.format, r->format);
    assert_int_equal(in.said.token_class, kind->class);
    assert_true(kbs_span_equal_str(r->serial, in.said.serial));
    assert_in_range(in.said.time_s, kbs_clock_unix_s() - 60, kbs_clock_unix_s());
    assert_word(&in.said.word, &b->word);
    assert_deed_has(b, r->receipt);
    return in;
}

/* ---- tests ---- */

static void test_releases(void **state)
{
    static const enum kbs_format formats[] = {KBS_FORMAT_JOSE, KBS_FORMAT_COSE};
    struct bench b;

    (void)state;
    bench_start(&b);
    struct key_ref k = bench_key(&b, 1);
    for (size_t i = 0; i < 2; i++) {
        struct kbs_wire_release m = bench_release(&b, &k, formats[i]);
        struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
        KBS_AUTO_SECRET opened = NULL;
        struct kbs_receipt_in in = assert_receipt(&b, &r, KBS_RECEIPT_RELEASE, m.kid, m.card);

        assert_tee(&b, &in.said);
        assert_memory_equal(in.said.key_id, k.id, sizeof(k.id));
        open_released(b.tee, &m, &r, &opened);
        key_check(&k, kbs_secret_span(opened));
        /* the empty context has no party info, and a receipt all the same */
        m.empty_context = 1;
        r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
        (void)assert_receipt(&b, &r, KBS_RECEIPT_RELEASE, m.kid, m.card);
    }
    bench_end(&b);
}

/* Nobody asked, nothing is made. */
static void test_only_when_asked(void **state)
{
    struct bench b;

    (void)state;
    bench_start(&b);
    struct key_ref k = bench_key(&b, 1);
    struct kbs_wire_release m = bench_release(&b, &k, KBS_FORMAT_JOSE);
    m.receipt = KBS_SPAN_EMPTY;
    struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
    assert_category(&r, KBS_OK);
    assert_int_equal(r.receipt.len, 0);
    assert_null(strstr(b.w.last_deed, "receipt="));
    bench_end(&b);
}

static void test_secrets(void **state)
{
    struct bench b;
    struct key_ref k = key_ref(7, 1);
    const struct kbs_wire_seal seal = {.order = KBS_SPAN_LIT(ORDER),
                                       .key_id = kbs_span(k.id, sizeof(k.id)),
                                       .key_version = 1,
                                       .kid = kbs_span_str(k.kid),
                                       .policy = KBS_SPAN_LIT(POLICY),
                                       .created = 1,
                                       .plaintext = KBS_SPAN_LIT("what nobody may read")};
    uint8_t made[1024];

    (void)state;
    bench_start(&b);
    b.word.has_resource_policy = true;
    kbs_random(b.word.resource_policy, sizeof(b.word.resource_policy));
    memset(b.word.nonce, 0, sizeof(b.word.nonce));
    word_say(&b);
    struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_SEAL, &seal);
    assert_category(&r, KBS_OK);
    struct kbs_span body = kbs_span(made, r.body.len);
    memcpy(made, r.body.p, r.body.len);

    struct kbs_wire_release as = bench_release(&b, &k, KBS_FORMAT_JWE);
    const struct kbs_wire_open_secret open = {.order = as.order,
                                              .kid = as.kid,
                                              .card = kbs_span(made, KBS_CARD_BYTES),
                                              .sealed = kbs_span_skip(body, KBS_CARD_BYTES),
                                              .tee_key = as.tee_key,
                                              .receipt = as.receipt};
    r = worker_order(&b.w, KBS_WIRE_OPEN_SECRET, &open);
    struct kbs_receipt_in in = assert_receipt(&b, &r, KBS_RECEIPT_OPEN_SECRET, open.kid, open.card);
    assert_int_equal(in.said.locality, KBS_LOCALITY_WORKER);
    assert_tee(&b, &in.said);
    bench_end(&b);
}

/* ---- NEKs ---- */

static struct key_ref nek_key(struct bench *b, enum kbs_key_alg alg, uint32_t bytes)
{
    struct key_ref k = key_ref(20, 1);
    struct kbs_wire_generate m = generate_order(&k, bytes);

    m.purpose = KBS_PURPOSE_NEK;
    m.alg = (uint8_t)alg;
    m.floor = KBS_LOCALITY_TRANSPORT;
    struct kbs_wire_result r = worker_order(&b->w, KBS_WIRE_GENERATE, &m);
    assert_category(&r, KBS_OK);
    key_made(&k, &r);
    return k;
}

static void test_rewraps(void **state)
{
    static const struct kbs_nek_binding nobody;
    static const enum kbs_format formats[] = {KBS_FORMAT_JOSE, KBS_FORMAT_COSE};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_tee_key public_key;
    struct kbs_nek_blob blob;
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t epk[KBS_TEE_KEY_MAX_BYTES];
    uint8_t nek[32];
    struct bench b;

    (void)state;
    bench_start(&b);
    struct key_ref k = nek_key(&b, KBS_KEY_ALG_P256, 32);
    must(kbs_tee_key_get(kbs_span(k.blob, k.blob_len), &public_key, &err), &err);
    const struct kbs_nek_to to = {
        .key = &public_key, .kind = KBS_NEK_JOSE, .kid = kbs_span_str(k.kid), .binding = &nobody};
    kbs_random(nek, sizeof(nek));
    must(kbs_nek_wrap(&to, kbs_span(nek, sizeof(nek)), &blob, &err), &err);
    const struct kbs_tee_key epk_key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = blob.epk};
    kbs_nek_binding_put(&nobody, binding);
    for (size_t i = 0; i < 2; i++) {
        struct kbs_wire_release as = bench_release(&b, &k, formats[i]);
        struct kbs_wire_rewrap m = {.order = as.order,
                                    .kid = as.kid,
                                    .card = as.card,
                                    .public_key = as.blob,
                                    .kind = KBS_NEK_JOSE,
                                    .epk = kbs_span(epk, kbs_tee_key_put(&epk_key, epk)),
                                    .binding = kbs_span(binding, sizeof(binding)),
                                    .wrapped = kbs_span(blob.wrapped, blob.wrapped_len),
                                    .tee_key = as.tee_key,
                                    .formats = as.formats,
                                    .floor = as.floor,
                                    .party_v = as.party_v,
                                    .receipt = as.receipt};
        struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_REWRAP, &m);

        assert_category(&r, KBS_INPUT); /* party_v of a release, not of this blob */
        kbs_nek_party_v(kbs_digest_span(&b.word.report), b.word.nonce, m.wrapped, b.party_v);
        r = worker_order(&b.w, KBS_WIRE_REWRAP, &m);
        struct kbs_receipt_in in = assert_receipt(&b, &r, KBS_RECEIPT_REWRAP, m.kid, m.card);
        assert_tee(&b, &in.said);
        word_say(&b);
    }
    bench_end(&b);
}

static void test_provisions(void **state)
{
    static const struct kbs_nek_binding nobody;
    static const uint8_t none[KBS_SHA256_BYTES];
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    struct bench b;

    (void)state;
    bench_start(&b);
    struct key_ref k = nek_key(&b, KBS_KEY_ALG_AES, 32);
    kbs_nek_binding_put(&nobody, binding);
    struct kbs_wire_release as = bench_release(&b, &k, KBS_FORMAT_COSE);
    struct kbs_wire_provision m = {.order = as.order,
                                   .kid = as.kid,
                                   .card = as.card,
                                   .public_key = as.blob,
                                   .key_bytes = 32,
                                   .binding = kbs_span(binding, sizeof(binding)),
                                   .tee_key = as.tee_key,
                                   .formats = as.formats,
                                   .floor = as.floor,
                                   .party_v = as.party_v,
                                   .receipt = as.receipt};
    struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_PROVISION, &m);
    struct kbs_receipt_in in = assert_receipt(&b, &r, KBS_RECEIPT_PROVISION, m.kid, m.card);
    assert_tee(&b, &in.said);

    m.tee_key = KBS_SPAN_EMPTY; /* to be kept, for nobody yet */
    r = worker_order(&b.w, KBS_WIRE_PROVISION, &m);
    in = assert_receipt(&b, &r, KBS_RECEIPT_PROVISION, m.kid, m.card);
    assert_memory_equal(in.said.tee_key, none, sizeof(none));
    assert_int_equal(in.form, KBS_RECEIPT_JWS);
    bench_end(&b);
}

/* ---- what does not hold ---- */

static void test_another_answer_and_altered_bits(void **state)
{
    static const enum kbs_format formats[] = {KBS_FORMAT_JOSE, KBS_FORMAT_COSE};
    struct bench b;

    (void)state;
    bench_start(&b);
    struct key_ref k = bench_key(&b, 1);
    for (size_t i = 0; i < 2; i++) {
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_wire_release m = bench_release(&b, &k, formats[i]);
        struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
        struct kbs_receipt_in in = assert_receipt(&b, &r, KBS_RECEIPT_RELEASE, m.kid, m.card);
        uint8_t text[KBS_LIMIT_RECEIPT_BYTES];
        size_t len = r.receipt.len;

        memcpy(text, r.receipt.p, len);
        r = worker_order(&b.w, KBS_WIRE_RELEASE, &m); /* the same question, another answer */
        assert_int_equal(kbs_receipt_check_answer(&in.said, r.body, &err), -1);
        assert_int_equal(err.category, KBS_UNPROCESSABLE);
        for (size_t at = 0; at < len; at++) {
            uint8_t was = text[at];

            text[at] = was == 'A' ? 'B' : 'A';
            assert_int_equal(kbs_receipt_open(kbs_span(text, len), &b.key, 1, &in, &err), -1);
            text[at] = was;
        }
        assert_int_equal(kbs_receipt_open(kbs_span(text, len), &b.key, 1, &in, &err), 0);
        assert_int_equal(
            kbs_receipt_open(kbs_span(text, len), kbs_agree_key_public(b.tee), 1, &in, &err), -1);
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    }
    bench_end(&b);
}

/* What a judge says has one shape, and nothing else than what its party info says. */
static void test_a_judge_that_lies(void **state)
{
    struct bench b;

    (void)state;
    bench_start(&b);
    struct key_ref k = bench_key(&b, 1);
    struct kbs_wire_release m = bench_release(&b, &k, KBS_FORMAT_JOSE);
    for (size_t at = 0; at < sizeof(b.said); at++) {
        if (at == 1) {
            continue; /* the binding level is the judge's alone */
        }
        b.said[at] ^= 0x80;
        struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
        assert_category(&r, KBS_INPUT);
        assert_int_equal(r.body.len + r.receipt.len, 0);
        b.said[at] ^= 0x80;
    }
    m.receipt.len--;
    struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
    assert_category(&r, KBS_INPUT);
    m.receipt.len++;
    r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
    (void)assert_receipt(&b, &r, KBS_RECEIPT_RELEASE, m.kid, m.card);
    bench_end(&b);
}

/* A service from before there were receipts: it releases, gives none, and can be given the key. */
static void test_without_a_key(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_described described;
    struct kbs_token t;
    struct bench b;
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    (void)state;
    bench_start(&b);
    struct key_ref k = bench_key(&b, 1);
    assert_int_equal(worker_stop(&b.w), 0);
    kbs_service_cka_id(KBS_PURPOSE_SIGN_RECEIPT, 1, cka_id);
    inside_open(&t, &b.d);
    for (CK_OBJECT_CLASS class = CKO_PUBLIC_KEY; class <= CKO_PRIVATE_KEY; class ++) {
        CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

        must(kbs_object_find(&t, class, kbs_span(cka_id, sizeof(cka_id)), &object, &err), &err);
        must(kbs_object_destroy(&t, object, &err), &err);
    }
    kbs_token_close(&t);
    worker_start(&b.w, &b.d, &admin_lane);
    described = worker_describe(&b.w);
    assert_int_equal(described.receipt_public.len, 0);

    struct kbs_wire_release m = bench_release(&b, &k, KBS_FORMAT_JOSE);
    struct kbs_wire_result r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
    assert_category(&r, KBS_UNSUPPORTED);
    assert_int_equal(r.body.len, 0);
    m.receipt = KBS_SPAN_EMPTY;
    r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
    assert_category(&r, KBS_OK);

    r = order_service_key(&b.w, KBS_PURPOSE_SIGN_RECEIPT);
    assert_category(&r, KBS_OK);
    must(kbs_ec_point_get(KBS_CURVE_P256, r.body, &b.key, &err), &err);
    m = bench_release(&b, &k, KBS_FORMAT_JOSE);
    r = worker_order(&b.w, KBS_WIRE_RELEASE, &m);
    (void)assert_receipt(&b, &r, KBS_RECEIPT_RELEASE, m.kid, m.card);
    r = order_service_key(&b.w, KBS_PURPOSE_SIGN_RECEIPT);
    assert_category(&r, KBS_CONFLICT); /* there is one, and there is one version */
    bench_end(&b);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_releases),
        cmocka_unit_test(test_only_when_asked),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_rewraps),
        cmocka_unit_test(test_provisions),
        cmocka_unit_test(test_another_answer_and_altered_bits),
        cmocka_unit_test(test_a_judge_that_lies),
        cmocka_unit_test(test_without_a_key),
    };

    if (argc != 2 || !harness_select(argv[1])) {
        (void)fprintf(stderr, "skipped: the module of %s is not installed\n",
                      argc > 1 ? argv[1] : "?");
        return 77;
    }
    return cmocka_run_group_tests_name(argv[1], tests, group_setup, group_teardown);
}
