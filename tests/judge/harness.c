/* See harness.h. */
#include "harness.h"

#include <fcntl.h>
#include <ftw.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "attest/rcar.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "base/random.h"
#include "catalog/row.h"

#define WAIT_MS 30000
#define JUDGE_CAPS                                                                    \
    "JOSE-chain\tjose\tP-256\t32\tpassed\ttoken\t-\t-\n"                              \
    "COSE-HKDF\tcose\tP-256\t32\tfailed\ttoken\tC_DeriveKey\tCKR_MECHANISM_INVALID\n" \
    "# no \"HKDF\" here\n"

/* ---- keys ---- */

EVP_PKEY *key_new(const char *curve)
{
    EVP_PKEY *key = EVP_EC_gen(curve);

    assert_non_null(key);
    return key;
}

struct kbs_ec_public key_public(EVP_PKEY *key, enum kbs_curve curve)
{
    struct kbs_ec_public public;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t n = 0;

    assert_int_equal(
        EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &n), 1);
    assert_int_equal(kbs_ec_point_get(curve, kbs_span(point, n), &public, &err), 0);
    return public;
}

static enum kbs_curve key_curve(EVP_PKEY *key)
{
    return EVP_PKEY_get_bits(key) == 384 ? KBS_CURVE_P384 : KBS_CURVE_P256;
}

/* r || s over the digest that goes with the key's curve, of what is given. Returns its length. */
static size_t raw_sign(EVP_PKEY *key, struct kbs_span input, uint8_t raw[KBS_ES384_BYTES])
{
    bool p384 = key_curve(key) == KBS_CURVE_P384;
    int field = p384 ? 48 : 32;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[128];
    size_t der_len = sizeof(der);
    const uint8_t *p = der;
    ECDSA_SIG *sig = NULL;

    assert_non_null(ctx);
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, p384 ? EVP_sha384() : EVP_sha256(), NULL, key),
                     1);
    assert_int_equal(EVP_DigestSign(ctx, der, &der_len, input.p, input.len), 1);
    sig = d2i_ECDSA_SIG(NULL, &p, (long)der_len);
    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, field), field);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + field, field), field);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    return 2 * (size_t)field;
}

static void row_sign(EVP_PKEY *key, struct kbs_span content, uint8_t ret[KBS_ES256_BYTES])
{
    struct kbs_buf input = KBS_BUF(KBS_ROW_MAX_BYTES + 16);
    uint8_t raw[KBS_ES384_BYTES];

    kbs_buf_put_str(&input, "kbs-row-v1");
    kbs_buf_put_span(&input, content);
    assert_int_equal(raw_sign(key, kbs_buf_span(&input), raw), KBS_ES256_BYTES);
    memcpy(ret, raw, KBS_ES256_BYTES);
    kbs_buf_deinit(&input);
}

void jws_sign(EVP_PKEY *key, const char *kid, const char *typ, const char *payload, char *out,
              size_t size)
{
    struct kbs_buf text = KBS_BUF(size - 1);
    uint8_t raw[KBS_ES384_BYTES];

    kbs_jose_jws_input_put(&text, kbs_jose_sig_alg(key_curve(key)), kid, typ,
                           kbs_span_str(payload));
    kbs_jose_jws_signature_put(&text, kbs_span(raw, raw_sign(key, kbs_buf_span(&text), raw)));
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), out, size));
    kbs_buf_deinit(&text);
}

static void key_point(EVP_PKEY *key, uint8_t point[65])
{
    size_t n = 0;

    assert_int_equal(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, 65, &n),
                     1);
    assert_int_equal(n, 65);
}

/* ---- cards ---- */

void judge_recard(struct kbs_key *key)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char kid[KBS_LIMIT_KID_BYTES + 1];
    uint8_t bytes[KBS_CARD_BYTES] = {0}; /* whose MAC only a real token checks */
    bool resident = key->card.storage == KBS_STORAGE_RESIDENT;

    memcpy(key->card.key_id, key->id, sizeof(key->id));
    key->card.key_version = key->version;
    kbs_sha256(kbs_span(kid, kbs_key_kid(key, kid)), key->card.kid);
    memset(key->card.cka_id, 0, sizeof(key->card.cka_id));
    key->card.cka_id_len = resident ? KBS_CKA_ID_BYTES : 0;
    if (resident) {
        kbs_cka_id(key->id, key->version, key->card.cka_id);
    }
    if (key->card.provenance == KBS_PROVENANCE_ADOPTED) { /* the operator's, always the same one */
        memset(key->card.cka_id, 'o', KBS_CKA_ID_BYTES);
    }
    memset(key->card.blob, 0, sizeof(key->card.blob));
    if (key->blob_len != 0) {
        kbs_sha256(kbs_key_blob(key), key->card.blob);
    }
    kbs_card_body_put(&key->card, bytes);
    assert_int_equal(kbs_key_take_card(key, kbs_span(bytes, sizeof(bytes)), &err), 0);
}

struct kbs_key judge_new_key(const char *path, uint32_t version, uint32_t wrap_version)
{
    struct kbs_key key = {
        .version = version,
        .state = KBS_KEY_STATE_ENABLED,
        .kcv_mac = KBS_KCV_HMAC_SHA256,
        .card = {.purpose = KBS_PURPOSE_RELEASE,
                 .storage = wrap_version != 0 ? KBS_STORAGE_WRAPPED : KBS_STORAGE_RESIDENT,
                 .alg = KBS_KEY_ALG_AES,
                 .floor = KBS_LOCALITY_TRANSPORT,
                 .provenance = KBS_PROVENANCE_GENERATED,
                 .bytes = 32,
                 .wrap_version = wrap_version}};

    kbs_random(key.id, sizeof(key.id));
    memcpy(key.kcv, JUDGE_KCV, sizeof(key.kcv));
    key.blob_len = wrap_version != 0 ? 40 : 0;
    kbs_random(key.blob, key.blob_len);
    assert_true(kbs_span_to_cstr(kbs_span_str(path), key.path, sizeof(key.path)));
    judge_recard(&key);
    return key;
}

/* ---- fake token ---- */

static void sign_add(struct kbs_wire_list_builder *list, EVP_PKEY *key, uint32_t version,
                     uint64_t from_s)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public public = key_public(key, key_curve(key));
    struct kbs_buf body = KBS_BUF(256);
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    const struct kbs_wire_sign_key sign = {.version = version,
                                           .curve = (uint8_t) public.curve,
                                           .from_s = from_s,
                                           .point =
                                               kbs_span(point, kbs_ec_point_put(&public, point))};

    assert_int_equal(kbs_wire_body_put(&body, KBS_WIRE_SIGN_KEY, &sign, &err), 0);
    kbs_wire_list_add(list, kbs_buf_span(&body));
    kbs_buf_deinit(&body);
}

/* The sign-token keys that there are, as a worker lists them. */
static void signs_put(const struct judge *j, struct kbs_wire_list_builder *list)
{
    if (j->sign != NULL) {
        sign_add(list, j->sign, 1, 0);
    }
    for (uint32_t i = 0; i < JUDGE_SIGNS; i++) {
        if (j->more_signs[i].key != NULL) {
            sign_add(list, j->more_signs[i].key, i + 2, j->more_signs[i].from_s);
        }
    }
}

/* The same of tls. */
static void tls_put(const struct judge *j, struct kbs_wire_list_builder *list)
{
    for (uint32_t i = 0; i < JUDGE_SIGNS; i++) {
        if (j->tls[i] != NULL) {
            sign_add(list, j->tls[i], i + 1, 0);
        }
    }
}

static EVP_PKEY *signs_now(const struct judge *j)
{
    EVP_PKEY *now = j->sign;

    for (size_t i = 0; i < JUDGE_SIGNS; i++) {
        const struct judge_sign *s = &j->more_signs[i];

        now = s->key != NULL && s->from_s <= (uint64_t)kbs_clock_unix_s() ? s->key : now;
    }
    return now;
}

