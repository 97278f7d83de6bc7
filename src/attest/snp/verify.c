/*
 * One table of checks, made in order, each by its own function. A check that has nothing to look at
 * because an earlier one failed is not applicable, not failed: the verdict names what is wrong, not
 * everything that follows from it. All that can be checked is, also after a failure, so that an
 * operator sees in one look that a guest is on an old TCB *and* in debug mode.
 *
 * What the table rests on, and others got wrong:
 *   - The product whose chain, TCB layout and floor apply is the leaf's, which AMD signed; the
 *     report's CPUID, which the host cannot change but version 2 has not, must agree with it.
 *   - The kind of leaf is told by its extensions and must be what KEY_INFO says signed.
 *   - TCBs are compared part by part (tcb.c). The reported TCB is what the leaf's key was derived
 *     with, so it must equal the leaf's counters; the floor holds for committed and launch TCB too,
 *     because the host can report less than it runs, and roll back to what is committed.
 *   - Debug is the verifier's to refuse, not only a policy's: a debug guest's memory is readable.
 */
#include "attest/snp/verify.h"

#include <stdio.h>

#include "attest/snp/kds.h"
#include "base/encoding.h"

enum needs {
    NOTHING,
    LEAF
};

struct job {
    const struct kbs_snp_report *report;
    const struct kbs_snp_policy *policy;
    const struct kbs_expected *expected;
    const struct kbs_snp_endorsements *endorsements;
    const struct kbs_snp_leaf_facts *leaf; /* NULL: none, see leaf_error */
    struct kbs_snp_leaf *leaf_object;
    bool leaf_given;
    struct kbs_error leaf_error;
    struct kbs_snp_chain chain;
    struct kbs_verdict *v;
};

typedef void check_fn(struct job *j, const struct kbs_check_kind *k);

static void check_report_data(struct job *j, const struct kbs_check_kind *k)
{
    uint8_t wanted[64];

    if (j->expected->report_data.len == 0) {
        kbs_verdict_skip(j->v, k, "there is no session whose runtime data it could be");
        return;
    }
    kbs_init_data_fit(j->expected->report_data, wanted, sizeof(wanted));
    if (j->expected->report_data.len > sizeof(wanted) ||
        !kbs_span_equal(kbs_span(wanted, sizeof(wanted)),
                        kbs_snp_bytes(j->report, KBS_SNP_AT_REPORT_DATA, sizeof(wanted)))) {
        kbs_verdict_fail(j->v, k, "REPORT_DATA is not the digest of this session's runtime data");
        return;
    }
    kbs_verdict_pass(j->v, k, "REPORT_DATA is the digest of the runtime data");
}

static void check_version(struct job *j, const struct kbs_check_kind *k)
{
    uint32_t version = kbs_snp_u32(j->report, KBS_SNP_AT_VERSION);

    if (version < 2 || version > 5) {
        kbs_verdict_fail(j->v, k, "report version %u is not one of 2 to 5", version);
    } else if (version < j->policy->version_min) {
        kbs_verdict_fail(j->v, k, "report version %u; the policy asks for %u or newer", version,
                         j->policy->version_min);
    } else {
        kbs_verdict_pass(j->v, k, "report version %u", version);
    }
}

static void check_sig_algo(struct job *j, const struct kbs_check_kind *k)
{
    uint32_t algo = kbs_snp_u32(j->report, KBS_SNP_AT_SIG_ALGO);

    if (algo != 1) {
        kbs_verdict_fail(j->v, k, "signature algorithm %u is not 1 (ECDSA P-384 with SHA-384)",
                         algo);
    } else {
        kbs_verdict_pass(j->v, k, "ECDSA P-384 with SHA-384");
    }
}

static void check_certificate(struct job *j, const struct kbs_check_kind *k)
{
    if (j->leaf != NULL) {
        kbs_verdict_pass(j->v, k, "%s of %s", kbs_snp_signer_name(j->leaf->kind),
                         j->leaf->product_name);
    } else if (j->leaf_given) {
        kbs_verdict_fail(j->v, k, "the VCEK or VLEK cannot be used: %.120s", j->leaf_error.detail);
    } else {
        kbs_verdict_fail(j->v, k,
                         "no VCEK or VLEK came with the evidence, and the folder has none for it");
    }
}

