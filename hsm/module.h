/*
 * One PKCS#11 module, one token of it, one read-write session, one login (PKCS#11 2.40 sections 5.4
 * to 5.6; token URIs: RFC 7512). The only code that sees a PIN.
 */
#ifndef KBS_HSM_MODULE_H
#define KBS_HSM_MODULE_H

#include "base/secret.h"
#include "base/tee_key.h"
#include "hsm/p11.h"
#include "hsm/quirks.h"

/* The RSA session pair by which wrapping keys come in where plain import is forbidden
 * (hsm/transport.h). */
struct kbs_transport_pair {
    CK_OBJECT_HANDLE private_key;  /* CK_INVALID_HANDLE: there is none */
    struct kbs_tee_key public_key; /* its alg says which OAEP the token unwraps */
    bool needed;                   /* C_CreateObject of a secret key is refused */
};

struct kbs_token {
    CK_FUNCTION_LIST *f; /* NULL until loaded */
    bool initialized;    /* C_Initialize was ours to undo */
    CK_SLOT_ID slot;
    CK_TOKEN_INFO
        info; /* as it was found: SoftHSM does not bear the question while another process logs in */
    CK_SESSION_HANDLE session; /* CK_INVALID_HANDLE until logged in */
    char label[33];            /* of CK_TOKEN_INFO, without the padding */
    char manufacturer[33];
    char model[17];
    char serial[17];
    const struct kbs_quirk *quirk; /* static */
    bool unwrap_wants_length;      /* seen: CKA_VALUE_LEN in C_UnwrapKey by AES Key Wrap */
    struct kbs_transport_pair transport;
    struct kbs_handles *handles; /* owned; what hsm/object.c remembers of token objects */
    uint64_t objects_made;       /* session and token objects, ever */
    /* session objects that outlived their scope: the worker must end */
    unsigned int destroy_failures;
};

#define KBS_TOKEN_NULL ((struct kbs_token){.session = CK_INVALID_HANDLE})

/*
 * Loads the module at `path` and calls C_Initialize. init_args: text for pReserved (NSS softokn's
 * "configdir=..."), NULL for none; borrowed for the call. KBS_INPUT if it cannot be loaded, else as
 * ckr.h.
 */
KBS_MUST_CHECK int kbs_token_load(struct kbs_token *t, const char *path, char *init_args,
                                  struct kbs_error *err);

/*
 * Finds the one initialised token that the URI names. KBS_INPUT if the URI does not parse, has
 * attributes other than a token's, carries a PIN, or matches more than one token; KBS_MISSING if it
 * matches none.
 */
KBS_MUST_CHECK int kbs_token_find(struct kbs_token *t, const char *uri, struct kbs_error *err);

/* Opens the session and logs in as the user. Errors of class OPERATOR mean the PIN. */
KBS_MUST_CHECK int kbs_token_login(struct kbs_token *t, struct kbs_secret *pin,
                                   struct kbs_error *err);

/*
 * Another session of a token that is logged in, for another thread: read-only, so that no token object is made
 * through it. *ret borrows the token and is used like it, but for its handle cache, and ends with
 * kbs_token_session_close() before the token does.
 */
KBS_MUST_CHECK int kbs_token_session(const struct kbs_token *t, struct kbs_token *ret,
                                     struct kbs_error *err);
void kbs_token_session_close(struct kbs_token *t);

/*
 * Makes the token that the URI names and sets its user PIN (`kbs-admin init`): on the first slot
 * whose token is not initialised (C_InitToken, label from the URI), or in an existing token that
 * has no user PIN yet. so_pin may be NULL: a new token gets a random one, which is forgotten, and
 * one that is there is refused (KBS_INPUT). KBS_CONFLICT if the token has a user PIN. Follow with
 * kbs_token_find() and kbs_token_login().
 */
KBS_MUST_CHECK int kbs_token_provision(struct kbs_token *t, const char *uri,
                                       struct kbs_secret *so_pin, struct kbs_secret *pin,
                                       struct kbs_error *err);

/* Logs out, closes, finalizes, unloads; safe on a zeroed or half-open token, and twice. */
void kbs_token_close(struct kbs_token *t);

#endif
