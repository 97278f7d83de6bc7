/*
 * The ladder on real tokens: every rung that a token passes makes what OpenSSL opens, read from the
 * printed answer as a guest would; the choice keeps to floor, formats, TEE key and key length; and
 * what cannot be done is refused by name. Rungs that a token has not run behind more.c, and on
 * the mock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/encoding.h"
#include "base/io.h"
#include "base/random.h"
#include "cose/read/cose.h"
#include "cose/write/cose.h"
#include "harness.h"
#include "hsm/caps.h"
#include "hsm/jwe.h"
#include "hsm/ladder.h"
#include "jose/write/jose.h"

#define KID "r/t/name/v1"
#define PARTY_V "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv"

/* What a token is known to do: the rungs that pass for an EC key or an RSA key, of any size. */
static const struct known {
    const char *name;
    const char *rungs; /* as --probe tries them, a blank before and after each */
    bool pads;         /* AES Key Wrap fills up a key of 20 bytes */
    size_t cells;      /* a rung, format and kind of TEE key each, at start */
    const char *jwe_rung;
    const char *note; /* how what --probe says of it begins */
} knowns[] = {
    /* Transport twice on three curves, RSA-OAEP twice, worker seven times. */
    {"softhsm", " RSA-OAEP transport transport-unwrap worker ", true, 6 + 2 + 7, "worker",
     "# SoftHSM: "},
    {"nss", " COSE-HKDF JOSE-chain RSA-OAEP-256 RSA-OAEP transport transport-unwrap worker ", true,
     3 + 3 + 2 + 2 + 6 + 7, "worker", "# NSS: "},
    {"kryoptic",
     " COSE-HKDF JOSE-KDF JOSE-chain RSA-OAEP-256 RSA-OAEP GCM-wrap transport transport-unwrap "
     "worker ",
     false, 3 + 3 + 3 + 2 + 2 + 7 + 6 + 7, "GCM-wrap", "# kryoptic: "},
    {"opencryptoki", " JOSE-KDF RSA-OAEP-256 RSA-OAEP GCM-wrap transport transport-unwrap worker ",
     true, 3 + 2 + 2 + 7 + 6 + 7, "GCM-wrap", "# openCryptoki: "},
    {"mock",
     " COSE-HKDF JOSE-KDF JOSE-chain RSA-OAEP-256 RSA-OAEP GCM-wrap transport transport-unwrap "
     "worker ",
     false, 3 + 3 + 3 + 2 + 2 + 7 + 6 + 7, "GCM-wrap", "# This token is not in the table"},
};
static const struct known *known;

static struct token_dir dir;
static struct kbs_token token;
static struct kbs_ladder ladder;
static struct kbs_error err;

/* ---- the token ---- */

static void init_args_copy(char out[512])
{
    (void)snprintf(out, 512, "%s", dir.init_args);
}

static struct kbs_secret *pin_new(void)
{
    struct kbs_secret *pin = NULL;

    assert_int_equal(kbs_secret_new(sizeof(PIN) - 1, &pin, &err), 0);
    memcpy(kbs_secret_bytes(pin), PIN, sizeof(PIN) - 1);
    return pin;
}

static void token_open(const char *module)
{
    KBS_AUTO_SECRET pin = pin_new();
    char init_args[512];

    init_args_copy(init_args);
    token = KBS_TOKEN_NULL;
    if (kbs_token_load(&token, module, init_args[0] != '\0' ? init_args : NULL, &err) != 0 ||
        kbs_token_find(&token, dir.uri, &err) != 0 || kbs_token_login(&token, pin, &err) != 0) {
        fail_msg("%s", err.detail);
    }
}

