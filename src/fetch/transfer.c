/*
 * What libcurl is told, all in one place. Its defaults are those of a tool for people: it follows
 * environment variables, many protocols, the system's certificates beside those that it was given. So
 * everything that decides where a request goes and whom it believes is set here, for every request.
 *
 * Names are resolved by a thread of libcurl's for each, because getaddrinfo(3) cannot be
 * interrupted. One that has not come back when its transfer ends is left behind (QUICK_EXIT): without
 * that the whole process would wait for it.
 *
 * An answer is bounded while it arrives: its body by `max`, its headers by HEADERS_MAX.
 */
#include "fetch/transfer.h"

#include <errno.h>
#include <nss.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define HEADERS_MAX 65536
#define CONNECTIONS_KEPT 64

int kbs_transfers_open(CURLM **ret, struct kbs_error *err)
{
    *ret = NULL;
    /*
     * Names come from /etc/hosts and DNS, by code that is in the C library: a plug-in of nsswitch.conf
     * would have to be loaded later, which confinement does not let happen.
     */
    if (__nss_configure_lookup("hosts", "files dns") != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "the resolver cannot be set up");
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return kbs_fail_errno(err, KBS_INTERNAL, "SIGPIPE cannot be ignored");
    }
    if (curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK) {
        *ret = curl_multi_init();
    }
    if (*ret == NULL ||
        curl_multi_setopt(*ret, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT) != CURLM_OK) {
        return kbs_fail(err, KBS_INTERNAL, "libcurl does not start");
    }
    return 0;
}

void kbs_transfers_close(CURLM *multi)
{
    (void)curl_multi_cleanup(multi);
    curl_global_cleanup();
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct kbs_transfer *t = arg;
    struct kbs_buf *body = &t->answer.body;

    n *= size;
    if (n > body->max - body->len) {
        t->large = true;
        return 0;
    }
    kbs_buf_put(body, p, n);
    return body->failed ? 0 : n;
}

/* The value of a header line if it has this name. */
static bool header_value(struct kbs_span line, const char *name, struct kbs_span *ret)
{
    size_t n = strlen(name);

    if (line.len <= n || line.p[n] != ':' || strncasecmp((const char *)line.p, name, n) != 0) {
        return false;
    }
    *ret = kbs_span_skip(line, n + 1);
    while (ret->len > 0 && ret->p[0] == ' ') {
        *ret = kbs_span_skip(*ret, 1);
    }
    while (ret->len > 0 && ret->p[ret->len - 1] <= ' ') {
        ret->len--;
    }
    return true;
}

/* Printable text that fits; anything else is as if it were not there. */
static void keep_text(struct kbs_span value, char ret[KBS_TRANSFER_TEXT_BYTES])
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < ' ' || value.p[i] > '~') {
            return;
        }
    }
    (void)kbs_span_to_cstr(value, ret, KBS_TRANSFER_TEXT_BYTES);
}

/* Decimal; anything else is no status at all. */
static uint32_t grpc_status_of(struct kbs_span value)
{
    uint32_t status = 0;

    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || i >= 4) {
            return KBS_WIRE_GRPC_NONE;
        }
        status = status * 10 + (uint32_t)(value.p[i] - '0');
    }
    return value.len > 0 ? status : KBS_WIRE_GRPC_NONE;
}

/* Headers, and the trailers of gRPC, which come the same way after the body. */
static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct kbs_transfer *t = arg;
    struct kbs_answer *a = &t->answer;
    struct kbs_span line = kbs_span(p, size * n);
    struct kbs_span value;

    t->header_bytes += line.len;
    if (t->header_bytes > HEADERS_MAX) {
        t->large = true;
        return 0;
    }
    if (kbs_span_starts_with(line, "HTTP/")) { /* after a 100 the headers begin anew */
        a->content_type[0] = '\0';
        a->etag[0] = '\0';
        a->grpc_status = KBS_WIRE_GRPC_NONE;
    } else if (header_value(line, "content-type", &value)) {
        keep_text(value, a->content_type);
    } else if (header_value(line, "etag", &value)) {
        keep_text(value, a->etag);
    } else if (header_value(line, "grpc-status", &value)) {
        a->grpc_status = grpc_status_of(value);
    } else if (header_value(line, "grpc-message", &value)) {
        keep_text(value, a->detail);
    }
    return line.len;
}

