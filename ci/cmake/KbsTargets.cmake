# The helpers every folder's CMakeLists.txt is made of:
#
#   kbs_library(kbs_wire SOURCES a.c b.c LINKS kbs_base)        static library; LINKS are PUBLIC
#   kbs_executable(kbs-front SOURCES main.c LINKS kbs_http ...) program in ${CMAKE_BINARY_DIR}/bin
#   kbs_test(NAME SOURCES x.c LINKS ... [ARGS ...] [LABELS unit])      cmocka program, run by ctest
#   kbs_test_program(NAME SOURCES x.c LINKS ...)                the program alone, and
#   kbs_test_run(NAME PROGRAM x [ARGS ...] [LABELS unit])       one of several runs of it, by LAUNCHER if given
#   kbs_pytest(NAME PATH test_x.py|dir [LABELS system] [TIMEOUT s])    pytest suite, run by ctest
#   kbs_fuzzer(fuzz_NAME SOURCES x.c LINKS ... CORPUS dir)      libFuzzer target, or a replay of its corpus
#
# kbs_test, kbs_test_run, kbs_pytest and kbs_fuzzer may also be given TIMEOUT seconds and ENVIRONMENT NAME=value ...; fixtures and
# locks are added with set_tests_properties(). Exit status 77 means skipped. What each test finds in its environment:
# KBS_SOURCE_DIR, KBS_BUILD_DIR and KBS_BIN_DIR.
#
# Include roots are src/ and the top of the checkout: "base/buf.h", "hsm/ladder.h". ci/check-includes says who may
# include whom.
include_guard()
include(CheckPIESupported)

check_pie_supported(LANGUAGES C CXX)

