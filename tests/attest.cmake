kbs_test(unit_rcar SOURCES unit/test_rcar.c LINKS kbs_attest LABELS unit)
kbs_test(unit_ear SOURCES unit/test_ear.c LINKS kbs_attest LABELS unit)
target_compile_definitions(unit_ear PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")

kbs_fuzzer(fuzz_rcar SOURCES fuzz/fuzz_rcar.c LINKS kbs_attest CORPUS fuzz/corpus/rcar)
