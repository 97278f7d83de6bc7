/* Inside src/config: the tables and keys there are, what one value on its own must look like, and what
 * is known of the keys of others. */
#ifndef KBS_CONFIG_SCHEMA_H
#define KBS_CONFIG_SCHEMA_H

#include "config/config.h"
#include "config/document.h"

enum kbs_config_kind {
    KBS_CONFIG_STRING,      /* const char * */
    KBS_CONFIG_PATH,        /* const char *, resolved against the file's folder */
    KBS_CONFIG_SECRET_PATH, /* const char *, the same, or "credential:NAME" */
    KBS_CONFIG_KEY_PATH,    /* const char *, the same, or a "pkcs11:" URI, as it stands */
    KBS_CONFIG_URI_PATH,    /* const char *, the same, or file:///path */
    KBS_CONFIG_BOOLEAN,     /* bool */
    KBS_CONFIG_NUMBER,      /* uint32_t */
    KBS_CONFIG_MEGABYTES,   /* uint32_t, in bytes; min and max are in MiB */
    KBS_CONFIG_STRINGS,     /* struct kbs_config_strings */
    KBS_CONFIG_PATHS,       /* struct kbs_config_strings, each resolved */
    KBS_CONFIG_SECRET_PATHS /* the same, each as SECRET_PATH */
};

/* Says what is wrong with one string; NULL if nothing is. Static text without the value. */
typedef const char *(*kbs_config_check)(const char *value);

/*
 * A table by its path from the top. One whose path ends in "[]" is a row of a list of tables; its
 * members are those of element 0 of an array in struct kbs_config. A table below such a row has its path
 * ("issuer[].require") and its stride.
 */
struct kbs_config_table {
    const char *path;
    uint32_t max_rows; /* 0: an ordinary table */
    size_t stride;     /* of the array's elements */
    size_t n_offset;   /* of their number, a size_t, in struct kbs_config */
};

struct kbs_config_key {
    const char *table; /* its path */
    const char *name;
    enum kbs_config_kind kind;
    bool required;
    uint32_t min; /* numbers: value; lists: elements; strings: bytes */
    uint32_t max;
    size_t offset; /* in struct kbs_config */
    kbs_config_check check;
};

