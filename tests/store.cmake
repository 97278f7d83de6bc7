kbs_test(unit_catalog SOURCES unit/test_catalog.c LINKS kbs_catalog LABELS unit)
kbs_test(unit_store SOURCES unit/test_store.c LINKS kbs_store LABELS unit)
