/*
 * The guest's side of the bargain. The server binds a released key to its name, to the handshake
 * and to the request by party U and party V of the key derivation; a host in between can replace
 * the answer by another one that was wrapped to the same TEE key. So the KDF gets only what this
 * side rebuilt: U from the path it asked for, V from its own digest and nonce. One value comes from
 * the answer when the latest version was asked for: the version number in the kid, which is shown
 * to the caller and enters U.
 *
 * The comparisons before the unwrapping add no strength, since AES-KW would fail anyway; they say
 * what is wrong, and they hold with ?context=none as well, where the derivation covers neither.
 * Members that were not asked for (apu with an empty context, a salt) are refused, not ignored.
 *
 * Both formats are first brought to one struct, so that there is one list of checks. RSA-OAEP binds
 * nothing but the key: of such an answer only the kid can be compared, and it is not authenticated.
 */
#include "cli/open.h"

#include "cose/read/cose.h"
#include "cose/write/cose.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "wire/nek.h"

#define KDF_INFO_MAX_BYTES 1024

/* The answer in either format, in views of what the readers own. */
struct answer {
    struct kbs_ec_public epk;
    struct kbs_span kid;
    struct kbs_span party_u;
    struct kbs_span party_v;
    struct kbs_span salt;
    struct kbs_span protected_map; /* COSE */
    struct kbs_span encrypted_key;
};

void kbs_guest_opened_deinit(struct kbs_guest_opened *o)
{
    o->key = kbs_secret_free(o->key);
}

static int mismatch(struct kbs_error *err, const char *what)
{
    return kbs_fail(err, KBS_UNPROCESSABLE, "the answer is refused: %s", what);
}

/* kid: the path that was asked for, and the version too unless that was the latest. */
static int check_kid(const struct kbs_guest_ask *ask, const struct answer *a,
                     struct kbs_guest_opened *ret, struct kbs_error *err)
{
    struct kbs_span path;
    uint32_t version;

    if (!kbs_kid_split(a->kid, &path, &version) || !kbs_span_equal_str(path, ask->path)) {
        return mismatch(err, "kid names another key than the one asked for");
    }
    if (ask->version != 0 && version != ask->version) {
        return mismatch(err, "kid names another version than the one asked for");
    }
    if (!kbs_span_to_cstr(a->kid, ret->kid, sizeof(ret->kid))) {
        return mismatch(err, "kid is too long");
    }
    ret->version = version;
    return 0;
}

static int check_answer(const struct kbs_guest_ask *ask, const struct answer *a,
                        const struct kbs_tee_key *own, struct kbs_span u, struct kbs_span v,
                        struct kbs_error *err)
{
    bool cose = ask->format == KBS_FORMAT_COSE;

    if (own->alg != KBS_TEE_ALG_ECDH_ES_A256KW) {
        return 0; /* RSA-OAEP has no place for a context */
    }
    if (a->epk.curve != own->ec.curve) {
        return mismatch(err, "epk is on another curve than the TEE key");
    }
    if (!kbs_span_equal(a->party_u, u)) {
        return mismatch(err, cose ? "party U (-21) is not the kid" : "apu is not the kid");
    }
    if (!kbs_span_equal(a->party_v, v)) {
        return mismatch(err, cose ? "party V (-25) is not of this handshake and request"
                                  : "apv is not of this handshake and request");
    }
    if (!kbs_span_equal(a->salt, kbs_span(ask->salt, cose ? ask->salt_len : 0))) {
        return mismatch(err, "salt is not the one that was sent");
    }
    return 0;
}

static int unwrap_jose(const struct answer *a, const struct kbs_guest_key *tee_key,
                       struct kbs_span u, struct kbs_span v, struct kbs_secret **ret_key,
                       struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(KDF_INFO_MAX_BYTES);
    int r = -1;

    kbs_jose_other_info_put(&info, u, v);
    if (kbs_buf_check(&info, "OtherInfo", err) == 0) {
        r = kbs_guest_key_unwrap(tee_key, &a->epk, kbs_buf_span(&info), a->encrypted_key, ret_key,
                                 err);
    }
    kbs_buf_deinit(&info);
    return r;
}

/* The protected header is rebuilt as well: only its one encoding is accepted. */
static int derive_cose(const struct answer *a, struct kbs_span z, struct kbs_span u,
                       struct kbs_span v, struct kbs_secret **ret_kek, struct kbs_error *err)
{
    struct kbs_buf map = KBS_BUF(KDF_INFO_MAX_BYTES);
    struct kbs_buf info = KBS_BUF(KDF_INFO_MAX_BYTES);
    int r = -1;

    kbs_cose_recipient_protected_put(&map, a->kid);
    kbs_cose_kdf_context_put(&info, u, v, kbs_buf_span(&map));
    if (kbs_buf_check(&map, "protected header", err) != 0 ||
        kbs_buf_check(&info, "COSE_KDF_Context", err) != 0) {
        goto out;
    }
    if (!kbs_span_equal(kbs_buf_span(&map), a->protected_map)) {
        (void)mismatch(err, "its protected header is not alg and kid");
        goto out;
    }
    r = kbs_agree_hkdf(z, a->salt, kbs_buf_span(&info), ret_kek, err);
out:
    kbs_buf_deinit(&map);
    kbs_buf_deinit(&info);
    return r;
}

