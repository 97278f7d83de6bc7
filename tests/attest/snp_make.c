/*
 * Makes evidence of a test PKI, for suites that start real programs:
 *
 *   snp_make folder FOLDER [revoked]
 *
 * writes the operator's folder (one product, Genoa) into FOLDER, valid from an hour ago for a year; beside it
 * `roots`, the pin of its ARK in hex, and what the next one signs with. `revoked`: the list names the ASK.
 *
 *   snp_make folder FOLDER later
 *
 * likewise, with `later.crl` beside it: a list of the same ARK that is newer than the folder's and names the ASK.
 *
 *   snp_make evidence FOLDER REPORT-DATA [CHANGE...]       the digest in hex
 *
 * prints evidence in CoCo's shape. Changes: init-data=HEX (into HOST_DATA), measurement=HEX, family-id=HEX, image-id=HEX, vmpl=N, debug, no-leaf (the evidence
 * comes without its VCEK), svsm (in COCONUT-SVSM's shape), forged (a bit of the measurement is another than the one that was signed).
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <openssl/pem.h>

#include "attest/snp/tcb.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "base/io.h"
#include "tests/attest/snp_json.h"
#include "tests/attest/snp_pki.h"

static const struct kbs_snp_tcb tcb = {.part = {0, 9, 3, 23, 217}};

static struct snp_pki_leaf leaf_of(int64_t now_s)
{
    struct snp_pki_leaf leaf = {.product_name = "Genoa-B1",
                                .tcb = tcb,
                                .hwid_len = KBS_SNP_CHIP_ID_BYTES,
                                .not_before = now_s - 3600,
                                .not_after = now_s + SNP_PKI_YEAR};

    memset(leaf.hwid, 0xc1, sizeof(leaf.hwid));
    return leaf;
}

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

static void folder_write(const char *folder, const struct snp_pki *pki, int64_t now_s, bool revoked,
                         bool later)
{
    static const char *const names[] = {"genoa/ark.pem", "genoa/ask.pem", "genoa/asvk.pem"};
    const struct snp_pki_crl list = {.revoked = {revoked ? SNP_PKI_ASK_SERIAL : 0},
                                     .this_update = now_s - 3600,
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
    if (later) {
        const struct snp_pki_crl newer = {.revoked = {SNP_PKI_ASK_SERIAL},
                                          .this_update = now_s - 1800,
                                          .next_update = now_s + SNP_PKI_YEAR};

        snp_pki_crl(pki, &newer, &file);
        write_file(folder, "later.crl", &file);
    }
    snp_pki_pin(pki, &roots);
    kbs_hex_put(&file, kbs_span(roots.ark[KBS_SNP_PRODUCT_GENOA], KBS_SHA256_BYTES));
    write_file(folder, "roots", &file);
    kbs_buf_deinit(&file);
}

/* The leaf as the operator has it, for evidence that comes without. */
static void vcek_write(const char *folder, const struct snp_pki_leaf *leaf, struct kbs_buf *der)
{
    char hwid[2 * KBS_SNP_CHIP_ID_BYTES + 1];
    char tcb_hex[17];
    char path[512];
    struct kbs_snp_report report;

    report_make(&report, leaf);
    kbs_hex_cstr(kbs_span(leaf->hwid, leaf->hwid_len), hwid, sizeof(hwid));
    kbs_hex_cstr(kbs_snp_bytes(&report, KBS_SNP_AT_REPORTED_TCB, 8), tcb_hex, sizeof(tcb_hex));
    (void)snprintf(path, sizeof(path), "%s/genoa/vcek", folder);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof(path), "genoa/vcek/%s-%s.der", hwid, tcb_hex);
    write_file(folder, path, der);
}

/* The key that signs reports, and its certificate, stay beside the operator's folder. */
static void signer_write(const char *folder, const struct snp_pki *pki, int64_t now_s)
{
    struct snp_pki_leaf leaf = leaf_of(now_s);
    struct kbs_buf file = KBS_BUF(65536);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    if (bio == NULL ||
        PEM_write_bio_PrivateKey(bio, pki->leaf_key, NULL, NULL, 0, NULL, NULL) != 1) {
        (void)fprintf(stderr, "snp_make: the leaf's key cannot be written\n");
        exit(1);
    }
    long n = BIO_get_mem_data(bio, &text);
    kbs_buf_put(&file, text, (size_t)n);
    write_file(folder, "leaf.key", &file);
    BIO_free(bio);
    snp_pki_leaf(pki, &leaf, &file);
    write_file(folder, "leaf", &file);
    snp_pki_leaf(pki, &leaf, &file);
    vcek_write(folder, &leaf, &file);
    kbs_buf_deinit(&file);
}

static void read_file(const char *folder, const char *name, struct kbs_buf *out)
{
    char path[512];
    struct kbs_error err = KBS_ERROR_NONE;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (kbs_io_read_file(path, out, &err) != 0) {
        (void)fprintf(stderr, "snp_make: %s: %s\n", path, err.detail);
        exit(1);
    }
}

