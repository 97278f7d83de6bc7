/*
 * cli/open: a released key opens only as the answer to the question that was asked. Answers are
 * made here the way kbs-token makes them (src/agree and the recipient writers), then changed in one
 * place each: whatever the place, no key may come out. Two kinds of change: of the message alone (a
 * host that edits), and of what the answer was made for, everything else consistent (a host that
 * swaps in another genuine answer).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "cli/open.h"
#include "cose/write/cose.h"
#include "jose/write/jose.h"

#define PATH "default/disk/vm1"
#define KID PATH "/v3"
#define BYTES_MAX 4096

/* Everything an answer is made of. */
struct answer {
    enum kbs_format format;
    enum kbs_curve epk_curve; /* of the ephemeral key */
    size_t key_bytes;
    const char *kid;
    struct kbs_span party_u; /* as written; derived with the same */
    struct kbs_span party_v;
    struct kbs_span salt;
    /* What is written instead of what was derived with; empty: the same. */
    const char *written_kid;
    struct kbs_span written_u;
    struct kbs_span written_v;
    struct kbs_span written_salt;
    bool flip_wrapped;
    bool other_epk;
    bool cut_wrapped;
};

struct fixture {
    struct kbs_guest_key tee_key;
    struct kbs_guest_ask ask;
    uint8_t party_v[32];
    uint8_t key[64];
    struct kbs_error err;
};

static int set_up_group(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    return kbs_secret_heap_init(&err) < 0 ? -1 : 0;
}

static void fixture_init(struct fixture *f, enum kbs_format format, enum kbs_curve curve)
{
    *f = (struct fixture){.ask = {.path = PATH, .format = format}};
    kbs_random(f->key, sizeof(f->key));
    kbs_random(f->ask.nonce, sizeof(f->ask.nonce));
    f->ask.digest.len = 48;
    kbs_random(f->ask.digest.p, 48);
    kbs_party_v(kbs_digest_span(&f->ask.digest), f->ask.nonce, f->party_v);
    assert_int_equal(kbs_guest_key_get(NULL, KBS_TEE_ALG_ECDH_ES_A256KW, kbs_curve_jose_name(curve),
                                       &f->tee_key, &f->err),
                     0);
}

static void fixture_deinit(struct fixture *f)
{
    kbs_guest_key_deinit(&f->tee_key);
}

static struct answer good_answer(const struct fixture *f)
{
    return (struct answer){
        .format = f->ask.format,
        .epk_curve = f->tee_key.public_key.ec.curve,
        .key_bytes = 32,
        .kid = KID,
        .party_u = KBS_SPAN_LIT(KID),
        .party_v = kbs_span(f->party_v, sizeof(f->party_v)),
    };
}

static struct kbs_span or_same(struct kbs_span written, struct kbs_span same)
{
    return written.p != NULL ? written : same;
}

static void derive(const struct fixture *f, const struct answer *a,
                   const struct kbs_agree_key *ephemeral, struct kbs_secret **ret_kek)
{
    struct kbs_buf info = KBS_BUF(BYTES_MAX);
    struct kbs_buf map = KBS_BUF(BYTES_MAX);
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_SECRET z = NULL;

    assert_int_equal(kbs_agree_ecdh(ephemeral, &f->tee_key.public_key.ec, &z, &err), 0);
    if (a->format == KBS_FORMAT_COSE) {
        kbs_cose_recipient_protected_put(&map, kbs_span_str(a->kid));
        kbs_cose_kdf_context_put(&info, a->party_u, a->party_v, kbs_buf_span(&map));
        assert_int_equal(
            kbs_agree_hkdf(kbs_secret_span(z), a->salt, kbs_buf_span(&info), ret_kek, &err), 0);
    } else {
        kbs_jose_other_info_put(&info, a->party_u, a->party_v);
        assert_int_equal(
            kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), ret_kek, &err), 0);
    }
    kbs_buf_deinit(&info);
    kbs_buf_deinit(&map);
}

static void write_answer(const struct answer *a, const struct kbs_ec_public *epk,
                         struct kbs_span wrapped, struct kbs_buf *out)
{
    struct kbs_span kid = kbs_span_str(a->written_kid != NULL ? a->written_kid : a->kid);
    struct kbs_span u = or_same(a->written_u, a->party_u);
    struct kbs_span v = or_same(a->written_v, a->party_v);

