/*
 * Every bound of the system, with its unit in its name. Nothing is unbounded: a wait has a
 * deadline, a queue a length, an input a size. Operators may tighten some of them in the
 * configuration ([limits]).
 */
#ifndef KBS_BASE_LIMITS_H
#define KBS_BASE_LIMITS_H

/* errors and logs */
#define KBS_LIMIT_ERROR_DETAIL_BYTES 192
#define KBS_LIMIT_LOG_LINE_BYTES 1024

/* secrets: the OpenSSL secure heap, a power of two */
#define KBS_LIMIT_SECURE_HEAP_BYTES 524288
#define KBS_LIMIT_SECRET_BYTES (KBS_LIMIT_SECRET_VALUE_BYTES + 64u) /* room for tag and padding */

/* role channels (src/wire): largest body of any message */
#define KBS_LIMIT_WIRE_BODY_BYTES (4u << 20)
#define KBS_LIMIT_WIRE_LIST_ITEMS 256

/* HTTP (src/http, src/front) */
#define KBS_LIMIT_HTTP_TARGET_BYTES 4096
#define KBS_LIMIT_HTTP_HEAD_BYTES 16384
#define KBS_LIMIT_HTTP_HEADERS 64
#define KBS_LIMIT_HTTP_SEGMENTS 16
#define KBS_LIMIT_HTTP_SEGMENT_BYTES 255
#define KBS_LIMIT_HTTP_QUERY_PAIRS 16
#define KBS_LIMIT_HTTP_BODY_BYTES (2u << 20)
#define KBS_LIMIT_HTTP_RESPONSE_BYTES (3u << 20)
#define KBS_LIMIT_HTTP_HEAD_MS 10000
#define KBS_LIMIT_HTTP_BODY_MS 30000
#define KBS_LIMIT_HTTP_IDLE_MS 60000
#define KBS_LIMIT_HTTP_WRITE_MS 30000
#define KBS_LIMIT_TLS_HANDSHAKE_MS 10000
#define KBS_LIMIT_TLS_SIGN_MS \
    5000 /* for a signature by a token-held key, waiting for a channel included */
#define KBS_LIMIT_TLS_SIGNERS \
    16 /* signatures at a time: threads, and channels to the sign worker */
#define KBS_LIMIT_FRONT_CONNECTIONS 1024
#define KBS_LIMIT_FRONT_QUEUE 64
#define KBS_LIMIT_LANE_ABSENT_MS 3000 /* requests wait that long for the last lane to come back */
#define KBS_LIMIT_FRONT_LISTENERS 8
#define KBS_LIMIT_REQUEST_MS 20000
#define KBS_LIMIT_RETRY_AFTER_S 1
#define KBS_LIMIT_DRAIN_MS 15000

/* lanes */
#define KBS_LIMIT_LANES 32
#define KBS_LIMIT_TOKEN_OP_MS 10000
#define KBS_LIMIT_AUDIT_ACK_MS 5000
#define KBS_LIMIT_TOKEN_LOGIN_MS 30000
#define KBS_LIMIT_START_MS 60000
#define KBS_LIMIT_RESTART_BACKOFF_MIN_MS 100
#define KBS_LIMIT_RESTART_BACKOFF_MAX_MS 30000

/* JSON and JOSE (src/jose/read) */
#define KBS_LIMIT_JSON_DEPTH 32
#define KBS_LIMIT_JSON_VALUES 100000u /* above any event log; about 12 MiB of {} */
#define KBS_LIMIT_JWT_BYTES 65536
#define KBS_LIMIT_JWKS_KEYS 32 /* of one set */

/* evidence (src/attest) */
#define KBS_LIMIT_CERTIFICATE_BYTES 8192 /* DER; AMD's have 1.3 to 1.7 KiB */
#define KBS_LIMIT_CRL_BYTES 262144
#define KBS_LIMIT_CERT_TABLE_BYTES 65536 /* certificates that a host gives its guests */

/* RCAR sessions (src/api, src/store) */
#define KBS_LIMIT_SESSIONS 100000
#define KBS_DEFAULT_SESSIONS_CHALLENGED 50000 /* of them, those that have not attested */
#define KBS_DEFAULT_AUTH_PER_S 200            /* handshakes that one source begins in a second */
#define KBS_LIMIT_AUTH_SOURCES 4096           /* sources that a front counts at a time */
#define KBS_LIMIT_DEVICES 8                   /* kinds of devices that attest beside a TEE */
#define KBS_LIMIT_DEVICE_EVIDENCE_BYTES (1u << 20) /* of all of them */
#define KBS_LIMIT_HASHES_LISTED 64                 /* names in supported-hash-algorithms */
#define KBS_LIMIT_NONCE_BYTES 32
#define KBS_LIMIT_CHALLENGE_BYTES 8192 /* text of a challenge that an attestation service made */
#define KBS_LIMIT_DELEGATE_POLICIES 16 /* that an attestation service is asked to apply */
#define KBS_LIMIT_COOKIE_BYTES 32

/* store: how often and how long to wait for another judge's write */
#define KBS_LIMIT_STORE_BUSY_STEP_NS 100000
#define KBS_LIMIT_STORE_BUSY_MS 5000

