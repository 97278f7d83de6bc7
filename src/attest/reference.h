/*
 * Reference values as they arrive: the messages of Trustee's clients, lists of digests, CoMIDs in
 * JSON. Each becomes an object, name to value, which is how they are set and kept. Texts in, JSON
 * out: no store, no HTTP. Forms: docs/protocol/reference-values.md.
 */
#ifndef KBS_ATTEST_REFERENCE_H
#define KBS_ATTEST_REFERENCE_H

#include "jose/read/json.h"

#define KBS_REFERENCE_DIGESTS 4096 /* lines of a list of digests */

enum kbs_reference_form {
    KBS_REFERENCE_ANY = 0, /* found out: JSON by its members, else digests */
    KBS_REFERENCE_LIST,    /* a digest in hex a line */
    KBS_REFERENCE_COMID,   /* a CoMID, a CoRIM's part with the values, in Veraison's JSON */
    KBS_REFERENCE_MESSAGE, /* {"version","type","payload"} */
    KBS_REFERENCE_VALUES   /* an object, name to value: a message's payload */
};
/* By name: "digests", "comid", "message", "values". False if it is none. */
bool kbs_reference_form_from_name(const char *name, enum kbs_reference_form *ret);

struct kbs_reference_import {
    enum kbs_reference_form form;
    const char *as;  /* the one name of all digests; NULL: a list has none then, a CoMID its own */
    size_t left_out; /* out: what a CoMID says that is no reference value here (svn, flags, ...) */
};

/*
 * The payload of a message: of type "sample", the one that is read, an object of at least one
 * value. `version` may be missing, else it is "0.1.0". KBS_UNSUPPORTED for other types, KBS_INPUT.
 * Returns owned.
 */
KBS_MUST_CHECK int kbs_reference_message(const json_t *message, json_t **ret,
                                         struct kbs_error *err);

/*
 * Reads any form; *ret is an object of at least one value, its names
 * unchecked. KBS_INPUT with the line, or
 * what is missing; KBS_UNSUPPORTED for CoRIMs in CBOR and SWID tags. Returns owned.
 */
KBS_MUST_CHECK int kbs_reference_read(struct kbs_span text, struct kbs_reference_import *import,
                                      json_t **ret, struct kbs_error *err);

#endif
