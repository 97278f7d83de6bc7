/*
 * What a key client needs of HTTP is little, and everything else libcurl offers is a way to be led
 * elsewhere: redirects, proxies from the environment, other protocols, .netrc, compression. All of
 * it is off. The URL is only scheme, host and port; targets are ours and sent byte for byte,
 * because the administrator's signature covers them. With --ca exactly those certificates are
 * trusted; with a pin and no CA the pin is what is trusted, whoever has signed the certificate.
 */
#include "cli/http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/status.h"
#include "jose/read/json.h"

#define COOKIE_NAME "kbs-session-id="
#define CONNECT_MS 10000L
#define TOTAL_MS ((long)KBS_LIMIT_REQUEST_MS + 10000L)

struct kbs_http_client {
    CURL *curl;
    char *base; /* scheme://authority, without a slash at the end */
    char *ca_file;
    char *unix_socket;
    char *tls_pin;
    char *client_cert;
    char *client_key;
};

static int url_part(CURLU *u, CURLUPart part, char **ret)
{
    *ret = NULL;
    return curl_url_get(u, part, ret, 0) == CURLUE_OK ? 0 : -1;
}

/* True if the part is absent. */
static bool url_lacks(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    bool absent = curl_url_get(u, part, &text, 0) != CURLUE_OK;
    curl_free(text);
    return absent;
}

static int check_url(const char *url, bool https_only, char **ret_base, struct kbs_error *err)
{
    char *scheme = NULL;
    char *path = NULL;
    char *base;
    bool https;
    int r = -1;
    CURLU *u = curl_url();

    if (u == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
        url_part(u, CURLUPART_SCHEME, &scheme) != 0 || url_part(u, CURLUPART_PATH, &path) != 0) {
        (void)kbs_fail(err, KBS_INPUT, "not a URL: %.120s", url);
        goto out;
    }
    https = strcmp(scheme, "https") == 0;
    if (!https && (https_only || strcmp(scheme, "http") != 0)) {
        (void)kbs_fail(err, KBS_INPUT, "the URL must begin with https://%s",
                       https_only ? "" : " or http://");
        goto out;
    }
    if (!url_lacks(u, CURLUPART_USER) || !url_lacks(u, CURLUPART_PASSWORD) ||
        !url_lacks(u, CURLUPART_QUERY) || !url_lacks(u, CURLUPART_FRAGMENT) ||
        strcmp(path, "/") != 0) {
        (void)kbs_fail(err, KBS_INPUT, "the URL must be scheme, host and port only");
        goto out;
    }
    base = strdup(url);
    if (base == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "out of memory");
        goto out;
    }
    if (base[strlen(base) - 1] == '/') {
        base[strlen(base) - 1] = '\0';
    }
    *ret_base = base;
    r = 0;
out:
    curl_free(scheme);
    curl_free(path);
    curl_url_cleanup(u);
    return r;
}

/* A copy, if there is something to copy. */
static bool keep(const char *from, char **ret)
{
    *ret = from != NULL ? strdup(from) : NULL;
    return from == NULL || *ret != NULL;
}

int kbs_http_client_new(const struct kbs_http_server *server, struct kbs_http_client **ret,
                        struct kbs_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return kbs_fail(err, KBS_INTERNAL, "libcurl does not start");
    }
    struct kbs_http_client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (check_url(server->url, server->https_only || server->tls_pin != NULL, &c->base, err) != 0) {
        goto fail;
    }
    c->curl = curl_easy_init();
    if (c->curl == NULL || !keep(server->ca_file, &c->ca_file) ||
        !keep(server->unix_socket, &c->unix_socket) || !keep(server->tls_pin, &c->tls_pin) ||
        !keep(server->client_cert, &c->client_cert) || !keep(server->client_key, &c->client_key)) {
        (void)kbs_fail(err, KBS_INTERNAL, "out of memory");
        goto fail;
    }
    *ret = c;
    return 0;
fail:
    (void)kbs_http_client_free(c);
    return -1;
}

struct kbs_http_client *kbs_http_client_free(struct kbs_http_client *c)
{
    if (c == NULL) {
        return NULL;
    }
    if (c->curl != NULL) {
        curl_easy_cleanup(c->curl);
    }
    free(c->base);
    free(c->ca_file);
    free(c->unix_socket);
    free(c->tls_pin);
    free(c->client_cert);
    free(c->client_key);
    free(c);
    curl_global_cleanup();
    return NULL;
}

void kbs_http_response_deinit(struct kbs_http_response *r)
{
    kbs_buf_deinit(&r->body);
}