static void check_product(struct job *j, const struct kbs_check_kind *k)
{
    enum kbs_snp_product told = kbs_snp_product_of_report(j->report);

    if (kbs_snp_u32(j->report, KBS_SNP_AT_VERSION) < 3) {
        kbs_verdict_pass(j->v, k, "%s, by the certificate; reports of this version do not tell",
                         kbs_snp_product_name(j->leaf->product));
    } else if (told == KBS_SNP_PRODUCT_NONE) {
        kbs_verdict_fail(j->v, k, "CPUID family %02xh model %02xh is of no product known here",
                         j->report->raw[KBS_SNP_AT_CPUID_FAMILY],
                         j->report->raw[KBS_SNP_AT_CPUID_MODEL]);
    } else if (told != j->leaf->product) {
        kbs_verdict_fail(j->v, k, "the report is of %s, the certificate of %s",
                         kbs_snp_product_name(told), kbs_snp_product_name(j->leaf->product));
    } else {
        kbs_verdict_pass(j->v, k, "%s", kbs_snp_product_name(told));
    }
}

static void check_root(struct job *j, const struct kbs_check_kind *k)
{
    const struct kbs_snp_roots *roots =
        j->policy->roots != NULL ? j->policy->roots : kbs_snp_roots_amd();
    const char *product = kbs_snp_product_name(j->leaf->product);
    const uint8_t *root = kbs_snp_endorsements_root(j->endorsements, j->leaf->product);

    if (root == NULL) {
        kbs_verdict_fail(j->v, k, "there is no ARK for %s in the folder", product);
    } else if (memcmp(root, roots->ark[j->leaf->product], KBS_SHA256_BYTES) != 0) {
        kbs_verdict_fail(j->v, k, "the ARK in the folder has not the key of %s's root for %s",
                         j->policy->roots != NULL ? "the test PKI" : "AMD", product);
    } else {
        kbs_verdict_pass(j->v, k, "ARK-%s, %s", product,
                         j->policy->roots != NULL ? "of a test PKI" : "by its pinned key");
    }
}

static void check_chain(struct job *j, const struct kbs_check_kind *k)
{
    const char *issuer = j->leaf->kind == KBS_SNP_SIGNER_VLEK ? "ASVK" : "ASK";

    if (!j->chain.known) {
        kbs_verdict_fail(j->v, k, "there is no %s or no ARK for %s in the folder", issuer,
                         kbs_snp_product_name(j->leaf->product));
    } else if (j->chain.chain != NULL) {
        kbs_verdict_fail(j->v, k, "%s, %s, ARK: %s", kbs_snp_signer_name(j->leaf->kind), issuer,
                         j->chain.chain);
    } else {
        kbs_verdict_pass(j->v, k, "%s, %s, ARK", kbs_snp_signer_name(j->leaf->kind), issuer);
    }
}

static void check_validity(struct job *j, const struct kbs_check_kind *k)
{
    if (!j->chain.known || j->chain.chain != NULL) {
        kbs_verdict_skip(j->v, k, "there is no chain");
    } else if (j->chain.time != NULL) {
        kbs_verdict_fail(j->v, k, "%s", j->chain.time);
    } else {
        kbs_verdict_pass(j->v, k, "all certificates are valid now");
    }
}

static void check_revocation(struct job *j, const struct kbs_check_kind *k)
{
    if (!j->chain.known || j->chain.chain != NULL) {
        kbs_verdict_skip(j->v, k, "there is no chain");
    } else if (j->chain.revocation != NULL) {
        kbs_verdict_fail(j->v, k, "%s", j->chain.revocation);
    } else if (!j->chain.crl_missing) {
        kbs_verdict_pass(j->v, k, "none is on the ARK's revocation list");
    } else if (j->policy->allow_no_crl) {
        kbs_verdict_skip(j->v, k, "there is no revocation list, and the policy does without");
    } else {
        kbs_verdict_fail(j->v, k, "there is no revocation list of the ARK's in the folder");
    }
}

