# Confinement: the real roles with an attacker in them (tests/escape/hostile.c), a kbsd that starts them again at once,
# and a kernel without walls. None of them is installed.
function(kbs_escape_executable name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
    kbs_executable(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
endfunction()

add_library(kbs_hostile OBJECT escape/hostile.c)
kbs_target_defaults(kbs_hostile)
kbs_escape_executable(kbs-front-hostile
    SOURCES $<TARGET_OBJECTS:kbs-front> $<TARGET_OBJECTS:kbs_hostile>
    LINKS kbs_front_core -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-judge-hostile
    SOURCES $<TARGET_OBJECTS:kbs-judge> $<TARGET_OBJECTS:kbs_hostile>
    LINKS kbs_base kbs_role kbs_confine kbs_wire kbs_channel kbs_store kbs_api kbs_attest_snp -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-token-hostile
    SOURCES $<TARGET_OBJECTS:kbs-token> $<TARGET_OBJECTS:kbs_hostile>
    LINKS kbs_hsm -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-audit-hostile
    SOURCES $<TARGET_OBJECTS:kbs-audit> $<TARGET_OBJECTS:kbs_hostile>
    LINKS kbs_ledger kbs_role kbs_confine kbs_channel -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-fetch-hostile
    SOURCES $<TARGET_OBJECTS:kbs-fetch> $<TARGET_OBJECTS:kbs_hostile>
    LINKS kbs_courier kbs_role kbs_confine kbs_channel -Wl,--wrap=kbs_confine)
if(KBS_REGO)
    kbs_escape_executable(kbs-policy-hostile
        SOURCES $<TARGET_OBJECTS:kbs-policy> $<TARGET_OBJECTS:kbs_hostile>
        LINKS kbs_rego_worker kbs_role kbs_confine kbs_channel -Wl,--wrap=kbs_confine)
endif()
kbs_escape_executable(kbs-front-attack
    SOURCES $<TARGET_OBJECTS:kbs-front> escape/hostile_front.c
    LINKS kbs_front_core -Wl,--wrap=kbs_confine,--wrap=kbs_lanes_attach,--wrap=kbs_lanes_submit,--wrap=uv_run)
kbs_escape_executable(kbsd-escape SOURCES escape/times.c LINKS kbs_supervisor)
kbs_escape_executable(nowalls SOURCES escape/nowalls.c LINKS kbs_dep_seccomp)

# Not with sanitizers: the attempts themselves. They are made by hostile.c, with plain system calls, against walls of the
# kernel, and the list of system calls that a role has there is another one, which is not shipped.
if(KBS_SANITIZE)
    set(escape_args --deselect escape/test_escape.py::test_no_way_out
        --deselect escape/test_escape.py::test_every_attempt_succeeds_without_confinement
        --deselect escape/test_escape.py::test_users_of_their_own_are_a_wall_by_themselves)
endif()
kbs_pytest(escape PATH escape/test_escape.py ARGS ${escape_args} LABELS system escape TIMEOUT 900)
kbs_pytest(escape_front PATH escape/test_front.py LABELS system escape TIMEOUT 600)
