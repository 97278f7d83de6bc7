kbs_test(unit_json SOURCES unit/test_json.c LINKS kbs_jose_read LABELS unit)
kbs_test(unit_jose_read SOURCES unit/test_jose_read.c LINKS kbs_jose_read LABELS unit)
kbs_test(unit_jwt SOURCES unit/test_jwt.c jose/maker.c LINKS kbs_jose_read LABELS unit)
foreach(test IN ITEMS unit_json unit_jose_read)
    target_compile_definitions(${test} PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
endforeach()

kbs_fuzzer(fuzz_json SOURCES fuzz/fuzz_json.c LINKS kbs_jose_read CORPUS fuzz/corpus/json)
kbs_fuzzer(fuzz_jws SOURCES fuzz/fuzz_jws.c LINKS kbs_jose_read CORPUS fuzz/corpus/jws)
