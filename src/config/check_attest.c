/*
 * [attest.snp], and the folder of certificates that it names. The folder is read here, like the keys
 * of administrators, so that no judge has to be able to open it. What its files mean is not known
 * here: whatever ends in .pem or .der one or two folders down is handed over under its name, within
 * bounds, and a judge refuses what it cannot use.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/limits.h"
#include "config/schema.h"

#define FILE_BYTES KBS_LIMIT_CRL_BYTES
#define DEPTH 2
#define PATH_BYTES 4096
#define NAME_BYTES 512

struct folder {
    struct kbs_config_loader *l;
    struct kbs_doc_place at;
    size_t bytes;
    bool failed;
};

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s);
    size_t m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

static void take_file(struct folder *f, const char *path, const char *name)
{
    struct kbs_config_loader *l = f->l;
    struct kbs_config_snp *snp = &l->config->snp;
    struct kbs_config_snp_file *file = &snp->files[snp->n_files];
    struct kbs_buf content = KBS_BUF(FILE_BYTES);
    if (kbs_config_read_file(l, f->at, name, path, &content) != 0) {
        f->failed = true;
    } else if (snp->n_files == KBS_CONFIG_SNP_FILES ||
               f->bytes + content.len > KBS_CONFIG_SNP_FOLDER_BYTES) {
        kbs_config_fail(l, f->at, "attest.snp.certificates: more than %d files or %u MiB",
                        KBS_CONFIG_SNP_FILES, KBS_CONFIG_SNP_FOLDER_BYTES >> 20);
        f->failed = true;
    } else {
        file->name = kbs_arena_cstr(&l->config->arena, kbs_span_str(name));
        file->content = kbs_arena_copy(&l->config->arena, kbs_buf_span(&content));
        if (file->name == NULL || (content.len > 0 && file->content.p == NULL)) {
            (void)kbs_config_no_memory(l);
            f->failed = true;
        } else {
            f->bytes += content.len;
            snp->n_files++;
        }
    }
    kbs_buf_deinit(&content);
}

/* `below`: where in the folder this one is, "" or ending in a slash. */
static void walk(struct folder *f, const char *below, unsigned int depth)
{
    const char *root = f->l->config->snp.certificates;
    char path[2 * PATH_BYTES];
    int n = snprintf(path, sizeof(path), "%s/%s", root, below);
    DIR *d = n > 0 && (size_t)n < sizeof(path) ? opendir(path) : NULL;
    if (d == NULL) {
        kbs_config_fail(f->l, f->at, "attest.snp.certificates: %s%s%s", below,
                        below[0] != '\0' ? ": " : "", strerror(errno));
        f->failed = true;
        return;
    }
    for (const struct dirent *e = readdir(d); e != NULL && !f->failed; e = readdir(d)) {
        char name[NAME_BYTES];
        struct stat st;
        n = snprintf(name, sizeof(name), "%s%s", below, e->d_name);
        bool fits = e->d_name[0] != '.' && (size_t)n + 1 < sizeof(name);
        int m = snprintf(path, sizeof(path), "%s/%s", root, name);
        fits = fits && (size_t)m < sizeof(path);
        if (fits && depth > 0 && (ends_in(name, ".pem") || ends_in(name, ".der"))) {
            take_file(f, path, name);
        } else if (fits && depth < DEPTH && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            name[n] = '/';
            name[n + 1] = '\0';
            walk(f, name, depth + 1);
        }
    }
    (void)closedir(d);
}

