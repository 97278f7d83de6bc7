/* The two clocks: monotonic for deadlines, real time for expiry and records. */
#ifndef KBS_BASE_CLOCK_H
#define KBS_BASE_CLOCK_H

#include <stdint.h>

#define KBS_NS_PER_MS UINT64_C(1000000)
#define KBS_DEADLINE_NONE UINT64_MAX

uint64_t kbs_clock_mono_ns(void);
int64_t kbs_clock_unix_s(void);
uint64_t kbs_clock_unix_us(void);

/* The monotonic time `ms` from now. */
uint64_t kbs_deadline_in_ms(uint32_t ms);
/* Milliseconds left until a deadline for poll(2): 0 when it has passed, -1 for KBS_DEADLINE_NONE.
 */
int kbs_deadline_poll_ms(uint64_t deadline_ns);

#endif
