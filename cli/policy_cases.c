/*
 * A case that is misread would be a test that passes for nothing, so the file is strict: members that are not
 * known are refused, and `expect` has no default.
 */
#include "cli/policy_cases.h"

#include "base/encoding.h"
#include "base/terms.h"
#include "jose/read/json.h"

static int read_case(const json_t *object, struct kbs_cli_case *ret, struct kbs_error *err)
{
    static const char *const members[] = {"name", "input", "data", "path", "expect", NULL};
    struct kbs_span expect = KBS_SPAN_EMPTY;
    json_t *input = NULL;
    json_t *data = NULL;

    *ret = (struct kbs_cli_case){.input = NULL};
    if (!json_is_object(object)) {
        return kbs_fail(err, KBS_INPUT, "is not an object");
    }
    if (kbs_json_only(object, members, err) != 0 ||
        kbs_json_opt_string(object, "name", &ret->name, err) != 0 ||
        kbs_json_get_object(object, "input", &input, err) != 0 ||
        (json_object_get(object, "data") != NULL &&
         kbs_json_get_object(object, "data", &data, err) != 0) ||
        kbs_json_opt_string(object, "path", &ret->path, err) != 0 ||
        kbs_json_get_string(object, "expect", &expect, err) != 0) {
        return -1;
    }
    ret->input = input;
    ret->data = data;
    ret->allow = kbs_span_equal_str(expect, "allow");
    if (!ret->allow && !kbs_span_equal_str(expect, "deny")) {
        return kbs_fail(err, KBS_INPUT, "'expect' is allow or deny");
    }
    if ((data != NULL) == (ret->path.len != 0)) {
        return kbs_fail(err, KBS_INPUT, "needs 'path' or 'data', and not both");
    }
    return ret->path.len == 0 || kbs_key_path_valid(ret->path)
               ? 0
               : kbs_fail(err, KBS_INPUT, "'path' is not repo/type/tag");
}

int kbs_cli_cases_parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    static const char *const members[] = {"cases", NULL};
    KBS_AUTO_JSON root = NULL;
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_cli_case one;
    const json_t *list = NULL;

    if (kbs_json_parse_object(text, "cases", &root, err) != 0 ||
        kbs_json_only(root, members, err) != 0) {
        return -1;
    }
    list = json_object_get(root, "cases");
    if (json_array_size(list) == 0 || json_array_size(list) > KBS_CLI_CASES_MAX) {
        return kbs_fail(err, KBS_INPUT, "\"cases\" is not a list of 1 to %d", KBS_CLI_CASES_MAX);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (read_case(json_array_get(list, i), &one, &why) != 0) {
            return kbs_fail(err, KBS_INPUT, "case %zu: %.140s", i + 1, why.detail);
        }
    }
    *ret = json_incref(root);
    return 0;
}

size_t kbs_cli_cases_count(const json_t *cases)
{
    return json_array_size(json_object_get(cases, "cases"));
}

struct kbs_cli_case kbs_cli_cases_at(const json_t *cases, size_t n)
{
    struct kbs_error none = KBS_ERROR_NONE; /* it was read when it was parsed */
    struct kbs_cli_case one;

    (void)!read_case(json_array_get(json_object_get(cases, "cases"), n), &one, &none);
    return one;
}

int kbs_cli_case_data(struct kbs_span path, struct kbs_buf *out, struct kbs_error *err)
{
    if (!kbs_key_path_valid(path)) {
        return kbs_fail(err, KBS_INPUT, "not a path (repo/type/tag)");
    }
    kbs_buf_put_str(out, "{\"plugin\":\"resource\",\"method\":\"GET\",\"query\":{},"
                         "\"resource-path\":[\"");
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] == '/') {
            kbs_buf_put_str(out, "\",\"");
        } else {
            kbs_buf_put_u8(out, path.p[i]);
        }
    }
    kbs_buf_put_str(out, "\"]}");
    return kbs_buf_check(out, "data", err);
}
