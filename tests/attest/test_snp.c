/*
 * The SNP verifier: real reports of AMD's hardware under AMD's roots, and a table of mutations. Each
 * row takes evidence in which every check passes, changes one thing, and names the one check that
 * must fail: a check that nobody makes, or that catches what is another's, shows here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "attest/snp/folder.h"
#include "attest/snp/kds.h"
#include "base/encoding.h"
#include "base/io.h"
#include "tests/attest/snp_pki.h"
#include "tests/unit/vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define CSP "CN=cc-test.example"
#define INIT_DATA "version = \"0.1.0\"\nalgorithm = \"sha384\"\n"

static struct snp_pki genoa;
static struct snp_pki other; /* of Genoa too, by its names, with keys of its own */
static struct snp_pki turin;

static int pkis_make(void **state)
{
    (void)state;
    snp_pki_init(&genoa, KBS_SNP_PRODUCT_GENOA, SNP_PKI_BITS);
    snp_pki_init(&other, KBS_SNP_PRODUCT_GENOA, SNP_PKI_BITS);
    snp_pki_init(&turin, KBS_SNP_PRODUCT_TURIN, SNP_PKI_BITS);
    return 0;
}

static int pkis_free(void **state)
{
    (void)state;
    snp_pki_deinit(&genoa);
    snp_pki_deinit(&other);
    snp_pki_deinit(&turin);
    return 0;
}

/* ---- scenarios ------------------------------------------------------------------------------ */

/* All that a verification is made from; a mutation changes one of it. */
struct scenario {
    const struct snp_pki *pki;    /* signs */
    const struct snp_pki *folder; /* whose certificates the operator has */
    struct kbs_snp_report report; /* signed after the first mutation */
    struct snp_pki_leaf leaf;
    struct snp_pki_crl crl;
    struct snp_pki_crl ask_crl; /* of leaves; made if it has a time */
    bool no_leaf;
    bool no_crl;
    bool no_issuer;
    uint8_t leaf_tail;         /* appended to the DER if not 0 */
    uint8_t report_data[48];   /* digest of the runtime data */
    struct kbs_span init_data; /* digest */
    int64_t now_s;
    struct kbs_snp_roots roots;
    struct kbs_snp_policy policy;
    uint8_t chips[1][KBS_SNP_CHIP_ID_BYTES];
    const char *providers[1];
};

static void le(struct kbs_snp_report *r, enum kbs_snp_at at, size_t len, uint64_t v)
{
    for (size_t i = 0; i < len; i++) {
        r->raw[(size_t)at + i] = (uint8_t)(v >> (8 * i));
    }
}

static void tcb_put(struct scenario *s, enum kbs_snp_at at, const struct kbs_snp_tcb *tcb)
{
    memset(s->report.raw + at, 0, 8);
    for (int part = 0; part < KBS_SNP_TCB_PARTS; part++) {
        int offset = kbs_snp_tcb_offset(s->pki->product, (enum kbs_snp_tcb_part)part);

        if (offset >= 0) {
            s->report.raw[(int)at + offset] = tcb->part[part];
        }
    }
}

static const struct kbs_snp_tcb tcb_now = {.part = {0, 9, 3, 23, 217}};
static const struct kbs_snp_tcb tcb_floor = {.part = {0, 8, 3, 20, 200}};

static void report_fill(struct scenario *s)
{
    struct kbs_snp_report *r = &s->report;
    bool is_turin = s->pki->product == KBS_SNP_PRODUCT_TURIN;

    le(r, KBS_SNP_AT_VERSION, 4, 3);
    le(r, KBS_SNP_AT_POLICY, 8, KBS_SNP_POLICY_ALWAYS_ONE | KBS_SNP_POLICY_SMT | 0x11f);
    le(r, KBS_SNP_AT_SIG_ALGO, 4, 1);
    le(r, KBS_SNP_AT_PLAT_INFO, 8, KBS_SNP_PLATFORM_ALIAS_CHECK | KBS_SNP_PLATFORM_TSME);
    memcpy(r->raw + KBS_SNP_AT_REPORT_DATA, s->report_data, sizeof(s->report_data));
    memset(r->raw + KBS_SNP_AT_MEASUREMENT, 0x4d, 48);
    r->raw[KBS_SNP_AT_CPUID_FAMILY] = is_turin ? 0x1a : 0x19;
    r->raw[KBS_SNP_AT_CPUID_MODEL] = is_turin ? 0x02 : 0x11;
    memcpy(r->raw + KBS_SNP_AT_CHIP_ID, s->leaf.hwid, s->leaf.hwid_len);
    tcb_put(s, KBS_SNP_AT_CURRENT_TCB, &tcb_now);
    tcb_put(s, KBS_SNP_AT_REPORTED_TCB, &tcb_now);
    tcb_put(s, KBS_SNP_AT_COMMITTED_TCB, &tcb_now);
    tcb_put(s, KBS_SNP_AT_LAUNCH_TCB, &tcb_now);
    le(r, KBS_SNP_AT_CURRENT_FIRMWARE, 3, 0x01371d); /* 1.55.29 */
    le(r, KBS_SNP_AT_COMMITTED_FIRMWARE, 3, 0x01371d);
}

static void policy_fill(struct scenario *s)
{
    s->policy = kbs_snp_policy_default();
    s->policy.roots = &s->roots;
    s->policy.chips = (const uint8_t(*)[KBS_SNP_CHIP_ID_BYTES])s->chips;
    s->policy.chip_count = 1;
    s->policy.providers = s->providers;
    s->policy.provider_count = 1;
    s->policy.floor[s->pki->product] =
        (struct kbs_snp_floor){.tcb = tcb_floor, .firmware = {1, 55, 0}};
    s->policy.platform_required = KBS_SNP_PLATFORM_ALIAS_CHECK;
    s->policy.platform_forbidden = KBS_SNP_PLATFORM_SMT;
    s->policy.guest_required = KBS_SNP_POLICY_SMT;
    s->policy.guest_forbidden = KBS_SNP_POLICY_CXL;
}

/* Evidence in which all that can be asked for is asked for, and holds. */
static void scenario_init(struct scenario *s, const struct snp_pki *pki)
{
    *s = (struct scenario){.pki = pki, .folder = pki, .now_s = SNP_PKI_NOW};
    s->leaf = (struct snp_pki_leaf){
        .product_name = pki->product == KBS_SNP_PRODUCT_TURIN ? "Turin-B1" : "Genoa-B0",
        .tcb = tcb_now,
        .hwid_len = pki->product == KBS_SNP_PRODUCT_TURIN ? 8 : 64,
        .not_before = SNP_PKI_NOW - SNP_PKI_YEAR / 2,
        .not_after = SNP_PKI_NOW + SNP_PKI_YEAR};
    s->crl = (struct snp_pki_crl){
        .revoked = {77}, .this_update = SNP_PKI_NOW - 86400, .next_update = SNP_PKI_NOW + 86400};
    memset(s->report_data, 0xd1, sizeof(s->report_data));
    for (size_t i = 0; i < s->leaf.hwid_len; i++) {
        s->leaf.hwid[i] = (uint8_t)(0xa0 + i);
    }
    memcpy(s->chips[0], s->leaf.hwid, s->leaf.hwid_len);
    s->providers[0] = CSP;
    snp_pki_pin(s->pki, &s->roots);
    report_fill(s);
    policy_fill(s);
}

