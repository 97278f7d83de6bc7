/*
 * The keys of docs/configuration.md as one table, and the rules for a single value. A key that is
 * neither in this table nor in that of foreign.c does not exist: a typing error must not become a
 * default silently. What needs more than the value itself (other keys, files, the profile) is in
 * check.c and check_admin.c.
 */
#include "config/schema.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/url.h"

#define PATH_BYTES 1024
#define TLS_LIST_BYTES 1000 /* of ciphers, of groups */
#define PROVIDERS "admin.authentication.bearer_jwt.identity_providers[]"
#define ACLS "admin.authorization.regex_acl.acls[]"
#define ENDPOINTS "fetch.endpoint[]"
#define DOCUMENTS "fetch.document[]"
#define URL_BYTES 1024
#define ISSUER_TEXT 512 /* bytes of an issuer's name, an audience, a claim */
#define ISSUER_VALUES 64

#define KEY(id, table_, name_, kind_, required_, min_, max_, member, check_) \
    [KBS_CONFIG_KEY_##id] = {.table = (table_),                              \
                             .name = (name_),                                \
                             .kind = KBS_CONFIG_##kind_,                     \
                             .required = (required_),                        \
                             .min = (min_),                                  \
                             .max = (max_),                                  \
                             .offset = offsetof(struct kbs_config, member),  \
                             .check = (check_)}

