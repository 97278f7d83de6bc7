kbs_test(unit_agree SOURCES unit/test_agree.c LINKS kbs_agree kbs_dep_jansson LABELS unit)
target_compile_definitions(unit_agree PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")
