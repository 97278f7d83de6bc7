kbs_test(unit_wire SOURCES unit/test_wire.c LINKS kbs_channel LABELS unit)
kbs_fuzzer(fuzz_wire_decode SOURCES fuzz/fuzz_wire_decode.c LINKS kbs_wire CORPUS fuzz/corpus/wire_decode)
kbs_fuzzer(fuzz_wire_encode SOURCES fuzz/fuzz_wire_encode.c LINKS kbs_wire CORPUS fuzz/corpus/wire_encode)
