/* What the commands about NEKs share: the public key file, and the binding that is typed. */
#ifndef KBS_CLI_NEK_H
#define KBS_CLI_NEK_H

#include "base/tee_key.h"
#include "jose/read/json.h"
#include "nek/blob.h"

/* A key of purpose nek: {"kid","purpose","binding_required","jwk"}, as the service gives it to anybody. */
struct kbs_nek_public {
    char kid[KBS_LIMIT_KID_BYTES + 1];
    bool binding_required;
    struct kbs_tee_key key;
};
KBS_MUST_CHECK int kbs_nek_public_read(const char *file, struct kbs_nek_public *ret,
                                       struct kbs_error *err);
/* A member "jwk" or "public_key". KBS_INPUT, KBS_UNPROCESSABLE. */
KBS_MUST_CHECK int kbs_nek_jwk_get(const json_t *object, const char *name, struct kbs_tee_key *ret,
                                   struct kbs_error *err);

/*
 * FIELD=VALUE[,FIELD=VALUE...]: VALUE in hex, or =TEXT's bytes after "text:". KBS_INPUT; the empty text binds
 * to nobody.
 */
KBS_MUST_CHECK int kbs_nek_binding_from(const char *text, struct kbs_nek_binding *ret,
                                        struct kbs_error *err);

/* A blob of either shape in a file. To be deinitialised in any case. */
KBS_MUST_CHECK int kbs_nek_file_read(const char *file, struct kbs_buf *text, struct kbs_nek_in *ret,
                                     struct kbs_error *err);

#endif
