/*
 * kbs-policy: Rego policies as a pure function. A judge loads a policy and asks it about an input;
 * the answer is allow, deny, or error with a place in the text.
 *
 * A policy is parsed once and kept by its digest; the one that was not used for longest makes room.
 * It is parsed in a process of its own first (sandbox.h), and only what passed there is parsed
 * here, so that nothing an administrator can upload ends this process. Each decision is made in a
 * process of its own. Whatever goes wrong there is an error, which a judge takes for deny.
 *
 * Everything arrives from one judge, which may be compromised: what it can have from here is a wrong
 * answer to itself.
 */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "policy/rego/engine.h"
#include "policy/rego/sandbox.h"
#include "role/role.h"

#define CONTROL_MS 5000

/* A policy that is loaded, or a free place. */
struct policy {
    struct kbs_rego *rego;
    uint8_t digest[KBS_SHA256_BYTES];
    uint64_t used; /* when, in questions */
};

struct role {
    int judge;
    bool production;
    uint64_t questions;
    struct policy policies[KBS_LIMIT_POLICIES_LOADED];
    struct kbs_channel_msg msg;
};

/* What a sandbox gives back. */
struct told {
    int outcome; /* enum kbs_verdict */
    struct kbs_rego_why why;
};

/* What it is asked. */
struct question {
    const struct kbs_rego *rego;
    struct kbs_span text;
    struct kbs_span input;
    struct kbs_span data;
};

static struct policy *policy_find(struct role *r, struct kbs_span digest)
{
    for (size_t i = 0; i < KBS_LIMIT_POLICIES_LOADED; i++) {
        struct policy *p = &r->policies[i];

        if (p->rego != NULL && kbs_span_equal(digest, kbs_span(p->digest, sizeof(p->digest)))) {
            p->used = r->questions;
            return p;
        }
    }
    return NULL;
}

/* A free place, or the one whose policy was not used for longest. */
static struct policy *policy_place(struct role *r)
{
    struct policy *ret = &r->policies[0];

    for (size_t i = 1; i < KBS_LIMIT_POLICIES_LOADED; i++) {
        if (r->policies[i].used < ret->used) {
            ret = &r->policies[i];
        }
    }
    kbs_rego_free(ret->rego);
    *ret = (struct policy){.used = r->questions};
    return ret;
}

static void work_load(const void *arg, void *ret)
{
    const struct question *q = arg;
    struct told *told = ret;
    struct kbs_rego *rego = kbs_rego_load(q->text.p, q->text.len, &told->why);

    told->outcome = rego != NULL ? KBS_VERDICT_LOADED : KBS_VERDICT_ERROR;
}

static void work_eval(const void *arg, void *ret)
{
    static const int outcomes[] = {KBS_VERDICT_ERROR, KBS_VERDICT_DENY, KBS_VERDICT_ALLOW};
    const struct question *q = arg;
    struct told *told = ret;
    int rc = kbs_rego_allow(q->rego, q->input.p, q->input.len, q->data.p, q->data.len, &told->why);

    told->outcome = outcomes[rc + 1];
}

static void told_text(struct told *told, enum kbs_verdict outcome, const char *text)
{
    *told = (struct told){.outcome = (int)outcome};
    told->why.len = strlen(text);
    memcpy(told->why.text, text, told->why.len);
}

/* In a process of its own; one that ends without an answer went over a bound. */
static int ask(kbs_sandbox_work *work, const struct question *q, struct told *ret,
               struct kbs_error *err)
{
    bool done = false;

    *ret = (struct told){.outcome = KBS_VERDICT_NONE};
    if (kbs_sandbox_run(work, q, ret, sizeof(*ret), KBS_LIMIT_POLICY_EVAL_MS, &done, err) != 0) {
        return -1;
    }
    if (!done) {
        told_text(ret, KBS_VERDICT_ERROR, "the policy takes too much time, memory or depth");
    }
    return 0;
}

static int policy_load(struct role *r, struct told *ret, struct kbs_error *err)
{
    struct kbs_wire_policy_load order;
    struct question q = {.rego = NULL};
    uint8_t digest[KBS_SHA256_BYTES];

    if (kbs_channel_msg_decode(&r->msg, KBS_WIRE_POLICY_LOAD, &order, err) != 0) {
        return -1;
    }
    kbs_sha256(order.text, digest);
    if (!kbs_span_equal(order.digest, kbs_span(digest, sizeof(digest)))) {
        return kbs_fail(err, KBS_INPUT, "a policy whose digest is another's");
    }
    q.text = order.text;
    if (ask(work_load, &q, ret, err) != 0) {
        return -1;
    }
    if (ret->outcome == KBS_VERDICT_LOADED && policy_find(r, order.digest) == NULL) {
        struct policy *p = policy_place(r);

        memcpy(p->digest, digest, sizeof(digest));
        p->rego = kbs_rego_load(order.text.p, order.text.len, &ret->why);
        ret->outcome = p->rego != NULL ? KBS_VERDICT_LOADED : KBS_VERDICT_ERROR;
    }
    return 0;
}

static int policy_eval(struct role *r, struct told *ret, struct kbs_error *err)
{
    struct kbs_wire_policy_eval order;
    const struct policy *p = NULL;

    if (kbs_channel_msg_decode(&r->msg, KBS_WIRE_POLICY_EVAL, &order, err) != 0) {
        return -1;
    }
    p = policy_find(r, order.digest);
    if (p == NULL) {
        told_text(ret, KBS_VERDICT_UNKNOWN, "not loaded");
        return 0;
    }
    const struct question q = {.rego = p->rego, .input = order.input, .data = order.data};
    return ask(work_eval, &q, ret, err);
}

