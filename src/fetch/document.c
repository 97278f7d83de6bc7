/*
 * Documents that are kept fresh: the keys of issuers, revocation lists. A judge is answered from memory,
 * at once, with the last good copy and its age; what is too old is the judge's to say.
 *
 * A document is fetched at the start, then every refresh_s or a little before, so that documents do
 * not fall due together. After a failure it is tried again soon, then less and less soon. A judge that
 * finds a signature by a key it does not know asks to look again: at most every
 * KBS_LIMIT_FETCH_LOOK_AGAIN_MS, or anybody with a made-up key id could have us flood the other side.
 *
 * What a good copy is: status 200, not empty, within bounds. One more thing can be told without
 * knowing what the document means: what was JSON does not become a page of HTML that says sorry with
 * status 200.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/random.h"
#include "base/url.h"
#include "fetch/courier.h"
#include "jose/read/json.h"

#define METADATA_PATH "/.well-known/openid-configuration"

void kbs_documents_load(struct kbs_courier *c)
{
    for (size_t i = 0; i < c->n_documents; i++) {
        struct kbs_document *d = &c->documents[i];

        d->there = kbs_cache_get(&c->cache, "doc", d->place.url, &d->content, &d->fetched_s) &&
                   d->content.len > 0;
        if (!d->there) {
            kbs_buf_clear(&d->content);
        }
    }
}

static struct kbs_document *document_of(struct kbs_courier *c, struct kbs_span name)
{
    for (size_t i = 0; i < c->n_documents; i++) {
        if (kbs_span_equal_str(name, c->documents[i].place.name)) {
            return &c->documents[i];
        }
    }
    return NULL;
}

static void look_again(struct kbs_document *d)
{
    uint64_t now_ns = kbs_clock_mono_ns();
    uint64_t least_ns = KBS_LIMIT_FETCH_LOOK_AGAIN_MS * KBS_NS_PER_MS;

    if (d->transfer == NULL && (d->asked_ns == 0 || now_ns - d->asked_ns >= least_ns)) {
        d->asked_ns = now_ns;
        d->due_ns = now_ns;
    }
}

void kbs_documents_want(struct kbs_courier *c, struct kbs_peer *peer, uint64_t id,
                        struct kbs_span body)
{
    struct kbs_wire_cached_want want;
    struct kbs_wire_cached msg = {.there = 0};
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_wire_decode(KBS_WIRE_CACHED_WANT, body, &want, &err) != 0) {
        kbs_peer_drop(peer, err.detail);
        return;
    }
    struct kbs_document *d = document_of(c, want.name);
    if (d != NULL && d->there) {
        msg = (struct kbs_wire_cached){
            .there = 1, .fetched_s = (uint64_t)d->fetched_s, .content = kbs_buf_span(&d->content)};
    }
    if (d != NULL && want.look_again != 0) {
        look_again(d);
    }
    kbs_peer_send(peer, KBS_WIRE_CACHED, id, &msg);
}

/* Fetching */

static void start(struct kbs_courier *c, struct kbs_document *d, const char *url)
{
    struct kbs_error err = KBS_ERROR_NONE;
    bool same = d->there && strcmp(url, d->etag_url) == 0;
    const struct kbs_transfer_want want = {
        .url = url,
        .unix_path = d->place.unix_path[0] != '\0' ? d->place.unix_path : NULL,
        .trust = &d->place.trust,
        .method = KBS_FETCH_GET,
        .etag = same ? d->etag : "",
        .max = KBS_LIMIT_FETCH_DOCUMENT_BYTES,
        .timeout_ms = d->timeout_ms,
        .connect_ms = d->timeout_ms,
    };

    if (kbs_transfer_start(c->multi, &want, KBS_TRANSFER_FOR_DOCUMENT, d, &d->transfer, &err) !=
        0) {
        kbs_log_error("document-failed", &err);
        d->due_ns = kbs_deadline_in_ms(KBS_LIMIT_FETCH_DOCUMENT_RETRY_MS);
    }
}

static void start_due(struct kbs_courier *c, struct kbs_document *d)
{
    char url[KBS_COURIER_URL_BYTES + sizeof(METADATA_PATH)];
    size_t n = strlen(d->place.url);

    d->found[0] = '\0';
    if (d->discovery) {
        /* OpenID Connect Discovery 1.0 section 4: a slash at the issuer's end is dropped. */
        n -= n > 0 && d->place.url[n - 1] == '/' ? 1 : 0;
        (void)snprintf(url, sizeof(url), "%.*s" METADATA_PATH, (int)n, d->place.url);
        start(c, d, url);
    } else {
        start(c, d, d->place.url);
    }
}

/* Between nine tenths of it and all. */
static uint64_t jittered_ms(uint64_t ms)
{
    uint8_t random;

    kbs_random(&random, sizeof(random));
    return ms - ms * random / 2560;
}

static void succeed(struct kbs_document *d)
{
    if (d->failures > 0 || !d->there) {
        kbs_log(KBS_LOG_INFO, "document", "name=%s bytes=%zu", d->place.name, d->content.len);
    }
    d->there = true;
    d->failures = 0;
    d->fetched_s = kbs_clock_unix_s();
    d->due_ns = kbs_clock_mono_ns() + jittered_ms((uint64_t)d->refresh_s * 1000) * KBS_NS_PER_MS;
}