/* libcurl: anything but `size * count` ends the transfer. */
static size_t on_body(char *p, size_t size, size_t count, void *user)
{
    struct kbs_http_response *r = user;
    kbs_buf_put(&r->body, p, size * count);
    return r->body.failed ? 0 : size * count;
}

static void take_cookie(struct kbs_span value, struct kbs_http_response *r)
{
    size_t n = 0;

    if (!kbs_span_starts_with(value, COOKIE_NAME)) {
        return;
    }
    value = kbs_span_skip(value, sizeof(COOKIE_NAME) - 1);
    while (n < value.len && value.p[n] > 0x20 && value.p[n] < 0x7f && value.p[n] != ';' &&
           value.p[n] != ',' && value.p[n] != '"') {
        n++;
    }
    if (n < value.len && value.p[n] != ';') {
        return;
    }
    (void)kbs_span_to_cstr(kbs_span(value.p, n), r->cookie, sizeof(r->cookie));
}

static void take_retry_after(struct kbs_span value, struct kbs_http_response *r)
{
    uint32_t seconds = 0;

    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || i >= 6) {
            return;
        }
        seconds = seconds * 10 + (uint32_t)(value.p[i] - '0');
    }
    r->retry_after_s = seconds;
}

static size_t on_header(char *p, size_t size, size_t count, void *user)
{
    struct kbs_http_response *r = user;
    struct kbs_span line = kbs_span(p, size * count);
    const uint8_t *colon = line.len > 0 ? memchr(line.p, ':', line.len) : NULL;
    char name[32];

    if (colon == NULL ||
        !kbs_span_to_cstr(kbs_span(line.p, (size_t)(colon - line.p)), name, sizeof(name))) {
        return size * count;
    }
    struct kbs_span value = kbs_span_skip(line, (size_t)(colon - line.p) + 1);
    while (value.len > 0 && (value.p[0] == ' ' || value.p[0] == '\t')) {
        value = kbs_span_skip(value, 1);
    }
    while (value.len > 0 && value.p[value.len - 1] <= ' ') {
        value.len--;
    }
    if (strcasecmp(name, "set-cookie") == 0) {
        take_cookie(value, r);
    } else if (strcasecmp(name, "retry-after") == 0) {
        take_retry_after(value, r);
    } else if (strcasecmp(name, "content-type") == 0) {
        (void)kbs_span_to_cstr(value, r->content_type, sizeof(r->content_type));
    } else if (strcasecmp(name, "kbs-receipt") == 0) {
        (void)kbs_span_to_cstr(value, r->receipt, sizeof(r->receipt));
    }
    return size * count;
}

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    struct kbs_buf line = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    struct curl_slist *longer = NULL;

    kbs_buf_printf(&line, "%s%s", name, value);
    const char *text = kbs_buf_cstr(&line);
    if (text != NULL) {
        longer = curl_slist_append(*list, text);
    }
    kbs_buf_deinit(&line);
    if (longer != NULL) {
        *list = longer;
    }
    return longer != NULL;
}

static bool add_headers(struct curl_slist **list, const struct kbs_http_request *q)
{
    return add_header(list, "Expect:", "") &&
           (q->accept == NULL || add_header(list, "Accept: ", q->accept)) &&
           (q->content_type == NULL || add_header(list, "Content-Type: ", q->content_type)) &&
           (q->cookie == NULL || add_header(list, "Cookie: " COOKIE_NAME, q->cookie)) &&
           (q->signature == NULL || add_header(list, "Kbs-Signature: ", q->signature)) &&
           (q->proof == NULL || add_header(list, "Kbs-Proof: ", q->proof));
}

/* Who the server has to be, and who we are. */
static bool set_trust(const struct kbs_http_client *c)
{
    CURL *h = c->curl;
    bool by_chain = c->tls_pin == NULL || c->ca_file != NULL;
    bool ok = true;

    ok = ok && curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, by_chain ? 1L : 0L) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, by_chain ? 2L : 0L) == CURLE_OK;
    if (c->ca_file != NULL) {
        ok = ok && curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_file) == CURLE_OK;
        ok = ok && curl_easy_setopt(h, CURLOPT_CAPATH, NULL) == CURLE_OK;
    }
    if (c->tls_pin != NULL) {
        ok = ok && curl_easy_setopt(h, CURLOPT_PINNEDPUBLICKEY, c->tls_pin) == CURLE_OK;
    }
    if (c->client_cert != NULL) {
        ok = ok && curl_easy_setopt(h, CURLOPT_SSLCERT, c->client_cert) == CURLE_OK;
        ok = ok && curl_easy_setopt(h, CURLOPT_SSLKEY, c->client_key) == CURLE_OK;
    }
    return ok;
}

