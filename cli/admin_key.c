/*
 * What the key subcommands share: all of them send one request about a key and show a KEY of
 * docs/protocol/admin-api.md.
 *
 * A dry run goes as far as it can without changing anything: it reads the policy, signs a read, and
 * finds out whether the path is taken.
 */
#include <stdlib.h>
#include <time.h>

#include "agree/agree.h"
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"

void kbs_admin_new_key_args(struct kbs_admin_new_key *k,
                            struct kbs_arg list[KBS_ADMIN_NEW_KEY_ARGS])
{
    const struct kbs_arg all[KBS_ADMIN_NEW_KEY_ARGS] = {
        {"class", KBS_ARG_TEXT, &k->class, "CLASS",
         "resident (in the token) or wrapped (in the store, under a token key)", 0, 0},
        {"floor", KBS_ARG_TEXT, &k->floor, "LOCALITY", "token, transport or worker", 0, 0},
        {"policy", KBS_ARG_TEXT, &k->policy_file, "FILE", "release policy; without: deny all", 0,
         0},
        {"require-pop", KBS_ARG_FLAG, &k->require_pop, NULL,
         "only for requests with a proof of possession", 0, 0},
        {"no-require-pop", KBS_ARG_FLAG, &k->no_require_pop, NULL,
         "for requests without one, too (default)", 0, 0},
    };

    memcpy(list, all, sizeof(all));
}

int kbs_admin_new_key_check(const struct kbs_args *args, const struct kbs_admin_new_key *k)
{
    if (!kbs_key_path_valid(kbs_span_str(k->path))) {
        return kbs_args_usage(args, "not a key path (repo/type/tag): %s", k->path);
    }
    if (k->floor != NULL && kbs_locality_from_name(kbs_span_str(k->floor)) == KBS_LOCALITY_NONE) {
        return kbs_args_usage(args, "--floor is token, transport or worker");
    }
    if (k->class != NULL && strcmp(k->class, kbs_storage_name(KBS_STORAGE_RESIDENT)) != 0 &&
        strcmp(k->class, kbs_storage_name(KBS_STORAGE_WRAPPED)) != 0) {
        return kbs_args_usage(args, "--class is resident or wrapped");
    }
    if (k->require_pop && k->no_require_pop) {
        return kbs_args_usage(args, "one of --require-pop and --no-require-pop");
    }
    return KBS_CLI_OK;
}

