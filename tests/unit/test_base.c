/* Unit tests of src/base: the rules that everything else leans on. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/objects.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/ec.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/secret.h"
#include "base/terms.h"

static struct kbs_span text(const char *s)
{
    return kbs_span_str(s);
}

static void buf_is_capped_and_sticky(void **state)
{
    struct kbs_buf b = KBS_BUF(8);
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    kbs_buf_put_str(&b, "12345678");
    assert_int_equal(kbs_buf_check(&b, "it", &err), 0);
    assert_string_equal(kbs_buf_cstr(&b), "12345678");
    kbs_buf_put_u8(&b, 'x');
    assert_int_equal(kbs_buf_check(&b, "it", &err), -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    kbs_buf_put_str(&b, "");
    assert_true(b.failed);
    kbs_buf_clear(&b);
    kbs_buf_printf(&b, "%d", 42);
    kbs_buf_consume(&b, 1);
    assert_true(kbs_span_equal_str(kbs_buf_span(&b), "2"));
    kbs_buf_deinit(&b);
    kbs_buf_deinit(&b);
}

/* Memory that a buffer keeps is overwritten by kbs_buf_wipe(), also behind what was consumed. */
static void buf_is_wiped(void **state)
{
    struct kbs_buf b = KBS_BUF(1000);
    const uint8_t zeros[64] = {0};

    (void)state;
    for (int i = 0; i < 64; i++) {
        kbs_buf_put_u8(&b, 's');
    }
    kbs_buf_consume(&b, 60);
    kbs_buf_wipe(&b);
    assert_int_equal(b.len, 0);
    assert_non_null(b.p);
    assert_memory_equal(b.p, zeros, sizeof(zeros));
    for (int i = 0; i < 900; i++) { /* growth keeps the content */
        kbs_buf_put_u8(&b, (uint8_t)('a' + i % 26));
    }
    for (int i = 0; i < 900; i++) {
        assert_int_equal(b.p[i], 'a' + i % 26);
    }
    kbs_buf_deinit(&b);
    kbs_buf_wipe(&b); /* and one without memory */
    assert_null(b.p);
}

static void base64url_is_canonical(void **state)
{
    static const struct {
        const char *in;
        const char *out; /* NULL: refused */
    } rows[] = {{"", ""},           {"Zg", "f"},      {"Zm8", "fo"},  {"Zm9v", "foo"},
                {"Zm9vYg", "foob"}, {"Zg==", NULL},   {"Zh", NULL},   {"Zm9", NULL},
                {"Z", NULL},        {"Zm9v\n", NULL}, {"Zm 8", NULL}, {"_-8", "\xff\xef"},
                {"/+8", NULL},      {"Zm9vYg=", NULL}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kbs_buf b = KBS_BUF(64);
        int r = kbs_base64url_get(&b, text(rows[i].in));

        assert_int_equal(r, rows[i].out != NULL ? 0 : -1);
        if (r == 0) {
            struct kbs_buf again = KBS_BUF(64);

            assert_true(kbs_span_equal_str(kbs_buf_span(&b), rows[i].out));
            kbs_base64url_put(&again, kbs_buf_span(&b));
            assert_true(kbs_span_equal_str(kbs_buf_span(&again), rows[i].in));
            kbs_buf_deinit(&again);
        } else {
            assert_int_equal(b.len, 0);
        }
        kbs_buf_deinit(&b);
    }
}

static void base64_needs_its_padding(void **state)
{
    static const char *const bad[] = {
        "Zg", "Zg=", "Zg===", "Z===", "====", "Zm9=", "Zh==", "Z-==", "Zg==Zg=="};
    struct kbs_buf b = KBS_BUF(64);

    (void)state;
    assert_int_equal(kbs_base64_get(&b, text("Zm8=")), 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&b), "fo"));
    kbs_base64_put(&b, text("f"));
    assert_true(kbs_span_equal_str(kbs_buf_span(&b), "foZg=="));
    kbs_buf_deinit(&b);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(kbs_base64_get(&b, text(bad[i])), -1);
    }
    kbs_buf_deinit(&b);
}

