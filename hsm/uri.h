/* Object URIs (RFC 7512): which objects of the token an operator or administrator names. */
#ifndef KBS_HSM_URI_H
#define KBS_HSM_URI_H

#include "hsm/object.h"

/*
 * The token objects of that class that a URI names by object, id and type: the number of them, at most
 * `room` handles. KBS_INPUT if it does not parse, has other attributes than those and a token's, carries a
 * PIN, or names another token or another type; with `by_name` also if it has neither object nor id.
 */
KBS_MUST_CHECK int kbs_uri_objects(const struct kbs_token *t, struct kbs_span text,
                                   CK_OBJECT_CLASS class, bool by_name, CK_OBJECT_HANDLE *ret,
                                   size_t room, size_t *ret_n, struct kbs_error *err);

#endif