static void token_provision(void)
{
    KBS_AUTO_SECRET pin = pin_new();
    KBS_AUTO_SECRET so_pin = NULL;
    char init_args[512];

    init_args_copy(init_args);
    token = KBS_TOKEN_NULL;
    if (dir_so_pin() != NULL) {
        assert_int_equal(kbs_secret_new(sizeof(SO_PIN) - 1, &so_pin, &err), 0);
        memcpy(kbs_secret_bytes(so_pin), SO_PIN, sizeof(SO_PIN) - 1);
    }
    if (kbs_token_load(&token, module_path, init_args[0] != '\0' ? init_args : NULL, &err) != 0 ||
        kbs_token_provision(&token, dir.uri, so_pin, pin, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    kbs_token_close(&token);
}

static size_t count_objects(void)
{
    CK_OBJECT_HANDLE found[256];
    CK_ULONG n = 0;

    assert_int_equal(token.f->C_FindObjectsInit(token.session, NULL, 0), CKR_OK);
    assert_int_equal(token.f->C_FindObjects(token.session, found, 256, &n), CKR_OK);
    assert_int_equal(token.f->C_FindObjectsFinal(token.session), CKR_OK);
    return n;
}

static size_t rung_index(const char *name)
{
    for (size_t i = 0; i < KBS_RUNG_COUNT; i++) {
        if (strcmp(kbs_rungs[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no rung %s", name);
    return 0;
}

static enum kbs_probe_result result_of(const char *rung, enum kbs_format format,
                                       enum kbs_tee_kind tee_kind, enum kbs_probe_length length)
{
    return ladder.probes[rung_index(rung)][format][tee_kind][length].result;
}

/* ---- TEE keys ---- */

struct tee {
    struct kbs_tee_key key;
    struct kbs_agree_key *ec;
    struct kbs_agree_rsa *rsa;
};
static struct tee tees[KBS_TEE_KIND_COUNT];

static void tee_ec(struct tee *t, enum kbs_curve curve)
{
    assert_int_equal(kbs_agree_key_generate(curve, &t->ec, &err), 0);
    t->key.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
    t->key.ec = *kbs_agree_key_public(t->ec);
}

static void tee_rsa(struct tee *t, unsigned int bits, enum kbs_tee_alg alg)
{
    assert_int_equal(kbs_agree_rsa_known(bits, &t->rsa, &err), 0);
    t->key.alg = alg;
    t->key.rsa = *kbs_agree_rsa_public(t->rsa);
}

static void tees_make(void)
{
    tee_ec(&tees[KBS_TEE_P256], KBS_CURVE_P256);
    tee_ec(&tees[KBS_TEE_P384], KBS_CURVE_P384);
    tee_ec(&tees[KBS_TEE_P521], KBS_CURVE_P521);
    tee_rsa(&tees[KBS_TEE_RSA_2048], 2048, KBS_TEE_ALG_RSA_OAEP_256);
    tee_rsa(&tees[KBS_TEE_RSA_2048_SHA1], 2048, KBS_TEE_ALG_RSA_OAEP);
    tee_rsa(&tees[KBS_TEE_RSA_3072], 3072, KBS_TEE_ALG_RSA_OAEP_256);
    tee_rsa(&tees[KBS_TEE_RSA_3072_SHA1], 4096,
            KBS_TEE_ALG_RSA_OAEP); /* stands for all larger ones */
}

static void tees_free(void)
{
    for (size_t i = 0; i < KBS_TEE_KIND_COUNT; i++) {
        tees[i].ec = kbs_agree_key_free(tees[i].ec);
        tees[i].rsa = kbs_agree_rsa_free(tees[i].rsa);
    }
}

/* ---- opening what was printed ---- */

static struct kbs_buf decode(const json_t *object, const char *member)
{
    struct kbs_buf out = KBS_BUF(4096);
    const char *text = json_string_value(json_object_get(object, member));

    assert_non_null(text);
    assert_int_equal(kbs_base64url_get(&out, kbs_span_str(text)), 0);
    return out;
}

static struct kbs_ec_public epk_of(const json_t *header)
{
    const json_t *epk = json_object_get(header, "epk");
    struct kbs_ec_public ret = {.curve = kbs_curve_from_jose_name(
                                    kbs_span_str(json_string_value(json_object_get(epk, "crv"))))};
    struct kbs_buf x = decode(epk, "x");
    struct kbs_buf y = decode(epk, "y");

    assert_int_equal(x.len, kbs_curve_field_bytes(ret.curve));
    memcpy(ret.x, x.p, x.len);
    memcpy(ret.y, y.p, y.len);
    kbs_buf_deinit(&x);
    kbs_buf_deinit(&y);
    return ret;
}

static void open_wrapped(const struct tee *t, const json_t *header, struct kbs_span party_u,
                         struct kbs_span party_v, struct kbs_span wrapped, struct kbs_secret **ret)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_buf info = KBS_BUF(1024);
    struct kbs_ec_public epk;

    assert_string_equal(json_string_value(json_object_get(header, "alg")),
                        kbs_tee_alg_name(t->key.alg));
    if (t->rsa != NULL) {
        assert_null(json_object_get(header, "epk"));
        assert_int_equal(kbs_agree_oaep_decrypt(t->rsa, t->key.alg, wrapped, ret, &err), 0);
        return;
    }
    epk = epk_of(header);
    kbs_jose_other_info_put(&info, party_u, party_v);
    assert_int_equal(kbs_agree_ecdh(t->ec, &epk, &z, &err), 0);
    assert_int_equal(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err), 0);
    assert_int_equal(kbs_agree_unwrap(kbs_secret_span(kek), wrapped, ret, &err), 0);
    kbs_buf_deinit(&info);
}

static void open_jose(const struct tee *t, const json_t *json, struct kbs_secret **ret)
{
    const json_t *header = json_object_get(json, "header");
    struct kbs_buf wrapped = decode(json, "encrypted_key");

    assert_string_equal(json_string_value(json_object_get(header, "kid")), KID);
    open_wrapped(t, header, kbs_span_str(KID), kbs_span_str(PARTY_V), kbs_buf_span(&wrapped), ret);
    kbs_buf_deinit(&wrapped);
}

static void open_jwe(const struct tee *t, const json_t *json, struct kbs_secret **ret)
{
    struct kbs_buf parts[] = {decode(json, "protected"), decode(json, "encrypted_key"),
                              decode(json, "iv"), decode(json, "ciphertext"), decode(json, "tag")};
    json_t *header = json_loadb((const char *)parts[0].p, parts[0].len, 0, NULL);
    const char *aad = json_string_value(json_object_get(json, "protected"));
    KBS_AUTO_SECRET cek = NULL;

    assert_non_null(header);
    assert_int_equal(json_object_size(json), 5);
    assert_string_equal(json_string_value(json_object_get(header, "enc")), "A256GCM");
    open_wrapped(t, header, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY, kbs_buf_span(&parts[1]), &cek);
    assert_int_equal(parts[2].len, KBS_GCM_IV_BYTES);
    assert_int_equal(parts[4].len, KBS_GCM_TAG_BYTES);
    assert_int_equal(kbs_secret_new(parts[3].len, ret, &err), 0);
    assert_int_equal(kbs_agree_gcm_open(kbs_secret_span(cek), parts[2].p, kbs_span_str(aad),
                                        kbs_buf_span(&parts[3]), parts[4].p, kbs_secret_bytes(*ret),
                                        &err),
                     0);
    json_decref(header);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        kbs_buf_deinit(&parts[i]);
    }
}

static void open_cose(const struct tee *t, struct kbs_span body, struct kbs_secret **ret)
{
    struct kbs_cose_recipient_in r = {0};
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_buf info = KBS_BUF(2048);

    assert_int_equal(kbs_cose_recipient_get(body, &r, &err), 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&r.kid), KID));
    kbs_cose_kdf_context_put(&info, kbs_span_str(KID), kbs_span_str(PARTY_V),
                             kbs_buf_span(&r.protected_map));
    assert_int_equal(kbs_agree_ecdh(t->ec, &r.epk, &z, &err), 0);
    assert_int_equal(
        kbs_agree_hkdf(kbs_secret_span(z), KBS_SPAN_EMPTY, kbs_buf_span(&info), &kek, &err), 0);
    assert_int_equal(
        kbs_agree_unwrap(kbs_secret_span(kek), kbs_buf_span(&r.encrypted_key), ret, &err), 0);
    kbs_buf_deinit(&info);
    kbs_cose_recipient_in_deinit(&r);
}

static void open_body(const struct tee *t, enum kbs_format format, struct kbs_span body,
                      struct kbs_secret **ret)
{
    json_t *json;

    if (format == KBS_FORMAT_COSE) {
        open_cose(t, body, ret);
        return;
    }
    json = json_loadb((const char *)body.p, body.len, 0, NULL);
    assert_non_null(json);
    if (format == KBS_FORMAT_JWE) {
        open_jwe(t, json, ret);
    } else {
        open_jose(t, json, ret);
    }
    json_decref(json);
}

/* ---- releases ---- */

/* A session key of known value, as a released key would be. */
static CK_OBJECT_HANDLE key_new(struct kbs_scratch *s, const uint8_t *value, size_t len)
{
    struct kbs_template key = {.n = 0};
    CK_OBJECT_HANDLE ret = CK_INVALID_HANDLE;
    bool aes = len == 16 || len == 24 || len == 32;

    kbs_template_secret_key(&key, aes ? CKK_AES : CKK_GENERIC_SECRET, false, true, KBS_USAGE_NONE);
    kbs_template_bytes(&key, CKA_VALUE, kbs_span(value, len));
    assert_int_equal(kbs_scratch_create(s, &key, &ret, &err), 0);
    return ret;
}

static struct kbs_recipient_order order_to(const struct tee *t)
{
    return (struct kbs_recipient_order){.tee = &t->key,
                                        .kid = kbs_span_str(KID),
                                        .party_u = kbs_span_str(KID),
                                        .party_v = kbs_span_str(PARTY_V)};
}

/* Releases a key of `len` bytes by that choice and compares what its receiver opens. */
static void release_and_open(const struct kbs_ladder_choice *choice, const struct tee *t,
                             size_t len)
{
    KBS_AUTO_SCRATCH scratch = {.token = &token};
    KBS_AUTO_SECRET opened = NULL;
    struct kbs_recipient_order order = order_to(t);
    struct kbs_buf body = KBS_BUF(8192);
    uint8_t value[KBS_LIMIT_KEY_BYTES_MAX];

    kbs_random(value, sizeof(value));
    err = KBS_ERROR_NONE;
    if (kbs_rung_release(&token, choice, &order, key_new(&scratch, value, len), len, &body, &err) !=
        0) {
        fail_msg("%s of %zu bytes: %s", choice->rung->name, len, err.detail);
    }
    open_body(t, choice->format, kbs_buf_span(&body), &opened);
    assert_int_equal(kbs_secret_len(opened), len);
    assert_memory_equal(kbs_secret_bytes(opened), value, len);
    kbs_buf_deinit(&body);
}

static const struct kbs_rung *cek_rung_for(size_t tee_kind)
{
    for (size_t i = 0; i < KBS_RUNG_COUNT; i++) {
        if (kbs_rungs[i].locality == KBS_LOCALITY_TOKEN &&
            ladder.probes[i][KBS_FORMAT_JOSE][tee_kind][KBS_PROBE_32].result == KBS_PROBE_PASSED) {
            return &kbs_rungs[i];
        }
    }
    return NULL;
}

/* Every cell that passed, with keys of every length. Returns how many cells that were. */
static size_t release_everything(void)
{
    static const size_t lengths[] = {16, 24, 32, 40, 48, 56, 64};
    size_t cells = 0;

    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        for (unsigned int format = KBS_FORMAT_JOSE; format < KBS_FORMAT_COUNT; format++) {
            for (size_t k = 0; k < KBS_TEE_KIND_COUNT; k++) {
                struct kbs_ladder_choice choice = {.rung = &kbs_rungs[rung],
                                                   .format = (enum kbs_format)format};

                if (ladder.probes[rung][format][k][KBS_PROBE_32].result != KBS_PROBE_PASSED) {
                    continue;
                }
                choice.cek = choice.rung->needs_cek ? cek_rung_for(k) : NULL;
                for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                    release_and_open(&choice, &tees[k], lengths[i]);
                }
                cells++;
            }
        }
    }
    return cells;
}

