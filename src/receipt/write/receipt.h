/*
 * Receipts of releases (docs/protocol/receipts.md): what one says, and its two forms as bytes. Pure
 * functions; no key is touched. The reading half is receipt/read.
 */
#ifndef KBS_RECEIPT_WRITE_RECEIPT_H
#define KBS_RECEIPT_WRITE_RECEIPT_H

#include "base/buf.h"
#include "base/limits.h"
#include "wire/receipt.h"

#define KBS_RECEIPT_VERSION 1
#define KBS_RECEIPT_JWS_TYPE "kbs-receipt+jws"
#define KBS_RECEIPT_COSE_TYPE "application/kbs-receipt+cbor"
#define KBS_RECEIPT_SERIAL_BYTES 16 /* a CK_TOKEN_INFO's, without its padding */
#define KBS_RECEIPT_PAYLOAD_MAX_BYTES 2048

/* What was done: the name is that of the deed in the ledger. */
enum kbs_receipt_op {
    KBS_RECEIPT_OP_NONE = 0,
    KBS_RECEIPT_RELEASE = 1,     /* a key of the catalog, wrapped to the TEE key */
    KBS_RECEIPT_OPEN_SECRET = 2, /* a sealed secret, encrypted to it */
    KBS_RECEIPT_REWRAP = 3,      /* the key in a guest's NEK blob */
    KBS_RECEIPT_PROVISION = 4,   /* a NEK that was made then */
    KBS_RECEIPT_OP_COUNT
};
const char *kbs_receipt_op_name(
    enum kbs_receipt_op op); /* "release", "open-secret", ...; "unknown" */
enum kbs_receipt_op kbs_receipt_op_from_name(struct kbs_span name); /* _NONE if there is none */

/* The form of a receipt goes by the format of its answer. */
enum kbs_receipt_form {
    KBS_RECEIPT_JWS = 1, /* a compact JWS: of JOSE and JWE answers */
    KBS_RECEIPT_COSE = 2 /* base64url of a COSE_Sign1 */
};
enum kbs_receipt_form kbs_receipt_form_of(enum kbs_format format);

/* All but `word` is kbs-token's own. */
struct kbs_receipt {
    uint64_t time_s; /* Unix time */
    enum kbs_receipt_op op;
    char kid[KBS_LIMIT_KID_BYTES + 1]; /* repo/type/tag/vN */
    uint8_t key_id[KBS_KEY_ID_BYTES];
    uint32_t key_version;
    uint8_t card[KBS_SHA256_BYTES];   /* SHA-256 of the key's card */
    uint8_t policy[KBS_SHA256_BYTES]; /* of the text of its policy, as the card has it */
    enum kbs_locality locality;
    enum kbs_format format;
    enum kbs_token_class token_class;
    char serial[KBS_RECEIPT_SERIAL_BYTES + 1]; /* of the token */
    uint8_t tee_key[KBS_SHA256_BYTES];         /* RFC 7638 thumbprint; zeros: wrapped to none */
    uint8_t answer[KBS_SHA256_BYTES];          /* of the answer's body */
    struct kbs_receipt_word word;              /* the judge's word */
};

/* The payloads, in one order and no other. */
void kbs_receipt_json_put(struct kbs_buf *out, const struct kbs_receipt *r);
void kbs_receipt_cbor_put(struct kbs_buf *out, const struct kbs_receipt *r);

/*
 * The bytes that are signed by ES256, then the finished text with r || s (64 bytes) in it. kid: the
 * signing key's RFC 7638 thumbprint.
 */
void kbs_receipt_input_put(struct kbs_buf *out, enum kbs_receipt_form form, const char *kid,
                           const struct kbs_receipt *r);
void kbs_receipt_text_put(struct kbs_buf *out, enum kbs_receipt_form form, const char *kid,
                          const struct kbs_receipt *r, struct kbs_span signature);

/* COSE's protected header of a receipt by the key of that thumbprint: there is only one. */
void kbs_receipt_protected_put(struct kbs_buf *out, const char *kid);

#endif