/* Positions in kbs_config_keys[], for rules that look at several keys. */
enum kbs_config_key_id {
    KBS_CONFIG_KEY_MODE,
    KBS_CONFIG_KEY_GUEST_SOCKETS,
    KBS_CONFIG_KEY_GUEST_PRIVATE_KEY,
    KBS_CONFIG_KEY_GUEST_CERTIFICATE,
    KBS_CONFIG_KEY_GUEST_PLAIN_SOCKETS,
    KBS_CONFIG_KEY_GUEST_INSECURE,
    KBS_CONFIG_KEY_GUEST_TLS_PROFILE,
    KBS_CONFIG_KEY_GUEST_TLS_MIN,
    KBS_CONFIG_KEY_GUEST_TLS_MAX,
    KBS_CONFIG_KEY_GUEST_TLS_CIPHERS,
    KBS_CONFIG_KEY_GUEST_TLS_GROUPS,
    KBS_CONFIG_KEY_BODY,
    KBS_CONFIG_KEY_ADMIN_SOCKETS,
    KBS_CONFIG_KEY_ADMIN_PRIVATE_KEY,
    KBS_CONFIG_KEY_ADMIN_CERTIFICATE,
    KBS_CONFIG_KEY_ADMIN_CLIENT_CA,
    KBS_CONFIG_KEY_ADMIN_TLS_PROFILE,
    KBS_CONFIG_KEY_ADMIN_TLS_MIN,
    KBS_CONFIG_KEY_ADMIN_TLS_MAX,
    KBS_CONFIG_KEY_ADMIN_TLS_CIPHERS,
    KBS_CONFIG_KEY_ADMIN_TLS_GROUPS,
    KBS_CONFIG_KEY_ADMIN_KEYS,
    KBS_CONFIG_KEY_TRUSTEE_COMPAT,
    KBS_CONFIG_KEY_AUTHORIZATION_MODE,
    KBS_CONFIG_KEY_APPROVALS,
    KBS_CONFIG_KEY_APPROVALS_FOR,
    KBS_CONFIG_KEY_PROVIDER_ISSUER,
    KBS_CONFIG_KEY_PROVIDER_AUDIENCE,
    KBS_CONFIG_KEY_PROVIDER_PEM,
    KBS_CONFIG_KEY_PROVIDER_JWKS,
    KBS_CONFIG_KEY_ACL_ROLE,
    KBS_CONFIG_KEY_ACL_ENDPOINTS,
    KBS_CONFIG_KEY_TOKEN_MODULE,
    KBS_CONFIG_KEY_TOKEN_URI,
    KBS_CONFIG_KEY_TOKEN_PIN_FILE,
    KBS_CONFIG_KEY_TOKEN_INIT_ARGS,
    KBS_CONFIG_KEY_TOKEN_ENV,
    KBS_CONFIG_KEY_TOKEN_LANES,
    KBS_CONFIG_KEY_TOKEN_SECCOMP,
    KBS_CONFIG_KEY_TOKEN_FOLDERS,
    KBS_CONFIG_KEY_STORE_PATH,
    KBS_CONFIG_KEY_AUDIT_PATH,
    KBS_CONFIG_KEY_SESSION_MIN,
    KBS_CONFIG_KEY_ALLOW_SAMPLE,
    KBS_CONFIG_KEY_ALLOW_RSA1_5,
    KBS_CONFIG_KEY_SNP_CERTIFICATES,
    KBS_CONFIG_KEY_SNP_VMPL,
    KBS_CONFIG_KEY_SNP_PRODUCTS,
    KBS_CONFIG_KEY_SNP_CHIPS,
    KBS_CONFIG_KEY_SNP_PROVIDERS,
    KBS_CONFIG_KEY_SNP_CRL_GRACE,
    KBS_CONFIG_KEY_SNP_NO_CRL,
    KBS_CONFIG_KEY_SNP_MASKED_CHIP_ID,
    KBS_CONFIG_KEY_SNP_UNEXPLAINED_DATA,
    KBS_CONFIG_KEY_SNP_SVSM_BINDING,
    KBS_CONFIG_KEY_SNP_TEST_ROOT,
    KBS_CONFIG_KEY_SNP_SIGNERS,
    KBS_CONFIG_KEY_SNP_PLATFORM_REQUIRED,
    KBS_CONFIG_KEY_SNP_PLATFORM_FORBIDDEN,
    KBS_CONFIG_KEY_SNP_GUEST_REQUIRED,
    KBS_CONFIG_KEY_SNP_GUEST_FORBIDDEN,
    KBS_CONFIG_KEY_SNP_KDS,
    KBS_CONFIG_KEY_SNP_PRODUCT,
    KBS_CONFIG_KEY_SNP_FMC,
    KBS_CONFIG_KEY_SNP_BOOTLOADER,
    KBS_CONFIG_KEY_SNP_TEE,
    KBS_CONFIG_KEY_SNP_SNP,
    KBS_CONFIG_KEY_SNP_MICROCODE,
    KBS_CONFIG_KEY_SNP_FIRMWARE,
    KBS_CONFIG_KEY_ISSUER,
    KBS_CONFIG_KEY_TOKEN_MIN,
    KBS_CONFIG_KEY_MAX_CONNECTIONS,
    KBS_CONFIG_KEY_AUTH_PER_S,
    KBS_CONFIG_KEY_SESSIONS,
    KBS_CONFIG_KEY_RESOURCE_BYTES,
    KBS_CONFIG_KEY_USER_FRONT,
    KBS_CONFIG_KEY_USER_JUDGE,
    KBS_CONFIG_KEY_USER_TOKEN,
    KBS_CONFIG_KEY_USER_AUDIT,
    KBS_CONFIG_KEY_USER_POLICY,
    KBS_CONFIG_KEY_PLUGIN_NAME,
    KBS_CONFIG_KEY_PLUGIN_POLICY,
    KBS_CONFIG_KEY_PLUGIN_NEK_KEY,
    KBS_CONFIG_KEY_USER_FETCH,
    KBS_CONFIG_KEY_FETCH_CACHE,
    KBS_CONFIG_KEY_ENDPOINT_NAME,
    KBS_CONFIG_KEY_ENDPOINT_URL,
    KBS_CONFIG_KEY_ENDPOINT_CA,
    KBS_CONFIG_KEY_ENDPOINT_CERTIFICATE,
    KBS_CONFIG_KEY_ENDPOINT_KEY,
    KBS_CONFIG_KEY_ENDPOINT_HEADERS,
    KBS_CONFIG_KEY_ENDPOINT_TIMEOUT,
    KBS_CONFIG_KEY_ENDPOINT_CONNECT,
    KBS_CONFIG_KEY_ENDPOINT_RETRIES,
    KBS_CONFIG_KEY_ENDPOINT_HTTP2,
    KBS_CONFIG_KEY_ENDPOINT_PARALLEL,
    KBS_CONFIG_KEY_ENDPOINT_FAILURES,
    KBS_CONFIG_KEY_ENDPOINT_OPEN,
    KBS_CONFIG_KEY_ENDPOINT_KEEP,
    KBS_CONFIG_KEY_DOCUMENT_NAME,
    KBS_CONFIG_KEY_DOCUMENT_URL,
    KBS_CONFIG_KEY_DOCUMENT_CA,
    KBS_CONFIG_KEY_DOCUMENT_TIMEOUT,
    KBS_CONFIG_KEY_DOCUMENT_REFRESH,
    KBS_CONFIG_KEY_DOCUMENT_DISCOVERY,
    KBS_CONFIG_KEY_DOCUMENT_HOSTS,
    KBS_CONFIG_KEY_DELEGATE_TYPE,
    KBS_CONFIG_KEY_DELEGATE_ENDPOINT,
    KBS_CONFIG_KEY_DELEGATE_ISSUER,
    KBS_CONFIG_KEY_DELEGATE_TEES,
    KBS_CONFIG_KEY_DELEGATE_POLICIES,
    KBS_CONFIG_KEY_ISSUER_NAME,
    KBS_CONFIG_KEY_ISSUER_PROFILE,
    KBS_CONFIG_KEY_ISSUER_ISS,
    KBS_CONFIG_KEY_ISSUER_AUDIENCE,
    KBS_CONFIG_KEY_ISSUER_ALGORITHMS,
    KBS_CONFIG_KEY_ISSUER_KEYS,
    KBS_CONFIG_KEY_ISSUER_DOCUMENT,
    KBS_CONFIG_KEY_ISSUER_ANCHOR,
    KBS_CONFIG_KEY_ISSUER_CRL,
    KBS_CONFIG_KEY_ISSUER_KEY_PATH,
    KBS_CONFIG_KEY_ISSUER_MAX_AGE,
    KBS_CONFIG_KEY_ISSUER_SKEW,
    KBS_CONFIG_KEY_ISSUER_MAX_STALE,
    KBS_CONFIG_KEY_ISSUER_PASSPORT,
    KBS_CONFIG_KEY_ISSUER_KNOWN_KEYS,
    KBS_CONFIG_KEY_ISSUER_AGREE_WITH,
    KBS_CONFIG_KEY_ISSUER_MINIMUM_BINDING,
    KBS_CONFIG_KEY_REQUIRE_TEES, /* in the order of enum kbs_config_require */
    KBS_CONFIG_KEY_REQUIRE_POLICY_IDS,
    KBS_CONFIG_KEY_REQUIRE_POLICY_HASHES,
    KBS_CONFIG_KEY_REQUIRE_TCB_STATUSES,
    KBS_CONFIG_KEY_REQUIRE_COMPLIANCE,
    KBS_CONFIG_KEY_REQUIRE_MEASUREMENTS,
    KBS_CONFIG_KEY_REQUIRE_ID_KEYS,
    KBS_CONFIG_KEY_REQUIRE_HOST_DATA,
    KBS_CONFIG_KEY_REQUIRE_IMAGES,
    KBS_CONFIG_KEY_REQUIRE_SUPPORT,
    KBS_CONFIG_KEY_REQUIRE_SUBMODS,
    KBS_CONFIG_KEY_REQUIRE_CANONICAL_RUNTIME,
    KBS_CONFIG_KEY_COUNT
};

