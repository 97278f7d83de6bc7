/*
 * Sealed secrets in kbs-token, against real tokens (argument: softhsm or nss): what an
 * administrator seals opens in the token and for the TEE that was ordered, and nothing else does:
 * not one bit changed, not under another name, not with another card, not what was addressed by
 * another road.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/random.h"
#include "harness.h"
#include "jose/read/jose.h"
#include "jose/read/jwe.h"
#include "jose/write/jose.h"
#include "seal/seal.h"

#define PATH "shop/secret/db"
#define CREATED 1790000000u

/* Initialised once, with all service keys; never used by a test itself. */
static struct token_dir template_dir;

static const struct start_options admin_lane = {.duty = KBS_DUTY_ADMIN};
static const struct start_options guest_lane = {.duty = KBS_DUTY_RELEASE};
static const struct start_options guest_lane_rsa1_5 = {.duty = KBS_DUTY_RELEASE, .rsa1_5 = true};

static uint8_t plain[KBS_LIMIT_SECRET_VALUE_BYTES];

/* And that a refusal says nothing besides. */
static void assert_outcome(const struct kbs_wire_result *r, enum kbs_category category)
{
    assert_category(r, category);
    if (category != KBS_OK) {
        assert_int_equal(r->body.len, 0);
    }
}

static int group_setup(void **state)
{
    (void)state;
    kbs_random(plain, sizeof(plain));
    dir_new_with_keys(&template_dir);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    dir_remove(&template_dir);
    return 0;
}

/* ---- a secret on its way ---- */

/* One as a client sealed it, and what became of it. Owned by the test; large, so static. */
struct secret {
    char kid[64];
    uint32_t version;
    struct kbs_sealed sealed;
    struct kbs_buf ciphertext;
    struct kbs_buf made; /* card, then the form at rest */
};

static struct secret secret_new(const char *path, uint32_t version)
{
    struct secret s = {.version = version,
                       .ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES),
                       .made = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES)};

    (void)snprintf(s.kid, sizeof(s.kid), "%s/v%u", path, version);
    return s;
}

static void secret_deinit(struct secret *s)
{
    kbs_buf_deinit(&s->ciphertext);
    kbs_buf_deinit(&s->made);
}

static struct kbs_ec_public seal_key(struct worker *w)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public key;

    must(kbs_ec_point_get(KBS_CURVE_P256, worker_describe(w).seal_public, &key, &err), &err);
    return key;
}

/* As kbs-admin seals. */
static void secret_seal(struct worker *w, struct secret *s, size_t bytes)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public key = seal_key(w);

    must(kbs_seal(&key, kbs_span_str(s->kid), kbs_span(plain, bytes), &s->sealed, &s->ciphertext,
                  &err),
         &err);
}

/* A well-formed order to change fields of. Borrows s. */
static struct kbs_wire_seal seal_order(const struct secret *s)
{
    return (struct kbs_wire_seal){
        .order = KBS_SPAN_LIT(ORDER),
        .key_id = KBS_SPAN_LIT("0123456789abcdef"),
        .key_version = s->version,
        .kid = kbs_span_str(s->kid),
        .policy = KBS_SPAN_LIT(POLICY),
        .created = CREATED,
        .epk_x = kbs_ec_x(&s->sealed.epk),
        .epk_y = kbs_ec_y(&s->sealed.epk),
        .encrypted_key = kbs_span(s->sealed.encrypted_key, sizeof(s->sealed.encrypted_key)),
        .iv = kbs_span(s->sealed.iv, sizeof(s->sealed.iv)),
        .ciphertext = s->sealed.ciphertext,
        .tag = kbs_span(s->sealed.tag, sizeof(s->sealed.tag)),
    };
}

static void secret_made(struct secret *s, const struct kbs_wire_result *r)
{
    assert_outcome(r, KBS_OK);
    kbs_buf_clear(&s->made);
    kbs_buf_put_span(&s->made, r->body);
    assert_false(s->made.failed);
}

/* Sealed by the client, taken by the token. */
static void secret_take(struct worker *w, struct secret *s, size_t bytes)
{
    struct kbs_wire_seal order;
    struct kbs_wire_result r;

    secret_seal(w, s, bytes);
    order = seal_order(s);
    r = worker_order(w, KBS_WIRE_SEAL, &order);
    secret_made(s, &r);
}

static struct kbs_span secret_card(const struct secret *s)
{
    return kbs_span(s->made.p, KBS_CARD_BYTES);
}

static struct kbs_span secret_at_rest(const struct secret *s)
{
    return kbs_span_skip(kbs_buf_span(&s->made), KBS_CARD_BYTES);
}

/* ---- a TEE ---- */

struct tee {
    struct kbs_tee_key key;
    struct kbs_agree_key *ec;
    struct kbs_agree_rsa *rsa;
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    size_t len;
};

