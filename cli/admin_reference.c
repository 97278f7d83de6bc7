/*
 * kbs-admin attest reference: what attested guests are compared with. Values are set by name, or
 * imported from what vendors and Trustee's clients hand out; whatever the form, what is sent is the
 * same: names, values and a time, in a signed request (docs/protocol/reference-values.md).
 */
#include <stdio.h>
#include <string.h>

#include "attest/reference.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "catalog/document.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/reference-values"
#define VALUES_MAX 64 /* of one name, on a command line */
#define IMPORT_MAX_BYTES KBS_LIMIT_HTTP_BODY_BYTES

/* What was typed; NULL and false where nothing was. */
struct reference_options {
    const char *expires;
    const char *form;
    const char *as;
    bool single;
    bool text;
};

static int target_of(const char *name, struct kbs_buf *out, struct kbs_error *err)
{
    if (!kbs_document_name_valid(kbs_span_str(name))) {
        return kbs_fail(err, KBS_INPUT,
                        "not the name of a reference value: letters, digits, '_', '-', '.', in "
                        "segments with '/'");
    }
    kbs_buf_printf(out, TARGET "/%s", name);
    return kbs_buf_check(out, "the request target", err);
}

/* ---- set and import ---- */

/* One request's worth of values, or what it would be. Takes `values`. */
static int send_values(struct kbs_admin *admin, const struct kbs_admin_options *o, json_t *values,
                       int64_t expires_s, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(2 * KBS_LIMIT_DOCUMENT_BYTES);
    KBS_AUTO_JSON answer = NULL;
    KBS_AUTO_JSON request = json_pack("{s:o}", "values", values);
    int r = request == NULL || (expires_s != 0 && json_object_set_new(request, "expires",
                                                                      json_integer(expires_s)) != 0)
                ? kbs_fail(err, KBS_INTERNAL, "out of memory")
                : 0;

    if (r == 0 && o->dry_run) {
        return kbs_cli_json(json_incref(request), err);
    }
    if (r == 0) {
        r = kbs_json_dump(request, &body, err);
    }
    if (r == 0) {
        r = kbs_admin_call(admin, "POST", TARGET, kbs_buf_span(&body), "reference set", &answer,
                           err);
    }
    if (r == 0 && o->json) {
        r = kbs_cli_json(json_incref(answer), err);
    }
    kbs_buf_deinit(&body);
    return r;
}

static void say_set(const json_t *values)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach((json_t *)(uintptr_t)values, name, value)
    {
        kbs_cli_field("set", "%s (%zu)", name, json_is_array(value) ? json_array_size(value) : 1);
    }
}

/* All of them, a request for each KBS_LIMIT_REFERENCE_VALUES. */
static int send_all(const struct kbs_admin_options *o, json_t *values, int64_t expires_s,
                    struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    json_t *batch = json_object();
    const char *name = NULL;
    json_t *value = NULL;
    size_t left = json_object_size(values);
    int r = o->dry_run ? 0 : kbs_admin_open(o, &admin, err);

    json_object_foreach(values, name, value)
    {
        left--;
        if (r == 0 && json_object_set(batch, name, value) != 0) {
            r = kbs_fail(err, KBS_INTERNAL, "out of memory");
        }
        if (r == 0 && (left == 0 || json_object_size(batch) == KBS_LIMIT_REFERENCE_VALUES)) {
            r = send_values(&admin, o, batch, expires_s, err);
            batch = json_object();
        }
    }
    json_decref(batch);
    kbs_admin_close(&admin);
    if (r == 0 && !o->json && !o->dry_run) {
        say_set(values);
    }
    return r;
}

static int expires_of(const struct reference_options *x, int64_t *ret, struct kbs_error *err)
{
    *ret = 0;
    return x->expires == NULL ? 0 : kbs_admin_time_read(x->expires, "--expires", ret, err);
}

/*
 * An integer, true or false as such, any other text as text. Returns owned, NULL if it is not
 * UTF-8.
 */
static json_t *value_of(const char *typed, bool text)
{
    json_t *parsed = text ? NULL : json_loads(typed, JSON_DECODE_ANY, NULL);

    if (json_is_integer(parsed) || json_is_boolean(parsed)) {
        return parsed;
    }
    json_decref(parsed);
    return json_string(typed);
}

