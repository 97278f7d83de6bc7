/*
 * The vectors through kbs-token's own code on a real token: the functions that serve imports,
 * releases, wrapped keys and sealed secrets, with the vector's key brought in as a session object
 * where the service has one of its own.
 *
 * What comes out of the token is sensitive and is never read. A key is told by wrapping it under a
 * key that is known here, a wrapping key by what it wraps a known key to: AES Key Wrap has one
 * result.
 *
 * Between this folder and the module stands a copy of its function list. It counts the operations,
 * so that "refused before the token sees it" is seen and not assumed. And because HKDF's vectors
 * begin at the shared secret, which no token lets one choose, its ECDH can be told to answer with a
 * given one: all that follows is the road as it is.
 */
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "harness.h"
#include "hsm/catalog.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "hsm/keys.h"
#include "hsm/oaep.h"
#include "hsm/opening.h"
#include "hsm/receive.h"
#include "hsm/service.h"
#include "jose/read/jwe.h"
#include "jose/write/jose.h"

#define KEY_BYTES 32u
#define OBJECTS_MAX 512u

static struct token_dir dir;
static struct kbs_token token;
static struct kbs_ladder ladder;
static size_t objects_at_start;
static struct kbs_ec_public good_epk;

static const uint8_t known_key[KEY_BYTES] = "a key that every test knows: 32";
static const uint8_t other_known_key[KEY_BYTES] = "another key that is known here.";

/* ---- between hsm/ and the module ---- */

static CK_FUNCTION_LIST *module;
static CK_FUNCTION_LIST counted;
static unsigned int operations;
static struct kbs_span given_z; /* answers the next ECDH */

/* A session key of that value, with the caller's template but for the length. */
static CK_RV give_z(CK_SESSION_HANDLE session, const CK_ATTRIBUTE *wanted, CK_ULONG n,
                    CK_OBJECT_HANDLE *ret)
{
    CK_ATTRIBUTE a[KBS_TEMPLATE_MAX];
    CK_ULONG out = 0;

    for (CK_ULONG i = 0; i < n; i++) {
        if (wanted[i].type != CKA_VALUE_LEN) {
            a[out++] = wanted[i];
        } else { /* what is made is compared with it */
            memcpy(wanted[i].pValue, &given_z.len, sizeof(CK_ULONG));
        }
    }
    a[out++] = (CK_ATTRIBUTE){CKA_VALUE, kbs_p11_in(given_z.p), given_z.len};
    given_z = KBS_SPAN_EMPTY;
    return module->C_CreateObject(session, a, out, ret);
}

static CK_RV counted_derive(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                            CK_OBJECT_HANDLE base, CK_ATTRIBUTE *a, CK_ULONG n,
                            CK_OBJECT_HANDLE *ret)
{
    operations++;
    if (given_z.p != NULL && mechanism->mechanism == CKM_ECDH1_DERIVE) {
        return give_z(session, a, n, ret);
    }
    return module->C_DeriveKey(session, mechanism, base, a, n, ret);
}

static CK_RV counted_unwrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                            CK_OBJECT_HANDLE kek, CK_BYTE *wrapped, CK_ULONG len, CK_ATTRIBUTE *a,
                            CK_ULONG n, CK_OBJECT_HANDLE *ret)
{
    operations++;
    return module->C_UnwrapKey(session, mechanism, kek, wrapped, len, a, n, ret);
}

static CK_RV counted_create(CK_SESSION_HANDLE session, CK_ATTRIBUTE *a, CK_ULONG n,
                            CK_OBJECT_HANDLE *ret)
{
    operations++;
    return module->C_CreateObject(session, a, n, ret);
}

static CK_RV counted_decrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                  CK_OBJECT_HANDLE key)
{
    operations++;
    return module->C_DecryptInit(session, mechanism, key);
}

/* ---- the token ---- */

