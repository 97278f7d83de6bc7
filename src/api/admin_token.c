/*
 * What the token is and can do: its import key, and the matrix of what its probe found.
 *
 * The matrix comes as lines of text (hsm/caps.h), made by the token worker for people; here it
 * becomes JSON, each column a string of its own (caps.c reads it).
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

static void cell_put(struct kbs_buf *out, const struct kbs_caps_cell *cell)
{
    kbs_buf_put_u8(out, '{');
    member_put(out, "rung", cell->rung);
    member_put(out, "format", cell->format);
    member_put(out, "key", cell->key);
    kbs_buf_printf(out, "\"bytes\":%u,", (unsigned int)cell->bytes);
    member_put(out, "result", cell->result);
    member_put(out, "locality", cell->locality);
    reason_put(out, cell->function, cell->ckr);
    kbs_buf_put_u8(out, '}');
}

static int caps_put(struct kbs_call *call, struct kbs_span text, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    struct kbs_span rest = text;
    struct kbs_caps_cell cell;
    struct kbs_span note;
    const char *comma = "";
    int rc = 0;

    kbs_buf_put_str(out, "{\"token\":{");
    token_put(&call->api->token, out);
    kbs_buf_put_str(out, "},\"cells\":[");
    while ((rc = kbs_caps_next(&rest, &cell, err)) == 0) {
        kbs_buf_put_str(out, comma);
        cell_put(out, &cell);
        comma = ",";
    }
    kbs_buf_put_str(out, "],\"notes\":[");
    for (comma = ""; rc > 0 && (rc = kbs_caps_note(&rest, &note, err)) == 0; rc = 1, comma = ",") {
        kbs_buf_put_str(out, comma);
        kbs_json_string_put(out, note);
    }
    kbs_buf_put_str(out, "]}");
    return rc > 0 ? 0 : -1;
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
