# One imported target per foreign library, named kbs_dep_* (OpenSSL keeps the names of CMake's own module), so that a
# folder's CMakeLists.txt shows at a glance what it lets in. All of them come as SYSTEM includes: their headers are
# not held to our warnings. `ci/setup` installs the packages.
include_guard()

find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto SSL)
find_package(PkgConfig REQUIRED)

# kbs_dependency(kbs_dep_uv libuv>=1.44): a target over a pkg-config module.
function(kbs_dependency name module)
    pkg_check_modules(${name}_pc REQUIRED QUIET IMPORTED_TARGET GLOBAL ${module})
    add_library(${name} INTERFACE IMPORTED GLOBAL)
    target_link_libraries(${name} INTERFACE PkgConfig::${name}_pc)
endfunction()

kbs_dependency(kbs_dep_uv "libuv>=1.44")
kbs_dependency(kbs_dep_jansson "jansson>=2.14")
kbs_dependency(kbs_dep_cjose "cjose>=0.6.2")
kbs_dependency(kbs_dep_sqlite "sqlite3>=3.40")
kbs_dependency(kbs_dep_p11kit "p11-kit-1>=0.24")
kbs_dependency(kbs_dep_pcre2 "libpcre2-8>=10.40")
kbs_dependency(kbs_dep_curl "libcurl>=7.88")
kbs_dependency(kbs_dep_seccomp "libseccomp>=2.5")
if(KBS_TESTS)
    kbs_dependency(kbs_dep_cmocka "cmocka>=1.1.5")
endif()

# Some libcbor packages come without their .pc file.
pkg_check_modules(kbs_dep_cbor_pc QUIET IMPORTED_TARGET GLOBAL libcbor)
add_library(kbs_dep_cbor INTERFACE IMPORTED GLOBAL)
if(kbs_dep_cbor_pc_FOUND)
    target_link_libraries(kbs_dep_cbor INTERFACE PkgConfig::kbs_dep_cbor_pc)
else()
    find_path(KBS_CBOR_INCLUDE_DIR cbor.h REQUIRED)
    find_library(KBS_CBOR_LIBRARY cbor REQUIRED)
    target_include_directories(kbs_dep_cbor INTERFACE ${KBS_CBOR_INCLUDE_DIR})
    target_link_libraries(kbs_dep_cbor INTERFACE ${KBS_CBOR_LIBRARY})
endif()

# toml++ as headers only: the packaged .pc selects its shared library, which is built with exceptions, and the shim
# in src/config is built without them.
pkg_check_modules(kbs_dep_tomlpp_pc REQUIRED QUIET "tomlplusplus>=3.3")
find_path(KBS_TOMLPP_INCLUDE_DIR toml++/toml.h HINTS ${kbs_dep_tomlpp_pc_INCLUDE_DIRS} REQUIRED)
add_library(kbs_dep_tomlpp INTERFACE IMPORTED GLOBAL)
target_include_directories(kbs_dep_tomlpp INTERFACE ${KBS_TOMLPP_INCLUDE_DIR})
target_compile_definitions(kbs_dep_tomlpp INTERFACE TOML_HEADER_ONLY=1)
