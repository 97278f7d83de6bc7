/* Claim paths of release policies; grammar in release.h. */
#ifndef KBS_POLICY_PATH_H
#define KBS_POLICY_PATH_H

#include "jose/read/json.h"

#define KBS_POLICY_PATH_MAX_BYTES 255
#define KBS_POLICY_PATH_MAX_SEGMENTS 16

/* KBS_INPUT, without echoing the path, if it is malformed. */
KBS_MUST_CHECK int kbs_policy_path_check(struct kbs_span path, struct kbs_error *err);

/* The claim a path names, borrowed; NULL if it is absent or the path is malformed. */
const json_t *kbs_policy_path_find(struct kbs_span path, const json_t *input, const json_t *kbs);

#endif