static int set(const struct kbs_admin_options *o, const struct reference_options *x,
               const char *const *words, struct kbs_error *err)
{
    json_t *list = json_array();
    KBS_AUTO_JSON values = json_object();
    int64_t expires_s = 0;
    int r = 0;

    for (size_t i = 1; r == 0 && i <= VALUES_MAX && words[i] != NULL; i++) {
        if (json_array_append_new(list, value_of(words[i], x->text)) != 0) {
            r = kbs_fail(err, KBS_INPUT, "a value is not UTF-8");
        }
    }
    if (r == 0 && x->single && json_array_size(list) != 1) {
        r = kbs_fail(err, KBS_INPUT, "--single is for one value");
    }
    if (r == 0 &&
        json_object_set(values, words[0], x->single ? json_array_get(list, 0) : list) != 0) {
        r = kbs_fail(err, KBS_INPUT, "the name is not UTF-8");
    }
    json_decref(list);
    if (r == 0) {
        r = expires_of(x, &expires_s, err);
    }
    return r == 0 ? send_all(o, values, expires_s, err) : -1;
}

int kbs_admin_reference_file(const char *path, const char *form, const char *as, json_t **ret,
                             struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(IMPORT_MAX_BYTES);
    struct kbs_reference_import import = {.as = as};
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0 && form != NULL && !kbs_reference_form_from_name(form, &import.form)) {
        r = kbs_fail(err, KBS_INPUT, "--form is digests, comid, message or values");
    }
    if (r == 0) {
        r = kbs_reference_read(kbs_buf_span(&text), &import, ret, err);
    }
    if (r == 0 && import.left_out > 0) {
        kbs_cli_say("warning: %zu members of measurements are neither digests nor raw values, and "
                    "were left out",
                    import.left_out);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int import(const struct kbs_admin_options *o, const struct reference_options *x,
                  const char *const *words, struct kbs_error *err)
{
    KBS_AUTO_JSON values = NULL;
    int64_t expires_s = 0;

    if (expires_of(x, &expires_s, err) != 0 ||
        kbs_admin_reference_file(words[0], x->form, x->as, &values, err) != 0) {
        return -1;
    }
    return send_all(o, values, expires_s, err);
}

/* ---- list, get, delete ---- */

#define COLUMNS 5
#define SHOWN_BYTES 60

/* A value on one line, cut if it is long: `get` has all of it. Returns owned. */
static json_t *shown(const json_t *value, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    json_t *s = NULL;

    if (kbs_json_dump(value, &text, err) == 0) {
        bool cut = text.len > SHOWN_BYTES;

        s = json_sprintf("%.*s%s", (int)(cut ? SHOWN_BYTES : text.len), (const char *)text.p,
                         cut ? "..." : "");
        s = s != NULL ? s : json_string("?"); /* cut within a character */
    }
    kbs_buf_deinit(&text);
    return s;
}

static int fill_row(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    struct kbs_span *row = ret->cells;
    int64_t created_s = 0;
    int64_t expires_s = 0;

    if (kbs_json_get_string(item, "name", &row[0], err) != 0 ||
        kbs_json_get_string(item, "by", &row[1], err) != 0 ||
        kbs_json_get_integer(item, "created", &created_s, err) != 0 ||
        kbs_json_get_integer(item, "expires", &expires_s, err) != 0 ||
        kbs_json_get_string(item, "shown", &row[4], err) != 0) {
        return -1;
    }
    kbs_admin_time(created_s, ret->texts[0], sizeof(ret->texts[0]));
    kbs_admin_time(expires_s, ret->texts[1], sizeof(ret->texts[1]));
    row[2] = kbs_span_str(ret->texts[0]);
    row[3] = kbs_span_str(ret->texts[1]);
    return 0;
}

static int print_list(json_t *items, struct kbs_error *err)
{
    static const char *const titles[COLUMNS] = {"NAME", "BY", "SET", "EXPIRES", "VALUE"};
    json_t *item = NULL;
    size_t i = 0;

    json_array_foreach(items, i, item)
    {
        json_t *s = shown(json_object_get(item, "value"), err);

        if (s == NULL || json_object_set_new(item, "shown", s) != 0) {
            return -1;
        }
    }
    return kbs_admin_table_print(items, titles, COLUMNS, fill_row, err);
}

static int list(const struct kbs_admin_options *o, const struct reference_options *x,
                const char *const *words, struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;

    (void)x;
    (void)words;
    if (kbs_admin_list(o, TARGET, "values", "name", &answer, err) != 0) {
        return -1;
    }
    return o->json ? kbs_cli_json(json_incref(answer), err)
                   : print_list(json_object_get(answer, "values"), err);
}

static int one(const struct kbs_admin_options *o, const char *method, const char *name,
               struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    if (target_of(name, &target, err) == 0 && kbs_admin_open(o, &admin, err) == 0) {
        r = kbs_admin_call(&admin, method, kbs_buf_cstr(&target), KBS_SPAN_EMPTY, "reference",
                           &answer, err);
    }
    if (r == 0) {
        r = kbs_cli_json(json_incref(o->json ? answer : json_object_get(answer, "value")), err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

static int get(const struct kbs_admin_options *o, const struct reference_options *x,
               const char *const *words, struct kbs_error *err)
{
    (void)x;
    return one(o, "GET", words[0], err);
}

/* Shows what is taken back; a dry run only that. */
static int delete (const struct kbs_admin_options *o, const struct reference_options *x,
                   const char *const *words, struct kbs_error *err)
{
    (void)x;
    return one(o, o->dry_run ? "GET" : "DELETE", words[0], err);
}

/* ---- the command line ---- */

static const struct verb {
    const char *name;
    int (*run)(const struct kbs_admin_options *o, const struct reference_options *x,
               const char *const *words, struct kbs_error *err);
    const char *synopsis;
    const char *about;
    size_t words_min;
    size_t words_max;
    bool takes_values; /* --single, --string */
    bool takes_file;   /* --form, --as */
    bool takes_expires;
} verbs[] = {
    {"set", set, "kbs-admin attest reference set NAME VALUE... [options]",
     "Set a reference value: a list of what is accepted, any of which matches. Integers, true\n"
     "and false are kept as such, all else as text.",
     2, 1 + VALUES_MAX, true, false, true},
    {"import", import, "kbs-admin attest reference import FILE [options]",
     "Set the reference values of a file: digests in hex, one a line (with --as NAME, such as\n"
     "snp_launch_measurement); a CoMID in JSON; a message as Trustee's clients send it; or an\n"
     "object, name to value.",
     1, 1, false, true, true},
    {"list", list, "kbs-admin attest reference list [options]",
     "List the reference values that count: who set them, when, and until when they do.", 0, 0,
     false, false, false},
    {"get", get, "kbs-admin attest reference get NAME [options]", "Show a reference value.", 1, 1,
     false, false, false},
    {"delete", delete, "kbs-admin attest reference delete NAME [options]",
     "Take a reference value back, and show what it was.", 1, 1, false, false, false},
};

static size_t own_args(const struct verb *v, struct reference_options *x, struct kbs_arg *own)
{
    const struct kbs_arg expires = {"expires",
                                    KBS_ARG_TEXT,
                                    &x->expires,
                                    "TIME",
                                    "2026-01-31T12:00:00Z or seconds (default: in a year)",
                                    0,
                                    0};
    const struct kbs_arg values[] = {
        {"single", KBS_ARG_FLAG, &x->single, NULL, "the value itself, not a list of it", 0, 0},
        {"string", KBS_ARG_FLAG, &x->text, NULL, "keep every VALUE as text", 0, 0},
    };
    const struct kbs_arg file[] = {
        {"form", KBS_ARG_TEXT, &x->form, "FORM",
         "digests, comid, message or values (default: found out)", 0, 0},
        {"as", KBS_ARG_TEXT, &x->as, "NAME", "put all digests under this name", 0, 0},
    };
    size_t n = 0;

    for (size_t i = 0; v->takes_values && i < sizeof(values) / sizeof(values[0]); i++) {
        own[n++] = values[i];
    }
    for (size_t i = 0; v->takes_file && i < sizeof(file) / sizeof(file[0]); i++) {
        own[n++] = file[i];
    }
    if (v->takes_expires) {
        own[n++] = expires;
    }
    return n;
}

static int run(struct kbs_admin_options *o, const struct verb *v, int argc, char **argv)
{
    const char *words[1 + VALUES_MAX + 1] = {NULL};
    struct reference_options x = {.expires = NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_arg own[4];
    const struct kbs_args args = {.synopsis = v->synopsis,
                                  .about = v->about,
                                  .own = own,
                                  .own_count = own_args(v, &x, own),
                                  .positionals_min = v->words_min,
                                  .positionals_max = v->words_max};
    int r = kbs_admin_parse(o, &args, argc, argv, words);

    return r != KBS_CLI_GO_ON ? r : kbs_cli_end(v->run(o, &x, words, &err), &err);
}

int kbs_admin_cmd_attest_reference(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin attest reference set|import|list|get|delete [options]",
        .about = "What attested guests are compared with.",
    };

    for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(argv[1], verbs[i].name) == 0) {
            return run(o, &verbs[i], argc - 1, argv + 1);
        }
    }
    int r = kbs_admin_parse(o, &args, argc < 2 ? argc : 2, argv, NULL);
    return r != KBS_CLI_GO_ON ? r : kbs_args_usage(&args, "which of them?");
}