static void scenario_vlek(struct scenario *s)
{
    s->leaf.vlek = true;
    s->leaf.hwid_len = 0;
    s->leaf.csp_id = CSP;
    memset(s->report.raw + KBS_SNP_AT_CHIP_ID, 0, KBS_SNP_CHIP_ID_BYTES);
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, KBS_SNP_SIGNER_VLEK << 2);
}

static void endorse(const struct scenario *s, struct kbs_snp_endorsements **ret)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_snp_endorsements_new(ret, &err), 0);
    for (int i = 0; i < KBS_SNP_CERT_COUNT; i++) {
        struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);

        if (i == KBS_SNP_CERT_ARK || !s->no_issuer) {
            snp_pki_cert(s->folder, (enum kbs_snp_cert)i, &der);
            assert_int_equal(kbs_snp_endorsements_add(*ret, s->folder->product,
                                                      (enum kbs_snp_cert)i, kbs_buf_span(&der),
                                                      &err),
                             0);
        }
        kbs_buf_deinit(&der);
    }
    const struct snp_pki_crl *lists[] = {s->no_crl ? NULL : &s->crl,
                                         s->ask_crl.next_update != 0 ? &s->ask_crl : NULL};
    for (size_t i = 0; i < 2 * COUNT(lists); i++) {
        struct kbs_buf der = KBS_BUF(KBS_LIMIT_CRL_BYTES);

        if (lists[i / 2] != NULL) {
            snp_pki_crl(s->folder, lists[i / 2], &der);
            assert_int_equal(kbs_snp_endorsements_add_crl(*ret, s->folder->product,
                                                          (enum kbs_snp_signer)(i % 2),
                                                          kbs_buf_span(&der), &err),
                             0);
        }
        kbs_buf_deinit(&der);
    }
}

/* Signs (unless `after` is to see the signature first), verifies. */
static void scenario_run(struct scenario *s, void (*after)(struct scenario *),
                         struct kbs_verdict *v)
{
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_buf leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;

    snp_pki_sign(s->pki, &s->report);
    if (after != NULL) {
        after(s);
    }
    endorse(s, &known);
    if (!s->no_leaf) {
        snp_pki_leaf(s->pki, &s->leaf, &leaf);
    }
    if (s->leaf_tail != 0) {
        kbs_buf_put_u8(&leaf, s->leaf_tail);
    }
    const struct kbs_expected expected = {
        .report_data = kbs_span(s->report_data, 48), .init_data = s->init_data, .now_s = s->now_s};
    if (kbs_snp_verify(&s->report, kbs_buf_span(&leaf), known, &s->policy, &expected, v, &err) !=
        0) {
        fail_msg("%s", err.detail);
    }
    kbs_buf_deinit(&leaf);
    kbs_snp_endorsements_free(known);
}

/* ---- mutations ------------------------------------------------------------------------------ */