extern const struct kbs_config_key kbs_config_keys[KBS_CONFIG_KEY_COUNT];
extern const struct kbs_config_table kbs_config_tables[];
extern const size_t kbs_config_n_tables;

/* KBS_CONFIG_KEY_COUNT, or NULL, if there is no such thing. */
size_t kbs_config_key_find(const char *table, const char *name);
const struct kbs_config_table *kbs_config_table_find(const char *path);

/*
 * "; did you mean X?" or "; it belongs in [X]" for a key that is not in `table` (path; "" at the top),
 * into `out`; empty if nothing is near. Returns `out`.
 */
const char *kbs_config_hint(const char *table, const char *name, char *out, size_t size);

/* A key of Trustee's that is none of ours. */
struct kbs_config_foreign {
    const char *path;   /* "[]" for every row of a list */
    const char *values; /* only with one of these, separated by "|", any case; NULL: any value */
    bool error;         /* it would mean something else here; else it is ignored, with a warning */
    const char *text;   /* why, or what to write instead */
};

/* NULL if nothing is known of it. */
const struct kbs_config_foreign *kbs_config_foreign_find(const char *path,
                                                         const struct kbs_doc_node *value);
/* Whether there is anything below this path. */
bool kbs_config_foreign_below(const char *path);

/* Where a value stood, and whether it can be used. */
struct kbs_config_seen {
    bool given;
    bool bad;                          /* and has been reported */
    struct kbs_doc_place at;           /* of the value */
    const struct kbs_doc_place *items; /* lists: of the elements */
};

