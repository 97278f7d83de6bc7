kbs_test(unit_parsed SOURCES unit/test_parsed.c LINKS kbs_api LABELS unit)
kbs_test(unit_admin_modes SOURCES unit/test_admin_modes.c jose/maker.c LINKS kbs_api LABELS unit)
kbs_test(unit_jose_attacks SOURCES unit/test_jose_attacks.c jose/maker.c LINKS kbs_api LABELS unit)
foreach(part IN ITEMS guest rcar admin resources appraise)
    kbs_test(judge_${part}
        SOURCES judge/test_judge_${part}.c judge/harness.c judge/signed.c
        LINKS kbs_channel kbs_store kbs_catalog kbs_dep_sqlite kbs_attest kbs_jose_read kbs_jose_write
        LABELS judge)
    add_dependencies(judge_${part} kbs-judge)
endforeach()
kbs_test(judge_denial
    SOURCES judge/test_judge_denial.c judge/harness.c judge/signed.c jose/maker.c
    LINKS kbs_channel kbs_store kbs_catalog kbs_dep_sqlite kbs_attest kbs_jose_read kbs_jose_write kbs_http
    LABELS judge TIMEOUT 300)
add_dependencies(judge_denial kbs-judge)
