/*
 * Endorsements are read once, at start; leaves one by one, by a name that is made of the report's
 * hex digits alone, so nothing in evidence can name another file. A report before version 3 does not
 * tell its product: then all three are looked at, which is safe because what is found is verified
 * like any other leaf.
 *
 * A judge has no folder: it is handed the files by kbsd and keeps them on a shelf, under the names
 * they had.
 */
#include "attest/snp/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "attest/snp/kds.h"
#include "base/encoding.h"
#include "base/io.h"

#define PATH_BYTES 4096
#define LEAVES "vcek/"
#define LEAF_NAME_BYTES (2 * KBS_SNP_CHIP_ID_BYTES + 40)

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

/* What there can be of each product, but for leaves. */
static const struct {
    const char *name;
    bool list;
    enum kbs_snp_cert cert;     /* of a certificate */
    enum kbs_snp_signer signer; /* of a list */
} files[] = {
    {.name = "ark.pem", .cert = KBS_SNP_CERT_ARK},
    {.name = "ask.pem", .cert = KBS_SNP_CERT_ASK},
    {.name = "asvk.pem", .cert = KBS_SNP_CERT_ASVK},
    {.name = "crl.der", .list = true, .signer = KBS_SNP_SIGNER_VCEK},
    {.name = "vlek-crl.der", .list = true, .signer = KBS_SNP_SIGNER_VLEK},
};
#define FILES (sizeof(files) / sizeof(files[0]))

/* Adds the content of files[i]. */
static int add(struct kbs_snp_endorsements *to, enum kbs_snp_product product, size_t i,
               struct kbs_span content, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    int r = files[i].list
                ? kbs_snp_endorsements_add_crl(to, product, files[i].signer, content, &why)
                : kbs_snp_endorsements_add(to, product, files[i].cert, content, &why);

    return r == 0 ? 0
                  : kbs_fail(err, why.category, "%s/%s: %.120s", kbs_snp_product_folder(product),
                             files[i].name, why.detail);
}

int kbs_snp_folder_read(const char *folder, struct kbs_snp_endorsements **ret,
                        struct kbs_error *err)
{
    int r = kbs_snp_endorsements_new(ret, err);

    for (int p = KBS_SNP_PRODUCT_MILAN; r >= 0 && p < KBS_SNP_PRODUCT_COUNT; p++) {
        for (size_t i = 0; r >= 0 && i < FILES; i++) {
            struct kbs_buf file =
                KBS_BUF(files[i].list ? KBS_LIMIT_CRL_BYTES : KBS_LIMIT_CERTIFICATE_BYTES);

            r = read_one(folder, (enum kbs_snp_product)p, files[i].name, &file, err);
            if (r == 1) {
                r = add(*ret, (enum kbs_snp_product)p, i, kbs_buf_span(&file), err);
            }
            kbs_buf_deinit(&file);
        }
    }
    if (r < 0) {
        kbs_snp_endorsements_free(*ret);
        *ret = NULL;
    }
    return r < 0 ? -1 : 0;
}

/* The name of a report's leaf, below its product's folder. */
static void leaf_name(const struct kbs_snp_report *report, enum kbs_snp_product product,
                      char out[LEAF_NAME_BYTES])
{
    char hwid[2 * KBS_SNP_CHIP_ID_BYTES + 1];
    char tcb[17];

    kbs_hex_cstr(kbs_snp_bytes(report, KBS_SNP_AT_CHIP_ID,
                               product == KBS_SNP_PRODUCT_TURIN ? 8 : KBS_SNP_CHIP_ID_BYTES),
                 hwid, sizeof(hwid));
    kbs_hex_cstr(kbs_snp_bytes(report, KBS_SNP_AT_REPORTED_TCB, 8), tcb, sizeof(tcb));
    (void)snprintf(out, LEAF_NAME_BYTES, LEAVES "%s-%s.der", hwid, tcb);
}

/* Whether a report's leaf can be one of that product's. */
static bool may_be_of(const struct kbs_snp_report *report, int product)
{
    enum kbs_snp_product told = kbs_snp_product_of_report(report);

    return told == KBS_SNP_PRODUCT_NONE || told == (enum kbs_snp_product)product;
}

int kbs_snp_folder_find(const void *where, const struct kbs_snp_report *report,
                        struct kbs_buf *leaf, struct kbs_error *err)
{
    int r = 0;

    for (int p = KBS_SNP_PRODUCT_MILAN; r == 0 && p < KBS_SNP_PRODUCT_COUNT; p++) {
        char name[LEAF_NAME_BYTES];

        if (may_be_of(report, p)) {
            leaf_name(report, (enum kbs_snp_product)p, name);
            r = read_one(where, (enum kbs_snp_product)p, name, leaf, err);
        }
    }
    return r < 0 ? -1 : 0;
}

