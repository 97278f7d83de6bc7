/*
 * A VCEK that neither came with the evidence nor is in the folder is fetched while the guest waits, as any
 * other answer (fetch.c): through the front, which may be an attacker's. It is a certificate, so all
 * that a forged one, or a lie that there is none, can do is to have the guest refused.
 *
 * Who writes reports without hardware can have AMD asked for chips that are none; the verifier asks only
 * for what would be all that is missing, and here it is counted.
 *
 * Revocation lists are kept fresh by kbs-fetch and taken from its memory over the judge's own channel.
 * They are signed, too: one that is none changes nothing and is reported once per list and minute.
 */
#include "api/endorse.h"

#include "base/clock.h"
#include "base/log.h"

/* Whether one more may be asked for; only runs that end with a question count. */
static bool admitted(struct kbs_call *call)
{
    struct kbs_sampler *s = &call->api->endorsements;
    uint64_t now_s = (uint64_t)call->now_s;

    if (call->fetches < call->req->fetched.count) {
        return true;
    }
    if (now_s - s->window_s >= 60) {
        s->window_s = now_s;
        s->count = 0;
    }
    return s->count++ < KBS_LIMIT_ENDORSEMENTS_PER_MIN;
}

int kbs_endorse_fetch(void *with, const char *endpoint, const char *path, struct kbs_buf *ret,
                      struct kbs_error *err)
{
    struct kbs_call *call = with;
    const struct kbs_fetch_want want = {.endpoint = endpoint,
                                        .method = KBS_FETCH_GET,
                                        .suffix = kbs_span_str(path),
                                        .max = KBS_LIMIT_CERTIFICATE_BYTES};
    struct kbs_wire_fetched fetched;

    if (!call->api->fetch.attached) {
        return 0;
    }
    if (!admitted(call)) {
        return kbs_fail(err, KBS_BUSY, "too many certificates have to be fetched: try again later");
    }
    if (kbs_fetch(call, &want, &fetched, err) != 0) {
        return -1;
    }
    if (fetched.outcome == KBS_FETCH_DONE && fetched.status == 200) {
        kbs_buf_put_span(ret, fetched.body);
        return kbs_buf_check(ret, "a fetched certificate", err);
    }
    if (fetched.outcome == KBS_FETCH_DONE && (fetched.status == 404 || fetched.status == 400)) {
        return 0;
    }
    kbs_log(KBS_LOG_WARN, "endorsement-not-fetched", "endpoint=%s outcome=%u status=%u", endpoint,
            fetched.outcome, fetched.status);
    return kbs_fail(err, KBS_BUSY, "the service of the vendor's certificates does not answer");
}

void kbs_endorse_renew(struct kbs_api *api, enum kbs_tee tee)
{
    const struct kbs_verifier *v = api->verifiers != NULL ? &api->verifiers[tee] : NULL;
    uint64_t now_ns = kbs_clock_mono_ns();

    if (v == NULL || v->documents == NULL || !api->fetch.attached ||
        (api->renewed_ns != 0 &&
         now_ns - api->renewed_ns < KBS_LIMIT_RENEW_S * 1000 * KBS_NS_PER_MS)) {
        return;
    }
    api->renewed_ns = now_ns;
    for (const char *const *name = v->documents; *name != NULL; name++) {
        struct kbs_error why = KBS_ERROR_NONE;
        struct kbs_span content;
        int64_t fetched_s;
        bool taken = false;

        if (kbs_fetch_cached(api, *name, false, &content, &fetched_s, &why) != 0) {
            continue; /* not configured, or not there yet */
        }
        if (v->renew(v->keeper, *name, content, &taken, &why) != 0) {
            kbs_log_error("document-refused", &why);
        } else if (taken) {
            kbs_log(KBS_LOG_INFO, "document-renewed", "name=%s", *name);
        }
    }
}
