/* Receipts on the command line: the keys that they may be by, and showing one. */
#ifndef KBS_CLI_RECEIPT_H
#define KBS_CLI_RECEIPT_H

#include <jansson.h>

#include "base/limits.h"
#include "receipt/read/receipt.h"

struct kbs_cli_receipt_keys {
    struct kbs_ec_public keys[KBS_LIMIT_JWKS_KEYS];
    size_t count;
};
/* One of P-256 in a PEM file, or all such keys of a JWK set's file. KBS_INPUT for anything else. */
KBS_MUST_CHECK int kbs_cli_receipt_key(const char *pem_file, struct kbs_cli_receipt_keys *ret,
                                       struct kbs_error *err);
KBS_MUST_CHECK int kbs_cli_receipt_jwks(const char *file, struct kbs_cli_receipt_keys *ret,
                                        struct kbs_error *err);

/* A receipt's file ("-": standard input): its text, with a line feed at the end or not. */
KBS_MUST_CHECK int kbs_cli_receipt_read(const char *file, struct kbs_buf *ret,
                                        struct kbs_error *err);

/*
 * Everything that a receipt says, digests in hex as the ledger has them. text: the receipt itself. Returns
 * owned, NULL if out of memory.
 */
json_t *kbs_cli_receipt_json(const struct kbs_receipt_in *in, struct kbs_span text);
/* The same for people. KBS_INTERNAL if out of memory. */
KBS_MUST_CHECK int kbs_cli_receipt_print(const struct kbs_receipt_in *in, struct kbs_span text,
                                         struct kbs_error *err);

#endif
