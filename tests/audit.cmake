kbs_test(unit_ledger SOURCES unit/test_ledger.c LINKS kbs_ledger -Wl,--wrap=fdatasync LABELS unit)
kbs_test(audit_role SOURCES audit/test_audit.c LINKS kbs_ledger kbs_channel LABELS system)
add_dependencies(audit_role kbs-audit)

# The role over a disk that fails when told to, for the whole service (tests/system/test_audit_faults.py).
add_executable(kbs-audit-faulty $<TARGET_OBJECTS:kbs-audit> audit/faulty_disk.c)
kbs_target_defaults(kbs-audit-faulty)
target_link_libraries(kbs-audit-faulty PRIVATE kbs_ledger kbs_role kbs_confine kbs_channel
    -Wl,--wrap=write,--wrap=fdatasync,--wrap=ftruncate)
set_target_properties(kbs-audit-faulty PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
