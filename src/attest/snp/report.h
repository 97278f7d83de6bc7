/*
 * AMD SEV-SNP attestation reports, versions 2 to 5 (SEV Secure Nested Paging Firmware ABI, 56860,
 * "Attestation Report"): 1184 bytes, little endian, kept as they were signed and read in place.
 */
#ifndef KBS_ATTEST_SNP_REPORT_H
#define KBS_ATTEST_SNP_REPORT_H

#include "base/error.h"
#include "base/span.h"

#define KBS_SNP_REPORT_BYTES 1184
#define KBS_SNP_SIGNED_BYTES 0x2A0
#define KBS_SNP_CHIP_ID_BYTES 64

/* Where the fields are. */
enum kbs_snp_at {
    KBS_SNP_AT_VERSION = 0x000,
    KBS_SNP_AT_GUEST_SVN = 0x004,
    KBS_SNP_AT_POLICY = 0x008,
    KBS_SNP_AT_FAMILY_ID = 0x010,
    KBS_SNP_AT_IMAGE_ID = 0x020,
    KBS_SNP_AT_VMPL = 0x030,
    KBS_SNP_AT_SIG_ALGO = 0x034,
    KBS_SNP_AT_CURRENT_TCB = 0x038,
    KBS_SNP_AT_PLAT_INFO = 0x040,
    KBS_SNP_AT_KEY_INFO = 0x048,
    KBS_SNP_AT_REPORT_DATA = 0x050,
    KBS_SNP_AT_MEASUREMENT = 0x090,
    KBS_SNP_AT_HOST_DATA = 0x0C0,
    KBS_SNP_AT_ID_KEY_DIGEST = 0x0E0,
    KBS_SNP_AT_AUTHOR_KEY_DIGEST = 0x110,
    KBS_SNP_AT_REPORT_ID = 0x140,
    KBS_SNP_AT_REPORT_ID_MA = 0x160,
    KBS_SNP_AT_REPORTED_TCB = 0x180,
    KBS_SNP_AT_CPUID_FAMILY = 0x188, /* from version 3 on, as the two below */
    KBS_SNP_AT_CPUID_MODEL = 0x189,
    KBS_SNP_AT_CPUID_STEPPING = 0x18A,
    KBS_SNP_AT_CHIP_ID = 0x1A0,
    KBS_SNP_AT_COMMITTED_TCB = 0x1E0,
    KBS_SNP_AT_CURRENT_FIRMWARE = 0x1E8, /* build, minor, major */
    KBS_SNP_AT_COMMITTED_FIRMWARE = 0x1EC,
    KBS_SNP_AT_LAUNCH_TCB = 0x1F0,
    KBS_SNP_AT_LAUNCH_MIT_VECTOR = 0x1F8, /* version 5, as the one below */
    KBS_SNP_AT_CURRENT_MIT_VECTOR = 0x200,
    KBS_SNP_AT_SIGNATURE_R = 0x2A0,
    KBS_SNP_AT_SIGNATURE_S = 0x2E8,
    KBS_SNP_AT_SIGNATURE_END = 0x330, /* reserved from here to the end */
};

/* R and S stand in 72 bytes each, of which a P-384 signature uses the low 48. */
#define KBS_SNP_SCALAR_FIELD_BYTES 72
#define KBS_SNP_SCALAR_BYTES 48

/* Bits of POLICY. */
#define KBS_SNP_POLICY_SMT (UINT64_C(1) << 16)
#define KBS_SNP_POLICY_ALWAYS_ONE (UINT64_C(1) << 17)
#define KBS_SNP_POLICY_MIGRATE_MA (UINT64_C(1) << 18)
#define KBS_SNP_POLICY_DEBUG (UINT64_C(1) << 19)
#define KBS_SNP_POLICY_SINGLE_SOCKET (UINT64_C(1) << 20)
#define KBS_SNP_POLICY_CXL (UINT64_C(1) << 21)
#define KBS_SNP_POLICY_AES_256_XTS (UINT64_C(1) << 22)
#define KBS_SNP_POLICY_RAPL_DIS (UINT64_C(1) << 23)
#define KBS_SNP_POLICY_CIPHERTEXT_HIDING (UINT64_C(1) << 24)
#define KBS_SNP_POLICY_PAGE_SWAP_DISABLE (UINT64_C(1) << 25)

/* Bits of PLAT_INFO. */
#define KBS_SNP_PLATFORM_SMT (UINT64_C(1) << 0)
#define KBS_SNP_PLATFORM_TSME (UINT64_C(1) << 1)
#define KBS_SNP_PLATFORM_ECC (UINT64_C(1) << 2)
#define KBS_SNP_PLATFORM_RAPL_DIS (UINT64_C(1) << 3)
#define KBS_SNP_PLATFORM_CIPHERTEXT_HIDING (UINT64_C(1) << 4)
#define KBS_SNP_PLATFORM_ALIAS_CHECK (UINT64_C(1) << 5)
#define KBS_SNP_PLATFORM_TIO (UINT64_C(1) << 7)

/* KEY_INFO. */
#define KBS_SNP_KEY_AUTHOR (UINT32_C(1) << 0)
#define KBS_SNP_KEY_MASKED (UINT32_C(1) << 1)

enum kbs_snp_signer {
    KBS_SNP_SIGNER_VCEK = 0, /* the numbers of KEY_INFO bits 4:2 */
    KBS_SNP_SIGNER_VLEK = 1,
    KBS_SNP_SIGNER_NONE = 7
};
const char *kbs_snp_signer_name(unsigned int signer); /* "VCEK", "VLEK", "none", "reserved" */

struct kbs_snp_report {
    uint8_t raw[KBS_SNP_REPORT_BYTES];
};

/* KBS_INPUT unless it is exactly KBS_SNP_REPORT_BYTES. What the fields hold is verify's to judge. */
KBS_MUST_CHECK int kbs_snp_report_parse(struct kbs_span bytes, struct kbs_snp_report *ret,
                                        struct kbs_error *err);

uint32_t kbs_snp_u32(const struct kbs_snp_report *r, enum kbs_snp_at at);
uint64_t kbs_snp_u64(const struct kbs_snp_report *r, enum kbs_snp_at at);
static inline struct kbs_span kbs_snp_bytes(const struct kbs_snp_report *r, enum kbs_snp_at at,
                                            size_t len)
{
    return kbs_span(r->raw + at, len);
}

static inline unsigned int kbs_snp_signer_of(const struct kbs_snp_report *r)
{
    return (kbs_snp_u32(r, KBS_SNP_AT_KEY_INFO) >> 2) & 7u;
}

/* True if every byte is zero. */
bool kbs_snp_is_zero(struct kbs_span bytes);

#endif
