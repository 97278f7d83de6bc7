/*
 * SNP evidence as JSON: every shape comes back as the bytes that were signed, and what is not
 * exactly such a shape is refused. With it the operator's folder, and the whole way from JSON to
 * verdict.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "attest/snp/folder.h"
#include "base/encoding.h"
#include "base/io.h"
#include "tests/attest/snp_json.h"
#include "tests/attest/snp_pki.h"
#include "tests/unit/vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A report with another value in every field that some shape carries; reserved ones are zero. */
static void report_make(struct kbs_snp_report *r, uint32_t version, bool turin)
{
    static const struct {
        uint16_t at;
        uint16_t len;
    } filled[] = {
        {KBS_SNP_AT_GUEST_SVN, 4},
        {KBS_SNP_AT_FAMILY_ID, 32},
        {KBS_SNP_AT_PLAT_INFO, 7},
        {KBS_SNP_AT_KEY_INFO, 4},
        {KBS_SNP_AT_REPORT_DATA, KBS_SNP_AT_REPORTED_TCB - KBS_SNP_AT_REPORT_DATA},
        {KBS_SNP_AT_CHIP_ID, 64},
        {KBS_SNP_AT_CURRENT_FIRMWARE, 3},
        {KBS_SNP_AT_COMMITTED_FIRMWARE, 3},
        {KBS_SNP_AT_SIGNATURE_R, 144},
    };
    static const uint16_t tcbs[] = {KBS_SNP_AT_CURRENT_TCB, KBS_SNP_AT_REPORTED_TCB,
                                    KBS_SNP_AT_COMMITTED_TCB, KBS_SNP_AT_LAUNCH_TCB};

    memset(r->raw, 0, sizeof(r->raw));
    for (size_t i = 0; i < COUNT(filled); i++) {
        for (size_t k = 0; k < filled[i].len; k++) {
            r->raw[filled[i].at + k] = (uint8_t)(17 * i + 3 * k + 1);
        }
    }
    for (size_t i = 0; i < COUNT(tcbs); i++) {
        uint8_t *t = r->raw + tcbs[i];

        t[0] = (uint8_t)(i + 1);
        t[1] = (uint8_t)(i + 20);
        t[turin ? 2 : 6] = (uint8_t)(i + 40);
        t[turin ? 3 : 7] = (uint8_t)(i + 60);
        t[7] = (uint8_t)(i + 200);
    }
    r->raw[0] = (uint8_t)version;
    r->raw[KBS_SNP_AT_POLICY + 2] = 0xff;
    r->raw[KBS_SNP_AT_SIG_ALGO] = 1;
    if (version >= 3) {
        r->raw[0x188] = turin ? 0x1a : 0x19;
        r->raw[0x189] = 0x11;
        r->raw[0x18A] = 0x02;
    }
    if (version >= 5) {
        memset(r->raw + KBS_SNP_AT_LAUNCH_MIT_VECTOR, 0x5a, 15);
    }
}

static void parse_equal(const struct kbs_snp_report *r, enum kbs_snp_product product,
                        enum snp_json_shape shape)
{
    static const uint8_t leaf[] = {0x30, 0x03, 0x02, 0x01, 0xff};
    struct kbs_span with = shape == SNP_JSON_SVSM ? KBS_SPAN_EMPTY : kbs_span(leaf, sizeof(leaf));
    KBS_AUTO_JSON json = snp_json(r, product, shape, "VCEK", with);
    struct kbs_snp_evidence e;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_snp_evidence_parse(json, &e, &err) != 0) {
        fail_msg("shape %d: %s", (int)shape, err.detail);
    }
    assert_memory_equal(e.report.raw, r->raw, sizeof(r->raw));
    assert_true(kbs_span_equal(kbs_buf_span(&e.leaf), with));
    kbs_snp_evidence_deinit(&e);
}

