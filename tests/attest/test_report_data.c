/*
 * Report data of every kind: found where public vectors have it, and, whatever is done to a piece of
 * evidence, never found where it is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "attest/report_data.h"
#include "base/encoding.h"
#include "tests/unit/vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define DIGEST_BYTES 48

/* A quote of a software TPM, with 64 bytes of extraData (Trustee's test data). */
#define TPM_MESSAGE                                                                             \
    "ff54434780180022000b3081a4cbbe307f3de1456f9875a3c2632528a70d91fcf578ccf092465e4e8e09004"   \
    "0a04182b506878d4f29b91ee606a71a0d3361ccf1b22db20c98adcaa537bea393ef0e41a18b3569ab678f149"  \
    "7fbc5c1200000000000000000000000000000000000000000720e6e2b0000000200000000012019102300163"  \
    "63600000001000b03ffffff0020019de64c9318655e422c3d03831169896e31f02a1d74e4d8fef575bf4e0d75" \
    "fa"

static json_t *text(struct kbs_buf *b)
{
    json_t *v = json_stringn(b->len > 0 ? (const char *)b->p : "", b->len);

    assert_non_null(v);
    kbs_buf_deinit(b);
    return v;
}

static json_t *base64(struct kbs_span bytes)
{
    struct kbs_buf b = KBS_BUF(1u << 20);

    kbs_base64_put(&b, bytes);
    return text(&b);
}

static json_t *hex(struct kbs_span bytes)
{
    struct kbs_buf b = KBS_BUF(1u << 20);

    kbs_hex_put(&b, bytes);
    return text(&b);
}

static json_t *numbers(struct kbs_span bytes)
{
    json_t *v = json_array();

    for (size_t i = 0; i < bytes.len; i++) {
        assert_int_equal(json_array_append_new(v, json_integer(bytes.p[i])), 0);
    }
    return v;
}

static json_t *tdx(struct kbs_span b)
{
    return json_pack("{s:o}", "quote", base64(b));
}

static json_t *az_new(struct kbs_span b)
{
    return json_pack("{s:i,s:{s:o}}", "version", 2, "tpm_quote", "message", hex(b));
}

static json_t *az_snp_old(struct kbs_span b)
{
    return json_pack("{s:{s:o}}", "quote", "message", numbers(b));
}

static json_t *az_tdx_old(struct kbs_span b)
{
    return json_pack("{s:{s:o}}", "tpm_quote", "message", numbers(b));
}

static json_t *tpm(struct kbs_span b)
{
    return json_pack("{s:{s:o}}", "tpm_quote", "message", base64(b));
}

static json_t *cca(struct kbs_span b)
{
    return json_pack("{s:o}", "token", numbers(b));
}

static json_t *svsm(struct kbs_span b)
{
    return json_pack("{s:o,s:s}", "snp-report", base64(b), "certs-buf", "");
}

static json_t *coco(struct kbs_span b)
{
    return json_pack("{s:{s:o},s:n}", "attestation_report", "report_data", numbers(b),
                     "cert_chain");
}

static json_t *csv(struct kbs_span b)
{
    return json_pack("{s:{s:o,s:i,s:o}}", "attestation_report", "magic",
                     numbers(kbs_span("ATTESTATION_EXT", 16)), "flags", 1, "data", numbers(b));
}

static json_t *dcu(struct kbs_span b)
{
    return json_pack("{s:[{s:{s:o}},{s:{s:o}}]}", "attestation_reports", "body", "user_data",
                     numbers(b), "body", "user_data", numbers(b));
}

static json_t *nvidia(struct kbs_span b)
{
    return json_pack("{s:[{s:o},{s:o}]}", "device_evidence_list", "evidence", base64(b), "evidence",
                     hex(b));
}

static json_t *se(struct kbs_span b)
{
    return json_pack("{s:o}", "user_data", base64(b));
}

static json_t *sample(struct kbs_span b)
{
    return json_pack("{s:o}", "report_data", base64(b));
}

