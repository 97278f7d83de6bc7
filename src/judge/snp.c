/*
 * From CONFIG_JUDGE to a verifier of SNP evidence. A judge opens no file for it: kbsd hands over what
 * is in the operator's folder, and all of it is in memory before the judge confines itself. So a
 * judge's walls are the same with it and without. What a configuration cannot hold is refused here
 * too, test roots in production above all: the check must not depend on who wrote the message.
 */
#include "judge/snp.h"

#include <stdlib.h>

#include "attest/snp/folder.h"
#include "attest/snp/kds.h"

#define CSP_ID_BYTES KBS_SNP_CSP_ID_BYTES

struct kbs_judge_snp {
    struct kbs_snp_shelf *shelf;
    struct kbs_snp_policy policy;
    struct kbs_snp_roots roots;
    uint8_t (*chips)[KBS_SNP_CHIP_ID_BYTES];
    char (*provider_texts)[CSP_ID_BYTES];
    const char **providers;
    struct kbs_snp_verifier verifier;
    char kds[KBS_LIMIT_KID_BYTES]; /* empty: none */
    const char *documents[KBS_SNP_LISTS + 1];
};

void kbs_judge_snp_free(struct kbs_judge_snp *snp)
{
    if (snp != NULL) {
        kbs_snp_shelf_free(snp->shelf);
        free(snp->chips);
        free(snp->provider_texts);
        free(snp->providers);
        free(snp);
    }
}

static int product_of(struct kbs_span name, enum kbs_snp_product *ret, struct kbs_error *err)
{
    for (int p = KBS_SNP_PRODUCT_MILAN; p < KBS_SNP_PRODUCT_COUNT; p++) {
        if (kbs_span_equal_str(name, kbs_snp_product_folder((enum kbs_snp_product)p))) {
            *ret = (enum kbs_snp_product)p;
            return 0;
        }
    }
    return kbs_fail(err, KBS_INPUT, "attest.snp: unknown product");
}

static int take_files(struct kbs_judge_snp *snp, const struct kbs_wire_list *files,
                      struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(files);
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_span name;
    struct kbs_span content;
    int r = kbs_snp_shelf_new(&snp->shelf, err);

    while (r == 0 && kbs_wire_list_next(&it, &name) && kbs_wire_list_next(&it, &content)) {
        if (kbs_snp_shelf_add(snp->shelf, name, content, &why) != 0) {
            r = kbs_fail(err, why.category, "attest.snp.certificates: %.140s", why.detail);
        }
    }
    return r;
}

static int take_products(struct kbs_judge_snp *snp, const struct kbs_wire_list *products,
                         struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(products);
    enum kbs_snp_product product;
    struct kbs_span name;

    if (products->count > 0) {
        snp->policy.products = 0;
    }
    while (kbs_wire_list_next(&it, &name)) {
        if (product_of(name, &product, err) != 0) {
            return -1;
        }
        snp->policy.products |= 1u << product;
    }
    return 0;
}

static int take_minimum(struct kbs_judge_snp *snp, const struct kbs_wire_list *minimum,
                        struct kbs_error *err)
{
    static const enum kbs_wire_snp_minimum at[KBS_SNP_TCB_PARTS] = {
        [KBS_SNP_TCB_FMC] = KBS_WIRE_SNP_FMC,
        [KBS_SNP_TCB_BOOTLOADER] = KBS_WIRE_SNP_BOOTLOADER,
        [KBS_SNP_TCB_TEE] = KBS_WIRE_SNP_TEE,
        [KBS_SNP_TCB_SNP] = KBS_WIRE_SNP_SNP,
        [KBS_SNP_TCB_MICROCODE] = KBS_WIRE_SNP_MICROCODE,
    };
    struct kbs_wire_iter it = kbs_wire_list_iter(minimum);
    enum kbs_snp_product product;
    struct kbs_span name;
    struct kbs_span bytes;

