/*
 * The roots are pinned by public key, not by certificate: a root that is issued again with the same
 * key is the same root. The digests are those of AMD's self-signed ARK certificates, which the key
 * distribution service hands out at /vcek/v1/{product}/cert_chain: whoever doubts one can compare
 * (openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum). There is no way to change
 * them but to change this file: a configuration cannot name a root.
 */
#include "attest/snp/product.h"

static const struct kbs_snp_roots amd = {
    .ark =
        {
            [KBS_SNP_PRODUCT_MILAN] = {0x9f, 0x05, 0x6b, 0xee, 0x44, 0x37, 0x7e, 0x29,
                                       0x30, 0x8c, 0xb5, 0xff, 0xa8, 0x95, 0xbd, 0xfb,
                                       0x62, 0xd1, 0x88, 0x81, 0xfa, 0x6b, 0xed, 0x8d,
                                       0x6f, 0x07, 0x5b, 0x02, 0x04, 0x08, 0x9c, 0xb9},
            [KBS_SNP_PRODUCT_GENOA] = {0x42, 0x9a, 0x69, 0xc9, 0x42, 0x2a, 0xa2, 0x58,
                                       0xee, 0x4d, 0x8d, 0xb5, 0xfc, 0xda, 0x9c, 0x64,
                                       0x70, 0xef, 0x15, 0xf8, 0xcd, 0x5a, 0x9c, 0xeb,
                                       0xd6, 0xcb, 0xc7, 0xd9, 0x0b, 0x86, 0x38, 0x31},
            [KBS_SNP_PRODUCT_TURIN] = {0x4f, 0x12, 0x54, 0x10, 0x56, 0x3a, 0x2a, 0xb9,
                                       0xa5, 0x03, 0x56, 0xf9, 0x24, 0x3f, 0x6f, 0xe0,
                                       0xb6, 0xf7, 0x3d, 0xe9, 0x86, 0x03, 0xf5, 0x3f,
                                       0x90, 0x33, 0x9c, 0x70, 0xe9, 0xd7, 0xad, 0x08},
        },
};

const struct kbs_snp_roots *kbs_snp_roots_amd(void)
{
    return &amd;
}

static const struct {
    const char *name;
    const char *folder;
} products[KBS_SNP_PRODUCT_COUNT] = {
    [KBS_SNP_PRODUCT_NONE] = {"unknown", "unknown"},
    [KBS_SNP_PRODUCT_MILAN] = {"Milan", "milan"},
    [KBS_SNP_PRODUCT_GENOA] = {"Genoa", "genoa"},
    [KBS_SNP_PRODUCT_TURIN] = {"Turin", "turin"},
};

const char *kbs_snp_product_name(enum kbs_snp_product product)
{
    return (unsigned int)product < KBS_SNP_PRODUCT_COUNT ? products[product].name : "unknown";
}

const char *kbs_snp_product_folder(enum kbs_snp_product product)
{
    return (unsigned int)product < KBS_SNP_PRODUCT_COUNT ? products[product].folder : "unknown";
}

/* Families and models as CPUID reports them, both with their extended parts added. */
static const struct {
    uint8_t family;
    uint8_t model_first;
    uint8_t model_last;
    enum kbs_snp_product product;
} processors[] = {
    {0x19, 0x00, 0x0F, KBS_SNP_PRODUCT_MILAN},
    {0x19, 0x10, 0x1F, KBS_SNP_PRODUCT_GENOA},
    {0x19, 0xA0, 0xAF, KBS_SNP_PRODUCT_GENOA},
    {0x1A, 0x00, 0x11, KBS_SNP_PRODUCT_TURIN},
};

enum kbs_snp_product kbs_snp_product_of_report(const struct kbs_snp_report *r)
{
    uint8_t family = r->raw[KBS_SNP_AT_CPUID_FAMILY];
    uint8_t model = r->raw[KBS_SNP_AT_CPUID_MODEL];

    if (kbs_snp_u32(r, KBS_SNP_AT_VERSION) < 3) {
        return KBS_SNP_PRODUCT_NONE;
    }
    for (size_t i = 0; i < sizeof(processors) / sizeof(processors[0]); i++) {
        if (family == processors[i].family && model >= processors[i].model_first &&
            model <= processors[i].model_last) {
            return processors[i].product;
        }
    }
    return KBS_SNP_PRODUCT_NONE;
}

enum kbs_snp_product kbs_snp_product_of_name(struct kbs_span name)
{
    const uint8_t *dash = name.len > 0 ? memchr(name.p, '-', name.len) : NULL;

    if (dash != NULL) {
        name.len = (size_t)(dash - name.p);
    }
    for (int p = KBS_SNP_PRODUCT_MILAN; p < KBS_SNP_PRODUCT_COUNT; p++) {
        if (kbs_span_equal_str(name, products[p].name)) {
            return (enum kbs_snp_product)p;
        }
    }
    return KBS_SNP_PRODUCT_NONE;
}