/* A header of ours: "name: value", or "name:" to suppress one of libcurl's. */
static int add_header(struct kbs_transfer *t, const char *name, struct kbs_span value)
{
    char line[512];
    int n = snprintf(line, sizeof(line), "%s:%s%.*s", name, value.len > 0 ? " " : "",
                     (int)value.len, value.len > 0 ? (const char *)value.p : "");
    struct curl_slist *list =
        n > 0 && (size_t)n < sizeof(line) ? curl_slist_append(t->headers, line) : NULL;

    if (list == NULL) {
        return -1;
    }
    t->headers = list;
    return 0;
}

static int add_own_headers(struct kbs_transfer *t, struct kbs_span lines)
{
    while (lines.len > 0) {
        const char *line = (const char *)lines.p;
        struct curl_slist *list = curl_slist_append(t->headers, line);

        if (list == NULL) {
            return -1;
        }
        t->headers = list;
        lines = kbs_span_skip(lines, strlen(line) + 1);
    }
    return 0;
}

static int make_headers(struct kbs_transfer *t, const struct kbs_transfer_want *want)
{
    bool grpc = kbs_span_starts_with(want->content_type, "application/grpc");

    if (add_header(t, "Expect", KBS_SPAN_EMPTY) != 0 ||
        add_header(t, "Accept", want->accept) != 0 ||
        add_header(t, "Content-Type", want->content_type) != 0 ||
        (grpc && add_header(t, "te", KBS_SPAN_LIT("trailers")) != 0) ||
        (want->etag[0] != '\0' && add_header(t, "If-None-Match", kbs_span_str(want->etag)) != 0)) {
        return -1;
    }
    return add_own_headers(t, want->trust->headers);
}

#define SET(option, value) (rc = rc != CURLE_OK ? rc : curl_easy_setopt(t->easy, option, value))

static CURLcode set_blob(CURL *easy, CURLoption option, struct kbs_span pem)
{
    struct curl_blob blob = {
        .data = (void *)(uintptr_t)pem.p, .len = pem.len, .flags = CURL_BLOB_NOCOPY};

    return pem.len > 0 ? curl_easy_setopt(easy, option, &blob) : CURLE_OK;
}

/* Whom to believe. The system's certificates count only where they were given. */
static CURLcode set_trust(struct kbs_transfer *t, const struct kbs_trust *trust)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_CAINFO, NULL);
    SET(CURLOPT_CAPATH, NULL);
    rc = rc != CURLE_OK ? rc : set_blob(t->easy, CURLOPT_CAINFO_BLOB, trust->ca);
    rc = rc != CURLE_OK ? rc : set_blob(t->easy, CURLOPT_SSLCERT_BLOB, trust->certificate);
    return rc != CURLE_OK ? rc : set_blob(t->easy, CURLOPT_SSLKEY_BLOB, trust->key);
}

/*
 * libcurl before 8.0.0 begins HTTP/2 anew on a connection that has it already, and so fails the second
 * request over it (its pull request 10643). Debian 12 has 7.88.1.
 */
static bool can_reuse_prior_knowledge(void)
{
    return curl_version_info(CURLVERSION_NOW)->version_num >= 0x080000;
}

/* Where to, and nowhere else. */
static CURLcode set_destination(struct kbs_transfer *t, const struct kbs_transfer_want *want)
{
    long plain = want->http2 ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_1_1;
    long version =
        want->http2 && strncmp(want->url, "https:", 6) == 0 ? CURL_HTTP_VERSION_2TLS : plain;
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_URL, want->url);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_UNIX_SOCKET_PATH, want->unix_path);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_HTTP_VERSION, version);
    if (version == CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE && !can_reuse_prior_knowledge()) {
        SET(CURLOPT_FRESH_CONNECT, 1L);
        SET(CURLOPT_FORBID_REUSE, 1L);
    }
    return rc;
}

