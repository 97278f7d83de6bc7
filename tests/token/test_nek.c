/*
 * The NEK road in kbs-token, against real tokens: what was wrapped to a key of purpose nek, in software or
 * in the token, comes out wrapped to the TEE with the same bytes, for the guest that it is bound to and for
 * no other; blobs of other roads do not open on it, nor its own on theirs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/encoding.h"
#include "base/random.h"
#include "harness.h"
#include "jose/read/jose.h"
#include "seal/nek.h"

/* Initialised once, with all service keys; never used by a test itself. */
static struct token_dir template_dir;

static const struct start_options admin_lane = {.duty = KBS_DUTY_ADMIN};

static const struct {
    enum kbs_key_alg alg;
    uint32_t bytes;
    enum kbs_curve curve;
} pairs[] = {{KBS_KEY_ALG_P256, 32, KBS_CURVE_P256},
             {KBS_KEY_ALG_P384, 48, KBS_CURVE_P384},
             {KBS_KEY_ALG_P521, 66, KBS_CURVE_P521},
             {KBS_KEY_ALG_RSA, 256, KBS_CURVE_NONE}};

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

static struct kbs_wire_generate nek_order(const struct key_ref *k, enum kbs_key_alg alg,
                                          uint32_t bytes, uint8_t flags)
{
    struct kbs_wire_generate m = generate_order(k, bytes);

    m.purpose = KBS_PURPOSE_NEK;
    m.alg = (uint8_t)alg;
    m.flags = flags;
    m.floor = KBS_LOCALITY_TRANSPORT;
    return m;
}

static struct key_ref nek_key(struct worker *w, uint8_t n, enum kbs_key_alg alg, uint32_t bytes,
                              uint8_t flags)
{
    struct key_ref k = key_ref(n, 1);
    struct kbs_wire_generate m = nek_order(&k, alg, bytes, flags);
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_GENERATE, &m);

    assert_category(&r, KBS_OK);
    key_made(&k, &r);
    return k;
}

static struct kbs_nek_binding bound_to(const char *measurement)
{
    struct kbs_span values[KBS_NEK_FIELD_COUNT] = {[KBS_NEK_MEASUREMENT] =
                                                       kbs_span_str(measurement)};
    struct kbs_nek_binding b;

    kbs_nek_bind(1u << KBS_NEK_MEASUREMENT, values, &b);
    return b;
}

static const struct kbs_nek_binding nobody;

/* A blob and the order to open it, with what the order borrows. */
struct blob {
    struct kbs_tee_key public_key;
    struct kbs_nek_blob made;
    uint8_t epk[KBS_TEE_KEY_MAX_BYTES];
    size_t epk_len;
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t value[32];
    enum kbs_nek_kind kind;
};

static void blob_make(struct blob *b, const struct key_ref *k, enum kbs_nek_kind as,
                      const struct kbs_nek_binding *binding)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_nek_to to = {
        .key = &b->public_key, .kind = as, .kid = kbs_span_str(k->kid), .binding = binding};

    b->kind = as;
    kbs_random(b->value, sizeof(b->value));
    must(kbs_tee_key_get(kbs_span(k->blob, k->blob_len), &b->public_key, &err), &err);
    must(kbs_nek_wrap(&to, kbs_span(b->value, sizeof(b->value)), &b->made, &err), &err);
    kbs_nek_binding_put(binding, b->binding);
    b->epk_len = 0;
    if (as != KBS_NEK_OAEP) {
        const struct kbs_tee_key epk = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = b->made.epk};

        b->epk_len = kbs_tee_key_put(&epk, b->epk);
    }
}

