/*
 * The route table.
 *
 * The problem: which handler a request reaches must be decidable by reading one table, and an
 * administrator's route must not exist at all for guests. The approach: a static table of literal
 * segments and "{}" holes, matched against the decoded segments; each row names its listeners. A
 * last segment "{...}" takes all that are left, one at least. No other patterns, no precedence: at
 * most one row matches a given (listener, method, path), which test_route checks for all pairs of
 * rows.
 *
 * Body limits are per route, because they are what an unauthenticated peer can make us hold:
 * evidence is large, everything else is small.
 */
#include "http/route.h"

#define GUEST (1u << KBS_LISTENER_GUEST)
#define ADMIN (1u << KBS_LISTENER_ADMIN)

#define BODY_SMALL 4096u
#define BODY_KEY (2 * KBS_LIMIT_ENVELOPE_BYTES) /* such a body, encrypted or not */
#define BODY_AUTH 65536u
#define BODY_ADMIN (2u * KBS_LIMIT_POLICY_BYTES)
#define BODY_DOCUMENT (2u * KBS_LIMIT_DOCUMENT_BYTES)   /* in base64 */
#define BODY_RESOURCE KBS_LIMIT_SECRET_VALUE_BYTES      /* as it is */
#define BODY_SECRET (2u * KBS_LIMIT_SECRET_VALUE_BYTES) /* in base64url, and a policy */

