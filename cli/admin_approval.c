/*
 * kbs-admin approve, and approvals list, show, withdraw: requests of other administrators that one alone may not
 * have carried out.
 *
 * What is signed is a digest of method, target and body, and it is computed here from what is shown: a service
 * that shows one request and means another gets no signature for it. Who has looked at a request with `show` can
 * name its digest to `approve`, so that it cannot be another one by then.
 */
#include "base/encoding.h"
#include "catalog/approval.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/approvals"
#define DIGEST_BYTES 44 /* base64url, and a terminator */

static bool id_valid(const char *id)
{
    uint8_t bytes[KBS_APPROVAL_ID_BYTES];

    return kbs_hex_get_exact(bytes, sizeof(bytes), kbs_span_str(id)) == 0;
}

static int target_put(const char *id, struct kbs_buf *out, struct kbs_error *err)
{
    kbs_buf_printf(out, TARGET "/%s", id);
    return kbs_buf_check(out, "the request target", err);
}

/* ---- what waits ---- */

static int fill_row(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    int64_t needs = 0;
    int64_t expires = 0;

    if (kbs_json_get_string(item, "id", &ret->cells[0], err) != 0 ||
        kbs_json_get_string(item, "state", &ret->cells[1], err) != 0 ||
        kbs_json_get_integer(item, "needs", &needs, err) != 0 ||
        kbs_json_get_integer(item, "expires", &expires, err) != 0 ||
        kbs_json_get_string(item, "method", &ret->cells[4], err) != 0 ||
        kbs_json_get_string(item, "target", &ret->cells[5], err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)needs);
    kbs_admin_time(expires, ret->texts[1], sizeof(ret->texts[1]));
    ret->cells[2] = kbs_span_str(ret->texts[0]);
    ret->cells[3] = kbs_span_str(ret->texts[1]);
    return 0;
}

int kbs_admin_cmd_approvals_list(struct kbs_admin_options *o, int argc, char **argv)
{
    static const char *const titles[] = {"ID", "STATE", "NEEDS", "UNTIL", "METHOD", "TARGET"};
    const struct kbs_args args = {
        .synopsis = "kbs-admin approvals list [options]",
        .about = "List the requests that wait for approval, and those that did."};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON answer = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = kbs_admin_list(o, TARGET, "approvals", "id", &answer, &err);
    if (r == 0) {
        r = o->json ? kbs_cli_json(json_incref(answer), &err)
                    : kbs_admin_table_print(json_object_get(answer, "approvals"), titles,
                                            sizeof(titles) / sizeof(titles[0]), fill_row, &err);
    }
    return kbs_cli_end(r, &err);
}

/* A request that waits, as the service tells it. Spans borrow the tree. */
struct shown {
    json_t *answer; /* owned */
    struct kbs_span state;
    struct kbs_span method;
    struct kbs_span target;
    struct kbs_span body;
    uint8_t digest[KBS_SHA256_BYTES]; /* of what is shown, computed here */
    char digest_text[DIGEST_BYTES];
};

static int shown_read(struct shown *s, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(DIGEST_BYTES);
    struct kbs_span told = KBS_SPAN_EMPTY;

    if (kbs_json_get_string(s->answer, "state", &s->state, err) != 0 ||
        kbs_json_get_string(s->answer, "method", &s->method, err) != 0 ||
        kbs_json_get_string(s->answer, "target", &s->target, err) != 0 ||
        kbs_json_get_string(s->answer, "body", &s->body, err) != 0 ||
        kbs_json_get_string(s->answer, "digest", &told, err) != 0) {
        return -1;
    }
    kbs_approval_digest(s->method, s->target, s->body, s->digest);
    kbs_base64url_put(&text, kbs_span(s->digest, sizeof(s->digest)));
    (void)snprintf(s->digest_text, sizeof(s->digest_text), "%s", kbs_buf_cstr(&text));
    kbs_buf_deinit(&text);
    if (kbs_span_equal_str(s->state, "pending") && !kbs_span_equal_str(told, s->digest_text)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the service's digest is not that of the request that it shows");
    }
    return 0;
}

