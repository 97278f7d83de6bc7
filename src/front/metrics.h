/* Counters, their Prometheus text, and the log lines that are derived from the same events. */
#ifndef KBS_FRONT_METRICS_H
#define KBS_FRONT_METRICS_H

#include "base/buf.h"
#include "http/parser.h"
#include "wire/message.h"

/*
 * Why something was refused or cut off; the first KBS_HTTP_REASON_COUNT values are enum
 * kbs_http_reason.
 */
enum kbs_refused {
    KBS_REFUSED_HEAD_TIMEOUT = KBS_HTTP_REASON_COUNT,
    KBS_REFUSED_BODY_TIMEOUT,
    KBS_REFUSED_BODY_MEMORY, /* the bodies of all connections together */
    KBS_REFUSED_NO_LANE,
    KBS_REFUSED_QUEUE_FULL,
    KBS_REFUSED_DEADLINE,
    KBS_REFUSED_LANE_DIED,
    KBS_REFUSED_LANE_BREACH, /* a lane's answer broke the schema */
    KBS_REFUSED_LANE_STUCK,
    KBS_REFUSED_DISCONNECTED, /* the client left before its answer */
    KBS_REFUSED_TLS,          /* handshake or record layer */
    KBS_REFUSED_TLS_TIMEOUT,
    KBS_REFUSED_TLS_KEY, /* a token-held TLS key did not sign */
    KBS_REFUSED_WRITE_TIMEOUT,
    KBS_REFUSED_CAPACITY,   /* all connections in use */
    KBS_REFUSED_ACCEPT,     /* accept(2) failed */
    KBS_REFUSED_AUTH_RATE,  /* too many handshakes from one source */
    KBS_REFUSED_FETCH_FULL, /* too many requests wait for others' answers, or one for too many */
    KBS_REFUSED_FETCH_DIED,
    KBS_REFUSED_FETCH_BREACH, /* kbs-fetch broke the schema */
    KBS_REFUSED_FETCH_STUCK,
    KBS_REFUSED_COUNT
};

#define KBS_METRICS_ROUTES 128 /* one more than rows of the route table */
#define KBS_METRICS_STATUSES 20
#define KBS_METRICS_BUCKETS 12
#define KBS_METRICS_TEXT_BYTES 524288 /* every route with every status, and the rest */

struct kbs_metrics_histogram {
    uint64_t at_most[KBS_METRICS_BUCKETS]; /* observations up to a bound and over the one before */
    uint64_t count;
    uint64_t sum;
};

struct kbs_metrics {
    uint64_t requests[KBS_METRICS_ROUTES][KBS_METRICS_STATUSES]; /* private */
    struct kbs_metrics_histogram duration_us;                    /* private */
    struct kbs_metrics_histogram request_bytes;                  /* private */
    struct kbs_metrics_histogram response_bytes;                 /* private */
    uint64_t refused[KBS_REFUSED_COUNT];
    uint64_t fetched[KBS_FETCH_OUTCOME_COUNT];
    uint64_t logged_ns[KBS_REFUSED_COUNT]; /* private: when the last line of a kind was written */
    uint64_t unlogged[KBS_REFUSED_COUNT];  /* private: events since then */
};

/* Values that belong to others, read when the text is made. */
struct kbs_gauges {
    uint32_t connections;
    uint32_t lanes_attached;
    uint32_t lanes_busy;
    uint32_t queue;
    size_t body_bytes;
    uint32_t auth_sources;
    uint64_t auth_uncounted;
    uint32_t fetch_waiting;
    bool fetch_attached;
};

struct kbs_metrics_request {
    enum kbs_route route;
    unsigned int status;
    uint64_t duration_us;
    int lane;              /* -1 when the front answered itself */
    size_t request_bytes;  /* of the body, as far as it came */
    size_t response_bytes; /* the same */
};

/* Counts an answered request and logs one line (none for the front's own routes). */
void kbs_metrics_request(struct kbs_metrics *m, const struct kbs_metrics_request *r);

/* Counts, and logs at most one line per kind and second, which says how many were left out. */
void kbs_metrics_refused(struct kbs_metrics *m, unsigned int refused);
/* Counts what became of a request's fetch, by enum kbs_fetch_outcome. */
void kbs_metrics_fetched(struct kbs_metrics *m, unsigned int outcome);
const char *kbs_refused_name(unsigned int refused);

/* Appends the text exposition format, version 0.0.4. */
void kbs_metrics_text(const struct kbs_metrics *m, const struct kbs_gauges *g, struct kbs_buf *out);

#endif
