/*
 * Resources: what stock clients of the KBS protocol ask for. A JWE to the TEE key, its payload a
 * secret or, if the path is a key's, the key.
 *
 * The road is that of key.c: session, row, policy, order, record. Nothing is said of a path before
 * the session has attested: 401 for those that exist and those that do not, which is also what
 * makes such clients attest. After that 403, 404 and 501 are told apart, because a guest that is
 * told 401 for everything attests three times for a mistyped path. A key comes this way only if its
 * floor allows the form.
 *
 * /kbs/v0/pkcs11/resource is the same by another name. A resource policy in Rego, while one is set,
 * has to allow what either gives, beside the policy that a resource has of its own; for one that has
 * none it decides alone. Without kbs-policy it cannot be asked, and nothing is given (501).
 *
 * There may be several: of the path itself, of its first two segments, of the first one (a tenant's), and
 * the default. The longest that is set governs, and no other is asked. Whatever is wrong with that one, its
 * row or its text, is the end of it: it never gives way to a weaker one.
 */
#include "api/context.h"

#include "wire/route.h"

/* The policy of that name: 0 with its text, empty if it is not set. */
static int policy_get(struct kbs_call *call, struct kbs_span name, struct kbs_document *policy,
                      struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;

    kbs_buf_clear(ret);
    if (kbs_document_get(call->api, KBS_DOCUMENT_RESOURCE_POLICY, name, policy, ret, &found) == 0) {
        return 0;
    }
    kbs_buf_clear(ret);
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    return 0;
}

/* The one that governs this path: its text, empty if none is set, and the row that says its name. */
static int resource_policy(struct kbs_call *call, struct kbs_span path, struct kbs_document *policy,
                           struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf name = KBS_BUF(sizeof(KBS_RESOURCE_POLICY) + KBS_LIMIT_KEY_PATH_BYTES);
    int rc = 0;

    kbs_buf_put_str(&name, KBS_RESOURCE_POLICY "/");
    kbs_buf_put_span(&name, path);
    rc = kbs_buf_check(&name, "the name of a policy", err);
    for (size_t len = name.len; rc == 0 && ret->len == 0 && len > 0; len--) {
        if (len == name.len || name.p[len] == '/') {
            rc = policy_get(call, kbs_span(name.p, len), policy, ret, err);
        }
    }
    kbs_buf_deinit(&name);
    return rc;
}

static bool is_secret(struct kbs_call *call, struct kbs_span path)
{
    struct kbs_error ignored =
        KBS_ERROR_NONE; /* the release reads it again, and says what is wrong */
    struct kbs_key row;

    return kbs_store_secret_newest(call->api->store, path, &row, NULL, NULL, &ignored) == 0 ||
           ignored.category != KBS_MISSING;
}

int kbs_api_resource(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    struct kbs_session session = KBS_SESSION_NULL;
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_document governs = {.kind = KBS_DOCUMENT_NONE};
    struct kbs_release_want want = {
        .session = &session,
        .plugin = call->req->route == KBS_ROUTE_PKCS11_RESOURCE ? "pkcs11" : "resource",
        .formats = {KBS_FORMAT_JWE},
        .format_count = 1};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_request_path(call, &want.path, err) == 0 &&
        resource_policy(call, want.path, &governs, &policy, err) == 0) {
        want.resource_policy = kbs_buf_span(&policy);
        want.resource_policy_name = governs.name;
        want.secret = is_secret(call, want.path);
        rc = kbs_release_key(call, &want, err);
    }
    kbs_buf_deinit(&policy);
    kbs_session_deinit(&session);
    return rc;
}
