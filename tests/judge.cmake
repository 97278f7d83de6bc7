kbs_test(unit_parsed SOURCES unit/test_parsed.c LINKS kbs_api LABELS unit)
kbs_test(unit_admin_modes SOURCES unit/test_admin_modes.c jose/maker.c LINKS kbs_api LABELS unit)
kbs_test(unit_jose_attacks SOURCES unit/test_jose_attacks.c jose/maker.c LINKS kbs_api LABELS unit)
foreach(part IN ITEMS guest rcar admin resources fetch)
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
# The same judge, but it finds no report data in evidence: for tests that have to see what that is good for.
kbs_executable(kbs-judge-blind
    SOURCES ${CMAKE_SOURCE_DIR}/src/judge/main.c ${CMAKE_SOURCE_DIR}/src/judge/judge.c ${CMAKE_SOURCE_DIR}/src/judge/snp.c
        ${CMAKE_SOURCE_DIR}/src/judge/issuers.c attestation_services/blind.c
    LINKS kbs_base kbs_role kbs_confine kbs_wire kbs_channel kbs_store kbs_api kbs_attest_snp kbs_attest_issuer)
target_link_options(kbs-judge-blind PRIVATE LINKER:--wrap=kbs_report_data_check)
set_target_properties(kbs-judge-blind PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
kbs_pytest(attestation_services PATH attestation_services/test_delegated.py LABELS system TIMEOUT 600)
kbs_test(judge_passport
    SOURCES judge/test_judge_passport.c judge/harness.c judge/signed.c attest/issuer/mint.c jose/maker.c
    LINKS kbs_channel kbs_store kbs_catalog kbs_dep_sqlite kbs_attest_issuer kbs_jose_read kbs_jose_write
    LABELS judge)
add_dependencies(judge_passport kbs-judge)
