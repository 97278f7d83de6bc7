/*
 * Secrets as kbs-admin knows them: what there is, a new version, another policy,
 * deletion. No request here gives a value back; releases are resource.c's, changes secret_change.c's.
 */
#include "api/secret_change.h"

#include "base/encoding.h"
#include "base/secret.h"

#define SECRETS_PATTERN "/kbs/v0/admin/secrets"
#define SECRET_PATTERN "/kbs/v0/admin/secrets/*/*/*"
#define POLICY_PATTERN SECRET_PATTERN "/policy"

static const char *const no_query[] = {NULL};

/* SECRET of docs/protocol/admin-api.md, without its closing brace. Nothing in it needs escaping. */
static void secret_put_open(struct kbs_buf *out, const struct kbs_key *row)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];

    (void)kbs_key_kid(row, kid);
    kbs_buf_printf(out,
                   "{\"path\":\"%s\",\"version\":%u,\"kid\":\"%s\",\"bytes\":%u,\"state\":\"%s\""
                   ",\"seal_key\":%u,\"created\":%llu",
                   row->path, (unsigned int)row->version, kid, (unsigned int)row->card.bytes,
                   kbs_key_state_name(row->state), (unsigned int)row->card.wrap_version,
                   (unsigned long long)row->card.created_s);
}

static void secret_put(struct kbs_buf *out, const struct kbs_key *row, struct kbs_span policy)
{
    secret_put_open(out, row);
    kbs_buf_put_str(out, ",\"policy\":");
    kbs_buf_put_span(out, policy.len != 0 ? policy : KBS_SPAN_LIT("null"));
    kbs_buf_put_u8(out, '}');
}

/* ---- reads ---- */

static void list_each(void *ctx, const struct kbs_key *row, const struct kbs_store_texts *texts)
{
    struct kbs_page *page = ctx;

    (void)texts;
    if (kbs_page_next(page)) {
        secret_put_open(page->out, row);
        kbs_buf_put_u8(page->out, '}');
    }
}

int kbs_api_admin_secret_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_page page = {.out = &call->answer->body};
    const struct kbs_admin *admin = NULL;
    struct kbs_span after = KBS_SPAN_EMPTY;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", SECRETS_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &page.limit, err) != 0) {
        return -1;
    }
    if (after.len != 0 && !kbs_key_path_valid(after)) {
        return kbs_fail(err, KBS_INPUT, "after must be a path, repo/type/tag");
    }
    kbs_buf_put_str(page.out, "{\"secrets\":[");
    if (kbs_store_secret_list(call->api->store, after, page.limit + 1, list_each, &page, err) !=
        0) {
        return -1;
    }
    kbs_page_end(&page);
    return 0;
}

int kbs_api_admin_secret_show(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    const struct kbs_admin *admin = NULL;
    struct kbs_span path;
    struct kbs_key row;
    uint64_t sequence = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", SECRET_PATTERN, false, &admin, &sequence, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_request_path(call, &path, err) == 0) {
        rc = kbs_store_secret_newest(call->api->store, path, &row, &policy, NULL, err);
    }
    if (rc == 0) {
        secret_put(&call->answer->body, &row, kbs_buf_span(&policy));
    }
    kbs_buf_deinit(&policy);
    return rc;
}

/* ---- changes ---- */

static int answer(struct kbs_secret_change *s)
{
    secret_put(&s->m.call->answer->body, &s->row, kbs_buf_span(&s->policy));
    return 0;
}

static int body_parse(struct kbs_call *call, struct kbs_secret_change *s,
                      const char *const *members, json_t **ret, struct kbs_error *err)
{
    if (kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_path(call, &s->path, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", ret, err) != 0) {
        return -1;
    }
    s->terms = *ret;
    return kbs_json_only(*ret, members, err);
}

static int plaintext_get(json_t *v, struct kbs_buf *plaintext, struct kbs_error *err)
{
    struct kbs_span text = kbs_span_str(json_string_value(v));
    int rc = kbs_base64url_get(plaintext, text);

    kbs_cleanse((void *)(uintptr_t)text.p, text.len);
    if (rc != 0 || plaintext->len == 0) {
        return kbs_fail(err, KBS_INPUT, "'plaintext' is not the base64url of 1 to %u bytes",
                        (unsigned int)KBS_LIMIT_SECRET_VALUE_BYTES);
    }
    return 0;
}

/* The value, in whichever form it came. */
static int value_get(json_t *body, struct kbs_secret_change *s, struct kbs_buf *plaintext,
                     struct kbs_error *err)
{
    json_t *jwe = json_object_get(body, "jwe");
    json_t *plain = json_object_get(body, "plaintext");

    if ((jwe != NULL) == (plain != NULL) || (plain != NULL && !json_is_string(plain))) {
        return kbs_fail(err, KBS_INPUT, "a secret comes as 'jwe', or as 'plaintext' (base64url)");
    }
    if (jwe != NULL) {
        return kbs_jose_sealed_get(jwe, &s->jwe, err);
    }
    if (plaintext_get(plain, plaintext, err) != 0) {
        return -1;
    }
    s->plaintext = kbs_buf_span(plaintext);
    return 0;
}

int kbs_api_admin_secret_set(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"jwe", "plaintext", "policy", NULL};
    struct kbs_secret_change s = kbs_secret_change_new(call, "secret-set");
    struct kbs_buf plaintext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
    KBS_AUTO_JSON body = NULL;
    int rc = -1;

    if (kbs_admin_verify(call, "POST", SECRET_PATTERN, true, &s.m.admin, &s.m.sequence, err) == 0 &&
        body_parse(call, &s, members, &body, err) == 0 &&
        value_get(body, &s, &plaintext, err) == 0 && kbs_secret_change_set(&s, err) == 0) {
        rc = answer(&s);
    }
    kbs_cleanse(plaintext.p, plaintext.len);
    kbs_buf_deinit(&plaintext);
    kbs_secret_change_deinit(&s);
    return rc;
}

int kbs_api_admin_secret_policy(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"policy", NULL};
    struct kbs_secret_change s = kbs_secret_change_new(call, "secret-policy");
    KBS_AUTO_JSON body = NULL;
    int rc = -1;

    if (kbs_admin_verify(call, "POST", POLICY_PATTERN, true, &s.m.admin, &s.m.sequence, err) == 0 &&
        body_parse(call, &s, members, &body, err) == 0) {
        rc = json_object_size(body) != 0 ? kbs_secret_change_policy(&s, err)
                                         : kbs_fail(err, KBS_INPUT, "'policy' must be there");
    }
    if (rc == 0) {
        rc = answer(&s);
    }
    kbs_secret_change_deinit(&s);
    return rc;
}

int kbs_api_admin_secret_delete(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_secret_change s = kbs_secret_change_new(call, "secret-delete");
    int rc = -1;

    if (kbs_admin_verify(call, "DELETE", SECRET_PATTERN, true, &s.m.admin, &s.m.sequence, err) ==
            0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_request_path(call, &s.path, err) == 0) {
        rc = call->req->body.len == 0 ? kbs_secret_change_delete(&s, err)
                                      : kbs_fail(err, KBS_INPUT, "a deletion has no body");
    }
    if (rc == 0) {
        rc = answer(&s);
    }
    kbs_secret_change_deinit(&s);
    return rc;
}
