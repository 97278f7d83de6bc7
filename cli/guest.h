/* kbs-guest: its subcommands, one file each, and what they share. */
#ifndef KBS_CLI_GUEST_H
#define KBS_CLI_GUEST_H

#include "cli/args.h"
#include "cli/guest_config.h"
#include "cli/handshake.h"
#include "receipt/read/receipt.h"

/* argv[0] is the subcommand. Return the exit status. */
int kbs_guest_cmd_attest(int argc, char **argv);
int kbs_guest_cmd_get_key(int argc, char **argv);
int kbs_guest_cmd_get_resource(int argc, char **argv);
int kbs_guest_cmd_open(int argc, char **argv);
int kbs_guest_cmd_rewrap(int argc, char **argv);
int kbs_guest_cmd_provision(int argc, char **argv);
int kbs_guest_cmd_register(int argc, char **argv);

/* Whether a receipt is asked for, and by which key it has to be. */
struct kbs_guest_receipt {
    const char *out;      /* file to keep it in, as typed; NULL: none */
    const char *key_file; /* as typed; NULL: none */
    bool wanted;          /* kbs_guest_connect() fills in this and the next */
    struct kbs_ec_public key;
};

/* Options of the subcommands that talk to a server. Zero-initialise. */
struct kbs_guest_options {
    const char *url;
    const char *ca;
    const char *unix_socket;
    const char *tee;
    const char *evidence_command;
    const char *init_data;
    const char *tee_key;
    const char *tee_alg;
    const char *curve;
    const char *protocol;
    bool pop;
    bool encrypt;
    const char *request_key;
    bool json;
    struct kbs_ec_public request_key_public; /* kbs_guest_connect() reads it, too */
    struct kbs_guest_receipt receipt;
    struct kbs_guest_config config; /* kbs_guest_connect() reads it from the init-data */
    struct kbs_buf init_data_text;  /* owned; kbs_guest_connect() reads it */
    struct kbs_guest_how how;       /* kbs_guest_connect() makes it */
};
#define KBS_GUEST_SERVER_ARGS 14
/* Fills `list`, whose targets are the members of *o, and sets defaults. */
void kbs_guest_server_args(struct kbs_guest_options *o, struct kbs_arg list[KBS_GUEST_SERVER_ARGS]);

/* The algorithm of a TEE key, as typed. KBS_CLI_OK or KBS_CLI_USAGE after a message. */
KBS_MUST_CHECK int kbs_guest_alg_from(const struct kbs_args *args, const char *text,
                                      enum kbs_tee_alg *ret);

/*
 * A usable combination of options: client, TEE key, and o->how. KBS_CLI_OK or an exit status after a
 * message; in any case kbs_guest_options_deinit() is called at last.
 */
KBS_MUST_CHECK int kbs_guest_connect(const struct kbs_args *args, struct kbs_guest_options *o,
                                     struct kbs_http_client **ret_http,
                                     struct kbs_guest_key *ret_key);

void kbs_guest_options_deinit(struct kbs_guest_options *o);

/*
 * Attests, sends the request in that session (its cookie is filled in here) and gives the last
 * answer, whatever its status; *session, zero-initialised and owned, is the one that the answer
 * belongs to.
 */
KBS_MUST_CHECK int kbs_guest_request(struct kbs_http_client *http, const struct kbs_tee_key *key,
                                     const struct kbs_guest_how *how,
                                     const struct kbs_http_request *request,
                                     struct kbs_guest_session *session,
                                     struct kbs_http_response *ret, struct kbs_error *err);

/* What get-key and open are asked, as typed. Zero-initialise. */
struct kbs_guest_ask_options {
    bool cose;
    bool context_none;
    uint32_t version;
    const char *nonce; /* hex */
    const char *salt;  /* hex */
    const char *out;
    uint32_t out_fd; /* a descriptor that the key is written to; 0: none */
};
/*
 * Into *ask (digest untouched; nonce only when given). KBS_CLI_OK or KBS_CLI_USAGE after a message.
 */
KBS_MUST_CHECK int kbs_guest_ask_from(const struct kbs_args *args, const char *path,
                                      const struct kbs_guest_ask_options *o,
                                      struct kbs_guest_ask *ask);

/* The type that an answer has to be of, and whether it is. */
const char *kbs_guest_accept(const struct kbs_guest_ask *ask);
KBS_MUST_CHECK int kbs_guest_check_type(const struct kbs_guest_ask *ask,
                                        const struct kbs_http_response *r, struct kbs_error *err);
/* Appends nonce and salt as members of a request's body. */
void kbs_guest_freshness_put(struct kbs_buf *out, const struct kbs_guest_ask *ask);

/* ---- guest_receipt.c ---- */

/*
 * After the init-data was read: which receipt key counts, and whether a receipt is wanted. One in the init-data
 * always is, and by no other key. KBS_CLI_OK, or an exit status after a message.
 */
KBS_MUST_CHECK int kbs_guest_receipt_prepare(const struct kbs_args *args,
                                             struct kbs_guest_options *o);
#define KBS_GUEST_RECEIPT_QUERY "receipt=1"

/* What the receipt of an answer has to say. Borrowed. */
struct kbs_guest_receipt_expect {
    const char *path;       /* of what was asked for */
    const char *kid;        /* of what was given; NULL: any version of that path */
    enum kbs_receipt_op op; /* NONE: whichever gives a resource */
    const struct kbs_tee_key *tee_key;
    const uint8_t *nonce; /* NULL: none was sent */
    const struct kbs_guest_session *session;
    struct kbs_span answer; /* what it is of; empty: the response's body */
};
/*
 * Verifies the answer's receipt, if one is wanted, and keeps it where o says. KBS_UNAUTHENTICATED without one or by
 * another key, KBS_UNPROCESSABLE if it is of another answer or says something else, KBS_INPUT if it is none.
 */
KBS_MUST_CHECK int kbs_guest_receipt_check(const struct kbs_guest_options *o,
                                           const struct kbs_http_response *response,
                                           const struct kbs_guest_receipt_expect *expect,
                                           struct kbs_error *err);
/* The same of the answer to such a question, once it was opened. */
KBS_MUST_CHECK int kbs_guest_receipt_of_key(const struct kbs_guest_options *o,
                                            const struct kbs_http_response *response,
                                            const struct kbs_guest_ask *ask,
                                            const struct kbs_guest_opened *opened,
                                            const struct kbs_tee_key *tee_key,
                                            const struct kbs_guest_session *session,
                                            struct kbs_error *err);

/*
 * Shows an opened key (never its bytes, except into o->out and o->out_fd). provisioned: "now", "before", or NULL. Returns
 * the exit status.
 */
KBS_MUST_CHECK int kbs_guest_show(const struct kbs_guest_ask *ask,
                                  const struct kbs_guest_opened *key,
                                  const struct kbs_guest_ask_options *o, const char *provisioned,
                                  bool json);
/*
 * A descriptor for a key: a pipe, a socket or a file that is in memory only, and from here on not inherited. KBS_INPUT for
 * anything else.
 */
KBS_MUST_CHECK int kbs_guest_out_fd_check(uint32_t fd, struct kbs_error *err);

/* `open`: reads the answer from a file, opens and shows it. Returns the exit status. */
KBS_MUST_CHECK int kbs_guest_open_file(struct kbs_guest_ask *ask,
                                       const struct kbs_guest_key *tee_key, const char *handshake,
                                       const char *answer, const struct kbs_guest_ask_options *o,
                                       bool json);

#endif
