/*
 * Metrics and the log lines beside them.
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

void kbs_metrics_request(struct kbs_metrics *m, const struct kbs_metrics_request *r)
{
    m->requests[route_index(r->route)][status_index(r->status)]++;
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
        "head-timeout", "body-timeout", "body-memory",   "no-lane",    "queue-full",
        "deadline",     "lane-died",    "lane-breach",   "lane-stuck", "disconnected",
        "tls",          "tls-timeout",  "write-timeout", "capacity",   "accept",
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

static void put_gauge(struct kbs_buf *out, const char *name, const char *help, uint64_t value)
{
    kbs_buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %llu\n", name, help, name, name,
                   (unsigned long long)value);
}

void kbs_metrics_text(const struct kbs_metrics *m, const struct kbs_gauges *g, struct kbs_buf *out)
{
    put_requests(m, out);
    kbs_buf_put_str(out,
                    "# HELP kbs_http_refused_total Requests and connections refused or cut off.\n"
                    "# TYPE kbs_http_refused_total counter\n");
    for (unsigned int i = 1; i < KBS_REFUSED_COUNT; i++) {
        kbs_buf_printf(out, "kbs_http_refused_total{reason=\"%s\"} %llu\n", kbs_refused_name(i),
                       (unsigned long long)m->refused[i]);
    }
    put_gauge(out, "kbs_http_connections", "Open connections.", g->connections);
    put_gauge(out, "kbs_http_body_bytes", "Request bodies being received.", g->body_bytes);
    put_gauge(out, "kbs_lanes_attached", "Lanes that can take requests.", g->lanes_attached);
    put_gauge(out, "kbs_lanes_busy", "Lanes with a request.", g->lanes_busy);
    put_gauge(out, "kbs_queue_length", "Requests waiting for a lane.", g->queue);
}
