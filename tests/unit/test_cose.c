/*
 * src/cose: the written bytes against the RFC's shapes and the COSE working group's examples
 * (p256-wrap-256-01 and p521-wrap-256-01, whose KDF context is our empty one), then the reader
 * against everything that is nearly such a message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agree/agree.h"
#include "base/encoding.h"
#include "cose/read/cose.h"
#include "cose/write/cose.h"

#define BYTES_MAX 8192

/* The base point of P-256 (SEC 2 section 2.4.2) as epk. */
#define GX "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
#define GY "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
#define EPK "a401022001215820" GX "225820" GY
#define KEY "5818000102030405060708090a0b0c0d0e0f1011121314151617"
#define ALG "44a101381e"
#define MINIMAL "d8608440a0f68183" ALG "a120" EPK KEY
#define FULL                                          \
    "d8608440a0f681835818a201381e0452"                \
    "64656661756c742f6e656b2f766d312f7633" /* kid */  \
    "a420" EPK "3344c0c1c2c3"              /* salt */ \
    "345264656661756c742f6e656b2f766d312f7633"        \
    "38185820000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" KEY

static struct kbs_error err;

static int set_up(void **state)
{
    (void)state;
    return kbs_secret_heap_init(&err) < 0 ? -1 : 0;
}

static void from_hex(struct kbs_buf *out, const char *hex)
{
    *out = KBS_BUF(BYTES_MAX);
    assert_int_equal(kbs_hex_get(out, kbs_span_str(hex)), 0);
}

static void assert_hex(struct kbs_buf *got, const char *hex)
{
    struct kbs_buf text = KBS_BUF(2 * BYTES_MAX);

    assert_false(got->failed);
    kbs_hex_put(&text, kbs_buf_span(got));
    assert_string_equal(kbs_buf_cstr(&text), hex);
    kbs_buf_deinit(&text);
    kbs_buf_clear(got);
}

static struct kbs_ec_public base_point(void)
{
    struct kbs_ec_public k = {.curve = KBS_CURVE_P256};

    assert_int_equal(kbs_hex_get_exact(k.x, 32, kbs_span_str(GX)), 0);
    assert_int_equal(kbs_hex_get_exact(k.y, 32, kbs_span_str(GY)), 0);
    return k;
}

/* ---- writing -------------------------------------------------------------------------- */

static void kdf_context(void **state)
{
    struct kbs_buf map = KBS_BUF(BYTES_MAX);
    struct kbs_buf out = KBS_BUF(BYTES_MAX);

    (void)state;
    kbs_cose_recipient_protected_put(&map, KBS_SPAN_EMPTY);
    kbs_cose_kdf_context_put(&out, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY, kbs_buf_span(&map));
    assert_hex(&out, "842483f6f6f683f6f6f68219010044a101381e");
    kbs_buf_clear(&map);
    kbs_cose_recipient_protected_put(&map, KBS_SPAN_LIT("kid"));
    kbs_cose_kdf_context_put(&out, KBS_SPAN_LIT("UU"), KBS_SPAN_LIT("V"), kbs_buf_span(&map));
    assert_hex(&map, "a201381e04436b6964");
    kbs_cose_recipient_protected_put(&map, KBS_SPAN_LIT("kid"));
    assert_hex(&out, "842483425555f6f683f64156f68219010049a201381e04436b6964");
    kbs_buf_deinit(&out);
    kbs_buf_deinit(&map);
}

static void messages(void **state)
{
    struct kbs_ec_public epk = base_point();
    uint8_t bytes[32];
    struct kbs_cose_recipient r = {.epk = &epk, .encrypted_key = kbs_span(bytes, 24)};
    struct kbs_buf out = KBS_BUF(BYTES_MAX);

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)i;
    }
    kbs_cose_recipient_put(&out, &r);
    assert_hex(&out, MINIMAL);
    r.kid = KBS_SPAN_LIT("default/nek/vm1/v3");
    r.party_u = r.kid;
    r.party_v = kbs_span(bytes, 32);
    r.salt = KBS_SPAN_LIT("\xc0\xc1\xc2\xc3");
    kbs_cose_recipient_put(&out, &r);
    assert_hex(&out, FULL);
    kbs_buf_deinit(&out);
}

