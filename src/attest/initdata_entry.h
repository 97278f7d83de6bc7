/*
 * One text of an init-data document's [data]: for the guest, which finds its own configuration there.
 * Who only compares digests does not need it (initdata.h).
 */
#ifndef KBS_ATTEST_INITDATA_ENTRY_H
#define KBS_ATTEST_INITDATA_ENTRY_H

#include "base/error.h"
#include "base/span.h"

/*
 * The text of that name, borrowed from the document, which kbs_init_data_digest() has accepted. *ret.p
 * is NULL if there is none. KBS_INPUT for a document that is not read here, whatever is in it: its only
 * table must be [data], its members texts, and the one that is looked for without escapes.
 */
KBS_MUST_CHECK int kbs_init_data_entry(struct kbs_span toml, const char *name, struct kbs_span *ret,
                                       struct kbs_error *err);

#endif
