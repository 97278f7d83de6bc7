/*
 * TLS as a filter: bytes from the peer in, plaintext and bytes for the peer out. Server side, TLS
 * 1.3 (RFC 8446), or 1.2 where that is asked for; no resumption, no early data, ALPN http/1.1 only
 * (RFC 7301). Sockets are never seen here.
 *
 * With a key in a token a handshake waits for that token, so kbs_tls_receive() leaves it alone:
 * kbs_tls_handshake() does it, in a thread, and until it returns nothing else may touch the session.
 */
#ifndef KBS_TLS_TLS_H
#define KBS_TLS_TLS_H

#include "base/buf.h"
#include "base/error.h"
#include "providers/link.h"

struct kbs_tls_context; /* certificate and key, shared by all sessions */
struct kbs_tls;         /* one connection */

/* kbs_tls_receive(): the peer has sent close_notify; no plaintext will follow. */
#define KBS_TLS_CLOSED 1
/* kbs_tls_receive(): the handshake goes on in kbs_tls_handshake(). */
#define KBS_TLS_HANDSHAKE 2

#define KBS_TLS_EXPORTER_BYTES 32

/* The largest growth of a plaintext buffer by one kbs_tls_receive() of n bytes. */
#define KBS_TLS_PLAIN_MAX_BYTES(n) ((n) + 16384u + 512u)
/*
 * The largest growth of an output buffer by one kbs_tls_send() of n bytes (records of 16 KiB, 22
 * bytes each).
 */
#define KBS_TLS_CIPHER_MAX_BYTES(n) ((n) + ((n) / 16384u + 1u) * 64u)

/* All borrowed. */
struct kbs_tls_settings {
    struct kbs_span certificate; /* PEM chain, leaf first */
    int key_fd; /* PEM private key, unencrypted, read to its end (not closed) into memory that is wiped; -1 */
    struct kbs_link
        *signers; /* in its place: a token has the key. TLS 1.3 only, whatever is below */
    struct kbs_span client_ca; /* PEM; empty: no client certificate is asked for */
    unsigned int minimum;      /* TLS 1.`minimum` to 1.`maximum`: 2 or 3 */
    unsigned int maximum;
    struct kbs_span
        ciphers; /* and suites of TLS 1.3, and groups: as OpenSSL spells lists; empty: the default's */
    struct kbs_span groups;
};

/* Returns owned. KBS_INPUT when something does not parse, or key and certificate do not belong together. */
KBS_MUST_CHECK int kbs_tls_context_new(const struct kbs_tls_settings *settings,
                                       struct kbs_tls_context **ret, struct kbs_error *err);
/* NULL is fine; returns NULL. Sessions live on. */
struct kbs_tls_context *kbs_tls_context_free(struct kbs_tls_context *c);

/* Returns owned. */
KBS_MUST_CHECK int kbs_tls_new(struct kbs_tls_context *c, struct kbs_tls **ret,
                               struct kbs_error *err);
struct kbs_tls *kbs_tls_free(struct kbs_tls *t); /* NULL is fine; returns NULL */

/*
 * Takes all of `cipher` (which may be empty); appends decrypted bytes to `plain` and what must be
 * sent (handshake, alerts) to `out`. 0, KBS_TLS_CLOSED, KBS_TLS_HANDSHAKE, or -1 (KBS_INPUT: the peer
 * breaks the protocol; KBS_TOKEN_DOWN: the token did not sign; `out` may hold an alert worth sending;
 * KBS_TOO_LARGE: a buffer is full). After -1 only kbs_tls_free() may follow.
 */
KBS_MUST_CHECK int kbs_tls_receive(struct kbs_tls *t, struct kbs_span cipher, struct kbs_buf *plain,
                                   struct kbs_buf *out, struct kbs_error *err);

/*
 * Goes on with a handshake as far as the bytes reach that were received; may wait for a token. Its
 * outcome is told by the next kbs_tls_receive(), which is to follow at once.
 */
void kbs_tls_handshake(struct kbs_tls *t);

/* Encrypts all of `plain` into `out`. Only once established. */
KBS_MUST_CHECK int kbs_tls_send(struct kbs_tls *t, struct kbs_span plain, struct kbs_buf *out,
                                struct kbs_error *err);

/* Appends close_notify. Does nothing before the handshake is complete or after a failure. */
void kbs_tls_close(struct kbs_tls *t, struct kbs_buf *out);

bool kbs_tls_established(const struct kbs_tls *t); /* the handshake is complete */

/*
 * The channel binding tls-exporter (RFC 9266): the same on both ends of one connection, and of no other.
 * Only once established; false if there is none (TLS 1.2 without extended master secret).
 */
bool kbs_tls_exporter(struct kbs_tls *t, uint8_t ret[KBS_TLS_EXPORTER_BYTES]);

#endif
