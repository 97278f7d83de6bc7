/*
 * Report data in evidence of every kind that the KBS protocol names: the field in which a TEE carries
 * the digest of the runtime data. Whoever verifies the evidence, the field is found and compared
 * here, so that no verifier can be talked into a session that the evidence is not of. Nothing else
 * of the evidence is looked at: that somebody holds a TEE is not what this shows.
 *
 * Where the field stands in each kind: docs/protocol/report-data.md.
 */
#ifndef KBS_ATTEST_REPORT_DATA_H
#define KBS_ATTEST_REPORT_DATA_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/terms.h"
#include "jose/read/json.h"

/*
 * Appends the field's bytes to `ret`. *ret_hash_or_none is the hash that evidence of this shape is
 * always bound with, KBS_HASH_NONE if that is the handshake's to say; COCONUT-SVSM's shape gives
 * KBS_HASH_SHA512 (kbs_rcar_svsm_digest()), though its newer clients are bound as all others.
 * KBS_INPUT if the evidence has not the kind's shape, KBS_UNSUPPORTED for kinds without a finder.
 */
KBS_MUST_CHECK int kbs_report_data_find(enum kbs_tee tee, const json_t *evidence,
                                        struct kbs_buf *ret, enum kbs_hash *ret_hash_or_none,
                                        struct kbs_error *err);

/*
 * KBS_UNAUTHENTICATED unless the field is `expected`, as the kind fills its field with a digest:
 * zeros after it, cut to the field's length, or neither. Errors as above.
 */
KBS_MUST_CHECK int kbs_report_data_check(enum kbs_tee tee, const json_t *evidence,
                                         const struct kbs_digest *expected, struct kbs_error *err);

#endif
