/*
 * Public test vectors (Wycheproof, RFC 7520's examples) for everything that the service does with
 * keys: each file that applies, each case of it, in software and on each token of the matrix, and a
 * table of what was decided. Two sides decide (vectors.h); this file reads, asks and judges.
 *
 * A valid vector has to give its result, unless it is outside what the service accepts at all (a
 * key of 384 bytes, a label): then it has to be refused, and the table says so. An invalid one has
 * to be refused, as the sender's fault. "Acceptable" ones may do either, but not give another
 * result. What no side could be asked is skipped with its reason, never silently; and a vector file
 * that no test knows is a failure.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "base/encoding.h"
#include "harness.h"
#include "jose/write/jose.h"
#include "vectors.h"

#define PARTS_MAX 16u
#define PART_MAX_BYTES 65536u
#define NOTES_MAX 8u
#define KEPT_RSA_MAX 64u

#define SIDES 4u
static const char *const side_names[SIDES] = {"software", "softhsm", "nss", "mock"};

/* ---- the table ---- */

struct note {
    char text[KBS_LIMIT_ERROR_DETAIL_BYTES + 32];
    unsigned int n;
};

/* A row: one file on one side. */
struct tally {
    const char *file;
    const char *side;
    unsigned int cases;
    unsigned int right;
    unsigned int refused;
    unsigned int before;
    unsigned int skipped;
    unsigned int wrong;
    struct note notes[NOTES_MAX];
};

static void note(struct tally *t, const char *what, const char *why)
{
    char text[sizeof(t->notes[0].text)];

    (void)snprintf(text, sizeof(text), "%s: %s", what, why);
    for (size_t i = 0; i < NOTES_MAX; i++) {
        if (t->notes[i].n == 0) {
            (void)snprintf(t->notes[i].text, sizeof(text), "%s", text);
        }
        if (strcmp(t->notes[i].text, text) == 0) {
            t->notes[i].n++;
            return;
        }
    }
    fail_msg("more than %u notes to a row", NOTES_MAX);
}

static void wrong(struct tally *t, json_int_t id, const char *want, const char *why)
{
    t->wrong++;
    print_error("WRONG: %s on %s, case %d, which is %s: %s\n", t->file, t->side, (int)id, want,
                why[0] != '\0' ? why : "accepted");
}

/*
 * One case. foreign: NULL, or why the service need not accept it although it is valid; then a
 * refusal is as right as the result.
 */
static void judge(struct tally *t, json_int_t id, const char *want, const char *foreign,
                  struct vector_answer a)
{
    bool valid = strcmp(want, "valid") == 0;
    bool invalid = strcmp(want, "invalid") == 0;
    bool refusal = a.got == VECTOR_REFUSED || a.got == VECTOR_BEFORE;

    t->cases++;
    if (a.got == VECTOR_SKIPPED) {
        t->skipped++;
        note(t, valid ? "skipped, valid" : invalid ? "skipped, invalid" : "skipped, either", a.why);
    } else if (a.got == VECTOR_WRONG || (invalid && !refusal) ||
               (valid && refusal && foreign == NULL)) {
        wrong(t, id, want, a.why);
    } else if (!refusal) {
        t->right++;
    } else {
        t->refused += a.got == VECTOR_REFUSED;
        t->before += a.got == VECTOR_BEFORE;
        if (valid) {
            note(t, "valid, but refused", foreign);
        }
    }
}

/* ---- reading ---- */

/* The bytes of the case at hand; free again with the next one. */
static struct kbs_buf parts[PARTS_MAX];
static size_t parts_used;

static void parts_free(void)
{
    while (parts_used > 0) {
        kbs_buf_deinit(&parts[--parts_used]);
    }
}

static struct kbs_buf *part_new(void)
{
    assert_true(parts_used < PARTS_MAX);
    parts[parts_used] = KBS_BUF(PART_MAX_BYTES);
    return &parts[parts_used++];
}

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));

    if (text == NULL) {
        fail_msg("a vector has no \"%s\"", member);
    }
    return text;
}

static bool member_is(const json_t *object, const char *member, const char *text)
{
    const char *is = json_string_value(json_object_get(object, member));

    return is != NULL && strcmp(is, text) == 0;
}

/* Never NULL: an empty value is given as a pointer too. */
static struct kbs_span span_of(const struct kbs_buf *part)
{
    return kbs_span(part->p != NULL ? (const void *)part->p : "", part->len);
}

