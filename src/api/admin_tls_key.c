/*
 * The service's key of TLS: its versions, a new one, and an old one that goes.
 *
 * The problem: a key that has no certificate yet must be there before the certificate can be asked for, and
 * must not be served with before that has come. The approach: making one changes nothing of what is served. It
 * is a version in the token, whose name (an RFC 7512 URI) is told, by which a certificate is asked for and which
 * the configuration then names together with it. Which version is served with is not known here, so an old one
 * that goes is the administrator's word, but for the newest, which a configuration without a name means.
 */
#include "api/context.h"

#include "jose/write/jose.h"

#define TLS_PATTERN "/kbs/v0/admin/tls-key"

static const char *const no_names[] = {NULL};

static const struct kbs_rotating tls = {.purpose = KBS_PURPOSE_TLS,
                                        .pattern = TLS_PATTERN,
                                        .what = "tls key",
                                        .generate = "tls-key-generate",
                                        .destroy = "tls-key-destroy"};

/* ---- list ---- */

/* Its private half, as configurations and OpenSSL's command line name it. */
static void uri_put(struct kbs_buf *out, uint32_t version)
{
    uint8_t key_id[KBS_KEY_ID_BYTES];
    uint8_t cka_id[KBS_CKA_ID_BYTES];

    kbs_service_key_id(KBS_PURPOSE_TLS, key_id);
    kbs_cka_id(key_id, version, cka_id);
    kbs_buf_put_str(out, "pkcs11:id=");
    for (size_t i = 0; i < sizeof(cka_id); i++) {
        kbs_buf_printf(out, "%%%02x", cka_id[i]);
    }
    kbs_buf_put_str(out, ";type=private");
}

static void tls_put(struct kbs_call *call)
{
    const struct kbs_token_facts *f = &call->api->token;
    struct kbs_buf *out = &call->answer->body;

    kbs_buf_put_str(out, "{\"keys\":[");
    for (size_t i = 0; i < f->tls_count; i++) {
        const struct kbs_sign_key *key = &f->tls[i];

        kbs_buf_printf(
            out, "%s{\"version\":%u,\"curve\":\"%s\",\"state\":\"%s\",\"key\":", i > 0 ? "," : "",
            (unsigned int)key->version, kbs_curve_jose_name(key->key.curve),
            i + 1 == f->tls_count ? "newest" : "old");
        kbs_jose_jwk_put(out, &key->key);
        kbs_buf_printf(out, ",\"thumbprint\":\"%s\",\"uri\":\"", key->kid);
        uri_put(out, key->version);
        kbs_buf_put_str(out, "\"}");
    }
    kbs_buf_put_str(out, "]}");
}

int kbs_api_admin_tls_list(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", TLS_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 ||
        kbs_token_versions(call->api, err) != 0) {
        return -1;
    }
    tls_put(call);
    return 0;
}

/* ---- make ---- */

/* NONE: as the newest. */
static int make_parse(const struct kbs_call *call, enum kbs_curve *ret, struct kbs_error *err)
{
    static const char *const members[] = {"curve", NULL};
    KBS_AUTO_JSON body = NULL;
    struct kbs_span name;

    *ret = KBS_CURVE_NONE;
    if (call->req->body.len == 0) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0) {
        return -1;
    }
    if (json_object_get(body, "curve") == NULL) {
        return 0;
    }
    if (kbs_json_get_string(body, "curve", &name, err) != 0) {
        return -1;
    }
    *ret = kbs_curve_from_jose_name(name);
    return *ret == KBS_CURVE_P256 || *ret == KBS_CURVE_P384
               ? 0
               : kbs_fail(err, KBS_INPUT, "'curve' must be P-256 or P-384");
}

int kbs_api_admin_tls_make(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = kbs_rotating_mutation(call, tls.generate, true);
    const struct kbs_token_facts *f = &call->api->token;
    enum kbs_curve curve = KBS_CURVE_NONE;
    uint8_t id[KBS_KEY_ID_BYTES];

    if (kbs_admin_verify(call, "POST", TLS_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 ||
        make_parse(call, &curve, err) != 0 || kbs_rotating_begin(&m, err) != 0) {
        return -1;
    }
    if (curve == KBS_CURVE_NONE) {
        curve = f->tls_count > 0 ? f->tls[f->tls_count - 1].key.curve : KBS_CURVE_P256;
    }
    m.wrap_version = kbs_rotating_newest(&tls, call->api) + 1;
    kbs_service_key_id(tls.purpose, id);
    const struct kbs_wire_generate order = {.order = kbs_span(m.order, sizeof(m.order)),
                                            .purpose = (uint8_t)tls.purpose,
                                            .key_id = kbs_span(id, sizeof(id)),
                                            .key_version = m.wrap_version,
                                            .curve = (uint8_t)curve};
    if (kbs_rotating_change(&tls, &m, KBS_WIRE_GENERATE, &order, err) != 0) {
        return -1;
    }
    tls_put(call);
    return 0;
}

/* ---- destroy ---- */

int kbs_api_admin_tls_destroy(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_mutation m = kbs_rotating_mutation(call, tls.destroy, true);
    uint32_t newest;

    if (kbs_admin_verify(call, "DELETE", TLS_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &m.wrap_version, err) != 0) {
        return -1;
    }
    if (m.wrap_version == 0) {
        return kbs_fail(err, KBS_INPUT, "version must say which %s", tls.what);
    }
    if (kbs_rotating_begin(&m, err) != 0) {
        return -1;
    }
    newest = kbs_rotating_newest(&tls, call->api);
    if (m.wrap_version >= newest) {
        return m.wrap_version == newest
                   ? kbs_fail(err, KBS_CONFLICT, "version %u is the newest %s", newest, tls.what)
                   : kbs_fail(err, KBS_MISSING, "there is no version %u of the %s", m.wrap_version,
                              tls.what);
    }
    const struct kbs_wire_destroy order = {.order = kbs_span(m.order, sizeof(m.order)),
                                           .purpose = (uint8_t)tls.purpose,
                                           .key_version = m.wrap_version};
    if (kbs_rotating_change(&tls, &m, KBS_WIRE_DESTROY, &order, err) != 0 ||
        kbs_token_versions(call->api, err) != 0) {
        return -1;
    }
    tls_put(call);
    return 0;
}
