/*
 * kbs-admin policy test and policy explain: which kind of policy it is, is told by the file itself. A JSON object
 * is a release policy of a key, anything else is Rego. The two kinds have options of their own, so the file has
 * to be found in the command line before that is parsed.
 */
#include <ctype.h>

#include "cli/admin.h"
#include "cli/files.h"

static bool is_flag(const char *word)
{
    static const char *const flags[] = {"--json", "--dry-run", "--help", "--version"};

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(word, flags[i]) == 0) {
            return true;
        }
    }
    return strchr(word, '=') != NULL;
}

/* The value of --policy, or else the first word that is no option and no option's value; NULL if there is none. */
static const char *policy_file(int argc, char **argv)
{
    const char *first = NULL;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--policy=", 9) == 0) {
            return argv[i] + 9;
        }
        if (strcmp(argv[i], "--policy") == 0) {
            return i + 1 < argc ? argv[i + 1] : NULL;
        }
        if (strncmp(argv[i], "--", 2) == 0) {
            i += is_flag(argv[i]) ? 0 : 1;
        } else if (first == NULL && argv[i][0] != '-') {
            first = argv[i];
        }
    }
    return first;
}

/* Whatever is wrong with the file is said by whoever reads it next. */
static bool is_json_object(const char *path)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_error ignored = KBS_ERROR_NONE;
    size_t at = 0;
    bool is = false;

    if (path != NULL && kbs_cli_read_file(path, &text, &ignored) == 0) {
        while (at < text.len && isspace(text.p[at])) {
            at++;
        }
        is = at < text.len && text.p[at] == '{';
    }
    kbs_buf_deinit(&text);
    return is;
}

int kbs_admin_cmd_policy_test(struct kbs_admin_options *o, int argc, char **argv)
{
    return is_json_object(policy_file(argc, argv))
               ? kbs_admin_cmd_policy_release_test(o, argc, argv)
               : kbs_admin_cmd_policy_rego_test(o, argc, argv);
}

int kbs_admin_cmd_policy_explain(struct kbs_admin_options *o, int argc, char **argv)
{
    return is_json_object(policy_file(argc, argv))
               ? kbs_admin_cmd_policy_release_explain(o, argc, argv)
               : kbs_admin_cmd_policy_rego_explain(o, argc, argv);
}
