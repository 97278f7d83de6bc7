/*
 * The problem: a Rego policy is a program. The engine's own bounds do not hold for parsing, recursion
 * and built-in functions, and a process that died of one policy would take along the channel that
 * all others are asked through. The approach: a copy of this process, made by fork(2) when the judge
 * first asks something, which has everything that was parsed so far and answers the judge on its
 * channel while it lives. What stops it are things that it cannot argue with: a timer, armed for each
 * question, whose signal has its default action, which is death; the address space; the stack. Then
 * its parent, which has the channel too and was waiting for just that, answers the question it was
 * at, and the next one is asked of another copy.
 *
 * Who reads the judge's channel is never in doubt: the copy from its fork to its end, the parent
 * never. Which question it was at stands in a page that both have. What it parsed it passes on before
 * it says so to the judge, so a copy to come knows all that the judge believes to be loaded, but for
 * what had to give way.
 *
 * The parent needs no right to kill for this, and its list of system calls gives it none. A copy
 * that outlives its timer is no longer what was forked: the judge waits no longer for it than for any
 * silent peer, and its lane is replaced.
 *
 * Rejected: a thread (cannot be ended, shares the heap); the engine's timer (not checked in built-in
 * functions); a fork per question (three times the cost of the decision); passing questions and
 * answers through the parent (a third of the cost).
 */
#include "policy/rego/worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/process.h"

#define GRACE_MS 2000 /* a busy machine */

/* How a worker leaves by itself. */
enum leave {
    LEAVE_JUDGE_GONE = 0,
    LEAVE_PARENT_GONE = 1,
    LEAVE_PROTOCOL = 2
};

/* ---- in the copy ---- */

/* What a worker's functions share. */
struct work {
    struct kbs_policies *policies;
    struct kbs_worker_at *at;
    int judge;
    int parent;
    struct kbs_channel_msg msg;
    struct kbs_told told;
};

static void timer(unsigned int ms)
{
    const struct itimerval value = {
        .it_value = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000}};

    if (setitimer(ITIMER_REAL, &value, NULL) != 0) {
        _exit(LEAVE_PROTOCOL);
    }
}

static int load(struct work *w, struct kbs_error *err)
{
    struct kbs_wire_policy_load question;
    uint8_t digest[KBS_SHA256_BYTES];

    if (kbs_channel_msg_decode(&w->msg, KBS_WIRE_POLICY_LOAD, &question, err) != 0) {
        return -1;
    }
    kbs_sha256(question.text, digest);
    if (!kbs_span_equal(question.digest, kbs_span(digest, sizeof(digest)))) {
        return kbs_fail(err, KBS_INPUT, "a policy under another's digest");
    }
    timer(KBS_LIMIT_POLICY_EVAL_MS);
    kbs_policies_load(w->policies, &question, &w->told);
    timer(0);
    return w->told.verdict.outcome != KBS_REGO_LOADED
               ? 0
               : kbs_channel_send(w->parent, KBS_WIRE_POLICY_LOAD, w->msg.frame.id, &question, -1,
                                  kbs_deadline_in_ms(GRACE_MS), err);
}

static int eval(struct work *w, struct kbs_error *err)
{
    struct kbs_wire_policy_eval question;

    if (kbs_channel_msg_decode(&w->msg, KBS_WIRE_POLICY_EVAL, &question, err) != 0) {
        return -1;
    }
    timer(KBS_LIMIT_POLICY_EVAL_MS);
    kbs_policies_eval(w->policies, &question, &w->told);
    timer(0);
    return 0;
}

/* One question of the judge, answered. Returns KBS_CHANNEL_EOF when it is gone. */
static int answer_one(struct work *w, struct kbs_error *err)
{
    int rc = kbs_channel_recv_turn(w->judge, &w->msg, kbs_deadline_in_ms(GRACE_MS), err);

    if (rc != 0) {
        return rc;
    }
    __atomic_store_n(&w->at->id, w->msg.frame.id, __ATOMIC_RELEASE);
    __atomic_store_n(&w->at->busy, true, __ATOMIC_RELEASE);
    rc = w->msg.frame.type == KBS_WIRE_POLICY_LOAD ? load(w, err) : eval(w, err);
    __atomic_store_n(&w->at->busy, false, __ATOMIC_RELEASE);
    return rc != 0 ? -1
                   : kbs_channel_send(w->judge, KBS_WIRE_VERDICT, w->msg.frame.id, &w->told.verdict,
                                      -1, kbs_deadline_in_ms(GRACE_MS), err);
}

