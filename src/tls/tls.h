/*
 * TLS as a filter: bytes from the peer in, plaintext and bytes for the peer out. Server side, TLS
 * 1.3 only (RFC 8446), no resumption, no early data, ALPN http/1.1 only (RFC 7301). Sockets are
 * never seen here.
 */
#ifndef KBS_TLS_TLS_H
#define KBS_TLS_TLS_H

#include "base/buf.h"
#include "base/error.h"

struct kbs_tls_context; /* certificate and key, shared by all sessions */
struct kbs_tls;         /* one connection */

/* kbs_tls_receive(): the peer has sent close_notify; no plaintext will follow. */
#define KBS_TLS_CLOSED 1

/* The largest growth of a plaintext buffer by one kbs_tls_receive() of n bytes. */
#define KBS_TLS_PLAIN_MAX_BYTES(n) ((n) + 16384u + 512u)
/*
 * The largest growth of an output buffer by one kbs_tls_send() of n bytes (records of 16 KiB, 22
 * bytes each).
 */
#define KBS_TLS_CIPHER_MAX_BYTES(n) ((n) + ((n) / 16384u + 1u) * 64u)

/*
 * certificate: PEM chain, leaf first; key_fd: PEM private key, unencrypted, read to its end (not
 * closed) into memory that is wiped. Returns owned. KBS_INPUT when they do not parse or do not
 * belong together.
 */
KBS_MUST_CHECK int kbs_tls_context_new(struct kbs_span certificate, int key_fd,
                                       struct kbs_tls_context **ret, struct kbs_error *err);
/* NULL is fine; returns NULL. */
struct kbs_tls_context *kbs_tls_context_free(struct kbs_tls_context *c);

/* The context must outlive the session. Returns owned. */
KBS_MUST_CHECK int kbs_tls_new(struct kbs_tls_context *c, struct kbs_tls **ret,
                               struct kbs_error *err);
struct kbs_tls *kbs_tls_free(struct kbs_tls *t); /* NULL is fine; returns NULL */

/*
 * Takes all of `cipher`; appends decrypted bytes to `plain` and what must be sent (handshake,
 * alerts) to `out`. 0, KBS_TLS_CLOSED, or -1 (KBS_INPUT: the peer breaks the protocol; `out` may
 * hold an alert worth sending; KBS_TOO_LARGE: a buffer is full). After -1 only kbs_tls_free() may
 * follow.
 */
KBS_MUST_CHECK int kbs_tls_receive(struct kbs_tls *t, struct kbs_span cipher, struct kbs_buf *plain,
                                   struct kbs_buf *out, struct kbs_error *err);

/* Encrypts all of `plain` into `out`. Only once established. */
KBS_MUST_CHECK int kbs_tls_send(struct kbs_tls *t, struct kbs_span plain, struct kbs_buf *out,
                                struct kbs_error *err);

/* Appends close_notify. Does nothing before the handshake is complete or after a failure. */
void kbs_tls_close(struct kbs_tls *t, struct kbs_buf *out);

bool kbs_tls_established(const struct kbs_tls *t); /* the handshake is complete */

#endif
