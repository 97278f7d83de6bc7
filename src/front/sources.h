/*
 * Who begins how many handshakes: the limit on POST /kbs/v0/auth per source ([limits]
 * auth_per_second). A source is an IPv4 address, the first 64 bits of an IPv6 address, or everybody
 * on unix sockets together.
 */
#ifndef KBS_FRONT_SOURCES_H
#define KBS_FRONT_SOURCES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/limits.h"

struct kbs_source {
    uint64_t high, low; /* as of an IPv6 address; low is 0 but for mapped IPv4 addresses */
};

/* The source of an accepted connection; any other family than IPv4 and IPv6 is the unix one. */
struct kbs_source kbs_source_of(const struct sockaddr *from);

/* Private. A source that is here has begun more than its rate alone allows. */
struct kbs_source_debt {
    struct kbs_source source;
    uint64_t until_ns; /* when it is as if it had never come */
};

struct kbs_sources {
    uint32_t per_s;                                       /* 0: no limit */
    uint32_t count;                                       /* of the debts below */
    struct kbs_source_debt debts[KBS_LIMIT_AUTH_SOURCES]; /* private */
    uint64_t uncounted; /* handshakes of sources that there was no place to remember */
};

/*
 * One more handshake by `source` at `now_ns` (monotonic, never less than in an earlier call). False
 * when it is over the limit; that one is not counted against it.
 */
bool kbs_sources_take(struct kbs_sources *s, const struct kbs_source *source, uint64_t now_ns);

/* How many sources are remembered. */
uint32_t kbs_sources_in_debt(struct kbs_sources *s, uint64_t now_ns);

#endif