static struct kbs_span hex_of(const json_t *object, const char *member)
{
    struct kbs_buf *part = part_new();

    assert_int_equal(kbs_hex_get(part, kbs_span_str(text_of(object, member))), 0);
    return span_of(part);
}

static struct kbs_span base64_of(const json_t *object, const char *member)
{
    struct kbs_buf *part = part_new();

    assert_int_equal(kbs_base64url_get(part, kbs_span_str(text_of(object, member))), 0);
    return span_of(part);
}

static json_int_t number_of(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

/* NULL, and said why, for a file that is not there or no JSON. */
static json_t *load(const char *name)
{
    char path[1024];
    json_error_t why;
    json_t *doc;

    (void)snprintf(path, sizeof(path), "%s/%s", KBS_VECTORS_DIR, name);
    doc = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (doc == NULL) {
        print_error("%s: %s\n", path, why.text);
    }
    return doc;
}

/* Every case of a Wycheproof file. */
typedef void case_fn(const json_t *group, const json_t *test, const struct vector_side *side,
                     struct tally *t);

static void each_case(const json_t *doc, case_fn *decide, const struct vector_side *side,
                      struct tally *t)
{
    const json_t *groups = json_object_get(doc, "testGroups");

    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        const json_t *tests = json_object_get(group, "tests");

        for (size_t j = 0; j < json_array_size(tests); j++) {
            decide(group, json_array_get(tests, j), side, t);
            parts_free();
        }
    }
    if ((json_int_t)t->cases != number_of(doc, "numberOfTests")) {
        fail_msg("%s: %u cases instead of those it counts", t->file, t->cases);
    }
}

static void judge_test(const json_t *test, const char *foreign, struct tally *t,
                       struct vector_answer a)
{
    judge(t, number_of(test, "tcId"), text_of(test, "result"), foreign, a);
}

/* ---- AES Key Wrap, HKDF, OAEP, GCM ---- */

static const char *wrap_foreign(const json_t *group, struct kbs_span key)
{
    if (key.len > KBS_LIMIT_KEY_BYTES_MAX) {
        return "a key of more than 64 bytes";
    }
    return number_of(group, "keySize") != 256 ? "a wrapping key of 128 or 192 bits" : NULL;
}

static void wrap_case(const json_t *group, const json_t *test, const struct vector_side *side,
                      struct tally *t)
{
    struct kbs_span key = hex_of(test, "msg");

    judge_test(test, wrap_foreign(group, key), t,
               side->unwrap(hex_of(test, "key"), hex_of(test, "ct"), key));
}

/*
 * There is no KWP here; to whoever takes its blobs for AES-KW they are garbled. But for one per key
 * size, which is invalid KWP because it is AES-KW (the comment means RFC 3394).
 */
static void padded_case(const json_t *group, const json_t *test, const struct vector_side *side,
                        struct tally *t)
{
    if (member_is(test, "comment", "RFC 3349 padding")) {
        judge(t, number_of(test, "tcId"), "valid", wrap_foreign(group, KBS_SPAN_EMPTY),
              side->unwrap(hex_of(test, "key"), hex_of(test, "ct"), hex_of(test, "msg")));
        note(t, "not KWP", "a blob of AES-KW");
        return;
    }
    judge_test(test, "KWP is not offered, and nothing of it opens as AES-KW", t,
               side->unwrap(hex_of(test, "key"), hex_of(test, "ct"), KBS_SPAN_EMPTY));
}

static void hkdf_case(const json_t *group, const json_t *test, const struct vector_side *side,
                      struct tally *t)
{
    (void)group;
    if (!member_is(test, "result", "valid")) {
        judge_test(test, NULL, t,
                   vector_answer(VECTOR_SKIPPED, "an output over 255 blocks; ours has 32 bytes"));
        return;
    }
    judge_test(test, NULL, t,
               side->hkdf(hex_of(test, "ikm"), hex_of(test, "salt"), hex_of(test, "info"),
                          hex_of(test, "okm")));
}

/*
 * RSA keys, each read once for all its cases on all sides: to check its primes takes longer than all
 * else. Known by the text they came as, and kept until the program ends.
 */
static struct {
    char *text;
    struct kbs_agree_rsa *key;
} kept_rsa[KEPT_RSA_MAX];

static const struct kbs_agree_rsa *rsa_kept(const char *text)
{
    for (size_t i = 0; i < KEPT_RSA_MAX && kept_rsa[i].text != NULL; i++) {
        if (strcmp(kept_rsa[i].text, text) == 0) {
            return kept_rsa[i].key;
        }
    }
    return NULL;
}

