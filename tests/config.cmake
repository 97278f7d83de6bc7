kbs_test(unit_config SOURCES unit/test_config.c LINKS kbs_config LABELS unit)
