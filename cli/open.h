/*
 * Opening a released key: the client's half of docs/protocol/key-release.md. What the answer must
 * say is rebuilt from what was asked and from the client's own handshake; nothing of it is taken
 * from the answer.
 */
#ifndef KBS_CLI_OPEN_H
#define KBS_CLI_OPEN_H

#include "base/digest.h"
#include "base/terms.h"
#include "cli/guest_key.h"

#define KBS_REQUEST_NONCE_BYTES 32

/* What was asked, and under which handshake. */
struct kbs_guest_ask {
    const char *path; /* repo/type/tag; borrowed */
    uint32_t version; /* 0: the latest */
    enum kbs_format format;
    bool empty_context;                     /* ?context=none */
    uint8_t nonce[KBS_REQUEST_NONCE_BYTES]; /* zeros when none was sent */
    uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES];
    size_t salt_len;          /* 0: none was sent */
    struct kbs_digest digest; /* report-data digest of the handshake */
    struct kbs_span nek;      /* rewrap: the wrapped key that was sent; borrowed */
    struct kbs_span blob;     /* provision: the NEK's text in the answer; borrowed */
};

struct kbs_guest_opened {
    char kid[KBS_LIMIT_KID_BYTES + 1];
    uint32_t version;
    struct kbs_secret *key;          /* owned: kbs_guest_opened_deinit() */
    uint8_t kcv[KBS_KCV_BYTES];      /* by HMAC-SHA-256 */
    bool has_cmac;                   /* keys that a token may have no HMAC for */
    uint8_t kcv_cmac[KBS_KCV_BYTES]; /* by AES-CMAC */
};
void kbs_guest_opened_deinit(struct kbs_guest_opened *o);

/*
 * Checks an answer of ask->format against the question and unwraps it with the TEE key. KBS_INPUT
 * when it does not parse, KBS_UNPROCESSABLE when it is not the answer to this question or does not
 * unwrap; then *ret is empty and no key exists.
 */
KBS_MUST_CHECK int kbs_guest_open(const struct kbs_guest_ask *ask,
                                  const struct kbs_guest_key *tee_key, struct kbs_span answer,
                                  struct kbs_guest_opened *ret, struct kbs_error *err);

/*
 * Opens a flattened JWE to the TEE key (docs/protocol/sealed-secrets.md): a resource. It is bound
 * to the key and to nothing else. KBS_INPUT when it does not parse, KBS_UNPROCESSABLE when it does
 * not open. Returns owned.
 */
KBS_MUST_CHECK int kbs_guest_open_jwe(const struct kbs_guest_key *tee_key, struct kbs_span answer,
                                      struct kbs_secret **ret, struct kbs_error *err);

#endif
