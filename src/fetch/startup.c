/*
 * Start-up: the conversation with kbsd before the loop runs. First CONFIG_FETCH, then ATTACHes, then
 * GO; anything else is fatal. What has to be read from a file is read here: the keys of client
 * certificates and the headers of endpoints from descriptors, each once, and the system's certificates,
 * if somebody is to be believed on their word.
 */
#include <stdio.h>

#include "base/io.h"
#include "base/process.h"
#include "base/url.h"
#include "channel/channel.h"
#include "fetch/courier.h"

#define PEM_BYTES 65536
#define SYSTEM_CA_BYTES (1u << 20)

static int place_set(struct kbs_place *p, struct kbs_span name, struct kbs_span url,
                     struct kbs_span ca, struct kbs_error *err)
{
    struct kbs_url parsed;
    bool fits = kbs_span_to_cstr(name, p->name, sizeof(p->name)) && p->name[0] != '\0';

    if (!kbs_url_parse(url, &parsed)) {
        return kbs_fail(err, KBS_INPUT, "an endpoint or document without a usable URL");
    }
    if (parsed.scheme == KBS_URL_UNIX) {
        fits = fits && kbs_span_to_cstr(parsed.path, p->unix_path, sizeof(p->unix_path));
        url = KBS_SPAN_LIT("http://localhost");
    }
    fits = fits && kbs_span_to_cstr(url, p->url, sizeof(p->url));
    kbs_buf_init(&p->ca, PEM_BYTES);
    kbs_buf_init(&p->certificate, PEM_BYTES);
    kbs_buf_init(&p->key, PEM_BYTES);
    kbs_buf_init(&p->headers, KBS_LIMIT_FETCH_HEADER_BYTES);
    kbs_buf_put_span(&p->ca, ca);
    return fits && !p->ca.failed
               ? 0
               : kbs_fail(err, KBS_INPUT, "a name, URL or certificate is too long");
}

static int take_endpoint(struct kbs_courier *c, struct kbs_span item, struct kbs_error *err)
{
    struct kbs_endpoint *e = &c->endpoints[c->n_endpoints];
    struct kbs_wire_config_endpoint m;

    if (c->n_endpoints == KBS_LIMIT_FETCH_ENDPOINTS) {
        return kbs_fail(err, KBS_INPUT, "too many endpoints");
    }
    if (kbs_wire_decode(KBS_WIRE_CONFIG_ENDPOINT, item, &m, err) != 0) {
        return -1;
    }
    c->n_endpoints++;
    if (place_set(&e->place, m.name, m.url, m.ca, err) != 0) {
        return -1;
    }
    kbs_buf_put_span(&e->place.certificate, m.certificate);
    if (m.timeout_ms == 0 || m.timeout_ms > KBS_LIMIT_FETCH_MS || m.connect_ms == 0 ||
        m.retries > KBS_LIMIT_FETCH_RETRIES || m.parallel == 0 ||
        m.parallel > KBS_LIMIT_FETCH_PARALLEL || e->place.certificate.failed) {
        return kbs_fail(err, KBS_INPUT, "a number of endpoint %s is out of range", e->place.name);
    }
    e->timeout_ms = m.timeout_ms;
    e->connect_ms = m.connect_ms;
    e->retries = m.retries;
    e->http2 = m.http2 != 0;
    e->parallel = m.parallel;
    e->keep_days = m.keep_days;
    e->breaker = (struct kbs_breaker){.limit = m.failures, .open_ms = m.open_ms};
    return 0;
}

