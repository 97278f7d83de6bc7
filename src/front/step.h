/* The state machine of a connection. */
#ifndef KBS_FRONT_STEP_H
#define KBS_FRONT_STEP_H

#include "front/conns.h"

/*
 * Runs the machine until it waits. Returns false when the connection must be closed. Called by the
 * trampolines in conns.c, never by itself.
 */
bool kbs_conn_step(struct kbs_conn *conn, enum kbs_conn_event event);

#endif