static struct tee tee_new(enum kbs_tee_alg alg, enum kbs_curve curve)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct tee t = {.key = {.alg = alg}};

    if (alg == KBS_TEE_ALG_ECDH_ES_A256KW) {
        must(kbs_agree_key_generate(curve, &t.ec, &err), &err);
        t.key.ec = *kbs_agree_key_public(t.ec);
    } else {
        must(kbs_agree_rsa_known(2048, &t.rsa, &err), &err);
        t.key.rsa = *kbs_agree_rsa_public(t.rsa);
    }
    t.len = kbs_tee_key_put(&t.key, t.bytes);
    return t;
}

static void tee_deinit(struct tee *t)
{
    (void)kbs_agree_key_free(t->ec);
    (void)kbs_agree_rsa_free(t->rsa);
}

static struct kbs_wire_open_secret open_order(const struct secret *s, const struct tee *t)
{
    return (struct kbs_wire_open_secret){.order = KBS_SPAN_LIT(ORDER),
                                         .kid = kbs_span_str(s->kid),
                                         .card = secret_card(s),
                                         .sealed = secret_at_rest(s),
                                         .tee_key = kbs_span(t->bytes, t->len)};
}

/* The JWE's content key, as RFC 7518 sections 4.3 and 4.6 have it. */
static struct kbs_secret *tee_unwrap(const struct tee *t, const struct kbs_jose_jwe_in *in)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf info = KBS_BUF(128);
    struct kbs_secret *cek = NULL;
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;

    if (t->key.alg == KBS_TEE_ALG_RSA1_5) {
        must(kbs_agree_rsa1_5_decrypt(t->rsa, kbs_buf_span(&in->encrypted_key), KBS_JOSE_CEK_BYTES,
                                      &cek, &err),
             &err);
        return cek;
    }
    if (t->rsa != NULL) {
        must(kbs_agree_oaep_decrypt(t->rsa, t->key.alg, kbs_buf_span(&in->encrypted_key), &cek,
                                    &err),
             &err);
        return cek;
    }
    kbs_jose_other_info_put(&info, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY);
    must(kbs_agree_ecdh(t->ec, &in->epk, &z, &err), &err);
    must(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err), &err);
    must(kbs_agree_unwrap(kbs_secret_span(kek), kbs_buf_span(&in->encrypted_key), &cek, &err),
         &err);
    kbs_buf_deinit(&info);
    return cek;
}

/* The answer opens to the first `bytes` of `plain`. */
static void assert_opens(const struct tee *t, const struct kbs_wire_result *r, size_t bytes)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jwe_in in;
    KBS_AUTO_SECRET cek = NULL;
    KBS_AUTO_SECRET opened = NULL;
    KBS_AUTO_JSON v = NULL;

    assert_outcome(r, KBS_OK);
    assert_int_equal(r->format, KBS_FORMAT_JWE);
    assert_int_equal(r->locality, KBS_LOCALITY_WORKER);
    must(kbs_json_parse_object(r->body, "answer", &v, &err), &err);
    must(kbs_jose_jwe_get(v, t->key.alg, &in, &err), &err);
    cek = tee_unwrap(t, &in);
    must(kbs_secret_new(in.ciphertext.len, &opened, &err), &err);
    must(kbs_agree_gcm_open(kbs_secret_span(cek), in.iv, kbs_buf_span(&in.protected_text),
                            kbs_buf_span(&in.ciphertext), in.tag, kbs_secret_bytes(opened), &err),
         &err);
    assert_true(kbs_secret_equal(kbs_secret_span(opened), kbs_span(plain, bytes)));
    kbs_jose_jwe_in_deinit(&in);
}

static void assert_open_refused(struct worker *w, const struct kbs_wire_open_secret *order,
                                enum kbs_category category)
{
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_OPEN_SECRET, order);

    assert_outcome(&r, category);
}

/* ---- the road ---- */

static void test_sizes_and_tee_keys(void **state)
{
    static const size_t sizes[] = {1, 4096, KBS_LIMIT_SECRET_VALUE_BYTES};
    struct tee tees[] = {
        tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256),
        tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P384),
        tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P521),
        tee_new(KBS_TEE_ALG_RSA_OAEP_256, KBS_CURVE_NONE),
        tee_new(KBS_TEE_ALG_RSA_OAEP, KBS_CURVE_NONE),
        tee_new(KBS_TEE_ALG_RSA1_5, KBS_CURVE_NONE),
    };
    struct token_dir d;
    struct worker admin;
    struct worker guest;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane_rsa1_5);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct secret s = secret_new(PATH, (uint32_t)i + 1);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_card card;
        struct kbs_span mac;

        secret_take(&admin, &s, sizes[i]);
        must(kbs_card_get(secret_card(&s), &card, &mac, &err), &err);
        assert_int_equal(card.purpose, KBS_PURPOSE_SEAL);
        assert_int_equal(card.storage, KBS_STORAGE_SEALED);
        assert_int_equal(card.bytes, sizes[i]);
        assert_int_equal(card.wrap_version, 1);
        assert_int_equal(card.created_s, CREATED);
        assert_int_equal(secret_at_rest(&s).len, KBS_SEALED_HEAD_BYTES + sizes[i]);
        for (size_t t = 0; t < sizeof(tees) / sizeof(tees[0]); t++) {
            struct kbs_wire_open_secret order = open_order(&s, &tees[t]);
            struct kbs_wire_result r = worker_order(&guest, KBS_WIRE_OPEN_SECRET, &order);

            assert_opens(&tees[t], &r, sizes[i]);
        }
        secret_deinit(&s);
    }
    for (size_t t = 0; t < sizeof(tees) / sizeof(tees[0]); t++) {
        tee_deinit(&tees[t]);
    }
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

