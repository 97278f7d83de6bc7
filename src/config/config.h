/*
 * The configuration: one file, TOML or JSON (docs/configuration.md), as one validated tree that
 * never changes. Only kbsd links this; the roles get their part of it over their control channels.
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
#define KBS_CONFIG_FOLDERS 16
#define KBS_CONFIG_PLUGINS 8
#define KBS_CONFIG_SNP_PRODUCTS 3
#define KBS_CONFIG_SNP_CHIPS 1024
#define KBS_CONFIG_SNP_FILES 2048
#define KBS_CONFIG_SNP_FOLDER_BYTES (2u << 20) /* of all files */
#define KBS_CONFIG_ISSUER_BYTES (64u * 1024)   /* keys, anchors */
#define KBS_CONFIG_FINDINGS 100                /* that are kept; more are counted */

/* [[admin.authentication.bearer_jwt.identity_providers]] */
struct kbs_config_provider {
    const char *issuer;   /* "" for any */
    const char *audience; /* the same */
    struct kbs_span
        keys; /* PEM public key or JWKS, as found in its file at load; or "document:NAME" */
    const char *public_key_uri; /* private: `keys` is read from one of these */
    const char *jwk_set_uri;    /* private */
};

/* [[admin.authorization.regex_acl.acls]] */
struct kbs_config_acl {
    const char *role;
    const char *allowed_endpoints;
};

/* [[plugins]] */
struct kbs_config_plugin {
    const char *name;    /* "resource", "pkcs11" or "id-key" */
    const char *policy;  /* resource: NULL, or the path that resource_policy was read from */
    const char *nek_key; /* the others: path of the key of purpose nek that they are about */
};

/* [[attest.snp.minimum]]; 0 asks nothing */
struct kbs_config_snp_minimum {
    const char *product;
    uint32_t fmc;
    uint32_t bootloader;
    uint32_t tee;
    uint32_t snp;
    uint32_t microcode;
    const char *firmware; /* NULL: any; kbs_config_snp_firmware() reads it */
};

/* A file of the folder of certificates, as found at load. */
struct kbs_config_snp_file {
    const char *name; /* below the folder: "genoa/ark.pem" */
    struct kbs_span content;
};

/* [issuer.require]: its lists, and their names (kbs_config_require_name()). */
enum kbs_config_require {
    KBS_CONFIG_REQUIRE_TEES = 0,
    KBS_CONFIG_REQUIRE_POLICY_IDS,
    KBS_CONFIG_REQUIRE_POLICY_HASHES,
    KBS_CONFIG_REQUIRE_TCB_STATUSES,
    KBS_CONFIG_REQUIRE_COMPLIANCE,
    KBS_CONFIG_REQUIRE_MEASUREMENTS,
    KBS_CONFIG_REQUIRE_ID_KEYS,
    KBS_CONFIG_REQUIRE_HOST_DATA,
    KBS_CONFIG_REQUIRE_IMAGES,
    KBS_CONFIG_REQUIRE_SUPPORT,
    KBS_CONFIG_REQUIRE_SUBMODS,
    KBS_CONFIG_ISSUER_REQUIRES
};

/* A list of strings; the strings end in NUL and live as long as the configuration. */
struct kbs_config_strings {
    const char *const *v;
    size_t n;
};

/* [[issuer]], and its [issuer.require] */
struct kbs_config_issuer {
    const char *name;
    const char *profile;
    struct kbs_config_strings issuers; /* `issuer` in the file */
    struct kbs_config_strings audiences;
    struct kbs_config_strings algorithms;
    const char *keys_path; /* private: `keys` is read from it */
    const char *document;  /* NULL, as all that are not given */
    const char *anchor_path;
    const char *crl_path;
    struct kbs_span keys; /* as found in those files at load; empty: not given */
    struct kbs_span anchor;
    struct kbs_span crl;
    const char *key_path;
    uint32_t max_age_s;
    uint32_t skew_s;
    uint32_t max_stale_s;
    bool passport;
    bool known_keys;
    const char *agree_with;
    const char *minimum_binding;
    struct kbs_config_strings require[KBS_CONFIG_ISSUER_REQUIRES]; /* by enum kbs_config_require */
    bool canonical_runtime;
};

/* Where to listen, ready for bind(2). */
struct kbs_config_socket {
    const char *text; /* as configured; for unix sockets the path is resolved */
    struct sockaddr_storage address;
    socklen_t address_len;
};

#define KBS_CONFIG_PKCS11 "pkcs11:" /* what the URI of a key begins with */

/* Which TLS is spoken. */
struct kbs_config_tls {
    uint8_t minimum; /* TLS 1.`minimum` to 1.`maximum`: 2 or 3 */
    uint8_t maximum;
    const char *
        ciphers; /* and suites of TLS 1.3, and groups: lists as OpenSSL spells them; "" for its own */
    const char *groups;
};

