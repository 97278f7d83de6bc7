/*
 * Orders begin with things that earlier orders made, so each lane has one of everything: a resident
 * key, a wrapped one under a wrapping key that is not the newest any more, a sealed secret, and a
 * key that somebody else put into the token. None of them changes by the orders that use it.
 */
#include "lane.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/encoding.h"
#include "base/io.h"
#include "hsm/object.h"

#define PATH "default/key/nr-1" /* of all keys here, as key_ref(1, ...) has it */
#define SECRET_KID "default/secret/s/v1"
#define SECRET "the password of the database"
#define FOREIGN "foreign" /* CKA_LABEL and CKA_ID of the key to adopt */

const char *const order_names[ORDER_COUNT] = {
    "generate",    "import",           "release JOSE",   "release COSE",    "release cold",
    "sign",        "generate wrapped", "import wrapped", "release wrapped", "release RSA",
    "release JWE", "rewrap",           "recard",         "destroy",         "adopt",
    "seal",        "open-secret",      "reseal"};

/* ---- the token's files ---- */

void lane_script(const struct lane *l, const char *text)
{
    static unsigned int number; /* so that no two scripts are the same */
    char path[300];
    char fresh[300];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/script", l->dir.path);
    (void)snprintf(fresh, sizeof(fresh), "%s/script.new", l->dir.path);
    f = fopen(fresh, "we");
    assert_non_null(f);
    assert_true(fprintf(f, "%s# %u\n", text, number++) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(fresh, path), 0);
}

const struct mock_calls *lane_calls_map(const struct token_dir *d)
{
    char path[300];
    int fd;
    void *p;

    (void)snprintf(path, sizeof(path), "%s/calls", d->path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    p = mmap(NULL, sizeof(struct mock_calls), PROT_READ, MAP_SHARED, fd, 0);
    kbs_io_close(&fd);
    assert_true(p != MAP_FAILED);
    return p;
}

uint64_t lane_calls_of(const struct mock_calls *c, const char *function)
{
    for (size_t i = 0; i < MOCK_CALLS_FUNCTIONS; i++) {
        if (strcmp(c->functions[i].name, function) == 0) {
            return c->functions[i].calls;
        }
    }
    fail_msg("the mock has no %s", function);
    return 0;
}

static void configure(const struct token_dir *d, const char *line)
{
    FILE *f = fopen(strchr(d->env, '=') + 1, "ae");

    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", line) > 0);
    assert_int_equal(fclose(f), 0);
}

/* ---- keys ---- */

/* The value of a key that is imported here as that version. */
static struct lane_key known_key(uint32_t version)
{
    struct lane_key k = {.ref = key_ref(1, version), .known = true};

    for (size_t i = 0; i < sizeof(k.value); i++) {
        k.value[i] = (uint8_t)(version >> 8 * (i % 4)) ^ (uint8_t)(17 * i);
    }
    return k;
}

static void foreign_value(uint8_t ret[LANE_KEY_BYTES])
{
    memset(ret, 0x5a, LANE_KEY_BYTES);
}

/* Somebody else's key, as adopt wants it. */
static void foreign_make(const struct token_dir *d)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_template key = {.n = 0};
    struct kbs_scratch scratch;
    struct kbs_token t;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    uint8_t value[LANE_KEY_BYTES];

    inside_open(&t, d);
    scratch = (struct kbs_scratch){.token = &t};
    foreign_value(value);
    kbs_template_secret_key(&key, CKK_AES, true, true, KBS_USAGE_NONE);
    kbs_template_bytes(&key, CKA_ID, kbs_span_str(FOREIGN));
    kbs_template_bytes(&key, CKA_LABEL, kbs_span_str(FOREIGN));
    kbs_template_bytes(&key, CKA_VALUE, kbs_span(value, sizeof(value)));
    assert_int_equal(kbs_scratch_create(&scratch, &key, &object, &err), 0);
    kbs_token_close(&t);
}

void lane_template(struct token_dir *d)
{
    struct worker w;

    dir_new(d);
    worker_start(&w, d, &(struct start_options){.init = true});
    order_service_keys(&w);
    assert_int_equal(worker_stop(&w), 0);
    foreign_make(d);
}

/* ---- the lane ---- */

void lane_up(struct lane *l)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_described described;

    if (l->up) {
        return;
    }
    worker_start(&l->w, &l->dir, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    l->starts++;
    l->up = true;
    described = worker_describe(&l->w);
    assert_int_equal(described.import_public.len, sizeof(l->import_point));
    memcpy(l->import_point, described.import_public.p, sizeof(l->import_point));
    assert_int_equal(
        kbs_ec_point_get(KBS_CURVE_P256, described_sign(&described, 0).point, &l->sign_key, &err),
        0);
}