/*
 * RSA1_5 is for secrets, where the operator allows it, and never for keys: kbs-token refuses both by
 * itself, whatever the judge believes.
 */
static void test_rsa1_5(void **state)
{
    struct tee tee = tee_new(KBS_TEE_ALG_RSA1_5, KBS_CURVE_NONE);
    struct secret s = secret_new(PATH, 1);
    const struct kbs_ec_public none = {.curve = KBS_CURVE_P256}; /* replaced by the RSA key */
    struct key_ref key = key_ref(7, 1);
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_take(&w, &s, 32);
    assert_int_equal(order_generate(&w, &key, 32).category, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    for (size_t allowed = 0; allowed < 2; allowed++) {
        struct kbs_wire_open_secret open = open_order(&s, &tee);
        struct kbs_wire_release release = release_order(&key, &none, KBS_FORMAT_JWE);
        struct kbs_wire_result r;

        worker_start(&w, &d, allowed ? &guest_lane_rsa1_5 : &guest_lane);
        if (allowed) {
            r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
            assert_opens(&tee, &r, 32);
        } else {
            assert_open_refused(&w, &open, KBS_UNPROCESSABLE);
        }
        release.tee_key = kbs_span(tee.bytes, tee.len);
        release.floor = KBS_LOCALITY_WORKER;
        r = worker_order(&w, KBS_WIRE_RELEASE, &release);
        assert_outcome(&r, KBS_UNSUPPORTED);
        assert_non_null(memmem(r.detail.p, r.detail.len, "RSA1_5", 6));
        assert_int_equal(worker_stop(&w), 0);
    }
    secret_deinit(&s);
    tee_deinit(&tee);
    dir_remove(&d);
}

static void test_plaintext_is_sealed_here(void **state)
{
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret s = secret_new(PATH, 1);
    struct token_dir d;
    struct worker w;
    struct kbs_wire_seal order = {.order = KBS_SPAN_LIT(ORDER),
                                  .key_id = KBS_SPAN_LIT("0123456789abcdef"),
                                  .key_version = 1,
                                  .kid = kbs_span_str(s.kid),
                                  .policy = KBS_SPAN_LIT(POLICY),
                                  .created = CREATED,
                                  .plaintext = kbs_span(plain, sizeof(plain))};
    struct kbs_wire_open_secret open;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    r = worker_order(&w, KBS_WIRE_SEAL, &order);
    secret_made(&s, &r);
    open = open_order(&s, &tee);
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(&tee, &r, sizeof(plain));
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&s);
    dir_remove(&d);
}

/* On the mock: the next C_DeriveKey says that its key is gone. */
static void derive_stale_once(const struct token_dir *d)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char beside[300];
    char script[300];

    (void)snprintf(beside, sizeof(beside), "%s/beside", d->path);
    (void)snprintf(script, sizeof(script), "%s/script", d->path);
    must(kbs_io_write_file(beside, KBS_SPAN_LIT("C_DeriveKey once rv CKR_KEY_HANDLE_INVALID\n"),
                           0600, false, &err),
         &err);
    assert_int_equal(rename(beside, script), 0);
}

/* A stale handle has the order done twice: the second time with the same plaintext. */
static void test_plaintext_is_sealed_twice(void **state)
{
    struct tee tee;
    struct secret s;
    struct token_dir d;
    struct worker w;
    struct kbs_wire_seal order;
    struct kbs_wire_open_secret open;
    struct kbs_wire_result r;

    (void)state;
    if (!kind->mock) {
        skip();
    }
    tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    s = secret_new(PATH, 1);
    order = (struct kbs_wire_seal){.order = KBS_SPAN_LIT(ORDER),
                                   .key_id = KBS_SPAN_LIT("0123456789abcdef"),
                                   .key_version = 1,
                                   .kid = kbs_span_str(s.kid),
                                   .policy = KBS_SPAN_LIT(POLICY),
                                   .created = CREATED,
                                   .plaintext = kbs_span(plain, 100)};
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    derive_stale_once(&d);
    r = worker_order(&w, KBS_WIRE_SEAL, &order);
    secret_made(&s, &r);
    open = open_order(&s, &tee);
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(&tee, &r, 100);
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&s);
    dir_remove(&d);
}

