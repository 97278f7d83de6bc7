/*
 * A sign worker of one's own: kbs-token as a child process of whatever program has loaded the provider. That program
 * does not see the PIN, loads no PKCS#11 module, and cannot do with the key what the worker does not.
 */
#ifndef KBS_PROVIDERS_SPAWN_H
#define KBS_PROVIDERS_SPAWN_H

#include "providers/settings.h"

/*
 * A link whose channel is to a worker for that key, which is started with the first order, and again when it has died
 * or the process has forked; it ends with the link. Takes what settings hold, and empties them. After a PIN that was
 * refused no login is tried again (KBS_UNAUTHENTICATED). Returns owned.
 */
KBS_MUST_CHECK int kbs_spawn_link(struct kbs_settings *settings, struct kbs_link **ret,
                                  struct kbs_error *err);

#endif
