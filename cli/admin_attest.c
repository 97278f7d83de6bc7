/*
 * kbs-admin attest explain: verifies evidence from a file, without a service, and prints what was
 * checked, line by line. It is what the judge does, by the same code, with a policy from the command
 * line: to see why a guest was refused, or whether a folder of certificates is complete.
 */
#include <inttypes.h>
#include <stdio.h>

#include "attest/report_data.h"
#include "attest/snp/folder.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"

#define EVIDENCE_MAX_BYTES KBS_LIMIT_HTTP_BODY_BYTES

struct explain_options {
    const char *evidence;
    const char *certs;
    const char *leaf;
    const char *time;
    const char *products;
    const char *provider;
    const char *report_data;
    const char *init_data;
    const char *test_root;
    const char *tee;
    const char *reference;
    const char *as;
    const char *policy;
    uint32_t vmpl;
    uint32_t version_min;
    bool no_crl;
    bool any_host_data;
};

/* "milan,genoa,turin" as bits. */
static int read_products(const char *text, unsigned int *ret, struct kbs_error *err)
{
    struct kbs_span rest = kbs_span_str(text);

    *ret = 0;
    while (rest.len > 0) {
        const uint8_t *comma = memchr(rest.p, ',', rest.len);
        struct kbs_span name =
            kbs_span(rest.p, comma != NULL ? (size_t)(comma - rest.p) : rest.len);
        int product = KBS_SNP_PRODUCT_MILAN;

        while (product < KBS_SNP_PRODUCT_COUNT &&
               !kbs_span_equal_str(name, kbs_snp_product_folder((enum kbs_snp_product)product))) {
            product++;
        }
        if (product == KBS_SNP_PRODUCT_COUNT) {
            return kbs_fail(err, KBS_INPUT, "--products: only milan, genoa and turin are known");
        }
        *ret |= 1u << product;
        rest = kbs_span_skip(rest, name.len + 1);
    }
    return 0;
}

/* The same key for every product: a test PKI has one at a time. */
static int read_test_root(const char *hex, struct kbs_snp_roots *ret, struct kbs_error *err)
{
    for (int p = KBS_SNP_PRODUCT_MILAN; p < KBS_SNP_PRODUCT_COUNT; p++) {
        if (kbs_hex_get_exact(ret->ark[p], KBS_SHA256_BYTES, kbs_span_str(hex)) != 0) {
            return kbs_fail(err, KBS_INPUT, "--test-root is not 64 hex digits");
        }
    }
    return 0;
}

/* The policy, and what it points to. */
struct asked {
    struct kbs_snp_policy policy;
    struct kbs_snp_roots roots;
    const char *providers[1];
    struct kbs_expected expected;
    struct kbs_digest init_data;
    uint8_t report_data[KBS_DIGEST_MAX_BYTES];
};

static int read_init_data(const char *path, struct asked *to, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(EVIDENCE_MAX_BYTES);
    enum kbs_hash hash = KBS_HASH_NONE;
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = kbs_init_data_digest(kbs_buf_span(&text), &hash, &to->init_data, err);
    }
    if (r == 0) {
        to->expected.init_data = kbs_digest_span(&to->init_data);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int read_report_data(const char *hex, struct asked *to, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_DIGEST_MAX_BYTES);
    int r = kbs_hex_get(&bytes, kbs_span_str(hex));

    if (r != 0 || bytes.len == 0) {
        kbs_buf_deinit(&bytes);
        return kbs_fail(err, KBS_INPUT, "--report-data is not hex of 1 to 64 bytes");
    }
    memcpy(to->report_data, bytes.p, bytes.len);
    to->expected.report_data = kbs_span(to->report_data, bytes.len);
    kbs_buf_deinit(&bytes);
    return 0;
}

static int read_asked(const struct explain_options *x, struct asked *to, struct kbs_error *err)
{
    to->policy = kbs_snp_policy_default();
    to->policy.vmpl = x->vmpl;
    to->policy.version_min = x->version_min;
    to->policy.allow_no_crl = x->no_crl;
    to->policy.allow_unexplained_data = x->any_host_data;
    to->providers[0] = x->provider;
    to->policy.providers = to->providers;
    to->policy.provider_count = x->provider != NULL ? 1 : 0;
    to->expected.now_s = kbs_clock_unix_s();
    if ((x->time != NULL &&
         kbs_admin_time_read(x->time, "--time", &to->expected.now_s, err) != 0) ||
        (x->products != NULL && read_products(x->products, &to->policy.products, err) != 0) ||
        (x->init_data != NULL && read_init_data(x->init_data, to, err) != 0) ||
        (x->report_data != NULL && read_report_data(x->report_data, to, err) != 0)) {
        return -1;
    }
    if (x->test_root != NULL) {
        to->policy.roots = &to->roots;
        return read_test_root(x->test_root, &to->roots, err);
    }
    return 0;
}