/* ---- what does not open ---- */

/* Changes one byte behind a field of the order for the time of one order. */
static void seal_tampered(struct worker *w, const struct kbs_wire_seal *order, struct kbs_span part)
{
    struct kbs_wire_result r;

    for (size_t i = 0; i < part.len; i += part.len / 3 + 1) {
        ((uint8_t *)(uintptr_t)part.p)[i] ^= 0x10;
        r = worker_order(w, KBS_WIRE_SEAL, order);
        assert_outcome(&r, KBS_UNPROCESSABLE);
        ((uint8_t *)(uintptr_t)part.p)[i] ^= 0x10;
    }
}

static void test_every_part_of_a_jwe_counts(void **state)
{
    struct secret s = secret_new(PATH, 1);
    struct kbs_wire_seal order;
    struct kbs_wire_seal changed;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_seal(&w, &s, 100);
    order = seal_order(&s);
    seal_tampered(&w, &order, order.epk_x);
    seal_tampered(&w, &order, order.epk_y);
    seal_tampered(&w, &order, order.encrypted_key);
    seal_tampered(&w, &order, order.iv);
    seal_tampered(&w, &order, order.ciphertext);
    seal_tampered(&w, &order, order.tag);
    changed = order; /* another name */
    changed.kid = KBS_SPAN_LIT(PATH "x/v1");
    r = worker_order(&w, KBS_WIRE_SEAL, &changed);
    assert_outcome(&r, KBS_UNPROCESSABLE);
    changed = order; /* cut short */
    changed.ciphertext.len--;
    r = worker_order(&w, KBS_WIRE_SEAL, &changed);
    assert_outcome(&r, KBS_UNPROCESSABLE);
    r = worker_order(&w, KBS_WIRE_SEAL, &order); /* the detector, and the worker has lived on */
    assert_outcome(&r, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    secret_deinit(&s);
    dir_remove(&d);
}

static void test_malformed_orders(void **state)
{
    struct secret s = secret_new(PATH, 1);
    struct kbs_wire_seal order;
    struct kbs_wire_seal bad[9];
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_seal(&w, &s, 100);
    order = seal_order(&s);
    for (size_t i = 0; i < 9; i++) {
        bad[i] = order;
    }
    bad[0].key_id.len--;
    bad[1].policy.len--;
    bad[2].kid = KBS_SPAN_LIT("not/a/kid");
    bad[3].key_version = 2;
    bad[4].plaintext = KBS_SPAN_LIT("both");
    bad[5].encrypted_key.len -= 8;
    bad[6].iv.len--;
    bad[7].tag.len--;
    bad[8].epk_x = bad[8].epk_y = bad[8].encrypted_key = bad[8].iv = bad[8].ciphertext =
        bad[8].tag = KBS_SPAN_EMPTY; /* nothing */
    for (size_t i = 0; i < 9; i++) {
        r = worker_order(&w, KBS_WIRE_SEAL, &bad[i]);
        if (r.category != KBS_INPUT) {
            fail_msg("order %zu: %s", i, kbs_category_name((enum kbs_category)r.category));
        }
    }
    assert_int_equal(worker_stop(&w), 0);
    secret_deinit(&s);
    dir_remove(&d);
}

/* The same key, another road: what was addressed to be imported is no secret. */
static void test_purpose_is_in_the_derivation(void **state)
{
    static const uint8_t cek[32] = {7};
    static const char *const apus[] = {"kbs-import-v1", "kbs-seal-v1"};
    struct secret s = secret_new(PATH, 1);
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (size_t i = 0; i < 2; i++) {
        struct kbs_ec_public key = seal_key(&w);
        struct sent sent = sent_make(worker_describe(&w).seal_public, apus[i], kbs_span_str(s.kid),
                                     kbs_span(cek, sizeof(cek)));
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_buf aad = KBS_BUF(2048);
        struct kbs_wire_seal order;
        struct kbs_wire_result r;
        uint8_t ciphertext[6];

        kbs_seal_protected_put(&aad, &sent.epk, kbs_span_str(s.kid), &key);
        must(kbs_agree_gcm_seal(kbs_span(cek, sizeof(cek)), s.sealed.iv, kbs_buf_span(&aad),
                                KBS_SPAN_LIT("secret"), ciphertext, s.sealed.tag, &err),
             &err);
        s.sealed.epk = sent.epk;
        memcpy(s.sealed.encrypted_key, sent.wrapped, sizeof(s.sealed.encrypted_key));
        s.sealed.ciphertext = kbs_span(ciphertext, sizeof(ciphertext));
        order = seal_order(&s);
        r = worker_order(&w, KBS_WIRE_SEAL, &order);
        assert_outcome(&r, i == 0 ? KBS_UNPROCESSABLE : KBS_OK);
        kbs_buf_deinit(&aad);
    }
    assert_int_equal(worker_stop(&w), 0);
    secret_deinit(&s);
    dir_remove(&d);
}

static void test_nothing_opens_without_its_card(void **state)
{
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret a = secret_new(PATH, 1);
    struct secret b = secret_new(PATH "2", 1);
    struct key_ref k = key_ref(1, 1);
    struct kbs_wire_open_secret order;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_take(&w, &a, 100);
    secret_take(&w, &b, 100);
    r = order_generate(&w, &k, 32);
    assert_outcome(&r, KBS_OK);

    for (size_t i = 0; i < secret_at_rest(&a).len; i += 7) { /* the sealed form */
        uint8_t *byte = a.made.p + KBS_CARD_BYTES + i;

        *byte ^= 1;
        order = open_order(&a, &tee);
        assert_open_refused(&w, &order, KBS_DENIED);
        *byte ^= 1;
    }
    for (size_t i = 12; i < KBS_CARD_BYTES; i += 13) { /* the card */
        a.made.p[i] ^= 1;
        order = open_order(&a, &tee);
        r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &order);
        assert_true(r.category == KBS_DENIED || r.category == KBS_INPUT);
        a.made.p[i] ^= 1;
    }
    order = open_order(&a, &tee);
    order.kid = kbs_span_str(b.kid); /* another name */
    assert_open_refused(&w, &order, KBS_DENIED);
    order = open_order(&a, &tee);
    order.sealed = secret_at_rest(&b); /* another's value under this name */
    assert_open_refused(&w, &order, KBS_DENIED);
    order = open_order(&a, &tee);
    order.kid = kbs_span_str(k.kid); /* a key's card */
    order.card = kbs_span(k.card, sizeof(k.card));
    assert_open_refused(&w, &order, KBS_DENIED);
    order = open_order(&a, &tee);
    order.tee_key.len--;
    assert_open_refused(&w, &order, KBS_INPUT);
    order = open_order(&a, &tee);
    tee.bytes[10] ^= 1; /* off its curve */
    assert_open_refused(&w, &order, KBS_UNPROCESSABLE);
    tee.bytes[10] ^= 1;
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &order); /* the detector */
    assert_opens(&tee, &r, 100);
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&a);
    secret_deinit(&b);
    dir_remove(&d);
}

