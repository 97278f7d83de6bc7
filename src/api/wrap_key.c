/*
 * wrap-key, as clients of Trustee's pkcs11 plugin know it: raw bytes under an RSA key of the HSM, and the
 * way back. It is the NEK road by its oldest name (docs/protocol/nek.md): the key is the configured one of
 * purpose nek, a blob is RSA-OAEP and nothing more, and what comes back is a JWE.
 *
 * What differs from the plugin it stands for: the blob is unwrapped in the token and wrapped again there, or
 * not at all, unless the key's card allows that kbs-token sees it; the key has a policy; each unwrapping is
 * a release, recorded as one. A blob says neither for whom it is nor under which version: the newest one is
 * tried, then older ones, so that blobs outlive a rotation.
 *
 * Wrapping needs the public half only, so it is done here, and nobody has to ask: `kbs-admin nek wrap` does it
 * where the key is. The request that does ask brings the key in plain text, so it is for those clients
 * alone, never in production, and recorded.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "seal/nek.h"

#define PATTERN "/kbs/v0/pkcs11/wrap-key"
#define VERSIONS_TRIED 4u /* each is a release that may fail */

static int configured(struct kbs_call *call, struct kbs_span *ret, struct kbs_error *err)
{
    *ret = kbs_span_str(call->api->nek_key);
    if (ret->len == 0) {
        call->answer->variant = "PluginNotFound";
        return kbs_fail(err, KBS_MISSING, "the pkcs11 plugin has no nek_key");
    }
    return 0;
}

/* The row of a version (0: the newest), verified; the public half, which has to be RSA. */
static int rsa_key_get(struct kbs_api *api, struct kbs_span path, uint32_t version,
                       struct kbs_key *ret, struct kbs_tee_key *ret_public, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    int rc = -1;

    if (kbs_epoch_gate(api, err) == 0 &&
        kbs_store_key_get(api->store, path, version, ret, &policy, err) == 0 &&
        kbs_epoch_of_row(api, ret->epoch, err) == 0) {
        rc = kbs_row_check(api, ret, kbs_buf_span(&policy), err);
    }
    kbs_buf_deinit(&policy);
    if (rc != 0) {
        return -1;
    }
    if (ret->card.purpose != KBS_PURPOSE_NEK || ret->card.alg != KBS_KEY_ALG_RSA ||
        ret->state != KBS_KEY_STATE_ENABLED) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "the key of wrap-key has to be an enabled RSA key of purpose nek");
    }
    return kbs_tee_key_get(kbs_key_blob(ret), ret_public, err) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the row of the key has no public half");
}

/* ---- guests: GET with a body, and POST ---- */

/* The error is the newest version's. */
static int unwrap(struct kbs_call *call, struct kbs_release_want *want, struct kbs_error *err)
{
    struct kbs_error older = KBS_ERROR_NONE;
    uint32_t newest = want->version;

    if (kbs_release_key(call, want, err) == 0) {
        return 0;
    }
    for (uint32_t i = 1; err->category == KBS_UNPROCESSABLE && i < VERSIONS_TRIED && i < newest;
         i++) {
        want->version = newest - i;
        older = KBS_ERROR_NONE;
        if (kbs_release_key(call, want, &older) == 0) {
            *err = KBS_ERROR_NONE;
            return 0;
        }
        if (older.category != KBS_UNPROCESSABLE) {
            break; /* disabled, destroyed, denied: those before it are no better */
        }
    }
    return -1;
}

int kbs_api_unwrap_key(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    struct kbs_session session = KBS_SESSION_NULL;
    struct kbs_nek_in blob = {.kind = KBS_NEK_OAEP, .wrapped = call->req->body};
    struct kbs_release_want want = {.session = &session,
                                    .plugin = "pkcs11",
                                    .nek = &blob,
                                    .resource = true,
                                    .formats = {KBS_FORMAT_JWE},
                                    .format_count = 1,
                                    .empty_context = true};
    struct kbs_tee_key public_key;
    struct kbs_key key;
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        configured(call, &want.path, err) == 0 &&
        rsa_key_get(call->api, want.path, 0, &key, &public_key, err) == 0) {
        want.version = key.version;
        rc = unwrap(call, &want, err);
    }
    kbs_session_deinit(&session);
    return rc;
}

/* ---- administrators: POST ---- */

static int wrap_record(struct kbs_call *call, const struct kbs_admin *admin, uint64_t sequence,
                       const char *kid, struct kbs_span wrapped, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_record r;
    int rc = 0;

    kbs_sha256(wrapped, digest);
    kbs_record_init(&r, "nek-wrap");
    kbs_record_str(&r, "kid", kid);
    kbs_record_hex(&r, "nek", kbs_span(digest, sizeof(digest)));
    kbs_record_str(&r, "form", "plaintext");
    kbs_admin_record(&r, admin, sequence);
    kbs_record_text(&r, "peer", call->req->peer);
    rc = kbs_api_ledger_append(call->api, &r, NULL, err);
    kbs_record_deinit(&r);
    return rc;
}

static int wrap_allowed(const struct kbs_api *api, struct kbs_error *err)
{
    bool compat =
        api->admin_mode == KBS_ADMIN_BEARER || api->admin_mode == KBS_ADMIN_INSECURE_ALLOW_ALL;

    return compat && !api->production
               ? 0
               : kbs_fail(err, KBS_UNSUPPORTED,
                          "wrap-key is for clients of trustee_compat: wrap the key where it is, "
                          "with kbs-admin nek wrap");
}

int kbs_api_wrap_key(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    static const struct kbs_nek_binding nobody;
    const struct kbs_admin *admin = NULL;
    struct kbs_tee_key public_key = {.alg = KBS_TEE_ALG_NONE};
    struct kbs_nek_to to = {.key = &public_key, .kind = KBS_NEK_OAEP, .binding = &nobody};
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_nek_blob blob;
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct kbs_key key;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "POST", PATTERN, true, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        wrap_allowed(call->api, err) != 0 || configured(call, &path, err) != 0 ||
        rsa_key_get(call->api, path, 0, &key, &public_key, err) != 0) {
        return -1;
    }
    (void)kbs_key_kid(&key, kid);
    to.kid = kbs_span_str(kid);
    if (kbs_nek_wrap(&to, call->req->body, &blob, err) != 0 ||
        wrap_record(call, admin, sequence, kid, kbs_span(blob.wrapped, blob.wrapped_len), err) !=
            0) {
        return -1;
    }
    call->answer->content_type = "application/octet-stream";
    kbs_buf_put(&call->answer->body, blob.wrapped, blob.wrapped_len);
    return 0;
}