static int unwrap_cose(const struct answer *a, const struct kbs_guest_key *tee_key,
                       struct kbs_span u, struct kbs_span v, struct kbs_secret **ret_key,
                       struct kbs_error *err)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;

    if (tee_key->ec == NULL) {
        return mismatch(err, "COSE answers are for EC keys");
    }
    if (kbs_agree_ecdh(tee_key->ec, &a->epk, &z, err) != 0 ||
        derive_cose(a, kbs_secret_span(z), u, v, &kek, err) != 0) {
        return -1;
    }
    return kbs_agree_unwrap(kbs_secret_span(kek), a->encrypted_key, ret_key, err);
}

static int unwrap(const struct kbs_guest_ask *ask, const struct answer *a,
                  const struct kbs_guest_key *tee_key, struct kbs_span u, struct kbs_span v,
                  struct kbs_secret **ret_key, struct kbs_error *err)
{
    KBS_AUTO_SECRET key = NULL;
    int r = ask->format == KBS_FORMAT_COSE ? unwrap_cose(a, tee_key, u, v, &key, err)
                                           : unwrap_jose(a, tee_key, u, v, &key, err);

    if (r != 0) {
        return -1;
    }
    size_t len = kbs_secret_len(key);
    if (len < KBS_LIMIT_KEY_BYTES_MIN || len > KBS_LIMIT_KEY_BYTES_MAX || len % 8 != 0) {
        return mismatch(err, "the key's length is not 16 to 64 bytes in steps of 8");
    }
    *ret_key = key;
    key = NULL;
    return 0;
}

static int open_answer(const struct kbs_guest_ask *ask, const struct kbs_guest_key *tee_key,
                       const struct answer *a, struct kbs_guest_opened *ret, struct kbs_error *err)
{
    uint8_t party_v[KBS_SHA256_BYTES];
    struct kbs_span u = KBS_SPAN_EMPTY;
    struct kbs_span v = KBS_SPAN_EMPTY;

    if (check_kid(ask, a, ret, err) != 0) {
        return -1;
    }
    if (ask->nek.len != 0) {
        kbs_nek_party_v(kbs_digest_span(&ask->digest), ask->nonce, ask->nek, party_v);
    } else {
        kbs_party_v(kbs_digest_span(&ask->digest), ask->nonce, party_v);
    }
    if (ask->blob.len != 0) {
        kbs_nek_provision_v(party_v, ask->blob, party_v);
    }
    if (!ask->empty_context) {
        u = kbs_span_str(ret->kid);
        v = kbs_span(party_v, sizeof(party_v));
    }
    if (check_answer(ask, a, &tee_key->public_key, u, v, err) != 0 ||
        unwrap(ask, a, tee_key, u, v, &ret->key, err) != 0) {
        return -1;
    }
    kbs_agree_kcv(kbs_secret_span(ret->key), ret->kcv);
    ret->has_cmac = kbs_secret_len(ret->key) == 16 || kbs_secret_len(ret->key) == 24;
    return ret->has_cmac ? kbs_agree_kcv_cmac(kbs_secret_span(ret->key), ret->kcv_cmac, err) : 0;
}

static int open_jose(const struct kbs_guest_ask *ask, const struct kbs_guest_key *tee_key,
                     struct kbs_span text, struct kbs_guest_opened *ret, struct kbs_error *err)
{
    struct kbs_jose_recipient_in in = {.apu = {.p = NULL}};
    KBS_AUTO_JSON recipient = NULL;
    int r = -1;

    if (kbs_json_parse_object(text, "answer", &recipient, err) == 0 &&
        kbs_jose_recipient_get(recipient, tee_key->public_key.alg, &in, err) == 0) {
        struct answer a = {.epk = in.epk,
                           .kid = kbs_span_str(in.kid),
                           .party_u = kbs_buf_span(&in.apu),
                           .party_v = kbs_buf_span(&in.apv),
                           .encrypted_key = kbs_buf_span(&in.encrypted_key)};
        r = open_answer(ask, tee_key, &a, ret, err);
    }
    kbs_jose_recipient_in_deinit(&in);
    return r;
}

static int open_cose(const struct kbs_guest_ask *ask, const struct kbs_guest_key *tee_key,
                     struct kbs_span message, struct kbs_guest_opened *ret, struct kbs_error *err)
{
    struct kbs_cose_recipient_in in = {.kid = {.p = NULL}};
    int r = -1;

    if (kbs_cose_recipient_get(message, &in, err) == 0) {
        struct answer a = {.epk = in.epk,
                           .kid = kbs_buf_span(&in.kid),
                           .party_u = kbs_buf_span(&in.party_u),
                           .party_v = kbs_buf_span(&in.party_v),
                           .salt = kbs_buf_span(&in.salt),
                           .protected_map = kbs_buf_span(&in.protected_map),
                           .encrypted_key = kbs_buf_span(&in.encrypted_key)};
        r = open_answer(ask, tee_key, &a, ret, err);
    }
    kbs_cose_recipient_in_deinit(&in);
    return r;
}

int kbs_guest_open(const struct kbs_guest_ask *ask, const struct kbs_guest_key *tee_key,
                   struct kbs_span answer, struct kbs_guest_opened *ret, struct kbs_error *err)
{
    int r;

    *ret = (struct kbs_guest_opened){.key = NULL};
    if (tee_key->public_key.alg == KBS_TEE_ALG_RSA1_5) {
        return mismatch(err, "a key does not come by RSA1_5");
    }
    r = ask->format == KBS_FORMAT_COSE ? open_cose(ask, tee_key, answer, ret, err)
                                       : open_jose(ask, tee_key, answer, ret, err);
    if (r != 0) {
        kbs_guest_opened_deinit(ret);
        *ret = (struct kbs_guest_opened){.key = NULL};
    }
    return r;
}
