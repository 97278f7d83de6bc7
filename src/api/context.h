/* Inside src/api only: what the handlers share. */
#ifndef KBS_API_CONTEXT_H
#define KBS_API_CONTEXT_H

#include "api/api.h"
#include "attest/ear.h"
#include "attest/issuer/issuer.h"
#include "base/arena.h"
#include "channel/channel.h"
#include "jose/read/json.h"
#include "nek/blob.h"
#include "policy/keeps.h"
#include "wire/receipt.h"

#define KBS_API_ARENA_BYTES (256u * 1024)
#define KBS_API_THUMBPRINT_BYTES 44 /* base64url of SHA-256, and a terminator */

/* How an administrator was known. */
enum kbs_admin_auth {
    KBS_ADMIN_BY_SIGNATURE = 0, /* Kbs-Signature, the only way in production */
    KBS_ADMIN_BY_BEARER = 1,    /* a JWT of an identity provider */
    KBS_ADMIN_ANYBODY = 2       /* not at all */
};

/* An enrolled administrator, or whom Trustee's modes let in. */
struct kbs_admin {
    struct kbs_ec_public key; /* of signatures only */
    /* of the key, or a name for the records: "bearer:" and a part of a hash, or "anybody" */
    char thumbprint[KBS_API_THUMBPRINT_BYTES];
    enum kbs_admin_auth auth;
    char role[KBS_LIMIT_ADMIN_ROLE_BYTES + 1]; /* of a Bearer token, plain text; else empty */
};

/* A version of the key that our tokens are signed with, or of that of TLS. */
struct kbs_sign_key {
    uint32_t version;
    uint64_t from_s; /* Unix time from which it signs, if no newer one does */
    struct kbs_ec_public key;
    char kid[KBS_API_THUMBPRINT_BYTES];
};

/* What DESCRIBE said of the token; NUL-terminated text, checked to be UTF-8. */
struct kbs_token_facts {
    char manufacturer[64];
    char model[64];
    char serial[64];
    enum kbs_token_class class;
    char rungs[512];                                   /* a JSON array of their names */
    struct kbs_sign_key sign[KBS_LIMIT_SIGN_VERSIONS]; /* sign_count of them, the oldest first */
    size_t sign_count;
    struct kbs_sign_key tls[KBS_LIMIT_SIGN_VERSIONS]; /* the same; in the admin lane only */
    size_t tls_count;
    bool has_import;
    struct kbs_ec_public import;
    char import_kid[KBS_API_THUMBPRINT_BYTES];
    bool has_row;
    struct kbs_ec_public row; /* signs the store's rows */
    bool has_head;
    struct kbs_ec_public head; /* signs heads of the ledger */
    char head_kid[KBS_API_THUMBPRINT_BYTES];
    bool has_seal;
    struct kbs_ec_public seal; /* secrets are sealed to it */
    char seal_kid[KBS_API_THUMBPRINT_BYTES];
    bool has_receipt;
    struct kbs_ec_public receipt; /* signs receipts */
    char receipt_kid[KBS_API_THUMBPRINT_BYTES];
    bool has_request;
    struct kbs_ec_public request; /* requests are encrypted to it */
    char request_kid[KBS_API_THUMBPRINT_BYTES];
    uint32_t seal_version; /* the newest ones; 0 if there is none */
    uint32_t wrap_version;
};

/* The channel to kbs-audit: at most one record waits for its ACK. */
struct kbs_api_ledger {
    int fd;
    uint64_t last_id;
    struct kbs_channel_msg answer;
};

/* Refusals that anybody can cause, written at most so often (sampler.c). */
struct kbs_sampler {
    uint64_t window_s; /* when the current minute began */
    uint32_t count;    /* records in it */
    uint64_t suppressed;
};

#define KBS_API_ROWS_VERIFIED 256 /* a power of two */
#define KBS_API_PARSED 16         /* the same */

/* A text and its tree (parsed.c). */
struct kbs_parsed {
    struct kbs_buf text;
    json_t *root; /* NULL: empty */
};

/* The reference values that count, as they were read at one epoch of the store (references.c). */
struct kbs_references {
    bool read;
    uint64_t epoch;
    int64_t until_s;     /* one of them expires then */
    json_t *values;      /* owned: an object, name to value */
    struct kbs_buf data; /* {"reference":{...}}, what attestation policies have as data */
};

/* What is known of the store's standing against the ledger (epoch.c). */
struct kbs_standing {
    bool stale; /* no key is served */
    char reason[KBS_LIMIT_ERROR_DETAIL_BYTES];
    uint64_t checked_ns; /* when it was found stale */
    struct kbs_store_epoch store;
    uint64_t ledger_epoch;
    bool ledger_outcome;
};

/* kbs-fetch, as a judge knows it (fetch.c). */
struct kbs_api_fetch {
    bool attached; /* it was there once: if it is not now, it is being replaced */
    int fd;        /* owned; -1: none */
    struct kbs_channel_msg answer;
    struct kbs_buf want; /* body of the FETCH that the request at hand ends with */
};

/* The attestation service that evidence is handed to (delegated.c). */
struct kbs_api_delegate {
    enum kbs_delegate type; /* BUILTIN: there is none */
    char endpoint[KBS_LIMIT_KID_BYTES];
    char issuer[KBS_LIMIT_KID_BYTES];
    bool tees[KBS_TEE_COUNT];            /* whose evidence goes there */
    enum kbs_hash hashes[KBS_TEE_COUNT]; /* the one that it knows; NONE: any */
    struct kbs_span policy_ids[KBS_LIMIT_DELEGATE_POLICIES];
    size_t policy_count;
    struct kbs_wire_list policies; /* what policy_ids are of */
    struct kbs_buf texts;          /* owned; and what that is in */
};

struct kbs_answer {
    unsigned int status;
    const char *content_type; /* static */
    const char *variant; /* static; error type of this endpoint for what its handler met, or NULL */
    char cookie[KBS_LIMIT_COOKIE_BYTES + 1];
    uint64_t cookie_expires_s;
    struct kbs_buf body;
    struct kbs_buf receipt; /* of what is released in it; empty for none */
};

