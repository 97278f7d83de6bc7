/*
 * Claims. The first group has the names, types and spellings of CoCo's verifier, so that policies
 * written for it hold here; the rest tells what it does not: where the report comes from (product,
 * chip, provider, signer), at which VMPL, with which TCBs and firmware, and under whose ID block.
 * 64-bit fields are hex text: JSON numbers end at 2^53. A TCB is left out when it has not the
 * layout of its product, never guessed.
 */
#include <inttypes.h>
#include <stdio.h>

#include "attest/snp/verify.h"
#include "base/encoding.h"

#define HEX_MAX_BYTES 64

/* Sets a member; takes the value. False once anything failed. */
static bool set(json_t *to, const char *name, json_t *value)
{
    return json_object_set_new(to, name, value) == 0;
}

static json_t *hex_of(const struct kbs_snp_report *r, enum kbs_snp_at at, size_t len)
{
    char text[2 * HEX_MAX_BYTES + 1];

    kbs_hex_cstr(kbs_snp_bytes(r, at, len), text, sizeof(text));
    return json_string(text);
}

static json_t *hex_u64(uint64_t v)
{
    char text[19];

    (void)snprintf(text, sizeof(text), "0x%" PRIx64, v);
    return json_string(text);
}

static json_t *bit(uint64_t value, uint64_t mask)
{
    return json_boolean((value & mask) != 0);
}

static bool put_policy(json_t *to, const struct kbs_snp_report *r)
{
    uint64_t policy = kbs_snp_u64(r, KBS_SNP_AT_POLICY);
    uint64_t platform = kbs_snp_u64(r, KBS_SNP_AT_PLAT_INFO);

    return set(to, "policy_abi_major", json_integer((json_int_t)(policy >> 8 & 0xff))) &&
           set(to, "policy_abi_minor", json_integer((json_int_t)(policy & 0xff))) &&
           set(to, "policy_smt_allowed", bit(policy, KBS_SNP_POLICY_SMT)) &&
           set(to, "policy_migrate_ma", bit(policy, KBS_SNP_POLICY_MIGRATE_MA)) &&
           set(to, "policy_debug_allowed", bit(policy, KBS_SNP_POLICY_DEBUG)) &&
           set(to, "policy_single_socket", bit(policy, KBS_SNP_POLICY_SINGLE_SOCKET)) &&
           set(to, "platform_smt_enabled", bit(platform, KBS_SNP_PLATFORM_SMT)) &&
           set(to, "platform_tsme_enabled", bit(platform, KBS_SNP_PLATFORM_TSME)) &&
           set(to, "policy", hex_u64(policy)) && set(to, "platform_info", hex_u64(platform)) &&
           set(to, "platform_alias_check_complete", bit(platform, KBS_SNP_PLATFORM_ALIAS_CHECK)) &&
           set(to, "platform_ciphertext_hiding", bit(platform, KBS_SNP_PLATFORM_CIPHERTEXT_HIDING));
}

static bool put_tcbs(json_t *to, const struct kbs_snp_claims_in *in)
{
    static const struct {
        const char *prefix;
        enum kbs_snp_at at;
    } tcbs[] = {
        {"reported_tcb", KBS_SNP_AT_REPORTED_TCB},
        {"current_tcb", KBS_SNP_AT_CURRENT_TCB},
        {"committed_tcb", KBS_SNP_AT_COMMITTED_TCB},
        {"launch_tcb", KBS_SNP_AT_LAUNCH_TCB},
    };
    bool good = true;

    for (size_t i = 0; i < sizeof(tcbs) / sizeof(tcbs[0]); i++) {
        struct kbs_snp_tcb tcb;

        if (in->product == KBS_SNP_PRODUCT_NONE ||
            !kbs_snp_tcb_read(in->report, tcbs[i].at, in->product, &tcb)) {
            continue;
        }
        for (int part = 0; part < KBS_SNP_TCB_PARTS; part++) {
            char name[40];

            if (kbs_snp_tcb_offset(in->product, (enum kbs_snp_tcb_part)part) < 0) {
                continue;
            }
            (void)snprintf(name, sizeof(name), "%s_%s", tcbs[i].prefix,
                           kbs_snp_tcb_part_name((enum kbs_snp_tcb_part)part));
            good = good && set(to, name, json_integer(tcb.part[part]));
        }
    }
    return good;
}

static json_t *firmware(const struct kbs_snp_report *r, enum kbs_snp_at at)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%u.%u.%u", r->raw[at + 2], r->raw[at + 1], r->raw[at]);
    return json_string(text);
}

static bool put_identity(json_t *to, const struct kbs_snp_report *r)
{
    return set(to, "measurement", hex_of(r, KBS_SNP_AT_MEASUREMENT, 48)) &&
           set(to, "report_data", hex_of(r, KBS_SNP_AT_REPORT_DATA, 64)) &&
           set(to, "init_data", hex_of(r, KBS_SNP_AT_HOST_DATA, 32)) &&
           set(to, "chip_id", hex_of(r, KBS_SNP_AT_CHIP_ID, 64)) &&
           set(to, "report_id", hex_of(r, KBS_SNP_AT_REPORT_ID, 32)) &&
           set(to, "family_id", hex_of(r, KBS_SNP_AT_FAMILY_ID, 16)) &&
           set(to, "image_id", hex_of(r, KBS_SNP_AT_IMAGE_ID, 16)) &&
           set(to, "id_key_digest", hex_of(r, KBS_SNP_AT_ID_KEY_DIGEST, 48)) &&
           set(to, "author_key_digest", hex_of(r, KBS_SNP_AT_AUTHOR_KEY_DIGEST, 48)) &&
           set(to, "report_version",
               json_integer((json_int_t)kbs_snp_u32(r, KBS_SNP_AT_VERSION))) &&
           set(to, "guest_svn", json_integer((json_int_t)kbs_snp_u32(r, KBS_SNP_AT_GUEST_SVN))) &&
           set(to, "vmpl", json_integer((json_int_t)kbs_snp_u32(r, KBS_SNP_AT_VMPL))) &&
           set(to, "current_firmware", firmware(r, KBS_SNP_AT_CURRENT_FIRMWARE)) &&
           set(to, "committed_firmware", firmware(r, KBS_SNP_AT_COMMITTED_FIRMWARE)) &&
           set(to, "launch_mit_vector", hex_u64(kbs_snp_u64(r, KBS_SNP_AT_LAUNCH_MIT_VECTOR))) &&
           set(to, "current_mit_vector", hex_u64(kbs_snp_u64(r, KBS_SNP_AT_CURRENT_MIT_VECTOR)));
}

static bool put_origin(json_t *to, const struct kbs_snp_claims_in *in)
{
    bool good = set(to, "product", json_string(kbs_snp_product_name(in->product))) &&
                set(to, "init_data_state", json_string(kbs_init_data_name(in->init_data))) &&
                set(to, "roots", json_string(in->test_roots ? "test" : "amd"));

    if (good && in->leaf != NULL) {
        good = set(to, "signer", json_string(kbs_snp_signer_name(in->leaf->kind)));
    }
    if (good && in->leaf != NULL && in->leaf->kind == KBS_SNP_SIGNER_VLEK) {
        good = set(to, "csp_id", json_string(in->leaf->csp_id));
    }
    return good;
}

json_t *kbs_snp_claims(const struct kbs_snp_claims_in *in)
{
    json_t *to = json_object();

    if (!put_policy(to, in->report) || !put_tcbs(to, in) || !put_identity(to, in->report) ||
        !put_origin(to, in)) {
        json_decref(to);
        return NULL;
    }
    return to;
}