/* One question of the judge, answered. Returns KBS_CHANNEL_EOF when it is gone. */
static int serve_one(struct role *r, struct kbs_error *err)
{
    struct told told;
    int rc = kbs_channel_recv_turn(r->judge, &r->msg, kbs_deadline_in_ms(CONTROL_MS), err);

    if (rc != 0) {
        return rc;
    }
    r->questions++;
    if (r->msg.frame.type == KBS_WIRE_POLICY_LOAD) {
        rc = policy_load(r, &told, err);
    } else {
        rc = policy_eval(r, &told, err);
    }
    if (rc != 0) {
        return -1;
    }
    size_t len = told.why.len < sizeof(told.why.text) ? told.why.len : sizeof(told.why.text);
    const struct kbs_wire_verdict verdict = {.outcome = (uint8_t)told.outcome,
                                             .detail = kbs_span(told.why.text, len),
                                             .line = told.why.line,
                                             .column = told.why.column};
    return kbs_channel_send(r->judge, KBS_WIRE_VERDICT, r->msg.frame.id, &verdict, -1,
                            kbs_deadline_in_ms(CONTROL_MS), err);
}

/* CONFIG, the channel to the judge, GO. */
static int configure(struct role *r, struct kbs_error *err)
{
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    struct kbs_wire_config_policy config;
    struct kbs_wire_attach attach;
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &r->msg, deadline_ns, err);

    if (rc == 0) {
        rc = kbs_channel_msg_decode(&r->msg, KBS_WIRE_CONFIG_POLICY, &config, err);
        r->production = rc != 0 || config.production != 0;
    }
    if (rc == 0) {
        rc = kbs_channel_recv(KBS_FD_CONTROL, &r->msg, deadline_ns, err);
    }
    if (rc == 0) {
        rc = kbs_channel_msg_decode(&r->msg, KBS_WIRE_ATTACH, &attach, err);
    }
    if (rc == 0 && (attach.what != KBS_ATTACH_JUDGE || r->msg.fd < 0)) {
        rc = kbs_fail(err, KBS_INPUT, "an ATTACH that kbs-policy does not take");
    }
    if (rc == 0) {
        r->judge = r->msg.fd;
        r->msg.fd = -1;
        rc = kbs_channel_recv(KBS_FD_CONTROL, &r->msg, deadline_ns, err);
    }
    if (rc == 0 && r->msg.frame.type != KBS_WIRE_GO) {
        rc = kbs_fail(err, KBS_INPUT, "no GO");
    }
    return rc == KBS_CHANNEL_EOF ? kbs_fail(err, KBS_INTERNAL, "kbsd is gone") : rc;
}

/* Until kbsd says so, or the judge is gone. DRAIN is the end: a judge is drained before. */
static int serve(struct role *r, struct kbs_error *err)
{
    int rc = 0;

    while (rc == 0) {
        struct pollfd fds[] = {{.fd = KBS_FD_CONTROL, .events = POLLIN},
                               {.fd = r->judge, .events = POLLIN}};

        if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0) {
            continue; /* EINTR: a debugger */
        }
        if (fds[0].revents != 0) {
            return 0;
        }
        rc = serve_one(r, err);
    }
    return rc == KBS_CHANNEL_EOF ? 0 : rc;
}

/* Libraries read files when they are used for the first time, which is later too late. */
static int warm_up(struct kbs_error *err)
{
    static const char policy[] = "package policy\nallow if regex.match(`a+`, input.a)\n";
    static const char input[] = "{\"a\":\"a\"}";
    struct kbs_rego_why why = {0};
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_rego *rego = kbs_rego_load((const uint8_t *)policy, strlen(policy), &why);
    bool allows = rego != NULL && kbs_rego_allow(rego, (const uint8_t *)input, strlen(input),
                                                 (const uint8_t *)"{}", 2, &why) == 1;

    kbs_sha256(KBS_SPAN_EMPTY, digest);
    kbs_rego_free(rego);
    return allows ? 0 : kbs_fail(err, KBS_INTERNAL, "the Rego engine does not work");
}

static int run(struct role *r, struct kbs_error *err)
{
    const struct kbs_wire_ready ready = {.detail = KBS_SPAN_LIT("Rego"), .pid = (uint32_t)getpid()};
    struct kbs_confine_plan plan = {.role = KBS_CONFINE_POLICY};

    if (configure(r, err) != 0 || warm_up(err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    plan.production = r->production;
    if (kbs_confine(&plan, err) != 0) {
        return KBS_EXIT_CONFIG;
    }
    if (kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_READY, 0, &ready, -1,
                         kbs_deadline_in_ms(CONTROL_MS), err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    return serve(r, err) == 0 ? KBS_EXIT_OK : KBS_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct role r = {.judge = -1, .msg = KBS_CHANNEL_MSG};

    if (kbs_confine_print(KBS_CONFINE_POLICY, argc, argv)) {
        return KBS_EXIT_OK;
    }
    if (kbs_role_begin(&err) != 0) {
        kbs_log_error("start-failed", &err);
        return kbs_role_end(kbs_exit_of(&err));
    }
    int status = run(&r, &err);
    if (status != KBS_EXIT_OK) {
        kbs_log_error("exit", &err);
    }
    for (size_t i = 0; i < KBS_LIMIT_POLICIES_LOADED; i++) {
        kbs_rego_free(r.policies[i].rego);
    }
    kbs_channel_msg_deinit(&r.msg);
    kbs_io_close(&r.judge);
    return kbs_role_end(status);
}