static void every_short_text_has_one_decoding(void **state)
{
    /* All texts of up to 3 characters over the whole byte range: what decodes encodes to itself. */
    uint8_t t[3];
    struct kbs_buf b = KBS_BUF(8);
    struct kbs_buf again = KBS_BUF(8);

    (void)state;
    for (uint32_t v = 0; v < 1u << 24; v += 1 + (v >> 16) % 3) {
        t[0] = (uint8_t)v;
        t[1] = (uint8_t)(v >> 8);
        t[2] = (uint8_t)(v >> 16);
        for (size_t n = 2; n <= 3; n++) {
            kbs_buf_clear(&b);
            kbs_buf_clear(&again);
            if (kbs_base64url_get(&b, kbs_span(t, n)) == 0) {
                kbs_base64url_put(&again, kbs_buf_span(&b));
                assert_true(kbs_span_equal(kbs_buf_span(&again), kbs_span(t, n)));
            }
        }
    }
    kbs_buf_deinit(&b);
    kbs_buf_deinit(&again);
}

static void hex_is_lower_case(void **state)
{
    uint8_t out[2];
    char hex[5];

    (void)state;
    assert_int_equal(kbs_hex_get_exact(out, 2, text("0aff")), 0);
    assert_int_equal(out[0] << 8 | out[1], 0x0aff);
    assert_int_equal(kbs_hex_get_exact(out, 2, text("0aFF")), -1);
    assert_int_equal(kbs_hex_get_exact(out, 2, text("0af")), -1);
    assert_int_equal(kbs_hex_get_exact(out, 2, text("0aff00")), -1);
    kbs_hex_cstr(text("\x0a\xff"), hex, sizeof(hex));
    assert_string_equal(hex, "0aff");
    kbs_hex_cstr(text("\x0a\xff\x01"), hex, sizeof(hex)); /* cut to whole bytes */
    assert_string_equal(hex, "0aff");
    kbs_hex_cstr(text("\x0a\xff"), hex, 4);
    assert_string_equal(hex, "0a");
    kbs_hex_cstr(KBS_SPAN_EMPTY, hex, 1);
    assert_string_equal(hex, "");
}

static void json_strings_are_escaped_shortest(void **state)
{
    struct kbs_buf b = KBS_BUF(128);

    (void)state;
    kbs_json_string_put(&b, text("a\"\\\b\f\n\r\t\x01\x7f\xc3\xa9\xff\xed\xa0\x80"));
    assert_true(kbs_span_equal_str(kbs_buf_span(&b),
                                   "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f\xc3\xa9\xef\xbf\xbd"
                                   "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""));
    kbs_buf_deinit(&b);
}

static void utf8_follows_rfc_3629(void **state)
{
    static const char *const good[] = {
        "", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xc3",         "a\xe2\x82"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(kbs_utf8_valid(text(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(kbs_utf8_valid(text(bad[i])));
    }
}

static void arena_is_capped(void **state)
{
    struct kbs_arena a = KBS_ARENA(10000);
    struct kbs_span copy;

    (void)state;
    copy = kbs_arena_copy(&a, text("hello"));
    assert_true(kbs_span_equal_str(copy, "hello"));
    assert_non_null(kbs_arena_alloc(&a, 6000));
    assert_null(kbs_arena_alloc(&a, 6000));
    assert_null(kbs_arena_alloc(&a, SIZE_MAX));
    assert_non_null(kbs_arena_alloc(&a, 0));
    kbs_arena_deinit(&a);
    assert_non_null(kbs_arena_alloc(&a, 9000));
    kbs_arena_deinit(&a);
}

static void secrets_do_not_grow_or_fall_back(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_secret *s = NULL;
    struct kbs_secret *many[256] = {NULL};
    size_t made = 0;

    (void)state;
    assert_int_equal(kbs_secret_new(KBS_LIMIT_SECRET_BYTES + 1, &s, &err), -1);
    assert_int_equal(kbs_secret_new(32, &s, &err), 0);
    memset(kbs_secret_bytes(s), 0xaa, 32);
    kbs_secret_truncate(s, 8);
    assert_int_equal(kbs_secret_len(s), 8);
    assert_int_equal(kbs_secret_bytes(s)[8], 0);
    s = kbs_secret_free(s);
    while (made < 256 && kbs_secret_new(KBS_LIMIT_SECRET_BYTES, &many[made], &err) == 0) {
        made++;
    }
    assert_in_range(made, 1, 255); /* the heap is finite, and full means an error */
    assert_int_equal(err.category, KBS_BUSY);
    while (made > 0) {
        many[made - 1] = kbs_secret_free(many[made - 1]);
        made--;
    }
}

static void a_pin_is_read_without_its_line_feed(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_secret *s = NULL;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], "1234\n", 5), 5);
    (void)close(fds[1]);
    assert_int_equal(kbs_secret_read_fd(fds[0], &s, &err), 0);
    assert_true(kbs_span_equal_str(kbs_secret_span(s), "1234"));
    s = kbs_secret_free(s);
    assert_int_equal(kbs_secret_read_fd(fds[0], &s, &err), -1); /* at its end: empty */
    (void)close(fds[0]);
}

