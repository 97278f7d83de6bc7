/* What a front and its sign worker are told of one server's TLS. */
#ifndef KBS_SUPERVISOR_TLS_H
#define KBS_SUPERVISOR_TLS_H

#include "base/buf.h"
#include "config/config.h"

/* The files as they were when they were read together, and what the configuration said then. */
struct kbsd_tls {
    struct kbs_buf certificate;
    struct kbs_buf client_ca;
    struct kbs_buf key; /* the URI; empty: a file has the key */
    struct kbs_buf ciphers;
    struct kbs_buf groups;
    uint8_t minimum;
    uint8_t maximum;
};

/* Takes the place of what is in *t, also when it fails. A server without TLS is nothing to read. */
KBS_MUST_CHECK int kbsd_tls_read(struct kbsd_tls *t, const struct kbs_config_server *server,
                                 struct kbs_error *err);
bool kbsd_tls_equal(const struct kbsd_tls *a, const struct kbsd_tls *b);
void kbsd_tls_deinit(struct kbsd_tls *t);

/* CONFIG_TLS to a front, and if a file has the key, that file. */
KBS_MUST_CHECK int kbsd_tls_tell(const struct kbsd_tls *t, const struct kbs_config_server *server,
                                 int control, struct kbs_error *err);

#endif
