/*
 * From a route's number to its handler, and from what the handler met to an answer.
 *
 * The problem: a front may be taken over, so a judge must not do what its duty does not have,
 * whatever route it is sent. The approach: one table says which duty knows which route by which
 * method; anything else does not exist. Handlers fill in an answer or return an error; only here
 * does an error become a status, a body and a line in the log, so that no handler can say too much.
 * What is internal is logged and not told.
 *
 * One line per request: route, category, status, time, sizes, peer, and what the requester was
 * told. Never a cookie, a token or a body.
 */
#include "api/context.h"

#include "base/log.h"
#include "wire/route.h"

static const struct route {
    enum kbs_route number;
    enum kbs_duty duty;
    const char *method;
    const char *name;
    kbs_handler *handler;
} routes[] = {
    {KBS_ROUTE_AUTH, KBS_DUTY_RELEASE, "POST", "auth", kbs_api_auth},
    {KBS_ROUTE_ATTEST, KBS_DUTY_RELEASE, "POST", "attest", kbs_api_attest},
    {KBS_ROUTE_KEY_RELEASE, KBS_DUTY_RELEASE, "POST", "key-release", kbs_api_key_release},
    {KBS_ROUTE_KEY_REWRAP, KBS_DUTY_RELEASE, "POST", "key-rewrap", kbs_api_key_rewrap},
    {KBS_ROUTE_KEY_PROVISION, KBS_DUTY_RELEASE, "POST", "key-provision", kbs_api_key_provision},
    {KBS_ROUTE_REGISTER_GET, KBS_DUTY_RELEASE, "GET", "register-get", kbs_api_register_get},
    {KBS_ROUTE_REGISTER_SET, KBS_DUTY_RELEASE, "POST", "register-set", kbs_api_register_set},
    {KBS_ROUTE_HSM_KEY, KBS_DUTY_RELEASE, "GET", "hsm-key", kbs_api_hsm_key},
    {KBS_ROUTE_HSM_KEYS, KBS_DUTY_RELEASE, "GET", "hsm-keys", kbs_api_hsm_keys},
    {KBS_ROUTE_REQUEST_NONCE, KBS_DUTY_RELEASE, "GET", "request-nonce", kbs_api_request_nonce},
    {KBS_ROUTE_JWKS, KBS_DUTY_RELEASE, "GET", "jwks", kbs_api_jwks},
    {KBS_ROUTE_RESOURCE, KBS_DUTY_RELEASE, "GET", "resource", kbs_api_resource},
    {KBS_ROUTE_PKCS11_RESOURCE, KBS_DUTY_RELEASE, "GET", "pkcs11-resource", kbs_api_resource},
    {KBS_ROUTE_UNWRAP_KEY, KBS_DUTY_RELEASE, "GET", "unwrap-key", kbs_api_unwrap_key},
    {KBS_ROUTE_UNWRAP_KEY_POST, KBS_DUTY_RELEASE, "POST", "unwrap-key-post", kbs_api_unwrap_key},
    {KBS_ROUTE_ID_KEY_PUBLIC, KBS_DUTY_RELEASE, "GET", "id-key-public", kbs_api_id_key_public},
    {KBS_ROUTE_ID_KEY_DECRYPT, KBS_DUTY_RELEASE, "POST", "id-key-decrypt", kbs_api_id_key_decrypt},
    {KBS_ROUTE_ID_KEY_REGISTER, KBS_DUTY_ADMIN, "POST", "id-key-register", kbs_api_id_key_register},
    {KBS_ROUTE_WRAP_KEY, KBS_DUTY_ADMIN, "POST", "wrap-key", kbs_api_wrap_key},
    {KBS_ROUTE_ADMIN_NONCE, KBS_DUTY_ADMIN, "GET", "admin-nonce", kbs_api_admin_nonce},
    {KBS_ROUTE_ADMIN_KEY_LIST, KBS_DUTY_ADMIN, "GET", "admin-key-list", kbs_api_admin_key_list},
    {KBS_ROUTE_ADMIN_KEY_CREATE, KBS_DUTY_ADMIN, "POST", "admin-key-create",
     kbs_api_admin_key_create},
    {KBS_ROUTE_ADMIN_KEY_SHOW, KBS_DUTY_ADMIN, "GET", "admin-key-show", kbs_api_admin_key_show},
    {KBS_ROUTE_ADMIN_KEY_IMPORT, KBS_DUTY_ADMIN, "POST", "admin-key-import",
     kbs_api_admin_key_import},
    {KBS_ROUTE_ADMIN_KEY_ADOPT, KBS_DUTY_ADMIN, "POST", "admin-key-adopt", kbs_api_admin_key_adopt},
    {KBS_ROUTE_ADMIN_KEY_ROTATE, KBS_DUTY_ADMIN, "POST", "admin-key-rotate",
     kbs_api_admin_key_rotate},
    {KBS_ROUTE_ADMIN_KEY_POLICY, KBS_DUTY_ADMIN, "POST", "admin-key-policy",
     kbs_api_admin_key_policy},
    {KBS_ROUTE_ADMIN_KEY_DISABLE, KBS_DUTY_ADMIN, "POST", "admin-key-disable",
     kbs_api_admin_key_disable},
    {KBS_ROUTE_ADMIN_KEY_ENABLE, KBS_DUTY_ADMIN, "POST", "admin-key-enable",
     kbs_api_admin_key_enable},
    {KBS_ROUTE_ADMIN_KEY_DESTROY, KBS_DUTY_ADMIN, "DELETE", "admin-key-destroy",
     kbs_api_admin_key_destroy},
    {KBS_ROUTE_ADMIN_KEY_UNDO, KBS_DUTY_ADMIN, "POST", "admin-key-undo", kbs_api_admin_key_undo},
    {KBS_ROUTE_ADMIN_WRAPPING_SHOW, KBS_DUTY_ADMIN, "GET", "admin-wrapping-show",
     kbs_api_admin_wrapping_show},
    {KBS_ROUTE_ADMIN_WRAPPING_ROTATE, KBS_DUTY_ADMIN, "POST", "admin-wrapping-rotate",
     kbs_api_admin_wrapping_rotate},
    {KBS_ROUTE_ADMIN_WRAPPING_REWRAP, KBS_DUTY_ADMIN, "POST", "admin-wrapping-rewrap",
     kbs_api_admin_wrapping_rewrap},
    {KBS_ROUTE_ADMIN_WRAPPING_DESTROY, KBS_DUTY_ADMIN, "DELETE", "admin-wrapping-destroy",
     kbs_api_admin_wrapping_destroy},
    {KBS_ROUTE_ADMIN_TOKEN_CAPS, KBS_DUTY_ADMIN, "GET", "admin-token-caps",
     kbs_api_admin_token_caps},
    {KBS_ROUTE_ADMIN_IMPORT_KEY, KBS_DUTY_ADMIN, "GET", "admin-import-key",
     kbs_api_admin_import_key},
    {KBS_ROUTE_ADMIN_STORE_SHOW, KBS_DUTY_ADMIN, "GET", "admin-store-show",
     kbs_api_admin_store_show},
    {KBS_ROUTE_ADMIN_STORE_ACCEPT, KBS_DUTY_ADMIN, "POST", "admin-store-accept",
     kbs_api_admin_store_accept},
    {KBS_ROUTE_ADMIN_SEAL_KEY, KBS_DUTY_ADMIN, "GET", "admin-seal-key", kbs_api_admin_seal_show},
    {KBS_ROUTE_ADMIN_SEAL_ROTATE, KBS_DUTY_ADMIN, "POST", "admin-seal-rotate",
     kbs_api_admin_seal_rotate},
    {KBS_ROUTE_ADMIN_SEAL_RESEAL, KBS_DUTY_ADMIN, "POST", "admin-seal-reseal",
     kbs_api_admin_seal_reseal},
    {KBS_ROUTE_ADMIN_SEAL_DESTROY, KBS_DUTY_ADMIN, "DELETE", "admin-seal-destroy",
     kbs_api_admin_seal_destroy},
    {KBS_ROUTE_ADMIN_SECRET_LIST, KBS_DUTY_ADMIN, "GET", "admin-secret-list",
     kbs_api_admin_secret_list},
    {KBS_ROUTE_ADMIN_SECRET_SHOW, KBS_DUTY_ADMIN, "GET", "admin-secret-show",
     kbs_api_admin_secret_show},
    {KBS_ROUTE_ADMIN_SECRET_SET, KBS_DUTY_ADMIN, "POST", "admin-secret-set",
     kbs_api_admin_secret_set},
    {KBS_ROUTE_ADMIN_SECRET_DELETE, KBS_DUTY_ADMIN, "DELETE", "admin-secret-delete",
     kbs_api_admin_secret_delete},
    {KBS_ROUTE_ADMIN_SECRET_POLICY, KBS_DUTY_ADMIN, "POST", "admin-secret-policy",
     kbs_api_admin_secret_policy},
    {KBS_ROUTE_RESOURCE_LIST, KBS_DUTY_ADMIN, "GET", "resource-list", kbs_api_resource_list},
    {KBS_ROUTE_RESOURCE_SET, KBS_DUTY_ADMIN, "POST", "resource-set", kbs_api_resource_set},
    {KBS_ROUTE_RESOURCE_DELETE, KBS_DUTY_ADMIN, "DELETE", "resource-delete",
     kbs_api_resource_delete},
    {KBS_ROUTE_PKCS11_RESOURCE_SET, KBS_DUTY_ADMIN, "POST", "pkcs11-resource-set",
     kbs_api_resource_set},
    {KBS_ROUTE_PKCS11_RESOURCE_DELETE, KBS_DUTY_ADMIN, "DELETE", "pkcs11-resource-delete",
     kbs_api_resource_delete},
    {KBS_ROUTE_RESOURCE_POLICY_LIST, KBS_DUTY_ADMIN, "GET", "resource-policy-list",
     kbs_api_resource_policy_list},
    {KBS_ROUTE_RESOURCE_POLICY_SET, KBS_DUTY_ADMIN, "POST", "resource-policy-set",
     kbs_api_resource_policy_set},
    {KBS_ROUTE_ATTESTATION_POLICY_SET, KBS_DUTY_ADMIN, "POST", "attestation-policy-set",
     kbs_api_attestation_policy_set},
    {KBS_ROUTE_REFERENCE_VALUE_SET, KBS_DUTY_ADMIN, "POST", "reference-value-set",
     kbs_api_reference_value_set},
    {KBS_ROUTE_REFERENCE_VALUE_SHOW, KBS_DUTY_ADMIN, "GET", "reference-value-show",
     kbs_api_reference_value_show},
    {KBS_ROUTE_ADMIN_RELEASE_DRY_RUN, KBS_DUTY_ADMIN, "POST", "admin-release-dry-run",
     kbs_api_admin_release_dry_run},
    {KBS_ROUTE_ADMIN_SIGN_LIST, KBS_DUTY_ADMIN, "GET", "admin-sign-list", kbs_api_admin_sign_list},
    {KBS_ROUTE_ADMIN_SIGN_ROTATE, KBS_DUTY_ADMIN, "POST", "admin-sign-rotate",
     kbs_api_admin_sign_rotate},
    {KBS_ROUTE_ADMIN_SIGN_DESTROY, KBS_DUTY_ADMIN, "DELETE", "admin-sign-destroy",
     kbs_api_admin_sign_destroy},
    {KBS_ROUTE_ADMIN_POLICY_LIST, KBS_DUTY_ADMIN, "GET", "admin-policy-list",
     kbs_api_admin_policy_list},
    {KBS_ROUTE_ADMIN_POLICY_SHOW, KBS_DUTY_ADMIN, "GET", "admin-policy-show",
     kbs_api_admin_policy_show},
    {KBS_ROUTE_ADMIN_POLICY_SET, KBS_DUTY_ADMIN, "POST", "admin-policy-set",
     kbs_api_admin_policy_set},
    {KBS_ROUTE_ADMIN_APPROVAL_LIST, KBS_DUTY_ADMIN, "GET", "admin-approval-list",
     kbs_api_admin_approval_list},
    {KBS_ROUTE_ADMIN_APPROVAL_SHOW, KBS_DUTY_ADMIN, "GET", "admin-approval-show",
     kbs_api_admin_approval_show},
    {KBS_ROUTE_ADMIN_APPROVAL_GIVE, KBS_DUTY_ADMIN, "POST", "admin-approval-give",
     kbs_api_admin_approval_give},
    {KBS_ROUTE_ADMIN_APPROVAL_WITHDRAW, KBS_DUTY_ADMIN, "DELETE", "admin-approval-withdraw",
     kbs_api_admin_approval_withdraw},
    {KBS_ROUTE_ADMIN_REFERENCE_LIST, KBS_DUTY_ADMIN, "GET", "admin-reference-list",
     kbs_api_admin_reference_list},
    {KBS_ROUTE_ADMIN_REFERENCE_SET, KBS_DUTY_ADMIN, "POST", "admin-reference-set",
     kbs_api_admin_reference_set},
    {KBS_ROUTE_ADMIN_REFERENCE_SHOW, KBS_DUTY_ADMIN, "GET", "admin-reference-show",
     kbs_api_admin_reference_show},
    {KBS_ROUTE_ADMIN_REFERENCE_DELETE, KBS_DUTY_ADMIN, "DELETE", "admin-reference-delete",
     kbs_api_admin_reference_delete},
    {KBS_ROUTE_ADMIN_KEPT_LIST, KBS_DUTY_ADMIN, "GET", "admin-kept-list", kbs_api_admin_kept_list},
    {KBS_ROUTE_ADMIN_KEPT_FORGET, KBS_DUTY_ADMIN, "DELETE", "admin-kept-forget",
     kbs_api_admin_kept_forget},
    {KBS_ROUTE_RECEIPT_JWKS, KBS_DUTY_RELEASE, "GET", "receipt-jwks", kbs_api_receipt_jwks},
    {KBS_ROUTE_ADMIN_RECEIPT_KEY, KBS_DUTY_ADMIN, "GET", "admin-receipt-key",
     kbs_api_admin_receipt_key},
    {KBS_ROUTE_ADMIN_RECEIPT_KEY_MAKE, KBS_DUTY_ADMIN, "POST", "admin-receipt-key-make",
     kbs_api_admin_receipt_key_make},
    {KBS_ROUTE_ADMIN_TLS_KEY_LIST, KBS_DUTY_ADMIN, "GET", "admin-tls-key-list",
     kbs_api_admin_tls_list},
    {KBS_ROUTE_ADMIN_TLS_KEY_MAKE, KBS_DUTY_ADMIN, "POST", "admin-tls-key-make",
     kbs_api_admin_tls_make},
    {KBS_ROUTE_ADMIN_TLS_KEY_DESTROY, KBS_DUTY_ADMIN, "DELETE", "admin-tls-key-destroy",
     kbs_api_admin_tls_destroy},
    {KBS_ROUTE_ADMIN_ALIAS_LIST, KBS_DUTY_ADMIN, "GET", "admin-alias-list",
     kbs_api_admin_alias_list},
    {KBS_ROUTE_ADMIN_ALIAS_SHOW, KBS_DUTY_ADMIN, "GET", "admin-alias-show",
     kbs_api_admin_alias_show},
    {KBS_ROUTE_ADMIN_ALIAS_SET, KBS_DUTY_ADMIN, "POST", "admin-alias-set", kbs_api_admin_alias_set},
    {KBS_ROUTE_ADMIN_ALIAS_REMOVE, KBS_DUTY_ADMIN, "DELETE", "admin-alias-remove",
     kbs_api_admin_alias_remove},
};