static int take_document(struct kbs_courier *c, struct kbs_span item, struct kbs_error *err)
{
    struct kbs_document *d = &c->documents[c->n_documents];
    struct kbs_wire_config_document m;
    struct kbs_span host;

    if (c->n_documents == KBS_LIMIT_FETCH_DOCUMENTS) {
        return kbs_fail(err, KBS_INPUT, "too many documents");
    }
    if (kbs_wire_decode(KBS_WIRE_CONFIG_DOCUMENT, item, &m, err) != 0) {
        return -1;
    }
    c->n_documents++;
    if (place_set(&d->place, m.name, m.url, m.ca, err) != 0) {
        return -1;
    }
    d->timeout_ms = m.timeout_ms;
    d->refresh_s = m.refresh_s;
    d->discovery = m.discovery != 0;
    kbs_buf_init(&d->content, KBS_LIMIT_FETCH_DOCUMENT_BYTES);
    kbs_buf_init(&d->hosts, 4096);
    struct kbs_wire_iter it = kbs_wire_list_iter(&m.jwks_hosts);
    while (kbs_wire_list_next(&it, &host)) {
        kbs_buf_put_span(&d->hosts, host);
        kbs_buf_put_u8(&d->hosts, 0);
    }
    return m.timeout_ms == 0 || m.timeout_ms > KBS_LIMIT_FETCH_MS || m.refresh_s == 0 ||
                   d->hosts.failed
               ? kbs_fail(err, KBS_INPUT, "a number of document %s is out of range", d->place.name)
               : 0;
}

static int take_config(struct kbs_courier *c, const struct kbs_channel_msg *m,
                       struct kbs_error *err)
{
    struct kbs_wire_config_fetch config;
    struct kbs_span item;

    if (kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_FETCH, &config, err) != 0) {
        return -1;
    }
    c->production = config.production != 0;
    struct kbs_wire_iter it = kbs_wire_list_iter(&config.endpoints);
    while (kbs_wire_list_next(&it, &item)) {
        if (take_endpoint(c, item, err) != 0) {
            return -1;
        }
    }
    it = kbs_wire_list_iter(&config.documents);
    while (kbs_wire_list_next(&it, &item)) {
        if (take_document(c, item, err) != 0) {
            return -1;
        }
    }
    return kbs_cache_open(&c->cache, config.cache, err);
}

/* "name: value", nothing that could end the line or be another header. */
static bool header_line_valid(struct kbs_span line)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t n = 0;

    while (n < line.len && line.p[n] != '\0' && strchr(letters, line.p[n]) != NULL) {
        n++;
    }
    if (n == 0 || n == line.len || line.p[n] != ':') {
        return false;
    }
    for (size_t i = n; i < line.len; i++) {
        if (line.p[i] < ' ' || line.p[i] > '~') {
            return false;
        }
    }
    return true;
}

