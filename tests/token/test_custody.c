/*
 * Custody: the orders of a key's life, in both storages, against real tokens (argument: softhsm or
 * nss). What each order does, what each refuses, and that a blob of one road opens on no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "harness.h"
#include "hsm/card.h"
#include "hsm/catalog.h"
#include "hsm/ckr.h"
#include "hsm/ladder.h"
#include "hsm/receive.h"
#include "hsm/serve.h"
#include "hsm/service.h"
#include "jose/read/jwt.h"
#include "jose/write/jose.h"

/* Initialised once, with all service keys; never used by a test itself. */
static struct token_dir template_dir;

static const struct start_options admin_lane = {.duty = KBS_DUTY_ADMIN};
static const struct start_options guest_lane = {.duty = KBS_DUTY_RELEASE};

static struct kbs_agree_key *tee_new(void)
{
    struct kbs_agree_key *tee = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &tee, &err), 0);
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

/* Releases k in both recipient formats and looks at what comes out. */
static void release_both(struct worker *w, const struct key_ref *k)
{
    struct kbs_agree_key *tee = tee_new();

    for (unsigned int format = KBS_FORMAT_JOSE; format <= KBS_FORMAT_COSE; format++) {
        KBS_AUTO_SECRET opened = NULL;
        struct kbs_wire_release order =
            release_order(k, kbs_agree_key_public(tee), (enum kbs_format)format);
        struct kbs_wire_result r = worker_order(w, KBS_WIRE_RELEASE, &order);

        assert_category(&r, KBS_OK);
        open_released(tee, &order, &r, &opened);
        key_check(k, kbs_secret_span(opened));
    }
    (void)kbs_agree_key_free(tee);
}

/* One release of k, by whatever; its category. */
static enum kbs_category release_one(struct worker *w, const struct key_ref *k)
{
    struct kbs_agree_key *tee = tee_new();
    struct kbs_wire_release order = release_order(k, kbs_agree_key_public(tee), KBS_FORMAT_JOSE);
    enum kbs_category category =
        (enum kbs_category)worker_order(w, KBS_WIRE_RELEASE, &order).category;

    (void)kbs_agree_key_free(tee);
    return category;
}

static struct key_ref generate(struct worker *w, uint8_t n, enum kbs_storage storage,
                               enum kbs_key_alg alg, uint32_t bytes)
{
    struct key_ref k = key_ref(n, 1);
    struct kbs_wire_generate order = generate_order(&k, bytes);
    struct kbs_wire_result r;

    order.storage = (uint8_t)storage;
    order.alg = (uint8_t)alg;
    r = worker_order(w, KBS_WIRE_GENERATE, &order);
    assert_category(&r, KBS_OK);
    key_made(&k, &r);
    return k;
}