static void digests_match_fips_180(void **state)
{
    struct kbs_span abc[2] = {text("a"), text("bc")};
    struct kbs_digest d;
    struct kbs_buf b = KBS_BUF(256);
    uint8_t mac[32];

    (void)state;
    kbs_digest(KBS_HASH_SHA256, abc, 2, &d);
    kbs_hex_put(&b, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&b),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    kbs_buf_clear(&b);
    kbs_hmac_sha256(text("key"), text("The quick brown fox jumps over the lazy dog"), mac);
    kbs_hex_put(&b, kbs_span(mac, 32));
    assert_string_equal(kbs_buf_cstr(&b),
                        "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
    assert_int_equal(kbs_hash_from_name(text("sha512")), KBS_HASH_SHA512);
    assert_int_equal(kbs_hash_from_name(text("md5")), KBS_HASH_NONE);
    assert_int_equal(kbs_hash_from_name(text("none")), KBS_HASH_NONE);
    assert_true(kbs_hash_available(KBS_HASH_SHA256) && kbs_hash_available(KBS_HASH_SHA384) &&
                kbs_hash_available(KBS_HASH_SHA512));
    assert_false(kbs_hash_available(KBS_HASH_NONE));
    if (kbs_hash_available(KBS_HASH_SM3)) { /* GB/T 32905-2016, appendix A.1 */
        kbs_buf_clear(&b);
        kbs_digest(KBS_HASH_SM3, abc, 2, &d);
        kbs_hex_put(&b, kbs_digest_span(&d));
        assert_string_equal(kbs_buf_cstr(&b),
                            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
    }
    kbs_buf_deinit(&b);
}

static void points_off_their_curve_are_refused(void **state)
{
    static const char p256[] = "04"
                               "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                               "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    uint8_t point[65];
    struct kbs_ec_public k;
    struct kbs_ec_public off;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_hex_get_exact(point, 65, text(p256)), 0);
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, kbs_span(point, 65), &k, &err), 0);
    assert_int_equal(kbs_ec_public_check(&k, &err), 0);
    off = k;
    off.y[31] ^= 1;
    assert_int_equal(kbs_ec_public_check(&off, &err), -1);
    assert_int_equal(err.category, KBS_UNPROCESSABLE);
    off = (struct kbs_ec_public){.curve = KBS_CURVE_P256};
    assert_int_equal(kbs_ec_public_check(&off, &err), -1);
    memset(off.x, 0xff, 32); /* above p */
    assert_int_equal(kbs_ec_public_check(&off, &err), -1);
    off = k;
    off.curve = KBS_CURVE_P384;
    assert_int_equal(kbs_ec_public_check(&off, &err), -1);
    off.curve = (enum kbs_curve)9;
    assert_int_equal(kbs_ec_public_check(&off, &err), -1);
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, kbs_span(point, 64), &k, &err), -1);
    point[0] = 0x02;
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, kbs_span(point, 65), &k, &err), -1);
}

