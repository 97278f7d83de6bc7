/*
 * id-key, as it was proposed for Trustee and never merged: an owner has the key of a disk encrypted to a key of
 * the KBS and puts the result into the guest's image; the guest, attested, has it decrypted. It is the NEK road by
 * another name (docs/protocol/nek.md). The paths are the proposal's; bodies and answers are ours: blobs are those
 * of every NEK, so they may be bound to a guest, say to which version they were wrapped, and are made by
 * `kbs-admin nek wrap` without asking anybody.
 *
 * The proposal wrapped the request once more, by ECDH, so that nobody could send it again; here the answer
 * is encrypted to the session's TEE key, so sending it again is of no use.
 */
#include "api/nek_faces.h"

#define REGISTER_PATTERN "/kbs/v0/id-key/register"

static const char *const no_query[] = {NULL};

/* Anybody may ask, as for every public half (nek.c). SEC 1 section 2.3.3, uncompressed. */
int kbs_api_id_key_public(struct kbs_call *call, struct kbs_error *err)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct kbs_tee_key public_key;
    struct kbs_key key;

    if (kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_plugin_key(call, call->api->id_key, &path, err) != 0 ||
        kbs_nek_key_get(call->api, path, 0, &key, &public_key, err) != 0) {
        return -1;
    }
    if (public_key.alg != KBS_TEE_ALG_ECDH_ES_A256KW) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the key of id-key has to be an EC key");
    }
    call->answer->content_type = "application/octet-stream";
    kbs_buf_put(&call->answer->body, point, kbs_ec_point_put(&public_key.ec, point));
    return 0;
}

int kbs_api_id_key_register(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_wrapped made;

    if (kbs_wrap_for_admin(call, REGISTER_PATTERN, call->api->id_key, false, &made, err) != 0) {
        return -1;
    }
    kbs_nek_blob_put(&call->answer->body, &made.to, &made.blob);
    return 0;
}

/* The blob in the request, which has to be one of the configured key. */
static int decrypt_parse(struct kbs_call *call, struct kbs_span path, struct kbs_nek_in *ret,
                         struct kbs_error *err)
{
    static const char *const members[] = {"recipient", "cose", NULL};
    KBS_AUTO_JSON body = NULL;

    if (kbs_request_json_type(call->req, true, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 || kbs_nek_body_get(body, ret, err) != 0) {
        return -1;
    }
    return kbs_span_equal(ret->path, path)
               ? 0
               : kbs_fail(err, KBS_UNPROCESSABLE, "the blob is of another key than id-key's");
}

int kbs_api_id_key_decrypt(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_session session = KBS_SESSION_NULL;
    struct kbs_nek_in blob = {.kind = KBS_NEK_NONE};
    struct kbs_release_want want = {.session = &session,
                                    .plugin = "id-key",
                                    .nek = &blob,
                                    .resource = true,
                                    .formats = {KBS_FORMAT_JWE},
                                    .format_count = 1,
                                    .empty_context = true};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_plugin_key(call, call->api->id_key, &want.path, err) == 0 &&
        decrypt_parse(call, want.path, &blob, err) == 0) {
        want.version = blob.version;
        rc = kbs_release_key(call, &want, err);
    }
    kbs_nek_in_deinit(&blob);
    kbs_session_deinit(&session);
    return rc;
}