static void expect_other_data(struct scenario *s)
{
    s->report_data[47] ^= 1;
}
static void data_after_the_digest(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_REPORT_DATA + 63] = 1;
}
static void version_1(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_VERSION, 4, 1);
}
static void version_2(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_VERSION, 4, 2);
}
static void version_6(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_VERSION, 4, 6);
}
static void version_high_byte(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_VERSION, 4, 0x01000003);
}
static void version_floor(struct scenario *s)
{
    s->policy.version_min = 5;
}
static void sig_algo_2(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_SIG_ALGO, 4, 2);
}
static void without_leaf(struct scenario *s)
{
    s->no_leaf = true;
}
static void leaf_with_a_tail(struct scenario *s)
{
    s->leaf_tail = 1;
}
static void leaf_counter_padded(struct scenario *s)
{
    s->leaf.counter_bytes = 3;
}
static void leaf_of_both_kinds(struct scenario *s)
{
    s->leaf.csp_id = CSP;
}
static void leaf_of_no_kind(struct scenario *s)
{
    s->leaf.hwid_len = 0;
}
static void leaf_hwid_short(struct scenario *s)
{
    s->leaf.hwid_len = 63;
}
static void leaf_without_product(struct scenario *s)
{
    s->leaf.product_name = NULL;
}
static void leaf_of_unknown_product(struct scenario *s)
{
    s->leaf.product_name = "Naples";
}
static void cpuid_of_turin(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_CPUID_FAMILY] = 0x1a;
    s->report.raw[KBS_SNP_AT_CPUID_MODEL] = 0x02;
}
static void cpuid_of_milan(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_CPUID_MODEL] = 0x01;
}
static void cpuid_of_nobody(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_CPUID_FAMILY] = 0x17;
}
static void amd_roots(struct scenario *s)
{
    s->policy.roots = NULL;
}
static void root_pin_changed(struct scenario *s)
{
    s->roots.ark[KBS_SNP_PRODUCT_GENOA][31] ^= 1;
}
static void signed_by_another_pki(struct scenario *s)
{
    s->pki = &other;
}
static void without_issuer(struct scenario *s)
{
    s->no_issuer = true;
}
static void leaf_expired(struct scenario *s)
{
    s->leaf.not_after = s->now_s - 1;
}
static void leaf_not_yet_valid(struct scenario *s)
{
    s->leaf.not_before = s->now_s + 1;
}
static void issuer_revoked(struct scenario *s)
{
    s->crl.revoked[1] = SNP_PKI_ASK_SERIAL;
}
static void leaf_revoked(struct scenario *s)
{
    s->leaf.serial = 9;
    s->ask_crl = s->crl;
    s->ask_crl.by_ask = true;
    s->ask_crl.revoked[1] = 9;
}
static void crl_expired(struct scenario *s)
{
    s->crl.next_update = s->now_s - 1;
}
static void crl_expired_beyond_grace(struct scenario *s)
{
    s->policy.crl_grace_s = 3600;
    s->crl.next_update = s->now_s - 3601;
}
static void crl_expired_within_grace(struct scenario *s)
{
    s->policy.crl_grace_s = 3600;
    s->crl.next_update = s->now_s - 3599;
}
static void crl_of_tomorrow(struct scenario *s)
{
    s->crl.this_update = s->now_s + 10;
}
static void crl_forged(struct scenario *s)
{
    s->crl.forger = other.ark_key;
}
static void crl_missing(struct scenario *s)
{
    s->no_crl = true;
}
static void crl_missing_allowed(struct scenario *s)
{
    s->no_crl = true;
    s->policy.allow_no_crl = true;
}
static void signer_said_vlek(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, KBS_SNP_SIGNER_VLEK << 2);
}
static void signer_said_none(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, KBS_SNP_SIGNER_NONE << 2);
}
static void signer_said_reserved(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, 3 << 2);
}
static void vlek(struct scenario *s)
{
    scenario_vlek(s);
}
static void vlek_said_vcek(struct scenario *s)
{
    scenario_vlek(s);
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, 0);
}
static void vlek_of_another_provider(struct scenario *s)
{
    scenario_vlek(s);
    s->leaf.csp_id = "CN=cc-test.example.evil";
}
static void vlek_of_a_prefix(struct scenario *s)
{
    scenario_vlek(s);
    s->leaf.csp_id = "CN=cc-test";
}
static void vlek_with_no_list(struct scenario *s)
{
    scenario_vlek(s);
    s->policy.provider_count = 0;
}
static void vlek_issuer_revoked(struct scenario *s)
{
    scenario_vlek(s);
    s->crl.revoked[1] = SNP_PKI_ASVK_SERIAL;
}
static void r_high_byte(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_SIGNATURE_R + 71] = 1;
}
static void s_high_byte(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_SIGNATURE_S + 48] = 1;
}
static void signature_tail(struct scenario *s)
{
    s->report.raw[KBS_SNP_REPORT_BYTES - 1] = 1;
}
static void r_changed(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_SIGNATURE_R] ^= 1;
}
static void s_zero(struct scenario *s)
{
    memset(s->report.raw + KBS_SNP_AT_SIGNATURE_S, 0, KBS_SNP_SCALAR_BYTES);
}
static void measurement_changed(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_MEASUREMENT] ^= 1;
}
static void chip_key_masked(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, KBS_SNP_KEY_MASKED);
}
static void author_key(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_KEY_INFO, 4, KBS_SNP_KEY_AUTHOR);
}
static void chip_id_changed(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_CHIP_ID + 63] ^= 1;
    memcpy(s->chips[0], s->report.raw + KBS_SNP_AT_CHIP_ID, 64);
}
static void chip_id_masked(struct scenario *s)
{
    memset(s->report.raw + KBS_SNP_AT_CHIP_ID, 0, 64);
    s->policy.chip_count = 0;
}
static void chip_id_masked_allowed(struct scenario *s)
{
    chip_id_masked(s);
    s->policy.allow_masked_chip_id = true;
}
static void chip_id_masked_and_listed(struct scenario *s)
{
    memset(s->report.raw + KBS_SNP_AT_CHIP_ID, 0, 64);
    s->policy.allow_masked_chip_id = true;
}
static void hwid_wrapped(struct scenario *s)
{
    s->leaf.hwid_wrapped = true;
}
static void reported_below_the_leaf(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_REPORTED_TCB + 7]--;
}
static void reported_above_the_leaf(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_REPORTED_TCB]++;
}
static void policy_bit_17(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_POLICY + 2] ^= 2;
}
static void debug(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_POLICY + 2] |= 8;
}
static void migrate_ma(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_POLICY + 2] |= 4;
}
static void policy_unknown_bit(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_POLICY + 7] |= 0x40;
}
static void vmpl_1(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_VMPL, 4, 1);
}
static void vmpl_high_byte(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_VMPL, 4, 0x01000000);
}
static void vmpl_told(struct scenario *s)
{
    s->policy.vmpl = 2;
    le(&s->report, KBS_SNP_AT_VMPL, 4, 2);
}
static void product_not_allowed(struct scenario *s)
{
    s->policy.products = 1u << KBS_SNP_PRODUCT_TURIN;
}
static void chip_not_allowed(struct scenario *s)
{
    s->chips[0][0] ^= 1;
}
static void no_vcek(struct scenario *s)
{
    s->policy.signers = 1u << KBS_SNP_SIGNER_VLEK;
}
static void no_vlek(struct scenario *s)
{
    scenario_vlek(s);
    s->policy.signers = 1u << KBS_SNP_SIGNER_VCEK;
}
static void committed_tcb_low(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_COMMITTED_TCB + 7] = 199;
}
static void launch_tcb_low(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_LAUNCH_TCB] = 7;
}
static void reported_tcb_low(struct scenario *s)
{
    s->leaf.tcb.part[KBS_SNP_TCB_SNP] = 19;
    s->report.raw[KBS_SNP_AT_REPORTED_TCB + 6] = 19;
}
/* As one little-endian number this TCB is above the floor. */
static void tcb_new_microcode_old_bootloader(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_COMMITTED_TCB + 7] = 255;
    s->report.raw[KBS_SNP_AT_COMMITTED_TCB] = 1;
}
static void tcb_reserved_byte(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_COMMITTED_TCB + 3] = 1;
}
static void firmware_low(struct scenario *s)
{
    le(&s->report, KBS_SNP_AT_COMMITTED_FIRMWARE, 3, 0x0136ff); /* 1.54.255 */
}
static void alias_check_missing(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_PLAT_INFO] &= (uint8_t)~KBS_SNP_PLATFORM_ALIAS_CHECK;
}
static void platform_smt(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_PLAT_INFO] |= KBS_SNP_PLATFORM_SMT;
}
static void guest_smt_missing(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_POLICY + 2] ^= 1;
}
static void guest_cxl(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_POLICY + 2] |= 0x20;
}
static struct kbs_digest init_digest;
static void host_data_matched(struct scenario *s)
{
    enum kbs_hash hash = KBS_HASH_NONE;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_init_data_digest(KBS_SPAN_LIT(INIT_DATA), &hash, &init_digest, &err), 0);
    s->init_data = kbs_digest_span(&init_digest);
    memcpy(s->report.raw + KBS_SNP_AT_HOST_DATA, init_digest.p, 32);
}
static void host_data_mismatched(struct scenario *s)
{
    host_data_matched(s);
    s->report.raw[KBS_SNP_AT_HOST_DATA + 31] ^= 1;
}
static void host_data_empty(struct scenario *s)
{
    host_data_matched(s);
    memset(s->report.raw + KBS_SNP_AT_HOST_DATA, 0, 32);
}
static void host_data_unexplained(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_HOST_DATA] = 1;
}
static void host_data_unexplained_allowed(struct scenario *s)
{
    host_data_unexplained(s);
    s->policy.allow_unexplained_data = true;
}
static void nothing(struct scenario *s)
{
    (void)s;
}

