/* Making keys in the token: generation and import (list `admin`). */
#ifndef KBS_HSM_KEYS_H
#define KBS_HSM_KEYS_H

#include "hsm/answer.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/* CKA_ID of the service's own key of a purpose (import, sign-token): version 1 of its fixed id. */
void kbs_keys_service_id(enum kbs_purpose purpose, uint8_t ret[KBS_CKA_ID_BYTES]);

/*
 * GENERATE. purpose release: an AES key of 16, 24 or 32 bytes, extractable by wrap, good for
 * nothing else; answer: its check value. purpose import, sign-*: an EC P-256 pair, private key
 * never extractable; answer: the uncompressed point. KBS_CONFLICT if the key exists, KBS_INPUT for
 * malformed fields.
 */
KBS_MUST_CHECK int kbs_keys_generate(struct kbs_token *t, const struct kbs_wire_generate *m,
                                     struct kbs_answer *ret, struct kbs_error *err);

/*
 * IMPORT. Opens an ECDH-ES+A256KW blob addressed to the import key, in the token, straight to a
 * token key like those of GENERATE; answer: its check value. KBS_UNPROCESSABLE if the blob does not
 * open or epk is off its curve, KBS_MISSING without an import key, KBS_CONFLICT if the key exists,
 * KBS_INPUT for malformed fields.
 */
KBS_MUST_CHECK int kbs_keys_import(struct kbs_token *t, const struct kbs_ladder *ladder,
                                   const struct kbs_wire_import *m, struct kbs_answer *ret,
                                   struct kbs_error *err);

#endif