static void check_signer(struct job *j, const struct kbs_check_kind *k)
{
    unsigned int told = kbs_snp_signer_of(j->report);

    if (told != (unsigned int)j->leaf->kind) {
        kbs_verdict_fail(j->v, k, "KEY_INFO says that signed: %s; the certificate is a %s",
                         kbs_snp_signer_name(told), kbs_snp_signer_name(j->leaf->kind));
    } else {
        kbs_verdict_pass(j->v, k, "KEY_INFO says %s too", kbs_snp_signer_name(told));
    }
}

static void check_signature_padding(struct job *j, const struct kbs_check_kind *k)
{
    const size_t unused = KBS_SNP_SCALAR_FIELD_BYTES - KBS_SNP_SCALAR_BYTES;
    const uint8_t *raw = j->report->raw;

    if (!kbs_snp_is_zero(kbs_span(raw + KBS_SNP_AT_SIGNATURE_R + KBS_SNP_SCALAR_BYTES, unused)) ||
        !kbs_snp_is_zero(kbs_span(raw + KBS_SNP_AT_SIGNATURE_S + KBS_SNP_SCALAR_BYTES, unused)) ||
        !kbs_snp_is_zero(kbs_span(raw + KBS_SNP_AT_SIGNATURE_END,
                                  KBS_SNP_REPORT_BYTES - KBS_SNP_AT_SIGNATURE_END))) {
        kbs_verdict_fail(j->v, k, "bytes beside R and S are not zero: this is another signature");
    } else {
        kbs_verdict_pass(j->v, k, "R and S, and zeros");
    }
}

static void check_signature(struct job *j, const struct kbs_check_kind *k)
{
    if (kbs_snp_leaf_signed(j->leaf_object, j->report)) {
        kbs_verdict_pass(j->v, k, "by the %s", kbs_snp_signer_name(j->leaf->kind));
    } else {
        kbs_verdict_fail(j->v, k, "the report was changed, or another key signed it");
    }
}

static void check_chip_key(struct job *j, const struct kbs_check_kind *k)
{
    if ((kbs_snp_u32(j->report, KBS_SNP_AT_KEY_INFO) & KBS_SNP_KEY_MASKED) != 0) {
        kbs_verdict_fail(j->v, k, "MASK_CHIP_KEY is set: such reports are not signed by the chip");
    } else {
        kbs_verdict_pass(j->v, k, "MASK_CHIP_KEY is not set");
    }
}

static void check_chip_id(struct job *j, const struct kbs_check_kind *k)
{
    struct kbs_span id = kbs_snp_bytes(j->report, KBS_SNP_AT_CHIP_ID, KBS_SNP_CHIP_ID_BYTES);
    size_t len = j->leaf->hwid_len;

    if (j->leaf->kind == KBS_SNP_SIGNER_VLEK) {
        kbs_verdict_skip(j->v, k, "a VLEK is a provider's, not a chip's");
    } else if (kbs_snp_is_zero(id)) {
        if (j->policy->allow_masked_chip_id) {
            kbs_verdict_skip(j->v, k, "the host masks CHIP_ID, and the policy lets it");
        } else {
            kbs_verdict_fail(j->v, k, "the host masks CHIP_ID: which chip it is cannot be told");
        }
    } else if (!kbs_span_equal(kbs_span(id.p, len), kbs_span(j->leaf->hwid, len)) ||
               !kbs_snp_is_zero(kbs_span_skip(id, len))) {
        kbs_verdict_fail(j->v, k, "CHIP_ID is not the hardware id of the certificate");
    } else {
        kbs_verdict_pass(j->v, k, "CHIP_ID is the certificate's hardware id");
    }
}

