# Confinement: the real roles with an attacker in them (tests/escape/hostile.c), a kbsd that starts them again at once,
# and a kernel without walls. None of them is installed.
function(kbs_escape_executable name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
    kbs_executable(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
endfunction()

set(kbs_src "${CMAKE_SOURCE_DIR}/src")
set(kbs_hostile escape/hostile.c)
kbs_escape_executable(kbs-front-hostile
    SOURCES ${kbs_src}/front/main.c ${kbs_src}/front/startup.c ${kbs_src}/front/timeouts.c ${kbs_hostile}
    LINKS kbs_front_core -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-judge-hostile
    SOURCES ${kbs_src}/judge/main.c ${kbs_src}/judge/judge.c ${kbs_src}/judge/snp.c ${kbs_src}/judge/issuers.c ${kbs_hostile}
    LINKS kbs_base kbs_role kbs_confine kbs_wire kbs_channel kbs_store kbs_api kbs_attest_snp -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-token-hostile
    SOURCES ${CMAKE_SOURCE_DIR}/hsm/main.c ${CMAKE_SOURCE_DIR}/hsm/wear.c ${kbs_hostile}
    LINKS kbs_hsm -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-audit-hostile
    SOURCES ${kbs_src}/audit/main.c ${kbs_hostile}
    LINKS kbs_ledger kbs_role kbs_confine kbs_channel -Wl,--wrap=kbs_confine)
kbs_escape_executable(kbs-fetch-hostile
    SOURCES ${kbs_src}/fetch/main.c ${kbs_hostile}
    LINKS kbs_courier kbs_role kbs_confine kbs_channel -Wl,--wrap=kbs_confine)
if(KBS_REGO)
    kbs_escape_executable(kbs-policy-hostile
        SOURCES ${kbs_src}/policy/rego/main.c ${kbs_hostile}
        LINKS kbs_rego_worker kbs_role kbs_confine kbs_channel -Wl,--wrap=kbs_confine)
endif()
kbs_escape_executable(kbs-front-attack
    SOURCES ${kbs_src}/front/main.c ${kbs_src}/front/startup.c ${kbs_src}/front/timeouts.c escape/hostile_front.c
    LINKS kbs_front_core -Wl,--wrap=kbs_confine,--wrap=kbs_lanes_attach,--wrap=kbs_lanes_submit,--wrap=uv_run)
kbs_escape_executable(kbsd-escape SOURCES escape/times.c LINKS kbs_supervisor)
kbs_escape_executable(nowalls SOURCES escape/nowalls.c LINKS kbs_dep_seccomp)

kbs_pytest(escape PATH escape/test_escape.py LABELS system escape TIMEOUT 900)
kbs_pytest(escape_front PATH escape/test_front.py LABELS system escape TIMEOUT 600)
