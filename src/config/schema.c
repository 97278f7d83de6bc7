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

#define PATH_BYTES 1024
#define PROVIDERS "admin.authentication.bearer_jwt.identity_providers[]"
#define ACLS "admin.authorization.regex_acl.acls[]"

#define KEY(id, table_, name_, kind_, required_, min_, max_, member, check_) \
    [KBS_CONFIG_KEY_##id] = {.table = (table_),                              \
                             .name = (name_),                                \
                             .kind = KBS_CONFIG_##kind_,                     \
                             .required = (required_),                        \
                             .min = (min_),                                  \
                             .max = (max_),                                  \
                             .offset = offsetof(struct kbs_config, member),  \
                             .check = (check_)}

const struct kbs_config_key kbs_config_keys[KBS_CONFIG_KEY_COUNT] = {
    KEY(MODE, "profile", "mode", STRING, false, 1, 16, mode, kbs_config_check_mode),
    KEY(GUEST_SOCKETS, "http_server", "sockets", STRINGS, false, 0, KBS_LIMIT_FRONT_LISTENERS,
        guest.socket_texts, kbs_config_check_socket),
    KEY(GUEST_PRIVATE_KEY, "http_server", "private_key", SECRET_PATH, false, 1, PATH_BYTES,
        guest.private_key, NULL),
    KEY(GUEST_CERTIFICATE, "http_server", "certificate", PATH, false, 1, PATH_BYTES,
        guest.certificate, NULL),
    KEY(GUEST_PLAIN_SOCKETS, "http_server", "plain_sockets", STRINGS, false, 0,
        KBS_LIMIT_FRONT_LISTENERS, guest.plain_socket_texts, kbs_config_check_plain_socket),
    KEY(GUEST_INSECURE, "http_server", "insecure_http", BOOLEAN, false, 0, 0, guest.insecure_http,
        NULL),
    KEY(BODY, "http_server", "payload_request_size", MEGABYTES, false, 1,
        KBS_LIMIT_HTTP_BODY_BYTES >> 20, body_bytes, NULL),
    KEY(ADMIN_SOCKETS, "admin_server", "sockets", STRINGS, true, 1, KBS_LIMIT_FRONT_LISTENERS,
        admin.socket_texts, kbs_config_check_socket),
    KEY(ADMIN_PRIVATE_KEY, "admin_server", "private_key", SECRET_PATH, true, 1, PATH_BYTES,
        admin.private_key, NULL),
    KEY(ADMIN_CERTIFICATE, "admin_server", "certificate", PATH, true, 1, PATH_BYTES,
        admin.certificate, NULL),
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
    KEY(SNP_TEST_ROOT, "attest.snp", "test_root", STRING, false, 1, 64, snp.test_root,
        kbs_config_check_snp_root),
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

/*
 * Stricter than RFC 7512: no query part, because the PIN and the module have keys of their own, and
 * no white space, which p11-kit would drop from names (so that "pin -value" would be one).
 */
const char *kbs_config_check_uri(const char *value)
{
    if (strncmp(value, "pkcs11:", 7) != 0) {
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
    bool names_token = false;
    for (const char *p = value + 7; *p != '\0';) {
        size_t len = strcspn(p, ";");
        const char *equals = memchr(p, '=', len);
        if (equals == NULL || equals + 1 == p + len) {
            return "has an attribute without a value";
        }
        if (!uri_attribute_known(kbs_span(p, (size_t)(equals - p)), &names_token)) {
            return "has an attribute that does not describe a token (RFC 7512 section 2.3)";
        }
        p += len + (p[len] == ';' ? 1 : 0);
    }
    return names_token ? NULL : "must name one token, by token= or serial=";
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
    if (strcmp(value, "resource") == 0) {
        return NULL;
    }
    if (strcmp(value, "pkcs11") == 0) {
        return "the token is not a plugin here: write module, uri and pin_file of [token]; its keys "
               "are at /kbs/v0/resource/..., made with kbs-admin key";
    }
    return "only \"resource\" is available: remove this table";
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
