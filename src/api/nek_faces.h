/* Inside src/api only: what the other names of the NEK road share (wrap_key.c, id_key.c). */
#ifndef KBS_API_NEK_FACES_H
#define KBS_API_NEK_FACES_H

#include "api/context.h"
#include "seal/nek.h"

/* The path of the key that a plugin is configured for. KBS_MISSING if that is empty: there is no such plugin. */
KBS_MUST_CHECK int kbs_plugin_key(struct kbs_call *call, const char *path, struct kbs_span *ret,
                                  struct kbs_error *err);

/* A key that was wrapped here. Stays where it was made: `to` borrows from it. */
struct kbs_wrapped {
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_tee_key key;
    struct kbs_nek_to to;
    struct kbs_nek_blob blob;
};
/*
 * A POST by an administrator whose body is a key in plain text: wraps it for nobody in particular, to the latest version of the key
 * at `path`, which has to be an RSA or an EC key, and records that. KBS_UNSUPPORTED but for clients of trustee_compat.
 */
KBS_MUST_CHECK int kbs_wrap_for_admin(struct kbs_call *call, const char *pattern, const char *path,
                                      bool rsa, struct kbs_wrapped *ret, struct kbs_error *err);

#endif
