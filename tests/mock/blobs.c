/*
 * A flood of tampered input at one token worker: imports whose blob, ephemeral key or label was
 * changed, releases to TEE keys that are no points or have strange lengths, salts and formats. Each
 * is a good order with one thing wrong. Wanted: refused as what it is, the worker lives on the
 * login it has, and between the bad ones every good release opens.
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
    struct key_ref key;
    uint8_t kcv[KBS_KCV_BYTES];
    struct kbs_agree_key *tee;
    struct kbs_ec_public epk; /* of the import */
    uint8_t wrapped[40];
    unsigned int categories[KBS_CATEGORY_COUNT];
    unsigned int passed; /* tampered, and yet OK */
    unsigned int good;
};

static void flood_open(struct flood *f)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_result r;

    dir_new(&f->dir);
    worker_start(&f->w, &f->dir, &(struct start_options){.init = true});
    assert_int_equal(order_service_key(&f->w, KBS_PURPOSE_IMPORT).category, KBS_OK);
    assert_int_equal(order_service_key(&f->w, KBS_PURPOSE_SIGN_TOKEN).category, KBS_OK);
    assert_int_equal(worker_stop(&f->w), 0);
    worker_start(&f->w, &f->dir, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    f->key = key_ref(1, 1);
    r = order_generate(&f->w, &f->key, 32);
    assert_int_equal(r.category, KBS_OK);
    memcpy(f->kcv, r.body.p, sizeof(f->kcv));
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &f->tee, &err), 0);
}

/* A blob for key 2/1 that would be taken. */
static void flood_make_import(struct flood *f)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    static const uint8_t key[32] = {1, 2, 3};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_described described = worker_describe(&f->w);
    struct kbs_agree_key *sender = NULL;
    struct kbs_ec_public import_key;
    struct kbs_buf info = KBS_BUF(512);
    struct key_ref k = key_ref(2, 1);
    size_t len = 0;

    kbs_jose_other_info_put(&info, KBS_SPAN_LIT("kbs-import-v1"), kbs_span_str(k.kid));
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, described.import_public, &import_key, &err),
                     0);
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &sender, &err), 0);
    assert_int_equal(kbs_agree_ecdh(sender, &import_key, &z, &err), 0);
    assert_int_equal(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err), 0);
    assert_int_equal(
        kbs_agree_wrap(kbs_secret_span(kek), kbs_span(key, sizeof(key)), f->wrapped, &len, &err),
        0);
    f->epk = *kbs_agree_key_public(sender);
    kbs_buf_deinit(&info);
    (void)kbs_agree_key_free(sender);
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
    struct key_ref k = key_ref(2, 1);
    struct key_ref other = key_ref(3, 1);
    struct kbs_ec_public epk = f->epk;
    uint8_t wrapped[sizeof(f->wrapped)];
    struct kbs_wire_import order = {.order = KBS_SPAN_LIT(ORDER),
                                    .key_id = kbs_span(k.id, sizeof(k.id)),
                                    .key_version = 1,
                                    .label = kbs_span_str(k.kid),
                                    .epk_x = kbs_ec_x(&epk),
                                    .epk_y = kbs_ec_y(&epk),
                                    .wrapped = kbs_span(wrapped, sizeof(wrapped))};

    memcpy(wrapped, f->wrapped, sizeof(wrapped));
    switch (any(6)) {
    case 0:
        flip(wrapped, sizeof(wrapped));
        break;
    case 1:
        order.wrapped.len = any(sizeof(wrapped));
        break;
    case 2:
        flip(epk.x, 32);
        break;
    case 3:
        flip(epk.y, 32);
        break;
    case 4:
        order.epk_x.len = any(32);
        break;
    default:
        order.label = kbs_span_str(other.kid); /* a good blob under another name */
        break;
    }
    return worker_order(&f->w, KBS_WIRE_IMPORT, &order);
}

static struct kbs_wire_result bad_release(struct flood *f)
{
    static const uint8_t formats[] = {0, 77, 255};
    static const uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES + 1] = {0};
    struct kbs_ec_public tee = *kbs_agree_key_public(f->tee);
    struct kbs_wire_release order = release_order(&f->key, &tee, KBS_FORMAT_JOSE);

    switch (any(7)) {
    case 0:
        flip(tee.x, 32);
        break;
    case 1:
        flip(tee.y, 32);
        break;
    case 2:
        order.x.len = any(32);
        break;
    case 3:
        order.curve = (uint8_t)(2 + any(254));
        break;
    case 4:
        order.formats = kbs_span(&formats[any(sizeof(formats))], 1);
        break;
    case 5:
        order.salt = kbs_span(salt, sizeof(salt));
        break;
    default:
        order.party_v.len = any(32);
        break;
    }
    return worker_order(&f->w, KBS_WIRE_RELEASE, &order);
}

static void good_release(struct flood *f)
{
    KBS_AUTO_SECRET key = NULL;
    struct kbs_wire_release order =
        release_order(&f->key, kbs_agree_key_public(f->tee), KBS_FORMAT_JOSE);
    struct kbs_wire_result r = worker_order(&f->w, KBS_WIRE_RELEASE, &order);
    uint8_t kcv[KBS_KCV_BYTES];

    assert_int_equal(r.category, KBS_OK);
    open_released(f->tee, &order, &r, &key);
    kbs_agree_kcv(kbs_secret_span(key), kcv);
    assert_memory_equal(kcv, f->kcv, sizeof(kcv));
    f->good++;
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
    flood_make_import(&f);
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
