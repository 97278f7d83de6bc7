/* What a connection is answered: by a lane, or by the front itself. */
#ifndef KBS_FRONT_ANSWER_H
#define KBS_FRONT_ANSWER_H

#include "front/conns.h"

/*
 * Each queues one whole response and notes its status; the connection then closes if `keep_alive`
 * is false.
 */
void kbs_answer_send(struct kbs_conn *conn, const struct kbs_http_response *response,
                     bool keep_alive);
void kbs_answer_refusal(struct kbs_conn *conn, const struct kbs_http_refusal *refusal);
/* An error of the front: counted as `refused`; Retry-After with 429 and 503. */
void kbs_answer_error(struct kbs_conn *conn, unsigned int refused, enum kbs_category category,
                      const char *detail, bool keep_alive);
void kbs_answer_timeout(struct kbs_conn *conn, unsigned int refused); /* 408, closes */

/* /healthz, /readyz, /metrics. False when the route is not one of them. */
bool kbs_answer_local(struct kbs_conn *conn, enum kbs_route route, bool keep_alive);

/*
 * Hands the parsed request to the lanes. True when it waits there; false when it was answered with
 * an error.
 */
bool kbs_answer_ask(struct kbs_conn *conn, const struct kbs_http_request *request);

#endif