static int choose(const char *formats, enum kbs_tee_kind tee_kind, size_t bytes,
                  enum kbs_locality floor, struct kbs_ladder_choice *ret)
{
    err = KBS_ERROR_NONE;
    return kbs_ladder_choose(&ladder, kbs_span_str(formats), &tees[tee_kind].key, bytes, floor, ret,
                             &err);
}

static void assert_choice(const char *formats, enum kbs_tee_kind tee_kind, size_t bytes,
                          enum kbs_locality floor, const char *rung, enum kbs_format format)
{
    struct kbs_ladder_choice choice = {.rung = NULL};

    if (choose(formats, tee_kind, bytes, floor, &choice) != 0) {
        fail_msg("no %s: %s", rung, err.detail);
    }
    assert_string_equal(choice.rung->name, rung);
    assert_int_equal(choice.format, format);
}

static void assert_no_choice(const char *formats, enum kbs_tee_kind tee_kind, size_t bytes,
                             enum kbs_locality floor, const char *text)
{
    struct kbs_ladder_choice choice = {.rung = NULL};

    assert_int_equal(choose(formats, tee_kind, bytes, floor, &choice), -1);
    assert_int_equal(err.category, KBS_UNSUPPORTED);
    if (strstr(err.detail, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.detail, text);
    }
}