static size_t count_objects(void)
{
    CK_OBJECT_HANDLE found[OBJECTS_MAX];
    CK_ULONG n = 0;

    assert_int_equal(token.f->C_FindObjectsInit(token.session, NULL, 0), CKR_OK);
    assert_int_equal(token.f->C_FindObjects(token.session, found, OBJECTS_MAX, &n), CKR_OK);
    assert_int_equal(token.f->C_FindObjectsFinal(token.session), CKR_OK);
    return n;
}

static void token_provision(void)
{
    KBS_AUTO_SECRET pin = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    char init_args[512];

    (void)snprintf(init_args, sizeof(init_args), "%s", dir.init_args);
    dir_enter(&dir);
    assert_int_equal(kbs_secret_new(sizeof(PIN) - 1, &pin, &err), 0);
    memcpy(kbs_secret_bytes(pin), PIN, sizeof(PIN) - 1);
    token = KBS_TOKEN_NULL;
    if (kbs_token_load(&token, module_path, init_args[0] != '\0' ? init_args : NULL, &err) != 0 ||
        kbs_token_provision(&token, dir.uri, NULL, pin, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    kbs_token_close(&token);
}

/* An IMPORT with that blob and epk, and nothing else to complain of. */
static int import_try(struct kbs_span wrapped, struct kbs_span x, struct kbs_span y,
                      struct kbs_error *err)
{
    const struct key_ref k = key_ref(1, 1);
    const struct sent nothing = {.wrapped_len = 0};
    struct kbs_wire_import m = import_order(&nothing, &k);
    struct kbs_answer answer = {.body = KBS_BUF(1024)};
    int rc;

    m.wrapped = wrapped;
    m.epk_x = x;
    m.epk_y = y;
    rc = kbs_keys_import(&token, &ladder, &m, &answer, err);
    kbs_buf_deinit(&answer.body);
    return rc;
}

/* The control: with a good blob and epk it is the import key that is missing, which nobody made. */
static void import_control(void)
{
    struct kbs_agree_key *key = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &key, &err), 0);
    good_epk = *kbs_agree_key_public(key);
    (void)kbs_agree_key_free(key);
    assert_int_equal(import_try(kbs_span(known_key, KBS_WRAPPED_MIN_BYTES), kbs_ec_x(&good_epk),
                                kbs_ec_y(&good_epk), &err),
                     -1);
    assert_int_equal(err.category, KBS_MISSING);
}

