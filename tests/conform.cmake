# Clients of the KBS protocol that share no code with src/ (docs/from-trustee.md).
kbs_pytest(conform_clients PATH conform/test_conform.py LABELS system TIMEOUT 1800)
kbs_pytest(conform_from_trustee PATH conform/test_from_trustee.py LABELS system TIMEOUT 600)
kbs_pytest(conform_of_clients PATH conform/test_clients.py LABELS unit TIMEOUT 120)