static void token_describe(struct judge *j, uint64_t id)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf rungs_buf = KBS_BUF(256);
    struct kbs_wire_list_builder rungs = {.buf = &rungs_buf};
    struct kbs_wire_described d = {.manufacturer = KBS_SPAN_LIT("Test \"Co\""),
                                   .model = KBS_SPAN_LIT("T1"),
                                   .serial = KBS_SPAN_LIT("42"),
                                   .token_class = KBS_TOKEN_CLASS_SOFTWARE};
    struct kbs_buf signs_buf = KBS_BUF(2048);
    struct kbs_wire_list_builder signs = {.buf = &signs_buf};
    struct kbs_buf tls_buf = KBS_BUF(2048);
    struct kbs_wire_list_builder tls = {.buf = &tls_buf};
    uint8_t import[65];
    uint8_t row[65];
    uint8_t head[65];
    uint8_t receipt[65];
    uint8_t request[65];

    kbs_wire_list_add(&rungs, KBS_SPAN_LIT("cose-hkdf"));
    kbs_wire_list_add(&rungs, KBS_SPAN_LIT("transport"));
    d.rungs = kbs_wire_list_done(&rungs);
    j->described++;
    signs_put(j, &signs);
    d.sign_keys = kbs_wire_list_done(&signs);
    tls_put(j, &tls);
    d.tls_keys = kbs_wire_list_done(&tls);
    key_point(j->import, import);
    d.import_public = kbs_span(import, sizeof(import));
    d.seal_public = d.import_public; /* nothing is opened here */
    d.seal_version = j->seal_version;
    key_point(j->row, row);
    d.row_public = kbs_span(row, sizeof(row));
    key_point(j->head, head);
    d.head_public = kbs_span(head, sizeof(head));
    if (j->receipt != NULL) {
        key_point(j->receipt, receipt);
        d.receipt_public = kbs_span(receipt, sizeof(receipt));
    }
    d.wrap_version = j->wrap_version;
    if (j->request != NULL) {
        key_point(j->request, request);
        d.request_public = kbs_span(request, sizeof(request));
    }
    assert_int_equal(kbs_channel_send(j->token, KBS_WIRE_DESCRIBED, id, &d, -1,
                                      kbs_deadline_in_ms(WAIT_MS), &err),
                     0);
    kbs_buf_deinit(&signs_buf);
    kbs_buf_deinit(&tls_buf);
    kbs_buf_deinit(&rungs_buf);
}

/* KBS_MADE of a key. */
static void made_put(struct judge *j, struct kbs_key *key, uint8_t *out, size_t size,
                     struct kbs_wire_result *r)
{
    struct kbs_buf made = KBS_BUF(size);

    if (j->token_mood == TOKEN_DISOBEYS) {
        key->card.floor = KBS_LOCALITY_WORKER;
    }
    judge_recard(key);
    kbs_buf_put_u8(&made, KBS_KCV_HMAC_SHA256);
    kbs_buf_put(&made, key->kcv, sizeof(key->kcv));
    kbs_buf_put_u8(&made, (uint8_t)key->card.alg);
    kbs_buf_put_be32(&made, key->card.bytes);
    kbs_buf_put_span(&made, kbs_key_card(key));
    kbs_buf_put_span(&made, kbs_key_blob(key));
    assert_false(made.failed);
    memcpy(out, made.p, made.len);
    r->body = kbs_span(out, made.len);
    kbs_buf_deinit(&made);
}

/* The key that an order for a new one is about. */
static struct kbs_key ordered_key(struct judge *j, struct kbs_span kid, struct kbs_span id,
                                  uint8_t storage, uint8_t floor, struct kbs_span policy,
                                  uint64_t created, enum kbs_provenance provenance)
{
    bool wrapped = storage == KBS_STORAGE_WRAPPED;
    struct kbs_key key;
    struct kbs_span path;
    uint32_t version = 0;
    char text[KBS_LIMIT_KEY_PATH_BYTES + 1];

    assert_true(kbs_kid_split(kid, &path, &version));
    assert_true(kbs_span_to_cstr(path, text, sizeof(text)));
    key = judge_new_key(text, version, wrapped ? j->wrap_version : 0);
    assert_int_equal(id.len, sizeof(key.id));
    memcpy(key.id, id.p, id.len);
    assert_int_equal(policy.len, sizeof(key.card.policy));
    memcpy(key.card.policy, policy.p, policy.len);
    key.card.floor = (enum kbs_locality)floor;
    key.card.created_s = created;
    key.card.provenance = provenance;
    return key;
}

static void sign_generate(struct judge *j)
{
    const struct kbs_wire_generate *m = &j->generate;
    struct judge_sign *s = &j->more_signs[m->key_version - 2];

    assert_in_range(m->key_version, 2, JUDGE_SIGNS + 1);
    assert_null(s->key);
    s->key = key_new(m->curve == KBS_CURVE_P384 ? "P-384" : "P-256");
    s->from_s = m->from_s;
}

static void sign_destroy(struct judge *j, struct kbs_wire_result *r)
{
    uint32_t version = j->destroy.key_version;
    EVP_PKEY **key = version == 1 ? &j->sign : &j->more_signs[version - 2].key;

    assert_in_range(version, 1, JUDGE_SIGNS + 1);
    r->category = *key != NULL ? KBS_OK : KBS_MISSING;
    EVP_PKEY_free(*key);
    *key = NULL;
}

static void tls_generate(struct judge *j)
{
    const struct kbs_wire_generate *m = &j->generate;

    assert_in_range(m->key_version, 1, JUDGE_SIGNS);
    assert_null(j->tls[m->key_version - 1]);
    assert_int_equal(m->from_s, 0);
    j->tls[m->key_version - 1] = key_new(m->curve == KBS_CURVE_P384 ? "P-384" : "P-256");
}

static void tls_destroy(struct judge *j, struct kbs_wire_result *r)
{
    EVP_PKEY **key = &j->tls[j->destroy.key_version - 1];

    assert_in_range(j->destroy.key_version, 1, JUDGE_SIGNS);
    r->category = *key != NULL ? KBS_OK : KBS_MISSING;
    EVP_PKEY_free(*key);
    *key = NULL;
}

static void order_generate(struct judge *j, uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    const struct kbs_wire_generate *m = &j->generate;
    struct kbs_key key;

    if (m->purpose == KBS_PURPOSE_SIGN_TOKEN) {
        sign_generate(j);
        return;
    }
    if (m->purpose == KBS_PURPOSE_TLS) {
        tls_generate(j);
        return;
    }
    if (m->purpose == KBS_PURPOSE_SIGN_RECEIPT) {
        assert_null(j->receipt);
        assert_int_equal(m->key_version, 1);
        j->receipt = key_new("P-256");
        return;
    }
    if (m->purpose != KBS_PURPOSE_RELEASE) {
        uint32_t *newest = m->purpose == KBS_PURPOSE_SEAL ? &j->seal_version : &j->wrap_version;

        assert_int_equal(m->key_version, *newest + 1);
        *newest = m->key_version;
        return;
    }
    key = ordered_key(j, m->kid, m->key_id, m->storage, m->floor, m->policy, m->created,
                      KBS_PROVENANCE_GENERATED);
    key.card.alg = (enum kbs_key_alg)m->alg;
    key.card.bytes = m->key_bytes;
    made_put(j, &key, out, size, r);
}

static void order_import(struct judge *j, uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    const struct kbs_wire_import *m = &j->import_order;
    struct kbs_key key = ordered_key(j, m->kid, m->key_id, m->storage, m->floor, m->policy,
                                     m->created, KBS_PROVENANCE_IMPORTED);

    key.card.alg = (enum kbs_key_alg)m->alg;
    key.card.bytes = (uint32_t)m->wrapped.len - 8;
    made_put(j, &key, out, size, r);
}

static void order_adopt(struct judge *j, uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    const struct kbs_wire_adopt *m = &j->adopt;
    struct kbs_key key = ordered_key(j, m->kid, m->key_id, KBS_STORAGE_RESIDENT, m->floor,
                                     m->policy, m->created, KBS_PROVENANCE_ADOPTED);

    key.card.alg = KBS_KEY_ALG_GENERIC;
    key.card.bytes = 48;
    made_put(j, &key, out, size, r);
}

/* The row that a card of ours is of, but for its path: cards do not tell. */
static struct kbs_key carded_key(struct kbs_span card)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_key key = {.kcv_mac = KBS_KCV_HMAC_SHA256};
    struct kbs_span mac;

    assert_int_equal(kbs_card_get(card, &key.card, &mac, &err), 0);
    memcpy(key.kcv, JUDGE_KCV, sizeof(key.kcv));
    return key;
}

/* A card as it is printed, its kid's digest untouched. */
static void card_put(struct kbs_key *key)
{
    memset(key->card_bytes, 0, sizeof(key->card_bytes));
    kbs_card_body_put(&key->card, key->card_bytes);
    key->has_card = true;
}

static void order_recard(struct judge *j, uint8_t *out, struct kbs_wire_result *r)
{
    struct kbs_key key = carded_key(j->recard.card);

    key.card.floor =
        j->token_mood == TOKEN_DISOBEYS ? KBS_LOCALITY_WORKER : (enum kbs_locality)j->recard.floor;
    key.card.flags = j->recard.flags;
    memcpy(key.card.policy, j->recard.policy.p, sizeof(key.card.policy));
    card_put(&key);
    memcpy(out, key.card_bytes, sizeof(key.card_bytes));
    r->body = kbs_span(out, sizeof(key.card_bytes));
}

