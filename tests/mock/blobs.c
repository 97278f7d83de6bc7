/*
 * A flood of tampered input at one token worker: imports whose blob, ephemeral key or name was
 * changed, releases of cards and blobs with a bit flipped, to TEE keys that are no points or have
 * strange lengths, salts and formats. Each is a good order with one thing wrong. Wanted: refused as
 * what it is, the worker lives on the login it has, and between the bad ones every good release
 * opens.
 *
 *   mock_blobs TOKEN SECONDS     softhsm, nss or mock
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "jose/write/jose.h"
#include "tests/token/harness.h"

#define GOOD_EVERY 100u

struct flood {
    struct token_dir dir;
    struct worker w;
    struct key_ref keys[2]; /* a resident and a wrapped one */
    struct kbs_agree_key *tee;
    struct key_ref import;
    struct sent sent; /* as that key, and would be taken */
    unsigned int categories[KBS_CATEGORY_COUNT];
    unsigned int passed; /* tampered, and yet OK */
    unsigned int good;
};

static void flood_open(struct flood *f)
{
    static const uint8_t value[32] = {1, 2, 3};
    struct kbs_error err = KBS_ERROR_NONE;

    dir_new(&f->dir);
    worker_start(&f->w, &f->dir, &(struct start_options){.init = true});
    order_service_keys(&f->w);
    assert_int_equal(worker_stop(&f->w), 0);
    worker_start(&f->w, &f->dir, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    for (uint8_t i = 0; i < 2; i++) {
        struct kbs_wire_generate order;
        struct kbs_wire_result r;

        f->keys[i] = key_ref((uint8_t)(1 + i), 1);
        order = generate_order(&f->keys[i], 32);
        order.storage = i == 0 ? KBS_STORAGE_RESIDENT : KBS_STORAGE_WRAPPED;
        r = worker_order(&f->w, KBS_WIRE_GENERATE, &order);
        assert_int_equal(r.category, KBS_OK);
        key_made(&f->keys[i], &r);
    }
    f->import = key_ref(3, 1);
    f->sent = sent_make(worker_describe(&f->w).import_public, "kbs-import-v1",
                        kbs_span_str(f->import.kid), kbs_span(value, sizeof(value)));
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &f->tee, &err), 0);
}

static uint32_t any(uint32_t below)
{
    uint32_t v;

    kbs_random(&v, sizeof(v));
    return v % below;
}

static void flip(uint8_t *p, size_t n)
{
    p[any((uint32_t)n)] ^= (uint8_t)(1u << any(8));
}

static struct kbs_wire_result bad_import(struct flood *f)
{
    struct key_ref other = key_ref(4, 1);
    struct sent sent = f->sent;
    struct kbs_wire_import order = import_order(&sent, &f->import);

    order.storage = any(2) == 0 ? KBS_STORAGE_RESIDENT : KBS_STORAGE_WRAPPED;
    switch (any(6)) {
    case 0:
        flip(sent.wrapped, sent.wrapped_len);
        break;
    case 1:
        order.wrapped.len = any((uint32_t)sent.wrapped_len);
        break;
    case 2:
        flip(sent.epk.x, 32);
        break;
    case 3:
        flip(sent.epk.y, 32);
        break;
    case 4:
        order.epk_x.len = any(32);
        break;
    default:
        order.kid = kbs_span_str(other.kid); /* a good blob under another name */
        break;
    }
    return worker_order(&f->w, KBS_WIRE_IMPORT, &order);
}

/* The shapes of an order that are wrong whatever the key is. */
static void spoil_order(struct kbs_wire_release *order)
{
    static const uint8_t formats[] = {0, 77, 255};
    static const uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES + 1] = {0};

    switch (any(5)) {
    case 0:
        order->tee_key.len = any((uint32_t)order->tee_key.len);
        break;
    case 1:
        order->formats = kbs_span(&formats[any(sizeof(formats))], 1);
        break;
    case 2:
        order->salt = kbs_span(salt, sizeof(salt));
        break;
    case 3:
        order->card.len = any(KBS_CARD_BYTES);
        break;
    default:
        order->party_v.len = any(32);
        break;
    }
}

static struct kbs_wire_result bad_release(struct flood *f)
{
    struct key_ref key = f->keys[any(2)];
    struct kbs_wire_release order =
        release_order(&key, kbs_agree_key_public(f->tee), KBS_FORMAT_JOSE);
    uint8_t tee_key[KBS_TEE_KEY_MAX_BYTES];

    memcpy(tee_key, order.tee_key.p, order.tee_key.len);
    order.tee_key.p = tee_key;
    switch (any(4)) {
    case 0:
        flip(tee_key, order.tee_key.len);
        break;
    case 1:
        flip(key.card, sizeof(key.card));
        break;
    case 2:
        if (key.blob_len > 0) {
            flip(key.blob, key.blob_len);
        } else { /* a resident key takes none */
            order.blob = kbs_span(f->keys[1].blob, f->keys[1].blob_len);
        }
        break;
    default:
        spoil_order(&order);
        break;
    }
    return worker_order(&f->w, KBS_WIRE_RELEASE, &order);
}

static void good_release(struct flood *f)
{
    for (size_t i = 0; i < 2; i++) {
        KBS_AUTO_SECRET key = NULL;
        struct kbs_wire_release order =
            release_order(&f->keys[i], kbs_agree_key_public(f->tee), KBS_FORMAT_JOSE);
        struct kbs_wire_result r = worker_order(&f->w, KBS_WIRE_RELEASE, &order);

        assert_int_equal(r.category, KBS_OK);
        open_released(f->tee, &order, &r, &key);
        key_check(&f->keys[i], kbs_secret_span(key));
        f->good++;
    }
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct flood f = {.good = 0};
    unsigned long seconds = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned int n = 0;
    uint64_t begun;
    uint64_t end;
    bool ok;

    if (seconds == 0 || !harness_select(argv[1]) || kbs_secret_heap_init(&err) < 0) {
        (void)fprintf(stderr, "usage: mock_blobs softhsm|nss|mock SECONDS (and it is installed)\n");
        return 77;
    }
    flood_open(&f);
    begun = kbs_clock_mono_ns();
    end = begun + seconds * KBS_NS_PER_MS * 1000;
    while (kbs_clock_mono_ns() < end) {
        struct kbs_wire_result r = n % 2 == 0 ? bad_import(&f) : bad_release(&f);

        f.categories[r.category]++;
        f.passed += r.category == KBS_OK ? 1 : 0;
        if (n++ % GOOD_EVERY == 0) {
            good_release(&f);
        }
    }
    seconds = (kbs_clock_mono_ns() - begun) / KBS_NS_PER_MS;
    ok = worker_stop(&f.w) == 0; /* the one that was started, on its one login */
    (void)printf("%s: %u tampered orders at %lu a second:", argv[1], n, 1000ul * n / seconds);
    for (int c = 0; c < KBS_CATEGORY_COUNT; c++) {
        if (f.categories[c] > 0) {
            (void)printf(" %u %s,", f.categories[c], kbs_category_name((enum kbs_category)c));
        }
    }
    (void)printf(" %u good ones between them opened, %u tampered ones passed, worker %s\n", f.good,
                 f.passed, ok ? "lived" : "ended badly");
    (void)kbs_agree_key_free(f.tee);
    dir_remove(&f.dir);
    ok = ok && f.passed == 0 && f.categories[KBS_TOKEN_DOWN] == 0 &&
         f.categories[KBS_INTERNAL] == 0 && f.categories[KBS_BUSY] == 0;
    return ok ? 0 : 1;
}
