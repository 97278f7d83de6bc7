kbs_test(unit_policy SOURCES unit/test_policy.c LINKS kbs_policy LABELS unit)
kbs_test(unit_policy_azure SOURCES unit/test_policy_azure.c LINKS kbs_policy LABELS unit)
kbs_test(unit_acl SOURCES unit/test_acl.c LINKS kbs_policy_acl LABELS unit)

kbs_fuzzer(fuzz_policy SOURCES fuzz/fuzz_policy.c LINKS kbs_policy CORPUS fuzz/corpus/policy)
kbs_fuzzer(fuzz_acl SOURCES fuzz/fuzz_acl.c LINKS kbs_policy_acl CORPUS fuzz/corpus/acl)

kbs_test(policy_role SOURCES policy/test_policy_role.c policy/policy_process.c LINKS kbs_channel LABELS system)
set_tests_properties(policy_role PROPERTIES PROCESSORS 2) # a policy has half a second by the clock
if(TARGET kbs-policy)
    add_dependencies(policy_role kbs-policy)
endif()
