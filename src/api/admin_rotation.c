/*
 * The token keys that have versions: the wrapping key, which wrapped keys stand under, and the seal
 * key, which secrets are sealed to. What there is, a new one, and an old one that goes. Moving what
 * stands under old ones is in admin_move.c; the key that tokens are signed with, in admin_sign_key.c,
 * that of TLS in admin_tls_key.c.
 *
 * The problem: to destroy a version is to destroy all that stands under it. The approach: only a
 * version that is old, and that no row names, is destroyed; what stands under which is told by the
 * rows' cards. Both kinds are one table, since their lives are alike.
 */
#include "api/context.h"

#include "jose/write/jose.h"

static const char *const no_names[] = {NULL};

const struct kbs_rotating kbs_rotating_wrapping = {
    KBS_PURPOSE_WRAP_CATALOG, "/kbs/v0/admin/wrapping-key",
    "wrapping key",           "keys",
    "wrapping-key-generate",  "wrapping-key-rewrap",
    "wrapping-key-destroy",   kbs_store_key_wrap_count};

const struct kbs_rotating kbs_rotating_seal = {
    KBS_PURPOSE_SEAL,    "/kbs/v0/admin/seal-key", "seal key",         "secrets",
    "seal-key-generate", "seal-key-reseal",        "seal-key-destroy", kbs_store_secret_seal_count};

uint32_t kbs_rotating_newest(const struct kbs_rotating *k, const struct kbs_api *api)
{
    const struct kbs_token_facts *f = &api->token;

    if (k->purpose == KBS_PURPOSE_SIGN_RECEIPT) {
        return f->has_receipt ? 1 : 0;
    }
    if (k->purpose == KBS_PURPOSE_TLS) {
        return f->tls_count > 0 ? f->tls[f->tls_count - 1].version : 0;
    }
    if (k->purpose == KBS_PURPOSE_SIGN_TOKEN) {
        return f->sign_count > 0 ? f->sign[f->sign_count - 1].version : 0;
    }
    return k->purpose == KBS_PURPOSE_SEAL ? f->seal_version : f->wrap_version;
}

/* ---- how much stands under what ---- */

struct counts {
    struct kbs_buf *out; /* NULL: nothing is printed */
    uint32_t version;    /* counted apart from the others */
    uint64_t of_version;
    uint64_t below; /* under versions before it */
    bool first;
};

static void count_each(void *ctx, uint32_t version, uint64_t count)
{
    struct counts *c = ctx;

    c->of_version += version == c->version ? count : 0;
    c->below += version < c->version ? count : 0;
    if (c->out != NULL) {
        kbs_buf_printf(c->out, "%s\"%u\":%llu", c->first ? "" : ",", (unsigned int)version,
                       (unsigned long long)count);
        c->first = false;
    }
}

int kbs_rotating_count(const struct kbs_rotating *k, struct kbs_store *s, uint32_t version,
                       uint64_t *ret_of, uint64_t *ret_below, struct kbs_error *err)
{
    struct counts c = {.version = version};
    int rc = k->count(s, count_each, &c, err);

    *ret_of = c.of_version;
    *ret_below = c.below;
    return rc;
}

/* ---- show ---- */

/* Of a seal key also its public half: who seals needs it, and pins its thumbprint. */
static int rotating_put(const struct kbs_rotating *k, struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_token_facts *f = &call->api->token;
    struct kbs_buf *out = &call->answer->body;
    struct counts c = {.out = out, .first = true};

    kbs_buf_put_u8(out, '{');
    if (k == &kbs_rotating_seal) {
        if (!f->has_seal) {
            return kbs_fail(err, KBS_MISSING, "the token has no seal key, see kbs-admin init");
        }
        kbs_buf_put_str(out, "\"key\":");
        kbs_jose_jwk_put(out, &f->seal);
        kbs_buf_printf(out, ",\"thumbprint\":\"%s\",", f->seal_kid);
    }
    kbs_buf_printf(out, "\"version\":%u,\"%s\":{", (unsigned int)kbs_rotating_newest(k, call->api),
                   k->holds);
    if (k->count(call->api->store, count_each, &c, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "}}");
    return 0;
}

static int rotating_show(const struct kbs_rotating *k, struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", k->pattern, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0) {
        return -1;
    }
    return rotating_put(k, call, err);
}

/* ---- a new one, and an old one that goes ---- */

struct kbs_mutation kbs_rotating_mutation(struct kbs_call *call, const char *kind, bool has_order)
{
    return (struct kbs_mutation){
        .api = call->api, .call = call, .kind = kind, .has_order = has_order};
}

int kbs_rotating_begin(struct kbs_mutation *m, struct kbs_error *err)
{
    return kbs_mutation_begin(m, err) != 0 ? -1 : kbs_token_versions(m->api, err);
}

/* A new version is there, whatever becomes of the rest. */
static int made_look(const struct kbs_rotating *k, struct kbs_mutation *m, struct kbs_error *err)
{
    if (kbs_token_versions(m->api, err) != 0) {
        return -1;
    }
    return kbs_rotating_newest(k, m->api) == m->wrap_version
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the token made no new %s", k->what);
}

/* What an outcome says of a new one. */
static void made_record(const struct kbs_rotating *k, const struct kbs_api *api,
                        struct kbs_record *r)
{
    const struct kbs_token_facts *f = &api->token;