/* What must fail, or NULL. `after` mutates what is already signed. */
static const struct {
    const char *name;
    void (*before)(struct scenario *);
    void (*after)(struct scenario *);
    const char *fails;
} rows[] = {
    {"all as it should be", nothing, NULL, NULL},
    {"expected report data is another's", expect_other_data, NULL, "report-data"},
    {"report data after the digest is not zero", data_after_the_digest, NULL, "report-data"},
    {"version 1", version_1, NULL, "version"},
    {"version 2, minimum 3", version_2, NULL, "version"},
    {"version 6", version_6, NULL, "version"},
    {"version with a high byte", version_high_byte, NULL, "version"},
    {"version 3, minimum 5", version_floor, NULL, "version"},
    {"signature algorithm 2", sig_algo_2, NULL, "sig-algo"},
    {"no leaf", without_leaf, NULL, "certificate"},
    {"a byte after the leaf", leaf_with_a_tail, NULL, "certificate"},
    {"leaf: counter with leading zeros", leaf_counter_padded, NULL, "certificate"},
    {"leaf: HWID and CSP_ID", leaf_of_both_kinds, NULL, "certificate"},
    {"leaf: neither HWID nor CSP_ID", leaf_of_no_kind, NULL, "certificate"},
    {"leaf: HWID of 63 bytes", leaf_hwid_short, NULL, "certificate"},
    {"leaf: no product", leaf_without_product, NULL, "certificate"},
    {"leaf: a product before SNP", leaf_of_unknown_product, NULL, "certificate"},
    {"leaf: HWID in an OCTET STRING", hwid_wrapped, NULL, NULL},
    {"report of Turin, leaf of Genoa", cpuid_of_turin, NULL, "product"},
    {"report of Milan, leaf of Genoa", cpuid_of_milan, NULL, "product"},
    {"report of Zen 2, leaf of Genoa", cpuid_of_nobody, NULL, "product"},
    {"AMD's roots for a test PKI", amd_roots, NULL, "root"},
    {"another root pinned", root_pin_changed, NULL, "root"},
    {"another PKI's leaf, same names", signed_by_another_pki, NULL, "chain"},
    {"no ASK in the folder", without_issuer, NULL, "chain"},
    {"leaf expired", leaf_expired, NULL, "validity"},
    {"leaf of tomorrow", leaf_not_yet_valid, NULL, "validity"},
    {"ASK revoked", issuer_revoked, NULL, "revocation"},
    {"leaf revoked", leaf_revoked, NULL, "revocation"},
    {"list overdue", crl_expired, NULL, "revocation"},
    {"list overdue, beyond its grace", crl_expired_beyond_grace, NULL, "revocation"},
    {"list overdue, within its grace", crl_expired_within_grace, NULL, NULL},
    {"list of tomorrow", crl_of_tomorrow, NULL, "revocation"},
    {"list signed by another ARK", crl_forged, NULL, "revocation"},
    {"no list", crl_missing, NULL, "revocation"},
    {"no list, and none asked for", crl_missing_allowed, NULL, NULL},
    {"KEY_INFO says VLEK, leaf is a VCEK", signer_said_vlek, NULL, "signer"},
    {"KEY_INFO says nobody signed", signer_said_none, NULL, "signer"},
    {"KEY_INFO says a reserved signer", signer_said_reserved, NULL, "signer"},
    {"VLEK", vlek, NULL, NULL},
    {"KEY_INFO says VCEK, leaf is a VLEK", vlek_said_vcek, NULL, "signer"},
    {"VLEK of another provider", vlek_of_another_provider, NULL, "provider-allowed"},
    {"VLEK of a provider that ours begins with", vlek_of_a_prefix, NULL, "provider-allowed"},
    {"VLEK, no provider listed", vlek_with_no_list, NULL, "provider-allowed"},
    {"ASVK revoked", vlek_issuer_revoked, NULL, "revocation"},
    {"R above 48 bytes", nothing, r_high_byte, "signature-padding"},
    {"S above 48 bytes", nothing, s_high_byte, "signature-padding"},
    {"a byte after the signature", nothing, signature_tail, "signature-padding"},
    {"R changed", nothing, r_changed, "signature"},
    {"S zero", nothing, s_zero, "signature"},
    {"measurement changed", nothing, measurement_changed, "signature"},
    {"MASK_CHIP_KEY", chip_key_masked, NULL, "chip-key"},
    {"AUTHOR_KEY_EN", author_key, NULL, NULL},
    {"CHIP_ID is not the HWID", chip_id_changed, NULL, "chip-id"},
    {"CHIP_ID masked", chip_id_masked, NULL, "chip-id"},
    {"CHIP_ID masked, and allowed", chip_id_masked_allowed, NULL, NULL},
    {"CHIP_ID masked, chips listed", chip_id_masked_and_listed, NULL, "chip-allowed"},
    {"reported TCB below the leaf's", reported_below_the_leaf, NULL, "reported-tcb"},
    {"reported TCB above the leaf's", reported_above_the_leaf, NULL, "reported-tcb"},
    {"POLICY bit 17 zero", policy_bit_17, NULL, "policy-bit-17"},
    {"DEBUG", debug, NULL, "debug"},
    {"MIGRATE_MA", migrate_ma, NULL, "migration"},
    {"a POLICY bit that is not known", policy_unknown_bit, NULL, NULL},
    {"VMPL 1", vmpl_1, NULL, "vmpl"},
    {"VMPL with a high byte", vmpl_high_byte, NULL, "vmpl"},
    {"VMPL 2, as the policy has it", vmpl_told, NULL, NULL},
    {"product not allowed", product_not_allowed, NULL, "product-allowed"},
    {"chip not allowed", chip_not_allowed, NULL, "chip-allowed"},
    {"VCEKs not taken", no_vcek, NULL, "signer-allowed"},
    {"VLEKs not taken", no_vlek, NULL, "signer-allowed"},
    {"committed TCB low", committed_tcb_low, NULL, "minimum-tcb"},
    {"launch TCB low", launch_tcb_low, NULL, "minimum-tcb"},
    {"reported TCB low, and the leaf's", reported_tcb_low, NULL, "minimum-tcb"},
    {"new microcode, old boot loader", tcb_new_microcode_old_bootloader, NULL, "minimum-tcb"},
    {"a reserved byte of a TCB", tcb_reserved_byte, NULL, "minimum-tcb"},
    {"firmware low", firmware_low, NULL, "minimum-firmware"},
    {"ALIAS_CHECK_COMPLETE missing", alias_check_missing, NULL, "platform"},
    {"SMT on the platform", platform_smt, NULL, "platform"},
    {"SMT missing in POLICY", guest_smt_missing, NULL, "guest-policy"},
    {"CXL in POLICY", guest_cxl, NULL, "guest-policy"},
    {"init-data matched", host_data_matched, NULL, NULL},
    {"init-data mismatched", host_data_mismatched, NULL, "host-data"},
    {"init-data sent, HOST_DATA empty", host_data_empty, NULL, "host-data"},
    {"HOST_DATA unexplained", host_data_unexplained, NULL, "host-data"},
    {"HOST_DATA unexplained, and allowed", host_data_unexplained_allowed, NULL, NULL},
};

static void print_verdict(const struct kbs_verdict *v)
{
    for (size_t i = 0; i < v->count; i++) {
        print_message("  %-18s %-5s %s\n", v->checks[i].kind->name,
                      kbs_outcome_name(v->checks[i].outcome), v->checks[i].why);
    }
}

/* Exactly that check failed (NULL: none), and the binding level says so. */
static void expect(const struct kbs_verdict *v, const char *name, const char *fails)
{
    size_t failed = 0;
    enum kbs_binding binding = KBS_BINDING_FULL;

    for (size_t i = 0; i < v->count; i++) {
        if (v->checks[i].outcome == KBS_OUTCOME_FAIL) {
            failed++;
            binding = v->checks[i].kind->needed - 1;
        }
    }
    const struct kbs_check *first = kbs_verdict_failed(v);
    bool right = fails == NULL ? failed == 0 : failed == 1 && strcmp(first->kind->name, fails) == 0;
    if (!right) {
        print_verdict(v);
        fail_msg("%s: %zu failed, expected %s", name, failed, fails != NULL ? fails : "none");
    }
    if (fails != NULL && strcmp(fails, "report-data") == 0) {
        binding = KBS_BINDING_NONE;
    }
    struct kbs_trust trust = kbs_verdict_trust(v);
    bool hardware = fails == NULL || first->kind->needed > KBS_BINDING_HARDWARE;
    if (trust.hardware != (hardware ? 2 : 97) || trust.executables != 33 ||
        trust.configuration != (fails != NULL && hardware ? 32 : 3) ||
        strcmp(trust.status, hardware ? "warning" : "contraindicated") != 0) {
        fail_msg("%s: hardware %d, configuration %d, %s", name, trust.hardware, trust.configuration,
                 trust.status);
    }
    if (kbs_verdict_binding(v) != binding || !json_is_object(v->claims)) {
        fail_msg("%s: binding %s, expected %s", name, kbs_binding_name(kbs_verdict_binding(v)),
                 kbs_binding_name(binding));
    }
}