static void order_rewrap(struct judge *j, uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    struct kbs_key key = carded_key(j->rewrap.card);
    struct kbs_buf made = KBS_BUF(size);
    char kid[64];
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(j->rewrap.blob, digest);
    assert_memory_equal(digest, key.card.blob, sizeof(digest));
    if (j->token_mood == TOKEN_OTHER_KEY) {
        (void)snprintf(kid, sizeof(kid), "%s/v1", j->other_key);
        kbs_sha256(kbs_span_str(kid), digest);
        key.kcv[0] ^= memcmp(digest, key.card.kid, sizeof(digest)) == 0 ? 1 : 0;
    }
    key.card.wrap_version = j->wrap_version;
    key.blob_len = 40;
    kbs_random(key.blob, key.blob_len);
    kbs_sha256(kbs_key_blob(&key), key.card.blob);
    card_put(&key);
    kbs_buf_put_u8(&made, KBS_KCV_HMAC_SHA256);
    kbs_buf_put(&made, key.kcv, sizeof(key.kcv));
    kbs_buf_put_u8(&made, (uint8_t)key.card.alg);
    kbs_buf_put_be32(&made, key.card.bytes);
    kbs_buf_put_span(&made, kbs_key_card(&key));
    kbs_buf_put_span(&made, kbs_key_blob(&key));
    memcpy(out, made.p, made.len);
    r->body = kbs_span(out, made.len);
    kbs_buf_deinit(&made);
}

/* What a secret's card says. */
static void secret_card(struct kbs_key *key, uint32_t bytes, uint32_t seal_version)
{
    key->kcv_mac = KBS_KCV_NONE;
    memset(key->kcv, 0, sizeof(key->kcv));
    key->blob_len = 0;
    key->card.purpose = KBS_PURPOSE_SEAL;
    key->card.storage = KBS_STORAGE_SEALED;
    key->card.alg = KBS_KEY_ALG_SECRET;
    key->card.floor = KBS_LOCALITY_WORKER;
    key->card.provenance = KBS_PROVENANCE_IMPORTED;
    key->card.bytes = bytes;
    key->card.wrap_version = seal_version;
}

static void order_seal(struct judge *j, uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    const struct kbs_wire_seal *m = &j->seal;
    struct kbs_key key = ordered_key(j, m->kid, m->key_id, 0, KBS_LOCALITY_WORKER, m->policy,
                                     m->created, KBS_PROVENANCE_IMPORTED);
    struct kbs_buf body = KBS_BUF(size);

    secret_card(&key, (uint32_t)(m->plaintext.len + m->ciphertext.len), j->seal_version);
    judge_recard(&key);
    kbs_sha256(KBS_SPAN_LIT(JUDGE_SEALED), key.card.blob);
    key.card.blob[0] ^= j->token_mood == TOKEN_DISOBEYS ? 1 : 0;
    card_put(&key);
    kbs_buf_put_span(&body, kbs_key_card(&key));
    kbs_buf_put_str(&body, JUDGE_SEALED);
    memcpy(out, body.p, body.len);
    r->body = kbs_span(out, body.len);
    kbs_buf_deinit(&body);
}

/* The harness' token knows of a secret only what it answered to SEAL. */
static void order_reseal(struct judge *j, uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    struct kbs_key key = carded_key(j->reseal.card);
    struct kbs_buf body = KBS_BUF(size);
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(j->reseal.sealed, digest);
    assert_memory_equal(digest, key.card.blob, sizeof(digest));
    key.card.wrap_version = j->seal_version;
    kbs_buf_put_span(&body, j->reseal.sealed);
    kbs_buf_printf(&body, ", under seal key %u", (unsigned int)j->seal_version);
    kbs_sha256(kbs_buf_span(&body), key.card.blob);
    card_put(&key);
    memcpy(out, key.card_bytes, KBS_CARD_BYTES);
    memcpy(out + KBS_CARD_BYTES, body.p, body.len);
    r->body = kbs_span(out, KBS_CARD_BYTES + body.len);
    kbs_buf_deinit(&body);
}

/* PROVISION and REPROVISION: mark, blob, and what is for the TEE. */
static void order_provision(struct judge *j, struct kbs_span kid, struct kbs_span binding,
                            uint8_t *out, size_t size, struct kbs_wire_result *r)
{
    static const uint8_t wrapped[40] = {1};
    struct kbs_buf body = KBS_BUF(size);
    struct kbs_buf blob = KBS_BUF(size);

    kbs_jose_recipient_put(
        &blob, &(struct kbs_jose_recipient){.kid = kid,
                                            .apu = KBS_SPAN_LIT("kbs-nek-v1"),
                                            .apv = binding,
                                            .encrypted_key = kbs_span(wrapped, sizeof(wrapped))});
    for (size_t i = 0; i < KBS_MARK_BYTES; i++) {
        kbs_buf_put_u8(&body, JUDGE_MARK);
    }
    kbs_buf_put_be32(&body, (uint32_t)blob.len);
    kbs_buf_put_span(&body, kbs_buf_span(&blob));
    kbs_buf_put_str(&body, JUDGE_TOKEN_BODY);
    memcpy(out, body.p, body.len);
    r->body = kbs_span(out, body.len);
    r->rung = KBS_SPAN_LIT("transport");
    r->format = KBS_FORMAT_JOSE;
    r->locality = j->token_mood == TOKEN_DISOBEYS ? KBS_LOCALITY_WORKER : KBS_LOCALITY_TRANSPORT;
    kbs_buf_deinit(&blob);
    kbs_buf_deinit(&body);
}

/* The orders that have an id, and what each is decoded into. */
static void *order_slot(struct judge *j, enum kbs_wire_type type)
{
    switch (type) {
    case KBS_WIRE_RELEASE:
        return &j->release;
    case KBS_WIRE_REWRAP:
        return &j->nek_rewrap;
    case KBS_WIRE_GENERATE:
        return &j->generate;
    case KBS_WIRE_IMPORT:
        return &j->import_order;
    case KBS_WIRE_ADOPT:
        return &j->adopt;
    case KBS_WIRE_RECARD:
        return &j->recard;
    case KBS_WIRE_REWRAP_CATALOG:
        return &j->rewrap;
    case KBS_WIRE_DESTROY:
        return &j->destroy;
    case KBS_WIRE_SEAL:
        return &j->seal;
    case KBS_WIRE_RESEAL:
        return &j->reseal;
    case KBS_WIRE_OPEN_SECRET:
        return &j->open_secret;
    case KBS_WIRE_PROVISION:
        return &j->provision;
    case KBS_WIRE_REPROVISION:
        return &j->reprovision;
    case KBS_WIRE_REGISTER_SET:
        return &j->register_set;
    case KBS_WIRE_REGISTER_CHECK:
        return &j->register_check;
    case KBS_WIRE_OPEN_REQUEST:
        return &j->open_request;
    default:
        return NULL;
    }
}

/* Of an order that ends at a TEE. */
static struct kbs_span receipt_of(const struct judge *j, struct kbs_span asked)
{
    if (j->receipt_text != NULL) {
        return kbs_span_str(j->receipt_text);
    }
    return asked.len != 0 ? KBS_SPAN_LIT(JUDGE_RECEIPT) : KBS_SPAN_EMPTY;
}

static void order_fill(struct judge *j, const struct kbs_channel_msg *m, uint8_t *out, size_t size,
                       struct kbs_wire_result *r)
{
    struct kbs_error err = KBS_ERROR_NONE;
    enum kbs_wire_type type = m->frame.type;

