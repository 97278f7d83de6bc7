/*
 * What a CK_RV means for us: the one table that says who is at fault and what to do (PKCS#11 2.40
 * base specification, section 5.1).
 */
#ifndef KBS_HSM_CKR_H
#define KBS_HSM_CKR_H

#include <stdbool.h>

#include "base/error.h"
#include "hsm/p11.h"

enum kbs_ckr_class {
    KBS_CKR_OK = 0,
    KBS_CKR_REQUEST,   /* this request cannot be done; the token is fine */
    KBS_CKR_STALE,     /* an object handle has died: forget it, look again, once */
    KBS_CKR_AMBIGUOUS, /* device or request: a self-test right after decides */
    KBS_CKR_CAPACITY,  /* a session or memory limit: try later */
    /* session or login is gone; the PIN is cleansed, so the worker is replaced */
    KBS_CKR_LOGGED_OUT,
    KBS_CKR_DEVICE,  /* token or module is broken: the worker is replaced */
    KBS_CKR_OPERATOR /* the PIN is wrong, locked, expired, not set: nobody may try again */
};

enum kbs_ckr_class kbs_ckr_class(CK_RV rv);

/* "CKR_PIN_INCORRECT"; "CKR_VENDOR_DEFINED" or "CKR_?" for numbers that are not in the table.
 * Static. */
const char *kbs_ckr_name(CK_RV rv);

/* The category that a requester sees. */
enum kbs_category kbs_ckr_category(CK_RV rv);

/* True when the worker must stop after this error: class LOGGED_OUT, DEVICE or OPERATOR. */
bool kbs_ckr_is_fatal(CK_RV rv);

/*
 * Fills *err (if it is not filled yet) from a failed PKCS#11 call and returns -1. `function` is the
 * static name of the call ("C_DeriveKey"): it becomes err->func, from where RESULT takes it.
 */
int kbs_ckr_fail(struct kbs_error *err, CK_RV rv, const char *function, int line);

/* The CK_RV of an error that came from PKCS#11, CKR_OK for all others. */
CK_RV kbs_ckr_of(const struct kbs_error *err);

#endif
