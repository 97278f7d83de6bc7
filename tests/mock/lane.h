/*
 * What the campaign does to a token: a worker on a mock token of its own, and every kind of order
 * in three steps: what it needs, the order itself, and what must be true afterwards. Keys have
 * values that are known here wherever an administrator would know them, and answers are opened by
 * kbs-guest's own code.
 */
#ifndef KBS_TESTS_MOCK_LANE_H
#define KBS_TESTS_MOCK_LANE_H

#include "calls.h"
#include "cli/open.h"
#include "tests/token/harness.h"

enum order {
    GENERATE,
    IMPORT,
    RELEASE_JOSE,
    RELEASE_COSE,
    RELEASE_COLD, /* the worker has neither its handle nor its card */
    SIGN,
    GENERATE_WRAPPED,
    IMPORT_WRAPPED,
    RELEASE_WRAPPED,
    RELEASE_RSA,
    RELEASE_JWE, /* GCM-wrap, or the worker's where the token has no AES-GCM */
    REWRAP,
    RECARD,
    DESTROY,
    ADOPT,
    SEAL,
    OPEN_SECRET,
    RESEAL,
    ORDER_COUNT
};
extern const char *const order_names[ORDER_COUNT];

#define LANE_KEY_BYTES 32u
#define LANE_SECRET_MAX_BYTES 512u /* card and sealed form */

/* A key that is known here. */
struct lane_key {
    struct key_ref ref;
    bool known; /* else only its check value is */
    uint8_t value[LANE_KEY_BYTES];
};

struct lane_secret {
    uint8_t bytes[LANE_SECRET_MAX_BYTES]; /* card, sealed form */
    size_t len;
};

struct lane {
    struct token_dir dir;
    const struct mock_calls *calls;
    struct worker w;
    bool up;
    unsigned int starts;
    uint32_t next_version;
    struct kbs_guest_key ec; /* a TEE's */
    struct kbs_guest_key rsa;
    struct lane_key warm;    /* resident */
    struct lane_key wrapped; /* under the wrapping key before the newest */
    struct lane_secret secret;
    uint8_t import_point[65];
    struct kbs_ec_public sign_key;
};

/* A token with all service keys, and a key of somebody else. Never used by a lane itself. */
void lane_template(struct token_dir *d);
/* A copy of the template with one more line of configuration, and a worker on it. */
void lane_open(struct lane *l, const struct token_dir *template, const char *line);
void lane_up(struct lane *l); /* unless it is up */
/* False unless the worker, if there is one, ends well. The token stays. */
bool lane_down(struct lane *l);
void lane_remove(struct lane *l);

/* What the mock does from the next call on; by rename, so that a half is never read. */
void lane_script(const struct lane *l, const char *text);
const struct mock_calls *lane_calls_map(const struct token_dir *d);
uint64_t lane_calls_of(const struct mock_calls *c, const char *function);

/* One order to be given. */
struct attempt {
    enum order order;
    struct lane_key key;
    struct sent sent; /* IMPORT */
    struct lane_secret secret;
};

/* What an OK is worth to whoever asked. */
enum verdict {
    VERDICT_RIGHT,
    VERDICT_NOTHING, /* it does not open, or verify: noticed */
    VERDICT_WRONG    /* it opens, to other bytes */
};

/* Everything that the order needs; lanes that were warm are so again. */
struct attempt attempt_prepare(struct lane *l, enum order order);
/* The order; a success fills in what it made. *ret_verdict says nothing of a failure. */
enum kbs_category attempt_give(struct lane *l, struct attempt *a, enum verdict *ret_verdict);
/*
 * The lane serves again and what the order made is there, as a whole or not at all: after
 * `category`. destroy_failed: the token refused to take something away.
 */
bool attempt_check(struct lane *l, struct attempt *a, enum kbs_category category,
                   bool destroy_failed);

#endif
