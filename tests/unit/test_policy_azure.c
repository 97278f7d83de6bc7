/*
 * Policies as Azure documents them (Secure Key Release: policy grammar, examples for SGX, for
 * confidential VMs with SEV-SNP and TDX, and for confidential containers) over claims as Microsoft Azure Attestation
 * names them: each releases to the guest that it is written for and to none of the others. Policies
 * have the documentation's members and values; claims its names, with values of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "policy/release.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define US "https://kbs.example"
#define EUS2 "https://sharedeus2.eus2.attest.azure.net"
#define WEU "https://sharedweu.weu.attest.azure.net"
#define WEU2 "https://sharedeus2.weu2.attest.azure.net"
#define WUS "https://fabrikam1.wus.attest.azure.net"

#define MRSIGNER "9fa48b1629bd246a1de3d38fb7df97f6554cd65d6b3b72e85b86848ae6b578ba"
#define MRENCLAVE "9fa48b1629bg677jfsaawed7772e85b86848ae6b578ba" /* as it is documented */
#define HOSTDATA "532eaabd9574880dbf76b9b8cc00832c20a6ec113d682299550d7a6e0f345e25"
#define VMID "B958DC88-E41D-47F1-8D20-E57B6B7E9825"

/* ---- claims ---- */

struct claims {
    const char *name;
    const char *authority;
    const char *vouched;
};

#define SGX(debug, signer, enclave, svn)                                                        \
    "{\"iss\":\"" EUS2 "\",\"x-ms-ver\":\"1.0\",\"x-ms-attestation-type\":\"sgx\","             \
    "\"tee\":\"sgx\",\"x-ms-sgx-is-debuggable\":" debug ",\"x-ms-sgx-mrsigner\":\"" signer      \
    "\",\"x-ms-sgx-mrenclave\":\"" enclave "\",\"x-ms-sgx-product-id\":1,\"x-ms-sgx-svn\":" svn \
    ",\"x-ms-sgx-report-data\":\"00\",\"x-ms-sgx-collateral\":{\"quotehash\":\"00\"}}"
#define SNP(iss, status, host_data)                                                     \
    "{\"iss\":\"" iss "\",\"x-ms-ver\":\"1.0\",\"x-ms-attestation-type\":\"sevsnpvm\"," \
    "\"x-ms-compliance-status\":\"" status "\",\"x-ms-sevsnpvm-is-debuggable\":false,"  \
    "\"x-ms-sevsnpvm-vmpl\":0,\"x-ms-sevsnpvm-hostdata\":\"" host_data "\","            \
    "\"x-ms-sevsnpvm-guestsvn\":8,\"x-ms-sevsnpvm-microcode-svn\":115,"                 \
    "\"x-ms-runtime\":{\"keys\":[{\"kid\":\"HCLTransferKey\"}],"                        \
    "\"vm-configuration\":{\"secure-boot\":true,\"tpm-enabled\":true}}}"
#define TDX(debug, status)                                                                       \
    "{\"iss\":\"" WEU "\",\"x-ms-ver\":\"1.0\",\"x-ms-attestation-type\":\"tdxvm\","             \
    "\"x-ms-compliance-status\":\"azure-compliant-cvm\",\"attester_tcb_status\":\"" status "\"," \
    "\"dbgstat\":\"disabled\",\"eat_profile\":\"https://aka.ms/maa-eat-profile-tdxvm\","         \
    "\"tdx_mrtd\":\"5b\",\"tdx_seamsvn\":3,\"tdx_td_attributes_debug\":" debug "}"
#define CVM(tee, vm)                                                                            \
    "{\"iss\":\"" WEU "\",\"x-ms-ver\":\"1.0\",\"x-ms-attestation-type\":\"azurevm\","          \
    "\"secureboot\":true,\"x-ms-azurevm-vmid\":\"" vm "\",\"x-ms-isolation-tee\":{"             \
    "\"x-ms-attestation-type\":\"" tee "\",\"x-ms-compliance-status\":\"azure-compliant-cvm\"," \
    "\"x-ms-runtime\":{\"keys\":[{\"kid\":\"HCLAkPub\"}],"                                      \
    "\"vm-configuration\":{\"vmUniqueId\":\"" vm "\"}}}}"

enum guest {
    SGX_GOOD,
    SGX_OLD,
    SGX_OTHER,
    SGX_DEBUG,
    SNP_VM,
    SNP_VM_ELSEWHERE,
    SNP_CONTAINER,
    SNP_CONTAINER_OTHER,
    TDX_VM,
    TDX_OLD,
    TDX_DEBUG,
    CVM_SNP,
    CVM_SNP_OTHER,
    CVM_TDX,
    CVM_NONE,
    GUEST_COUNT
};

