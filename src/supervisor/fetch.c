/*
 * What kbs-fetch is told. Its secrets, client keys and header files, are opened here and handed over
 * unread, afresh for each start like everything else that is handed over.
 */
#include "supervisor/fetch.h"

#include <errno.h>
#include <fcntl.h>

#include "base/io.h"
#include "channel/channel.h"

#define SEND_MS 5000

static int tell(int control, enum kbs_wire_type type, const void *msg, int fd,
                struct kbs_error *err)
{
    return kbs_channel_send(control, type, 0, msg, fd, kbs_deadline_in_ms(SEND_MS), err);
}

static int attach(int control, enum kbs_attach what, uint32_t index, int fd, struct kbs_error *err)
{
    const struct kbs_wire_attach msg = {.what = (uint8_t)what, .index = index};

    return tell(control, KBS_WIRE_ATTACH, &msg, fd, err);
}

static int attach_file(int control, enum kbs_attach what, uint32_t index, const char *path,
                       struct kbs_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "%s: %s", path, strerror(errno));
    }
    int rc = attach(control, what, index, fd, err);
    kbs_io_close(&fd);
    return rc;
}

/* A message as an item of a list. */
static int add_body(struct kbs_wire_list_builder *to, enum kbs_wire_type type, const void *msg,
                    struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    int rc = kbs_wire_body_put(&body, type, msg, err);

    if (rc == 0) {
        kbs_wire_list_add(to, kbs_buf_span(&body));
    }
    kbs_buf_deinit(&body);
    return rc;
}

static int add_endpoint(struct kbs_wire_list_builder *to, const struct kbs_config_endpoint *e,
                        struct kbs_error *err)
{
    const struct kbs_wire_config_endpoint msg = {.name = kbs_span_str(e->name),
                                                 .url = kbs_span_str(e->url),
                                                 .ca = e->ca,
                                                 .certificate = e->certificate,
                                                 .timeout_ms = e->timeout_ms,
                                                 .connect_ms = e->connect_ms,
                                                 .retries = e->retries,
                                                 .http2 = e->http2,
                                                 .parallel = e->parallel,
                                                 .failures = e->failures,
                                                 .open_ms = e->open_ms,
                                                 .keep_days = e->keep_days};

    return add_body(to, KBS_WIRE_CONFIG_ENDPOINT, &msg, err);
}

static int add_document(struct kbs_wire_list_builder *to, const struct kbs_config_document *d,
                        struct kbs_error *err)
{
    struct kbs_buf hosts = KBS_BUF(16384);
    struct kbs_wire_list_builder list = {.buf = &hosts};

    for (size_t i = 0; i < d->jwks_hosts.n; i++) {
        kbs_wire_list_add(&list, kbs_span_str(d->jwks_hosts.v[i]));
    }
    const struct kbs_wire_config_document msg = {.name = kbs_span_str(d->name),
                                                 .url = kbs_span_str(d->url),
                                                 .ca = d->ca,
                                                 .timeout_ms = d->timeout_ms,
                                                 .refresh_s = d->refresh_s,
                                                 .discovery = d->discovery,
                                                 .jwks_hosts = kbs_wire_list_done(&list)};
    int rc = add_body(to, KBS_WIRE_CONFIG_DOCUMENT, &msg, err);
    kbs_buf_deinit(&hosts);
    return rc;
}

static int tell_config(int control, const struct kbs_config *c, struct kbs_error *err)
{
    struct kbs_buf endpoints = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_buf documents = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_wire_list_builder e = {.buf = &endpoints};
    struct kbs_wire_list_builder d = {.buf = &documents};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->fetch.n_endpoints; i++) {
        rc = add_endpoint(&e, &c->fetch.endpoints[i], err);
    }
    for (size_t i = 0; rc == 0 && i < c->fetch.n_documents; i++) {
        rc = add_document(&d, &c->fetch.documents[i], err);
    }
    const struct kbs_wire_config_fetch msg = {.production = c->production,
                                              .cache = kbs_span_str(c->fetch.cache),
                                              .endpoints = kbs_wire_list_done(&e),
                                              .documents = kbs_wire_list_done(&d)};
    if (rc == 0) {
        rc = kbs_buf_check(&endpoints, "the list of endpoints", err);
    }
    if (rc == 0) {
        rc = kbs_buf_check(&documents, "the list of documents", err);
    }
    if (rc == 0) {
        rc = tell(control, KBS_WIRE_CONFIG_FETCH, &msg, -1, err);
    }
    kbs_buf_deinit(&endpoints);
    kbs_buf_deinit(&documents);
    return rc;
}

static int attach_secrets(int control, const struct kbs_config_endpoint *e, uint32_t index,
                          struct kbs_error *err)
{
    int rc = e->client_key != NULL
                 ? attach_file(control, KBS_ATTACH_CLIENT_KEY, index, e->client_key, err)
                 : 0;

    for (size_t i = 0; rc == 0 && i < e->header_files.n; i++) {
        rc = attach_file(control, KBS_ATTACH_HEADERS, index, e->header_files.v[i], err);
    }
    return rc;
}

int kbsd_fetch_configure(const struct kbsd_child *fetch, const struct kbs_config *c,
                         struct kbs_error *err)
{
    int rc = tell_config(fetch->control, c, err);

    for (uint32_t i = 0; rc == 0 && i < c->fetch.n_endpoints; i++) {
        rc = attach_secrets(fetch->control, &c->fetch.endpoints[i], i, err);
    }
    return rc == 0 ? tell(fetch->control, KBS_WIRE_GO, NULL, -1, err) : rc;
}

int kbsd_fetch_attach(int fetch_control, const struct kbsd_child *to, uint32_t index,
                      struct kbs_error *err)
{
    enum kbs_attach peer = to->role == KBSD_FRONT ? KBS_ATTACH_FRONT : KBS_ATTACH_JUDGE;
    int pair[2] = {-1, -1};
    int rc = kbs_channel_pair(pair, err);

    if (rc == 0) {
        rc = attach(fetch_control, peer, index, pair[0], err);
    }
    if (rc == 0) {
        rc = attach(to->control, KBS_ATTACH_FETCH, 0, pair[1], err);
    }
    kbs_io_close(&pair[0]);
    kbs_io_close(&pair[1]);
    return rc;
}