void vector_token_open(void)
{
    struct kbs_error err = KBS_ERROR_NONE;

    dir_new(&dir);
    token_provision();
    inside_open(&token, &dir);
    if (kbs_ladder_probe(&ladder, &token, false, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    objects_at_start = count_objects();
    module = token.f;
    counted = *module;
    counted.C_DeriveKey = counted_derive;
    counted.C_UnwrapKey = counted_unwrap;
    counted.C_CreateObject = counted_create;
    counted.C_DecryptInit = counted_decrypt_init;
    token.f = &counted;
    import_control();
}

void vector_token_close(void)
{
    token.f = module;
    assert_int_equal(count_objects(), objects_at_start);
    assert_int_equal(token.destroy_failures, 0);
    kbs_token_close(&token);
    dir_remove(&dir);
}

/* ---- keys of known value, and telling keys ---- */

static int secret_create(struct kbs_scratch *s, CK_KEY_TYPE type, struct kbs_span value,
                         bool extractable, unsigned int usage, CK_OBJECT_HANDLE *ret,
                         struct kbs_error *err)
{
    struct kbs_template t = {.n = 0};

    kbs_template_secret_key(&t, type, false, extractable, usage);
    kbs_template_bytes(&t, CKA_VALUE, value);
    return kbs_scratch_create(s, &t, ret, err);
}

static int ec_create(struct kbs_scratch *s, enum kbs_curve curve, struct kbs_span d,
                     CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_template t = {.n = 0};

    kbs_template_number(&t, CKA_CLASS, CKO_PRIVATE_KEY);
    kbs_template_number(&t, CKA_KEY_TYPE, CKK_EC);
    kbs_template_bool(&t, CKA_TOKEN, false);
    kbs_template_bool(&t, CKA_PRIVATE, true);
    kbs_template_bool(&t, CKA_SENSITIVE, true);
    kbs_template_bool(&t, CKA_EXTRACTABLE, false);
    kbs_template_bool(&t, CKA_DERIVE, true);
    kbs_template_bytes(&t, CKA_EC_PARAMS, kbs_curve_oid_der(curve));
    kbs_template_bytes(&t, CKA_VALUE, d);
    return kbs_scratch_create(s, &t, ret, err);
}

static struct vector_answer wrong(const struct kbs_error *err)
{
    return vector_answer(VECTOR_WRONG, err->detail);
}

/* The token's extractable key has that value: wrapped under a known key, and by its check value. */
static struct vector_answer key_is(CK_OBJECT_HANDLE key, struct kbs_span value)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE under = CK_INVALID_HANDLE;
    enum kbs_kcv_mac mac = KBS_KCV_NONE;
    uint8_t kcv[KBS_KCV_BYTES];
    uint8_t wanted_kcv[KBS_KCV_BYTES];
    uint8_t got[KBS_WRAPPED_MAX_BYTES];
    uint8_t wanted[KBS_WRAPPED_MAX_BYTES];
    size_t got_len = 0;
    size_t wanted_len = 0;

    if (secret_create(&s, CKK_AES, kbs_span(known_key, KEY_BYTES), false, KBS_USAGE_WRAP, &under,
                      &err) != 0 ||
        kbs_object_wrap(&token, under, key, got, &got_len, &err) != 0 ||
        kbs_agree_wrap(kbs_span(known_key, KEY_BYTES), value, wanted, &wanted_len, &err) != 0 ||
        kbs_kcv_any(&token, key, value.len, &mac, kcv, &err) != 0) {
        return wrong(&err);
    }
    if (mac == KBS_KCV_HMAC_SHA256) {
        kbs_agree_kcv(value, wanted_kcv);
    } else if (kbs_agree_kcv_cmac(value, wanted_kcv, &err) != 0) {
        return wrong(&err);
    }
    if (memcmp(kcv, wanted_kcv, sizeof(kcv)) != 0) {
        return vector_answer(VECTOR_WRONG, "another check value");
    }
    return vector_compared(kbs_span(got, got_len), kbs_span(wanted, wanted_len));
}

/* The token's wrapping key has that value. */
static struct vector_answer kek_is(CK_OBJECT_HANDLE kek, struct kbs_span value)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t got[KBS_WRAPPED_MAX_BYTES];
    uint8_t wanted[KBS_WRAPPED_MAX_BYTES];
    size_t got_len = 0;
    size_t wanted_len = 0;

    if (secret_create(&s, CKK_AES, kbs_span(other_known_key, KEY_BYTES), true, KBS_USAGE_NONE, &key,
                      &err) != 0 ||
        kbs_object_wrap(&token, kek, key, got, &got_len, &err) != 0 ||
        kbs_agree_wrap(value, kbs_span(other_known_key, KEY_BYTES), wanted, &wanted_len, &err) !=
            0) {
        return wrong(&err);
    }
    return vector_compared(kbs_span(got, got_len), kbs_span(wanted, wanted_len));
}

/* A refusal that is the sender's fault, after which the token still works. */
static struct vector_answer refused(enum vector_got got, const struct kbs_error *err)
{
    struct kbs_error selftest = KBS_ERROR_NONE;

    if (err->category != KBS_UNPROCESSABLE && err->category != KBS_INPUT) {
        return wrong(err);
    }
    return kbs_token_selftest(&token, &selftest) == 0 ? vector_answer(got, err->detail)
                                                      : wrong(&selftest);
}

/* The same where what is opened is the service's own, so that there is no sender to be at fault. */
static struct vector_answer refused_own(const struct kbs_error *err)
{
    struct kbs_error selftest = KBS_ERROR_NONE;