static void number_put(const BIGNUM *n, uint8_t *out, size_t len)
{
    assert_int_equal(BN_bn2binpad(n, out, (int)len), (int)len);
}

/* The point with the smallest x that is not 0. */
static struct kbs_ec_public smallest_point(const EC_GROUP *group, enum kbs_curve curve)
{
    struct kbs_ec_public k = {.curve = curve};
    EC_POINT *point = EC_POINT_new(group);
    BIGNUM *x = BN_new();
    BIGNUM *y = BN_new();

    do {
        assert_int_equal(BN_add_word(x, 1), 1);
    } while (EC_POINT_set_compressed_coordinates(group, point, x, 0, NULL) != 1);
    assert_int_equal(EC_POINT_get_affine_coordinates(group, point, NULL, y, NULL), 1);
    number_put(x, k.x, kbs_curve_field_bytes(curve));
    number_put(y, k.y, kbs_curve_field_bytes(curve));
    BN_free(x);
    BN_free(y);
    EC_POINT_free(point);
    return k;
}

/* Every way in which two coordinates are not a point, on every curve. */
static void only_points_of_the_curve_pass(void **state)
{
    static const struct {
        enum kbs_curve curve;
        int nid;
    } cases[] = {{KBS_CURVE_P256, NID_X9_62_prime256v1},
                 {KBS_CURVE_P384, NID_secp384r1},
                 {KBS_CURVE_P521, NID_secp521r1}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EC_GROUP *group = EC_GROUP_new_by_curve_name(cases[i].nid);
        size_t n = kbs_curve_field_bytes(cases[i].curve);
        struct kbs_ec_public k = smallest_point(group, cases[i].curve);
        struct kbs_ec_public bad = k;
        struct kbs_error err = KBS_ERROR_NONE;
        BIGNUM *p = BN_new();
        BIGNUM *v = BN_bin2bn(k.x, (int)n, NULL);

        assert_int_equal(EC_GROUP_get_curve(group, p, NULL, NULL, NULL), 1);
        assert_int_equal(kbs_ec_public_check(&k, &err), 0);
        assert_int_equal(kbs_ec_public_check(&k, &err), 0); /* with the group that was made */
        bad.y[n - 1] ^= 1; /* of another curve with the same a: an invalid curve attack */
        assert_int_equal(kbs_ec_public_check(&bad, &err), -1);
        assert_int_equal(err.category, KBS_UNPROCESSABLE);
        bad = k;
        BN_add(v, v, p); /* the same number, but not below p */
        number_put(v, bad.x, n);
        assert_int_equal(kbs_ec_public_check(&bad, &err), -1);
        bad = k;
        number_put(p, bad.y, n); /* p itself */
        assert_int_equal(kbs_ec_public_check(&bad, &err), -1);
        bad = (struct kbs_ec_public){.curve = cases[i].curve}; /* how some write infinity */
        assert_int_equal(kbs_ec_public_check(&bad, &err), -1);
        memset(bad.x, 0xff, n);
        memset(bad.y, 0xff, n);
        assert_int_equal(kbs_ec_public_check(&bad, &err), -1);
        bad = k;
        bad.curve = cases[(i + 1) % 3].curve; /* a point, but of its neighbour */
        assert_int_equal(kbs_ec_public_check(&bad, &err), -1);
        BN_free(v);
        BN_free(p);
        EC_GROUP_free(group);
    }
}

