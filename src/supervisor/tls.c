/*
 * Certificates are read here and not understood: a front or a sign worker says whether they can be used.
 * A key in a file is opened and handed over unread.
 */
#include "supervisor/tls.h"

#include <errno.h>
#include <fcntl.h>

#include "base/io.h"
#include "channel/channel.h"

#define SEND_MS 5000

static void put(struct kbs_buf *to, const char *text)
{
    *to = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    kbs_buf_put_str(to, text != NULL ? text : "");
}

int kbsd_tls_read(struct kbsd_tls *t, const struct kbs_config_server *server, struct kbs_error *err)
{
    kbsd_tls_deinit(t);
    if (server->n_sockets == 0) {
        return 0;
    }
    t->certificate = KBS_BUF(KBS_CONFIG_CERTIFICATE_BYTES);
    t->client_ca = KBS_BUF(KBS_CONFIG_CERTIFICATE_BYTES);
    put(&t->key, server->key_uri);
    put(&t->ciphers, server->tls.ciphers);
    put(&t->groups, server->tls.groups);
    t->minimum = server->tls.minimum;
    t->maximum = server->tls.maximum;
    if (kbs_io_read_file(server->certificate, &t->certificate, err) != 0 ||
        (server->client_ca != NULL &&
         kbs_io_read_file(server->client_ca, &t->client_ca, err) != 0)) {
        return -1;
    }
    return t->key.failed || t->ciphers.failed || t->groups.failed
               ? kbs_fail(err, KBS_INTERNAL, "out of memory")
               : 0;
}

static bool same(const struct kbs_buf *a, const struct kbs_buf *b)
{
    return kbs_span_equal(kbs_buf_span(a), kbs_buf_span(b));
}

bool kbsd_tls_equal(const struct kbsd_tls *a, const struct kbsd_tls *b)
{
    return same(&a->certificate, &b->certificate) && same(&a->client_ca, &b->client_ca) &&
           same(&a->key, &b->key) && same(&a->ciphers, &b->ciphers) &&
           same(&a->groups, &b->groups) && a->minimum == b->minimum && a->maximum == b->maximum;
}

void kbsd_tls_deinit(struct kbsd_tls *t)
{
    kbs_buf_deinit(&t->certificate);
    kbs_buf_deinit(&t->client_ca);
    kbs_buf_deinit(&t->key);
    kbs_buf_deinit(&t->ciphers);
    kbs_buf_deinit(&t->groups);
}

static int attach_key(const char *path, int control, struct kbs_error *err)
{
    const struct kbs_wire_attach msg = {.what = KBS_ATTACH_TLS_KEY};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "%s: %s", path, strerror(errno));
    }
    int rc =
        kbs_channel_send(control, KBS_WIRE_ATTACH, 0, &msg, fd, kbs_deadline_in_ms(SEND_MS), err);
    kbs_io_close(&fd);
    return rc;
}

int kbsd_tls_tell(const struct kbsd_tls *t, const struct kbs_config_server *server, int control,
                  struct kbs_error *err)
{
    bool token = t->key.len != 0;
    const struct kbs_wire_config_tls config = {
        .certificate = kbs_buf_span(&t->certificate),
        .client_ca = kbs_buf_span(&t->client_ca),
        .signers = token ? KBS_LIMIT_TLS_SIGNERS : 0,
        .minimum = t->minimum,
        .maximum = t->maximum,
        .ciphers = kbs_buf_span(&t->ciphers),
        .groups = kbs_buf_span(&t->groups),
    };
    if (kbs_channel_send(control, KBS_WIRE_CONFIG_TLS, 0, &config, -1, kbs_deadline_in_ms(SEND_MS),
                         err) != 0) {
        return -1;
    }
    return token ? 0 : attach_key(server->private_key, control, err);
}