/* The copy's whole life: questions, until one of its channels ends. */
static void worker_main(struct work *w)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = 0;

    while (rc == 0) {
        struct pollfd fds[] = {{.fd = w->judge, .events = POLLIN},
                               {.fd = w->parent, .events = POLLIN}};

        if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0) {
            continue; /* EINTR: a debugger */
        }
        if (fds[1].revents != 0) {
            _exit(LEAVE_PARENT_GONE);
        }
        rc = answer_one(w, &err);
    }
    _exit(rc == KBS_CHANNEL_EOF ? LEAVE_JUDGE_GONE : LEAVE_PROTOCOL);
}

/* ---- in the parent ---- */

int kbs_worker_init(struct kbs_worker *w, int judge, struct kbs_error *err)
{
    void *page =
        mmap(NULL, sizeof(*w->at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        return kbs_fail_errno(err, KBS_INTERNAL, "no memory to share with a worker");
    }
    *w = (struct kbs_worker){.fd = -1, .judge = judge, .at = page, .msg = KBS_CHANNEL_MSG};
    return 0;
}

int kbs_worker_start(struct kbs_worker *w, struct kbs_policies *policies, struct kbs_error *err)
{
    int pair[2];

    if (kbs_channel_pair(pair, err) != 0) {
        return -1;
    }
    w->at->busy = false;
    w->pid = fork();
    if (w->pid == 0) {
        struct work work = {.policies = policies,
                            .at = w->at,
                            .judge = w->judge,
                            .parent = pair[1],
                            .msg = KBS_CHANNEL_MSG};

        (void)close(pair[0]);
        (void)close(KBS_FD_CONTROL);
        worker_main(&work);
    }
    kbs_io_close(&pair[1]);
    if (w->pid < 0) {
        kbs_io_close(&pair[0]);
        return kbs_fail_errno(err, KBS_INTERNAL, "no process for policies");
    }
    w->fd = pair[0];
    return 0;
}

/* Closes the channel and waits; gives the status that wait(2) does. */
static int worker_wait(struct kbs_worker *w)
{
    int status = 0;

    kbs_io_close(&w->fd);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) {
        /* A debugger may stop us. */
    }
    return status;
}

void kbs_worker_end(struct kbs_worker *w)
{
    if (w->fd >= 0) {
        (void)worker_wait(w);
    }
    kbs_channel_msg_deinit(&w->msg);
}

/* The answer that it owes. */
static int worker_died(struct kbs_worker *w, struct kbs_error *err)
{
    const struct kbs_wire_verdict verdict = {
        .outcome = KBS_REGO_ERROR,
        .detail = KBS_SPAN_LIT("the policy takes too much time, memory or depth")};

    if (!__atomic_load_n(&w->at->busy, __ATOMIC_ACQUIRE)) {
        return 0;
    }
    return kbs_channel_send(w->judge, KBS_WIRE_VERDICT,
                            __atomic_load_n(&w->at->id, __ATOMIC_ACQUIRE), &verdict, -1,
                            kbs_deadline_in_ms(GRACE_MS), err);
}

static int worker_left(struct kbs_worker *w, struct kbs_error *err)
{
    int status = worker_wait(w);

    if (!WIFEXITED(status)) {
        return worker_died(w, err);
    }
    return WEXITSTATUS(status) == LEAVE_JUDGE_GONE
               ? KBS_CHANNEL_EOF
               : kbs_fail(err, KBS_INPUT, "the judge breaks the protocol");
}

int kbs_worker_hear(struct kbs_worker *w, struct kbs_policies *policies, struct kbs_error *err)
{
    struct kbs_wire_policy_load parsed;
    struct kbs_told ignored; /* it parses, and so it does here */
    int rc = kbs_channel_recv(w->fd, &w->msg, kbs_deadline_in_ms(GRACE_MS), err);

    if (rc == KBS_CHANNEL_EOF) {
        return worker_left(w, err);
    }
    if (rc != 0 || kbs_channel_msg_decode(&w->msg, KBS_WIRE_POLICY_LOAD, &parsed, err) != 0) {
        return -1;
    }
    kbs_policies_load(policies, &parsed, &ignored);
    return 0;
}
