kbs_test(unit_jose_write SOURCES unit/test_jose_write.c LINKS kbs_jose_write LABELS unit)
