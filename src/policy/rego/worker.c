/*
 * The problem: a Rego policy is a program. The engine's own bounds do not hold for parsing, recursion
 * and built-in functions, and a process that died of one policy would take along the channel that
 * all others are asked through. The approach: a copy of this process, made by fork(2) when it is
 * first needed, which has everything that was parsed so far and answers the same questions over a
 * channel of its own. What stops it are things that it cannot argue with: a timer, armed for each
 * question, whose signal has its default action, which is death; the address space; the stack. Then
 * the question is answered for it, and the next one is asked of another copy.
 *
 * The parent needs no right to kill for this, and its list of system calls gives it none. A copy
 * that outlives its timer is no longer what was forked, and the parent gives up.
 *
 * Rejected: a thread (cannot be ended, shares the heap); the engine's timer (not checked in built-in
 * functions); a fork per question (three times the cost of the decision).
 */
#include "policy/rego/worker.h"

#include <errno.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/process.h"

#define GRACE_MS 2000 /* a busy machine: from the timer's signal to the end of the channel */

static void timer(unsigned int ms)
{
    const struct itimerval value = {
        .it_value = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000}};

    if (setitimer(ITIMER_REAL, &value, NULL) != 0) {
        _exit(1);
    }
}

static int answer(struct kbs_policies *policies, const struct kbs_channel_msg *m,
                  struct kbs_told *ret, struct kbs_error *err)
{
    struct kbs_wire_policy_load load;
    struct kbs_wire_policy_eval eval;

    if (m->frame.type == KBS_WIRE_POLICY_LOAD) {
        if (kbs_channel_msg_decode(m, KBS_WIRE_POLICY_LOAD, &load, err) != 0) {
            return -1;
        }
        kbs_policies_load(policies, &load, ret);
        return 0;
    }
    if (kbs_channel_msg_decode(m, KBS_WIRE_POLICY_EVAL, &eval, err) != 0) {
        return -1;
    }
    kbs_policies_eval(policies, &eval, ret);
    return 0;
}

/* The copy's whole life: questions, each under the timer, until its channel ends. */
static void worker_main(struct kbs_policies *policies, int fd)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_told told;

    while (kbs_channel_recv_turn(fd, &m, KBS_DEADLINE_NONE, &err) == 0) {
        timer(KBS_LIMIT_POLICY_EVAL_MS);
        if (answer(policies, &m, &told, &err) != 0) {
            break;
        }
        timer(0);
        if (kbs_channel_send(fd, KBS_WIRE_VERDICT, m.frame.id, &told.verdict, -1,
                             kbs_deadline_in_ms(GRACE_MS), &err) != 0) {
            break;
        }
    }
    _exit(0);
}

static int worker_start(struct kbs_worker *w, struct kbs_policies *policies, struct kbs_error *err)
{
    int pair[2];

    if (kbs_channel_pair(pair, err) != 0) {
        return -1;
    }
    w->pid = fork();
    if (w->pid == 0) {
        (void)close(pair[0]);
        (void)close(w->judge);
        (void)close(KBS_FD_CONTROL);
        worker_main(policies, pair[1]);
    }
    kbs_io_close(&pair[1]);
    if (w->pid < 0) {
        kbs_io_close(&pair[0]);
        return kbs_fail_errno(err, KBS_INTERNAL, "no process for policies");
    }
    w->fd = pair[0];
    return 0;
}

void kbs_worker_end(struct kbs_worker *w)
{
    if (w->fd >= 0) {
        kbs_io_close(&w->fd);
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR) {
            /* A debugger may stop us. */
        }
    }
    kbs_channel_msg_deinit(&w->answer);
}

int kbs_worker_ask(struct kbs_worker *w, struct kbs_policies *policies, enum kbs_wire_type type,
                   const void *question, struct kbs_wire_verdict *ret, struct kbs_error *err)
{
    if (w->fd < 0 && worker_start(w, policies, err) != 0) {
        return -1;
    }
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_POLICY_EVAL_MS + GRACE_MS);
    if (kbs_channel_call(w->fd, type, question, KBS_WIRE_VERDICT, ret, &w->answer, deadline_ns,
                         err) == 0) {
        return 0;
    }
    if (err->category == KBS_DEADLINE) {
        return -1;
    }
    kbs_worker_end(w);
    *err = KBS_ERROR_NONE;
    *ret = (struct kbs_wire_verdict){
        .outcome = KBS_REGO_ERROR,
        .detail = KBS_SPAN_LIT("the policy takes too much time, memory or depth")};
    return 0;
}
