/*
 * What the token is and can do: its import key, and the matrix of what its probe found.
 *
 * The matrix comes as lines of text (hsm/caps.h), made by the token worker for people; here it
 * becomes JSON, each column a string of its own. A line that does not have its columns is an error
 * of the worker, not something to be passed on.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "jose/write/jose.h"

#define IMPORT_KEY_PATTERN "/kbs/v0/admin/import-key"
#define CAPS_PATTERN "/kbs/v0/admin/token/caps"

static const char *const no_query[] = {NULL};

/* The members of "token", without braces. */
static void token_put(const struct kbs_token_facts *f, struct kbs_buf *out)
{
    kbs_buf_put_str(out, "\"manufacturer\":");
    kbs_json_string_put(out, kbs_span_str(f->manufacturer));
    kbs_buf_put_str(out, ",\"model\":");
    kbs_json_string_put(out, kbs_span_str(f->model));
    kbs_buf_put_str(out, ",\"serial\":");
    kbs_json_string_put(out, kbs_span_str(f->serial));
    kbs_buf_printf(out, ",\"class\":\"%s\"", kbs_token_class_name(f->class));
}

int kbs_api_admin_import_key(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_token_facts *f = &call->api->token;
    struct kbs_buf *out = &call->answer->body;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", IMPORT_KEY_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    if (!f->has_import) {
        return kbs_fail(err, KBS_MISSING, "the token has no import key, see kbs-admin init");
    }
    kbs_buf_put_str(out, "{\"key\":");
    kbs_jose_jwk_put(out, &f->import);
    kbs_buf_printf(out, ",\"thumbprint\":\"%s\",\"token\":{", f->import_kid);
    token_put(f, out);
    kbs_buf_printf(out, ",\"rungs\":%s}}", f->rungs);
    return 0;
}

/* ---- the matrix ---- */

enum column {
    COLUMN_RUNG,
    COLUMN_FORMAT,
    COLUMN_KEY,
    COLUMN_BYTES,
    COLUMN_RESULT,
    COLUMN_LOCALITY,
    COLUMN_FUNCTION,
    COLUMN_CKR,
    COLUMN_COUNT
};

/* Cuts up to the separator, or all of it, off *rest. */
static struct kbs_span cut(struct kbs_span *rest, char separator)
{
    const uint8_t *end = rest->len != 0 ? memchr(rest->p, separator, rest->len) : NULL;
    struct kbs_span piece = *rest;

    if (end != NULL) {
        piece.len = (size_t)(end - rest->p);
        *rest = kbs_span_skip(*rest, piece.len + 1);
    } else {
        *rest = KBS_SPAN_EMPTY;
    }
    return piece;
}

static bool is_number(struct kbs_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            return false;
        }
    }
    return text.len != 0 && text.len < 10 && (text.len == 1 || text.p[0] != '0');
}

static void member_put(struct kbs_buf *out, const char *name, struct kbs_span value)
{
    kbs_buf_printf(out, "\"%s\":", name);
    kbs_json_string_put(out, value);
    kbs_buf_put_u8(out, ',');
}

/* "C_DeriveKey: CKR_MECHANISM_INVALID", or what there is of it. */
static void reason_put(struct kbs_buf *out, struct kbs_span function, struct kbs_span ckr)
{
    struct kbs_buf reason = KBS_BUF(KBS_LIMIT_ERROR_DETAIL_BYTES);

    if (!kbs_span_equal_str(function, "-")) {
        kbs_buf_put_span(&reason, function);
        kbs_buf_put_str(&reason, ": ");
    }
    if (!kbs_span_equal_str(ckr, "-")) {
        kbs_buf_put_span(&reason, ckr);
    }
    kbs_buf_put_str(out, "\"reason\":");
    kbs_json_string_put(out, kbs_buf_span(&reason));
    kbs_buf_deinit(&reason);
}

static bool cell_put(struct kbs_buf *out, struct kbs_span line)
{
    struct kbs_span column[COLUMN_COUNT];

    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        column[i] = cut(&line, '\t');
        if (column[i].len == 0 || column[i].len > KBS_LIMIT_ERROR_DETAIL_BYTES / 3) {
            return false;
        }
    }
    if (line.len != 0 || !is_number(column[COLUMN_BYTES])) {
        return false;
    }
    kbs_buf_put_u8(out, '{');
    member_put(out, "rung", column[COLUMN_RUNG]);
    member_put(out, "format", column[COLUMN_FORMAT]);
    member_put(out, "key", column[COLUMN_KEY]);
    kbs_buf_put_str(out, "\"bytes\":");
    kbs_buf_put_span(out, column[COLUMN_BYTES]);
    kbs_buf_put_u8(out, ',');
    member_put(out, "result", column[COLUMN_RESULT]);
    member_put(out, "locality", column[COLUMN_LOCALITY]);
    reason_put(out, column[COLUMN_FUNCTION], column[COLUMN_CKR]);
    kbs_buf_put_u8(out, '}');
    return true;
}

static int caps_put(struct kbs_call *call, struct kbs_span text, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    struct kbs_span rest = text;
    bool first = true;
    bool ok = kbs_utf8_valid(text);

    kbs_buf_put_str(out, "{\"token\":{");
    token_put(&call->api->token, out);
    kbs_buf_put_str(out, "},\"cells\":[");
    while (ok && rest.len != 0 && rest.p[0] != '#') {
        kbs_buf_put_str(out, first ? "" : ",");
        ok = cell_put(out, cut(&rest, '\n'));
        first = false;
    }
    kbs_buf_put_str(out, "],\"notes\":[");
    for (first = true; ok && rest.len != 0; first = false) {
        struct kbs_span line = cut(&rest, '\n');

        ok = kbs_span_starts_with(line, "# ");
        kbs_buf_put_str(out, first ? "" : ",");
        kbs_json_string_put(out, kbs_span_skip(line, 2));
    }
    kbs_buf_put_str(out, "]}");
    return ok ? 0 : kbs_fail(err, KBS_INTERNAL, "the token's account of itself is malformed");
}

int kbs_api_admin_token_caps(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", CAPS_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_token_order(call, KBS_WIRE_CAPS, NULL, &result, err) != 0) {
        return -1;
    }
    return caps_put(call, result.body, err);
}