static struct kbs_wire_rewrap rewrap_order(const struct key_ref *k, const struct blob *b,
                                           const struct kbs_wire_release *tee)
{
    return (struct kbs_wire_rewrap){.order = tee->order,
                                    .kid = tee->kid,
                                    .card = tee->card,
                                    .public_key = kbs_span(k->blob, k->blob_len),
                                    .kind = (uint8_t)b->kind,
                                    .epk = kbs_span(b->epk, b->epk_len),
                                    .binding = kbs_span(b->binding, sizeof(b->binding)),
                                    .wrapped = kbs_span(b->made.wrapped, b->made.wrapped_len),
                                    .tee_key = tee->tee_key,
                                    .formats = tee->formats,
                                    .floor = tee->floor,
                                    .party_v = tee->party_v};
}

/* Rewrapped for that TEE, the blob opens to what was put in. */
static void assert_rewraps(struct worker *w, const struct key_ref *k, const struct blob *b,
                           enum kbs_curve tee_curve, enum kbs_format format)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_agree_key *tee = NULL;
    KBS_AUTO_SECRET opened = NULL;

    must(kbs_agree_key_generate(tee_curve, &tee, &err), &err);
    struct kbs_wire_release as = release_order(k, kbs_agree_key_public(tee), format);
    struct kbs_wire_rewrap m = rewrap_order(k, b, &as);
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_REWRAP, &m);
    assert_category(&r, KBS_OK);
    assert_int_equal(r.format, format);
    assert_true(r.locality >= KBS_LOCALITY_TRANSPORT);
    assert_non_null(strstr(w->last_deed, "op=rewrap-nek outcome="));
    open_released(tee, &as, &r, &opened);
    assert_int_equal(kbs_secret_span(opened).len, sizeof(b->value));
    assert_memory_equal(kbs_secret_span(opened).p, b->value, sizeof(b->value));
    (void)kbs_agree_key_free(tee);
}

static void assert_refused(struct worker *w, struct kbs_wire_rewrap *m, enum kbs_category category)
{
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_REWRAP, m);

    assert_category(&r, category);
    assert_int_equal(r.body.len, 0);
}