static const struct route *route_find(const struct kbs_api *api, const struct kbs_wire_request *req)
{
    enum kbs_listener listener =
        api->duty == KBS_DUTY_ADMIN ? KBS_LISTENER_ADMIN : KBS_LISTENER_GUEST;

    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (routes[i].number == (enum kbs_route)req->route && routes[i].duty == api->duty &&
            req->listener == listener && kbs_span_equal_str(req->method, routes[i].method)) {
            return &routes[i];
        }
    }
    return NULL;
}

kbs_handler *kbs_dispatch_find(const struct kbs_api *api, const struct kbs_wire_request *req)
{
    const struct route *route = route_find(api, req);

    return route != NULL ? route->handler : NULL;
}

static int dispatch(struct kbs_call *call, const struct route *route, struct kbs_error *err)
{
    if (route == NULL) {
        call->answer->variant = "PluginNotFound";
        return kbs_fail(err, KBS_MISSING, "there is nothing here");
    }
    if (call->req->query.count % 2 != 0) {
        return kbs_fail(err, KBS_INPUT, "the query is malformed");
    }
    if (kbs_clock_mono_ns() >= call->deadline_ns) {
        return kbs_fail(err, KBS_DEADLINE, "the request waited too long");
    }
    if (route->handler(call, err) != 0 &&
        (call->waiting.kind == NULL || kbs_approval_ask(call, err) != 0)) {
        return -1;
    }
    return kbs_buf_check(&call->answer->body, "answer", err);
}

