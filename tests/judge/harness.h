/*
 * A real kbs-judge between fake peers, all in one thread: the test is its kbsd, front, token worker
 * and ledger. judge_ask() sends a request and serves token and ledger until the answer is there, so
 * nothing here sleeps (but a token that is told to be slow) and every run has one order of events.
 */
#ifndef KBS_TESTS_JUDGE_HARNESS_H
#define KBS_TESTS_JUDGE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <sys/types.h>

#include "channel/channel.h"
#include "jose/read/json.h"
#include "jose/write/jose.h"
#include "store/store.h"
#include "tests/policy/policy_process.h"
#include "wire/route.h"

#define JUDGE_ISSUER "kbs-test"
#define JUDGE_TOKEN_BODY "{\"what-the-token-wrapped\":\"unread\"}"
#define JUDGE_RECEIPT "what.the-token_signed.unread"
#define JUDGE_KCV "\x0a\x0b\x0c\x0d"
#define JUDGE_MARK 0x4d /* each byte of every mark */
#define JUDGE_LIST 12
#define JUDGE_SEALED "what the token keeps of a secret"

enum token_mood {
    TOKEN_OBEYS,
    TOKEN_REFUSES,      /* all but signatures of rows and heads, with category and detail as set */
    TOKEN_HANGS_UP,     /* closes instead of answering, with the same exceptions */
    TOKEN_ANSWERS_LATE, /* with the id of another question */
    TOKEN_DISOBEYS,     /* the key at a weaker locality, or with another card, than ordered */
    TOKEN_OTHER_KEY     /* rewraps one key (other_key) into another */
};

enum ledger_mood {
    LEDGER_WRITES,
    LEDGER_SILENT,   /* takes records and says nothing */
    LEDGER_HANGS_UP, /* closes instead of acknowledging */
    LEDGER_DIES, /* is gone before it has written the record with number `dies_at` from then on */
    LEDGER_FULL  /* likewise from then on, or at once: acknowledges nothing as durable */
};

#define JUDGE_SIGNS 4

/* A later version of the sign-token key. */
struct judge_sign {
    EVP_PKEY *key; /* owned */
    uint64_t from_s;
};

/* What kbs-policy makes of an attestation policy. */
enum policy_mood {
    POLICY_ABSENT,  /* there is none */
    POLICY_RESULT,  /* policy_result */
    POLICY_ERROR,   /* "what it read" at 3:4 */
    POLICY_REFUSES, /* the same, when it is loaded */
    POLICY_HANGS_UP
};

