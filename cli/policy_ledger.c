/*
 * A change stands in the ledger twice: its intent says what, its outcome that it came to be. So what is found in an
 * intent is kept until the outcome that names it; one that failed, or that nobody closed, changed nothing that is
 * known of. The kinds are those of docs/protocol/ledger.md that carry the digest of a policy's text.
 */
#include "cli/policy_ledger.h"

#include <string.h>

#include "audit/ledger.h"
#include "base/span.h"
#include "jose/read/json.h"

static const struct {
    const char *kind;
    const char *name;   /* the member that says of what */
    const char *digest; /* and that of the text */
} kinds[] = {
    {"key-generate", "path", "policy"},      {"key-import", "path", "policy"},
    {"key-adopt", "path", "policy"},         {"key-policy", "path", "policy"},
    {"secret-set", "path", "policy"},        {"secret-policy", "path", "policy"},
    {"resource-policy-set", "name", "text"}, {"attestation-policy-set", "name", "text"},
};

struct reader {
    const char *name;
    json_t *list; /* borrowed */
    json_t *open; /* of the newest intent that is ours; owned */
    bool failed;
};

static const char *text_of(const json_t *record, const char *name)
{
    const char *text = json_string_value(json_object_get(record, name));

    return text != NULL ? text : "";
}

static bool is(const json_t *record, const char *name, const char *value)
{
    return strcmp(text_of(record, name), value) == 0;
}

/* Where its digest stands, if it is of the policy that is asked for; else NULL. */
static const char *digest_of(const struct reader *r, const json_t *record)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (is(record, "kind", kinds[i].kind)) {
            return is(record, kinds[i].name, r->name) ? text_of(record, kinds[i].digest) : NULL;
        }
    }
    return NULL;
}

static void on_intent(struct reader *r, uint64_t seq, const json_t *record, const char *digest)
{
    json_decref(r->open);
    r->open =
        json_pack("{s:I, s:s, s:s, s:s, s:s, s:s}", "seq", (json_int_t)seq, "time",
                  text_of(record, "time"), "kind", text_of(record, "kind"), "version",
                  text_of(record, "version"), "digest", digest, "admin", text_of(record, "admin"));
    r->failed = r->failed || r->open == NULL;
    if (json_object_get(record, "approvers") != NULL) {
        (void)json_object_set_new(r->open, "approvers", json_string(text_of(record, "approvers")));
    }
}

static void on_outcome(struct reader *r, const json_t *record)
{
    if (r->open != NULL && is(record, "outcome", "done") &&
        json_array_append(r->list, r->open) != 0) {
        r->failed = true;
    }
    json_decref(r->open);
    r->open = NULL;
}

static void each(void *ctx, const struct kbs_ledger_report *so_far, struct kbs_span json)
{
    struct reader *r = ctx;
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON record = NULL;
    const char *digest = NULL;

    if (kbs_json_parse_object(json, "record", &record, &ignored) != 0) {
        return; /* kbs-admin audit verify says so */
    }
    digest = digest_of(r, record);
    if (digest == NULL) {
        return;
    }
    if (is(record, "phase", "intent")) {
        on_intent(r, so_far->records, record, digest);
    } else {
        on_outcome(r, record);
    }
}

int kbs_cli_policy_ledger(int fd, const char *name, json_t **ret, struct kbs_error *err)
{
    struct kbs_ledger_report report;
    json_t *list = json_array();
    struct reader r = {.name = name, .list = list, .failed = list == NULL};
    int rc = kbs_ledger_scan(fd, each, &r, &report, err);

    json_decref(r.open);
    if (rc >= 0 && r.failed) {
        rc = kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (rc < 0) {
        json_decref(list);
        return -1;
    }
    *ret = list;
    return 0;
}
