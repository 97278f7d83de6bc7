/*
 * Metrics and the log lines beside them (docs/metrics.md).
 *
 * The problem: numbers and lines must tell an operator what happens under attack, without letting
 * the attacker choose their number or content. The approach: labels come from closed sets (route
 * names, statuses, reasons), never from input, so the text has a fixed size; a refusal is counted
 * always and logged at most once per kind and second.
 */
#include "front/metrics.h"

#include "base/clock.h"
#include "base/log.h"

#define LOG_INTERVAL_NS (1000 * KBS_NS_PER_MS)

/* The statuses with a label of their own; all others share the last one. */
static unsigned int status_at(size_t i)
{
    static const unsigned int statuses[KBS_METRICS_STATUSES] = {200, 204, 400, 401, 403, 404, 405,
                                                                408, 409, 413, 414, 417, 422, 429,
                                                                431, 500, 501, 503, 504, 0};

    return statuses[i];
}

static size_t status_index(unsigned int status)
{
    size_t i = 0;

    while (i < KBS_METRICS_STATUSES - 1 && status_at(i) != status) {
        i++;
    }
    return i;
}

/* Row of the route table plus one; 0 for no route. */
static size_t route_index(enum kbs_route route)
{
    struct kbs_http_route_row row;

    for (size_t i = 0; i + 1 < KBS_METRICS_ROUTES && kbs_http_route_row(i, &row); i++) {
        if (row.route == route) {
            return i + 1;
        }
    }
    return 0;
}

static const char *route_label(size_t index)
{
    struct kbs_http_route_row row;

    return index > 0 && kbs_http_route_row(index - 1, &row) ? row.name : "none";
}

/* The bounds of a histogram: the values, in its own unit, and their labels. */
struct bounds {
    uint64_t most[KBS_METRICS_BUCKETS];
    const char *label[KBS_METRICS_BUCKETS];
};

static const struct bounds *seconds(void) /* of microseconds */
{
    static const struct bounds bounds = {
        {500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 1000000, 5000000, 20000000},
        {"0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "1", "5",
         "20"}};

    return &bounds;
}

static const struct bounds *bytes(void)
{
    static const struct bounds bounds = {
        {0, 64, 256, 1024, 2048, 4096, 8192, 16384, 65536, 262144, 1048576, 4194304},
        {"0", "64", "256", "1024", "2048", "4096", "8192", "16384", "65536", "262144", "1048576",
         "4194304"}};

    return &bounds;
}

static void observe(struct kbs_metrics_histogram *h, const struct bounds *bounds, uint64_t value)
{
    size_t i = 0;

    while (i < KBS_METRICS_BUCKETS && value > bounds->most[i]) {
        i++;
    }
    if (i < KBS_METRICS_BUCKETS) {
        h->at_most[i]++;
    }
    h->count++;
    h->sum += value;
}

void kbs_metrics_request(struct kbs_metrics *m, const struct kbs_metrics_request *r)
{
    m->requests[route_index(r->route)][status_index(r->status)]++;
    observe(&m->duration_us, seconds(), r->duration_us);
    observe(&m->request_bytes, bytes(), r->request_bytes);
    observe(&m->response_bytes, bytes(), r->response_bytes);
    if (r->route == KBS_ROUTE_HEALTHZ || r->route == KBS_ROUTE_READYZ ||
        r->route == KBS_ROUTE_METRICS) {
        return;
    }
    if (r->route == KBS_ROUTE_NONE) {
        return; /* a refusal: kbs_metrics_refused() has counted it */
    }
    kbs_log(KBS_LOG_INFO, "request", "route=%s status=%u us=%llu lane=%d",
            kbs_http_route_name(r->route), r->status, (unsigned long long)r->duration_us, r->lane);
}

const char *kbs_refused_name(unsigned int refused)
{
    static const char *const names[KBS_REFUSED_COUNT - KBS_HTTP_REASON_COUNT] = {
        "head-timeout", "body-timeout",  "body-memory", "no-lane",      "queue-full", "deadline",
        "lane-died",    "lane-breach",   "lane-stuck",  "disconnected", "tls",        "tls-timeout",
        "tls-key",      "write-timeout", "capacity",    "accept",       "auth-rate",  "fetch-full",
        "fetch-died",   "fetch-breach",  "fetch-stuck",
    };

    if (refused < KBS_HTTP_REASON_COUNT) {
        return kbs_http_reason_name((enum kbs_http_reason)refused);
    }
    return refused < KBS_REFUSED_COUNT ? names[refused - KBS_HTTP_REASON_COUNT] : "none";
}

