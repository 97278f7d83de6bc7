# kbs-token against real tokens. The same program, one run per token, so that a machine without one of the modules
# skips that one. The leak checker is off: modules keep what they like until the process ends. kryoptic and
# openCryptoki are there after ci/tokens; the latter needs its surroundings.
set(token_kinds softhsm nss kryoptic opencryptoki mock)
set(token_launcher_opencryptoki "${CMAKE_CURRENT_SOURCE_DIR}/token/with-opencryptoki")

# A real worker, and token folders: what every program here begins with.
add_library(kbs_token_harness STATIC token/harness.c)
kbs_target_defaults(kbs_token_harness)
target_link_libraries(kbs_token_harness PUBLIC kbs_hsm kbs_receipt_read kbs_jose_read kbs_cose_read kbs_dep_cmocka)

# kbs_token_matrix(NAME SOURCE): one program, run on every kind, as NAME-KIND.
function(kbs_token_matrix name source)
    kbs_test_program(${name} SOURCES ${source} LINKS kbs_token_harness)
    add_dependencies(${name} kbs-token token_more kbs_mock_p11)
    foreach(token IN LISTS token_kinds)
        kbs_test_run(${name}-${token}
            PROGRAM ${name}
            LAUNCHER ${token_launcher_${token}}
            ARGS ${token}
            LABELS token
            TIMEOUT 300
            ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
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
kbs_token_matrix(token-receipt token/test_receipt.c)
kbs_token_matrix(token-sign token/test_sign.c)

# Public vectors, in software and through kbs-token's code on each token; prints a table of what was decided.
kbs_test(token_vectors
    SOURCES token/test_vectors.c token/vectors_software.c token/vectors_token.c
    LINKS kbs_token_harness kbs_cli
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
    SOURCES token/test_fault.c
    LINKS kbs_token_harness
    LABELS token
    TIMEOUT 300
    ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
add_dependencies(token-fault kbs-token token_fault)

# A judge that runs an attacker's code: a real worker, a real kbs-audit behind it.
kbs_test(token-hostile
    SOURCES token/test_hostile.c
    LINKS kbs_token_harness kbs_ledger
    LABELS token
    TIMEOUT 300
    ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
add_dependencies(token-hostile kbs-token kbs-audit)
