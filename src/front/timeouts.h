/* How long each thing may take. A function of its own, so that tests link another one. */
#ifndef KBS_FRONT_TIMEOUTS_H
#define KBS_FRONT_TIMEOUTS_H

#include <stdint.h>

struct kbs_front_timeouts {
    uint32_t handshake_ms; /* TLS, from accept */
    uint32_t idle_ms;      /* between requests */
    uint32_t head_ms;      /* from the first byte of a head to its end */
    uint32_t body_ms;      /* from the end of the head to the end of the body */
    uint32_t request_ms;   /* from the complete request to the lane's answer, queue included */
    uint32_t write_ms;     /* until the whole answer is in the kernel's hands */
    uint32_t linger_ms;    /* after our last byte, for the client to read it and close */
    uint32_t lane_ms;  /* from handing a request to a lane until it is taken for stuck and closed */
    uint32_t fetch_ms; /* from passing on a question until a silent kbs-fetch is taken for stuck */
    uint32_t absent_ms;       /* from the loss of the last lane until its queue is failed */
    uint32_t drain_ms;        /* from DRAIN to exit */
    uint32_t accept_retry_ms; /* after the kernel ran out of descriptors or memory */
};

const struct kbs_front_timeouts *kbs_front_timeouts(void); /* static */

#endif
