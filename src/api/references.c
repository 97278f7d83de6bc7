/*
 * The reference values that count.
 *
 * The problem: every attestation needs all of them, and they stand in signed rows, some of them
 * expired. The approach: they are read and verified once for an epoch of the store, in which
 * nothing can have changed, and kept until the next epoch or until the first of them expires.
 */
#include "api/context.h"

void kbs_references_deinit(struct kbs_references *r)
{
    json_decref(r->values);
    kbs_buf_deinit(&r->data);
    *r = (struct kbs_references){.read = false};
}

int kbs_reference_text(struct kbs_span text, int64_t *ret_expires_s, json_t **ret_value,
                       struct kbs_error *err)
{
    KBS_AUTO_JSON stored = NULL;
    struct kbs_error found = KBS_ERROR_NONE;

    if (kbs_json_parse_object(text, "reference value", &stored, &found) != 0 ||
        kbs_json_get_integer(stored, "expiration", ret_expires_s, &found) != 0 ||
        json_object_get(stored, "value") == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the store's reference value does not parse");
    }
    *ret_value = json_incref(json_object_get(stored, "value"));
    return 0;
}

struct reading {
    struct kbs_api *api;
    struct kbs_references *to;
    int64_t now_s;
};

static int reading_each(void *ctx, const struct kbs_document *document, struct kbs_span text,
                        struct kbs_span request, struct kbs_error *err)
{
    struct reading *r = ctx;
    KBS_AUTO_JSON value = NULL;
    int64_t expires_s = 0;

    (void)request;
    if (kbs_row_check_document(r->api, document, text, err) != 0) {
        return -1;
    }
    if (text.len == 0) { /* taken back */
        return 0;
    }
    if (kbs_reference_text(text, &expires_s, &value, err) != 0) {
        return -1;
    }
    if (expires_s <= r->now_s) {
        return 0;
    }
    r->to->until_s = expires_s < r->to->until_s ? expires_s : r->to->until_s;
    return json_object_set(r->to->values, document->name, value) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

static int references_read(struct kbs_api *api, int64_t now_s, struct kbs_error *err)
{
    struct kbs_references *to = &api->references;
    struct reading r = {.api = api, .to = to, .now_s = now_s};

    kbs_references_deinit(to);
    to->values = json_object();
    to->until_s = INT64_MAX;
    to->epoch = api->standing.store.epoch;
    to->data = KBS_BUF(KBS_LIMIT_REFERENCES_BYTES + 64);
    if (kbs_store_document_list(api->store, KBS_DOCUMENT_REFERENCE_VALUE, KBS_SPAN_EMPTY,
                                KBS_LIMIT_DOCUMENTS, reading_each, &r, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(&to->data, "{\"reference\":");
    if (kbs_json_dump(to->values, &to->data, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(&to->data, '}');
    return kbs_buf_check(&to->data, "all reference values", err);
}

int kbs_references_get(struct kbs_api *api, int64_t now_s, const struct kbs_references **ret,
                       struct kbs_error *err)
{
    struct kbs_references *r = &api->references;

    if (kbs_epoch_gate(api, err) != 0 || kbs_epoch_of_row(api, 0, err) != 0) {
        return -1;
    }
    if (!r->read || r->epoch != api->standing.store.epoch || now_s >= r->until_s) {
        if (references_read(api, now_s, err) != 0) {
            kbs_references_deinit(r);
            return -1;
        }
        r->read = true;
    }
    *ret = r;
    return 0;
}
