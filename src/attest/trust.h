/*
 * Trustworthiness vectors (draft-ietf-rats-ar4si, as EAR carries them): eight claims of one byte,
 * each in a tier, and the status that follows from them.
 */
#ifndef KBS_ATTEST_TRUST_H
#define KBS_ATTEST_TRUST_H

#include <jansson.h>

#include "base/error.h"

enum kbs_trust_claim {
    KBS_TRUST_CONFIGURATION = 0,
    KBS_TRUST_EXECUTABLES,
    KBS_TRUST_FILE_SYSTEM,
    KBS_TRUST_HARDWARE,
    KBS_TRUST_INSTANCE_IDENTITY,
    KBS_TRUST_RUNTIME_OPAQUE,
    KBS_TRUST_SOURCED_DATA,
    KBS_TRUST_STORAGE_OPAQUE,
    KBS_TRUST_COUNT
};

struct kbs_trust_vector {
    int claim[KBS_TRUST_COUNT]; /* -128..127; 0: no claim is made */
};

/* "configuration", "executables", ... as EAR spells them. Static. */
const char *kbs_trust_claim_name(enum kbs_trust_claim claim);

/*
 * The tier of one value: "affirming", "warning", "contraindicated", or "none" for 0. What says that
 * the verifier failed (1, -1) is a warning: nothing was established. Static.
 */
const char *kbs_trust_tier(int value);

/* The worst tier of the claims that are made; "none" if none is. Static. */
const char *kbs_trust_status(const struct kbs_trust_vector *v);

/* An object of the claims that are made. Returns owned, NULL if out of memory. */
json_t *kbs_trust_json(const struct kbs_trust_vector *v);

/*
 * Reads what a policy says: names as above, or with '_' for '-', and integers. KBS_INPUT for
 * another name, a name twice, a value that is no such integer, and if no claim is made.
 */
KBS_MUST_CHECK int kbs_trust_read(const json_t *claims, struct kbs_trust_vector *ret,
                                  struct kbs_error *err);

#endif