/* Every bit that a configuration can name: asked for as 1 and as 0, and either way there and not. */
static void bits_by_name(void **state)
{
    static const struct {
        uint64_t (*bit_of)(struct kbs_span);
        enum kbs_snp_at at;
        const char *check;
        const char *names[8];
    } fields[] = {
        {kbs_snp_platform_bit,
         KBS_SNP_AT_PLAT_INFO,
         "platform",
         {"smt", "tsme", "ecc", "rapl_dis", "ciphertext_hiding", "alias_check", "tio"}},
        {kbs_snp_guest_bit,
         KBS_SNP_AT_POLICY,
         "guest-policy",
         {"smt", "single_socket", "cxl", "aes_256_xts", "rapl_dis", "ciphertext_hiding",
          "page_swap_disable"}},
    };

    (void)state;
    assert_int_equal(kbs_snp_platform_bit(KBS_SPAN_LIT("")), 0);
    assert_int_equal(kbs_snp_guest_bit(KBS_SPAN_LIT("alias_check")), 0);
    for (int i = 0; i < 2 * 7 * 4; i++) {
        size_t f = (size_t)i / 28;
        const char *name = fields[f].names[i / 4 % 7];
        uint64_t bit = fields[f].bit_of(kbs_span_str(name));
        bool is_set = (i & 1) != 0;
        bool wanted = (i & 2) != 0;
        struct scenario s;
        struct kbs_verdict v;

        assert_int_not_equal(bit, 0);
        scenario_init(&s, &genoa);
        s.policy.platform_required = s.policy.platform_forbidden = 0;
        s.policy.guest_required = s.policy.guest_forbidden = 0;
        *(f == 0   ? wanted ? &s.policy.platform_required : &s.policy.platform_forbidden
          : wanted ? &s.policy.guest_required
                   : &s.policy.guest_forbidden) = bit;
        uint64_t value = kbs_snp_u64(&s.report, fields[f].at) & ~bit;
        le(&s.report, fields[f].at, 8, is_set ? value | bit : value);
        scenario_run(&s, NULL, &v);
        expect(&v, name, is_set == wanted ? NULL : fields[f].check);
        kbs_verdict_deinit(&v);
    }
}

static void mutations(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scenario s;
        struct kbs_verdict v;

        scenario_init(&s, &genoa);
        rows[i].before(&s);
        scenario_run(&s, rows[i].after, &v);
        expect(&v, rows[i].name, rows[i].fails);
        kbs_verdict_deinit(&v);
    }
    print_message("%zu rows\n", COUNT(rows));
}

/* Every check has a row in which it is the one that fails. */
static void every_check_has_a_row(void **state)
{
    struct scenario s;
    struct kbs_verdict v;

    (void)state;
    scenario_init(&s, &genoa);
    scenario_run(&s, NULL, &v);
    for (size_t c = 0; c < v.count; c++) {
        bool found = false;

        for (size_t i = 0; i < COUNT(rows); i++) {
            found = found ||
                    (rows[i].fails != NULL && strcmp(rows[i].fails, v.checks[c].kind->name) == 0);
        }
        if (!found) {
            fail_msg("no row makes \"%s\" fail", v.checks[c].kind->name);
        }
    }
    kbs_verdict_deinit(&v);
}

static void bytes_flipped(void **state)
{
    struct kbs_snp_leaf *leaf = NULL;
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct scenario s;

    (void)state;
    scenario_init(&s, &genoa);
    snp_pki_sign(s.pki, &s.report);
    snp_pki_leaf(s.pki, &s.leaf, &der);
    assert_int_equal(kbs_snp_leaf_parse(kbs_buf_span(&der), &leaf, &err), 0);
    assert_true(kbs_snp_leaf_signed(leaf, &s.report));
    for (size_t i = 0; i < KBS_SNP_SIGNED_BYTES; i++) {
        s.report.raw[i] ^= (uint8_t)(1u << (i % 8));
        assert_false(kbs_snp_leaf_signed(leaf, &s.report));
        s.report.raw[i] ^= (uint8_t)(1u << (i % 8));
    }
    assert_true(kbs_snp_leaf_signed(leaf, &s.report));
    kbs_snp_leaf_free(leaf);
    kbs_buf_deinit(&der);
}

static void turin_chip_id_tail(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_CHIP_ID + 63] = 1;
    memcpy(s->chips[0], s->report.raw + KBS_SNP_AT_CHIP_ID, 64);
}
static void turin_fmc_low(struct scenario *s)
{
    s->policy.floor[KBS_SNP_PRODUCT_TURIN].tcb.part[KBS_SNP_TCB_FMC] = 1;
}
static void turin_reserved(struct scenario *s)
{
    s->report.raw[KBS_SNP_AT_REPORTED_TCB + 6] = 1;
}
/* Genoa's certificates and root, a report and a leaf of Turin's. */
static void turin_folder_of_genoa(struct scenario *s)
{
    s->folder = &genoa;
}

static void turin_layout(void **state)
{
    static const struct {
        void (*before)(struct scenario *);
        const char *fails;
    } own[] = {
        {nothing, NULL},
        {turin_chip_id_tail, "chip-id"},
        {turin_fmc_low, "minimum-tcb"},
        {turin_reserved, "reported-tcb"},
        {leaf_hwid_short, "certificate"},
    };
    struct scenario s;
    struct kbs_verdict v;

    (void)state;
    for (size_t i = 0; i < COUNT(own); i++) {
        scenario_init(&s, &turin);
        own[i].before(&s);
        if (i == 2) {
            /* With fmc the floor's own check is the only one that can notice. */
            memset(s.policy.floor[KBS_SNP_PRODUCT_TURIN].tcb.part + 1, 0, 4);
        }
        if (i == 3) {
            s.policy.floor[KBS_SNP_PRODUCT_TURIN].tcb = (struct kbs_snp_tcb){.part = {0}};
        }
        scenario_run(&s, NULL, &v);
        expect(&v, "Turin", own[i].fails);
        kbs_verdict_deinit(&v);
    }
    scenario_init(&s, &turin);
    turin_folder_of_genoa(&s);
    scenario_run(&s, NULL, &v);
    assert_int_equal(kbs_verdict_check(&v, "root")->outcome, KBS_OUTCOME_FAIL);
    assert_int_equal(kbs_verdict_check(&v, "chain")->outcome, KBS_OUTCOME_FAIL);
    assert_int_equal(kbs_verdict_binding(&v), KBS_BINDING_EVIDENCE);
    kbs_verdict_deinit(&v);
}

/* Nothing to compare the report data with: nothing is bound, whatever the hardware says. */
static void nothing_expected(void **state)
{
    struct scenario s;
    struct kbs_verdict v;
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_buf leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    const struct kbs_expected expected = {.now_s = SNP_PKI_NOW};

    (void)state;
    scenario_init(&s, &genoa);
    snp_pki_sign(s.pki, &s.report);
    snp_pki_leaf(s.pki, &s.leaf, &leaf);
    endorse(&s, &known);
    assert_int_equal(
        kbs_snp_verify(&s.report, kbs_buf_span(&leaf), known, &s.policy, &expected, &v, &err), 0);
    assert_null(kbs_verdict_failed(&v));
    assert_int_equal(kbs_verdict_binding(&v), KBS_BINDING_NONE);
    assert_int_equal(kbs_verdict_require(&v, &err), 0);
    KBS_AUTO_JSON json = kbs_verdict_json(&v);
    assert_string_equal(json_string_value(json_object_get(json, "binding")), "none");
    assert_int_equal(json_array_size(json_object_get(json, "checks")), v.count);
    assert_string_equal(json_string_value(json_object_get(v.claims, "roots")), "test");
    assert_string_equal(json_string_value(json_object_get(v.claims, "product")), "Genoa");
    assert_int_equal(json_integer_value(json_object_get(v.claims, "reported_tcb_microcode")), 217);
    assert_null(json_object_get(v.claims, "reported_tcb_fmc"));
    kbs_verdict_deinit(&v);
    kbs_snp_endorsements_free(known);
    kbs_buf_deinit(&leaf);
}

