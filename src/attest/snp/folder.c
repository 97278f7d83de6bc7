/*
 * Endorsements are read once, at start; leaves one by one, by a name that is made of the report's
 * hex digits alone, so nothing in evidence can name another file. A report before version 3 does not
 * tell its product: then all three are looked at, which is safe because what is found is verified
 * like any other leaf.
 */
#include "attest/snp/folder.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/encoding.h"
#include "base/io.h"

#define PATH_BYTES 4096

/* Reads FOLDER/PRODUCT/NAME. 1 read, 0 there is none, -1 on error. */
static int read_one(const char *folder, enum kbs_snp_product product, const char *name,
                    struct kbs_buf *out, struct kbs_error *err)
{
    char path[PATH_BYTES];
    struct stat st;
    int n = snprintf(path, sizeof(path), "%s/%s/%s", folder, kbs_snp_product_folder(product), name);

    if (n < 0 || (size_t)n >= sizeof(path)) {
        return kbs_fail(err, KBS_INPUT, "the path of the certificates' folder is too long");
    }
    if (stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return 0;
    }
    return kbs_io_read_file(path, out, err) == 0 ? 1 : -1;
}

static int read_certs(const char *folder, enum kbs_snp_product product,
                      struct kbs_snp_endorsements *to, struct kbs_error *err)
{
    static const char *const names[KBS_SNP_CERT_COUNT] = {"ark.pem", "ask.pem", "asvk.pem"};
    int r = 0;

    for (int i = 0; r >= 0 && i < KBS_SNP_CERT_COUNT; i++) {
        struct kbs_buf file = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);

        r = read_one(folder, product, names[i], &file, err);
        if (r == 1) {
            r = kbs_snp_endorsements_add(to, product, (enum kbs_snp_cert)i, kbs_buf_span(&file),
                                         err);
        }
        kbs_buf_deinit(&file);
    }
    return r < 0 ? -1 : 0;
}

static int read_crls(const char *folder, enum kbs_snp_product product,
                     struct kbs_snp_endorsements *to, struct kbs_error *err)
{
    static const struct {
        const char *name;
        enum kbs_snp_signer signer;
    } lists[] = {
        {"crl.der", KBS_SNP_SIGNER_VCEK},
        {"vlek-crl.der", KBS_SNP_SIGNER_VLEK},
    };
    int r = 0;

    for (size_t i = 0; r >= 0 && i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct kbs_buf file = KBS_BUF(KBS_LIMIT_CRL_BYTES);

        r = read_one(folder, product, lists[i].name, &file, err);
        if (r == 1) {
            r = kbs_snp_endorsements_add_crl(to, product, lists[i].signer, kbs_buf_span(&file),
                                             err);
        }
        kbs_buf_deinit(&file);
    }
    return r < 0 ? -1 : 0;
}

int kbs_snp_folder_read(const char *folder, struct kbs_snp_endorsements **ret,
                        struct kbs_error *err)
{
    int r = kbs_snp_endorsements_new(ret, err);

    for (int p = KBS_SNP_PRODUCT_MILAN; r == 0 && p < KBS_SNP_PRODUCT_COUNT; p++) {
        r = read_certs(folder, (enum kbs_snp_product)p, *ret, err);
        if (r == 0) {
            r = read_crls(folder, (enum kbs_snp_product)p, *ret, err);
        }
    }
    if (r != 0) {
        kbs_snp_endorsements_free(*ret);
        *ret = NULL;
    }
    return r;
}

int kbs_snp_folder_find(const void *where, const struct kbs_snp_report *report,
                        struct kbs_buf *leaf, struct kbs_error *err)
{
    enum kbs_snp_product told = kbs_snp_product_of_report(report);
    int r = 0;

    for (int p = KBS_SNP_PRODUCT_MILAN; r == 0 && p < KBS_SNP_PRODUCT_COUNT; p++) {
        char hwid[2 * KBS_SNP_CHIP_ID_BYTES + 1];
        char tcb[17];
        char name[sizeof(hwid) + sizeof(tcb) + 16];

        if (told != KBS_SNP_PRODUCT_NONE && told != (enum kbs_snp_product)p) {
            continue;
        }
        kbs_hex_cstr(kbs_snp_bytes(report, KBS_SNP_AT_CHIP_ID,
                                   p == KBS_SNP_PRODUCT_TURIN ? 8 : KBS_SNP_CHIP_ID_BYTES),
                     hwid, sizeof(hwid));
        kbs_hex_cstr(kbs_snp_bytes(report, KBS_SNP_AT_REPORTED_TCB, 8), tcb, sizeof(tcb));
        (void)snprintf(name, sizeof(name), "vcek/%s-%s.der", hwid, tcb);
        r = read_one(where, (enum kbs_snp_product)p, name, leaf, err);
    }
    return r < 0 ? -1 : 0;
}