struct leaf {
    struct leaf *next;
    enum kbs_snp_product product;
    char name[LEAF_NAME_BYTES];
    size_t len;
    uint8_t der[];
};

struct kbs_snp_shelf {
    struct kbs_snp_endorsements *endorsements;
    struct leaf *leaves;
};

int kbs_snp_shelf_new(struct kbs_snp_shelf **ret, struct kbs_error *err)
{
    struct kbs_snp_shelf *shelf = calloc(1, sizeof(*shelf));

    *ret = NULL;
    if (shelf == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (kbs_snp_endorsements_new(&shelf->endorsements, err) != 0) {
        free(shelf);
        return -1;
    }
    *ret = shelf;
    return 0;
}

void kbs_snp_shelf_free(struct kbs_snp_shelf *shelf)
{
    if (shelf == NULL) {
        return;
    }
    while (shelf->leaves != NULL) {
        struct leaf *next = shelf->leaves->next;

        free(shelf->leaves);
        shelf->leaves = next;
    }
    kbs_snp_endorsements_free(shelf->endorsements);
    free(shelf);
}

const struct kbs_snp_endorsements *kbs_snp_shelf_endorsements(const struct kbs_snp_shelf *shelf)
{
    return shelf->endorsements;
}

static int add_leaf(struct kbs_snp_shelf *to, enum kbs_snp_product product, const char *name,
                    struct kbs_span der, struct kbs_error *err)
{
    struct leaf *leaf = calloc(1, sizeof(*leaf) + der.len);

    if (leaf == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    leaf->product = product;
    (void)snprintf(leaf->name, sizeof(leaf->name), "%s", name);
    leaf->len = der.len;
    if (der.len > 0) {
        memcpy(leaf->der, der.p, der.len);
    }
    leaf->next = to->leaves;
    to->leaves = leaf;
    return 0;
}

int kbs_snp_shelf_add(struct kbs_snp_shelf *shelf, struct kbs_span name, struct kbs_span content,
                      struct kbs_error *err)
{
    char text[LEAF_NAME_BYTES + 16] = "";
    bool fits = kbs_span_to_cstr(name, text, sizeof(text));
    const char *below = strchr(text, '/');

    for (int p = KBS_SNP_PRODUCT_MILAN; fits && below != NULL && p < KBS_SNP_PRODUCT_COUNT; p++) {
        const char *folder = kbs_snp_product_folder((enum kbs_snp_product)p);
        size_t len = (size_t)(below - text);

        if (len != strlen(folder) || strncmp(text, folder, len) != 0) {
            continue;
        }
        if (strncmp(below + 1, LEAVES, strlen(LEAVES)) == 0) {
            return add_leaf(shelf, (enum kbs_snp_product)p, below + 1, content, err);
        }
        for (size_t i = 0; i < FILES; i++) {
            if (strcmp(below + 1, files[i].name) == 0) {
                return add(shelf->endorsements, (enum kbs_snp_product)p, i, content, err);
            }
        }
    }
    return kbs_fail(err, KBS_INPUT, "%.*s: the folder of certificates has no file of that name",
                    (int)(name.len < 96 ? name.len : 96), name.len > 0 ? (const char *)name.p : "");
}

int kbs_snp_shelf_renew(struct kbs_snp_shelf *shelf, const char *name, struct kbs_span crl,
                        bool *ret_taken, struct kbs_error *err)
{
    for (size_t i = 0; i < KBS_SNP_LISTS; i++) {
        if (strcmp(name, kbs_snp_list_name(i)) == 0) {
            return kbs_snp_endorsements_renew_crl(shelf->endorsements, kbs_snp_list_product(i),
                                                  kbs_snp_list_signer(i), crl, ret_taken, err);
        }
    }
    return kbs_fail(err, KBS_INTERNAL, "no list has that name");
}

int kbs_snp_shelf_find(const void *where, const struct kbs_snp_report *report, struct kbs_buf *leaf,
                       struct kbs_error *err)
{
    const struct kbs_snp_shelf *shelf = where;

    for (const struct leaf *l = shelf->leaves; l != NULL; l = l->next) {
        char name[LEAF_NAME_BYTES];

        leaf_name(report, l->product, name);
        if (may_be_of(report, l->product) && strcmp(l->name, name) == 0) {
            kbs_buf_put(leaf, l->der, l->len);
            return kbs_buf_check(leaf, "a VCEK of the folder", err);
        }
    }
    return 0;
}
