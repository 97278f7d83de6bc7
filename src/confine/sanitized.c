/*
 * Additions to every list in a build with sanitizers, so that a finding is reported and not cut
 * short by the filter. Files stay out of reach: a report has addresses, not names.
 *
 * The leak checker at exit stops the process by ptrace from a thread of its own, which no list will
 * ever allow. So it is off in every role; leaks are hunted in the unit tests.
 */
#include "confine/list.h"

const struct kbs_confine_call kbs_confine_extra[] = {
    {"sigaltstack", KBS_WHEN_ALWAYS},
    {"rt_sigaction", KBS_WHEN_ALWAYS},
    {"tgkill", KBS_WHEN_ALWAYS},
    {"gettid", KBS_WHEN_ALWAYS},
    {"sched_yield", KBS_WHEN_ALWAYS},
    {"getrusage", KBS_WHEN_ALWAYS},
    {"prctl", KBS_WHEN_NEVER},
    {"readlink", KBS_WHEN_NEVER},
    {"readlinkat", KBS_WHEN_NEVER},
    {"clone", KBS_WHEN_NEVER},
    {"pipe", KBS_WHEN_NEVER},
    {"pipe2", KBS_WHEN_NEVER},
    {"sched_getaffinity", KBS_WHEN_ALWAYS},
};
const size_t kbs_confine_extra_count = sizeof(kbs_confine_extra) / sizeof(kbs_confine_extra[0]);
const bool kbs_confine_address_limited = false;

/* Called by the sanitizers' run-time library, which lies outside of the executable. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
