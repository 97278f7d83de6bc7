/*
 * The token alone, as the reference for what the service adds. One process holds a token opened in
 * itself and a real kbs-token on the same token, and does releases of one key to one TEE (P-256,
 * JOSE) in windows, as ordered on standard input:
 *
 *   bare MS      the PKCS#11 calls that make a release at this token's rung, and nothing else:
 *                key pair, its point, ECDH, the KDF's calls, wrap, destroys. Templates and KDF
 *                input are made once. What hsm/ reads back for caution is not among them.
 *   rung MS      kbs_recipient_ec(): the same by the function that serves releases
 *   release MS   kbs_release(): that, with the order's validation, the look-up and the printing
 *   channel MS   RELEASE orders to kbs-token over its judge channel, one in flight
 *
 * Each is answered by a line: releases, CPU of this process in ns, wall time in ns. Before the
 * first window the outcome is opened in software: a loop that forgot a call would be no reference.
 *
 *   perf_bare softhsm|nss      KBS_BIN_DIR names the folder of kbs-token
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "hsm/release.h"
#include "hsm/transport.h"
#include "tests/token/harness.h"

#define KEK_BYTES 32u
#define Z_BYTES 32u
#define OBJECTS_MAX 8u
#define KEY_BYTES 32u

static const uint8_t counter_1[4] = {0, 0, 0, 1};

struct bench {
    struct token_dir dir;
    struct worker worker;
    struct kbs_token token;
    struct kbs_agree_key *tee;
    struct key_ref key;
    struct kbs_wire_release order;
    struct kbs_tee_key tee_public;
    struct kbs_recipient_order recipient;
    kbs_derive_fn *derive;
    CK_OBJECT_HANDLE key_object;
    struct kbs_ladder ladder;
    struct kbs_cards *cards;
    struct kbs_buf info;
    uint8_t peer[KBS_EC_POINT_MAX_BYTES];
    size_t peer_len;
    uint8_t kcv[4];
};

/* The templates of a release, made once. */
struct templates {
    struct kbs_template public_key;
    struct kbs_template private_key;
    struct kbs_template z;
    struct kbs_template counted; /* 00000001 || Z */
    struct kbs_template input;   /* 00000001 || Z || OtherInfo */
    struct kbs_template kek;     /* derived, or with CKA_VALUE at `value` */
    uint8_t value[KEK_BYTES];
};

/* What a release leaves behind until it is destroyed. */
struct objects {
    size_t n;
    CK_OBJECT_HANDLE v[OBJECTS_MAX];
};

/* Ends the program when a call of the token fails: a figure with failures in it is none. */
static void must_ckr(CK_RV rv, const char *function)
{
    if (rv != CKR_OK) {
        fprintf(stderr, "perf_bare: %s: 0x%lx\n", function, rv);
        exit(1);
    }
}

static void must_not_fail(int rc, const struct kbs_error *err, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "perf_bare: %s: %s\n", what, err->detail);
        exit(1);
    }
}

static bool by_digest(void)
{
    return strcmp(kind->jose_rung, "transport") == 0;
}

/* ---- the bare loop ---- */

static void generic_secret(struct kbs_template *t, size_t len)
{
    kbs_template_secret_key(t, CKK_GENERIC_SECRET, false, false, KBS_USAGE_DERIVE);
    kbs_template_number(t, CKA_VALUE_LEN, len);
}

static void templates_make(struct templates *t, size_t info_len)
{
    kbs_template_ec_pair(&t->public_key, &t->private_key, KBS_CURVE_P256, false, KBS_USAGE_DERIVE);
    generic_secret(&t->z, Z_BYTES);
    generic_secret(&t->counted, sizeof(counter_1) + Z_BYTES);
    generic_secret(&t->input, sizeof(counter_1) + Z_BYTES + info_len);
    kbs_template_secret_key(&t->kek, CKK_AES, false, false, KBS_USAGE_WRAP);
    if (by_digest()) {
        kbs_template_bytes(&t->kek, CKA_VALUE, kbs_span(t->value, sizeof(t->value)));
    } else {
        kbs_template_number(&t->kek, CKA_VALUE_LEN, KEK_BYTES);
    }
}