struct kbs_api {
    enum kbs_duty duty;
    bool production;
    bool allow_sample;
    bool rsa1_5;
    bool svsm;                            /* see svsm.c */
    uint32_t sessions;                    /* that may wait for their evidence */
    uint32_t resource_bytes;              /* of a resource's value */
    const struct kbs_verifier *verifiers; /* borrowed; NULL: none but those built in */
    const struct kbs_issuers *issuers;    /* borrowed; NULL: no token but our own is believed */
    struct kbs_api_delegate delegate;
    struct kbs_buf resource_policy; /* of resources that come without one; empty: none */
    char nek_key[KBS_LIMIT_KEY_PATH_BYTES + 1]; /* that wrap-key is about; empty: none */
    char id_key[KBS_LIMIT_KEY_PATH_BYTES + 1];  /* that id-key is about; likewise */
    char issuer[256];
    uint32_t session_s;
    uint32_t token_s;
    struct kbs_store *store;
    int token_fd;
    struct kbs_channel_msg token_answer;
    struct kbs_token_facts token;
    uint64_t token_looked_ns; /* monotonic, when it was described last */
    uint64_t token_looks_s;   /* a second, and the looks in it that guests have caused */
    uint32_t token_looks;
    int policy_fd; /* -1: no kbs-policy */
    struct kbs_channel_msg policy_answer;
    struct kbs_api_fetch fetch;
    struct kbs_api_ledger ledger;
    enum kbs_exit must_exit;
    uint8_t nonce_key[32]; /* of admin nonces, this process's own */
    struct kbs_admin *admins;
    size_t admin_count;
    enum kbs_admin_mode admin_mode;
    uint32_t approvals;              /* administrators that a change of approvals_for needs */
    uint8_t approvals_for;           /* KBS_WIRE_APPROVALS_* */
    struct kbs_bearer *bearer;       /* owned; NULL but in mode BEARER */
    struct kbs_admin caller;         /* of the request at hand, where nobody enrolled signed it */
    struct kbs_sampler denied;       /* admin-denied */
    struct kbs_sampler refused;      /* attest-refused */
    struct kbs_sampler unproven;     /* request-refused */
    struct kbs_sampler endorsements; /* that were fetched (endorse.c) */
    uint64_t renewed_ns;             /* when documents were last looked at; 0: never */
    struct kbs_standing standing;
    uint8_t rows_verified[KBS_API_ROWS_VERIFIED][KBS_SHA256_BYTES]; /* row.c */
    struct kbs_parsed claims[KBS_API_PARSED];                       /* by session */
    struct kbs_parsed policies[KBS_API_PARSED];                     /* by key */
    struct kbs_references references;
    struct kbs_record *owed; /* a release that could not be recorded; owned (ledger.c) */
    uint64_t head_signed;    /* number of the newest `head` record */
    uint64_t head_due_ns;
    int64_t destroy_at_s;        /* when the next key is to be destroyed; 0: none is (due.c) */
    uint64_t destroy_retry_ns;   /* not before that, after one that failed */
    unsigned int destroy_failed; /* so many of those that are due, in this round */
    struct kbs_answer answer;
    char description[256];
};

struct kbs_approval; /* approval.h */

/* A mutation that came to its door and needs more administrators than this request has. */
struct kbs_waiting {
    const char *kind; /* of its records; NULL: there is none */
    const struct kbs_admin *admin;
    uint64_t sequence;
    uint8_t basis[KBS_SHA256_BYTES]; /* digest of what it starts from */
};

/* One request on its way through a handler. */
struct kbs_call {
    struct kbs_api *api;
    const struct kbs_wire_request *req;
    struct kbs_answer *answer;
    struct kbs_arena arena;
    uint64_t deadline_ns;
    int64_t now_s;
    enum kbs_admin_auth auth;       /* kbs_admin_verify() fills in */
    struct kbs_wire_request opened; /* what req is, once its body was decrypted */
    uint16_t fetches;               /* answers of req->fetched that were used so far */
    bool pending;                   /* this run ends here: api->fetch.want is what it needs */
    struct kbs_waiting waiting;
    struct kbs_approval
        *approval; /* the request has waited, and this is why it may be done; or NULL */
};

/* 0 with call->answer filled in, or -1. */
typedef int kbs_handler(struct kbs_call *call, struct kbs_error *err);

kbs_handler kbs_api_auth; /* rcar.c */
kbs_handler kbs_api_attest;
kbs_handler kbs_api_key_release; /* key.c */
kbs_handler kbs_api_key_rewrap;  /* nek.c */
kbs_handler kbs_api_hsm_key;
kbs_handler kbs_api_key_provision; /* provision.c */
kbs_handler kbs_api_register_get;  /* register.c */
kbs_handler kbs_api_register_set;
kbs_handler kbs_api_unwrap_key; /* wrap_key.c */
kbs_handler kbs_api_wrap_key;
kbs_handler kbs_api_id_key_public; /* id_key.c */
kbs_handler kbs_api_id_key_decrypt;
kbs_handler kbs_api_id_key_register;
kbs_handler kbs_api_hsm_keys; /* protect.c */
kbs_handler kbs_api_request_nonce;
kbs_handler kbs_api_jwks;           /* wellknown.c */
kbs_handler kbs_api_admin_nonce;    /* admin_auth.c */
kbs_handler kbs_api_admin_key_list; /* admin_keys.c */
kbs_handler kbs_api_admin_key_show;
kbs_handler kbs_api_admin_key_create; /* admin_key_new.c */
kbs_handler kbs_api_admin_key_import;
kbs_handler kbs_api_admin_key_adopt;
kbs_handler kbs_api_admin_key_rotate;
kbs_handler kbs_api_admin_key_policy; /* admin_key_state.c */
kbs_handler kbs_api_admin_key_disable;
kbs_handler kbs_api_admin_key_enable;
kbs_handler kbs_api_admin_key_destroy;
kbs_handler kbs_api_admin_key_undo;
kbs_handler kbs_api_admin_wrapping_show; /* admin_rotation.c */
kbs_handler kbs_api_admin_wrapping_rotate;
kbs_handler kbs_api_admin_wrapping_destroy;
kbs_handler kbs_api_admin_seal_show;
kbs_handler kbs_api_admin_seal_rotate;
kbs_handler kbs_api_admin_seal_destroy;
kbs_handler kbs_api_admin_sign_list; /* admin_sign_key.c */
kbs_handler kbs_api_admin_sign_rotate;
kbs_handler kbs_api_admin_sign_destroy;
kbs_handler kbs_api_admin_tls_list; /* admin_tls_key.c */
kbs_handler kbs_api_admin_tls_make;
kbs_handler kbs_api_admin_tls_destroy;
kbs_handler kbs_api_receipt_jwks; /* receipt.c */
kbs_handler kbs_api_admin_receipt_key;
kbs_handler kbs_api_admin_receipt_key_make;
kbs_handler kbs_api_admin_wrapping_rewrap; /* admin_move.c */
kbs_handler kbs_api_admin_seal_reseal;
kbs_handler kbs_api_admin_import_key; /* admin_token.c */
kbs_handler kbs_api_admin_token_caps;
kbs_handler kbs_api_resource;      /* resource.c */
kbs_handler kbs_api_resource_list; /* resource_admin.c */
kbs_handler kbs_api_resource_set;
kbs_handler kbs_api_resource_delete;
kbs_handler kbs_api_resource_policy_list; /* documents_admin.c */
kbs_handler kbs_api_resource_policy_set;
kbs_handler kbs_api_attestation_policy_set;
kbs_handler kbs_api_admin_policy_list; /* policies_admin.c */
kbs_handler kbs_api_admin_policy_show;
kbs_handler kbs_api_admin_policy_set;
kbs_handler kbs_api_admin_approval_list; /* approvals_admin.c */
kbs_handler kbs_api_admin_approval_show;
kbs_handler kbs_api_admin_approval_give;
kbs_handler kbs_api_admin_approval_withdraw;
kbs_handler kbs_api_admin_alias_list; /* aliases_admin.c */
kbs_handler kbs_api_admin_alias_show;
kbs_handler kbs_api_admin_alias_set;
kbs_handler kbs_api_admin_alias_remove;
kbs_handler kbs_api_admin_secret_list; /* admin_secrets.c */
kbs_handler kbs_api_admin_secret_show;
kbs_handler kbs_api_admin_secret_set;
kbs_handler kbs_api_admin_secret_policy;
kbs_handler kbs_api_admin_secret_delete;
kbs_handler kbs_api_admin_release_dry_run; /* admin_release.c */
kbs_handler kbs_api_admin_kept_list;       /* admin_kept.c */
kbs_handler kbs_api_admin_kept_forget;
kbs_handler kbs_api_admin_store_show; /* admin_store.c */
kbs_handler kbs_api_admin_store_accept;
kbs_handler kbs_api_reference_value_set; /* reference_admin.c */
kbs_handler kbs_api_reference_value_show;
kbs_handler kbs_api_admin_reference_list;
kbs_handler kbs_api_admin_reference_set;
kbs_handler kbs_api_admin_reference_show;
kbs_handler kbs_api_admin_reference_delete;

