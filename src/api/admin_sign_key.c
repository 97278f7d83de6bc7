/*
 * The key that our tokens are signed with: its versions, a new one, and an old one that goes.
 *
 * The problem: whoever verifies our tokens keeps a copy of the JWK set for a while, and tokens live for a
 * while; so a key that signs before it was seen, or that goes while its tokens live, has guests refused
 * who are in the right. The approach: a new version is published at once and signs only from a time on
 * (`after_s`), and an old one is not destroyed before the last token that it can have signed is over.
 * Both times come from the token, so every lane and service on it goes by the same. Who must be quicker,
 * because a key may have been misused, says so: after_s 0, then at_once.
 */
#include "api/context.h"

#include "jose/write/jose.h"

#define SIGN_PATTERN "/kbs/v0/admin/sign-key"

static const struct kbs_rotating signing = {.purpose = KBS_PURPOSE_SIGN_TOKEN,
                                            .pattern = SIGN_PATTERN,
                                            .what = "signing key",
                                            .generate = "sign-key-generate",
                                            .destroy = "sign-key-destroy"};

/* ---- list ---- */

static const char *sign_state(const struct kbs_sign_key *key, const struct kbs_sign_key *now)
{
    if (key->version == now->version) {
        return "signing";
    }
    return key->version > now->version ? "next" : "old";
}

static void sign_put(struct kbs_call *call)
{
    const struct kbs_token_facts *f = &call->api->token;
    const struct kbs_sign_key *now = kbs_token_signing(f, call->now_s);
    struct kbs_buf *out = &call->answer->body;

    kbs_buf_put_str(out, "{\"keys\":[");
    for (size_t i = 0; i < f->sign_count; i++) {
        const struct kbs_sign_key *key = &f->sign[i];

        kbs_buf_printf(
            out, "%s{\"version\":%u,\"alg\":\"%s\",\"kid\":\"%s\",\"state\":\"%s\",\"from\":%llu}",
            i > 0 ? "," : "", (unsigned int)key->version, kbs_jose_sig_alg(key->key.curve),
            key->kid, sign_state(key, now), (unsigned long long)key->from_s);
    }
    kbs_buf_put_str(out, "]}");
}

int kbs_api_admin_sign_list(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_names[] = {NULL};
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", SIGN_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 ||
        kbs_token_versions(call->api, err) != 0) {
        return -1;
    }
    sign_put(call);
    return 0;
}

/* ---- rotate ---- */

struct sign_rotation {
    enum kbs_curve curve; /* NONE: as the newest */
    int64_t after_s;
};

static int rotation_alg(const json_t *body, enum kbs_curve *ret, struct kbs_error *err)
{
    struct kbs_span alg;

    if (json_object_get(body, "alg") == NULL) {
        return 0;
    }
    if (kbs_json_get_string(body, "alg", &alg, err) != 0) {
        return -1;
    }
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P384; c++) {
        *ret = kbs_span_equal_str(alg, kbs_jose_sig_alg(c)) ? c : *ret;
    }
    return *ret != KBS_CURVE_NONE ? 0 : kbs_fail(err, KBS_INPUT, "'alg' must be ES256 or ES384");
}

static int rotation_parse(const struct kbs_call *call, struct sign_rotation *ret,
                          struct kbs_error *err)
{
    static const char *const members[] = {"alg", "after_s", NULL};
    KBS_AUTO_JSON body = NULL;

    *ret = (struct sign_rotation){.after_s = KBS_DEFAULT_SIGN_AFTER_S};
    if (call->req->body.len == 0) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 || rotation_alg(body, &ret->curve, err) != 0 ||
        (json_object_get(body, "after_s") != NULL &&
         kbs_json_get_integer(body, "after_s", &ret->after_s, err) != 0)) {
        return -1;
    }
    return ret->after_s >= 0 && ret->after_s <= KBS_LIMIT_SIGN_AFTER_S
               ? 0
               : kbs_fail(err, KBS_INPUT, "'after_s' must be 0 to %d", KBS_LIMIT_SIGN_AFTER_S);
}