static void check_reported_tcb(struct job *j, const struct kbs_check_kind *k)
{
    struct kbs_snp_tcb tcb;

    if (!kbs_snp_tcb_read(j->report, KBS_SNP_AT_REPORTED_TCB, j->leaf->product, &tcb)) {
        kbs_verdict_fail(j->v, k, "the reported TCB has not the layout of %s",
                         kbs_snp_product_name(j->leaf->product));
        return;
    }
    for (int part = 0; part < KBS_SNP_TCB_PARTS; part++) {
        if (tcb.part[part] != j->leaf->tcb.part[part]) {
            kbs_verdict_fail(j->v, k, "%s %u is reported, the certificate is for %u",
                             kbs_snp_tcb_part_name((enum kbs_snp_tcb_part)part), tcb.part[part],
                             j->leaf->tcb.part[part]);
            return;
        }
    }
    kbs_verdict_pass(j->v, k, "bootloader %u, tee %u, snp %u, microcode %u: as the certificate",
                     tcb.part[KBS_SNP_TCB_BOOTLOADER], tcb.part[KBS_SNP_TCB_TEE],
                     tcb.part[KBS_SNP_TCB_SNP], tcb.part[KBS_SNP_TCB_MICROCODE]);
}

static void check_policy_reserved(struct job *j, const struct kbs_check_kind *k)
{
    if ((kbs_snp_u64(j->report, KBS_SNP_AT_POLICY) & KBS_SNP_POLICY_ALWAYS_ONE) == 0) {
        kbs_verdict_fail(j->v, k, "bit 17 of POLICY is 0; firmware launches no such guest");
    } else {
        kbs_verdict_pass(j->v, k, "bit 17 of POLICY is 1");
    }
}

static void check_debug(struct job *j, const struct kbs_check_kind *k)
{
    if ((kbs_snp_u64(j->report, KBS_SNP_AT_POLICY) & KBS_SNP_POLICY_DEBUG) != 0) {
        kbs_verdict_fail(j->v, k, "POLICY allows DEBUG: the host can read the guest's memory");
    } else {
        kbs_verdict_pass(j->v, k, "POLICY does not allow DEBUG");
    }
}

static void check_migration(struct job *j, const struct kbs_check_kind *k)
{
    if ((kbs_snp_u64(j->report, KBS_SNP_AT_POLICY) & KBS_SNP_POLICY_MIGRATE_MA) != 0) {
        kbs_verdict_fail(j->v, k, "POLICY allows MIGRATE_MA: a migration agent may move the guest");
    } else {
        kbs_verdict_pass(j->v, k, "POLICY does not allow MIGRATE_MA");
    }
}

static void check_vmpl(struct job *j, const struct kbs_check_kind *k)
{
    uint32_t vmpl = kbs_snp_u32(j->report, KBS_SNP_AT_VMPL);

    if (vmpl != j->policy->vmpl) {
        kbs_verdict_fail(j->v, k, "asked for from VMPL %u; the policy takes VMPL %u", vmpl,
                         j->policy->vmpl);
    } else {
        kbs_verdict_pass(j->v, k, "asked for from VMPL %u", vmpl);
    }
}

static void check_product_allowed(struct job *j, const struct kbs_check_kind *k)
{
    const char *name = kbs_snp_product_name(j->leaf->product);

    if ((j->policy->products & (1u << j->leaf->product)) == 0) {
        kbs_verdict_fail(j->v, k, "%s is not among the products the policy takes", name);
    } else {
        kbs_verdict_pass(j->v, k, "the policy takes %s", name);
    }
}

static void check_signer_allowed(struct job *j, const struct kbs_check_kind *k)
{
    const char *name = kbs_snp_signer_name(j->leaf->kind);

    if ((j->policy->signers & (1u << j->leaf->kind)) == 0) {
        kbs_verdict_fail(j->v, k, "the policy takes no reports that a %s signed", name);
    } else {
        kbs_verdict_pass(j->v, k, "the policy takes %ss", name);
    }
}

/* A list without chips lists all. */
static bool chip_listed(const struct kbs_snp_policy *policy, struct kbs_span id)
{
    for (size_t i = 0; i < policy->chip_count; i++) {
        if (kbs_span_equal(id, kbs_span(policy->chips[i], KBS_SNP_CHIP_ID_BYTES))) {
            return true;
        }
    }
    return policy->chip_count == 0;
}

