/*
 * kbs-token against real tokens: one run per token (argument: softhsm or nss). Every claim that the
 * project makes about custody has a case here; what depends on the token stands in its row of the
 * harness.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/process.h"
#include "harness.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "hsm/keys.h"
#include "hsm/ladder.h"
#include "hsm/object.h"
#include "hsm/release.h"
#include "hsm/service.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

/* Initialised once, with all service keys; never used by a test itself. */
static struct token_dir template_dir;

static const struct start_options admin_lane = {.duty = KBS_DUTY_ADMIN};
static const struct start_options guest_lane = {.duty = KBS_DUTY_RELEASE};

static void assert_ok(const struct kbs_wire_result *r)
{
    assert_category(r, KBS_OK);
}

static struct kbs_agree_key *tee_new(enum kbs_curve curve)
{
    struct kbs_agree_key *tee = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_agree_key_generate(curve, &tee, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    return tee;
}

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

/* ---- init ---- */

static bool has_rung(const struct kbs_wire_described *d, const char *name)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(&d->rungs);
    struct kbs_span rung;

    while (kbs_wire_list_next(&it, &rung)) {
        if (kbs_span_equal_str(rung, name)) {
            return true;
        }
    }
    return false;
}

static void test_init(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_described described;
    struct kbs_wire_result r;
    uint8_t point[65];

    (void)state;
    dir_new(&d);
    worker_start(&w, &d, &(struct start_options){.init = true, .so_pin = dir_so_pin()});
    described = worker_describe(&w);
    assert_true(kbs_span_equal_str(described.manufacturer, kind->manufacturer));
    assert_int_equal(described.token_class, kind->class);
    assert_true(described.serial.len > 0 || kind->slots); /* openCryptoki's tokens have none */
    assert_int_equal(described.sign_keys.count + described.import_public.len, 0);
    assert_true(has_rung(&described, kind->jose_rung));
    assert_true(has_rung(&described, kind->cose_rung));
    assert_int_equal(described.seal_version + described.wrap_version, 0);

    r = worker_order(&w, KBS_WIRE_SIGN_EAR,
                     &(struct kbs_wire_sign_ear){.claims = KBS_SPAN_LIT("{}")});
    assert_category(&r, KBS_MISSING);
    r = order_service_key(&w, KBS_PURPOSE_IMPORT);
    assert_ok(&r);
    assert_int_equal(r.body.len, sizeof(point));
    memcpy(point, r.body.p, sizeof(point));
    r = order_service_key(&w, KBS_PURPOSE_IMPORT);
    assert_category(&r, KBS_CONFLICT);
    r = order_service_key(&w, KBS_PURPOSE_NONE);
    assert_category(&r, KBS_INPUT);
    r = order_service_key(&w, KBS_PURPOSE_SIGN_TOKEN);
    assert_ok(&r);
    described = worker_describe(&w);
    assert_true(kbs_span_equal(described.import_public, kbs_span(point, sizeof(point))));
    assert_int_equal(described.sign_keys.count, 1);
    assert_int_equal(described_sign(&described, 0).point.len, sizeof(point));
    assert_int_equal(worker_stop(&w), 0);

    worker_start(&w, &d, &(struct start_options){.init = true, .expect_failure = true});
    assert_int_equal(w.login.ok, 0);
    assert_int_equal(w.login.pin_error, 0);
    assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);
    dir_remove(&d);
}