/* ---- fetch.c ---- */

struct kbs_fetch_want {
    const char *endpoint; /* a name of [[fetch.endpoint]] */
    enum kbs_fetch_method method;
    struct kbs_span suffix; /* of its URL; empty or beginning with "/" */
    struct kbs_span content_type;
    struct kbs_span accept;
    struct kbs_span body;
    uint32_t max; /* bytes of an answer; at most KBS_LIMIT_FETCH_BYTES */
};
/*
 * What an endpoint answers. 0: *ret, which borrows the request, is the answer, of whatever outcome: to be
 * believed like anything else in a request. -1 with call->pending: this run of the handler ends here, and
 * it will run again from the top with one answer more. -1 without: KBS_UNSUPPORTED without a kbs-fetch,
 * KBS_LIMITED over KBS_LIMIT_FETCH_ROUNDS, KBS_INPUT for an answer that cannot be one. A handler asks in
 * the same order in every run.
 */
KBS_MUST_CHECK int kbs_fetch(struct kbs_call *call, const struct kbs_fetch_want *want,
                             struct kbs_wire_fetched *ret, struct kbs_error *err);
/*
 * A document that kbs-fetch keeps fresh ([[fetch.document]]), at once. look_again asks it to refresh it in
 * the background. *ret borrows api until the next call. KBS_UNSUPPORTED without a kbs-fetch; KBS_BUSY if the
 * document has never been fetched, or kbs-fetch does not answer.
 */
KBS_MUST_CHECK int kbs_fetch_cached(struct kbs_api *api, const char *name, bool look_again,
                                    struct kbs_span *ret, int64_t *ret_fetched_s,
                                    struct kbs_error *err);
/* The same for the keys of an issuer; with: the api. */
kbs_issuer_keys_fn kbs_fetch_keys;
/* Takes the channel; -1 for none. */
void kbs_fetch_attach(struct kbs_api_fetch *f, int fd);

/* ---- delegated.c ---- */

/* KBS_INPUT if it can never work. What it borrows of the setup it copies; texts are the api's to free. */
KBS_MUST_CHECK int kbs_delegate_configure(struct kbs_api_delegate *d,
                                          const struct kbs_api_setup *setup, struct kbs_error *err);
/* Whether evidence of that kind of TEE is handed to an attestation service. */
bool kbs_delegated(const struct kbs_api *api, enum kbs_tee tee);
/*
 * All evidence of a message, the TEE's and devices', by the attestation service; session: with the digest that the
 * TEE's evidence must carry. *ret: what its token says, owned. *ret_level: how far the key is bound. KBS_UNAUTHENTICATED
 * if the evidence or the token does not hold, KBS_INPUT for a shape that is none, KBS_BUSY if the service has trouble; and
 * as kbs_fetch().
 */
KBS_MUST_CHECK int kbs_delegated_verify(struct kbs_call *call, const struct kbs_session *session,
                                        const struct kbs_rcar_attestation *message,
                                        struct kbs_issuer_result *ret, enum kbs_binding *ret_level,
                                        struct kbs_error *err);
/* Whether the challenge for that kind of TEE is the service's to make; and its text. Errors as above. */
bool kbs_delegated_challenges(const struct kbs_api *api, enum kbs_tee tee);
KBS_MUST_CHECK int kbs_delegated_challenge(struct kbs_call *call, enum kbs_tee tee,
                                           struct kbs_buf *ret, struct kbs_error *err);

/* ---- rego.c ---- */

/*
 * Is there a kbs-policy, and does it take this text as a policy for that query? KBS_UNSUPPORTED if
 * there is none, KBS_UNPROCESSABLE with line and column if the text is no policy.
 */
KBS_MUST_CHECK int kbs_rego_check(struct kbs_api *api, enum kbs_rego_query query,
                                  struct kbs_span policy, struct kbs_error *err);

/*
 * Asks a Rego policy (data.policy.allow) about `input` and `data`, JSON objects. 0 if it allows;
 * KBS_DENIED with the reason if it does not or cannot tell; KBS_UNSUPPORTED as above; KBS_BUSY with
 * api->must_exit set if kbs-policy does not answer.
 */
KBS_MUST_CHECK int kbs_rego_decide(struct kbs_api *api, struct kbs_span policy,
                                   struct kbs_span input, struct kbs_span data,
                                   struct kbs_error *err);

/*
 * The same of an attestation policy (data.policy.trust_claims or .result): the vector it gives.
 * KBS_DENIED with the reason if it gives none; the rest as above.
 */
KBS_MUST_CHECK int kbs_rego_trust(struct kbs_api *api, struct kbs_span policy,
                                  struct kbs_span input, struct kbs_span data,
                                  struct kbs_trust_vector *ret, struct kbs_error *err);

/* ---- references.c ---- */

/*
 * The reference values that count now: set, not taken back, not expired, their rows verified. *ret
 * borrows api until the next call. KBS_BUSY if the store is not the ledger's.
 */
KBS_MUST_CHECK int kbs_references_get(struct kbs_api *api, int64_t now_s,
                                      const struct kbs_references **ret, struct kbs_error *err);
void kbs_references_deinit(struct kbs_references *r);
/*
 * The two members of a reference value's text. Returns the value owned. KBS_INTERNAL if it is none.
 */
KBS_MUST_CHECK int kbs_reference_text(struct kbs_span text, int64_t *ret_expires_s,
                                      json_t **ret_value, struct kbs_error *err);

/* ---- appraise.c ---- */

/*
 * Appraises part i of what was verified: by the attestation policy of its class, else by the
 * reference values; the part's trust vector and policy are changed. KBS_UNAUTHENTICATED with the
 * reason if there is a policy and it gives no vector, KBS_UNSUPPORTED if it cannot be asked here.
 */
KBS_MUST_CHECK int kbs_appraise(struct kbs_call *call, const struct kbs_ear *ear, size_t i,
                                struct kbs_ear_part *part, struct kbs_error *err);

/* ---- token.c ---- */

/* Fills api->token. */
KBS_MUST_CHECK int kbs_token_describe(struct kbs_api *api, struct kbs_error *err);

/*
 * Looks again which wrapping and seal keys are the newest, and which sign-token keys there are: one may
 * have been made in an order whose answer was lost, or by another instance. Fails as kbs_token_order().
 */
KBS_MUST_CHECK int kbs_token_versions(struct kbs_api *api, struct kbs_error *err);
/*
 * The same at the asking of anybody: at most KBS_LIMIT_SIGN_LOOKS_PER_S in a second, the others are
 * content with what is known (0).
 */
KBS_MUST_CHECK int kbs_token_look(struct kbs_api *api, struct kbs_error *err);
/*
 * The sign-token key of that kid, as the token had it at most KBS_LIMIT_SIGN_LOOK_MS ago; one that is
 * not known is looked for. *ret is NULL if there is none; borrowed until the next look. Fails as above.
 */
KBS_MUST_CHECK int kbs_token_sign_key(struct kbs_api *api, struct kbs_span kid,
                                      const struct kbs_sign_key **ret, struct kbs_error *err);
