kbs_test(unit_parsed SOURCES unit/test_parsed.c LINKS kbs_api LABELS unit)
kbs_test(unit_admin_modes SOURCES unit/test_admin_modes.c LINKS kbs_api kbs_jose_maker LABELS unit)
kbs_test(unit_jose_attacks SOURCES unit/test_jose_attacks.c LINKS kbs_api kbs_jose_maker LABELS unit)

# A real judge between a played front, token and ledger.
add_library(kbs_judge_harness STATIC judge/harness.c judge/signed.c)
kbs_target_defaults(kbs_judge_harness)
target_link_libraries(kbs_judge_harness PUBLIC kbs_channel kbs_store kbs_catalog kbs_dep_sqlite kbs_attest
    kbs_jose_read kbs_jose_write kbs_dep_cmocka)
foreach(part IN ITEMS guest rcar admin resources sign)
    kbs_test(judge_${part} SOURCES judge/test_judge_${part}.c LINKS kbs_judge_harness LABELS judge)
    add_dependencies(judge_${part} kbs-judge)
endforeach()
kbs_test(judge_denial
    SOURCES judge/test_judge_denial.c
    LINKS kbs_judge_harness kbs_jose_maker kbs_http
    LABELS judge TIMEOUT 300)
add_dependencies(judge_denial kbs-judge)