    assert_non_null(order_slot(j, type));
    assert_int_equal(kbs_channel_msg_decode(m, type, order_slot(j, type), &err), 0);
    if (j->token_mood == TOKEN_REFUSES) {
        return;
    }
    if (type == KBS_WIRE_RELEASE) {
        r->rung = KBS_SPAN_LIT("transport");
        r->locality = j->token_mood == TOKEN_DISOBEYS          ? KBS_LOCALITY_WORKER
                      : j->release.floor == KBS_LOCALITY_TOKEN ? KBS_LOCALITY_TOKEN
                                                               : KBS_LOCALITY_TRANSPORT;
        r->format = j->release.formats.p[0];
        r->body = KBS_SPAN_LIT(JUDGE_TOKEN_BODY);
        r->receipt = receipt_of(j, j->release.receipt);
    } else if (type == KBS_WIRE_REWRAP) {
        r->rung = KBS_SPAN_LIT("transport");
        r->locality = KBS_LOCALITY_TRANSPORT;
        r->format = j->nek_rewrap.formats.p[0];
        r->body = KBS_SPAN_LIT(JUDGE_TOKEN_BODY);
        r->receipt = receipt_of(j, j->nek_rewrap.receipt);
    } else if (type == KBS_WIRE_OPEN_SECRET) {
        r->rung = KBS_SPAN_LIT("worker");
        r->locality = KBS_LOCALITY_WORKER;
        r->format = j->token_mood == TOKEN_DISOBEYS ? KBS_FORMAT_JOSE : KBS_FORMAT_JWE;
        r->body = KBS_SPAN_LIT(JUDGE_TOKEN_BODY);
        r->receipt = receipt_of(j, j->open_secret.receipt);
    } else if (type == KBS_WIRE_PROVISION) {
        order_provision(j, j->provision.kid, j->provision.binding, out, size, r);
    } else if (type == KBS_WIRE_REPROVISION) {
        order_provision(j, j->reprovision.kid, j->reprovision.binding, out, size, r);
    } else if (type == KBS_WIRE_REGISTER_SET) {
        memset(out, JUDGE_MARK, KBS_MARK_BYTES);
        r->body = kbs_span(out, j->token_mood == TOKEN_DISOBEYS ? 1 : KBS_MARK_BYTES);
    } else if (type == KBS_WIRE_OPEN_REQUEST) {
        r->body = kbs_span_str(j->envelope);
    } else if (type == KBS_WIRE_SEAL) {
        order_seal(j, out, size, r);
    } else if (type == KBS_WIRE_RESEAL) {
        order_reseal(j, out, size, r);
    } else if (type == KBS_WIRE_GENERATE) {
        order_generate(j, out, size, r);
    } else if (type == KBS_WIRE_IMPORT) {
        order_import(j, out, size, r);
    } else if (type == KBS_WIRE_ADOPT) {
        order_adopt(j, out, size, r);
    } else if (type == KBS_WIRE_RECARD) {
        order_recard(j, out, r);
    } else if (type == KBS_WIRE_REWRAP_CATALOG) {
        order_rewrap(j, out, size, r);
    } else if (type == KBS_WIRE_DESTROY && j->destroy.purpose == KBS_PURPOSE_SIGN_TOKEN) {
        sign_destroy(j, r);
    } else if (type == KBS_WIRE_DESTROY && j->destroy.purpose == KBS_PURPOSE_TLS) {
        tls_destroy(j, r);
    }
}

static void token_fill(struct judge *j, const struct kbs_channel_msg *m, char *jws, size_t size,
                       struct kbs_wire_result *r)
{
    struct kbs_error err = KBS_ERROR_NONE;
    enum kbs_wire_type type = m->frame.type;
    struct kbs_wire_sign_ear ear;
    struct kbs_wire_sign_row row;
    struct kbs_wire_sign_head head;
    uint8_t *raw = (uint8_t *)jws;
    struct kbs_ec_public public;
    char claims[8192];
    char kid[44];

    *r = (struct kbs_wire_result){.serial = KBS_SPAN_LIT("42")};
    if (type == KBS_WIRE_SIGN_EAR) {
        assert_int_equal(kbs_channel_msg_decode(m, type, &ear, &err), 0);
        assert_true(kbs_span_to_cstr(ear.claims, claims, sizeof(claims)));
        public = key_public(signs_now(j), key_curve(signs_now(j)));
        kbs_jose_thumbprint(&public, kid);
        jws_sign(signs_now(j), kid, "JWT", claims, jws, size);
        r->body = kbs_span_str(jws);
        return;
    }
    if (type == KBS_WIRE_SIGN_ROW) {
        assert_int_equal(kbs_channel_msg_decode(m, type, &row, &err), 0);
        row_sign(j->row, row.content, raw);
        r->body = kbs_span(raw, 64);
        return;
    }
    if (type == KBS_WIRE_CAPS) {
        r->body = KBS_SPAN_LIT(JUDGE_CAPS);
        return;
    }
    if (type == KBS_WIRE_SIGN_HEAD) {
        assert_int_equal(kbs_channel_msg_decode(m, type, &head, &err), 0);
        j->heads++;
        r->body = kbs_span(raw, 64);
        return;
    }
    j->orders++;
    order_fill(j, m, (uint8_t *)jws, size, r);
}

static void token_serve(struct judge *j)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_result r;
    char jws[16384];
    struct kbs_channel_msg *m = &j->other_msg;
    int rc = kbs_channel_recv(j->token, m, kbs_deadline_in_ms(WAIT_MS), &err);
    uint64_t id = m->frame.id;

    if (rc == KBS_CHANNEL_EOF) {
        kbs_io_close(&j->token);
        return;
    }
    assert_int_equal(rc, 0);
    if (m->frame.type == KBS_WIRE_DESCRIBE) {
        token_describe(j, id);
        return;
    }
    if (order_slot(j, m->frame.type) != NULL) { /* kept for the test */
        const struct timespec takes = {.tv_nsec = (long)j->order_ms * 1000000};
        struct kbs_channel_msg swap = j->order_msg;

        (void)nanosleep(&takes, NULL);

        j->order_msg = *m;
        *m = swap;
        m = &j->order_msg;
    }
    token_fill(j, m, jws, sizeof(jws), &r);
    bool signs_rows = m->frame.type == KBS_WIRE_SIGN_ROW || m->frame.type == KBS_WIRE_SIGN_HEAD;
    if (j->token_mood == TOKEN_HANGS_UP && !signs_rows) {
        kbs_io_close(&j->token);
        return;
    }
    if (j->token_mood == TOKEN_ANSWERS_LATE) {
        id ^= 1;
    }
    if (j->token_mood == TOKEN_REFUSES && !signs_rows) {
        r = (struct kbs_wire_result){.category = (uint8_t)j->refuse_category,
                                     .ckr = 5,
                                     .function = KBS_SPAN_LIT("C_WrapKey"),
                                     .detail = kbs_span_str(j->refuse_detail)};
    }
    assert_int_equal(
        kbs_channel_send(j->token, KBS_WIRE_RESULT, id, &r, -1, kbs_deadline_in_ms(WAIT_MS), &err),
        0);
}

/* ---- fake ledger ---- */

static void ledger_write(struct judge *j, const struct kbs_wire_append *append)
{
    static const char *const phases[] = {"", "intent", "outcome", "restore"};
    struct kbs_buf line = KBS_BUF(sizeof(j->ledger_text) - 1);
    struct kbs_wire_iter it = kbs_wire_list_iter(&append->fields);
    struct kbs_span name;
    struct kbs_span value;

    kbs_buf_put_str(&line, j->ledger_text);
    kbs_buf_put_span(&line, append->kind);
    if (append->phase != KBS_PHASE_NONE) {
        kbs_buf_printf(&line, " phase=%s epoch=%llu", phases[append->phase],
                       (unsigned long long)append->epoch);
        j->epoch = append->epoch;
        j->epoch_open = append->phase == KBS_PHASE_INTENT;
    }
    while (kbs_wire_list_next(&it, &name) && kbs_wire_list_next(&it, &value)) {
        kbs_buf_put_u8(&line, ' ');
        kbs_buf_put_span(&line, name);
        kbs_buf_put_u8(&line, '=');
        kbs_buf_put_span(&line, value);
    }
    kbs_buf_put_u8(&line, '\n');
    assert_true(kbs_span_to_cstr(kbs_buf_span(&line), j->ledger_text, sizeof(j->ledger_text)));
    kbs_buf_deinit(&line);
}

static void ledger_head(struct judge *j, uint64_t id)
{
    static const uint8_t hash[KBS_SHA256_BYTES] = {1};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_head head = {.seq = j->records,
                                 .hash = kbs_span(hash, sizeof(hash)),
                                 .epoch = j->epoch,
                                 .outcome = j->epoch_open ? 0 : 1};

    assert_int_equal(kbs_channel_send(j->ledger, KBS_WIRE_HEAD, id, &head, -1,
                                      kbs_deadline_in_ms(WAIT_MS), &err),
                     0);
}