static const struct claims guests[GUEST_COUNT] = {
    [SGX_GOOD] = {"sgx", EUS2, SGX("false", MRSIGNER, MRENCLAVE, "2")},
    [SGX_OLD] = {"sgx, SVN 1", EUS2, SGX("false", MRSIGNER, MRENCLAVE, "1")},
    [SGX_OTHER] = {"sgx, other enclave", EUS2, SGX("false", MRSIGNER, "00", "2")},
    [SGX_DEBUG] = {"sgx, debug", EUS2, SGX("true", MRSIGNER, MRENCLAVE, "2")},
    [SNP_VM] = {"snp", WEU, SNP(WEU, "azure-compliant-cvm", "00")},
    [SNP_VM_ELSEWHERE] = {"snp, other MAA", WUS, SNP(WUS, "azure-compliant-cvm", "00")},
    [SNP_CONTAINER] = {"snp container", WUS, SNP(WUS, "azure-compliant-uvm", HOSTDATA)},
    [SNP_CONTAINER_OTHER] = {"snp container, other", WUS, SNP(WUS, "azure-compliant-uvm", "00")},
    [TDX_VM] = {"tdx", WEU, TDX("false", "UpToDate")},
    [TDX_OLD] = {"tdx, old TCB", WEU, TDX("false", "OutOfDate")},
    [TDX_DEBUG] = {"tdx, debug", WEU, TDX("true", "UpToDate")},
    [CVM_SNP] = {"cvm on snp", WEU, CVM("sevsnpvm", VMID)},
    [CVM_SNP_OTHER] = {"cvm on snp, other VM", WEU, CVM("sevsnpvm", "0")},
    [CVM_TDX] = {"cvm on tdx", WEU, CVM("tdxvm", VMID)},
    [CVM_NONE] = {"vm without a TEE", WEU,
                  "{\"iss\":\"" WEU "\",\"x-ms-attestation-type\":\"azurevm\"}"},
};

/* ---- policies ---- */

#define IS(claim, value) "{\"claim\":\"" claim "\",\"equals\":" value "}"
#define ENTRY(authority, conditions) "{\"authority\":\"" authority "\",\"allOf\":[" conditions "]}"
#define POLICY(entries) "{\"anyOf\":[" entries "],\"version\":\"1.0.0\"}"

#define SNP_CVM                                 \
    IS("x-ms-attestation-type", "\"sevsnpvm\"") \
    "," IS("x-ms-compliance-status", "\"azure-compliant-cvm\"")
#define ISOLATED(tee)                                             \
    IS("x-ms-isolation-tee.x-ms-attestation-type", "\"" tee "\"") \
    "," IS("x-ms-isolation-tee.x-ms-compliance-status", "\"azure-compliant-cvm\"")