/* A secret is released by its own order only. */
static void test_a_secret_is_not_released_as_a_key(void **state)
{
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret s = secret_new(PATH, 1);
    struct key_ref k = key_ref(1, 1);
    struct kbs_wire_release order;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_take(&w, &s, 40);
    order = release_order(&k, &tee.key.ec, KBS_FORMAT_JWE);
    order.kid = kbs_span_str(s.kid);
    order.card = secret_card(&s);
    order.blob = secret_at_rest(&s);
    order.floor = KBS_LOCALITY_WORKER;
    r = worker_order(&w, KBS_WIRE_RELEASE, &order);
    assert_outcome(&r, KBS_DENIED);
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&s);
    dir_remove(&d);
}

/* A secret that asks for a proof of possession opens to an order that says there was one. */
static void test_proof_of_possession(void **state)
{
    static const enum kbs_category expected[2][2] = {{KBS_OK, KBS_OK}, {KBS_DENIED, KBS_OK}};
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret s = secret_new(PATH, 1);
    struct kbs_wire_recard recard = {
        .order = KBS_SPAN_LIT(ORDER), .floor = KBS_LOCALITY_WORKER, .policy = KBS_SPAN_LIT(POLICY)};
    struct kbs_wire_open_secret open;
    uint8_t card[KBS_CARD_BYTES];
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_take(&w, &s, 10);
    open = open_order(&s, &tee);
    for (uint8_t asked = 0; asked < 2; asked++) {
        recard.flags = asked != 0 ? KBS_CARD_POP_REQUIRED : 0;
        recard.card = secret_card(&s);
        r = worker_order(&w, KBS_WIRE_RECARD, &recard);
        assert_outcome(&r, KBS_OK);
        assert_int_equal(r.body.len, sizeof(card));
        memcpy(card, r.body.p, sizeof(card));
        open.card = kbs_span(card, sizeof(card));
        for (open.pop = 0; open.pop < 2; open.pop++) {
            r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
            assert_outcome(&r, expected[asked][open.pop]);
        }
    }
    assert_open_refused(&w, &open, KBS_INPUT); /* pop is 2 */
    open.pop = 1;
    tee.key.alg = KBS_TEE_ALG_ES256; /* a key that signs receives nothing, proof or not */
    tee.len = kbs_tee_key_put(&tee.key, tee.bytes);
    open.tee_key = kbs_span(tee.bytes, tee.len);
    assert_open_refused(&w, &open, KBS_UNPROCESSABLE);
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&s);
    dir_remove(&d);
}