/* HSM key x blob format x TEE curve x answer format. */
static void test_every_pair(void **state)
{
    static const enum kbs_curve tees[] = {KBS_CURVE_P256, KBS_CURVE_P384, KBS_CURVE_P521};
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct key_ref k = nek_key(&w, (uint8_t)(10 + i), pairs[i].alg, pairs[i].bytes, 0);
        bool rsa = pairs[i].alg == KBS_KEY_ALG_RSA;
        struct kbs_nek_binding guest = bound_to("guest a");

        assert_int_equal(k.mac, KBS_KCV_PUBLIC);
        for (int as = rsa ? KBS_NEK_OAEP : KBS_NEK_JOSE; as <= (rsa ? KBS_NEK_OAEP : KBS_NEK_COSE);
             as++) {
            struct blob b;

            blob_make(&b, &k, (enum kbs_nek_kind)as, rsa ? &nobody : &guest);
            for (size_t t = 0; t < 3; t++) {
                assert_rewraps(&w, &k, &b, tees[t], KBS_FORMAT_JOSE);
                assert_rewraps(&w, &k, &b, tees[t], KBS_FORMAT_COSE);
            }
        }
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Its binding, its epk, its bytes, its card: change any and nothing opens. */
static void test_what_does_not_open(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_agree_key *tee = NULL;
    struct token_dir d;
    struct worker w;
    struct blob b;
    struct blob other;
    uint8_t another[KBS_NEK_BINDING_BYTES];
    struct kbs_nek_binding a = bound_to("guest a");
    struct kbs_nek_binding z = bound_to("guest b");

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    must(kbs_agree_key_generate(KBS_CURVE_P256, &tee, &err), &err);
    struct key_ref k = nek_key(&w, 20, KBS_KEY_ALG_P256, 32, KBS_CARD_BINDING_REQUIRED);
    struct key_ref second = nek_key(&w, 21, KBS_KEY_ALG_P256, 32, 0);
    struct kbs_wire_release as = release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    blob_make(&b, &k, KBS_NEK_JOSE, &a);
    assert_rewraps(&w, &k, &b, KBS_CURVE_P256, KBS_FORMAT_JOSE);

    struct kbs_wire_rewrap m = rewrap_order(&k, &b, &as);
    kbs_nek_binding_put(&z, another);
    m.binding = kbs_span(another, sizeof(another)); /* the guest that asks is another one */
    assert_refused(&w, &m, KBS_UNPROCESSABLE);

    m = rewrap_order(&k, &b, &as);
    kbs_nek_binding_put(&nobody, another);
    m.binding = kbs_span(another, sizeof(another)); /* the card asks for a binding */
    assert_refused(&w, &m, KBS_DENIED);

    m = rewrap_order(&k, &b, &as);
    m.kind = KBS_NEK_COSE; /* another KDF */
    assert_refused(&w, &m, KBS_UNPROCESSABLE);
    m.kind = KBS_NEK_OAEP;
    assert_refused(&w, &m, KBS_UNPROCESSABLE);
    m.kind = KBS_NEK_AES_KW;
    assert_refused(&w, &m, KBS_UNPROCESSABLE);
    m.kind = 77;
    assert_refused(&w, &m, KBS_UNPROCESSABLE);

    blob_make(&other, &second, KBS_NEK_JOSE, &a); /* wrapped to another key of the token */
    m = rewrap_order(&k, &other, &as);
    m.public_key = kbs_span(k.blob, k.blob_len);
    assert_refused(&w, &m, KBS_UNPROCESSABLE);
    m = rewrap_order(&k, &b, &as);
    m.card = kbs_span(second.card, sizeof(second.card));
    assert_refused(&w, &m, KBS_DENIED);
    m = rewrap_order(&k, &b, &as);
    m.public_key = kbs_span(second.blob, second.blob_len); /* not the card's */
    assert_refused(&w, &m, KBS_DENIED);

    for (size_t i = 0; i < b.made.wrapped_len; i += 7) {
        b.made.wrapped[i] ^= 1;
        m = rewrap_order(&k, &b, &as);
        assert_refused(&w, &m, KBS_UNPROCESSABLE);
        b.made.wrapped[i] ^= 1;
    }
    assert_rewraps(&w, &k, &b, KBS_CURVE_P256, KBS_FORMAT_JOSE);
    (void)kbs_agree_key_free(tee);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Blob kinds x roads: only the diagonal. Whatever the order says, the card and the KDF say what for. */
static void test_roads(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_agree_key *tee = NULL;
    struct token_dir d;
    struct worker w;
    struct blob b;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    must(kbs_agree_key_generate(KBS_CURVE_P256, &tee, &err), &err);
    struct key_ref k = nek_key(&w, 30, KBS_KEY_ALG_P256, 32, 0);
    struct key_ref released = key_ref(31, 1);
    struct kbs_wire_result r = order_generate(&w, &released, 32);
    assert_category(&r, KBS_OK);

    /* a key for release is not rewrapped with, and a nek key is not released */
    struct kbs_wire_release as = release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    as.blob = KBS_SPAN_EMPTY;
    r = worker_order(&w, KBS_WIRE_RELEASE, &as);
    assert_category(&r, KBS_DENIED);
    blob_make(&b, &k, KBS_NEK_JOSE, &nobody);
    struct kbs_wire_rewrap m = rewrap_order(&k, &b, &as);
    m.kid = kbs_span_str(released.kid);
    m.card = kbs_span(released.card, sizeof(released.card));
    assert_refused(&w, &m, KBS_DENIED);

    /* what is addressed to the nek key in the name of another road */
    static const char *const names[] = {"kbs-import-v1", "kbs-seal-v1", "kbs-request-v1", "",
                                        KBS_NEK_PARTY_U};
    uint8_t party_v[KBS_NEK_BINDING_BYTES];
    kbs_nek_binding_put(&nobody, party_v);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct sent s =
            sent_make(kbs_span(point, kbs_ec_point_put(&b.public_key.ec, point)), names[i],
                      kbs_span(party_v, sizeof(party_v)), kbs_span(b.value, sizeof(b.value)));
        const struct kbs_tee_key epk = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = s.epk};

        b.epk_len = kbs_tee_key_put(&epk, b.epk);
        memcpy(b.made.wrapped, s.wrapped, s.wrapped_len);
        b.made.wrapped_len = s.wrapped_len;
        m = rewrap_order(&k, &b, &as);
        if (strcmp(names[i], KBS_NEK_PARTY_U) == 0) {
            assert_rewraps(&w, &k, &b, KBS_CURVE_P256, KBS_FORMAT_JOSE);
        } else {
            assert_refused(&w, &m, KBS_UNPROCESSABLE);
        }
    }
    /* what was made for the nek road, addressed to the import key */
    struct sent s = sent_make(worker_describe(&w).import_public, KBS_NEK_PARTY_U,
                              kbs_span_str("repo/type/tag/v1"), kbs_span(b.value, sizeof(b.value)));
    struct key_ref imported = key_ref(32, 1);
    struct kbs_wire_import import = import_order(&s, &imported);
    r = worker_order(&w, KBS_WIRE_IMPORT, &import);
    assert_category(&r, KBS_UNPROCESSABLE);
    (void)kbs_agree_key_free(tee);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- PROVISION ---- */

/* The blob in a provision's answer, its mark before it, and the answer to the TEE behind it. */
static struct kbs_span provisioned(const struct kbs_wire_result *r,
                                   uint8_t ret_mark[KBS_MARK_BYTES], struct kbs_span *ret_tee)
{
    struct kbs_reader in = kbs_reader(r->body);
    struct kbs_span mark = kbs_read_bytes(&in, KBS_MARK_BYTES);
    struct kbs_span head = kbs_read_bytes(&in, 4);
    size_t len =
        (size_t)head.p[0] << 24 | (size_t)head.p[1] << 16 | (size_t)head.p[2] << 8 | head.p[3];
    struct kbs_span blob = kbs_read_bytes(&in, len);

    assert_false(in.failed);
    memcpy(ret_mark, mark.p, KBS_MARK_BYTES);
    *ret_tee = in.rest;
    return blob;
}

static struct kbs_wire_provision provision_order(const struct key_ref *k,
                                                 const struct kbs_wire_release *tee,
                                                 const uint8_t binding[KBS_NEK_BINDING_BYTES])
{
    return (struct kbs_wire_provision){.order = tee->order,
                                       .kid = tee->kid,
                                       .card = tee->card,
                                       .public_key = kbs_span(k->blob, k->blob_len),
                                       .key_bytes = 32,
                                       .binding = kbs_span(binding, KBS_NEK_BINDING_BYTES),
                                       .tee_key = tee->tee_key,
                                       .formats = tee->formats,
                                       .floor = tee->floor,
                                       .party_v = tee->party_v};
}

/* What came for the disk, read as a request has it, into an order to open it. */
static void blob_read(struct blob *b, struct kbs_span text, enum kbs_key_alg alg)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_recipient_in in;
    enum kbs_tee_alg jose = alg == KBS_KEY_ALG_AES   ? KBS_TEE_ALG_NONE
                            : alg == KBS_KEY_ALG_RSA ? b->public_key.alg
                                                     : KBS_TEE_ALG_ECDH_ES_A256KW;
    json_t *json = NULL;

    must(kbs_json_parse_object(text, "blob", &json, &err), &err);
    must(kbs_jose_recipient_get(json, jose, &in, &err), &err);
    b->kind = alg == KBS_KEY_ALG_AES   ? KBS_NEK_AES_KW
              : alg == KBS_KEY_ALG_RSA ? KBS_NEK_OAEP
                                       : KBS_NEK_JOSE;
    memcpy(b->made.wrapped, in.encrypted_key.p, in.encrypted_key.len);
    b->made.wrapped_len = in.encrypted_key.len;
    b->epk_len = 0;
    if (b->kind == KBS_NEK_JOSE) {
        const struct kbs_tee_key epk = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = in.epk};

        b->epk_len = kbs_tee_key_put(&epk, b->epk);
    }
    if (b->kind != KBS_NEK_OAEP) {
        assert_true(kbs_span_equal_str(kbs_buf_span(&in.apu), KBS_NEK_PARTY_U));
        assert_true(
            kbs_span_equal(kbs_buf_span(&in.apv), kbs_span(b->binding, sizeof(b->binding))));
    }
    kbs_jose_recipient_in_deinit(&in);
    json_decref(json);
}

