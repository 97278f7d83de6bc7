/*
 * What anyone may read: the keys that our tokens are signed with, as a JWK Set (RFC 7517 section 5). It
 * comes from the token's own description, so what is published is what signs, has signed, or is to sign:
 * a new version is here from the moment it is made, and an old one until it is destroyed. By version, the
 * oldest first, whichever lane or service answers.
 */
#include "api/context.h"

#include "jose/write/jose.h"

int kbs_api_jwks(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_token_facts *f = &call->api->token;
    struct kbs_buf *out = &call->answer->body;

    if (kbs_token_look(call->api, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "{\"keys\":[");
    for (size_t i = 0; i < f->sign_count; i++) {
        if (i > 0) {
            kbs_buf_put_u8(out, ',');
        }
        kbs_jose_sig_jwk_put(out, &f->sign[i].key, kbs_jose_sig_alg(f->sign[i].key.curve),
                             f->sign[i].kid);
    }
    kbs_buf_put_str(out, "]}");
    return 0;
}