/* ---- OPEN_REQUEST ---- */

#define REQUEST_APV "the nonce of a request, and which one it is for"

/* A request's body as a guest encrypts it, to a key of that purpose. */
static struct kbs_wire_open_request request_order(const struct kbs_sealed *s)
{
    return (struct kbs_wire_open_request){
        .apv = KBS_SPAN_LIT(REQUEST_APV),
        .epk_x = kbs_ec_x(&s->epk),
        .epk_y = kbs_ec_y(&s->epk),
        .encrypted_key = kbs_span(s->encrypted_key, sizeof(s->encrypted_key)),
        .iv = kbs_span(s->iv, sizeof(s->iv)),
        .ciphertext = s->ciphertext,
        .tag = kbs_span(s->tag, sizeof(s->tag)),
    };
}

static void assert_request(struct worker *w, const struct kbs_wire_open_request *order,
                           enum kbs_category category)
{
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_OPEN_REQUEST, order);

    assert_outcome(&r, category);
    if (category == KBS_OK) {
        assert_true(kbs_span_equal(r.body, kbs_span(plain, 100)));
    }
}

static void assert_no_other_request(struct worker *w, const struct kbs_wire_open_request *good)
{
    struct kbs_wire_open_request bad = *good;
    uint8_t tag[KBS_GCM_TAG_BYTES];

    bad.apv = KBS_SPAN_LIT("the nonce of a request, and which other it is for");
    assert_request(w, &bad, KBS_UNPROCESSABLE);
    bad = *good;
    memcpy(tag, good->tag.p, sizeof(tag));
    tag[0] ^= 1;
    bad.tag = kbs_span(tag, sizeof(tag));
    assert_request(w, &bad, KBS_UNPROCESSABLE);
    bad = *good;
    bad.epk_x = good->epk_y;
    assert_request(w, &bad, KBS_UNPROCESSABLE);
    bad = *good;
    bad.apv = KBS_SPAN_EMPTY;
    assert_request(w, &bad, KBS_INPUT);
    bad = *good;
    bad.encrypted_key.len--;
    assert_request(w, &bad, KBS_INPUT);
    bad = *good;
    bad.ciphertext = kbs_span(plain, KBS_LIMIT_ENVELOPE_BYTES + 1);
    assert_request(w, &bad, KBS_INPUT);
}

/* A guest lane opens what is encrypted to the request key for one request, and nothing of another road. */
static void test_encrypted_requests(void **state)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_ENVELOPE_BYTES);
    struct kbs_sealed sealed = {.seal_version = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_open_request order;
    struct kbs_ec_public key;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &guest_lane);
    must(kbs_ec_point_get(KBS_CURVE_P256, worker_describe(&w).request_public, &key, &err), &err);
    must(kbs_seal_for(KBS_PURPOSE_REQUEST, &key, KBS_SPAN_LIT(REQUEST_APV), kbs_span(plain, 100),
                      &sealed, &text, &err),
         &err);
    order = request_order(&sealed);
    assert_request(&w, &order, KBS_OK);
    assert_no_other_request(&w, &order);
    kbs_buf_clear(&text);
    must(kbs_seal_for(KBS_PURPOSE_SEAL, &key, KBS_SPAN_LIT(REQUEST_APV), kbs_span(plain, 100),
                      &sealed, &text, &err),
         &err);
    order = request_order(&sealed);
    assert_request(&w, &order, KBS_UNPROCESSABLE); /* of another purpose */
    key = seal_key(&w);
    kbs_buf_clear(&text);
    must(kbs_seal_for(KBS_PURPOSE_REQUEST, &key, KBS_SPAN_LIT(REQUEST_APV), kbs_span(plain, 100),
                      &sealed, &text, &err),
         &err);
    order = request_order(&sealed);
    assert_request(&w, &order, KBS_UNPROCESSABLE); /* to another key */
    assert_int_equal(worker_stop(&w), 0);
    kbs_buf_deinit(&text);
    dir_remove(&d);
}