/* [http_server] and [admin_server]. Paths are resolved. */
struct kbs_config_server {
    struct kbs_config_strings socket_texts;       /* private: sockets[] is made of these */
    struct kbs_config_strings plain_socket_texts; /* private */
    struct kbs_config_socket sockets[KBS_LIMIT_FRONT_LISTENERS];
    size_t n_sockets;
    struct kbs_config_socket plain_sockets[KBS_LIMIT_FRONT_LISTENERS];
    size_t n_plain_sockets;
    const char *private_key; /* NULL when there are no TLS sockets, or a token has the key */
    const char *key_uri;     /* RFC 7512, in its place; NULL: a file has the key */
    const char *certificate;
    const char *client_ca;   /* NULL: no client certificate is asked for */
    const char *tls_profile; /* private, like the next four */
    const char *tls_min_version;
    const char *tls_max_version;
    const char *tls_ciphers;
    const char *tls_groups;
    struct kbs_config_tls tls; /* made of them */
    bool insecure_http; /* what is in `sockets` carries no TLS, so it is in plain_sockets[] */
};

/* [token] */
struct kbs_config_token {
    const char *module;    /* absolute, or relative to the working directory as `path` was */
    const char *uri;       /* RFC 7512, names a token, holds no PIN */
    const char *pin_file;  /* never read here */
    bool pin_credential;   /* it is one of systemd's, a new file at every start */
    const char *lock_file; /* token.lock: beside the PIN file, or beside the ledger */
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
    const char *fetch;
};

/* [attest.snp] */
struct kbs_config_snp {
    const char *certificates; /* the folder; NULL: SNP evidence is not taken */
    struct kbs_config_snp_file *files;
    size_t n_files;
    uint32_t vmpl;
    struct kbs_config_strings products; /* none given: those that the verifier takes by itself */
    struct kbs_config_strings chip_ids; /* hex, 128 digits or 16 */
    struct kbs_config_strings providers;
    uint32_t crl_grace_hours;
    bool allow_no_crl;
    bool allow_masked_chip_id;
    bool allow_unexplained_data;
    bool svsm_binding;                           /* COCONUT-SVSM's own digest in the report data */
    const char *test_root;                       /* hex, or NULL */
    struct kbs_config_strings signers;           /* "vcek", "vlek"; none given: both */
    struct kbs_config_strings platform_required; /* names of bits */
    struct kbs_config_strings platform_forbidden;
    struct kbs_config_strings guest_required;
    struct kbs_config_strings guest_forbidden;
    const char *kds; /* name of the [[fetch.endpoint]] that has missing VCEKs; NULL: none */
    struct kbs_config_snp_minimum minimum[KBS_CONFIG_SNP_PRODUCTS];
    size_t n_minimum;
};

/* [[fetch.endpoint]]. Files named for secrets are there, and never read here. */
struct kbs_config_endpoint {
    const char *name;
    const char *url;
    const char *ca_path;          /* NULL: the system's */
    const char *certificate_path; /* NULL: none */
    const char *client_key;       /* NULL: none */
    struct kbs_config_strings header_files;
    struct kbs_span ca;          /* PEM, as found in its file at load; empty for none */
    struct kbs_span certificate; /* the same */
    uint32_t timeout_ms;
    uint32_t connect_ms;
    uint32_t retries;
    bool http2;
    uint32_t parallel;
    uint32_t failures;
    uint32_t open_ms;
    uint32_t keep_days;
};

/* [[fetch.document]] */
struct kbs_config_document {
    const char *name;
    const char *url;
    const char *ca_path; /* NULL: the system's */
    struct kbs_span ca;
    uint32_t timeout_ms;
    uint32_t refresh_s;
    bool discovery;
    struct kbs_config_strings jwks_hosts;
};

/* [fetch]; without an endpoint or document there is no kbs-fetch */
struct kbs_config_fetch {
    const char *cache; /* the folder; NULL: none */
    struct kbs_config_endpoint endpoints[KBS_LIMIT_FETCH_ENDPOINTS];
    size_t n_endpoints;
    struct kbs_config_document documents[KBS_LIMIT_FETCH_DOCUMENTS];
    size_t n_documents;
};

/* [attestation_service], as far as it is another service */
struct kbs_config_delegate {
    const char *type_name; /* private: type is made of it */
    enum kbs_delegate type;
    const char *endpoint; /* of [[fetch.endpoint]]; these two are NULL with type BUILTIN */
    const char *issuer;   /* of [[issuer]] */
    struct kbs_config_strings tees;
    struct kbs_config_strings policy_ids;
};