/* A kind's evidence: bytes, where its field is in them, and what JSON they are wrapped in. */
struct shape {
    const char *name;
    enum kbs_tee tee;
    json_t *(*wrap)(struct kbs_span bytes);
    const char *vector; /* NULL: `bytes` zeros that begin with `front` */
    size_t bytes;
    struct kbs_span front;
    size_t at;
    size_t len;
    bool exact_length; /* a byte more is refused */
};

static const struct shape shapes[] = {
    {"tdx v4", KBS_TEE_TDX, tdx, "tdx/tdx_quote_4.dat", 0, {0}, 568, 64, false},
    {"tdx v5", KBS_TEE_TDX, tdx, "tdx/tdx_quote_5.dat", 0, {0}, 574, 64, false},
    {"sgx", KBS_TEE_SGX, tdx, "sgx/occlum_quote.dat", 0, {0}, 368, 64, false},
    {"snp", KBS_TEE_SNP, svsm, "snp/test-report.bin", 0, {0}, 0x50, 64, true},
    {"snp coco", KBS_TEE_SNP, coco, NULL, 64, {0}, 0, 64, true},
    {"cca", KBS_TEE_CCA, cca, "cca/cca-example-token.cbor", 0, {0}, 0, 64, true},
    {"tpm", KBS_TEE_TPM, tpm, "", 0, {0}, 44, 64, true},
    {"csv", KBS_TEE_CSV, csv, NULL, 4096, {0}, 64, 64, true},
    {"dcu", KBS_TEE_HYGONDCU, dcu, NULL, 64, {0}, 0, 64, true},
    {"nvidia",
     KBS_TEE_NVIDIA,
     nvidia,
     NULL,
     100,
     {(const uint8_t *)"\x11\xe0\x01\xff", 4},
     4,
     32,
     false},
    {"se", KBS_TEE_SE, se, NULL, 64, {0}, 0, 64, false},
    {"sample", KBS_TEE_SAMPLE, sample, NULL, 48, {0}, 0, 48, true},
    {"sampledevice", KBS_TEE_SAMPLEDEVICE, sample, NULL, 48, {0}, 0, 48, true},
};

static const struct kbs_digest digest = {
    .p = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
          17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
          33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48},
    .len = DIGEST_BYTES,
};

/* Where CCA's challenge is: after its head, in the realm token. */
static size_t cca_challenge_at(const struct kbs_buf *b)
{
    static const uint8_t head[] = {0x0a, 0x58, 0x40};

    for (size_t i = 0; i + sizeof(head) < b->len; i++) {
        if (memcmp(b->p + i, head, sizeof(head)) == 0) {
            return i + sizeof(head);
        }
    }
    fail();
    return 0;
}

/* The shape's bytes with the digest in the field; skips where its vector is absent. */
static size_t load(const struct shape *s, struct kbs_buf *b)
{
    size_t at = s->at;

    if (s->vector == NULL) {
        for (size_t i = 0; i < s->bytes; i++) {
            kbs_buf_put_u8(b, i < s->front.len ? s->front.p[i] : 0);
        }
    } else if (s->vector[0] == '\0') {
        assert_int_equal(kbs_hex_get(b, KBS_SPAN_LIT(TPM_MESSAGE)), 0);
    } else {
        vectors_read(s->vector, b);
    }
    if (s->tee == KBS_TEE_CCA) {
        at = cca_challenge_at(b);
    }
    memset(b->p + at, 0, s->len);
    memcpy(b->p + at, digest.p, s->len < digest.len ? s->len : digest.len);
    return at;
}

static int check(enum kbs_tee tee, json_t *evidence, const struct kbs_digest *expected)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int r;

    assert_non_null(evidence);
    r = kbs_report_data_check(tee, evidence, expected, &err);
    json_decref(evidence);
    assert_int_equal(r == 0, err.category == KBS_OK);
    return r == 0 ? KBS_OK : (int)err.category;
}

