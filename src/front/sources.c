/*
 * The limit of handshakes per source.
 *
 * The problem: a handshake costs the client a line of text and us a lane, a row in the store and a
 * place among the sessions that may wait; one client must not take what all share. The approach: a
 * token bucket per source that fills at `per_s` and holds twice as many. A bucket is kept as the
 * moment when it will be full again. From then on the source is as one that never came and is
 * forgotten, two seconds after its last handshake at the latest; so the table holds debtors only,
 * and an entry is never taken from one of them to make room.
 *
 * Who has many sources (a /48 of IPv6 is 65536 of them) has as many buckets, and no limit per
 * source helps. What must not happen is that he turns the table itself against others. Each place
 * that he holds costs him `per_s` handshakes a second that were let through, so a full table stands
 * for KBS_LIMIT_AUTH_SOURCES times the limit, far more than a front can serve unless the limit is a
 * few per second. When it is full all the same, a source that is not in it is let through uncounted
 * (and the metrics say so): its own debt is not known, but nobody is locked out, and nobody in the
 * table is let off. What then holds is what holds against anybody: the queue of the front, and the
 * cap on sessions that have not attested (docs/threat-model.md).
 *
 * Looked for by going through all debts, which forgets old ones on the way: a few on any day, 4096
 * at worst, then for about 15 us, which is not more than the rest of the front's work for a
 * request. Rejected: a hash table. Its places collide, so who finds out which of his sources share
 * one with others crowds that one out; a random key makes it harder, this makes it impossible.
 * Rejected: counting refused handshakes, with which a client behind the same address could keep
 * another out for as long as it likes.
 */
#include "front/sources.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)
#define BURST 2u                                /* handshakes at once, in multiples of per_s */
#define MAPPED_LOW UINT64_C(0x0000ffff00000000) /* ::ffff:0:0/96 */

static uint64_t be64(const uint8_t p[8])
{
    uint64_t v = 0;

    for (size_t i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

struct kbs_source kbs_source_of(const struct sockaddr *from)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (from->sa_family == AF_INET) {
        memcpy(&in, from, sizeof(in));
        return (struct kbs_source){.low = MAPPED_LOW | ntohl(in.sin_addr.s_addr)};
    }
    if (from->sa_family == AF_INET6) {
        memcpy(&in6, from, sizeof(in6));
        return (struct kbs_source){
            .high = be64(in6.sin6_addr.s6_addr),
            .low = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) ? be64(in6.sin6_addr.s6_addr + 8) : 0};
    }
    return (struct kbs_source){.high = UINT64_MAX}; /* no address begins so: it is multicast */
}

static bool same(const struct kbs_source *a, const struct kbs_source *b)
{
    return a->high == b->high && a->low == b->low;
}

/* The debt of `source`, or NULL. Forgets those that are over. */
static struct kbs_source_debt *find(struct kbs_sources *s, const struct kbs_source *source,
                                    uint64_t now_ns)
{
    struct kbs_source_debt *found = NULL;
    uint32_t i = 0;

    while (i < s->count) {
        if (s->debts[i].until_ns <= now_ns) {
            s->debts[i] = s->debts[--s->count]; /* which is looked at next */
            continue;
        }
        if (source != NULL && same(&s->debts[i].source, source)) {
            found = &s->debts[i]; /* stays here: what moves comes from behind it */
        }
        i++;
    }
    return found;
}

bool kbs_sources_take(struct kbs_sources *s, const struct kbs_source *source, uint64_t now_ns)
{
    struct kbs_source_debt *debt;
    uint64_t each_ns;
    uint64_t until_ns;

    if (s->per_s == 0) {
        return true;
    }
    each_ns = NS_PER_S / s->per_s;
    debt = find(s, source, now_ns);
    until_ns = (debt != NULL ? debt->until_ns : now_ns) + each_ns;
    if (until_ns - now_ns > BURST * each_ns * s->per_s) {
        return false;
    }
    if (debt == NULL && s->count == KBS_LIMIT_AUTH_SOURCES) {
        s->uncounted++;
        return true;
    }
    if (debt == NULL) {
        debt = &s->debts[s->count++];
        debt->source = *source;
    }
    debt->until_ns = until_ns;
    return true;
}

uint32_t kbs_sources_in_debt(struct kbs_sources *s, uint64_t now_ns)
{
    (void)find(s, NULL, now_ns);
    return s->count;
}
