/*
 * An endpoint that does not answer costs whoever waits for it its whole timeout, and a place. After a
 * few failures in a row the answer is known without asking; one request in `open_ms` finds out
 * whether that is still so.
 */
#include "fetch/courier.h"

bool kbs_breaker_may_ask(struct kbs_breaker *b, uint64_t now_ns, bool *ret_probe)
{
    *ret_probe = false;
    if (b->open_until_ns == 0) {
        return true;
    }
    if (b->probing || now_ns < b->open_until_ns) {
        return false;
    }
    b->probing = true;
    *ret_probe = true;
    return true;
}

bool kbs_breaker_note(struct kbs_breaker *b, bool ok, bool probe, uint64_t now_ns)
{
    bool was_open = b->open_until_ns != 0;

    kbs_breaker_cancel(b, probe);
    if (ok) {
        b->failures = 0;
        b->open_until_ns = 0;
        return was_open;
    }
    b->failures += b->failures < UINT32_MAX ? 1 : 0;
    /* One that began before it opened says nothing new, and does not keep it open for longer. */
    if (b->limit > 0 && b->failures >= b->limit && (!was_open || probe)) {
        b->open_until_ns = now_ns + (uint64_t)b->open_ms * KBS_NS_PER_MS;
    }
    return (b->open_until_ns != 0) != was_open;
}

void kbs_breaker_cancel(struct kbs_breaker *b, bool probe)
{
    b->probing = b->probing && !probe;
}
