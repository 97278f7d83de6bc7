kbs_test(test_rcar SOURCES unit/test_rcar.c LINKS kbs_attest LABELS unit)
kbs_test(test_ear SOURCES unit/test_ear.c LINKS kbs_attest LABELS unit)
target_compile_definitions(test_ear PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")

kbs_fuzzer(fuzz_rcar SOURCES fuzz/fuzz_rcar.c LINKS kbs_attest CORPUS fuzz/corpus/rcar)