static void small_buffers_fail(void **state)
{
    struct kbs_ec_public epk = base_point();
    struct kbs_cose_recipient r = {.epk = &epk,
                                   .kid = KBS_SPAN_LIT("a/b/c/v1"),
                                   .encrypted_key = KBS_SPAN_LIT("123456781234567812345678")};
    struct kbs_buf out = KBS_BUF(BYTES_MAX);
    static const uint8_t kid[2 * KBS_LIMIT_KID_BYTES] = {'k'};
    size_t need;

    (void)state;
    kbs_cose_recipient_put(&out, &r);
    need = out.len;
    kbs_buf_deinit(&out);
    for (size_t max = 0; max <= need; max++) {
        kbs_buf_init(&out, max);
        kbs_cose_recipient_put(&out, &r);
        assert_int_equal(out.failed, max < need);
        kbs_buf_deinit(&out);
    }
    kbs_buf_init(&out, BYTES_MAX);
    r.kid = kbs_span(kid, sizeof(kid)); /* longer than any wire kid */
    kbs_cose_recipient_put(&out, &r);
    assert_true(out.failed);
    kbs_buf_deinit(&out);
}

/* Every length at which a head changes its size, in the one place where any length can stand. */
static void heads_are_shortest(void **state)
{
    static const struct {
        size_t len;
        const char *head;
    } rows[] = {{1, "41"},       {23, "57"},        {24, "5818"},         {255, "58ff"},
                {256, "590100"}, {65535, "59ffff"}, {65536, "5a00010000"}};
    static const uint8_t zeros[65536];
    struct kbs_buf out = KBS_BUF(70000);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct kbs_buf head;

        kbs_cose_kdf_context_put(&out, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY,
                                 kbs_span(zeros, rows[i].len));
        from_hex(&head, rows[i].head);
        assert_int_equal(out.len, 14 + head.len + rows[i].len);
        assert_memory_equal(out.p + 14, head.p, head.len);
        kbs_buf_deinit(&head);
        kbs_buf_clear(&out);
    }
    kbs_buf_deinit(&out);
}

/* ---- the working group's examples: shared secret, kek and wrapped key
 * ----------------------------- */

struct example {
    enum kbs_curve curve;
    const char *pkcs8; /* DER without the public key */
    const char *x;     /* of the epk */
    const char *y;
    const char *z;
    const char *kek;
    const char *encrypted_key;
};

static const struct example examples[] = {
    {KBS_CURVE_P256,
     "3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420"
     "aff907c99f9ad3aae6c4cdf21122bce2bd68b5283e6907154ad911840fa208cf",
     "3fc1141f492fdb3b33122be61b31bafd860798db190e07831fb7a2e42713f4ca",
     "fc09d3def88ea52953b51f48955bfac1ac79b4286f0673519a4a71fc18b62869",
     "8bed545f07a7f39bd7179403c94e7d9862d0a5630217c289b8b4d953490d6d9e",
     "185e6208b1e0abee41fcd0890318ffe5320b5fb2d66b4976f7a51a9493e5b502",
     "e00e25b58aeadde5a475f1d69d2a2c199e5c1f231c5b164a"},
    {KBS_CURVE_P521,
     "3060020100301006072a8648ce3d020106052b81040023044930470201010442"
     "00085138ddabf5ca975f5860f91a08e91d6d5f9a76ad4018766a476680b55cd339e8ab6c72b5facdb2a2a50ac2"
     "5bd086647dd3e2e6e99e84ca2c3609fdf177feb26d",
     "00660166e1526532a24030c773182f1410639e4972c649cf17698935bea24fae0e20505cfd30c335da4abbb21a"
     "1ef6a7e5bfdd04d8539cbe505d24821702bf399221",
     "00204fafa97fdcf8373ab0e2ef5524cffac3fdcd02be36008371031c440c9d978be67dc99ce07a641bf443da05"
     "3bb0839e2d319725ff1f20c46c965ebfdfef8b02b4",
     "01055fa9ffa68691925434b87d513862cc91869e1431e404cebe431689ebfd93aabfe642b143585de199ef3a08"
     "aa69d1837c8a97c486a3b6375f6965c0b1ba6edbfc",
     "ce3b7a8d5a388b806f1f23baa17455de4794f109d0d61c873f9e66b256f803d8",
     "998f2525381347ff57e67c43acb867a05567ce3d9fc01336"}};

