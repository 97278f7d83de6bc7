# src/front: the real executable between a played kbsd and played judges. kbs-front-fast is the same program with short
# timeouts, for the tests that must see them pass; it is not installed.
kbs_executable(kbs-front-fast
    SOURCES ${CMAKE_SOURCE_DIR}/src/front/main.c ${CMAKE_SOURCE_DIR}/src/front/startup.c front/timeouts_fast.c
    LINKS kbs_front_core)
set_target_properties(kbs-front-fast PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
kbs_test(unit_sources SOURCES unit/test_sources.c LINKS kbs_front_core LABELS unit)
kbs_pytest(test_front PATH front/test_front.py LABELS front TIMEOUT 300)
# The byte strings of unit_http over sockets; the unit test prints them.
kbs_pytest(test_front_desync PATH front/test_desync.py LABELS front TIMEOUT 600)
kbs_pytest(test_front_relay PATH front/test_relay.py LABELS front TIMEOUT 300)
# What ci/tls-scan makes of what other people's scanners say.
kbs_pytest(tls_scan PATH tls/test_scan.py LABELS unit)
