/*
 * Connections: sockets, TLS and buffers of the clients, and the table of them. What happens with
 * the bytes is decided by the state machine in step.c; here they are moved.
 */
#ifndef KBS_FRONT_CONNS_H
#define KBS_FRONT_CONNS_H

#include <uv.h>

#include "base/terms.h"
#include "front/lanes.h"
#include "front/metrics.h"
#include "front/relay.h"
#include "front/sources.h"
#include "front/timeouts.h"
#include "http/parser.h"
#include "http/response.h"
#include "tls/tls.h"

/* Plaintext waiting for its turn (pipelined requests) beyond which the socket is not read. */
#define KBS_CONN_PIPELINE_BYTES 32768u
/* Request bodies being received, all connections together, beyond which new ones are refused. */
#define KBS_CONNS_BODY_BYTES (128u << 20)
#define KBS_CONN_PEER_BYTES 64

enum kbs_conn_state {
    KBS_CONN_HANDSHAKE, /* TLS */
    KBS_CONN_IDLE,      /* no byte of the next request */
    KBS_CONN_HEAD,
    KBS_CONN_BODY,
    KBS_CONN_WAITING, /* in the queue or in a lane */
    KBS_CONN_WRITING, /* the answer is on its way */
    KBS_CONN_LINGER,  /* our side is shut; what still comes is discarded */
    KBS_CONN_CLOSED,
    KBS_CONN_STATE_COUNT
};

enum kbs_conn_event {
    KBS_CONN_EVENT_NONE, /* a state was entered */
    KBS_CONN_EVENT_IO,   /* bytes came, left, or the peer closed */
    KBS_CONN_EVENT_TIMEOUT,
    KBS_CONN_EVENT_ANSWER,
    KBS_CONN_EVENT_DRAIN
};

struct kbs_conns;

/* The request in hand, from its head to its answer. */
struct kbs_conn_request {
    uint64_t id; /* in the lanes; 0 while it is not there */
    uint64_t started_ns;
    enum kbs_route route;
    unsigned int status;
    int lane;
    bool keep_alive;
    size_t body_bytes; /* our share of kbs_conns.body_bytes */
    size_t length;     /* of the body, once it is known */
};

/*
 * Over twenty fields with those of the handles: one connection is one allocation, freed by its last
 * handle.
 */
struct kbs_conn {
    struct kbs_conns *owner;
    uint32_t slot;
    int fd;
    int events; /* what `poll` is started for */
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned int open_handles;
    enum kbs_conn_state state; /* written by the driver in step.c only */
    bool eof;                  /* the peer will send no more */
    bool broken;               /* socket or TLS failed */
    bool shut;                 /* we will send no more */
    bool served;               /* has had an answer */
    bool stepping;             /* a thread has `tls` (handshake.h) */
    uv_work_t work;
    bool secure;         /* TLS is spoken */
    struct kbs_tls *tls; /* if so, from the first byte on: with the certificate of then */
    struct kbs_http_parser *parser;
    struct kbs_buf in;  /* plaintext not yet parsed */
    struct kbs_buf out; /* bytes for the socket */
    size_t sent;
    struct kbs_conn_request request;
    const struct kbs_lanes_answer *answer; /* during KBS_CONN_EVENT_ANSWER only */
    char peer[KBS_CONN_PEER_BYTES];
    struct kbs_source source;
    struct kbs_conn *idle_prev, *idle_next; /* list of idle connections */
    bool in_idle_list;
    uint64_t idle_since_ns;
};

struct kbs_conns {
    uv_loop_t *loop;
    enum kbs_listener listener;
    const struct kbs_front_timeouts *timeouts;
    struct kbs_tls_context *tls; /* of connections to come; NULL without TLS listeners */
    struct kbs_lanes *lanes;
    struct kbs_relay *relay;
    struct kbs_metrics *metrics;
    struct kbs_sources sources; /* its per_s is the caller's, too */
    size_t request_body_max;    /* of any request */
    void (*room)(void *data); /* a connection is gone, or has become idle while the table is full */
    void *data;
    struct kbs_conn **table; /* max entries */
    uint32_t max;
    uint32_t count;
    uint32_t next_slot;
    uint64_t next_serial;
    size_t body_bytes;
    struct kbs_conn *idle_oldest, *idle_newest;
    bool draining;
    uint64_t log_again_ns; /* conns.c */
};

/* Allocates the table for c->max connections; the other members are the caller's. */
KBS_MUST_CHECK int kbs_conns_init(struct kbs_conns *c, struct kbs_error *err);
void kbs_conns_deinit(struct kbs_conns *c); /* once no connection is left */

/* Who connected; copied. */
struct kbs_conn_peer {
    const char *text;
    struct kbs_source source;
};

/* Takes a connected, non-blocking socket. It is closed on failure. */
KBS_MUST_CHECK int kbs_conns_add(struct kbs_conns *c, int fd, bool tls,
                                 const struct kbs_conn_peer *peer, struct kbs_error *err);

/*
 * Somebody waits to connect. True when there is room; else a connection that can be spared is
 * closed, if there is one, and room() tells when its place is free.
 */
bool kbs_conns_make_room(struct kbs_conns *c);

/* kbs_lanes_deliver, with struct kbs_conns as data. */
void kbs_conns_deliver(void *data, uint64_t id, const struct kbs_lanes_answer *answer);

/* Stops keep-alive, closes idle connections; the others close after their answer. */
void kbs_conns_drain(struct kbs_conns *c);
void kbs_conns_close_all(struct kbs_conns *c);

/* For step.c and answer.c. */
void kbs_conn_put(struct kbs_conn *conn,
                  struct kbs_span plain); /* queues for the socket, encrypted if need be */
bool kbs_conn_flushed(const struct kbs_conn *conn); /* nothing is queued */
void kbs_conn_shutdown(struct kbs_conn *conn);      /* TLS close_notify, then FIN once flushed */
void kbs_conn_set_timer(struct kbs_conn *conn, uint32_t ms);
void kbs_conn_idle(struct kbs_conn *conn,
                   bool idle);               /* enters or leaves the list of idle connections */
void kbs_conn_cancel(struct kbs_conn *conn); /* nobody waits for a lane's answer any more */
void kbs_conn_request_done(struct kbs_conn *conn); /* forgets the request in hand */
bool kbs_conn_socket_has_bytes(const struct kbs_conn *conn);

/* For handshake.c: the thread is done. conn may be freed by it. */
void kbs_conn_stepped(struct kbs_conn *conn);

#endif
