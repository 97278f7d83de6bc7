/*
 * kbs-admin tls: the certificate of a listener, and the key that it is of. On the server's host,
 * without the server.
 */
#ifndef KBS_CLI_TLS_H
#define KBS_CLI_TLS_H

#include <jansson.h>
#include <openssl/x509.h>

#include "cli/token_start.h"
#include "providers/link.h"

/* ---- tls_host.c: what the configuration says ---- */

/* How a token is reached. All borrowed. */
struct kbs_tls_token {
    struct kbs_wire_config_token config; /* but for duty, key and certificate */
    const char *pin_file;
    bool pin_credential;
    const char *lock_file; /* NULL: nobody else is there */
};

struct kbs_tls_host {
    const char *listener;    /* "guest" or "admin" */
    const char *certificate; /* path */
    const char *key_file;    /* NULL: the token has the key */
    const char *key_uri;     /* NULL: the file has it */
    bool shared;             /* the other listener has this certificate too, */
    bool key_shared;         /* and this key */
    struct kbs_tls_token token;
    struct kbs_buf env; /* private, like the rest: what is above borrows */
    struct kbs_buf folders;
    json_t *config;
};
#define KBS_TLS_HOST ((struct kbs_tls_host){.env = KBS_BUF(65536), .folders = KBS_BUF(65536)})

/*
 * Asks `kbsd --print-config` about that file. KBS_INPUT if it is not in order (kbsd has said why),
 * or if the listener has no TLS.
 */
KBS_MUST_CHECK int kbs_tls_host_read(const char *file, const char *listener,
                                     struct kbs_tls_host *ret, struct kbs_error *err);
void kbs_tls_host_deinit(struct kbs_tls_host *h);

/* ---- tls_key.c: the key ---- */

struct kbs_tls_key {
    EVP_PKEY *key;        /* signs; in a token: over the link */
    EVP_PKEY *public_key; /* of OpenSSL's own */
    struct kbs_link *link;
    struct kbs_cli_worker worker;
};
#define KBS_TLS_KEY ((struct kbs_tls_key){.worker = KBS_CLI_WORKER_NULL})

/* The token works, but it has no key that fits: *err says why. */
#define KBS_TLS_KEY_UNFIT 1

/*
 * The key at `uri` in a token, by a kbs-token of our own. certificate: PEM, of which the key must
 * be; empty: the one that the URI names, of several versions of the service's own ("pkcs11:") the
 * newest. 0, KBS_TLS_KEY_UNFIT, or -1 (KBS_TOKEN_DOWN).
 */
KBS_MUST_CHECK int kbs_tls_key_token(const struct kbs_tls_token *t, const char *uri,
                                     struct kbs_span certificate, struct kbs_tls_key *ret,
                                     struct kbs_error *err);
/* The listener's key, in the token as above, or in its file, where `certificate` says nothing. */
KBS_MUST_CHECK int kbs_tls_key_open(const struct kbs_tls_host *h, struct kbs_span certificate,
                                    struct kbs_tls_key *ret, struct kbs_error *err);
void kbs_tls_key_close(struct kbs_tls_key *k); /* also of a KBS_TLS_KEY */

/* ---- tls_make.c: what it signs ---- */

struct kbs_tls_names {
    const char *subject; /* a distinguished name (RFC 4514); NULL: CN=, and the first of san */
    const char *san;     /* "DNS:name" and "IP:address", with commas between them */
};

/* KBS_INPUT, naming the option, if they are not in order. The other two want them in order. */
KBS_MUST_CHECK int kbs_tls_names_check(const struct kbs_tls_names *names, struct kbs_error *err);
/* A request (PKCS#10, RFC 2986) for a TLS server's certificate. Appended as PEM. */
KBS_MUST_CHECK int kbs_tls_request(const struct kbs_tls_key *k, const struct kbs_tls_names *names,
                                   struct kbs_buf *out, struct kbs_error *err);
/* A certificate (RFC 5280) that it gives itself, which is no CA. Appended as PEM. */
KBS_MUST_CHECK int kbs_tls_selfsigned(const struct kbs_tls_key *k,
                                      const struct kbs_tls_names *names, uint32_t days,
                                      struct kbs_buf *out, struct kbs_error *err);

/* ---- tls_chain.c: what comes back ---- */

#define KBS_TLS_CHAIN_CERTIFICATES 16
#define KBS_TLS_CHAIN_BYTES 65536 /* as many as kbsd takes */

struct kbs_tls_chain {
    X509 *v[KBS_TLS_CHAIN_CERTIFICATES]; /* leaf first */
    size_t n;
};

/* Appends a file's certificates. KBS_INPUT if it has none, too many, or anything else in PEM. */
KBS_MUST_CHECK int kbs_tls_chain_read(const char *file, struct kbs_tls_chain *c,
                                      struct kbs_error *err);
void kbs_tls_chain_deinit(struct kbs_tls_chain *c);
KBS_MUST_CHECK int kbs_tls_chain_put(const struct kbs_tls_chain *c, struct kbs_buf *out,
                                     struct kbs_error *err); /* PEM and nothing else */
/*
 * That clients will take it: all are valid now, the leaf is for servers and says for which, and
 * each is signed by the next, a CA. KBS_UNPROCESSABLE if not. Whom the last one is signed by is for
 * clients to know.
 */
KBS_MUST_CHECK int kbs_tls_chain_check(const struct kbs_tls_chain *c, struct kbs_error *err);
/* KBS_CONFLICT if the leaf is of another key. `where`: "the token". */
KBS_MUST_CHECK int kbs_tls_chain_check_key(const struct kbs_tls_chain *c, EVP_PKEY *public_key,
                                           const char *where, struct kbs_error *err);

/*
 * "sha256//" and the base64 of SHA-256 of the SubjectPublicKeyInfo (RFC 7469 section 2.4), as curl
 * pins keys.
 */
#define KBS_TLS_PIN_BYTES 53
KBS_MUST_CHECK int kbs_tls_pin(X509_PUBKEY *key, char ret[KBS_TLS_PIN_BYTES],
                               struct kbs_error *err);
/* RFC 4514, cut to what fits. */
void kbs_tls_name(const X509_NAME *name, char *out, size_t size);
/*
 * {"subject", "issuer", "names", "not_before", "not_after", "days_left", "sha256", "pin"}. Returns
 * owned; NULL: memory.
 */
json_t *kbs_tls_certificate_json(X509 *certificate);

#endif