static void shapes(void **state)
{
    struct kbs_snp_report r;

    (void)state;
    report_make(&r, 2, false);
    parse_equal(&r, KBS_SNP_PRODUCT_MILAN, SNP_JSON_FIRST);
    parse_equal(&r, KBS_SNP_PRODUCT_MILAN, SNP_JSON_NEW);
    /* An attester that knows version 2 and Milan only, on newer firmware. */
    report_make(&r, 3, false);
    parse_equal(&r, KBS_SNP_PRODUCT_GENOA, SNP_JSON_FIRST);
    report_make(&r, 5, true);
    parse_equal(&r, KBS_SNP_PRODUCT_GENOA, SNP_JSON_FIRST);
    for (uint32_t version = 2; version <= 5; version++) {
        report_make(&r, version, version == 5);
        parse_equal(&r, version == 5 ? KBS_SNP_PRODUCT_TURIN : KBS_SNP_PRODUCT_GENOA, SNP_JSON_NEW);
        parse_equal(&r, KBS_SNP_PRODUCT_GENOA, SNP_JSON_SVSM);
    }
}

static void real_shapes(void **state)
{
    static const char *const names[] = {"snp/test-report.bin", "snp/test-vlek-report.bin"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct kbs_buf file = KBS_BUF(4096);
        struct kbs_snp_report r;
        struct kbs_error err = KBS_ERROR_NONE;

        vectors_read(names[i], &file);
        assert_int_equal(kbs_snp_report_parse(kbs_buf_span(&file), &r, &err), 0);
        parse_equal(&r, KBS_SNP_PRODUCT_MILAN, SNP_JSON_NEW);
        parse_equal(&r, KBS_SNP_PRODUCT_MILAN, SNP_JSON_SVSM);
        kbs_buf_deinit(&file);
    }
}

/* Sets a member by its path ("attestation_report/policy"); a NULL value removes it. */
static void change(json_t *json, const char *path, const char *value)
{
    char name[64];
    json_t *at = json;
    const char *slash;

    while ((slash = strchr(path, '/')) != NULL) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(name)) : json_object_get(at, name);
        assert_non_null(at);
        path = slash + 1;
    }
    json_t *v = value != NULL ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(v != NULL || value == NULL);
    if (json_is_array(at)) {
        assert_int_equal(json_array_set_new(at, (size_t)atoi(path), v), 0);
    } else if (v == NULL) {
        assert_int_equal(json_object_del(at, path), 0);
    } else {
        assert_int_equal(json_object_set_new(at, path, v), 0);
    }
}