static CK_OBJECT_HANDLE bare_derive(struct bench *b, CK_MECHANISM *mech, CK_OBJECT_HANDLE base,
                                    struct kbs_template *key, struct objects *o)
{
    must_ckr(b->token.f->C_DeriveKey(b->token.session, mech, base, key->a, key->n, &o->v[o->n]),
             "C_DeriveKey");
    return o->v[o->n++];
}

/* The transport rung: Z digested in the token, the digest imported. */
static CK_OBJECT_HANDLE bare_kek_transport(struct bench *b, struct templates *t, CK_OBJECT_HANDLE z,
                                           struct objects *o)
{
    CK_FUNCTION_LIST *f = b->token.f;
    CK_SESSION_HANDLE session = b->token.session;
    CK_MECHANISM mech = {CKM_SHA256, NULL, 0};
    CK_ULONG len = KEK_BYTES;

    must_ckr(f->C_DigestInit(session, &mech), "C_DigestInit");
    must_ckr(f->C_DigestUpdate(session, kbs_p11_in(counter_1), sizeof(counter_1)),
             "C_DigestUpdate");
    must_ckr(f->C_DigestKey(session, z), "C_DigestKey");
    must_ckr(f->C_DigestUpdate(session, b->info.p, b->info.len), "C_DigestUpdate");
    must_ckr(f->C_DigestFinal(session, t->value, &len), "C_DigestFinal");
    must_ckr(f->C_CreateObject(session, t->kek.a, t->kek.n, &o->v[o->n]), "C_CreateObject");
    return o->v[o->n++];
}

/* The chain rung: from key object to key object. */
static CK_OBJECT_HANDLE bare_kek_chain(struct bench *b, struct templates *t, CK_OBJECT_HANDLE z,
                                       struct objects *o)
{
    CK_KEY_DERIVATION_STRING_DATA before = {kbs_p11_in(counter_1), sizeof(counter_1)};
    CK_KEY_DERIVATION_STRING_DATA after = {b->info.p, b->info.len};
    CK_MECHANISM mech_before = {CKM_CONCATENATE_DATA_AND_BASE, &before, sizeof(before)};
    CK_MECHANISM mech_after = {CKM_CONCATENATE_BASE_AND_DATA, &after, sizeof(after)};
    CK_MECHANISM digest = {CKM_SHA256_KEY_DERIVATION, NULL, 0};
    CK_OBJECT_HANDLE key = bare_derive(b, &mech_before, z, &t->counted, o);

    key = bare_derive(b, &mech_after, key, &t->input, o);
    return bare_derive(b, &digest, key, &t->kek, o);
}

/* One release, from key pair to the last destroy. */
static void bare_once(struct bench *b, struct templates *t, struct kbs_recipient *ret)
{
    CK_FUNCTION_LIST *f = b->token.f;
    CK_SESSION_HANDLE session = b->token.session;
    CK_ECDH1_DERIVE_PARAMS params = {CKD_NULL, 0, NULL, b->peer_len, b->peer};
    CK_MECHANISM generate = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_MECHANISM ecdh = {CKM_ECDH1_DERIVE, &params, sizeof(params)};
    CK_MECHANISM wrap = {CKM_AES_KEY_WRAP, NULL, 0};
    CK_ULONG len = sizeof(ret->wrapped);
    struct objects o = {.n = 2};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE kek;

    must_ckr(f->C_GenerateKeyPair(session, &generate, t->public_key.a, t->public_key.n,
                                  t->private_key.a, t->private_key.n, &o.v[0], &o.v[1]),
             "C_GenerateKeyPair");
    must_not_fail(kbs_object_ec_point(&b->token, o.v[0], KBS_CURVE_P256, &ret->epk, &err), &err,
                  "CKA_EC_POINT");
    kek = bare_derive(b, &ecdh, o.v[1], &t->z, &o);
    kek = by_digest() ? bare_kek_transport(b, t, kek, &o) : bare_kek_chain(b, t, kek, &o);
    must_ckr(f->C_WrapKey(session, &wrap, kek, b->key_object, ret->wrapped, &len), "C_WrapKey");
    ret->wrapped_len = len;
    while (o.n > 0) {
        must_ckr(f->C_DestroyObject(session, o.v[--o.n]), "C_DestroyObject");
    }
}

