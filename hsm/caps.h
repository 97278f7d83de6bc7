/*
 * What the ladder found, as text for people: the answer to CAPS, and what kbs-token --probe prints.
 *
 * A line a cell, its columns separated by tabs: rung, format, TEE key, bytes of the released key,
 * result ("passed", "failed", "padded", "skipped"), locality, function, CK_RV. The last two are "-"
 * where there is nothing to say; the last is a few words where no call failed. Notes for the
 * operator follow, one a line, each beginning with "# ".
 */
#ifndef KBS_HSM_CAPS_H
#define KBS_HSM_CAPS_H

#include "hsm/ladder.h"

void kbs_caps_put(struct kbs_buf *out, const struct kbs_ladder *ladder);
/* What is known of this token, and what the failures mean: no secret, nothing about keys. */
void kbs_caps_notes_put(struct kbs_buf *out, const struct kbs_ladder *ladder,
                        const struct kbs_token *t);

#endif
