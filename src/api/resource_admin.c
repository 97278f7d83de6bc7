/*
 * Resources, on the administrators' side, as clients of the KBS protocol know them: the bytes of a
 * value as the body of a POST, DELETE, and a list of paths. A resource is a secret (secret_change.c), which
 * came unsealed and so is refused in the production profile; /kbs/v0/pkcs11/resource names the same
 * secrets as /kbs/v0/resource does.
 *
 * The problem: these clients say nothing of who may have the value. The approach: the configured
 * policy is what every value that comes this way gets, whatever the value before it had; without one
 * nobody gets it, and is told so. Their success is 200 with nothing in it.
 */
#include "api/secret_change.h"

#include "wire/route.h"

#define LIST_PATTERN "/kbs/v0/resource"
#define RESOURCE_PATTERN "/kbs/v0/resource/*/*/*"
#define PKCS11_PATTERN "/kbs/v0/pkcs11/resource/*/*/*"

static const char *pattern(const struct kbs_call *call)
{
    return call->req->route == KBS_ROUTE_PKCS11_RESOURCE_SET ||
                   call->req->route == KBS_ROUTE_PKCS11_RESOURCE_DELETE
               ? PKCS11_PATTERN
               : RESOURCE_PATTERN;
}

/* Who asks, and about what. */
static int change_open(struct kbs_call *call, struct kbs_secret_change *s, const char *method,
                       struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};

    if (kbs_admin_verify(call, method, pattern(call), true, &s->m.admin, &s->m.sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    return kbs_request_path(call, &s->path, err);
}

int kbs_api_resource_set(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_secret_change s = kbs_secret_change_new(call, "secret-set");
    uint32_t max = call->api->resource_bytes;
    int rc = change_open(call, &s, "POST", err);

    s.plaintext = call->req->body;
    if (rc == 0 && s.plaintext.len == 0) {
        rc = kbs_fail(err, KBS_INPUT, "a resource has at least one byte");
    }
    if (rc == 0 && s.plaintext.len > max) {
        rc = kbs_fail(err, KBS_TOO_LARGE, "a resource has at most %u bytes", (unsigned int)max);
    }
    if (rc == 0) {
        rc = kbs_secret_change_set(&s, err);
    }
    kbs_secret_change_deinit(&s);
    call->answer->content_type = "";
    return rc;
}

int kbs_api_resource_delete(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_secret_change s = kbs_secret_change_new(call, "secret-delete");
    int rc = change_open(call, &s, "DELETE", err);

    if (rc == 0 && call->req->body.len != 0) {
        rc = kbs_fail(err, KBS_INPUT, "a deletion has no body");
    }
    if (rc == 0) {
        rc = kbs_secret_change_delete(&s, err);
    }
    kbs_secret_change_deinit(&s);
    call->answer->content_type = "";
    return rc;
}

static void list_each(void *ctx, const struct kbs_key *row, const struct kbs_store_texts *texts)
{
    struct kbs_page *page = ctx;

    (void)texts;
    if (kbs_page_next(page)) {
        kbs_buf_printf(page->out, "\"%s\"", row->path); /* nothing in a path needs escaping */
    }
}

/*
 * All paths, since that is what such clients take the answer for; or, for those who say so, at most
 * `limit` of them after the path `after`. A list that is too long for one answer is refused: half of
 * it would be taken for the whole.
 */
int kbs_api_resource_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_page page = {.out = &call->answer->body};
    const struct kbs_admin *admin = NULL;
    struct kbs_span after = KBS_SPAN_EMPTY;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", LIST_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &page.limit, err) != 0) {
        return -1;
    }
    if (after.len != 0 && !kbs_key_path_valid(after)) {
        return kbs_fail(err, KBS_INPUT, "after must be a path, repo/type/tag");
    }
    if (call->req->query.count == 0) {
        page.limit = KBS_LIMIT_RESOURCE_LIST_ITEMS;
    }
    kbs_buf_put_u8(page.out, '[');
    if (kbs_store_secret_list(call->api->store, after, page.limit + 1, list_each, &page, err) !=
        0) {
        return -1;
    }
    if (page.more && call->req->query.count == 0) {
        return kbs_fail(err, KBS_TOO_LARGE,
                        "there are more than %u resources: ask for pages with limit and after",
                        (unsigned int)KBS_LIMIT_RESOURCE_LIST_ITEMS);
    }
    kbs_buf_put_u8(page.out, ']');
    return 0;
}