static int check_shape(const struct shape *s, const struct kbs_buf *b)
{
    return check(s->tee, s->wrap(kbs_buf_span(b)), &digest);
}

static void every_shape(void **state)
{
    struct kbs_digest other = digest;

    (void)state;
    other.p[31] ^= 0x80;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const struct shape *s = &shapes[i];
        struct kbs_buf b = KBS_BUF(1u << 20);
        size_t at = load(s, &b);

        print_message("%s\n", s->name);
        assert_int_equal(check_shape(s, &b), KBS_OK);
        assert_int_equal(check(s->tee, s->wrap(kbs_buf_span(&b)), &other), KBS_UNAUTHENTICATED);
        for (size_t j = 0; j < s->len; j += 5) { /* zeros after the digest too */
            b.p[at + j] ^= 1;
            assert_int_equal(check_shape(s, &b), KBS_UNAUTHENTICATED);
            b.p[at + j] ^= 1;
        }
        kbs_buf_deinit(&b);
    }
}

/* Cut off anywhere, evidence is malformed, or the field is still where it was. */
static void truncated(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const struct shape *s = &shapes[i];
        struct kbs_buf b = KBS_BUF(1u << 20);
        size_t full;
        size_t at = load(s, &b);

        full = b.len;
        for (size_t len = 0; len < full; len += len < at + s->len + 8 ? 7 : 101) {
            int r;

            b.len = len;
            r = check_shape(s, &b);
            assert_true(r == KBS_INPUT ||
                        (r == KBS_UNAUTHENTICATED && s->tee <= KBS_TEE_SAMPLEDEVICE) ||
                        (r == KBS_OK && !s->exact_length && len >= at + s->len));
        }
        b.len = full - 1;
        assert_true(check_shape(s, &b) != KBS_OK || !s->exact_length);
        b.len = full;
        kbs_buf_put_u8(&b, 0);
        assert_int_equal(check_shape(s, &b) == KBS_OK, !s->exact_length);
        kbs_buf_deinit(&b);
    }
}

/* Evidence of one kind is of no other, but for those that are the same. */
static void wrong_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        struct kbs_buf b = KBS_BUF(1u << 20);

        (void)load(&shapes[i], &b);
        for (int tee = 0; tee <= KBS_TEE_COUNT; tee++) {
            int r = check((enum kbs_tee)tee, shapes[i].wrap(kbs_buf_span(&b)), &digest);
            bool same = tee == (int)shapes[i].tee ||
                        (shapes[i].wrap == sample && tee <= KBS_TEE_SAMPLEDEVICE && tee > 0);

            assert_int_equal(r, same                               ? KBS_OK
                                : tee == 0 || tee == KBS_TEE_COUNT ? KBS_UNSUPPORTED
                                                                   : KBS_INPUT);
        }
        kbs_buf_deinit(&b);
    }
}