/* ---- modes ---- */

static void once_bare(struct bench *b, struct templates *t, struct kbs_recipient *ret)
{
    bare_once(b, t, ret);
}

static void once_rung(struct bench *b, struct templates *t, struct kbs_recipient *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)t;
    must_not_fail(kbs_recipient_ec(&b->token, b->derive, &b->recipient, b->key_object, ret, &err),
                  &err, "the rung");
}

static void once_release(struct bench *b, struct templates *t, struct kbs_recipient *ret)
{
    struct kbs_answer answer = KBS_ANSWER;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)t;
    (void)ret;
    must_not_fail(kbs_release(&b->token, &b->ladder, b->cards, &b->order, &answer, &err), &err,
                  "kbs_release()");
    kbs_buf_deinit(&answer.body);
}

static void once_channel(struct bench *b, struct templates *t, struct kbs_recipient *ret)
{
    struct kbs_wire_result result = worker_order(&b->worker, KBS_WIRE_RELEASE, &b->order);

    (void)t;
    (void)ret;
    if (result.category != KBS_OK) {
        fprintf(stderr, "perf_bare: RELEASE: %.*s\n", (int)result.detail.len,
                (const char *)result.detail.p);
        exit(1);
    }
}

static const struct mode {
    const char *name;
    void (*once)(struct bench *b, struct templates *t, struct kbs_recipient *ret);
} modes[] = {
    {"bare", once_bare}, {"rung", once_rung}, {"release", once_release}, {"channel", once_channel}};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void run_window(struct bench *b, struct templates *t, const struct mode *mode,
                       unsigned long ms)
{
    uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t begin = clock_ns(CLOCK_MONOTONIC);
    uint64_t now = begin;
    struct kbs_recipient made;
    unsigned long n = 0;

    while (now - begin < ms * 1000000u) {
        mode->once(b, t, &made);
        n++;
        now = clock_ns(CLOCK_MONOTONIC);
    }
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%lu %llu %llu\n", n, (unsigned long long)cpu, (unsigned long long)(now - begin));
    (void)fflush(stdout);
}

/* ---- what is released, and that it is ---- */

static void check_opens(const struct bench *b, const struct kbs_recipient *r, const char *mode)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    KBS_AUTO_SECRET key = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t kcv[sizeof(b->kcv)];

    must_not_fail(kbs_agree_ecdh(b->tee, &r->epk, &z, &err), &err, mode);
    must_not_fail(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&b->info), &kek, &err),
                  &err, mode);
    must_not_fail(
        kbs_agree_unwrap(kbs_secret_span(kek), kbs_span(r->wrapped, r->wrapped_len), &key, &err),
        &err, mode);
    kbs_agree_kcv(kbs_secret_span(key), kcv);
    if (memcmp(kcv, b->kcv, sizeof(kcv)) != 0) {
        fprintf(stderr, "perf_bare: %s wraps something else than the key\n", mode);
        exit(1);
    }
}

static void check_modes(struct bench *b, struct templates *t)
{
    KBS_AUTO_SECRET key = NULL;
    struct kbs_recipient made = {.wrapped_len = 0};
    struct kbs_wire_result result;

    once_bare(b, t, &made);
    check_opens(b, &made, "bare");
    once_rung(b, t, &made);
    check_opens(b, &made, "rung");
    once_release(b, t, &made);
    result = worker_order(&b->worker, KBS_WIRE_RELEASE, &b->order);
    open_released(b->tee, &b->order, &result, &key);
}

