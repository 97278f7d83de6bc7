/*
 * A FETCH from its arrival to its answer. It waits for a place at its endpoint, is tried, perhaps
 * again, and is answered exactly once: with what came back, or with why nothing did.
 *
 * Every endpoint has its own places (`parallel`) and its own queue, and no place is shared; so one
 * that hangs holds up whoever asks it, for as long as its timeout, and nobody else. The deadline of a
 * job counts from its arrival: waiting and retries are inside.
 *
 * An endpoint with keep_days has its 200s to GET in the cache. They are served from there; one that
 * is older than that is asked for again, and served all the same if that fails.
 *
 * Jobs are named by peer and serial, because a peer may go, and its place be another's, before its
 * answer is there. Their list is walked whole: it is bounded by places and queues.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/random.h"
#include "base/url.h"
#include "fetch/courier.h"

#define DAY_S INT64_C(86400)

static void answer_peer(struct kbs_courier *c, size_t peer, uint64_t serial, uint64_t id,
                        const struct kbs_wire_fetched *msg)
{
    if (c->peers[peer].kind == KBS_PEER_FRONT && c->peers[peer].serial == serial) {
        kbs_peer_send(&c->peers[peer], KBS_WIRE_FETCHED, id, msg);
    }
}

static void refuse(struct kbs_courier *c, size_t peer, uint64_t id, enum kbs_fetch_outcome outcome,
                   const char *detail)
{
    const struct kbs_wire_fetched msg = {.outcome = (uint8_t)outcome,
                                         .grpc_status = KBS_WIRE_GRPC_NONE,
                                         .detail = kbs_span_str(detail)};

    answer_peer(c, peer, c->peers[peer].serial, id, &msg);
}

static struct kbs_endpoint *endpoint_of(struct kbs_courier *c, struct kbs_span name)
{
    for (size_t i = 0; i < c->n_endpoints; i++) {
        if (kbs_span_equal_str(name, c->endpoints[i].place.name)) {
            return &c->endpoints[i];
        }
    }
    return NULL;
}

static bool header_valid(struct kbs_span value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < ' ' || value.p[i] > '~') {
            return false;
        }
    }
    return value.len <= 256;
}

/* NULL, or why it is not asked. */
static const char *check(const struct kbs_wire_fetch *fetch, const struct kbs_endpoint *endpoint)
{
    if (endpoint == NULL) {
        return "there is no such endpoint";
    }
    if (fetch->method != KBS_FETCH_GET && fetch->method != KBS_FETCH_POST) {
        return "there is no such method";
    }
    if (fetch->method == KBS_FETCH_GET && fetch->body.len > 0) {
        return "a GET has no body";
    }
    if (!kbs_url_suffix_valid(fetch->suffix)) {
        return "what is to follow the endpoint's URL is no path";
    }
    if (strlen(endpoint->place.url) + fetch->suffix.len >= KBS_COURIER_URL_BYTES) {
        return "the URL is too long";
    }
    return header_valid(fetch->content_type) && header_valid(fetch->accept)
               ? NULL
               : "content-type or accept is no header";
}

/* Out of the list, and gone. */
static void job_free(struct kbs_courier *c, struct kbs_job *job)
{
    struct kbs_job **at = &c->jobs;

    while (*at != NULL && *at != job) {
        at = &(*at)->next;
    }
    if (*at == job) {
        *at = job->next;
    }
    if (job->transfer != NULL) {
        job->endpoint->running--;
        kbs_breaker_cancel(&job->endpoint->breaker, job->probe);
        job->transfer = kbs_transfer_free(c->multi, job->transfer);
    } else {
        job->endpoint->waiting--;
    }
    c->waiting_bytes -= job->message.len;
    kbs_buf_deinit(&job->message);
    free(job);
}

static void job_answer(struct kbs_courier *c, struct kbs_job *job,
                       const struct kbs_wire_fetched *msg)
{
    answer_peer(c, job->peer, job->peer_serial, job->id, msg);
    job_free(c, job);
}

static bool is_kept(const struct kbs_job *job)
{
    return job->endpoint->keep_days > 0 && job->fetch.method == KBS_FETCH_GET;
}

/* From the cache, if it is there and not older than `max_s`. True if that was the answer. */
static bool answer_kept(struct kbs_courier *c, struct kbs_job *job, int64_t max_s)
{
    struct kbs_buf body = KBS_BUF(job->fetch.max);
    int64_t fetched_s;
    bool found = is_kept(job) && kbs_cache_get(&c->cache, "get", job->url, &body, &fetched_s) &&
                 kbs_clock_unix_s() - fetched_s < max_s;

    if (found) {
        const struct kbs_wire_fetched msg = {.outcome = KBS_FETCH_DONE,
                                             .status = 200,
                                             .grpc_status = KBS_WIRE_GRPC_NONE,
                                             .body = kbs_buf_span(&body)};
        job_answer(c, job, &msg);
    }
    kbs_buf_deinit(&body);
    return found;
}

