/* The TLS of a front: what CONFIG_TLS says, completed by a key or by channels to a sign worker. */
#ifndef KBS_FRONT_CERTIFICATE_H
#define KBS_FRONT_CERTIFICATE_H

#include "channel/channel.h"
#include "tls/tls.h"

struct kbs_certificate {
    struct kbs_tls_context *context; /* owned; NULL: none yet */
    struct kbs_link *signers;        /* owned; NULL: the key is a file's */
    struct kbs_channel_msg config;   /* CONFIG_TLS */
    bool key_due;                    /* which has no key yet */
};
#define KBS_CERTIFICATE ((struct kbs_certificate){.config = KBS_CHANNEL_MSG})

/*
 * CONFIG_TLS, for connections to come: those that are there keep theirs. Its content is moved out of m.
 * With signers ->context is new when this returns, else when the key has come.
 */
KBS_MUST_CHECK int kbs_certificate_config(struct kbs_certificate *c, struct kbs_channel_msg *m,
                                          struct kbs_error *err);
/* ATTACH tls-key; fd is borrowed. KBS_INPUT if none is expected: after every CONFIG_TLS, one. */
KBS_MUST_CHECK int kbs_certificate_key(struct kbs_certificate *c, int fd, struct kbs_error *err);
/* ATTACH sign; takes fd in any case. */
KBS_MUST_CHECK int kbs_certificate_signer(struct kbs_certificate *c, uint32_t index, int fd,
                                          struct kbs_error *err);
void kbs_certificate_deinit(struct kbs_certificate *c);

#endif
