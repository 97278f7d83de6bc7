/*
 * What is known of a token by its name alone: its class, the few ways in which it departs from
 * others, and what its operator has to know.
 */
#ifndef KBS_HSM_QUIRKS_H
#define KBS_HSM_QUIRKS_H

#include "base/terms.h"

struct kbs_quirk {
    const char *manufacturer;   /* how CK_TOKEN_INFO.manufacturerID begins */
    const char *model;          /* how CK_TOKEN_INFO.model begins */
    enum kbs_token_class class; /* never from probing: a software token may pass every rung */
    bool so_pin_empty;        /* a fresh token is initialised with the empty security officer PIN */
    unsigned long concat_kdf; /* its own number for CKD_SHA256_KDF_SP800, 0 if it has none */
    const char *const *notes; /* for the operator; NULL ends the list */
    bool leaks_objects;       /* destroyed session objects cost memory: workers are recycled */
    bool opencryptoki;        /* its module needs a wider list of system calls (src/confine) */
    bool handles_are_unique;  /* no process gets the same object handle twice */
};

/* The row for a token; a row of class unknown and no quirks for tokens that are not in the table.
 * Static. */
const struct kbs_quirk *kbs_quirk_find(const char *manufacturer, const char *model);

#endif
