/*
 * kbs-policy: Rego policies as a pure function. A judge loads a policy and asks it about an input;
 * the answer is allow or deny, of an attestation policy its trust claims, or error with a place in
 * the text.
 *
 * A policy is parsed once and kept by its digest. Parsing and deciding are done by a worker
 * (worker.h) that may die of either, and that answers the judge itself. Only what a worker has parsed is
 * parsed here as well, for the workers to come; so nothing that an administrator can upload ends this
 * process. Whatever goes wrong in a worker is an error, which a judge takes for deny.
 *
 * Everything arrives from one judge, which may be compromised: what it can have from here is a
 * wrong answer to itself.
 */
#include <poll.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "confine/confine.h"
#include "policy/rego/worker.h"
#include "role/role.h"

#define CONTROL_MS 5000

struct role {
    int judge;
    bool production;
    struct kbs_policies policies;
    struct kbs_worker worker;
    struct kbs_channel_msg msg;
};

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

/*
 * Until kbsd says so, or the judge is gone. DRAIN is the end: a judge is drained before. The judge's channel is looked
 * at only while there is no worker, to see that one is needed.
 */
static int serve(struct role *r, struct kbs_error *err)
{
    int rc = 0;

    while (rc == 0) {
        bool working = r->worker.fd >= 0;
        struct pollfd fds[] = {{.fd = KBS_FD_CONTROL, .events = POLLIN},
                               {.fd = working ? r->worker.fd : r->judge, .events = POLLIN}};

        if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0) {
            continue; /* EINTR: a debugger */
        }
        if (fds[0].revents != 0) {
            return 0;
        }
        rc = working ? kbs_worker_hear(&r->worker, &r->policies, err)
                     : kbs_worker_start(&r->worker, &r->policies, err);
    }
    return rc == KBS_CHANNEL_EOF ? 0 : rc;
}

/*
 * Libraries read files when they are used for the first time, which is too late when there are none any
 * more. This is also a test of the engine.
 */
static int warm_up(struct kbs_error *err)
{
    static const char policy[] = "package policy\nallow if regex.match(`a+`, input.a)\n";
    static const char input[] = "{\"a\":\"a\"}";
    struct kbs_rego_why why = {0};
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_rego *rego =
        kbs_rego_load((const uint8_t *)policy, strlen(policy), KBS_REGO_QUERY_ALLOW, &why);
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

    if (configure(r, err) != 0 || warm_up(err) != 0 ||
        kbs_worker_init(&r->worker, r->judge, err) != 0) {
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
    struct role r = {.judge = -1,
                     .worker = {.fd = -1, .judge = -1, .msg = KBS_CHANNEL_MSG},
                     .msg = KBS_CHANNEL_MSG};

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
    } else {
        kbs_worker_end(&r.worker);
    }
    kbs_policies_deinit(&r.policies);
    kbs_channel_msg_deinit(&r.msg);
    kbs_io_close(&r.judge);
    return kbs_role_end(status);
}
