/*
 * The token test harness: fresh token folders, and a real kbs-token between a played kbsd and a
 * played judge.
 */
#ifndef KBS_TESTS_TOKEN_HARNESS_H
#define KBS_TESTS_TOKEN_HARNESS_H

#include <sys/types.h>

#include "agree/agree.h"
#include "base/terms.h"
#include "channel/channel.h"
#include "hsm/module.h"

/* openCryptoki takes at most eight characters. */
#define PIN "4711-geh"
#define SO_PIN "815-offz"
#define ORDER "sixteen bytes id"                  /* of an order */
#define POLICY "sha-256 of the key's policy: 32b" /* as an order carries it */
#define SALT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* One column of the matrix. */
struct token_kind {
    const char *name;
    const char *modules[4];          /* candidates, NULL-terminated */
    const char *conf_env;            /* names its configuration file; NULL: it takes none */
    bool nss;                        /* configured by init_args */
    bool slots;                      /* openCryptoki: its folders are fixed, one set at a time */
    bool no_des;                     /* knows no key of that type */
    bool short_kcv;                  /* computes HMAC-SHA-256 with keys of less than 32 bytes */
    enum kbs_locality best_locality; /* what its best rung is worth */
    const char *jose_rung;
    const char *cose_rung;
    const char *manufacturer;
    enum kbs_token_class class;
    bool mock; /* one token only, and key bytes in its memory */
};
extern const struct token_kind *kind;
extern const char *module_path;

/* What a rung of kind is worth. */
enum kbs_locality rung_locality(const char *rung);
/* Chooses the column; false if its module is not installed. */
bool harness_select(const char *name);

/* A token in a folder of its own; every test gets a copy of one that was initialised once. */
struct token_dir {
    char path[256];
    char env[512];       /* NAME=value, or empty */
    char init_args[512]; /* or empty */
    const char *uri;
};
void dir_new(struct token_dir *d); /* an empty folder and its configuration */
void dir_copy(const struct token_dir *from,
              struct token_dir *d); /* a copy that can be used at once */
const char *dir_so_pin(void);       /* for a new one: NULL where kbs-token makes up its own */
/* A new one with all of the service's keys, which a group of tests begins with. */
void dir_new_with_keys(struct token_dir *d);
void dir_remove(const struct token_dir *d);
void dir_enter(const struct token_dir *d); /* before this process loads the module on it */

/* A running worker. */
struct worker {
    pid_t pid;
    int control;
    int judge;
    int audit;                         /* -1 with --init-token */
    int fronts[KBS_LIMIT_TLS_SIGNERS]; /* duty sign, n_fronts of them; judge and audit are -1 */
    size_t n_fronts;
    bool ledger_full;     /* deeds are acknowledged as not durable */
    unsigned int deeds;   /* taken */
    char last_deed[2048]; /* name=value, one after the other */
    struct kbs_channel_msg login_msg;
    struct kbs_wire_login_done login;
    bool ready;
    struct kbs_channel_msg answer_msg; /* owns what the last answer borrows */
};

struct start_options {
    enum kbs_duty duty; /* default: admin */
    bool init;
    const char *pin;
    const char *so_pin;
    const char *uri;
    const char *module;
    bool production;
    bool rsa1_5;
    size_t fronts;      /* duty sign: channels instead of judge and ledger */
    size_t front_first; /* the index of the first one, 0 if all is well */
    bool lane_too;      /* duty sign: judge and ledger as well */
    const char *key;    /* duty sign, like the next two */
    struct kbs_span certificate;
    bool general;
    bool no_memlock;     /* RLIMIT_MEMLOCK 0, without the capability to exceed it */
    bool expect_exit;    /* stop after GO */
    bool expect_failure; /* stop after LOGIN_DONE, or at the end of file before it */
};
void worker_start(struct worker *w, const struct token_dir *d, const struct start_options *o);
/* Hangs up and waits; returns the exit status (128 + signal if it was killed). */
int worker_stop(struct worker *w);
/* Waits for a worker that should end by itself. */
int worker_wait(struct worker *w);

/* One order, and its RESULT (borrowed until the next); takes and acknowledges its deed. */
struct kbs_wire_result worker_order(struct worker *w, enum kbs_wire_type type, const void *msg);

/* Assertions, which show what was said. */
void must(int rc, const struct kbs_error *err);
void assert_category(const struct kbs_wire_result *r, enum kbs_category category);

struct kbs_wire_described worker_describe(struct worker *w);
/* The n-th sign-token key that was described, from 0; its point borrows. */
struct kbs_wire_sign_key described_sign(const struct kbs_wire_described *d, uint16_t n);

/* Orders in short. Key ids are made of one byte. */
struct key_ref {
    uint8_t id[KBS_KEY_ID_BYTES];
    uint32_t version;
    char kid[64];
    uint8_t card[KBS_CARD_BYTES];           /* once it is made */
    uint8_t blob[KBS_LIMIT_KEY_BLOB_BYTES]; /* or public half */
    size_t blob_len;
    enum kbs_kcv_mac mac;
    uint8_t kcv[KBS_KCV_BYTES];
    enum kbs_key_alg alg;
    uint32_t bytes;
};
struct key_ref key_ref(uint8_t n, uint32_t version);
/* Fails unless `key` has the check value that k was made with. */
void key_check(const struct key_ref *k, struct kbs_span key);
/* Takes card, blob and check value out of a KBS_MADE. */
void key_made(struct key_ref *k, const struct kbs_wire_result *r);
/* A well-formed order to change fields of: AES, resident, floor worker. Borrows k. */
struct kbs_wire_generate generate_order(const struct key_ref *k, uint32_t bytes);
/* It, sent; a success fills in k. */
struct kbs_wire_result order_generate(struct worker *w, struct key_ref *k, uint32_t bytes);
struct kbs_wire_result order_service_key(struct worker *w, enum kbs_purpose purpose);
struct kbs_wire_result order_service_version(struct worker *w, enum kbs_purpose purpose,
                                             uint32_t version);
/* All of the service's keys, version 1, as kbs-admin init orders them. */
void order_service_keys(struct worker *w);
/*
 * A well-formed release order to change fields of; formats: one format byte. Borrows k, and a copy
 * of tee that lives for the next eight of these.
 */
struct kbs_wire_release release_order(const struct key_ref *k, const struct kbs_ec_public *tee,
                                      enum kbs_format format);

/* Something addressed to an EC key of the service, made by OpenSSL as a client would. */
struct sent {
    struct kbs_ec_public epk;
    uint8_t wrapped[KBS_LIMIT_KEY_BYTES_MAX + 8];
    size_t wrapped_len;
};
/* point: the service's key, uncompressed; apu, apv as the road has them; key: 16 to 64 bytes. */
struct sent sent_make(struct kbs_span point, const char *apu, struct kbs_span apv,
                      struct kbs_span key);
/* It as an import of k: AES, resident, floor worker. Borrows both. */
struct kbs_wire_import import_order(const struct sent *s, const struct key_ref *k);
/* Opens a released key with the TEE's private key, rebuilding the context from the order. */
void open_released(const struct kbs_agree_key *tee, const struct kbs_wire_release *order,
                   const struct kbs_wire_result *result, struct kbs_secret **ret_key);

/* The token opened in this process, to look at what is in it. */
void inside_open(struct kbs_token *t, const struct token_dir *d);

#endif