static const struct kbs_agree_rsa *rsa_keep(const char *text, struct kbs_span pem)
{
    struct kbs_error err = KBS_ERROR_NONE;
    size_t i = 0;

    while (i < KEPT_RSA_MAX && kept_rsa[i].text != NULL) {
        i++;
    }
    assert_int_not_equal(i, KEPT_RSA_MAX);
    if (kbs_agree_rsa_from_pem(pem, &kept_rsa[i].key, &err) != 0) {
        fail_msg("a vector's RSA key: %s", err.detail);
    }
    kept_rsa[i].text = strdup(text);
    assert_non_null(kept_rsa[i].text);
    return kept_rsa[i].key;
}

static const struct kbs_agree_rsa *group_rsa(const json_t *group)
{
    const char *pem = text_of(group, "privateKeyPem");
    const struct kbs_agree_rsa *key = rsa_kept(pem);

    return key != NULL ? key : rsa_keep(pem, kbs_span_str(pem));
}

static void oaep_case(const json_t *group, const json_t *test, const struct vector_side *side,
                      struct tally *t)
{
    judge_test(
        test, text_of(test, "label")[0] != '\0' ? "a label, which JOSE's OAEP does not have" : NULL,
        t,
        side->oaep(group_rsa(group), KBS_TEE_ALG_RSA_OAEP_256, hex_of(test, "ct"),
                   hex_of(test, "msg")));
}

static void gcm_case(const json_t *group, const json_t *test, const struct vector_side *side,
                     struct tally *t)
{
    const struct vector_gcm v = {.key = hex_of(test, "key"),
                                 .iv = hex_of(test, "iv"),
                                 .aad = hex_of(test, "aad"),
                                 .msg = hex_of(test, "msg"),
                                 .ct = hex_of(test, "ct"),
                                 .tag = hex_of(test, "tag")};

    if (number_of(group, "keySize") != 256) {
        judge_test(test, NULL, t, vector_answer(VECTOR_SKIPPED, "not A256GCM"));
    } else if (v.iv.len != KBS_GCM_IV_BYTES || v.tag.len != KBS_GCM_TAG_BYTES) {
        judge_test(test, NULL, t,
                   vector_answer(VECTOR_SKIPPED, "an iv of other than 96 bits, which JWE has not"));
    } else {
        judge_test(test, v.ct.len == 0 ? "a secret of 0 bytes" : NULL, t, side->gcm(&v));
    }
}

/* ---- ECDH ---- */

/* The next DER element, if it has that tag and a definite length of one byte or 81 and one. */
static bool der_next(struct kbs_span *in, uint8_t tag, struct kbs_span *ret)
{
    size_t head = 2;
    size_t len;

    if (in->len < 3 || in->p[0] != tag) {
        return false;
    }
    len = in->p[1];
    if (len == 0x81) {
        len = in->p[2];
        head = 3;
    } else if (len > 0x80) {
        return false;
    }
    if (len > in->len - head || (head == 3 && len < 0x80)) {
        return false;
    }
    *ret = kbs_span(in->p + head, len);
    *in = kbs_span_skip(*in, head + len);
    return true;
}

/*
 * The point of a SubjectPublicKeyInfo of a named curve. A curve that we do not have becomes the
 * private key's: whoever sends such a point to us has no other name for it.
 */
static bool peer_of(struct kbs_span spki, enum kbs_curve curve, struct vector_peer *ret)
{
    static const uint8_t ec_public_key[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01};
    struct kbs_span all;
    struct kbs_span ids;
    struct kbs_span oid;
    struct kbs_span named;
    struct kbs_span bits;

    if (!der_next(&spki, 0x30, &all) || spki.len > 0 || !der_next(&all, 0x30, &ids) ||
        !der_next(&all, 0x03, &bits) || all.len > 0 || !der_next(&ids, 0x06, &oid) ||
        !der_next(&ids, 0x06, &named) || ids.len > 0 || bits.len < 1 || bits.p[0] != 0 ||
        !kbs_span_equal(oid, kbs_span(ec_public_key, sizeof(ec_public_key)))) {
        return false;
    }
    *ret = (struct vector_peer){.curve = curve, .point = kbs_span_skip(bits, 1)};
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
        if (kbs_span_equal(kbs_span_skip(kbs_curve_oid_der(c), 2), named)) {
            ret->curve = c;
        }
    }
    return true;
}