    while (kbs_wire_list_next(&it, &name)) {
        if (product_of(name, &product, err) != 0) {
            return -1;
        }
        if (!kbs_wire_list_next(&it, &bytes) || bytes.len != KBS_WIRE_SNP_MINIMUM_BYTES) {
            return kbs_fail(err, KBS_INPUT, "attest.snp: a minimum without its bytes");
        }
        for (int part = 0; part < KBS_SNP_TCB_PARTS; part++) {
            snp->policy.floor[product].tcb.part[part] = bytes.p[at[part]];
        }
        memcpy(snp->policy.floor[product].firmware, bytes.p + KBS_WIRE_SNP_FIRMWARE,
               sizeof(snp->policy.floor[product].firmware));
    }
    return 0;
}

static int take_chips(struct kbs_judge_snp *snp, const struct kbs_wire_list *chips,
                      struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(chips);
    struct kbs_span id;

    if (chips->count == 0) {
        return 0;
    }
    snp->chips = calloc(chips->count, sizeof(*snp->chips));
    if (snp->chips == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    while (kbs_wire_list_next(&it, &id)) {
        if (id.len != KBS_SNP_CHIP_ID_BYTES) {
            return kbs_fail(err, KBS_INPUT, "attest.snp: a chip id is not 64 bytes");
        }
        memcpy(snp->chips[snp->policy.chip_count++], id.p, id.len);
    }
    snp->policy.chips = (const uint8_t(*)[KBS_SNP_CHIP_ID_BYTES])snp->chips;
    return 0;
}

static int take_providers(struct kbs_judge_snp *snp, const struct kbs_wire_list *providers,
                          struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(providers);
    struct kbs_span id;

    if (providers->count == 0) {
        return 0;
    }
    snp->provider_texts = calloc(providers->count, sizeof(*snp->provider_texts));
    snp->providers = calloc(providers->count, sizeof(*snp->providers));
    if (snp->provider_texts == NULL || snp->providers == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    while (kbs_wire_list_next(&it, &id)) {
        size_t n = snp->policy.provider_count++;

        if (!kbs_span_to_cstr(id, snp->provider_texts[n], CSP_ID_BYTES)) {
            return kbs_fail(err, KBS_INPUT, "attest.snp: a provider's name is too long");
        }
        snp->providers[n] = snp->provider_texts[n];
    }
    snp->policy.providers = snp->providers;
    return 0;
}

static int take_signers(struct kbs_judge_snp *snp, const struct kbs_wire_list *signers,
                        struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(signers);
    struct kbs_span name;

    if (signers->count > 0) {
        snp->policy.signers = 0;
    }
    while (kbs_wire_list_next(&it, &name)) {
        if (!kbs_span_equal_str(name, "vcek") && !kbs_span_equal_str(name, "vlek")) {
            return kbs_fail(err, KBS_INPUT, "attest.snp: unknown signer");
        }
        snp->policy.signers |=
            1u << (kbs_span_equal_str(name, "vcek") ? KBS_SNP_SIGNER_VCEK : KBS_SNP_SIGNER_VLEK);
    }
    return 0;
}

static int take_bits(uint64_t (*bit_of)(struct kbs_span), const struct kbs_wire_list *names,
                     uint64_t *ret, struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(names);
    struct kbs_span name;

    while (kbs_wire_list_next(&it, &name)) {
        uint64_t bit = bit_of(name);

        if (bit == 0) {
            return kbs_fail(err, KBS_INPUT, "attest.snp: a bit that is not known here");
        }
        *ret |= bit;
    }
    return 0;
}

static int take_all_bits(struct kbs_judge_snp *snp, const struct kbs_wire_config_judge *config,
                         struct kbs_error *err)
{
    struct kbs_snp_policy *p = &snp->policy;

    if (take_bits(kbs_snp_platform_bit, &config->snp_platform_required, &p->platform_required,
                  err) != 0 ||
        take_bits(kbs_snp_platform_bit, &config->snp_platform_forbidden, &p->platform_forbidden,
                  err) != 0 ||
        take_bits(kbs_snp_guest_bit, &config->snp_guest_required, &p->guest_required, err) != 0) {
        return -1;
    }
    return take_bits(kbs_snp_guest_bit, &config->snp_guest_forbidden, &p->guest_forbidden, err);
}

/* A test PKI has one root, of whatever product. */
static int take_root(struct kbs_judge_snp *snp, const struct kbs_wire_config_judge *config,
                     struct kbs_error *err)
{
    if (config->snp_test_root.len == 0) {
        return 0;
    }
    if (config->production != 0) {
        return kbs_fail(err, KBS_INPUT, "the production profile takes no other root than AMD's");
    }
    if (config->snp_test_root.len != KBS_SHA256_BYTES) {
        return kbs_fail(err, KBS_INPUT, "attest.snp: a root is not %d bytes", KBS_SHA256_BYTES);
    }
    for (int p = KBS_SNP_PRODUCT_MILAN; p < KBS_SNP_PRODUCT_COUNT; p++) {
        memcpy(snp->roots.ark[p], config->snp_test_root.p, KBS_SHA256_BYTES);
    }
    snp->policy.roots = &snp->roots;
    return 0;
}

static int take_kds(struct kbs_judge_snp *snp, struct kbs_span name, struct kbs_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < KBS_SNP_LISTS; i++) {
        if ((snp->policy.products & (1u << kbs_snp_list_product(i))) != 0) {
            snp->documents[n++] = kbs_snp_list_name(i);
        }
    }
    return kbs_span_to_cstr(name, snp->kds, sizeof(snp->kds))
               ? 0
               : kbs_fail(err, KBS_INPUT, "attest.snp.kds: an endpoint's name is too long");
}

static int renew(void *keeper, const char *name, struct kbs_span content, bool *ret_taken,
                 struct kbs_error *err)
{
    return kbs_snp_shelf_renew(keeper, name, content, ret_taken, err);
}

int kbs_judge_snp_new(const struct kbs_wire_config_judge *config, struct kbs_judge_snp **ret,
                      struct kbs_error *err)
{
    struct kbs_judge_snp *snp = NULL;

    *ret = NULL;
    if (config->snp == 0) {
        return 0;
    }
    snp = calloc(1, sizeof(*snp));
    if (snp == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    snp->policy = kbs_snp_policy_default();
    snp->policy.vmpl = config->snp_vmpl;
    snp->policy.crl_grace_s = config->snp_crl_grace_s;
    snp->policy.allow_no_crl = (config->snp_allow & KBS_WIRE_SNP_ALLOW_NO_CRL) != 0;
    snp->policy.allow_masked_chip_id = (config->snp_allow & KBS_WIRE_SNP_ALLOW_MASKED_CHIP_ID) != 0;
    snp->policy.allow_unexplained_data =
        (config->snp_allow & KBS_WIRE_SNP_ALLOW_UNEXPLAINED_DATA) != 0;
    if (take_files(snp, &config->snp_files, err) != 0 ||
        take_products(snp, &config->snp_products, err) != 0 ||
        take_minimum(snp, &config->snp_minimum, err) != 0 ||
        take_chips(snp, &config->snp_chips, err) != 0 ||
        take_providers(snp, &config->snp_providers, err) != 0 ||
        take_signers(snp, &config->snp_signers, err) != 0 || take_all_bits(snp, config, err) != 0 ||
        take_root(snp, config, err) != 0 || take_kds(snp, config->snp_kds, err) != 0) {
        kbs_judge_snp_free(snp);
        return -1;
    }
    snp->verifier = (struct kbs_snp_verifier){
        .endorsements = kbs_snp_shelf_endorsements(snp->shelf),
        .policy = &snp->policy,
        .find_leaf = kbs_snp_shelf_find,
        .where = snp->shelf,
        .kds = snp->kds[0] != '\0',
    };
    *ret = snp;
    return 0;
}

struct kbs_verifier kbs_judge_snp_verifier(const struct kbs_judge_snp *snp)
{
    return (struct kbs_verifier){.appraise = kbs_snp_appraise,
                                 .with = &snp->verifier,
                                 .kds = snp->kds[0] != '\0' ? snp->kds : NULL,
                                 .documents = snp->documents,
                                 .renew = renew,
                                 .keeper = snp->shelf};
}