static int shown_get(struct kbs_admin *a, const char *id, struct shown *ret, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    int r = target_put(id, &target, err);

    if (r == 0) {
        r = kbs_admin_call(a, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, id, &ret->answer, err);
    }
    kbs_buf_deinit(&target);
    return r == 0 ? shown_read(ret, err) : -1;
}

/* A policy travels in base64url, which nobody can read. */
static void body_print(struct kbs_span body)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_span encoded = KBS_SPAN_EMPTY;
    KBS_AUTO_JSON tree = NULL;

    if (kbs_json_parse_object(body, "body", &tree, &ignored) == 0 &&
        kbs_json_get_string(tree, "policy", &encoded, &ignored) == 0 &&
        kbs_base64url_get(&text, encoded) == 0) {
        struct kbs_span rest = kbs_buf_span(&text);

        kbs_cli_field("policy", "%zu bytes:", rest.len);
        while (rest.len > 0) {
            const uint8_t *end = memchr(rest.p, '\n', rest.len);
            const struct kbs_span line =
                kbs_span(rest.p, end != NULL ? (size_t)(end - rest.p) : rest.len);

            kbs_cli_table(&line, 1, 1);
            rest = kbs_span_skip(rest, end != NULL ? line.len + 1 : line.len);
        }
    } else if (body.len != 0) {
        kbs_cli_field_text("body", body);
    }
    kbs_buf_deinit(&text);
}

static int shown_print(const struct kbs_admin_options *o, const struct shown *s,
                       struct kbs_error *err)
{
    const json_t *names = json_object_get(s->answer, "approvers");
    const json_t *name = NULL;
    int64_t needs = 0;
    int64_t expires = 0;
    char until[32];
    size_t i = 0;

    if (o->json) {
        return kbs_cli_json(json_incref(s->answer), err);
    }
    if (kbs_json_get_integer(s->answer, "needs", &needs, err) != 0 ||
        kbs_json_get_integer(s->answer, "expires", &expires, err) != 0) {
        return -1;
    }
    kbs_admin_time(expires, until, sizeof(until));
    kbs_cli_field_text("state", s->state);
    kbs_cli_field("needs", "%lld more", (long long)needs);
    kbs_cli_field("until", "%s", until);
    json_array_foreach(names, i, name)
    {
        kbs_cli_field_text(i == 0 ? "asked by" : "agreed by",
                           kbs_span(json_string_value(name), json_string_length(name)));
    }
    kbs_cli_field_text("method", s->method);
    kbs_cli_field_text("target", s->target);
    kbs_cli_field("digest", "%s", s->digest_text);
    body_print(s->body);
    return 0;
}

/* ---- commands about one ---- */

static int show(const struct kbs_admin_options *o, const char *id, struct kbs_error *err)
{
    struct shown s = {.answer = NULL};
    struct kbs_admin admin = {.signer = NULL};
    int r = kbs_admin_open(o, &admin, err);

    if (r == 0 && (r = shown_get(&admin, id, &s, err)) == 0) {
        r = shown_print(o, &s, err);
    }
    kbs_admin_close(&admin);
    json_decref(s.answer);
    return r;
}