/* A report as it is, or evidence as JSON; with the leaf that was asked for or that came with it. */
static int read_evidence(const struct explain_options *x, struct kbs_snp_evidence *ret,
                         struct kbs_error *err)
{
    struct kbs_buf file = KBS_BUF(EVIDENCE_MAX_BYTES);
    KBS_AUTO_JSON json = NULL;
    int r = kbs_cli_read_file(x->evidence, &file, err);

    if (r == 0 && file.len > 0 && file.p[0] != '{') {
        r = kbs_snp_report_parse(kbs_buf_span(&file), &ret->report, err);
    } else if (r == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&file), "evidence", &json, err);
        r = r != 0 ? r : kbs_snp_evidence_parse(json, ret, err);
    }
    if (r == 0 && x->leaf != NULL) {
        kbs_buf_clear(&ret->leaf);
        r = kbs_cli_read_file(x->leaf, &ret->leaf, err);
    } else if (r == 0 && ret->leaf.len == 0 && x->certs != NULL) {
        r = kbs_snp_folder_find(x->certs, &ret->report, &ret->leaf, err);
    }
    kbs_buf_deinit(&file);
    return r;
}

static int show_json(const struct kbs_verdict *v, const struct kbs_admin_appraisal *a,
                     struct kbs_error *err)
{
    json_t *appraised = NULL;
    json_t *shown = NULL;

    if (kbs_verdict_failed(v) != NULL) {
        appraised = json_null(); /* it is refused, whatever its values are */
    } else if (kbs_admin_appraise(a, &appraised, err) != 0) {
        return -1;
    }
    shown = kbs_verdict_json(v);
    if (json_object_set_new(shown, "appraisal", appraised) != 0) {
        json_decref(shown);
        shown = NULL;
    }
    return kbs_cli_json(shown, err);
}

static int show(const struct kbs_verdict *v, const struct kbs_admin_appraisal *a,
                struct kbs_error *err)
{
    struct kbs_span cells[3 * KBS_VERDICT_CHECKS];

    for (size_t i = 0; i < v->count; i++) {
        cells[3 * i] = kbs_span_str(kbs_outcome_name(v->checks[i].outcome));
        cells[3 * i + 1] = kbs_span_str(v->checks[i].kind->name);
        cells[3 * i + 2] = kbs_span_str(v->checks[i].why);
    }
    kbs_cli_table(cells, v->count, 3);
    (void)putchar('\n');
    if (kbs_verdict_failed(v) != NULL) {
        kbs_cli_field("appraisal", "none: evidence that fails a check is refused");
    } else if ((a->reference != NULL || a->policy != NULL) &&
               kbs_admin_appraise(a, NULL, err) != 0) {
        return -1;
    }
    kbs_cli_field("init-data", "%s", kbs_init_data_name(v->init_data));
    kbs_cli_field("binding", "%s", kbs_binding_name(kbs_verdict_binding(v)));
    return kbs_cli_field_json("claims", v->claims, err);
}

/* 0 nothing failed, 1 something did, -1 not to be told. */
static int explain(const struct kbs_admin_options *o, const struct explain_options *x,
                   struct kbs_error *err)
{
    struct kbs_snp_evidence evidence = {.leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES)};
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_verdict v = KBS_VERDICT_NULL;
    struct asked asked = {.policy = {.vmpl = 0}};
    int r = read_asked(x, &asked, err);

    if (r == 0) {
        r = x->certs != NULL ? kbs_snp_folder_read(x->certs, &known, err)
                             : kbs_snp_endorsements_new(&known, err);
    }
    if (r == 0) {
        r = read_evidence(x, &evidence, err);
    }
    if (r == 0) {
        r = kbs_snp_verify(&evidence.report, kbs_buf_span(&evidence.leaf), known, &asked.policy,
                           &asked.expected, &v, err);
    }
    if (r == 0) {
        const struct kbs_admin_appraisal a = {
            .verdict = &v, .reference = x->reference, .as = x->as, .policy = x->policy};

        r = o->json ? show_json(&v, &a, err) : show(&v, &a, err);
    }
    if (r == 0 && kbs_verdict_failed(&v) != NULL) {
        r = 1;
    }
    kbs_verdict_deinit(&v);
    kbs_snp_evidence_deinit(&evidence);
    kbs_snp_endorsements_free(known);
    return r;
}

/*
 * Kinds that are not verified here: what their report data is, and whether it is the digest. 0, 1 if
 * it is not, -1.
 */
static int explain_report_data(const struct kbs_admin_options *o, const struct explain_options *x,
                               struct kbs_error *err)
{
    enum kbs_tee tee = kbs_tee_from_name(kbs_span_str(x->tee));
    struct kbs_buf file = KBS_BUF(EVIDENCE_MAX_BYTES);
    struct kbs_buf field = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_buf hex = KBS_BUF(2 * KBS_LIMIT_CERTIFICATE_BYTES + 1);
    struct asked asked = {.policy = {.vmpl = 0}};
    struct kbs_digest digest = {.len = 0};
    struct kbs_error why = KBS_ERROR_NONE;
    enum kbs_hash hash;
    KBS_AUTO_JSON json = NULL;
    int r = tee != KBS_TEE_NONE ? kbs_cli_read_file(x->evidence, &file, err)
                                : kbs_fail(err, KBS_INPUT, "--tee: no kind is called that");