static void check_chip_allowed(struct job *j, const struct kbs_check_kind *k)
{
    struct kbs_span id = kbs_snp_bytes(j->report, KBS_SNP_AT_CHIP_ID, KBS_SNP_CHIP_ID_BYTES);

    if (j->leaf->kind == KBS_SNP_SIGNER_VLEK) {
        kbs_verdict_skip(j->v, k, "a VLEK is a provider's, not a chip's");
        return;
    }
    if (j->policy->chip_count == 0) {
        kbs_verdict_skip(j->v, k, "the policy lists no chips");
        return;
    }
    if (chip_listed(j->policy, id)) {
        kbs_verdict_pass(j->v, k, "the chip is on the policy's list");
    } else {
        kbs_verdict_fail(j->v, k, "the chip is not on the policy's list");
    }
}

static void check_provider_allowed(struct job *j, const struct kbs_check_kind *k)
{
    if (j->leaf->kind != KBS_SNP_SIGNER_VLEK) {
        kbs_verdict_skip(j->v, k, "a VCEK is a chip's, not a provider's");
        return;
    }
    for (size_t i = 0; i < j->policy->provider_count; i++) {
        if (strcmp(j->leaf->csp_id, j->policy->providers[i]) == 0) {
            kbs_verdict_pass(j->v, k, "%.120s", j->leaf->csp_id);
            return;
        }
    }
    kbs_verdict_fail(j->v, k, "%.100s is not on the policy's list of providers", j->leaf->csp_id);
}

static void check_minimum_tcb(struct job *j, const struct kbs_check_kind *k)
{
    static const struct {
        const char *name;
        enum kbs_snp_at at;
    } tcbs[] = {
        {"reported", KBS_SNP_AT_REPORTED_TCB},
        {"committed", KBS_SNP_AT_COMMITTED_TCB},
        {"launch", KBS_SNP_AT_LAUNCH_TCB},
    };
    const struct kbs_snp_tcb *least = &j->policy->floor[j->leaf->product].tcb;

    if (kbs_snp_is_zero(kbs_span(least->part, sizeof(least->part)))) {
        kbs_verdict_skip(j->v, k, "the policy sets none for %s",
                         kbs_snp_product_name(j->leaf->product));
        return;
    }
    for (size_t i = 0; i < sizeof(tcbs) / sizeof(tcbs[0]); i++) {
        struct kbs_snp_tcb tcb;

        if (!kbs_snp_tcb_read(j->report, tcbs[i].at, j->leaf->product, &tcb)) {
            kbs_verdict_fail(j->v, k, "the %s TCB has not the product's layout", tcbs[i].name);
            return;
        }
        enum kbs_snp_tcb_part part = kbs_snp_tcb_below(&tcb, least);
        if (part != KBS_SNP_TCB_PARTS) {
            kbs_verdict_fail(j->v, k, "%s TCB: %s is %u, the policy asks for %u", tcbs[i].name,
                             kbs_snp_tcb_part_name(part), tcb.part[part], least->part[part]);
            return;
        }
    }
    kbs_verdict_pass(j->v, k, "reported, committed and launch TCB are at or above the policy's");
}

static void check_minimum_firmware(struct job *j, const struct kbs_check_kind *k)
{
    const uint8_t *raw = j->report->raw + KBS_SNP_AT_COMMITTED_FIRMWARE;
    const uint8_t have[3] = {raw[2], raw[1], raw[0]}; /* it is build, minor, major there */
    const uint8_t *least = j->policy->floor[j->leaf->product].firmware;

    if (kbs_snp_is_zero(kbs_span(least, 3))) {
        kbs_verdict_skip(j->v, k, "the policy sets none for %s",
                         kbs_snp_product_name(j->leaf->product));
    } else if (memcmp(have, least, sizeof(have)) < 0) {
        kbs_verdict_fail(j->v, k, "committed firmware %u.%u.%u; the policy asks for %u.%u.%u",
                         have[0], have[1], have[2], least[0], least[1], least[2]);
    } else {
        kbs_verdict_pass(j->v, k, "committed firmware %u.%u.%u", have[0], have[1], have[2]);
    }
}

struct bit {
    uint64_t bit;
    const char *name;
    const char *key; /* in configurations */
};