static void read_folder(struct kbs_config_loader *l)
{
    struct kbs_config_snp *snp = &l->config->snp;
    struct folder f = {.l = l, .at = kbs_config_at(l, KBS_CONFIG_KEY_SNP_CERTIFICATES)};
    /* One more, for the file that is too many. */
    snp->files =
        kbs_arena_alloc(&l->config->arena, (KBS_CONFIG_SNP_FILES + 1) * sizeof(*snp->files));
    if (snp->files == NULL) {
        (void)kbs_config_no_memory(l);
        return;
    }
    walk(&f, "", 0);
    if (!f.failed && snp->n_files == 0) {
        kbs_config_fail(l, f.at,
                        "attest.snp.certificates: has no certificates: it is to hold "
                        "PRODUCT/ark.pem, ask.pem, crl.der");
    }
}

/* A product's floor once, or the weaker of two could be meant. */
static void check_minimum(struct kbs_config_loader *l)
{
    const struct kbs_config_snp *snp = &l->config->snp;
    for (size_t i = 0; i < snp->n_minimum; i++) {
        for (size_t k = 0; k < i; k++) {
            if (snp->minimum[i].product != NULL && snp->minimum[k].product != NULL &&
                strcmp(snp->minimum[i].product, snp->minimum[k].product) == 0) {
                kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_SNP_PRODUCT][i].at,
                                "attest.snp.minimum: \"%s\" is there twice",
                                snp->minimum[i].product);
            }
        }
    }
}

/* A bit that must be both 1 and 0 would refuse every guest. */
static void check_bits(struct kbs_config_loader *l, const struct kbs_config_strings *required,
                       const struct kbs_config_strings *forbidden, enum kbs_config_key_id key)
{
    for (size_t i = 0; i < required->n; i++) {
        for (size_t k = 0; k < forbidden->n; k++) {
            if (strcmp(required->v[i], forbidden->v[k]) == 0) {
                kbs_config_fail(l, kbs_config_at(l, key), "attest.snp.%s: \"%s\" is required too",
                                kbs_config_keys[key].name, required->v[i]);
            }
        }
    }
}

static void check_kds(struct kbs_config_loader *l)
{
    const struct kbs_config *c = l->config;
    bool found = c->snp.kds == NULL;
    for (size_t i = 0; i < c->fetch.n_endpoints; i++) {
        found = found || (c->fetch.endpoints[i].name != NULL &&
                          strcmp(c->fetch.endpoints[i].name, c->snp.kds) == 0);
    }
    if (!found) {
        kbs_config_fail(l, kbs_config_at(l, KBS_CONFIG_KEY_SNP_KDS),
                        "attest.snp.kds: there is no [[fetch.endpoint]] of that name");
    }
}

void kbs_config_check_attest(struct kbs_config_loader *l)
{
    const struct kbs_config_snp *snp = &l->config->snp;
    bool given = snp->n_minimum > 0;
    for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
        given =
            given || (strcmp(kbs_config_keys[i].table, "attest.snp") == 0 && l->seen[i][0].given);
    }
    if (given && !l->seen[KBS_CONFIG_KEY_SNP_CERTIFICATES][0].given) {
        kbs_config_fail(l, (struct kbs_doc_place){.line = 0},
                        "certificates is missing in table [attest.snp]");
    }
    if (kbs_config_usable(l, KBS_CONFIG_KEY_SNP_CERTIFICATES)) {
        read_folder(l);
    }
    check_minimum(l);
    check_kds(l);
    check_bits(l, &snp->platform_required, &snp->platform_forbidden,
               KBS_CONFIG_KEY_SNP_PLATFORM_FORBIDDEN);
    check_bits(l, &snp->guest_required, &snp->guest_forbidden, KBS_CONFIG_KEY_SNP_GUEST_FORBIDDEN);
    if (snp->test_root != NULL) {
        (void)kbs_config_insecure(l, kbs_config_at(l, KBS_CONFIG_KEY_SNP_TEST_ROOT),
                                  "test_root: whoever has its key can make any evidence");
    }
    if (snp->allow_no_crl) {
        (void)kbs_config_insecure(l, kbs_config_at(l, KBS_CONFIG_KEY_SNP_NO_CRL),
                                  "allow_no_crl: revoked certificates are not found out");
    }
}