/* What REPROVISION says of a blob that was read, beside what it has of `as`. */
static struct kbs_wire_reprovision reprovision_order(const struct key_ref *k, const struct blob *b,
                                                     const struct kbs_wire_release *as,
                                                     const uint8_t mark[KBS_MARK_BYTES])
{
    return (struct kbs_wire_reprovision){.order = as->order,
                                         .kid = as->kid,
                                         .card = as->card,
                                         .public_key = kbs_span(k->blob, k->blob_len),
                                         .kind = (uint8_t)b->kind,
                                         .epk = kbs_span(b->epk, b->epk_len),
                                         .binding = kbs_span(b->binding, sizeof(b->binding)),
                                         .wrapped = kbs_span(b->made.wrapped, b->made.wrapped_len),
                                         .mark = kbs_span(mark, KBS_MARK_BYTES),
                                         .tee_key = as->tee_key,
                                         .formats = as->formats,
                                         .floor = as->floor,
                                         .party_v = as->party_v};
}

static void assert_not_again(struct worker *w, const struct kbs_wire_reprovision *m,
                             enum kbs_category category)
{
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_REPROVISION, m);

    assert_category(&r, category);
    assert_int_equal(r.body.len, 0);
}

/* The same key comes again, by the mark of its blob; by no other mark, and no other blob by that one. */
static void provision_again(struct worker *w, const struct key_ref *k, struct blob *b,
                            const struct kbs_agree_key *tee, struct kbs_wire_release as,
                            const uint8_t mark[KBS_MARK_BYTES])
{
    struct kbs_wire_reprovision m = reprovision_order(k, b, &as, mark);
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_REPROVISION, &m);
    uint8_t again[KBS_MARK_BYTES];
    uint8_t v[KBS_SHA256_BYTES];
    struct kbs_span for_tee = KBS_SPAN_EMPTY;
    KBS_AUTO_SECRET opened = NULL;

    assert_category(&r, KBS_OK);
    assert_non_null(strstr(w->last_deed, "op=reprovision outcome="));
    kbs_nek_provision_v(as.party_v.p, provisioned(&r, again, &for_tee), v);
    assert_memory_equal(again, mark, KBS_MARK_BYTES);
    as.party_v = kbs_span(v, sizeof(v));
    r.body = for_tee;
    open_released(tee, &as, &r, &opened);
    assert_true(kbs_span_equal(kbs_secret_span(opened), kbs_span(b->value, sizeof(b->value))));

    again[0] ^= 1;
    m.mark = kbs_span(again, sizeof(again));
    assert_not_again(w, &m, KBS_DENIED);
    m.mark = KBS_SPAN_EMPTY;
    assert_not_again(w, &m, KBS_DENIED);
    b->made.wrapped[3] ^= 1; /* as of a blob that somebody else wrapped to the public key */
    m.mark = kbs_span(mark, KBS_MARK_BYTES);
    assert_not_again(w, &m, KBS_DENIED);
    b->made.wrapped[3] ^= 1;
    m.kind = KBS_NEK_COSE;
    assert_not_again(w, &m, KBS_INPUT);
}