static void key_paths_follow_one_rule(void **state)
{
    static const char *const good[] = {"a/b/c", "default/key/test-1", "A_/-b/c.d"};
    static const char *const bad[] = {"",        "a/b",          "a/b/c/d", "/a/b",
                                      "a//c",    "a/b/",         ".a/b/c",  "a/../c",
                                      "a/b/c d", "a/b/\xc3\xa9", "a/b/c\"", "a\\b/c/d"};
    struct kbs_span path;
    uint32_t version = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(kbs_key_path_valid(text(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(kbs_key_path_valid(text(bad[i])));
    }
    assert_true(kbs_kid_split(text("a/b/c/v4294967295"), &path, &version));
    assert_true(kbs_span_equal_str(path, "a/b/c"));
    assert_int_equal(version, UINT32_MAX);
    assert_false(kbs_kid_split(text("a/b/c/v4294967296"), &path, &version));
    assert_false(kbs_kid_split(text("a/b/c/v0"), &path, &version));
    assert_false(kbs_kid_split(text("a/b/c/v01"), &path, &version));
    assert_false(kbs_kid_split(text("a/b/c/1"), &path, &version));
    assert_false(kbs_kid_split(text("a/b/v1"), &path, &version));
}

static void files_are_written_whole(void **state)
{
    char dir[] = "/tmp/kbs-test-XXXXXX";
    char path[64];
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf b = KBS_BUF(5);

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/f", dir);
    assert_int_equal(kbs_io_write_file(path, text("hello"), 0600, true, &err), 0);
    assert_int_equal(kbs_io_write_file(path, text("other"), 0600, true, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_io_read_file(path, &b, &err), 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&b), "hello"));
    assert_int_equal(kbs_io_write_file(path, text("longer"), 0600, false, &err), 0);
    kbs_buf_clear(&b);
    assert_int_equal(kbs_io_read_file(path, &b, &err), -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* no temporary left behind */
    kbs_buf_deinit(&b);
}

static void addresses_are_split(void **state)
{
    static const char *const bad[] = {"",      "127.0.0.1", "127.0.0.1:", ":80",
                                      "h:80x", "h:65536",   "::1:80",     "h:-1"};
    struct kbs_error err = KBS_ERROR_NONE;
    char host[64];
    uint16_t port;

    (void)state;
    assert_int_equal(kbs_io_split_address("[::1]:8080", host, &port, &err), 0);
    assert_string_equal(host, "::1");
    assert_int_equal(port, 8080);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(kbs_io_split_address(bad[i], host, &port, &err), -1);
    }
}

static void test_sign_version_at(void **state)
{
    static const struct {
        uint64_t from_s[4];
        size_t n;
        size_t at_100;
    } cases[] = {
        {{0}, 1, 0},
        {{0, 100}, 2, 1},
        {{0, 101}, 2, 0},
        {{0, 101, 100}, 3, 2},      /* the newest was wanted sooner */
        {{50, 60, 500, 400}, 4, 1}, /* two of them are to come */
        {{300, 200, 400}, 3, 1},    /* none's time has come: a clock was put back */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(kbs_sign_version_at(cases[i].from_s, cases[i].n, 100), cases[i].at_100);
    }
}

int main(void)
{
    struct kbs_error err = KBS_ERROR_NONE;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_version_at),
        cmocka_unit_test(buf_is_capped_and_sticky),
        cmocka_unit_test(buf_is_wiped),
        cmocka_unit_test(base64url_is_canonical),
        cmocka_unit_test(base64_needs_its_padding),
        cmocka_unit_test(every_short_text_has_one_decoding),
        cmocka_unit_test(hex_is_lower_case),
        cmocka_unit_test(json_strings_are_escaped_shortest),
        cmocka_unit_test(utf8_follows_rfc_3629),
        cmocka_unit_test(arena_is_capped),
        cmocka_unit_test(secrets_do_not_grow_or_fall_back),
        cmocka_unit_test(a_pin_is_read_without_its_line_feed),
        cmocka_unit_test(digests_match_fips_180),
        cmocka_unit_test(points_off_their_curve_are_refused),
        cmocka_unit_test(only_points_of_the_curve_pass),
        cmocka_unit_test(key_paths_follow_one_rule),
        cmocka_unit_test(files_are_written_whole),
        cmocka_unit_test(addresses_are_split),
    };

    if (kbs_secret_heap_init(&err) < 0) {
        return 1;
    }
    return cmocka_run_group_tests_name("unit_base", tests, NULL, NULL);
}