static void signer_read(const char *folder, struct snp_pki *pki)
{
    struct kbs_buf file = KBS_BUF(65536);

    read_file(folder, "leaf.key", &file);
    BIO *bio = BIO_new_mem_buf(file.p, (int)file.len);
    pki->leaf_key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    kbs_buf_deinit(&file);
    if (pki->leaf_key == NULL) {
        (void)fprintf(stderr, "snp_make: %s/leaf.key is no key\n", folder);
        exit(1);
    }
}

/* NAME=HEX of a field. False if it is none. */
static bool change_field(struct kbs_snp_report *r, const char *what)
{
    static const struct {
        const char *name;
        enum kbs_snp_at at;
        size_t bytes;
    } fields[] = {
        {"init-data=", KBS_SNP_AT_HOST_DATA, 32},
        {"measurement=", KBS_SNP_AT_MEASUREMENT, 48},
        {"family-id=", KBS_SNP_AT_FAMILY_ID, 16},
        {"image-id=", KBS_SNP_AT_IMAGE_ID, 16},
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        size_t n = strlen(fields[i].name);

        if (strncmp(what, fields[i].name, n) == 0) {
            field_put(r, fields[i].at, fields[i].bytes, what + n);
            return true;
        }
    }
    return false;
}

/* One change to the report, as the command line has it. */
static void change(struct kbs_snp_report *r, const char *what)
{
    if (change_field(r, what)) {
        return;
    }
    if (strncmp(what, "vmpl=", 5) == 0) {
        r->raw[KBS_SNP_AT_VMPL] = (uint8_t)atoi(what + 5);
    } else if (strcmp(what, "debug") == 0) {
        r->raw[KBS_SNP_AT_POLICY + 2] |= KBS_SNP_POLICY_DEBUG >> 16;
    } else if (strcmp(what, "forged") == 0) {
        r->raw[KBS_SNP_AT_MEASUREMENT] ^= 1; /* after it was signed */
    } else {
        (void)fprintf(stderr, "snp_make: unknown change %s\n", what);
        exit(2);
    }
}

static int make_folder(const char *folder, const char *option)
{
    struct snp_pki pki;
    int64_t now_s = kbs_clock_unix_s();

    snp_pki_init(&pki, KBS_SNP_PRODUCT_GENOA, SNP_PKI_BITS);
    folder_write(folder, &pki, now_s, strcmp(option, "revoked") == 0, strcmp(option, "later") == 0);
    signer_write(folder, &pki, now_s);
    snp_pki_deinit(&pki);
    return 0;
}

static int make_evidence(const char *folder, const char *report_data, char **changes, int n)
{
    struct snp_pki_leaf leaf = leaf_of(0);
    struct snp_pki pki = {.product = KBS_SNP_PRODUCT_GENOA};
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_buf text = KBS_BUF(1u << 20);
    struct kbs_snp_report report;
    struct kbs_error err = KBS_ERROR_NONE;
    bool in_folder = false;
    enum snp_json_shape shape = SNP_JSON_NEW;

    signer_read(folder, &pki);
    read_file(folder, "leaf", &der);
    report_make(&report, &leaf);
    field_put(&report, KBS_SNP_AT_REPORT_DATA, 64, report_data);
    for (int i = 0; i < n; i++) {
        if (strcmp(changes[i], "no-leaf") == 0) {
            in_folder = true;
        } else if (strcmp(changes[i], "svsm") == 0) {
            shape = SNP_JSON_SVSM;
        } else if (strcmp(changes[i], "forged") != 0) {
            change(&report, changes[i]);
        }
    }
    snp_pki_sign(&pki, &report);
    for (int i = 0; i < n; i++) {
        if (strcmp(changes[i], "forged") == 0) {
            change(&report, changes[i]);
        }
    }
    json_t *json = snp_json(&report, KBS_SNP_PRODUCT_GENOA, shape, "VCEK",
                            in_folder ? KBS_SPAN_EMPTY : kbs_buf_span(&der));
    if (kbs_json_dump(json, &text, &err) != 0) {
        (void)fprintf(stderr, "snp_make: %s\n", err.detail);
        return 1;
    }
    (void)fwrite(text.p, 1, text.len, stdout);
    json_decref(json);
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&der);
    EVP_PKEY_free(pki.leaf_key);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && argc <= 4 && strcmp(argv[1], "folder") == 0) {
        return make_folder(argv[2], argc == 4 ? argv[3] : "");
    }
    if (argc >= 4 && strcmp(argv[1], "evidence") == 0) {
        return make_evidence(argv[2], argv[3], argv + 4, argc - 4);
    }
    (void)fprintf(stderr, "usage: snp_make folder FOLDER [revoked | later]\n"
                          "       snp_make evidence FOLDER REPORT-DATA [CHANGE...]\n");
    return 2;
}