    if (r == 0 && x->report_data != NULL) {
        r = read_report_data(x->report_data, &asked, err);
        digest.len = asked.expected.report_data.len;
        memcpy(digest.p, asked.report_data, digest.len);
    }
    r = r != 0 ? r : kbs_json_parse_object(kbs_buf_span(&file), "evidence", &json, err);
    r = r != 0 ? r : kbs_report_data_find(tee, json, &field, &hash, err);
    if (r == 0) {
        bool same = digest.len == 0 || kbs_report_data_check(tee, json, &digest, &why) == 0;
        const char *outcome = digest.len == 0 ? "not compared" : same ? "pass" : "FAIL";

        kbs_hex_put(&hex, kbs_buf_span(&field));
        if (o->json) {
            r = kbs_cli_json(json_pack("{s:s,s:s,s:s}", "tee", kbs_tee_name(tee), "report_data",
                                       kbs_buf_cstr(&hex), "outcome", outcome),
                             err);
        } else {
            kbs_cli_field("tee", "%s", kbs_tee_name(tee));
            kbs_cli_field("report-data", "%s", kbs_buf_cstr(&hex));
            kbs_cli_field("outcome", "%s", outcome);
        }
        r = r == 0 && !same ? 1 : r;
    }
    kbs_buf_deinit(&file);
    kbs_buf_deinit(&field);
    kbs_buf_deinit(&hex);
    return r;
}

int kbs_admin_cmd_attest_explain(struct kbs_admin_options *o, int argc, char **argv)
{
    struct explain_options x = {.evidence = NULL, .version_min = 3};
    const struct kbs_arg own[] = {
        {"tee", KBS_ARG_TEXT, &x.tee, "KIND",
         "tdx, sgx, cca, ...: only find the report data (default: verify SNP)", 0, 0},
        {"certs", KBS_ARG_TEXT, &x.certs, "FOLDER", "AMD's certificates and lists", 0, 0},
        {"leaf", KBS_ARG_TEXT, &x.leaf, "DER", "VCEK or VLEK, instead of the evidence's", 0, 0},
        {"time", KBS_ARG_TEXT, &x.time, "TIME", "2026-01-31T12:00:00Z or seconds (default: now)", 0,
         0},
        {"vmpl", KBS_ARG_NUMBER, &x.vmpl, "N", "the VMPL that may attest (default 0)", 0, 3},
        {"products", KBS_ARG_TEXT, &x.products, "LIST",
         "milan,genoa,turin: accepted products (default genoa,turin)", 0, 0},
        {"version-min", KBS_ARG_NUMBER, &x.version_min, "N", "oldest report version (default 3)", 2,
         5},
        {"provider", KBS_ARG_TEXT, &x.provider, "CSP_ID", "provider whose VLEKs may sign", 0, 0},
        {"report-data", KBS_ARG_TEXT, &x.report_data, "HEX", "digest that REPORT_DATA must be", 0,
         0},
        {"init-data", KBS_ARG_TEXT, &x.init_data, "FILE", "TOML that HOST_DATA must be of", 0, 0},
        {"no-crl", KBS_ARG_FLAG, &x.no_crl, NULL, "do without a revocation list", 0, 0},
        {"any-host-data", KBS_ARG_FLAG, &x.any_host_data, NULL,
         "take HOST_DATA that no init-data explains", 0, 0},
        {"test-root", KBS_ARG_TEXT, &x.test_root, "HEX",
         "SHA-256 of a test PKI's root key, instead of AMD's", 0, 0},
        {"reference", KBS_ARG_TEXT, &x.reference, "FILE",
         "reference values, as attest reference import reads them", 0, 0},
        {"as", KBS_ARG_TEXT, &x.as, "NAME", "the name of the digests in that file", 0, 0},
        {"policy", KBS_ARG_TEXT, &x.policy, "FILE", "attestation policy in Rego to ask", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin attest explain EVIDENCE [--certs FOLDER] [options]",
        .about = "Verify SEV-SNP evidence, offline, and print every check with its outcome and\n"
                 "why; then what it is worth, by reference values or by a policy. EVIDENCE is\n"
                 "CoCo's or COCONUT-SVSM's JSON, or a report of 1184 bytes. With --tee, find the\n"
                 "report data in evidence of another kind, and compare it. Exit status 1 if a\n"
                 "check fails.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &x.evidence);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = x.tee != NULL ? explain_report_data(o, &x, &err) : explain(o, &x, &err);
    if (r < 0 || kbs_cli_flush(&err) != 0) {
        return kbs_cli_fail(&err);
    }
    return r == 0 ? KBS_CLI_OK : KBS_CLI_FAILURE;
}
