/*
 * Identity: the fields of a guest's claims that something can be bound to (wire/nek.h) or chosen by
 * (aliases), as bytes. Which claim of which TEE a field is, is said here and nowhere else.
 */
#ifndef KBS_ATTEST_IDENTITY_H
#define KBS_ATTEST_IDENTITY_H

#include <jansson.h>

#include "base/error.h"
#include "base/terms.h"
#include "wire/nek.h"

/* Of one field; the id block has three parts of 48, 16 and 16 bytes. */
#define KBS_IDENTITY_VALUE_BYTES 128

/*
 * All fields: those of a binding under their own numbers (enum kbs_nek_field), which blobs carry, and the
 * parts of the id block, which no blob is bound to one by one. These numbers stand nowhere: names do.
 */
enum kbs_identity_field {
    KBS_IDENTITY_ID_KEY = KBS_NEK_FIELD_COUNT, /* digest of the key that signed the id block */
    KBS_IDENTITY_FAMILY_ID,
    KBS_IDENTITY_IMAGE_ID,
    KBS_IDENTITY_FIELD_COUNT
};
const char *kbs_identity_field_name(unsigned int field);         /* "measurement", ...; "?" */
unsigned int kbs_identity_field_from_name(struct kbs_span name); /* _COUNT if unknown */

/*
 * Appends the value of a field in the EAR claims of a guest of that TEE. init-data is there only if the TEE
 * holds the digest of what was sent. KBS_DENIED if this guest's evidence has no such field.
 */
KBS_MUST_CHECK int kbs_identity_value(const json_t *input, enum kbs_tee tee, unsigned int field,
                                      struct kbs_buf *ret, struct kbs_error *err);

/* The binding of that guest by those fields (a bit each). KBS_DENIED as above. */
KBS_MUST_CHECK int kbs_identity_bind(const json_t *input, enum kbs_tee tee, uint8_t fields,
                                     struct kbs_nek_binding *ret, struct kbs_error *err);

#endif
