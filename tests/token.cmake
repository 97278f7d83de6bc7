# kbs-token against real tokens. The same program, one run per token, so that a machine without one of the modules
# skips that one. The leak checker is off: modules keep what they like until the process ends.
foreach(token IN ITEMS softhsm nss mock)
    kbs_test(token-${token}
        SOURCES token/test_token.c token/harness.c
        LINKS kbs_hsm kbs_jose_read kbs_cose_read
        ARGS ${token}
        LABELS token
        TIMEOUT 300
        ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
    add_dependencies(token-${token} kbs-token kbs_mock_p11)
endforeach()

# The same worker behind a module that fails and lies on demand.
add_library(token_fault MODULE token/fault.c)
kbs_target_defaults(token_fault)
target_link_libraries(token_fault PRIVATE kbs_dep_p11kit ${CMAKE_DL_LIBS})
set_target_properties(token_fault PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
kbs_test(token-fault
    SOURCES token/test_fault.c token/harness.c
    LINKS kbs_hsm kbs_jose_read kbs_cose_read
    LABELS token
    TIMEOUT 300
    ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
add_dependencies(token-fault kbs-token token_fault)

# A judge that runs an attacker's code: a real worker, a real kbs-audit behind it.
kbs_test(token-hostile
    SOURCES token/test_hostile.c token/harness.c
    LINKS kbs_hsm kbs_ledger kbs_jose_read kbs_cose_read
    LABELS token
    TIMEOUT 300
    ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
add_dependencies(token-hostile kbs-token kbs-audit)