    if (kbs_ckr_is_fatal(err, token.quirk)) {
        return wrong(err);
    }
    return kbs_token_selftest(&token, &selftest) == 0 ? vector_answer(VECTOR_REFUSED, err->detail)
                                                      : wrong(&selftest);
}

/* ---- AES Key Wrap ---- */

/* A whole order that is refused by the form of that blob or epk, before there is any operation. */
static struct vector_answer import_refuses(struct kbs_span wrapped, struct kbs_span x,
                                           struct kbs_span y)
{
    struct kbs_error err = KBS_ERROR_NONE;
    unsigned int before = operations;

    if (import_try(wrapped, x, y, &err) == 0 || operations != before) {
        return vector_answer(VECTOR_WRONG, "an import got as far as the token");
    }
    return refused(VECTOR_BEFORE, &err);
}

/* As an import opens what was sent to it. */
static struct vector_answer unwrap_received(struct kbs_span kek, struct kbs_span wrapped,
                                            struct kbs_span key)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_template t = {.n = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE under = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE got = CK_INVALID_HANDLE;

    if (secret_create(&s, CKK_AES, kek, false, KBS_USAGE_UNWRAP, &under, &err) != 0) {
        return wrong(&err);
    }
    kbs_template_secret_key(&t, CKK_GENERIC_SECRET, false, true, KBS_USAGE_NONE);
    if (kbs_scratch_unwrap(&s, under, wrapped, &t, &got, &err) != 0) {
        (void)kbs_receive_failed(&token, "the wrapped key", &err);
        return refused(VECTOR_REFUSED, &err);
    }
    return key_is(got, key);
}

/*
 * As a wrapped key of the store is opened, the kek being the wrap-catalog key of a version of its
 * own. Who is at fault is another matter here: the card was made over the blob, so no sender is.
 */
static struct vector_answer unwrap_stored(struct kbs_span kek, struct kbs_span wrapped,
                                          struct kbs_span key)
{
    static uint32_t version;
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_template t = {.n = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    kbs_service_cka_id(KBS_PURPOSE_WRAP_CATALOG, ++version, cka_id);
    kbs_template_secret_key(&t, CKK_AES, true, false, KBS_USAGE_WRAP | KBS_USAGE_UNWRAP);
    kbs_template_bytes(&t, CKA_ID, kbs_span(cka_id, sizeof(cka_id)));
    kbs_template_bytes(&t, CKA_VALUE, kek);
    if (kbs_scratch_create(&s, &t, &object, &err) != 0) {
        return wrong(&err);
    }
    return kbs_catalog_unwrap(&s, version, wrapped, KBS_KEY_ALG_GENERIC, wrapped.len - 8, &object,
                              &err) == 0
               ? key_is(object, key)
               : refused_own(&err);
}

static struct vector_answer token_unwrap(struct kbs_span kek, struct kbs_span wrapped,
                                         struct kbs_span key)
{
    struct vector_answer received;
    struct vector_answer stored;

    if (wrapped.len < KBS_WRAPPED_MIN_BYTES || wrapped.len > KBS_WRAPPED_MAX_BYTES ||
        wrapped.len % 8 != 0) {
        return import_refuses(wrapped, kbs_ec_x(&good_epk), kbs_ec_y(&good_epk));
    }
    received = unwrap_received(kek, wrapped, key);
    if (kek.len != KEY_BYTES) { /* the service's own are longer, so it can only be tried so */
        return received;
    }
    stored = unwrap_stored(kek, wrapped, key);
    return received.got == stored.got ? received : wrong(&(struct kbs_error){.detail = "differs"});
}

/* ---- ECDH, Concat KDF, HKDF ---- */

/* The rung that a release to such a key would take. */
static const struct kbs_rung *rung_for(enum kbs_format format, enum kbs_curve curve)
{
    const struct kbs_tee_key tee = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = {.curve = curve}};
    const uint8_t formats = (uint8_t)format;
    struct kbs_ladder_choice choice;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_ladder_choose(&ladder, kbs_span(&formats, 1), &tee, KEY_BYTES, KBS_LOCALITY_TRANSPORT,
                          &choice, &err) != 0) {
        fail_msg("no rung for the vectors: %s", err.detail);
    }
    return choice.rung;
}

