# kbs-fetch: its rules on their own, and the real program between servers on loopback, good and bad, and peers that the test
# plays.
kbs_test(unit_url SOURCES unit/test_url.c LINKS kbs_base LABELS unit)
kbs_pytest(fetch PATH fetch LABELS system TIMEOUT 300)