    if (k->purpose == KBS_PURPOSE_SEAL) {
        kbs_record_str(r, "thumbprint", f->seal_kid);
    } else if (k->purpose == KBS_PURPOSE_SIGN_RECEIPT) {
        kbs_record_str(r, "thumbprint", f->receipt_kid);
    } else if (k->purpose == KBS_PURPOSE_TLS) {
        kbs_record_str(r, "thumbprint", f->tls[f->tls_count - 1].kid);
    } else if (k->purpose == KBS_PURPOSE_SIGN_TOKEN) {
        kbs_record_str(r, "thumbprint", f->sign[f->sign_count - 1].kid);
        kbs_record_u64(r, "from", f->sign[f->sign_count - 1].from_s);
    }
}

int kbs_rotating_change(const struct kbs_rotating *k, struct kbs_mutation *m,
                        enum kbs_wire_type type, const void *order, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    bool makes = type == KBS_WIRE_GENERATE;
    struct kbs_record r;

    kbs_mutation_record(m, KBS_PHASE_INTENT, &r);
    if (kbs_mutation_intent(m, &r, err) != 0) {
        return -1;
    }
    if (kbs_mutation_order(m, type, order, &result, err) != 0) {
        return kbs_mutation_refused(m, err);
    }
    if ((makes && made_look(k, m, err) != 0) || kbs_mutation_commit(m, NULL, 0, false, err) != 0) {
        return kbs_mutation_failed(m, makes ? "orphan" : "gone", err);
    }
    kbs_mutation_record(m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    if (makes) {
        made_record(k, m->api, &r);
    }
    return kbs_mutation_done(m, &r, err);
}

static int rotating_rotate(const struct kbs_rotating *k, const char *pattern, struct kbs_call *call,
                           struct kbs_error *err)
{
    struct kbs_mutation m = kbs_rotating_mutation(call, k->generate, true);
    uint8_t id[KBS_KEY_ID_BYTES];

    if (kbs_admin_verify(call, "POST", pattern, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 || kbs_rotating_begin(&m, err) != 0) {
        return -1;
    }
    m.wrap_version = kbs_rotating_newest(k, call->api) + 1;
    kbs_service_key_id(k->purpose, id);
    const struct kbs_wire_generate order = {.order = kbs_span(m.order, sizeof(m.order)),
                                            .purpose = (uint8_t)k->purpose,
                                            .key_id = kbs_span(id, sizeof(id)),
                                            .key_version = m.wrap_version};
    return kbs_rotating_change(k, &m, KBS_WIRE_GENERATE, &order, err) == 0
               ? rotating_put(k, call, err)
               : -1;
}

/* Only one that is old, and that nothing stands under. */
static int destroy_allowed(const struct kbs_rotating *k, struct kbs_call *call, uint32_t version,
                           struct kbs_error *err)
{
    uint32_t newest = kbs_rotating_newest(k, call->api);
    uint64_t of_version = 0;
    uint64_t below = 0;

    if (version == newest) {
        return kbs_fail(err, KBS_CONFLICT, "version %u is the newest %s", (unsigned int)version,
                        k->what);
    }
    if (version > newest) {
        return kbs_fail(err, KBS_MISSING, "there is no version %u of the %s", (unsigned int)version,
                        k->what);
    }
    if (kbs_rotating_count(k, call->api->store, version, &of_version, &below, err) != 0) {
        return -1;
    }
    if (of_version != 0) {
        return kbs_fail(err, KBS_CONFLICT, "%llu %s stand under version %u, see %s",
                        (unsigned long long)of_version, k->holds, (unsigned int)version,
                        k == &kbs_rotating_seal ? "reseal" : "rewrap");
    }
    return 0;
}

static int rotating_destroy(const struct kbs_rotating *k, struct kbs_call *call,
                            struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_mutation m = kbs_rotating_mutation(call, k->destroy, true);

    if (kbs_admin_verify(call, "DELETE", k->pattern, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &m.wrap_version, err) != 0) {
        return -1;
    }
    if (m.wrap_version == 0) {
        return kbs_fail(err, KBS_INPUT, "version must say which %s", k->what);
    }
    if (kbs_rotating_begin(&m, err) != 0 || destroy_allowed(k, call, m.wrap_version, err) != 0) {
        return -1;
    }
    const struct kbs_wire_destroy order = {.order = kbs_span(m.order, sizeof(m.order)),
                                           .purpose = (uint8_t)k->purpose,
                                           .key_version = m.wrap_version};
    return kbs_rotating_change(k, &m, KBS_WIRE_DESTROY, &order, err) == 0
               ? rotating_put(k, call, err)
               : -1;
}

/* ---- both ---- */

int kbs_api_admin_wrapping_show(struct kbs_call *call, struct kbs_error *err)
{
    return rotating_show(&kbs_rotating_wrapping, call, err);
}

int kbs_api_admin_wrapping_rotate(struct kbs_call *call, struct kbs_error *err)
{
    return rotating_rotate(&kbs_rotating_wrapping, "/kbs/v0/admin/wrapping-key/rotate", call, err);
}

int kbs_api_admin_wrapping_destroy(struct kbs_call *call, struct kbs_error *err)
{
    return rotating_destroy(&kbs_rotating_wrapping, call, err);
}

int kbs_api_admin_seal_show(struct kbs_call *call, struct kbs_error *err)
{
    return rotating_show(&kbs_rotating_seal, call, err);
}

int kbs_api_admin_seal_rotate(struct kbs_call *call, struct kbs_error *err)
{
    return rotating_rotate(&kbs_rotating_seal, "/kbs/v0/admin/seal-key/rotate", call, err);
}

int kbs_api_admin_seal_destroy(struct kbs_call *call, struct kbs_error *err)
{
    return rotating_destroy(&kbs_rotating_seal, call, err);
}
