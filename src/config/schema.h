/* Inside src/config: the keys there are, and what one value on its own must look like. */
#ifndef KBS_CONFIG_SCHEMA_H
#define KBS_CONFIG_SCHEMA_H

#include "config/config.h"
#include "config/toml.h"

enum kbs_config_kind {
    KBS_CONFIG_STRING,  /* const char * */
    KBS_CONFIG_PATH,    /* const char *, resolved against the file's folder */
    KBS_CONFIG_BOOLEAN, /* bool */
    KBS_CONFIG_NUMBER,  /* uint32_t */
    KBS_CONFIG_STRINGS, /* struct kbs_config_strings */
    KBS_CONFIG_PATHS    /* struct kbs_config_strings, each resolved */
};

/* Says what is wrong with one string; NULL if nothing is. Static text without the value. */
typedef const char *(*kbs_config_check)(const char *value);

struct kbs_config_key {
    const char *table;
    const char *name;
    enum kbs_config_kind kind;
    bool required;
    uint32_t min; /* NUMBER: value; lists: elements; strings: bytes */
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
    KBS_CONFIG_KEY_ADMIN_SOCKETS,
    KBS_CONFIG_KEY_ADMIN_PRIVATE_KEY,
    KBS_CONFIG_KEY_ADMIN_CERTIFICATE,
    KBS_CONFIG_KEY_ADMIN_KEYS,
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
    KBS_CONFIG_KEY_ISSUER,
    KBS_CONFIG_KEY_TOKEN_MIN,
    KBS_CONFIG_KEY_MAX_CONNECTIONS,
    KBS_CONFIG_KEY_AUTH_PER_S,
    KBS_CONFIG_KEY_USER_FRONT,
    KBS_CONFIG_KEY_USER_JUDGE,
    KBS_CONFIG_KEY_USER_TOKEN,
    KBS_CONFIG_KEY_USER_AUDIT,
    KBS_CONFIG_KEY_USER_POLICY,
    KBS_CONFIG_KEY_COUNT
};

extern const struct kbs_config_key kbs_config_keys[KBS_CONFIG_KEY_COUNT];

/* What is being built, and where each key stood. */
struct kbs_config_loader {
    struct kbs_config *config;
    char file[72];      /* for messages; a long name is shortened from the left */
    const char *folder; /* "" or ending in a slash */
    struct kbs_toml_position at[KBS_CONFIG_KEY_COUNT]; /* of the value; line 0: not given */
    const struct kbs_toml_position *items[KBS_CONFIG_KEY_COUNT]; /* of list elements */
    const char **open_list; /* elements of the list being read */
    struct kbs_toml_position *open_positions;
    size_t open_n;
    struct kbs_error *err;
};

/* -1 with KBS_INPUT and the position in front of the message. */
int kbs_config_fail(struct kbs_config_loader *l, struct kbs_toml_position at, const char *fmt, ...)
    KBS_PRINTF(3, 4);

/* The rules that look at several keys, at the file system, and at the profile. */
KBS_MUST_CHECK int kbs_config_check_all(struct kbs_config_loader *l);

/* "host:port" or "unix:path" into a bindable address; NULL, or what is wrong with it. */
const char *kbs_config_socket_parse(const char *text, struct kbs_config_socket *ret);
bool kbs_config_socket_is_local(const struct kbs_config_socket *s);

const char *kbs_config_check_mode(const char *value);
const char *kbs_config_check_socket(const char *value);
const char *kbs_config_check_plain_socket(const char *value);
const char *kbs_config_check_uri(const char *value);
const char *kbs_config_check_env(const char *value);
const char *kbs_config_check_issuer(const char *value);
const char *kbs_config_check_seccomp(const char *value);
const char *kbs_config_check_user(const char *value);

#endif