/*
 * A handler's own variant is for what the requester did; what happened to us has names of its own.
 */
static const char *error_variant(const struct kbs_answer *answer, enum kbs_category category)
{
    bool requester = category == KBS_INPUT || category == KBS_UNAUTHENTICATED ||
                     category == KBS_DENIED || category == KBS_MISSING ||
                     category == KBS_UNPROCESSABLE;

    return requester && answer->variant != NULL ? answer->variant : kbs_category_variant(category);
}

static void answer_error(struct kbs_answer *answer, const struct kbs_error *err)
{
    kbs_buf_clear(&answer->body);
    kbs_buf_clear(&answer->receipt);
    answer->content_type = "application/json";
    answer->cookie[0] = '\0';
    answer->cookie_expires_s = 0;
    answer->status = kbs_category_status(err->category);
    kbs_error_body(&answer->body, error_variant(answer, err->category),
                   err->category == KBS_INTERNAL ? "Internal error" : err->detail);
}

static void log_request(const struct kbs_call *call, const struct route *route,
                        const struct kbs_error *err, uint64_t started_ns)
{
    char peer[96];
    char detail[2 * KBS_LIMIT_ERROR_DETAIL_BYTES];

    if (err->category == KBS_INTERNAL) {
        kbs_log_error("request_failed", err);
    }
    kbs_log(err->category == KBS_INTERNAL ? KBS_LOG_ERROR : KBS_LOG_INFO, "request",
            "route=%s category=%s status=%u us=%llu in=%zu out=%zu peer=%s detail=%s",
            route != NULL ? route->name : "none", kbs_category_name(err->category),
            call->answer->status, (unsigned long long)((kbs_clock_mono_ns() - started_ns) / 1000),
            call->req->body.len, call->answer->body.len,
            kbs_log_text(call->req->peer, peer, sizeof(peer)),
            kbs_log_text(kbs_span_str(err->detail), detail, sizeof(detail)));
}