/* requests that a host proxy can carry but not use (src/api/protect.c) */
#define KBS_LIMIT_ENVELOPE_BYTES 4096 /* of a request's body, before it is encrypted */
#define KBS_LIMIT_REQUEST_NONCES 16   /* that a session may have at a time: the oldest goes */
#define KBS_LIMIT_REQUEST_NONCE_S 120 /* how long one counts */

/* keys */
#define KBS_LIMIT_ORDER_BYTES 16 /* random name of an order, shared by its record and its deed */
#define KBS_LIMIT_KEY_PATH_BYTES 255 /* repo/type/tag */
#define KBS_LIMIT_KID_BYTES 272      /* repo/type/tag/v4294967295 */
#define KBS_LIMIT_KEY_BYTES_MIN 16
#define KBS_LIMIT_KEY_BYTES_MAX 64
#define KBS_LIMIT_COSE_SALT_BYTES 64
#define KBS_LIMIT_RSA_BYTES_MIN 256 /* modulus of a TEE key: 2048 to 4096 bits */
#define KBS_LIMIT_RSA_BYTES_MAX 512
#define KBS_LIMIT_SECRET_VALUE_BYTES 131072u /* a sealed secret, before it is sealed */
#define KBS_LIMIT_SECRET_VERSIONS 16         /* of one path that are kept */
#define KBS_LIMIT_REWRAP_BATCH 100           /* wrapped keys under a new wrapping key per request */
#define KBS_LIMIT_RESEAL_BATCH 16            /* secrets under a new seal key per request */
#define KBS_LIMIT_DESTROY_AFTER_S 31536000   /* a destruction is at most a year ahead */
#define KBS_DEFAULT_DESTROY_AFTER_S 604800
#define KBS_LIMIT_DESTROY_RETRY_MS 600000 /* after a destruction that failed */
#define KBS_LIMIT_KEY_BLOB_BYTES 544      /* a wrapped key or a public one, in the store */
#define KBS_LIMIT_COSE_MESSAGE_BYTES 4096 /* a release as kbs-guest receives it */
#define KBS_LIMIT_RECEIPT_BYTES 3072      /* of a release, as text in a header */
#define KBS_LIMIT_KEY_PEM_BYTES 4096
/* What kbs-fetch brings. */
#define KBS_LIMIT_FETCH_BYTES (1u << 20)          /* an answer to a request's fetch */
#define KBS_LIMIT_FETCH_DOCUMENT_BYTES (1u << 20) /* a document that is kept fresh */
#define KBS_LIMIT_FETCH_ROUNDS 12                 /* fetches of one request */
#define KBS_LIMIT_FETCH_WAITING 256               /* requests that wait for one, of a front */
#define KBS_LIMIT_FETCH_WAITING_BYTES (32u << 20) /* and what they hold */
#define KBS_LIMIT_FETCH_NAME_BYTES 63             /* of an endpoint or document */
#define KBS_LIMIT_FETCH_ENDPOINTS 16
#define KBS_LIMIT_FETCH_DOCUMENTS 32
#define KBS_LIMIT_FETCH_MS 15000 /* the longest that an endpoint may be given */
#define KBS_LIMIT_FETCH_RETRIES 5
#define KBS_LIMIT_FETCH_BACKOFF_MS 50     /* before the first retry; doubled for each further one */
#define KBS_LIMIT_FETCH_PARALLEL 32       /* transfers of an endpoint at a time */
#define KBS_LIMIT_FETCH_QUEUE 64          /* fetches that wait for a place there */
#define KBS_LIMIT_FETCH_HEADER_BYTES 8192 /* of an endpoint's own headers */
#define KBS_LIMIT_FETCH_HEADER_FILES 4
#define KBS_LIMIT_FETCH_KEPT 4096             /* answers in the cache; the oldest makes room */
#define KBS_LIMIT_FETCH_LOOK_AGAIN_MS 5000    /* between fetches that judges ask for */
#define KBS_LIMIT_FETCH_DOCUMENT_RETRY_MS 500 /* after a failure; doubled, up to its refresh_s */
#define KBS_LIMIT_FETCH_PEERS 96 /* fronts and judges, and those that are being replaced */
#define KBS_LIMIT_ISSUERS 16
#define KBS_LIMIT_ENDORSEMENTS_PER_MIN 30 /* certificates that a lane has fetched for guests */
#define KBS_LIMIT_RENEW_S 60              /* how often revocation lists are looked at */

#define KBS_LIMIT_POLICY_BYTES 65536
#define KBS_LIMIT_POLICY_DEPTH 8
#define KBS_LIMIT_POLICY_EVAL_BYTES \
    (KBS_LIMIT_REFERENCES_BYTES + 2 * KBS_LIMIT_JWT_BYTES) /* claims, and data beside them */
