kbs_test(unit_seal SOURCES unit/test_seal.c LINKS kbs_seal kbs_jose_read LABELS unit)
kbs_fuzzer(fuzz_jwe SOURCES fuzz/fuzz_jwe.c LINKS kbs_jose_read CORPUS fuzz/corpus/jwe)
