/*
 * The part of kbsd (CONFIG, ATTACH, GO, READY) and then that of a judge, as docs/protocol/role-channels.md has
 * them, so that what is tried out here is decided by the very program and the very messages of the service.
 */
#include "cli/policy_engine.h"

#include "base/digest.h"
#include "base/io.h"

#define PROGRAM "kbs-policy"
#define ASK_MS (2 * KBS_LIMIT_POLICY_EVAL_MS + 3000)

static int configure(struct kbs_cli_policy *p, int judge_end, struct kbs_error *err)
{
    uint64_t deadline = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    const struct kbs_wire_config_policy config = {.production = 0};
    int control = p->worker.control;
    int rc = -1;

    if (kbs_channel_send(control, KBS_WIRE_CONFIG_POLICY, 0, &config, -1, deadline, err) != 0 ||
        kbs_cli_worker_attach(&p->worker, KBS_ATTACH_JUDGE, 0, judge_end, deadline, err) != 0 ||
        kbs_channel_send(control, KBS_WIRE_GO, 0, NULL, -1, deadline, err) != 0) {
        return -1;
    }
    rc = kbs_channel_recv(control, &p->answer, deadline, err);
    return rc == 0 && p->answer.frame.type == KBS_WIRE_READY
               ? 0
               : kbs_fail(err, KBS_INTERNAL, PROGRAM " ended before it was ready");
}

static int ask(struct kbs_cli_policy *p, enum kbs_wire_type type, const void *question,
               struct kbs_wire_verdict *ret, struct kbs_error *err)
{
    return kbs_channel_call(p->worker.judge, type, question, KBS_WIRE_VERDICT, ret, &p->answer,
                            kbs_deadline_in_ms(ASK_MS), err);
}

static int load(struct kbs_cli_policy *p, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_load question = {
        .digest = kbs_span(digest, sizeof(digest)), .text = p->text, .query = (uint8_t)p->query};
    struct kbs_wire_verdict verdict;

    kbs_sha256(p->text, digest);
    if (ask(p, KBS_WIRE_POLICY_LOAD, &question, &verdict, err) != 0) {
        return -1;
    }
    if (verdict.outcome != KBS_REGO_LOADED) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the policy, line %u, column %u: %.*s",
                        (unsigned int)verdict.line, (unsigned int)verdict.column,
                        (int)verdict.detail.len, (const char *)verdict.detail.p);
    }
    return 0;
}

int kbs_cli_policy_open(struct kbs_cli_policy *p, struct kbs_span text, struct kbs_error *err)
{
    int judge_end = -1;
    int rc = kbs_cli_worker_start(&p->worker, PROGRAM, NULL, &judge_end, err);

    p->text = text;
    if (rc == 0) {
        rc = configure(p, judge_end, err);
    }
    kbs_io_close(&judge_end);
    return rc == 0 ? load(p, err) : -1;
}

int kbs_cli_policy_ask(struct kbs_cli_policy *p, struct kbs_span input, struct kbs_span data,
                       struct kbs_wire_verdict *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_eval question = {.digest = kbs_span(digest, sizeof(digest)),
                                                  .input = input,
                                                  .data = data,
                                                  .query = (uint8_t)p->query};

    kbs_sha256(p->text, digest);
    return ask(p, KBS_WIRE_POLICY_EVAL, &question, ret, err);
}

void kbs_cli_policy_close(struct kbs_cli_policy *p, bool failed)
{
    kbs_cli_worker_stop(&p->worker, failed);
    kbs_channel_msg_deinit(&p->answer);
}