static int policy_put(struct kbs_buf *out, const char *file, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    KBS_AUTO_JSON policy = NULL;
    int r = -1;

    if (kbs_cli_read_file(file, &text, err) == 0 &&
        kbs_json_parse_object(kbs_buf_span(&text), "policy", &policy, err) == 0) {
        r = kbs_json_dump(policy, out, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static void member_put(struct kbs_buf *out, const char *name, const char *value)
{
    if (value != NULL) {
        kbs_buf_printf(out, ",\"%s\":\"%s\"", name, value);
    }
}

int kbs_admin_new_key_put(struct kbs_buf *out, const struct kbs_admin_new_key *k,
                          struct kbs_error *err)
{
    member_put(out, "alg", k->alg);
    if (k->bytes != 0) {
        kbs_buf_printf(out, ",\"bytes\":%u", k->bytes);
    }
    member_put(out, "class", k->class);
    member_put(out, "floor", k->floor);
    if (k->require_pop || k->no_require_pop) {
        kbs_buf_printf(out, ",\"pop_required\":%s", k->require_pop ? "true" : "false");
    }
    if (k->policy_file == NULL) {
        return 0;
    }
    kbs_buf_put_str(out, ",\"policy\":");
    return policy_put(out, k->policy_file, err);
}

static int show_dry_run(const struct kbs_admin_options *o, const struct kbs_admin_key_request *q,
                        struct kbs_error *err)
{
    KBS_AUTO_JSON body = NULL;

    if (!o->json) {
        kbs_cli_field("would send", "%s %s", q->method, q->target);
        if (q->body.len > 0) {
            kbs_cli_field_text("body", q->body);
        }
        return 0;
    }
    if (q->body.len > 0 && kbs_json_parse_object(q->body, "request", &body, err) != 0) {
        return -1;
    }
    return kbs_cli_json(json_pack("{s:b, s:s, s:s, s:O*}", "dry_run", 1, "method", q->method,
                                  "target", q->target, "body", body),
                        err);
}

static int check_free(struct kbs_admin *a, const char *path, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_error there = KBS_ERROR_NONE;
    KBS_AUTO_JSON key = NULL;
    int r = -1;

    if (kbs_admin_key_target(path, "", 0, &target, err) != 0) {
        r = -1;
    } else if (kbs_admin_call(a, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, path, &key,
                              &there) == 0) {
        (void)kbs_fail(err, KBS_CONFLICT, "%s: the key exists", path);
    } else if (there.category != KBS_MISSING) {
        *err = there;
    } else {
        r = 0;
    }
    kbs_buf_deinit(&target);
    return r;
}

/* An answer that is none yet: 202, which has the approval that is waited for. */
static int show_waiting(const struct kbs_admin_options *o, const struct kbs_admin_key_request *q,
                        json_t *answer, struct kbs_error *err)
{
    struct kbs_span id = KBS_SPAN_EMPTY;
    int64_t needs = 0;
    int64_t expires = 0;
    char until[32];

    if (kbs_json_get_string(answer, "approval", &id, err) != 0 ||
        kbs_json_get_integer(answer, "needs", &needs, err) != 0 ||
        kbs_json_get_integer(answer, "expires", &expires, err) != 0) {
        return -1;
    }
    kbs_admin_time(expires, until, sizeof(until));
    if (o->json) {
        if (kbs_cli_json(json_incref(answer), err) != 0) {
            return -1;
        }
    } else {
        kbs_cli_field_text("approval", id);
        kbs_cli_field("needs", "%lld more administrator%s: kbs-admin approve", (long long)needs,
                      needs == 1 ? "" : "s");
        kbs_cli_field("until", "%s", until);
    }
    return kbs_cli_flush(err) != 0
               ? -1
               : kbs_fail(err, KBS_BUSY, "%s: nothing is done yet, it waits for approval", q->path);
}

int kbs_admin_send(struct kbs_admin *a, const struct kbs_admin_options *o,
                   const struct kbs_admin_key_request *q, json_t **ret, struct kbs_error *err)
{
    if (!o->dry_run) {
        KBS_AUTO_JSON answer = NULL;

        if (kbs_admin_call(a, q->method, q->target, q->body, q->path, &answer, err) != 0) {
            return -1;
        }
        if (json_object_get(answer, "approval") != NULL &&
            json_object_get(answer, "state") == NULL) {
            return show_waiting(o, q, answer, err);
        }
        *ret = json_incref(answer);
        return 0;
    }
    if (q->must_be_free && check_free(a, q->path, err) != 0) {
        return -1;
    }
    return show_dry_run(o, q, err);
}

int kbs_admin_key_show(const struct kbs_admin_options *o, json_t *key, struct kbs_error *err)
{
    return o->json ? kbs_cli_json(json_incref(key), err) : kbs_admin_key_print(key, false, err);
}

int kbs_admin_ask(const struct kbs_admin_options *o, const struct kbs_admin_key_request *q,
                  json_t **ret, struct kbs_error *err)
{
    struct kbs_admin_options options = *o;
    struct kbs_admin admin = {.signer = NULL};
    int r = kbs_admin_open(o, &admin, err);

    options.dry_run = o->dry_run && strcmp(q->method, "GET") != 0;
    if (r == 0) {
        r = kbs_admin_send(&admin, &options, q, ret, err);
    }
    kbs_admin_close(&admin);
    return r;
}

int kbs_admin_public_write(const struct kbs_ec_public *key, const char *to, struct kbs_error *err)
{
    const struct kbs_tee_key public_key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = *key};
    struct kbs_buf pem = KBS_BUF(KBS_LIMIT_KEY_PEM_BYTES);
    int r = kbs_agree_public_to_pem(&public_key, &pem, err);

    if (r == 0) {
        r = kbs_cli_write_new(to, kbs_buf_span(&pem), err);
    }
    kbs_buf_deinit(&pem);
    return r;
}

int kbs_admin_key_send(struct kbs_admin *a, const struct kbs_admin_options *o,
                       const struct kbs_admin_key_request *q, struct kbs_error *err)
{
    KBS_AUTO_JSON key = NULL;

    if (kbs_admin_send(a, o, q, &key, err) != 0) {
        return -1;
    }
    return key != NULL ? kbs_admin_key_show(o, key, err) : 0;
}

void kbs_admin_time(int64_t unix_s, char *out, size_t size)
{
    time_t t = (time_t)unix_s;
    struct tm tm;

    out[0] = '\0';
    if (gmtime_r(&t, &tm) != NULL && strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        out[0] = '\0';
    }
}

int kbs_admin_time_read(const char *text, const char *option, int64_t *ret, struct kbs_error *err)
{
    struct tm tm = {.tm_isdst = 0};
    char *end = NULL;

    *ret = strtoll(text, &end, 10);
    if (*text != '\0' && *end == '\0') {
        return 0;
    }
    end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0') {
        return kbs_fail(err, KBS_INPUT, "%s is neither seconds nor like 2026-01-31T12:00:00Z",
                        option);
    }
    *ret = timegm(&tm);
    return 0;
}

static int print_policy(const json_t *key, struct kbs_error *err)
{
    const json_t *policy = json_object_get(key, "policy");

    if (!json_is_object(policy)) {
        kbs_cli_field("policy", "none: every release is denied");
        return 0;
    }
    return kbs_cli_field_json("policy", policy, err);
}

static int print_text(const json_t *key, const char *member, const char *label,
                      struct kbs_error *err)
{
    struct kbs_span value;

    if (kbs_json_get_string(key, member, &value, err) != 0) {
        return -1;
    }
    kbs_cli_field_text(label, value);
    return 0;
}

/* Members that are null, or not in the answer of an older service. */
static int print_later(const json_t *key, struct kbs_error *err)
{
    const json_t *wrapping = json_object_get(key, "wrapping_key");
    const json_t *destroy_at = json_object_get(key, "destroy_at");
    const json_t *gone = json_object_get(key, "gone");
    char when[32];

    if (json_is_integer(wrapping)) {
        kbs_cli_field("wrapping key", "version %lld", (long long)json_integer_value(wrapping));
    }
    if (json_is_integer(destroy_at)) {
        kbs_admin_time(json_integer_value(destroy_at), when, sizeof(when));
        kbs_cli_field("destroyed at", "%s", when);
    }
    return json_is_string(gone) ? print_text(key, "gone", "gone", err) : 0;
}

int kbs_admin_key_print(const json_t *key, bool with_policy, struct kbs_error *err)
{
    static const char *const texts[][2] = {
        {"path", "path"},           {"kid", "kid"},     {"purpose", "purpose"},
        {"state", "state"},         {"class", "class"}, {"provenance", "provenance"},
        {"alg", "algorithm"},       {"floor", "floor"}, {"kcv", "key check value"},
        {"kcv_mac", "computed by"},
    };
    int64_t bytes;
    int64_t created;
    char when[32];

    if (kbs_json_get_integer(key, "bytes", &bytes, err) != 0 ||
        kbs_json_get_integer(key, "created", &created, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (print_text(key, texts[i][0], texts[i][1], err) != 0) {
            return -1;
        }
    }
    if (json_is_true(json_object_get(key, "pop_required"))) {
        kbs_cli_field("released to", "requests with a proof of possession only");
    }
    kbs_cli_field("key length", "%lld bytes", (long long)bytes);
    kbs_admin_time(created, when, sizeof(when));
    kbs_cli_field("created", "%s", when);
    if (print_later(key, err) != 0) {
        return -1;
    }
    return with_policy ? print_policy(key, err) : 0;
}
