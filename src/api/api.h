/*
 * The judge's handlers: one decoded REQUEST in, one RESPONSE out. Synchronous, one request at a
 * time. What each endpoint does: docs/protocol/; which errors it answers: docs/protocol/errors.md.
 */
#ifndef KBS_API_API_H
#define KBS_API_API_H

#include "attest/evidence.h"
#include "attest/issuer/issuer.h"
#include "base/process.h"
#include "store/store.h"
#include "wire/message.h"

struct kbs_api;
/* What a judge knows before its first request. */
struct kbs_api_setup {
    enum kbs_duty duty;
    bool production;                        /* plaintext secrets are refused */
    bool allow_sample;                      /* "sample" evidence proves nothing */
    bool rsa1_5;                            /* TEE keys of RSA1_5 are taken */
    uint32_t sessions;                      /* that may wait for their evidence at a time */
    uint32_t resource_bytes;                /* of a resource's value */
    bool svsm;                              /* report data in COCONUT-SVSM's way is taken */
    const struct kbs_verifier *verifiers;   /* as in attest/evidence.h; borrowed until the end */
    const struct kbs_issuers *issuers;      /* of foreign tokens; borrowed; NULL: none */
    struct kbs_span resource_policy;        /* of resources that come without; borrowed, copied */
    struct kbs_span nek_key;                /* that wrap-key is about; empty: none; copied */
    struct kbs_span id_key;                 /* that id-key is about; likewise */
    struct kbs_span issuer;                 /* of our tokens; borrowed, copied */
    uint32_t session_s;                     /* how long a challenge lives */
    uint32_t token_s;                       /* how long a token, and its session, live */
    const struct kbs_wire_list *admin_keys; /* PEM, borrowed; needed by duty admin */
    enum kbs_admin_mode admin_mode;
    const struct kbs_wire_list *identity_providers; /* as in CONFIG_JUDGE; borrowed */
    const struct kbs_wire_list *acls;               /* the same */
    uint32_t approvals;      /* administrators that a change needs, 0 as 1, if it is one of */
    uint8_t approvals_for;   /* KBS_WIRE_APPROVALS_* */
    struct kbs_store *store; /* borrowed until kbs_api_free() */
    int token_fd;            /* borrowed: channel to the lane's token worker */
    int ledger_fd;           /* borrowed: channel to kbs-audit */
    int policy_fd;           /* borrowed: channel to kbs-policy; -1: there is none */
    /* as in CONFIG_JUDGE; lists borrowed, copied */
    enum kbs_delegate delegate;
    struct kbs_span delegate_endpoint;
    struct kbs_span delegate_issuer;
    const struct kbs_wire_list *delegate_tees;
    const struct kbs_wire_list *delegate_policies;
    int fetch_fd; /* owned from here on: channel to kbs-fetch; -1: there is none */
};

/*
 * Checks the setup and DESCRIBEs the token (which may take its login's time). Returns owned.
 * KBS_INPUT for a setup that can never work: another category may work later.
 */
KBS_MUST_CHECK int kbs_api_new(const struct kbs_api_setup *setup, struct kbs_api **ret,
                               struct kbs_error *err);
struct kbs_api *kbs_api_free(struct kbs_api *api); /* NULL is fine; always returns NULL */

/* A line about the token for READY. Returns borrowed. */
const char *kbs_api_describe(const struct kbs_api *api);

/* What is sent back: one of these, by `type`. */
struct kbs_api_reply {
    enum kbs_wire_type type;
    struct kbs_wire_response response; /* KBS_WIRE_RESPONSE */
    struct kbs_wire_fetch fetch; /* KBS_WIRE_FETCH: the request is to come again, with its answer */
};

/*
 * Answers one request, or says what it needs for that. *ret borrows `api` and is valid until the next
 * call. Never fails: what went
 * wrong is in the answer. Returns KBS_EXIT_OK, or the status that the process must exit with once
 * *ret is sent, because a peer of this lane is out of step. `deadline_ns`: nothing irrevocable is
 * begun after it.
 */
KBS_MUST_CHECK enum kbs_exit kbs_api_handle(struct kbs_api *api,
                                            const struct kbs_wire_request *request,
                                            uint64_t deadline_ns, struct kbs_api_reply *ret);

/* Takes the channel to a kbs-fetch that was started again; -1: it is gone. */
void kbs_api_attach_fetch(struct kbs_api *api, int fd);
/* What to poll: kbs-fetch only ever answers, so anything on it between requests is its end. -1: none. */
int kbs_api_fetch_fd(const struct kbs_api *api);

/* Overwrites what the last request and its answer left: cookies, tokens, secrets. Ends its *ret. */
void kbs_api_forget(struct kbs_api *api);

/*
 * The admin lane's own work between requests: a signed head of the ledger every so often, keys that
 * were to be destroyed by now. First the milliseconds until there is some (-1: never); then what is
 * due, with the status as of kbs_api_handle().
 */
int kbs_api_wait_ms(const struct kbs_api *api);
KBS_MUST_CHECK enum kbs_exit kbs_api_tick(struct kbs_api *api);

/* The judge is about to leave: what is to be recorded before that, a signed head in the admin lane. */
void kbs_api_leave(struct kbs_api *api);

#endif