    if (a->format == KBS_FORMAT_COSE) {
        const struct kbs_cose_recipient r = {.epk = epk,
                                             .kid = kid,
                                             .party_u = u,
                                             .party_v = v,
                                             .salt = or_same(a->written_salt, a->salt),
                                             .encrypted_key = wrapped};
        kbs_cose_recipient_put(out, &r);
    } else {
        const struct kbs_jose_recipient r = {
            .epk = epk, .kid = kid, .apu = u, .apv = v, .encrypted_key = wrapped};
        kbs_jose_recipient_put(out, &r);
    }
    assert_false(out->failed);
}

/* On another curve than the TEE key there is no shared secret: any KEK will do, it must not get
 * that far. */
static void make_answer(const struct fixture *f, const struct answer *a, struct kbs_buf *out)
{
    uint8_t wrapped[KBS_LIMIT_KEY_BYTES_MAX + 8];
    size_t len = 0;
    struct kbs_agree_key *ephemeral = NULL;
    struct kbs_agree_key *other = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_SECRET kek = NULL;

    assert_int_equal(kbs_agree_key_generate(a->epk_curve, &ephemeral, &err), 0);
    assert_int_equal(kbs_agree_key_generate(a->epk_curve, &other, &err), 0);
    if (a->epk_curve == f->tee_key.public_key.ec.curve) {
        derive(f, a, ephemeral, &kek);
    } else {
        assert_int_equal(kbs_secret_new(32, &kek, &err), 0);
    }
    assert_int_equal(
        kbs_agree_wrap(kbs_secret_span(kek), kbs_span(f->key, a->key_bytes), wrapped, &len, &err),
        0);
    wrapped[5] ^= a->flip_wrapped ? 1 : 0;
    len -= a->cut_wrapped ? 8 : 0;
    write_answer(a, kbs_agree_key_public(a->other_epk ? other : ephemeral), kbs_span(wrapped, len),
                 out);
    (void)kbs_agree_key_free(ephemeral);
    (void)kbs_agree_key_free(other);
}

static void assert_opens(struct fixture *f, const struct answer *a)
{
    struct kbs_buf text = KBS_BUF(BYTES_MAX);
    struct kbs_guest_opened o;
    uint8_t kcv[4];

    make_answer(f, a, &text);
    assert_int_equal(kbs_guest_open(&f->ask, &f->tee_key, kbs_buf_span(&text), &o, &f->err), 0);
    assert_true(kbs_secret_equal(kbs_secret_span(o.key), kbs_span(f->key, a->key_bytes)));
    assert_string_equal(o.kid, a->kid);
    kbs_agree_kcv(kbs_span(f->key, a->key_bytes), kcv);
    assert_memory_equal(o.kcv, kcv, sizeof(kcv));
    kbs_guest_opened_deinit(&o);
    kbs_buf_deinit(&text);
}

static void assert_refused_text(struct fixture *f, struct kbs_span text, const char *what)
{
    struct kbs_guest_opened o = {.version = 7};
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_guest_open(&f->ask, &f->tee_key, text, &o, &err) != -1) {
        fail_msg("%s: opened", what);
    }
    assert_null(o.key);
    if (err.category != KBS_UNPROCESSABLE && err.category != KBS_INPUT) {
        fail_msg("%s: %s", what, kbs_category_name(err.category));
    }
    assert_true(err.detail[0] != '\0');
}

static void assert_refused(struct fixture *f, const struct answer *a, const char *what)
{
    struct kbs_buf text = KBS_BUF(BYTES_MAX);

    make_answer(f, a, &text);
    assert_refused_text(f, kbs_buf_span(&text), what);
    kbs_buf_deinit(&text);
}

static const enum kbs_format formats[] = {KBS_FORMAT_JOSE, KBS_FORMAT_COSE};

static void genuine_answers_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
            struct fixture f;
            fixture_init(&f, formats[i], c);
            struct answer a = good_answer(&f);
            for (a.key_bytes = 16; a.key_bytes <= 64; a.key_bytes += 8) {
                assert_opens(&f, &a);
            }
            a.key_bytes = 32;
            f.ask.version = 3;
            assert_opens(&f, &a);
            fixture_deinit(&f);
        }
    }
}