/* What is being built, and where each key stood. */
/* A key set that kbs-fetch keeps fresh, by the name of its [[fetch.document]]. */
#define KBS_CONFIG_DOCUMENT "document:"

struct kbs_config_loader {
    struct kbs_config *config;
    struct kbs_config_report *report;
    bool for_tools;     /* certificates of servers need not be there yet */
    char file[72];      /* for messages; a long name is shortened from the left */
    const char *folder; /* "" or ending in a slash */
    struct kbs_config_seen *seen[KBS_CONFIG_KEY_COUNT]; /* an element per row of its table */
    struct kbs_config_seen seen_once[KBS_CONFIG_KEY_COUNT];
    struct kbs_error *err; /* only for what is not the file's fault */
};

/* Into the report. The first returns -1. */
int kbs_config_fail(struct kbs_config_loader *l, struct kbs_doc_place at, const char *fmt, ...)
    KBS_PRINTF(3, 4);
void kbs_config_warn(struct kbs_config_loader *l, struct kbs_doc_place at, const char *fmt, ...)
    KBS_PRINTF(3, 4);
/* What the production profile refuses and the demo warns of: 0 there. */
int kbs_config_insecure(struct kbs_config_loader *l, struct kbs_doc_place at, const char *what);
int kbs_config_no_memory(struct kbs_config_loader *l);

/* Where the key stood; whether it was there and is good for looking at again. */
struct kbs_doc_place kbs_config_at(const struct kbs_config_loader *l, enum kbs_config_key_id id);
bool kbs_config_usable(const struct kbs_config_loader *l, enum kbs_config_key_id id);

/* The rules that look at several keys, at the file system, and at the profile (check.c; check_admin.c
 * has those of [admin] and [[plugins]], check_attest.c of [attest.snp], check_fetch.c of
 * [fetch], check_delegate.c of [attestation_service], check_issuer.c of [[issuer]]). Each says
 * for itself what is wrong. */