#define JOSE "\1"
#define COSE "\2"
#define JWE "\3"

/* ---- tests ---- */

static void probe(bool all)
{
    uint64_t begin = kbs_clock_mono_ns();

    err = KBS_ERROR_NONE;
    if (kbs_ladder_probe(&ladder, &token, all, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    print_message("probe%s: %u ms\n", all ? " of all" : "",
                  (unsigned int)((kbs_clock_mono_ns() - begin) / KBS_NS_PER_MS));
}

static enum kbs_probe_result known_result(const char *rung)
{
    char word[64];

    (void)snprintf(word, sizeof(word), " %s ", rung);
    return strstr(known->rungs, word) != NULL ? KBS_PROBE_PASSED : KBS_PROBE_FAILED;
}

static void the_matrix(void **state)
{
    struct kbs_buf text = KBS_BUF(65536);
    size_t before = count_objects();

    (void)state;
    probe(true);
    assert_int_equal(count_objects(), before);
    assert_int_equal(token.destroy_failures, 0);
    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        for (unsigned int format = KBS_FORMAT_JOSE; format < KBS_FORMAT_COUNT; format++) {
            for (size_t k = 0; k < KBS_TEE_KIND_COUNT; k++) {
                enum kbs_probe_result got = ladder.probes[rung][format][k][KBS_PROBE_32].result;

                /* GCM-wrap is not tried where no rung brings its content key. */
                if (got != KBS_PROBE_NONE && got != KBS_PROBE_SKIPPED &&
                    got != known_result(kbs_rungs[rung].name)) {
                    fail_msg("%s %s %s: %d", kbs_rungs[rung].name,
                             kbs_format_name((enum kbs_format)format),
                             kbs_tee_kind_name((enum kbs_tee_kind)k), (int)got);
                }
            }
        }
    }
    /* Padding is seen, and not used. */
    assert_int_equal(result_of("transport", KBS_FORMAT_JOSE, KBS_TEE_P256, KBS_PROBE_20),
                     known->pads ? KBS_PROBE_PADDED : KBS_PROBE_FAILED);
    /* Nothing is claimed that is not meant. */
    assert_int_equal(result_of("RSA-OAEP", KBS_FORMAT_JOSE, KBS_TEE_RSA_2048, KBS_PROBE_32),
                     KBS_PROBE_NONE);
    assert_int_equal(result_of("worker", KBS_FORMAT_JOSE, KBS_TEE_P256, KBS_PROBE_32),
                     KBS_PROBE_NONE);

    kbs_caps_put(&text, &ladder);
    kbs_caps_notes_put(&text, &ladder, &token);
    assert_non_null(kbs_buf_cstr(&text));
    assert_non_null(
        strstr(kbs_buf_cstr(&text), "transport\tcose\tP-384\t32\tpassed\ttransport\t-\t-\n"));
    assert_non_null(strstr(kbs_buf_cstr(&text), known->note));
    assert_int_equal(strstr(kbs_buf_cstr(&text), "# The token pads keys") != NULL, known->pads);
    kbs_buf_deinit(&text);
}

static void at_start_only_what_is_needed(void **state)
{
    size_t before = count_objects();

    (void)state;
    probe(false);
    assert_int_equal(count_objects(), before);
    assert_int_equal(result_of("transport-unwrap", KBS_FORMAT_JOSE, KBS_TEE_P256, KBS_PROBE_32),
                     KBS_PROBE_SKIPPED);
    assert_false(token.transport.needed);
    assert_int_equal(token.transport.private_key, CK_INVALID_HANDLE);
}

static void every_rung_makes_what_opens(void **state)
{
    size_t before = count_objects();

    (void)state;
    probe(false);
    assert_int_equal(release_everything(), known->cells);
    assert_int_equal(count_objects(), before);
    assert_int_equal(token.destroy_failures, 0);
}

static void the_choice_keeps_to_the_floor(void **state)
{
    (void)state;
    probe(false);
    if (kind->best_locality == KBS_LOCALITY_TOKEN) {
        assert_choice(JOSE COSE, KBS_TEE_P256, 32, KBS_LOCALITY_TOKEN, kind->jose_rung,
                      KBS_FORMAT_JOSE);
        if (rung_locality(kind->cose_rung) == KBS_LOCALITY_TOKEN) {
            assert_choice(COSE JOSE, KBS_TEE_P521, 32, KBS_LOCALITY_WORKER, kind->cose_rung,
                          KBS_FORMAT_COSE);
        } else { /* locality before the client's order */
            assert_choice(COSE JOSE, KBS_TEE_P521, 32, KBS_LOCALITY_WORKER, kind->jose_rung,
                          KBS_FORMAT_JOSE);
            assert_no_choice(COSE, KBS_TEE_P521, 32, KBS_LOCALITY_TOKEN, "cose needs COSE-HKDF");
        }
        assert_choice(JOSE, KBS_TEE_RSA_2048, 32, KBS_LOCALITY_TOKEN, "RSA-OAEP-256",
                      KBS_FORMAT_JOSE);
        if (known_result("GCM-wrap") != KBS_PROBE_PASSED) { /* locality before the client's order */
            assert_choice(JWE JOSE, KBS_TEE_P256, 32, KBS_LOCALITY_WORKER, kind->jose_rung,
                          KBS_FORMAT_JOSE);
        }
        assert_choice(JOSE, KBS_TEE_RSA_3072, 20, KBS_LOCALITY_TOKEN, "RSA-OAEP-256",
                      KBS_FORMAT_JOSE);
    } else {
        assert_choice(JOSE COSE, KBS_TEE_P256, 32, KBS_LOCALITY_TRANSPORT, "transport",
                      KBS_FORMAT_JOSE);
        assert_choice(COSE JOSE, KBS_TEE_P384, 64, KBS_LOCALITY_WORKER, "transport",
                      KBS_FORMAT_COSE);
        assert_no_choice(JOSE, KBS_TEE_P256, 32, KBS_LOCALITY_TOKEN,
                         "this token reaches transport");
        assert_no_choice(JOSE, KBS_TEE_P256, 32, KBS_LOCALITY_TOKEN, "JOSE-KDF");
        assert_no_choice(JOSE, KBS_TEE_RSA_2048, 32, KBS_LOCALITY_WORKER,
                         "jose needs RSA-OAEP-256 (C_WrapKey: CKR_ARGUMENTS_BAD)");
    }
    assert_choice(JOSE, KBS_TEE_RSA_2048_SHA1, 32, KBS_LOCALITY_TOKEN, "RSA-OAEP", KBS_FORMAT_JOSE);
    assert_choice(JWE, KBS_TEE_P256, 32, KBS_LOCALITY_WORKER, known->jwe_rung, KBS_FORMAT_JWE);
    assert_choice(JWE, KBS_TEE_RSA_3072, 0, KBS_LOCALITY_WORKER, known->jwe_rung, KBS_FORMAT_JWE);
    if (known_result("GCM-wrap") != KBS_PROBE_PASSED) {
        /* The worker makes JWEs only, and only down there. */
        assert_no_choice(JWE, KBS_TEE_P256, 32, KBS_LOCALITY_TRANSPORT, "jwe needs GCM-wrap");
    }
    assert_no_choice(COSE, KBS_TEE_RSA_2048, 32, KBS_LOCALITY_WORKER, "cose has none");
}

static void other_lengths_do_not_go_by_key_wrap(void **state)
{
    (void)state;
    probe(false);
    assert_no_choice(JOSE COSE, KBS_TEE_P256, 20, KBS_LOCALITY_WORKER, "no multiple of 8 bytes");
    if (known_result("GCM-wrap") != KBS_PROBE_PASSED) {
        assert_no_choice(JWE, KBS_TEE_P256, 20, KBS_LOCALITY_WORKER, "no multiple of 8 bytes");
    }
    assert_choice(JOSE, KBS_TEE_RSA_2048_SHA1, 20, KBS_LOCALITY_TOKEN, "RSA-OAEP", KBS_FORMAT_JOSE);
    {
        struct kbs_ladder_choice choice = {.rung = NULL};

        assert_int_equal(choose(JOSE, KBS_TEE_RSA_2048_SHA1, 20, KBS_LOCALITY_TOKEN, &choice), 0);
        release_and_open(&choice, &tees[KBS_TEE_RSA_2048_SHA1], 20);
    }
}

static void malformed_orders_are_refused(void **state)
{
    struct kbs_ladder_choice choice = {.rung = NULL};
    struct kbs_tee_key nothing = {.alg = KBS_TEE_ALG_NONE};
    static const char *const formats[] = {"", "\4", "\1\2\3\1\2"};

    (void)state;
    probe(false);
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        assert_int_equal(choose(formats[i], KBS_TEE_P256, 32, KBS_LOCALITY_WORKER, &choice), -1);
        assert_int_equal(err.category, KBS_INPUT);
    }
    err = KBS_ERROR_NONE;
    assert_int_equal(kbs_ladder_choose(&ladder, kbs_span_str(JOSE), &nothing, 32,
                                       KBS_LOCALITY_WORKER, &choice, &err),
                     -1);
    assert_int_equal(err.category, KBS_INPUT);
}

