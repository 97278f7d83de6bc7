/*
 * Init-data: what a guest was configured with, measured by its TEE. The digest is over the bytes of
 * the TOML document exactly as they were delivered, by the hash its own member `algorithm` names;
 * the TEE's field holds it cut or zero-padded (CoCo's init-data 0.1.0).
 */
#ifndef KBS_ATTEST_INITDATA_H
#define KBS_ATTEST_INITDATA_H

#include "base/digest.h"
#include "base/error.h"
#include "base/span.h"

/* How the field in the evidence relates to the document that was sent. */
enum kbs_init_data {
    KBS_INIT_DATA_ABSENT = 0,  /* none was sent, and the field is empty */
    KBS_INIT_DATA_MATCHED,     /* the field holds the digest of what was sent */
    KBS_INIT_DATA_UNEXPLAINED, /* the field is not empty, and nothing was sent to explain it */
    KBS_INIT_DATA_MISMATCHED   /* something was sent, and the field holds something else */
};
const char *kbs_init_data_name(enum kbs_init_data state); /* "absent", "matched", ... */

/*
 * Digest of a document: `version` must be "0.1.0" and `algorithm` one of sha256, sha384, sha512
 * (also spelled sha-256 and so on), both at the top, before any table. KBS_INPUT otherwise, and for
 * what is not UTF-8 or holds anything before its tables but comments and simple key = "text" lines.
 * The document's [data] is not read here: the digest does not depend on it.
 */
KBS_MUST_CHECK int kbs_init_data_digest(struct kbs_span toml, enum kbs_hash *ret_hash,
                                        struct kbs_digest *ret, struct kbs_error *err);

/* A digest as a field of `len` bytes (at most 64) holds it: its first bytes, or zeros after it. */
void kbs_init_data_fit(struct kbs_span digest, uint8_t *field, size_t len);

/* Compares a field of at most 64 bytes with the digest of what was sent (empty: nothing was). */
enum kbs_init_data kbs_init_data_compare(struct kbs_span digest, struct kbs_span field);

#endif
