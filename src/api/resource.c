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
 * Which of several that is, decide.c says. A path may be an alias, which leads to another one by who asks
 * (alias.c); everything from there on is that one's.
 */
#include "api/context.h"

#include "wire/route.h"

bool kbs_resource_is_secret(struct kbs_call *call, struct kbs_span path)
{
    struct kbs_error ignored =
        KBS_ERROR_NONE; /* the release reads it again, and says what is wrong */
    struct kbs_key row;

    return kbs_store_secret_newest(call->api->store, path, &row, NULL, NULL, &ignored) == 0 ||
           ignored.category != KBS_MISSING;
}

/* Which key or secret is meant: the path itself, or what it is an alias of for this guest. */
static int resource_find(struct kbs_call *call, struct kbs_release_want *want,
                         struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_span asked = want->path;
    int rc = kbs_alias_resolve(call, want->session, asked, &want->path, &why);

    if (rc == KBS_ALIAS_NONE) {
        rc = 0;
    } else {
        want->asked = asked;
    }
    if (rc != 0) {
        *err = why;
        return kbs_decision_to_record(err) ? kbs_release_denied(call, want, err) : -1;
    }
    want->secret = kbs_resource_is_secret(call, want->path);
    return 0;
}

int kbs_api_resource(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"receipt", NULL};
    struct kbs_session session = KBS_SESSION_NULL;
    struct kbs_release_want want = {
        .session = &session,
        .plugin = call->req->route == KBS_ROUTE_PKCS11_RESOURCE ? "pkcs11" : "resource",
        .resource = true,
        .formats = {KBS_FORMAT_JWE},
        .format_count = 1};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 &&
        kbs_request_query_only(call->req, names, err) == 0 &&
        kbs_request_receipt(call->req, &want.receipt, err) == 0 &&
        kbs_request_path(call, &want.path, err) == 0 && resource_find(call, &want, err) == 0) {
        rc = kbs_release_key(call, &want, err);
    }
    kbs_session_deinit(&session);
    return rc;
}