/* The vectors have DER integers, with and without zeros in front. */
static struct kbs_span scalar_of(struct kbs_span integer, enum kbs_curve curve)
{
    static const uint8_t zeros[KBS_EC_FIELD_MAX_BYTES];
    size_t n = kbs_curve_field_bytes(curve);
    struct kbs_buf *part = part_new();

    while (integer.len > n) {
        assert_int_equal(integer.p[0], 0);
        integer = kbs_span_skip(integer, 1);
    }
    kbs_buf_put(part, zeros, n - integer.len);
    kbs_buf_put_span(part, integer);
    return span_of(part);
}

static void ecdh_case(const json_t *group, const json_t *test, const struct vector_side *side,
                      struct tally *t)
{
    enum kbs_curve curve = member_is(group, "curve", "secp256r1") ? KBS_CURVE_P256 : KBS_CURVE_P384;
    struct vector_peer peer;

    if (!peer_of(hex_of(test, "public"), curve, &peer)) {
        judge_test(test, NULL, t,
                   vector_answer(VECTOR_SKIPPED, "explicit parameters or broken DER around the "
                                                 "point, which no interface of ours reads"));
        return;
    }
    judge_test(test, NULL, t,
               side->ecdh(curve, scalar_of(hex_of(test, "private"), curve), &peer,
                          hex_of(test, "shared")));
}

/* ---- JWE ---- */

static void bn_push(OSSL_PARAM_BLD *out, const char *name, const json_t *jwk, const char *member,
                    BIGNUM **ret)
{
    struct kbs_span bytes = base64_of(jwk, member);

    *ret = BN_bin2bn(bytes.p, (int)bytes.len, NULL);
    assert_non_null(*ret);
    assert_int_equal(OSSL_PARAM_BLD_push_BN(out, name, *ret), 1);
}

/* An RSA private key of a JWK, by way of PEM, which is how such keys come here. */
static const struct kbs_agree_rsa *rsa_of(const json_t *jwk)
{
    static const struct {
        const char *name;
        const char *member;
    } members[] = {{OSSL_PKEY_PARAM_RSA_N, "n"},          {OSSL_PKEY_PARAM_RSA_E, "e"},
                   {OSSL_PKEY_PARAM_RSA_D, "d"},          {OSSL_PKEY_PARAM_RSA_FACTOR1, "p"},
                   {OSSL_PKEY_PARAM_RSA_FACTOR2, "q"},    {OSSL_PKEY_PARAM_RSA_EXPONENT1, "dp"},
                   {OSSL_PKEY_PARAM_RSA_EXPONENT2, "dq"}, {OSSL_PKEY_PARAM_RSA_COEFFICIENT1, "qi"}};
    enum {
        COUNT = sizeof(members) / sizeof(members[0])
    };
    BIGNUM *numbers[COUNT];
    OSSL_PARAM_BLD *build;
    EVP_PKEY_CTX *ctx;
    BIO *bio;
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params;
    char *text = json_dumps(jwk, JSON_COMPACT | JSON_SORT_KEYS);
    const struct kbs_agree_rsa *key;
    char *pem = NULL;
    long len;

    assert_non_null(text);
    key = rsa_kept(text);
    if (key != NULL) {
        free(text);
        return key;
    }
    build = OSSL_PARAM_BLD_new();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    bio = BIO_new(BIO_s_mem());
    for (size_t i = 0; i < COUNT; i++) {
        bn_push(build, members[i].name, jwk, members[i].member, &numbers[i]);
    }
    params = OSSL_PARAM_BLD_to_param(build);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params), 1);
    assert_int_equal(PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(bio, &pem);
    key = rsa_keep(text, kbs_span(pem, (size_t)len));
    free(text);
    for (size_t i = 0; i < COUNT; i++) {
        BN_free(numbers[i]);
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    return key;
}

/* Compact to flattened (RFC 7516 section 7): what is missing there is missing here. */
static struct kbs_span flattened(const char *compact)
{
    static const char *const names[] = {"protected", "encrypted_key", "iv", "ciphertext", "tag"};
    struct kbs_buf *out = part_new();

    if (compact[0] == '{') {
        kbs_buf_put_str(out, compact);
        return span_of(out);
    }
    kbs_buf_put_str(out, "{");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && compact != NULL; i++) {
        size_t n = strcspn(compact, ".");

        kbs_buf_printf(out, "%s\"%s\":\"%.*s\"", i > 0 ? "," : "", names[i], (int)n, compact);
        compact = compact[n] == '.' ? compact + n + 1 : NULL;
    }
    kbs_buf_put_str(out, "}");
    return span_of(out);
}

