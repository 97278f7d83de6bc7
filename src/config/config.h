/*
 * The configuration: one TOML file (docs/configuration.md) as one validated tree that never
 * changes. Only kbsd links this; the roles get their part of it over their control channels.
 */
#ifndef KBS_CONFIG_CONFIG_H
#define KBS_CONFIG_CONFIG_H

#include <sys/socket.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/span.h"
#include "base/terms.h"

#define KBS_CONFIG_FILE_BYTES 65536
#define KBS_CONFIG_CERTIFICATE_BYTES 65536
#define KBS_CONFIG_ADMIN_KEY_BYTES 1024
#define KBS_CONFIG_WARNINGS 8
#define KBS_CONFIG_FOLDERS 16

/* [[admin.authentication.bearer_jwt.identity_providers]] */
struct kbs_config_provider {
    const char *issuer;   /* "" for any */
    const char *audience; /* the same */
    struct kbs_span keys; /* PEM public key or JWKS, as found in its file at load */
};

/* [[admin.authorization.regex_acl.acls]] */
struct kbs_config_acl {
    const char *role;
    const char *allowed_endpoints;
};

/* A list of strings; the strings end in NUL and live as long as the configuration. */
struct kbs_config_strings {
    const char *const *v;
    size_t n;
};

/* Where to listen, ready for bind(2). */
struct kbs_config_socket {
    const char *text; /* as configured; for unix sockets the path is resolved */
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* [http_server] and [admin_server]. Paths are resolved. */
struct kbs_config_server {
    struct kbs_config_strings socket_texts;       /* private: sockets[] is made of these */
    struct kbs_config_strings plain_socket_texts; /* private */
    struct kbs_config_socket sockets[KBS_LIMIT_FRONT_LISTENERS];
    size_t n_sockets;
    struct kbs_config_socket plain_sockets[KBS_LIMIT_FRONT_LISTENERS];
    size_t n_plain_sockets;
    const char *private_key; /* NULL when there are no TLS sockets and none is configured */
    const char *certificate;
};

/* [token] */
struct kbs_config_token {
    const char *module;    /* absolute, or relative to the working directory as `path` was */
    const char *uri;       /* RFC 7512, names a token, holds no PIN */
    const char *pin_file;  /* never read here */
    const char *init_args; /* "" if there are none */
    struct kbs_config_strings env; /* NAME=value */
    const char *seccomp;           /* "kill" or "log" */
    bool seccomp_log;
    struct kbs_config_strings folders; /* what the module reads and writes; resolved */
    uint32_t lanes;                    /* guest lanes, 1 to KBS_LIMIT_LANES */
};

/* [users]: whom the roles run as when kbsd is started as root. Names, or numbers. */
struct kbs_config_users {
    const char *front;
    const char *judge;
    const char *token;
    const char *audit;
    const char *policy;
};

struct kbs_config {
    const char *file; /* as given to kbs_config_load() */
    const char *mode; /* "production" (the default) or "demo" */
    bool production;
    struct kbs_config_server guest;
    struct kbs_config_server admin;
    struct kbs_config_strings admin_key_paths;
    struct kbs_span admin_keys[KBS_LIMIT_ADMIN_KEYS]; /* PEM, as found in those files at load */
    bool trustee_compat; /* [admin]: what follows may be anything but signed */
    enum kbs_admin_mode admin_mode;
    struct kbs_config_provider providers[KBS_LIMIT_ADMIN_PROVIDERS];
    size_t n_providers;
    struct kbs_config_acl acls[KBS_LIMIT_ADMIN_ACLS];
    size_t n_acls;
    struct kbs_config_token token;
    struct kbs_config_users users;
    const char *store_path;
    const char *audit_path;
    bool allow_sample;
    bool rsa1_5; /* [attestation_service] allow_rsa1_5 */
    uint32_t session_min;
    uint32_t token_min;
    const char *issuer;
    uint32_t max_connections;           /* per front */
    uint32_t auth_per_s;                /* per source; 0: any number */
    uint32_t sessions;                  /* that have not attested */
    uint32_t body_bytes;                /* of a request */
    uint32_t resource_bytes;            /* of a resource's value */
    struct kbs_span resource_policy;    /* JSON, as found in its file at load; empty for none */
    struct kbs_config_strings warnings; /* for the log: what production would refuse */
    const char *warning_texts[KBS_CONFIG_WARNINGS]; /* private */
    struct kbs_arena arena;                         /* private: every string above */
};

/*
 * Reads and checks the file. Returns owned (kbs_config_free()). Whatever is wrong with it is
 * KBS_INPUT, and the detail begins with "file:line:column: " (for a missing key only "file: ").
 * Values that may hold secrets are never quoted. Files that the configuration names are opened only
 * to learn that they are there and, for certificates and administrators' keys, that they are what
 * they should be; the PIN file and the TLS private key are not opened at all.
 */
KBS_MUST_CHECK int kbs_config_load(const char *path, const struct kbs_config **ret,
                                   struct kbs_error *err);

/* NULL is fine. Always returns NULL. */
const struct kbs_config *kbs_config_free(const struct kbs_config *config);

#endif
