# An attestation policy of the shape of CoCo's default one: the same claims, reference values and results, of the kinds
# of evidence that are verified here.
package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"file-system": 0,
	"instance-identity": 0,
}

executables := 3 if {
	input.sample
	input.sample.launch_digest in query_reference_value("launch_digest")
}

hardware := 2 if {
	input.sample
	input.sample.svn in query_reference_value("svn")
	input.sample.platform_version.major == query_reference_value("major_version")
	input.sample.platform_version.minor >= query_reference_value("minimum_minor_version")
}

configuration := 2 if input.sample.debug == false

# The measurement by its older name, the TCB by its newer ones.
executables := 3 if {
	input.snp
	input.snp.measurement in query_reference_value("snp_launch_measurement")
}

hardware := 2 if {
	input.snp
	tcb := input.snp.evidence.reported_tcb
	tcb.bootloader in query_reference_value("snp_bootloader")
	tcb.tee in query_reference_value("snp_tee_svn")
	tcb.snp in query_reference_value("snp_snp_svn")
	tcb.microcode in query_reference_value("snp_microcode")
}

configuration := 2 if {
	input.snp.policy_debug_allowed == false
	input.snp.policy_smt_allowed == query_reference_value("snp_smt_allowed")
	input.snp.policy_abi_major == query_reference_value("snp_guest_abi_major")
} else := 3 if {
	input.snp.policy_debug_allowed == false
	input.snp.policy_migrate_ma == false
}
