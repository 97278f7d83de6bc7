/*
 * Marks: how rows that a guest lane writes into the store (what was provisioned, registers) are known again. Only
 * kbs-token makes and checks them (docs/protocol/store-rows.md), so neither a judge nor the store's owner can write such
 * a row of his own.
 */
#ifndef KBS_HSM_MARK_H
#define KBS_HSM_MARK_H

#include "hsm/object.h"
#include "wire/message.h"
#include "wire/nek.h"

/*
 * Of a provisioned blob: HMAC-SHA-256 by the card key over "kbs-mark-provision-v1" || SHA-256(kid) || binding || SHA-256(blob).
 * KBS_UNSUPPORTED if the token has no card key.
 */
KBS_MUST_CHECK int kbs_mark_provision(struct kbs_token *t, struct kbs_span kid,
                                      const struct kbs_nek_binding *binding, struct kbs_span blob,
                                      uint8_t ret[KBS_MARK_BYTES], struct kbs_error *err);

/* A register's value. All borrowed. */
struct kbs_mark_register {
    struct kbs_span name;
    const struct kbs_nek_binding *binding;
    uint64_t value;
    struct kbs_span digest;
};
/*
 * HMAC-SHA-256 by the card key over "kbs-mark-register-v1" || SHA-256(name) || binding || value (8 bytes, big endian) ||
 * SHA-256(digest).
 */
KBS_MUST_CHECK int kbs_mark_register(struct kbs_token *t, const struct kbs_mark_register *r,
                                     uint8_t ret[KBS_MARK_BYTES], struct kbs_error *err);

/* KBS_DENIED unless `mark` is the one that was made, in constant time; `expected` is wiped then. */
KBS_MUST_CHECK int kbs_mark_equal(struct kbs_span mark, uint8_t expected[KBS_MARK_BYTES],
                                  const char *what, struct kbs_error *err);

#endif