/* There will be no answer from the network. */
static void give_up(struct kbs_courier *c, struct kbs_job *job, enum kbs_fetch_outcome outcome,
                    const char *detail)
{
    const struct kbs_wire_fetched msg = {.outcome = (uint8_t)outcome,
                                         .grpc_status = KBS_WIRE_GRPC_NONE,
                                         .detail = kbs_span_str(detail)};

    if (!answer_kept(c, job, INT64_MAX)) {
        job_answer(c, job, &msg);
    }
}

static struct kbs_job *job_new(struct kbs_courier *c, struct kbs_endpoint *endpoint, size_t peer,
                               uint64_t id, struct kbs_span body)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_job *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return NULL;
    }
    *job = (struct kbs_job){.endpoint = endpoint,
                            .peer = peer,
                            .peer_serial = c->peers[peer].serial,
                            .id = id,
                            .message = KBS_BUF(body.len),
                            .deadline_ns = kbs_deadline_in_ms(endpoint->timeout_ms)};
    kbs_buf_put_span(&job->message, body);
    if (kbs_wire_decode(KBS_WIRE_FETCH, kbs_buf_span(&job->message), &job->fetch, &err) != 0) {
        kbs_buf_deinit(&job->message);
        free(job);
        return NULL;
    }
    (void)snprintf(job->url, sizeof(job->url), "%s%.*s", endpoint->place.url,
                   (int)job->fetch.suffix.len,
                   job->fetch.suffix.len > 0 ? (const char *)job->fetch.suffix.p : "");
    if (job->fetch.max > KBS_LIMIT_FETCH_BYTES) {
        job->fetch.max = KBS_LIMIT_FETCH_BYTES;
    }
    struct kbs_job **end = &c->jobs;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = job;
    endpoint->waiting++;
    c->waiting_bytes += body.len;
    return job;
}

void kbs_jobs_take(struct kbs_courier *c, size_t peer, uint64_t id, struct kbs_span body)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_fetch fetch;

    if (kbs_wire_decode(KBS_WIRE_FETCH, body, &fetch, &err) != 0) {
        kbs_peer_drop(&c->peers[peer], err.detail);
        return;
    }
    struct kbs_endpoint *endpoint = endpoint_of(c, fetch.endpoint);
    const char *wrong = check(&fetch, endpoint);
    if (wrong != NULL) {
        refuse(c, peer, id, KBS_FETCH_REFUSED, wrong);
    } else if (endpoint->waiting >= KBS_LIMIT_FETCH_QUEUE ||
               c->waiting_bytes + body.len > KBS_LIMIT_FETCH_WAITING_BYTES) {
        refuse(c, peer, id, KBS_FETCH_FAILED, "too many wait for this endpoint");
    } else {
        struct kbs_job *job = job_new(c, endpoint, peer, id, body);
        if (job == NULL) {
            refuse(c, peer, id, KBS_FETCH_FAILED, "out of memory");
        } else {
            (void)answer_kept(c, job, endpoint->keep_days * DAY_S);
        }
    }
}

static void log_failure(const struct kbs_job *job)
{
    const struct kbs_answer *a = &job->transfer->answer;
    char text[CURL_ERROR_SIZE + 16];

    if (a->outcome == KBS_FETCH_DONE) {
        (void)snprintf(text, sizeof(text), "\"status %u\"", a->status);
    } else {
        kbs_log_text(kbs_span_str(a->log), text, sizeof(text));
    }
    kbs_log(KBS_LOG_WARN, "fetch-failed", "endpoint=%s try=%u why=%s", job->endpoint->place.name,
            job->tries, text);
}

/* After a random part of the time that doubles with each try. */
static uint64_t next_try_ns(const struct kbs_job *job, uint64_t now_ns)
{
    uint64_t ms = (uint64_t)KBS_LIMIT_FETCH_BACKOFF_MS << (job->tries - 1);
    uint8_t random;

    kbs_random(&random, sizeof(random));
    return now_ns + (ms / 2 + ms * random / 512) * KBS_NS_PER_MS;
}

/* True if it is tried again, later. */
static bool try_again(struct kbs_courier *c, struct kbs_job *job, uint64_t now_ns)
{
    struct kbs_endpoint *e = job->endpoint;
    uint64_t at_ns;

    if (!job->transfer->answer.again || job->tries > e->retries || e->breaker.open_until_ns != 0) {
        return false;
    }
    at_ns = next_try_ns(job, now_ns);
    if (at_ns >= job->deadline_ns) {
        return false;
    }
    job->transfer = kbs_transfer_free(c->multi, job->transfer);
    job->not_before_ns = at_ns;
    e->running--;
    e->waiting++;
    return true;
}