static void azure(void **state)
{
    static const struct {
        const char *vector;
        enum kbs_tee tee;
        size_t len;
    } cases[] = {
        {"azure/az-snp-evidence-v0.json", KBS_TEE_AZ_SNP_VTPM, 9}, /* "challenge" */
        {"azure/az-snp-evidence-v1.json", KBS_TEE_AZ_SNP_VTPM, 9},
        {"azure/az-snp-evidence-v2.json", KBS_TEE_AZ_SNP_VTPM, 48},
        {"azure/az-tdx-evidence-v0.json", KBS_TEE_AZ_TDX_VTPM, 9},
        {"azure/az-tdx-evidence-v1.json", KBS_TEE_AZ_TDX_VTPM, 9},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kbs_buf file = KBS_BUF(1u << 20);
        struct kbs_buf field = KBS_BUF(64);
        struct kbs_digest as_digest = {.len = cases[i].len};
        struct kbs_error err = KBS_ERROR_NONE;
        enum kbs_hash hash;
        KBS_AUTO_JSON evidence = NULL;

        vectors_read(cases[i].vector, &file);
        assert_int_equal(kbs_json_parse_object(kbs_buf_span(&file), "vector", &evidence, &err), 0);
        assert_int_equal(kbs_report_data_find(cases[i].tee, evidence, &field, &hash, &err), 0);
        assert_int_equal(hash, KBS_HASH_NONE);
        assert_int_equal(field.len, cases[i].len);
        if (field.len == 9) {
            assert_memory_equal(field.p, "challenge", 9);
        }
        memcpy(as_digest.p, field.p, field.len);
        assert_int_equal(kbs_report_data_check(cases[i].tee, evidence, &as_digest, &err), 0);
        as_digest.p[0] ^= 1;
        assert_int_equal(kbs_report_data_check(cases[i].tee, evidence, &as_digest, &err), -1);
        as_digest.p[0] ^= 1;
        as_digest.len = field.len - 1; /* nothing is padded or cut here */
        assert_int_equal(kbs_report_data_check(cases[i].tee, evidence, &as_digest, &err), -1);
        kbs_buf_deinit(&file);
        kbs_buf_deinit(&field);
    }
}

/* What could be read in two ways is read in none. */
static void azure_shapes(void **state)
{
    struct kbs_digest extra = {.len = 64};
    struct kbs_buf m = KBS_BUF(1u << 16);
    struct kbs_span b;
    json_t *older;
    json_t *v;

    (void)state;
    assert_int_equal(kbs_hex_get(&m, KBS_SPAN_LIT(TPM_MESSAGE)), 0);
    memcpy(extra.p, m.p + 44, 64);
    b = kbs_buf_span(&m);
    assert_int_equal(check(KBS_TEE_AZ_SNP_VTPM, az_new(b), &extra), KBS_OK);
    assert_int_equal(check(KBS_TEE_AZ_TDX_VTPM, az_new(b), &extra), KBS_OK);
    assert_int_equal(check(KBS_TEE_AZ_SNP_VTPM, az_snp_old(b), &extra), KBS_OK);
    assert_int_equal(check(KBS_TEE_AZ_TDX_VTPM, az_tdx_old(b), &extra), KBS_OK);
    assert_int_equal(check(KBS_TEE_AZ_SNP_VTPM, az_tdx_old(b), &extra), KBS_INPUT);
    assert_int_equal(check(KBS_TEE_AZ_TDX_VTPM, az_snp_old(b), &extra), KBS_INPUT);
    v = az_new(b);
    json_object_set_new(v, "version", json_integer(3));
    assert_int_equal(check(KBS_TEE_AZ_SNP_VTPM, v, &extra), KBS_INPUT);
    v = az_new(b);
    json_object_del(v, "version");
    assert_int_equal(check(KBS_TEE_AZ_TDX_VTPM, v, &extra), KBS_INPUT);
    v = az_tdx_old(b);
    json_object_set_new(v, "version", json_integer(1));
    assert_int_equal(check(KBS_TEE_AZ_TDX_VTPM, v, &extra), KBS_INPUT);
    v = az_new(b);
    older = az_snp_old(b);
    json_object_update_missing(v, older);
    json_decref(older);
    assert_int_equal(check(KBS_TEE_AZ_SNP_VTPM, v, &extra), KBS_INPUT);
    kbs_buf_deinit(&m);
}

/* A quote of DCAP's sample set, and where its field is as another program finds it. */
static void tdx_known(void **state)
{
    struct kbs_buf quote = KBS_BUF(1u << 16);
    struct kbs_buf field = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;
    enum kbs_hash hash;
    json_t *evidence;

    (void)state;
    vectors_read("tdx/dcap_tdx_quote", &quote);
    evidence = tdx(kbs_buf_span(&quote));
    assert_int_equal(kbs_report_data_find(KBS_TEE_TDX, evidence, &field, &hash, &err), 0);
    assert_int_equal(field.len, 64);
    assert_memory_equal(field.p, quote.p + 568, 64);
    json_decref(evidence);
    for (size_t i = 0; i < 8; i++) { /* version and kind of TEE are looked at */
        if (i != 2 && i != 3) {
            quote.p[i] ^= 0x40;
            assert_int_equal(check(KBS_TEE_TDX, tdx(kbs_buf_span(&quote)), &digest), KBS_INPUT);
            quote.p[i] ^= 0x40;
        }
    }
    kbs_buf_deinit(&quote);
    kbs_buf_deinit(&field);
}