static struct kbs_agree_key *key_of_der(const char *hex)
{
    struct kbs_buf der;
    struct kbs_buf pem = KBS_BUF(BYTES_MAX);
    struct kbs_agree_key *key = NULL;

    from_hex(&der, hex);
    kbs_buf_put_str(&pem, "-----BEGIN PRIVATE KEY-----\n");
    kbs_base64_put(&pem, kbs_buf_span(&der));
    kbs_buf_put_str(&pem, "\n-----END PRIVATE KEY-----\n");
    assert_int_equal(kbs_agree_key_from_pem(kbs_buf_span(&pem), &key, &err), 0);
    kbs_buf_deinit(&pem);
    kbs_buf_deinit(&der);
    return key;
}

static void assert_secret_hex(const struct kbs_secret *got, const char *hex)
{
    struct kbs_buf want;

    from_hex(&want, hex);
    assert_true(kbs_secret_equal(kbs_secret_span(got), kbs_buf_span(&want)));
    kbs_buf_deinit(&want);
}

static void working_group_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct example *e = &examples[i];
        struct kbs_agree_key *key = key_of_der(e->pkcs8);
        struct kbs_ec_public epk = {.curve = e->curve};
        size_t n = kbs_curve_field_bytes(e->curve);
        struct kbs_buf map = KBS_BUF(BYTES_MAX);
        struct kbs_buf context = KBS_BUF(BYTES_MAX);
        struct kbs_buf wrapped;
        struct kbs_secret *z = NULL;
        struct kbs_secret *kek = NULL;
        struct kbs_secret *cek = NULL;

        assert_int_equal(kbs_hex_get_exact(epk.x, n, kbs_span_str(e->x)), 0);
        assert_int_equal(kbs_hex_get_exact(epk.y, n, kbs_span_str(e->y)), 0);
        kbs_cose_recipient_protected_put(&map, KBS_SPAN_EMPTY);
        kbs_cose_kdf_context_put(&context, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY, kbs_buf_span(&map));
        from_hex(&wrapped, e->encrypted_key);
        assert_int_equal(kbs_agree_ecdh(key, &epk, &z, &err), 0);
        assert_secret_hex(z, e->z);
        assert_int_equal(
            kbs_agree_hkdf(kbs_secret_span(z), KBS_SPAN_EMPTY, kbs_buf_span(&context), &kek, &err),
            0);
        assert_secret_hex(kek, e->kek);
        assert_int_equal(kbs_agree_unwrap(kbs_secret_span(kek), kbs_buf_span(&wrapped), &cek, &err),
                         0);
        assert_secret_hex(cek, "b2353161740aacf1f7163647984b522a");
        kbs_secret_free(cek);
        kbs_secret_free(kek);
        kbs_secret_free(z);
        kbs_buf_deinit(&wrapped);
        kbs_buf_deinit(&context);
        kbs_buf_deinit(&map);
        kbs_agree_key_free(key);
    }
}

/* ---- reading -------------------------------------------------------------------------- */

