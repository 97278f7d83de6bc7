/* The folders of the two tokens that are files, which the operator need not name. */
#ifndef KBS_PROVIDERS_FOLDERS_H
#define KBS_PROVIDERS_FOLDERS_H

#include "providers/settings.h"

/* Appends each to the list: those that were named, else those that SoftHSM's or NSS's own settings name. */
KBS_MUST_CHECK int kbs_folders_put(const struct kbs_settings *settings,
                                   struct kbs_wire_list_builder *list, struct kbs_error *err);

#endif