/* A token with the service's keys and one to release, as in a service that was just set up, and the
 * worker of a guest lane on it. */
static void bench_start(struct bench *b)
{
    struct start_options options = {.init = true, .duty = KBS_DUTY_ADMIN};
    struct kbs_wire_result made;

    dir_new(&b->dir);
    worker_start(&b->worker, &b->dir, &options);
    order_service_keys(&b->worker);
    b->key = key_ref(1, 1);
    made = order_generate(&b->worker, &b->key, KEY_BYTES);
    if (made.category != KBS_OK) {
        fprintf(stderr, "perf_bare: the key to release could not be made\n");
        exit(1);
    }
    memcpy(b->kcv, b->key.kcv, sizeof(b->kcv));
    (void)worker_stop(&b->worker);
    options = (struct start_options){.duty = KBS_DUTY_RELEASE};
    worker_start(&b->worker, &b->dir, &options);
}

static void bench_init(struct bench *b)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    bench_start(b);
    inside_open(&b->token, &b->dir);
    kbs_cka_id(b->key.id, b->key.version, cka_id);
    must_not_fail(kbs_object_find(&b->token, CKO_SECRET_KEY, kbs_span(cka_id, sizeof(cka_id)),
                                  &b->key_object, &err),
                  &err, "find");
    must_not_fail(kbs_agree_key_generate(KBS_CURVE_P256, &b->tee, &err), &err, "TEE key");
    b->order = release_order(&b->key, kbs_agree_key_public(b->tee), KBS_FORMAT_JOSE);
    b->derive = by_digest() ? kbs_derive_jose_transport : kbs_derive_jose_chain;
    b->tee_public.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
    b->tee_public.ec = *kbs_agree_key_public(b->tee);
    b->recipient = (struct kbs_recipient_order){
        .format = KBS_FORMAT_JOSE,
        .tee = &b->tee_public,
        .kid = b->order.kid,
        .party_u = b->order.kid,
        .party_v = b->order.party_v,
    };
    must_not_fail(kbs_cards_new(&b->cards, &err), &err, "cards");
    must_not_fail(kbs_ladder_probe(&b->ladder, &b->token, false, &err), &err, "ladder");
    b->info = KBS_BUF(2048);
    kbs_recipient_info_put(&b->info, &b->recipient);
    b->peer_len = kbs_ec_point_put(&b->tee_public.ec, b->peer);
}

static void bench_deinit(struct bench *b)
{
    b->cards = kbs_cards_free(b->cards);
    kbs_token_close(&b->token);
    (void)worker_stop(&b->worker);
    (void)kbs_agree_key_free(b->tee);
    kbs_buf_deinit(&b->info);
    dir_remove(&b->dir);
}

int main(int argc, char **argv)
{
    static struct bench b;
    static struct templates t;
    struct kbs_error err = KBS_ERROR_NONE;
    char name[16];
    unsigned long ms;
    char line[64];

    if (argc != 2 || !harness_select(argv[1])) {
        fprintf(stderr, "usage: perf_bare softhsm|nss (and its module is installed)\n");
        return argc == 2 ? 77 : 2;
    }
    must_not_fail(kbs_secret_heap_init(&err) < 0 ? -1 : 0, &err, "secure heap");
    bench_init(&b);
    templates_make(&t, b.info.len);
    check_modes(&b, &t);
    printf("ready %s\n", kind->jose_rung);
    (void)fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL && sscanf(line, "%15s %lu", name, &ms) == 2) {
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
            if (strcmp(name, modes[i].name) == 0) {
                run_window(&b, &t, &modes[i], ms);
            }
        }
    }
    bench_deinit(&b);
    return 0;
}
