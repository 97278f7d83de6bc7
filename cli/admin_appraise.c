/*
 * What `attest explain` says of evidence that was verified: which reference value matched which
 * claim, and the trust vector that comes of it, by the built-in appraisal or by an attestation
 * policy. It is the judge's code, and the policy is evaluated by kbs-policy, so what is shown is
 * what a service with those would say.
 */
#include <stdio.h>

#include "attest/appraise.h"
#include "base/limits.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/policy_engine.h"

#define CELL_BYTES 48
#define ROWS_MAX 16

/* The comparisons as lines, after their titles; the texts of the cells are here. */
struct lines {
    size_t count;
    struct kbs_span cells[5 * ROWS_MAX];
    char texts[2 * ROWS_MAX][CELL_BYTES];
    json_t *list; /* owned: the same as JSON */
};

/* JSON cut to fit a cell; "-" for none. */
static struct kbs_span cell(const json_t *value, char out[CELL_BYTES])
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_error ignored = KBS_ERROR_NONE;

    (void)snprintf(out, CELL_BYTES, "-");
    if (value != NULL && kbs_json_dump(value, &text, &ignored) == 0) {
        bool cut = text.len >= CELL_BYTES;

        (void)snprintf(out, CELL_BYTES, "%.*s%s", (int)(cut ? CELL_BYTES - 4 : text.len),
                       (const char *)text.p, cut ? "..." : "");
    }
    kbs_buf_deinit(&text);
    return kbs_span_str(out);
}

static const char *match_name(enum kbs_match match)
{
    static const char *const names[] = {
        [KBS_MATCH_UNKNOWN] = "not set", [KBS_MATCH_YES] = "match", [KBS_MATCH_NO] = "NO MATCH"};

    return names[match];
}

static void add_line(void *ctx, const struct kbs_comparison *c)
{
    struct lines *l = ctx;

    if (l->count == ROWS_MAX) {
        return;
    }
    struct kbs_span *row = &l->cells[5 * l->count];
    row[0] = kbs_span_str(match_name(c->match));
    row[1] = kbs_span_str(kbs_trust_claim_name(c->claim));
    row[2] = kbs_span_str(c->reference);
    row[3] = cell(c->measured, l->texts[2 * l->count]);
    row[4] = cell(c->expected, l->texts[2 * l->count + 1]);
    l->count++;
    (void)json_array_append_new(
        l->list, json_pack("{s:s, s:s, s:s, s:O?, s:O?}", "outcome", match_name(c->match), "claim",
                           kbs_trust_claim_name(c->claim), "reference", c->reference, "measured",
                           c->measured, "expected", c->expected));
}

/* ---- the policy ---- */

static int ask_policy(struct kbs_cli_policy *p, const json_t *input, const json_t *references,
                      struct kbs_trust_vector *ret, struct kbs_error *err)
{
    struct kbs_buf input_text = KBS_BUF(KBS_LIMIT_POLICY_EVAL_BYTES);
    struct kbs_buf data_text = KBS_BUF(KBS_LIMIT_REFERENCES_BYTES);
    KBS_AUTO_JSON data = json_pack("{s:O}", "reference", references);
    KBS_AUTO_JSON claims = NULL;
    struct kbs_wire_verdict verdict;
    int r = kbs_json_dump(input, &input_text, err);

    if (r == 0) {
        r = kbs_json_dump(data, &data_text, err);
    }
    if (r == 0) {
        r = kbs_cli_policy_ask(p, kbs_buf_span(&input_text), kbs_buf_span(&data_text), &verdict,
                               err);
    }
    if (r == 0 && verdict.outcome != KBS_REGO_RESULT) {
        r = kbs_fail(err, KBS_UNPROCESSABLE, "the policy, line %u, column %u: %.*s",
                     (unsigned int)verdict.line, (unsigned int)verdict.column,
                     (int)verdict.detail.len, (const char *)verdict.detail.p);
    }
    if (r == 0) {
        r = kbs_json_parse_object(verdict.result, "the policy's result", &claims, err);
    }
    if (r == 0) {
        r = kbs_trust_read(claims, ret, err);
    }
    kbs_buf_deinit(&input_text);
    kbs_buf_deinit(&data_text);
    return r;
}

static int by_policy(const char *path, const json_t *input, const json_t *references,
                     struct kbs_trust_vector *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_cli_policy p = KBS_CLI_POLICY_NULL;
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        p.query = KBS_REGO_QUERY_TRUST;
        r = kbs_cli_policy_open(&p, kbs_buf_span(&text), err);
        if (r == 0) {
            r = ask_policy(&p, input, references, ret, err);
        }
        kbs_cli_policy_close(&p, r != 0);
    }
    kbs_buf_deinit(&text);
    return r;
}

/* ---- both ---- */

static int appraise(const struct kbs_admin_appraisal *a, struct lines *l,
                    struct kbs_trust_vector *vector, struct kbs_error *err)
{
    KBS_AUTO_JSON references = NULL;
    KBS_AUTO_JSON evidence = json_pack("{s:O}", "snp", a->verdict->claims);
    KBS_AUTO_JSON input = kbs_appraise_input(KBS_TEE_SNP, evidence);
    const struct kbs_trust trust = kbs_verdict_trust(a->verdict);

    vector->claim[KBS_TRUST_HARDWARE] = trust.hardware;
    vector->claim[KBS_TRUST_EXECUTABLES] = trust.executables;
    vector->claim[KBS_TRUST_CONFIGURATION] = trust.configuration;
    if (input == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (a->reference == NULL) {
        references = json_object();
    } else if (kbs_admin_reference_file(a->reference, NULL, a->as, &references, err) != 0) {
        return -1;
    }
    kbs_appraise_builtin(KBS_TEE_SNP, input, references, vector, add_line, l);
    return a->policy != NULL ? by_policy(a->policy, input, references, vector, err) : 0;
}

static void show(const struct lines *l, const struct kbs_trust_vector *vector)
{
    kbs_cli_table(l->cells, l->count, 5);
    (void)putchar('\n');
    for (int i = 0; i < KBS_TRUST_COUNT; i++) {
        if (vector->claim[i] != 0) {
            kbs_cli_field(kbs_trust_claim_name((enum kbs_trust_claim)i), "%d, %s", vector->claim[i],
                          kbs_trust_tier(vector->claim[i]));
        }
    }
    kbs_cli_field("status", "%s", kbs_trust_status(vector));
    (void)putchar('\n');
}

int kbs_admin_appraise(const struct kbs_admin_appraisal *a, json_t **ret, struct kbs_error *err)
{
    struct lines l = {.count = 1,
                      .cells = {KBS_SPAN_LIT("OUTCOME"), KBS_SPAN_LIT("CLAIM"),
                                KBS_SPAN_LIT("REFERENCE VALUE"), KBS_SPAN_LIT("MEASURED"),
                                KBS_SPAN_LIT("EXPECTED")},
                      .list = json_array()};
    struct kbs_trust_vector vector = {.claim = {0}};
    int r = appraise(a, &l, &vector, err);

    if (r == 0 && ret != NULL) {
        *ret = json_pack("{s:s, s:o, s:O}", "status", kbs_trust_status(&vector), "vector",
                         kbs_trust_json(&vector), "references", l.list);
    } else if (r == 0) {
        show(&l, &vector);
    }
    json_decref(l.list);
    return r;
}
