kbs_test(unit_rcar SOURCES unit/test_rcar.c LINKS kbs_attest LABELS unit)
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
kbs_test(unit_initdata SOURCES unit/test_initdata.c LINKS kbs_attest_verdict LABELS unit)

kbs_fuzzer(fuzz_snp_report SOURCES fuzz/fuzz_snp_report.c LINKS kbs_attest_snp CORPUS fuzz/corpus/snp_report)
kbs_fuzzer(fuzz_snp_json SOURCES fuzz/fuzz_snp_json.c LINKS kbs_attest_snp CORPUS fuzz/corpus/snp_json)
kbs_fuzzer(fuzz_snp_leaf SOURCES fuzz/fuzz_snp_leaf.c LINKS kbs_attest_snp CORPUS fuzz/corpus/snp_leaf)
kbs_fuzzer(fuzz_initdata SOURCES fuzz/fuzz_initdata.c LINKS kbs_attest_verdict CORPUS fuzz/corpus/initdata)
kbs_fuzzer(fuzz_reference SOURCES fuzz/fuzz_reference.c LINKS kbs_attest CORPUS fuzz/corpus/reference)

# Evidence for suites that start real programs.
add_executable(snp_make attest/snp_make.c)
kbs_target_defaults(snp_make)
target_link_libraries(snp_make PRIVATE kbs_snp_pki)
set_target_properties(snp_make PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
