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

#include "base/encoding.h"
#include "jose/write/jose.h"
#include "wire/route.h"

#define COSE_MAX_BYTES 2048u

/* A request, and what its spans borrow from. */
struct rewrap {
    struct kbs_release_want want;
    struct kbs_nek_in blob;
    uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES];
    json_t *body; /* owned */
};

/* ---- POST /kbs/v0/key/rewrap ---- */

static int blob_cose(struct kbs_nek_in *blob, struct kbs_span text, struct kbs_error *err)
{
    struct kbs_buf message = KBS_BUF(COSE_MAX_BYTES);
    int rc = kbs_base64url_get(&message, text) == 0
                 ? kbs_nek_read_cose(kbs_buf_span(&message), blob, err)
                 : kbs_fail(err, KBS_INPUT, "\"cose\" is not base64url of at most %u bytes",
                            COSE_MAX_BYTES);

    kbs_buf_deinit(&message);
    return rc;
}

int kbs_nek_body_get(const json_t *body, struct kbs_nek_in *ret, struct kbs_error *err)
{
    const json_t *recipient = json_object_get(body, "recipient");
    struct kbs_span cose = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "cose", &cose, err) != 0) {
        return -1;
    }
    if ((recipient != NULL) == (cose.p != NULL)) {
        return kbs_fail(err, KBS_INPUT, "the body has one of \"recipient\" and \"cose\"");
    }
    return recipient != NULL ? kbs_nek_read_jose(recipient, ret, err) : blob_cose(ret, cose, err);
}

static int rewrap_parse(struct kbs_call *call, struct rewrap *r, struct kbs_error *err)
{
    static const char *const names[] = {"context", "receipt", NULL};
    static const char *const members[] = {"recipient", "cose", "nonce", "salt", NULL};

    if (kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_context(call->req, &r->want.empty_context, err) != 0 ||
        kbs_request_receipt(call->req, &r->want.receipt, err) != 0 ||
        kbs_request_accept(call->req->accept, r->want.formats, &r->want.format_count, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &r->body, err) != 0 ||
        kbs_json_only(r->body, members, err) != 0 ||
        kbs_request_freshness(r->body, &r->want, r->salt, err) != 0 ||
        kbs_nek_body_get(r->body, &r->blob, err) != 0) {
        return -1;
    }
    r->want.path = r->blob.path;
    r->want.version = r->blob.version;
    return 0;
}

int kbs_api_key_rewrap(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_session session = KBS_SESSION_NULL;
    struct rewrap r = {.want = {.session = &session, .plugin = "key", .nek = &r.blob}};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 && rewrap_parse(call, &r, err) == 0) {
        rc = kbs_release_key(call, &r.want, err);
    }
    kbs_nek_in_deinit(&r.blob);
    json_decref(r.body);
    kbs_session_deinit(&session);
    return rc;
}

/* ---- GET /kbs/v0/hsm/keys/{repo}/{type}/{tag} ---- */

int kbs_nek_key_get(struct kbs_api *api, struct kbs_span path, uint32_t version,
                    struct kbs_key *ret, struct kbs_tee_key *ret_public, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    int rc = -1;

    if (kbs_epoch_gate(api, err) == 0) {
        rc = kbs_store_key_get(api->store, path, version, ret, &policy, err);
    }
    if (rc == 0 && (ret->card.purpose != KBS_PURPOSE_NEK || ret->state != KBS_KEY_STATE_ENABLED)) {
        rc = kbs_fail(err, KBS_MISSING, "no such key or version");
    }
    if (rc == 0 && (kbs_epoch_of_row(api, ret->epoch, err) != 0 ||
                    kbs_row_check(api, ret, kbs_buf_span(&policy), err) != 0)) {
        rc = -1;
    }
    kbs_buf_deinit(&policy);
    if (rc != 0) {
        return -1;
    }
    *ret_public = (struct kbs_tee_key){.alg = KBS_TEE_ALG_NONE};
    return ret->blob_len == 0 || kbs_tee_key_get(kbs_key_blob(ret), ret_public, err) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the row of the key has no public half");
}

static void public_put(struct kbs_buf *out, const struct kbs_key *key,
                       const struct kbs_tee_key *public_key)
{
    kbs_buf_printf(out, "{\"kid\":\"%s/v%u\",\"purpose\":\"%s\",\"binding_required\":%s,\"jwk\":",
                   key->path, (unsigned int)key->version, kbs_purpose_name(key->card.purpose),
                   (key->card.flags & KBS_CARD_BINDING_REQUIRED) != 0 ? "true" : "false");
    kbs_jose_tee_jwk_put(out, public_key);
    kbs_buf_put_u8(out, '}');
}

/*
 * Anybody may ask: a public key is none of a guest's secrets, and what is wrapped to it is of use to nobody
 * who has not attested. Paths of other keys, and of none, are answered alike.
 */
int kbs_api_hsm_key(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct kbs_tee_key public_key;
    uint32_t version = 0;
    struct kbs_key key;

    if (kbs_request_path(call, &path, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &version, err) != 0 ||
        kbs_nek_key_get(call->api, path, version, &key, &public_key, err) != 0) {
        return -1;
    }
    if (public_key.alg == KBS_TEE_ALG_NONE) {
        return kbs_fail(err, KBS_MISSING, "no such key or version");
    }
    public_put(&call->answer->body, &key, &public_key);
    return kbs_buf_check(&call->answer->body, "answer", err);
}