static const struct kbs_http_route_row rows[] = {
    {KBS_ROUTE_AUTH, GUEST, "POST", "/kbs/v0/auth", BODY_AUTH, "auth"},
    {KBS_ROUTE_ATTEST, GUEST, "POST", "/kbs/v0/attest", KBS_LIMIT_HTTP_BODY_BYTES, "attest"},
    {KBS_ROUTE_KEY_RELEASE, GUEST, "POST", "/kbs/v0/key/{}/{}/{}", BODY_KEY, "key-release"},
    {KBS_ROUTE_KEY_REWRAP, GUEST, "POST", "/kbs/v0/key/rewrap", BODY_KEY, "key-rewrap"},
    {KBS_ROUTE_KEY_PROVISION, GUEST, "POST", "/kbs/v0/key/provision", BODY_SMALL, "key-provision"},
    {KBS_ROUTE_REGISTER_GET, GUEST, "GET", "/kbs/v0/register/{}/{}/{}", 0, "register-get"},
    {KBS_ROUTE_REGISTER_SET, GUEST, "POST", "/kbs/v0/register/{}/{}/{}", BODY_SMALL,
     "register-set"},
    {KBS_ROUTE_HSM_KEY, GUEST, "GET", "/kbs/v0/hsm/keys/{}/{}/{}", 0, "hsm-key"},
    {KBS_ROUTE_HSM_KEYS, GUEST, "GET", "/kbs/v0/hsm/keys", 0, "hsm-keys"},
    {KBS_ROUTE_REQUEST_NONCE, GUEST, "GET", "/kbs/v0/key/nonce", 0, "request-nonce"},
    {KBS_ROUTE_JWKS, GUEST, "GET", "/.well-known/jwks.json", 0, "jwks"},
    {KBS_ROUTE_RECEIPT_JWKS, GUEST, "GET", "/.well-known/kbs-receipt-jwks.json", 0, "receipt-jwks"},
    {KBS_ROUTE_RESOURCE, GUEST, "GET", "/kbs/v0/resource/{}/{}/{}", 0, "resource"},
    {KBS_ROUTE_PKCS11_RESOURCE, GUEST, "GET", "/kbs/v0/pkcs11/resource/{}/{}/{}", 0,
     "pkcs11-resource"},
    {KBS_ROUTE_UNWRAP_KEY, GUEST, "GET", "/kbs/v0/pkcs11/wrap-key", BODY_SMALL, "unwrap-key"},
    {KBS_ROUTE_UNWRAP_KEY_POST, GUEST, "POST", "/kbs/v0/pkcs11/wrap-key", BODY_SMALL,
     "unwrap-key-post"},
    {KBS_ROUTE_ID_KEY_PUBLIC, GUEST, "GET", "/kbs/v0/id-key/ecdh-pub-sec1", 0, "id-key-public"},
    {KBS_ROUTE_ID_KEY_DECRYPT, GUEST, "POST", "/kbs/v0/id-key/decrypt", BODY_SMALL,
     "id-key-decrypt"},
    {KBS_ROUTE_ADMIN_NONCE, ADMIN, "GET", "/kbs/v0/admin/nonce", 0, "admin-nonce"},
    {KBS_ROUTE_ADMIN_KEY_LIST, ADMIN, "GET", "/kbs/v0/admin/keys", 0, "admin-key-list"},
    {KBS_ROUTE_ADMIN_KEY_CREATE, ADMIN, "POST", "/kbs/v0/admin/keys", BODY_ADMIN,
     "admin-key-create"},
    {KBS_ROUTE_ADMIN_KEY_SHOW, ADMIN, "GET", "/kbs/v0/admin/keys/{}/{}/{}", 0, "admin-key-show"},
    {KBS_ROUTE_ADMIN_KEY_IMPORT, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/import", BODY_ADMIN,
     "admin-key-import"},
    {KBS_ROUTE_ADMIN_IMPORT_KEY, ADMIN, "GET", "/kbs/v0/admin/import-key", 0, "admin-import-key"},
    {KBS_ROUTE_ADMIN_STORE_SHOW, ADMIN, "GET", "/kbs/v0/admin/store", 0, "admin-store-show"},
    {KBS_ROUTE_ADMIN_STORE_ACCEPT, ADMIN, "POST", "/kbs/v0/admin/store/accept", BODY_SMALL,
     "admin-store-accept"},
    {KBS_ROUTE_ADMIN_KEY_ADOPT, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/adopt", BODY_ADMIN,
     "admin-key-adopt"},
    {KBS_ROUTE_ADMIN_KEY_ROTATE, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/rotate", BODY_ADMIN,
     "admin-key-rotate"},
    {KBS_ROUTE_ADMIN_KEY_POLICY, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/policy", BODY_ADMIN,
     "admin-key-policy"},
    {KBS_ROUTE_ADMIN_KEY_DISABLE, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/disable", BODY_SMALL,
     "admin-key-disable"},
    {KBS_ROUTE_ADMIN_KEY_ENABLE, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/enable", BODY_SMALL,
     "admin-key-enable"},
    {KBS_ROUTE_ADMIN_KEY_DESTROY, ADMIN, "DELETE", "/kbs/v0/admin/keys/{}/{}/{}", BODY_SMALL,
     "admin-key-destroy"},
    {KBS_ROUTE_ADMIN_KEY_UNDO, ADMIN, "POST", "/kbs/v0/admin/keys/{}/{}/{}/undo", BODY_SMALL,
     "admin-key-undo"},
    {KBS_ROUTE_ADMIN_WRAPPING_SHOW, ADMIN, "GET", "/kbs/v0/admin/wrapping-key", 0,
     "admin-wrapping-show"},
    {KBS_ROUTE_ADMIN_WRAPPING_ROTATE, ADMIN, "POST", "/kbs/v0/admin/wrapping-key/rotate",
     BODY_SMALL, "admin-wrapping-rotate"},
    {KBS_ROUTE_ADMIN_WRAPPING_REWRAP, ADMIN, "POST", "/kbs/v0/admin/wrapping-key/rewrap",
     BODY_SMALL, "admin-wrapping-rewrap"},
    {KBS_ROUTE_ADMIN_WRAPPING_DESTROY, ADMIN, "DELETE", "/kbs/v0/admin/wrapping-key", 0,
     "admin-wrapping-destroy"},
    {KBS_ROUTE_ADMIN_TOKEN_CAPS, ADMIN, "GET", "/kbs/v0/admin/token/caps", 0, "admin-token-caps"},
    {KBS_ROUTE_ADMIN_SEAL_KEY, ADMIN, "GET", "/kbs/v0/admin/seal-key", 0, "admin-seal-key"},
    {KBS_ROUTE_ADMIN_SEAL_ROTATE, ADMIN, "POST", "/kbs/v0/admin/seal-key/rotate", BODY_SMALL,
     "admin-seal-rotate"},
    {KBS_ROUTE_ADMIN_SEAL_RESEAL, ADMIN, "POST", "/kbs/v0/admin/seal-key/reseal", BODY_SMALL,
     "admin-seal-reseal"},
    {KBS_ROUTE_ADMIN_SEAL_DESTROY, ADMIN, "DELETE", "/kbs/v0/admin/seal-key", 0,
     "admin-seal-destroy"},
    {KBS_ROUTE_ADMIN_SECRET_LIST, ADMIN, "GET", "/kbs/v0/admin/secrets", 0, "admin-secret-list"},
    {KBS_ROUTE_ADMIN_SECRET_SHOW, ADMIN, "GET", "/kbs/v0/admin/secrets/{}/{}/{}", 0,
     "admin-secret-show"},
    {KBS_ROUTE_ADMIN_SECRET_SET, ADMIN, "POST", "/kbs/v0/admin/secrets/{}/{}/{}", BODY_SECRET,
     "admin-secret-set"},
    {KBS_ROUTE_ADMIN_SECRET_DELETE, ADMIN, "DELETE", "/kbs/v0/admin/secrets/{}/{}/{}", 0,
     "admin-secret-delete"},
    {KBS_ROUTE_ADMIN_SECRET_POLICY, ADMIN, "POST", "/kbs/v0/admin/secrets/{}/{}/{}/policy",
     BODY_ADMIN, "admin-secret-policy"},
    {KBS_ROUTE_RESOURCE_LIST, ADMIN, "GET", "/kbs/v0/resource", 0, "resource-list"},
    {KBS_ROUTE_RESOURCE_SET, ADMIN, "POST", "/kbs/v0/resource/{}/{}/{}", BODY_RESOURCE,
     "resource-set"},
    {KBS_ROUTE_RESOURCE_DELETE, ADMIN, "DELETE", "/kbs/v0/resource/{}/{}/{}", 0, "resource-delete"},
    {KBS_ROUTE_PKCS11_RESOURCE_SET, ADMIN, "POST", "/kbs/v0/pkcs11/resource/{}/{}/{}",
     BODY_RESOURCE, "pkcs11-resource-set"},
    {KBS_ROUTE_PKCS11_RESOURCE_DELETE, ADMIN, "DELETE", "/kbs/v0/pkcs11/resource/{}/{}/{}", 0,
     "pkcs11-resource-delete"},
    {KBS_ROUTE_RESOURCE_POLICY_LIST, ADMIN, "GET", "/kbs/v0/resource-policy", 0,
     "resource-policy-list"},
    {KBS_ROUTE_RESOURCE_POLICY_SET, ADMIN, "POST", "/kbs/v0/resource-policy", BODY_DOCUMENT,
     "resource-policy-set"},
    {KBS_ROUTE_ATTESTATION_POLICY_SET, ADMIN, "POST", "/kbs/v0/attestation-policy", BODY_DOCUMENT,
     "attestation-policy-set"},
    {KBS_ROUTE_REFERENCE_VALUE_SET, ADMIN, "POST", "/kbs/v0/reference-value", BODY_DOCUMENT,
     "reference-value-set"},
    {KBS_ROUTE_REFERENCE_VALUE_SHOW, ADMIN, "GET", "/kbs/v0/reference-value/{...}", 0,
     "reference-value-show"},
    {KBS_ROUTE_WRAP_KEY, ADMIN, "POST", "/kbs/v0/pkcs11/wrap-key", BODY_SMALL, "wrap-key"},
    {KBS_ROUTE_ID_KEY_REGISTER, ADMIN, "POST", "/kbs/v0/id-key/register", BODY_SMALL,
     "id-key-register"},
    {KBS_ROUTE_ADMIN_RELEASE_DRY_RUN, ADMIN, "POST", "/kbs/v0/admin/release/dry-run", BODY_ADMIN,
     "admin-release-dry-run"},
    {KBS_ROUTE_ADMIN_SIGN_LIST, ADMIN, "GET", "/kbs/v0/admin/sign-key", 0, "admin-sign-list"},
    {KBS_ROUTE_ADMIN_SIGN_ROTATE, ADMIN, "POST", "/kbs/v0/admin/sign-key/rotate", BODY_SMALL,
     "admin-sign-rotate"},
    {KBS_ROUTE_ADMIN_SIGN_DESTROY, ADMIN, "DELETE", "/kbs/v0/admin/sign-key", 0,
     "admin-sign-destroy"},
    {KBS_ROUTE_ADMIN_POLICY_LIST, ADMIN, "GET", "/kbs/v0/admin/policies", 0, "admin-policy-list"},
    {KBS_ROUTE_ADMIN_POLICY_SHOW, ADMIN, "GET", "/kbs/v0/admin/policies/{...}", 0,
     "admin-policy-show"},
    {KBS_ROUTE_ADMIN_POLICY_SET, ADMIN, "POST", "/kbs/v0/admin/policies/{...}", BODY_DOCUMENT,
     "admin-policy-set"},
    {KBS_ROUTE_ADMIN_APPROVAL_LIST, ADMIN, "GET", "/kbs/v0/admin/approvals", 0,
     "admin-approval-list"},
    {KBS_ROUTE_ADMIN_APPROVAL_SHOW, ADMIN, "GET", "/kbs/v0/admin/approvals/{}", 0,
     "admin-approval-show"},
    {KBS_ROUTE_ADMIN_APPROVAL_GIVE, ADMIN, "POST", "/kbs/v0/admin/approvals/{}", BODY_SMALL,
     "admin-approval-give"},
    {KBS_ROUTE_ADMIN_APPROVAL_WITHDRAW, ADMIN, "DELETE", "/kbs/v0/admin/approvals/{}", 0,
     "admin-approval-withdraw"},
    {KBS_ROUTE_ADMIN_REFERENCE_LIST, ADMIN, "GET", "/kbs/v0/admin/reference-values", 0,
     "admin-reference-list"},
    {KBS_ROUTE_ADMIN_REFERENCE_SET, ADMIN, "POST", "/kbs/v0/admin/reference-values", BODY_DOCUMENT,
     "admin-reference-set"},
    {KBS_ROUTE_ADMIN_REFERENCE_SHOW, ADMIN, "GET", "/kbs/v0/admin/reference-values/{...}", 0,
     "admin-reference-show"},
    {KBS_ROUTE_ADMIN_REFERENCE_DELETE, ADMIN, "DELETE", "/kbs/v0/admin/reference-values/{...}", 0,
     "admin-reference-delete"},
    {KBS_ROUTE_ADMIN_KEPT_LIST, ADMIN, "GET", "/kbs/v0/admin/kept/{}/{}/{}", 0, "admin-kept-list"},
    {KBS_ROUTE_ADMIN_KEPT_FORGET, ADMIN, "DELETE", "/kbs/v0/admin/kept/{}/{}/{}", 0,
     "admin-kept-forget"},
    {KBS_ROUTE_ADMIN_RECEIPT_KEY, ADMIN, "GET", "/kbs/v0/admin/receipt-key", 0,
     "admin-receipt-key"},
    {KBS_ROUTE_ADMIN_RECEIPT_KEY_MAKE, ADMIN, "POST", "/kbs/v0/admin/receipt-key", BODY_SMALL,
     "admin-receipt-key-make"},
    {KBS_ROUTE_ADMIN_TLS_KEY_LIST, ADMIN, "GET", "/kbs/v0/admin/tls-key", 0, "admin-tls-key-list"},
    {KBS_ROUTE_ADMIN_TLS_KEY_MAKE, ADMIN, "POST", "/kbs/v0/admin/tls-key", BODY_SMALL,
     "admin-tls-key-make"},
    {KBS_ROUTE_ADMIN_TLS_KEY_DESTROY, ADMIN, "DELETE", "/kbs/v0/admin/tls-key", 0,
     "admin-tls-key-destroy"},
    {KBS_ROUTE_ADMIN_ALIAS_LIST, ADMIN, "GET", "/kbs/v0/admin/aliases", 0, "admin-alias-list"},
    {KBS_ROUTE_ADMIN_ALIAS_SHOW, ADMIN, "GET", "/kbs/v0/admin/aliases/{}/{}/{}", 0,
     "admin-alias-show"},
    {KBS_ROUTE_ADMIN_ALIAS_SET, ADMIN, "POST", "/kbs/v0/admin/aliases/{}/{}/{}", BODY_SMALL,
     "admin-alias-set"},
    {KBS_ROUTE_ADMIN_ALIAS_REMOVE, ADMIN, "DELETE", "/kbs/v0/admin/aliases/{}/{}/{}", BODY_SMALL,
     "admin-alias-remove"},
    {KBS_ROUTE_HEALTHZ, GUEST | ADMIN, "GET", "/healthz", 0, "healthz"},
    {KBS_ROUTE_READYZ, GUEST | ADMIN, "GET", "/readyz", 0, "readyz"},
    {KBS_ROUTE_METRICS, GUEST | ADMIN, "GET", "/metrics", 0, "metrics"},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

/* Takes the next segment off a table path; false at its end. */
static bool next_segment(const char **path, struct kbs_span *ret)
{
    if (**path == '\0') {
        return false;
    }
    const char *begin = *path + 1; /* after the slash */
    const char *end = strchr(begin, '/');
    size_t len = end != NULL ? (size_t)(end - begin) : strlen(begin);

    *ret = kbs_span(begin, len);
    *path = begin + len;
    return true;
}

static bool path_matches(const struct kbs_http_route_row *row, const struct kbs_http_target *target,
                         struct kbs_http_match *match)
{
    const char *path = row->path;
    struct kbs_span want;

    match->param_count = 0;
    for (size_t i = 0; i < target->segment_count; i++) {
        if (!next_segment(&path, &want)) {
            return false;
        }
        if (kbs_span_equal_str(want, "{...}")) {
            match->tail = &target->segments[i];
            match->tail_count = target->segment_count - i;
            return true;
        }
        if (kbs_span_equal_str(want, "{}")) {
            match->params[match->param_count++] = target->segments[i];
        } else if (!kbs_span_equal(want, target->segments[i])) {
            return false;
        }
    }
    return !next_segment(&path, &want);
}

/* The methods that a path has, as bits of their places here; and the same as the value of Allow. */
static const char *const methods[] = {"GET", "POST", "DELETE"};
static const char *const allow[] = {NULL,     "GET",         "POST",         "GET, POST",
                                    "DELETE", "GET, DELETE", "POST, DELETE", "GET, POST, DELETE"};

static unsigned int method_bit(const char *method)
{
    unsigned int i = 0;

    while (strcmp(methods[i], method) != 0) { /* the table has no other methods */
        i++;
    }
    return 1u << i;
}

int kbs_http_route_find(enum kbs_listener listener, struct kbs_span method,
                        const struct kbs_http_target *target, struct kbs_http_match *ret)
{
    unsigned int had = 0;

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct kbs_http_match match = {.route = rows[i].route};

        if ((rows[i].listeners & (1u << listener)) == 0 ||
            !path_matches(&rows[i], target, &match)) {
            continue;
        }
        if (kbs_span_equal_str(method, rows[i].method)) {
            match.method = rows[i].method;
            match.body_max = rows[i].body_max;
            *ret = match;
            return 0;
        }
        had |= method_bit(rows[i].method);
    }
    *ret = (struct kbs_http_match){.route = KBS_ROUTE_NONE};
    if (had == 0) {
        return KBS_HTTP_ROUTE_NO_PATH;
    }
    ret->allow = allow[had];
    return KBS_HTTP_ROUTE_NO_METHOD;
}

const char *kbs_http_route_name(enum kbs_route route)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].route == route) {
            return rows[i].name;
        }
    }
    return "none";
}

bool kbs_http_route_row(size_t n, struct kbs_http_route_row *ret)
{
    if (n >= ROW_COUNT) {
        return false;
    }
    *ret = rows[n];
    return true;
}