static void test_versions_of_the_seal_key(void **state)
{
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret old = secret_new(PATH, 1);
    struct secret late =
        secret_new(PATH, 2); /* sealed to the first, sent after the second was made */
    struct secret new = secret_new(PATH, 2);
    struct kbs_wire_open_secret open;
    struct kbs_wire_seal order;
    struct kbs_wire_result r;
    struct kbs_sealed at_rest;
    struct kbs_error err = KBS_ERROR_NONE;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_take(&w, &old, 10);
    secret_seal(&w, &late, 10);
    r = order_service_version(&w, KBS_PURPOSE_SEAL, 2);
    assert_outcome(&r, KBS_OK);
    assert_int_equal(worker_describe(&w).seal_version, 2);
    order = seal_order(&late);
    r = worker_order(&w, KBS_WIRE_SEAL, &order);
    assert_outcome(&r, KBS_UNPROCESSABLE);

    secret_take(&w, &new, 10);
    must(kbs_sealed_get(secret_at_rest(&new), &at_rest, &err), &err);
    assert_int_equal(at_rest.seal_version, 2);
    open = open_order(&old, &tee);
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(&tee, &r, 10);

    r = worker_order(&w, KBS_WIRE_DESTROY,
                     &(struct kbs_wire_destroy){.order = KBS_SPAN_LIT(ORDER),
                                                .purpose = KBS_PURPOSE_SEAL,
                                                .key_version = 1});
    assert_outcome(&r, KBS_OK);
    assert_open_refused(&w, &open, KBS_UNSUPPORTED);
    open = open_order(&new, &tee);
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(&tee, &r, 10);
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&old);
    secret_deinit(&late);
    secret_deinit(&new);
    dir_remove(&d);
}

static struct kbs_wire_reseal reseal_order(const struct secret *s)
{
    return (struct kbs_wire_reseal){.order = KBS_SPAN_LIT(ORDER),
                                    .kid = kbs_span_str(s->kid),
                                    .card = secret_card(s),
                                    .sealed = secret_at_rest(s)};
}

static void seal_key_destroy(struct worker *w, uint32_t version)
{
    const struct kbs_wire_destroy order = {
        .order = KBS_SPAN_LIT(ORDER), .purpose = KBS_PURPOSE_SEAL, .key_version = version};
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_DESTROY, &order);

    assert_outcome(&r, KBS_OK);
}

static void assert_resealed(struct worker *w, struct secret *s, const struct tee *tee, size_t bytes)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_card before;
    struct kbs_card after;
    struct kbs_span mac;
    struct kbs_wire_reseal order = reseal_order(s);
    struct kbs_wire_open_secret open;
    struct kbs_wire_result r;

    must(kbs_card_get(secret_card(s), &before, &mac, &err), &err);
    r = worker_order(w, KBS_WIRE_RESEAL, &order);
    assert_non_null(strstr(w->last_deed, "op=reseal outcome=done"));
    secret_made(s, &r);
    must(kbs_card_get(secret_card(s), &after, &mac, &err), &err);
    assert_int_equal(after.wrap_version, before.wrap_version + 1);
    assert_memory_not_equal(after.blob, before.blob, sizeof(after.blob));
    after.wrap_version = before.wrap_version; /* and nothing else */
    memcpy(after.blob, before.blob, sizeof(after.blob));
    assert_memory_equal(&after, &before, sizeof(after));
    open = open_order(s, tee);
    r = worker_order(w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(tee, &r, bytes);
}

/* From one seal key to the next, of any size; then nothing needs the old one. */
static void test_reseal(void **state)
{
    static const size_t sizes[] = {1, 4096, sizeof(plain)};
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct kbs_wire_open_secret open;
    struct kbs_wire_reseal order;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct secret s = secret_new(PATH, 1);
        struct secret left = secret_new(PATH, 2);

        secret_take(&w, &s, sizes[i]);
        secret_take(&w, &left, sizes[i]);
        r = order_service_version(&w, KBS_PURPOSE_SEAL, i + 2);
        assert_outcome(&r, KBS_OK);
        order = reseal_order(&s);
        order.kid = kbs_span_str(left.kid); /* its card is another's */
        r = worker_order(&w, KBS_WIRE_RESEAL, &order);
        assert_outcome(&r, KBS_DENIED);
        order = reseal_order(&s);
        order.sealed = secret_at_rest(&left);
        r = worker_order(&w, KBS_WIRE_RESEAL, &order);
        assert_outcome(&r, KBS_DENIED);
        assert_resealed(&w, &s, &tee, sizes[i]);
        seal_key_destroy(&w, i + 1);
        open = open_order(&s, &tee);
        r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
        assert_opens(&tee, &r, sizes[i]);
        order = reseal_order(&left);
        r = worker_order(&w, KBS_WIRE_RESEAL, &order);
        assert_outcome(&r, KBS_UNSUPPORTED);
        secret_deinit(&s);
        secret_deinit(&left);
    }
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    dir_remove(&d);
}

/* A token that has no AES-GCM: the content key comes out instead, and the rest is the same. */
static void test_without_gcm_in_the_token(void **state)
{
    char module[512];
    const struct start_options lane = {.duty = KBS_DUTY_ADMIN, .module = module};
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret s = secret_new(PATH, 1);
    struct kbs_wire_open_secret open;
    struct kbs_wire_seal order;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    (void)snprintf(module, sizeof(module), "%s/tests/bin/libtoken_more.so",
                   getenv("KBS_BUILD_DIR"));
    assert_int_equal(setenv("KBS_MORE_MODULE", module_path, 1), 0);
    assert_int_equal(setenv("KBS_MORE", "nodecrypt", 1), 0);
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &lane);
    secret_take(&w, &s, sizeof(plain));
    open = open_order(&s, &tee);
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(&tee, &r, sizeof(plain));
    order = seal_order(&s);
    seal_tampered(&w, &order, order.tag);
    seal_tampered(&w, &order, order.encrypted_key);
    assert_int_equal(worker_stop(&w), 0);
    (void)unsetenv("KBS_MORE");
    (void)unsetenv("KBS_MORE_MODULE");
    tee_deinit(&tee);
    secret_deinit(&s);
    dir_remove(&d);
}

