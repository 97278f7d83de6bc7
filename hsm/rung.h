/*
 * The rungs: every way of releasing a key that is known here, in the order in which they are tried.
 * Which of them a token can do is the ladder's to find out (ladder.h).
 */
#ifndef KBS_HSM_RUNG_H
#define KBS_HSM_RUNG_H

#include "hsm/recipient.h"

struct kbs_rung;

/* A rung and a format, as kbs_ladder_choose() found them. */
struct kbs_ladder_choice {
    const struct kbs_rung *rung;
    enum kbs_format format;
    const struct kbs_rung *cek; /* GCM-wrap only: the rung by which the content key goes */
};

/* Fills *ret; order->format is choice->format. All session objects are gone when it returns. */
typedef int kbs_rung_fn(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                        const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                        struct kbs_recipient *ret, struct kbs_error *err);

struct kbs_rung {
    const char *name;
    enum kbs_locality locality; /* what crosses the PKCS#11 interface */
    unsigned int algs;          /* bits 1 << enum kbs_tee_alg: the TEE keys that it is for */
    unsigned int formats;       /* bits 1 << enum kbs_format: what it makes */
    bool any_length; /* else keys are a multiple of 8 bytes, for they go by AES Key Wrap */
    bool needs_cek;
    kbs_rung_fn *make;
    kbs_derive_fn *derive[KBS_FORMAT_COUNT]; /* by ECDH; NULL for rungs and formats without */
};

#define KBS_RUNG_COUNT 9u
/* Token-local rungs first. */
extern const struct kbs_rung kbs_rungs[KBS_RUNG_COUNT];

/* True if the rung makes that format for that kind of TEE key. */
bool kbs_rung_makes(const struct kbs_rung *rung, enum kbs_format format, enum kbs_tee_alg alg);

/*
 * Releases `key` by the chosen rung and appends the finished answer. order->format is ignored for
 * the choice's. key_bytes: the length that the key must have, 0 if that is not known; KBS_INTERNAL
 * if the token wrapped another length.
 */
KBS_MUST_CHECK int kbs_rung_release(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                                    const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                                    size_t key_bytes, struct kbs_buf *body, struct kbs_error *err);

/* GCM-wrap (gcm.c), and the worker's own (worker.c). */
kbs_rung_fn kbs_rung_gcm;
kbs_rung_fn kbs_rung_worker;

/* The bytes of an extractable key, as the worker rung sees them. Returns owned. */
KBS_MUST_CHECK int kbs_worker_open(struct kbs_token *t, CK_OBJECT_HANDLE key,
                                   struct kbs_secret **ret, struct kbs_error *err);

#endif