static bool equal(const struct kbs_cose_recipient_in *a, const struct kbs_cose_recipient_in *b)
{
    return kbs_ec_public_equal(&a->epk, &b->epk) &&
           kbs_span_equal(kbs_buf_span(&a->protected_map), kbs_buf_span(&b->protected_map)) &&
           kbs_span_equal(kbs_buf_span(&a->kid), kbs_buf_span(&b->kid)) &&
           kbs_span_equal(kbs_buf_span(&a->party_u), kbs_buf_span(&b->party_u)) &&
           kbs_span_equal(kbs_buf_span(&a->party_v), kbs_buf_span(&b->party_v)) &&
           kbs_span_equal(kbs_buf_span(&a->salt), kbs_buf_span(&b->salt)) &&
           kbs_span_equal(kbs_buf_span(&a->encrypted_key), kbs_buf_span(&b->encrypted_key));
}

/* The category, KBS_OK if taken. Reads an exact heap copy, so that ASan sees any byte too far. */
static enum kbs_category read_span(struct kbs_span message, struct kbs_cose_recipient_in *ret)
{
    uint8_t *copy = test_malloc(message.len + 1);
    struct kbs_span exact = kbs_span(copy + 1, message.len);
    int rc;

    if (message.len > 0) {
        memcpy(copy + 1, message.p, message.len);
    }
    err = KBS_ERROR_NONE;
    rc = kbs_cose_recipient_get(exact, ret, &err);
    test_free(copy);
    if (rc < 0) {
        assert_int_equal(rc, -1);
        assert_int_not_equal(err.category, KBS_OK);
        assert_null(ret->encrypted_key.p);
        kbs_cose_recipient_in_deinit(ret); /* safe after a failure too */
        return err.category;
    }
    return KBS_OK;
}

static enum kbs_category read_hex(const char *hex)
{
    struct kbs_cose_recipient_in in;
    struct kbs_buf message;
    enum kbs_category category;

    from_hex(&message, hex);
    category = read_span(kbs_buf_span(&message), &in);
    if (category == KBS_OK) {
        kbs_cose_recipient_in_deinit(&in);
    }
    kbs_buf_deinit(&message);
    return category;
}

static void reads_what_was_written(void **state)
{
    struct kbs_ec_public epk = base_point();
    struct kbs_cose_recipient_in in;
    struct kbs_buf message;

    (void)state;
    from_hex(&message, FULL);
    assert_int_equal(read_span(kbs_buf_span(&message), &in), KBS_OK);
    assert_true(kbs_ec_public_equal(&in.epk, &epk));
    assert_true(kbs_span_equal_str(kbs_buf_span(&in.kid), "default/nek/vm1/v3"));
    assert_true(kbs_span_equal_str(kbs_buf_span(&in.party_u), "default/nek/vm1/v3"));
    assert_int_equal(in.party_v.len, 32);
    assert_int_equal(in.party_v.p[31], 31);
    assert_hex(&in.salt, "c0c1c2c3");
    assert_hex(&in.protected_map, "a201381e045264656661756c742f6e656b2f766d312f7633");
    assert_hex(&in.encrypted_key, "000102030405060708090a0b0c0d0e0f1011121314151617");
    kbs_cose_recipient_in_deinit(&in);
    kbs_buf_deinit(&message);

    from_hex(&message, MINIMAL);
    assert_int_equal(read_span(kbs_buf_span(&message), &in), KBS_OK);
    assert_int_equal(in.kid.len + in.party_u.len + in.party_v.len + in.salt.len, 0);
    kbs_cose_recipient_in_deinit(&in);
    kbs_cose_recipient_in_deinit(&in);
    kbs_buf_deinit(&message);
}

