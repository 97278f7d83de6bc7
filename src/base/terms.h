/*
 * Terms that several roles share, each with one number (on the wire and in the store) and one name
 * (in JSON, logs and audit records). DESIGN: docs/ARCHITECTURE.md, "Custody".
 */
#ifndef KBS_BASE_TERMS_H
#define KBS_BASE_TERMS_H

#include "base/span.h"

/* What a token key is for; exactly one purpose each. */
enum kbs_purpose {
    KBS_PURPOSE_NONE = 0,
    KBS_PURPOSE_RELEASE = 1,       /* goes to attested TEEs, wrapped */
    KBS_PURPOSE_IMPORT = 2,        /* EC pair that administrators wrap keys to */
    KBS_PURPOSE_SIGN_TOKEN = 3,    /* EC pair that signs attestation results */
    KBS_PURPOSE_SIGN_ROW = 4,      /* EC pair that signs the store's rows; admin lane only */
    KBS_PURPOSE_SIGN_HEAD = 5,     /* EC pair that signs heads of the ledger; admin lane only */
    KBS_PURPOSE_CARD = 6,          /* HMAC key that authenticates key cards */
    KBS_PURPOSE_WRAP_CATALOG = 7,  /* AES key under which wrapped keys are stored; versions */
    KBS_PURPOSE_SEAL = 8,          /* EC pair that secrets are sealed to; versions */
    KBS_PURPOSE_NEK = 9,           /* what guests' NEKs are wrapped to: a pair, or an AES key */
    KBS_PURPOSE_REQUEST = 10,      /* EC pair that requests are encrypted to */
    KBS_PURPOSE_SIGN_RECEIPT = 11, /* EC pair that signs receipts of releases */
    KBS_PURPOSE_TLS = 12,          /* EC or RSA pair of a TLS server; versions */
    KBS_PURPOSE_COUNT
};

/* Where a key's value is kept. */
enum kbs_storage {
    KBS_STORAGE_NONE = 0,
    KBS_STORAGE_RESIDENT = 1, /* a token object */
    KBS_STORAGE_WRAPPED = 2,  /* a blob in the store under a wrap-catalog key, unwrapped per use */
    KBS_STORAGE_SEALED = 3,   /* a secret, encrypted to a seal key; opened in kbs-token only */
    KBS_STORAGE_COUNT
};

/* What a released key is for its receiver (CKA_KEY_TYPE in the token). */
enum kbs_key_alg {
    KBS_KEY_ALG_NONE = 0,
    KBS_KEY_ALG_AES = 1,     /* 16, 24 or 32 bytes */
    KBS_KEY_ALG_GENERIC = 2, /* a generic secret, 16 to 64 bytes, a multiple of 8 */
    KBS_KEY_ALG_SECRET = 3,  /* an opaque value of any length, sealed */
    KBS_KEY_ALG_P256 = 4,    /* EC pairs that NEKs are wrapped to; bytes: of the field */
    KBS_KEY_ALG_P384 = 5,
    KBS_KEY_ALG_P521 = 6,
    KBS_KEY_ALG_RSA = 7, /* the same by RSA; bytes: of the modulus */
    KBS_KEY_ALG_COUNT
};

/* The life of a key version. Only an enabled one is released. */
enum kbs_key_state {
    KBS_KEY_STATE_NONE = 0,
    KBS_KEY_STATE_ENABLED = 1,
    KBS_KEY_STATE_DISABLED = 2,
    KBS_KEY_STATE_PENDING = 3,   /* will be destroyed at a set time, unless that is undone */
    KBS_KEY_STATE_DESTROYED = 4, /* the row stays, so that its name is never used again */
    KBS_KEY_STATE_COUNT
};

/* How a key check value was computed: first 4 bytes of a MAC over "kbs-kcv". */
enum kbs_kcv_mac {
    KBS_KCV_NONE = 0,
    KBS_KCV_HMAC_SHA256 = 1,
    KBS_KCV_AES_CMAC = 2, /* keys under 32 bytes on tokens without HMAC of keys that short */
    KBS_KCV_PUBLIC = 3,   /* pairs: of SHA-256 of the public key as kbs_tee_key_put() has it */
    KBS_KCV_COUNT
};

