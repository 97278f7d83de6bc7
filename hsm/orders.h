/* The orders that a judge may give, and what each of them does: the closed lists per duty. */
#ifndef KBS_HSM_ORDERS_H
#define KBS_HSM_ORDERS_H

#include "hsm/card.h"
#include "hsm/deed.h"
#include "hsm/ladder.h"
#include "hsm/sign.h"

struct kbs_worker {
    enum kbs_duty duty;
    bool rsa1_5;    /* secrets go to TEE keys of RSA1_5 */
    int control_fd; /* borrowed */
    int judge_fd;   /* borrowed */
    struct kbs_token token;
    struct kbs_ladder ladder;
    struct kbs_cards *cards;
    struct kbs_sign_keys sign_keys;
    struct kbs_sign_keys tls_keys; /* duty admin only, to be told of */
    struct kbs_signer row_signer;  /* duty admin only, like the next */
    struct kbs_signer head_signer;
    struct kbs_signer receipt_signer;
    struct kbs_deeds deeds;
    uint32_t proven_import; /* versions whose public half is known to be theirs (serve.c) */
    uint32_t proven_seal;
    uint32_t proven_request;
    uint64_t worn_objects; /* made by a token that leaks them, when it is to be replaced */
    bool worn;             /* it has been said */
};

/* One decoded order; borrows the message it came in. */
#define KBS_ORDER_MEMBER(number, upper, lower, cap) struct kbs_wire_##lower lower;
union kbs_order {
    KBS_WIRE_MESSAGES(KBS_ORDER_MEMBER)
};
#undef KBS_ORDER_MEMBER

struct kbs_operation {
    enum kbs_wire_type type;
    bool on_release_list; /* everything is on the admin list */
    const char *deed;     /* what its deed says it is; NULL: it leaves none */
    /* Fills in *deed as far as the order can be read, also when it will be refused. */
    void (*describe)(const union kbs_order *o, struct kbs_deed *deed);
    int (*act)(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
               struct kbs_error *err);
};

/* Adds to the deed of an operation that was done what only its answer says. */
void kbs_operation_deed_done(const struct kbs_operation *operation, struct kbs_span made,
                             struct kbs_deed *deed);

/* The operation of a message type, NULL if it is not on the duty's list. Static. */
const struct kbs_operation *kbs_operation_find(enum kbs_duty duty, enum kbs_wire_type type);

#endif
