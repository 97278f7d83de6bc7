# src/front: the real executable between a played kbsd and played judges. kbs-front-fast is the same program with short
# timeouts, for the tests that must see them pass; it is not installed.
kbs_executable(kbs-front-fast
    SOURCES ${CMAKE_SOURCE_DIR}/src/front/main.c ${CMAKE_SOURCE_DIR}/src/front/startup.c front/timeouts_fast.c
    LINKS kbs_front_core)
set_target_properties(kbs-front-fast PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
kbs_pytest(test_front PATH front/test_front.py LABELS front TIMEOUT 300)
