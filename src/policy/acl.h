/*
 * Which request targets a role may use: a regular expression of Trustee's [admin.authorization.regex_acl],
 * over the raw target with its query (docs/protocol/admin-api.md, "Trustee's modes").
 */
#ifndef KBS_POLICY_ACL_H
#define KBS_POLICY_ACL_H

#include "base/error.h"
#include "base/span.h"

struct kbs_acl;

/*
 * Compiles an expression of at most KBS_LIMIT_ADMIN_ACL_BYTES that begins with `^/kbs` and ends
 * with `$`. KBS_INPUT says what is wrong with it, and where. Returns owned.
 */
KBS_MUST_CHECK int kbs_acl_new(struct kbs_span pattern, struct kbs_acl **ret,
                               struct kbs_error *err);
struct kbs_acl *kbs_acl_free(struct kbs_acl *acl); /* NULL is fine; always returns NULL */

/* True if it matches the whole target. False also for one that would take too long to match. */
bool kbs_acl_allows(const struct kbs_acl *acl, struct kbs_span target);

#endif