/* Made once, it opens again at the next boot, for its guest and no other; the same bytes. */
static void provision_one(struct worker *w, uint8_t n, enum kbs_key_alg alg, uint32_t bytes)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_agree_key *tee = NULL;
    struct kbs_nek_binding guest = alg == KBS_KEY_ALG_RSA ? nobody : bound_to("guest a");
    struct kbs_nek_binding stranger = bound_to("guest b");
    struct key_ref k = nek_key(w, n, alg, bytes, 0);
    uint8_t mark[KBS_MARK_BYTES];
    uint8_t v[KBS_SHA256_BYTES];
    struct kbs_span for_tee = KBS_SPAN_EMPTY;
    KBS_AUTO_SECRET opened = NULL;
    struct blob b;

    if (k.blob_len != 0) {
        must(kbs_tee_key_get(kbs_span(k.blob, k.blob_len), &b.public_key, &err), &err);
    }
    must(kbs_agree_key_generate(KBS_CURVE_P384, &tee, &err), &err);
    struct kbs_wire_release as = release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    as.blob = KBS_SPAN_EMPTY;
    kbs_nek_binding_put(&guest, b.binding);
    struct kbs_wire_provision p = provision_order(&k, &as, b.binding);
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_PROVISION, &p);
    assert_category(&r, KBS_OK);
    assert_non_null(strstr(w->last_deed, "op=provision outcome="));
    const struct kbs_wire_release asked = as;
    struct kbs_span text = provisioned(&r, mark, &for_tee);
    blob_read(&b, text, alg);
    kbs_nek_provision_v(as.party_v.p, text, v);
    as.party_v = kbs_span(v, sizeof(v));
    r.body = for_tee;
    open_released(tee, &as, &r, &opened);
    assert_int_equal(kbs_secret_span(opened).len, sizeof(b.value));
    memcpy(b.value, kbs_secret_span(opened).p, sizeof(b.value));
    assert_rewraps(w, &k, &b, KBS_CURVE_P256, KBS_FORMAT_JOSE);
    assert_rewraps(w, &k, &b, KBS_CURVE_P521, KBS_FORMAT_COSE);
    provision_again(w, &k, &b, tee, asked, mark);
    if (alg != KBS_KEY_ALG_RSA) {
        struct kbs_wire_rewrap m = rewrap_order(&k, &b, &as);
        struct kbs_wire_reprovision another = reprovision_order(&k, &b, &asked, mark);

        kbs_nek_binding_put(&stranger, b.binding);
        assert_refused(w, &m, KBS_UNPROCESSABLE);
        assert_not_again(w, &another, KBS_DENIED);
        kbs_nek_binding_put(&nobody, b.binding);
        assert_refused(w, &m, KBS_UNPROCESSABLE);
    }
    (void)kbs_agree_key_free(tee);
}

