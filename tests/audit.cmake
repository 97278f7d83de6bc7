kbs_test(unit_ledger SOURCES unit/test_ledger.c LINKS kbs_ledger -Wl,--wrap=fdatasync LABELS unit)
kbs_test(audit_role SOURCES audit/test_audit.c LINKS kbs_ledger kbs_channel LABELS system)
add_dependencies(audit_role kbs-audit)