static const struct bit platform_bits[] = {
    {KBS_SNP_PLATFORM_SMT, "SMT_EN", "smt"},
    {KBS_SNP_PLATFORM_TSME, "TSME_EN", "tsme"},
    {KBS_SNP_PLATFORM_ECC, "ECC_EN", "ecc"},
    {KBS_SNP_PLATFORM_RAPL_DIS, "RAPL_DIS", "rapl_dis"},
    {KBS_SNP_PLATFORM_CIPHERTEXT_HIDING, "CIPHERTEXT_HIDING_DRAM_EN", "ciphertext_hiding"},
    {KBS_SNP_PLATFORM_ALIAS_CHECK, "ALIAS_CHECK_COMPLETE", "alias_check"},
    {KBS_SNP_PLATFORM_TIO, "SEV_TIO_EN", "tio"},
    {0, "another bit", ""},
};

static const struct bit guest_bits[] = {
    {KBS_SNP_POLICY_SMT, "SMT", "smt"},
    {KBS_SNP_POLICY_SINGLE_SOCKET, "SINGLE_SOCKET", "single_socket"},
    {KBS_SNP_POLICY_CXL, "CXL_ALLOW", "cxl"},
    {KBS_SNP_POLICY_AES_256_XTS, "MEM_AES_256_XTS", "aes_256_xts"},
    {KBS_SNP_POLICY_RAPL_DIS, "RAPL_DIS", "rapl_dis"},
    {KBS_SNP_POLICY_CIPHERTEXT_HIDING, "CIPHERTEXT_HIDING_DRAM", "ciphertext_hiding"},
    {KBS_SNP_POLICY_PAGE_SWAP_DISABLE, "PAGE_SWAP_DISABLE", "page_swap_disable"},
    {0, "another bit", ""},
};

static const char *bit_name(const struct bit *bits, uint64_t set)
{
    while (bits->bit != 0 && (bits->bit & set) == 0) {
        bits++;
    }
    return bits->name;
}

static uint64_t bit_of(const struct bit *bits, struct kbs_span key)
{
    while (bits->bit != 0 && !kbs_span_equal_str(key, bits->key)) {
        bits++;
    }
    return bits->bit;
}

uint64_t kbs_snp_platform_bit(struct kbs_span name)
{
    return bit_of(platform_bits, name);
}

uint64_t kbs_snp_guest_bit(struct kbs_span name)
{
    return bit_of(guest_bits, name);
}

/* Bits that must and that must not be set. */
static void check_bits(struct job *j, const struct kbs_check_kind *k, uint64_t value,
                       uint64_t required, uint64_t forbidden, const struct bit *names)
{
    if ((required | forbidden) == 0) {
        kbs_verdict_skip(j->v, k, "the policy asks for nothing");
    } else if ((required & ~value) != 0) {
        kbs_verdict_fail(j->v, k, "%s is 0, the policy asks for 1",
                         bit_name(names, required & ~value));
    } else if ((forbidden & value) != 0) {
        kbs_verdict_fail(j->v, k, "%s is 1, the policy asks for 0",
                         bit_name(names, forbidden & value));
    } else {
        kbs_verdict_pass(j->v, k, "as the policy asks");
    }
}

static void check_platform(struct job *j, const struct kbs_check_kind *k)
{
    check_bits(j, k, kbs_snp_u64(j->report, KBS_SNP_AT_PLAT_INFO), j->policy->platform_required,
               j->policy->platform_forbidden, platform_bits);
}

static void check_guest_policy(struct job *j, const struct kbs_check_kind *k)
{
    check_bits(j, k, kbs_snp_u64(j->report, KBS_SNP_AT_POLICY), j->policy->guest_required,
               j->policy->guest_forbidden, guest_bits);
}

static void check_host_data(struct job *j, const struct kbs_check_kind *k)
{
    switch (j->v->init_data) {
    case KBS_INIT_DATA_MATCHED:
        kbs_verdict_pass(j->v, k, "HOST_DATA is the digest of the init-data");
        break;
    case KBS_INIT_DATA_ABSENT:
        kbs_verdict_skip(j->v, k, "HOST_DATA is empty, and no init-data was sent");
        break;
    case KBS_INIT_DATA_UNEXPLAINED:
        if (j->policy->allow_unexplained_data) {
            kbs_verdict_skip(j->v, k, "HOST_DATA is set, no init-data was sent, the policy allows");
        } else {
            kbs_verdict_fail(j->v, k, "HOST_DATA is set, and no init-data was sent to explain it");
        }
        break;
    case KBS_INIT_DATA_MISMATCHED:
        kbs_verdict_fail(j->v, k, "HOST_DATA is not the digest of the init-data");
        break;
    }
}