/* The wrapping key of one format, from the token and from the vector's shared secret. */
static struct vector_answer derived_is(const struct kbs_derive_input *in, enum kbs_format format,
                                       struct kbs_span shared)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    KBS_AUTO_SECRET wanted = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    int rc;

    if (rung_for(format, in->peer->curve)->derive[format](&s, in, &kek, &err) != 0) {
        return refused_own(&err);
    }
    rc = format == KBS_FORMAT_JOSE ? kbs_agree_concat_kdf(shared, in->info, &wanted, &err)
                                   : kbs_agree_hkdf(shared, in->salt, in->info, &wanted, &err);
    return rc == 0 ? kek_is(kek, kbs_secret_span(wanted)) : wrong(&err);
}

/* Point or not, as orders and sessions bring it: refused before the token is asked anything. */
static bool peer_get(enum kbs_curve curve, const struct vector_peer *peer,
                     struct kbs_ec_public *ret, struct vector_answer *refusal)
{
    struct kbs_tee_key tee = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW};
    struct kbs_error err = KBS_ERROR_NONE;
    unsigned int before = operations;
    bool ok = kbs_ec_point_get(peer->curve, peer->point, &tee.ec, &err) == 0 &&
              kbs_tee_key_check(&tee, &err) == 0;

    *ret = tee.ec;
    if (ok && (curve != KBS_CURVE_P256 || peer->curve == curve)) {
        return true;
    }
    if (curve == KBS_CURVE_P256) { /* the curve of imports: the same must come of a whole order */
        struct kbs_span xy = kbs_span_skip(peer->point, 1);
        size_t half = xy.len == 32 ? 32 : xy.len / 2; /* a compressed point has no y */

        *refusal = import_refuses(kbs_span(known_key, KBS_WRAPPED_MIN_BYTES), kbs_span(xy.p, half),
                                  kbs_span_skip(xy, half));
        return false;
    }
    *refusal = operations == before ? refused(VECTOR_BEFORE, &err)
                                    : vector_answer(VECTOR_WRONG, "the token was asked");
    return false;
}

static struct vector_answer token_ecdh(enum kbs_curve curve, struct kbs_span d,
                                       const struct vector_peer *peer, struct kbs_span shared)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_derive_input in = {.info = KBS_SPAN_LIT("the context of a key derivation"),
                                  .salt = KBS_SPAN_LIT("salt"),
                                  .usage = KBS_USAGE_WRAP};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public q;
    struct vector_answer jose;
    struct vector_answer cose;

    if (!peer_get(curve, peer, &q, &jose)) {
        return jose;
    }
    in.peer = &q;
    if (ec_create(&s, curve, d, &in.private_key, &err) != 0) {
        return wrong(&err);
    }
    jose = derived_is(&in, KBS_FORMAT_JOSE, shared);
    cose = derived_is(&in, KBS_FORMAT_COSE, shared);
    if (jose.got != cose.got) {
        return vector_answer(VECTOR_WRONG, "JOSE and COSE differ");
    }
    return jose;
}

static struct vector_answer token_hkdf(struct kbs_span ikm, struct kbs_span salt,
                                       struct kbs_span info, struct kbs_span okm)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_agree_key *any = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_derive_input in = {.info = info, .salt = salt, .usage = KBS_USAGE_WRAP};
    struct vector_answer a = vector_software.hkdf(ikm, salt, info, okm);

    if (salt.len > KBS_LIMIT_COSE_SALT_BYTES) {
        return vector_answer(VECTOR_SKIPPED, "a salt over 64 bytes, which RELEASE refuses");
    }
    if (a.got != VECTOR_RIGHT) { /* what the token's key is compared with */
        return a;
    }
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &any, &err), 0);
    in.peer = kbs_agree_key_public(any);
    given_z = ikm;
    a = derived_is(&in, KBS_FORMAT_COSE, ikm);
    assert_null(given_z.p); /* it was asked for */
    (void)kbs_agree_key_free(any);
    return a;
}