struct judge {
    char dir[64];
    char store_path[128];
    char log_path[128];
    pid_t pid;
    int control;
    int front;
    int token;
    int ledger;
    struct policy_process engine; /* a real kbs-policy, from the next start on */
    bool with_engine;
    int policy; /* as the next two: kbs-policy */
    enum policy_mood policy_mood;
    const char *policy_result;
    unsigned int policy_loads;
    char policy_text[4096]; /* of the last policy, input and data */
    char policy_input[16384];
    char policy_data[16384];
    enum kbs_duty duty;
    bool allow_sample;
    bool production;
    bool rsa1_5;
    uint32_t sessions;           /* 0: KBS_DEFAULT_SESSIONS_CHALLENGED */
    const char *resource_policy; /* NULL: none */
    uint32_t resource_bytes;     /* 0: as many as a secret may have */
    const char *snp_root;        /* [attest.snp] with this test root, 32 bytes; NULL: none */
    const char *snp_product;     /* its one product; NULL: the default */
    const struct kbs_wire_config_issuer *issuers; /* borrowed; NULL: none */
    size_t issuer_count;
    enum kbs_delegate delegate; /* handed sample evidence, by endpoint "as" and issuer "as" */
    bool has_fetch;             /* there is a kbs-fetch */
    int fetch;                  /* its end of the channel */
    enum kbs_admin_mode admin_mode;
    const char *providers[JUDGE_LIST];         /* issuer, audience, keys in turn; borrowed */
    const char *acls[JUDGE_LIST];              /* role, allowed_endpoints in turn; borrowed */
    EVP_PKEY *sign;                            /* the token's keys; this one has version 1 */
    struct judge_sign more_signs[JUDGE_SIGNS]; /* and these the next ones, where there is a key */
    EVP_PKEY *tls[JUDGE_SIGNS];                /* versions of the tls key, from 1 on */
    EVP_PKEY *import;
    EVP_PKEY *request;    /* NULL: the token has no such key */
    const char *envelope; /* what OPEN_REQUEST opens to, whatever was sent */
    EVP_PKEY *row;
    EVP_PKEY *head;
    EVP_PKEY *receipt;        /* NULL: the token has none, as at first */
    const char *receipt_text; /* what the token answers for one; NULL: as it was asked */
    EVP_PKEY *admin;          /* an enrolled administrator */
    EVP_PKEY *others[2];      /* and two more; NULL at first */
    uint32_t approvals;       /* 0: one is enough */
    uint8_t approvals_for;    /* KBS_WIRE_APPROVALS_* */
    uint64_t epoch;           /* as the ledger counts them */
    bool epoch_open;          /* the newest has no outcome */
    uint64_t heads;           /* SIGN_HEAD orders */
    uint64_t sequence;
    enum token_mood token_mood;
    enum kbs_category refuse_category;
    const char *refuse_detail;
    enum ledger_mood ledger_mood;
    unsigned int dies_at;    /* counted down */
    unsigned int request_ms; /* how long a request may take; 0: long enough */
    unsigned int order_ms;   /* how long an order takes at least */
    /* what the peers saw */
    struct kbs_channel_msg order_msg; /* the last order, which the structs below borrow */
    struct kbs_channel_msg other_msg; /* any other message of the judge to its token */
    struct kbs_wire_release release;
    struct kbs_wire_rewrap nek_rewrap;
    struct kbs_wire_generate generate;
    struct kbs_wire_import import_order;
    struct kbs_wire_adopt adopt;
    struct kbs_wire_recard recard;
    struct kbs_wire_rewrap_catalog rewrap;
    struct kbs_wire_destroy destroy;
    struct kbs_wire_seal seal;
    struct kbs_wire_reseal reseal;
    struct kbs_wire_open_secret open_secret;
    struct kbs_wire_provision provision;
    struct kbs_wire_reprovision reprovision;
    struct kbs_wire_register_set register_set;
    struct kbs_wire_register_check register_check;
    struct kbs_wire_open_request open_request;
    const char *other_key;  /* path */
    uint32_t wrap_version;  /* of the token's newest wrapping key */
    uint32_t seal_version;  /* and seal key; 1 at first */
    unsigned int described; /* DESCRIBEs */
    unsigned int orders;    /* with an order id: RELEASE, GENERATE, IMPORT, ... */
    uint64_t records;
    char ledger_text[131072]; /* one line per record: kind name=value ... */
};

/* A request to send; absent members are empty. */
struct ask {
    enum kbs_route route;
    enum kbs_listener listener; /* default: the duty's */
    const char *method;         /* default: POST */
    const char *target;
    const char *params[3];
    const char *query[8]; /* names and values in turn */
    const char *cookie;
    const char *authorization;
    const char *accept;
    const char *content_type;
    const char *signature;
    const char *proof;
    const char *body;
    const struct kbs_span *fetched; /* bodies of FETCHED */
    size_t fetched_count;
};

struct reply {
    unsigned int status; /* 0: the judge closed without answering */
    char type[128];
    char cookie[64];
    uint64_t cookie_expires_s;
    uint32_t retry_after_s;
    char receipt[KBS_LIMIT_RECEIPT_BYTES + 1];
    char body[131072];
    /* FETCH in the place of an answer: status is 0, body is its body */
    bool fetch;
    char endpoint[64];
    char suffix[64];
};

/* cmocka fixtures: a migrated store and a running judge. */
int judge_setup_release(void **state);
int judge_setup_admin(void **state);
int judge_setup_no_sample(void **state);
int judge_setup_production(void **state); /* of the admin lane */
int judge_teardown(void **state);

