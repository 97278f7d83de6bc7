# The mock PKCS#11 module (tests/mock/README.md). A test artefact: it is built beside the tests and never installed.
add_library(kbs_mock_p11 MODULE mock/conf.c mock/crypto.c mock/entry.c mock/keys.c mock/object.c mock/operate.c
    mock/script.c mock/session.c mock/store.c)
kbs_target_defaults(kbs_mock_p11)
target_link_libraries(kbs_mock_p11 PRIVATE kbs_dep_p11kit OpenSSL::Crypto)
set_target_properties(kbs_mock_p11 PROPERTIES
    OUTPUT_NAME kbs-mock-p11 LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
