kbs_fuzzer(fuzz_approval SOURCES fuzz/fuzz_approval.c LINKS kbs_api CORPUS fuzz/corpus/approval)
kbs_test(unit_parsed SOURCES unit/test_parsed.c LINKS kbs_api LABELS unit)
kbs_test(unit_subject SOURCES unit/test_subject.c LINKS kbs_api LABELS unit)
kbs_test(unit_admin_modes SOURCES unit/test_admin_modes.c LINKS kbs_api kbs_jose_maker LABELS unit)
kbs_test(unit_jose_attacks SOURCES unit/test_jose_attacks.c LINKS kbs_api kbs_jose_maker LABELS unit)

# A real judge between a played front, token and ledger.
add_library(kbs_judge_harness STATIC judge/harness.c judge/signed.c policy/policy_process.c)
kbs_target_defaults(kbs_judge_harness)
target_link_libraries(kbs_judge_harness PUBLIC kbs_channel kbs_store kbs_catalog kbs_dep_sqlite kbs_attest
    kbs_jose_read kbs_jose_write kbs_dep_cmocka)
foreach(part IN ITEMS guest rcar admin resources release sign govern fetch appraise keeps receipt alias tls_key)
    kbs_test(judge_${part} SOURCES judge/test_judge_${part}.c LINKS kbs_judge_harness LABELS judge)
    add_dependencies(judge_${part} kbs-judge)
endforeach()
kbs_test(judge_protect SOURCES judge/test_judge_protect.c LINKS kbs_judge_harness kbs_seal LABELS judge)
add_dependencies(judge_protect kbs-judge)
kbs_test(judge_denial
    SOURCES judge/test_judge_denial.c
    LINKS kbs_judge_harness kbs_jose_maker kbs_http
    LABELS judge TIMEOUT 300)
add_dependencies(judge_denial kbs-judge)
# The same judge, but it finds no report data in evidence: for tests that have to see what that is good for.
kbs_executable(kbs-judge-blind
    SOURCES $<TARGET_OBJECTS:kbs-judge> attestation_services/blind.c
    LINKS kbs_base kbs_role kbs_confine kbs_wire kbs_channel kbs_store kbs_api kbs_attest_snp kbs_attest_issuer)
target_link_options(kbs-judge-blind PRIVATE LINKER:--wrap=kbs_report_data_check)
set_target_properties(kbs-judge-blind PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
kbs_pytest(attestation_services PATH attestation_services/test_delegated.py LABELS system TIMEOUT 600)
kbs_test(judge_passport
    SOURCES judge/test_judge_passport.c
    LINKS kbs_judge_harness kbs_issuer_mint
    LABELS judge)
add_dependencies(judge_passport kbs-judge)
# The matrix of denials asks policies in Rego, where there is an engine for them.
if(TARGET kbs-policy)
    add_dependencies(judge_release kbs-policy)
endif()
