/*
 * kbs-admin policy explain and policy test: release policies over claims in files, offline, by the code that the
 * service decides with.
 */
#include "attest/ear.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"
#include "policy/release.h"

#define CLAIMS_MAX_BYTES (2u * KBS_LIMIT_JWT_BYTES)
#define EXPLAINED_MAX_BYTES (1u << 22)

struct policy_options {
    const char *policy; /* file */
    const char *claims; /* file */
    const char *kbs;    /* file, or NULL */
    const char *authority;
    const char *expect;
};

static int read_object(const char *path, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(CLAIMS_MAX_BYTES);
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&text), path, ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int read_policy(const char *path, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_POLICY_BYTES + 1);
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = kbs_policy_check(kbs_buf_span(&text), err);
    }
    if (r == 0) {
        r = kbs_policy_load(kbs_buf_span(&text), ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

void kbs_admin_explained_print(const json_t *explained)
{
    struct kbs_buf text = KBS_BUF(EXPLAINED_MAX_BYTES);
    const char *line = NULL;

    kbs_policy_explain_put(&text, explained);
    line = kbs_buf_cstr(&text);
    while (line != NULL && *line != '\0') {
        size_t n = strcspn(line, "\n");

        kbs_cli_line(kbs_span(line, n));
        line += n + (line[n] == '\n' ? 1 : 0);
    }
    kbs_buf_deinit(&text);
}

/* Returns owned: the decision and why. */
static int policy_explain(const struct policy_options *o, json_t **ret, struct kbs_error *err)
{
    KBS_AUTO_JSON policy = NULL;
    KBS_AUTO_JSON claims = NULL;
    KBS_AUTO_JSON kbs = NULL;

    if (read_policy(o->policy, &policy, err) != 0 || read_object(o->claims, &claims, err) != 0 ||
        (o->kbs != NULL && read_object(o->kbs, &kbs, err) != 0)) {
        return -1;
    }
    struct kbs_policy_subject subject = {.input = claims, .kbs = kbs};
    if (o->authority != NULL) {
        subject = (struct kbs_policy_subject){
            .kbs = kbs, .authority = kbs_span_str(o->authority), .vouched = claims};
    } else {
        (void)kbs_ear_authority(claims, &subject.authority, &subject.vouched);
    }
    *ret = kbs_policy_explain(policy, &subject);
    return *ret != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

#define SUBJECT_ARGS(o)                                                                        \
    {"claims", KBS_ARG_TEXT, &(o)->claims, "FILE", "the guest's claims, a JSON object", 0, 0}, \
        {"kbs",                                                                                \
         KBS_ARG_TEXT,                                                                         \
         &(o)->kbs,                                                                            \
         "FILE",                                                                               \
         "what the service knows of it: paths that begin with kbs",                            \
         0,                                                                                    \
         0},                                                                                   \
    {                                                                                          \
        "authority", KBS_ARG_TEXT, &(o)->authority, "ISSUER",                                  \
            "the claims are what this issuer said", 0, 0                                       \
    }

int kbs_admin_cmd_policy_release_explain(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy_options p = {.policy = NULL};
    const struct kbs_arg own[] = {
        {"policy", KBS_ARG_TEXT, &p.policy, "FILE", "the release policy", 0, 0},
        SUBJECT_ARGS(&p),
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy explain --policy FILE --claims FILE [--kbs FILE] [options]",
        .about =
            "Say how a release policy decides about these claims, and which condition it came\n"
            "from: a line a condition, what decided marked with \">\".",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON explained = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (p.policy == NULL || p.claims == NULL) {
        return kbs_args_usage(&args, "--policy and --claims are needed");
    }
    r = policy_explain(&p, &explained, &err);
    if (r == 0 && o->json) {
        r = kbs_cli_json(json_incref(explained), &err);
    } else if (r == 0) {
        kbs_admin_explained_print(explained);
    }
    return kbs_cli_end(r, &err);
}

int kbs_admin_cmd_policy_release_test(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy_options p = {.policy = NULL};
    const struct kbs_arg own[] = {
        SUBJECT_ARGS(&p),
        {"expect", KBS_ARG_TEXT, &p.expect, "allow|deny", "what it has to decide", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy test FILE --claims FILE [--kbs FILE] --expect allow|deny "
                    "[options]",
        .about =
            "Succeed if a release policy decides about these claims as expected; else say why\n"
            "it does not.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON explained = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, &p.policy);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (p.claims == NULL || p.expect == NULL ||
        (strcmp(p.expect, "allow") != 0 && strcmp(p.expect, "deny") != 0)) {
        return kbs_args_usage(&args, "--claims and --expect allow|deny are needed");
    }
    r = policy_explain(&p, &explained, &err);
    if (r == 0 && o->json) {
        r = kbs_cli_json(json_incref(explained), &err);
    } else if (r == 0) {
        kbs_admin_explained_print(explained);
    }
    int status = kbs_cli_end(r, &err);
    const char *decision = json_string_value(json_object_get(explained, "decision"));
    if (status == KBS_CLI_OK && strcmp(p.expect, decision != NULL ? decision : "") != 0) {
        kbs_cli_say("%s: expected %s", p.policy, p.expect);
        status = KBS_CLI_FAILURE;
    }
    return status;
}