#define REQUIRE(id, name_, check_)                                                 \
    KEY(REQUIRE_##id, "issuer[].require", name_, STRINGS, false, 1, ISSUER_VALUES, \
        issuers[0].require[KBS_CONFIG_REQUIRE_##id], check_)

const struct kbs_config_key kbs_config_keys[KBS_CONFIG_KEY_COUNT] = {
    KEY(MODE, "profile", "mode", STRING, false, 1, 16, mode, kbs_config_check_mode),
    KEY(GUEST_SOCKETS, "http_server", "sockets", STRINGS, false, 0, KBS_LIMIT_FRONT_LISTENERS,
        guest.socket_texts, kbs_config_check_socket),
    KEY(GUEST_PRIVATE_KEY, "http_server", "private_key", KEY_PATH, false, 1, PATH_BYTES,
        guest.private_key, kbs_config_check_tls_key),
    KEY(GUEST_CERTIFICATE, "http_server", "certificate", PATH, false, 1, PATH_BYTES,
        guest.certificate, NULL),
    KEY(GUEST_TLS_PROFILE, "http_server", "tls_profile", STRING, false, 1, 16, guest.tls_profile,
        kbs_config_check_tls_profile),
    KEY(GUEST_TLS_MIN, "http_server", "tls_min_version", STRING, false, 1, 8, guest.tls_min_version,
        kbs_config_check_tls_version),
    KEY(GUEST_TLS_MAX, "http_server", "tls_max_version", STRING, false, 1, 8, guest.tls_max_version,
        kbs_config_check_tls_version),
    KEY(GUEST_TLS_CIPHERS, "http_server", "tls_ciphers", STRING, false, 1, TLS_LIST_BYTES,
        guest.tls_ciphers, kbs_config_check_tls_list),
    KEY(GUEST_TLS_GROUPS, "http_server", "tls_groups", STRING, false, 1, TLS_LIST_BYTES,
        guest.tls_groups, kbs_config_check_tls_list),
    KEY(GUEST_PLAIN_SOCKETS, "http_server", "plain_sockets", STRINGS, false, 0,
        KBS_LIMIT_FRONT_LISTENERS, guest.plain_socket_texts, kbs_config_check_plain_socket),
    KEY(GUEST_INSECURE, "http_server", "insecure_http", BOOLEAN, false, 0, 0, guest.insecure_http,
        NULL),
    KEY(BODY, "http_server", "payload_request_size", MEGABYTES, false, 1,
        KBS_LIMIT_HTTP_BODY_BYTES >> 20, body_bytes, NULL),
    KEY(ADMIN_SOCKETS, "admin_server", "sockets", STRINGS, true, 1, KBS_LIMIT_FRONT_LISTENERS,
        admin.socket_texts, kbs_config_check_socket),
    KEY(ADMIN_PRIVATE_KEY, "admin_server", "private_key", KEY_PATH, true, 1, PATH_BYTES,
        admin.private_key, kbs_config_check_tls_key),
    KEY(ADMIN_CERTIFICATE, "admin_server", "certificate", PATH, true, 1, PATH_BYTES,
        admin.certificate, NULL),
    KEY(ADMIN_TLS_PROFILE, "admin_server", "tls_profile", STRING, false, 1, 16, admin.tls_profile,
        kbs_config_check_tls_profile),
    KEY(ADMIN_TLS_MIN, "admin_server", "tls_min_version", STRING, false, 1, 8,
        admin.tls_min_version, kbs_config_check_tls_version),
    KEY(ADMIN_TLS_MAX, "admin_server", "tls_max_version", STRING, false, 1, 8,
        admin.tls_max_version, kbs_config_check_tls_version),
    KEY(ADMIN_TLS_CIPHERS, "admin_server", "tls_ciphers", STRING, false, 1, TLS_LIST_BYTES,
        admin.tls_ciphers, kbs_config_check_tls_list),
    KEY(ADMIN_TLS_GROUPS, "admin_server", "tls_groups", STRING, false, 1, TLS_LIST_BYTES,
        admin.tls_groups, kbs_config_check_tls_list),
    KEY(ADMIN_CLIENT_CA, "admin_server", "client_ca", PATH, false, 1, PATH_BYTES, admin.client_ca,
        NULL),
    KEY(ADMIN_KEYS, "admin", "keys", PATHS, true, 1, KBS_LIMIT_ADMIN_KEYS, admin_key_paths, NULL),
    KEY(TRUSTEE_COMPAT, "admin", "trustee_compat", BOOLEAN, false, 0, 0, trustee_compat, NULL),
    KEY(AUTHORIZATION_MODE, "admin", "authorization_mode", STRING, false, 1, 64, authorization_mode,
        kbs_config_check_authorization),
    KEY(APPROVALS, "admin", "approvals", NUMBER, false, 1, KBS_LIMIT_APPROVERS, approvals, NULL),
    KEY(APPROVALS_FOR, "admin", "approvals_for", STRINGS, false, 0, 2, approvals_for,
        kbs_config_check_approvals_for),
    KEY(PROVIDER_ISSUER, PROVIDERS, "issuer", STRING, false, 0, 512, providers[0].issuer, NULL),
    KEY(PROVIDER_AUDIENCE, PROVIDERS, "audience", STRING, false, 0, 512, providers[0].audience,
        NULL),
    KEY(PROVIDER_PEM, PROVIDERS, "public_key_uri", URI_PATH, false, 1, PATH_BYTES,
        providers[0].public_key_uri, NULL),
    KEY(PROVIDER_JWKS, PROVIDERS, "jwk_set_uri", URI_PATH, false, 1, PATH_BYTES,
        providers[0].jwk_set_uri, NULL),
    KEY(ACL_ROLE, ACLS, "role", STRING, true, 1, 256, acls[0].role, NULL),
    KEY(ACL_ENDPOINTS, ACLS, "allowed_endpoints", STRING, true, 1, KBS_LIMIT_ADMIN_ACL_BYTES,
        acls[0].allowed_endpoints, kbs_config_check_endpoints),
    KEY(TOKEN_MODULE, "token", "module", PATH, true, 1, PATH_BYTES, token.module, NULL),
    KEY(TOKEN_URI, "token", "uri", STRING, true, 1, 1024, token.uri, kbs_config_check_uri),
    KEY(TOKEN_PIN_FILE, "token", "pin_file", SECRET_PATH, true, 1, PATH_BYTES, token.pin_file,
        NULL),
    KEY(TOKEN_INIT_ARGS, "token", "init_args", STRING, false, 0, 2048, token.init_args, NULL),
    KEY(TOKEN_ENV, "token", "env", STRINGS, false, 0, 16, token.env, kbs_config_check_env),
    KEY(TOKEN_LANES, "token", "lanes", NUMBER, false, 1, KBS_LIMIT_LANES, token.lanes, NULL),
    KEY(TOKEN_SECCOMP, "token", "seccomp", STRING, false, 1, 16, token.seccomp,
        kbs_config_check_seccomp),
    KEY(TOKEN_FOLDERS, "token", "folders", PATHS, false, 0, KBS_CONFIG_FOLDERS, token.folders,
        NULL),
    KEY(STORE_PATH, "store", "path", PATH, false, 1, PATH_BYTES, store_path, NULL),
    KEY(AUDIT_PATH, "audit", "path", PATH, true, 1, PATH_BYTES, audit_path, NULL),
    KEY(SESSION_MIN, "attestation_service", "timeout", NUMBER, false, 1, 1440, session_min, NULL),
    KEY(ALLOW_SAMPLE, "attestation_service", "allow_sample", BOOLEAN, false, 0, 0, allow_sample,
        NULL),
    KEY(ALLOW_RSA1_5, "attestation_service", "allow_rsa1_5", BOOLEAN, false, 0, 0, rsa1_5, NULL),
    KEY(SNP_CERTIFICATES, "attest.snp", "certificates", PATH, false, 1, PATH_BYTES,
        snp.certificates, NULL),
    KEY(SNP_VMPL, "attest.snp", "vmpl", NUMBER, false, 0, 3, snp.vmpl, NULL),
    KEY(SNP_PRODUCTS, "attest.snp", "products", STRINGS, false, 1, KBS_CONFIG_SNP_PRODUCTS,
        snp.products, kbs_config_check_snp_product),
    KEY(SNP_CHIPS, "attest.snp", "chip_ids", STRINGS, false, 1, KBS_CONFIG_SNP_CHIPS, snp.chip_ids,
        kbs_config_check_snp_chip),
    KEY(SNP_PROVIDERS, "attest.snp", "providers", STRINGS, false, 1, 16, snp.providers,
        kbs_config_check_issuer),
    KEY(SNP_CRL_GRACE, "attest.snp", "crl_grace_hours", NUMBER, false, 0, 8760, snp.crl_grace_hours,
        NULL),
    KEY(SNP_NO_CRL, "attest.snp", "allow_no_crl", BOOLEAN, false, 0, 0, snp.allow_no_crl, NULL),
    KEY(SNP_MASKED_CHIP_ID, "attest.snp", "allow_masked_chip_id", BOOLEAN, false, 0, 0,
        snp.allow_masked_chip_id, NULL),
    KEY(SNP_UNEXPLAINED_DATA, "attest.snp", "allow_unexplained_data", BOOLEAN, false, 0, 0,
        snp.allow_unexplained_data, NULL),
    KEY(SNP_SVSM_BINDING, "attest.snp", "svsm_binding", BOOLEAN, false, 0, 0, snp.svsm_binding,
        NULL),
    KEY(SNP_TEST_ROOT, "attest.snp", "test_root", STRING, false, 1, 64, snp.test_root,
        kbs_config_check_snp_root),
    KEY(SNP_SIGNERS, "attest.snp", "signers", STRINGS, false, 1, 2, snp.signers,
        kbs_config_check_snp_signer),
    KEY(SNP_PLATFORM_REQUIRED, "attest.snp", "platform_required", STRINGS, false, 1, 16,
        snp.platform_required, kbs_config_check_snp_platform),
    KEY(SNP_PLATFORM_FORBIDDEN, "attest.snp", "platform_forbidden", STRINGS, false, 1, 16,
        snp.platform_forbidden, kbs_config_check_snp_platform),
    KEY(SNP_GUEST_REQUIRED, "attest.snp", "guest_required", STRINGS, false, 1, 16,
        snp.guest_required, kbs_config_check_snp_guest),
    KEY(SNP_GUEST_FORBIDDEN, "attest.snp", "guest_forbidden", STRINGS, false, 1, 16,
        snp.guest_forbidden, kbs_config_check_snp_guest),
    KEY(SNP_KDS, "attest.snp", "kds", STRING, false, 1, 64, snp.kds, NULL),
    KEY(SNP_PRODUCT, "attest.snp.minimum[]", "product", STRING, true, 1, 16, snp.minimum[0].product,
        kbs_config_check_snp_product),
    KEY(SNP_FMC, "attest.snp.minimum[]", "fmc", NUMBER, false, 0, 255, snp.minimum[0].fmc, NULL),
    KEY(SNP_BOOTLOADER, "attest.snp.minimum[]", "bootloader", NUMBER, false, 0, 255,
        snp.minimum[0].bootloader, NULL),
    KEY(SNP_TEE, "attest.snp.minimum[]", "tee", NUMBER, false, 0, 255, snp.minimum[0].tee, NULL),
    KEY(SNP_SNP, "attest.snp.minimum[]", "snp", NUMBER, false, 0, 255, snp.minimum[0].snp, NULL),
    KEY(SNP_MICROCODE, "attest.snp.minimum[]", "microcode", NUMBER, false, 0, 255,
        snp.minimum[0].microcode, NULL),
    KEY(SNP_FIRMWARE, "attest.snp.minimum[]", "firmware", STRING, false, 1, 16,
        snp.minimum[0].firmware, kbs_config_check_snp_firmware),
    KEY(ISSUER, "attestation_token", "issuer_name", STRING, false, 1, 128, issuer,
        kbs_config_check_issuer),
    KEY(TOKEN_MIN, "attestation_token", "duration_min", NUMBER, false, 1, 1440, token_min, NULL),
    KEY(MAX_CONNECTIONS, "limits", "max_connections", NUMBER, false, 1, KBS_LIMIT_FRONT_CONNECTIONS,
        max_connections, NULL),
    KEY(AUTH_PER_S, "limits", "auth_per_second", NUMBER, false, 0, 1000000, auth_per_s, NULL),
    KEY(SESSIONS, "limits", "sessions", NUMBER, false, 1, KBS_LIMIT_SESSIONS, sessions, NULL),
    KEY(RESOURCE_BYTES, "limits", "resource_bytes", NUMBER, false, 1, KBS_LIMIT_SECRET_VALUE_BYTES,
        resource_bytes, NULL),
    KEY(USER_FRONT, "users", "front", STRING, false, 1, 32, users.front, kbs_config_check_user),
    KEY(USER_JUDGE, "users", "judge", STRING, false, 1, 32, users.judge, kbs_config_check_user),
    KEY(USER_TOKEN, "users", "token", STRING, false, 1, 32, users.token, kbs_config_check_user),
    KEY(USER_AUDIT, "users", "audit", STRING, false, 1, 32, users.audit, kbs_config_check_user),
    KEY(USER_POLICY, "users", "policy", STRING, false, 1, 32, users.policy, kbs_config_check_user),
    KEY(PLUGIN_NAME, "plugins[]", "name", STRING, true, 1, 64, plugins[0].name,
        kbs_config_check_plugin),
    KEY(PLUGIN_POLICY, "plugins[]", "policy", PATH, false, 1, PATH_BYTES, plugins[0].policy, NULL),
    KEY(PLUGIN_NEK_KEY, "plugins[]", "nek_key", STRING, false, 5, KBS_LIMIT_KEY_PATH_BYTES,
        plugins[0].nek_key, kbs_config_check_catalog_path),
    KEY(USER_FETCH, "users", "fetch", STRING, false, 1, 32, users.fetch, kbs_config_check_user),
    KEY(FETCH_CACHE, "fetch", "cache", PATH, false, 1, 1000, fetch.cache, NULL),
    KEY(ENDPOINT_NAME, ENDPOINTS, "name", STRING, true, 1, 63, fetch.endpoints[0].name,
        kbs_config_check_fetch_name),
    KEY(ENDPOINT_URL, ENDPOINTS, "url", STRING, true, 1, URL_BYTES, fetch.endpoints[0].url,
        kbs_config_check_url),
    KEY(ENDPOINT_CA, ENDPOINTS, "ca", PATH, false, 1, PATH_BYTES, fetch.endpoints[0].ca_path, NULL),
    KEY(ENDPOINT_CERTIFICATE, ENDPOINTS, "client_certificate", PATH, false, 1, PATH_BYTES,
        fetch.endpoints[0].certificate_path, NULL),
    KEY(ENDPOINT_KEY, ENDPOINTS, "client_key", SECRET_PATH, false, 1, PATH_BYTES,
        fetch.endpoints[0].client_key, NULL),
    KEY(ENDPOINT_HEADERS, ENDPOINTS, "header_files", SECRET_PATHS, false, 0,
        KBS_LIMIT_FETCH_HEADER_FILES, fetch.endpoints[0].header_files, NULL),
    KEY(ENDPOINT_TIMEOUT, ENDPOINTS, "timeout_ms", NUMBER, false, 1, KBS_LIMIT_FETCH_MS,
        fetch.endpoints[0].timeout_ms, NULL),
    KEY(ENDPOINT_CONNECT, ENDPOINTS, "connect_ms", NUMBER, false, 1, KBS_LIMIT_FETCH_MS,
        fetch.endpoints[0].connect_ms, NULL),
    KEY(ENDPOINT_RETRIES, ENDPOINTS, "retries", NUMBER, false, 0, KBS_LIMIT_FETCH_RETRIES,
        fetch.endpoints[0].retries, NULL),
    KEY(ENDPOINT_HTTP2, ENDPOINTS, "http2", BOOLEAN, false, 0, 0, fetch.endpoints[0].http2, NULL),
    KEY(ENDPOINT_PARALLEL, ENDPOINTS, "parallel", NUMBER, false, 1, KBS_LIMIT_FETCH_PARALLEL,
        fetch.endpoints[0].parallel, NULL),
    KEY(ENDPOINT_FAILURES, ENDPOINTS, "failures", NUMBER, false, 0, 1000,
        fetch.endpoints[0].failures, NULL),
    KEY(ENDPOINT_OPEN, ENDPOINTS, "open_ms", NUMBER, false, 1, 3600000, fetch.endpoints[0].open_ms,
        NULL),
    KEY(ENDPOINT_KEEP, ENDPOINTS, "keep_days", NUMBER, false, 0, 36500,
        fetch.endpoints[0].keep_days, NULL),
    KEY(DOCUMENT_NAME, DOCUMENTS, "name", STRING, true, 1, 63, fetch.documents[0].name,
        kbs_config_check_fetch_name),
    KEY(DOCUMENT_URL, DOCUMENTS, "url", STRING, true, 1, URL_BYTES, fetch.documents[0].url,
        kbs_config_check_url),
    KEY(DOCUMENT_CA, DOCUMENTS, "ca", PATH, false, 1, PATH_BYTES, fetch.documents[0].ca_path, NULL),
    KEY(DOCUMENT_TIMEOUT, DOCUMENTS, "timeout_ms", NUMBER, false, 1, KBS_LIMIT_FETCH_MS,
        fetch.documents[0].timeout_ms, NULL),
    KEY(DOCUMENT_REFRESH, DOCUMENTS, "refresh_s", NUMBER, false, 1, 31536000,
        fetch.documents[0].refresh_s, NULL),
    KEY(DOCUMENT_DISCOVERY, DOCUMENTS, "discovery", BOOLEAN, false, 0, 0,
        fetch.documents[0].discovery, NULL),
    KEY(DOCUMENT_HOSTS, DOCUMENTS, "jwks_hosts", STRINGS, false, 0, 8,
        fetch.documents[0].jwks_hosts, kbs_config_check_host),
    KEY(DELEGATE_TYPE, "attestation_service", "type", STRING, false, 1, 32, delegate.type_name,
        kbs_config_check_delegate_type),
    KEY(DELEGATE_ENDPOINT, "attestation_service", "endpoint", STRING, false, 1, 63,
        delegate.endpoint, NULL),
    KEY(DELEGATE_ISSUER, "attestation_service", "issuer", STRING, false, 1, 63, delegate.issuer,
        NULL),
    KEY(DELEGATE_TEES, "attestation_service", "tees", STRINGS, false, 1, KBS_TEE_COUNT,
        delegate.tees, NULL),
    KEY(DELEGATE_POLICIES, "attestation_service", "policy_ids", STRINGS, false, 0,
        KBS_LIMIT_DELEGATE_POLICIES, delegate.policy_ids, kbs_config_check_issuer),
    KEY(ISSUER_NAME, "issuer[]", "name", STRING, true, 1, 64, issuers[0].name,
        kbs_config_check_issuer),
    KEY(ISSUER_PROFILE, "issuer[]", "profile", STRING, true, 1, 32, issuers[0].profile,
        kbs_config_check_profile),
    KEY(ISSUER_ISS, "issuer[]", "issuer", STRINGS, false, 0, 8, issuers[0].issuers,
        kbs_config_check_issuer),
    KEY(ISSUER_AUDIENCE, "issuer[]", "audience", STRINGS, false, 0, 8, issuers[0].audiences,
        kbs_config_check_issuer),
    KEY(ISSUER_ALGORITHMS, "issuer[]", "algorithms", STRINGS, false, 1, 10, issuers[0].algorithms,
        kbs_config_check_algorithm),
    KEY(ISSUER_KEYS, "issuer[]", "keys", PATH, false, 1, PATH_BYTES, issuers[0].keys_path, NULL),
    KEY(ISSUER_DOCUMENT, "issuer[]", "document", STRING, false, 1, 64, issuers[0].document,
        kbs_config_check_issuer),
    KEY(ISSUER_ANCHOR, "issuer[]", "anchor", PATH, false, 1, PATH_BYTES, issuers[0].anchor_path,
        NULL),
    KEY(ISSUER_CRL, "issuer[]", "crl", PATH, false, 1, PATH_BYTES, issuers[0].crl_path, NULL),
    KEY(ISSUER_KEY_PATH, "issuer[]", "key_path", STRING, false, 1, ISSUER_TEXT, issuers[0].key_path,
        kbs_config_check_key_path),
    KEY(ISSUER_MAX_AGE, "issuer[]", "max_age_s", NUMBER, false, 1, 604800, issuers[0].max_age_s,
        NULL),
    KEY(ISSUER_SKEW, "issuer[]", "skew_s", NUMBER, false, 0, 600, issuers[0].skew_s, NULL),
    KEY(ISSUER_MAX_STALE, "issuer[]", "max_stale_s", NUMBER, false, 60, 2592000,
        issuers[0].max_stale_s, NULL),
    KEY(ISSUER_PASSPORT, "issuer[]", "passport", BOOLEAN, false, 0, 0, issuers[0].passport, NULL),
    KEY(ISSUER_KNOWN_KEYS, "issuer[]", "known_keys", BOOLEAN, false, 0, 0, issuers[0].known_keys,
        NULL),
    KEY(ISSUER_AGREE_WITH, "issuer[]", "agree_with", STRING, false, 1, 64, issuers[0].agree_with,
        kbs_config_check_issuer),
    KEY(ISSUER_MINIMUM_BINDING, "issuer[]", "minimum_binding", STRING, false, 1, 16,
        issuers[0].minimum_binding, kbs_config_check_binding),
    REQUIRE(TEES, "tees", kbs_config_check_tee),
    REQUIRE(POLICY_IDS, "policy_ids", kbs_config_check_issuer),
    REQUIRE(POLICY_HASHES, "policy_hashes", kbs_config_check_issuer),
    REQUIRE(TCB_STATUSES, "tcb_statuses", kbs_config_check_issuer),
    REQUIRE(COMPLIANCE, "compliance", kbs_config_check_issuer),
    REQUIRE(MEASUREMENTS, "measurements", kbs_config_check_issuer),
    REQUIRE(ID_KEYS, "id_keys", kbs_config_check_issuer),
    REQUIRE(HOST_DATA, "host_data", kbs_config_check_issuer),
    REQUIRE(IMAGES, "images", kbs_config_check_issuer),
    REQUIRE(SUPPORT, "support", kbs_config_check_issuer),
    REQUIRE(SUBMODS, "submods", kbs_config_check_submod),
    KEY(REQUIRE_CANONICAL_RUNTIME, "issuer[].require", "canonical_runtime", BOOLEAN, false, 0, 0,
        issuers[0].canonical_runtime, NULL),
};

#define ROWS(path_, max_, array, number)                            \
    {                                                               \
        .path = (path_), .max_rows = (max_),                        \
        .stride = sizeof(((const struct kbs_config *)0)->array[0]), \
        .n_offset = offsetof(struct kbs_config, number)             \
    }

const struct kbs_config_table kbs_config_tables[] = {
    {.path = "profile"},
    {.path = "http_server"},
    {.path = "admin_server"},
    {.path = "admin"},
    {.path = "admin.authentication"},
    {.path = "admin.authentication.bearer_jwt"},
    ROWS(PROVIDERS, KBS_LIMIT_ADMIN_PROVIDERS, providers, n_providers),
    {.path = "admin.authorization"},
    {.path = "admin.authorization.regex_acl"},
    ROWS(ACLS, KBS_LIMIT_ADMIN_ACLS, acls, n_acls),
    {.path = "token"},
    {.path = "store"},
    {.path = "audit"},
    {.path = "attestation_service"},
    {.path = "attest"},
    {.path = "attest.snp"},
    ROWS("attest.snp.minimum[]", KBS_CONFIG_SNP_PRODUCTS, snp.minimum, snp.n_minimum),
    {.path = "attestation_token"},
    {.path = "limits"},
    {.path = "users"},
    ROWS("plugins[]", KBS_CONFIG_PLUGINS, plugins, n_plugins),
    {.path = "fetch"},
    ROWS(ENDPOINTS, KBS_LIMIT_FETCH_ENDPOINTS, fetch.endpoints, fetch.n_endpoints),
    ROWS(DOCUMENTS, KBS_LIMIT_FETCH_DOCUMENTS, fetch.documents, fetch.n_documents),
    ROWS("issuer[]", KBS_LIMIT_ISSUERS, issuers, n_issuers),
    {.path = "issuer[].require", .stride = sizeof(struct kbs_config_issuer)},
};
const size_t kbs_config_n_tables = sizeof(kbs_config_tables) / sizeof(kbs_config_tables[0]);

size_t kbs_config_key_find(const char *table, const char *name)
{
    size_t i = 0;
    while (i < KBS_CONFIG_KEY_COUNT && (strcmp(table, kbs_config_keys[i].table) != 0 ||
                                        strcmp(name, kbs_config_keys[i].name) != 0)) {
        i++;
    }
    return i;
}

const struct kbs_config_table *kbs_config_table_find(const char *path)
{
    for (size_t i = 0; i < kbs_config_n_tables; i++) {
        if (strcmp(path, kbs_config_tables[i].path) == 0) {
            return &kbs_config_tables[i];
        }
    }
    return NULL;
}

const char *kbs_config_check_mode(const char *value)
{
    bool known = strcmp(value, "production") == 0 || strcmp(value, "demo") == 0;
    return known ? NULL : "must be \"production\" or \"demo\"";
}

const char *kbs_config_check_seccomp(const char *value)
{
    bool known = strcmp(value, "kill") == 0 || strcmp(value, "log") == 0;
    return known ? NULL : "must be \"kill\" or \"log\"";
}

const char *kbs_config_check_approvals_for(const char *value)
{
    return strcmp(value, "policy") == 0 || strcmp(value, "destroy") == 0
               ? NULL
               : "must be \"policy\" or \"destroy\"";
}

/* A name as useradd(8) takes it, or a number below the last one, which means "nobody given". */
const char *kbs_config_check_user(const char *value)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    if (strspn(value, letters) != strlen(value) || value[0] == '-') {
        return "must be a user's name or number";
    }
    bool number = strspn(value, "0123456789") == strlen(value);
    return number && strlen(value) > 9 ? "is too large a number" : NULL;
}

static const char *unix_parse(const char *path, struct kbs_config_socket *ret)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0) {
        return "no path after \"unix:\"";
    }
    if (len >= sizeof(un.sun_path)) {
        return "the path of a unix socket has at most 107 bytes";
    }
    memcpy(un.sun_path, path, len + 1);
    memcpy(&ret->address, &un, sizeof(un));
    ret->address_len = sizeof(un);
    return NULL;
}

