/*
 * The keys of Trustee's KBS that are none of ours, each with what is made of it, so that its
 * operators can hand in the file they have and are told what to change.
 *
 * The rule: a key is passed over, with a warning, only if the service does what the key asks for or
 * cannot be harmed by its absence. Whatever would mean something else here is an error that says what
 * to write. Trustee's names changed over time; all that were ever in its samples are here.
 *
 * The first row that fits decides. A row without values takes whatever is there, tables with
 * everything in them included.
 */
#include "config/schema.h"

#include <strings.h>

#define IGNORED false
#define ERROR true

#define BUILT_IN                                                                                  \
    "the CoCo attestation service is not built in: evidence is verified by this service itself, " \
    "[attest.snp] says how; remove it"
#define ENDPOINT                                                                                \
    "write it as url of a [[fetch.endpoint]], and that one's name into endpoint of this table " \
    "(docs/from-trustee.md)"
#define API_KEY                                                                              \
    "a key does not stand in this file, which others may read: write the line \"x-api-key: " \
    "KEY\" into a file of its own, and its name into header_files of the [[fetch.endpoint]]"
#define GONE "is of no service that can be asked; remove it"
#define REGO "attestation policies are set over the API (POST attestation-policy); remove it"
#define VALUES                                                                           \
    "values are kept in [store], sealed: put them there with kbs-admin secret set, and " \
    "remove it"
#define LOCAL "everything is kept in [store], secrets sealed"
#define SHARED                                                                            \
    "a shared database is not available in this version: everything is kept in [store]; " \
    "remove it"
#define OWN_TOKENS \
    "whose tokens are believed is said by [[issuer]]: keys, anchor, key_path; remove it"
#define SIGNER                                                         \
    "tokens are signed with a key in the PKCS#11 token, published at " \
    "/.well-known/jwks.json; remove it"
#define FIXED "cannot be chosen; remove it"
#define PROVIDERS                                                                       \
    "write authorization_mode = \"AuthenticatedAuthorization\", and public_key_uri in " \
    "[admin.authentication.bearer_jwt] identity_providers"

