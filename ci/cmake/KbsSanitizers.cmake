# kbs_sanitizers: instrumentation for everything we compile, llhttp included, so that an overflow in the parser is
# found as well. Empty unless asked for.
#   KBS_SANITIZE=address,undefined   gcc or clang; every finding ends the process
#   KBS_FUZZ=ON                      clang; coverage for libFuzzer plus both sanitizers. kbs_fuzzer() adds the driver
include_guard()

add_library(kbs_sanitizers INTERFACE)

if(KBS_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "KBS_FUZZ needs clang (cmake --preset fuzz): ${CMAKE_C_COMPILER_ID} has no libFuzzer")
    endif()
    if(KBS_SANITIZE)
        message(FATAL_ERROR "KBS_FUZZ brings its own sanitizers: leave KBS_SANITIZE empty")
    endif()
    target_compile_options(kbs_sanitizers INTERFACE -fsanitize=fuzzer-no-link,address,undefined)
    target_link_options(kbs_sanitizers INTERFACE -fsanitize=address,undefined)
elseif(KBS_SANITIZE)
    target_compile_options(kbs_sanitizers INTERFACE -fsanitize=${KBS_SANITIZE})
    target_link_options(kbs_sanitizers INTERFACE -fsanitize=${KBS_SANITIZE})
endif()

if(KBS_FUZZ OR KBS_SANITIZE)
    set(KBS_INSTRUMENTED ON)
    target_compile_options(kbs_sanitizers INTERFACE -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_compile_definitions(kbs_sanitizers INTERFACE KBS_INSTRUMENTED=1)
else()
    set(KBS_INSTRUMENTED OFF)
endif()