/* The UNWRAP-only key of something sent with an empty context, as kbs_receive_kek() makes it. */
static int agreed_kek(struct kbs_scratch *s, enum kbs_curve curve, struct kbs_span d,
                      const struct kbs_ec_public *epk, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(128);
    struct kbs_derive_input in = {.peer = epk, .usage = KBS_USAGE_UNWRAP};
    int rc;

    kbs_jose_other_info_put(&info, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY);
    in.info = kbs_buf_span(&info);
    rc = ec_create(s, curve, d, &in.private_key, err);
    if (rc == 0) {
        rc = rung_for(KBS_FORMAT_JOSE, curve)->derive[KBS_FORMAT_JOSE](s, &in, ret, err);
    }
    kbs_buf_deinit(&info);
    return rc;
}

static struct vector_answer token_agreed(enum kbs_curve curve, struct kbs_span d,
                                         const struct vector_peer *epk, struct kbs_span wrapped,
                                         struct kbs_span key)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_template t = {.n = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE got = CK_INVALID_HANDLE;
    struct kbs_ec_public q;
    struct vector_answer refusal;

    if (!peer_get(curve, epk, &q, &refusal)) {
        return refusal;
    }
    kbs_template_secret_key(&t, CKK_AES, false, true, KBS_USAGE_NONE);
    if (agreed_kek(&s, curve, d, &q, &kek, &err) != 0) {
        return wrong(&err);
    }
    if (kbs_scratch_unwrap(&s, kek, wrapped, &t, &got, &err) != 0) {
        (void)kbs_receive_failed(&token, "the wrapped key", &err);
        return refused(VECTOR_REFUSED, &err);
    }
    return key_is(got, key);
}

/* ---- RSA-OAEP ---- */

static bool wraps_by(enum kbs_tee_alg alg)
{
    enum kbs_tee_kind size =
        alg == KBS_TEE_ALG_RSA_OAEP_256 ? KBS_TEE_RSA_2048 : KBS_TEE_RSA_2048_SHA1;

    for (size_t i = 0; i < KBS_RUNG_COUNT; i++) {
        if (kbs_rungs[i].locality == KBS_LOCALITY_TOKEN &&
            ladder.probes[i][KBS_FORMAT_JOSE][size][KBS_PROBE_32].result == KBS_PROBE_PASSED) {
            return true;
        }
    }
    return false;
}

/*
 * The vector's private key as a session object like that of hsm/transport.c, which can only unwrap.
 */
static int rsa_create(struct kbs_scratch *s, const struct kbs_agree_rsa *key, CK_OBJECT_HANDLE *ret,
                      struct kbs_error *err)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } parts[] = {{CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N},
                 {CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E},
                 {CKA_PRIVATE_EXPONENT, OSSL_PKEY_PARAM_RSA_D},
                 {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1},
                 {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2},
                 {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1},
                 {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2},
                 {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1}};
    enum {
        COUNT = sizeof(parts) / sizeof(parts[0])
    };
    uint8_t bytes[COUNT][KBS_LIMIT_RSA_BYTES_MAX];
    KBS_AUTO_SECRET pem = NULL;
    struct kbs_template t = {.n = 0};
    EVP_PKEY *pkey;
    BIO *bio;

    assert_int_equal(kbs_agree_rsa_to_pem(key, &pem, err), 0);
    bio = BIO_new_mem_buf(kbs_secret_bytes(pem), (int)kbs_secret_len(pem));
    pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    kbs_template_number(&t, CKA_CLASS, CKO_PRIVATE_KEY);
    kbs_template_number(&t, CKA_KEY_TYPE, CKK_RSA);
    kbs_template_bool(&t, CKA_TOKEN, false);
    kbs_template_bool(&t, CKA_PRIVATE, true);
    kbs_template_bool(&t, CKA_SENSITIVE, true);
    kbs_template_bool(&t, CKA_EXTRACTABLE, false);
    kbs_template_bool(&t, CKA_DECRYPT, false);
    kbs_template_bool(&t, CKA_SIGN, false);
    kbs_template_bool(&t, CKA_UNWRAP, true);
    for (size_t i = 0; i < COUNT; i++) {
        BIGNUM *n = NULL;

        assert_int_equal(EVP_PKEY_get_bn_param(pkey, parts[i].name, &n), 1);
        kbs_template_bytes(&t, parts[i].type, kbs_span(bytes[i], (size_t)BN_bn2bin(n, bytes[i])));
        BN_clear_free(n);
    }
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    return kbs_scratch_create(s, &t, ret, err);
}

