kbs_test(unit_base SOURCES unit/test_base.c LINKS kbs_base LABELS unit)