static void refused(void **state)
{
    static const struct {
        const char *path;
        const char *value;
        bool taken;
    } cases[] = {
        {"attestation_report/policy", "65537", true},
        {"attestation_report/policy", "-1", false},
        {"attestation_report/policy", "1.5", false},
        {"attestation_report/policy", "\"1\"", false},
        {"attestation_report/policy", "null", false},
        {"attestation_report/policy", "9223372036854775807", true},
        {"attestation_report/version", "4294967295", true},
        {"attestation_report/version", "4294967296", false},
        {"attestation_report/version", NULL, false},
        {"attestation_report/cpuid_step", "255", true},
        {"attestation_report/cpuid_step", "256", false},
        {"attestation_report/cpuid_step", NULL, true},
        {"attestation_report/report_data", "[]", false},
        {"attestation_report/report_data", "\"AAAA\"", false},
        {"attestation_report/report_data/0", "256", false},
        {"attestation_report/report_data/0", "-1", false},
        {"attestation_report/report_data/63", "true", false},
        {"attestation_report/chip_id", NULL, false},
        {"attestation_report/reported_tcb/snp", "256", false},
        {"attestation_report/reported_tcb/snp", NULL, false},
        {"attestation_report/reported_tcb/more", "0", false},
        {"attestation_report/reported_tcb/_reserved", "[0,0,0,0]", true},
        {"attestation_report/reported_tcb/_reserved", "[0,0,0,0,0]", false},
        {"attestation_report/reported_tcb/_reserved", "[0,0,256,0]", false},
        {"attestation_report/reported_tcb/fmc", "0", true},
        {"attestation_report/reported_tcb/fmc", "256", false},
        {"attestation_report/reported_tcb", "[]", false},
        {"attestation_report/_author_key_en", "0", false}, /* beside key_info */
        {"attestation_report/current_build", "1", false},  /* beside current */
        {"attestation_report/_reserved_0", "0", true},
        {"attestation_report/_reserved_0", "-1", false},
        {"attestation_report/_reserved_1", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", true},
        {"attestation_report/_reserved_1", /* goes over cpuid_step */
         "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", false},
        {"attestation_report/_reserved_1", "0", false},
        {"attestation_report/more", "0", false},
        {"attestation_report/more", "null", false},
        {"attestation_report/signature", NULL, false},
        {"attestation_report/signature/r", "[]", false},
        {"attestation_report/signature/_reserved", "[0]", true},
        {"attestation_report/signature/_reserved", "[256]", false},
        {"attestation_report", "[]", false},
        {"attestation_report", NULL, false},
        {"more", "1", false},
        {"cert_chain", "null", true},
        {"cert_chain", NULL, true},
        {"cert_chain", "{}", false},
        {"cert_chain", "[]", true},
        {"cert_chain", "[{}]", false},
        {"cert_chain/0/data", "[256]", false},
        {"cert_chain/0/data", "\"MAA=\"", false},
        {"cert_chain/0/cert_type", "\"ASK\"", true},
        {"cert_chain/0/cert_type", "{\"OTHER\":\"x\"}", true},
        {"cert_chain",
         "[{\"cert_type\":\"VCEK\",\"data\":[1]},{\"cert_type\":\"VLEK\",\"data\":[1]}]", false},
        {"cert_chain",
         "[{\"cert_type\":\"ARK\",\"data\":[1]},{\"cert_type\":\"VLEK\",\"data\":[1]}]", true},
    };
    static const uint8_t leaf[] = {0x30, 0x00};
    struct kbs_snp_report r;

    (void)state;
    report_make(&r, 3, false);
    for (size_t i = 0; i < COUNT(cases); i++) {
        KBS_AUTO_JSON json =
            snp_json(&r, KBS_SNP_PRODUCT_GENOA, SNP_JSON_NEW, "VCEK", kbs_span(leaf, sizeof(leaf)));
        struct kbs_snp_evidence e = {.leaf = KBS_BUF(0)};
        struct kbs_error err = KBS_ERROR_NONE;

        change(json, cases[i].path, cases[i].value);
        int got = kbs_snp_evidence_parse(json, &e, &err);
        if ((got == 0) != cases[i].taken || (got != 0 && err.category != KBS_INPUT)) {
            fail_msg("%s = %s: %d %s", cases[i].path,
                     cases[i].value != NULL ? cases[i].value : "(none)", got, err.detail);
        }
        kbs_snp_evidence_deinit(&e);
    }
}

static void svsm_refused(void **state)
{
    static const char *const texts[] = {
        "{\"snp-report\":\"AAAA\"}",
        "{\"snp-report\":7}",
        "{\"snp-report\":[1,2,3]}",
        "{\"snp-report\":\"!\"}",
        "{\"snp-report\":null}",
        "{\"snp-report\":\"\",\"attestation_report\":{}}",
        "[]",
        "{}",
        "null",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        KBS_AUTO_JSON json = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        struct kbs_snp_evidence e;
        struct kbs_error err = KBS_ERROR_NONE;

        assert_int_equal(kbs_snp_evidence_parse(json, &e, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
    }
}

/* An entry of a certificate table. */
static void entry(struct kbs_buf *to, const char *guid_hex, uint32_t offset, uint32_t length)
{
    assert_int_equal(kbs_hex_get(to, kbs_span_str(guid_hex)), 0);
    kbs_buf_put_le32(to, offset);
    kbs_buf_put_le32(to, length);
}

#define VCEK "63da758de6644564adc5f4b93be8accd"
#define VLEK_EFI "c24b07a85aa23e48aae639c045a0b8a1"
#define ARK "c0b406a4a803495297433fb6014cd0ae"
#define END "00000000000000000000000000000000"

static void cert_tables(void **state)
{
    static const struct {
        const char *guids[2];
        uint32_t offset;
        uint32_t length;
        int result;
        size_t leaf;
    } cases[] = {
        {{ARK, VCEK}, 72, 3, 0, 3},
        {{VLEK_EFI, ARK}, 72, 3, 0, 3},
        {{ARK, ARK}, 72, 3, 0, 0},
        {{VCEK, VLEK_EFI}, 72, 3, -1, 0},
        {{ARK, VCEK}, 73, 3, -1, 0},
        {{ARK, VCEK}, 0xffffffff, 3, -1, 0},
        {{ARK, VCEK}, 72, 0xffffffff, -1, 0},
        {{END, VCEK}, 72, 3, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kbs_buf table = KBS_BUF(4096);
        struct kbs_buf leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
        struct kbs_error err = KBS_ERROR_NONE;

        entry(&table, cases[i].guids[0], cases[i].offset, cases[i].length);
        entry(&table, cases[i].guids[1], cases[i].offset, cases[i].length);
        entry(&table, END, 0, 0);
        kbs_buf_put_str(&table, "abc");
        int r = kbs_snp_cert_table_leaf(kbs_buf_span(&table), &leaf, &err);
        if (r != cases[i].result || (r == 0 && leaf.len != cases[i].leaf)) {
            fail_msg("table %zu: %d, %zu bytes", i, r, leaf.len);
        }
        kbs_buf_clear(&leaf);
        /* Without the end of its last entry the table is cut short. */
        assert_int_equal(kbs_snp_cert_table_leaf(kbs_span(table.p, 70), &leaf, &err),
                         cases[i].guids[0][0] == '0' ? 0 : -1);
        kbs_buf_deinit(&leaf);
        kbs_buf_deinit(&table);
    }
}

/* ---- the operator's folder, and the whole way ----------------------------------------------- */

static char *folder_make(void)
{
    char *folder = strdup("/tmp/kbs-snp-XXXXXX");
    char path[128];

    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/turin", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/turin/vcek", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    return folder;
}

static const char *const folder_files[] = {"turin/ark.pem", "turin/ask.pem", "turin/asvk.pem",
                                           "turin/crl.der",
                                           "turin/vcek/a0a1a2a3a4a5a6a7-01020304000000c8.der"};

static void folder_remove(char *folder)
{
    static const char *const folders[] = {"turin/vcek", "turin", ""};
    char path[256];

    for (size_t i = 0; i < COUNT(folder_files); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, folder_files[i]);
        (void)unlink(path);
    }
    for (size_t i = 0; i < COUNT(folders); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, folders[i]);
        assert_int_equal(rmdir(path), 0);
    }
    free(folder);
}

static void file_write(const char *folder, const char *name, struct kbs_buf *content)
{
    char path[256];
    struct kbs_error err = KBS_ERROR_NONE;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(kbs_io_write_file(path, kbs_buf_span(content), 0600, false, &err), 0);
    kbs_buf_clear(content);
}

static const struct kbs_snp_tcb turin_tcb = {.part = {1, 2, 3, 4, 200}};

static void folder_fill(const char *folder, const struct snp_pki *pki)
{
    struct kbs_buf file = KBS_BUF(65536);
    struct snp_pki_leaf leaf = {.product_name = "Turin-A0",
                                .tcb = turin_tcb,
                                .hwid_len = 8,
                                .not_before = SNP_PKI_NOW - 100,
                                .not_after = SNP_PKI_NOW + 100};
    const struct snp_pki_crl list = {.this_update = SNP_PKI_NOW - 100,
                                     .next_update = SNP_PKI_NOW + 100};

    for (int i = 0; i < KBS_SNP_CERT_COUNT; i++) {
        snp_pki_cert(pki, (enum kbs_snp_cert)i, &file);
        file_write(folder, folder_files[i], &file);
    }
    snp_pki_crl(pki, &list, &file);
    file_write(folder, folder_files[3], &file);
    for (size_t i = 0; i < 8; i++) {
        leaf.hwid[i] = (uint8_t)(0xa0 + i);
    }
    snp_pki_leaf(pki, &leaf, &file);
    file_write(folder, folder_files[4], &file);
    kbs_buf_deinit(&file);
}

static void turin_report(const struct snp_pki *pki, struct kbs_snp_report *r)
{
    static const uint8_t tcb[8] = {1, 2, 3, 4, 0, 0, 0, 200};

    memset(r->raw, 0, sizeof(r->raw));
    r->raw[0] = 5;
    r->raw[KBS_SNP_AT_POLICY + 2] = 3;
    r->raw[KBS_SNP_AT_SIG_ALGO] = 1;
    r->raw[0x188] = 0x1a;
    memcpy(r->raw + KBS_SNP_AT_REPORTED_TCB, tcb, 8);
    memset(r->raw + KBS_SNP_AT_REPORT_DATA, 0x11, 48);
    for (size_t i = 0; i < 8; i++) {
        r->raw[KBS_SNP_AT_CHIP_ID + i] = (uint8_t)(0xa0 + i);
    }
    snp_pki_sign(pki, r);
}

/* Without folder: the verdict says where the leaf is, unless it would not help; with it, all holds. */
static void late_leaf(const struct snp_pki *pki, const struct kbs_snp_report *r,
                      const struct kbs_snp_verifier *from_folder,
                      const struct kbs_expected *expected)
{
    static const uint8_t chips[1][KBS_SNP_CHIP_ID_BYTES] = {{7}};
    struct kbs_snp_policy policy = *from_folder->policy;
    struct kbs_snp_verifier verifier = {
        .endorsements = from_folder->endorsements, .policy = &policy, .kds = true};
    struct kbs_expected late = *expected;
    const struct snp_pki_leaf leaf = {.product_name = "Turin-A0",
                                      .tcb = turin_tcb,
                                      .hwid = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7},
                                      .hwid_len = 8,
                                      .not_before = SNP_PKI_NOW - 100,
                                      .not_after = SNP_PKI_NOW + 100};
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    KBS_AUTO_JSON json = snp_json(r, KBS_SNP_PRODUCT_TURIN, SNP_JSON_NEW, NULL, KBS_SPAN_EMPTY);
    struct kbs_verdict v;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_snp_appraise(&verifier, json, &late, &v, &err), 0);
    assert_string_equal(kbs_verdict_failed(&v)->kind->name, "certificate");
    assert_string_equal(v.needs, "/vcek/v1/Turin/a0a1a2a3a4a5a6a7"
                                 "?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=200");
    kbs_verdict_deinit(&v);
    assert_string_equal(v.needs, "");

    snp_pki_leaf(pki, &leaf, &der);
    late.endorsement = kbs_buf_span(&der);
    assert_int_equal(kbs_snp_appraise(&verifier, json, &late, &v, &err), 0);
    assert_null(kbs_verdict_failed(&v));
    assert_string_equal(v.needs, "");
    kbs_verdict_deinit(&v);
    late.endorsement = KBS_SPAN_LIT("not a certificate");
    assert_int_equal(kbs_snp_appraise(&verifier, json, &late, &v, &err), 0);
    assert_string_equal(kbs_verdict_failed(&v)->kind->name, "certificate");
    assert_string_equal(v.needs, "");
    kbs_verdict_deinit(&v);

    /* Nobody asks AMD for evidence that is refused anyway. */
    late = *expected;
    for (int i = 0; i < 4; i++) {
        policy = *from_folder->policy;
        policy.vmpl = i == 0 ? 1 : 0;
        policy.products = i == 1 ? 1u << KBS_SNP_PRODUCT_GENOA : policy.products;
        policy.signers = i == 2 ? 1u << KBS_SNP_SIGNER_VLEK : policy.signers;
        policy.chips = chips;
        policy.chip_count = i == 3 ? 1 : 0;
        assert_int_equal(kbs_snp_appraise(&verifier, json, &late, &v, &err), 0);
        assert_string_equal(v.needs, "");
        kbs_verdict_deinit(&v);
    }
    kbs_buf_deinit(&der);
}

