/*
 * A certificate is renewed while connections are served. The problem: the new one and its key must take
 * effect together, and an old one must go on for those who met it. The approach: one object per pair
 * (struct kbs_tls_context), made whole before it replaces the one before; OpenSSL counts who still uses
 * that. A link to signers belongs to its certificate in the same way, so a handshake that began with the
 * old certificate is signed by the old worker, which ends when the last of them has let go of its channels.
 */
#include "front/certificate.h"

#include "base/io.h"

static int context_new(struct kbs_certificate *c, int key_fd, struct kbs_link *signers,
                       struct kbs_error *err)
{
    struct kbs_wire_config_tls config;
    struct kbs_tls_context *context = NULL;

    if (kbs_channel_msg_decode(&c->config, KBS_WIRE_CONFIG_TLS, &config, err) < 0) {
        return -1;
    }
    const struct kbs_tls_settings settings = {.certificate = config.certificate,
                                              .key_fd = key_fd,
                                              .signers = signers,
                                              .client_ca = config.client_ca,
                                              .minimum = config.minimum,
                                              .maximum = config.maximum,
                                              .ciphers = config.ciphers,
                                              .groups = config.groups};

    if (kbs_tls_context_new(&settings, &context, err) < 0) {
        return -1;
    }
    kbs_tls_context_free(c->context);
    c->context = context;
    c->signers = kbs_link_free(c->signers);
    c->signers = signers != NULL ? kbs_link_ref(signers) : NULL;
    return 0;
}

int kbs_certificate_config(struct kbs_certificate *c, struct kbs_channel_msg *m,
                           struct kbs_error *err)
{
    struct kbs_wire_config_tls config;
    struct kbs_link *signers = NULL;
    int r;

    if (kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_TLS, &config, err) < 0) {
        return -1;
    }
    kbs_channel_msg_deinit(&c->config);
    c->config = *m;
    *m = KBS_CHANNEL_MSG;
    c->key_due = config.signers == 0;
    if (c->key_due) {
        return 0;
    }
    r = kbs_link_new(config.signers, &signers, err);
    if (r == 0) {
        r = context_new(c, -1, signers, err);
    }
    kbs_link_free(signers);
    kbs_channel_msg_deinit(&c->config);
    return r;
}

int kbs_certificate_key(struct kbs_certificate *c, int fd, struct kbs_error *err)
{
    int r;

    if (!c->key_due) {
        return kbs_fail(err, KBS_INPUT, "a TLS key was attached without a certificate, or twice");
    }
    c->key_due = false;
    r = context_new(c, fd, NULL, err);
    kbs_channel_msg_deinit(&c->config);
    return r;
}

int kbs_certificate_signer(struct kbs_certificate *c, uint32_t index, int fd, struct kbs_error *err)
{
    if (c->signers == NULL) {
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_INPUT, "a sign worker was attached without a certificate for it");
    }
    return kbs_link_attach(c->signers, index, fd, err);
}

void kbs_certificate_deinit(struct kbs_certificate *c)
{
    c->context = kbs_tls_context_free(c->context);
    c->signers = kbs_link_free(c->signers);
    kbs_channel_msg_deinit(&c->config);
}