/* The one that signs now, NULL if there is none. */
const struct kbs_sign_key *kbs_token_signing(const struct kbs_token_facts *f, int64_t now_s);

/*
 * Gives the token an order and waits: KBS_LIMIT_TOKEN_OP_MS for the operation, and
 * KBS_LIMIT_AUDIT_ACK_MS, which the worker may spend on its deed. 0 if it was carried out: *ret borrows
 * api until the next order. -1 with the token's category and detail if it was refused, or with
 * KBS_TOKEN_DOWN or KBS_DEADLINE and api->must_exit set if the channel can no longer be trusted to
 * be in step.
 */
KBS_MUST_CHECK int kbs_token_order(struct kbs_call *call, enum kbs_wire_type type,
                                   const void *order, struct kbs_wire_result *ret,
                                   struct kbs_error *err);

/* The same outside of a request. */
KBS_MUST_CHECK int kbs_token_ask(struct kbs_api *api, enum kbs_wire_type type, const void *order,
                                 struct kbs_wire_result *ret, struct kbs_error *err);

/* ---- caps.c ---- */

/* A cell of what the token's probe found, and a choice among them. All text borrowed. */
struct kbs_caps_cell {
    struct kbs_span rung;
    struct kbs_span format;
    struct kbs_span key; /* kind of TEE key: "P-256", "RSA-2048", ... */
    uint32_t bytes;      /* of the released key */
    struct kbs_span result;
    struct kbs_span locality;
    struct kbs_span function; /* "-": nothing to say */
    struct kbs_span ckr;
};
#define KBS_CAPS_END 1
/* Takes the next cell, or after the cells the next note, off the answer to CAPS. 0, KBS_CAPS_END, or -1. */
KBS_MUST_CHECK int kbs_caps_next(struct kbs_span *rest, struct kbs_caps_cell *ret,
                                 struct kbs_error *err);
KBS_MUST_CHECK int kbs_caps_note(struct kbs_span *rest, struct kbs_span *ret,
                                 struct kbs_error *err);

struct kbs_caps_want {
    const uint8_t *formats; /* enum kbs_format, most wanted first */
    size_t format_count;
    const char *tee_key;
    uint32_t bytes; /* of the key to be released */
    enum kbs_locality floor;
};
/* The cell that the token would release by. KBS_UNSUPPORTED if there is none. */
KBS_MUST_CHECK int kbs_caps_choose(struct kbs_span text, const struct kbs_caps_want *want,
                                   struct kbs_caps_cell *ret, struct kbs_error *err);

/* ---- ledger.c ---- */

/* A record being written. Stays where it was initialised (its list points into it). */
struct kbs_record {
    const char *kind;
    enum kbs_phase phase; /* of a mutation, with its epoch; NONE and 0 else */
    uint64_t epoch;
    bool later; /* may share the sync of a later record: await it when that one is durable */
    struct kbs_buf buf;
    struct kbs_wire_list_builder list;
};
void kbs_record_init(struct kbs_record *r, const char *kind);
void kbs_record_deinit(struct kbs_record *r);
/* Values are cut at KBS_LIMIT_AUDIT_FIELD_BYTES; text that is not UTF-8 is recorded as "?". */
void kbs_record_text(struct kbs_record *r, const char *name, struct kbs_span value);
void kbs_record_str(struct kbs_record *r, const char *name, const char *value);
void kbs_record_u64(struct kbs_record *r, const char *name, uint64_t value);
void kbs_record_hex(struct kbs_record *r, const char *name, struct kbs_span value);

/*
 * Two phases: start sends the record, await returns once it is durable, with its number. Every
 * start that gave 0 is followed by one await before the next start. A ledger that is gone is
 * answered with 503 and ends the process (api->must_exit): nothing may be decided that cannot be
 * recorded. One that cannot be written is KBS_BUSY alike, and the process lives on.
 */
KBS_MUST_CHECK int kbs_api_ledger_start(struct kbs_api *api, const struct kbs_record *r,
                                        struct kbs_error *err);
KBS_MUST_CHECK int kbs_api_ledger_await(struct kbs_api *api, uint64_t *ret_seq,
                                        struct kbs_error *err);
/* Both. */
KBS_MUST_CHECK int kbs_api_ledger_append(struct kbs_api *api, const struct kbs_record *r,
                                         uint64_t *ret_seq, struct kbs_error *err);

struct kbs_api_head {
    uint64_t seq;
    uint8_t hash[KBS_SHA256_BYTES];
    uint64_t epoch;
    bool outcome;
};
/* HEAD_WANT. Fails as kbs_api_ledger_start(). */
KBS_MUST_CHECK int kbs_api_ledger_head(struct kbs_api *api, struct kbs_api_head *ret,
                                       struct kbs_error *err);

/*
 * An order that the token may have carried out although its record was refused: takes the record
 * that says so (allocated, owned) and writes it before anything else is released.
 */
void kbs_api_ledger_owe(struct kbs_api *api, struct kbs_record *record);
/* Writes what is owed. 0 if nothing is owed any more. */
KBS_MUST_CHECK int kbs_api_ledger_settle(struct kbs_api *api, struct kbs_error *err);

/* ---- sampler.c ---- */

/* True if this refusal may still be recorded in the current minute; else it is counted. */
bool kbs_sampler_admit(struct kbs_sampler *s, uint64_t now_s);
/* Adds `suppressed` to the record if there is something to tell. */
void kbs_sampler_tell(const struct kbs_sampler *s, struct kbs_record *r);
/* The record that told it is durable. */
void kbs_sampler_told(struct kbs_sampler *s);

/* ---- epoch.c ---- */

/*
 * Compares store and ledger and sets api->standing. The admin lane also closes a mutation that a
 * crash left open (`store-recovered`). -1 only if the ledger, the token or the store did not
 * answer.
 */
KBS_MUST_CHECK int kbs_epoch_check(struct kbs_api *api, struct kbs_error *err);
/* KBS_BUSY while the store is not the ledger's; looks again at most once a second. */
KBS_MUST_CHECK int kbs_epoch_gate(struct kbs_api *api, struct kbs_error *err);
/* After a row was read: KBS_BUSY if the store went back, or the row is from its future. */
KBS_MUST_CHECK int kbs_epoch_of_row(struct kbs_api *api, uint64_t row_epoch, struct kbs_error *err);
/*
 * Fills in m->epoch.manifest: the chain over all rows as m will leave them. KBS_BUSY, and no key is
 * served from then on, if the rows that are there are not those of the store's epoch.
 */
KBS_MUST_CHECK int kbs_epoch_advance(struct kbs_api *api, struct kbs_store_mutation *m,
                                     struct kbs_error *err);
/*
 * Signs the epoch's row and commits. m->from_epoch, m->epoch.epoch and .manifest are filled in, and
 * the rows are signed.
 */
KBS_MUST_CHECK int kbs_epoch_commit(struct kbs_api *api, struct kbs_store_mutation *m,
                                    struct kbs_error *err);

/* ---- mutation.c: one change of the catalog, in this order of calls ---- */

