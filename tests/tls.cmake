# src/tls: handshakes in memory, against OpenSSL's own client.
kbs_test(test_tls SOURCES unit/test_tls.c LINKS kbs_tls kbs_test_signer OpenSSL::SSL)