bool lane_down(struct lane *l)
{
    bool well = !l->up || worker_stop(&l->w) == 0;

    l->up = false;
    return well;
}

void lane_remove(struct lane *l)
{
    (void)munmap((void *)(uintptr_t)l->calls, sizeof(*l->calls));
    kbs_guest_key_deinit(&l->ec);
    kbs_guest_key_deinit(&l->rsa);
    dir_remove(&l->dir);
}

/* Does it without a fault, which has to work. */
static void must_give(struct lane *l, struct attempt *a)
{
    enum verdict verdict = VERDICT_NOTHING;
    enum kbs_category category = attempt_give(l, a, &verdict);

    if (category != KBS_OK || verdict != VERDICT_RIGHT) {
        fail_msg("%s without a fault: %s, verdict %d", order_names[a->order],
                 kbs_category_name(category), (int)verdict);
    }
}

void lane_open(struct lane *l, const struct token_dir *template, const char *line)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct attempt a;

    *l = (struct lane){.next_version = 1};
    dir_copy(template, &l->dir);
    configure(&l->dir, line);
    l->calls = lane_calls_map(&l->dir);
    l->starts = (unsigned int)lane_calls_of(l->calls, "C_Login"); /* those of the template */
    assert_int_equal(kbs_guest_key_get(NULL, KBS_TEE_ALG_ECDH_ES_A256KW, "P-256", &l->ec, &err), 0);
    l->rsa.public_key.alg = KBS_TEE_ALG_RSA_OAEP_256;
    assert_int_equal(kbs_agree_rsa_known(2048, &l->rsa.rsa, &err), 0);
    l->rsa.public_key.rsa = *kbs_agree_rsa_public(l->rsa.rsa);
    lane_up(l);
    a = attempt_prepare(l, IMPORT);
    must_give(l, &a);
    l->warm = a.key;
    a = attempt_prepare(l, IMPORT_WRAPPED);
    must_give(l, &a);
    l->wrapped = a.key;
    assert_int_equal(order_service_version(&l->w, KBS_PURPOSE_WRAP_CATALOG, 2).category, KBS_OK);
    a = attempt_prepare(l, SEAL);
    l->secret = a.secret;
}

/* ---- what a guest makes of an answer ---- */

static enum verdict key_verdict(const struct lane_key *k, const struct kbs_secret *opened)
{
    struct kbs_span got = kbs_secret_span(opened);
    uint8_t kcv[KBS_KCV_BYTES];

    kbs_agree_kcv(got, kcv);
    return got.len == LANE_KEY_BYTES && memcmp(kcv, k->ref.kcv, sizeof(kcv)) == 0 &&
                   (!k->known || kbs_span_equal(got, kbs_span(k->value, sizeof(k->value))))
               ? VERDICT_RIGHT
               : VERDICT_WRONG;
}