static const struct kbs_config_foreign table[] = {
    /* [http_server] */
    {"http_server.worker_count", NULL, IGNORED, "token.lanes says how much is served at a time"},
    {"http_server.auth_rate_limit_per_second", NULL, ERROR, "write limits.auth_per_second instead"},
    {"http_server.auth_rate_limit_burst", NULL, ERROR,
     "limits.auth_per_second has no burst of its own; remove it"},

    /* [attestation_token] */
    {"attestation_token.trusted_jwk_sets", NULL, ERROR, OWN_TOKENS},
    {"attestation_token.trusted_certs_paths", NULL, ERROR, OWN_TOKENS},
    {"attestation_token.extra_teekey_paths", NULL, ERROR, OWN_TOKENS},
    {"attestation_token.insecure_header_jwk", "false", IGNORED, "it is never otherwise"},
    {"attestation_token.insecure_header_jwk", NULL, ERROR, OWN_TOKENS},
    {"attestation_token.insecure_key", "false", IGNORED, "it is never otherwise"},
    {"attestation_token.insecure_key", NULL, ERROR, OWN_TOKENS},
    {"attestation_token.type", "CoCo", IGNORED, "tokens are EARs, as CoCo's are"},
    {"attestation_token.type", NULL, ERROR, OWN_TOKENS},

    /* [attestation_service] */
    {"attestation_service.as_addr", NULL, ERROR, ENDPOINT},
    {"attestation_service.pool_size", NULL, IGNORED,
     "parallel of the [[fetch.endpoint]] says how many it is asked at a time"},
    {"attestation_service.base_url", NULL, ERROR, ENDPOINT},
    {"attestation_service.api_key", NULL, ERROR, API_KEY},
    {"attestation_service.api_version_major", NULL, ERROR, GONE},
    {"attestation_service.api_version_minor", NULL, ERROR, GONE},
    {"attestation_service.cv_ca_path", NULL, ERROR, GONE},
    {"attestation_service.certs_file", NULL, ERROR,
     "write it as keys of an [[issuer]], and that one's name into issuer of this table"},
    {"attestation_service.allow_unmatched_policy", "false", IGNORED, "it is never otherwise"},
    {"attestation_service.allow_unmatched_policy", NULL, ERROR,
     "policies that are named must match; remove it"},
    {"attestation_service.work_dir", NULL, IGNORED, LOCAL},
    {"attestation_service.storage_type", "Postgres|Redis", ERROR, SHARED},
    {"attestation_service.storage_type", NULL, IGNORED, LOCAL},
    {"attestation_service.policy_engine", NULL, ERROR, REGO},
    {"attestation_service.verifier_config", NULL, ERROR, BUILT_IN},
    {"attestation_service.attestation_token_config.duration_min", NULL, ERROR,
     "write attestation_token.duration_min instead"},
    {"attestation_service.attestation_token_config.issuer_name", NULL, ERROR,
     "write attestation_token.issuer_name instead"},
    {"attestation_service.attestation_token_config.signer", NULL, ERROR, SIGNER},
    {"attestation_service.attestation_token_broker.duration_min", NULL, ERROR,
     "write attestation_token.duration_min instead"},
    {"attestation_service.attestation_token_broker.issuer_name", NULL, ERROR,
     "write attestation_token.issuer_name instead"},
    {"attestation_service.attestation_token_broker.developer_name", NULL, ERROR, FIXED},
    {"attestation_service.attestation_token_broker.build_name", NULL, ERROR, FIXED},
    {"attestation_service.attestation_token_broker.profile_name", NULL, ERROR, FIXED},
    {"attestation_service.attestation_token_broker.verbose_token", NULL, ERROR, FIXED},
    {"attestation_service.attestation_token_broker.signer", NULL, ERROR, SIGNER},
    {"attestation_service.attestation_token_broker.type", "Ear", IGNORED, "tokens are EARs"},
    {"attestation_service.attestation_token_broker.type", NULL, ERROR,
     "tokens are EARs: write \"Ear\" or remove it"},
    {"attestation_service.attestation_token_broker.policy_dir", NULL, ERROR, REGO},
    {"attestation_service.attestation_token_broker", "Ear", IGNORED, "tokens are EARs"},
    {"attestation_service.attestation_token_broker", "Simple", ERROR, "tokens are EARs; remove it"},
    {"attestation_service.rvps_config.type", "BuiltIn", IGNORED,
     "reference values are this service's own"},
    {"attestation_service.rvps_config.type", NULL, ERROR,
     "reference values are this service's own; remove it"},
    {"attestation_service.rvps_config.address", NULL, ERROR,
     "reference values are this service's own; remove it"},
    {"attestation_service.rvps_config.remote_addr", NULL, ERROR,
     "reference values are this service's own; remove it"},
    {"attestation_service.rvps_config.storage_type", "Postgres|Redis", ERROR, SHARED},
    {"attestation_service.rvps_config.storage_type", NULL, IGNORED, LOCAL},
    {"attestation_service.rvps_config.store_type", NULL, IGNORED, LOCAL},
    {"attestation_service.rvps_config.store_config", NULL, IGNORED, LOCAL},
    {"attestation_service.rvps_config.extractors", NULL, ERROR,
     "no provenance is extracted: reference values are given as they are; remove it"},

    /* [admin], as it was before authorization_mode */
    {"admin.type", "DenyAll", ERROR, "write authorization_mode = \"DenyAll\" instead"},
    {"admin.type", "InsecureAllowAll", ERROR,
     "write authorization_mode = \"InsecureAllowAll\" and trustee_compat = true instead"},
    {"admin.type", NULL, ERROR, PROVIDERS},
    {"admin.personas", NULL, ERROR, PROVIDERS},
    {"admin.admin_backend", NULL, ERROR, PROVIDERS},
    {"admin.auth_public_key", NULL, ERROR, PROVIDERS},
    {"admin.roles", NULL, ERROR, "write acls of [admin.authorization.regex_acl] instead"},
    {"admin.insecure_api", "false", IGNORED,
     "it is never otherwise, unless authorization_mode says so"},
    {"admin.insecure_api", NULL, ERROR,
     "write authorization_mode = \"InsecureAllowAll\" and trustee_compat = true instead"},

    /* storage */
    {"storage_backend.storage_type", "Memory|LocalFs|local_fs|LocalJson|local_json", IGNORED,
     LOCAL},
    {"storage_backend.storage_type", NULL, ERROR, SHARED},
    {"storage_backend.backends.local_fs", NULL, IGNORED, LOCAL},
    {"storage_backend.backends.local_json", NULL, IGNORED, LOCAL},
    {"storage_backend.backends.postgres", NULL, ERROR, SHARED},
    {"storage_backend.backends.redis", NULL, ERROR, SHARED},
    {"session_storage_type", "Memory|LocalFs|local_fs|LocalJson|local_json", IGNORED, LOCAL},
    {"session_storage_type", NULL, ERROR, SHARED},
    {"policy_engine", NULL, ERROR,
     "set a resource policy over the API, or write policy of the resource plugin; remove it"},

    /* [[plugins]] with name = "resource", "pkcs11" or "id-key"; of others only the name is looked at */
    {"plugins[].storage_backend_type", "kvstorage|LocalFs|local_fs", IGNORED, LOCAL},
    {"plugins[].storage_backend_type", NULL, ERROR, VALUES},
    {"plugins[].type", "kvstorage|LocalFs|local_fs", IGNORED, LOCAL},
    {"plugins[].type", NULL, ERROR, VALUES},
    {"plugins[].backend", "kvstorage|LocalFs|local_fs", IGNORED, LOCAL},
    {"plugins[].backend", NULL, ERROR, VALUES},
    {"plugins[].dir_path", NULL, IGNORED, LOCAL},
    {"plugins[].client_key", NULL, ERROR, VALUES},
    {"plugins[].kms_instance_id", NULL, ERROR, VALUES},
    {"plugins[].password", NULL, ERROR, VALUES},
    {"plugins[].cert_pem", NULL, ERROR, VALUES},
    {"plugins[].region", NULL, ERROR, VALUES},
    {"plugins[].endpoint_url", NULL, ERROR, VALUES},
    {"plugins[].project_id", NULL, ERROR, VALUES},
    {"plugins[].vault_url", NULL, ERROR, VALUES},
    {"plugins[].token", NULL, ERROR, VALUES},
    {"plugins[].mount_path", NULL, ERROR, VALUES},
    {"plugins[].verify_ssl", NULL, ERROR, VALUES},
    {"plugins[].ca_certs", NULL, ERROR, VALUES},
    {"plugins[].module", NULL, ERROR, "write it into [token]: module; remove it here"},
    {"plugins[].slot_index", NULL, ERROR,
     "slots move: name the token in uri of [token], by token= or serial="},
    {"plugins[].pin", NULL, ERROR,
     "a PIN does not stand in this file, which others may read: write it into a file, and its name "
     "into pin_file of [token]"},
    {"plugins[].rsa_mechanism", NULL, ERROR, "mechanisms are probed at start; remove it"},
    {"plugins[].lookup_label", NULL, ERROR,
     "keys are addressed by their path: make one with kbs-admin key generate --purpose nek --alg "
     "RSA, and write its path into nek_key"},

    /* the pkcs11 plugin's keys, and other places for a PIN, where somebody may try them */
    {"token.slot_index", NULL, ERROR, "slots move: name the token in uri, by token= or serial="},
    {"token.pin", NULL, ERROR,
     "a PIN does not stand in this file, which others may read: write it into a file, and its name "
     "into pin_file"},
    {"token.pin_env", NULL, ERROR,
     "an environment is inherited and shown by /proc: write the PIN into a file, and its name into "
     "pin_file"},
    {"token.rsa_mechanism", NULL, ERROR, "mechanisms are probed at start; remove it"},
    {"token.lookup_label", NULL, ERROR, "keys are addressed by their path; remove it"},
};