void kbs_metrics_refused(struct kbs_metrics *m, unsigned int refused)
{
    uint64_t now = kbs_clock_mono_ns();

    if (refused >= KBS_REFUSED_COUNT) {
        return;
    }
    m->refused[refused]++;
    if (m->logged_ns[refused] != 0 && now - m->logged_ns[refused] < LOG_INTERVAL_NS) {
        m->unlogged[refused]++;
        return;
    }
    kbs_log(KBS_LOG_WARN, "refused", "reason=%s unlogged=%llu", kbs_refused_name(refused),
            (unsigned long long)m->unlogged[refused]);
    m->logged_ns[refused] = now;
    m->unlogged[refused] = 0;
}

void kbs_metrics_fetched(struct kbs_metrics *m, unsigned int outcome)
{
    if (outcome < KBS_FETCH_OUTCOME_COUNT) {
        m->fetched[outcome]++;
    }
}

static void put_requests(const struct kbs_metrics *m, struct kbs_buf *out)
{
    kbs_buf_put_str(out, "# HELP kbs_http_requests_total Requests answered.\n"
                         "# TYPE kbs_http_requests_total counter\n");
    for (size_t r = 0; r < KBS_METRICS_ROUTES; r++) {
        for (size_t s = 0; s < KBS_METRICS_STATUSES; s++) {
            if (m->requests[r][s] != 0) {
                kbs_buf_printf(out, "kbs_http_requests_total{route=\"%s\",status=\"",
                               route_label(r));
                if (status_at(s) != 0) {
                    kbs_buf_printf(out, "%u", status_at(s));
                } else {
                    kbs_buf_put_str(out, "other");
                }
                kbs_buf_printf(out, "\"} %llu\n", (unsigned long long)m->requests[r][s]);
            }
        }
    }
}

static void put_one(struct kbs_buf *out, const char *type, const char *name, const char *help,
                    uint64_t value)
{
    kbs_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", name, help, name, type, name,
                   (unsigned long long)value);
}

static void put_gauge(struct kbs_buf *out, const char *name, const char *help, uint64_t value)
{
    put_one(out, "gauge", name, help, value);
}

static void put_counter(struct kbs_buf *out, const char *name, const char *help, uint64_t value)
{
    put_one(out, "counter", name, help, value);
}

/* `divisor` makes the unit of the name of what was observed: 1, or 1000000 for microseconds. */
static void put_histogram(struct kbs_buf *out, const char *name, const char *help,
                          const struct kbs_metrics_histogram *h, const struct bounds *bounds,
                          uint64_t divisor)
{
    uint64_t n = 0;

    kbs_buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (size_t i = 0; i < KBS_METRICS_BUCKETS; i++) {
        n += h->at_most[i];
        kbs_buf_printf(out, "%s_bucket{le=\"%s\"} %llu\n", name, bounds->label[i],
                       (unsigned long long)n);
    }
    kbs_buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %llu", name,
                   (unsigned long long)h->count, name, (unsigned long long)(h->sum / divisor));
    if (divisor > 1) {
        kbs_buf_printf(out, ".%06llu", (unsigned long long)(h->sum % divisor));
    }
    kbs_buf_printf(out, "\n%s_count %llu\n", name, (unsigned long long)h->count);
}

static void put_histograms(const struct kbs_metrics *m, struct kbs_buf *out)
{
    put_histogram(out, "kbs_http_request_duration_seconds",
                  "From the first byte of a request to its answer.", &m->duration_us, seconds(),
                  1000000);
    put_histogram(out, "kbs_http_request_size_bytes", "Bodies of requests.", &m->request_bytes,
                  bytes(), 1);
    put_histogram(out, "kbs_http_response_size_bytes", "Bodies of answers.", &m->response_bytes,
                  bytes(), 1);
}

/* Answers to one route: with one status, or all of them (0). 0 for a route that is not here. */
static uint64_t answers(const struct kbs_metrics *m, enum kbs_route route, unsigned int status)
{
    size_t r = route_index(route);
    uint64_t n = 0;

    for (size_t s = 0; r != 0 && s < KBS_METRICS_STATUSES; s++) {
        n += status == 0 || status_at(s) == status ? m->requests[r][s] : 0;
    }
    return n;
}

