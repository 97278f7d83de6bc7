# src/http: the request parser, targets, routes, responses.
kbs_test(test_http SOURCES unit/test_http.c LINKS kbs_http)
kbs_test(test_route SOURCES unit/test_route.c LINKS kbs_http)
kbs_fuzzer(fuzz_http SOURCES fuzz/fuzz_http.c LINKS kbs_http CORPUS fuzz/corpus/http)
