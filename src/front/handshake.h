/* Handshakes that wait for a token: in threads, so that the loop does not wait with them. */
#ifndef KBS_FRONT_HANDSHAKE_H
#define KBS_FRONT_HANDSHAKE_H

#include "front/conns.h"

/* Makes libuv start KBS_LIMIT_TLS_SIGNERS threads, which are used for nothing else. Before any other use of its pool. */
KBS_MUST_CHECK int kbs_handshake_threads(struct kbs_error *err);

/*
 * Has a thread go on with the connection's handshake (kbs_tls_handshake()); kbs_conn_stepped() is called on
 * the loop when it has. conn->stepping until then.
 */
void kbs_handshake_step(struct kbs_conn *conn);

#endif