const char *kbs_config_socket_parse(const char *text, struct kbs_config_socket *ret)
{
    *ret = (struct kbs_config_socket){.text = text};
    if (strncmp(text, "unix:", 5) == 0) {
        return unix_parse(text + 5, ret);
    }
    char host[64];
    uint16_t port;
    struct kbs_error err = KBS_ERROR_NONE;
    if (kbs_io_split_address(text, host, &port, &err) != 0) {
        return "must be \"address:port\" or \"[IPv6 address]:port\"";
    }
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&ret->address, &v4, sizeof(v4));
        ret->address_len = sizeof(v4);
    } else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&ret->address, &v6, sizeof(v6));
        ret->address_len = sizeof(v6);
    } else {
        return "the address must be a number, not a name";
    }
    return NULL;
}

bool kbs_config_socket_is_local(const struct kbs_config_socket *s)
{
    if (s->address.ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &s->address, sizeof(v4));
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    }
    if (s->address.ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &s->address, sizeof(v6));
        return memcmp(&v6.sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback)) == 0;
    }
    return s->address.ss_family == AF_UNIX;
}

/* That a unix socket carries no TLS is for check.c to say, which knows insecure_http. */
const char *kbs_config_check_socket(const char *value)
{
    struct kbs_config_socket s;
    return kbs_config_socket_parse(value, &s);
}