/* What a TEE key is used with: the JOSE `alg` it was sent with (RFC 7518 section 4.1). */
enum kbs_tee_alg {
    KBS_TEE_ALG_NONE = 0,
    KBS_TEE_ALG_ECDH_ES_A256KW = 1,
    KBS_TEE_ALG_RSA_OAEP_256 = 2,
    KBS_TEE_ALG_RSA_OAEP = 3, /* SHA-1: only because the TEE key says so */
    KBS_TEE_ALG_RSA1_5 = 4,   /* PKCS#1 v1.5: secrets only, and only where an operator allows it */
    /* Keys that sign requests (docs/protocol/requests.md): nothing is ever wrapped to one. */
    KBS_TEE_ALG_ES256 = 5,
    KBS_TEE_ALG_ES384 = 6,
    KBS_TEE_ALG_ES512 = 7,
    KBS_TEE_ALG_COUNT
};

/* What crossed the PKCS#11 interface in a release; the larger number is the stronger. */
enum kbs_locality {
    KBS_LOCALITY_NONE = 0,
    KBS_LOCALITY_WORKER = 1,    /* the key itself was in kbs-token's memory */
    KBS_LOCALITY_TRANSPORT = 2, /* the one-request wrapping key was, for under a millisecond */
    KBS_LOCALITY_TOKEN = 3,     /* neither the shared secret, nor the wrapping key, nor the key */
    KBS_LOCALITY_COUNT
};

/* What kind of thing the token is; from quirk tables, never from probing. */
enum kbs_token_class {
    KBS_TOKEN_CLASS_UNKNOWN = 0,
    KBS_TOKEN_CLASS_SOFTWARE = 1,
    KBS_TOKEN_CLASS_HARDWARE_HOST_ASSISTED = 2,
    KBS_TOKEN_CLASS_HARDWARE = 3,
    KBS_TOKEN_CLASS_COUNT
};

/* Which operations a kbs-judge may order and its kbs-token obeys. */
enum kbs_duty {
    KBS_DUTY_NONE = 0,
    KBS_DUTY_RELEASE = 1, /* guest lanes: list `release` */
    KBS_DUTY_ADMIN = 2,   /* the admin lane: list `admin` */
    KBS_DUTY_SIGN = 3,    /* a front, or an operator's own command line: list `sign` */
    KBS_DUTY_COUNT
};

/* What a signature is made by, in the list `sign`. */
enum kbs_sign_alg {
    KBS_SIGN_NONE = 0,
    KBS_SIGN_ECDSA = 1,
    KBS_SIGN_RSA_PKCS1 = 2, /* RFC 8017 section 8.2 */
    KBS_SIGN_RSA_PSS = 3,   /* RFC 8017 section 8.1, MGF1 with the same hash */
    KBS_SIGN_COUNT
};

/* Who else than enrolled administrators may mutate ([admin] authorization_mode): never in production. */
enum kbs_admin_mode {
    KBS_ADMIN_SIGNED = 0,             /* nobody: every request is signed (the default) */
    KBS_ADMIN_DENY_ALL = 1,           /* the same, by Trustee's name */
    KBS_ADMIN_BEARER = 2,             /* AuthenticatedAuthorization: bearer_jwt and regex_acl */
    KBS_ADMIN_INSECURE_ALLOW_ALL = 3, /* anybody who reaches the listener */
    KBS_ADMIN_MODE_COUNT
};

/* What kbs-policy has to say of a policy. */
enum kbs_rego_verdict {
    KBS_REGO_NONE = 0,
    KBS_REGO_ALLOW = 1,
    KBS_REGO_DENY = 2,
    KBS_REGO_ERROR = 3,   /* does not parse, cannot be evaluated, or went over a bound */
    KBS_REGO_UNKNOWN = 4, /* a digest whose policy is not loaded (any more) */
    KBS_REGO_LOADED = 5,
    KBS_REGO_RESULT = 6, /* an object, as the query asked for */
    KBS_REGO_COUNT
};

/* What a policy is asked for. */
enum kbs_rego_query {
    KBS_REGO_QUERY_ALLOW = 0, /* data.policy.allow, a boolean: of resource policies */
    KBS_REGO_QUERY_TRUST =
        1, /* data.policy.trust_claims or .result, an object: of attestation policies */
    KBS_REGO_QUERY_COUNT
};

/* What an APPEND is to a mutation of the store; epochs are counted by kbs-audit. */
enum kbs_phase {
    KBS_PHASE_NONE = 0,
    KBS_PHASE_INTENT = 1,  /* about to commit rows with this epoch */
    KBS_PHASE_OUTCOME = 2, /* rows with this epoch are committed, or never will be */
    KBS_PHASE_RESTORE = 3, /* an administrator accepts a store with this epoch */
    KBS_PHASE_COUNT
};

