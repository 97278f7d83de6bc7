# Clients of the KBS protocol that share no code with src/.
kbs_pytest(conform_of_clients PATH conform/test_clients.py LABELS unit TIMEOUT 120)