/* The largest message that the protocol allows is read, on every curve. */
static void largest_message(void **state)
{
    static const uint8_t fill[KBS_LIMIT_KID_BYTES] = {'x'};

    (void)state;
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
        struct kbs_agree_key *key = NULL;
        struct kbs_cose_recipient r = {.kid = kbs_span(fill, sizeof(fill)),
                                       .party_u = kbs_span(fill, sizeof(fill)),
                                       .party_v = kbs_span(fill, 64),
                                       .salt = kbs_span(fill, KBS_LIMIT_COSE_SALT_BYTES),
                                       .encrypted_key = kbs_span(fill, 72)};
        struct kbs_cose_recipient_in in;
        struct kbs_buf out = KBS_BUF(KBS_LIMIT_COSE_MESSAGE_BYTES);

        assert_int_equal(kbs_agree_key_generate(c, &key, &err), 0);
        r.epk = kbs_agree_key_public(key);
        kbs_cose_recipient_put(&out, &r);
        assert_false(out.failed);
        assert_int_equal(read_span(kbs_buf_span(&out), &in), KBS_OK);
        assert_true(kbs_ec_public_equal(&in.epk, r.epk));
        kbs_cose_recipient_in_deinit(&in);
        kbs_buf_deinit(&out);
        kbs_agree_key_free(key);
    }
}

static void other_orders_are_taken(void **state)
{
    (void)state;
    /* epk: y, x, crv, kty; headers: salt first; kid before alg; body protected as an empty map */
    assert_int_equal(read_hex("d8608440a0f68183" ALG "a120a4225820" GY "215820" GX "20010102" KEY),
                     KBS_OK);
    assert_int_equal(read_hex("d8608440a0f68183" ALG "a23341aa20" EPK KEY), KBS_OK);
    assert_int_equal(read_hex("d8608440a0f6818347a2044161"
                              "01381ea120" EPK KEY),
                     KBS_OK);
    assert_int_equal(read_hex("d8608441a0a0f68183" ALG "a120" EPK KEY), KBS_OK);
}