#define N (sizeof(table) / sizeof(table[0]))

/* Whether `text` is one of "a|b|c". */
static bool one_of(const char *values, struct kbs_doc_text text)
{
    for (const char *v = values; *v != '\0';) {
        size_t len = strcspn(v, "|");
        if (len == text.len && strncasecmp(v, text.p, len) == 0) {
            return true;
        }
        v += len + (v[len] == '|' ? 1 : 0);
    }
    return false;
}

static bool fits(const struct kbs_config_foreign *f, const struct kbs_doc_node *value)
{
    if (f->values == NULL) {
        return true;
    }
    if (value->type == KBS_DOC_BOOLEAN) {
        const char *text = value->boolean ? "true" : "false";
        return one_of(f->values, (struct kbs_doc_text){.p = text, .len = strlen(text)});
    }
    return value->type == KBS_DOC_STRING && one_of(f->values, value->string);
}

const struct kbs_config_foreign *kbs_config_foreign_find(const char *path,
                                                         const struct kbs_doc_node *value)
{
    for (size_t i = 0; i < N; i++) {
        if (strcmp(path, table[i].path) == 0 && fits(&table[i], value)) {
            return &table[i];
        }
    }
    return NULL;
}

bool kbs_config_foreign_below(const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < N; i++) {
        if (strncmp(path, table[i].path, len) == 0 && table[i].path[len] == '.') {
            return true;
        }
    }
    return false;
}
