/* The ladder: which rungs this token can really do, and the choice among them. */
#ifndef KBS_HSM_LADDER_H
#define KBS_HSM_LADDER_H

#include "hsm/rung.h"

/* Kinds of TEE keys that are told apart. An RSA key over 2048 bits counts as one of 3072. */
enum kbs_tee_kind {
    KBS_TEE_P256,
    KBS_TEE_P384,
    KBS_TEE_P521,
    KBS_TEE_RSA_2048, /* with RSA-OAEP-256 */
    KBS_TEE_RSA_2048_SHA1,
    KBS_TEE_RSA_3072,
    KBS_TEE_RSA_3072_SHA1,
    KBS_TEE_KIND_COUNT
};

/* Released keys: of 32 bytes, and of 20, which AES Key Wrap is not made for. */
enum kbs_probe_length {
    KBS_PROBE_32,
    KBS_PROBE_20,
    KBS_PROBE_LENGTHS
};
size_t kbs_probe_length_bytes(enum kbs_probe_length v);

enum kbs_probe_result {
    KBS_PROBE_NONE = 0, /* the rung is not for that */
    KBS_PROBE_SKIPPED,  /* not tried: `function` says why */
    KBS_PROBE_FAILED,
    KBS_PROBE_PADDED, /* a key of 20 bytes came out longer: its receiver would get another key */
    KBS_PROBE_PASSED
};

struct kbs_probe {
    enum kbs_probe_result result;
    CK_RV rv;             /* why not, CKR_OK if it was not a PKCS#11 error */
    const char *function; /* static; the call that failed, or why it was skipped */
};

struct kbs_ladder {
    struct kbs_probe probes[KBS_RUNG_COUNT][KBS_FORMAT_COUNT][KBS_TEE_KIND_COUNT]
                           [KBS_PROBE_LENGTHS];
    struct kbs_probe kcv; /* FAILED: results could be compared by their length only */
    struct kbs_probe gcm; /* AES-GCM decryption of data (secret.h); FAILED: kbs-token does it */
};

/*
 * Does every rung once, per format and kind of TEE key, on a throw-away session key to a software
 * TEE key, and opens the result with OpenSSL. A rung that fails is noted, which is no error; -1
 * when the device is gone, or when a limit was met (KBS_BUSY), for that says nothing about the
 * rung. Leaves t->transport as the rungs need it.
 *
 * `all` is for people who want to see what a token does, not for a service: also tries what cannot
 * be needed on this token and costs time (transport-unwrap where plain import works), and goes on
 * after errors, so that -1 means that not even a throw-away key could be made.
 */
KBS_MUST_CHECK int kbs_ladder_probe(struct kbs_ladder *ladder, struct kbs_token *t, bool all,
                                    struct kbs_error *err);

/* True if the rung passed for anything. */
bool kbs_ladder_passed(const struct kbs_ladder *ladder, size_t rung);

/* "P-256", "RSA-2048", "RSA-2048-SHA1", ... Static. */
const char *kbs_tee_kind_name(enum kbs_tee_kind kind);
enum kbs_tee_kind kbs_tee_kind_of(const struct kbs_tee_key *key); /* KBS_TEE_KIND_COUNT if none */
enum kbs_tee_alg kbs_tee_kind_alg(enum kbs_tee_kind kind);

/*
 * The rung that passed with the highest locality at or above `floor`; among those, for the first of
 * `formats` (enum kbs_format, one byte each, most wanted first). tee: its alg and its curve or size
 * are looked at. key_bytes: of the key to be released, 0 if not known. KBS_UNSUPPORTED, naming what
 * is missing, if there is none; KBS_INPUT for a format that is not in the enum.
 */
KBS_MUST_CHECK int kbs_ladder_choose(const struct kbs_ladder *ladder, struct kbs_span formats,
                                     const struct kbs_tee_key *tee, size_t key_bytes,
                                     enum kbs_locality floor, struct kbs_ladder_choice *ret,
                                     struct kbs_error *err);

#endif
