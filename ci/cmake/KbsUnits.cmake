# The systemd units: kbsd, and for every role a socket and what a connection to it starts, from one template each.
include_guard()

set(KBS_UNITS_DIR "${CMAKE_BINARY_DIR}/systemd")
set(KBS_UNITS_INSTALL_DIR "${CMAKE_INSTALL_PREFIX}/lib/systemd/system")

# kbs_unit(template unit): both below docs/systemd and KBS_UNITS_DIR. @ONLY would take systemd's own @system-service
# for a variable if it ended in @; none does.
function(kbs_unit template unit)
    configure_file("docs/systemd/${template}" "${KBS_UNITS_DIR}/${unit}" @ONLY)
    install(FILES "${KBS_UNITS_DIR}/${unit}" DESTINATION "${KBS_UNITS_INSTALL_DIR}")
endfunction()

# kbs_role_units(kbs-front DOES gateway NOTE "one line" FILES "BindPaths=..." [NETWORK "RestrictAddressFamilies=..."] [TASKS n])
function(kbs_role_units role)
    cmake_parse_arguments(PARSE_ARGV 1 KBS_ROLE "" "DOES;NOTE;FILES;NETWORK;TASKS" "")
    set(KBS_ROLE ${role})
    if(NOT KBS_ROLE_NETWORK)
        set(KBS_ROLE_NETWORK "PrivateNetwork=yes\nIPAddressDeny=any\nRestrictAddressFamilies=none")
    endif()
    if(NOT KBS_ROLE_TASKS)
        set(KBS_ROLE_TASKS 16)
    endif()
    kbs_unit(kbs-role.socket.in ${role}.socket)
    kbs_unit(kbs-role@.service.in ${role}@.service)
endfunction()

kbs_unit(kbsd.service.in kbsd.service)
kbs_role_units(kbs-front DOES "gateway"
    NOTE "Its listeners are kbsd's sockets, handed over: they stay in kbsd's network, and it needs none."
    FILES "# No file at all."
    TASKS 24) # with a token-held TLS key: a thread for each channel to its sign worker
kbs_role_units(kbs-judge DOES "decision"
    NOTE "A store that is elsewhere is named with BindPaths= in a drop-in."
    FILES "BindPaths=/var/lib/kbs-hsm/store")
kbs_role_units(kbs-token DOES "token custody"
    NOTE "For tokens in software. What one in hardware needs on top is a drop-in: kbs-token-hardware.conf is an example."
    FILES "BindPaths=/var/lib/kbs-hsm/token"
    TASKS 24) # of a sign worker: a thread for each channel of its front
kbs_role_units(kbs-audit DOES "ledger"
    NOTE "Even the ledger is a descriptor."
    FILES "# No file at all.")
if(KBS_REGO)
    kbs_role_units(kbs-policy DOES "Rego policies"
        NOTE "Policies are parsed and evaluated in one more process, which may die of them."
        FILES "# No file at all.")
endif()
# Its threads resolve names, one each.
kbs_role_units(kbs-fetch DOES "courier"
    NOTE "The one role with a network. Say whom it may reach, if you know: IPAddressDeny=any and IPAddressAllow= in a drop-in."
    FILES "BindPaths=-/var/lib/kbs-hsm/fetch
BindReadOnlyPaths=-/etc/resolv.conf -/etc/hosts -/etc/host.conf -/etc/gai.conf -/etc/ssl/certs/ca-certificates.crt"
    NETWORK "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"
    TASKS 600)
install(FILES docs/systemd/kbs-hsm.sysusers DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/sysusers.d" RENAME kbs-hsm.conf)
install(FILES docs/systemd/kbs-hsm.tmpfiles DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/tmpfiles.d" RENAME kbs-hsm.conf)
install(FILES docs/systemd/kbs-token-hardware.conf DESTINATION "${CMAKE_INSTALL_DOCDIR}/examples")
