/*
 * What a failed PKCS#11 call means for us: the one table that says who is at fault and what to do,
 * by function, CK_RV and token (PKCS#11 2.40 base specification, section 5.1).
 */
#ifndef KBS_HSM_CKR_H
#define KBS_HSM_CKR_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "hsm/p11.h"
#include "hsm/quirks.h"

enum kbs_ckr_class {
    KBS_CKR_OK = 0,
    KBS_CKR_REQUEST,    /* this request cannot be done; the token is fine */
    KBS_CKR_BYTES,      /* the bytes to be opened, if they are not of our own making */
    KBS_CKR_STALE,      /* an object handle has died */
    KBS_CKR_AMBIGUOUS,  /* device or request */
    KBS_CKR_CAPACITY,   /* a session or memory limit */
    KBS_CKR_LOGGED_OUT, /* session or login is gone, and the PIN is cleansed */
    KBS_CKR_DEVICE,     /* token or module is broken */
    KBS_CKR_OPERATOR,   /* the PIN is wrong, locked, expired, not set, or may be */
    KBS_CKR_CLASS_COUNT
};

/* What is done about a class. */
enum kbs_ckr_action {
    KBS_CKR_NOTHING = 0,
    KBS_CKR_FAIL_ORDER,  /* the order fails, the lane lives */
    KBS_CKR_BLAME_BYTES, /* the same, as the sender's fault if a self-test passes (hsm/receive.h) */
    KBS_CKR_LOOK_AGAIN,  /* forget handles, do the order once more */
    KBS_CKR_SELF_TEST,   /* a self-test decides between FAIL_ORDER and REPLACE_WORKER */
    KBS_CKR_TRY_LATER,   /* KBS_BUSY */
    KBS_CKR_REPLACE_WORKER,
    KBS_CKR_LATCH /* the worker ends, and no login is tried again */
};

/* The class of a failure of `function` ("C_DeriveKey") on `token`, which may be NULL: not known. */
enum kbs_ckr_class kbs_ckr_lookup(const char *function, CK_RV rv, const struct kbs_quirk *token);
enum kbs_ckr_action kbs_ckr_action(enum kbs_ckr_class class);

/* The same of an error that came from PKCS#11; KBS_CKR_OK for all other errors. */
enum kbs_ckr_class kbs_ckr_class(const struct kbs_error *err, const struct kbs_quirk *token);
/* True when the worker must stop after this error: REPLACE_WORKER or LATCH. */
bool kbs_ckr_is_fatal(const struct kbs_error *err, const struct kbs_quirk *token);

/* The category that a requester sees. */
enum kbs_category kbs_ckr_category(enum kbs_ckr_class class);

/* "CKR_PIN_INCORRECT"; "CKR_VENDOR_DEFINED" or "CKR_?" for numbers that are not in the table.
 * Static. */
const char *kbs_ckr_name(CK_RV rv);

/*
 * Fills *err (if it is not filled yet) from a failed PKCS#11 call and returns -1. `function` is the
 * static name of the call ("C_DeriveKey"): it becomes err->func, from where RESULT takes it.
 */
int kbs_ckr_fail(struct kbs_error *err, CK_RV rv, const char *function, int line);

/* The CK_RV of an error that came from PKCS#11, CKR_OK for all others. */
CK_RV kbs_ckr_of(const struct kbs_error *err);

/* The whole table as text, a line a row: function, CK_RV, token, class, action. */
void kbs_ckr_print(struct kbs_buf *out);

#endif
