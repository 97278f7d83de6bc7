/*
 * Makes evidence of a test PKI, for suites that start real programs:
 *
 *   snp_make FOLDER REPORT-DATA [INIT-DATA]       both digests in hex
 *
 * writes the operator's folder (one product, Genoa) into FOLDER, with `roots` beside it (the pin of its ARK in
 * hex) and evidence.json, CoCo's shape; valid from an hour ago for a year.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "attest/snp/tcb.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "base/io.h"
#include "tests/attest/snp_json.h"
#include "tests/attest/snp_pki.h"

static const struct kbs_snp_tcb tcb = {.part = {0, 9, 3, 23, 217}};

static void write_file(const char *folder, const char *name, struct kbs_buf *content)
{
    char path[512];
    struct kbs_error err = KBS_ERROR_NONE;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (kbs_io_write_file(path, kbs_buf_span(content), 0600, false, &err) != 0) {
        (void)fprintf(stderr, "snp_make: %s\n", err.detail);
        exit(1);
    }
    kbs_buf_clear(content);
}

static void report_make(struct kbs_snp_report *r, const struct snp_pki_leaf *leaf)
{
    memset(r->raw, 0, sizeof(r->raw));
    r->raw[KBS_SNP_AT_VERSION] = 3;
    r->raw[KBS_SNP_AT_POLICY + 2] = 3;
    r->raw[KBS_SNP_AT_SIG_ALGO] = 1;
    r->raw[KBS_SNP_AT_PLAT_INFO] = KBS_SNP_PLATFORM_ALIAS_CHECK;
    memset(r->raw + KBS_SNP_AT_MEASUREMENT, 0x4d, 48);
    r->raw[KBS_SNP_AT_CPUID_FAMILY] = 0x19;
    r->raw[KBS_SNP_AT_CPUID_MODEL] = 0x11;
    memcpy(r->raw + KBS_SNP_AT_CHIP_ID, leaf->hwid, leaf->hwid_len);
    static const int tcbs[] = {KBS_SNP_AT_CURRENT_TCB, KBS_SNP_AT_REPORTED_TCB,
                               KBS_SNP_AT_COMMITTED_TCB, KBS_SNP_AT_LAUNCH_TCB};
    for (size_t i = 0; i < sizeof(tcbs) / sizeof(tcbs[0]); i++) {
        for (int part = KBS_SNP_TCB_BOOTLOADER; part < KBS_SNP_TCB_PARTS; part++) {
            r->raw[tcbs[i] + kbs_snp_tcb_offset(KBS_SNP_PRODUCT_GENOA,
                                                (enum kbs_snp_tcb_part)part)] = tcb.part[part];
        }
    }
}

/* Hex into a field: longer digests are cut, shorter ones followed by zeros. */
static void field_put(struct kbs_snp_report *r, enum kbs_snp_at at, size_t len, const char *hex)
{
    struct kbs_buf bytes = KBS_BUF(64);

    if (kbs_hex_get(&bytes, kbs_span_str(hex)) != 0) {
        (void)fprintf(stderr, "snp_make: not hex: %s\n", hex);
        exit(2);
    }
    kbs_init_data_fit(kbs_buf_span(&bytes), r->raw + at, len);
    kbs_buf_deinit(&bytes);
}

static void folder_write(const char *folder, const struct snp_pki *pki, int64_t now_s)
{
    static const char *const names[] = {"genoa/ark.pem", "genoa/ask.pem", "genoa/asvk.pem"};
    const struct snp_pki_crl list = {.this_update = now_s - 3600,
                                     .next_update = now_s + SNP_PKI_YEAR};
    struct kbs_snp_roots roots = {.ark = {{0}}};
    struct kbs_buf file = KBS_BUF(65536);
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/genoa", folder);
    (void)mkdir(path, 0700);
    for (int i = 0; i < KBS_SNP_CERT_COUNT; i++) {
        snp_pki_cert(pki, (enum kbs_snp_cert)i, &file);
        write_file(folder, names[i], &file);
    }
    snp_pki_crl(pki, &list, &file);
    write_file(folder, "genoa/crl.der", &file);
    snp_pki_pin(pki, &roots);
    kbs_hex_put(&file, kbs_span(roots.ark[KBS_SNP_PRODUCT_GENOA], KBS_SHA256_BYTES));
    write_file(folder, "roots", &file);
    kbs_buf_deinit(&file);
}

int main(int argc, char **argv)
{
    int64_t now_s = kbs_clock_unix_s();
    struct snp_pki_leaf leaf = {.product_name = "Genoa-B1",
                                .tcb = tcb,
                                .hwid_len = KBS_SNP_CHIP_ID_BYTES,
                                .not_before = now_s - 3600,
                                .not_after = now_s + SNP_PKI_YEAR};
    struct kbs_buf file = KBS_BUF(1u << 20);
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_snp_report report;
    struct kbs_error err = KBS_ERROR_NONE;
    struct snp_pki pki;

    if (argc < 3 || argc > 4) {
        (void)fprintf(stderr, "usage: snp_make FOLDER REPORT-DATA [INIT-DATA]\n");
        return 2;
    }
    memset(leaf.hwid, 0xc1, sizeof(leaf.hwid));
    snp_pki_init(&pki, KBS_SNP_PRODUCT_GENOA, SNP_PKI_BITS);
    folder_write(argv[1], &pki, now_s);
    report_make(&report, &leaf);
    field_put(&report, KBS_SNP_AT_REPORT_DATA, 64, argv[2]);
    if (argc == 4) {
        field_put(&report, KBS_SNP_AT_HOST_DATA, 32, argv[3]);
    }
    snp_pki_sign(&pki, &report);
    snp_pki_leaf(&pki, &leaf, &der);
    json_t *json =
        snp_json(&report, KBS_SNP_PRODUCT_GENOA, SNP_JSON_NEW, "VCEK", kbs_buf_span(&der));
    if (kbs_json_dump(json, &file, &err) != 0) {
        (void)fprintf(stderr, "snp_make: %s\n", err.detail);
        return 1;
    }
    write_file(argv[1], "evidence.json", &file);
    json_decref(json);
    kbs_buf_deinit(&file);
    kbs_buf_deinit(&der);
    snp_pki_deinit(&pki);
    return 0;
}
