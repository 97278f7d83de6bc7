kbs_test(unit_rcar SOURCES unit/test_rcar.c LINKS kbs_attest LABELS unit)
kbs_test(unit_proof SOURCES unit/test_proof.c LINKS kbs_attest kbs_seal kbs_jose_read LABELS unit)
kbs_fuzzer(fuzz_proof SOURCES fuzz/fuzz_proof.c LINKS kbs_attest CORPUS fuzz/corpus/proof)
kbs_test(unit_ear SOURCES unit/test_ear.c LINKS kbs_attest LABELS unit)
target_compile_definitions(unit_ear PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")

kbs_test(unit_appraise SOURCES unit/test_appraise.c LINKS kbs_attest LABELS unit)

kbs_fuzzer(fuzz_rcar SOURCES fuzz/fuzz_rcar.c LINKS kbs_attest CORPUS fuzz/corpus/rcar)

# A PKI of AMD's shape; never installed.
add_library(kbs_snp_pki STATIC attest/snp_pki.c attest/snp_json.c)
kbs_target_defaults(kbs_snp_pki)
target_link_libraries(kbs_snp_pki PUBLIC kbs_attest_snp OpenSSL::Crypto)

kbs_test(unit_snp SOURCES attest/test_snp.c LINKS kbs_snp_pki LABELS unit)
target_compile_definitions(unit_snp PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
kbs_test(unit_snp_evidence SOURCES attest/test_snp_evidence.c LINKS kbs_snp_pki LABELS unit)
target_compile_definitions(unit_snp_evidence PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
kbs_test(unit_report_data SOURCES attest/test_report_data.c LINKS kbs_attest LABELS unit)
target_compile_definitions(unit_report_data PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
kbs_test(unit_initdata SOURCES unit/test_initdata.c LINKS kbs_attest_verdict LABELS unit)

kbs_fuzzer(fuzz_snp_report SOURCES fuzz/fuzz_snp_report.c LINKS kbs_attest_snp CORPUS fuzz/corpus/snp_report)
kbs_fuzzer(fuzz_snp_json SOURCES fuzz/fuzz_snp_json.c LINKS kbs_attest_snp CORPUS fuzz/corpus/snp_json)
kbs_fuzzer(fuzz_snp_leaf SOURCES fuzz/fuzz_snp_leaf.c LINKS kbs_attest_snp CORPUS fuzz/corpus/snp_leaf)
kbs_fuzzer(fuzz_initdata SOURCES fuzz/fuzz_initdata.c LINKS kbs_attest_verdict CORPUS fuzz/corpus/initdata)
kbs_fuzzer(fuzz_quote SOURCES fuzz/fuzz_quote.c LINKS kbs_attest CORPUS fuzz/corpus/quote)
kbs_fuzzer(fuzz_cca SOURCES fuzz/fuzz_cca.c LINKS kbs_cose_read CORPUS fuzz/corpus/cca)
kbs_fuzzer(fuzz_report_data SOURCES fuzz/fuzz_report_data.c LINKS kbs_attest CORPUS fuzz/corpus/report_data)
kbs_fuzzer(fuzz_reference SOURCES fuzz/fuzz_reference.c LINKS kbs_attest CORPUS fuzz/corpus/reference)

# Evidence for suites that start real programs.
add_executable(snp_make attest/snp_make.c)
kbs_target_defaults(snp_make)
target_link_libraries(snp_make PRIVATE kbs_snp_pki)
set_target_properties(snp_make PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")

kbs_test(unit_delegate SOURCES unit/test_delegate.c LINKS kbs_attest_delegate LABELS unit)
kbs_fuzzer(fuzz_grpc SOURCES fuzz/fuzz_grpc.c LINKS kbs_attest_delegate CORPUS fuzz/corpus/grpc)

# Issuers of attestation tokens, and every one of them times every defect.
add_library(kbs_issuer_mint STATIC attest/issuer/mint.c)
kbs_target_defaults(kbs_issuer_mint)
target_link_libraries(kbs_issuer_mint PUBLIC kbs_attest_issuer kbs_jose_maker)
kbs_test(unit_issuers SOURCES attest/issuer/test_issuers.c LINKS kbs_issuer_mint LABELS unit)
kbs_test(unit_issuer_profiles SOURCES attest/issuer/test_profiles.c LINKS kbs_issuer_mint LABELS unit)
target_compile_definitions(unit_issuer_profiles PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
kbs_fuzzer(fuzz_issuer SOURCES fuzz/fuzz_issuer.c LINKS kbs_attest_issuer CORPUS fuzz/corpus/issuer)
kbs_fuzzer(fuzz_x5c SOURCES fuzz/fuzz_x5c.c LINKS kbs_jose_read CORPUS fuzz/corpus/x5c)
