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
#include "api/nek_faces.h"

#define PATTERN "/kbs/v0/pkcs11/wrap-key"
#define VERSIONS_TRIED 4u /* each is a release that may fail */

int kbs_plugin_key(struct kbs_call *call, const char *path, struct kbs_span *ret,
                   struct kbs_error *err)
{
    *ret = kbs_span_str(path);
    if (ret->len == 0) {
        call->answer->variant = "PluginNotFound";
        return kbs_fail(err, KBS_MISSING, "no nek_key is configured for this plugin");
    }
    return 0;
}

/* A version (0: the newest), which has to be RSA. */
static int rsa_key_get(struct kbs_api *api, struct kbs_span path, uint32_t version,
                       struct kbs_key *ret, struct kbs_error *err)
{
    struct kbs_tee_key public_key;

    if (kbs_nek_key_get(api, path, version, ret, &public_key, err) != 0) {
        return -1;
    }
    return ret->card.alg == KBS_KEY_ALG_RSA
               ? 0
               : kbs_fail(err, KBS_UNSUPPORTED, "the key of wrap-key has to be an RSA key");
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
    struct kbs_key key;
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_plugin_key(call, call->api->nek_key, &want.path, err) == 0 &&
        rsa_key_get(call->api, want.path, 0, &key, err) == 0) {
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

int kbs_wrap_for_admin(struct kbs_call *call, const char *pattern, const char *path, bool rsa,
                       struct kbs_wrapped *ret, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    static const struct kbs_nek_binding nobody;
    const struct kbs_admin *admin = NULL;
    struct kbs_span at = KBS_SPAN_EMPTY;
    struct kbs_key key;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "POST", pattern, true, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        wrap_allowed(call->api, err) != 0 || kbs_plugin_key(call, path, &at, err) != 0 ||
        kbs_nek_key_get(call->api, at, 0, &key, &ret->key, err) != 0) {
        return -1;
    }
    if (rsa ? key.card.alg != KBS_KEY_ALG_RSA : ret->key.alg != KBS_TEE_ALG_ECDH_ES_A256KW) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the key that is configured is of another kind");
    }
    (void)kbs_key_kid(&key, ret->kid);
    ret->to = (struct kbs_nek_to){.key = &ret->key,
                                  .kind = rsa ? KBS_NEK_OAEP : KBS_NEK_JOSE,
                                  .kid = kbs_span_str(ret->kid),
                                  .binding = &nobody};
    return kbs_nek_wrap(&ret->to, call->req->body, &ret->blob, err) == 0
               ? wrap_record(call, admin, sequence, ret->kid,
                             kbs_span(ret->blob.wrapped, ret->blob.wrapped_len), err)
               : -1;
}

int kbs_api_wrap_key(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_wrapped made;

    if (kbs_wrap_for_admin(call, PATTERN, call->api->nek_key, true, &made, err) != 0) {
        return -1;
    }
    call->answer->content_type = "application/octet-stream";
    kbs_buf_put(&call->answer->body, made.blob.wrapped, made.blob.wrapped_len);
    return 0;
}
