kbs_test(unit_rcar SOURCES unit/test_rcar.c LINKS kbs_attest LABELS unit)
kbs_test(unit_ear SOURCES unit/test_ear.c LINKS kbs_attest LABELS unit)
target_compile_definitions(unit_ear PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")

kbs_fuzzer(fuzz_rcar SOURCES fuzz/fuzz_rcar.c LINKS kbs_attest CORPUS fuzz/corpus/rcar)

# A PKI of AMD's shape; never installed.
add_library(kbs_snp_pki STATIC attest/snp_pki.c)
kbs_target_defaults(kbs_snp_pki)
target_link_libraries(kbs_snp_pki PUBLIC kbs_attest_snp OpenSSL::Crypto)

kbs_test(unit_snp SOURCES attest/test_snp.c LINKS kbs_snp_pki LABELS unit)
target_compile_definitions(unit_snp PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