struct kbs_mutation {
    struct kbs_api *api;
    struct kbs_call *call;         /* NULL: the lane's own work */
    const char *kind;              /* of its records; static */
    const struct kbs_admin *admin; /* whose request it is; NULL: of the one that `request` is of */
    uint64_t sequence;
    struct kbs_span request; /* what allows it; begin fills in, if there is a call */
    /* what it is about, for its records; both NULL: a wrapping or seal key */
    const struct kbs_key *key;
    const struct kbs_document *document;
    uint8_t basis[KBS_SHA256_BYTES]; /* of documents: digest of what they are and follow */
    uint32_t wrap_version;           /* of that one */
    bool has_order;                  /* the token has one thing to do; its order is named so */
    uint8_t order[KBS_LIMIT_ORDER_BYTES];
    uint64_t epoch;  /* begin fills in */
    uint64_t intent; /* number of the intent, once it is there */
};

/*
 * The store is the ledger's, a mutation that a crash left open is closed, epoch and order are
 * chosen. Whatever the mutation depends on is read after this. KBS_UNSUPPORTED without a sign-row
 * key, KBS_BUSY.
 */
KBS_MUST_CHECK int kbs_mutation_begin(struct kbs_mutation *m, struct kbs_error *err);
/* What every record of it begins with. The caller adds to it. */
void kbs_mutation_record(const struct kbs_mutation *m, enum kbs_phase phase,
                         struct kbs_record *ret);
/*
 * Appends the intent and frees the record. From here on one of the three ends below follows. -1 also if this
 * needs more administrators (kbs_approval_gate()): then nothing has been done.
 */
KBS_MUST_CHECK int kbs_mutation_intent(struct kbs_mutation *m, struct kbs_record *r,
                                       struct kbs_error *err);
/* kbs_token_order(), within the request's deadline if there is a request. */
KBS_MUST_CHECK int kbs_mutation_order(struct kbs_mutation *m, enum kbs_wire_type type,
                                      const void *order, struct kbs_wire_result *ret,
                                      struct kbs_error *err);
/* Signs the rows, which are put in order, and commits them with the epoch. */
KBS_MUST_CHECK int kbs_mutation_commit(struct kbs_mutation *m, struct kbs_store_row *rows,
                                       size_t count, bool erase, struct kbs_error *err);
/* The same for documents, new ones and those that are dropped. */
KBS_MUST_CHECK int kbs_mutation_commit_documents(struct kbs_mutation *m,
                                                 const struct kbs_store_document *documents,
                                                 size_t count, struct kbs_error *err);
/* End: the outcome `done`, in a record that the caller has filled in and that is freed. */
KBS_MUST_CHECK int kbs_mutation_done(struct kbs_mutation *m, struct kbs_record *r,
                                     struct kbs_error *err);
/* End: nothing was committed. Keeps the cause unless its record fails. Always -1. */
int kbs_mutation_failed(struct kbs_mutation *m, const char *outcome, struct kbs_error *err);
/* End: the token refused or was lost. Always -1. */
int kbs_mutation_refused(struct kbs_mutation *m, struct kbs_error *err);

/* ---- approval.c ---- */

/*
 * 0 if this mutation may go on. -1 with call->waiting filled in if more administrators have to agree;
 * KBS_DENIED if who asks cannot be counted; KBS_CONFLICT if it has been approved, and what it would change is
 * not what it was.
 */
KBS_MUST_CHECK int kbs_approval_gate(struct kbs_mutation *m, struct kbs_error *err);
/*
 * Puts the request of a call that waits into the store, in a mutation of its own, and answers 202.
 * KBS_LIMITED if too many wait, KBS_TOO_LARGE.
 */
KBS_MUST_CHECK int kbs_approval_ask(struct kbs_call *call, struct kbs_error *err);
/* kbs_admin_verify() of a request that has waited: its asker, whose signature was counted. */
KBS_MUST_CHECK int kbs_approval_admit(struct kbs_call *call, const char *method,
                                      const char *pattern, const struct kbs_admin **ret_admin,
                                      uint64_t *ret_sequence, struct kbs_error *err);
/* The signed requests of all who agree, divided by blanks: what is kept with the row of such a mutation. */
struct kbs_span kbs_approval_request(const struct kbs_approval *a);
/* Who agreed, for a record: `approval`, `approvers`. */
void kbs_approval_record(struct kbs_record *r, const struct kbs_approval *a);
/* The rows that close it, for the transaction of the mutation itself; 0 if that has been. Returns how many. */
#define KBS_APPROVAL_ROWS 2
size_t kbs_approval_close(struct kbs_approval *a, struct kbs_span request,
                          struct kbs_store_document rows[KBS_APPROVAL_ROWS]);
/* They are in the store. */
void kbs_approval_spend(struct kbs_approval *a);

/* ---- dispatch.c ---- */

/* The handler of a request that has waited; NULL if there is none. */
kbs_handler *kbs_dispatch_find(const struct kbs_api *api, const struct kbs_wire_request *req);

/* ---- made.c ---- */

/*
 * Takes KBS_MADE into a row whose `card` says what was ordered (alg none, bytes 0: whatever it is):
 * check value, card, blob. KBS_INTERNAL if the token made something else.
 */
KBS_MUST_CHECK int kbs_made_take(struct kbs_span body, struct kbs_key *key, struct kbs_error *err);
/* The same for a card alone. */
KBS_MUST_CHECK int kbs_made_card(struct kbs_span card, struct kbs_key *key, struct kbs_error *err);
/*
 * The same for a secret, as SEAL and RESEAL answer it: card, then the sealed form, which is appended
 * to `sealed`.
 */
KBS_MUST_CHECK int kbs_made_secret(struct kbs_span body, struct kbs_key *key,
                                   struct kbs_buf *sealed, struct kbs_error *err);

/* ---- admin_keys.c ---- */

/* KEY of docs/protocol/admin-api.md, without its closing brace. */
void kbs_key_json_put(struct kbs_buf *out, const struct kbs_key *key);

/* A page of a list on its way into an answer: the store is asked for one item more than it has. */
struct kbs_page {
    struct kbs_buf *out;
    uint32_t limit;
    uint32_t count;
    bool more;
};
/* Before each item, with a comma if need be. False for the one that is too many. */
bool kbs_page_next(struct kbs_page *p);
/* What follows the list: `"more"`, and the end of the answer. */
void kbs_page_end(const struct kbs_page *p);

/* ---- admin_key_new.c ---- */

/* `floor`, `policy` of a request body, where they are there; the policy is checked. */
KBS_MUST_CHECK int kbs_key_terms_floor(const json_t *body, enum kbs_locality *floor,
                                       struct kbs_error *err);
/* `pop_required` likewise, into the flags of a card. */
KBS_MUST_CHECK int kbs_key_terms_pop(const json_t *body, uint8_t *flags, struct kbs_error *err);
KBS_MUST_CHECK int kbs_key_terms_policy(const json_t *body, struct kbs_buf *policy,
                                        struct kbs_error *err);

/* ---- admin_rotation.c ---- */

/* A token key that has versions. Static. */
struct kbs_rotating {
    enum kbs_purpose purpose;
    const char *pattern;  /* of its requests */
    const char *what;     /* as told to people */
    const char *holds;    /* what stands under it in the store, in the plural; NULL: nothing does */
    const char *generate; /* its mutations */
    const char *move;     /* these two only where something stands under it */
    const char *destroy;
    int (*count)(struct kbs_store *s, kbs_store_count_each *each, void *ctx, struct kbs_error *err);
};
extern const struct kbs_rotating kbs_rotating_wrapping;
extern const struct kbs_rotating kbs_rotating_seal;

