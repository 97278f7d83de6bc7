# kbsd itself, with stand-ins for the roles, so that every order of events can be made to happen.
add_executable(fake_role supervisor/fake_role.c)
kbs_target_defaults(fake_role)
target_link_libraries(fake_role PRIVATE kbs_channel)
set_target_properties(fake_role PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
add_dependencies(fake_role kbsd)
kbs_pytest(supervisor PATH supervisor/test_supervisor.py LABELS system TIMEOUT 300)
