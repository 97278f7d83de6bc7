# What ci/bench runs. Not tests: nothing here passes or fails on time.
add_executable(perf_bare perf/bare.c token/harness.c)
target_link_libraries(perf_bare PRIVATE kbs_hsm kbs_jose_read kbs_cose_read kbs_dep_cmocka)
add_executable(perf_load perf/load.c)
target_link_libraries(perf_load PRIVATE OpenSSL::SSL OpenSSL::Crypto)
add_executable(perf_audit_at_once perf/audit_at_once.c)
target_link_libraries(perf_audit_at_once PRIVATE kbs_ledger kbs_channel)
foreach(name IN ITEMS perf_bare perf_load perf_audit_at_once)
    kbs_target_defaults(${name})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
endforeach()
add_custom_target(kbs_bench DEPENDS kbsd kbs-front kbs-judge kbs-token kbs-audit kbs-admin
    perf_bare perf_load perf_audit_at_once)