int kbs_api_admin_sign_rotate(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_names[] = {NULL};
    struct kbs_mutation m = kbs_rotating_mutation(call, signing.generate, true);
    const struct kbs_token_facts *f = &call->api->token;
    struct sign_rotation rotation;
    uint8_t id[KBS_KEY_ID_BYTES];

    if (kbs_admin_verify(call, "POST", SIGN_PATTERN "/rotate", true, &m.admin, &m.sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 ||
        rotation_parse(call, &rotation, err) != 0 || kbs_rotating_begin(&m, err) != 0) {
        return -1;
    }
    if (rotation.curve == KBS_CURVE_NONE) {
        rotation.curve = f->sign_count > 0 ? f->sign[f->sign_count - 1].key.curve : KBS_CURVE_P256;
    }
    m.wrap_version = kbs_rotating_newest(&signing, call->api) + 1;
    kbs_service_key_id(signing.purpose, id);
    const struct kbs_wire_generate order = {.order = kbs_span(m.order, sizeof(m.order)),
                                            .purpose = (uint8_t)signing.purpose,
                                            .key_id = kbs_span(id, sizeof(id)),
                                            .key_version = m.wrap_version,
                                            .curve = (uint8_t)rotation.curve,
                                            .from_s = (uint64_t)(call->now_s + rotation.after_s)};
    if (kbs_rotating_change(&signing, &m, KBS_WIRE_GENERATE, &order, err) != 0) {
        return -1;
    }
    sign_put(call);
    return 0;
}

/* ---- destroy ---- */

/* Unix time from which no token by version `at` of the list is alive: its successor signed before. */
static uint64_t sign_over_s(const struct kbs_api *api, size_t at)
{
    const struct kbs_token_facts *f = &api->token;
    uint64_t until = UINT64_MAX / 2;

    for (size_t i = at + 1; i < f->sign_count; i++) {
        until = f->sign[i].from_s < until ? f->sign[i].from_s : until;
    }
    return until + api->token_s + KBS_LIMIT_SIGN_LOOK_MS / 1000;
}

static int sign_check_over(const struct kbs_call *call, size_t at, struct kbs_error *err)
{
    const struct kbs_sign_key *key = &call->api->token.sign[at];
    uint64_t now_s = (uint64_t)call->now_s;
    uint64_t over_s = sign_over_s(call->api, at);

    if (key->from_s > now_s || over_s <= now_s) { /* it has signed nothing, or nothing that lives */
        return 0;
    }
    return kbs_fail(err, KBS_CONFLICT,
                    "tokens that version %u has signed may live for %llu s more, see at_once",
                    (unsigned int)key->version, (unsigned long long)(over_s - now_s));
}

/* Neither the newest nor the one that signs; without at_once, none whose tokens live. */
static int sign_check_destroy(const struct kbs_call *call, uint32_t version, bool at_once,
                              struct kbs_error *err)
{
    const struct kbs_token_facts *f = &call->api->token;
    const struct kbs_sign_key *now = kbs_token_signing(f, call->now_s);
    uint32_t newest = kbs_rotating_newest(&signing, call->api);

    if (version > newest) {
        return kbs_fail(err, KBS_MISSING, "there is no version %u of the %s", (unsigned int)version,
                        signing.what);
    }
    if (version == newest || version == now->version) {
        return kbs_fail(err, KBS_CONFLICT, "version %u is %s", (unsigned int)version,
                        version == newest ? "the newest signing key"
                                          : "what tokens are signed with now");
    }
    for (size_t i = 0; !at_once && i < f->sign_count; i++) {
        if (f->sign[i].version == version) {
            return sign_check_over(call, i, err);
        }
    }
    return 0; /* the token knows best whether there is one that it does not describe */
}

static int destroy_parse(const struct kbs_call *call, uint32_t *ret_version, bool *ret_at_once,
                         struct kbs_error *err)
{
    static const char *const names[] = {"version", "at_once", NULL};
    struct kbs_span at_once = KBS_SPAN_EMPTY;

    if (kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, ret_version, err) != 0) {
        return -1;
    }
    if (*ret_version == 0) {
        return kbs_fail(err, KBS_INPUT, "version must say which %s", signing.what);
    }
    *ret_at_once = kbs_wire_list_find(&call->req->query, "at_once", &at_once);
    return !*ret_at_once || kbs_span_equal_str(at_once, "true")
               ? 0
               : kbs_fail(err, KBS_INPUT, "at_once must be true, or left out");
}

int kbs_api_admin_sign_destroy(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = kbs_rotating_mutation(call, signing.destroy, true);
    bool at_once = false;

    if (kbs_admin_verify(call, "DELETE", SIGN_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        destroy_parse(call, &m.wrap_version, &at_once, err) != 0 ||
        kbs_rotating_begin(&m, err) != 0 ||
        sign_check_destroy(call, m.wrap_version, at_once, err) != 0) {
        return -1;
    }
    const struct kbs_wire_destroy order = {.order = kbs_span(m.order, sizeof(m.order)),
                                           .purpose = (uint8_t)signing.purpose,
                                           .key_version = m.wrap_version};
    if (kbs_rotating_change(&signing, &m, KBS_WIRE_DESTROY, &order, err) != 0 ||
        kbs_token_versions(call->api, err) != 0) {
        return -1;
    }
    sign_put(call);
    return 0;
}
