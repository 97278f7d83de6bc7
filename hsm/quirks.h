/* What is known of a token by its name alone: its class, and the few ways in which it departs from
 * others. */
#ifndef KBS_HSM_QUIRKS_H
#define KBS_HSM_QUIRKS_H

#include "base/terms.h"

struct kbs_quirk {
    const char *manufacturer;   /* how CK_TOKEN_INFO.manufacturerID begins */
    const char *model;          /* how CK_TOKEN_INFO.model begins */
    enum kbs_token_class class; /* never from probing: a software token may pass every rung */
    bool so_pin_empty;       /* a fresh token is initialised with the empty security officer PIN */
    bool handles_are_unique; /* no process gets the same object handle twice */
};

/* The row for a token; a row of class unknown and no quirks for tokens that are not in the table.
 * Static. */
const struct kbs_quirk *kbs_quirk_find(const char *manufacturer, const char *model);

#endif