static void test_provision(void **state)
{
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    provision_one(&w, 40, KBS_KEY_ALG_AES, 32);
    provision_one(&w, 41, KBS_KEY_ALG_P256, 32);
    provision_one(&w, 42, KBS_KEY_ALG_P521, 66);
    provision_one(&w, 43, KBS_KEY_ALG_RSA, 256);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- registers ---- */

static struct kbs_wire_result register_set(struct worker *w, struct kbs_wire_register_set m,
                                           enum kbs_category category, uint8_t mark[KBS_MARK_BYTES])
{
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_REGISTER_SET, &m);

    assert_category(&r, category);
    if (category == KBS_OK) {
        assert_int_equal(r.body.len, KBS_MARK_BYTES);
        assert_non_null(strstr(w->last_deed, "op=register-set outcome="));
        memcpy(mark, r.body.p, KBS_MARK_BYTES);
    } else {
        assert_int_equal(r.body.len, 0);
    }
    return r;
}

static void register_check(struct worker *w, const struct kbs_wire_register_set *of, uint64_t value,
                           const uint8_t mark[KBS_MARK_BYTES], enum kbs_category category)
{
    const struct kbs_wire_register_check m = {.name = of->name,
                                              .binding = of->binding,
                                              .value = value,
                                              .digest = of->digest,
                                              .mark = kbs_span(mark, KBS_MARK_BYTES)};
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_REGISTER_CHECK, &m);

    assert_category(&r, category);
}