struct kbs_config {
    const char *file; /* as given to kbs_config_load() */
    const char *mode; /* "production" (the default) or "demo" */
    bool production;
    struct kbs_config_server guest;
    struct kbs_config_server admin;
    struct kbs_config_strings admin_key_paths;
    struct kbs_span admin_keys[KBS_LIMIT_ADMIN_KEYS]; /* PEM, as found in those files at load */
    bool trustee_compat;            /* [admin]: admin_mode may let unsigned requests in */
    const char *authorization_mode; /* private: admin_mode is made of it */
    enum kbs_admin_mode admin_mode;
    uint32_t approvals;                      /* [admin]: administrators that a change needs */
    struct kbs_config_strings approvals_for; /* private: the two below are made of it */
    bool approvals_policy;                   /* a change of what decides */
    bool approvals_destroy;                  /* a destruction */
    struct kbs_config_provider providers[KBS_LIMIT_ADMIN_PROVIDERS];
    size_t n_providers;
    struct kbs_config_acl acls[KBS_LIMIT_ADMIN_ACLS];
    size_t n_acls;
    struct kbs_config_token token;
    struct kbs_config_users users;
    struct kbs_config_snp snp;
    struct kbs_config_fetch fetch;
    struct kbs_config_delegate delegate;
    struct kbs_config_issuer issuers[KBS_LIMIT_ISSUERS];
    size_t n_issuers;
    const char *store_path;
    const char *audit_path;
    bool allow_sample;
    bool rsa1_5; /* [attestation_service] allow_rsa1_5 */
    uint32_t session_min;
    uint32_t token_min;
    const char *issuer;
    uint32_t max_connections;        /* per front */
    uint32_t auth_per_s;             /* per source; 0: any number */
    uint32_t sessions;               /* that have not attested */
    uint32_t body_bytes;             /* of a request */
    uint32_t resource_bytes;         /* of a resource's value */
    struct kbs_span resource_policy; /* JSON, as found in its file at load; empty for none */
    struct kbs_span nek_key;         /* of the pkcs11 plugin; empty for none */
    struct kbs_span id_key;          /* of the id-key plugin; likewise */
    struct kbs_config_plugin
        plugins[KBS_CONFIG_PLUGINS]; /* private: resource_policy is read from it */
    size_t n_plugins;
    struct kbs_arena arena; /* private: every string above */
};

/* One thing to say about a file: an error, or a warning (production would refuse it, or a key of
 * Trustee's has no effect here). */
struct kbs_config_finding {
    bool error;
    unsigned int line; /* 0 if it has none */
    unsigned int column;
    const char *text; /* beginning with its place, like every compiler's */
};

/* In the order of the file; what concerns no line of it comes last. */
struct kbs_config_report {
    struct kbs_config_finding v[KBS_CONFIG_FINDINGS];
    size_t n;
    size_t n_errors; /* of all, kept or not */
    size_t n_left_out;
    struct kbs_arena arena; /* private: the texts */
};

/*
 * Reads and checks the file: JSON if its name ends in .json, else TOML. Returns owned
 * (kbs_config_free()). *report gets everything there is to say about it, whether it can be used or not
 * (kbs_config_report_deinit()). Whatever is wrong with it is KBS_INPUT, and the detail is the first
 * error of the report: "file:line:column: ...", for JSON "file:/pointer: ...", for what is missing
 * "file: ...".
 *
 * Values that may hold secrets are never quoted. Files that the configuration names are opened only
 * to learn that they are there and, for certificates, public keys and policies, that they are what
 * they should be; the PIN file and the TLS private key are not opened at all. A path
 * "credential:NAME" is that file in $CREDENTIALS_DIRECTORY (systemd.exec(5)).
 */
KBS_MUST_CHECK int kbs_config_load(const char *path, const struct kbs_config **ret,
                                   struct kbs_config_report *report, struct kbs_error *err);

/*
 * The same for who makes certificates: those of servers need not be there yet, which is a warning, and paths are
 * absolute.
 */
KBS_MUST_CHECK int kbs_config_load_for_tools(const char *path, const struct kbs_config **ret,
                                             struct kbs_config_report *report,
                                             struct kbs_error *err);

/* The same for a text that stands in for the file's, which need not be there. */
KBS_MUST_CHECK int kbs_config_load_text(const char *path, struct kbs_span text,
                                        const struct kbs_config **ret,
                                        struct kbs_config_report *report, struct kbs_error *err);

void kbs_config_report_deinit(struct kbs_config_report *report);

/* "major.minor.build", each up to 255. False if it is not that. */
bool kbs_config_snp_firmware(const char *text, uint8_t ret[3]);

/* Whether there is anything for a kbs-fetch to do. */
bool kbs_config_fetches(const struct kbs_config *config);
/* As the key is called. Static. */
const char *kbs_config_require_name(enum kbs_config_require r);

/* NULL is fine. Always returns NULL. */
const struct kbs_config *kbs_config_free(const struct kbs_config *config);

#endif
