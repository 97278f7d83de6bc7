# kbs-token against real tokens. The same program, one run per token, so that a machine without one of the modules
# skips that one. The leak checker is off: modules keep what they like until the process ends. kryoptic and
# openCryptoki are there after ci/tokens; the latter needs its surroundings.
set(token_kinds softhsm nss kryoptic opencryptoki mock)
set(token_launcher_opencryptoki "${CMAKE_CURRENT_SOURCE_DIR}/token/with-opencryptoki")
foreach(token IN LISTS token_kinds)
    kbs_test(token-${token}
        SOURCES token/test_token.c token/harness.c
        LINKS kbs_hsm kbs_jose_read kbs_cose_read
        LAUNCHER ${token_launcher_${token}}
        ARGS ${token}
        LABELS token
        TIMEOUT 300
        ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
    add_dependencies(token-${token} kbs-token kbs_mock_p11)
    kbs_test(token-secret-${token}
        SOURCES token/test_secret.c token/harness.c
        LINKS kbs_hsm kbs_jose_read kbs_cose_read
        LAUNCHER ${token_launcher_${token}}
        ARGS ${token}
        LABELS token
        TIMEOUT 300
        ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
    add_dependencies(token-secret-${token} kbs-token token_more kbs_mock_p11)
endforeach()

# A module that can more, or less, than the real one behind it; and the ladder, with and without it.
add_library(token_more MODULE token/more.c)
kbs_target_defaults(token_more)
target_link_libraries(token_more PRIVATE kbs_agree kbs_dep_p11kit ${CMAKE_DL_LIBS})
set_target_properties(token_more PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
foreach(token IN LISTS token_kinds)
    kbs_test(token-ladder-${token}
        SOURCES token/test_ladder.c token/harness.c
        LINKS kbs_hsm kbs_jose_read kbs_cose_read
        LAUNCHER ${token_launcher_${token}}
        ARGS ${token}
        LABELS token
        TIMEOUT 300
        ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
    add_dependencies(token-ladder-${token} token_more kbs-token kbs_mock_p11)
endforeach()

# The orders of a key's life, in both storages.
foreach(token IN LISTS token_kinds)
    kbs_test(token-custody-${token}
        SOURCES token/test_custody.c token/harness.c
        LINKS kbs_hsm kbs_jose_read kbs_cose_read
        LAUNCHER ${token_launcher_${token}}
        ARGS ${token}
        LABELS token
        TIMEOUT 300
        ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
    add_dependencies(token-custody-${token} kbs-token kbs_mock_p11)
endforeach()

# Public vectors, in software and through kbs-token's code on each token; prints a table of what was decided.
kbs_test(token_vectors
    SOURCES token/test_vectors.c token/vectors_software.c token/vectors_token.c token/harness.c
    LINKS kbs_hsm kbs_cli kbs_jose_read kbs_cose_read
    LABELS token
    TIMEOUT 300
    ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
target_compile_definitions(token_vectors PRIVATE KBS_VECTORS_DIR="${KBS_VECTORS_DIR}")

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
