/*
 * [fetch]: where the service may go by itself, and how. Certificates are read here, so that kbs-fetch
 * opens no file of the operator's. Header files and client keys are secrets: they are looked at from
 * outside, and handed over unread.
 *
 * Plain http leaves everything that is asked and answered to whoever is in between. To this machine it is
 * taken; anywhere else it is for demonstrations.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/url.h"
#include "config/schema.h"

void kbs_config_fetch_defaults(struct kbs_config *c)
{
    for (size_t i = 0; i < KBS_LIMIT_FETCH_ENDPOINTS; i++) {
        c->fetch.endpoints[i] = (struct kbs_config_endpoint){.timeout_ms = 10000,
                                                             .connect_ms = 3000,
                                                             .retries = 1,
                                                             .parallel = 16,
                                                             .failures = 5,
                                                             .open_ms = 10000};
    }
    for (size_t i = 0; i < KBS_LIMIT_FETCH_DOCUMENTS; i++) {
        c->fetch.documents[i] =
            (struct kbs_config_document){.timeout_ms = 10000, .refresh_s = 3600};
    }
}

bool kbs_config_fetches(const struct kbs_config *config)
{
    return config->fetch.n_endpoints + config->fetch.n_documents > 0;
}

/* The place of a row's key; of the row, if it does not have it. */
static struct kbs_doc_place at_of(const struct kbs_config_loader *l, enum kbs_config_key_id id,
                                  size_t row)
{
    return l->seen[id][row].at;
}

static void check_cache(struct kbs_config_loader *l)
{
    const char *folder = l->config->fetch.cache;
    struct stat st;

    if (!kbs_config_usable(l, KBS_CONFIG_KEY_FETCH_CACHE)) {
        return;
    }
    if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode)) {
        kbs_config_fail(l, kbs_config_at(l, KBS_CONFIG_KEY_FETCH_CACHE),
                        "fetch.cache: is not a folder");
        return;
    }
    kbs_config_check_apart(l, KBS_CONFIG_KEY_FETCH_CACHE, folder);
}

static void check_name(struct kbs_config_loader *l, enum kbs_config_key_id id, size_t row,
                       const char *name, const char *earlier)
{
    if (name != NULL && earlier != NULL && strcmp(name, earlier) == 0) {
        kbs_config_fail(l, at_of(l, id, row), "%s.name: \"%s\" is there twice",
                        kbs_config_keys[id].table, name);
    }
}

/* PEM of a file that a row names, into the arena. */
static struct kbs_span read_pem(struct kbs_config_loader *l, enum kbs_config_key_id id, size_t row,
                                const char *path)
{
    struct kbs_buf pem = KBS_BUF(KBS_CONFIG_CERTIFICATE_BYTES);
    struct kbs_span ret = KBS_SPAN_EMPTY;

    if (path != NULL && kbs_config_read_pem(l, at_of(l, id, row), kbs_config_keys[id].name, path,
                                            "CERTIFICATE", &pem) == 0) {
        ret = kbs_arena_copy(&l->config->arena, kbs_buf_span(&pem));
        if (ret.p == NULL) {
            (void)kbs_config_no_memory(l);
        }
    }
    kbs_buf_deinit(&pem);
    return ret;
}

/* False if there is no URL to say more about. */
static bool check_url(struct kbs_config_loader *l, enum kbs_config_key_id id, size_t row,
                      const char *text, const char *ca, struct kbs_url *ret)
{
    const char *table = kbs_config_keys[id].table;
    char what[160];

    if (text == NULL || !kbs_url_parse(kbs_span_str(text), ret)) {
        return false;
    }
    if (ret->scheme == KBS_URL_HTTP && !kbs_url_is_local(ret)) {
        (void)snprintf(what, sizeof(what), "%s.url: http to another machine", table);
        (void)kbs_config_insecure(l, at_of(l, id, row), what);
    }
    if (ret->scheme != KBS_URL_HTTPS && ca != NULL) {
        kbs_config_warn(l, at_of(l, id, row), "%s.ca is not used: url is not https", table);
    }
    return true;
}

static void check_secret(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                         const char *path)
{
    unsigned int mode;
    char what[96];

    if (kbs_config_check_file(l, at, name, path, &mode) == 0 && (mode & 07u) != 0) {
        (void)snprintf(what, sizeof(what), "%s: others may read or change it", name);
        (void)kbs_config_insecure(l, at, what);
    }
}