/*
 * NULL if it is a JWE as the service makes them: one of its algorithms, A256GCM, no other members.
 */
static const char *jwe_foreign(const char *compact)
{
    static const char *const algs[] = {"ECDH-ES+A256KW", "RSA-OAEP", "RSA-OAEP-256", "RSA1_5"};
    struct kbs_buf *bytes = part_new();
    json_t *header = NULL;
    const char *name;
    json_t *value;
    bool ours = false;

    if (kbs_base64url_get(bytes, kbs_span(compact, strcspn(compact, "."))) == 0) {
        header = json_loadb((const char *)span_of(bytes).p, bytes->len, 0, NULL);
    }
    for (size_t i = 0; header != NULL && i < sizeof(algs) / sizeof(algs[0]); i++) {
        ours = ours || member_is(header, "alg", algs[i]);
    }
    ours = ours && member_is(header, "enc", "A256GCM");
    json_object_foreach(header, name, value)
    {
        ours = ours &&
               (strcmp(name, "alg") == 0 || strcmp(name, "enc") == 0 || strcmp(name, "epk") == 0);
    }
    json_decref(header);
    return ours ? NULL : "alg, enc or header members that the service's JWEs do not have";
}

static struct vector_answer jwe_ask(const json_t *jwk, struct vector_jwe *v,
                                    const struct vector_side *side)
{
    struct kbs_agree_key *ec = NULL;
    const struct kbs_agree_rsa *rsa;
    struct vector_answer a;

    if (member_is(jwk, "kty", "EC")) {
        enum kbs_curve curve = kbs_curve_from_jose_name(kbs_span_str(text_of(jwk, "crv")));

        v->d = base64_of(jwk, "d");
        v->ec = ec = vector_key(curve, v->d);
        v->public_key = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW,
                                             .ec = *kbs_agree_key_public(ec)};
    } else if (member_is(jwk, "kty", "RSA")) {
        v->rsa = rsa = rsa_of(jwk);
        v->public_key =
            (struct kbs_tee_key){.alg = kbs_tee_alg_from_name(kbs_span_str(text_of(jwk, "alg"))),
                                 .rsa = *kbs_agree_rsa_public(rsa)};
    } else {
        return vector_answer(VECTOR_SKIPPED, "a symmetric key; TEE keys are EC or RSA");
    }
    a = side->jwe(v);
    (void)kbs_agree_key_free(ec);
    return a;
}

static void jwe_case(const json_t *group, const json_t *test, const struct vector_side *side,
                     struct tally *t)
{
    const char *compact = text_of(test, "jwe");
    struct vector_jwe v = {.text = flattened(compact)};

    if (json_object_get(test, "pt") != NULL) {
        v.plain = hex_of(test, "pt");
    }
    judge_test(test, jwe_foreign(compact), t, jwe_ask(json_object_get(group, "private"), &v, side));
}

/* ---- RFC 7520 ---- */

static enum kbs_curve curve_of(const json_t *jwk)
{
    return kbs_curve_from_jose_name(kbs_span_str(text_of(jwk, "crv")));
}

static struct vector_peer jwk_peer(const json_t *jwk)
{
    struct kbs_buf *point = part_new();

    kbs_buf_put_u8(point, 0x04);
    kbs_buf_put_span(point, base64_of(jwk, "x"));
    kbs_buf_put_span(point, base64_of(jwk, "y"));
    return (struct vector_peer){.curve = curve_of(jwk), .point = span_of(point)};
}

/* Z in software, which the rest of the example shows to be right. Returns owned. */
static struct kbs_secret *shared_of(const json_t *jwk, const struct vector_peer *peer)
{
    struct kbs_agree_key *key = vector_key(curve_of(jwk), base64_of(jwk, "d"));
    struct kbs_secret *z = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public q;

