# The mock PKCS#11 module (tests/mock/README.md). A test artefact: it is built beside the tests and never installed.
add_library(kbs_mock_p11 MODULE mock/conf.c mock/crypto.c mock/entry.c mock/keys.c mock/object.c mock/operate.c
    mock/script.c mock/session.c mock/store.c)
kbs_target_defaults(kbs_mock_p11)
target_link_libraries(kbs_mock_p11 PRIVATE kbs_dep_p11kit OpenSSL::Crypto)
set_target_properties(kbs_mock_p11 PROPERTIES
    OUTPUT_NAME kbs-mock-p11 LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")

# Every way in which a token can fail, against a real kbs-token: ci/faults runs all of it, the suites the quick part.
add_executable(mock_campaign mock/campaign.c mock/lane.c)
kbs_target_defaults(mock_campaign)
target_link_libraries(mock_campaign PRIVATE kbs_token_harness kbs_cli)
set_target_properties(mock_campaign PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
add_dependencies(mock_campaign kbs-token kbs_mock_p11)
add_test(NAME mock-campaign COMMAND mock_campaign --quick)
kbs_test_properties(mock-campaign token 600 ASAN_OPTIONS=detect_leaks=0)

# The latch of a refused PIN: the unit, and kbsd with it.
kbs_test(unit_pin_latch SOURCES unit/test_pin_latch.c LINKS kbs_base LABELS unit)
kbs_pytest(system_pin_latch PATH mock/test_pin_latch.py LABELS system)
kbs_pytest(system_stuck PATH mock/test_stuck.py LABELS system TIMEOUT 300)
kbs_pytest(system_tls_stuck PATH mock/test_tls_stuck.py LABELS system TIMEOUT 180)
set_tests_properties(system_stuck PROPERTIES PROCESSORS 2) # it compares how busy lanes are

# kbsd for ci/stress.
add_executable(kbsd-stress mock/stress_times.c)
kbs_target_defaults(kbsd-stress)
target_link_libraries(kbsd-stress PRIVATE kbs_supervisor)
set_target_properties(kbsd-stress PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
add_executable(mock_blobs mock/blobs.c)
kbs_target_defaults(mock_blobs)
target_link_libraries(mock_blobs PRIVATE kbs_token_harness)
set_target_properties(mock_blobs PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
add_dependencies(mock_blobs kbs-token kbs_mock_p11)
foreach(token IN ITEMS mock nss softhsm)
    add_test(NAME blobs-${token} COMMAND mock_blobs ${token} 2)
    kbs_test_properties(blobs-${token} token 120 ASAN_OPTIONS=detect_leaks=0)
endforeach()
add_test(NAME stress-kills COMMAND "${KBS_PYTHON}" -B "${CMAKE_CURRENT_SOURCE_DIR}/mock/stress.py" kills 12)
kbs_test_properties(stress-kills system 300)
# Its rate is a matter of ci/stress: a machine may have other work.
add_test(NAME stress-guest
    COMMAND "${KBS_PYTHON}" -B "${CMAKE_CURRENT_SOURCE_DIR}/mock/flood.py" 3 --rate 1)
kbs_test_properties(stress-guest system 300)

# The mock itself, against published vectors and other software.
kbs_test(mock SOURCES mock/test_mock.c LINKS kbs_hsm LABELS token TIMEOUT 120 ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
add_dependencies(mock kbs_mock_p11)
