/*
 * Orders to the lane's token worker.
 *
 * The problem: the worker may refuse, hang, die, or be taken over. A refusal is an answer like any
 * other and comes with its category. After anything else the channel may still deliver the answer
 * to a question that was given up, so the next order could be answered with the last one's key: the
 * lane is never used again. The request is answered with 503 and the judge exits with
 * KBS_EXIT_STUCK, which makes kbsd replace the lane.
 *
 * What the worker says is checked for range and encoding here, once, so that handlers may use it.
 */
#include "api/context.h"

#include <stdio.h>

#include "base/encoding.h"
#include "base/log.h"
#include "jose/write/jose.h"

/*
 * Printable text of a fixed size; PKCS#11 pads with spaces, which the worker has already cut off.
 */
static void facts_text(struct kbs_span v, char *out, size_t size)
{
    if (!kbs_utf8_valid(v) || !kbs_span_to_cstr(v, out, size)) {
        (void)snprintf(out, size, "unknown");
    }
}

static int facts_key(struct kbs_span point, bool *ret_has, struct kbs_ec_public *ret, char kid[44],
                     struct kbs_error *err)
{
    *ret_has = false;
    if (point.len == 0) {
        return 0;
    }
    if (kbs_ec_point_get(KBS_CURVE_P256, point, ret, err) != 0 ||
        kbs_ec_public_check(ret, err) != 0) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the token describes a public key that is none");
    }
    kbs_jose_thumbprint(ret, kid);
    *ret_has = true;
    return 0;
}

static int facts_rungs(const struct kbs_wire_list *rungs, char *out, size_t size,
                       struct kbs_error *err)
{
    struct kbs_buf b = KBS_BUF(size - 1);
    struct kbs_wire_iter it = kbs_wire_list_iter(rungs);
    struct kbs_span rung;
    bool first = true;
    int result = 0;

    kbs_buf_put_u8(&b, '[');
    while (kbs_wire_list_next(&it, &rung)) {
        if (!first) {
            kbs_buf_put_u8(&b, ',');
        }
        kbs_json_string_put(&b, rung);
        first = false;
    }
    kbs_buf_put_u8(&b, ']');
    if (b.failed || !kbs_span_to_cstr(kbs_buf_span(&b), out, size)) {
        result = kbs_fail(err, KBS_TOKEN_DOWN, "the token describes too many rungs");
    }
    kbs_buf_deinit(&b);
    return result;
}

/* One version of such a key, on a curve that is signed on. */
static int facts_sign_key(struct kbs_span body, struct kbs_sign_key *ret, struct kbs_error *err)
{
    struct kbs_wire_sign_key w;

    if (kbs_wire_decode(KBS_WIRE_SIGN_KEY, body, &w, err) != 0 ||
        kbs_jose_sig_alg((enum kbs_curve)w.curve) == NULL ||
        kbs_ec_point_get((enum kbs_curve)w.curve, w.point, &ret->key, err) != 0 ||
        kbs_ec_public_check(&ret->key, err) != 0) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the token describes a signing key that is none");
    }
    ret->version = w.version;
    ret->from_s = w.from_s;
    kbs_jose_thumbprint(&ret->key, ret->kid);
    return 0;
}

/* In the order in which they come: by version, so that every judge publishes the same. */
static int facts_sign_keys(const struct kbs_wire_list *keys,
                           struct kbs_sign_key ret[KBS_LIMIT_SIGN_VERSIONS], size_t *ret_count,
                           struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(keys);
    struct kbs_span body;

    *ret_count = 0;
    if (keys->count > KBS_LIMIT_SIGN_VERSIONS) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the token describes too many signing keys");
    }
    for (size_t n = 0; kbs_wire_list_next(&it, &body); n++) {
        if (facts_sign_key(body, &ret[n], err) != 0) {
            return -1;
        }
        if (n > 0 && ret[n].version <= ret[n - 1].version) {
            return kbs_fail(err, KBS_TOKEN_DOWN, "the token describes signing keys out of order");
        }
        *ret_count = n + 1;
    }
    return 0;
}

/* What changes while the token is in use. */
static int facts_versions(const struct kbs_wire_described *d, struct kbs_token_facts *f,
                          struct kbs_error *err)
{
    f->wrap_version = d->wrap_version;
    f->seal_version = d->seal_version;
    if (facts_sign_keys(&d->sign_keys, f->sign, &f->sign_count, err) != 0 ||
        facts_sign_keys(&d->tls_keys, f->tls, &f->tls_count, err) != 0 ||
        facts_key(d->receipt_public, &f->has_receipt, &f->receipt, f->receipt_kid, err) != 0) {
        return -1;
    }
    return facts_key(d->seal_public, &f->has_seal, &f->seal, f->seal_kid, err);
}

static int ask_facts(struct kbs_api *api, int wait_ms, struct kbs_wire_described *ret,
                     struct kbs_error *err)
{
    return kbs_channel_call(api->token_fd, KBS_WIRE_DESCRIBE, NULL, KBS_WIRE_DESCRIBED, ret,
                            &api->token_answer, kbs_deadline_in_ms((uint32_t)wait_ms), err);
}