static void appraise_from_folder(void **state)
{
    struct snp_pki pki;
    struct kbs_snp_report r;
    struct kbs_snp_roots roots = {.ark = {{0}}};
    struct kbs_snp_policy policy = kbs_snp_policy_default();
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_verdict v;
    struct kbs_error err = KBS_ERROR_NONE;
    char *folder = folder_make();

    (void)state;
    snp_pki_init(&pki, KBS_SNP_PRODUCT_TURIN, SNP_PKI_BITS);
    snp_pki_pin(&pki, &roots);
    policy.roots = &roots;
    folder_fill(folder, &pki);
    turin_report(&pki, &r);
    assert_int_equal(kbs_snp_folder_read(folder, &known, &err), 0);

    const struct kbs_snp_verifier verifier = {.endorsements = known,
                                              .policy = &policy,
                                              .find_leaf = kbs_snp_folder_find,
                                              .where = folder};
    const struct kbs_expected expected = {
        .report_data = kbs_snp_bytes(&r, KBS_SNP_AT_REPORT_DATA, 48), .now_s = SNP_PKI_NOW};
    for (int shape = SNP_JSON_NEW; shape <= SNP_JSON_SVSM; shape++) {
        KBS_AUTO_JSON json =
            snp_json(&r, KBS_SNP_PRODUCT_TURIN, (enum snp_json_shape)shape, NULL, KBS_SPAN_EMPTY);

        assert_int_equal(kbs_snp_appraise(&verifier, json, &expected, &v, &err), 0);
        const struct kbs_check *failed = kbs_verdict_failed(&v);
        if (failed != NULL) {
            fail_msg("%s: %s", failed->kind->name, failed->why);
        }
        assert_int_equal(kbs_verdict_binding(&v), KBS_BINDING_FULL);
        kbs_verdict_deinit(&v);
    }

    /* SVSM's report is of VMPL 0, whatever the operator has others attest from. */
    for (int shape = SNP_JSON_NEW; shape <= SNP_JSON_SVSM; shape++) {
        KBS_AUTO_JSON json =
            snp_json(&r, KBS_SNP_PRODUCT_TURIN, (enum snp_json_shape)shape, NULL, KBS_SPAN_EMPTY);

        policy.vmpl = 2;
        assert_int_equal(kbs_snp_appraise(&verifier, json, &expected, &v, &err), 0);
        assert_int_equal(kbs_verdict_failed(&v) == NULL, shape == SNP_JSON_SVSM);
        policy.vmpl = 0;
        kbs_verdict_deinit(&v);
    }

    late_leaf(&pki, &r, &verifier, &expected);

    /* Another TCB has another leaf, and the folder has none for it. */
    KBS_AUTO_JSON json = snp_json(&r, KBS_SNP_PRODUCT_TURIN, SNP_JSON_NEW, NULL, KBS_SPAN_EMPTY);
    change(json, "attestation_report/reported_tcb/microcode", "201");
    assert_int_equal(kbs_snp_appraise(&verifier, json, &expected, &v, &err), 0);
    assert_string_equal(kbs_verdict_failed(&v)->kind->name, "certificate");
    assert_int_equal(kbs_verdict_require(&v, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    kbs_verdict_deinit(&v);
    kbs_snp_endorsements_free(known);

    /* A file that is there must be what its name says. */
    struct kbs_buf text = KBS_BUF(16);
    kbs_buf_put_str(&text, "not a list");
    file_write(folder, folder_files[3], &text);
    err = KBS_ERROR_NONE;
    assert_int_equal(kbs_snp_folder_read(folder, &known, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    kbs_buf_deinit(&text);
    folder_remove(folder);
    snp_pki_deinit(&pki);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),      cmocka_unit_test(real_shapes),
        cmocka_unit_test(refused),     cmocka_unit_test(svsm_refused),
        cmocka_unit_test(cert_tables), cmocka_unit_test(appraise_from_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
