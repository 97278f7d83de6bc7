/*
 * What the key subcommands share: the two ways to make a key differ only in where the bytes come
 * from, and all of them show a KEY of docs/protocol/admin-api.md.
 *
 * A dry run goes as far as it can without changing anything: it reads the policy, signs a read, and
 * finds out whether the path is taken.
 */
#include <time.h>

#include "base/encoding.h"
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"

#define FLOOR_DEFAULT "transport"

int kbs_admin_new_key_check(const struct kbs_args *args, const struct kbs_admin_new_key *k)
{
    if (!kbs_key_path_valid(kbs_span_str(k->path))) {
        return kbs_args_usage(args, "not a key path (repo/type/tag): %s", k->path);
    }
    if (k->floor != NULL && kbs_locality_from_name(kbs_span_str(k->floor)) == KBS_LOCALITY_NONE) {
        return kbs_args_usage(args, "--floor is token, transport or worker");
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

int kbs_admin_new_key_put(struct kbs_buf *out, const struct kbs_admin_new_key *k,
                          struct kbs_error *err)
{
    kbs_buf_printf(out,
                   "\"floor\":\"%s\",\"policy\":", k->floor != NULL ? k->floor : FLOOR_DEFAULT);
    if (k->policy_file == NULL) {
        kbs_buf_put_str(out, "null");
        return 0;
    }
    return policy_put(out, k->policy_file, err);
}

static int show_dry_run(const struct kbs_admin_options *o, const char *target, struct kbs_span body,
                        struct kbs_error *err)
{
    KBS_AUTO_JSON parsed = NULL;

    if (o->json) {
        if (kbs_json_parse_object(body, "request", &parsed, err) != 0) {
            return -1;
        }
        return kbs_cli_json(json_pack("{s:b, s:s, s:s, s:O}", "dry_run", 1, "method", "POST",
                                      "target", target, "body", parsed),
                            err);
    }
    kbs_cli_field("would send", "POST %s", target);
    kbs_cli_field_text("body", body);
    return 0;
}

static int dry_run(struct kbs_admin *a, const struct kbs_admin_options *o, const char *path,
                   const char *target, struct kbs_span body, struct kbs_error *err)
{
    struct kbs_buf key_target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_error there = KBS_ERROR_NONE;
    KBS_AUTO_JSON key = NULL;
    int r = -1;

    if (kbs_admin_key_target(path, "", &key_target, err) != 0) {
        goto out;
    }
    if (kbs_admin_call(a, "GET", kbs_buf_cstr(&key_target), KBS_SPAN_EMPTY, path, &key, &there) ==
        0) {
        (void)kbs_fail(err, KBS_CONFLICT, "%s: the key exists", path);
        goto out;
    }
    if (there.category != KBS_MISSING) {
        *err = there;
        goto out;
    }
    r = show_dry_run(o, target, body, err);
out:
    kbs_buf_deinit(&key_target);
    return r;
}

static int check_kcv(const json_t *key, const uint8_t *kcv, struct kbs_error *err)
{
    struct kbs_span text;
    uint8_t theirs[KBS_KCV_BYTES];

    if (kcv == NULL) {
        return 0;
    }
    if (kbs_json_get_string(key, "kcv", &text, err) != 0) {
        return -1;
    }
    if (kbs_hex_get_exact(theirs, sizeof(theirs), text) != 0 ||
        memcmp(theirs, kcv, sizeof(theirs)) != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the key is there, but its key check value is not that of the key sent");
    }
    return 0;
}

int kbs_admin_new_key_send(struct kbs_admin *a, const struct kbs_admin_options *o, const char *path,
                           const char *target, struct kbs_span body, const uint8_t *kcv,
                           struct kbs_error *err)
{
    KBS_AUTO_JSON key = NULL;

    if (o->dry_run) {
        return dry_run(a, o, path, target, body, err);
    }
    if (kbs_admin_call(a, "POST", target, body, path, &key, err) != 0 ||
        check_kcv(key, kcv, err) != 0) {
        return -1;
    }
    return o->json ? kbs_cli_json(json_incref(key), err) : kbs_admin_key_print(key, false, err);
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

int kbs_admin_key_print(const json_t *key, bool with_policy, struct kbs_error *err)
{
    int64_t bytes;
    int64_t created;
    char when[32];

    if (kbs_json_get_integer(key, "bytes", &bytes, err) != 0 ||
        kbs_json_get_integer(key, "created", &created, err) != 0 ||
        print_text(key, "path", "path", err) != 0 || print_text(key, "kid", "kid", err) != 0 ||
        print_text(key, "purpose", "purpose", err) != 0 ||
        print_text(key, "provenance", "provenance", err) != 0 ||
        print_text(key, "alg", "algorithm", err) != 0) {
        return -1;
    }
    kbs_cli_field("key length", "%lld bytes", (long long)bytes);
    if (print_text(key, "floor", "floor", err) != 0 ||
        print_text(key, "kcv", "key check value", err) != 0) {
        return -1;
    }
    kbs_admin_time(created, when, sizeof(when));
    kbs_cli_field("created", "%s", when);
    return with_policy ? print_policy(key, err) : 0;
}
