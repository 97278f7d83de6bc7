# kbs_hardening: exploit mitigations for everything we ship. Each flag is probed on its own, so a compiler that lacks
# one keeps the others. Position independence and hidden symbols are target properties, set in KbsTargets.cmake.
#
# _FORTIFY_SOURCE needs the optimizer, and hides the very overflows AddressSanitizer looks for: left out in Debug and
# in instrumented builds. Variables are initialised to zero where the compiler can (gcc), else to a pattern (clang 14).
include_guard()
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)

set(CMAKE_REQUIRED_QUIET ON) # a line per flag drowns the rest
add_library(kbs_hardening INTERFACE)

# Adds the first of the flags given that the compiler takes.
function(kbs_hardening_compile)
    foreach(flag IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "KBS_HAVE_C${flag}" have)
        check_c_compiler_flag(${flag} ${have})
        if(${have})
            target_compile_options(kbs_hardening INTERFACE ${flag})
            return()
        endif()
    endforeach()
endfunction()

function(kbs_hardening_link flag)
    string(MAKE_C_IDENTIFIER "KBS_HAVE_LINK${flag}" have)
    check_linker_flag(C ${flag} ${have})
    if(${have})
        target_link_options(kbs_hardening INTERFACE ${flag})
    endif()
endfunction()

kbs_hardening_compile(-fstack-protector-strong)
kbs_hardening_compile(-fstack-clash-protection)
kbs_hardening_compile(-fcf-protection=full)
kbs_hardening_compile(-ftrivial-auto-var-init=zero -ftrivial-auto-var-init=pattern)
kbs_hardening_compile(-fzero-call-used-regs=used-gpr)
kbs_hardening_compile(-fno-common)
kbs_hardening_compile(-fno-strict-overflow)

kbs_hardening_link(-Wl,-z,relro)
kbs_hardening_link(-Wl,-z,now)
kbs_hardening_link(-Wl,-z,noexecstack)
kbs_hardening_link(-Wl,-z,separate-code)
kbs_hardening_link(-Wl,--as-needed)

if(NOT KBS_INSTRUMENTED)
    # glibc only warns about a level it cannot give, hence -Werror and a real header.
    set(CMAKE_REQUIRED_FLAGS "-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -Werror")
    check_c_source_compiles("#include <string.h>\nint main(void) { return 0; }" KBS_HAVE_FORTIFY_3)
    unset(CMAKE_REQUIRED_FLAGS)
    if(KBS_HAVE_FORTIFY_3)
        set(fortify 3)
    else()
        set(fortify 2)
    endif()
    target_compile_options(kbs_hardening INTERFACE
        "$<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=${fortify}>")
endif()

unset(CMAKE_REQUIRED_QUIET)