static void report_length(void **state)
{
    static uint8_t bytes[KBS_SNP_REPORT_BYTES + 1];
    struct kbs_snp_report r;

    (void)state;
    for (size_t len = KBS_SNP_REPORT_BYTES - 1; len <= KBS_SNP_REPORT_BYTES + 1; len++) {
        struct kbs_error err = KBS_ERROR_NONE;
        int wanted = len == KBS_SNP_REPORT_BYTES ? 0 : -1;

        assert_int_equal(kbs_snp_report_parse(kbs_span(bytes, len), &r, &err), wanted);
        assert_int_equal(err.category, wanted == 0 ? KBS_OK : KBS_INPUT);
    }
}

static void der_readers(void **state)
{
    static const struct {
        uint8_t der[8];
        size_t len;
        int value; /* -1: refused */
    } numbers[] = {
        {{2, 1, 0}, 3, 0},
        {{2, 1, 127}, 3, 127},
        {{2, 2, 0, 128}, 4, 128},
        {{2, 2, 0, 217}, 4, 217},
        {{2, 2, 0, 255}, 4, 255},
        {{2, 1, 128}, 3, -1},
        {{2, 2, 0, 127}, 4, -1},
        {{2, 2, 1, 0}, 4, -1},
        {{2, 3, 0, 0, 200}, 5, -1},
        {{2, 0}, 2, -1},
        {{2, 1}, 2, -1},
        {{2, 1, 5, 5}, 4, -1},
        {{4, 1, 5}, 3, -1},
        {{2, 0x81, 1, 5}, 4, -1},
        {{2}, 1, -1},
        {{0}, 0, -1},
    };
    struct kbs_span text;

    (void)state;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        uint8_t v = 0;
        bool good = kbs_snp_der_u8(kbs_span(numbers[i].der, numbers[i].len), &v);

        if (good != (numbers[i].value >= 0) || (good && v != numbers[i].value)) {
            fail_msg("number %zu", i);
        }
    }
    assert_true(kbs_snp_der_text(KBS_SPAN_LIT("\x16\x05Milan"), &text));
    assert_true(kbs_span_equal_str(text, "Milan"));
    assert_false(kbs_snp_der_text(KBS_SPAN_LIT("\x16\x05Mila\n"), &text));
    assert_false(kbs_snp_der_text(KBS_SPAN_LIT("\x16\x04Milan"), &text));
    assert_false(kbs_snp_der_text(KBS_SPAN_LIT("\x16\x06Milan"), &text));
    assert_false(kbs_snp_der_text(KBS_SPAN_LIT("\x16"), &text));
    assert_int_equal(kbs_snp_product_of_name(KBS_SPAN_LIT("Milan-B0")), KBS_SNP_PRODUCT_MILAN);
    assert_int_equal(kbs_snp_product_of_name(KBS_SPAN_LIT("Milano")), KBS_SNP_PRODUCT_NONE);
    assert_int_equal(kbs_snp_product_of_name(KBS_SPAN_LIT("unknown")), KBS_SNP_PRODUCT_NONE);
}

/* ---- real reports --------------------------------------------------------------------------- */

/* Adds the n-th certificate of a PEM file. */
static void add_nth(struct kbs_snp_endorsements *to, enum kbs_snp_cert which,
                    const struct kbs_buf *pem, int n)
{
    static const char end[] = "-----END CERTIFICATE-----\n";
    struct kbs_buf text = *pem;
    const char *p = kbs_buf_cstr(&text);
    struct kbs_error err = KBS_ERROR_NONE;

    for (; n > 0; n--) {
        p = strstr(p, end);
        assert_non_null(p);
        p += sizeof(end) - 1;
    }
    if (kbs_snp_endorsements_add(to, KBS_SNP_PRODUCT_MILAN, which, kbs_span_str(p), &err) != 0) {
        fail_msg("%s", err.detail);
    }
}

static void file_read(const char *name, struct kbs_buf *out)
{
    char path[512];
    struct kbs_error err = KBS_ERROR_NONE;
    const char *root = getenv("KBS_SOURCE_DIR");

    (void)snprintf(path, sizeof(path), "%s/%s", root != NULL ? root : ".", name);
    if (kbs_io_read_file(path, out, &err) != 0) {
        fail_msg("%s", err.detail);
    }
}

/*
 * AMD's own certificates for Milan: ARK and ASK from the vectors, and the ASVK, which is not among
 * them, as AMD hands it out (/vlek/v1/Milan/cert_chain). Skips where the vectors are absent.
 */
static void milan(struct kbs_snp_endorsements **ret)
{
    struct kbs_buf chain = KBS_BUF(65536);
    struct kbs_buf asvk = KBS_BUF(8192);
    struct kbs_error err = KBS_ERROR_NONE;

    vectors_read("snp/milan-ask-ark.testcer", &chain);
    file_read("tests/attest/asvk-milan.pem", &asvk);
    assert_int_equal(kbs_snp_endorsements_new(ret, &err), 0);
    add_nth(*ret, KBS_SNP_CERT_ASK, &chain, 0);
    add_nth(*ret, KBS_SNP_CERT_ARK, &chain, 1);
    add_nth(*ret, KBS_SNP_CERT_ASVK, &asvk, 0);
    kbs_buf_deinit(&chain);
    kbs_buf_deinit(&asvk);
}

static struct kbs_snp_policy milan_policy(void)
{
    struct kbs_snp_policy policy = kbs_snp_policy_default();

    policy.products = 1u << KBS_SNP_PRODUCT_MILAN;
    policy.version_min = 2;
    policy.allow_no_crl = true; /* AMD's list is not among the vectors */
    return policy;
}

/* Verifies a report and a leaf of AMD's; its own report data is what is expected. */
static void real_run(struct kbs_span report, struct kbs_span leaf,
                     const struct kbs_snp_policy *policy, int64_t now_s, const char *fails)
{
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_snp_report r;
    struct kbs_verdict v;
    struct kbs_error err = KBS_ERROR_NONE;

    milan(&known);
    assert_int_equal(kbs_snp_report_parse(report, &r, &err), 0);
    const struct kbs_expected expected = {
        .report_data = kbs_snp_bytes(&r, KBS_SNP_AT_REPORT_DATA, 64), .now_s = now_s};
    assert_int_equal(kbs_snp_verify(&r, leaf, known, policy, &expected, &v, &err), 0);
    expect(&v, "real report", fails);
    assert_string_equal(json_string_value(json_object_get(v.claims, "roots")), "amd");
    kbs_verdict_deinit(&v);
    kbs_snp_endorsements_free(known);
}

static void real_vcek(void **state)
{
    struct kbs_buf report = KBS_BUF(4096);
    struct kbs_buf leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_snp_policy policy = milan_policy();

    (void)state;
    vectors_read("snp/test-report.bin", &report);
    vectors_read("snp/test-vcek.der", &leaf);
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, NULL);
    /* 2022: before the leaf was issued. 2031: after. */
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, 1650000000, "validity");
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, 1924992000, "validity");
    policy.version_min = 3;
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, "version");
    policy = milan_policy();
    policy.allow_no_crl = false;
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, "revocation");
    policy = milan_policy();
    policy.products = kbs_snp_policy_default().products;
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, "product-allowed");
    kbs_buf_deinit(&report);
    kbs_buf_deinit(&leaf);
}

