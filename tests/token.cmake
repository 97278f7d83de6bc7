# kbs-token against real tokens. The same program, one run per token, so that a machine without one of the modules
# skips that one. The leak checker is off: modules keep what they like until the process ends. kryoptic and
# openCryptoki are there after ci/tokens; the latter needs its surroundings.
set(token_kinds softhsm nss kryoptic opencryptoki mock)
set(token_launcher_opencryptoki "${CMAKE_CURRENT_SOURCE_DIR}/token/with-opencryptoki")

# kbs_token_matrix(NAME SOURCE): the suite on every kind, as NAME-KIND.
function(kbs_token_matrix name source)
    foreach(token IN LISTS token_kinds)
        kbs_test(${name}-${token}
            SOURCES ${source} token/harness.c
            LINKS kbs_hsm kbs_jose_read kbs_cose_read
            LAUNCHER ${token_launcher_${token}}
            ARGS ${token}
            LABELS token
            TIMEOUT 300
            ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
        add_dependencies(${name}-${token} kbs-token token_more kbs_mock_p11)
    endforeach()
endfunction()

# A module that can more, or less, than the real one behind it.
add_library(token_more MODULE token/more.c)
kbs_target_defaults(token_more)
target_link_libraries(token_more PRIVATE kbs_agree kbs_dep_p11kit ${CMAKE_DL_LIBS})
set_target_properties(token_more PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")

kbs_token_matrix(token token/test_token.c)
kbs_token_matrix(token-secret token/test_secret.c)
kbs_token_matrix(token-ladder token/test_ladder.c)
kbs_token_matrix(token-custody token/test_custody.c) # the orders of a key's life, in both storages
kbs_token_matrix(token-nek token/test_nek.c)

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