const char *kbs_config_check_plain_socket(const char *value)
{
    struct kbs_config_socket s;
    const char *wrong = kbs_config_socket_parse(value, &s);
    if (wrong == NULL && !kbs_config_socket_is_local(&s)) {
        wrong = "without TLS only loopback addresses and \"unix:/path\" are allowed";
    }
    return wrong;
}

/* The attributes of RFC 7512 section 2.3 that say which token it is. */
static bool uri_attribute_known(struct kbs_span name, bool *ret_names_token)
{
    static const struct {
        const char *name;
        bool names_token;
    } known[] = {
        {"token", true},
        {"serial", true},
        {"manufacturer", false},
        {"model", false},
        {"slot-id", false},
        {"slot-description", false},
        {"slot-manufacturer", false},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (kbs_span_equal_str(name, known[i].name)) {
            *ret_names_token = *ret_names_token || known[i].names_token;
            return true;
        }
    }
    return false;
}

/* Whether its value is to be given; *ret_names_token as it is. */
typedef bool (*uri_attribute)(struct kbs_span name, bool *ret_names_token);

/*
 * Stricter than RFC 7512: no query part, because the PIN and the module have keys of their own, and
 * no white space, which p11-kit would drop from names (so that "pin -value" would be one).
 */
static const char *uri_wrong(const char *value, uri_attribute known, const char *unknown,
                             bool *ret_names_token)
{
    if (strncmp(value, KBS_CONFIG_PKCS11, strlen(KBS_CONFIG_PKCS11)) != 0) {
        return "must begin with \"pkcs11:\" (RFC 7512)";
    }
    for (const char *c = value; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~') {
            return "may hold only printable ASCII without blanks; others are %-escaped";
        }
    }
    if (strcasestr(value, "pin-value") != NULL || strcasestr(value, "pin-source") != NULL) {
        return "may not hold a PIN: it belongs in the file that pin_file names";
    }
    if (strchr(value, '?') != NULL) {
        return "may not have a query part: module and pin_file are keys of their own";
    }
    for (const char *p = value + strlen(KBS_CONFIG_PKCS11); *p != '\0';) {
        size_t len = strcspn(p, ";");
        const char *equals = memchr(p, '=', len);
        if (equals == NULL || equals + 1 == p + len) {
            return "has an attribute without a value";
        }
        if (!known(kbs_span(p, (size_t)(equals - p)), ret_names_token)) {
            return unknown;
        }
        p += len + (p[len] == ';' ? 1 : 0);
    }
    return NULL;
}

