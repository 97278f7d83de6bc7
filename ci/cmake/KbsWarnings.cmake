# kbs_warnings: the warnings our own code is compiled with. Every flag is probed, because clang 14 lacks several that
# gcc 12 has; an unknown flag is left out, not an error. KBS_WERROR turns them into errors (the dev preset does).
include_guard()
include(CheckCCompilerFlag)
include(CheckCXXCompilerFlag)

set(CMAKE_REQUIRED_QUIET ON) # a line per flag drowns the rest
add_library(kbs_warnings INTERFACE)

function(kbs_warnings_probe language)
    foreach(flag IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "KBS_HAVE_${language}${flag}" have)
        if(language STREQUAL "C")
            check_c_compiler_flag(${flag} ${have})
        else()
            check_cxx_compiler_flag(${flag} ${have})
        endif()
        if(${have})
            target_compile_options(kbs_warnings INTERFACE "$<$<COMPILE_LANGUAGE:${language}>:${flag}>")
        endif()
    endforeach()
endfunction()

kbs_warnings_probe(C
    -Wall -Wextra -Wpedantic
    -Wconversion -Wsign-conversion
    -Wshadow -Wundef -Wvla -Walloca
    -Wformat=2 -Wformat-signedness
    -Wstrict-prototypes -Wmissing-prototypes
    -Wcast-qual -Wcast-align=strict -Wpointer-arith -Wwrite-strings
    -Wimplicit-fallthrough -Wnull-dereference -Wduplicated-cond -Wduplicated-branches -Wlogical-op -Wjump-misses-init
    -Wunused-result)

# C++ is only the toml++ shim in src/config.
kbs_warnings_probe(CXX -Wall -Wextra -Wpedantic -Wconversion -Wshadow)

if(KBS_WERROR)
    target_compile_options(kbs_warnings INTERFACE -Werror)
endif()

unset(CMAKE_REQUIRED_QUIET)
