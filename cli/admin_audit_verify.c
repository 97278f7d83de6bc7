/*
 * kbs-admin audit verify: reads a ledger's file, without a service, and says what does not hold.
 * Notes are what crashes and full disks explain; findings are what nothing explains.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/io.h"
#include "cli/admin.h"
#include "cli/audit_verify.h"
#include "cli/output.h"
#include "cli/status.h"

struct audit_options {
    const char *ledger;
    const char *head_key; /* NULL: the profile's, if there is one */
};

/* A profile that was not asked for need not be there. */
static int find_key(const struct kbs_admin_options *o, const struct audit_options *a,
                    struct kbs_ec_public *ret, bool *ret_has, struct kbs_error *err)
{
    struct kbs_admin_profile profile;

    *ret_has = true;
    if (a->head_key != NULL) {
        return kbs_admin_pinned_key(a->head_key, ret, err);
    }
    if (kbs_admin_profile_read(kbs_admin_profile_path(o), &profile, err) != 0) {
        if (o->profile != NULL) {
            return -1;
        }
        *err = KBS_ERROR_NONE;
        profile.head_key[0] = '\0';
    }
    if (profile.head_key[0] == '\0') {
        *ret_has = false;
        return 0;
    }
    return kbs_admin_pinned_key(profile.head_key, ret, err);
}

static void show_list(const char *label, const json_t *list)
{
    size_t i;
    const json_t *one;

    json_array_foreach(list, i, one)
    {
        char text[32];
        (void)snprintf(text, sizeof(text), "%s, line %lld", label,
                       (long long)json_integer_value(json_object_get(one, "line")));
        kbs_cli_field_text(text, kbs_span_str(json_string_value(json_object_get(one, "text"))));
    }
}

static int show(const struct kbs_audit_summary *s, bool json, struct kbs_error *err)
{
    if (json) {
        return kbs_cli_json(
            json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "ok",
                      json_array_size(s->findings) == 0 ? 1 : 0, "records",
                      (json_int_t)s->ledger.records, "epoch", (json_int_t)s->ledger.epoch,
                      "releases", (json_int_t)s->releases, "deeds", (json_int_t)s->deeds,
                      "mutations", (json_int_t)s->mutations, "refusals", (json_int_t)s->refusals,
                      "heads", (json_int_t)s->heads, "head_covers", (json_int_t)s->head_covers,
                      "findings", s->findings, "notes", s->notes),
            err);
    }
    kbs_cli_field("records", "%" PRIu64, s->ledger.records);
    kbs_cli_field("release orders", "%" PRIu64, s->releases);
    kbs_cli_field("deeds", "%" PRIu64, s->deeds);
    kbs_cli_field("mutations", "%" PRIu64 ", epoch %" PRIu64, s->mutations, s->ledger.epoch);
    kbs_cli_field("refusals", "%" PRIu64, s->refusals);
    kbs_cli_field("signed heads", "%" PRIu64 ", up to record %" PRIu64, s->heads, s->head_covers);
    show_list("note", s->notes);
    show_list("FINDING", s->findings);
    kbs_cli_field("verdict", "%s",
                  json_array_size(s->findings) == 0 ? "sound" : "NOT sound, see the findings");
    return 0;
}

/* 0 sound, 1 not, -1 not to be told. */
static int verify(const struct kbs_admin_options *o, const struct audit_options *a,
                  struct kbs_error *err)
{
    struct kbs_audit_summary s = {.findings = NULL};
    struct kbs_ec_public key;
    bool has_key = false;
    int fd = -1;
    int r = find_key(o, a, &key, &has_key, err);

    if (r != 0) {
        return -1;
    }
    fd = open(a->ledger, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot read %.120s: %s", a->ledger, strerror(errno));
    }
    r = kbs_audit_verify(fd, has_key ? &key : NULL, &s, err);
    if (r == 0) {
        r = show(&s, o->json, err);
    }
    if (r == 0 && json_array_size(s.findings) > 0) {
        r = 1;
    }
    kbs_audit_summary_deinit(&s);
    kbs_io_close(&fd);
    return r;
}

int kbs_admin_cmd_audit_verify(struct kbs_admin_options *o, int argc, char **argv)
{
    struct audit_options a = {.ledger = NULL};
    const struct kbs_arg own[] = {
        {"head-key", KBS_ARG_TEXT, &a.head_key, "PEM",
         "public key of signed heads (default: the profile's)", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin audit verify LEDGER [--head-key PEM] [options]",
        .about =
            "Check a ledger's file, offline: its chain, its signed heads, and that orders and\n"
            "deeds agree. Exit status 1 if anything does not hold.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &a.ledger);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = verify(o, &a, &err);
    if (r < 0 || kbs_cli_flush(&err) != 0) {
        return kbs_cli_fail(&err);
    }
    return r == 0 ? KBS_CLI_OK : KBS_CLI_FAILURE;
}
