/*
 * Units: what lives and dies together. The audit, each front, kbs-fetch and the migration are units of
 * one process, and so is a sign worker; a lane is a unit of a judge, its token worker, and its kbs-policy if there is one.
 */
#ifndef KBS_SUPERVISOR_UNIT_H
#define KBS_SUPERVISOR_UNIT_H

#include "base/terms.h"
#include "config/config.h"
#include "supervisor/child.h"
#include "supervisor/listen.h"
#include "supervisor/tls.h"
#include <sys/stat.h>

enum kbsd_unit_kind {
    KBSD_UNIT_AUDIT,
    KBSD_UNIT_FRONT,
    KBSD_UNIT_LANE,
    KBSD_UNIT_FETCH,    /* nobody dies with it, and it with nobody */
    KBSD_UNIT_SIGN,     /* a token worker that signs for one front */
    KBSD_UNIT_MIGRATION /* of the store's schema, before everything else; then checks (reload.h) */
};

enum kbsd_unit_state {
    KBSD_UNIT_DOWN, /* no process; to be started at restart_at_ns */
    KBSD_UNIT_UP,
    KBSD_UNIT_ENDING, /* waiting for its processes to be gone */
    KBSD_UNIT_FAILED  /* never started again */
};

/* Why a unit ends, which decides when it is started again. */
enum kbsd_cause {
    KBSD_CAUSE_FAILURE,    /* its own: back-off */
    KBSD_CAUSE_COLLATERAL, /* the audit or its front died: as soon as those are back */
    KBSD_CAUSE_STUCK,      /* its token does not answer: at once, unless that repeats */
    KBSD_CAUSE_RECYCLED    /* its worker was worn (recycle.h): at once */
};

#define KBSD_UNIT_CHILDREN 3

struct kbsd_unit {
    char name[24];
    enum kbsd_unit_kind kind;
    enum kbs_listener listener; /* FRONT; LANE: the front that feeds it */
    uint32_t index;             /* LANE: number within its front */
    enum kbsd_unit_state state;
    struct kbsd_child children[KBSD_UNIT_CHILDREN]; /* LANE: judge, token worker, policy */
    size_t n_children;
    enum kbsd_cause cause; /* ENDING */
    bool hopeless;         /* will be FAILED when it is down */
    bool stale;            /* LANE: it was started with a configuration that has been replaced */
    bool detached;     /* LANE: its front was told to let go of it, so it will leave by itself */
    uint64_t ready_ns; /* since when it serves; 0: it does not */
    uint64_t restart_at_ns; /* DOWN */
    unsigned int failures;  /* in a row, for the back-off */
    struct stat pin;        /* LANE: of the PIN file that its worker was given */
    int front_end;          /* LANE: the front's end of its channel until it is attached; -1 */
    int sign_ends[KBS_LIMIT_TLS_SIGNERS]; /* SIGN: the same, of all its channels */
    bool spare; /* SIGN: not to be started: the other one of its front's two serves */
    bool
        renewal; /* SIGN: takes the place of the other one, with the certificate of kbsd_server_tls.next (sign.h) */
    bool fetches; /* FRONT, LANE: has a channel to the kbs-fetch that is there now */
};

/* What starting a unit needs. All borrowed. */
struct kbsd_start {
    const struct kbs_config *config;
    bool check; /* MIGRATION: only to say whether a judge can use that configuration */
    const struct kbsd_source *source;
    const struct kbsd_listeners *listeners; /* FRONT: of that front */
    int audit_control;                      /* LANE: to attach a client to */
    uint32_t client_index;                  /* LANE: kbs-audit's and kbs-fetch's name for it */
    int fetch_control;                      /* LANE: of a kbs-fetch that is ready; -1 */
    struct kbsd_tls *tls;                   /* FRONT, SIGN: read anew if a file has the key */
};

void kbsd_unit_init(struct kbsd_unit *u, enum kbsd_unit_kind kind, enum kbs_listener listener,
                    uint32_t index);

/* Gives a lane that has not been started yet a kbs-policy. */
void kbsd_unit_add_policy(struct kbsd_unit *u);

/*
 * Starts every process of the unit and sends it configuration, descriptors and GO. On failure some
 * may be running: the caller ends the unit as if it had died.
 */
KBS_MUST_CHECK int kbsd_unit_start(struct kbsd_unit *u, const struct kbsd_start *with,
                                   struct kbs_error *err);

/* The unit's token worker; NULL if it has none. */
struct kbsd_child *kbsd_unit_token(struct kbsd_unit *u);
void kbsd_unit_close_ends(struct kbsd_unit *u); /* those that are not attached */

bool kbsd_unit_all(const struct kbsd_unit *u, enum kbsd_state state); /* every child is in it */

#endif
