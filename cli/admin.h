/* kbs-admin: its subcommands, one file each, and the signed conversation with the admin API they
 * share. */
#ifndef KBS_CLI_ADMIN_H
#define KBS_CLI_ADMIN_H

#include <limits.h>

#include "attest/verdict.h"
#include "base/ec.h"
#include "cli/args.h"
#include "cli/http.h"
#include "cli/sign.h"
#include "jose/read/json.h"

/* Options every subcommand takes; filled by main() as far as they stand before the subcommand. */
struct kbs_admin_options {
    const char *profile; /* NULL: $KBS_ADMIN_PROFILE, then ./admin/profile.json */
    const char *url;     /* instead of the profile's */
    bool json;
    bool dry_run;
};
#define KBS_ADMIN_COMMON_ARGS 4
void kbs_admin_common_args(struct kbs_admin_options *o, struct kbs_arg list[KBS_ADMIN_COMMON_ARGS]);

#define KBS_CLI_GO_ON (-1)
/* kbs_args_parse() with the common options: KBS_CLI_GO_ON, or the status to exit with. */
KBS_MUST_CHECK int kbs_admin_parse(struct kbs_admin_options *o, const struct kbs_args *args,
                                   int argc, char **argv, const char **ret_positionals);

/* argv[0] is the subcommand's last word. Return the exit status. */
int kbs_admin_cmd_init(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_generate(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_import(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_adopt(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_rotate(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_policy(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_disable(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_enable(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_destroy(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_key_undo(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_wrapping_key_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_wrapping_key_rotate(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_wrapping_key_rewrap(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_wrapping_key_destroy(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_seal_key_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_seal_key_rotate(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_seal_key_reseal(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_seal_key_destroy(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_sign_key_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_sign_key_rotate(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_sign_key_destroy(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_token_caps(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_secret_set(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_secret_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_secret_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_secret_policy(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_secret_delete(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_release_explain(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_release_test(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_release_dry_run(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_set(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_get(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_history(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_rollback(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_remove(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_test(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_explain(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_rego_test(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_policy_rego_explain(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_approve(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_approvals_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_approvals_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_approvals_withdraw(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_alias_set(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_alias_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_alias_remove(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_store_accept(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_audit_verify(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_attest_explain(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_attest_reference(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_initdata_make(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_initdata_digest(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_nek_public(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_nek_new(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_nek_wrap(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_nek_inspect(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_kept_list(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_kept_forget(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_receipt_verify(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_receipt_key_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_receipt_key_make(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_csr(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_selfsigned(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_install(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_show(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_list_keys(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_make_key(struct kbs_admin_options *o, int argc, char **argv);
int kbs_admin_cmd_tls_destroy_key(struct kbs_admin_options *o, int argc, char **argv);

/* An administrator's profile (docs/protocol/admin-api.md), its paths resolved. */
struct kbs_admin_profile {
    char url[512];
    char ca[PATH_MAX];
    char key[PATH_MAX];
    char import_key[44];        /* pinned RFC 7638 thumbprint */
    char seal_key[44];          /* the same; empty in a profile of an older service */
    char row_key[PATH_MAX];     /* pinned PEM, empty in a profile of an older service */
    char head_key[PATH_MAX];    /* the same */
    char receipt_key[PATH_MAX]; /* the same */
    char client_cert[PATH_MAX]; /* PEM chain for the admin listener's client_ca; empty: none */
    char client_key[PATH_MAX];  /* its key */
};
/* Where it is: --profile, $KBS_ADMIN_PROFILE, admin/profile.json. Returns borrowed. */
const char *kbs_admin_profile_path(const struct kbs_admin_options *o);
KBS_MUST_CHECK int kbs_admin_profile_read(const char *path, struct kbs_admin_profile *ret,
                                          struct kbs_error *err);

/* An administrator at work: profile, private key and connection. */
struct kbs_admin {
    struct kbs_admin_profile profile;
    struct kbs_cli_signer *signer;
    struct kbs_http_client *http;
};
KBS_MUST_CHECK int kbs_admin_open(const struct kbs_admin_options *o, struct kbs_admin *ret,
                                  struct kbs_error *err);
void kbs_admin_close(struct kbs_admin *a); /* safe on a zeroed one */

/*
 * One request of the admin API under /kbs/v0/admin: fetches a nonce, signs, sends, and parses the
 * answer as a strict JSON object. `target` begins with "/kbs/v0/admin/". `what` opens the text of
 * an error, whose category is that of the HTTP status. Returns owned.
 */
KBS_MUST_CHECK int kbs_admin_call(struct kbs_admin *a, const char *method, const char *target,
                                  struct kbs_span body, const char *what, json_t **ret,
                                  struct kbs_error *err);

/*
 * All of a list, page by page: the array `member` of `target`'s answers, where `name` is the member of an
 * item that the next page begins after. Returned owned, as the one member of an object.
 */
KBS_MUST_CHECK int kbs_admin_list(const struct kbs_admin_options *o, const char *target,
                                  const char *member, const char *name, json_t **ret,
                                  struct kbs_error *err);

/* A line of a table: the texts of its numbers are its own, the other cells borrow from the JSON tree. */
#define KBS_ADMIN_COLUMNS_MAX 8
#define KBS_ADMIN_ROW_TEXTS 3
struct kbs_admin_row {
    struct kbs_span cells[KBS_ADMIN_COLUMNS_MAX];
    char texts[KBS_ADMIN_ROW_TEXTS][32];
};
typedef int kbs_admin_row_fn(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err);
/* Prints a list: titles, then a line per item. Nothing is printed if `fill` fails for one. */
KBS_MUST_CHECK int kbs_admin_table_print(const json_t *items, const char *const *titles,
                                         size_t columns, kbs_admin_row_fn *fill,
                                         struct kbs_error *err);

/* Reads a public key that the profile pins (PEM, P-256). KBS_INPUT if it is another. */
KBS_MUST_CHECK int kbs_admin_pinned_key(const char *path, struct kbs_ec_public *ret,
                                        struct kbs_error *err);

#define KBS_ADMIN_ROW_UNPINNED 1 /* the profile pins no row key */
/*
 * Whether a KEY, as `key show` has it, is the one that was asked for (version 0: any of that path) and what
 * the pinned row key signed (docs/protocol/store-rows.md). 0, KBS_ADMIN_ROW_UNPINNED, or -1:
 * KBS_UNPROCESSABLE if it is not.
 */
KBS_MUST_CHECK int kbs_admin_row_check(const struct kbs_admin_profile *profile, const char *path,
                                       uint32_t version, const json_t *key, struct kbs_error *err);

/* Builds "/kbs/v0/admin/keys/<path><suffix>", with ?version= unless it is 0. KBS_INPUT. */
KBS_MUST_CHECK int kbs_admin_key_target(const char *path, const char *suffix, uint32_t version,
                                        struct kbs_buf *out, struct kbs_error *err);

/* What a new key is to be, as typed; NULL and 0 leave it to the service. */
struct kbs_admin_new_key {
    const char *path;
    const char *alg; /* "AES" or "generic" */
    uint32_t bytes;
    const char *class; /* "resident" or "wrapped" */
    const char *floor;
    const char *policy_file;
    const char *purpose;   /* NULL: release */
    bool binding_required; /* purpose nek */
    bool require_pop;
    bool no_require_pop;
};
#define KBS_ADMIN_NEW_KEY_ARGS 5
/* --class, --floor, --policy, --require-pop and --no-require-pop. */
void kbs_admin_new_key_args(struct kbs_admin_new_key *k,
                            struct kbs_arg list[KBS_ADMIN_NEW_KEY_ARGS]);
/* KBS_CLI_OK, or KBS_CLI_USAGE after a message. */
KBS_MUST_CHECK int kbs_admin_new_key_check(const struct kbs_args *args,
                                           const struct kbs_admin_new_key *k);
/*
 * Appends what was typed as members, each with a comma before it: "alg", "bytes", "class", "floor", "pop_required", "policy".
 * KBS_INPUT if the policy is no JSON object.
 */
KBS_MUST_CHECK int kbs_admin_new_key_put(struct kbs_buf *out, const struct kbs_admin_new_key *k,
                                         struct kbs_error *err);

/* One request about a key; `body` may be empty. */
struct kbs_admin_key_request {
    const char *method;
    const char *target;
    const char *path;
    struct kbs_span body;
    bool must_be_free; /* a dry run finds out whether the path is taken */
};
/*
 * With --dry-run shows what would be sent (KBS_CONFLICT if the path must be free and is not), and *ret is NULL;
 * else sends it, and *ret is the answer. KBS_BUSY if it was put down and waits for other administrators, which
 * is shown: nothing has been done then. Returns owned.
 */
KBS_MUST_CHECK int kbs_admin_send(struct kbs_admin *a, const struct kbs_admin_options *o,
                                  const struct kbs_admin_key_request *q, json_t **ret,
                                  struct kbs_error *err);
/*
 * The whole of it, for a command that asks one thing: opens, sends, closes. What only looks (GET) is sent in a dry run,
 * too. Returns owned; NULL after a dry run.
 */
KBS_MUST_CHECK int kbs_admin_ask(const struct kbs_admin_options *o,
                                 const struct kbs_admin_key_request *q, json_t **ret,
                                 struct kbs_error *err);
/* A public key as PEM, what pins name, into a new file or ("-") to standard output. */
KBS_MUST_CHECK int kbs_admin_public_write(const struct kbs_ec_public *key, const char *to,
                                          struct kbs_error *err);
/* kbs_admin_send(), and shows the KEY that comes back. */
KBS_MUST_CHECK int kbs_admin_key_send(struct kbs_admin *a, const struct kbs_admin_options *o,
                                      const struct kbs_admin_key_request *q, struct kbs_error *err);
/* A KEY as JSON or for people, as the options say. `key` is borrowed. */
KBS_MUST_CHECK int kbs_admin_key_show(const struct kbs_admin_options *o, json_t *key,
                                      struct kbs_error *err);

/* Prints {"decision", "reason"?, "policy"} of a release policy (kbs_policy_explain()), line by line. */
void kbs_admin_explained_print(const json_t *explained);

/* Shows a KEY for people; `with_policy` for answers that have the member "policy". */
KBS_MUST_CHECK int kbs_admin_key_print(const json_t *key, bool with_policy, struct kbs_error *err);
/* "2026-01-31T12:00:00Z" (21 bytes); empty if out of range or too long for `size`. */
void kbs_admin_time(int64_t unix_s, char *out, size_t size);
/* The reverse, or seconds since 1970. KBS_INPUT, naming the option. */
KBS_MUST_CHECK int kbs_admin_time_read(const char *text, const char *option, int64_t *ret,
                                       struct kbs_error *err);

/*
 * Reference values of a file: `form` as kbs_reference_form_from_name() knows it (NULL: any), `as`
 * NULL or the name of all digests. Warns of what is left out. Returns owned.
 */
KBS_MUST_CHECK int kbs_admin_reference_file(const char *path, const char *form, const char *as,
                                            json_t **ret, struct kbs_error *err);

/*
 * Evidence that was verified, and what it is to be held against; `as` as for
 * kbs_admin_reference_file().
 */
struct kbs_admin_appraisal {
    const struct kbs_verdict *verdict;
    const char *reference; /* file; NULL: no reference values */
    const char *as;
    const char *policy; /* file in Rego; NULL: the built-in appraisal */
};
/*
 * Appraises, and shows comparisons and trust vector; as JSON into *ret, owned, unless it is NULL.
 * KBS_UNPROCESSABLE with line and column if the policy gives no vector.
 */
KBS_MUST_CHECK int kbs_admin_appraise(const struct kbs_admin_appraisal *a, json_t **ret,
                                      struct kbs_error *err);

#endif