/* The shape of a released key. */
enum kbs_format {
    KBS_FORMAT_NONE = 0,
    KBS_FORMAT_JOSE = 1, /* application/jose+json: one general-JWE recipient */
    KBS_FORMAT_COSE = 2, /* application/cose: COSE_Encrypt, nil ciphertext, one recipient */
    KBS_FORMAT_JWE = 3,  /* application/json: a flattened JWE whose payload is the key */
    KBS_FORMAT_COUNT
};

/* Which listener a request came in by. */
enum kbs_listener {
    KBS_LISTENER_NONE = 0,
    KBS_LISTENER_GUEST = 1,
    KBS_LISTENER_ADMIN = 2,
    KBS_LISTENER_COUNT
};

/* How far the TEE key is bound to the evidence; the larger number is the stronger. */
enum kbs_binding {
    KBS_BINDING_NONE = 0,
    KBS_BINDING_TOKEN = 1,
    KBS_BINDING_SESSION = 2,
    KBS_BINDING_EVIDENCE = 3,
    KBS_BINDING_HARDWARE = 4,
    KBS_BINDING_FULL = 5,
    KBS_BINDING_COUNT
};

/* Where a key came from. */
enum kbs_provenance {
    KBS_PROVENANCE_NONE = 0,
    KBS_PROVENANCE_GENERATED = 1, /* born in the token */
    KBS_PROVENANCE_IMPORTED =
        2,                      /* unwrapped in the token from a blob addressed to its import key */
    KBS_PROVENANCE_ADOPTED = 3, /* found in the token */
    KBS_PROVENANCE_COUNT
};

/*
 * The `tee` values of the KBS protocol. That one is here says that its name is known; which of them
 * have a verifier is in attest/evidence.c.
 */
enum kbs_tee {
    KBS_TEE_NONE = 0,
    KBS_TEE_SAMPLE = 1,       /* no hardware, only for tests and demonstrations */
    KBS_TEE_SAMPLEDEVICE = 2, /* the same, as a device beside a TEE */
    KBS_TEE_AZ_SNP_VTPM = 3,
    KBS_TEE_AZ_TDX_VTPM = 4,
    KBS_TEE_CCA = 5,
    KBS_TEE_CSV = 6,
    KBS_TEE_HYGONDCU = 7,
    KBS_TEE_NVIDIA = 8,
    KBS_TEE_SE = 9,
    KBS_TEE_SGX = 10,
    KBS_TEE_SNP = 11,
    KBS_TEE_TDX = 12,
    KBS_TEE_TPM = 13,
    KBS_TEE_COUNT
};

/* Attestation services that evidence can be handed to ([attestation_service] type). */
enum kbs_delegate {
    KBS_DELEGATE_BUILTIN = 0,      /* none: evidence is verified here */
    KBS_DELEGATE_COCO_REST = 1,    /* CoCo's Attestation Service, REST */
    KBS_DELEGATE_COCO_REST_V1 = 2, /* the same, before its requests could hold devices' evidence */
    KBS_DELEGATE_COCO_GRPC = 3,    /* the same by gRPC */
    KBS_DELEGATE_INTEL_TA = 4,     /* Intel Trust Authority */
    KBS_DELEGATE_COUNT
};

/* The versions of the KBS protocol that are spoken here; a session keeps to the one it began with. */
enum kbs_protocol {
    KBS_PROTOCOL_NONE = 0,
    KBS_PROTOCOL_0_2_0 = 1,
    KBS_PROTOCOL_0_4_0 = 2,
    KBS_PROTOCOL_COUNT
};

/* Names: returns static text, "unknown" for numbers out of range. */
const char *kbs_purpose_name(enum kbs_purpose v);
const char *kbs_locality_name(enum kbs_locality v);
const char *kbs_token_class_name(enum kbs_token_class v);
const char *kbs_duty_name(enum kbs_duty v);
const char *kbs_format_name(enum kbs_format v);
const char *kbs_binding_name(enum kbs_binding v);
const char *kbs_provenance_name(enum kbs_provenance v);
const char *kbs_storage_name(enum kbs_storage v);
const char *kbs_key_alg_name(enum kbs_key_alg v);
const char *kbs_key_state_name(enum kbs_key_state v);
const char *kbs_kcv_mac_name(enum kbs_kcv_mac v); /* "HMAC-SHA-256", "AES-CMAC" */
const char *kbs_tee_alg_name(enum kbs_tee_alg v); /* as JOSE spells it */
const char *kbs_tee_name(enum kbs_tee v);         /* as the protocol spells it today */
const char *kbs_protocol_name(enum kbs_protocol v);
const char *kbs_delegate_name(enum kbs_delegate v); /* "builtin", "coco_as_rest", ... */

