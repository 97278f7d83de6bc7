/*
 * The NEK road: a key that a guest keeps wrapped to a key of the token comes in, the same key wrapped to
 * the TEE goes out (docs/protocol/nek.md).
 *
 * A rewrap is a release of what is in a blob instead of what is in the catalog, so it travels as one
 * (key.c): session, row of the key that the blob is addressed to, its policy, order, record. What is
 * added is read here: the blob in its three shapes. Everything in it is the sender's word and decides nothing,
 * but for which key is meant; to whom it is bound is compared with what was attested, and then told
 * to the token by us.
 */
#include "api/context.h"

#include "attest/identity.h"
#include "base/encoding.h"
#include "cose/read/cose.h"
#include "cose/write/cose.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "wire/route.h"

#define COSE_TEXT_MAX_BYTES 2048u

/* A request, and what its spans borrow from. */
struct rewrap {
    struct kbs_release_want want;
    struct kbs_nek_request blob;
    struct kbs_jose_recipient_in jose;
    struct kbs_cose_recipient_in cose;
    char kid[KBS_LIMIT_KID_BYTES + 1];
    uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES];
    json_t *body; /* owned */
};

/* ---- the blob ---- */

/* Which road it is for and to whom it says it is bound; both stand in the key derivation. */
static int party_get(struct rewrap *r, struct kbs_span party_u, struct kbs_span party_v,
                     struct kbs_error *err)
{
    if (!kbs_span_equal_str(party_u, KBS_NEK_PARTY_U)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the recipient was not made for a NEK: PartyUInfo "
                        "is not \"" KBS_NEK_PARTY_U "\"");
    }
    return kbs_nek_binding_get(party_v, &r->blob.said, err);
}

static int kid_take(struct rewrap *r, struct kbs_span kid, struct kbs_error *err)
{
    if (!kbs_span_to_cstr(kid, r->kid, sizeof(r->kid)) ||
        !kbs_kid_split(kbs_span_str(r->kid), &r->want.path, &r->want.version)) {
        return kbs_fail(err, KBS_INPUT, "the recipient's kid is not repo/type/tag/vN");
    }
    return 0;
}

static void epk_take(struct rewrap *r, const struct kbs_ec_public *epk)
{
    r->blob.has_epk = true;
    r->blob.epk = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = *epk};
}

static int blob_jose(struct rewrap *r, const json_t *recipient, struct kbs_error *err)
{
    struct kbs_span alg = KBS_SPAN_EMPTY;
    json_t *header = NULL;
    bool aes = false;
    enum kbs_tee_alg wanted;

    if (kbs_json_get_object(recipient, "header", &header, err) != 0 ||
        kbs_json_get_string(header, "alg", &alg, err) != 0) {
        return -1;
    }
    aes = kbs_span_equal_str(alg, KBS_JOSE_A256KW);
    wanted = aes ? KBS_TEE_ALG_NONE : kbs_tee_alg_from_name(alg);
    if (!aes && wanted != KBS_TEE_ALG_ECDH_ES_A256KW && wanted != KBS_TEE_ALG_RSA_OAEP_256 &&
        wanted != KBS_TEE_ALG_RSA_OAEP) {
        return kbs_fail(err, KBS_INPUT,
                        "recipient: \"alg\" is not ECDH-ES+A256KW, A256KW, RSA-OAEP-256 or "
                        "RSA-OAEP");
    }
    if (kbs_jose_recipient_get(recipient, wanted, &r->jose, err) != 0 ||
        kid_take(r, kbs_span_str(r->jose.kid), err) != 0) {
        return -1;
    }
    r->blob.wrapped = kbs_buf_span(&r->jose.encrypted_key);
    if (!aes && wanted != KBS_TEE_ALG_ECDH_ES_A256KW) {
        r->blob.kind = KBS_NEK_OAEP;
        return 0;
    }
    r->blob.kind = aes ? KBS_NEK_AES_KW : KBS_NEK_JOSE;
    if (!aes) {
        epk_take(r, &r->jose.epk);
    }
    return party_get(r, kbs_buf_span(&r->jose.apu), kbs_buf_span(&r->jose.apv), err);
}

