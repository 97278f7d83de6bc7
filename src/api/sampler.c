/*
 * Refusals cost whoever causes them nothing, and the ledger's disk belongs to the releases. So of
 * each kind at most KBS_LIMIT_AUDIT_REFUSALS_PER_MIN are written a minute, and the next record says
 * how many were left out.
 */
#include "api/context.h"

#define WINDOW_S 60

bool kbs_sampler_admit(struct kbs_sampler *s, uint64_t now_s)
{
    if (now_s - s->window_s >= WINDOW_S) {
        s->window_s = now_s;
        s->count = 0;
    }
    if (s->count >= KBS_LIMIT_AUDIT_REFUSALS_PER_MIN) {
        s->suppressed++;
        return false;
    }
    s->count++;
    return true;
}

void kbs_sampler_tell(const struct kbs_sampler *s, struct kbs_record *r)
{
    if (s->suppressed != 0) {
        kbs_record_u64(r, "suppressed", s->suppressed);
    }
}

void kbs_sampler_told(struct kbs_sampler *s)
{
    s->suppressed = 0;
}