const char *kbs_config_check_uri(const char *value)
{
    bool names_token = false;
    const char *wrong = uri_wrong(
        value, uri_attribute_known,
        "has an attribute that does not describe a token (RFC 7512 section 2.3)", &names_token);
    if (wrong != NULL) {
        return wrong;
    }
    return names_token ? NULL : "must name one token, by token= or serial=";
}

static bool key_attribute_known(struct kbs_span name, bool *ret_names_token)
{
    return kbs_span_equal_str(name, "object") || kbs_span_equal_str(name, "id") ||
           kbs_span_equal_str(name, "type") || uri_attribute_known(name, ret_names_token);
}

const char *kbs_config_check_tls_key(const char *value)
{
    bool names_token = false;
    if (strncmp(value, KBS_CONFIG_PKCS11, strlen(KBS_CONFIG_PKCS11)) != 0) {
        return NULL; /* a file */
    }
    return uri_wrong(value, key_attribute_known,
                     "has an attribute that does not describe a key (RFC 7512 section 2.3)",
                     &names_token);
}

/* Names as modules and wrappers use them for a PIN. */
static bool names_pin(const char *name, size_t n)
{
    return (n == 3 && strncasecmp(name, "PIN", 3) == 0) ||
           (n > 4 && strncasecmp(name + n - 4, "_PIN", 4) == 0);
}