/* As a wrapping key comes into a token that takes none in the clear (hsm/transport.c). */
static struct vector_answer oaep_unwrap(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                        struct kbs_span ct, struct kbs_span msg)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    CK_RSA_PKCS_OAEP_PARAMS params = kbs_oaep_params(alg);
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof(params)};
    struct kbs_template t = {.n = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE private_key = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE got = CK_INVALID_HANDLE;

    if (rsa_create(&s, key, &private_key, &err) != 0) {
        return wrong(&err);
    }
    kbs_template_secret_key(&t, CKK_GENERIC_SECRET, false, true, KBS_USAGE_NONE);
    if (kbs_scratch_unwrap_by(&s, &mechanism, private_key, ct, &t, &got, &err) != 0) {
        return refused_own(&err);
    }
    return key_is(got, msg);
}

/* OAEP is randomised, so the other way round: the token wraps, the vector's private key opens. */
static struct vector_answer oaep_wrap(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                      struct kbs_span msg)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    KBS_AUTO_SECRET opened = NULL;
    const struct kbs_tee_key tee = {.alg = alg, .rsa = *kbs_agree_rsa_public(key)};
    const struct kbs_recipient_order order = {.format = KBS_FORMAT_JOSE, .tee = &tee};
    struct kbs_recipient made = {.wrapped_len = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (secret_create(&s, CKK_GENERIC_SECRET, msg, true, KBS_USAGE_NONE, &object, &err) != 0 ||
        kbs_tee_key_check(&tee, &err) != 0 ||
        kbs_recipient_rsa(&token, &order, object, &made, &err) != 0 ||
        kbs_agree_oaep_decrypt(key, alg, kbs_span(made.wrapped, made.wrapped_len), &opened, &err) !=
            0) {
        return wrong(&err);
    }
    return vector_compared(kbs_secret_span(opened), msg);
}

static struct vector_answer token_oaep(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                       struct kbs_span ct, struct kbs_span msg)
{
    struct vector_answer a;

    if (!wraps_by(alg)) {
        return vector_answer(VECTOR_SKIPPED, "the token has no RSA-OAEP with this hash");
    }
    if (vector_software.oaep(key, alg, ct, msg).got != VECTOR_RIGHT) {
        return oaep_unwrap(key, alg, ct, msg);
    }
    if (msg.len == 0) {
        return vector_answer(VECTOR_SKIPPED, "no key has 0 bytes");
    }
    a = oaep_wrap(key, alg, msg);
    /* What AES-KW can wrap can be told apart when it has been unwrapped. */
    return a.got == VECTOR_RIGHT && msg.len == KEY_BYTES ? oaep_unwrap(key, alg, ct, msg) : a;
}

/* ---- AES-GCM and whole JWEs ---- */

