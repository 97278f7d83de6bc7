# providers/: the pool of channels and the provider, against a sign worker with a software key.
add_library(kbs_test_signer STATIC providers/signer.c)
kbs_target_defaults(kbs_test_signer)
target_link_libraries(kbs_test_signer PUBLIC kbs_provider)
kbs_test(unit_link SOURCES providers/test_link.c LINKS kbs_test_signer LABELS unit)
kbs_test(unit_provider SOURCES providers/test_provider.c LINKS kbs_test_signer OpenSSL::SSL LABELS unit)
# Of kbs.so, whose symbols are its own.
kbs_test(unit_provider_settings
    SOURCES providers/test_settings.c ${CMAKE_SOURCE_DIR}/providers/settings.c ${CMAKE_SOURCE_DIR}/providers/folders.c
    LINKS kbs_provider
    LABELS unit)
target_compile_definitions(unit_provider_settings PRIVATE KBS_BINDIR="${CMAKE_INSTALL_FULL_BINDIR}")

# What the system suite runs: a token with keys, and a program that has loaded kbs.so.
add_executable(provider_process providers/provider_process.c)
kbs_target_defaults(provider_process)
target_link_libraries(provider_process PRIVATE OpenSSL::Crypto)
set_target_properties(provider_process PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