/* Starts (again) the judge of a fixture, up to READY. */
void judge_start(struct judge *j);
/* Starts it and expects it to give up with that status before READY. */
void judge_start_fails(struct judge *j, int status);
/* Gives the running judge a channel to another kbs-fetch. */
void judge_attach_fetch(struct judge *j);
/* Ends it and starts another one, as when its lane is recycled. */
void judge_restart(struct judge *j);
/* Waits for it to end; returns its exit status. */
int judge_wait(struct judge *j);

/* Serves token and ledger until neither has said anything for so long: the judge's own work. */
void judge_serve(struct judge *j, int quiet_ms);
/* Serves that many messages to token and ledger: what the judge does without being asked. */
void judge_serve_messages(struct judge *j, unsigned int messages);

void judge_ask(struct judge *j, const struct ask *ask, struct reply *ret);
/* Asks and expects that status and, unless NULL, that text in the body. */
void judge_expect(struct judge *j, const struct ask *ask, unsigned int status, const char *text);

/* Asserts that the ledger has (or has not) text in it, and forgets what it has. */
void ledger_expect(struct judge *j, const char *text);
void ledger_expect_not(struct judge *j, const char *text);
void ledger_forget(struct judge *j);

/* A row as the harness' token would have made it: resident, or wrapped under that wrapping key. */
struct kbs_key judge_new_key(const char *path, uint32_t version, uint32_t wrap_version);
/* Prints the card of a row anew, after something in it was changed. */
void judge_recard(struct kbs_key *key);
/* Puts a row into the catalog, signed and counted. policy: NULL for none. */
void judge_put_key(struct judge *j, struct kbs_key *key, const char *policy);
/* Puts a secret into the store likewise; its sealed form is JUDGE_SEALED. */
void judge_add_secret(struct judge *j, const char *path, uint32_t version, const char *policy);
/* Both, for a resident key that is enabled. */
void judge_add_key(struct judge *j, const char *path, uint32_t version, const char *policy);

/* Puts a document into the store likewise. */
void judge_add_document(struct judge *j, enum kbs_document_kind kind, const char *name,
                        uint32_t version, const char *text);

/* Makes a row one of before there were cards, signed as it then was. Counted anew. */
void judge_sign_cardless(struct judge *j, const char *path, uint32_t version);
/* Gives a key another policy than its card says, signed as if it were so. */
void judge_sign_policy(struct judge *j, const char *path, uint32_t version, const char *policy);

/* SQL on the judge's store, as somebody else who can write the file. */
void judge_tamper(struct judge *j, const char *sql);

EVP_PKEY *key_new(const char *curve);
struct kbs_ec_public key_public(EVP_PKEY *key, enum kbs_curve curve);
/* Signs a compact JWS into out (NUL-terminated). */
void jws_sign(EVP_PKEY *key, const char *kid, const char *typ, const char *payload, char *out,
              size_t size);

/* The guest's side. */
struct guest {
    enum kbs_protocol version; /* NONE: 0.4.0 */
    const char *tee;           /* NULL: "sample" */
    const char *extra;         /* extra-params, JSON; NULL: "" */
    const char *additional;    /* additional_evidence; NULL: "" */
    enum kbs_hash hash;        /* what the challenge selects; NONE: nothing, so SHA-384 */
    enum kbs_tee_alg rsa_alg;  /* NONE: RSA-OAEP-256 */
    bool signs;                /* an EC key is for ES256 */
    char cookie[64];
    char nonce[64];
    char token[8192];
    char bearer[8200]; /* "Bearer " token */
    EVP_PKEY *key;
    struct kbs_tee_key public;
    struct kbs_digest digest;
};
/* g->key: NULL for a new EC key; else an RSA key to be used by rsa_alg. */
void guest_auth(struct judge *j, struct guest *g);
/* The report data: of the TEE's own evidence, and of a device's. guest_auth() sets g->digest. */
struct kbs_digest guest_digest(const struct guest *g, bool device);
/* The Attestation for the guest's key, nonce and digest. */
void guest_evidence(struct guest *g, char *out, size_t size);
void guest_attest(struct judge *j, struct guest *g);
void guest_free(struct guest *g);

#endif