static void ledger_serve(struct judge *j)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_append append;
    struct kbs_wire_ack ack;
    int rc = kbs_channel_recv(j->ledger, &m, kbs_deadline_in_ms(WAIT_MS), &err);

    if (rc == KBS_CHANNEL_EOF) {
        kbs_io_close(&j->ledger);
        return;
    }
    assert_int_equal(rc, 0);
    if (m.frame.type == KBS_WIRE_HEAD_WANT) {
        ledger_head(j, m.frame.id);
        kbs_channel_msg_deinit(&m);
        return;
    }
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_APPEND, &append, &err), 0);
    if (j->ledger_mood == LEDGER_DIES && --j->dies_at == 0) {
        kbs_io_close(&j->ledger);
        kbs_channel_msg_deinit(&m);
        return;
    }
    bool full = j->ledger_mood == LEDGER_FULL && (j->dies_at == 0 || --j->dies_at == 0);
    /* Only an order may wait for company: everything else is awaited at once. */
    assert_int_equal(append.later, kbs_span_equal_str(append.kind, "release") ? 1 : 0);
    if (!full) {
        ledger_write(j, &append);
        j->records++;
    }
    ack.seq = full ? 0 : j->records;
    if (j->ledger_mood == LEDGER_HANGS_UP) {
        kbs_io_close(&j->ledger);
    } else if (j->ledger_mood != LEDGER_SILENT) {
        assert_int_equal(kbs_channel_send(j->ledger, KBS_WIRE_ACK, m.frame.id, &ack, -1,
                                          kbs_deadline_in_ms(WAIT_MS), &err),
                         0);
    }
    kbs_channel_msg_deinit(&m);
}

/* ---- kbs-policy's part ---- */

static void policy_load(struct judge *j, const struct kbs_channel_msg *m,
                        struct kbs_wire_verdict *ret)
{
    struct kbs_wire_policy_load load;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_channel_msg_decode(m, KBS_WIRE_POLICY_LOAD, &load, &err), 0);
    assert_int_equal(load.query, KBS_REGO_QUERY_TRUST);
    assert_true(kbs_span_to_cstr(load.text, j->policy_text, sizeof(j->policy_text)));
    j->policy_loads++;
    ret->outcome = j->policy_mood == POLICY_REFUSES ? KBS_REGO_ERROR : KBS_REGO_LOADED;
}

/* A policy that was not loaded last is not known. */
static void policy_eval(struct judge *j, const struct kbs_channel_msg *m,
                        struct kbs_wire_verdict *ret)
{
    struct kbs_wire_policy_eval eval;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t digest[KBS_SHA256_BYTES];

    assert_int_equal(kbs_channel_msg_decode(m, KBS_WIRE_POLICY_EVAL, &eval, &err), 0);
    assert_int_equal(eval.query, KBS_REGO_QUERY_TRUST);
    kbs_sha256(kbs_span_str(j->policy_text), digest);
    if (!kbs_span_equal(eval.digest, kbs_span(digest, sizeof(digest)))) {
        ret->outcome = KBS_REGO_UNKNOWN;
        return;
    }
    assert_true(kbs_span_to_cstr(eval.input, j->policy_input, sizeof(j->policy_input)));
    assert_true(kbs_span_to_cstr(eval.data, j->policy_data, sizeof(j->policy_data)));
    ret->outcome = j->policy_mood == POLICY_RESULT ? KBS_REGO_RESULT : KBS_REGO_ERROR;
    ret->result = kbs_span_str(j->policy_mood == POLICY_RESULT ? j->policy_result : "");
}

static void policy_serve(struct judge *j)
{
    struct kbs_wire_verdict verdict = {
        .detail = KBS_SPAN_LIT("what it read"), .line = 3, .column = 4};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = kbs_channel_recv(j->policy, &m, kbs_deadline_in_ms(WAIT_MS), &err);

    if (rc == KBS_CHANNEL_EOF || j->policy_mood == POLICY_HANGS_UP) {
        kbs_io_close(&j->policy);
    } else {
        assert_int_equal(rc, 0);
        if (m.frame.type == KBS_WIRE_POLICY_LOAD) {
            policy_load(j, &m, &verdict);
        } else {
            policy_eval(j, &m, &verdict);
        }
        assert_int_equal(kbs_channel_send(j->policy, KBS_WIRE_VERDICT, m.frame.id, &verdict, -1,
                                          kbs_deadline_in_ms(WAIT_MS), &err),
                         0);
    }
    kbs_channel_msg_deinit(&m);
}

/* Serves token and ledger until `fd` has something to read. */
void judge_serve(struct judge *j, int quiet_ms)
{
    struct pollfd fds[] = {{.fd = j->ledger, .events = POLLIN}, {.fd = j->token, .events = POLLIN}};

    while (poll(fds, 2, quiet_ms) > 0) {
        if (fds[0].revents != 0) {
            ledger_serve(j);
        } else {
            token_serve(j);
        }
    }
}

static void serve_until(struct judge *j, int fd)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
                               {.fd = j->ledger, .events = POLLIN},
                               {.fd = j->token, .events = POLLIN},
                               {.fd = j->policy, .events = POLLIN}};

        assert_true(poll(fds, 4, WAIT_MS) > 0);
        if (fds[1].revents !=
            0) { /* before the token, so that the order of events is the judge's */
            ledger_serve(j);
        } else if (fds[2].revents != 0) {
            token_serve(j);
        } else if (fds[3].revents != 0) {
            policy_serve(j);
        } else if (fds[0].revents != 0) {
            return;
        }
    }
}

void judge_serve_messages(struct judge *j, unsigned int messages)
{
    for (; messages > 0; messages--) {
        struct pollfd fds[] = {{.fd = j->ledger, .events = POLLIN},
                               {.fd = j->token, .events = POLLIN}};

        assert_true(poll(fds, 2, WAIT_MS) > 0);
        if (fds[0].revents != 0) {
            ledger_serve(j);
        } else {
            token_serve(j);
        }
    }
}

void ledger_forget(struct judge *j)
{
    j->ledger_text[0] = '\0';
}

void ledger_expect(struct judge *j, const char *text)
{
    if (strstr(j->ledger_text, text) == NULL) {
        print_error("ledger without '%s':\n%s", text, j->ledger_text);
        fail();
    }
}

void ledger_expect_not(struct judge *j, const char *text)
{
    if (strstr(j->ledger_text, text) != NULL) {
        print_error("ledger with '%s':\n%s", text, j->ledger_text);
        fail();
    }
}

/* ---- kbsd's part ---- */

static void judge_exec(struct judge *j, int control)
{
    const char *bin = getenv("KBS_BIN_DIR");
    char program[512];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log = open(j->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    (void)snprintf(program, sizeof(program), "%s/kbs-judge", bin != NULL ? bin : "bin");
    /* Leaks of a process that is not dumpable cannot be looked for. */
    (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0 ||
        dup2(control, KBS_FD_CONTROL) < 0) {
        _exit(126);
    }
    if (control == KBS_FD_CONTROL) { /* dup2() left its close-on-exec alone */
        (void)fcntl(control, F_SETFD, 0);
    }
    (void)execl(program, "kbs-judge", (char *)NULL);
    _exit(127);
}

static void control_send(struct judge *j, enum kbs_wire_type type, const void *msg, int fd)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(j->control, type, 0, msg, fd, kbs_deadline_in_ms(WAIT_MS), &err), 0);
}

static void attach_peer(struct judge *j, enum kbs_attach what, int *ret_ours)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_attach attach = {.what = (uint8_t)what};
    int pair[2];

    assert_int_equal(kbs_channel_pair(pair, &err), 0);
    control_send(j, KBS_WIRE_ATTACH, &attach, pair[1]);
    kbs_io_close(&pair[1]);
    kbs_io_close(ret_ours);
    *ret_ours = pair[0];
}

/* It is one judge's: another judge has another one. */
static void attach_engine(struct judge *j)
{
    const struct kbs_wire_attach attach = {.what = KBS_ATTACH_POLICY};

    assert_true(policy_process_end(&j->engine));
    assert_true(policy_process_start(&j->engine));
    control_send(j, KBS_WIRE_ATTACH, &attach, j->engine.judge);
    kbs_io_close(&j->engine.judge);
}

void judge_attach_fetch(struct judge *j)
{
    attach_peer(j, KBS_ATTACH_FETCH, &j->fetch);
}

static struct kbs_wire_list list_of(const char *const *items, size_t max, bool pairs,
                                    struct kbs_buf *buf)
{
    struct kbs_wire_list_builder b = {.buf = buf};
    size_t n = 0;

    while (n < max && items[n] != NULL) {
        n++;
    }
    assert_true(!pairs || n % 2 == 0);
    for (size_t i = 0; i < n; i++) {
        kbs_wire_list_add(&b, kbs_span_str(items[i]));
    }
    return kbs_wire_list_done(&b);
}

static struct kbs_wire_list issuers_of(const struct judge *j, struct kbs_buf *buf)
{
    struct kbs_wire_list_builder b = {.buf = buf};
    struct kbs_error err = KBS_ERROR_NONE;

