# kbs_llhttp: the HTTP parser, from a system llhttp that is new enough, else built from the sources that ci/setup
# unpacked below build/deps. Older versions have known request smuggling holes, so there is no fallback to them.
# The generated code is not held to our warnings, but is hardened and sanitized like our own.
include_guard()

set(KBS_LLHTTP_MINIMUM 9.4.3)
set(KBS_LLHTTP_DIR "${CMAKE_SOURCE_DIR}/build/deps/llhttp" CACHE PATH "llhttp.h, llhttp.c, api.c and http.c")

# Reads the version an llhttp.h declares into `result`; 0 if there is none.
function(kbs_llhttp_version header result)
    set(version 0)
    if(EXISTS "${header}")
        file(STRINGS "${header}" lines REGEX "^#define LLHTTP_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
        list(TRANSFORM lines REPLACE "^.*(MAJOR|MINOR|PATCH) ([0-9]+).*$" "\\2")
        list(JOIN lines "." version)
    endif()
    set(${result} "${version}" PARENT_SCOPE)
endfunction()

find_path(KBS_LLHTTP_SYSTEM_INCLUDE_DIR llhttp.h)
find_library(KBS_LLHTTP_SYSTEM_LIBRARY llhttp)
kbs_llhttp_version("${KBS_LLHTTP_SYSTEM_INCLUDE_DIR}/llhttp.h" system_version)
kbs_llhttp_version("${KBS_LLHTTP_DIR}/llhttp.h" fetched_version)

if(KBS_LLHTTP_SYSTEM_LIBRARY AND system_version VERSION_GREATER_EQUAL KBS_LLHTTP_MINIMUM)
    add_library(kbs_llhttp INTERFACE IMPORTED GLOBAL)
    target_include_directories(kbs_llhttp INTERFACE "${KBS_LLHTTP_SYSTEM_INCLUDE_DIR}")
    target_link_libraries(kbs_llhttp INTERFACE "${KBS_LLHTTP_SYSTEM_LIBRARY}")
    message(STATUS "llhttp ${system_version} of the system")
elseif(fetched_version VERSION_GREATER_EQUAL KBS_LLHTTP_MINIMUM)
    add_library(kbs_llhttp STATIC
        "${KBS_LLHTTP_DIR}/llhttp.c" "${KBS_LLHTTP_DIR}/api.c" "${KBS_LLHTTP_DIR}/http.c")
    target_include_directories(kbs_llhttp SYSTEM PUBLIC "${KBS_LLHTTP_DIR}")
    target_compile_options(kbs_llhttp PRIVATE -w)
    target_link_libraries(kbs_llhttp PRIVATE kbs_hardening kbs_sanitizers)
    set_target_properties(kbs_llhttp PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
    message(STATUS "llhttp ${fetched_version} from ${KBS_LLHTTP_DIR}")
else()
    message(FATAL_ERROR "no llhttp >= ${KBS_LLHTTP_MINIMUM}: run ci/setup, or put llhttp.h, llhttp.c, api.c and http.c"
        " into a directory and set KBS_LLHTTP_DIR to it (there now: ${fetched_version}; system: ${system_version})")
endif()