/* The card says how long a key is; a token that wraps another one is not believed. */
static void another_length_is_noticed(void **state)
{
    KBS_AUTO_SCRATCH scratch = {.token = &token};
    struct kbs_recipient_order order = order_to(&tees[KBS_TEE_P256]);
    struct kbs_ladder_choice choice = {.rung = NULL};
    struct kbs_buf body = KBS_BUF(8192);
    static const uint8_t value[32] = {1};

    (void)state;
    probe(false);
    assert_int_equal(choose(JOSE, KBS_TEE_P256, 32, KBS_LOCALITY_WORKER, &choice), 0);
    assert_int_equal(
        kbs_rung_release(&token, &choice, &order, key_new(&scratch, value, 32), 24, &body, &err),
        -1);
    assert_int_equal(err.category, KBS_INTERNAL);
    assert_int_equal(body.len, 0);
    kbs_buf_deinit(&body);
}

static void jwe_in_software(void **state)
{
    static const size_t lengths[] = {1, 20, 4096, KBS_LIMIT_SECRET_VALUE_BYTES};

    (void)state;
    for (size_t k = 0; k < KBS_TEE_KIND_COUNT; k++) {
        for (size_t i = 0; i < 2; i++) {
            struct kbs_buf body = KBS_BUF(8192);
            KBS_AUTO_SECRET opened = NULL;
            uint8_t plain[20];

            kbs_random(plain, sizeof(plain));
            err = KBS_ERROR_NONE;
            assert_int_equal(kbs_jwe_to_tee(&tees[k].key, kbs_span(plain, lengths[i]), &body, &err),
                             0);
            open_body(&tees[k], KBS_FORMAT_JWE, kbs_buf_span(&body), &opened);
            assert_int_equal(kbs_secret_len(opened), lengths[i]);
            assert_memory_equal(kbs_secret_bytes(opened), plain, lengths[i]);
            kbs_buf_deinit(&body);
        }
    }
    for (size_t i = 2; i < 4; i++) {
        uint8_t *plain = calloc(1, lengths[i]);
        struct kbs_buf body = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES);

        assert_int_equal(kbs_jwe_to_tee(&tees[0].key, kbs_span(plain, lengths[i]), &body, &err), 0);
        assert_true(body.len > lengths[i]);
        kbs_buf_deinit(&body);
        free(plain);
    }
}