int kbs_token_describe(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_token_facts *f = &api->token;
    struct kbs_wire_described d;
    char row_kid[KBS_API_THUMBPRINT_BYTES];

    /* The worker may still wait for its turn to log in. */
    if (ask_facts(api, KBS_LIMIT_START_MS, &d, err) != 0) {
        /* Whatever it was, another worker may do better: not a fault of the configuration. */
        err->category = err->category == KBS_DEADLINE ? KBS_DEADLINE : KBS_TOKEN_DOWN;
        return -1;
    }
    facts_text(d.manufacturer, f->manufacturer, sizeof(f->manufacturer));
    facts_text(d.model, f->model, sizeof(f->model));
    facts_text(d.serial, f->serial, sizeof(f->serial));
    f->class = d.token_class < KBS_TOKEN_CLASS_COUNT ? (enum kbs_token_class)d.token_class
                                                     : KBS_TOKEN_CLASS_UNKNOWN;
    if (facts_rungs(&d.rungs, f->rungs, sizeof(f->rungs), err) != 0 ||
        facts_key(d.import_public, &f->has_import, &f->import, f->import_kid, err) != 0 ||
        facts_key(d.row_public, &f->has_row, &f->row, row_kid, err) != 0) {
        return -1;
    }
    if (facts_versions(&d, f, err) != 0) {
        return -1;
    }
    if (facts_key(d.request_public, &f->has_request, &f->request, f->request_kid, err) != 0) {
        return -1;
    }
    api->token_looked_ns = kbs_clock_mono_ns();
    return facts_key(d.head_public, &f->has_head, &f->head, f->head_kid, err);
}

static int token_out_of_step(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_error cause = *err;

    kbs_log_error("token_channel", &cause);
    api->must_exit = KBS_EXIT_STUCK;
    if (cause.category == KBS_DEADLINE) {
        return kbs_fail(err, KBS_DEADLINE, "the token did not answer in time");
    }
    return kbs_fail(err, KBS_TOKEN_DOWN, "the token is not available");
}

static int token_refused(const struct kbs_wire_result *r, struct kbs_error *err)
{
    char detail[KBS_LIMIT_ERROR_DETAIL_BYTES];
    char function[64];
    enum kbs_category category =
        r->category < KBS_CATEGORY_COUNT ? (enum kbs_category)r->category : KBS_INTERNAL;

    /*
     * Two of ours that the worker has no business to claim: the guest's standing is decided here.
     */
    if (category == KBS_UNAUTHENTICATED || category == KBS_DENIED) {
        category = KBS_INTERNAL;
    }
    if (!kbs_utf8_valid(r->detail) || !kbs_span_to_cstr(r->detail, detail, sizeof(detail))) {
        (void)snprintf(detail, sizeof(detail), "the token refused");
    }
    if (r->function.len != 0) {
        kbs_log(KBS_LOG_WARN, "token_refused", "category=%s function=%s ckr=0x%llx",
                kbs_category_name(category), kbs_log_text(r->function, function, sizeof(function)),
                (unsigned long long)r->ckr);
    }
    return kbs_fail_native(err, category, KBS_ORIGIN_CKR, r->ckr, "%s", detail);
}

int kbs_token_versions(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_wire_described d;

    if (ask_facts(api, KBS_LIMIT_TOKEN_OP_MS, &d, err) != 0) {
        return token_out_of_step(api, err);
    }
    api->token_looked_ns = kbs_clock_mono_ns();
    return facts_versions(&d, &api->token, err);
}

int kbs_token_look(struct kbs_api *api, struct kbs_error *err)
{
    uint64_t now_s = kbs_clock_mono_ns() / (1000 * KBS_NS_PER_MS);

    if (now_s != api->token_looks_s) {
        api->token_looks_s = now_s;
        api->token_looks = 0;
    }
    if (api->token_looks >= KBS_LIMIT_SIGN_LOOKS_PER_S) {
        return 0;
    }
    api->token_looks++;
    return kbs_token_versions(api, err);
}

static const struct kbs_sign_key *sign_key_find(const struct kbs_token_facts *f,
                                                struct kbs_span kid)
{
    for (size_t i = 0; i < f->sign_count; i++) {
        if (kbs_span_equal_str(kid, f->sign[i].kid)) {
            return &f->sign[i];
        }
    }
    return NULL;
}

int kbs_token_sign_key(struct kbs_api *api, struct kbs_span kid, const struct kbs_sign_key **ret,
                       struct kbs_error *err)
{
    uint64_t old_ns = api->token_looked_ns + KBS_LIMIT_SIGN_LOOK_MS * KBS_NS_PER_MS;

    if (kbs_clock_mono_ns() >= old_ns && kbs_token_versions(api, err) != 0) {
        return -1;
    }
    *ret = sign_key_find(&api->token, kid);
    if (*ret == NULL) {
        if (kbs_token_look(api, err) != 0) {
            return -1;
        }
        *ret = sign_key_find(&api->token, kid);
    }
    return 0;
}

const struct kbs_sign_key *kbs_token_signing(const struct kbs_token_facts *f, int64_t now_s)
{
    uint64_t from_s[KBS_LIMIT_SIGN_VERSIONS];

    for (size_t i = 0; i < f->sign_count; i++) {
        from_s[i] = f->sign[i].from_s;
    }
    return f->sign_count > 0 ? &f->sign[kbs_sign_version_at(from_s, f->sign_count, (uint64_t)now_s)]
                             : NULL;
}

int kbs_token_order(struct kbs_call *call, enum kbs_wire_type type, const void *order,
                    struct kbs_wire_result *ret, struct kbs_error *err)
{
    if (kbs_clock_mono_ns() >= call->deadline_ns) {
        return kbs_fail(err, KBS_DEADLINE, "the request waited too long");
    }
    return kbs_token_ask(call->api, type, order, ret, err);
}

int kbs_token_ask(struct kbs_api *api, enum kbs_wire_type type, const void *order,
                  struct kbs_wire_result *ret, struct kbs_error *err)
{
    if (kbs_channel_call(api->token_fd, type, order, KBS_WIRE_RESULT, ret, &api->token_answer,
                         kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS + KBS_LIMIT_AUDIT_ACK_MS),
                         err) != 0) {
        return token_out_of_step(api, err);
    }
    return ret->category == KBS_OK ? 0 : token_refused(ret, err);
}