const char *kbs_config_check_env(const char *value)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    size_t n = strspn(value, letters);
    if (n == 0 || value[n] != '=' || (value[0] >= '0' && value[0] <= '9')) {
        return "must be NAME=value";
    }
    return names_pin(value, n) ? "may not hold a PIN: an environment is inherited and shown by "
                                 "/proc; it belongs in the file that pin_file names"
                               : NULL;
}

const char *kbs_config_check_authorization(const char *value)
{
    bool known = strcmp(value, "DenyAll") == 0 || strcmp(value, "InsecureAllowAll") == 0 ||
                 strcmp(value, "AuthenticatedAuthorization") == 0;
    return known ? NULL
                 : "must be \"DenyAll\", \"InsecureAllowAll\" or \"AuthenticatedAuthorization\"";
}

/* As Trustee wants it: a pattern that is not anchored says less than its author thinks. */
const char *kbs_config_check_endpoints(const char *value)
{
    size_t n = strlen(value);
    bool anchored = strncmp(value, "^/kbs", 5) == 0 && value[n - 1] == '$';
    return anchored ? NULL : "must begin with \"^/kbs\" and end in \"$\"";
}

const char *kbs_config_check_plugin(const char *value)
{
    bool known = strcmp(value, "resource") == 0 || strcmp(value, "pkcs11") == 0 ||
                 strcmp(value, "id-key") == 0;
    return known
               ? NULL
               : "only \"resource\" is available, and \"pkcs11\" and \"id-key\" for keys of guests: remove "
                 "this table";
}