/* ---- what is known by name ---- */

/* A class is claimed only for names that are known; Luna's KDF number is for Luna alone. */
static void quirks_go_by_name(void **state)
{
    const struct kbs_quirk *luna = kbs_quirk_find("SafeNet", "LunaSA 7.8.4");
    const struct kbs_quirk *unknown = kbs_quirk_find("Luna", "SafeNet");

    (void)state;
    assert_int_equal(token.quirk->class, kind->class);
    assert_int_equal(token.quirk->so_pin_empty, kind->nss);
    assert_int_equal(token.quirk->concat_kdf, 0);
    assert_int_equal(luna->class, KBS_TOKEN_CLASS_HARDWARE);
    assert_int_equal(luna->concat_kdf, 0x80000014UL);
    assert_int_equal(unknown->class, KBS_TOKEN_CLASS_UNKNOWN);
    assert_int_equal(unknown->concat_kdf, 0);
    assert_non_null(unknown->notes[0]);
    assert_ptr_equal(kbs_quirk_find("", ""), unknown);
}

/* ---- the program ---- */

/* Runs kbs-token --probe on the token; its exit status, and what it printed. */
static int run_probe(const char *pin_file, struct kbs_buf *out)
{
    char command[2048];
    char chunk[4096];
    const char *bin = getenv("KBS_BIN_DIR");
    FILE *f;
    size_t n;
    int status;

    (void)snprintf(command, sizeof(command),
                   "%s/kbs-token --probe --module %s --uri '%s' --pin-file %s --init-args \"%s\" "
                   "--env KBS_TEST=1 2>&1",
                   bin, module_path, dir.uri, pin_file, dir.init_args);
    f = popen(command, "re");
    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0) {
        kbs_buf_put(out, chunk, n);
    }
    status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_program_prints_the_matrix(void **state)
{
    char path[300];
    char class[64];
    struct kbs_buf out = KBS_BUF(65536);

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/pin", dir.path);
    assert_int_equal(kbs_io_write_file(path, kbs_span_str(PIN "\n"), 0600, false, &err), 0);
    assert_int_equal(run_probe(path, &out), 0);
    (void)snprintf(class, sizeof(class), "class\t%s\n", kbs_token_class_name(kind->class));
    assert_non_null(strstr(kbs_buf_cstr(&out), class));
    assert_non_null(strstr(kbs_buf_cstr(&out), "worker\tjwe\tP-256\t32\tpassed\tworker\t-\t-\n"));
    assert_null(strstr(kbs_buf_cstr(&out), PIN));
    kbs_buf_clear(&out);
    assert_int_equal(run_probe("/nowhere", &out), 1);
    assert_non_null(strstr(kbs_buf_cstr(&out), "the PIN file cannot be opened"));
    kbs_buf_deinit(&out);
}

/* ---- behind more.c, or on a profile of the mock ---- */