    for (size_t i = 0; i < j->issuer_count; i++) {
        struct kbs_buf body = KBS_BUF(KBS_WIRE_ISSUER_BYTES);

        assert_int_equal(kbs_wire_body_put(&body, KBS_WIRE_CONFIG_ISSUER, &j->issuers[i], &err), 0);
        kbs_wire_list_add(&b, kbs_buf_span(&body));
        kbs_buf_deinit(&body);
    }
    return kbs_wire_list_done(&b);
}

static void enrol(struct kbs_wire_list_builder *keys, EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    long n;

    if (key != NULL) {
        assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
        n = BIO_get_mem_data(bio, &pem);
        kbs_wire_list_add(keys, kbs_span(pem, (size_t)n));
    }
    BIO_free(bio);
}

static void send_config(struct judge *j)
{
    struct kbs_buf issuers_buf = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_buf tees_buf = KBS_BUF(4096);
    struct kbs_buf keys_buf = KBS_BUF(4096);
    struct kbs_buf providers_buf = KBS_BUF(65536);
    struct kbs_buf acls_buf = KBS_BUF(65536);
    struct kbs_buf products_buf = KBS_BUF(4096);
    struct kbs_wire_list_builder keys = {.buf = &keys_buf};
    struct kbs_wire_config_judge config = {
        .duty = (uint8_t)j->duty,
        .production = j->production ? 1 : 0,
        .allow_sample = j->allow_sample ? 1 : 0,
        .rsa1_5 = j->rsa1_5 ? 1 : 0,
        .sessions = j->sessions != 0 ? j->sessions : KBS_DEFAULT_SESSIONS_CHALLENGED,
        .resource_bytes = j->resource_bytes != 0 ? j->resource_bytes : KBS_LIMIT_SECRET_VALUE_BYTES,
        .resource_policy = kbs_span_str(j->resource_policy),
        .store_path = kbs_span_str(j->store_path),
        .issuer = KBS_SPAN_LIT(JUDGE_ISSUER),
        .session_s = 300,
        .token_s = 300};

    if (j->duty == KBS_DUTY_ADMIN) {
        enrol(&keys, j->admin);
        enrol(&keys, j->others[0]);
        enrol(&keys, j->others[1]);
    }
    config.approvals = j->approvals;
    config.approvals_for = j->approvals_for;
    config.admin_keys = kbs_wire_list_done(&keys);
    config.admin_mode = (uint8_t)j->admin_mode;
    config.identity_providers = list_of(j->providers, JUDGE_LIST, false, &providers_buf);
    config.acls = list_of(j->acls, JUDGE_LIST, true, &acls_buf);
    if (j->snp_root != NULL) {
        const char *products[JUDGE_LIST] = {j->snp_product};

        config.snp = 1;
        config.snp_test_root = kbs_span(j->snp_root, 32);
        config.snp_products = list_of(products, JUDGE_LIST, false, &products_buf);
    }
    config.issuers = issuers_of(j, &issuers_buf);
    if (j->delegate != KBS_DELEGATE_BUILTIN) {
        static const char *const tees[JUDGE_LIST] = {"sample", "se"};

        config.delegate = (uint8_t)j->delegate;
        config.delegate_endpoint = KBS_SPAN_LIT("as");
        config.delegate_issuer = KBS_SPAN_LIT("as");
        config.delegate_tees = list_of(tees, JUDGE_LIST, false, &tees_buf);
    }
    control_send(j, KBS_WIRE_CONFIG_JUDGE, &config, -1);
    kbs_buf_deinit(&issuers_buf);
    kbs_buf_deinit(&tees_buf);
    kbs_buf_deinit(&products_buf);
    kbs_buf_deinit(&keys_buf);
    kbs_buf_deinit(&providers_buf);
    kbs_buf_deinit(&acls_buf);
}

static void judge_spawn(struct judge *j)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int pair[2];

    assert_int_equal(kbs_channel_pair(pair, &err), 0);
    j->pid = fork();
    assert_true(j->pid >= 0);
    if (j->pid == 0) {
        judge_exec(j, pair[1]);
    }
    kbs_io_close(&pair[1]);
    kbs_io_close(&j->control);
    j->control = pair[0];
    send_config(j);
    attach_peer(j, KBS_ATTACH_FRONT, &j->front);
    attach_peer(j, KBS_ATTACH_TOKEN, &j->token);
    attach_peer(j, KBS_ATTACH_AUDIT, &j->ledger);
    if (j->with_engine) {
        attach_engine(j);
    }
    if (j->has_fetch) {
        attach_peer(j, KBS_ATTACH_FETCH, &j->fetch);
    }
    if (j->policy_mood != POLICY_ABSENT) {
        attach_peer(j, KBS_ATTACH_POLICY, &j->policy);
    }
    control_send(j, KBS_WIRE_GO, NULL, -1);
}

void judge_start(struct judge *j)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_ready ready;

    judge_spawn(j);
    serve_until(j, j->control);
    assert_int_equal(kbs_channel_recv(j->control, &m, kbs_deadline_in_ms(WAIT_MS), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_READY, &ready, &err), 0);
    kbs_channel_msg_deinit(&m);
}

void judge_start_fails(struct judge *j, int status)
{
    judge_spawn(j);
    serve_until(j, j->control);
    assert_int_equal(judge_wait(j), status);
}

void judge_restart(struct judge *j)
{
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
}