/* All but well-formed: KBS_INPUT. */
static const char *const nearly[] = {
    "",
    "00",
    "8440a0f68183" ALG "a120" EPK KEY,           /* no tag */
    "d8618440a0f68183" ALG "a120" EPK KEY,       /* another tag */
    "d8d88440a0f68183" ALG "a120" EPK KEY,       /* tag 216 */
    "d900608440a0f68183" ALG "a120" EPK KEY,     /* tag not in its shortest form */
    "d860d8608440a0f68183" ALG "a120" EPK KEY,   /* tag twice */
    "d8609f40a0f68183" ALG "a120" EPK KEY "ff",  /* indefinite array */
    "d860980440a0f68183" ALG "a120" EPK KEY,     /* array head too long */
    "d8608540a0f68183" ALG "a120" EPK KEY "f6",  /* five elements */
    "d8608340a0f6",                              /* COSE_Encrypt0 */
    "d8608441a1a0f68183" ALG "a120" EPK KEY,     /* body protected: not a map */
    "d8608443a10103a0f68183" ALG "a120" EPK KEY, /* body protected: an algorithm */
    "d8608460a0f68183" ALG "a120" EPK KEY,       /* text for bytes */
    "d860845fffa0f68183" ALG "a120" EPK KEY,     /* indefinite bytes */
    "d8608440bffff68183" ALG "a120" EPK KEY,     /* indefinite empty map */
    "d8608440a10140f68183" ALG "a120" EPK KEY,   /* body unprotected not empty */
    "d8608440a0408183" ALG "a120" EPK KEY,       /* attached, empty ciphertext */
    "d8608440a0f78183" ALG "a120" EPK KEY,       /* undefined */
    "d8608440a0f8168183" ALG "a120" EPK KEY,     /* nil as a two-byte simple value */
    "d8608440a0f680",                            /* no recipient */
    "d8608440a0f6" ALG,                          /* recipients not an array */
    "d8608440a0f68283" ALG "a120" EPK KEY "83" ALG "a120" EPK KEY, /* two */
    "d8608440a0f68184" ALG "a120" EPK KEY "80", /* a recipient of the recipient */
    "d8608440a0f6818340a120" EPK KEY,           /* protected: empty */
    "d8608440a0f6818341a0a120" EPK KEY,         /* no alg */
    "d8608440a0f6818343a10126a120" EPK KEY,     /* alg ES256 */
    "d8608440a0f6818344a101381da120" EPK KEY,   /* alg -30 */
    "d8608440a0f6818344a101181ea120" EPK KEY,   /* alg +30 */
    "d8608440a0f6818345a10139001ea120" EPK KEY, /* alg not in its shortest form */
    "d8608440a0f6818345a1180138"
    "1ea120" EPK KEY,                               /* label not in its shortest form */
    "d8608440a0f6818346bf01381effa120" EPK KEY,     /* indefinite map */
    "d8608440a0f6818345a101381e00a120" EPK KEY,     /* bytes after the protected map */
    "d8608440a0f6818347a201381e01381ea120" EPK KEY, /* alg twice */
    "d8608440a0f6818346a201381e0440a120" EPK KEY,   /* empty kid */
    "d8608440a0f6818347a201381e046161a120" EPK KEY, /* kid as text */
    "d8608440a0f6818349a301381e04416102"
    "80a120" EPK KEY,                                     /* crit */
    "d8608440a0f6818346a201381e0500a120" EPK KEY,         /* unknown protected label */
    "d8608440a0f68183" ALG "a0" KEY,                      /* no epk */
    "d8608440a0f68183" ALG "a13341aa" KEY,                /* salt without epk */
    "d8608440a0f68183" ALG "a220" EPK "20" EPK KEY,       /* epk twice */
    "d8608440a0f68183" ALG "a320" EPK "3341aa3341aa" KEY, /* salt twice */
    "d8608440a0f68183" ALG "a220" EPK "3340" KEY,         /* empty salt */
    "d8608440a0f68183" ALG "a220" EPK "33f6" KEY,         /* nil salt */
    "d8608440a0f68183" ALG "a220" EPK "044161" KEY,       /* unprotected kid */
    "d8608440a0f68183" ALG "a220" EPK "3541aa" KEY,       /* party U nonce: not ours */
    "d8608440a0f68183" ALG "a220" EPK "616141aa" KEY,     /* text label */
    "d8608440a0f68183" ALG "a220" EPK "1b000000010000000041aa" KEY,
    "d8608440a0f68183" ALG "a120a301022001215820" GX KEY, /* no y */
    "d8608440a0f68183" ALG "a120a4010220012158"
    "20" GX "22f5" KEY, /* compressed */
    "d8608440a0f68183" ALG "a120a4010120012158"
    "20" GX "225820" GY KEY, /* kty OKP */
    "d8608440a0f68183" ALG "a120a4010220022158"
    "20" GX "225820" GY KEY, /* crv P-384 */
    "d8608440a0f68183" ALG "a120a4010220002158"
    "20" GX "225820" GY KEY, /* crv 0 */
    "d8608440a0f68183" ALG "a120a4010220042158"
    "20" GX "225820" GY KEY, /* crv X25519 */
    "d8608440a0f68183" ALG "a120a4010220012158"
    "20" GX "21582"
    "0" GY KEY, /* x twice */
    "d8608440a0f68183" ALG "a120a4010220012158"
    "2100" GX "225820" GY KEY, /* x of 33 bytes */
    "d8608440a0f68183" ALG "a120a501022001215820" GX "225820" GY "0241aa" KEY,
    "d8608440a0f68183" ALG "a120" EPK "f6", /* no encrypted key */
    "d8608440a0f68183" ALG "a120" EPK "40",
    "d8608440a0f68183" ALG "a120" EPK "480001020304050607",
    "d8608440a0f68183" ALG "a120" EPK "5818000102030405060708090a0b0c0d0e0f10111213141516",
    "d8608440a0f68183" ALG "a120" EPK "5819000102030405060708090a0b0c0d0e0f101112131415161718",
    "d8608440a0f68183" ALG "a120" EPK "590018000102030405060708090a0b0c0d0e0f1011121314151617",
    "d8608440a0f68183" ALG "a120" EPK "5bffffffffffffffff0001020304050607",
    "d8608440a0f68183" ALG "bbffffffffffffffff20" EPK KEY,
    "d8609bffffffffffffffff40a0f6",
    "d860db000000000000006040",
    MINIMAL "00", /* bytes after the message */
    MINIMAL MINIMAL,
};