/* Whether such a service can be asked about evidence of that kind, as a TEE or a device. */
bool kbs_delegate_takes(enum kbs_delegate type, enum kbs_tee tee);

/* The reverse; the NONE value (UNKNOWN for classes) if the name is not in the table. */
enum kbs_purpose kbs_purpose_from_name(struct kbs_span name);
enum kbs_locality kbs_locality_from_name(struct kbs_span name);
enum kbs_tee kbs_tee_from_name(struct kbs_span name); /* also by a name of before */
enum kbs_protocol kbs_protocol_from_name(struct kbs_span name);
enum kbs_delegate kbs_delegate_from_name(struct kbs_span name); /* COUNT if there is none */
enum kbs_storage kbs_storage_from_name(struct kbs_span name);
enum kbs_key_alg kbs_key_alg_from_name(struct kbs_span name);
enum kbs_key_state kbs_key_state_from_name(struct kbs_span name);
enum kbs_tee_alg kbs_tee_alg_from_name(struct kbs_span name);
enum kbs_kcv_mac kbs_kcv_mac_from_name(struct kbs_span name);

/* True for EC keys, whatever they are used with; and for those of them that sign. */
bool kbs_tee_alg_is_ec(enum kbs_tee_alg alg);
bool kbs_tee_alg_signs(enum kbs_tee_alg alg);

/* True for pairs, which have a public half. */
bool kbs_key_alg_is_pair(enum kbs_key_alg alg);
enum kbs_binding kbs_binding_from_name(struct kbs_span name);

/* True if a key of that alg can have that many bytes; secrets: 1 to KBS_LIMIT_SECRET_VALUE_BYTES. */
bool kbs_key_bytes_valid(enum kbs_key_alg alg, uint64_t bytes);

#define KBS_KEY_ID_BYTES 16
#define KBS_CKA_ID_BYTES (KBS_KEY_ID_BYTES + 4)
#define KBS_CKA_ID_MAX_BYTES 32 /* of an adopted key */
#define KBS_KCV_BYTES 4

/* CKA_ID of a key version: key id || version, big endian. */
void kbs_cka_id(const uint8_t key_id[KBS_KEY_ID_BYTES], uint32_t version,
                uint8_t ret[KBS_CKA_ID_BYTES]);

/*
 * Key ids of the service's own keys are fixed, so that every role and every replica finds them
 * without configuration: the first 16 bytes of SHA-256("kbs-hsm " || purpose name).
 */
void kbs_service_key_id(enum kbs_purpose purpose, uint8_t ret[KBS_KEY_ID_BYTES]);

/*
 * Which of several versions of a key signs at a time, by when each may begin (Unix time), the oldest
 * first: the newest whose time has come; if none's has, the one whose time comes first. n: at least 1.
 */
size_t kbs_sign_version_at(const uint64_t *from_s, size_t n, uint64_t now_s);

/*
 * True for a resource path `repo/type/tag`: three segments of [A-Za-z0-9_-][A-Za-z0-9_.-]*, in all
 * at most KBS_LIMIT_KEY_PATH_BYTES (Trustee's rule). Such text needs no escaping in JSON, CBOR text
 * or CKA_LABEL.
 */
bool kbs_key_path_valid(struct kbs_span path);
bool kbs_key_segment_valid(struct kbs_span segment);

/* Splits a wire kid `repo/type/tag/vN` (N decimal, 1 to 4294967295, no leading zero); false if
 * malformed. */
bool kbs_kid_split(struct kbs_span kid, struct kbs_span *ret_path, uint32_t *ret_version);

/*
 * Party V of a release (docs/protocol/key-release.md):
 * SHA-256("kbs-v1" || report-data digest of the handshake || 32-byte request nonce, or zeros).
 */
void kbs_party_v(struct kbs_span report_digest, const uint8_t nonce[32], uint8_t ret[32]);

#endif