static const struct {
    struct kbs_check_kind kind;
    enum needs needs;
    check_fn *run;
} checks[] = {
    {{"report-data", KBS_BINDING_EVIDENCE}, NOTHING, check_report_data},
    {{"version", KBS_BINDING_HARDWARE}, NOTHING, check_version},
    {{"sig-algo", KBS_BINDING_HARDWARE}, NOTHING, check_sig_algo},
    {{"certificate", KBS_BINDING_HARDWARE}, NOTHING, check_certificate},
    {{"product", KBS_BINDING_HARDWARE}, LEAF, check_product},
    {{"root", KBS_BINDING_HARDWARE}, LEAF, check_root},
    {{"chain", KBS_BINDING_HARDWARE}, LEAF, check_chain},
    {{"validity", KBS_BINDING_HARDWARE}, LEAF, check_validity},
    {{"revocation", KBS_BINDING_HARDWARE}, LEAF, check_revocation},
    {{"signer", KBS_BINDING_HARDWARE}, LEAF, check_signer},
    {{"signature-padding", KBS_BINDING_HARDWARE}, NOTHING, check_signature_padding},
    {{"signature", KBS_BINDING_HARDWARE}, LEAF, check_signature},
    {{"chip-key", KBS_BINDING_HARDWARE}, NOTHING, check_chip_key},
    {{"chip-id", KBS_BINDING_HARDWARE}, LEAF, check_chip_id},
    {{"reported-tcb", KBS_BINDING_HARDWARE}, LEAF, check_reported_tcb},
    {{"policy-bit-17", KBS_BINDING_HARDWARE}, NOTHING, check_policy_reserved},
    {{"debug", KBS_BINDING_HARDWARE}, NOTHING, check_debug},
    {{"migration", KBS_BINDING_HARDWARE}, NOTHING, check_migration},
    {{"vmpl", KBS_BINDING_HARDWARE}, NOTHING, check_vmpl},
    {{"product-allowed", KBS_BINDING_FULL}, LEAF, check_product_allowed},
    {{"signer-allowed", KBS_BINDING_FULL}, LEAF, check_signer_allowed},
    {{"chip-allowed", KBS_BINDING_FULL}, LEAF, check_chip_allowed},
    {{"provider-allowed", KBS_BINDING_FULL}, LEAF, check_provider_allowed},
    {{"minimum-tcb", KBS_BINDING_FULL}, LEAF, check_minimum_tcb},
    {{"minimum-firmware", KBS_BINDING_FULL}, LEAF, check_minimum_firmware},
    {{"platform", KBS_BINDING_FULL}, NOTHING, check_platform},
    {{"guest-policy", KBS_BINDING_FULL}, NOTHING, check_guest_policy},
    {{"host-data", KBS_BINDING_FULL}, NOTHING, check_host_data},
};

_Static_assert(KBS_VERDICT_NEEDS_BYTES == KBS_SNP_KDS_PATH_BYTES, "it is one");
_Static_assert(sizeof(checks) / sizeof(checks[0]) <= KBS_VERDICT_CHECKS, "a verdict holds them");

struct kbs_snp_policy kbs_snp_policy_default(void)
{
    return (struct kbs_snp_policy){
        .products = 1u << KBS_SNP_PRODUCT_GENOA | 1u << KBS_SNP_PRODUCT_TURIN,
        .signers = 1u << KBS_SNP_SIGNER_VCEK | 1u << KBS_SNP_SIGNER_VLEK,
        .version_min = 3,
    };
}

static void run_checks(struct job *j)
{
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (checks[i].needs == LEAF && j->leaf == NULL) {
            kbs_verdict_skip(j->v, &checks[i].kind, "there is no certificate to go by");
        } else {
            checks[i].run(j, &checks[i].kind);
        }
    }
}