/* Its newest version, as the token said last. */
uint32_t kbs_rotating_newest(const struct kbs_rotating *k, const struct kbs_api *api);
struct kbs_mutation kbs_rotating_mutation(struct kbs_call *call, const char *kind, bool has_order);
/* kbs_mutation_begin(), and a look at the token. */
KBS_MUST_CHECK int kbs_rotating_begin(struct kbs_mutation *m, struct kbs_error *err);
/*
 * One order about such a key, GENERATE or DESTROY of version m->wrap_version, as a mutation without rows:
 * from intent to outcome.
 */
KBS_MUST_CHECK int kbs_rotating_change(const struct kbs_rotating *k, struct kbs_mutation *m,
                                       enum kbs_wire_type type, const void *order,
                                       struct kbs_error *err);
/* How much stands under `version`, and under those before it. */
KBS_MUST_CHECK int kbs_rotating_count(const struct kbs_rotating *k, struct kbs_store *s,
                                      uint32_t version, uint64_t *ret_of, uint64_t *ret_below,
                                      struct kbs_error *err);

/* ---- admin_key_state.c ---- */

/*
 * Destroys a key whose row was read and verified after kbs_mutation_begin(): from intent to
 * outcome. key->state and blob are changed; `gone` is what the answer says.
 */
KBS_MUST_CHECK int kbs_key_destroy(struct kbs_mutation *m, struct kbs_key *key,
                                   struct kbs_span policy, struct kbs_error *err);
/* When a destroyed key is really gone, as JSON member and record say it. */
void kbs_key_gone(const struct kbs_key *key, char *out, size_t size);

/* ---- document.c ---- */

/* The default resource policy; those of prefixes are named so, a slash, and the prefix. */
#define KBS_RESOURCE_POLICY "resource-policy"

/*
 * The newest version of a document, its row verified, from a store that is the ledger's. KBS_MISSING; of a
 * document whose text is empty, too: that is how one is taken back.
 */
KBS_MUST_CHECK int kbs_document_get(struct kbs_api *api, enum kbs_document_kind kind,
                                    struct kbs_span name, struct kbs_document *ret,
                                    struct kbs_buf *text, struct kbs_error *err);
/* That version of one (0: the newest), verified likewise, whether it was taken back or not. KBS_MISSING. */
KBS_MUST_CHECK int kbs_document_version(struct kbs_api *api, enum kbs_document_kind kind,
                                        struct kbs_span name, uint32_t version,
                                        struct kbs_document *ret, struct kbs_buf *text,
                                        struct kbs_error *err);
/*
 * Sets documents of one kind, all or none: their next versions. m: kind of record, who, request. names
 * and texts: `count` of them (1 to KBS_LIMIT_REFERENCE_VALUES), no name twice. KBS_TOO_LARGE if there is no
 * room for them.
 */
KBS_MUST_CHECK int kbs_document_set(struct kbs_mutation *m, enum kbs_document_kind kind,
                                    const struct kbs_span *names, const struct kbs_span *texts,
                                    size_t count, struct kbs_error *err);

/* ---- documents_admin.c ---- */

/* A policy's next version, from its text, or from "policy" of a request's body; checked first. */
KBS_MUST_CHECK int kbs_policy_set_text(struct kbs_mutation *m, enum kbs_document_kind kind,
                                       struct kbs_span name, struct kbs_span text,
                                       struct kbs_error *err);
KBS_MUST_CHECK int kbs_policy_set_body(struct kbs_mutation *m, enum kbs_document_kind kind,
                                       struct kbs_span name, const json_t *body,
                                       struct kbs_error *err);

/* ---- due.c ---- */

/* Looks up when the next key is to be destroyed. What fails is logged. */
void kbs_due_look(struct kbs_api *api);
/* Milliseconds until something is due; -1: never. */
int kbs_due_wait_ms(const struct kbs_api *api);
/* Destroys what is due. What fails is logged, and tried again later. */
void kbs_due_run(struct kbs_api *api);

/* ---- subject.c ---- */

/* Under what circumstances somebody asks for a key. Borrowed. */
struct kbs_circumstances {
    const struct kbs_session *session; /* attested */
    const struct kbs_key *key;
    enum kbs_locality locality; /* the least that it would be released at */
    const char *plugin;         /* "resource", "pkcs11" or "key" */
    const char *method;
    struct kbs_span target; /* path of the request, without its query */
    int64_t now_s;
};
/*
 * The `kbs` root of the claims model (docs/protocol/release-policy.md): what we know ourselves, and no token can
 * set. input: the session's claims. Returns owned, or NULL.
 */
json_t *kbs_subject_root(const struct kbs_api *api, const struct kbs_circumstances *c,
                         const json_t *input);

/* ---- decide.c ---- */

/* What somebody wants, and whether it may have it. */
struct kbs_decision {
    struct kbs_api *api;
    struct kbs_circumstances how; /* but for key and locality, which are filled in */
    bool secret;                  /* a secret, the newest version; else a key */
    bool resource;                /* the resource policy has to allow it, if one is set */
    bool explain;                 /* fill in `explained` */
    const struct kbs_nek_in *nek; /* what is in that blob is wanted; NULL: what is in the row */
    enum kbs_keeps keeps;         /* what is kept under the key is wanted, not the key */
    json_t *supposed; /* borrowed: members of `kbs` in place of the real ones; NULL: none */
    /* the row, kbs_decision_load() fills in */
    struct kbs_key key;
    struct kbs_buf policy;
    struct kbs_buf sealed; /* of a secret */
    /* kbs_decide() fills in */
    struct kbs_buf resource_policy; /* its text, empty if none was asked */
    struct kbs_document governs;    /* the document it is */
    enum kbs_locality floor;        /* that the order has to have */
    struct kbs_keeps_terms terms;   /* with `keeps`: the policy's */
    struct kbs_nek_binding
        binding;       /* of this guest, by the fields that the blob or the terms name */
    const char *by;    /* "row", "resource-policy" or "release-policy"; static */
    json_t *explained; /* owned; NULL if the key's own policy was not asked */
};
#define KBS_DECISION(a)                                                         \
    ((struct kbs_decision){.api = (a),                                          \
                           .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES),           \
                           .sealed = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES), \
                           .resource_policy = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES)})
void kbs_decision_deinit(struct kbs_decision *d);
/* Reads the row from a store that is the ledger's. version 0: the latest. KBS_MISSING. */
KBS_MUST_CHECK int kbs_decision_load(struct kbs_decision *d, struct kbs_span path, uint32_t version,
                                     struct kbs_error *err);
/*
 * Verifies the row, and asks it and the policies. 0: it may have it; KBS_MISSING if it is destroyed; KBS_DENIED
 * with the reason; KBS_INTERNAL for what is stored and cannot be gone by; else as kbs_rego_decide() and
 * kbs_document_get().
 */
KBS_MUST_CHECK int kbs_decide(struct kbs_decision *d, struct kbs_error *err);
/* For whom something is kept, after kbs_decide() with `keeps`. */
void kbs_decision_owner(const struct kbs_decision *d, struct kbs_store_owner *ret);
/* The claims of a session as JSON, borrowed until the next session's. */
KBS_MUST_CHECK int kbs_session_input(struct kbs_api *api, const struct kbs_session *session,
                                     const json_t **ret, struct kbs_error *err);
/* Whether that failure of it is a denial, of which there has to be a record. */
bool kbs_decision_to_record(const struct kbs_error *err);

/* ---- key.c ---- */