const char *kbs_config_check_catalog_path(const char *value)
{
    return kbs_key_path_valid(kbs_span_str(value)) ? NULL
                                                   : "must be the path of a key, repo/type/tag";
}

const char *kbs_config_check_issuer(const char *value)
{
    for (const char *c = value; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\') {
            return "may hold only printable ASCII without quotes and backslashes";
        }
    }
    return NULL;
}

const char *kbs_config_check_snp_product(const char *value)
{
    bool known =
        strcmp(value, "milan") == 0 || strcmp(value, "genoa") == 0 || strcmp(value, "turin") == 0;
    return known ? NULL : "must be \"milan\", \"genoa\" or \"turin\"";
}

static bool is_hex(const char *value, size_t digits)
{
    return strlen(value) == digits && strspn(value, "0123456789abcdef") == digits;
}

const char *kbs_config_check_snp_chip(const char *value)
{
    bool good = is_hex(value, 16) || is_hex(value, 128);
    return good ? NULL : "must be CHIP_ID in lower-case hex: 128 digits, or 16 of Turin";
}

const char *kbs_config_check_snp_root(const char *value)
{
    return is_hex(value, 64) ? NULL : "must be a SHA-256 digest in lower-case hex";
}

const char *kbs_config_check_snp_signer(const char *value)
{
    bool known = strcmp(value, "vcek") == 0 || strcmp(value, "vlek") == 0;
    return known ? NULL : "must be \"vcek\" or \"vlek\"";
}

