/*
 * Which key of which token the operator means, and how its worker is started: from a `pkcs11:` URI (RFC 7512), the
 * environment, and the provider's section of openssl.cnf, the first that says it.
 */
#ifndef KBS_PROVIDERS_SETTINGS_H
#define KBS_PROVIDERS_SETTINGS_H

#include "providers/core.h"

#define KBS_SETTINGS_URI_BYTES 2048

/* Texts are NUL-terminated and owned; NULL where nothing was said. */
struct kbs_settings {
    char *token;      /* URI with the token's attributes alone */
    char *key;        /* URI with these and the object's, but not its type */
    bool public_only; /* type=public */
    char *module;     /* path */
    char *pin_file;   /* path */
    char *init_args;  /* for C_Initialize, as NSS wants them */
    char *env;        /* NAME=value, separated by ";" */
    char *folders;    /* what the module reads and writes, separated by ":" */
    char *program;    /* path of kbs-token */
    bool seccomp_log;
};

/*
 * Fills *ret, which is to be freed by kbs_settings_deinit() in any case. KBS_INPUT for a URI that does not parse or
 * has what no key has, a PIN in it among that; KBS_MISSING without a module or a PIN file.
 */
KBS_MUST_CHECK int kbs_settings_read(const struct kbs_provider *provider, const char *uri,
                                     struct kbs_settings *ret, struct kbs_error *err);
void kbs_settings_deinit(struct kbs_settings *settings);

#endif