static void fail(struct kbs_document *d, const char *why)
{
    uint64_t ms = KBS_LIMIT_FETCH_DOCUMENT_RETRY_MS;
    uint64_t most_ms = (uint64_t)d->refresh_s * 1000;
    char text[CURL_ERROR_SIZE + 16];

    for (uint32_t i = 0; i < d->failures && ms < most_ms; i++) {
        ms *= 2;
    }
    ms = jittered_ms(ms < most_ms ? ms : most_ms);
    d->failures++;
    d->due_ns = kbs_clock_mono_ns() + ms * KBS_NS_PER_MS;
    kbs_log(KBS_LOG_WARN, "document-failed", "name=%s failures=%u there=%d again_in_ms=%llu why=%s",
            d->place.name, d->failures, d->there ? 1 : 0, (unsigned long long)ms,
            kbs_log_text(kbs_span_str(why), text, sizeof(text)));
}

static bool is_json(struct kbs_span text)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON object = NULL;

    return kbs_json_parse_object(text, "document", &object, &ignored) == 0;
}

static void take(struct kbs_courier *c, struct kbs_document *d)
{
    const struct kbs_answer *a = &d->transfer->answer;
    struct kbs_span body = kbs_buf_span(&a->body);
    struct kbs_span old = kbs_buf_span(&d->content);

    if (d->there && kbs_span_equal(body, old)) {
        kbs_cache_touch(&c->cache, "doc", d->place.url);
    } else if (body.len == 0) {
        fail(d, "the answer is empty");
        return;
    } else if ((d->discovery || (d->there && is_json(old))) && !is_json(body)) {
        fail(d, "the answer is no JSON object");
        return;
    } else {
        kbs_buf_wipe(&d->content);
        kbs_buf_put_span(&d->content, body);
        d->there = false; /* a new one: said by succeed() */
        kbs_cache_put(&c->cache, "doc", d->place.url, body);
    }
    (void)snprintf(d->etag, sizeof(d->etag), "%s", a->etag);
    (void)snprintf(d->etag_url, sizeof(d->etag_url), "%s", d->discovery ? d->found : d->place.url);
    succeed(d);
}

/* Discovery */

static bool host_listed(const struct kbs_document *d, struct kbs_span host)
{
    struct kbs_span names = kbs_buf_span(&d->hosts);

    while (names.len > 0) {
        struct kbs_span name = kbs_span_str((const char *)names.p);

        if (kbs_url_host_equal(name, host)) {
            return true;
        }
        names = kbs_span_skip(names, name.len + 1);
    }
    return false;
}

/* jwks_uri of an issuer's metadata into d->found; NULL, or what is wrong. */
static const char *discover(struct kbs_document *d, struct kbs_span body)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON metadata = NULL;
    struct kbs_span issuer;
    struct kbs_span uri;
    struct kbs_url here;
    struct kbs_url there;

    if (kbs_json_parse_object(body, "metadata", &metadata, &ignored) != 0 ||
        kbs_json_get_string(metadata, "issuer", &issuer, &ignored) != 0 ||
        kbs_json_get_string(metadata, "jwks_uri", &uri, &ignored) != 0) {
        return "the metadata are no JSON object with issuer and jwks_uri";
    }
    if (!kbs_span_equal_str(issuer, d->place.url)) {
        return "the metadata are of another issuer";
    }
    if (!kbs_url_parse(kbs_span_str(d->place.url), &here) || !kbs_url_parse(uri, &there) ||
        there.scheme != here.scheme) {
        return "jwks_uri is no URL that is followed: https, without a user or fragment";
    }
    if (!kbs_url_host_equal(here.host, there.host) && !host_listed(d, there.host)) {
        return "jwks_uri is on another host, which is not in jwks_hosts";
    }
    return kbs_span_to_cstr(uri, d->found, sizeof(d->found)) ? NULL : "jwks_uri is too long";
}

void kbs_document_done(struct kbs_courier *c, struct kbs_document *d)
{
    const struct kbs_answer *a = &d->transfer->answer;
    bool metadata = d->discovery && d->found[0] == '\0';
    const char *wrong = NULL;
    char status[32];

    if (a->outcome != KBS_FETCH_DONE) {
        fail(d, a->log);
    } else if (a->status == 304 && !metadata && d->there) {
        kbs_cache_touch(&c->cache, "doc", d->place.url);
        succeed(d);
    } else if (a->status != 200) {
        (void)snprintf(status, sizeof(status), "status %u", a->status);
        fail(d, status);
    } else if (!metadata) {
        take(c, d);
    } else {
        wrong = discover(d, kbs_buf_span(&a->body));
    }
    if (wrong != NULL) {
        d->found[0] = '\0';
        fail(d, wrong);
    }
    d->transfer = kbs_transfer_free(c->multi, d->transfer);
    if (metadata && d->found[0] != '\0') {
        start(c, d, d->found);
    }
}

uint64_t kbs_documents_step(struct kbs_courier *c, uint64_t now_ns)
{
    uint64_t again_ns = KBS_DEADLINE_NONE;

    for (size_t i = 0; i < c->n_documents; i++) {
        struct kbs_document *d = &c->documents[i];

        if (d->transfer == NULL && now_ns >= d->due_ns) {
            start_due(c, d);
        }
        if (d->transfer == NULL && d->due_ns < again_ns) {
            again_ns = d->due_ns;
        }
    }
    return again_ns;
}