static int withdraw(const struct kbs_admin_options *o, const char *id, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = target_put(id, &target, err);

    if (r == 0 && (r = kbs_admin_open(o, &admin, err)) == 0) {
        const struct kbs_admin_key_request q = {
            .method = "DELETE", .target = kbs_buf_cstr(&target), .path = id};
        r = kbs_admin_send(&admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        if (o->json) {
            r = kbs_cli_json(json_incref(answer), err);
        } else {
            kbs_cli_field("withdrawn", "%s", id);
        }
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

/* What came of it: the last one who was needed learns what was done, others how many are missing. */
static int approved_print(const struct kbs_admin_options *o, const struct shown *s, json_t *answer,
                          struct kbs_error *err)
{
    if (o->json) {
        return kbs_cli_json(json_incref(answer), err);
    }
    kbs_cli_field_text("done", s->method);
    kbs_cli_field_text("target", s->target);
    return json_is_object(json_object_get(answer, "answer"))
               ? kbs_cli_field_json("answer", json_object_get(answer, "answer"), err)
               : 0;
}

static int give(struct kbs_admin *admin, const struct kbs_admin_options *o, const char *id,
                const struct shown *s, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_buf body = KBS_BUF(128);
    KBS_AUTO_JSON answer = NULL;
    int r = target_put(id, &target, err);

    kbs_approval_body_put(&body, s->digest);
    if (r == 0) {
        const struct kbs_admin_key_request q = {.method = "POST",
                                                .target = kbs_buf_cstr(&target),
                                                .path = id,
                                                .body = kbs_buf_span(&body)};
        r = kbs_admin_send(admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = approved_print(o, s, answer, err);
    }
    kbs_buf_deinit(&target);
    kbs_buf_deinit(&body);
    return r;
}

static int approve(const struct kbs_admin_options *o, const char *id, const char *digest,
                   struct kbs_error *err)
{
    struct shown s = {.answer = NULL};
    struct kbs_admin admin = {.signer = NULL};
    int r = kbs_admin_open(o, &admin, err);

    if (r == 0) {
        r = shown_get(&admin, id, &s, err);
    }
    if (r == 0 && digest != NULL && strcmp(digest, s.digest_text) != 0) {
        r = kbs_fail(err, KBS_CONFLICT, "the request that waits has the digest %s", s.digest_text);
    }
    if (r == 0) {
        r = give(&admin, o, id, &s, err);
    }
    kbs_admin_close(&admin);
    json_decref(s.answer);
    return r;
}

/* The one word that each of these takes. KBS_CLI_GO_ON, or the status to exit with. */
static int parse_id(struct kbs_admin_options *o, const struct kbs_args *args, int argc, char **argv,
                    const char **ret)
{
    int r = kbs_admin_parse(o, args, argc, argv, ret);

    return r == KBS_CLI_GO_ON && !id_valid(*ret)
               ? kbs_args_usage(args, "not an approval's id (32 hex digits): %s", *ret)
               : r;
}

int kbs_admin_cmd_approvals_show(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin approvals show ID [options]",
        .about = "Show a request that waits: what it would do, who asked for it\n"
                 "and who agreed, and its digest.",
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;
    const char *id = NULL;

    int r = parse_id(o, &args, argc, argv, &id);
    return r != KBS_CLI_GO_ON ? r : kbs_cli_end(show(o, id, &err), &err);
}

int kbs_admin_cmd_approvals_withdraw(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin approvals withdraw ID [options]",
        .about = "Withdraw a request that waits: nobody can approve of it any\n"
                 "more. Every enrolled administrator may.",
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;
    const char *id = NULL;

    int r = parse_id(o, &args, argc, argv, &id);
    return r != KBS_CLI_GO_ON ? r : kbs_cli_end(withdraw(o, id, &err), &err);
}

int kbs_admin_cmd_approve(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *digest = NULL;
    const struct kbs_arg own[] = {
        {"digest", KBS_ARG_TEXT, &digest, "DIGEST",
         "only if it is this request, as `approvals show` showed it", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin approve ID [--digest DIGEST] [options]",
        .about = "Agree to a request of another administrator. The last one who is needed has it\n"
                 "carried out. Look at it first: kbs-admin approvals show ID.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;
    const char *id = NULL;

    int r = parse_id(o, &args, argc, argv, &id);
    return r != KBS_CLI_GO_ON ? r : kbs_cli_end(approve(o, id, digest, &err), &err);
}