/* What a guest wants released, after its session was found attested. */
struct kbs_release_want {
    const struct kbs_session *session;
    struct kbs_span path;
    struct kbs_span asked;             /* the alias that was asked for; empty: none */
    const char *plugin;                /* kbs.plugin: "resource", "pkcs11" or "key"; static */
    const struct kbs_nek_in *nek;      /* what is in that blob; NULL: what is in the catalog */
    struct kbs_provision *provision;   /* a NEK that is made for the guest, or was; NULL: none */
    bool resource;                     /* the resource policy has to allow it, if one is set */
    bool secret;                       /* a secret: format JWE, the newest version; else a key */
    uint32_t version;                  /* 0: the latest */
    uint8_t formats[KBS_FORMAT_COUNT]; /* most wanted first */
    size_t format_count;
    bool empty_context;
    bool receipt; /* there has to be one */
    uint8_t nonce[32];
    struct kbs_span salt;
};
/*
 * Releases a key or secret: store and row verified, policy asked, order recorded, token asked; the
 * answer is the call's. KBS_MISSING if there is no such key, or it is destroyed; KBS_DENIED with
 * the reason.
 */
KBS_MUST_CHECK int kbs_release_key(struct kbs_call *call, const struct kbs_release_want *want,
                                   struct kbs_error *err);

/* ---- provision.c: the part of a provision in its release (key.c) ---- */

/* A NEK that a guest wants; zero-initialised but for `bytes` and `blob`. */
struct kbs_provision {
    uint32_t bytes;   /* of one that is made */
    uint32_t version; /* of the key, that one was made for before; 0: it is not known yet */
    bool again;       /* this round failed, and the next one will do better; it is no denial */
    bool stored;      /* it was made before; these are what is kept of it: */
    struct kbs_store_provision row;
    struct kbs_buf blob; /* owned, as the next one */
    struct kbs_nek_in in;
};
/* After the decision: what was provisioned for this guest before, or whether it may be now. */
KBS_MUST_CHECK int kbs_provision_look(struct kbs_call *call, struct kbs_provision *p,
                                      const struct kbs_decision *d, struct kbs_error *err);
/* What the records of it say beside what they always say. */
void kbs_provision_record(const struct kbs_provision *p, const struct kbs_decision *d,
                          struct kbs_record *ret);
/* What an order has that is the release's to say. All borrowed. */
struct kbs_provision_order {
    const struct kbs_release_want *want;
    const struct kbs_decision *decision;
    struct kbs_span order;
    struct kbs_span kid;
    struct kbs_span tee_key;
};
/* PROVISION or REPROVISION. */
KBS_MUST_CHECK int kbs_provision_order(struct kbs_call *call, struct kbs_provision *p,
                                       const struct kbs_provision_order *o,
                                       struct kbs_wire_result *ret, struct kbs_error *err);
/* The token's answer, once its order is durable: kept, if it is new, and put into the call's answer. */
KBS_MUST_CHECK int kbs_provision_answer(struct kbs_call *call, struct kbs_provision *p,
                                        const struct kbs_decision *d,
                                        const struct kbs_wire_result *result,
                                        struct kbs_error *err);
/* ---- receipt.c ---- */

/* `?receipt=1`. */
KBS_MUST_CHECK int kbs_request_receipt(const struct kbs_wire_request *req, bool *ret,
                                       struct kbs_error *err);
/* What an order says for a receipt of that; empty if none is wanted. Borrows `bytes`. */
struct kbs_span kbs_receipt_ask(const struct kbs_release_want *want,
                                const struct kbs_decision *decision,
                                uint8_t bytes[KBS_RECEIPT_WORD_BYTES]);
/* Whether the token made one if, and only if, it was asked for. */
bool kbs_receipt_fits(const struct kbs_release_want *want, struct kbs_span receipt);
/* Records that nothing is released to that guest, before any row was read. Always -1. */
int kbs_release_denied(struct kbs_call *call, const struct kbs_release_want *want,
                       struct kbs_error *err);

/* ---- nek.c ---- */

/*
 * A version (0: the latest) of a key of purpose nek, enabled, its row verified, and its public half (alg NONE for
 * an AES key). KBS_MISSING if there is no such key, or it is another purpose's.
 */
KBS_MUST_CHECK int kbs_nek_key_get(struct kbs_api *api, struct kbs_span path, uint32_t version,
                                   struct kbs_key *ret, struct kbs_tee_key *ret_public,
                                   struct kbs_error *err);
/* The blob in a body: "recipient" or "cose". To be deinitialised in any case. */
KBS_MUST_CHECK int kbs_nek_body_get(const json_t *body, struct kbs_nek_in *ret,
                                    struct kbs_error *err);

/* ---- alias.c ---- */

#define KBS_ALIAS_NONE 1 /* the path is no alias */
/*
 * What a path stands for when a guest of that session asks for a resource. 0 with *ret, in the call's arena;
 * KBS_ALIAS_NONE; KBS_DENIED if it is an alias and none of its rules fits.
 */
KBS_MUST_CHECK int kbs_alias_resolve(struct kbs_call *call, const struct kbs_session *session,
                                     struct kbs_span path, struct kbs_span *ret,
                                     struct kbs_error *err);
/* KBS_CONFLICT if an alias has that path. */
KBS_MUST_CHECK int kbs_alias_free_path(struct kbs_api *api, struct kbs_span path,
                                       struct kbs_error *err);

/* ---- resource.c ---- */

/* Whether there is, or was, a secret of that path; else it may be a key's. */
bool kbs_resource_is_secret(struct kbs_call *call, struct kbs_span path);

/* ---- row.c ---- */

/* KBS_INTERNAL unless the row is one that the admin lane signed. */
KBS_MUST_CHECK int kbs_row_check(struct kbs_api *api, const struct kbs_key *key,
                                 struct kbs_span policy, struct kbs_error *err);
KBS_MUST_CHECK int kbs_row_check_document(struct kbs_api *api, const struct kbs_document *document,
                                          struct kbs_span text, struct kbs_error *err);
/* SIGN_ROW over those bytes. */
KBS_MUST_CHECK int kbs_row_sign(struct kbs_api *api, struct kbs_span content,
                                uint8_t ret[KBS_ES256_BYTES], struct kbs_error *err);

/* ---- parsed.c ---- */

/* Gives an owned tree of a text that is not empty. */
typedef int kbs_parse(struct kbs_span text, json_t **ret, struct kbs_error *err);
/*
 * The tree of `text`, parsed unless `p` has that very text. *ret borrows `p` until its next use.
 * -1 as `parse`.
 */
KBS_MUST_CHECK int kbs_parsed_get(struct kbs_parsed *p, struct kbs_span text, kbs_parse *parse,
                                  const json_t **ret, struct kbs_error *err);
void kbs_parsed_deinit(struct kbs_parsed *p);

/* ---- head.c ---- */

/* Records a signed head. What fails is logged, and tried again when the next one is due. */
void kbs_head_sign(struct kbs_api *api);

/* ---- session.c ---- */

/*
 * The session of the cookie. KBS_UNAUTHENTICATED if the cookie is absent or malformed or names none
 * that is alive.
 */
KBS_MUST_CHECK int kbs_session_of_cookie(struct kbs_call *call, struct kbs_session *ret,
                                         struct kbs_error *err);
/* The session that a token of ours names. KBS_UNAUTHENTICATED if it does not verify, or its session is gone. */
KBS_MUST_CHECK int kbs_session_of_token(struct kbs_call *call, struct kbs_span token,
                                        struct kbs_session *ret, struct kbs_error *err);