static void check_client(struct kbs_config_loader *l, size_t row,
                         const struct kbs_config_endpoint *e, bool https)
{
    bool certificate = l->seen[KBS_CONFIG_KEY_ENDPOINT_CERTIFICATE][row].given;
    bool key = l->seen[KBS_CONFIG_KEY_ENDPOINT_KEY][row].given;
    struct kbs_doc_place at = at_of(
        l, certificate ? KBS_CONFIG_KEY_ENDPOINT_CERTIFICATE : KBS_CONFIG_KEY_ENDPOINT_KEY, row);

    if (certificate != key) {
        kbs_config_fail(l, at, "fetch.endpoint[]: client_certificate and client_key go together");
    } else if (certificate && !https) {
        kbs_config_fail(l, at, "fetch.endpoint[].client_certificate: url is not https");
    }
    if (e->client_key != NULL) {
        check_secret(l, at_of(l, KBS_CONFIG_KEY_ENDPOINT_KEY, row), "client_key", e->client_key);
    }
    for (size_t i = 0; i < e->header_files.n; i++) {
        check_secret(l, l->seen[KBS_CONFIG_KEY_ENDPOINT_HEADERS][row].items[i], "header_files",
                     e->header_files.v[i]);
    }
}

static void check_endpoint(struct kbs_config_loader *l, size_t row)
{
    struct kbs_config_endpoint *e = &l->config->fetch.endpoints[row];
    struct kbs_url url;
    bool known = check_url(l, KBS_CONFIG_KEY_ENDPOINT_URL, row, e->url, e->ca_path, &url);

    for (size_t i = 0; i < row; i++) {
        check_name(l, KBS_CONFIG_KEY_ENDPOINT_NAME, row, e->name,
                   l->config->fetch.endpoints[i].name);
    }
    if (known && url.scheme != KBS_URL_UNIX && url.path.len > 0 &&
        (memchr(url.path.p, '?', url.path.len) != NULL || url.path.p[url.path.len - 1] == '/')) {
        kbs_config_fail(l, at_of(l, KBS_CONFIG_KEY_ENDPOINT_URL, row),
                        "fetch.endpoint[].url: a path is put behind it, so it may not end in "
                        "\"/\" or have a query");
    }
    e->ca = read_pem(l, KBS_CONFIG_KEY_ENDPOINT_CA, row, e->ca_path);
    e->certificate = read_pem(l, KBS_CONFIG_KEY_ENDPOINT_CERTIFICATE, row, e->certificate_path);
    check_client(l, row, e, known && url.scheme == KBS_URL_HTTPS);
    if (e->keep_days > 0 && l->config->fetch.cache == NULL) {
        kbs_config_fail(
            l, at_of(l, KBS_CONFIG_KEY_ENDPOINT_KEEP, row),
            "fetch.endpoint[].keep_days needs fetch.cache, a folder to keep answers in");
    }
    if (e->keep_days > 0 && known && url.scheme == KBS_URL_UNIX) {
        /* They are kept by URL, and two sockets' would be the same. */
        kbs_config_fail(l, at_of(l, KBS_CONFIG_KEY_ENDPOINT_KEEP, row),
                        "fetch.endpoint[].keep_days: not with a unix socket");
    }
}

static void check_document(struct kbs_config_loader *l, size_t row)
{
    struct kbs_config_document *d = &l->config->fetch.documents[row];
    struct kbs_url url;
    bool known = check_url(l, KBS_CONFIG_KEY_DOCUMENT_URL, row, d->url, d->ca_path, &url);

    for (size_t i = 0; i < row; i++) {
        check_name(l, KBS_CONFIG_KEY_DOCUMENT_NAME, row, d->name,
                   l->config->fetch.documents[i].name);
    }
    d->ca = read_pem(l, KBS_CONFIG_KEY_DOCUMENT_CA, row, d->ca_path);
    if (known && url.scheme == KBS_URL_UNIX) {
        kbs_config_fail(l, at_of(l, KBS_CONFIG_KEY_DOCUMENT_URL, row),
                        "fetch.document[].url: a unix socket names no document");
    }
    if (known && d->discovery && url.path.len > 0 &&
        memchr(url.path.p, '?', url.path.len) != NULL) {
        kbs_config_fail(l, at_of(l, KBS_CONFIG_KEY_DOCUMENT_URL, row),
                        "fetch.document[].url: an issuer has no query");
    }
    if (!d->discovery && d->jwks_hosts.n > 0) {
        kbs_config_warn(l, at_of(l, KBS_CONFIG_KEY_DOCUMENT_HOSTS, row),
                        "fetch.document[].jwks_hosts is not used without discovery");
    }
}

void kbs_config_check_fetch(struct kbs_config_loader *l)
{
    check_cache(l);
    for (size_t i = 0; i < l->config->fetch.n_endpoints; i++) {
        check_endpoint(l, i);
    }
    for (size_t i = 0; i < l->config->fetch.n_documents; i++) {
        check_document(l, i);
    }
}