static enum verdict answer_verdict(const struct lane_key *k, const struct kbs_guest_key *tee,
                                   const struct kbs_guest_ask *ask, struct kbs_span answer)
{
    struct kbs_guest_opened opened = {.key = NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    enum verdict verdict = VERDICT_NOTHING;

    if (ask->format == KBS_FORMAT_JWE) {
        if (kbs_guest_open_jwe(tee, answer, &opened.key, &err) == 0) {
            verdict = key_verdict(k, opened.key);
        }
    } else if (kbs_guest_open(ask, tee, answer, &opened, &err) == 0) {
        verdict = key_verdict(k, opened.key);
    }
    kbs_guest_opened_deinit(&opened);
    return verdict;
}

static enum kbs_category release(struct lane *l, const struct lane_key *k,
                                 const struct kbs_guest_key *tee, enum kbs_format format,
                                 enum verdict *ret_verdict)
{
    const struct kbs_guest_ask ask = {.path = PATH,
                                      .version = k->ref.version,
                                      .format = format,
                                      .digest = {.len = KBS_SHA256_BYTES}};
    struct kbs_wire_release order = release_order(&k->ref, &l->ec.public_key.ec, format);
    struct kbs_wire_result r;
    uint8_t tee_key[KBS_TEE_KEY_MAX_BYTES];
    uint8_t party_v[32];

    kbs_party_v(kbs_digest_span(&ask.digest), ask.nonce, party_v);
    order.party_v = kbs_span(party_v, sizeof(party_v));
    order.tee_key = kbs_span(tee_key, kbs_tee_key_put(&tee->public_key, tee_key));
    order.floor = format == KBS_FORMAT_JWE ? KBS_LOCALITY_WORKER : KBS_LOCALITY_TRANSPORT;
    r = worker_order(&l->w, KBS_WIRE_RELEASE, &order);
    *ret_verdict = r.category == KBS_OK ? answer_verdict(k, tee, &ask, r.body) : VERDICT_NOTHING;
    return (enum kbs_category)r.category;
}

/* A compact JWS by the lane's signing key. */
static enum verdict jws_verdict(const struct lane *l, struct kbs_span jws)
{
    uint8_t signature[KBS_ES256_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    size_t dot = jws.len;

    while (dot > 0 && jws.p[dot - 1] != '.') {
        dot--;
    }
    if (dot == 0 ||
        kbs_base64url_get_exact(signature, sizeof(signature), kbs_span_skip(jws, dot)) != 0) {
        return VERDICT_NOTHING;
    }
    kbs_sha256(kbs_span(jws.p, dot - 1), digest);
    return kbs_ec_verify(&l->sign_key, digest, signature) ? VERDICT_RIGHT : VERDICT_NOTHING;
}

/* ---- orders ---- */

static struct kbs_wire_result give_generate(struct lane *l, struct attempt *a)
{
    struct kbs_wire_generate order = generate_order(&a->key.ref, LANE_KEY_BYTES);

    order.storage = a->order == GENERATE ? KBS_STORAGE_RESIDENT : KBS_STORAGE_WRAPPED;
    return worker_order(&l->w, KBS_WIRE_GENERATE, &order);
}

static struct kbs_wire_result give_import(struct lane *l, struct attempt *a)
{
    struct kbs_wire_import order = import_order(&a->sent, &a->key.ref);

    order.storage = a->order == IMPORT ? KBS_STORAGE_RESIDENT : KBS_STORAGE_WRAPPED;
    return worker_order(&l->w, KBS_WIRE_IMPORT, &order);
}

static struct kbs_wire_result give_adopt(struct lane *l, struct attempt *a)
{
    const struct key_ref *k = &a->key.ref;
    const struct kbs_wire_adopt order = {.order = KBS_SPAN_LIT(ORDER),
                                         .key_id = kbs_span(k->id, sizeof(k->id)),
                                         .key_version = k->version,
                                         .kid = kbs_span_str(k->kid),
                                         .floor = KBS_LOCALITY_WORKER,
                                         .policy = KBS_SPAN_LIT(POLICY),
                                         .created = 1790000000,
                                         .uri = KBS_SPAN_LIT("pkcs11:object=" FOREIGN)};

    return worker_order(&l->w, KBS_WIRE_ADOPT, &order);
}

static struct kbs_wire_result give_rewrap(struct lane *l, struct attempt *a)
{
    const struct key_ref *k = &l->wrapped.ref;
    const struct kbs_wire_rewrap_catalog order = {.order = KBS_SPAN_LIT(ORDER),
                                                  .card = kbs_span(k->card, sizeof(k->card)),
                                                  .blob = kbs_span(k->blob, k->blob_len)};

    (void)a;
    return worker_order(&l->w, KBS_WIRE_REWRAP_CATALOG, &order);
}

static struct kbs_wire_result give_destroy(struct lane *l, struct attempt *a)
{
    const struct kbs_wire_destroy order = {.order = KBS_SPAN_LIT(ORDER),
                                           .purpose = KBS_PURPOSE_RELEASE,
                                           .card =
                                               kbs_span(a->key.ref.card, sizeof(a->key.ref.card))};

    return worker_order(&l->w, KBS_WIRE_DESTROY, &order);
}

static struct kbs_wire_result give_recard(struct lane *l, struct attempt *a)
{
    const struct key_ref *k = &l->warm.ref;
    const struct kbs_wire_recard order = {.order = KBS_SPAN_LIT(ORDER),
                                          .card = kbs_span(k->card, sizeof(k->card)),
                                          .floor = KBS_LOCALITY_TRANSPORT,
                                          .policy = KBS_SPAN_LIT(POLICY)};
    struct kbs_wire_result r = worker_order(&l->w, KBS_WIRE_RECARD, &order);

    if (r.category == KBS_OK) {
        assert_int_equal(r.body.len, sizeof(a->key.ref.card));
        memcpy(a->key.ref.card, r.body.p, r.body.len);
    }
    return r;
}

static struct kbs_wire_result give_seal(struct lane *l, struct attempt *a)
{
    const struct kbs_wire_seal order = {.order = KBS_SPAN_LIT(ORDER),
                                        .key_id = KBS_SPAN_LIT("0123456789abcdef"),
                                        .key_version = 1,
                                        .kid = KBS_SPAN_LIT(SECRET_KID),
                                        .policy = KBS_SPAN_LIT(POLICY),
                                        .created = 1790000000,
                                        .plaintext = KBS_SPAN_LIT(SECRET)};
    struct kbs_wire_result r = worker_order(&l->w, KBS_WIRE_SEAL, &order);

    if (r.category == KBS_OK) {
        assert_true(r.body.len <= sizeof(a->secret.bytes));
        memcpy(a->secret.bytes, r.body.p, r.body.len);
        a->secret.len = r.body.len;
    }
    return r;
}

static struct kbs_wire_result give_reseal(struct lane *l, struct attempt *a)
{
    const struct lane_secret *s = &l->secret;
    const struct kbs_wire_reseal order = {
        .order = KBS_SPAN_LIT(ORDER),
        .kid = KBS_SPAN_LIT(SECRET_KID),
        .card = kbs_span(s->bytes, KBS_CARD_BYTES),
        .sealed = kbs_span_skip(kbs_span(s->bytes, s->len), KBS_CARD_BYTES)};
    struct kbs_wire_result r = worker_order(&l->w, KBS_WIRE_RESEAL, &order);

    if (r.category == KBS_OK) {
        assert_true(r.body.len <= sizeof(a->secret.bytes));
        memcpy(a->secret.bytes, r.body.p, r.body.len);
        a->secret.len = r.body.len;
    }
    return r;
}

static struct kbs_wire_result give_open_secret(struct lane *l, const struct lane_secret *s,
                                               enum verdict *ret_verdict)
{
    KBS_AUTO_SECRET plain = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t tee_key[KBS_TEE_KEY_MAX_BYTES];
    const struct kbs_wire_open_secret order = {
        .order = KBS_SPAN_LIT(ORDER),
        .kid = KBS_SPAN_LIT(SECRET_KID),
        .card = kbs_span(s->bytes, KBS_CARD_BYTES),
        .sealed = kbs_span_skip(kbs_span(s->bytes, s->len), KBS_CARD_BYTES),
        .tee_key = kbs_span(tee_key, kbs_tee_key_put(&l->ec.public_key, tee_key))};
    struct kbs_wire_result r = worker_order(&l->w, KBS_WIRE_OPEN_SECRET, &order);

    *ret_verdict = VERDICT_NOTHING;
    if (r.category == KBS_OK && kbs_guest_open_jwe(&l->ec, r.body, &plain, &err) == 0) {
        *ret_verdict =
            kbs_span_equal_str(kbs_secret_span(plain), SECRET) ? VERDICT_RIGHT : VERDICT_WRONG;
    }
    return r;
}

/* An order whose answer is a KBS_MADE, which is right if the key is released as it should be. */
static enum kbs_category give_made(struct lane *l, struct attempt *a,
                                   struct kbs_wire_result (*give)(struct lane *, struct attempt *),
                                   enum verdict *ret_verdict)
{
    struct kbs_wire_result r = give(l, a);

    *ret_verdict = VERDICT_NOTHING;
    if (r.category == KBS_OK) {
        key_made(&a->key.ref, &r);
        *ret_verdict = VERDICT_RIGHT; /* attempt_check() releases it, when there is no fault */
    }
    return (enum kbs_category)r.category;
}

enum kbs_category attempt_give(struct lane *l, struct attempt *a, enum verdict *ret_verdict)
{
    const struct kbs_wire_sign_ear ear = {.claims = KBS_SPAN_LIT("{\"iss\":\"x\"}")};
    struct kbs_wire_result r = {.category = KBS_INTERNAL};

    *ret_verdict = VERDICT_RIGHT;
    switch (a->order) {
    case GENERATE:
    case GENERATE_WRAPPED:
        return give_made(l, a, give_generate, ret_verdict);
    case IMPORT:
    case IMPORT_WRAPPED:
        return give_made(l, a, give_import, ret_verdict);
    case REWRAP:
        return give_made(l, a, give_rewrap, ret_verdict);
    case ADOPT:
        return give_made(l, a, give_adopt, ret_verdict);
    case RELEASE_JOSE:
    case RELEASE_COLD:
    case RELEASE_WRAPPED:
        return release(l, &a->key, &l->ec, KBS_FORMAT_JOSE, ret_verdict);
    case RELEASE_COSE:
        return release(l, &a->key, &l->ec, KBS_FORMAT_COSE, ret_verdict);
    case RELEASE_RSA:
        return release(l, &a->key, &l->rsa, KBS_FORMAT_JOSE, ret_verdict);
    case RELEASE_JWE:
        return release(l, &a->key, &l->ec, KBS_FORMAT_JWE, ret_verdict);
    case SIGN:
        r = worker_order(&l->w, KBS_WIRE_SIGN_EAR, &ear);
        *ret_verdict = r.category == KBS_OK ? jws_verdict(l, r.body) : VERDICT_NOTHING;
        break;
    case DESTROY:
        r = give_destroy(l, a);
        break;
    case RECARD:
        r = give_recard(l, a);
        break;
    case SEAL:
        r = give_seal(l, a);
        break;
    case OPEN_SECRET:
        r = give_open_secret(l, &a->secret, ret_verdict);
        break;
    case RESEAL:
        r = give_reseal(l, a);
        break;
    case ORDER_COUNT:
        break;
    }
    return (enum kbs_category)r.category;
}

/* ---- before and after ---- */

static struct lane_key new_key(struct lane *l, enum order order)
{
    struct lane_key k = known_key(l->next_version++);

    if (order == ADOPT) {
        foreign_value(k.value);
    }
    k.known = order != GENERATE && order != GENERATE_WRAPPED;
    return k;
}

struct attempt attempt_prepare(struct lane *l, enum order order)
{
    struct attempt a = {.order = order};

    lane_up(l);
    switch (order) {
    case RELEASE_WRAPPED:
    case REWRAP:
        a.key = l->wrapped;
        break;
    case RELEASE_JOSE:
    case RELEASE_COSE:
    case RELEASE_RSA:
    case RELEASE_JWE:
    case RECARD:
        a.key = l->warm;
        break;
    case RELEASE_COLD:
    case DESTROY:
        a = attempt_prepare(l, IMPORT);
        must_give(l, &a);
        a.order = order;
        return a;
    case OPEN_SECRET:
    case RESEAL:
        a.secret = l->secret;
        break;
    default:
        a.key = new_key(l, order);
        a.sent = sent_make(kbs_span(l->import_point, sizeof(l->import_point)), "kbs-import-v1",
                           kbs_span_str(a.key.ref.kid), kbs_span(a.key.value, LANE_KEY_BYTES));
        if (order != SIGN && order != ADOPT && order != SEAL) {
            return a;
        }
    }
    must_give(l, &a); /* after a restart nothing is remembered */
    return a;
}

/* The order once more, without the fault. */
static bool check_again(struct lane *l, struct attempt *a)
{
    enum verdict verdict = VERDICT_NOTHING;

    return attempt_give(l, a, &verdict) == KBS_OK && verdict == VERDICT_RIGHT;
}

/* A key that was made, or has a new card, is released as what it should be. */
static bool check_released(struct lane *l, const struct lane_key *k)
{
    enum verdict verdict = VERDICT_NOTHING;

    return release(l, k, &l->ec, KBS_FORMAT_JOSE, &verdict) == KBS_OK && verdict == VERDICT_RIGHT;
}

static bool check_destroyed(struct lane *l, const struct lane_key *k)
{
    enum verdict verdict = VERDICT_NOTHING;

    return release(l, k, &l->ec, KBS_FORMAT_JOSE, &verdict) == KBS_MISSING;
}

bool attempt_check(struct lane *l, struct attempt *a, enum kbs_category category,
                   bool destroy_failed)
{
    enum verdict verdict = VERDICT_NOTHING;

    lane_up(l);
    if (category != KBS_OK) {
        category = attempt_give(l, a, &verdict);
        if (category == KBS_CONFLICT && destroy_failed) {
            return true; /* nobody could take the first one away */
        }
        if (category != KBS_OK || verdict != VERDICT_RIGHT) {
            return false;
        }
    }
    switch (a->order) {
    case GENERATE:
    case IMPORT:
    case GENERATE_WRAPPED:
    case IMPORT_WRAPPED:
    case REWRAP:
    case RECARD:
    case ADOPT:
        return check_released(l, &a->key);
    case DESTROY:
        return check_destroyed(l, &a->key);
    case SEAL:
    case RESEAL:
        (void)give_open_secret(l, &a->secret, &verdict);
        return verdict == VERDICT_RIGHT;
    default:
        return check_again(l, a);
    }
}