/* A value follows one that this token marked, of this guest and this register, and is larger. */
static void test_register(void **state)
{
    struct kbs_nek_binding a = bound_to("guest a");
    struct kbs_nek_binding z = bound_to("guest z");
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t another[KBS_NEK_BINDING_BYTES];
    uint8_t first[KBS_MARK_BYTES];
    uint8_t second[KBS_MARK_BYTES];
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    kbs_nek_binding_put(&a, binding);
    kbs_nek_binding_put(&z, another);
    struct kbs_wire_register_set m = {.order = KBS_SPAN_LIT(ORDER),
                                      .name = KBS_SPAN_LIT("repo/type/tag"),
                                      .binding = kbs_span(binding, sizeof(binding)),
                                      .value = 5,
                                      .digest = KBS_SPAN_LIT("state five")};
    (void)register_set(&w, m, KBS_OK, first);
    register_check(&w, &m, 5, first, KBS_OK);
    register_check(&w, &m, 6, first, KBS_DENIED);

    m.old_value = 5; /* without its mark */
    (void)register_set(&w, m, KBS_INPUT, second);
    m.old_mark = kbs_span(first, sizeof(first));
    m.old_digest = KBS_SPAN_LIT("state six");
    m.value = 6;
    (void)register_set(&w, m, KBS_DENIED, second);
    m.old_digest = KBS_SPAN_LIT("state five");
    m.digest = KBS_SPAN_LIT("state six");
    m.old_value = 4;
    (void)register_set(&w, m, KBS_DENIED, second);
    m.old_value = 5;
    m.name = KBS_SPAN_LIT("repo/type/other");
    (void)register_set(&w, m, KBS_DENIED, second);
    m.name = KBS_SPAN_LIT("repo/type/tag");
    m.binding = kbs_span(another, sizeof(another));
    (void)register_set(&w, m, KBS_DENIED, second);
    m.binding = kbs_span(binding, sizeof(binding));
    m.value = 5;
    (void)register_set(&w, m, KBS_CONFLICT, second);
    m.value = 6;
    (void)register_set(&w, m, KBS_OK, second);
    register_check(&w, &m, 6, second, KBS_OK);
    register_check(&w, &m, 6, first, KBS_DENIED);
    m.name = KBS_SPAN_LIT("not a path");
    (void)register_set(&w, m, KBS_INPUT, second);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/*
 * As a JWE, whose payload is the key (wrap-key): below the token only if the key's card says so, whatever
 * the order says. What is in it, clients say (tests/conform/rows_wrap_key.py).
 */
static void test_as_jwe(void **state)
{
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (int floor = KBS_LOCALITY_WORKER; floor <= KBS_LOCALITY_TRANSPORT; floor++) {
        struct key_ref k = key_ref((uint8_t)(60 + floor), 1);
        struct kbs_wire_generate m = nek_order(&k, KBS_KEY_ALG_RSA, 256, 0);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_agree_key *tee = NULL;
        struct kbs_wire_result r;
        struct blob b;

        m.floor = (uint8_t)floor;
        r = worker_order(&w, KBS_WIRE_GENERATE, &m);
        assert_category(&r, KBS_OK);
        key_made(&k, &r);
        blob_make(&b, &k, KBS_NEK_OAEP, &nobody);
        must(kbs_agree_key_generate(KBS_CURVE_P521, &tee, &err), &err);
        struct kbs_wire_release as = release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_JWE);
        struct kbs_wire_rewrap rewrap = rewrap_order(&k, &b, &as);
        rewrap.floor = KBS_LOCALITY_WORKER;
        r = worker_order(&w, KBS_WIRE_REWRAP, &rewrap);
        if (r.category == KBS_UNSUPPORTED) { /* a token without GCM-wrap */
            assert_int_equal(floor, KBS_LOCALITY_TRANSPORT);
            assert_int_equal(r.body.len, 0);
        } else {
            assert_category(&r, KBS_OK);
            assert_int_equal(r.format, KBS_FORMAT_JWE);
            assert_true(r.locality == KBS_LOCALITY_TOKEN ||
                        (r.locality == KBS_LOCALITY_WORKER && floor == KBS_LOCALITY_WORKER));
            assert_true(kbs_span_starts_with(r.body, "{\"protected\":\""));
        }
        (void)kbs_agree_key_free(tee);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* What makes no sense is not made, and what was made can be destroyed. */
static void test_life(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref k = key_ref(50, 1);
    struct kbs_wire_generate m;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    m = nek_order(&k, KBS_KEY_ALG_RSA, 256, KBS_CARD_BINDING_REQUIRED);
    r = worker_order(&w, KBS_WIRE_GENERATE, &m);
    assert_category(&r, KBS_INPUT);
    m = nek_order(&k, KBS_KEY_ALG_P256, 48, 0);
    r = worker_order(&w, KBS_WIRE_GENERATE, &m);
    assert_category(&r, KBS_INPUT);
    m = nek_order(&k, KBS_KEY_ALG_AES, 16, 0);
    r = worker_order(&w, KBS_WIRE_GENERATE, &m);
    assert_category(&r, KBS_INPUT);
    m = nek_order(&k, KBS_KEY_ALG_GENERIC, 32, 0);
    r = worker_order(&w, KBS_WIRE_GENERATE, &m);
    assert_category(&r, KBS_INPUT);
    m = nek_order(&k, KBS_KEY_ALG_P256, 32, 0);
    m.storage = KBS_STORAGE_WRAPPED;
    r = worker_order(&w, KBS_WIRE_GENERATE, &m);
    assert_category(&r, KBS_INPUT);
    for (size_t i = 0; i < 2; i++) {
        enum kbs_key_alg alg = i == 0 ? KBS_KEY_ALG_P256 : KBS_KEY_ALG_AES;
        struct key_ref made = nek_key(&w, (uint8_t)(51 + i), alg, 32, 0);
        struct kbs_wire_destroy destroy = {.order = KBS_SPAN_LIT(ORDER),
                                           .purpose = KBS_PURPOSE_NEK,
                                           .card = kbs_span(made.card, sizeof(made.card)),
                                           .key_version = 1};

        m = nek_order(&made, alg, 32, 0);
        r = worker_order(&w, KBS_WIRE_GENERATE, &m);
        assert_category(&r, KBS_CONFLICT);
        r = worker_order(&w, KBS_WIRE_DESTROY, &destroy);
        assert_category(&r, KBS_OK);
        r = worker_order(&w, KBS_WIRE_DESTROY, &destroy);
        assert_category(&r, KBS_MISSING);
        r = worker_order(&w, KBS_WIRE_GENERATE, &m);
        assert_category(&r, KBS_OK);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair), cmocka_unit_test(test_what_does_not_open),
        cmocka_unit_test(test_roads),      cmocka_unit_test(test_provision),
        cmocka_unit_test(test_register),   cmocka_unit_test(test_life),
        cmocka_unit_test(test_as_jwe),
    };

    if (argc != 2 || !harness_select(argv[1])) {
        (void)fprintf(stderr, "skipped: the module of %s is not installed\n",
                      argc > 1 ? argv[1] : "?");
        return 77;
    }
    return cmocka_run_group_tests_name(argv[1], tests, group_setup, group_teardown);
}