/* Lengths inside of a TPM's quote and a CCA token: a byte more or less is malformed. */
static void inner_lengths(void **state)
{
    static const size_t tpm_at[] = {0, 4, 6, 7, 42, 43, 136, 139, 143, 144};
    struct kbs_buf b = KBS_BUF(1u << 16);
    const struct shape *token = &shapes[5];

    (void)state;
    assert_int_equal(kbs_hex_get(&b, KBS_SPAN_LIT(TPM_MESSAGE)), 0);
    for (size_t i = 0; i < COUNT(tpm_at); i++) {
        for (int d = -1; d <= 1; d += 2) {
            b.p[tpm_at[i]] = (uint8_t)(b.p[tpm_at[i]] + d);
            assert_int_equal(check(KBS_TEE_TPM, tpm(kbs_buf_span(&b)), &digest), KBS_INPUT);
            b.p[tpm_at[i]] = (uint8_t)(b.p[tpm_at[i]] - d);
        }
    }
    kbs_buf_clear(&b);
    (void)load(token, &b);
    for (size_t i = 0; i < 10; i++) { /* tag, map, label and head of the platform's token */
        for (int d = -1; d <= 1; d += 2) {
            b.p[i] = (uint8_t)(b.p[i] + d);
            if (i != 4 && i != 5 && i != 6) { /* the platform's label is not looked at */
                assert_int_equal(check_shape(token, &b), KBS_INPUT);
            }
            b.p[i] = (uint8_t)(b.p[i] - d);
        }
    }
    kbs_buf_deinit(&b);
}

#define CHALLENGE64                                                    \
    "5840"                                                             \
    "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20" \
    "2122232425262728292a2b2c2d2e2f3000000000000000000000000000000000"
#define SIGN1(payload_head, payload) "d28443a10126a0" payload_head payload "4100"

