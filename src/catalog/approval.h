/*
 * What administrators sign who approve another one's request (docs/protocol/admin-api.md, "Approvals"): the
 * same bytes in the service and in kbs-admin.
 */
#ifndef KBS_CATALOG_APPROVAL_H
#define KBS_CATALOG_APPROVAL_H

#include "base/buf.h"
#include "base/digest.h"

#define KBS_APPROVAL_ID_BYTES 16 /* random; written in hex */

/*
 * SHA-256("kbs-approval-v1" 00 method 00 target 00 SHA-256(body)): a request, whoever sent it. Neither method
 * nor target has a zero byte in it.
 */
void kbs_approval_digest(struct kbs_span method, struct kbs_span target, struct kbs_span body,
                         uint8_t ret[KBS_SHA256_BYTES]);

/* The body of an approval: {"digest":"<base64url>"}, byte for byte. */
void kbs_approval_body_put(struct kbs_buf *out, const uint8_t digest[KBS_SHA256_BYTES]);

#endif