static struct kbs_card card_of(const struct key_ref *k)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_card card;
    struct kbs_span mac;

    if (kbs_card_get(kbs_span(k->card, sizeof(k->card)), &card, &mac, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    return card;
}

/* ---- making ---- */

static const struct {
    enum kbs_key_alg alg;
    uint32_t bytes;
} sizes[] = {{KBS_KEY_ALG_AES, 16},     {KBS_KEY_ALG_AES, 24},     {KBS_KEY_ALG_AES, 32},
             {KBS_KEY_ALG_GENERIC, 16}, {KBS_KEY_ALG_GENERIC, 24}, {KBS_KEY_ALG_GENERIC, 32},
             {KBS_KEY_ALG_GENERIC, 40}, {KBS_KEY_ALG_GENERIC, 64}};

static void check_card(const struct key_ref *k, enum kbs_storage storage,
                       enum kbs_provenance provenance)
{
    struct kbs_card card = card_of(k);
    uint8_t digest[KBS_SHA256_BYTES];

    assert_int_equal(card.purpose, KBS_PURPOSE_RELEASE);
    assert_int_equal(card.storage, storage);
    assert_int_equal(card.alg, k->alg);
    assert_int_equal(card.bytes, k->bytes);
    assert_int_equal(card.provenance, provenance);
    assert_int_equal(card.wrap_version, storage == KBS_STORAGE_WRAPPED ? 1 : 0);
    assert_int_equal(card.created_s, 1790000000);
    assert_memory_equal(card.key_id, k->id, sizeof(k->id));
    assert_memory_equal(card.policy, POLICY, 32);
    kbs_sha256(kbs_span_str(k->kid), digest);
    assert_memory_equal(card.kid, digest, sizeof(digest));
    assert_int_equal(k->blob_len, storage == KBS_STORAGE_WRAPPED ? k->bytes + 8 : 0);
}

static void test_generate(void **state)
{
    struct token_dir d;
    struct worker admin;
    struct worker guest;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    for (unsigned int storage = KBS_STORAGE_RESIDENT; storage <= KBS_STORAGE_WRAPPED; storage++) {
        for (uint8_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct key_ref k = generate(&admin, (uint8_t)(10 * storage + i),
                                        (enum kbs_storage)storage, sizes[i].alg, sizes[i].bytes);

            assert_int_equal(k.alg, sizes[i].alg);
            assert_int_equal(k.bytes, sizes[i].bytes);
            assert_int_equal(k.mac, k.bytes < 32 && !kind->short_kcv ? KBS_KCV_AES_CMAC
                                                                     : KBS_KCV_HMAC_SHA256);
            check_card(&k, (enum kbs_storage)storage, KBS_PROVENANCE_GENERATED);
            release_both(&guest, &k);
            release_both(&admin, &k);
        }
    }
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

static void test_import(void **state)
{
    struct token_dir d;
    struct worker w;
    uint8_t key[64];

    (void)state;
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] = (uint8_t)(7 * i + 5);
    }
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (unsigned int storage = KBS_STORAGE_RESIDENT; storage <= KBS_STORAGE_WRAPPED; storage++) {
        for (uint8_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct key_ref k = key_ref((uint8_t)(10 * storage + i), 1);
            struct sent sent = sent_make(worker_describe(&w).import_public, "kbs-import-v1",
                                         kbs_span_str(k.kid), kbs_span(key, sizes[i].bytes));
            struct kbs_wire_import order = import_order(&sent, &k);
            struct kbs_wire_result r;

            order.storage = (uint8_t)storage;
            order.alg = (uint8_t)sizes[i].alg;
            r = worker_order(&w, KBS_WIRE_IMPORT, &order);
            assert_category(&r, KBS_OK);
            assert_non_null(strstr(w.last_deed, "op=import outcome=done"));
            key_made(&k, &r);
            key_check(&k, kbs_span(key, sizes[i].bytes));
            check_card(&k, (enum kbs_storage)storage, KBS_PROVENANCE_IMPORTED);
            release_both(&w, &k);
        }
    }
    struct key_ref k = key_ref(99, 1);
    struct sent sent = sent_make(worker_describe(&w).import_public, "kbs-import-v1",
                                 kbs_span_str(k.kid), kbs_span(key, 40));
    struct kbs_wire_import order = import_order(&sent, &k); /* no AES key has 40 bytes */
    struct kbs_wire_result r = worker_order(&w, KBS_WIRE_IMPORT, &order);
    assert_category(&r, KBS_INPUT);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- cards ---- */

/* No byte of a card may be another one. */
static void test_card_flips(void **state)
{
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (unsigned int storage = KBS_STORAGE_RESIDENT; storage <= KBS_STORAGE_WRAPPED; storage++) {
        struct key_ref k =
            generate(&w, (uint8_t)storage, (enum kbs_storage)storage, KBS_KEY_ALG_AES, 32);
        unsigned int denied = 0;

        for (size_t i = 0; i < sizeof(k.card); i++) {
            enum kbs_category category;

            k.card[i] ^= (uint8_t)(1u << (i % 8));
            category = release_one(&w, &k);
            if (category != KBS_DENIED && category != KBS_INPUT) {
                fail_msg("byte %zu: %s", i, kbs_category_name(category));
            }
            denied += category == KBS_DENIED;
            k.card[i] ^= (uint8_t)(1u << (i % 8));
        }
        print_message("%s: %u of %zu flips are cards of nobody, the others no cards\n",
                      kbs_storage_name((enum kbs_storage)storage), denied, sizeof(k.card));
        for (size_t i = 0; i < k.blob_len; i++) {
            k.blob[i] ^= 1;
            assert_int_equal(release_one(&w, &k), KBS_DENIED);
            k.blob[i] ^= 1;
        }
        release_both(&w, &k);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Another token's card for a key of the same name as number 3 of this one. */
static void another_tokens_card(struct worker *w)
{
    struct token_dir d;
    struct worker other;
    struct key_ref k;

    dir_new(&d);
    worker_start(&other, &d, &(struct start_options){.init = true, .so_pin = SO_PIN "\n"});
    order_service_keys(&other);
    k = generate(&other, 3, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);
    assert_int_equal(release_one(&other, &k), KBS_OK);
    assert_int_equal(release_one(w, &k), KBS_DENIED);
    assert_int_equal(worker_stop(&other), 0);
    dir_remove(&d);
}

static void test_card_swaps(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref a;
    struct key_ref b;
    struct key_ref resident;
    struct key_ref mixed;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    a = generate(&w, 1, KBS_STORAGE_WRAPPED, KBS_KEY_ALG_AES, 32);
    b = generate(&w, 2, KBS_STORAGE_WRAPPED, KBS_KEY_ALG_AES, 32);
    resident = generate(&w, 3, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);

    mixed = a; /* a's card with b's blob */
    memcpy(mixed.blob, b.blob, sizeof(b.blob));
    assert_int_equal(release_one(&w, &mixed), KBS_DENIED);
    mixed = a; /* a's card and blob under b's name */
    memcpy(mixed.kid, b.kid, sizeof(b.kid));
    assert_int_equal(release_one(&w, &mixed), KBS_DENIED);
    mixed = a; /* and as another version of it */
    (void)snprintf(mixed.kid, sizeof(mixed.kid), "default/key/nr-1/v2");
    assert_int_equal(release_one(&w, &mixed), KBS_DENIED);
    mixed = a;
    mixed.blob_len = 0;
    assert_int_equal(release_one(&w, &mixed), KBS_DENIED);
    mixed = resident; /* a resident key takes no blob */
    memcpy(mixed.blob, a.blob, sizeof(a.blob));
    mixed.blob_len = a.blob_len;
    assert_int_equal(release_one(&w, &mixed), KBS_DENIED);

    if (!kind->slots) { /* openCryptoki has one at a time */
        another_tokens_card(&w);
    }

    release_both(&w, &a);
    release_both(&w, &b);
    release_both(&w, &resident);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Cards of this very token, but for another road. */
static void test_card_purposes(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    struct key_ref k;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    k = generate(&w, 1, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);
    inside_open(&t, &d);
    for (unsigned int purpose = 1; purpose < KBS_PURPOSE_COUNT; purpose++) {
        struct key_ref forged = k;
        struct kbs_card card = card_of(&k);

        card.purpose = (enum kbs_purpose)purpose;
        if (card.purpose == KBS_PURPOSE_SEAL) { /* what else a sealed secret's card says */
            card.storage = KBS_STORAGE_SEALED;
            card.alg = KBS_KEY_ALG_SECRET;
            card.wrap_version = 1;
            card.cka_id_len = 0;
            memset(card.cka_id, 0, sizeof(card.cka_id));
        }
        if (kbs_card_make(&t, &card, forged.card, &err) != 0) {
            fail_msg("%s: %s", kbs_purpose_name(card.purpose), err.detail);
        }
        assert_int_equal(release_one(&w, &forged),
                         purpose == KBS_PURPOSE_RELEASE ? KBS_OK : KBS_DENIED);
    }
    kbs_token_close(&t);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* The higher of the two floors counts. */
static void test_floors(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref k = key_ref(1, 1);
    struct kbs_wire_generate order = generate_order(&k, 32);
    struct kbs_wire_result r;
    bool in_token = kind->best_locality == KBS_LOCALITY_TOKEN;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    order.floor = KBS_LOCALITY_TOKEN;
    r = worker_order(&w, KBS_WIRE_GENERATE, &order);
    assert_category(&r, KBS_OK);
    key_made(&k, &r);
    /* release_one() orders with floor transport, which may not lower the card's. */
    assert_int_equal(release_one(&w, &k), in_token ? KBS_OK : KBS_UNSUPPORTED);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- the later life ---- */

static void test_recard(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref k;
    struct key_ref recarded;
    struct kbs_wire_result r;
    uint8_t policy[32] = {9};
    bool in_token = kind->best_locality == KBS_LOCALITY_TOKEN;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (unsigned int storage = KBS_STORAGE_RESIDENT; storage <= KBS_STORAGE_WRAPPED; storage++) {
        k = generate(&w, (uint8_t)storage, (enum kbs_storage)storage, KBS_KEY_ALG_AES, 32);
        const struct kbs_wire_recard good = {.order = KBS_SPAN_LIT(ORDER),
                                             .card = kbs_span(k.card, sizeof(k.card)),
                                             .floor = KBS_LOCALITY_TOKEN,
                                             .policy = kbs_span(policy, sizeof(policy))};
        struct kbs_wire_recard bad = good;

        r = worker_order(&w, KBS_WIRE_RECARD, &good);
        assert_category(&r, KBS_OK);
        assert_int_equal(r.body.len, KBS_CARD_BYTES);
        assert_non_null(strstr(w.last_deed, "op=recard outcome=done"));
        assert_non_null(strstr(w.last_deed, "kid_sha256="));
        recarded = k;
        memcpy(recarded.card, r.body.p, KBS_CARD_BYTES);
        assert_int_equal(card_of(&recarded).floor, KBS_LOCALITY_TOKEN);
        assert_memory_equal(card_of(&recarded).policy, policy, sizeof(policy));
        assert_memory_equal(card_of(&recarded).kid, card_of(&k).kid, 32);
        assert_memory_equal(card_of(&recarded).blob, card_of(&k).blob, 32);
        assert_int_equal(release_one(&w, &recarded), in_token ? KBS_OK : KBS_UNSUPPORTED);

        bad.flags = KBS_CARD_POP_REQUIRED; /* such an order does not say that there was one */
        bad.floor = KBS_LOCALITY_WORKER;
        r = worker_order(&w, KBS_WIRE_RECARD, &bad);
        assert_category(&r, KBS_OK);
        memcpy(recarded.card, r.body.p, KBS_CARD_BYTES);
        assert_int_equal(release_one(&w, &recarded), KBS_DENIED);
        bad.flags = 8;
        r = worker_order(&w, KBS_WIRE_RECARD, &bad);
        assert_category(&r, KBS_INPUT);
        bad = good;
        bad.floor = 9;
        r = worker_order(&w, KBS_WIRE_RECARD, &bad);
        assert_category(&r, KBS_INPUT);
        bad = good;
        bad.policy.len = 31;
        r = worker_order(&w, KBS_WIRE_RECARD, &bad);
        assert_category(&r, KBS_INPUT);
        k.card[200] ^= 1;
        r = worker_order(&w, KBS_WIRE_RECARD, &good);
        assert_category(&r, KBS_DENIED);
        assert_non_null(strstr(w.last_deed, "op=recard outcome=denied"));
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static struct kbs_wire_result destroy(struct worker *w, enum kbs_purpose purpose,
                                      const struct key_ref *k, uint32_t version)
{
    struct kbs_wire_destroy order = {.order = KBS_SPAN_LIT(ORDER),
                                     .purpose = (uint8_t)purpose,
                                     .card = k != NULL ? kbs_span(k->card, sizeof(k->card))
                                                       : KBS_SPAN_EMPTY,
                                     .key_version = version};

    return worker_order(w, KBS_WIRE_DESTROY, &order);
}

/* Rotation of the wrapping key under lanes that run, and the end of the old one. */
static void test_rewrap(void **state)
{
    struct token_dir d;
    struct worker admin;
    struct worker guest;
    struct key_ref k;
    struct key_ref old;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    for (uint8_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t version = 1u + i; /* the newest */
        struct kbs_wire_rewrap_catalog order;
        enum kbs_kcv_mac mac;

        k = generate(&admin, i, KBS_STORAGE_WRAPPED, sizes[i].alg, sizes[i].bytes);
        assert_int_equal(card_of(&k).wrap_version, version);
        mac = k.mac;
        old = k;
        release_both(&guest, &k);
        r = order_service_version(&admin, KBS_PURPOSE_WRAP_CATALOG, version);
        assert_category(&r, KBS_CONFLICT);
        r = order_service_version(&admin, KBS_PURPOSE_WRAP_CATALOG, version + 2);
        assert_category(&r, KBS_CONFLICT);
        r = order_service_version(&admin, KBS_PURPOSE_WRAP_CATALOG, version + 1);
        assert_category(&r, KBS_OK);
        assert_int_equal(worker_describe(&guest).wrap_version, version + 1); /* seen at once */
        release_both(&guest, &k);

        order = (struct kbs_wire_rewrap_catalog){.order = KBS_SPAN_LIT(ORDER),
                                                 .card = kbs_span(old.card, sizeof(old.card)),
                                                 .blob = kbs_span(old.blob, old.blob_len)};
        r = worker_order(&admin, KBS_WIRE_REWRAP_CATALOG, &order);
        assert_category(&r, KBS_OK);
        assert_non_null(strstr(admin.last_deed, "op=rewrap outcome=done"));
        key_made(&k, &r);
        assert_int_equal(k.mac, mac);
        assert_memory_equal(k.kcv, old.kcv, sizeof(k.kcv));
        assert_int_equal(card_of(&k).wrap_version, version + 1);
        release_both(&guest, &k);
        release_both(&guest, &old);

        r = destroy(&admin, KBS_PURPOSE_WRAP_CATALOG, NULL, version + 1);
        assert_category(&r, KBS_CONFLICT);
        r = destroy(&admin, KBS_PURPOSE_WRAP_CATALOG, NULL, version);
        assert_category(&r, KBS_OK);
        r = destroy(&admin, KBS_PURPOSE_WRAP_CATALOG, NULL, version);
        assert_category(&r, KBS_MISSING);
        assert_int_equal(release_one(&guest, &old), KBS_MISSING);
        r = worker_order(&admin, KBS_WIRE_REWRAP_CATALOG, &order);
        assert_category(&r, KBS_MISSING);
        release_both(&guest, &k);
    }
    struct kbs_wire_rewrap_catalog order = {.order = KBS_SPAN_LIT(ORDER),
                                            .card = kbs_span(k.card, sizeof(k.card)),
                                            .blob = kbs_span(old.blob, old.blob_len)};
    r = worker_order(&admin, KBS_WIRE_REWRAP_CATALOG, &order);
    assert_category(&r, KBS_DENIED); /* another blob than the card's */
    k = generate(&admin, 200, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);
    order.card = kbs_span(k.card, sizeof(k.card));
    r = worker_order(&admin, KBS_WIRE_REWRAP_CATALOG, &order);
    assert_category(&r, KBS_INPUT);
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

static void test_seal_versions(void **state)
{
    struct token_dir d;
    struct worker admin;
    struct worker guest;
    struct kbs_wire_described described;
    struct kbs_wire_result r;
    uint8_t point[65];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    described = worker_describe(&guest);
    assert_int_equal(described.seal_version, 1);
    assert_int_equal(described.seal_public.len, 65);
    r = order_service_version(&admin, KBS_PURPOSE_SEAL, 2);
    assert_category(&r, KBS_OK);
    memcpy(point, r.body.p, sizeof(point));
    described = worker_describe(&guest);
    assert_int_equal(described.seal_version, 2);
    assert_memory_equal(described.seal_public.p, point, sizeof(point));
    r = destroy(&admin, KBS_PURPOSE_SEAL, NULL, 2);
    assert_category(&r, KBS_CONFLICT);
    r = destroy(&admin, KBS_PURPOSE_SEAL, NULL, 1);
    assert_category(&r, KBS_OK);
    r = destroy(&admin, KBS_PURPOSE_SEAL, NULL, 1);
    assert_category(&r, KBS_MISSING);
    assert_int_equal(worker_describe(&guest).seal_version, 2);
    /* Purposes without versions. */
    r = order_service_version(&admin, KBS_PURPOSE_CARD, 2);
    assert_category(&r, KBS_INPUT);
    r = order_service_version(&admin, KBS_PURPOSE_CARD, 0);
    assert_category(&r, KBS_INPUT);
    r = order_service_version(&admin, KBS_PURPOSE_CARD, 1);
    assert_category(&r, KBS_CONFLICT);
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

/* ---- the key that tokens are signed with ---- */

static struct kbs_wire_result sign_generate(struct worker *w, uint32_t version, uint8_t curve,
                                            int64_t after_s)
{
    const struct kbs_wire_generate order = {.order = KBS_SPAN_LIT(ORDER),
                                            .purpose = KBS_PURPOSE_SIGN_TOKEN,
                                            .key_version = version,
                                            .curve = curve,
                                            .from_s = (uint64_t)(kbs_clock_unix_s() + after_s)};

    return worker_order(w, KBS_WIRE_GENERATE, &order);
}

/* A token by `w` is by that version, as `described` has it, and verifies. */
static void expect_signed_by(struct worker *w, const struct kbs_wire_described *described,
                             uint16_t n, const char *alg)
{
    const struct kbs_wire_sign_key key = described_sign(described, n);
    struct kbs_jws_key verifier = {.kind = KBS_JWS_KEY_EC};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct kbs_wire_result r;
    struct kbs_span said;
    json_t *payload = NULL;
    char kid[44];

    must(kbs_ec_point_get((enum kbs_curve)key.curve, key.point, &verifier.ec, &err), &err);
    verifier.algs = kbs_jws_key_algs(&verifier);
    kbs_jose_thumbprint(&verifier.ec, kid);
    r = worker_order(w, KBS_WIRE_SIGN_EAR,
                     &(struct kbs_wire_sign_ear){.claims = KBS_SPAN_LIT("{\"iss\":\"kbs-hsm\"}")});
    assert_category(&r, KBS_OK);
    must(kbs_jws_split(r.body, KBS_JWS_ALGS_ALL, &jws, &err), &err);
    assert_int_equal(kbs_json_get_string(jws.header, "alg", &said, &err), 0);
    assert_true(kbs_span_equal_str(said, alg));
    assert_true(kbs_span_equal_str(jws.kid, kid));
    must(kbs_jws_verify(&jws, &verifier, &payload, &err), &err);
    json_decref(payload);
    kbs_jose_jws_deinit(&jws);
}

static void expect_versions(struct worker *w, const uint32_t *versions, uint16_t n)
{
    const struct kbs_wire_described described = worker_describe(w);

    assert_int_equal(described.sign_keys.count, n);
    for (uint16_t i = 0; i < n; i++) {
        assert_int_equal(described_sign(&described, i).version, versions[i]);
    }
}

/* What DESCRIBE said, kept beyond the next answer. */
struct described_copy {
    struct kbs_channel_msg msg;
    struct kbs_wire_described d;
};

static void describe_keep(struct worker *w, struct described_copy *ret)
{
    ret->d = worker_describe(w);
    ret->msg = w->answer_msg;
    w->answer_msg = KBS_CHANNEL_MSG;
}

/*
 * A guest lane that runs all the time: it publishes a new version at once, signs with it when its time
 * has come, and goes on when the version that it knows is destroyed.
 */
static void test_sign_versions(void **state)
{
    struct token_dir d;
    struct worker admin;
    struct worker guest;
    struct described_copy known;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    r = sign_generate(&admin, 2, KBS_CURVE_P384, 3600);
    assert_category(&r, KBS_OK);
    assert_int_equal(r.body.len, 97);
    expect_versions(&guest, (const uint32_t[]){1, 2}, 2);
    expect_versions(&admin, (const uint32_t[]){1, 2}, 2);
    describe_keep(&guest, &known);
    assert_int_equal(described_sign(&known.d, 0).from_s, 0);
    assert_in_range(described_sign(&known.d, 1).from_s, kbs_clock_unix_s() + 3500,
                    kbs_clock_unix_s() + 3600);
    expect_signed_by(&guest, &known.d, 0, "ES256"); /* the second one's time has not come */
    kbs_channel_msg_deinit(&known.msg);
    r = destroy(&admin, KBS_PURPOSE_SIGN_TOKEN, NULL, 1);
    assert_category(&r, KBS_CONFLICT);
    r = destroy(&admin, KBS_PURPOSE_SIGN_TOKEN, NULL, 2);
    assert_category(&r, KBS_CONFLICT);

    r = sign_generate(&admin, 3, KBS_CURVE_P384, 0);
    assert_category(&r, KBS_OK);
    expect_versions(&guest, (const uint32_t[]){1, 2, 3}, 3);
    describe_keep(&guest, &known);
    expect_signed_by(&guest, &known.d, 2, "ES384");
    kbs_channel_msg_deinit(&known.msg);
    for (uint32_t version = 1; version <= 2; version++) {
        r = destroy(&admin, KBS_PURPOSE_SIGN_TOKEN, NULL, version);
        assert_category(&r, KBS_OK);
    }
    expect_versions(&guest, (const uint32_t[]){3}, 1);

    r = sign_generate(&admin, 4, KBS_CURVE_P256, 0);
    assert_category(&r, KBS_OK);
    r = destroy(&admin, KBS_PURPOSE_SIGN_TOKEN, NULL, 3);
    assert_category(&r, KBS_OK);
    describe_keep(&admin, &known);
    expect_signed_by(&guest, &known.d, 0, "ES256"); /* what it remembered is gone */
    kbs_channel_msg_deinit(&known.msg);
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

static void test_sign_refusals(void **state)
{
    static const struct {
        uint32_t version;
        uint8_t curve;
        int64_t after_s;
        enum kbs_category category;
    } cases[] = {
        {2, KBS_CURVE_NONE, 0, KBS_INPUT},
        {2, KBS_CURVE_P521, 0, KBS_INPUT},
        {2, 255, 0, KBS_INPUT},
        {2, KBS_CURVE_P256, KBS_LIMIT_SIGN_AFTER_S + 3600, KBS_INPUT},
        {0, KBS_CURVE_P256, 0, KBS_INPUT},
        {1, KBS_CURVE_P256, 0, KBS_CONFLICT},
        {3, KBS_CURVE_P256, 0, KBS_CONFLICT},
    };
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r = sign_generate(&w, cases[i].version, cases[i].curve, cases[i].after_s);
        assert_category(&r, cases[i].category);
    }
    for (uint32_t version = 2; version <= KBS_LIMIT_SIGN_VERSIONS; version++) {
        r = sign_generate(&w, version, KBS_CURVE_P256, 3600);
        assert_category(&r, KBS_OK);
    }
    r = sign_generate(&w, KBS_LIMIT_SIGN_VERSIONS + 1, KBS_CURVE_P256, 0);
    assert_category(&r, KBS_CONFLICT);
    assert_int_equal(worker_describe(&w).sign_keys.count, KBS_LIMIT_SIGN_VERSIONS);
    r = destroy(&w, KBS_PURPOSE_SIGN_TOKEN, NULL, 99);
    assert_category(&r, KBS_MISSING);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_destroy(void **state)
{
    struct token_dir d;
    struct worker admin;
    struct worker guest;
    struct key_ref k;
    struct key_ref wrapped;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    k = generate(&admin, 1, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);
    wrapped = generate(&admin, 2, KBS_STORAGE_WRAPPED, KBS_KEY_ALG_AES, 32);
    release_both(&guest, &k);
    r = destroy(&admin, KBS_PURPOSE_RELEASE, &k, 0);
    assert_category(&r, KBS_OK);
    assert_non_null(strstr(admin.last_deed, "op=destroy outcome=done"));
    assert_non_null(strstr(admin.last_deed, "cka_id=0101010101"));
    assert_int_equal(release_one(&guest, &k), KBS_MISSING);
    assert_int_equal(release_one(&admin, &k), KBS_MISSING);
    r = destroy(&admin, KBS_PURPOSE_RELEASE, &k, 0);
    assert_category(&r, KBS_MISSING); /* told as it is */
    assert_non_null(strstr(admin.last_deed, "op=destroy outcome=missing"));
    r = destroy(&admin, KBS_PURPOSE_RELEASE, &wrapped, 0);
    assert_category(&r, KBS_OK); /* the token has nothing of it: its blob is the store's to erase */
    release_both(&guest, &wrapped);

    r = destroy(&admin, KBS_PURPOSE_RELEASE, NULL, 0);
    assert_category(&r, KBS_INPUT);
    k.card[190] ^= 1;
    r = destroy(&admin, KBS_PURPOSE_RELEASE, &k, 0);
    assert_category(&r, KBS_DENIED);
    for (unsigned int purpose = 0; purpose <= KBS_PURPOSE_COUNT; purpose++) {
        if (purpose != KBS_PURPOSE_RELEASE && purpose != KBS_PURPOSE_WRAP_CATALOG &&
            purpose != KBS_PURPOSE_SEAL && purpose != KBS_PURPOSE_SIGN_TOKEN &&
            purpose != KBS_PURPOSE_TLS) {
            r = destroy(&admin, (enum kbs_purpose)purpose, NULL, 1);
            assert_category(&r, KBS_INPUT);
        }
    }
    r = destroy(&admin, KBS_PURPOSE_WRAP_CATALOG, NULL, 0);
    assert_category(&r, KBS_INPUT);
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

/* ---- keys that somebody else put in the place of ours ---- */

struct replacement {
    struct kbs_span cka_id;
    const char *label;
    bool sensitive;
    unsigned int usage; /* bits of enum kbs_usage */
};

/* The secret key of that CKA_ID gives way to an extractable one of a known value. */
static void replace_key(const struct token_dir *d, const struct replacement *by)
{
    static const uint8_t value[32] = {1, 2, 3};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_template key = {.n = 0};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct kbs_token t;

    inside_open(&t, d);
    assert_int_equal(kbs_object_find(&t, CKO_SECRET_KEY, by->cka_id, &object, &err), 0);
    assert_int_equal(kbs_object_destroy(&t, object, &err), 0);
    kbs_template_number(&key, CKA_CLASS, CKO_SECRET_KEY);
    kbs_template_number(&key, CKA_KEY_TYPE, CKK_AES);
    kbs_template_bool(&key, CKA_TOKEN, true);
    kbs_template_bool(&key, CKA_PRIVATE, true);
    kbs_template_bool(&key, CKA_SENSITIVE, by->sensitive);
    kbs_template_bool(&key, CKA_EXTRACTABLE, true);
    kbs_template_bool(&key, CKA_WRAP, (by->usage & KBS_USAGE_WRAP) != 0);
    kbs_template_bool(&key, CKA_UNWRAP, (by->usage & KBS_USAGE_UNWRAP) != 0);
    kbs_template_bytes(&key, CKA_ID, by->cka_id);
    kbs_template_bytes(&key, CKA_LABEL, kbs_span_str(by->label));
    kbs_template_bytes(&key, CKA_VALUE, kbs_span(value, sizeof(value)));
    assert_int_equal(t.f->C_CreateObject(t.session, key.a, key.n, &object), CKR_OK);
    kbs_token_close(&t);
}

/* Such a key is refused each time, not only when it is looked up. */
static void test_replaced_keys(void **state)
{
    struct token_dir d;
    struct worker w;
    struct key_ref k;
    struct key_ref wrapped = key_ref(2, 1);
    struct kbs_wire_generate generate_wrapped = generate_order(&wrapped, 32);
    uint8_t service_id[KBS_CKA_ID_BYTES];
    uint8_t key_id[KBS_CKA_ID_BYTES];

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    k = generate(&w, 1, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);
    assert_int_equal(worker_stop(&w), 0);
    kbs_cka_id(k.id, 1, key_id);
    replace_key(&d,
                &(struct replacement){.cka_id = kbs_span(key_id, sizeof(key_id)), .label = k.kid});
    kbs_service_cka_id(KBS_PURPOSE_WRAP_CATALOG, 1, service_id);
    replace_key(&d, &(struct replacement){.cka_id = kbs_span(service_id, sizeof(service_id)),
                                          .label = "kbs-hsm/wrap-catalog",
                                          .sensitive = true,
                                          .usage = KBS_USAGE_WRAP | KBS_USAGE_UNWRAP});
    worker_start(&w, &d, &admin_lane);
    generate_wrapped.storage = KBS_STORAGE_WRAPPED;
    for (size_t i = 0; i < 3; i++) {
        struct kbs_wire_result r = worker_order(&w, KBS_WIRE_GENERATE, &generate_wrapped);

        assert_category(&r, KBS_INTERNAL);
        assert_int_equal(release_one(&w, &k), KBS_INTERNAL);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/*
 * One version too many is refused, and old ones can still be destroyed. On the mock alone: it is
 * not a matter of the token, and 256 keys take others long.
 */
static void test_version_limit(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;

    (void)state;
    if (!kind->mock) {
        skip();
    }
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    for (uint32_t version = 2; version <= KBS_LIMIT_KEY_VERSIONS; version++) {
        r = order_service_version(&w, KBS_PURPOSE_WRAP_CATALOG, version);
        assert_category(&r, KBS_OK);
    }
    r = order_service_version(&w, KBS_PURPOSE_WRAP_CATALOG, KBS_LIMIT_KEY_VERSIONS + 1);
    assert_category(&r, KBS_CONFLICT);
    assert_int_equal(worker_describe(&w).wrap_version, KBS_LIMIT_KEY_VERSIONS);
    r = destroy(&w, KBS_PURPOSE_WRAP_CATALOG, NULL, 1);
    assert_category(&r, KBS_OK);
    r = order_service_version(&w, KBS_PURPOSE_WRAP_CATALOG, KBS_LIMIT_KEY_VERSIONS + 1);
    assert_category(&r, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- adoption ---- */

/* A key as somebody else would make it. */
struct foreign {
    CK_KEY_TYPE type;
    const char *label;
    const char *id; /* hex is not needed: text */
    size_t bytes;
    bool readable;
    bool confined;
    bool trusted_only;
};

static uint8_t foreign_value[64];

static void foreign_make(struct kbs_token *t, const struct foreign *f)
{
    struct kbs_template key = {.n = 0};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    kbs_template_number(&key, CKA_CLASS, CKO_SECRET_KEY);
    kbs_template_number(&key, CKA_KEY_TYPE, f->type);
    kbs_template_bool(&key, CKA_TOKEN, true);
    kbs_template_bool(&key, CKA_PRIVATE, true);
    kbs_template_bool(&key, CKA_SENSITIVE, !f->readable);
    kbs_template_bool(&key, CKA_EXTRACTABLE, !f->confined);
    kbs_template_bool(&key, CKA_ENCRYPT, true);
    kbs_template_bool(&key, CKA_DECRYPT, true);
    kbs_template_bytes(&key, CKA_LABEL, kbs_span_str(f->label));
    kbs_template_bytes(&key, CKA_ID, kbs_span_str(f->id));
    kbs_template_bytes(&key, CKA_VALUE, kbs_span(foreign_value, f->bytes));
    if (f->trusted_only) {
        kbs_template_bool(&key, CKA_WRAP_WITH_TRUSTED, true);
    }
    rv = t->f->C_CreateObject(t->session, key.a, key.n, &object);
    if (rv != CKR_OK && !(kind->no_des && f->type == CKK_DES3)) {
        fail_msg("%s: %s", f->label, kbs_ckr_name(rv));
    }
}

static struct kbs_wire_adopt adopt_order(const struct key_ref *k, const char *uri)
{
    return (struct kbs_wire_adopt){.order = KBS_SPAN_LIT(ORDER),
                                   .key_id = kbs_span(k->id, sizeof(k->id)),
                                   .key_version = k->version,
                                   .kid = kbs_span_str(k->kid),
                                   .floor = KBS_LOCALITY_TRANSPORT,
                                   .policy = KBS_SPAN_LIT(POLICY),
                                   .created = 1790000000,
                                   .uri = kbs_span_str(uri)};
}

static const struct foreign foreign_keys[] = {
    {.type = CKK_AES, .label = "plain", .id = "a", .bytes = 32},
    {.type = CKK_AES, .label = "short", .id = "short-16", .bytes = 16},
    {.type = CKK_GENERIC_SECRET,
     .label = "long",
     .id = "an id of thirty-two bytes, whole",
     .bytes = 64},
    {.type = CKK_AES, .label = "twin", .id = "twin-1", .bytes = 32},
    {.type = CKK_AES, .label = "twin", .id = "twin-2", .bytes = 32},
    {.type = CKK_AES, .label = "same-1", .id = "same", .bytes = 32},
    {.type = CKK_GENERIC_SECRET, .label = "same-2", .id = "same", .bytes = 32},
    {.type = CKK_AES, .label = "readable", .id = "readable", .bytes = 32, .readable = true},
    {.type = CKK_AES, .label = "confined", .id = "confined", .bytes = 32, .confined = true},
    {.type = CKK_GENERIC_SECRET, .label = "odd", .id = "odd", .bytes = 20},
    {.type = CKK_GENERIC_SECRET, .label = "tiny", .id = "tiny", .bytes = 8},
    {.type = CKK_DES3, .label = "des", .id = "des", .bytes = 24},
    {.type = CKK_AES, .label = "no-id", .id = "", .bytes = 32},
    {.type = CKK_AES, .label = "long-id", .id = "an id of thirty-three bytes, whole", .bytes = 32},
};

static void foreign_dir(struct token_dir *d)
{
    struct kbs_token t;

    for (size_t i = 0; i < sizeof(foreign_value); i++) {
        foreign_value[i] = (uint8_t)(11 * i + 3);
    }
    dir_copy(&template_dir, d);
    inside_open(&t, d);
    for (size_t i = 0; i < sizeof(foreign_keys) / sizeof(foreign_keys[0]); i++) {
        foreign_make(&t, &foreign_keys[i]);
    }
    if (!kind->nss) { /* NSS does not know that attribute */
        foreign_make(&t, &(struct foreign){.type = CKK_AES,
                                           .label = "trusted",
                                           .id = "trusted",
                                           .bytes = 32,
                                           .trusted_only = true});
    }
    kbs_token_close(&t);
}

static void assert_deed_cka_id(const struct worker *w, const char *id)
{
    struct kbs_buf wanted = KBS_BUF(128);

    kbs_buf_put_str(&wanted, "cka_id=");
    kbs_hex_put(&wanted, kbs_span_str(id));
    kbs_buf_put_u8(&wanted, ' ');
    assert_non_null(strstr(w->last_deed, kbs_buf_cstr(&wanted)));
    kbs_buf_deinit(&wanted);
}

static void test_adopt(void **state)
{
    static const struct {
        const char *uri;
        size_t bytes;
        enum kbs_key_alg alg;
        const char *id;
    } cases[] = {
        {"pkcs11:id=a", 32, KBS_KEY_ALG_AES, "a"},
        {"pkcs11:object=short;type=secret-key", 16, KBS_KEY_ALG_AES, "short-16"},
        {"pkcs11:token=kbs-test;object=long;type=secret-key", 64, KBS_KEY_ALG_GENERIC,
         "an id of thirty-two bytes, whole"},
        {"pkcs11:object=twin;id=twin-2", 32, KBS_KEY_ALG_AES, "twin-2"},
    };
    struct token_dir d;
    struct worker admin;
    struct worker guest;

    (void)state;
    foreign_dir(&d);
    worker_start(&admin, &d, &admin_lane);
    worker_start(&guest, &d, &guest_lane);
    for (uint8_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct key_ref k = key_ref(i, 1);
        struct kbs_wire_adopt order = adopt_order(&k, cases[i].uri);
        struct kbs_wire_result r = worker_order(&admin, KBS_WIRE_ADOPT, &order);
        struct kbs_card card;
        char note[256];

        assert_category(&r, KBS_OK);
        assert_non_null(strstr(admin.last_deed, "op=adopt outcome=done"));
        assert_deed_cka_id(&admin, cases[i].id);
        assert_int_equal(r.locality, kind->best_locality);
        assert_true(r.rung.len > 0);
        assert_true(kbs_span_to_cstr(r.detail, note, sizeof(note)));
        assert_non_null(strstr(note, "may encrypt"));
        assert_non_null(strstr(note, "is modifiable"));
        if (i == 0) {
            print_message("%s: %s\n", kind->name, note);
        }
        key_made(&k, &r);
        key_check(&k, kbs_span(foreign_value, cases[i].bytes));
        card = card_of(&k);
        assert_int_equal(card.provenance, KBS_PROVENANCE_ADOPTED);
        assert_int_equal(card.storage, KBS_STORAGE_RESIDENT);
        assert_int_equal(card.alg, cases[i].alg);
        assert_true(kbs_span_equal_str(kbs_span(card.cka_id, card.cka_id_len), cases[i].id));
        release_both(&guest, &k);
        r = destroy(&admin, KBS_PURPOSE_RELEASE, &k, 0);
        assert_category(&r, KBS_OK);
        assert_int_equal(release_one(&guest, &k), KBS_MISSING);
    }
    assert_int_equal(worker_stop(&guest), 0);
    assert_int_equal(worker_stop(&admin), 0);
    dir_remove(&d);
}

/*
 * An adopted key is known by its CKA_ID alone. When somebody gives it to a second key, a lane that
 * has to look finds no key, rather than one of the two; or, on NSS, one of another length.
 */
static void test_adopted_twin(void **state)
{
    struct key_ref k = key_ref(1, 1);
    struct kbs_wire_adopt order = adopt_order(&k, "pkcs11:id=a");
    struct kbs_wire_result r;
    struct token_dir d;
    struct kbs_token t;
    struct worker w;

    (void)state;
    foreign_dir(&d);
    worker_start(&w, &d, &admin_lane);
    r = worker_order(&w, KBS_WIRE_ADOPT, &order);
    assert_category(&r, KBS_OK);
    key_made(&k, &r);
    release_both(&w, &k);
    assert_int_equal(worker_stop(&w), 0);
    inside_open(&t, &d);
    foreign_make(&t,
                 &(struct foreign){.type = CKK_AES, .label = "intruder", .id = "a", .bytes = 16});
    kbs_token_close(&t);
    worker_start(&w, &d, &admin_lane);
    assert_int_equal(release_one(&w, &k), KBS_INTERNAL);
    if (!kind->nss) { /* nor is one of them destroyed; NSS has only one: the other was overwritten */
        r = destroy(&w, KBS_PURPOSE_RELEASE, &k, 0);
        assert_category(&r, KBS_INTERNAL);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- public halves ---- */

/* The public half of a service's key goes, and that of another pair is in its place. */
static void public_half_replace(struct kbs_token *t, enum kbs_purpose purpose)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_scratch scratch = {.token = t};
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    CK_OBJECT_HANDLE old = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE made[2];

    kbs_service_cka_id(purpose, 1, cka_id);
    assert_int_equal(
        kbs_object_find(t, CKO_PUBLIC_KEY, kbs_span(cka_id, sizeof(cka_id)), &old, &err), 0);
    assert_int_equal(kbs_object_destroy(t, old, &err), 0);
    kbs_template_ec_pair(&public_key, &private_key, KBS_CURVE_P256, true, KBS_USAGE_DERIVE);
    kbs_template_bytes(&public_key, CKA_ID, kbs_span(cka_id, sizeof(cka_id)));
    kbs_template_bytes(&private_key, CKA_ID, KBS_SPAN_LIT("intruder"));
    assert_int_equal(
        kbs_scratch_generate_ec(&scratch, &public_key, &private_key, &made[0], &made[1], &err), 0);
    kbs_scratch_keep(&scratch, made[0]);
    kbs_scratch_keep(&scratch, made[1]);
    kbs_scratch_deinit(&scratch);
}

static void test_foreign_public_half(void **state)
{
    struct kbs_wire_described described;
    struct kbs_wire_result r;
    struct token_dir d;
    struct kbs_token t;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    public_half_replace(&t, KBS_PURPOSE_IMPORT);
    public_half_replace(&t, KBS_PURPOSE_SEAL);
    public_half_replace(&t, KBS_PURPOSE_SIGN_TOKEN);
    kbs_token_close(&t);
    worker_start(&w, &d, &admin_lane);
    described = worker_describe(&w);
    assert_int_equal(described.sign_keys.count, 0);
    assert_int_equal(described.import_public.len, 0);
    assert_int_equal(described.seal_public.len, 0);
    assert_int_equal(described.seal_version, 1);
    assert_int_equal(described.row_public.len, 65);
    r = order_service_version(&w, KBS_PURPOSE_SEAL, 2); /* the way out */
    assert_category(&r, KBS_OK);
    assert_int_equal(worker_describe(&w).seal_public.len, 65);
    r = sign_generate(&w, 2, KBS_CURVE_P256, 0);
    assert_category(&r, KBS_OK);
    expect_versions(&w, (const uint32_t[]){2}, 1);
    r = destroy(&w, KBS_PURPOSE_SIGN_TOKEN, NULL, 1);
    assert_category(&r, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

static void test_adopt_refusals(void **state)
{
    static const struct {
        const char *uri;
        enum kbs_category category;
        bool not_nss;
    } cases[] = {
        {"pkcs11:object=twin", KBS_CONFLICT, false},
        /* Its id is also another key's. In NSS the second took the place of the first. */
        {"pkcs11:object=same-1", KBS_CONFLICT, true},
        {"pkcs11:id=same", KBS_CONFLICT, true},
        {"pkcs11:object=readable", KBS_UNPROCESSABLE, true}, /* NSS makes token keys sensitive */
        {"pkcs11:object=confined", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=odd", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=tiny", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=des", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=no-id", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=long-id", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=nobody", KBS_MISSING, false},
        {"pkcs11:object=kbs-hsm%2fcard", KBS_UNPROCESSABLE, false}, /* the service's own */
        {"pkcs11:object=kbs-hsm%2fwrap-catalog", KBS_UNPROCESSABLE, false},
        {"pkcs11:object=default%2fkey%2fnr-9%2fv1", KBS_CONFLICT, false}, /* made here */
        {"pkcs11:object=plain;type=private", KBS_INPUT, false},
        {"pkcs11:", KBS_INPUT, false},
        {"pkcs11:type=secret-key", KBS_INPUT, false},
        {"pkcs11:object=", KBS_INPUT, false},
        {"pkcs11:object=plain;token=other", KBS_INPUT, false},
        {"pkcs11:object=plain;slot-id=1", KBS_INPUT, false},
        {"pkcs11:object=plain?pin-value=1234", KBS_INPUT, false},
        {"plain", KBS_INPUT, false},
        {"", KBS_INPUT, false},
    };
    struct token_dir d;
    struct worker w;
    struct key_ref k = key_ref(1, 1);
    struct kbs_wire_adopt order;
    struct kbs_wire_result r;

    (void)state;
    foreign_dir(&d);
    worker_start(&w, &d, &admin_lane);
    (void)generate(&w, 9, KBS_STORAGE_RESIDENT, KBS_KEY_ALG_AES, 32);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if ((kind->nss && cases[i].not_nss) ||
            (kind->no_des && strcmp(cases[i].uri, "pkcs11:object=des") == 0)) {
            continue;
        }
        order = adopt_order(&k, cases[i].uri);
        r = worker_order(&w, KBS_WIRE_ADOPT, &order);
        print_message("%-45s %s: %.*s\n", cases[i].uri,
                      kbs_category_name((enum kbs_category)r.category), (int)r.detail.len,
                      (const char *)r.detail.p);
        assert_category(&r, cases[i].category);
        assert_int_equal(r.body.len, 0);
        assert_non_null(strstr(w.last_deed, "op=adopt outcome="));
    }
    if (!kind->nss) {
        order = adopt_order(&k, "pkcs11:object=trusted");
        r = worker_order(&w, KBS_WIRE_ADOPT, &order);
        assert_category(&r, KBS_UNPROCESSABLE);
    }
    order = adopt_order(&k, "pkcs11:object=plain");
    order.floor = KBS_LOCALITY_TOKEN;
    r = worker_order(&w, KBS_WIRE_ADOPT, &order);
    assert_category(&r, kind->best_locality == KBS_LOCALITY_TOKEN ? KBS_OK : KBS_UNSUPPORTED);
    order.key_version = 2;
    r = worker_order(&w, KBS_WIRE_ADOPT, &order);
    assert_category(&r, KBS_INPUT);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* ---- roads ---- */

#define ROADS 4u
static const enum kbs_purpose roads[ROADS] = {KBS_PURPOSE_IMPORT, KBS_PURPOSE_SEAL,
                                              KBS_PURPOSE_REQUEST, KBS_PURPOSE_WRAP_CATALOG};

/* Does the blob open on a road? By the very functions that orders use. */
static bool road_opens(struct kbs_token *t, const struct kbs_ladder *ladder, enum kbs_purpose road,
                       const struct sent *blob, struct kbs_span kid)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template key = {.n = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    struct kbs_span wrapped = kbs_span(blob->wrapped, blob->wrapped_len);

    if (road == KBS_PURPOSE_WRAP_CATALOG) {
        return kbs_catalog_unwrap(&scratch, 1, wrapped, KBS_KEY_ALG_AES, 32, &object, &err) == 0;
    }
    if (kbs_receive_kek(&scratch, ladder, road, 1, &blob->epk, kid, KBS_LOCALITY_TRANSPORT, &kek,
                        NULL, &err) != 0) {
        fail_msg("%s: %s", kbs_purpose_name(road), err.detail);
    }
    kbs_template_secret_key(&key, CKK_AES, false, true, KBS_USAGE_NONE);
    if (kbs_scratch_unwrap(&scratch, kek, wrapped, &key, &object, &err) == 0) {
        return true;
    }
    assert_int_equal(kbs_receive_failed(t, "the blob", &err), -1);
    assert_int_equal(err.category, KBS_UNPROCESSABLE); /* the sender's fault, not the token's */
    return false;
}

/* To the key of road `to`, with the context of road `as`. */
static struct sent road_blob(struct kbs_token *t, enum kbs_purpose to, enum kbs_purpose as,
                             struct kbs_span kid)
{
    static const uint8_t key[32] = {1, 2, 3};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf point = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    char apu[64];
    struct sent s;

    (void)snprintf(apu, sizeof(apu), "kbs-%s-v1", kbs_purpose_name(as));
    assert_int_equal(kbs_service_point(t, to == KBS_PURPOSE_WRAP_CATALOG ? KBS_PURPOSE_IMPORT : to,
                                       1, &point, &err),
                     0);
    s = sent_make(kbs_buf_span(&point), apu, kid, kbs_span(key, sizeof(key)));
    kbs_buf_deinit(&point);
    if (to == KBS_PURPOSE_WRAP_CATALOG) {
        KBS_AUTO_SCRATCH scratch = {.token = t};
        struct kbs_template made = {.n = 0};
        CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
        uint32_t version = 0;

        kbs_template_secret_key(&made, CKK_AES, false, true, KBS_USAGE_NONE);
        kbs_template_number(&made, CKA_VALUE_LEN, 32);
        assert_int_equal(kbs_scratch_generate(&scratch, CKM_AES_KEY_GEN, &made, &object, &err), 0);
        assert_int_equal(kbs_catalog_wrap(t, object, 32, s.wrapped, &s.wrapped_len, &version, &err),
                         0);
    }
    return s;
}

/* Only the diagonal opens: each blob on its own road, addressed to it and in its name. */
static void test_roads(void **state)
{
    struct token_dir d;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ladder *ladder = calloc(1, sizeof(*ladder));
    struct kbs_span kid = KBS_SPAN_LIT("default/key/a/v1");

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    assert_int_equal(kbs_ladder_probe(ladder, &t, false, &err), 0);
    print_message("%-14s %-14s opens on:", "blob to", "named");
    for (size_t road = 0; road < ROADS; road++) {
        print_message(" %12s", kbs_purpose_name(roads[road]));
    }
    print_message("\n");
    for (size_t to = 0; to < ROADS; to++) {
        for (size_t as = 0; as < ROADS; as++) {
            struct sent blob = road_blob(&t, roads[to], roads[as], kid);

            if (roads[to] == KBS_PURPOSE_WRAP_CATALOG && as != to) {
                continue; /* a wrapped key has no context but its card */
            }
            print_message("%-14s %-14s          ", kbs_purpose_name(roads[to]),
                          kbs_purpose_name(roads[as]));
            for (size_t road = 0; road < ROADS; road++) {
                bool opens = road_opens(&t, ladder, roads[road], &blob, kid);

                print_message(" %12s", opens ? "yes" : "-");
                assert_int_equal(opens, to == as && as == road);
            }
            print_message("\n");
        }
        struct sent blob = road_blob(&t, roads[to], roads[to], kid);
        if (roads[to] != KBS_PURPOSE_WRAP_CATALOG) { /* nor under another name */
            assert_false(
                road_opens(&t, ladder, roads[to], &blob, KBS_SPAN_LIT("default/key/b/v1")));
        }
    }
    kbs_token_close(&t);
    free(ladder);
    dir_remove(&d);
}

/* ---- the worker ---- */

static void test_caps(void **state)
{
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;
    struct kbs_buf text = KBS_BUF(65536);

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &admin_lane);
    r = worker_order(&w, KBS_WIRE_CAPS, NULL);
    assert_category(&r, KBS_OK);
    assert_string_equal(w.last_deed, "");
    kbs_buf_put_span(&text, r.body);
    assert_non_null(strstr(kbs_buf_cstr(&text), kind->jose_rung));
    kbs_buf_deinit(&text);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

#define WORN_OBJECTS 1000

/* Has the worker serve one order, which it answers, and the end of its channel or else its own end. */
static void worn_order(struct kbs_worker *w, bool hang_up)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    const struct kbs_wire_sign_ear order = {.claims = KBS_SPAN_LIT("{}")};
    struct kbs_wire_result r;
    int judge[2];

    assert_int_equal(kbs_channel_pair(judge, &err), 0);
    w->judge_fd = judge[1];
    assert_int_equal(kbs_channel_send(judge[0], KBS_WIRE_SIGN_EAR, 1, &order, -1,
                                      kbs_deadline_in_ms(10000), &err),
                     0);
    if (hang_up) {
        assert_int_equal(shutdown(judge[0], SHUT_WR), 0);
    }
    assert_int_equal(kbs_serve(w, &err), 0);
    assert_int_equal(kbs_channel_recv(judge[0], &m, kbs_deadline_in_ms(10000), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_RESULT, &r, &err), 0);
    assert_category(&r, KBS_OK);
    kbs_channel_msg_deinit(&m);
    kbs_io_close(&judge[0]);
    kbs_io_close(&judge[1]);
}

/* How often it has told kbsd that it is worn, and nothing else. */
static int worn_said(const struct kbs_worker *w, int control)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int n = 0;

    assert_int_equal(shutdown(w->control_fd, SHUT_WR), 0);
    while (kbs_channel_recv(control, &m, kbs_deadline_in_ms(10000), &err) == 0) {
        assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_WORN, NULL, &err), 0);
        n++;
    }
    kbs_channel_msg_deinit(&m);
    return n;
}

/*
 * A token that leaks: its worker says once that it is worn and serves on, and ends as if drained,
 * after the order at hand, when it has made twice as many objects. One that does not leak does neither.
 */
static void test_worn(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct token_dir d;
    struct kbs_worker w = {.duty = KBS_DUTY_RELEASE,
                           .sign_keys = {.purpose = KBS_PURPOSE_SIGN_TOKEN},
                           .deeds = KBS_DEEDS,
                           .worn_objects = WORN_OBJECTS};
    bool leaks = strcmp(kind->name, "softhsm") == 0;
    int control[2];

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&w.token, &d);
    assert_int_equal(w.token.quirk->leaks_objects, leaks);
    assert_int_equal(kbs_channel_pair(control, &err), 0);
    w.control_fd = control[1];
    w.token.objects_made = 0;
    worn_order(&w, true);
    assert_false(w.worn);
    for (int i = 0; i < 2; i++) {
        w.token.objects_made = WORN_OBJECTS;
        worn_order(&w, true);
        assert_int_equal(w.worn, leaks);
    }
    w.token.objects_made = 2 * (uint64_t)WORN_OBJECTS;
    worn_order(&w, !leaks);
    assert_int_equal(worn_said(&w, control[0]), leaks ? 1 : 0);
    kbs_io_close(&control[0]);
    kbs_io_close(&control[1]);
    kbs_deeds_deinit(&w.deeds);
    kbs_token_close(&w.token);
    dir_remove(&d);
}

/* The mock with one more line of configuration. */
static void mock_configure(const struct token_dir *d, const char *line)
{
    FILE *f = fopen(strchr(d->env, '=') + 1, "ae");

    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", line) > 0);
    assert_int_equal(fclose(f), 0);
}

/* A token that wants CKA_VALUE_LEN in C_UnwrapKey, as Luna before firmware 7.9.3. */
static void test_unwrap_wants_length(void **state)
{
    struct token_dir d;
    struct worker w;

    (void)state;
    if (!kind->mock) {
        skip();
    }
    dir_copy(&template_dir, &d);
    mock_configure(&d, "profile = value-len");
    worker_start(&w, &d, &admin_lane);
    for (unsigned int storage = KBS_STORAGE_RESIDENT; storage <= KBS_STORAGE_WRAPPED; storage++) {
        static const uint8_t value[24] = {1, 2, 3};
        struct key_ref k =
            generate(&w, (uint8_t)storage, (enum kbs_storage)storage, KBS_KEY_ALG_GENERIC, 40);
        struct key_ref imported = key_ref((uint8_t)(10 + storage), 1);
        struct sent sent = sent_make(worker_describe(&w).import_public, "kbs-import-v1",
                                     kbs_span_str(imported.kid), kbs_span(value, sizeof(value)));
        struct kbs_wire_import order = import_order(&sent, &imported);
        struct kbs_wire_result r;

        release_both(&w, &k);
        order.storage = (uint8_t)storage;
        r = worker_order(&w, KBS_WIRE_IMPORT, &order);
        assert_category(&r, KBS_OK);
        key_made(&imported, &r);
        key_check(&imported, kbs_span(value, sizeof(value)));
        release_both(&w, &imported);
        sent.wrapped[0] ^= 1; /* another key of that name: its blob is at fault, not the template */
        imported = key_ref((uint8_t)(20 + storage), 1);
        order = import_order(&sent, &imported);
        r = worker_order(&w, KBS_WIRE_IMPORT, &order);
        assert_category(&r, KBS_UNPROCESSABLE);
    }
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Without AES Key Wrap nothing can be known of a key: the worker says so and does not start. */
static void test_without_key_wrap(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_leaving leaving;
    struct token_dir d;
    struct worker w;

    (void)state;
    if (!kind->mock) {
        skip();
    }
    dir_copy(&template_dir, &d);
    mock_configure(&d, "profile = no-kw");
    worker_start(&w, &d, &(struct start_options){.expect_failure = true});
    assert_int_equal(w.login.ok, 1);
    assert_int_equal(kbs_channel_recv(w.control, &m, kbs_deadline_in_ms(10000), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_LEAVING, &leaving, &err), 0);
    assert_int_equal(leaving.status, KBS_EXIT_FAILURE);
    kbs_channel_msg_deinit(&m);
    assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);
    dir_remove(&d);
}

/* Without EC there are no keys of the service: the order that makes the first one says why. */
static void test_without_ec(void **state)
{
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    if (!kind->mock) {
        skip();
    }
    dir_new(&d);
    mock_configure(&d, "profile = rsa-only");
    worker_start(&w, &d, &(struct start_options){.init = true, .so_pin = SO_PIN "\n"});
    r = order_service_key(&w, KBS_PURPOSE_IMPORT);
    assert_category(&r, KBS_INTERNAL);
    assert_true(kbs_span_equal_str(r.function, "C_GenerateKeyPair"));
    assert_int_equal(r.ckr, CKR_MECHANISM_INVALID);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* What a card costs: a cold check is an HMAC in the token, a warm one is none. */
static void test_card_latency(void **state)
{
    struct token_dir d;
    struct kbs_token t;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_cards *cards = NULL;
    struct kbs_card card = {.purpose = KBS_PURPOSE_RELEASE,
                            .storage = KBS_STORAGE_RESIDENT,
                            .alg = KBS_KEY_ALG_AES,
                            .floor = KBS_LOCALITY_WORKER,
                            .provenance = KBS_PROVENANCE_GENERATED,
                            .bytes = 32,
                            .cka_id = "a",
                            .cka_id_len = 1};
    uint64_t took[2] = {0, 0};

    (void)state;
    dir_copy(&template_dir, &d);
    inside_open(&t, &d);
    assert_int_equal(kbs_cards_new(&cards, &err), 0);
    for (uint32_t i = 1; i <= 200; i++) {
        uint8_t printed[KBS_CARD_BYTES];
        struct kbs_card read;

        card.key_version = i;
        assert_int_equal(kbs_card_make(&t, &card, printed, &err), 0);
        for (int warm = 0; warm < 2; warm++) {
            uint64_t start = kbs_clock_mono_ns();
            assert_int_equal(
                kbs_card_open(&t, cards, kbs_span(printed, sizeof(printed)), &read, &err), 0);
            took[warm] += kbs_clock_mono_ns() - start;
        }
        assert_int_equal(read.key_version, i);
    }
    print_message("%s: a card costs %.1f us at first, %.2f us from then on\n", kind->name,
                  (double)took[0] / 200e3, (double)took[1] / 200e3);
    cards = kbs_cards_free(cards);
    kbs_token_close(&t);
    dir_remove(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_card_flips),
        cmocka_unit_test(test_card_swaps),
        cmocka_unit_test(test_card_purposes),
        cmocka_unit_test(test_floors),
        cmocka_unit_test(test_recard),
        cmocka_unit_test(test_rewrap),
        cmocka_unit_test(test_seal_versions),
        cmocka_unit_test(test_sign_versions),
        cmocka_unit_test(test_sign_refusals),
        cmocka_unit_test(test_destroy),
        cmocka_unit_test(test_replaced_keys),
        cmocka_unit_test(test_version_limit),
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_adopted_twin),
        cmocka_unit_test(test_adopt_refusals),
        cmocka_unit_test(test_foreign_public_half),
        cmocka_unit_test(test_roads),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_worn),
        cmocka_unit_test(test_card_latency),
        cmocka_unit_test(test_unwrap_wants_length),
        cmocka_unit_test(test_without_key_wrap),
        cmocka_unit_test(test_without_ec),
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