    if (kbs_ec_point_get(peer->curve, peer->point, &q, &err) != 0 ||
        kbs_agree_ecdh(key, &q, &z, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    (void)kbs_agree_key_free(key);
    return z;
}

static void skip_case(struct tally *t, const char *why)
{
    judge(t, t->cases + 1, "valid", NULL, vector_answer(VECTOR_SKIPPED, why));
}

/* Sections 3.1 and 3.2: the private key's public half is the public key; and ECDH on P-521. */
static void p521_example(const json_t *doc, const struct vector_side *side, struct tally *t)
{
    json_t *public_jwk = load("jose-cookbook/3_1.ec_public_key.json");
    struct vector_peer peer = jwk_peer(public_jwk);
    struct kbs_agree_key *key = vector_key(KBS_CURVE_P521, base64_of(doc, "d"));
    struct kbs_secret *z = shared_of(doc, &peer);
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t len = kbs_ec_point_put(kbs_agree_key_public(key), point);

    judge(t, 1, "valid", NULL, vector_compared(kbs_span(point, len), peer.point));
    judge(t, 2, "valid", NULL,
          side->ecdh(KBS_CURVE_P521, base64_of(doc, "d"), &peer, kbs_secret_span(z)));
    kbs_secret_free(z);
    (void)kbs_agree_key_free(key);
    json_decref(public_jwk);
}

/* Section 5.2: RSA-OAEP with SHA-1 and 4096 bits, A256GCM. */
static void rsa_oaep_example(const json_t *doc, const struct vector_side *side, struct tally *t)
{
    const json_t *made = json_object_get(doc, "generated");
    const json_t *sealed = json_object_get(doc, "encrypting_content");
    const json_t *input = json_object_get(doc, "input");
    const struct kbs_agree_rsa *key = rsa_of(json_object_get(input, "key"));
    const struct vector_gcm v = {.key = base64_of(made, "cek"),
                                 .iv = base64_of(made, "iv"),
                                 .aad = kbs_span_str(text_of(sealed, "protected_b64u")),
                                 .msg = kbs_span_str(text_of(input, "plaintext")),
                                 .ct = base64_of(sealed, "ciphertext"),
                                 .tag = base64_of(sealed, "tag")};

    judge(t, 1, "valid", NULL,
          side->oaep(key, KBS_TEE_ALG_RSA_OAEP,
                     base64_of(json_object_get(doc, "encrypting_key"), "encrypted_key"), v.key));
    judge(t, 2, "valid", NULL, side->gcm(&v));
}

/* What only the example needs: AES Key Wrap with 128 bits, by OpenSSL. */
static bool unwraps_128(struct kbs_span kek, struct kbs_span wrapped, struct kbs_span key)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-128-WRAP", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t out[64];
    int n = 0;
    bool ok;

    assert_true(wrapped.len <= sizeof(out));
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    ok = EVP_DecryptInit_ex2(ctx, cipher, kek.p, NULL, NULL) == 1 &&
         EVP_DecryptUpdate(ctx, out, &n, wrapped.p, (int)wrapped.len) == 1 &&
         kbs_span_equal(kbs_span(out, (size_t)n), key);
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

/*
 * Section 5.4: ECDH-ES+A128KW on P-384. Its Z and KDF are ours, its key wrap and content are
 * shorter.
 */
static void ecdh_example(const json_t *doc, const struct vector_side *side, struct tally *t)
{
    static const uint8_t info[] = {0,   0,   0,   14,  'E', 'C', 'D', 'H', '-', 'E',
                                   'S', '+', 'A', '1', '2', '8', 'K', 'W', 0,   0,
                                   0,   0,   0,   0,   0,   0,   0,   0,   0,   128};
    const json_t *jwk = json_object_get(json_object_get(doc, "input"), "key");
    const json_t *wrapped = json_object_get(doc, "encrypting_key");
    struct kbs_span cek = base64_of(json_object_get(doc, "generated"), "cek");
    struct kbs_span blob = base64_of(wrapped, "encrypted_key");
    struct vector_peer epk = jwk_peer(json_object_get(wrapped, "epk"));
    struct kbs_secret *z = shared_of(jwk, &epk);
    struct kbs_secret *kek = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span kek_128;

    assert_int_equal(
        kbs_agree_concat_kdf(kbs_secret_span(z), kbs_span(info, sizeof(info)), &kek, &err), 0);
    kek_128 = kbs_span(kbs_secret_bytes(kek), 16); /* the front of 32 bytes of one round */
    judge(t, 1, "valid", NULL,
          unwraps_128(kek_128, blob, cek)
              ? side->ecdh(curve_of(jwk), base64_of(jwk, "d"), &epk, kbs_secret_span(z))
              : vector_answer(VECTOR_WRONG, "another shared secret or wrapping key"));
    judge(t, 2, "valid", "a wrapping key of 128 or 192 bits", side->unwrap(kek_128, blob, cek));
    skip_case(t, "content by A128GCM");
    kbs_secret_free(kek);
    kbs_secret_free(z);
}

/* Sections 5.8 and 5.10: A128KW, A128GCM. */
static void key_wrap_example(const json_t *doc, const struct vector_side *side, struct tally *t)
{
    judge(t, 1, "valid", "a wrapping key of 128 or 192 bits",
          side->unwrap(base64_of(json_object_get(json_object_get(doc, "input"), "key"), "k"),
                       base64_of(json_object_get(doc, "encrypting_key"), "encrypted_key"),
                       base64_of(json_object_get(doc, "generated"), "cek")));
    skip_case(t, "content by A128GCM");
}

/* Section 5.13: of three recipients the second is one of ours, by ECDH-ES+A256KW on P-384. */
static void recipients_example(const json_t *doc, const struct vector_side *side, struct tally *t)
{
    const json_t *jwk = json_array_get(json_object_get(json_object_get(doc, "input"), "key"), 1);
    const json_t *recipient = json_array_get(json_object_get(doc, "encrypting_key"), 1);
    struct vector_peer epk = jwk_peer(json_object_get(recipient, "epk"));

    skip_case(t, "a recipient by RSA1_5");
    judge(t, 2, "valid", NULL,
          side->agreed(curve_of(jwk), base64_of(jwk, "d"), &epk,
                       base64_of(recipient, "encrypted_key"),
                       base64_of(json_object_get(doc, "generated"), "cek")));
    skip_case(t, "a recipient by A256GCMKW");
    skip_case(t, "content by A128CBC-HS256");
}

/* ---- the files ---- */

static const struct vector_file {
    const char *name;
    case_fn *each; /* of a Wycheproof file */
    void (*example)(const json_t *doc, const struct vector_side *side, struct tally *t);
    unsigned int decided[SIDES]; /* at least so many are not skipped, lest a token that can do
                                    nothing passes */
} files[] = {
    {"wycheproof/aes_wrap_test.json", wrap_case, NULL, {165, 165, 165, 165}},
    {"wycheproof/aes_kwp_test.json", padded_case, NULL, {254, 254, 254, 254}},
    {"wycheproof/hkdf_sha256_test.json", hkdf_case, NULL, {83, 81, 81, 81}},
    {"wycheproof/ecdh_secp256r1_test.json", ecdh_case, NULL, {396, 396, 396, 396}},
    {"wycheproof/ecdh_secp384r1_test.json", ecdh_case, NULL, {831, 831, 831, 831}},
    {"wycheproof/rsa_oaep_2048_sha256_mgf1sha256_test.json", oaep_case, NULL, {37, 0, 36, 36}},
    {"wycheproof/aes_gcm_test.json", gcm_case, NULL, {66, 66, 66, 66}},
    {"wycheproof/json_web_encryption_test.json", jwe_case, NULL, {88, 44, 44, 44}},
    {"jose-cookbook/3_2.ec_private_key.json", NULL, p521_example, {2, 2, 2, 2}},
    {"jose-cookbook/5_2.key_encryption_using_rsa-oaep_with_aes-gcm.json",
     NULL,
     rsa_oaep_example,
     {2, 2, 2, 2}},
    {"jose-cookbook/5_4.key_agreement_with_key_wrapping_using_ecdh-es_and_aes-keywrap_with_aes-gcm."
     "json",
     NULL,
     ecdh_example,
     {2, 2, 2, 2}},
    {"jose-cookbook/5_8.key_wrap_using_aes-keywrap_with_aes-gcm.json",
     NULL,
     key_wrap_example,
     {1, 1, 1, 1}},
    {"jose-cookbook/5_10.including_additional_authentication_data.json",
     NULL,
     key_wrap_example,
     {1, 1, 1, 1}},
    {"jose-cookbook/5_13.encrypting_to_multiple_recipients.json",
     NULL,
     recipients_example,
     {1, 1, 1, 1}},
};
#define FILES (sizeof(files) / sizeof(files[0]))

static const struct {
    const char *name;
    const char *why;
} elsewhere[] = {
    {"jose-cookbook/3_1.ec_public_key.json", "with 3_2"},
    {"jose-cookbook/4_1.rsa_v15_signature.json", "a signature that is not used"},
    {"jose-cookbook/4_2.rsa-pss_signature.json", "a signature that is not used"},
    {"jose-cookbook/4_3.ecdsa_signature.json", "a signature, in unit_jose_read"},
    {"wycheproof/json_web_key_test.json", "signatures, in unit_jose_read"},
    {"wycheproof/json_web_signature_test.json", "signatures, in unit_jose_read"},
};
#define ELSEWHERE (sizeof(elsewhere) / sizeof(elsewhere[0]))

static struct tally table[FILES][SIDES];

/* All files on one side; how many cases were decided wrong, or missing. */
static unsigned int run_side(size_t column, const struct vector_side *side)
{
    unsigned int failures = 0;

    for (size_t i = 0; i < FILES; i++) {
        struct tally *t = &table[i][column];
        json_t *doc = load(files[i].name);

        t->file = strchr(files[i].name, '/') + 1;
        t->side = side_names[column];
        if (doc == NULL) {
            failures++;
            continue;
        }
        if (files[i].each != NULL) {
            each_case(doc, files[i].each, side, t);
        } else {
            files[i].example(doc, side, t);
        }
        parts_free();
        json_decref(doc);
        if (t->cases - t->skipped < files[i].decided[column]) {
            print_error("%s on %s: %u cases decided, not %u\n", t->file, t->side,
                        t->cases - t->skipped, files[i].decided[column]);
            failures++;
        }
        failures += t->wrong;
    }
    return failures;
}

static void in_software(void **state)
{
    (void)state;
    assert_int_equal(run_side(0, &vector_software), 0);
}

static void on_token(size_t column)
{
    unsigned int failures;

    if (!harness_select(side_names[column])) {
        print_message("skipped: the module of %s is not installed\n", side_names[column]);
        skip();
    }
    vector_token_open();
    failures = run_side(column, &vector_token);
    vector_token_close();
    assert_int_equal(failures, 0);
}

static void on_softhsm(void **state)
{
    (void)state;
    on_token(1);
}

static void on_nss(void **state)
{
    (void)state;
    on_token(2);
}

static void on_mock(void **state)
{
    (void)state;
    on_token(3);
}

static bool is_listed(const char *folder, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    for (size_t i = 0; i < FILES; i++) {
        if (strcmp(files[i].name, path) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < ELSEWHERE; i++) {
        if (strcmp(elsewhere[i].name, path) == 0) {
            return true;
        }
    }
    return false;
}

/* A vector file that is in the list of no test is one that is not run. */
static void every_file_is_listed(void **state)
{
    static const char *const folders[] = {"wycheproof", "jose-cookbook"};

    (void)state;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char path[1024];
        const struct dirent *entry;
        DIR *d;

        (void)snprintf(path, sizeof(path), "%s/%s", KBS_VECTORS_DIR, folders[i]);
        d = opendir(path);
        assert_non_null(d);
        while ((entry = readdir(d)) != NULL) {
            if (strstr(entry->d_name, ".json") != NULL && !is_listed(folders[i], entry->d_name)) {
                fail_msg("no test has %s/%s", path, entry->d_name);
            }
        }
        (void)closedir(d);
    }
}

static void table_print(void)
{
    (void)printf("%-44.44s %-9s %5s %11s %15s %14s %7s %5s\n", "file", "side", "cases",
                 "valid right", "invalid refused", "refused before", "skipped", "wrong");
    for (size_t i = 0; i < FILES; i++) {
        for (size_t c = 0; c < SIDES; c++) {
            const struct tally *t = &table[i][c];

            if (t->cases == 0) {
                continue;
            }
            (void)printf("%-44.44s %-9s %5u %11u %15u %14u %7u %5u\n", t->file, t->side, t->cases,
                         t->right, t->refused, t->before, t->skipped, t->wrong);
            for (size_t n = 0; n < NOTES_MAX && t->notes[n].n > 0; n++) {
                (void)printf("    %u %s\n", t->notes[n].n, t->notes[n].text);
            }
        }
    }
    for (size_t i = 0; i < ELSEWHERE; i++) {
        (void)printf("not in the table: %s (%s)\n", elsewhere[i].name, elsewhere[i].why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_is_listed),
        cmocka_unit_test(in_software),
        cmocka_unit_test(on_softhsm),
        cmocka_unit_test(on_nss),
        cmocka_unit_test(on_mock),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int failed;

    if (access(KBS_VECTORS_DIR, R_OK) != 0) {
        (void)fprintf(stderr, "skipped: no folder %s (set KBS_VECTORS_DIR)\n", KBS_VECTORS_DIR);
        return 77;
    }
    if (kbs_secret_heap_init(&err) < 0) {
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    table_print();
    return failed;
}