/* The request is to come again: nothing was recorded, and nothing is answered. */
static void ask_back(struct kbs_api *api, const struct route *route, struct kbs_api_reply *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;

    ret->type = KBS_WIRE_FETCH;
    if (kbs_wire_decode(KBS_WIRE_FETCH, kbs_buf_span(&api->fetch.want), &ret->fetch, &err) != 0) {
        kbs_log_error("fetch_lost", &err); /* we have just encoded it */
        api->must_exit = KBS_EXIT_FAILURE;
    }
    kbs_log(KBS_LOG_INFO, "fetch", "route=%s endpoint=%.*s out=%zu", route->name,
            (int)ret->fetch.endpoint.len, (const char *)ret->fetch.endpoint.p, ret->fetch.body.len);
}

static bool retry_later(unsigned int status)
{
    return status == 429 || status == 503;
}

enum kbs_exit kbs_api_handle(struct kbs_api *api, const struct kbs_wire_request *request,
                             uint64_t deadline_ns, struct kbs_api_reply *ret)
{
    uint64_t started_ns = kbs_clock_mono_ns();
    struct kbs_answer *answer = &api->answer;
    const struct route *route = route_find(api, request);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_call call = {.api = api,
                            .req = request,
                            .answer = answer,
                            .arena = KBS_ARENA(KBS_API_ARENA_BYTES),
                            .deadline_ns = deadline_ns,
                            .now_s = kbs_clock_unix_s()};

    kbs_buf_clear(&answer->body);
    kbs_buf_clear(&answer->receipt);
    answer->status = 200;
    answer->content_type = "application/json";
    answer->variant = NULL;
    answer->cookie[0] = '\0';
    answer->cookie_expires_s = 0;
    *ret = (struct kbs_api_reply){.type = KBS_WIRE_RESPONSE};
    if (dispatch(&call, route, &err) != 0) {
        answer_error(answer, &err);
    }
    if (call.pending) {
        ask_back(api, route, ret);
        kbs_arena_deinit(&call.arena);
        return api->must_exit;
    }
    log_request(&call, route, &err, started_ns);
    kbs_arena_deinit(&call.arena);
    ret->response = (struct kbs_wire_response){
        .status = answer->status,
        .content_type = kbs_span_str(answer->content_type),
        .cookie = kbs_span_str(answer->cookie),
        .cookie_expires_s = answer->cookie_expires_s,
        .retry_after_s = retry_later(answer->status) ? KBS_LIMIT_RETRY_AFTER_S : 0,
        .body = kbs_buf_span(&answer->body),
        .receipt = kbs_buf_span(&answer->receipt),
    };
    return api->must_exit;
}