void kbs_job_done(struct kbs_courier *c, struct kbs_job *job)
{
    const struct kbs_answer *a = &job->transfer->answer;
    struct kbs_endpoint *e = job->endpoint;
    uint64_t now_ns = kbs_clock_mono_ns();
    bool ok = a->outcome == KBS_FETCH_DONE && !a->again;
    /* An answer that is too large is an answer. */
    bool alive = ok || a->outcome == KBS_FETCH_LARGE;

    if (!ok) {
        log_failure(job);
    }
    if (kbs_breaker_note(&e->breaker, alive, job->probe, now_ns)) {
        kbs_log(alive ? KBS_LOG_INFO : KBS_LOG_WARN, "circuit", "endpoint=%s state=%s",
                e->place.name, alive ? "closed" : "open");
    }
    job->probe = false;
    if (try_again(c, job, now_ns)) {
        return;
    }
    if (ok && a->status == 200 && is_kept(job)) {
        kbs_cache_put(&c->cache, "get", job->url, kbs_buf_span(&a->body));
    }
    if (!ok && answer_kept(c, job, INT64_MAX)) {
        return;
    }
    bool done = a->outcome == KBS_FETCH_DONE;
    const struct kbs_wire_fetched msg = {.outcome = (uint8_t)a->outcome,
                                         .status = a->status,
                                         .grpc_status = done ? a->grpc_status : KBS_WIRE_GRPC_NONE,
                                         .content_type =
                                             done ? kbs_span_str(a->content_type) : KBS_SPAN_EMPTY,
                                         .body = done ? kbs_buf_span(&a->body) : KBS_SPAN_EMPTY,
                                         .detail = kbs_span_str(a->detail)};
    job_answer(c, job, &msg);
}

/* Its next try, if the breaker lets it. */
static void job_try(struct kbs_courier *c, struct kbs_job *job, uint64_t now_ns)
{
    struct kbs_endpoint *e = job->endpoint;
    struct kbs_error err = KBS_ERROR_NONE;
    uint32_t left_ms = (uint32_t)((job->deadline_ns - now_ns) / KBS_NS_PER_MS) + 1;

    if (!kbs_breaker_may_ask(&e->breaker, now_ns, &job->probe)) {
        give_up(c, job, KBS_FETCH_OPEN, "it failed lately, and is not asked again yet");
        return;
    }
    const struct kbs_transfer_want want = {
        .url = job->url,
        .unix_path = e->place.unix_path[0] != '\0' ? e->place.unix_path : NULL,
        .trust = &e->place.trust,
        .http2 = e->http2,
        .method = (enum kbs_fetch_method)job->fetch.method,
        .content_type = job->fetch.content_type,
        .accept = job->fetch.accept,
        .etag = "",
        .body = job->fetch.body,
        .max = job->fetch.max,
        .timeout_ms = left_ms,
        .connect_ms = e->connect_ms,
    };
    if (kbs_transfer_start(c->multi, &want, KBS_TRANSFER_FOR_JOB, job, &job->transfer, &err) != 0) {
        kbs_log_error("fetch-failed", &err);
        kbs_breaker_cancel(&e->breaker, job->probe);
        give_up(c, job, KBS_FETCH_FAILED, "out of memory");
        return;
    }
    job->tries++;
    e->waiting--;
    e->running++;
}

uint64_t kbs_jobs_step(struct kbs_courier *c, uint64_t now_ns)
{
    uint64_t again_ns = KBS_DEADLINE_NONE;

    for (struct kbs_job *job = c->jobs, *next; job != NULL; job = next) {
        next = job->next;
        if (job->transfer != NULL) {
            continue; /* which has a timeout */
        }
        if (now_ns >= job->deadline_ns) {
            give_up(c, job, KBS_FETCH_TIMEOUT, "no answer in time");
            continue;
        }
        if (now_ns >= job->not_before_ns && job->endpoint->running < job->endpoint->parallel) {
            job_try(c, job, now_ns);
            continue;
        }
        uint64_t at_ns = now_ns < job->not_before_ns ? job->not_before_ns : job->deadline_ns;
        again_ns = at_ns < again_ns ? at_ns : again_ns;
    }
    return again_ns;
}

void kbs_jobs_orphaned(struct kbs_courier *c)
{
    for (struct kbs_job *job = c->jobs, *next; job != NULL; job = next) {
        next = job->next;
        const struct kbs_peer *p = &c->peers[job->peer];
        if (p->kind != KBS_PEER_FRONT || p->serial != job->peer_serial) {
            job_free(c, job);
        }
    }
}
