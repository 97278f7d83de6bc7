# kbs_rego: the Rego engine of kbs-policy, built by cargo from what ci/setup fetched, without network. It is the one part
# that Debian's packages alone do not give: without cargo or the crates everything else is built, and a service without
# kbs-policy answers what would need it with 501.
include_guard()

set(KBS_REGO_SOURCE "${CMAKE_SOURCE_DIR}/src/policy/rego")
set(KBS_REGO_TARGET "${CMAKE_SOURCE_DIR}/build/deps/rego") # one for all presets: it takes a minute
set(KBS_REGO FALSE)

find_program(KBS_CARGO cargo)
if(KBS_CARGO)
    execute_process(
        COMMAND "${KBS_CARGO}" fetch --quiet --locked --offline --manifest-path "${KBS_REGO_SOURCE}/Cargo.toml"
        RESULT_VARIABLE kbs_rego_missing OUTPUT_QUIET ERROR_QUIET)
    if(kbs_rego_missing EQUAL 0)
        set(KBS_REGO TRUE)
    endif()
endif()

if(KBS_REGO)
    set(kbs_rego_library "${KBS_REGO_TARGET}/release/libkbs_rego.a")
    add_custom_command(OUTPUT "${kbs_rego_library}"
        COMMAND "${KBS_CARGO}" build --quiet --release --locked --offline
            --manifest-path "${KBS_REGO_SOURCE}/Cargo.toml" --target-dir "${KBS_REGO_TARGET}"
        DEPENDS "${KBS_REGO_SOURCE}/rego.rs" "${KBS_REGO_SOURCE}/Cargo.toml" "${KBS_REGO_SOURCE}/Cargo.lock"
        COMMENT "Building the Rego engine" VERBATIM)
    add_custom_target(kbs_rego_build DEPENDS "${kbs_rego_library}")
    add_library(kbs_rego STATIC IMPORTED GLOBAL)
    set_target_properties(kbs_rego PROPERTIES IMPORTED_LOCATION "${kbs_rego_library}" INTERFACE_LINK_LIBRARIES m)
    add_dependencies(kbs_rego kbs_rego_build)
else()
    message(NOTICE "kbs-policy is not built: cargo, or a crate of src/policy/rego/Cargo.lock, is missing (ci/setup gets"
        " both). Rego policies will be answered with 501.")
endif()