static void refused_shapes(void **state)
{
    (void)state;
    assert_int_equal(read_hex(MINIMAL), KBS_OK);
    for (size_t i = 0; i < sizeof(nearly) / sizeof(nearly[0]); i++) {
        enum kbs_category category = read_hex(nearly[i]);

        if (category != KBS_INPUT) {
            fail_msg("row %zu: %s", i, kbs_category_name(category));
        }
    }
}

static void epk_off_the_curve(void **state)
{
    (void)state;
    assert_int_equal(read_hex("d8608440a0f68183" ALG "a120a401022001215820" GX "225820" GX KEY),
                     KBS_UNPROCESSABLE);
}

static void nesting_and_size(void **state)
{
    static const uint8_t heads[] = {0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0x5f, 0x7f, 0xd8};
    uint8_t deep[KBS_LIMIT_COSE_MESSAGE_BYTES + 1];
    struct kbs_cose_recipient_in in;

    (void)state;
    for (size_t i = 0; i < sizeof(heads); i++) {
        memset(deep, heads[i], sizeof(deep));
        assert_int_equal(read_span(kbs_span(deep, sizeof(deep) - 1), &in), KBS_INPUT);
        assert_int_equal(read_span(kbs_span(deep, sizeof(deep)), &in), KBS_INPUT);
        deep[0] = 0xd8; /* the same behind the right tag */
        deep[1] = 0x60;
        assert_int_equal(read_span(kbs_span(deep, sizeof(deep) - 1), &in), KBS_INPUT);
    }
}

static void every_truncation_is_refused(void **state)
{
    static const char *const messages_hex[] = {MINIMAL, FULL};
    struct kbs_cose_recipient_in in;

    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct kbs_buf message;

        from_hex(&message, messages_hex[m]);
        for (size_t n = 0; n < message.len; n++) {
            assert_int_equal(read_span(kbs_span(message.p, n), &in), KBS_INPUT);
        }
        kbs_buf_deinit(&message);
    }
}

/* No two messages that differ in one byte mean the same. All 255 others on the short one, on the
 * long one the 8 that differ in a bit: enough, and seconds instead of minutes under ASan. */
static void every_mutation_is_refused_or_differs(const char *hex, bool all)
{
    struct kbs_cose_recipient_in original;
    struct kbs_buf message;
    size_t taken = 0;

    from_hex(&message, hex);
    assert_int_equal(read_span(kbs_buf_span(&message), &original), KBS_OK);
    for (size_t i = 0; i < message.len; i++) {
        for (unsigned int k = 1; k < 256; k++) {
            struct kbs_cose_recipient_in in;

            if (!all && (k & (k - 1)) != 0) {
                continue;
            }
            message.p[i] ^= (uint8_t)k;
            if (read_span(kbs_buf_span(&message), &in) == KBS_OK) {
                assert_false(equal(&original, &in));
                kbs_cose_recipient_in_deinit(&in);
                taken++;
            }
            message.p[i] ^= (uint8_t)k;
        }
    }
    assert_true(taken >= 24 * 8); /* at least the encrypted key may be anything */
    kbs_cose_recipient_in_deinit(&original);
    kbs_buf_deinit(&message);
}

static void mutations(void **state)
{
    (void)state;
    every_mutation_is_refused_or_differs(MINIMAL, true);
    every_mutation_is_refused_or_differs(FULL, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kdf_context),
        cmocka_unit_test(messages),
        cmocka_unit_test(small_buffers_fail),
        cmocka_unit_test(heads_are_shortest),
        cmocka_unit_test(working_group_examples),
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(largest_message),
        cmocka_unit_test(other_orders_are_taken),
        cmocka_unit_test(refused_shapes),
        cmocka_unit_test(epk_off_the_curve),
        cmocka_unit_test(nesting_and_size),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(mutations),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
