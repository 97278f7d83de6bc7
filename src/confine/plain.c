/* Additions to every list in an ordinary build: none. See sanitized.c for the other one. */
#include "confine/list.h"

const struct kbs_confine_call kbs_confine_extra[] = {{"", KBS_WHEN_NEVER}};
const size_t kbs_confine_extra_count = 0;
const bool kbs_confine_address_limited = true;