static const struct {
    const char *name;
    const char *policy;
    uint32_t allowed; /* bits of enum guest */
} policies[] = {
    {"SGX 1: signer", POLICY(ENTRY(EUS2, IS("x-ms-sgx-mrsigner", "\"" MRSIGNER "\""))),
     1u << SGX_GOOD | 1u << SGX_OLD | 1u << SGX_OTHER | 1u << SGX_DEBUG},
    {"SGX 2: signer and enclave",
     POLICY(ENTRY(EUS2, IS("x-ms-sgx-mrsigner", "\"" MRSIGNER "\"") "," IS("x-ms-sgx-mrenclave",
                                                                           "\"" MRENCLAVE "\""))),
     1u << SGX_GOOD | 1u << SGX_OLD | 1u << SGX_DEBUG},
    {"SGX 3: and a least SVN",
     POLICY(ENTRY(EUS2, IS("x-ms-sgx-mrsigner", "\"" MRSIGNER "\"") "," IS(
                            "x-ms-sgx-mrenclave",
                            "\"" MRENCLAVE "\"") ",{\"claim\":\"x-ms-sgx-svn\",\"greater\":1}")),
     1u << SGX_GOOD | 1u << SGX_DEBUG},
    {"SGX, not debuggable",
     POLICY(ENTRY(EUS2, IS("x-ms-sgx-is-debuggable",
                           "false") ",{\"claim\":\"x-ms-sgx-svn\",\"greaterOrEquals\":2},"
                                    "{\"claim\":\"x-ms-sgx-product-id\",\"greaterOrEquals\":1}")),
     1u << SGX_GOOD | 1u << SGX_OTHER},
    {"SNP 1: two regions", POLICY(ENTRY(WEU, SNP_CVM) "," ENTRY(WEU2, SNP_CVM)), 1u << SNP_VM},
    {"SNP 2: one VM, in an allOf",
     "{\"version\":\"1.0.0\",\"allOf\":[" ENTRY(
         WEU, ISOLATED("sevsnpvm") "," IS("x-ms-azurevm-vmid", "\"" VMID "\"")) "]}",
     1u << CVM_SNP},
    {"the concept's: nested claims", POLICY(ENTRY(WEU, ISOLATED("sevsnpvm"))),
     1u << CVM_SNP | 1u << CVM_SNP_OTHER},
    {"nested deeper",
     POLICY(ENTRY(
         WEU, IS("x-ms-isolation-tee.x-ms-runtime.vm-configuration.vmUniqueId", "\"" VMID "\""))),
     1u << CVM_SNP | 1u << CVM_TDX},
    {"CVM on TDX", POLICY(ENTRY(WEU, ISOLATED("tdxvm"))), 1u << CVM_TDX},
    {"the default of confidential VMs: a nested anyOf",
     POLICY(
         "{\"allOf\":[" IS("x-ms-compliance-status", "\"azure-compliant-cvm\"") ",{\"anyOf\":[" IS(
             "x-ms-attestation-type", "\"sevsnpvm\"") "," IS("x-ms-attestation-type",
                                                             "\"tdxvm\"") "]}],\"authority\":\"" WEU
                                                                          "\"}"),
     1u << SNP_VM | 1u << TDX_VM | 1u << TDX_OLD | 1u << TDX_DEBUG},
    {"TDX by its own claims",
     POLICY(ENTRY(WEU, IS("x-ms-attestation-type", "\"tdxvm\"") "," IS(
                           "tdx_td_attributes_debug", "false") "," IS("attester_tcb_status",
                                                                      "\"UpToDate\""))),
     1u << TDX_VM},
    {"containers 1: host data",
     POLICY(ENTRY(
         WUS, IS("x-ms-attestation-type", "\"sevsnpvm\"") "," IS(
                  "x-ms-compliance-status",
                  "\"azure-compliant-uvm\"") "," IS("x-ms-sevsnpvm-hostdata", "\"" HOSTDATA "\""))),
     1u << SNP_CONTAINER},
    /* our spelling of the same: names may be quoted */
    {"quoted names",
     POLICY(ENTRY(WEU,
                  IS("\\\"x-ms-isolation-tee\\\".\\\"x-ms-attestation-type\\\"", "\"sevsnpvm\""))),
     1u << CVM_SNP | 1u << CVM_SNP_OTHER},
    {"a name with a dot in it is no path",
     POLICY(ENTRY(WEU, IS("\\\"x-ms-isolation-tee.x-ms-attestation-type\\\"", "\"sevsnpvm\""))), 0},
    {"arrays are not walked into",
     POLICY(ENTRY(WEU, IS("x-ms-runtime.keys.kid", "\"HCLTransferKey\""))), 0},
    {"text for a boolean", POLICY(ENTRY(EUS2, IS("x-ms-sgx-is-debuggable", "\"false\""))), 0},
    {"an authority that nobody is",
     POLICY(ENTRY("https://tradewinds.us.attest.azure.net", "{\"claim\":\"iss\",\"exists\":true}")),
     0},
};

static void documented(void **state)
{
    KBS_AUTO_JSON input = json_pack("{s:s}", "iss", US);
    struct kbs_error err;

    (void)state;
    for (size_t p = 0; p < COUNT(policies); p++) {
        for (size_t g = 0; g < GUEST_COUNT; g++) {
            KBS_AUTO_JSON vouched = json_loads(guests[g].vouched, JSON_REJECT_DUPLICATES, NULL);
            const struct kbs_policy_subject subject = {
                .input = input, .authority = kbs_span_str(guests[g].authority), .vouched = vouched};
            bool allowed = false;

            assert_non_null(vouched);
            allowed = kbs_policy_decide(kbs_span_str(policies[p].policy), &subject, &err) == 0;
            if (!allowed && err.category != KBS_DENIED) {
                fail_msg("%s: %s", policies[p].name, err.detail);
            }
            if (allowed != ((policies[p].allowed >> g & 1) != 0)) {
                fail_msg("%s %s %s", policies[p].name, allowed ? "allows" : "denies",
                         guests[g].name);
            }
        }
    }
    print_message("%zu policies, %d guests: as documented\n", COUNT(policies), GUEST_COUNT);
}

/* The same claims in a guest's own token are not the authority's. */
static void only_what_the_authority_said(void **state)
{
    struct kbs_error err;

    (void)state;
    for (size_t p = 0; p < COUNT(policies); p++) {
        for (size_t g = 0; g < GUEST_COUNT; g++) {
            KBS_AUTO_JSON claims = json_loads(guests[g].vouched, 0, NULL);

            assert_int_equal(json_object_set_new(claims, "iss", json_string(US)), 0);
            const struct kbs_policy_subject subject = {.input = claims};
            assert_int_equal(kbs_policy_decide(kbs_span_str(policies[p].policy), &subject, &err),
                             -1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented),
        cmocka_unit_test(only_what_the_authority_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