/*
 * The attested session that a request is made in, by cookie, by our own token, by both if they
 * agree, or by a token of an issuer whose tokens are passports. KBS_UNAUTHENTICATED otherwise; answer->variant says which way failed.
 * What the request has to prove is proven: kbs_protect().
 */
KBS_MUST_CHECK int kbs_session_attested(struct kbs_call *call, struct kbs_session *ret,
                                        struct kbs_error *err);

/* The same without that: for what gives nothing to the session. */
KBS_MUST_CHECK int kbs_session_unproven(struct kbs_call *call, struct kbs_session *ret,
                                        struct kbs_error *err);

/* ---- protect.c ---- */

/*
 * What a request of an attested session brings against being used by others (docs/protocol/requests.md): its proof
 * of possession, without which a session whose key signs gets nothing, and its encrypted body. After it, session->tee_key
 * is what the answer is to be wrapped to, and call->req is what the guest asks. KBS_UNAUTHENTICATED, recorded, if a proof is
 * missing or does not hold, or a nonce does not count; KBS_INPUT, KBS_UNPROCESSABLE, KBS_UNSUPPORTED as
 * OPEN_REQUEST. Uses the nonce up: a handler that asks this does not fetch.
 */
KBS_MUST_CHECK int kbs_protect(struct kbs_call *call, struct kbs_session *session,
                               struct kbs_error *err);

/* ---- passport.c ---- */

/* True for a Bearer token that claims to be of an issuer other than we, where there are any such. */
bool kbs_passport_concerns(const struct kbs_api *api, struct kbs_span text);
/*
 * Verifies what follows "Bearer " (one token, or two as "T1, Bearer T2") and makes a session of it, which is in
 * no table: attested, level `token`, with its issuer's name. KBS_UNAUTHENTICATED, recorded; KBS_BUSY if
 * its issuer's keys are not there.
 */
KBS_MUST_CHECK int kbs_passport_session(struct kbs_call *call, struct kbs_span text,
                                        struct kbs_session *ret, struct kbs_error *err);

/* ---- request.c ---- */

/* The token of `Authorization: Bearer`. KBS_UNAUTHENTICATED if there is none. Returns borrowed. */
KBS_MUST_CHECK int kbs_request_bearer(const struct kbs_wire_request *req, struct kbs_span *ret,
                                      struct kbs_error *err);
/*
 * KBS_INPUT unless content_type is application/json (parameters ignored); absent is allowed if
 * `lenient`.
 */
KBS_MUST_CHECK int kbs_request_json_type(const struct kbs_wire_request *req, bool lenient,
                                         struct kbs_error *err);
/* KBS_INPUT for a query name that is not in the NULL-terminated list, or one given twice. */
KBS_MUST_CHECK int kbs_request_query_only(const struct kbs_wire_request *req,
                                          const char *const *names, struct kbs_error *err);
/* `?version=N`: 1 to 4294967295 without leading zeros; 0 if it is not there. */
KBS_MUST_CHECK int kbs_request_version(const struct kbs_wire_request *req, uint32_t *ret,
                                       struct kbs_error *err);
/*
 * The query of a list, which has no other: `?after=` is empty if it is not there, `?limit=N` 1 to
 * KBS_LIMIT_KEY_LIST_ITEMS, which it also is if it is not there.
 */
KBS_MUST_CHECK int kbs_request_page(const struct kbs_wire_request *req, struct kbs_span *ret_after,
                                    uint32_t *ret_limit, struct kbs_error *err);
/*
 * The first three path parameters as repo/type/tag, in the arena; KBS_INPUT if they make no valid
 * path.
 */
KBS_MUST_CHECK int kbs_request_path(struct kbs_call *call, struct kbs_span *ret,
                                    struct kbs_error *err);
/*
 * Accept (RFC 9110 section 12.5.1) to formats, most wanted first by q, then order; at most
 * KBS_FORMAT_COUNT. Absent, `*` and `application/` ranges mean JOSE. KBS_INPUT if nothing we have
 * is acceptable.
 */
/* `?context=none`. */
KBS_MUST_CHECK int kbs_request_context(const struct kbs_wire_request *req, bool *ret_empty,
                                       struct kbs_error *err);
struct kbs_release_want;
/* `nonce` and `salt` of a body into want, which then borrows `salt`. */
KBS_MUST_CHECK int kbs_request_freshness(const json_t *body, struct kbs_release_want *want,
                                         uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES],
                                         struct kbs_error *err);
KBS_MUST_CHECK int kbs_request_accept(struct kbs_span accept, uint8_t ret[KBS_FORMAT_COUNT],
                                      size_t *ret_count, struct kbs_error *err);

/* ---- admin_auth.c ---- */

/*
 * Checks Kbs-Signature against the request as received (docs/protocol/admin-api.md): enrolled key,
 * method, target, body, nonce, expiry; for a mutation it also uses up the sequence. On the routes
 * that Trustee's clients know a request without Kbs-Signature is let in as the mode says, with
 * sequence 0. *ret_admin borrows api until the next request. Refusals are recorded.
 */
KBS_MUST_CHECK int kbs_admin_verify(struct kbs_call *call, const char *method, const char *pattern,
                                    bool mutation, const struct kbs_admin **ret_admin,
                                    uint64_t *ret_sequence, struct kbs_error *err);
/*
 * What is kept with the row of a mutation, asked for after kbs_admin_verify(): the JWS of Kbs-Signature; of a Bearer token header and
 * payload without the signature, for a token that is kept must not be usable; empty for anybody.
 */
struct kbs_span kbs_admin_request(const struct kbs_call *call);
/* The enrolled administrator with that thumbprint, or NULL. */
const struct kbs_admin *kbs_admin_find(const struct kbs_api *api, struct kbs_span thumbprint);
/* The raw target is, byte for byte, the pattern with the path parameters for its stars, and perhaps a query. */
bool kbs_admin_target_matches(const struct kbs_wire_request *req, const char *pattern);
/* Records a refusal, as sampler.c lets it, and keeps the cause. admin: who was named, or NULL. Always -1. */
int kbs_admin_denied(struct kbs_call *call, const struct kbs_admin *admin, struct kbs_error *err);
/*
 * Who sent the request that stands beside a row: the key's thumbprint (the first one's, of several), or
 * "bearer", or "anybody". NUL-terminated.
 */
void kbs_admin_of_request(struct kbs_span request, char ret[KBS_API_THUMBPRINT_BYTES]);
/* Who did it, for a record: `admin`, `auth`, and `sequence` or `role`. */
void kbs_admin_record(struct kbs_record *r, const struct kbs_admin *admin, uint64_t sequence);

/* ---- admin_bearer.c ---- */

/*
 * Identity providers and rules of mode BEARER, as in CONFIG_JUDGE. KBS_INPUT names the one that is
 * wrong, and why. Returns owned.
 */
KBS_MUST_CHECK int kbs_bearer_new(const struct kbs_wire_list *providers,
                                  const struct kbs_wire_list *acls, struct kbs_bearer **ret,
                                  struct kbs_error *err);
struct kbs_bearer *kbs_bearer_free(struct kbs_bearer *b); /* NULL is fine; always returns NULL */
/*
 * Who the request's Bearer token says that its sender is. KBS_UNAUTHENTICATED if no provider vouches
 * for it; KBS_DENIED, with *ret filled in, if its role may not use the request's target.
 */
KBS_MUST_CHECK int kbs_bearer_verify(const struct kbs_call *call, struct kbs_admin *ret,
                                     struct kbs_error *err);

#endif
