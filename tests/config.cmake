kbs_test(unit_config SOURCES unit/test_config.c LINKS kbs_config LABELS unit)
kbs_pytest(config_trustee PATH config/test_trustee.py LABELS unit)
kbs_fuzzer(fuzz_config SOURCES fuzz/fuzz_config.c LINKS kbs_config CORPUS fuzz/corpus/config)
kbs_pytest(config_docs PATH config/test_docs.py LABELS unit)
