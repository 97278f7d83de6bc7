/*
 * An HTTP client with bounds: one request and its answer, no redirects, no proxies, no cookies of
 * its own, only http and https (TLS 1.3), sizes and times limited. By libcurl, which no other file
 * of cli/ knows.
 */
#ifndef KBS_CLI_HTTP_H
#define KBS_CLI_HTTP_H

#include "base/buf.h"
#include "base/limits.h"

struct kbs_http_client;

struct kbs_http_server {
    const char *url;         /* http://host[:port] or https://host[:port]; borrowed */
    const char *ca_file;     /* PEM certificates to trust instead of the system's; NULL for those */
    const char *unix_socket; /* connect there instead; NULL for none */
    const char *client_cert; /* PEM chain of a client's certificate, and its key; NULL for none */
    const char *client_key;
    const char *tls_pin; /* "sha256//<base64>" of the server's public key; NULL for none */
    bool https_only;
};

/*
 * KBS_INPUT if the URL is of another form, or there is a pin and it is not https. A pin without a CA file is
 * all that the server is known by; with one, both must hold. Copies what it needs. Returns owned.
 */
KBS_MUST_CHECK int kbs_http_client_new(const struct kbs_http_server *server,
                                       struct kbs_http_client **ret, struct kbs_error *err);
struct kbs_http_client *kbs_http_client_free(
    struct kbs_http_client *c); /* NULL is fine; returns NULL */

struct kbs_http_request {
    const char *method;
    const char *target; /* path and query, sent as it is */
    struct kbs_span body;
    const char *content_type; /* NULL without a body */
    const char *accept;       /* NULL for none */
    const char *cookie;       /* value of kbs-session-id; NULL for none */
    const char *signature;    /* Kbs-Signature; NULL for none */
    const char *proof;        /* Kbs-Proof; NULL for none */
};

#define KBS_HTTP_COOKIE_BYTES 128

struct kbs_http_response {
    unsigned int status;
    char content_type[128];
    char cookie[KBS_HTTP_COOKIE_BYTES + 1]; /* new value of kbs-session-id; empty if none was set */
    uint32_t retry_after_s;                 /* 0 if absent or not a number */
    char receipt[KBS_LIMIT_RECEIPT_BYTES + 1]; /* Kbs-Receipt; empty if there is none */
    struct kbs_buf body;
};
void kbs_http_response_deinit(struct kbs_http_response *r);

/*
 * Any HTTP status is success here. -1 with KBS_DEADLINE when there was no complete answer (native:
 * CURLcode), KBS_UNAUTHENTICATED when the server's certificate is not trusted, KBS_TOO_LARGE.
 * Initialises *ret.
 */
KBS_MUST_CHECK int kbs_http_send(struct kbs_http_client *c, const struct kbs_http_request *request,
                                 struct kbs_http_response *ret, struct kbs_error *err);

/* For a status other than 200: -1 with the category and the `detail` of Trustee's error body. 0 for
 * 200. */
KBS_MUST_CHECK int kbs_http_expect_ok(const struct kbs_http_response *r, const char *what,
                                      struct kbs_error *err);

#endif
