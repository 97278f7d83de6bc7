/*
 * Lists, page by page: an answer of the service holds so many keys or secrets and says whether there are
 * more. What is shown is all of them or an error, never a part that looks like all of it.
 *
 * A service that lies could go on for ever: each page has an item that the next one begins after, and the
 * number of pages has a bound.
 */
#include <stdlib.h>

#include "catalog/document.h"
#include "cli/admin.h"
#include "cli/output.h"

/* The item that the next page begins after: names need no escaping in a query, once they are names. */
static int next_target(const char *target, const json_t *items, const char *name,
                       struct kbs_buf *out, struct kbs_error *err)
{
    const json_t *last = json_array_get(items, json_array_size(items) - 1);
    struct kbs_span text;

    if (kbs_json_get_string(last, name, &text, err) != 0) {
        return -1;
    }
    if (!kbs_document_name_valid(text)) { /* of which paths and kids are a kind */
        return kbs_fail(err, KBS_INPUT, "answer: an item's \"%s\" is no name", name);
    }
    kbs_buf_clear(out);
    kbs_buf_printf(out, "%s?after=%.*s", target, (int)text.len, (const char *)text.p);
    return kbs_buf_check(out, "the request target", err);
}

/* One page into the list. 1 if there are more. */
static int page(struct kbs_admin *a, const char *target, const char *member, json_t *list,
                struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;
    json_t *items = NULL;
    bool more = false;

    if (kbs_admin_call(a, "GET", target, KBS_SPAN_EMPTY, "list", &answer, err) != 0) {
        return -1;
    }
    items = json_object_get(answer, member);
    if (!json_is_array(items)) {
        return kbs_fail(err, KBS_INPUT, "answer: \"%s\" is not a list", member);
    }
    more = json_is_true(json_object_get(answer, "more"));
    if (more && json_array_size(items) == 0) {
        return kbs_fail(err, KBS_INPUT, "answer: \"more\" of nothing");
    }
    if (json_array_extend(list, items) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return more ? 1 : 0;
}

static int pages(struct kbs_admin *a, const char *target, const char *member, const char *name,
                 json_t *list, struct kbs_error *err)
{
    struct kbs_buf at = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    int r = 1;

    kbs_buf_put_str(&at, target);
    for (int i = 0; r == 1 && i < KBS_LIMIT_KEY_LIST_PAGES; i++) {
        r = page(a, kbs_buf_cstr(&at), member, list, err);
        if (r == 1 && next_target(target, list, name, &at, err) != 0) {
            r = -1;
        }
    }
    kbs_buf_deinit(&at);
    return r == 1 ? kbs_fail(err, KBS_TOO_LARGE, "answer: more than %d pages",
                             KBS_LIMIT_KEY_LIST_PAGES)
                  : r;
}

int kbs_admin_list(const struct kbs_admin_options *o, const char *target, const char *member,
                   const char *name, json_t **ret, struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    json_t *list = json_array();
    KBS_AUTO_JSON all = json_pack("{s:o}", member, list);
    int r =
        all != NULL ? kbs_admin_open(o, &admin, err) : kbs_fail(err, KBS_INTERNAL, "out of memory");

    if (r == 0) {
        r = pages(&admin, target, member, name, list, err);
    }
    if (r == 0) {
        *ret = all;
        all = NULL;
    }
    kbs_admin_close(&admin);
    return r;
}

/* The cells in one array, as kbs_cli_table() has them. */
static int table_fill(const json_t *items, size_t columns, kbs_admin_row_fn *fill,
                      struct kbs_admin_row *rows, struct kbs_span *cells, struct kbs_error *err)
{
    for (size_t i = 0; i < json_array_size(items); i++) {
        if (fill(json_array_get(items, i), &rows[i], err) != 0) {
            return -1;
        }
        for (size_t c = 0; c < columns; c++) {
            cells[i * columns + c] = rows[i].cells[c];
        }
    }
    return 0;
}

int kbs_admin_table_print(const json_t *items, const char *const *titles, size_t columns,
                          kbs_admin_row_fn *fill, struct kbs_error *err)
{
    size_t n = json_array_size(items);
    struct kbs_span *cells = calloc((n + 1) * columns, sizeof(*cells));
    struct kbs_admin_row *rows = calloc(n + 1, sizeof(*rows));
    int r = -1;

    if (cells == NULL || rows == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "out of memory");
        goto out;
    }
    for (size_t c = 0; c < columns; c++) {
        cells[c] = kbs_span_str(titles[c]);
    }
    r = table_fill(items, columns, fill, rows, cells + columns, err);
    if (r == 0) {
        kbs_cli_table(cells, n + 1, columns);
    }
out:
    free(cells);
    free(rows);
    return r;
}
