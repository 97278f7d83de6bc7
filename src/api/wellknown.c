/*
 * What anyone may read: the key that our tokens are signed with, as a JWK Set (RFC 7517 section 5).
 * It comes from the token's own description, so what is published is what signs.
 */
#include "api/context.h"

#include "jose/write/jose.h"

int kbs_api_jwks(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;

    (void)err;
    kbs_buf_put_str(out, "{\"keys\":[");
    if (call->api->token.has_sign) {
        kbs_jose_sig_jwk_put(out, &call->api->token.sign, "ES256", call->api->token.sign_kid);
    }
    kbs_buf_put_str(out, "]}");
    return 0;
}
