/* The ladder of rungs: which ways of releasing a key this token can really do, and the choice among
 * them. */
#ifndef KBS_HSM_LADDER_H
#define KBS_HSM_LADDER_H

#include "hsm/recipient.h"

#define KBS_CURVE_COUNT 4

struct kbs_rung {
    const char *name;
    enum kbs_locality locality;              /* what crosses the PKCS#11 interface */
    kbs_derive_fn *derive[KBS_FORMAT_COUNT]; /* NULL: the rung does not make that format */
};

#define KBS_RUNG_COUNT 3u
/* In the order in which they are tried: token-local rungs first. */
extern const struct kbs_rung kbs_rungs[KBS_RUNG_COUNT];

/* What the probe found, per rung, format and curve. */
struct kbs_probe {
    bool passed;
    CK_RV rv;             /* why not, CKR_OK if it was not a PKCS#11 error */
    const char *function; /* static; the call that failed */
};

struct kbs_ladder {
    struct kbs_probe probes[KBS_RUNG_COUNT][KBS_FORMAT_COUNT][KBS_CURVE_COUNT];
};

/*
 * Does every rung once, per format and curve, on a throw-away session key to a software TEE key,
 * and opens the result with OpenSSL. A rung that fails is noted, which is no error; -1 when the
 * device is gone, or when a limit was met (KBS_BUSY), for that says nothing about the rung.
 */
KBS_MUST_CHECK int kbs_ladder_probe(struct kbs_ladder *ladder, struct kbs_token *t,
                                    struct kbs_error *err);

/* True if the rung makes any format on P-256. */
bool kbs_ladder_passed(const struct kbs_ladder *ladder, size_t rung);

struct kbs_ladder_choice {
    const struct kbs_rung *rung;
    enum kbs_format format;
};

/*
 * The first rung that passed, at or above `floor`, for the first of `formats` (enum kbs_format, one
 * byte each, most wanted first) that has one. KBS_UNSUPPORTED, naming what is missing, if there is
 * none; KBS_INPUT for a format that is not in the enum.
 */
KBS_MUST_CHECK int kbs_ladder_choose(const struct kbs_ladder *ladder, struct kbs_span formats,
                                     enum kbs_curve curve, enum kbs_locality floor,
                                     struct kbs_ladder_choice *ret, struct kbs_error *err);

#endif