# The distribution's python before any other in PATH: its modules are the ones ci/setup installs.
if(KBS_TESTS)
    find_program(KBS_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
    find_program(KBS_PYTHON NAMES python3 REQUIRED)
endif()

# What libraries, programs and tests have in common.
function(kbs_target_defaults name)
    target_compile_definitions(${name} PRIVATE _GNU_SOURCE KBS_VERSION="${PROJECT_VERSION}")
    target_include_directories(${name} PUBLIC "${CMAKE_SOURCE_DIR}/src" "${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE kbs_warnings kbs_hardening kbs_sanitizers)
    set_target_properties(${name} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
        CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
        C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
        POSITION_INDEPENDENT_CODE ON)
endfunction()

# Ends the configuration at a misspelt keyword, which cmake_parse_arguments would pass over, or a missing one:
# kbs_require("kbs_test(name)" "<what was not parsed>" KEYWORD...)
function(kbs_require call unparsed)
    if(unparsed)
        message(FATAL_ERROR "${call}: what is '${unparsed}'?")
    endif()
    foreach(keyword IN LISTS ARGN)
        if(NOT arg_${keyword}) # the caller's, as parsed
            message(FATAL_ERROR "${call}: no ${keyword}")
        endif()
    endforeach()
endfunction()

function(kbs_library name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
    kbs_require("kbs_library(${name})" "${arg_UNPARSED_ARGUMENTS}" SOURCES)
    add_library(${name} STATIC ${arg_SOURCES})
    kbs_target_defaults(${name})
    target_link_libraries(${name} PUBLIC ${arg_LINKS})
endfunction()

function(kbs_executable name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
    kbs_require("kbs_executable(${name})" "${arg_UNPARSED_ARGUMENTS}" SOURCES)
    add_executable(${name} ${arg_SOURCES})
    kbs_target_defaults(${name})
    target_link_libraries(${name} PRIVATE ${arg_LINKS})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
endfunction()

# What every test's registration has in common.
function(kbs_test_properties name labels timeout)
    set_tests_properties(${name} PROPERTIES
        LABELS "${labels}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
        ENVIRONMENT "KBS_SOURCE_DIR=${CMAKE_SOURCE_DIR};KBS_BUILD_DIR=${CMAKE_BINARY_DIR};KBS_BIN_DIR=${CMAKE_BINARY_DIR}/bin;UBSAN_OPTIONS=print_stacktrace=1;${ARGN}")
endfunction()

function(kbs_test_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS")
    kbs_require("kbs_test_program(${name})" "${arg_UNPARSED_ARGUMENTS}" SOURCES)
    add_executable(${name} ${arg_SOURCES})
    kbs_target_defaults(${name})
    target_link_libraries(${name} PRIVATE ${arg_LINKS} kbs_dep_cmocka)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
endfunction()

function(kbs_test_run name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "PROGRAM;TIMEOUT" "ARGS;LABELS;ENVIRONMENT;LAUNCHER")
    kbs_require("kbs_test_run(${name})" "${arg_UNPARSED_ARGUMENTS}" PROGRAM)
    if(NOT arg_LABELS)
        set(arg_LABELS unit)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    add_test(NAME ${name} COMMAND ${arg_LAUNCHER} $<TARGET_FILE:${arg_PROGRAM}> ${arg_ARGS})
    kbs_test_properties(${name} "${arg_LABELS}" ${arg_TIMEOUT} ${arg_ENVIRONMENT})
endfunction()

function(kbs_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;LINKS;ARGS;LABELS;ENVIRONMENT")
    kbs_require("kbs_test(${name})" "${arg_UNPARSED_ARGUMENTS}" SOURCES)
    kbs_test_program(${name} SOURCES ${arg_SOURCES} LINKS ${arg_LINKS})
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    kbs_test_run(${name} PROGRAM ${name} ARGS ${arg_ARGS} LABELS ${arg_LABELS} TIMEOUT ${arg_TIMEOUT}
        ENVIRONMENT ${arg_ENVIRONMENT})
endfunction()

function(kbs_pytest name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "PATH;TIMEOUT" "ARGS;LABELS;ENVIRONMENT")
    kbs_require("kbs_pytest(${name})" "${arg_UNPARSED_ARGUMENTS}" PATH)
    if(NOT arg_LABELS)
        set(arg_LABELS system)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 900)
    endif()
    # ctest sees one test; ci/count-tests reads the cases from the file named here.
    add_test(NAME ${name}
        COMMAND "${KBS_PYTHON}" -B -m pytest -p no:cacheprovider -ra
            --junit-xml=${CMAKE_BINARY_DIR}/junit/${name}.xml ${arg_ARGS} ${arg_PATH}
        WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
    kbs_test_properties(${name} "${arg_LABELS}" ${arg_TIMEOUT} ${arg_ENVIRONMENT})
endfunction()

# All fuzzers: the target ci/fuzz builds, and the list it reads (name, tab, corpus directory).
add_custom_target(kbs_fuzzers)
file(WRITE "${CMAKE_BINARY_DIR}/fuzzers.txt" "")

# With KBS_FUZZ: bin/fuzz_NAME is a libFuzzer program, run by ci/fuzz. Otherwise the same
# function is linked to a plain main() and run over its corpus in every ctest, so that a crash once found stays found.
function(kbs_fuzzer name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "CORPUS;TIMEOUT" "SOURCES;LINKS;ENVIRONMENT")
    kbs_require("kbs_fuzzer(${name})" "${arg_UNPARSED_ARGUMENTS}" SOURCES CORPUS)
    if(NOT name MATCHES "^fuzz_")
        message(FATAL_ERROR "kbs_fuzzer(${name}): the name must begin with fuzz_, that is how ci/fuzz knows it")
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    cmake_path(ABSOLUTE_PATH arg_CORPUS NORMALIZE OUTPUT_VARIABLE corpus)

    add_executable(${name} ${arg_SOURCES})
    kbs_target_defaults(${name})
    target_link_libraries(${name} PRIVATE ${arg_LINKS})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
    add_dependencies(kbs_fuzzers ${name})
    file(APPEND "${CMAKE_BINARY_DIR}/fuzzers.txt" "${name}\t${corpus}\n")

    if(KBS_FUZZ)
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
        add_test(NAME ${name} COMMAND ${name} -runs=0 "${corpus}")
    else()
        if(NOT TARGET kbs_fuzz_replay)
            add_library(kbs_fuzz_replay OBJECT "${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c")
            kbs_target_defaults(kbs_fuzz_replay)
        endif()
        target_sources(${name} PRIVATE $<TARGET_OBJECTS:kbs_fuzz_replay>)
        add_test(NAME ${name} COMMAND ${name} "${corpus}")
    endif()
    kbs_test_properties(${name} fuzz-corpus ${arg_TIMEOUT} ${arg_ENVIRONMENT})
endfunction()