/* The mock anew, with that line of configuration and that script. */
static void mock_open(const char *line, const char *script)
{
    char path[300];
    struct kbs_buf text = KBS_BUF(1024);

    kbs_token_close(&token);
    kbs_buf_printf(&text, "folder = %s\n%s\n", dir.path, line);
    assert_int_equal(
        kbs_io_write_file(strchr(dir.env, '=') + 1, kbs_buf_span(&text), 0600, false, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/script", dir.path);
    assert_int_equal(kbs_io_write_file(path, kbs_span_str(script), 0600, false, &err), 0);
    token_open(module_path);
    kbs_buf_deinit(&text);
}

static void more_open(const char *what)
{
    char path[512];

    if (kind->mock) {
        mock_open(strcmp(what, "noimport") == 0 ? "profile = fips3" : "",
                  strcmp(what, "nocreate") == 0
                      ? "C_CreateObject always rv CKR_TEMPLATE_INCONSISTENT\n"
                      : "");
        return;
    }
    kbs_token_close(&token);
    assert_int_equal(setenv("KBS_MORE_MODULE", module_path, 1), 0);
    assert_int_equal(setenv("KBS_MORE", what, 1), 0);
    (void)snprintf(path, sizeof(path), "%s/tests/bin/libtoken_more.so", getenv("KBS_BUILD_DIR"));
    token_open(path);
}

static void more_close(void)
{
    if (kind->mock) {
        mock_open("", "");
        return;
    }
    kbs_token_close(&token);
    token_open(module_path);
}

/* As under FIPS 140 level 3: transport by the RSA pair, and so the worker. */
static void import_forbidden(void **state)
{
    struct kbs_ladder_choice choice = {.rung = NULL};
    KBS_AUTO_SCRATCH scratch = {.token = NULL};
    struct kbs_recipient_order order = order_to(&tees[KBS_TEE_P521]);
    struct kbs_buf body = KBS_BUF(8192);
    struct kbs_buf text = KBS_BUF(65536);
    KBS_AUTO_SECRET opened = NULL;
    struct kbs_template template = {.n = 0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    size_t before;

    (void)state;
    more_open("noimport");
    before = count_objects();
    probe(false);
    assert_true(token.transport.needed);
    assert_int_equal(token.transport.public_key.alg,
                     known_result("RSA-OAEP-256") == KBS_PROBE_PASSED ? KBS_TEE_ALG_RSA_OAEP_256
                                                                      : KBS_TEE_ALG_RSA_OAEP);
    assert_int_equal(count_objects(), before + 1); /* the private half, until the session ends */
    assert_int_equal(result_of("transport", KBS_FORMAT_COSE, KBS_TEE_P256, KBS_PROBE_32),
                     KBS_PROBE_FAILED);
    assert_int_equal(result_of("transport-unwrap", KBS_FORMAT_COSE, KBS_TEE_P256, KBS_PROBE_32),
                     KBS_PROBE_PASSED);
    assert_choice(JWE, KBS_TEE_P521, 32, KBS_LOCALITY_WORKER,
                  result_of("GCM-wrap", KBS_FORMAT_JWE, KBS_TEE_P521, KBS_PROBE_32) ==
                          KBS_PROBE_PASSED
                      ? "GCM-wrap"
                      : "worker",
                  KBS_FORMAT_JWE);
    kbs_caps_notes_put(&text, &ladder, &token);
    assert_non_null(strstr(kbs_buf_cstr(&text), "transport-unwrap is used"));

    scratch.token = &token;
    kbs_template_secret_key(&template, CKK_AES, false, true, KBS_USAGE_NONE);
    kbs_template_number(&template, CKA_VALUE_LEN, 32);
    assert_int_equal(kbs_scratch_generate(&scratch, CKM_AES_KEY_GEN, &template, &key, &err), 0);
    choice = (struct kbs_ladder_choice){.rung = &kbs_rungs[rung_index("transport-unwrap")],
                                        .format = KBS_FORMAT_JOSE};
    for (int i = 0; i < 3; i++) {
        kbs_buf_clear(&body);
        opened = kbs_secret_free(opened);
        assert_int_equal(kbs_rung_release(&token, &choice, &order, key, 32, &body, &err), 0);
        open_body(&tees[KBS_TEE_P521], KBS_FORMAT_JOSE, kbs_buf_span(&body), &opened);
        assert_int_equal(kbs_secret_len(opened), 32);
    }
    kbs_scratch_deinit(&scratch);
    assert_int_equal(count_objects(), before + 1);
    assert_int_equal(token.destroy_failures, 0);
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&text);
    more_close();
}

/* No way in at all: neither transport nor worker nor RSA, and the matrix says by which call. */
static void nothing_comes_in(void **state)
{
    const struct kbs_probe *cell;

    (void)state;
    more_open("nocreate");
    probe(false);
    cell =
        &ladder
             .probes[rung_index("RSA-OAEP")][KBS_FORMAT_JOSE][KBS_TEE_RSA_2048_SHA1][KBS_PROBE_32];
    assert_int_equal(cell->result, KBS_PROBE_FAILED);
    assert_string_equal(cell->function, "C_CreateObject");
    assert_int_equal(cell->rv, CKR_TEMPLATE_INCONSISTENT);
    assert_no_choice(JOSE, KBS_TEE_RSA_2048_SHA1, 32, KBS_LOCALITY_WORKER,
                     "jose needs RSA-OAEP (C_CreateObject: CKR_TEMPLATE_INCONSISTENT)");
    more_close();
}

/* A token with the KDF of PKCS#11 3.0 and GCM wrap: every rung is there. */
static void the_whole_ladder(void **state)
{
    struct kbs_ladder_choice choice = {.rung = NULL};

    (void)state;
    if (kind->best_locality != KBS_LOCALITY_TOKEN) { /* no parts to put the KDF together from */
        more_open("gcm");
        probe(false);
        assert_int_equal(result_of("GCM-wrap", KBS_FORMAT_JWE, KBS_TEE_RSA_2048_SHA1, KBS_PROBE_20),
                         KBS_PROBE_PASSED);
        assert_int_equal(result_of("GCM-wrap", KBS_FORMAT_JWE, KBS_TEE_P256, KBS_PROBE_32),
                         KBS_PROBE_SKIPPED);
        assert_choice(JWE JOSE, KBS_TEE_RSA_2048_SHA1, 20, KBS_LOCALITY_TOKEN, "GCM-wrap",
                      KBS_FORMAT_JWE);
        assert_no_choice(JWE, KBS_TEE_P256, 32, KBS_LOCALITY_TOKEN, "GCM-wrap");
        (void)release_everything();
        more_close();
        return;
    }
    if (known_result("GCM-wrap") != KBS_PROBE_PASSED || kind->mock) {
        more_open("kdf gcm");
    }
    probe(false);
    assert_choice(JOSE, KBS_TEE_P384, 32, KBS_LOCALITY_TOKEN, "JOSE-KDF", KBS_FORMAT_JOSE);
    assert_choice(JWE, KBS_TEE_P384, 32, KBS_LOCALITY_TOKEN, "GCM-wrap", KBS_FORMAT_JWE);
    assert_choice(JWE, KBS_TEE_P384, 20, KBS_LOCALITY_TOKEN, "GCM-wrap", KBS_FORMAT_JWE);
    assert_int_equal(choose(JWE, KBS_TEE_P384, 20, KBS_LOCALITY_TOKEN, &choice), 0);
    assert_string_equal(choice.cek->name, "JOSE-KDF");
    release_and_open(&choice, &tees[KBS_TEE_P384], 20);
    assert_int_equal(choose(JWE, KBS_TEE_RSA_2048, 32, KBS_LOCALITY_TOKEN, &choice), 0);
    assert_string_equal(choice.cek->name, "RSA-OAEP-256");
    assert_int_equal(release_everything(), known_result("GCM-wrap") == KBS_PROBE_PASSED
                                               ? known->cells
                                               : 3 + 3 + 3 + 2 + 2 + 7 + 6 + 7);
    more_close();
}

/* Luna's KDF under Luna's number, where nothing else derives in the token (mock only). */
static void a_kdf_by_its_own_number(void **state)
{
    struct kbs_ladder_choice choice = {.rung = NULL};

    (void)state;
    if (!kind->mock) {
        skip();
    }
    mock_open("profile = luna\nmanufacturer = SafeNet\nmodel = Luna K7", "");
    assert_int_equal(token.quirk->concat_kdf, 0x80000014UL);
    probe(false);
    for (enum kbs_tee_kind k = KBS_TEE_P256; k <= KBS_TEE_P521; k++) {
        assert_int_equal(result_of("COSE-HKDF", KBS_FORMAT_COSE, k, KBS_PROBE_32),
                         KBS_PROBE_FAILED);
        assert_int_equal(result_of("JOSE-chain", KBS_FORMAT_JOSE, k, KBS_PROBE_32),
                         KBS_PROBE_FAILED);
        assert_choice(JOSE, k, 32, KBS_LOCALITY_TOKEN, "JOSE-KDF", KBS_FORMAT_JOSE);
        assert_int_equal(choose(JOSE, k, 32, KBS_LOCALITY_TOKEN, &choice), 0);
        release_and_open(&choice, &tees[k], 32);
    }
    /* The same token under another name: its number is not tried, and the standard one it lacks. */
    mock_open("profile = luna", "");
    probe(false);
    assert_int_equal(result_of("JOSE-KDF", KBS_FORMAT_JOSE, KBS_TEE_P256, KBS_PROBE_32),
                     KBS_PROBE_FAILED);
    more_close();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_matrix),
        cmocka_unit_test(at_start_only_what_is_needed),
        cmocka_unit_test(every_rung_makes_what_opens),
        cmocka_unit_test(the_choice_keeps_to_the_floor),
        cmocka_unit_test(other_lengths_do_not_go_by_key_wrap),
        cmocka_unit_test(malformed_orders_are_refused),
        cmocka_unit_test(another_length_is_noticed),
        cmocka_unit_test(jwe_in_software),
        cmocka_unit_test(quirks_go_by_name),
        cmocka_unit_test(the_program_prints_the_matrix),
        cmocka_unit_test(import_forbidden),
        cmocka_unit_test(nothing_comes_in),
        cmocka_unit_test(the_whole_ladder),
        cmocka_unit_test(a_kdf_by_its_own_number),
    };
    int failed;

    if (argc != 2 || !harness_select(argv[1])) {
        print_message("no module for %s: skipped\n", argc == 2 ? argv[1] : "");
        return 77;
    }
    for (size_t i = 0; i < sizeof(knowns) / sizeof(knowns[0]); i++) {
        if (strcmp(knowns[i].name, kind->name) == 0) {
            known = &knowns[i];
        }
    }
    if (known == NULL || kbs_secret_heap_init(&err) < 0) {
        return 1;
    }
    err = KBS_ERROR_NONE;
    dir_new(&dir);
    dir_enter(&dir);
    token_provision();
    token_open(module_path);
    tees_make();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    tees_free();
    kbs_token_close(&token);
    dir_remove(&dir);
    return failed;
}