#define KBS_LIMIT_POLICY_RESULT_BYTES 1024 /* of a policy that says more than yes or no */
#define KBS_LIMIT_POLICY_EVAL_MS 500       /* parsing or evaluating a Rego policy */
#define KBS_LIMIT_POLICY_MIB 512           /* address space of kbs-policy */
#define KBS_LIMIT_POLICIES_LOADED 16
#define KBS_LIMIT_ADMIN_KEYS 64
#define KBS_LIMIT_ADMIN_PROVIDERS 16
#define KBS_LIMIT_ADMIN_PROVIDER_BYTES 255 /* an issuer, an audience */
#define KBS_LIMIT_ADMIN_JWT_LEEWAY_S 60    /* between an identity provider's clock and ours */
#define KBS_LIMIT_ADMIN_ACLS 64
#define KBS_LIMIT_ADMIN_ROLE_BYTES 64
#define KBS_LIMIT_ADMIN_ACL_BYTES 512
#define KBS_LIMIT_ADMIN_JWKS_BYTES 65536
#define KBS_LIMIT_ADMIN_JWKS_STALE_S 86400 /* a published set that could not be renewed so long */
#define KBS_LIMIT_DOCUMENT_BYTES KBS_LIMIT_POLICY_BYTES /* a Rego policy; the reference values */
#define KBS_LIMIT_DOCUMENT_NAME_BYTES 255
#define KBS_LIMIT_DOCUMENT_VERSIONS 8        /* of one document that are kept */
#define KBS_LIMIT_ALIAS_RULES 256            /* of one alias */
#define KBS_LIMIT_DOCUMENTS 10000            /* versions of all documents */
#define KBS_LIMIT_DOCUMENTS_BYTES (8u << 20) /* their texts: read whole at every mutation */
#define KBS_LIMIT_APPROVERS 8                /* administrators that a change may be made to need */
#define KBS_LIMIT_APPROVALS 32           /* requests that wait for approval, and those that did */
#define KBS_LIMIT_APPROVAL_BYTES 122880u /* such a request, with what signs it */
#define KBS_LIMIT_APPROVAL_REQUEST_BYTES \
    (KBS_LIMIT_APPROVERS * KBS_LIMIT_HTTP_HEAD_BYTES) /* signatures that allow one change */
#define KBS_APPROVAL_S 86400                          /* how long it waits */
#define KBS_LIMIT_REFERENCE_VALUES 64                 /* that are set in one request */
#define KBS_LIMIT_REFERENCES_BYTES (1u << 20) /* all reference values at a time, as one JSON text */
#define KBS_REFERENCE_VALUE_S 31536000 /* how long a reference value counts, unless it says so */
#define KBS_LIMIT_RESOURCE_LIST_ITEMS 10000 /* in an answer that is not paged */
#define KBS_LIMIT_ADMIN_NONCE_S 60
#define KBS_LIMIT_ADMIN_SIGNATURE_S 120
#define KBS_LIMIT_KEY_LIST_ITEMS 1000 /* keys or secrets in one answer */
#define KBS_LIMIT_KEY_LIST_PAGES 1000 /* answers that kbs-admin puts together */

/* token */
#define KBS_LIMIT_PIN_BYTES 256
#define KBS_LIMIT_HANDLE_CACHE 4096
#define KBS_LIMIT_CARD_CACHE 4096      /* cards already checked, per worker */
#define KBS_LIMIT_KEY_VERSIONS 256     /* of one key of the service in the token at a time */
#define KBS_LIMIT_SIGN_VERSIONS 16     /* the same of sign-token: they are a JWK set */
#define KBS_LIMIT_SIGN_LOOK_MS 5000    /* what is known of them is older than that nowhere */
#define KBS_LIMIT_SIGN_LOOKS_PER_S 8   /* at the asking of whoever brings a token, per lane */
#define KBS_LIMIT_SIGN_AFTER_S 2592000 /* a key signs at most 30 days after it was made */
#define KBS_DEFAULT_SIGN_AFTER_S 600   /* longer than relying parties keep a JWK set */
#define KBS_LIMIT_TOKEN_OBJECTS 200000 /* made by a worker of a token that leaks them: 46 MiB */

/* what guest lanes keep */
#define KBS_LIMIT_KEEPS_QUOTA 100000 /* guests that have something kept under one key */
#define KBS_LIMIT_PROVISION_BLOB_BYTES 2048
#define KBS_LIMIT_REGISTER_DIGEST_BYTES 64

/* audit */
#define KBS_LIMIT_AUDIT_FIELD_BYTES 1024
#define KBS_LIMIT_AUDIT_RECORD_BYTES 16384
#define KBS_LIMIT_AUDIT_CLIENTS 160 /* two a lane, and those of lanes that are being replaced */
#define KBS_LIMIT_AUDIT_RESERVE_BYTES (64u << 20) /* of the disk, kept for what is not a refusal */
#define KBS_LIMIT_AUDIT_LATER_MS 50   /* a record nobody waits for yet is on the disk after that */
#define KBS_LIMIT_AUDIT_RETRY_MS 1000 /* how often a ledger that cannot be written is tried */
#define KBS_LIMIT_AUDIT_REFUSALS_PER_MIN 60 /* records of one kind of refusal, per lane */
#define KBS_LIMIT_AUDIT_HEAD_MS 300000      /* the longest time without a signed head */
#define KBS_LIMIT_AUDIT_BATCH 256

#endif