int judge_wait(struct judge *j)
{
    int status = 0;

    assert_int_equal(waitpid(j->pid, &status, 0), j->pid);
    j->pid = 0;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int setup(void **state, enum kbs_duty duty, bool allow_sample, bool production)
{
    struct judge *j = calloc(1, sizeof(*j));
    struct kbs_error err = KBS_ERROR_NONE;

    assert_non_null(j);
    j->control = j->front = j->token = j->ledger = j->policy = -1;
    j->engine = POLICY_PROCESS_NULL;
    j->duty = duty;
    j->seal_version = 1;
    j->allow_sample = allow_sample;
    j->production = production;
    j->order_msg = KBS_CHANNEL_MSG;
    j->other_msg = KBS_CHANNEL_MSG;
    j->sign = key_new("P-256");
    j->import = key_new("P-256");
    j->request = key_new("P-256");
    j->admin = key_new("P-256");
    j->row = key_new("P-256");
    j->head = key_new("P-256");
    j->sequence = 1000;
    (void)snprintf(j->dir, sizeof(j->dir), "/tmp/kbs-judge-XXXXXX");
    assert_non_null(mkdtemp(j->dir));
    (void)snprintf(j->store_path, sizeof(j->store_path), "%s/store.db", j->dir);
    (void)snprintf(j->log_path, sizeof(j->log_path), "%s/judge.log", j->dir);
    assert_int_equal(kbs_store_migrate(j->store_path, &err), 0);
    judge_start(j);
    *state = j;
    return 0;
}

int judge_setup_release(void **state)
{
    return setup(state, KBS_DUTY_RELEASE, true, false);
}

int judge_setup_no_sample(void **state)
{
    return setup(state, KBS_DUTY_RELEASE, false, false);
}

int judge_setup_admin(void **state)
{
    return setup(state, KBS_DUTY_ADMIN, false, false);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int judge_setup_production(void **state)
{
    return setup(state, KBS_DUTY_ADMIN, false, true);
}

int judge_teardown(void **state)
{
    struct judge *j = *state;

    kbs_io_close(&j->control); /* kbsd is gone: it ends */
    if (j->pid != 0) {
        assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    }
    assert_true(policy_process_end(&j->engine));
    kbs_io_close(&j->front);
    kbs_io_close(&j->token);
    kbs_io_close(&j->ledger);
    kbs_io_close(&j->policy);
    kbs_channel_msg_deinit(&j->order_msg);
    kbs_channel_msg_deinit(&j->other_msg);
    EVP_PKEY_free(j->sign);
    for (size_t i = 0; i < JUDGE_SIGNS; i++) {
        EVP_PKEY_free(j->tls[i]);
        EVP_PKEY_free(j->more_signs[i].key);
    }
    EVP_PKEY_free(j->import);
    EVP_PKEY_free(j->request);
    EVP_PKEY_free(j->admin);
    EVP_PKEY_free(j->others[0]);
    EVP_PKEY_free(j->others[1]);
    EVP_PKEY_free(j->row);
    EVP_PKEY_free(j->head);
    EVP_PKEY_free(j->receipt);
    assert_int_equal(nftw(j->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    free(j);
    return 0;
}

/* ---- the front's part ---- */

static void reply_fetch(const struct kbs_channel_msg *m, struct reply *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_fetch f;

    assert_int_equal(kbs_channel_msg_decode(m, KBS_WIRE_FETCH, &f, &err), 0);
    ret->fetch = true;
    assert_int_equal(f.method, KBS_FETCH_POST);
    assert_int_equal(f.max, KBS_LIMIT_FETCH_BYTES);
    assert_true(kbs_span_to_cstr(f.endpoint, ret->endpoint, sizeof(ret->endpoint)));
    assert_true(kbs_span_to_cstr(f.suffix, ret->suffix, sizeof(ret->suffix)));
    assert_true(kbs_span_to_cstr(f.body, ret->body, sizeof(ret->body)));
}

static void reply_read(struct judge *j, struct reply *ret)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_response r;
    int rc = kbs_channel_recv(j->front, &m, kbs_deadline_in_ms(WAIT_MS), &err);

    memset(ret, 0, sizeof(*ret));
    if (rc != KBS_CHANNEL_EOF && m.frame.type == KBS_WIRE_FETCH) {
        assert_int_equal(m.frame.id, 77);
        reply_fetch(&m, ret);
    } else if (rc != KBS_CHANNEL_EOF) {
        assert_int_equal(rc, 0);
        assert_int_equal(m.frame.id, 77);
        assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_RESPONSE, &r, &err), 0);
        ret->status = r.status;
        ret->retry_after_s = r.retry_after_s;
        ret->cookie_expires_s = r.cookie_expires_s;
        assert_true(kbs_span_to_cstr(r.content_type, ret->type, sizeof(ret->type)));
        assert_true(kbs_span_to_cstr(r.cookie, ret->cookie, sizeof(ret->cookie)));
        assert_true(kbs_span_to_cstr(r.receipt, ret->receipt, sizeof(ret->receipt)));
        assert_true(kbs_span_to_cstr(r.body, ret->body, sizeof(ret->body)));
    }
    kbs_channel_msg_deinit(&m);
}

void judge_ask(struct judge *j, const struct ask *ask, struct reply *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf params = KBS_BUF(4096);
    struct kbs_buf query = KBS_BUF(4096);
    struct kbs_buf items = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_wire_list_builder fetched = {.buf = &items};
    enum kbs_listener listener =
        j->duty == KBS_DUTY_ADMIN ? KBS_LISTENER_ADMIN : KBS_LISTENER_GUEST;
    struct kbs_wire_request r = {
        .route = (uint8_t)ask->route,
        .listener = (uint8_t)(ask->listener != KBS_LISTENER_NONE ? ask->listener : listener),
        .peer = KBS_SPAN_LIT("192.0.2.1:1234"),
        .method = kbs_span_str(ask->method != NULL ? ask->method : "POST"),
        .target = kbs_span_str(ask->target != NULL ? ask->target : "/"),
        .params = list_of(ask->params, 3, false, &params),
        .query = list_of(ask->query, 8, true, &query),
        .cookie = kbs_span_str(ask->cookie),
        .authorization = kbs_span_str(ask->authorization),
        .accept = kbs_span_str(ask->accept),
        .content_type = kbs_span_str(ask->content_type),
        .signature = kbs_span_str(ask->signature),
        .body = kbs_span_str(ask->body),
        .proof = kbs_span_str(ask->proof),
    };

    for (size_t i = 0; i < ask->fetched_count; i++) {
        kbs_wire_list_add(&fetched, ask->fetched[i]);
    }
    r.fetched = kbs_wire_list_done(&fetched);
    assert_int_equal(
        kbs_channel_send(j->front, KBS_WIRE_REQUEST, 77, &r, -1,
                         kbs_deadline_in_ms(j->request_ms != 0 ? j->request_ms : WAIT_MS), &err),
        0);
    kbs_buf_deinit(&params);
    kbs_buf_deinit(&query);
    kbs_buf_deinit(&items);
    serve_until(j, j->front);
    reply_read(j, ret);
}

void judge_expect(struct judge *j, const struct ask *ask, unsigned int status, const char *text)
{
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;

    assert_non_null(r);
    judge_ask(j, ask, r);
    if (r->status != status || (text != NULL && strstr(r->body, text) == NULL)) {
        print_error("expected %u '%s', got %u %s\n", status, text != NULL ? text : "", r->status,
                    r->body);
        fail();
    }
    if (status >= 400) { /* Trustee's shape, and nothing beside it */
        assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "error", &body, &err), 0);
        assert_non_null(json_object_get(body, "type"));
        assert_non_null(json_object_get(body, "detail"));
        assert_string_equal(r->type, "application/json");
        assert_string_equal(r->cookie, "");
        assert_int_equal(r->retry_after_s != 0, status == 503 || status == 429);
    }
    free(r);
}

/* Opens the store and gives the mutation the epoch that follows. */
static struct kbs_store *mutation_open(struct judge *j, struct kbs_store_mutation *m)
{
    struct kbs_store *store = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_store_open(j->store_path, &store, &err), 0);
    assert_int_equal(kbs_store_epoch_get(store, &m->epoch, &err), 0);
    m->from_epoch = m->epoch.epoch++;
    return store;
}

/* Commits it, its one row signed in `signature` over `content`, which is freed. */
static void mutation_commit(struct judge *j, struct kbs_store *store, struct kbs_store_mutation *m,
                            struct kbs_buf *content, uint8_t signature[KBS_ES256_BYTES])
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t now[KBS_SHA256_BYTES];

    assert_int_equal(kbs_store_manifest(store, m, now, m->epoch.manifest, &err), 0);
    row_sign(j->row, kbs_buf_span(content), signature);
    kbs_buf_clear(content);
    kbs_row_epoch_put(content, m->epoch.epoch, m->epoch.manifest);
    row_sign(j->row, kbs_buf_span(content), m->epoch.signature);
    kbs_buf_deinit(content);
    assert_int_equal(kbs_store_commit(store, m, &err), 0);
    j->epoch = m->epoch.epoch;
    assert_null(kbs_store_close(store));
}

void judge_put_key(struct judge *j, struct kbs_key *key, const char *policy)
{
    struct kbs_store *store = NULL;
    struct kbs_store_row row = {.key = key,
                                .policy = kbs_span_str(policy),
                                .sealed = KBS_SPAN_LIT(JUDGE_SEALED), /* of secrets only */
                                .fresh = true};
    struct kbs_store_mutation m = {.rows = &row, .row_count = 1};
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);

    kbs_sha256(KBS_SPAN_EMPTY, key->request);
    kbs_sha256(row.policy, key->card.policy);
    judge_recard(key);
    store = mutation_open(j, &m);
    key->epoch = m.epoch.epoch;
    kbs_row_key_put(&content, key, row.policy);
    mutation_commit(j, store, &m, &content, key->signature);
}

void judge_add_document(struct judge *j, enum kbs_document_kind kind, const char *name,
                        uint32_t version, const char *text)
{
    struct kbs_document d = {.kind = kind, .version = version, .created_s = 1};
    const struct kbs_store_document part = {.document = &d, .text = kbs_span_str(text)};
    struct kbs_store_mutation m = {.documents = &part, .document_count = 1};
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    struct kbs_store *store = mutation_open(j, &m);

    assert_true(kbs_span_to_cstr(kbs_span_str(name), d.name, sizeof(d.name)));
    kbs_sha256(KBS_SPAN_EMPTY, d.request);
    d.epoch = m.epoch.epoch;
    kbs_row_document_put(&content, &d, part.text);
    mutation_commit(j, store, &m, &content, d.signature);
}

void judge_add_secret(struct judge *j, const char *path, uint32_t version, const char *policy)
{
    struct kbs_key key = judge_new_key(path, version, 0);

    secret_card(&key, 5, 1);
    judge_put_key(j, &key, policy);
}

void judge_add_key(struct judge *j, const char *path, uint32_t version, const char *policy)
{
    struct kbs_key key = judge_new_key(path, version, 0);

    judge_put_key(j, &key, policy);
}