static void real_vlek(void **state)
{
    static const char *const providers[] = {"CN=cc-us-east-2.amazonaws.com"};
    struct kbs_buf report = KBS_BUF(4096);
    struct kbs_buf leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_snp_policy policy = milan_policy();

    (void)state;
    vectors_read("snp/test-vlek-report.bin", &report);
    vectors_read("snp/test-vlek.der", &leaf);
    policy.providers = providers;
    policy.provider_count = 1;
    policy.vmpl = 1;
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, NULL);
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, 1767225600, "validity");
    policy.vmpl = 0;
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, "vmpl");
    policy.vmpl = 1;
    policy.provider_count = 0;
    real_run(kbs_buf_span(&report), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW, "provider-allowed");
    kbs_buf_deinit(&report);
    kbs_buf_deinit(&leaf);
}

/* Certificates that AMD did not sign, one with each of the two spellings of HWID. */
static void foreign_leaves(void **state)
{
    static const char *const names[] = {"snp/test-vcek-invalid-legacy.der",
                                        "snp/test-vcek-invalid-new.der"};

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
        struct kbs_snp_endorsements *known = NULL;
        struct kbs_snp_chain chain;
        struct kbs_snp_leaf *leaf = NULL;
        struct kbs_error err = KBS_ERROR_NONE;

        vectors_read(names[i], &der);
        milan(&known);
        if (kbs_snp_leaf_parse(kbs_buf_span(&der), &leaf, &err) != 0) {
            fail_msg("%s: %s", names[i], err.detail);
        }
        const struct kbs_snp_leaf_facts *facts = kbs_snp_leaf_facts(leaf);
        assert_int_equal(facts->product, KBS_SNP_PRODUCT_MILAN);
        assert_int_equal(facts->hwid_len, 64);
        assert_int_equal(facts->hwid[63], 63);
        assert_int_equal(kbs_snp_chain_verify(known, leaf, SNP_PKI_NOW, 0, &chain, &err), 0);
        assert_non_null(chain.chain);
        kbs_snp_leaf_free(leaf);
        kbs_snp_endorsements_free(known);
        kbs_buf_deinit(&der);
    }
}

/* base64url as the vectors have it: with padding. */
static void unpad_get(const json_t *json, const char *name, struct kbs_buf *out)
{
    struct kbs_span text;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_json_get_string(json, name, &text, &err), 0);
    while (text.len > 0 && text.p[text.len - 1] == '=') {
        text.len--;
    }
    assert_int_equal(kbs_base64url_get(out, text), 0);
}

/* An Azure guest's report (version 3, VCEK), out of the blob that its vTPM keeps. */
static void real_azure(void **state)
{
    struct kbs_buf file = KBS_BUF(65536);
    struct kbs_buf blob = KBS_BUF(8192);
    struct kbs_buf leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_snp_policy policy = milan_policy();
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON json = NULL;

    (void)state;
    vectors_read("azure/az-snp-evidence-v2.json", &file);
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&file), "evidence", &json, &err), 0);
    unpad_get(json, "hcl_report", &blob);
    unpad_get(json, "vcek", &leaf);
    assert_true(blob.len > 32 + KBS_SNP_REPORT_BYTES);
    real_run(kbs_span(blob.p + 32, KBS_SNP_REPORT_BYTES), kbs_buf_span(&leaf), &policy, SNP_PKI_NOW,
             NULL);
    kbs_buf_deinit(&file);
    kbs_buf_deinit(&blob);
    kbs_buf_deinit(&leaf);
}

/* What an operator may put in the wrong file. */
static void endorsements_refused(void **state)
{
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_snp_endorsements_new(&known, &err), 0);
    snp_pki_cert(&genoa, KBS_SNP_CERT_ASK, &der);
    assert_int_equal(kbs_snp_endorsements_add(known, KBS_SNP_PRODUCT_GENOA, KBS_SNP_CERT_ARK,
                                              kbs_buf_span(&der), &err),
                     -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_int_equal(kbs_snp_endorsements_add(known, KBS_SNP_PRODUCT_GENOA, KBS_SNP_CERT_ASK,
                                              kbs_buf_span(&der), &err),
                     0);
    assert_int_equal(kbs_snp_endorsements_add(known, KBS_SNP_PRODUCT_GENOA, KBS_SNP_CERT_ASK,
                                              kbs_buf_span(&der), &err),
                     -1);
    assert_int_equal(kbs_snp_endorsements_add_crl(known, KBS_SNP_PRODUCT_GENOA, KBS_SNP_SIGNER_VCEK,
                                                  kbs_buf_span(&der), &err),
                     -1);
    assert_int_equal(kbs_snp_endorsements_add(known, KBS_SNP_PRODUCT_TURIN, KBS_SNP_CERT_ARK,
                                              KBS_SPAN_LIT("-----BEGIN CERTIFICATE-----"), &err),
                     -1);
    kbs_buf_deinit(&der);
    kbs_snp_endorsements_free(known);
}

/* What a judge is handed of the folder: names decide, and a leaf is found by its report's fields. */
static void shelf(void **state)
{
    static const char *const others[] = {"",
                                         "genoa",
                                         "genoa/",
                                         "ark.pem",
                                         "rome/ark.pem",
                                         "genoa/ark.der",
                                         "genoa//ark.pem",
                                         "/genoa/ark.pem",
                                         "genoa/vcek",
                                         "genoa/../genoa/ark.pem"};
    struct kbs_snp_shelf *known = NULL;
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_buf found = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct scenario s;

    (void)state;
    scenario_init(&s, &genoa);
    snp_pki_cert(&genoa, KBS_SNP_CERT_ARK, &der);
    assert_int_equal(kbs_snp_shelf_new(&known, &err), 0);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(
            kbs_snp_shelf_add(known, kbs_span_str(others[i]), kbs_buf_span(&der), &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
    }
    assert_int_equal(
        kbs_snp_shelf_add(known, KBS_SPAN_LIT("genoa/ark.pem"), kbs_buf_span(&der), &err), 0);
    assert_non_null(
        kbs_snp_endorsements_root(kbs_snp_shelf_endorsements(known), KBS_SNP_PRODUCT_GENOA));
    assert_int_equal(
        kbs_snp_shelf_add(known, KBS_SPAN_LIT("genoa/crl.der"), kbs_buf_span(&der), &err), -1);
    assert_non_null(strstr(err.detail, "genoa/crl.der: "));
    assert_int_equal(kbs_snp_shelf_find(known, &s.report, &found, &err), 0);
    assert_int_equal(found.len, 0);

    char hwid[2 * KBS_SNP_CHIP_ID_BYTES + 1];
    char tcb[17];
    char name[256];
    kbs_hex_cstr(kbs_snp_bytes(&s.report, KBS_SNP_AT_CHIP_ID, KBS_SNP_CHIP_ID_BYTES), hwid,
                 sizeof(hwid));
    kbs_hex_cstr(kbs_snp_bytes(&s.report, KBS_SNP_AT_REPORTED_TCB, 8), tcb, sizeof(tcb));
    (void)snprintf(name, sizeof(name), "milan/vcek/%s-%s.der", hwid, tcb); /* another product's */
    assert_int_equal(kbs_snp_shelf_add(known, kbs_span_str(name), KBS_SPAN_LIT("x"), &err), 0);
    (void)snprintf(name, sizeof(name), "genoa/vcek/%s-%s.der", hwid, tcb);
    assert_int_equal(kbs_snp_shelf_add(known, kbs_span_str(name), KBS_SPAN_LIT("leaf"), &err), 0);
    assert_int_equal(kbs_snp_shelf_find(known, &s.report, &found, &err), 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&found), "leaf"));
    kbs_buf_deinit(&der);
    kbs_buf_deinit(&found);
    kbs_snp_shelf_free(known);
    kbs_snp_shelf_free(NULL);
}