/* A header file: a header on each line; empty lines are passed over. */
static int take_headers(struct kbs_place *p, int fd, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_FETCH_HEADER_BYTES);
    int rc = kbs_io_read_fd(fd, &text, err);
    struct kbs_span rest = kbs_buf_span(&text);

    while (rc == 0 && rest.len > 0) {
        const uint8_t *end = memchr(rest.p, '\n', rest.len);
        struct kbs_span line = kbs_span(rest.p, end != NULL ? (size_t)(end - rest.p) : rest.len);

        rest = kbs_span_skip(rest, line.len + 1);
        line.len -= line.len > 0 && line.p[line.len - 1] == '\r' ? 1 : 0;
        if (line.len > 0 && !header_line_valid(line)) {
            rc = kbs_fail(err, KBS_INPUT, "a header file of endpoint %s: not \"Name: value\"",
                          p->name);
        } else if (line.len > 0) {
            kbs_buf_put_span(&p->headers, line);
            kbs_buf_put_u8(&p->headers, 0);
        }
    }
    if (rc == 0) {
        rc = kbs_buf_check(&p->headers, "the headers of an endpoint", err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

static int take_attach(struct kbs_courier *c, const struct kbs_channel_msg *m,
                       struct kbs_error *err)
{
    struct kbs_wire_attach attach;

    if (kbs_channel_msg_decode(m, KBS_WIRE_ATTACH, &attach, err) != 0) {
        return -1;
    }
    if (attach.index < c->n_endpoints) {
        struct kbs_place *p = &c->endpoints[attach.index].place;

        if (attach.what == KBS_ATTACH_CLIENT_KEY && p->key.len == 0) {
            return kbs_io_read_fd(m->fd, &p->key, err);
        }
        if (attach.what == KBS_ATTACH_HEADERS) {
            return take_headers(p, m->fd, err);
        }
    }
    return kbs_fail(err, KBS_INPUT, "an ATTACH that kbs-fetch does not take before GO");
}

/* Buffers do not move any more. */
static int settle_trust(struct kbs_courier *c, struct kbs_place *p, struct kbs_error *err)
{
    bool tls = strncmp(p->url, "https:", 6) == 0;

    if (tls && p->ca.len == 0 && c->system_ca.len == 0) {
        const curl_version_info_data *about = curl_version_info(CURLVERSION_NOW);

        kbs_buf_init(&c->system_ca, SYSTEM_CA_BYTES);
        if (about->cainfo == NULL || kbs_io_read_file(about->cainfo, &c->system_ca, err) != 0) {
            return kbs_fail(err, KBS_INPUT,
                            "%s: no `ca`, and the system's certificates cannot be read (package "
                            "ca-certificates)",
                            p->name);
        }
    }
    if ((p->key.len > 0) != (p->certificate.len > 0)) {
        return kbs_fail(err, KBS_INPUT, "%s: a client certificate without its key", p->name);
    }
    p->trust = (struct kbs_trust){.ca = kbs_buf_span(p->ca.len > 0 ? &p->ca : &c->system_ca),
                                  .certificate = kbs_buf_span(&p->certificate),
                                  .key = kbs_buf_span(&p->key),
                                  .headers = kbs_buf_span(&p->headers)};
    return 0;
}

static int converse(struct kbs_courier *c, struct kbs_channel_msg *m, struct kbs_error *err)
{
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    int rc = kbs_channel_recv(KBS_FD_CONTROL, m, deadline_ns, err);

    if (rc == 0 && take_config(c, m, err) != 0) {
        return -1;
    }
    while (rc == 0 && (rc = kbs_channel_recv(KBS_FD_CONTROL, m, deadline_ns, err)) == 0 &&
           m->frame.type == KBS_WIRE_ATTACH) {
        rc = take_attach(c, m, err);
    }
    if (rc != 0) {
        return rc == KBS_CHANNEL_EOF ? kbs_fail(err, KBS_INTERNAL, "kbsd is gone") : -1;
    }
    return kbs_channel_msg_decode(m, KBS_WIRE_GO, NULL, err);
}

int kbs_courier_configure(struct kbs_courier *c, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int rc = converse(c, &m, err);

    for (size_t i = 0; rc == 0 && i < c->n_endpoints; i++) {
        rc = settle_trust(c, &c->endpoints[i].place, err);
    }
    for (size_t i = 0; rc == 0 && i < c->n_documents; i++) {
        rc = settle_trust(c, &c->documents[i].place, err);
    }
    kbs_channel_msg_deinit(&m);
    return rc;
}

static void place_deinit(struct kbs_place *p)
{
    kbs_buf_deinit(&p->ca);
    kbs_buf_deinit(&p->certificate);
    kbs_buf_deinit(&p->key);
    kbs_buf_deinit(&p->headers);
}

void kbs_courier_deinit(struct kbs_courier *c)
{
    for (size_t i = 0; i < KBS_LIMIT_FETCH_PEERS; i++) {
        kbs_peer_drop(&c->peers[i], NULL);
    }
    kbs_jobs_orphaned(c);
    for (size_t i = 0; i < c->n_endpoints; i++) {
        place_deinit(&c->endpoints[i].place);
    }
    for (size_t i = 0; i < c->n_documents; i++) {
        struct kbs_document *d = &c->documents[i];

        d->transfer = kbs_transfer_free(c->multi, d->transfer);
        place_deinit(&d->place);
        kbs_buf_deinit(&d->content);
        kbs_buf_deinit(&d->hosts);
    }
    kbs_buf_deinit(&c->system_ca);
    if (c->multi != NULL) {
        kbs_transfers_close(c->multi);
        c->multi = NULL;
    }
}