int kbs_snp_verify(const struct kbs_snp_report *report, struct kbs_span leaf,
                   const struct kbs_snp_endorsements *endorsements,
                   const struct kbs_snp_policy *policy, const struct kbs_expected *expected,
                   struct kbs_verdict *ret, struct kbs_error *err)
{
    struct job j = {.report = report,
                    .policy = policy,
                    .expected = expected,
                    .endorsements = endorsements,
                    .leaf_given = leaf.len > 0,
                    .leaf_error = KBS_ERROR_NONE,
                    .v = ret};
    int r = 0;

    *ret = KBS_VERDICT_NULL;
    ret->init_data =
        kbs_init_data_compare(expected->init_data, kbs_snp_bytes(report, KBS_SNP_AT_HOST_DATA, 32));
    if (leaf.len > 0 && kbs_snp_leaf_parse(leaf, &j.leaf_object, &j.leaf_error) == 0) {
        j.leaf = kbs_snp_leaf_facts(j.leaf_object);
        r = kbs_snp_chain_verify(endorsements, j.leaf_object, expected->now_s, policy->crl_grace_s,
                                 &j.chain, err);
    }
    if (r == 0) {
        run_checks(&j);
        ret->claims = kbs_snp_claims(&(struct kbs_snp_claims_in){
            .report = report,
            .leaf = j.leaf,
            .product = j.leaf != NULL ? j.leaf->product : kbs_snp_product_of_report(report),
            .init_data = ret->init_data,
            .test_roots = policy->roots != NULL});
        if (ret->claims == NULL) {
            r = kbs_fail(err, KBS_INTERNAL, "out of memory");
        }
    }
    if (r != 0) {
        kbs_verdict_deinit(ret);
    }
    kbs_snp_leaf_free(j.leaf_object);
    return r;
}

/*
 * Whether a leaf would change anything: without one, all that can be looked at holds. Anybody can
 * write a report and have AMD asked for a chip that is none, so only then, and only for chips and
 * products that the policy would take.
 */
static bool leaf_is_all(const struct kbs_snp_report *report, const struct kbs_snp_policy *policy,
                        const struct kbs_verdict *v)
{
    for (size_t i = 0; i < v->count; i++) {
        if (v->checks[i].outcome == KBS_OUTCOME_FAIL &&
            strcmp(v->checks[i].kind->name, "certificate") != 0) {
            return false;
        }
    }
    return (policy->products & (1u << kbs_snp_product_of_report(report))) != 0 &&
           (policy->signers & (1u << KBS_SNP_SIGNER_VCEK)) != 0 &&
           chip_listed(policy, kbs_snp_bytes(report, KBS_SNP_AT_CHIP_ID, KBS_SNP_CHIP_ID_BYTES));
}

int kbs_snp_appraise(const void *verifier, const json_t *evidence,
                     const struct kbs_expected *expected, struct kbs_verdict *ret,
                     struct kbs_error *err)
{
    const struct kbs_snp_verifier *with = verifier;
    struct kbs_snp_policy policy = *with->policy;
    struct kbs_snp_evidence e;
    int r = 0;

    *ret = KBS_VERDICT_NULL;
    if (kbs_snp_evidence_parse(evidence, &e, err) != 0) {
        return -1;
    }
    if (e.svsm) {
        policy.vmpl = 0; /* the SVSM's own level; its guest's kernel is at another */
    }
    if (e.leaf.len == 0 && with->find_leaf != NULL) {
        r = with->find_leaf(with->where, &e.report, &e.leaf, err);
    }
    if (r == 0 && e.leaf.len == 0) {
        kbs_buf_put_span(&e.leaf, expected->endorsement);
        r = kbs_buf_check(&e.leaf, "a VCEK", err);
    }
    if (r == 0) {
        r = kbs_snp_verify(&e.report, kbs_buf_span(&e.leaf), with->endorsements, &policy, expected,
                           ret, err);
    }
    if (r == 0 && with->kds && e.leaf.len == 0 && leaf_is_all(&e.report, &policy, ret)) {
        (void)kbs_snp_kds_path(&e.report, ret->needs);
    }
    kbs_snp_evidence_deinit(&e);
    return r;
}