/* What KDS is asked for; AMD's specification has these forms, and another program made them. */
static void kds_paths(void **state)
{
    static const char expected[] =
        "/vcek/v1/Genoa/"
        "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
        "2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40"
        "?blSPL=09&teeSPL=03&snpSPL=23&ucodeSPL=217";
    char path[KBS_SNP_KDS_PATH_BYTES];
    struct scenario s;

    (void)state;
    scenario_init(&s, &genoa);
    for (size_t i = 0; i < 64; i++) {
        s.report.raw[KBS_SNP_AT_CHIP_ID + i] = (uint8_t)(i + 1);
    }
    assert_true(kbs_snp_kds_path(&s.report, path));
    assert_string_equal(path, expected);
    s.report.raw[KBS_SNP_AT_REPORTED_TCB + 3] = 1; /* reserved: not Genoa's layout */
    assert_false(kbs_snp_kds_path(&s.report, path));
    assert_string_equal(path, "");
    scenario_init(&s, &genoa);
    le(&s.report, KBS_SNP_AT_KEY_INFO, 4, KBS_SNP_SIGNER_VLEK << 2);
    assert_false(kbs_snp_kds_path(&s.report, path));
    scenario_init(&s, &genoa);
    memset(s.report.raw + KBS_SNP_AT_CHIP_ID, 0, 64);
    assert_false(kbs_snp_kds_path(&s.report, path));
    scenario_init(&s, &genoa);
    le(&s.report, KBS_SNP_AT_VERSION, 4, 2); /* does not tell its product */
    assert_false(kbs_snp_kds_path(&s.report, path));

    scenario_init(&s, &turin);
    memset(s.report.raw + KBS_SNP_AT_CHIP_ID, 0xab, 8);
    memcpy(s.report.raw + KBS_SNP_AT_REPORTED_TCB, "\x01\x02\x03\x04\0\0\0\xff", 8);
    assert_true(kbs_snp_kds_path(&s.report, path));
    assert_string_equal(path, "/vcek/v1/Turin/abababababababab"
                              "?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=255");
}

static void crl_make(const struct snp_pki *pki, int64_t this_update, long revoked,
                     struct kbs_buf *der)
{
    const struct snp_pki_crl list = {
        .revoked = {revoked}, .this_update = this_update, .next_update = SNP_PKI_NOW + 86400};

    kbs_buf_clear(der);
    snp_pki_crl(pki, &list, der);
}

/* A list that was fetched: of the ARK's, and newer than what is there, or it changes nothing. */
static void lists_renewed(void **state)
{
    struct kbs_snp_endorsements *known = NULL;
    struct kbs_buf der = KBS_BUF(65536);
    struct kbs_buf leaf_der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_snp_leaf *leaf = NULL;
    struct kbs_snp_chain chain;
    struct kbs_error err = KBS_ERROR_NONE;
    struct scenario s;
    bool taken = true;

    (void)state;
    scenario_init(&s, &genoa);
    endorse(&s, &known);
    snp_pki_leaf(&genoa, &s.leaf, &leaf_der);
    assert_int_equal(kbs_snp_leaf_parse(kbs_buf_span(&leaf_der), &leaf, &err), 0);

    crl_make(&genoa, SNP_PKI_NOW - 2 * 86400, SNP_PKI_ASK_SERIAL, &der); /* older */
    assert_int_equal(kbs_snp_endorsements_renew_crl(known, KBS_SNP_PRODUCT_GENOA,
                                                    KBS_SNP_SIGNER_VCEK, kbs_buf_span(&der), &taken,
                                                    &err),
                     0);
    assert_false(taken);
    crl_make(&other, SNP_PKI_NOW - 3600, SNP_PKI_ASK_SERIAL, &der); /* in the ARK's name */
    assert_int_equal(kbs_snp_endorsements_renew_crl(known, KBS_SNP_PRODUCT_GENOA,
                                                    KBS_SNP_SIGNER_VCEK, kbs_buf_span(&der), &taken,
                                                    &err),
                     -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_int_equal(kbs_snp_endorsements_renew_crl(known, KBS_SNP_PRODUCT_TURIN,
                                                    KBS_SNP_SIGNER_VCEK, kbs_buf_span(&der), &taken,
                                                    &err),
                     -1); /* there is no ARK */
    assert_int_equal(kbs_snp_endorsements_renew_crl(known, KBS_SNP_PRODUCT_GENOA,
                                                    KBS_SNP_SIGNER_VCEK, KBS_SPAN_LIT("x"), &taken,
                                                    &err),
                     -1);
    assert_int_equal(kbs_snp_chain_verify(known, leaf, SNP_PKI_NOW, 0, &chain, &err), 0);
    assert_null(chain.revocation);

    crl_make(&genoa, SNP_PKI_NOW - 3600, SNP_PKI_ASK_SERIAL, &der);
    for (int i = 0; i < 2; i++) { /* once */
        assert_int_equal(kbs_snp_endorsements_renew_crl(known, KBS_SNP_PRODUCT_GENOA,
                                                        KBS_SNP_SIGNER_VCEK, kbs_buf_span(&der),
                                                        &taken, &err),
                         0);
        assert_int_equal(taken, i == 0);
    }
    assert_int_equal(kbs_snp_chain_verify(known, leaf, SNP_PKI_NOW, 0, &chain, &err), 0);
    assert_non_null(chain.revocation);
    kbs_snp_leaf_free(leaf);
    kbs_snp_endorsements_free(known);
    kbs_buf_deinit(&der);
    kbs_buf_deinit(&leaf_der);
}

static void amd_roots_pinned(void **state)
{
    struct kbs_snp_endorsements *known = NULL;

    (void)state;
    milan(&known);
    assert_memory_equal(kbs_snp_endorsements_root(known, KBS_SNP_PRODUCT_MILAN),
                        kbs_snp_roots_amd()->ark[KBS_SNP_PRODUCT_MILAN], KBS_SHA256_BYTES);
    assert_null(kbs_snp_endorsements_root(known, KBS_SNP_PRODUCT_GENOA));
    kbs_snp_endorsements_free(known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutations),
        cmocka_unit_test(bits_by_name),
        cmocka_unit_test(every_check_has_a_row),
        cmocka_unit_test(bytes_flipped),
        cmocka_unit_test(turin_layout),
        cmocka_unit_test(nothing_expected),
        cmocka_unit_test(report_length),
        cmocka_unit_test(der_readers),
        cmocka_unit_test(real_vcek),
        cmocka_unit_test(real_vlek),
        cmocka_unit_test(real_azure),
        cmocka_unit_test(foreign_leaves),
        cmocka_unit_test(amd_roots_pinned),
        cmocka_unit_test(endorsements_refused),
        cmocka_unit_test(shelf),
        cmocka_unit_test(kds_paths),
        cmocka_unit_test(lists_renewed),
    };

    return cmocka_run_group_tests(tests, pkis_make, pkis_free);
}
