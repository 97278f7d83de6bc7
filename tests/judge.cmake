kbs_test(unit_parsed SOURCES unit/test_parsed.c LINKS kbs_api LABELS unit)
foreach(part IN ITEMS guest rcar admin resources)
    kbs_test(judge_${part}
        SOURCES judge/test_judge_${part}.c judge/harness.c judge/signed.c
        LINKS kbs_channel kbs_store kbs_catalog kbs_dep_sqlite kbs_attest kbs_jose_read kbs_jose_write
        LABELS judge)
    add_dependencies(judge_${part} kbs-judge)
endforeach()