static bool is_among(const char *value, const char *const *names)
{
    while (*names != NULL && strcmp(value, *names) != 0) {
        names++;
    }
    return *names != NULL;
}

const char *kbs_config_check_snp_platform(const char *value)
{
    static const char *const names[] = {
        "smt", "tsme", "ecc", "rapl_dis", "ciphertext_hiding", "alias_check", "tio", NULL};
    return is_among(value, names) ? NULL
                                  : "must be \"smt\", \"tsme\", \"ecc\", \"rapl_dis\", "
                                    "\"ciphertext_hiding\", \"alias_check\" or \"tio\"";
}

const char *kbs_config_check_snp_guest(const char *value)
{
    static const char *const names[] = {"smt",
                                        "single_socket",
                                        "cxl",
                                        "aes_256_xts",
                                        "rapl_dis",
                                        "ciphertext_hiding",
                                        "page_swap_disable",
                                        NULL};
    return is_among(value, names)
               ? NULL
               : "must be \"smt\", \"single_socket\", \"cxl\", \"aes_256_xts\", \"rapl_dis\", "
                 "\"ciphertext_hiding\" or \"page_swap_disable\"";
}

const char *kbs_config_check_snp_firmware(const char *value)
{
    uint8_t version[3];
    return kbs_config_snp_firmware(value, version) ? NULL : "must be like \"1.55.29\"";
}

bool kbs_config_snp_firmware(const char *text, uint8_t ret[3])
{
    for (size_t i = 0; i < 3; i++) {
        size_t digits = strspn(text, "0123456789");
        long part = digits > 0 && digits <= 3 ? strtol(text, NULL, 10) : 256;
        if (part > 255 || text[digits] != (i < 2 ? '.' : '\0')) {
            return false;
        }
        ret[i] = (uint8_t)part;
        text += digits + 1;
    }
    return true;
}

const char *kbs_config_check_delegate_type(const char *value)
{
    if (strcasecmp(value, "coco_as_builtin") == 0) {
        return "the CoCo attestation service is not built in: write \"builtin\", and evidence is "
               "verified by this service itself ([attest.snp] says how), or name a remote one";
    }
    return kbs_delegate_from_name(kbs_span_str(value)) != KBS_DELEGATE_COUNT
               ? NULL
               : "must be \"builtin\", \"coco_as_rest\", \"coco_as_rest_v1\", \"coco_as_grpc\" or "
                 "\"intel_ta\"";
}

const char *kbs_config_check_fetch_name(const char *value)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/";
    return strspn(value, letters) == strlen(value)
               ? NULL
               : "may hold only letters, digits, \"_\", \"-\", \".\" and \"/\"";
}

const char *kbs_config_check_url(const char *value)
{
    struct kbs_url url;
    return kbs_url_parse(kbs_span_str(value), &url)
               ? NULL
               : "must be https://host[:port][/path], http://... or unix:/path: without a user, a "
                 "fragment or \"..\"";
}

const char *kbs_config_check_host(const char *value)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-";
    return strspn(value, letters) == strlen(value) ? NULL : "must be a host's name, and no more";
}