/* Where the keys of a server are. */
struct kbs_config_server_keys {
    enum kbs_config_key_id sockets;
    enum kbs_config_key_id private_key;
    enum kbs_config_key_id certificate;
    enum kbs_config_key_id plain_sockets; /* KBS_CONFIG_KEY_COUNT: it has none */
    enum kbs_config_key_id client_ca;     /* likewise */
    enum kbs_config_key_id tls_profile;   /* and the other four behind it */
};

void kbs_config_check_all(struct kbs_config_loader *l);
void kbs_config_tls_defaults(struct kbs_config_server *s);
/* Of a server with TLS: files and key, and which TLS it speaks. */
void kbs_config_check_tls(struct kbs_config_loader *l, struct kbs_config_server *s,
                          const struct kbs_config_server_keys *ids);
void kbs_config_check_admin(struct kbs_config_loader *l);
void kbs_config_check_plugins(struct kbs_config_loader *l);
void kbs_config_check_attest(struct kbs_config_loader *l);
void kbs_config_check_fetch(struct kbs_config_loader *l);
void kbs_config_check_delegate(struct kbs_config_loader *l);

/* A folder that a role may write into: that nothing else of the service lies in it. */
void kbs_config_check_apart(struct kbs_config_loader *l, enum kbs_config_key_id id,
                            const char *folder);

/* Of the rows of [fetch], given or not. */
void kbs_config_fetch_defaults(struct kbs_config *c);
void kbs_config_check_issuers(struct kbs_config_loader *l);

/* A regular file that not everybody may change; `mode` gets its permission bits. `name` is for
 * messages. -1 if that has been reported. */
int kbs_config_check_file(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                          const char *path, unsigned int *ret_mode);
/* The whole of such a file of public things, at most out->max bytes. */
int kbs_config_read_file(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                         const char *path, struct kbs_buf *out);
/* The same for PEM that has a block with this label, and no private key, which is a mistake that must
 * not travel any further. */
int kbs_config_read_pem(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                        const char *path, const char *label, struct kbs_buf *out);

/* "host:port" or "unix:path" into a bindable address; NULL, or what is wrong with it. */
const char *kbs_config_socket_parse(const char *text, struct kbs_config_socket *ret);
bool kbs_config_socket_is_local(const struct kbs_config_socket *s);

const char *kbs_config_check_mode(const char *value);
const char *kbs_config_check_socket(const char *value);
const char *kbs_config_check_plain_socket(const char *value);
const char *kbs_config_check_authorization(const char *value);
const char *kbs_config_check_endpoints(const char *value);
const char *kbs_config_check_approvals_for(const char *value);
const char *kbs_config_check_uri(const char *value);
const char *kbs_config_check_env(const char *value);
const char *kbs_config_check_tls_key(const char *value);
const char *kbs_config_check_tls_profile(const char *value); /* check_tls.c */
const char *kbs_config_check_tls_version(const char *value);
const char *kbs_config_check_tls_list(const char *value);
const char *kbs_config_check_issuer(const char *value);
const char *kbs_config_check_seccomp(const char *value);
const char *kbs_config_check_user(const char *value);
const char *kbs_config_check_plugin(const char *value);
const char *kbs_config_check_catalog_path(const char *value);
const char *kbs_config_check_snp_product(const char *value);
const char *kbs_config_check_snp_chip(const char *value);
const char *kbs_config_check_snp_firmware(const char *value);
const char *kbs_config_check_snp_root(const char *value);
const char *kbs_config_check_snp_signer(const char *value);
const char *kbs_config_check_snp_platform(const char *value);
const char *kbs_config_check_snp_guest(const char *value);
const char *kbs_config_check_fetch_name(const char *value);
const char *kbs_config_check_delegate_type(const char *value);
const char *kbs_config_check_url(const char *value);
const char *kbs_config_check_host(const char *value);
const char *kbs_config_check_profile(const char *value); /* check_issuer.c */
const char *kbs_config_check_algorithm(const char *value);
const char *kbs_config_check_key_path(const char *value);
const char *kbs_config_check_binding(const char *value);
const char *kbs_config_check_tee(const char *value);
const char *kbs_config_check_submod(const char *value);

#endif