/* A token that was initialised without a user PIN takes the officer's PIN, and no guess at it. */
static void test_init_of_a_token_that_is_there(void **state)
{
    static CK_UTF8CHAR label[33] = "kbs-test                        ";
    struct start_options init = {.init = true, .expect_failure = true};
    struct token_dir d;
    struct worker w;
    struct kbs_token t = KBS_TOKEN_NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    CK_SLOT_ID slots[4] = {0};
    CK_ULONG n = 4;
    char so_pin[] = SO_PIN;

    (void)state;
    if (kind->nss) {
        return; /* a database without a PIN is a fresh one */
    }
    dir_new(&d);
    dir_enter(&d);
    assert_int_equal(kbs_token_load(&t, module_path, NULL, &err), 0);
    assert_int_equal(t.f->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    if (!kind->slots) { /* they are there, made by openCryptoki's tool */
        assert_int_equal(
            t.f->C_InitToken(slots[0], (CK_UTF8CHAR *)so_pin, sizeof(so_pin) - 1, label), CKR_OK);
    }
    kbs_token_close(&t);

    worker_start(&w, &d, &init);
    assert_int_equal(w.login.ok, 0);
    assert_int_equal(w.login.pin_error, 0);
    assert_int_equal(worker_wait(&w), KBS_EXIT_CONFIG);
    init.so_pin = "not-" SO_PIN "\n";
    worker_start(&w, &d, &init);
    assert_int_equal(w.login.pin_error, 1);
    assert_int_equal(worker_wait(&w), KBS_EXIT_PIN);
    worker_start(&w, &d, &(struct start_options){.init = true, .so_pin = SO_PIN "\n"});
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- release ---- */

/* Releases k as a recipient in every format to every curve and compares check values. */
static void release_matrix(struct worker *w, const struct key_ref *k, uint8_t empty_context)
{
    for (enum kbs_curve curve = KBS_CURVE_P256; curve <= KBS_CURVE_P521; curve++) {
        struct kbs_agree_key *tee = tee_new(curve);

        for (unsigned int format = KBS_FORMAT_JOSE; format <= KBS_FORMAT_COSE; format++) {
            KBS_AUTO_SECRET opened = NULL;
            struct kbs_wire_release order =
                release_order(k, kbs_agree_key_public(tee), (enum kbs_format)format);
            struct kbs_wire_result r;

            order.empty_context = empty_context;
            order.salt = format == KBS_FORMAT_COSE && curve != KBS_CURVE_P384 ? KBS_SPAN_LIT(SALT)
                                                                              : KBS_SPAN_EMPTY;
            r = worker_order(w, KBS_WIRE_RELEASE, &order);
            assert_ok(&r);
            assert_int_equal(r.format, format);
            const char *rung = format == KBS_FORMAT_JOSE ? kind->jose_rung : kind->cose_rung;
            assert_int_equal(r.locality, rung_locality(rung));
            assert_true(kbs_span_equal_str(r.rung, rung));
            open_released(tee, &order, &r, &opened);
            key_check(k, kbs_secret_span(opened));
        }
        (void)kbs_agree_key_free(tee);
    }
}

static void test_generate_and_release(void **state)
{
    static const uint32_t sizes[] = {16, 24, 32};
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (uint8_t i = 0; i < 3; i++) {
        struct key_ref k = key_ref(1, i + 1u); /* versions of one key */
        struct kbs_wire_result r = order_generate(&w, &k, sizes[i]);

        assert_ok(&r);
        assert_int_equal(k.bytes, sizes[i]);
        assert_int_equal(k.blob_len, 0);
        assert_int_equal(k.mac, sizes[i] < 32 && !kind->short_kcv ? KBS_KCV_AES_CMAC
                                                                  : KBS_KCV_HMAC_SHA256);
        release_matrix(&w, &k, i == 1);
        release_matrix(&w, &k, i != 1);
        r = order_generate(&w, &k, sizes[i]);
        assert_category(&r, KBS_CONFLICT);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_longest_names(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;
    struct key_ref k = key_ref(2, UINT32_MAX);
    struct kbs_wire_generate generate = generate_order(&k, 32);
    char kid[KBS_LIMIT_KID_BYTES + 1];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    memset(kid, 'x', sizeof(kid));
    kid[100] = kid[200] = '/';
    (void)snprintf(kid + 255, sizeof(kid) - 255, "/v4294967295");
    generate.kid = kbs_span_str(kid);
    r = worker_order(&w, KBS_WIRE_GENERATE, &generate);
    assert_ok(&r);
    key_made(&k, &r);
    for (unsigned int format = KBS_FORMAT_JOSE; format <= KBS_FORMAT_COSE; format++) {
        KBS_AUTO_SECRET opened = NULL;
        struct kbs_agree_key *tee = tee_new(KBS_CURVE_P521);
        struct kbs_wire_release order =
            release_order(&k, kbs_agree_key_public(tee), (enum kbs_format)format);

        order.kid = kbs_span_str(kid);
        r = worker_order(&w, KBS_WIRE_RELEASE, &order);
        assert_ok(&r);
        open_released(tee, &order, &r, &opened);
        key_check(&k, kbs_secret_span(opened));
        (void)kbs_agree_key_free(tee);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_choice(void **state)
{
    static const uint8_t both[] = {KBS_FORMAT_COSE, KBS_FORMAT_JOSE};
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;
    struct key_ref k = key_ref(3, 1);
    struct kbs_agree_key *tee = tee_new(KBS_CURVE_P256);
    struct kbs_wire_release order = release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    bool cose_is_best = rung_locality(kind->cose_rung) == kind->best_locality;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    r = order_generate(&w, &k, 32);
    assert_ok(&r);
    order.formats = kbs_span(both, sizeof(both));
    r = worker_order(&w, KBS_WIRE_RELEASE, &order);
    assert_ok(&r);
    assert_int_equal(r.format, cose_is_best ? KBS_FORMAT_COSE /* the client's first wish */
                                            : KBS_FORMAT_JOSE);

    order.formats = kbs_span(both, 1);
    order.floor = KBS_LOCALITY_TOKEN;
    r = worker_order(&w, KBS_WIRE_RELEASE, &order);
    if (rung_locality(kind->cose_rung) == KBS_LOCALITY_TOKEN) {
        assert_ok(&r);
    } else {
        char detail[256];

        assert_category(&r, KBS_UNSUPPORTED);
        assert_int_equal(r.body.len, 0);
        assert_true(kbs_span_to_cstr(r.detail, detail, sizeof(detail)));
        assert_non_null(strstr(detail, "COSE-HKDF")); /* names what is missing */
        assert_non_null(strstr(detail, "CKR_MECHANISM_INVALID"));
    }
    (void)kbs_agree_key_free(tee);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_release_refusals(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;
    struct key_ref k = key_ref(4, 1);
    struct kbs_agree_key *tee = tee_new(KBS_CURVE_P256);
    struct kbs_ec_public off_curve = *kbs_agree_key_public(tee);
    const struct kbs_wire_release good =
        release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_COSE);
    struct {
        struct kbs_wire_release order;
        enum kbs_category category;
    } cases[24];
    size_t n = 0;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    r = order_generate(&w, &k, 32);
    assert_ok(&r);
    off_curve.y[31] ^= 1;
    for (size_t i = 0; i < 24; i++) {
        cases[i].order = good;
        cases[i].category = KBS_INPUT;
    }
    cases[n].order = release_order(&k, &off_curve, KBS_FORMAT_JOSE);
    cases[n++].category = KBS_UNPROCESSABLE;
    cases[n].order.kid = KBS_SPAN_LIT("default/key/nr-4/v2");
    cases[n++].category = KBS_DENIED;
    cases[n].order.kid = KBS_SPAN_LIT("default/key/\"x\"/v1");
    cases[n++].category = KBS_DENIED;
    cases[n].order.kid = KBS_SPAN_EMPTY;
    cases[n++].category = KBS_DENIED;
    cases[n].order.blob = KBS_SPAN_LIT("a blob that is not asked for");
    cases[n++].category = KBS_DENIED;
    cases[n++].order.card = KBS_SPAN_EMPTY;
    cases[n++].order.card.len--;
    cases[n++].order.tee_key = KBS_SPAN_EMPTY;
    cases[n++].order.tee_key.len--;
    cases[n++].order.tee_key = KBS_SPAN_LIT("\x09\x01\x04");
    cases[n++].order.formats = KBS_SPAN_EMPTY;
    cases[n++].order.formats = KBS_SPAN_LIT("\x07");
    cases[n++].order.floor = 0;
    cases[n++].order.floor = 4;
    cases[n++].order.empty_context = 2;
    cases[n++].order.party_v.len = 31;
    cases[n++].order.salt = KBS_SPAN_LIT(SALT "x");
    cases[n++].order.order.len = 15;
    for (size_t i = 0; i < n; i++) {
        r = worker_order(&w, KBS_WIRE_RELEASE, &cases[i].order);
        if (r.category != cases[i].category) {
            fail_msg("case %zu: %s", i, kbs_category_name((enum kbs_category)r.category));
        }
        assert_int_equal(r.body.len, 0);
        assert_true(r.detail.len > 0);
        assert_non_null(strstr(w.last_deed, "op=release outcome="));
        assert_null(strstr(w.last_deed, "outcome=done"));
    }
    r = worker_order(&w, KBS_WIRE_RELEASE, &good); /* and the worker is still there */
    assert_ok(&r);
    (void)kbs_agree_key_free(tee);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_generate_refusals(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref k = key_ref(6, 1);
    const struct kbs_wire_generate good = generate_order(&k, 32);
    struct kbs_wire_generate bad[24];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < 24; i++) {
        bad[i] = good;
    }
    bad[n++].key_bytes = 0;
    bad[n++].key_bytes = 20;
    bad[n++].key_bytes = 40;
    bad[n++].key_bytes = UINT32_MAX;
    bad[n++].key_version = 2;
    bad[n++].key_version = 0;
    bad[n++].key_id.len = 15;
    bad[n++].kid = KBS_SPAN_LIT("");
    bad[n++].kid = KBS_SPAN_LIT("default/key/v1");
    bad[n++].alg = 0;
    bad[n++].alg = KBS_KEY_ALG_SECRET;
    bad[n++].alg = 200;
    bad[n++].storage = 0;
    bad[n++].storage = KBS_STORAGE_SEALED;
    bad[n++].storage = 99;
    bad[n++].floor = 0;
    bad[n++].floor = 4;
    bad[n++].flags = 4;
    bad[n++].flags = KBS_CARD_BINDING_REQUIRED;
    bad[n++].policy.len = 31;
    bad[n++].purpose = KBS_PURPOSE_NONE;
    bad[n++].purpose = 200;
    bad[n].alg = KBS_KEY_ALG_GENERIC;
    bad[n++].key_bytes = 65;
    bad[n++].order = KBS_SPAN_EMPTY;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (size_t i = 0; i < n; i++) {
        struct kbs_wire_result r = worker_order(&w, KBS_WIRE_GENERATE, &bad[i]);

        if (r.category != KBS_INPUT) {
            fail_msg("case %zu: %s", i, kbs_category_name((enum kbs_category)r.category));
        }
        assert_non_null(strstr(w.last_deed, "op=generate outcome=input"));
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_deadline(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &guest_lane);
    /* By hand: a frame whose deadline has passed cannot be sent by a call that honours it. */
    struct kbs_buf frame = KBS_BUF(4096);
    assert_int_equal(kbs_wire_encode(&frame, KBS_WIRE_SIGN_EAR, 7, 1,
                                     &(struct kbs_wire_sign_ear){.claims = KBS_SPAN_LIT("{}")},
                                     &err),
                     0);
    assert_int_equal(write(w.judge, frame.p, frame.len), (ssize_t)frame.len);
    kbs_buf_deinit(&frame);
    assert_int_equal(kbs_channel_recv(w.judge, &w.answer_msg, kbs_deadline_in_ms(10000), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&w.answer_msg, KBS_WIRE_RESULT, &r, &err), 0);
    assert_int_equal(w.answer_msg.frame.id, 7);
    assert_category(&r, KBS_DEADLINE);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- import ---- */

/* What kbs-admin does: wraps `key` to the import key, under k's name. */
static struct sent import_prepare(struct worker *w, const struct key_ref *k, struct kbs_span key)
{
    return sent_make(worker_describe(w).import_public, "kbs-import-v1", kbs_span_str(k->kid), key);
}

static void test_import(void **state)
{
    struct token_dir d;
    struct worker w;
    uint8_t key[32];

    (void)state;
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] = (uint8_t)(3 * i + 1);
    }
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (uint8_t n = 16; n <= 32; n += 8) {
        struct key_ref k = key_ref(n, 1);
        struct sent sent = import_prepare(&w, &k, kbs_span(key, n));
        struct kbs_wire_import order = import_order(&sent, &k);
        struct kbs_wire_result r = worker_order(&w, KBS_WIRE_IMPORT, &order);

        assert_ok(&r);
        assert_int_equal(r.locality, kind->best_locality);
        assert_true(kbs_span_equal_str(r.rung, kind->jose_rung));
        key_made(&k, &r);
        key_check(&k, kbs_span(key, n));
        release_matrix(&w, &k, 0);
        r = worker_order(&w, KBS_WIRE_IMPORT, &order);
        assert_category(&r, KBS_CONFLICT);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_import_refusals(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref k = key_ref(40, 1);
    struct key_ref moved = key_ref(41, 1);
    struct sent sent;
    struct kbs_wire_result r;
    struct kbs_wire_import good;
    struct kbs_wire_import bad;
    uint8_t key[32] = {1, 2, 3};
    uint8_t y[32];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    sent = import_prepare(&w, &k, kbs_span(key, sizeof(key)));
    good = import_order(&sent, &k);

    sent.wrapped[5] ^= 1; /* garbled, again and again: the lane must live on */
    for (int i = 0; i < 3; i++) {
        r = worker_order(&w, KBS_WIRE_IMPORT, &good);
        assert_category(&r, KBS_UNPROCESSABLE);
        assert_true(r.ckr != CKR_OK);
        if (i == 0) {
            print_message("%s calls a garbled blob %s\n", kind->name, kbs_ckr_name(r.ckr));
        }
        assert_true(kbs_span_equal_str(r.function, "C_UnwrapKey"));
    }
    sent.wrapped[5] ^= 1;

    bad = good; /* a good blob under another name */
    bad.key_id = kbs_span(moved.id, sizeof(moved.id));
    bad.kid = kbs_span_str(moved.kid);
    r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
    assert_category(&r, KBS_UNPROCESSABLE);

    bad = good;
    memcpy(y, bad.epk_y.p, sizeof(y));
    y[31] ^= 1;
    bad.epk_y.p = y;
    r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
    assert_category(&r, KBS_UNPROCESSABLE);

    bad = good;
    bad.wrapped.len = 28;
    r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
    assert_category(&r, KBS_INPUT);
    bad.wrapped.len = 16;
    r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
    assert_category(&r, KBS_INPUT);
    bad = good;
    bad.kid = kbs_span_str(moved.kid);
    bad.key_version = 9;
    r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
    assert_category(&r, KBS_INPUT);
    bad = good;
    bad.epk_x.len = 31;
    r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
    assert_category(&r, KBS_INPUT);

    if (kind->best_locality < KBS_LOCALITY_TOKEN) { /* not opened on a rung below its floor */
        bad = good;
        bad.floor = KBS_LOCALITY_TOKEN;
        r = worker_order(&w, KBS_WIRE_IMPORT, &bad);
        assert_category(&r, KBS_UNSUPPORTED);
    }
    r = worker_order(&w, KBS_WIRE_IMPORT, &good); /* nothing was left behind under this id */
    assert_ok(&r);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- signing ---- */

static void test_sign_ear(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public key;
    struct kbs_wire_described described;
    struct kbs_wire_result r;
    char thumbprint[44];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &guest_lane);
    described = worker_describe(&w);
    assert_int_equal(
        kbs_ec_point_get(KBS_CURVE_P256, described_sign(&described, 0).point, &key, &err), 0);
    kbs_jose_thumbprint(&key, thumbprint);
    for (int i = 0; i < 40; i++) { /* both lengths of r and s */
        struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
        json_t *payload = NULL;
        struct kbs_span iss;

        r = worker_order(
            &w, KBS_WIRE_SIGN_EAR,
            &(struct kbs_wire_sign_ear){.claims = KBS_SPAN_LIT("{\"iss\":\"kbs-hsm\"}")});
        assert_ok(&r);
        if (kbs_jose_jws_split(r.body, &jws, &err) != 0 ||
            kbs_jose_jws_verify(&jws, &key, &payload, &err) != 0) {
            fail_msg("JWS: %s", err.detail);
        }
        assert_true(kbs_span_equal_str(jws.kid, thumbprint));
        assert_int_equal(kbs_json_get_string(payload, "iss", &iss, &err), 0);
        assert_true(kbs_span_equal_str(iss, "kbs-hsm"));
        json_decref(payload);
        kbs_jose_jws_deinit(&jws);
    }
    r = worker_order(&w, KBS_WIRE_SIGN_EAR, &(struct kbs_wire_sign_ear){.claims = KBS_SPAN_EMPTY});
    assert_category(&r, KBS_INPUT);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- phases, lists, exits ---- */

static void test_wrong_pin(void **state)
{
    static const char *const pins[] = {"wrong-wrong-wrong", "1"};
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < 2; i++) {
        worker_start(&w, &d, &(struct start_options){.pin = pins[i], .expect_failure = true});
        assert_int_equal(w.login.ok, 0);
        assert_int_equal(w.login.pin_error, 1);
        assert_true(w.login.detail.len > 0);
        assert_int_equal(worker_wait(&w), KBS_EXIT_PIN);
    }
    dir_remove(&d);
}

static void test_bad_configuration(void **state)
{
    static const struct start_options cases[] = {
        {.uri = "pkcs11:token=kbs-test?pin-value=471100-geheim", .expect_failure = true},
        {.uri = "pkcs11:token=kbs-test;object=x", .expect_failure = true},
        {.uri = "kbs-test", .expect_failure = true},
        {.module = "/nonexistent/module.so", .expect_failure = true},
    };
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        worker_start(&w, &d, &cases[i]);
        if (w.login.ok != 0) {
            fail_msg("case %zu logged in", i);
        }
        assert_int_equal(w.login.pin_error, 0);
        assert_int_equal(worker_wait(&w), KBS_EXIT_CONFIG);
    }
    worker_start(&w, &d,
                 &(struct start_options){.uri = "pkcs11:token=other", .expect_failure = true});
    assert_int_equal(w.login.ok, 0);
    assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);
    dir_remove(&d);
}

/* Secrets that could be written to swap: refused in production, a warning in the demo. */
static void test_unlocked_memory(void **state)
{
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &(struct start_options){.no_memlock = true});
    assert_int_equal(worker_stop(&w), 0);
    worker_start(
        &w, &d,
        &(struct start_options){.no_memlock = true, .production = true, .expect_exit = true});
    assert_int_equal(worker_wait(&w), KBS_EXIT_CONFIG);
    worker_start(&w, &d, &(struct start_options){.production = true});
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Two tokens that the URI does not tell apart. */
static void test_ambiguous_uri(void **state)
{
    struct token_dir d;
    struct worker w;
    struct start_options any = {.uri = "pkcs11:", .expect_failure = true};

    (void)state;
    if (kind->mock || kind->slots) {
        return; /* there is no second one to confuse it with */
    }
    dir_copy(&template_dir, &d);
    if (!kind->nss) { /* NSS brings a second token of its own */
        worker_start(&w, &d, &(struct start_options){.init = true, .uri = "pkcs11:token=second"});
        assert_int_equal(worker_stop(&w), 0);
    }
    worker_start(&w, &d, &any);
    assert_int_equal(w.login.ok, 0);
    assert_int_equal(worker_wait(&w), KBS_EXIT_CONFIG);
    dir_remove(&d);
}

static void test_not_on_the_list(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_error err = KBS_ERROR_NONE;
    struct key_ref k = key_ref(50, 1);
    struct kbs_wire_generate generate = generate_order(&k, 32);
    struct kbs_wire_import import = {.order = KBS_SPAN_LIT(ORDER), .key_version = 1};
    struct kbs_wire_adopt adopt = {.order = KBS_SPAN_LIT(ORDER), .key_version = 1};
    struct kbs_wire_recard recard = {.order = KBS_SPAN_LIT(ORDER)};
    struct kbs_wire_rewrap_catalog rewrap = {.order = KBS_SPAN_LIT(ORDER)};
    struct kbs_wire_destroy destroy = {.order = KBS_SPAN_LIT(ORDER)};
    struct kbs_wire_seal seal = {.order = KBS_SPAN_LIT(ORDER)};
    struct {
        bool to_control;
        enum kbs_wire_type type;
        const void *msg;
    } cases[] = {{false, KBS_WIRE_GENERATE, &generate},
                 {false, KBS_WIRE_IMPORT, &import},
                 {false, KBS_WIRE_ADOPT, &adopt},
                 {false, KBS_WIRE_RECARD, &recard},
                 {false, KBS_WIRE_REWRAP_CATALOG, &rewrap},
                 {false, KBS_WIRE_DESTROY, &destroy},
                 {false, KBS_WIRE_SEAL, &seal},
                 {false, KBS_WIRE_CAPS, NULL},
                 {false, KBS_WIRE_GO, NULL},
                 {false, KBS_WIRE_LOGIN_GRANT, NULL},
                 {true, KBS_WIRE_LOGIN_GRANT, NULL},
                 {true, KBS_WIRE_DESCRIBE, NULL}};

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        worker_start(&w, &d, &guest_lane);
        assert_int_equal(kbs_channel_send(cases[i].to_control ? w.control : w.judge, cases[i].type,
                                          1, cases[i].msg, -1, kbs_deadline_in_ms(10000), &err),
                         0);
        assert_int_equal(kbs_channel_recv(w.judge, &w.answer_msg, kbs_deadline_in_ms(10000), &err),
                         KBS_CHANNEL_EOF); /* no answer */
        assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);
    }
    dir_remove(&d);
}

/* A body that is cut short: the judge does not speak our protocol, whatever else it is. */
static void test_malformed_message(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf frame = KBS_BUF(4096);

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &guest_lane);
    assert_int_equal(kbs_wire_encode(&frame, KBS_WIRE_RELEASE, 1, KBS_DEADLINE_NONE,
                                     &(struct kbs_wire_release){.floor = 1}, &err),
                     0);
    frame.p[0]--; /* body_len, little endian */
    assert_int_equal(write(w.judge, frame.p, frame.len - 1), (ssize_t)frame.len - 1);
    kbs_buf_deinit(&frame);
    assert_int_equal(kbs_channel_recv(w.judge, &w.answer_msg, kbs_deadline_in_ms(10000), &err),
                     KBS_CHANNEL_EOF);
    assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);
    dir_remove(&d);
}

static void test_ends(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &(struct start_options){.expect_exit = true}); /* its turn never came */
    assert_int_equal(
        kbs_channel_send(w.control, KBS_WIRE_DRAIN, 0, NULL, -1, kbs_deadline_in_ms(10000), &err),
        0);
    assert_int_equal(worker_wait(&w), 0);
    worker_start(&w, &d, &guest_lane);
    assert_int_equal(
        kbs_channel_send(w.control, KBS_WIRE_DRAIN, 0, NULL, -1, kbs_deadline_in_ms(10000), &err),
        0);
    assert_int_equal(worker_wait(&w), 0);
    worker_start(&w, &d, &guest_lane);
    kbs_io_close(&w.control);
    assert_int_equal(worker_wait(&w), 0);
    worker_start(&w, &d, &guest_lane);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- several processes ---- */

static void destroy_key(struct kbs_token *t, const struct key_ref *k)
{
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    kbs_cka_id(k->id, k->version, cka_id);
    if (kbs_object_find(t, CKO_SECRET_KEY, kbs_span(cka_id, sizeof(cka_id)), &object, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    assert_int_equal(t->f->C_DestroyObject(t->session, object), CKR_OK);
}

/* A guest lane that runs while keys come, go, and come again: handles that went stale are looked up
 * anew. */
static void test_keys_change_under_a_lane(void **state)
{
    struct token_dir d;
    struct worker admin;
    struct worker guest;
    struct kbs_token inside;
    struct kbs_wire_result r;
    struct key_ref k = key_ref(60, 1);
    struct kbs_agree_key *tee = tee_new(KBS_CURVE_P256);
    struct kbs_wire_release order = release_order(&k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);

    (void)state;
    if (kind->slots) { /* initialised twice in a process, openCryptoki closes a foreign descriptor */
        (void)kbs_agree_key_free(tee);
        skip();
    }
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    for (int i = 0; i < 3; i++) {
        KBS_AUTO_SECRET opened = NULL;

        r = order_generate(&admin, &k, 32);
        assert_ok(&r);
        r = worker_order(&guest, KBS_WIRE_RELEASE,
                         &order); /* warm from the round before, and stale */
        assert_ok(&r);
        open_released(tee, &order, &r, &opened);
        key_check(&k, kbs_secret_span(opened));
        inside_open(&inside, &d);
        destroy_key(&inside, &k);
        kbs_token_close(&inside);
        if (i == 1) {
            r = worker_order(&guest, KBS_WIRE_RELEASE, &order);
            assert_category(&r, KBS_MISSING);
        }
    }
    (void)kbs_agree_key_free(tee);
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

/* ---- inside the token ---- */

static CK_ULONG count_objects(struct kbs_token *t, bool token_objects)
{
    struct kbs_template wanted = {.n = 0};
    CK_OBJECT_HANDLE found[64];
    CK_ULONG n = 0;

    kbs_template_bool(&wanted, CKA_TOKEN, token_objects);
    assert_int_equal(t->f->C_FindObjectsInit(t->session, wanted.a, wanted.n), CKR_OK);
    assert_int_equal(t->f->C_FindObjects(t->session, found, 64, &n), CKR_OK);
    assert_int_equal(t->f->C_FindObjectsFinal(t->session), CKR_OK);
    return n;
}

/*
 * How often a needle lies in the memory of a process, by /proc/pid/mem; -1 where that cannot be
 * read. The needle is given inverted, so that it is not in the searcher's memory by itself.
 */
static int count_in_memory(pid_t pid, const uint8_t *inverted, size_t len)
{
    char path[64];
    char line[512];
    FILE *maps;
    int mem;
    int found = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    mem = open(path, O_RDONLY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    maps = fopen(path, "re");
    while (mem >= 0 && maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
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
        for (ssize_t i = 0; i + (ssize_t)len <= n; i++) {
            size_t same = 0;
            while (same < len && (bytes[(size_t)i + same] ^ inverted[same]) == 0xff) {
                same++;
            }
            found += same == len;
        }
        free(bytes);
    }
    if (maps == NULL || mem < 0) {
        found = -1;
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    kbs_io_close(&mem);
    return found;
}

/* After a key was imported and released, neither it nor the PIN is in the memory of kbs-token. */
static void test_nothing_in_memory(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;
    struct key_ref k = key_ref(95, 1);
    struct sent sent;
    struct kbs_wire_import import;
    struct kbs_agree_key *tee = tee_new(KBS_CURVE_P256);
    uint8_t key[32];
    uint8_t kid[sizeof(k.kid)];
    uint8_t pin[] = PIN;

    (void)state;
    if (kind->mock || kind->slots) {
        (void)kbs_agree_key_free(tee);
        return; /* its module keeps keys in the clear, and in this process */
    }
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] = (uint8_t)(201 * i + 77);
    }
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    sent = import_prepare(&w, &k, kbs_span(key, sizeof(key)));
    import = import_order(&sent, &k);
    r = worker_order(&w, KBS_WIRE_IMPORT, &import);
    assert_ok(&r);
    key_made(&k, &r);
    for (unsigned int format = KBS_FORMAT_JOSE; format <= KBS_FORMAT_COSE; format++) {
        struct kbs_wire_release order =
            release_order(&k, kbs_agree_key_public(tee), (enum kbs_format)format);
        r = worker_order(&w, KBS_WIRE_RELEASE, &order);
        assert_ok(&r);
    }
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] = (uint8_t)~key[i];
    }
    for (size_t i = 0; i < sizeof(kid); i++) {
        kid[i] = (uint8_t)~k.kid[i];
    }
    for (size_t i = 0; i < sizeof(pin); i++) {
        pin[i] = (uint8_t)~pin[i];
    }
    if (count_in_memory(w.pid, kid, strlen(k.kid)) < 0) {
        print_message("skipped: the worker's memory cannot be read by this user\n");
    } else {
        assert_true(count_in_memory(w.pid, kid, strlen(k.kid)) > 0); /* the detector detects */
        assert_int_equal(count_in_memory(w.pid, key, 16), 0);
        assert_int_equal(count_in_memory(w.pid, pin, sizeof(PIN) - 1), 0);
    }
    (void)kbs_agree_key_free(tee);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* What a template asked for is what the token has. */
static void assert_attributes(struct kbs_token *t, CK_OBJECT_CLASS class, const uint8_t *cka_id,
                              const struct kbs_template *wanted)
{
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (kbs_object_find(t, class, kbs_span(cka_id, KBS_CKA_ID_BYTES), &object, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    for (CK_ULONG i = 0; i < wanted->n; i++) {
        uint8_t value[64] = {0};
        CK_ATTRIBUTE a = {wanted->a[i].type, value, wanted->a[i].ulValueLen};
        CK_RV rv = t->f->C_GetAttributeValue(t->session, object, &a, 1);

        assert_true(a.ulValueLen <= sizeof(value));
        if (rv != CKR_OK || a.ulValueLen != wanted->a[i].ulValueLen ||
            memcmp(value, wanted->a[i].pValue, a.ulValueLen) != 0) {
            fail_msg("attribute 0x%lx: %s", a.type, kbs_ckr_name(rv));
        }
    }
}

static void assert_secret(struct kbs_token *t, CK_OBJECT_CLASS class, const uint8_t *cka_id)
{
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t value[128] = {0};
    CK_ATTRIBUTE a = {CKA_VALUE, value, sizeof(value)};

    assert_int_equal(kbs_object_find(t, class, kbs_span(cka_id, KBS_CKA_ID_BYTES), &object, &err),
                     0);
    assert_int_equal(t->f->C_GetAttributeValue(t->session, object, &a, 1), CKR_ATTRIBUTE_SENSITIVE);
    for (size_t i = 0; i < sizeof(value); i++) {
        assert_int_equal(value[i], 0);
    }
}

static void test_attributes(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_token t;
    struct kbs_wire_result r;
    struct key_ref generated = key_ref(70, 1);
    struct key_ref imported = key_ref(71, 1);
    struct sent sent;
    struct kbs_wire_import import;
    uint8_t key[32] = {7};
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    r = order_generate(&w, &generated, 32);
    assert_ok(&r);
    sent = import_prepare(&w, &imported, kbs_span(key, sizeof(key)));
    import = import_order(&sent, &imported);
    r = worker_order(&w, KBS_WIRE_IMPORT, &import);
    assert_ok(&r);
    assert_int_equal(worker_stop(&w), 0);

    inside_open(&t, &d);
    for (int i = 0; i < 2; i++) {
        struct kbs_template wanted = {.n = 0};
        const struct key_ref *k = i == 0 ? &generated : &imported;

        kbs_cka_id(k->id, k->version, cka_id);
        kbs_template_secret_key(&wanted, CKK_AES, true, true, KBS_USAGE_NONE);
        kbs_template_bool(&wanted, CKA_MODIFIABLE, false);
        /* SoftHSM does not know how long a key is that it unwrapped. */
        kbs_template_number(&wanted, CKA_VALUE_LEN,
                            i == 0 || strcmp(kind->name, "softhsm") != 0 ? 32 : 0);
        kbs_template_bytes(&wanted, CKA_LABEL, kbs_span_str(k->kid));
        assert_attributes(&t, CKO_SECRET_KEY, cka_id, &wanted);
        assert_secret(&t, CKO_SECRET_KEY, cka_id);
    }
    for (int i = 0; i < 2; i++) {
        struct kbs_template public_key = {.n = 0};
        struct kbs_template private_key = {.n = 0};

        kbs_service_cka_id(i == 0 ? KBS_PURPOSE_IMPORT : KBS_PURPOSE_SIGN_TOKEN, 1, cka_id);
        kbs_template_ec_pair(&public_key, &private_key, KBS_CURVE_P256, true,
                             i == 0 ? KBS_USAGE_DERIVE : KBS_USAGE_SIGN);
        kbs_template_bool(&private_key, CKA_MODIFIABLE, false);
        assert_attributes(&t, CKO_PRIVATE_KEY, cka_id, &private_key);
        assert_secret(&t, CKO_PRIVATE_KEY, cka_id);
    }
    for (int i = 0; i < 2; i++) {
        struct kbs_template wanted = {.n = 0};

        kbs_service_cka_id(i == 0 ? KBS_PURPOSE_CARD : KBS_PURPOSE_WRAP_CATALOG, 1, cka_id);
        kbs_template_secret_key(&wanted, i == 0 ? CKK_GENERIC_SECRET : CKK_AES, true, false,
                                i == 0 ? KBS_USAGE_SIGN : KBS_USAGE_WRAP | KBS_USAGE_UNWRAP);
        kbs_template_number(&wanted, CKA_VALUE_LEN, 32);
        kbs_template_bool(&wanted, CKA_MODIFIABLE, false);
        assert_attributes(&t, CKO_SECRET_KEY, cka_id, &wanted);
        assert_secret(&t, CKO_SECRET_KEY, cka_id);
    }
    /* Two keys, the card and the wrapping key, seven pairs. */
    assert_int_equal(count_objects(&t, true), 4 + 2 * 7);
    kbs_token_close(&t);
    dir_remove(&d);
}

/* The private half of a service key is gone: a second public half would make both unusable. */
static void test_half_a_service_pair(void **state)
{
    struct token_dir d;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_answer answer = KBS_ANSWER;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_ULONG before;
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    kbs_service_cka_id(KBS_PURPOSE_IMPORT, 1, cka_id);
    assert_int_equal(
        kbs_object_find(&t, CKO_PRIVATE_KEY, kbs_span(cka_id, sizeof(cka_id)), &object, &err), 0);
    assert_int_equal(t.f->C_DestroyObject(t.session, object), CKR_OK);
    before = count_objects(&t, true);
    assert_int_equal(kbs_service_generate(&t,
                                          &(struct kbs_wire_generate){.purpose = KBS_PURPOSE_IMPORT,
                                                                      .key_version = 1},
                                          &answer, &err),
                     -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(count_objects(&t, true), before);
    kbs_buf_deinit(&answer.body);
    kbs_token_close(&t);
    dir_remove(&d);
}

/* N releases, good and bad ones, leave no session object behind; nor do probe, import and
 * generation. */
static void test_no_session_object_stays(void **state)
{
    struct token_dir d;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ladder *ladder = calloc(1, sizeof(*ladder));
    struct kbs_cards *cards = NULL;
    struct key_ref resident = key_ref(80, 1);
    struct key_ref wrapped = key_ref(81, 1);
    struct kbs_agree_key *tee = tee_new(KBS_CURVE_P256);
    struct kbs_answer answer = KBS_ANSWER;
    CK_ULONG before;

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    assert_int_equal(kbs_ladder_probe(ladder, &t, false, &err), 0);
    before = count_objects(&t, false);
    {
        KBS_AUTO_SCRATCH scratch = {.token = &t}; /* the detector detects */
        CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
        assert_int_equal(kbs_kcv_session_key(&scratch, &object, &err), 0);
        assert_int_equal(count_objects(&t, false), before + 1);
    }
    assert_int_equal(kbs_cards_new(&cards, &err), 0);
    for (int i = 0; i < 2; i++) {
        struct key_ref *k = i == 0 ? &resident : &wrapped;
        struct kbs_wire_generate generate = generate_order(k, 32);
        struct kbs_wire_result result;

        generate.storage = i == 0 ? KBS_STORAGE_RESIDENT : KBS_STORAGE_WRAPPED;
        kbs_buf_clear(&answer.body);
        if (kbs_keys_generate(&t, &generate, &answer, &err) != 0) {
            fail_msg("%s", err.detail);
        }
        result.body = kbs_buf_span(&answer.body);
        key_made(k, &result);
        for (int n = 0; n < 30; n++) {
            struct kbs_wire_release order =
                release_order(k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);

            kbs_buf_clear(&answer.body);
            if (kbs_release(&t, ladder, cards, &order, &answer, &err) != 0) {
                fail_msg("%s", err.detail);
            }
        }
        assert_int_equal(count_objects(&t, false), before);
    }

    /* A failure between two session objects: the key is gone when it is to be wrapped. */
    struct kbs_wire_release order =
        release_order(&resident, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    destroy_key(&t, &resident);
    kbs_handles_forget(&t);
    assert_int_equal(kbs_release(&t, ladder, cards, &order, &answer, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(count_objects(&t, false), before);
    assert_int_equal(t.destroy_failures, 0);
    assert_true(t.objects_made > 60);
    kbs_buf_deinit(&answer.body);
    cards = kbs_cards_free(cards);
    (void)kbs_agree_key_free(tee);
    kbs_token_close(&t);
    free(ladder);
    dir_remove(&d);
}

/* A key that may be read is not used, and a handle that means another object is noticed. */
static void test_read_back_fails_closed(void **state)
{
    struct token_dir d;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span cka_id = KBS_SPAN_LIT("nine");
    uint8_t value[32] = {1};

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    {
        KBS_AUTO_SCRATCH scratch = {.token = &t};
        struct kbs_template readable = {.n = 0};
        struct kbs_template good = {.n = 0};
        struct kbs_template other = {.n = 0};
        CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

        kbs_template_number(&readable, CKA_CLASS, CKO_SECRET_KEY);
        kbs_template_number(&readable, CKA_KEY_TYPE, CKK_AES);
        kbs_template_bool(&readable, CKA_TOKEN, false);
        kbs_template_bool(&readable, CKA_SENSITIVE, false);
        kbs_template_bool(&readable, CKA_EXTRACTABLE, true);
        kbs_template_bytes(&readable, CKA_ID, cka_id);
        kbs_template_bytes(&readable, CKA_VALUE, kbs_span(value, sizeof(value)));
        assert_int_equal(kbs_scratch_create(&scratch, &readable, &object, &err), 0);
        assert_int_equal(kbs_object_check_key(&t, object, CKO_SECRET_KEY, cka_id, true, &err), -1);
        assert_int_equal(err.category, KBS_INTERNAL);

        /* As openCryptoki after C_UnwrapKey: asked for, not set, and mended. */
        err = KBS_ERROR_NONE;
        kbs_template_secret_key(&good, CKK_AES, false, true, KBS_USAGE_NONE);
        assert_int_equal(kbs_object_check_template(&t, object, &good, &err), 0);
        assert_int_equal(kbs_object_check_key(&t, object, CKO_SECRET_KEY, cka_id, true, &err), 0);
        kbs_template_number(&other, CKA_KEY_TYPE, CKK_GENERIC_SECRET);
        assert_int_equal(kbs_object_check_template(&t, object, &other, &err), -1);
        assert_int_equal(err.category, KBS_INTERNAL);

        err = KBS_ERROR_NONE;
        kbs_template_bytes(&good, CKA_ID, cka_id);
        kbs_template_bytes(&good, CKA_VALUE, kbs_span(value, sizeof(value)));
        assert_int_equal(kbs_scratch_create(&scratch, &good, &object, &err), 0);
        assert_int_equal(kbs_object_check_key(&t, object, CKO_SECRET_KEY, cka_id, true, &err), 0);
        assert_int_equal(kbs_object_check_key(&t, object, CKO_SECRET_KEY, cka_id, false, &err), -1);
        assert_int_equal(
            kbs_object_check_key(&t, object, CKO_SECRET_KEY, KBS_SPAN_LIT("another"), true, &err),
            -1);
        assert_int_equal(kbs_ckr_class(&err, t.quirk), KBS_CKR_STALE);
    }
    kbs_token_close(&t);
    dir_remove(&d);
}

/* What the quirk table says of handles, which spares the check of a cached one. */
static void test_handles_are_unique(void **state)
{
    struct token_dir d;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE last = CK_INVALID_HANDLE;

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    if (!t.quirk->handles_are_unique) {
        kbs_token_close(&t);
        dir_remove(&d);
        skip();
    }
    for (int i = 0; i < 200; i++) { /* session and token objects in turn, each destroyed at once */
        KBS_AUTO_SCRATCH scratch = {.token = &t};
        struct kbs_template key = {.n = 0};
        CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

        kbs_template_secret_key(&key, CKK_AES, i % 2 == 0, true, KBS_USAGE_NONE);
        kbs_template_number(&key, CKA_VALUE_LEN, 32);
        assert_int_equal(kbs_scratch_generate(&scratch, CKM_AES_KEY_GEN, &key, &object, &err), 0);
        assert_true(object > last);
        last = object;
    }
    kbs_token_close(&t);
    dir_remove(&d);
}

static void assert_class(const char *function, CK_RV rv, const struct kbs_quirk *token,
                         enum kbs_ckr_class class)
{
    if (kbs_ckr_lookup(function, rv, token) != class) {
        fail_msg("%s %s", function, kbs_ckr_name(rv));
    }
}

static void test_ckr_classes(void **state)
{
    const struct kbs_quirk *softhsm = kbs_quirk_find("SoftHSM project", "SoftHSM v2");
    const struct kbs_quirk *nss = kbs_quirk_find("Mozilla Foundation", "NSS 3");
    struct kbs_buf table = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_class("C_X", CKR_USER_ALREADY_LOGGED_IN, NULL, KBS_CKR_REQUEST);
    assert_class("C_X", CKR_DEVICE_MEMORY, NULL, KBS_CKR_CAPACITY);
    assert_class("C_X", CKR_PIN_LOCKED, NULL, KBS_CKR_OPERATOR);
    assert_class("C_X", CKR_KEY_HANDLE_INVALID, NULL, KBS_CKR_STALE);
    assert_class("C_X", CKR_USER_NOT_LOGGED_IN, NULL, KBS_CKR_LOGGED_OUT);
    assert_class("C_X", CKR_DEVICE_REMOVED, NULL, KBS_CKR_DEVICE);
    assert_class("C_X", CKR_SESSION_COUNT, NULL, KBS_CKR_CAPACITY);
    assert_class("C_X", CKR_MECHANISM_INVALID, NULL, KBS_CKR_REQUEST);
    assert_class("C_X", CKR_VENDOR_DEFINED | 17, NULL, KBS_CKR_AMBIGUOUS);
    assert_class("C_X", CKR_OK, NULL, KBS_CKR_OK);
    /* By function: an answer to C_Login that cannot be read is not tried again. */
    assert_class("C_Login", CKR_VENDOR_DEFINED | 17, NULL, KBS_CKR_OPERATOR);
    assert_class("C_Login", 0x7777, NULL, KBS_CKR_OPERATOR);
    assert_class("C_Login", CKR_DEVICE_ERROR, NULL, KBS_CKR_DEVICE);
    assert_class("C_Login", CKR_GENERAL_ERROR, NULL, KBS_CKR_AMBIGUOUS);
    assert_class("C_WrapKey", CKR_GENERAL_ERROR, softhsm, KBS_CKR_AMBIGUOUS);
    assert_class("C_UnwrapKey", CKR_WRAPPED_KEY_INVALID, nss, KBS_CKR_BYTES);
    assert_class("C_UnwrapKey", CKR_MECHANISM_INVALID, nss, KBS_CKR_REQUEST);
    /* By token. */
    assert_class("C_Login", CKR_GENERAL_ERROR, softhsm, KBS_CKR_DEVICE);
    assert_class("C_UnwrapKey", CKR_GENERAL_ERROR, softhsm, KBS_CKR_BYTES);
    assert_class("C_UnwrapKey", CKR_GENERAL_ERROR, nss, KBS_CKR_AMBIGUOUS);

    assert_int_equal(kbs_ckr_fail(&err, CKR_SESSION_COUNT, "C_OpenSession", 1), -1);
    assert_int_equal(err.category, KBS_BUSY);
    assert_false(kbs_ckr_is_fatal(&err, NULL));
    assert_int_equal(kbs_ckr_fail(&err, CKR_DEVICE_ERROR, "C_Sign", 1), -1);
    assert_int_equal(err.category, KBS_TOKEN_DOWN);
    assert_true(kbs_ckr_is_fatal(&err, NULL));
    assert_string_equal(kbs_ckr_name(CKR_PIN_INCORRECT), "CKR_PIN_INCORRECT");
    kbs_ckr_print(&table);
    print_message("%s", kbs_buf_cstr(&table));
    assert_false(table.failed);
    kbs_buf_deinit(&table);
}

/* Not an assertion: warm latency through the channel, for the record. */
static void test_latency(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;
    struct key_ref k = key_ref(90, 1);

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    r = order_generate(&w, &k, 32);
    assert_ok(&r);
    for (enum kbs_curve curve = KBS_CURVE_P256; curve <= KBS_CURVE_P521; curve++) {
        struct kbs_agree_key *tee = tee_new(curve);

        for (unsigned int format = KBS_FORMAT_JOSE; format <= KBS_FORMAT_COSE; format++) {
            struct kbs_wire_release order =
                release_order(&k, kbs_agree_key_public(tee), (enum kbs_format)format);
            uint64_t best = UINT64_MAX;
            uint64_t sum = 0;

            for (int i = 0; i < 20; i++) {
                uint64_t start = kbs_clock_mono_ns();
                uint64_t took;

                r = worker_order(&w, KBS_WIRE_RELEASE, &order);
                took = kbs_clock_mono_ns() - start;
                assert_ok(&r);
                best = took < best ? took : best;
                sum += took;
            }
            print_message("%s %s %s: best %.2f ms, mean %.2f ms\n", kind->name,
                          kbs_curve_jose_name(curve), kbs_format_name((enum kbs_format)format),
                          (double)best / 1e6, (double)sum / 20e6);
        }
        (void)kbs_agree_key_free(tee);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ckr_classes),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_init_of_a_token_that_is_there),
        cmocka_unit_test(test_half_a_service_pair),
        cmocka_unit_test(test_generate_and_release),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_release_refusals),
        cmocka_unit_test(test_generate_refusals),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_import_refusals),
        cmocka_unit_test(test_sign_ear),
        cmocka_unit_test(test_wrong_pin),
        cmocka_unit_test(test_bad_configuration),
        cmocka_unit_test(test_unlocked_memory),
        cmocka_unit_test(test_ambiguous_uri),
        cmocka_unit_test(test_not_on_the_list),
        cmocka_unit_test(test_malformed_message),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_keys_change_under_a_lane),
        cmocka_unit_test(test_nothing_in_memory),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_no_session_object_stays),
        cmocka_unit_test(test_read_back_fails_closed),
        cmocka_unit_test(test_handles_are_unique),
        cmocka_unit_test(test_latency),
    };

    if (argc < 2 || !harness_select(argv[1])) {
        (void)fprintf(stderr, "skipped: the module of %s is not installed\n",
                      argc > 1 ? argv[1] : "?");
        return 77;
    }
    if (argc > 2) {
        cmocka_set_test_filter(argv[2]);
    }
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