/* Signs a key's row and the epoch's as they now stand in the file. */
static void resign(struct judge *j, const char *path, uint32_t version)
{
    struct kbs_store *store = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    struct kbs_buf sql = KBS_BUF(4096);
    struct kbs_store_epoch epoch;
    struct kbs_key key;
    uint8_t signature[KBS_ES256_BYTES];

    assert_int_equal(kbs_store_open(j->store_path, &store, &err), 0);
    assert_int_equal(kbs_store_key_get(store, kbs_span_str(path), version, &key, &policy, &err), 0);
    kbs_row_key_put(&content, &key, kbs_buf_span(&policy));
    row_sign(j->row, kbs_buf_span(&content), key.signature);
    assert_int_equal(kbs_store_epoch_get(store, &epoch, &err), 0);
    assert_int_equal(kbs_store_manifest(store, NULL, epoch.manifest, NULL, &err), 0);
    kbs_buf_clear(&content);
    kbs_row_epoch_put(&content, epoch.epoch, epoch.manifest);
    row_sign(j->row, kbs_buf_span(&content), signature);
    kbs_buf_put_str(&sql, "UPDATE key SET signature = x'");
    kbs_hex_put(&sql, kbs_span(key.signature, sizeof(key.signature)));
    kbs_buf_printf(&sql, "' WHERE path = '%s' AND version = %u; UPDATE epoch SET manifest = x'",
                   path, (unsigned int)version);
    kbs_hex_put(&sql, kbs_span(epoch.manifest, sizeof(epoch.manifest)));
    kbs_buf_put_str(&sql, "', signature = x'");
    kbs_hex_put(&sql, kbs_span(signature, sizeof(signature)));
    kbs_buf_put_str(&sql, "'");
    judge_tamper(j, kbs_buf_cstr(&sql));
    assert_null(kbs_store_close(store));
    kbs_buf_deinit(&policy);
    kbs_buf_deinit(&content);
    kbs_buf_deinit(&sql);
}

void judge_sign_cardless(struct judge *j, const char *path, uint32_t version)
{
    char sql[512];

    (void)snprintf(sql, sizeof(sql),
                   "UPDATE key SET card = NULL, state = 2, purpose = 1, provenance = 1, floor = 2,"
                   " bytes = 32, created_s = 1 WHERE path = '%s' AND version = %u",
                   path, (unsigned int)version);
    judge_tamper(j, sql);
    resign(j, path, version);
}

void judge_sign_policy(struct judge *j, const char *path, uint32_t version, const char *policy)
{
    char sql[2048];

    (void)snprintf(sql, sizeof(sql),
                   "UPDATE key SET policy = '%s' WHERE path = '%s' AND version = %u", policy, path,
                   (unsigned int)version);
    judge_tamper(j, sql);
    resign(j, path, version);
}

void judge_tamper(struct judge *j, const char *sql)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(j->store_path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, WAIT_MS), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- the guest's part ---- */

static size_t rsa_number(const EVP_PKEY *key, const char *param, uint8_t *out, size_t size)
{
    BIGNUM *n = NULL;
    size_t len = 0;

    assert_int_equal(EVP_PKEY_get_bn_param(key, param, &n), 1);
    len = (size_t)BN_num_bytes(n);
    assert_true(len <= size);
    assert_int_equal(BN_bn2bin(n, out), (int)len);
    BN_free(n);
    return len;
}

static void guest_public(struct guest *g)
{
    struct kbs_tee_key *k = &g->public;

    memset(k, 0, sizeof(*k));
    if (EVP_PKEY_is_a(g->key, "RSA")) {
        k->alg = g->rsa_alg != KBS_TEE_ALG_NONE ? g->rsa_alg : KBS_TEE_ALG_RSA_OAEP_256;
        k->rsa.n_len = rsa_number(g->key, OSSL_PKEY_PARAM_RSA_N, k->rsa.n, sizeof(k->rsa.n));
        k->rsa.e_len = rsa_number(g->key, OSSL_PKEY_PARAM_RSA_E, k->rsa.e, sizeof(k->rsa.e));
    } else {
        k->alg = g->signs ? KBS_TEE_ALG_ES256 : KBS_TEE_ALG_ECDH_ES_A256KW;
        k->ec = key_public(g->key, KBS_CURVE_P256);
    }
}

struct kbs_digest guest_digest(const struct guest *g, bool device)
{
    const struct kbs_span additional = kbs_span_str(g->additional != NULL ? g->additional : "");
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_digest digest;

    assert_int_equal(
        kbs_rcar_report_digest(g->hash != KBS_HASH_NONE ? g->hash : KBS_HASH_SHA384, &g->public,
                               kbs_span_str(g->nonce),
                               device || g->version == KBS_PROTOCOL_0_2_0 ? NULL : &additional,
                               &digest, &err),
        0);
    return digest;
}

/* The Challenge: its nonce, and whether it selects what the guest expects. */
static void guest_challenge(struct guest *g, const char *text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;
    const json_t *extra;

    assert_int_equal(kbs_json_parse_object(kbs_span_str(text), "challenge", &body, &err), 0);
    (void)snprintf(g->nonce, sizeof(g->nonce), "%s",
                   json_string_value(json_object_get(body, "nonce")));
    assert_int_equal(strlen(g->nonce), 44);
    assert_int_equal(g->nonce[43], '=');
    extra = json_object_get(body, "extra-params");
    if (g->hash == KBS_HASH_NONE) {
        assert_string_equal(json_string_value(extra), "");
    } else {
        assert_string_equal(json_string_value(json_object_get(extra, "selected-hash-algorithm")),
                            kbs_hash_name(g->hash));
    }
}

void guest_auth(struct judge *j, struct guest *g)
{
    char body[512];
    const struct ask ask = {.route = KBS_ROUTE_AUTH,
                            .target = "/kbs/v0/auth",
                            .content_type = "application/json",
                            .body = body};
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    (void)snprintf(body, sizeof(body), "{\"version\":\"%s\",\"tee\":\"%s\",\"extra-params\":%s}",
                   g->version != KBS_PROTOCOL_NONE ? kbs_protocol_name(g->version) : "0.4.0",
                   g->tee != NULL ? g->tee : "sample", g->extra != NULL ? g->extra : "\"\"");
    judge_ask(j, &ask, r);
    if (r->status != 200) {
        print_error("auth: %u %s\n", r->status, r->body);
        fail();
    }
    assert_string_equal(r->type, "application/json");
    assert_int_equal(strlen(r->cookie), KBS_LIMIT_COOKIE_BYTES);
    assert_int_equal(r->cookie[12], '4'); /* UUIDv4 */
    guest_challenge(g, r->body);
    (void)snprintf(g->cookie, sizeof(g->cookie), "%s", r->cookie);
    if (g->key == NULL) {
        g->key = key_new("P-256");
    }
    guest_public(g);
    free(r);
    g->digest = guest_digest(g, false);
}

static void guest_sample_put(struct kbs_buf *out, const struct guest *g)
{
    kbs_buf_put_str(out, "{\"svn\":\"1\",\"report_data\":\"");
    kbs_base64_put(out, kbs_digest_span(&g->digest));
    kbs_buf_put_str(out, "\"}");
}

void guest_evidence(struct guest *g, char *out, size_t size)
{
    struct kbs_buf text = KBS_BUF(size - 1);

    if (g->version == KBS_PROTOCOL_0_2_0) {
        kbs_buf_put_str(&text, "{\"tee-pubkey\":");
        kbs_jose_tee_jwk_put(&text, &g->public);
        kbs_buf_put_str(&text, ",\"tee-evidence\":");
        guest_sample_put(&text, g);
        kbs_buf_put_u8(&text, '}');
    } else {
        kbs_buf_printf(
            &text,
            "{\"init-data\":null,\"runtime-data\":{\"nonce\":\"%s\",\"tee-pubkey\":", g->nonce);
        kbs_jose_tee_jwk_put(&text, &g->public);
        kbs_buf_put_str(&text, "},\"tee-evidence\":{\"primary_evidence\":");
        guest_sample_put(&text, g);
        kbs_buf_put_str(&text, ",\"additional_evidence\":");
        kbs_json_string_put(&text, kbs_span_str(g->additional != NULL ? g->additional : ""));
        kbs_buf_put_str(&text, "}}");
    }
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), out, size));
    kbs_buf_deinit(&text);
}

void guest_attest(struct judge *j, struct guest *g)
{
    char evidence[4096];
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .target = "/kbs/v0/attest",
                            .content_type = "application/json",
                            .cookie = g->cookie,
                            .body = evidence};
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;

    assert_non_null(r);
    guest_auth(j, g);
    guest_evidence(g, evidence, sizeof(evidence));
    judge_ask(j, &ask, r);
    if (r->status != 200) {
        print_error("attest: %u %s\n", r->status, r->body);
        fail();
    }
    assert_string_equal(r->cookie, g->cookie);
    assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "token", &body, &err), 0);
    (void)snprintf(g->token, sizeof(g->token), "%s",
                   json_string_value(json_object_get(body, "token")));
    (void)snprintf(g->bearer, sizeof(g->bearer), "Bearer %s", g->token);
    free(r);
}

void guest_free(struct guest *g)
{
    EVP_PKEY_free(g->key);
    g->key = NULL;
}