/* The content of something sealed, under a session key that is there. */
static struct vector_answer content(CK_OBJECT_HANDLE cek, const struct kbs_sealed *sealed,
                                    struct kbs_span aad, struct kbs_span msg)
{
    KBS_AUTO_SECRET plain = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_secret_new(sealed->ciphertext.len + sizeof(sealed->tag), &plain, &err), 0);
    if (kbs_opening_decrypt(&token, cek, sealed, aad, plain, &err) != 0) {
        return refused(VECTOR_REFUSED, &err);
    }
    return vector_compared(kbs_secret_span(plain), msg);
}

/* A secret of no bytes does not come out of the store. */
static struct vector_answer empty_refused(const struct kbs_sealed *sealed)
{
    struct kbs_buf at_rest = KBS_BUF(1024);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_sealed again;
    int rc;

    kbs_sealed_put(&at_rest, sealed);
    rc = kbs_sealed_get(kbs_buf_span(&at_rest), &again, &err);
    kbs_buf_deinit(&at_rest);
    return rc != 0 ? refused(VECTOR_BEFORE, &err)
                   : vector_answer(VECTOR_WRONG, "an empty secret is read");
}

static struct vector_answer token_gcm(const struct vector_gcm *v)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_sealed sealed = {.seal_version = 1, .ciphertext = v->ct};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE cek = CK_INVALID_HANDLE;

    memcpy(sealed.iv, v->iv.p, sizeof(sealed.iv));
    memcpy(sealed.tag, v->tag.p, sizeof(sealed.tag));
    sealed.epk.curve = KBS_CURVE_P256;
    if (v->ct.len == 0) {
        return empty_refused(&sealed);
    }
    if (secret_create(&s, CKK_AES, v->key, false, KBS_USAGE_DECRYPT, &cek, &err) != 0) {
        return wrong(&err);
    }
    return content(cek, &sealed, v->aad, v->msg);
}

/* A JWE that was read, by the steps in which a sealed secret is opened. */
static struct vector_answer jwe_open(const struct vector_jwe *v, const struct kbs_jose_jwe_in *in)
{
    KBS_AUTO_SCRATCH s = {.token = &token};
    struct kbs_sealed sealed = {.ciphertext = kbs_buf_span(&in->ciphertext)};
    struct kbs_template t = {.n = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE cek = CK_INVALID_HANDLE;

    memcpy(sealed.iv, in->iv, sizeof(sealed.iv));
    memcpy(sealed.tag, in->tag, sizeof(sealed.tag));
    if (agreed_kek(&s, v->public_key.ec.curve, v->d, &in->epk, &kek, &err) != 0) {
        return wrong(&err);
    }
    kbs_template_secret_key(&t, CKK_AES, false, false, KBS_USAGE_DECRYPT);
    if (kbs_scratch_unwrap(&s, kek, kbs_buf_span(&in->encrypted_key), &t, &cek, &err) != 0) {
        (void)kbs_receive_failed(&token, "the sealed secret's key", &err);
        return refused(VECTOR_REFUSED, &err);
    }
    return content(cek, &sealed, kbs_buf_span(&in->protected_text), v->plain);
}

static struct vector_answer token_jwe(const struct vector_jwe *v)
{
    KBS_AUTO_JSON json = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jwe_in in;
    struct vector_answer a;

    if (v->ec == NULL) {
        return vector_answer(VECTOR_SKIPPED, "no JWE that comes to the service is opened by RSA");
    }
    if (kbs_json_parse_object(v->text, "JWE", &json, &err) != 0 ||
        kbs_jose_jwe_get(json, KBS_TEE_ALG_ECDH_ES_A256KW, &in, &err) != 0) {
        return refused(VECTOR_BEFORE, &err);
    }
    a = jwe_open(v, &in);
    kbs_jose_jwe_in_deinit(&in);
    return a;
}

const struct vector_side vector_token = {.name = "token",
                                         .unwrap = token_unwrap,
                                         .hkdf = token_hkdf,
                                         .ecdh = token_ecdh,
                                         .agreed = token_agreed,
                                         .oaep = token_oaep,
                                         .gcm = token_gcm,
                                         .jwe = token_jwe};
