/*
 * kbs-front as a whole: what main.c wires together and startup.c fills in from the control channel.
 */
#ifndef KBS_FRONT_FRONT_H
#define KBS_FRONT_FRONT_H

#include "front/acceptor.h"
#include "front/certificate.h"
#include "front/conns.h"
#include "front/lanes.h"
#include "front/metrics.h"

struct kbs_front {
    uv_loop_t loop;
    uv_poll_t control;
    uv_timer_t drain_timer;
    struct kbs_metrics metrics;
    struct kbs_lanes lanes;
    struct kbs_relay relay;
    int fetch_fd; /* attached before the loop ran; -1: none */
    struct kbs_conns conns;
    struct kbs_acceptor acceptor;
    struct kbs_certificate certificate;
    bool closing;
    bool production;
    int exit_status;
};

/*
 * The blocking phase: CONFIG_FRONT, the ATTACHes, GO (docs/protocol/role-channels.md). Fills in
 * what does not need the loop. KBS_INPUT for unusable configuration or a message out of turn;
 * KBS_CHANNEL_EOF when kbsd is gone.
 */
KBS_MUST_CHECK int kbs_front_startup(struct kbs_front *f, struct kbs_error *err);

#endif