static CURLcode set_request(struct kbs_transfer *t, const struct kbs_transfer_want *want)
{
    CURLcode rc = CURLE_OK;

    if (want->method == KBS_FETCH_POST) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)want->body.len);
        SET(CURLOPT_POSTFIELDS, want->body.len > 0 ? (const char *)want->body.p : "");
    }
    SET(CURLOPT_HTTPHEADER, t->headers);
    SET(CURLOPT_USERAGENT, "kbs-fetch");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)want->timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)want->connect_ms);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_ERRORBUFFER, t->answer.log);
    SET(CURLOPT_PRIVATE, t);
    return rc;
}

int kbs_transfer_start(CURLM *multi, const struct kbs_transfer_want *want,
                       enum kbs_transfer_for kind, void *owner, struct kbs_transfer **ret,
                       struct kbs_error *err)
{
    struct kbs_transfer *t = calloc(1, sizeof(*t));

    *ret = NULL;
    if (t == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "no memory for a transfer");
    }
    t->kind = kind;
    t->owner = owner;
    t->answer.grpc_status = KBS_WIRE_GRPC_NONE;
    kbs_buf_init(&t->answer.body, want->max);
    t->easy = curl_easy_init();
    if (t->easy == NULL || make_headers(t, want) != 0 || set_trust(t, want->trust) != CURLE_OK ||
        set_destination(t, want) != CURLE_OK || set_request(t, want) != CURLE_OK ||
        curl_multi_add_handle(multi, t->easy) != CURLM_OK) {
        (void)kbs_transfer_free(multi, t);
        return kbs_fail(err, KBS_INTERNAL, "a transfer cannot be set up");
    }
    *ret = t;
    return 0;
}

/* What trying again may help with: the way there, and not what was found at its end. */
static bool is_transient(CURLcode rc)
{
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static void conclude(struct kbs_transfer *t, CURLcode rc)
{
    struct kbs_answer *a = &t->answer;
    long status = 0;

    if (rc == CURLE_OK) {
        (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        a->outcome = KBS_FETCH_DONE;
        a->status = (uint32_t)status;
        a->again = status == 502 || status == 503 || status == 504;
        return;
    }
    a->outcome = t->large                         ? KBS_FETCH_LARGE
                 : rc == CURLE_OPERATION_TIMEDOUT ? KBS_FETCH_TIMEOUT
                                                  : KBS_FETCH_FAILED;
    a->again = !t->large && is_transient(rc);
    (void)snprintf(a->detail, sizeof(a->detail), "%s",
                   t->large ? "the answer is too large" : curl_easy_strerror(rc));
    if (a->log[0] == '\0' || t->large) {
        (void)snprintf(a->log, sizeof(a->log), "%s", a->detail);
    }
}

struct kbs_transfer *kbs_transfers_next_done(CURLM *multi)
{
    struct kbs_transfer *t = NULL;
    int left;

    for (CURLMsg *m = curl_multi_info_read(multi, &left); m != NULL;
         m = curl_multi_info_read(multi, &left)) {
        if (m->msg == CURLMSG_DONE &&
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t) == CURLE_OK && t != NULL) {
            conclude(t, m->data.result);
            return t;
        }
    }
    return NULL;
}

struct kbs_transfer *kbs_transfer_free(CURLM *multi, struct kbs_transfer *t)
{
    if (t != NULL) {
        if (t->easy != NULL) {
            (void)curl_multi_remove_handle(multi, t->easy);
            curl_easy_cleanup(t->easy);
        }
        curl_slist_free_all(t->headers);
        kbs_buf_deinit(&t->answer.body);
        free(t);
    }
    return NULL;
}