/* True if the needle lies in writable memory of a process. */
static bool is_in_memory(pid_t pid, struct kbs_span needle)
{
    char path[64];
    char line[512];
    bool found = false;
    FILE *maps;
    int mem;

    (void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    mem = open(path, O_RDONLY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    maps = fopen(path, "re");
    while (mem >= 0 && maps != NULL && !found && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start = 0;
        unsigned long end = 0;
        char mode[5] = "";
        uint8_t *bytes;
        ssize_t n;

        if (sscanf(line, "%lx-%lx %4s", &start, &end, mode) != 3 || mode[1] != 'w' ||
            end - start > 1ul << 28) {
            continue; /* constants, and the sanitizers' shadow */
        }
        bytes = malloc(end - start);
        assert_non_null(bytes);
        n = pread(mem, bytes, end - start, (off_t)start);
        found = n > 0 && memmem(bytes, (size_t)n, needle.p, needle.len) != NULL;
        free(bytes);
    }
    if (maps == NULL || mem < 0) {
        print_message("the memory of another process cannot be read here: not looked at\n");
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    kbs_io_close(&mem);
    return found;
}

/* After a secret was sealed, both ways, and opened, no part of it is in the memory of kbs-token. */
static void test_nothing_in_memory(void **state)
{
    static const size_t places[] = {0, 4096, sizeof(plain) - 32};
    struct tee tee = tee_new(KBS_TEE_ALG_ECDH_ES_A256KW, KBS_CURVE_P256);
    struct secret s = secret_new(PATH, 1);
    struct kbs_wire_open_secret open;
    struct kbs_wire_reseal reseal;
    struct kbs_wire_seal order;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    if (kind->slots) { /* openCryptoki leaves what it decrypted in this process */
        tee_deinit(&tee);
        secret_deinit(&s);
        skip();
    }
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    secret_take(&w, &s, sizeof(plain));
    open = open_order(&s, &tee);
    r = worker_order(&w, KBS_WIRE_OPEN_SECRET, &open);
    assert_opens(&tee, &r, sizeof(plain));
    order = (struct kbs_wire_seal){.order = KBS_SPAN_LIT(ORDER),
                                   .key_id = KBS_SPAN_LIT("0123456789abcdef"),
                                   .key_version = 1,
                                   .kid = kbs_span_str(s.kid),
                                   .policy = KBS_SPAN_LIT(POLICY),
                                   .plaintext = kbs_span(plain, sizeof(plain))};
    r = worker_order(&w, KBS_WIRE_SEAL, &order);
    assert_outcome(&r, KBS_OK);
    reseal = reseal_order(&s);
    r = worker_order(&w, KBS_WIRE_RESEAL, &reseal);
    assert_outcome(&r, KBS_OK);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        assert_false(is_in_memory(w.pid, kbs_span(plain + places[i], 32)));
    }
    assert_true(is_in_memory(getpid(), kbs_span(plain, 32))); /* the detector */
    assert_int_equal(worker_stop(&w), 0);
    tee_deinit(&tee);
    secret_deinit(&s);
    dir_remove(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_tee_keys),
        cmocka_unit_test(test_rsa1_5),
        cmocka_unit_test(test_plaintext_is_sealed_here),
        cmocka_unit_test(test_plaintext_is_sealed_twice),
        cmocka_unit_test(test_every_part_of_a_jwe_counts),
        cmocka_unit_test(test_malformed_orders),
        cmocka_unit_test(test_purpose_is_in_the_derivation),
        cmocka_unit_test(test_nothing_opens_without_its_card),
        cmocka_unit_test(test_a_secret_is_not_released_as_a_key),
        cmocka_unit_test(test_proof_of_possession),
        cmocka_unit_test(test_encrypted_requests),
        cmocka_unit_test(test_versions_of_the_seal_key),
        cmocka_unit_test(test_reseal),
        cmocka_unit_test(test_without_gcm_in_the_token),
        cmocka_unit_test(test_nothing_in_memory),
    };

    if (argc != 2 || !harness_select(argv[1])) {
        (void)fprintf(stderr, "skipped: the module of %s is not installed\n",
                      argc > 1 ? argv[1] : "?");
        return 77;
    }
    return cmocka_run_group_tests_name(argv[1], tests, group_setup, group_teardown);
}
