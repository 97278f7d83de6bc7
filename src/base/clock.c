/* See clock.h. */
#include "base/clock.h"

#include <limits.h>
#include <time.h>

static uint64_t now_ns(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

uint64_t kbs_clock_mono_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

int64_t kbs_clock_unix_s(void)
{
    return (int64_t)(now_ns(CLOCK_REALTIME) / UINT64_C(1000000000));
}

uint64_t kbs_clock_unix_us(void)
{
    return now_ns(CLOCK_REALTIME) / 1000;
}

uint64_t kbs_deadline_in_ms(uint32_t ms)
{
    return kbs_clock_mono_ns() + (uint64_t)ms * KBS_NS_PER_MS;
}

int kbs_deadline_poll_ms(uint64_t deadline_ns)
{
    uint64_t now = kbs_clock_mono_ns();
    uint64_t ms;

    if (deadline_ns == KBS_DEADLINE_NONE) {
        return -1;
    }
    if (deadline_ns <= now) {
        return 0;
    }
    ms = (deadline_ns - now + KBS_NS_PER_MS - 1) / KBS_NS_PER_MS;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