/* Every option must be taken: a build of libcurl that lacks one is not usable here. */
static bool set_options(struct kbs_http_client *c, const char *url, char *message)
{
    CURL *h = c->curl;
    bool ok = true;

    curl_easy_reset(h);
    ok = ok && curl_easy_setopt(h, CURLOPT_URL, url) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_ERRORBUFFER, message) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_PROXY, "") == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK;
    ok = ok && set_trust(c);
    ok = ok && curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, TOTAL_MS) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(h, CURLOPT_USERAGENT, "kbs-hsm/" KBS_VERSION) == CURLE_OK;
    if (c->unix_socket != NULL) {
        ok = ok && curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->unix_socket) == CURLE_OK;
    }
    return ok;
}

static bool set_request(CURL *h, const struct kbs_http_request *q, struct curl_slist *headers,
                        struct kbs_http_response *ret)
{
    bool ok = curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_WRITEDATA, ret) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_HEADERDATA, ret) == CURLE_OK;

    if (strcmp(q->method, "GET") == 0) {
        return ok && curl_easy_setopt(h, CURLOPT_HTTPGET, 1L) == CURLE_OK;
    }
    return ok && curl_easy_setopt(h, CURLOPT_POST, 1L) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, (long)q->body.len) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_POSTFIELDS,
                            q->body.len > 0 ? (const char *)q->body.p : "") == CURLE_OK;
}

static int transport_error(const struct kbs_http_response *r, CURLcode code, const char *base,
                           const char *message, struct kbs_error *err)
{
    const char *text = message[0] != '\0' ? message : curl_easy_strerror(code);

    if (r->body.failed) {
        return kbs_fail(err, KBS_TOO_LARGE, "the answer is larger than %zu bytes", r->body.max);
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_ISSUER_ERROR ||
        code == CURLE_SSL_PINNEDPUBKEYNOTMATCH) {
        return kbs_fail_native(err, KBS_UNAUTHENTICATED, KBS_ORIGIN_LIB, code, "%.60s: %.120s",
                               base, text);
    }
    if (code == CURLE_SSL_CACERT_BADFILE) {
        return kbs_fail_native(err, KBS_INPUT, KBS_ORIGIN_LIB, code, "the CA file: %.150s", text);
    }
    return kbs_fail_native(err, KBS_DEADLINE, KBS_ORIGIN_LIB, code, "%.60s: %.120s", base, text);
}

int kbs_http_send(struct kbs_http_client *c, const struct kbs_http_request *request,
                  struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_buf url = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES + 512);
    struct curl_slist *headers = NULL;
    char message[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURLcode code;
    int r = -1;

    *ret = (struct kbs_http_response){.body = KBS_BUF(KBS_LIMIT_HTTP_RESPONSE_BYTES)};
    kbs_buf_printf(&url, "%s%s", c->base, request->target);
    const char *text = kbs_buf_cstr(&url);
    if (text == NULL || !add_headers(&headers, request)) {
        (void)kbs_fail(err, KBS_INPUT, "the request is too large");
        goto out;
    }
    if (!set_options(c, text, message) || !set_request(c->curl, request, headers, ret)) {
        (void)kbs_fail(err, KBS_INTERNAL, "this libcurl lacks an option we rely on");
        goto out;
    }
    code = curl_easy_perform(c->curl);
    if (code != CURLE_OK) {
        (void)transport_error(ret, code, c->base, message, err);
        goto out;
    }
    if (curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status < 100 ||
        status > 599) {
        (void)kbs_fail(err, KBS_DEADLINE, "%.60s: the answer has no status", c->base);
        goto out;
    }
    ret->status = (unsigned int)status;
    r = 0;
out:
    (void)curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    kbs_buf_deinit(&url);
    return r;
}

int kbs_http_expect_ok(const struct kbs_http_response *r, const char *what, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;
    struct kbs_span detail = KBS_SPAN_EMPTY;

    if (r->status == 200) {
        return 0;
    }
    enum kbs_category category = kbs_cli_category(r->status);
    if (kbs_json_parse_object(kbs_buf_span(&r->body), "error", &body, &ignored) == 0 &&
        kbs_json_get_string(body, "detail", &detail, &ignored) == 0 && detail.len > 0) {
        int n = detail.len < 150 ? (int)detail.len : 150;
        return kbs_fail(err, category, "%s: %.*s", what, n, (const char *)detail.p);
    }
    return kbs_fail(err, category, "%s: the server answered with status %u", what, r->status);
}
