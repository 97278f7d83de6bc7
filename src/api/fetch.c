/*
 * What a handler needs from the network, and who brings it.
 *
 * The problem: an attestation service may take seconds, or never answer, and a judge must not wait for
 * it, for a waiting judge is a lane that nobody else can use. The approach: a handler that needs an
 * answer ends with `pending`, the front has the answer brought by kbs-fetch and sends the request
 * again, to any lane, with the answer attached; the handler then runs again from the top and finds it.
 * So a handler asks in the same order in every run, repeats all its checks, and neither records nor
 * commits anything in a run that is pending.
 *
 * Answers come through the front, which may be an attacker's: whoever takes one believes of it what is
 * signed, or judges it as it would judge a guest's own words. What is not signed (key sets) does not
 * come this way but over the judge's own channel to kbs-fetch, which answers from memory.
 */
#include "api/context.h"

#include <errno.h>

#include "base/io.h"
#include "base/log.h"

#define CACHED_MS 1000

/* The next FETCHED of the request, if it has one more. 1 if there is none. */
static int fetch_answered(struct kbs_call *call, const struct kbs_fetch_want *want,
                          struct kbs_wire_fetched *ret, struct kbs_error *err)
{
    struct kbs_span item;

    if (call->fetches >= call->req->fetched.count) {
        return 1;
    }
    item = kbs_wire_list_at(&call->req->fetched, call->fetches);
    if (kbs_wire_decode(KBS_WIRE_FETCHED, item, ret, err) != 0) {
        return -1;
    }
    if (ret->outcome <= KBS_FETCH_NONE || ret->outcome >= KBS_FETCH_OUTCOME_COUNT ||
        ret->body.len > want->max) {
        return kbs_fail(err, KBS_INPUT, "an answer that nobody can have fetched");
    }
    call->fetches++;
    return 0;
}

int kbs_fetch(struct kbs_call *call, const struct kbs_fetch_want *want,
              struct kbs_wire_fetched *ret, struct kbs_error *err)
{
    struct kbs_api *api = call->api;
    const struct kbs_wire_fetch fetch = {.endpoint = kbs_span_str(want->endpoint),
                                         .method = (uint8_t)want->method,
                                         .suffix = want->suffix,
                                         .content_type = want->content_type,
                                         .accept = want->accept,
                                         .body = want->body,
                                         .max = want->max};
    int rc;

    if (!api->fetch.attached) {
        return kbs_fail(err, KBS_UNSUPPORTED, "this service has no kbs-fetch to ask %s with",
                        want->endpoint);
    }
    rc = fetch_answered(call, want, ret, err);
    if (rc <= 0) {
        return rc;
    }
    if (call->fetches >= KBS_LIMIT_FETCH_ROUNDS) {
        return kbs_fail(err, KBS_LIMITED, "the request needs more than %d answers of others",
                        KBS_LIMIT_FETCH_ROUNDS);
    }
    kbs_buf_clear(&api->fetch.want);
    if (kbs_wire_body_put(&api->fetch.want, KBS_WIRE_FETCH, &fetch, err) != 0) {
        return -1;
    }
    call->pending = true;
    return kbs_fail(err, KBS_BUSY, "waits for %s", want->endpoint);
}

void kbs_fetch_attach(struct kbs_api_fetch *f, int fd)
{
    kbs_io_close(&f->fd);
    f->fd = fd;
    f->attached = f->attached || fd >= 0;
}

static bool peer_gone(const struct kbs_error *err)
{
    return err->category == KBS_TOKEN_DOWN ||
           (err->origin == KBS_ORIGIN_ERRNO && (err->native == EPIPE || err->native == ECONNRESET));
}

/*
 * One question. A channel that has closed is kbs-fetch being replaced, and costs this request only;
 * silence or nonsense is a peer that is of no more use, and ends the judge, so that its lane gets a
 * channel that is.
 */
static int cached_ask(struct kbs_api *api, const struct kbs_wire_cached_want *want,
                      struct kbs_wire_cached *ret, struct kbs_error *err)
{
    struct kbs_api_fetch *f = &api->fetch;
    struct kbs_error failed = KBS_ERROR_NONE;

    if (kbs_channel_call(f->fd, KBS_WIRE_CACHED_WANT, want, KBS_WIRE_CACHED, ret, &f->answer,
                         kbs_deadline_in_ms(CACHED_MS), &failed) == 0) {
        return 0;
    }
    if (peer_gone(&failed)) {
        kbs_io_close(&f->fd);
    } else {
        kbs_log_error("fetch_channel", &failed);
        api->must_exit = KBS_EXIT_FAILURE;
    }
    return kbs_fail(err, KBS_BUSY, "kbs-fetch does not answer");
}

int kbs_fetch_keys(void *with, const char *document, bool look_again, struct kbs_span *ret,
                   int64_t *ret_fetched_s, struct kbs_error *err)
{
    return kbs_fetch_cached(with, document, look_again, ret, ret_fetched_s, err);
}

int kbs_fetch_cached(struct kbs_api *api, const char *name, bool look_again, struct kbs_span *ret,
                     int64_t *ret_fetched_s, struct kbs_error *err)
{
    const struct kbs_wire_cached_want want = {.name = kbs_span_str(name),
                                              .look_again = look_again ? 1 : 0};
    struct kbs_wire_cached cached;

    if (!api->fetch.attached) {
        return kbs_fail(err, KBS_UNSUPPORTED, "this service has no kbs-fetch to keep %s", name);
    }
    if (api->fetch.fd < 0) {
        return kbs_fail(err, KBS_BUSY, "kbs-fetch is being replaced");
    }
    if (cached_ask(api, &want, &cached, err) != 0) {
        return -1;
    }
    if (cached.there == 0) {
        return kbs_fail(err, KBS_BUSY, "%s has not been fetched yet", name);
    }
    *ret = cached.content;
    *ret_fetched_s = (int64_t)cached.fetched_s;
    return 0;
}
