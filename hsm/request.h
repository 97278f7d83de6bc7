/* Encrypted requests (docs/protocol/requests.md): OPEN_REQUEST. */
#ifndef KBS_HSM_REQUEST_H
#define KBS_HSM_REQUEST_H

#include "hsm/answer.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * OPEN_REQUEST: answers the plaintext. KBS_INPUT for malformed fields, KBS_UNSUPPORTED if the token has no request key
 * or no way to open anything, KBS_UNPROCESSABLE if it does not open.
 */
KBS_MUST_CHECK int kbs_request_open(struct kbs_token *t, const struct kbs_ladder *ladder,
                                    const struct kbs_wire_open_request *m, struct kbs_answer *ret,
                                    struct kbs_error *err);

#endif
