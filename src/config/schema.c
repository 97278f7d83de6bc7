/*
 * The keys of docs/configuration.md as one table, and the rules for a single value. A key that is
 * not in the table does not exist: a typing error must not become a default silently. What needs
 * more than the value itself (other keys, files, the profile) is in check.c.
 */
#include "config/schema.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "base/io.h"

#define PATH_BYTES 1024

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
    KEY(GUEST_PRIVATE_KEY, "http_server", "private_key", PATH, false, 1, PATH_BYTES,
        guest.private_key, NULL),
    KEY(GUEST_CERTIFICATE, "http_server", "certificate", PATH, false, 1, PATH_BYTES,
        guest.certificate, NULL),
    KEY(GUEST_PLAIN_SOCKETS, "http_server", "plain_sockets", STRINGS, false, 0,
        KBS_LIMIT_FRONT_LISTENERS, guest.plain_socket_texts, kbs_config_check_plain_socket),
    KEY(ADMIN_SOCKETS, "admin_server", "sockets", STRINGS, true, 1, KBS_LIMIT_FRONT_LISTENERS,
        admin.socket_texts, kbs_config_check_socket),
    KEY(ADMIN_PRIVATE_KEY, "admin_server", "private_key", PATH, true, 1, PATH_BYTES,
        admin.private_key, NULL),
    KEY(ADMIN_CERTIFICATE, "admin_server", "certificate", PATH, true, 1, PATH_BYTES,
        admin.certificate, NULL),
    KEY(ADMIN_KEYS, "admin", "keys", PATHS, true, 1, KBS_LIMIT_ADMIN_KEYS, admin_key_paths, NULL),
    KEY(TOKEN_MODULE, "token", "module", PATH, true, 1, PATH_BYTES, token.module, NULL),
    KEY(TOKEN_URI, "token", "uri", STRING, true, 1, 1024, token.uri, kbs_config_check_uri),
    KEY(TOKEN_PIN_FILE, "token", "pin_file", PATH, true, 1, PATH_BYTES, token.pin_file, NULL),
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
    KEY(ISSUER, "attestation_token", "issuer_name", STRING, false, 1, 128, issuer,
        kbs_config_check_issuer),
    KEY(TOKEN_MIN, "attestation_token", "duration_min", NUMBER, false, 1, 1440, token_min, NULL),
    KEY(MAX_CONNECTIONS, "limits", "max_connections", NUMBER, false, 1, KBS_LIMIT_FRONT_CONNECTIONS,
        max_connections, NULL),
    KEY(AUTH_PER_S, "limits", "auth_per_second", NUMBER, false, 0, 1000000, auth_per_s, NULL),
    KEY(USER_FRONT, "users", "front", STRING, false, 1, 32, users.front, kbs_config_check_user),
    KEY(USER_JUDGE, "users", "judge", STRING, false, 1, 32, users.judge, kbs_config_check_user),
    KEY(USER_TOKEN, "users", "token", STRING, false, 1, 32, users.token, kbs_config_check_user),
    KEY(USER_AUDIT, "users", "audit", STRING, false, 1, 32, users.audit, kbs_config_check_user),
    KEY(USER_POLICY, "users", "policy", STRING, false, 1, 32, users.policy, kbs_config_check_user),
};

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

const char *kbs_config_check_socket(const char *value)
{
    if (strncmp(value, "unix:", 5) == 0) {
        return "unix sockets carry no TLS: they belong in plain_sockets";
    }
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

const char *kbs_config_check_env(const char *value)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    size_t n = strspn(value, letters);
    if (n == 0 || value[n] != '=' || (value[0] >= '0' && value[0] <= '9')) {
        return "must be NAME=value";
    }
    return NULL;
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