static int blob_cose(struct rewrap *r, struct kbs_span text, struct kbs_error *err)
{
    struct kbs_buf message = KBS_BUF(COSE_TEXT_MAX_BYTES);
    struct kbs_buf map = KBS_BUF(COSE_TEXT_MAX_BYTES);
    int rc = -1;

    if (kbs_base64url_get(&message, text) != 0) {
        (void)kbs_fail(err, KBS_INPUT, "\"cose\" is not base64url of at most %u bytes",
                       COSE_TEXT_MAX_BYTES);
    } else if (kbs_cose_recipient_get(kbs_buf_span(&message), &r->cose, err) == 0 &&
               kid_take(r, kbs_buf_span(&r->cose.kid), err) == 0) {
        /* kbs-token prints the protected map itself, and it is in the key derivation. */
        kbs_cose_recipient_protected_put(&map, kbs_buf_span(&r->cose.kid));
        rc = kbs_span_equal(kbs_buf_span(&map), kbs_buf_span(&r->cose.protected_map))
                 ? party_get(r, kbs_buf_span(&r->cose.party_u), kbs_buf_span(&r->cose.party_v), err)
                 : kbs_fail(err, KBS_INPUT,
                            "the recipient's protected map has more than alg and kid");
    }
    r->blob.kind = KBS_NEK_COSE;
    r->blob.wrapped = kbs_buf_span(&r->cose.encrypted_key);
    r->blob.salt = kbs_buf_span(&r->cose.salt);
    epk_take(r, &r->cose.epk);
    kbs_buf_deinit(&message);
    kbs_buf_deinit(&map);
    return rc;
}

/* ---- POST /kbs/v0/key/rewrap ---- */

static int rewrap_parse(struct kbs_call *call, struct rewrap *r, struct kbs_error *err)
{
    static const char *const names[] = {"context", NULL};
    static const char *const members[] = {"recipient", "cose", "nonce", "salt", NULL};
    const json_t *recipient = NULL;
    struct kbs_span cose = KBS_SPAN_EMPTY;

    if (kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_context(call->req, &r->want.empty_context, err) != 0 ||
        kbs_request_accept(call->req->accept, r->want.formats, &r->want.format_count, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &r->body, err) != 0 ||
        kbs_json_only(r->body, members, err) != 0 ||
        kbs_request_freshness(r->body, &r->want, r->salt, err) != 0 ||
        kbs_json_opt_string(r->body, "cose", &cose, err) != 0) {
        return -1;
    }
    recipient = json_object_get(r->body, "recipient");
    if ((recipient != NULL) == (cose.p != NULL)) {
        return kbs_fail(err, KBS_INPUT, "the body has one of \"recipient\" and \"cose\"");
    }
    return recipient != NULL ? blob_jose(r, recipient, err) : blob_cose(r, cose, err);
}

int kbs_api_key_rewrap(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_session session = KBS_SESSION_NULL;
    struct rewrap r = {.want = {.session = &session, .plugin = "key", .nek = &r.blob}};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 && rewrap_parse(call, &r, err) == 0) {
        rc = kbs_release_key(call, &r.want, err);
    }
    kbs_jose_recipient_in_deinit(&r.jose);
    kbs_cose_recipient_in_deinit(&r.cose);
    json_decref(r.body);
    kbs_session_deinit(&session);
    return rc;
}

/* ---- GET /kbs/v0/hsm/keys/{repo}/{type}/{tag} ---- */

static int public_put(struct kbs_buf *out, const struct kbs_key *key, struct kbs_error *err)
{
    struct kbs_tee_key public_key;

    if (kbs_tee_key_get(kbs_key_blob(key), &public_key, err) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the row of the key has no public half");
    }
    kbs_buf_printf(out, "{\"kid\":\"%s/v%u\",\"purpose\":\"%s\",\"binding_required\":%s,\"jwk\":",
                   key->path, (unsigned int)key->version, kbs_purpose_name(key->card.purpose),
                   (key->card.flags & KBS_CARD_BINDING_REQUIRED) != 0 ? "true" : "false");
    kbs_jose_tee_jwk_put(out, &public_key);
    kbs_buf_put_u8(out, '}');
    return kbs_buf_check(out, "answer", err);
}

/*
 * Anybody may ask: a public key is none of a guest's secrets, and what is wrapped to it is of use to nobody
 * who has not attested. Paths of other keys, and of none, are answered alike.
 */
int kbs_api_hsm_key(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    struct kbs_span path = KBS_SPAN_EMPTY;
    uint32_t version = 0;
    struct kbs_key key;
    int rc = -1;

    if (kbs_request_path(call, &path, err) == 0 &&
        kbs_request_query_only(call->req, names, err) == 0 &&
        kbs_request_version(call->req, &version, err) == 0 && kbs_epoch_gate(call->api, err) == 0) {
        rc = kbs_store_key_get(call->api->store, path, version, &key, &policy, err);
        if (rc == 0 && (key.card.purpose != KBS_PURPOSE_NEK || key.blob_len == 0 ||
                        key.state != KBS_KEY_STATE_ENABLED)) {
            rc = kbs_fail(err, KBS_MISSING, "no such key or version");
        }
    }
    if (rc == 0 && (kbs_epoch_of_row(call->api, key.epoch, err) != 0 ||
                    kbs_row_check(call->api, &key, kbs_buf_span(&policy), err) != 0 ||
                    public_put(&call->answer->body, &key, err) != 0)) {
        rc = -1;
    }
    kbs_buf_deinit(&policy);
    return rc;
}
