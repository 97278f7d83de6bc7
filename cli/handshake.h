/*
 * The guest's RCAR handshake (docs/protocol/rcar.md): a TEE key, a session, and what later answers
 * are bound to.
 */
#ifndef KBS_CLI_HANDSHAKE_H
#define KBS_CLI_HANDSHAKE_H

#include <jansson.h>

#include "cli/http.h"
#include "cli/open.h"

#define KBS_GUEST_NONCE_BYTES 1024

struct kbs_guest_session {
    char nonce[KBS_GUEST_NONCE_BYTES + 1]; /* the challenge, as received */
    enum kbs_protocol version;
    enum kbs_hash hash;
    struct kbs_digest digest; /* report data */
    char cookie[KBS_HTTP_COOKIE_BYTES + 1];
    struct kbs_buf token; /* compact JWS; owned */
    struct kbs_guest_key
        one_request; /* what the last request's answer is wrapped to, with a proof; owned */
};
void kbs_guest_session_deinit(struct kbs_guest_session *s);

/* How to attest. Borrowed. */
struct kbs_guest_how {
    enum kbs_protocol version;
    const char *tee;           /* as the protocol names it */
    const char *command;       /* makes the evidence; NULL: sample evidence is made here */
    struct kbs_span init_data; /* TOML; empty for none */
    const struct kbs_cli_signer
        *signer;  /* the TEE key, which signs each request; NULL: it receives */
    bool encrypt; /* bodies of requests */
    const struct kbs_ec_public
        *request_key; /* to this key; NULL: to the one that the service names */
};

/*
 * auth, evidence over the report-data digest, attest. KBS_INPUT if the command makes none. Other errors: those of the transport, the
 * server's (kbs_http_expect_ok()), KBS_INPUT when an answer has another shape than the protocol's.
 */
KBS_MUST_CHECK int kbs_guest_attest(struct kbs_http_client *http, const struct kbs_tee_key *key,
                                    const struct kbs_guest_how *how, struct kbs_guest_session *ret,
                                    struct kbs_error *err);

/*
 * Evidence of an external program: runs `command` (found in PATH, no shell) with the digest in
 * lower-case hex as its one argument, nothing on its standard input, and appends what it prints, which must be
 * one JSON object, to `out`. KBS_INPUT if it is not, or if the program fails.
 */
KBS_MUST_CHECK int kbs_guest_evidence_run(const char *command, const struct kbs_digest *digest,
                                          struct kbs_buf *out, struct kbs_error *err);

/*
 * The handshake file: {"nonce","hash","digest":"<hex>","request_nonce"?,"salt"?} (hex). Writing
 * adds the request's values when `ask` is not NULL; reading sets digest, nonce and salt of *ask.
 */
KBS_MUST_CHECK int kbs_guest_handshake_write(const char *path,
                                             const struct kbs_guest_session *session,
                                             const struct kbs_guest_ask *ask,
                                             struct kbs_error *err);
KBS_MUST_CHECK int kbs_guest_handshake_read(const char *path, struct kbs_guest_ask *ask,
                                            struct kbs_error *err);

#endif