/* Small CCA tokens: both collections, and what makes a token ambiguous or malformed. */
static void cca_tokens(void **state)
{
    static const struct {
        const char *hex;
        int result;
    } cases[] = {
        /* 399({44241: bstr(Sign1({10: challenge}))}) */
        {"d9018fa119acd1584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_OK},
        /* 907({44241: [263, bstr]}), and with an indicator, and a type as text */
        {"d9038ba119acd182190107584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_OK},
        {"d9038ba119acd183190107584f" SIGN1("5844", "a10a" CHALLENGE64) "04", KBS_OK},
        {"d9038ba119acd1826161584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_OK},
        /* each collection in the other's clothes */
        {"d9038ba119acd1584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_INPUT},
        {"d9018fa119acd182190107584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_INPUT},
        /* another tag; no realm token; nothing */
        {"d90190a119acd1584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_INPUT},
        {"d9018fa119acd2584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_INPUT},
        {"", KBS_INPUT},
        /* two realm tokens; two challenges; a challenge of 63 bytes' head */
        {"d9018fa219acd1584f" SIGN1("5844", "a10a" CHALLENGE64) "19acd1584f" SIGN1(
             "5844", "a10a" CHALLENGE64),
         KBS_INPUT},
        {"d9018fa119acd15893" SIGN1("5888", "a20a" CHALLENGE64 "0a" CHALLENGE64), KBS_INPUT},
        {"d9018fa119acd1584e" SIGN1("5843", "a10a583f01020304050607080910111213141516"
                                            "171819202122232425262728293031323334353637383940"
                                            "4142434445464748495051525354555657585960616263"),
         KBS_INPUT},
        /* something after it, in it; an indefinite map; a head longer than it has to be */
        {"d9018fa119acd1584f" SIGN1("5844", "a10a" CHALLENGE64) "00", KBS_INPUT},
        {"d9018fbf19acd1584f" SIGN1("5844", "a10a" CHALLENGE64) "ff", KBS_INPUT},
        {"d9018fa11a0000acd1584f" SIGN1("5844", "a10a" CHALLENGE64), KBS_INPUT},
        /* maps and arrays that say they hold more than there is */
        {"d9018fbb7fffffffffffffff19acd1584f", KBS_INPUT},
        {"d9018fa119acd09bffffffffffffffff", KBS_INPUT},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kbs_buf b = KBS_BUF(1u << 16);

        assert_int_equal(kbs_hex_get(&b, kbs_span_str(cases[i].hex)), 0);
        assert_int_equal(check(KBS_TEE_CCA, cca(kbs_buf_span(&b)), &digest), cases[i].result);
        kbs_buf_deinit(&b);
    }
}

/* Evidence as the text of the object. */
static void cca_text(void **state)
{
    struct kbs_buf b = KBS_BUF(1u << 16);
    json_t *object;
    char *as_text;

    (void)state;
    (void)load(&shapes[5], &b);
    object = cca(kbs_buf_span(&b));
    as_text = json_dumps(object, JSON_COMPACT);
    assert_int_equal(check(KBS_TEE_CCA, json_string(as_text), &digest), KBS_OK);
    assert_int_equal(check(KBS_TEE_CCA, json_string("{"), &digest), KBS_INPUT);
    assert_int_equal(check(KBS_TEE_TDX, json_string(as_text), &digest), KBS_INPUT);
    free(as_text);
    json_decref(object);
    kbs_buf_deinit(&b);
}

/* A masked report's field (Trustee's test data): unmasked, 48 bytes and zeros. */
static void csv_masked(void **state)
{
    static const char masked[] = "16c46aca9dba41960d05df220cd476e10375ebe21dc310357a7cdb4bed3714a9"
                                 "4c71d5e2cb509103b1e11bbf93ee0ea43593d77e3593d77e3593d77e3593d77e";
    struct kbs_digest expected = {.len = 48};
    struct kbs_buf m = KBS_BUF(64);
    struct kbs_buf report = KBS_BUF(4096);
    json_t *v;

    (void)state;
    assert_int_equal(kbs_hex_get(&m, kbs_span_str(masked)), 0);
    for (size_t i = 0; i < 48; i++) {
        expected.p[i] = m.p[i] ^ (uint8_t)(2128057141u >> (8 * (i % 4)));
    }
    v = json_pack("{s:{s:{s:o},s:I}}", "attestation_report", "body", "report_data",
                  numbers(kbs_buf_span(&m)), "anonce", (json_int_t)2128057141);
    assert_int_equal(check(KBS_TEE_CSV, json_incref(v), &expected), KBS_OK);
    json_object_set_new(json_object_get(v, "attestation_report"), "anonce",
                        json_integer(2128057140));
    assert_int_equal(check(KBS_TEE_CSV, v, &expected), KBS_UNAUTHENTICATED);

    /* the same as a report of 4096 bytes, by either mark of the older layout */
    memset(kbs_buf_reserve(&report, 4096), 0, 4096);
    kbs_buf_commit(&report, 4096);
    memcpy(report.p + 64, m.p, 64);
    memcpy(report.p + 188, "\x35\x93\xd7\x7e", 4);
    for (int flags = 0; flags <= 2; flags++) {
        v = csv(kbs_buf_span(&report));
        json_object_set_new(json_object_get(v, "attestation_report"), "flags", json_integer(flags));
        assert_int_equal(check(KBS_TEE_CSV, v, &expected), flags == 0   ? KBS_OK
                                                           : flags == 1 ? KBS_UNAUTHENTICATED
                                                                        : KBS_INPUT);
    }
    v = csv(kbs_buf_span(&report));
    json_object_set_new(json_object_get(v, "attestation_report"), "magic",
                        numbers(kbs_span("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16)));
    assert_int_equal(check(KBS_TEE_CSV, v, &expected), KBS_OK);
    kbs_buf_deinit(&m);
    kbs_buf_deinit(&report);
}

/* Devices that are attested together must agree, and there is one at least. */
static void lists(void **state)
{
    struct kbs_buf report = KBS_BUF(100);
    json_t *v;
    json_t *other;

    (void)state;
    (void)load(&shapes[9], &report);
    v = nvidia(kbs_buf_span(&report));
    report.p[4] ^= 1;
    other = nvidia(kbs_buf_span(&report));
    json_array_append(json_object_get(v, "device_evidence_list"),
                      json_array_get(json_object_get(other, "device_evidence_list"), 0));
    json_decref(other);
    assert_int_equal(check(KBS_TEE_NVIDIA, v, &digest), KBS_INPUT);
    assert_int_equal(check(KBS_TEE_NVIDIA, json_pack("{s:[]}", "device_evidence_list"), &digest),
                     KBS_INPUT);
    assert_int_equal(check(KBS_TEE_HYGONDCU, json_pack("{s:[]}", "attestation_reports"), &digest),
                     KBS_INPUT);
    /* hex of another reader's case is not taken for base64 */
    assert_int_equal(check(KBS_TEE_NVIDIA,
                           json_pack("{s:[{s:s}]}", "device_evidence_list", "evidence", "11E0AABB"),
                           &digest),
                     KBS_INPUT);
    kbs_buf_deinit(&report);
}

/* SVSM's shape says that it may be bound in SVSM's way; evidence in both shapes says nothing. */
static void snp_shapes(void **state)
{
    struct kbs_buf report = KBS_BUF(1u << 16);
    struct kbs_buf field = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;
    enum kbs_hash hash;
    json_t *v;

    (void)state;
    (void)load(&shapes[3], &report);
    v = svsm(kbs_buf_span(&report));
    assert_int_equal(kbs_report_data_find(KBS_TEE_SNP, v, &field, &hash, &err), 0);
    assert_int_equal(hash, KBS_HASH_SHA512);
    json_object_set_new(v, "snp-report", numbers(kbs_buf_span(&report)));
    assert_int_equal(check(KBS_TEE_SNP, json_incref(v), &digest), KBS_OK);
    json_object_set_new(v, "attestation_report", json_object());
    assert_int_equal(check(KBS_TEE_SNP, v, &digest), KBS_INPUT);
    kbs_buf_deinit(&report);
    kbs_buf_deinit(&field);
}

/* Any JSON at all is refused with words. */
static void not_evidence(void **state)
{
    static const char *const texts[] = {"{\"a\":null}", "{\"a\":[]}", "{\"a\":{}}", "{\"a\":\"\"}",
                                        "{\"a\":1}"};

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        json_t *v = json_loads(texts[i], 0, NULL);

        for (int tee = KBS_TEE_SAMPLE; tee < KBS_TEE_COUNT; tee++) {
            assert_int_equal(
                check((enum kbs_tee)tee, json_incref(json_object_get(v, "a")), &digest), KBS_INPUT);
        }
        json_decref(v);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape),   cmocka_unit_test(truncated),
        cmocka_unit_test(wrong_kind),    cmocka_unit_test(azure),
        cmocka_unit_test(azure_shapes),  cmocka_unit_test(tdx_known),
        cmocka_unit_test(inner_lengths), cmocka_unit_test(cca_tokens),
        cmocka_unit_test(cca_text),      cmocka_unit_test(csv_masked),
        cmocka_unit_test(lists),         cmocka_unit_test(snp_shapes),
        cmocka_unit_test(not_evidence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
