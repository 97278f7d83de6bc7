/* Registers: values that only grow, one for each guest (docs/protocol/register.md). */
#ifndef KBS_HSM_REGISTER_H
#define KBS_HSM_REGISTER_H

#include "hsm/answer.h"
#include "hsm/object.h"
#include "wire/message.h"

/*
 * REGISTER_SET. Answer: the mark of the new value. KBS_DENIED if the old one is not as this token wrote it,
 * KBS_CONFLICT if the new one is not larger, KBS_INPUT for what is malformed.
 */
KBS_MUST_CHECK int kbs_register_set(struct kbs_token *t, const struct kbs_wire_register_set *m,
                                    struct kbs_answer *ret, struct kbs_error *err);

/* REGISTER_CHECK. KBS_DENIED likewise. */
KBS_MUST_CHECK int kbs_register_check(struct kbs_token *t, const struct kbs_wire_register_check *m,
                                      struct kbs_error *err);

#endif