static void an_edited_answer_is_refused(void **state)
{
    static const uint8_t other_v[32] = {1};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        fixture_init(&f, formats[i], KBS_CURVE_P256);
        struct answer a = good_answer(&f);
        a.written_kid = "default/disk/vm2/v3";
        assert_refused(&f, &a, "kid, other path");
        a.written_kid = PATH "/v4"; /* the latest was asked for: the KDF tells */
        assert_refused(&f, &a, "kid, other version");
        a.written_kid = PATH;
        assert_refused(&f, &a, "kid without a version");
        a = good_answer(&f);
        a.written_u = KBS_SPAN_LIT("default/disk/vm2/v3");
        assert_refused(&f, &a, "party U");
        a = good_answer(&f);
        a.written_v = kbs_span(other_v, sizeof(other_v));
        assert_refused(&f, &a, "party V");
        a = good_answer(&f);
        a.other_epk = true;
        assert_refused(&f, &a, "epk");
        a = good_answer(&f);
        a.epk_curve = KBS_CURVE_P384;
        assert_refused(&f, &a, "epk on another curve");
        a = good_answer(&f);
        a.flip_wrapped = true;
        assert_refused(&f, &a, "encrypted_key");
        a = good_answer(&f);
        a.cut_wrapped = true;
        assert_refused(&f, &a, "encrypted_key cut short");
        fixture_deinit(&f);
    }
}

/* Consistent answers to other questions: everything fits together, only not to what was asked. */
static void an_answer_to_another_question_is_refused(void **state)
{
    uint8_t v[32];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        fixture_init(&f, formats[i], KBS_CURVE_P256);
        struct answer a = good_answer(&f);
        a.kid = "default/disk/vm2/v3";
        a.party_u = kbs_span_str(a.kid);
        assert_refused(&f, &a, "another key");
        a = good_answer(&f);
        f.ask.version = 2;
        assert_refused(&f, &a, "another version");
        f.ask.version = 0;
        kbs_party_v(kbs_digest_span(&f.ask.digest), (const uint8_t[32]){9}, v);
        a.party_v = kbs_span(v, sizeof(v));
        assert_refused(&f, &a, "another request nonce");
        struct kbs_digest other = f.ask.digest;
        other.p[0] ^= 1;
        kbs_party_v(kbs_digest_span(&other), f.ask.nonce, v);
        assert_refused(&f, &a, "another handshake");
        a = good_answer(&f);
        a.party_u = KBS_SPAN_EMPTY;
        a.party_v = KBS_SPAN_EMPTY;
        assert_refused(&f, &a, "empty context");
        fixture_deinit(&f);
    }
}

static void the_empty_context_is_accepted_only_when_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        fixture_init(&f, formats[i], KBS_CURVE_P256);
        f.ask.empty_context = true;
        struct answer a = good_answer(&f);
        assert_refused(&f, &a, "party info that was not asked for");
        a.party_u = KBS_SPAN_EMPTY;
        a.party_v = KBS_SPAN_EMPTY;
        assert_opens(&f, &a);
        a.kid = "default/disk/vm2/v3";
        assert_refused(&f, &a, "another key in the empty context");
        fixture_deinit(&f);
    }
}

static void a_cose_salt_must_be_the_one_sent(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f, KBS_FORMAT_COSE, KBS_CURVE_P256);
    struct answer a = good_answer(&f);
    a.written_salt = KBS_SPAN_LIT("salt");
    assert_refused(&f, &a, "salt added");
    a.written_salt = KBS_SPAN_EMPTY;
    a.salt = KBS_SPAN_LIT("salt");
    assert_refused(&f, &a, "salt chosen by the server");
    memcpy(f.ask.salt, "salt", 4);
    f.ask.salt_len = 4;
    assert_opens(&f, &a);
    a.written_salt = KBS_SPAN_LIT("tlas");
    assert_refused(&f, &a, "salt changed");
    a.salt = KBS_SPAN_EMPTY;
    a.written_salt = KBS_SPAN_EMPTY;
    assert_refused(&f, &a, "salt dropped");
    fixture_deinit(&f);
}

/* Whatever single byte is changed: refused, or read as the same answer (there is no such byte in
 * these formats). */
static void no_single_byte_can_be_changed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        struct kbs_buf text = KBS_BUF(BYTES_MAX);
        fixture_init(&f, formats[i], KBS_CURVE_P256);
        struct answer a = good_answer(&f);
        make_answer(&f, &a, &text);
        for (size_t at = 0; at < text.len; at++) {
            uint8_t before = text.p[at];
            text.p[at] = (uint8_t)(before ^ 0x01);
            assert_refused_text(&f, kbs_buf_span(&text), "a changed byte");
            text.p[at] = before;
        }
        for (size_t len = 0; len < text.len; len++) {
            assert_refused_text(&f, kbs_span(text.p, len), "a short answer");
        }
        kbs_buf_deinit(&text);
        fixture_deinit(&f);
    }
}