/* The same numbers under the names that dashboards made for Trustee look for. */
static void put_trustee(const struct kbs_metrics *m, struct kbs_buf *out)
{
    uint64_t auths = answers(m, KBS_ROUTE_AUTH, 0);
    uint64_t challenges = answers(m, KBS_ROUTE_AUTH, 200);
    uint64_t attests = answers(m, KBS_ROUTE_ATTEST, 0);
    uint64_t tokens = answers(m, KBS_ROUTE_ATTEST, 200);
    uint64_t refused = answers(m, KBS_ROUTE_ATTEST, 401);

    put_counter(out, "kbs_auth_requests_total", "Handshakes begun.", auths);
    put_counter(out, "kbs_auth_successes_total", "Of them, given a challenge.", challenges);
    put_counter(out, "kbs_auth_errors_total", "Of them, refused.", auths - challenges);
    put_counter(out, "kbs_attestation_requests_total", "Evidence sent.", attests);
    put_counter(out, "kbs_attestation_successes_total", "Of it, given a token.", tokens);
    put_counter(out, "kbs_attestation_failures_total", "Of it, refused as evidence (401).",
                refused);
    put_counter(out, "kbs_attestation_errors_total", "Of it, not judged.",
                attests - tokens - refused);
    put_counter(out, "kbs_resource_reads_total", "Resources given to guests.",
                answers(m, KBS_ROUTE_RESOURCE, 200) + answers(m, KBS_ROUTE_PKCS11_RESOURCE, 200));
    put_counter(out, "kbs_resource_writes_total", "Resources set.",
                answers(m, KBS_ROUTE_RESOURCE_SET, 200) +
                    answers(m, KBS_ROUTE_PKCS11_RESOURCE_SET, 200) +
                    answers(m, KBS_ROUTE_ADMIN_SECRET_SET, 200));
    put_counter(out, "kbs_resource_deletes_total", "Resources deleted.",
                answers(m, KBS_ROUTE_RESOURCE_DELETE, 200) +
                    answers(m, KBS_ROUTE_PKCS11_RESOURCE_DELETE, 200) +
                    answers(m, KBS_ROUTE_ADMIN_SECRET_DELETE, 200));
}

static void put_fetched(const struct kbs_metrics *m, struct kbs_buf *out)
{
    static const char *const names[KBS_FETCH_OUTCOME_COUNT] = {
        [KBS_FETCH_DONE] = "done",       [KBS_FETCH_FAILED] = "failed",
        [KBS_FETCH_TIMEOUT] = "timeout", [KBS_FETCH_LARGE] = "large",
        [KBS_FETCH_OPEN] = "open",       [KBS_FETCH_REFUSED] = "refused"};

    kbs_buf_put_str(out,
                    "# HELP kbs_fetch_answers_total What requests needed of others, by outcome.\n"
                    "# TYPE kbs_fetch_answers_total counter\n");
    for (unsigned int i = KBS_FETCH_DONE; i < KBS_FETCH_OUTCOME_COUNT; i++) {
        kbs_buf_printf(out, "kbs_fetch_answers_total{outcome=\"%s\"} %llu\n", names[i],
                       (unsigned long long)m->fetched[i]);
    }
}

void kbs_metrics_text(const struct kbs_metrics *m, const struct kbs_gauges *g, struct kbs_buf *out)
{
    kbs_buf_put_str(out, "# HELP kbs_build_info Always 1.\n# TYPE kbs_build_info gauge\n"
                         "kbs_build_info{version=\"" KBS_VERSION "\"} 1\n");
    put_requests(m, out);
    put_histograms(m, out);
    put_trustee(m, out);
    kbs_buf_put_str(out,
                    "# HELP kbs_http_refused_total Requests and connections refused or cut off.\n"
                    "# TYPE kbs_http_refused_total counter\n");
    for (unsigned int i = 1; i < KBS_REFUSED_COUNT; i++) {
        kbs_buf_printf(out, "kbs_http_refused_total{reason=\"%s\"} %llu\n", kbs_refused_name(i),
                       (unsigned long long)m->refused[i]);
    }
    put_gauge(out, "kbs_http_active_connections", "Open connections.", g->connections);
    put_gauge(out, "kbs_http_body_bytes", "Request bodies being received.", g->body_bytes);
    put_gauge(out, "kbs_lanes_attached", "Lanes that can take requests.", g->lanes_attached);
    put_gauge(out, "kbs_lanes_busy", "Lanes with a request.", g->lanes_busy);
    put_gauge(out, "kbs_queue_length", "Requests waiting for a lane.", g->queue);
    put_gauge(out, "kbs_auth_sources", "Sources whose handshakes are being counted.",
              g->auth_sources);
    put_counter(out, "kbs_auth_uncounted_total",
                "Handshakes of sources that there was no place to count.", g->auth_uncounted);
    put_fetched(m, out);
    put_gauge(out, "kbs_fetch_waiting", "Requests waiting for others' answers, in no lane.",
              g->fetch_waiting);
    put_gauge(out, "kbs_fetch_attached", "1 if there is a kbs-fetch.", g->fetch_attached ? 1 : 0);
}