static void one_format_is_not_the_other(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        fixture_init(&f, formats[i], KBS_CURVE_P256);
        struct answer a = good_answer(&f);
        a.format = formats[1 - i];
        assert_refused(&f, &a, "the other format");
        fixture_deinit(&f);
    }
}

static struct kbs_span rsa_answer(struct fixture *f, enum kbs_tee_alg alg, size_t key_bytes,
                                  const char *kid, struct kbs_buf *out)
{
    const struct kbs_tee_key to = {.alg = alg, .rsa = f->tee_key.public_key.rsa};
    uint8_t encrypted[KBS_LIMIT_RSA_BYTES_MAX];
    size_t len = 0;

    kbs_buf_clear(out);
    assert_int_equal(
        kbs_agree_oaep_encrypt(&to, kbs_span(f->key, key_bytes), encrypted, &len, &f->err), 0);
    kbs_jose_rsa_recipient_put(out, alg, kbs_span_str(kid), kbs_span(encrypted, len));
    return kbs_buf_span(out);
}

static void an_answer_to_an_rsa_key_opens(void **state)
{
    const enum kbs_tee_alg algs[] = {KBS_TEE_ALG_RSA_OAEP_256, KBS_TEE_ALG_RSA_OAEP};
    struct kbs_buf text = KBS_BUF(BYTES_MAX);
    struct kbs_guest_opened o;
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fixture_init(&f, KBS_FORMAT_JOSE, KBS_CURVE_P256);
        kbs_guest_key_deinit(&f.tee_key);
        assert_int_equal(kbs_guest_key_get(NULL, algs[i], NULL, &f.tee_key, &f.err), 0);
        assert_int_equal(
            kbs_guest_open(&f.ask, &f.tee_key, rsa_answer(&f, algs[i], 64, KID, &text), &o, &f.err),
            0);
        assert_true(kbs_secret_equal(kbs_secret_span(o.key), kbs_span(f.key, 64)));
        kbs_guest_opened_deinit(&o);
        assert_refused_text(&f, rsa_answer(&f, algs[1 - i], 64, KID, &text), "the other hash");
        assert_refused_text(&f, rsa_answer(&f, algs[i], 64, "default/disk/vm2/v3", &text),
                            "another kid");
        assert_refused_text(&f, rsa_answer(&f, algs[i], 20, KID, &text), "a key of 20 bytes");
        fixture_deinit(&f);
    }
    kbs_buf_deinit(&text);
}

/* No service releases a key so; one that does is not believed, whatever the guest asked with. */
static void no_key_comes_by_rsa1_5(void **state)
{
    struct kbs_buf text = KBS_BUF(BYTES_MAX);
    uint8_t encrypted[KBS_LIMIT_RSA_BYTES_MAX];
    struct fixture f;
    size_t len = 0;

    (void)state;
    fixture_init(&f, KBS_FORMAT_JOSE, KBS_CURVE_P256);
    kbs_guest_key_deinit(&f.tee_key);
    assert_int_equal(kbs_guest_key_get(NULL, KBS_TEE_ALG_RSA1_5, NULL, &f.tee_key, &f.err), 0);
    assert_int_equal(kbs_agree_rsa1_5_encrypt(&f.tee_key.public_key, kbs_span(f.key, 32), encrypted,
                                              &len, &f.err),
                     0);
    kbs_jose_rsa_recipient_put(&text, KBS_TEE_ALG_RSA1_5, kbs_span_str(KID),
                               kbs_span(encrypted, len));
    assert_refused_text(&f, kbs_buf_span(&text), "RSA1_5");
    fixture_deinit(&f);
    kbs_buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(genuine_answers_open),
        cmocka_unit_test(an_edited_answer_is_refused),
        cmocka_unit_test(an_answer_to_another_question_is_refused),
        cmocka_unit_test(the_empty_context_is_accepted_only_when_asked_for),
        cmocka_unit_test(a_cose_salt_must_be_the_one_sent),
        cmocka_unit_test(no_single_byte_can_be_changed),
        cmocka_unit_test(one_format_is_not_the_other),
        cmocka_unit_test(an_answer_to_an_rsa_key_opens),
        cmocka_unit_test(no_key_comes_by_rsa1_5),
    };
    return cmocka_run_group_tests(tests, set_up_group, NULL);
}
