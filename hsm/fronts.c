/*
 * The problem: a TLS handshake waits for one signature, a front has many handshakes at a time, and an HSM over a
 * network takes milliseconds for each. PKCS#11 calls block. So there is a thread for each channel, with a
 * session of its own: that many signatures are in the token at a time, and no thread waits for another but
 * inside the module.
 *
 * The list of orders is closed, as in serve.c, but no deed is written and no judge is asked: what this key
 * signs opens nothing, and whoever can make handshakes can make any number of them. A peer that asks for what
 * is not on the list, or has anything but a server's CertificateVerify signed as one, is compromised: no
 * answer, and the worker ends, with all its channels. An order that only cannot be done (a scheme that is not the
 * key's) is answered, for a front that merely knows less than its worker may ask it.
 *
 * Threads share nothing that changes. The main one takes no part in signing: it looks at the control channel,
 * takes threads back when they end, and looks every KBS_LIMIT_TOKEN_OP_MS / 10 whether a call has been out for
 * longer than KBS_LIMIT_TOKEN_OP_MS. Nothing inside the process can end such a call, so the process ends, and
 * kbsd starts another.
 *
 * Threads are told to stop by a pipe whose other end is closed, between two orders. Rejected: one queue for all
 * channels and a pool (a front already chooses a channel that is free, and a queue would hide which call hangs);
 * cancelling threads (in the middle of a vendor's module).
 */
#include "hsm/fronts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"
#include "hsm/ckr.h"

#define FRONT_STACK_BYTES (1u << 20) /* SQLite under NSS and vendors' modules included */
#define FRONT_TICK_MS (KBS_LIMIT_TOKEN_OP_MS / 10)
#define FRONT_ANSWER_BYTES 1024u
#define FRONT_DRAIN_MS 1000u /* without an order, after DRAIN */

/* One channel, and the thread that serves it. */
struct front {
    const struct kbs_fronts *all;
    size_t index;
    int fd;
    struct kbs_token token; /* with a session of its own */
    pthread_t thread;
    bool running;              /* known to the main thread only, like what follows after its end */
    _Atomic uint64_t since_ns; /* when the token was called; 0: it is not */
    _Atomic uint64_t last_ns;  /* when it was called last */
    atomic_bool ended;
    int rc;               /* written by the thread, read when it has ended */
    struct kbs_error err; /* the same */
};

struct kbs_fronts {
    const struct kbs_token *token; /* borrowed */
    const struct kbs_sole *key;    /* borrowed */
    int stop[2];                   /* closed at [1]: threads are to end */
    int wake[2];                   /* a byte for each thread that has ended */
    uint64_t drain_ns;             /* when DRAIN came; 0: it has not */
    size_t running;
    size_t n;
    struct front fronts[KBS_LIMIT_TLS_SIGNERS];
};

/* ---- the list `sign` ---- */

union front_order {
    struct kbs_wire_sign_tls sign_tls;
    struct kbs_wire_sign_digest sign_digest;
    struct kbs_wire_agree agree;
};

static int act_sign_tls(struct front *f, const union front_order *o, struct kbs_buf *ret,
                        struct kbs_error *err)
{
    return kbs_sole_tls(f->all->key, &f->token, &o->sign_tls, ret, err);
}

static int act_sign_digest(struct front *f, const union front_order *o, struct kbs_buf *ret,
                           struct kbs_error *err)
{
    return kbs_sole_digest(f->all->key, &f->token, &o->sign_digest, ret, err);
}

static int act_agree(struct front *f, const union front_order *o, struct kbs_buf *ret,
                     struct kbs_error *err)
{
    return kbs_sole_agree(f->all->key, &f->token, &o->agree, ret, err);
}

static int act_public(struct front *f, const union front_order *o, struct kbs_buf *ret,
                      struct kbs_error *err)
{
    (void)o;
    kbs_buf_put_span(ret, kbs_buf_span(&f->all->key->spki));
    return kbs_buf_check(ret, "the public key", err);
}

static const struct front_operation {
    enum kbs_wire_type type;
    bool empty;   /* the message has no fields */
    bool general; /* only of a worker that is */
    int (*act)(struct front *f, const union front_order *o, struct kbs_buf *ret,
               struct kbs_error *err);
} front_operations[] = {
    {KBS_WIRE_SIGN_TLS, false, false, act_sign_tls},
    {KBS_WIRE_PUBLIC_WANT, true, false, act_public},
    {KBS_WIRE_SIGN_DIGEST, false, true, act_sign_digest},
    {KBS_WIRE_AGREE, false, true, act_agree},
};

static const struct front_operation *front_operation(const struct front *f, enum kbs_wire_type type)
{
    for (size_t i = 0; i < sizeof(front_operations) / sizeof(front_operations[0]); i++) {
        const struct front_operation *o = &front_operations[i];

        if (o->type == type && (!o->general || f->all->key->general)) {
            return o;
        }
    }
    return NULL;
}

/* ---- a thread ---- */

/* As in serve.c: true if the worker must end. What may be the token's fault is settled by a signature. */
static bool front_is_fatal(struct front *f, struct kbs_error *err)
{
    struct kbs_error selftest = KBS_ERROR_NONE;

    switch (kbs_ckr_action(kbs_ckr_class(err, f->token.quirk))) {
    case KBS_CKR_SELF_TEST:
    case KBS_CKR_BLAME_BYTES:
        if (kbs_sole_selftest(f->all->key, &f->token, &selftest) != 0) {
            return true;
        }
        err->category = KBS_INTERNAL;
        return false;
    case KBS_CKR_LOOK_AGAIN: /* the key has gone: the next worker looks for it */
    case KBS_CKR_REPLACE_WORKER:
    case KBS_CKR_LATCH:
        return true;
    case KBS_CKR_NOTHING:
    case KBS_CKR_FAIL_ORDER:
    case KBS_CKR_TRY_LATER:
        return false;
    }
    return false;
}

/* Does the order, or refuses it; what came of it is in *failure. True if the worker must end. */
static bool front_do(struct front *f, const struct kbs_frame *frame,
                     const struct front_operation *operation, const union front_order *order,
                     struct kbs_buf *answer, struct kbs_error *failure)
{
    bool fatal = false;

    if (frame->deadline_ns <= kbs_clock_mono_ns()) {
        (void)kbs_fail(failure, KBS_DEADLINE,
                       "the order's deadline had passed before it was begun");
        return false;
    }
    atomic_store(&f->since_ns, kbs_clock_mono_ns());
    if (operation->act(f, order, answer, failure) != 0) {
        fatal = front_is_fatal(f, failure);
    }
    atomic_store(&f->last_ns, atomic_load(&f->since_ns));
    atomic_store(&f->since_ns, 0);
    if (f->token.destroy_failures > 0) {
        (void)kbs_fail(failure, KBS_TOKEN_DOWN, "a session object could not be destroyed");
        fatal = true;
    }
    if (fatal) {
        failure->category = KBS_TOKEN_DOWN;
    }
    return fatal;
}

/* 0, KBS_CHANNEL_EOF if the front is gone, or -1. */
static int front_answer(struct front *f, uint64_t id, const struct kbs_buf *answer,
                        const struct kbs_error *failure, struct kbs_error *err)
{
    struct kbs_wire_result result = {
        .category = (uint8_t)failure->category,
        .ckr = kbs_ckr_of(failure),
        .serial = kbs_span_str(f->token.serial),
    };

    if (failure->category == KBS_OK) {
        result.body = kbs_buf_span(answer);
    } else {
        result.detail = kbs_span_str(failure->detail);
        result.function = kbs_span_str(result.ckr != CKR_OK ? failure->func : "");
    }
    if (kbs_channel_send(f->fd, KBS_WIRE_RESULT, id, &result, -1,
                         kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err) == 0) {
        return 0;
    }
    return err->origin == KBS_ORIGIN_ERRNO && (err->native == EPIPE || err->native == ECONNRESET)
               ? KBS_CHANNEL_EOF
               : -1;
}

static int front_order(struct front *f, const struct kbs_channel_msg *m,
                       const struct front_operation *operation, struct kbs_error *err)
{
    union front_order order;
    struct kbs_buf answer = KBS_BUF(FRONT_ANSWER_BYTES);
    struct kbs_error failure = KBS_ERROR_NONE;
    bool fatal;
    int rc;

    if (kbs_channel_msg_decode(m, operation->type, operation->empty ? NULL : &order, err) != 0) {
        return -1;
    }
    fatal = front_do(f, &m->frame, operation, &order, &answer, &failure);
    if (failure.category == KBS_DENIED) { /* it is not told more than the end of its channel */
        kbs_buf_deinit(&answer);
        *err = failure;
        return -1;
    }
    if (failure.category >= KBS_BUSY) {
        kbs_log_error("order-failed", &failure);
    }
    rc = front_answer(f, m->frame.id, &answer, &failure, err);
    kbs_buf_deinit(&answer); /* and its memory is overwritten */
    if (fatal) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the token cannot be used any more");
    }
    return rc;
}

/* One message. 0, KBS_CHANNEL_EOF, or -1. */
static int front_serve(struct front *f, struct kbs_channel_msg *m, struct kbs_error *err)
{
    int rc = kbs_channel_recv_turn(f->fd, m, kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
    const struct front_operation *operation;

    if (rc != 0) {
        return rc;
    }
    operation = front_operation(f, m->frame.type);
    if (operation == NULL) {
        return kbs_fail(err, KBS_DENIED, "it sent %s, which is not on the list of duty %s%s",
                        kbs_wire_type_name(m->frame.type), kbs_duty_name(KBS_DUTY_SIGN),
                        f->all->key->general ? "" : " for TLS");
    }
    return front_order(f, m, operation, err);
}

/* Until the front speaks. 0, KBS_CHANNEL_EOF if the thread is to end, or -1. */
static int front_wait(struct front *f, struct kbs_error *err)
{
    struct pollfd fds[2] = {{.fd = f->all->stop[0], .events = POLLIN},
                            {.fd = f->fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0) {
        if (errno != EINTR) {
            return kbs_fail_errno(err, KBS_INTERNAL, "poll failed");
        }
    }
    return fds[0].revents != 0 ? KBS_CHANNEL_EOF : 0;
}

static void *front_main(void *arg)
{
    struct front *f = arg;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int rc = 0;

    while (rc == 0) {
        rc = front_wait(f, &f->err);
        if (rc == 0) {
            rc = front_serve(f, &m, &f->err);
        }
    }
    kbs_channel_msg_deinit(&m);
    kbs_io_close(&f->fd);
    atomic_store(&f->since_ns, kbs_clock_mono_ns());
    kbs_token_session_close(&f->token);
    atomic_store(&f->since_ns, 0);
    f->rc = rc < 0 ? -1 : 0;
    atomic_store(&f->ended, true);
    (void)!write(f->all->wake[1], "", 1); /* a pipe has room for more than there are threads */
    return NULL;
}

/* ---- the main thread ---- */

int kbs_fronts_new(const struct kbs_token *t, const struct kbs_sole *key, int *fds, size_t n,
                   struct kbs_fronts **ret, struct kbs_error *err)
{
    struct kbs_fronts *f = calloc(1, sizeof(*f)); /* freed by kbs_fronts_free() */

    if (f == NULL) {
        for (size_t i = 0; i < n; i++) {
            kbs_io_close(&fds[i]);
        }
        return kbs_fail(err, KBS_INTERNAL, "no memory for the threads");
    }
    *f = (struct kbs_fronts){.token = t, .key = key, .stop = {-1, -1}, .wake = {-1, -1}, .n = n};
    for (size_t i = 0; i < n; i++) {
        f->fronts[i].all = f;
        f->fronts[i].index = i;
        f->fronts[i].fd = fds[i];
        f->fronts[i].token = KBS_TOKEN_NULL;
        fds[i] = -1;
    }
    if (pipe2(f->stop, O_CLOEXEC) != 0 || pipe2(f->wake, O_CLOEXEC) != 0) {
        (void)kbs_fail_errno(err, KBS_INTERNAL, "a pipe could not be made");
        (void)kbs_fronts_free(f);
        return -1;
    }
    *ret = f;
    return 0;
}

static int fronts_start_one(struct kbs_fronts *f, struct front *front, const pthread_attr_t *attr,
                            struct kbs_error *err)
{
    if (kbs_token_session(f->token, &front->token, err) != 0) {
        return -1;
    }
    errno = pthread_create(&front->thread, attr, front_main, front);
    if (errno != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "a thread could not be made");
    }
    front->running = true;
    f->running++;
    return 0;
}

int kbs_fronts_start(struct kbs_fronts *f, struct kbs_error *err)
{
    pthread_attr_t attr;
    int rc = 0;

    if (pthread_attr_init(&attr) != 0 || pthread_attr_setstacksize(&attr, FRONT_STACK_BYTES) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "a thread's stack cannot be set");
    }
    for (size_t i = 0; rc == 0 && i < f->n; i++) {
        rc = fronts_start_one(f, &f->fronts[i], &attr, err);
    }
    (void)pthread_attr_destroy(&attr);
    return rc;
}

static bool fronts_is_stuck(const struct kbs_fronts *f, struct kbs_error *err)
{
    uint64_t now_ns = kbs_clock_mono_ns();

    for (size_t i = 0; i < f->n; i++) {
        uint64_t since_ns = atomic_load(&f->fronts[i].since_ns);

        if (since_ns != 0 && now_ns > since_ns + KBS_LIMIT_TOKEN_OP_MS * KBS_NS_PER_MS) {
            (void)kbs_fail(err, KBS_TOKEN_DOWN, "the token has not answered for %d ms",
                           KBS_LIMIT_TOKEN_OP_MS);
            return true;
        }
    }
    return false;
}

/* Which of them do not do what fronts do, and not merely fail. */
static void fronts_tell(const struct front *front)
{
    char why[2 * KBS_LIMIT_ERROR_DETAIL_BYTES];

    if (front->err.category == KBS_DENIED || front->err.category == KBS_INPUT) {
        kbs_log(KBS_LOG_ERROR, "front-hostile", "channel=%zu why=%s", front->index,
                kbs_log_text(kbs_span_str(front->err.detail), why, sizeof(why)));
    }
}

/* Takes back the threads that have ended. -1 if one did so by an error. */
static int fronts_reap(struct kbs_fronts *f, struct kbs_error *err)
{
    char bytes[KBS_LIMIT_TLS_SIGNERS];
    int rc = 0;

    (void)!read(f->wake[0], bytes, sizeof(bytes));
    for (size_t i = 0; i < f->n; i++) {
        struct front *front = &f->fronts[i];

        if (!front->running || !atomic_load(&front->ended)) {
            continue;
        }
        (void)pthread_join(front->thread, NULL);
        front->running = false;
        f->running--;
        if (front->rc != 0) {
            fronts_tell(front);
            if (err->category == KBS_OK) {
                *err = front->err;
            }
            rc = -1;
        }
    }
    return rc;
}

/*
 * After DRAIN another worker has the front's handshakes to come, or the front is gone. Connections that are there keep
 * the channels open, but need no signature any more.
 */
static bool fronts_are_drained(const struct kbs_fronts *f)
{
    uint64_t last_ns = f->drain_ns;

    for (size_t i = 0; i < f->n; i++) {
        uint64_t order_ns = atomic_load(&f->fronts[i].last_ns);

        if (atomic_load(&f->fronts[i].since_ns) != 0) {
            return false;
        }
        last_ns = order_ns > last_ns ? order_ns : last_ns;
    }
    return f->drain_ns != 0 && kbs_clock_mono_ns() > last_ns + FRONT_DRAIN_MS * KBS_NS_PER_MS;
}

/* One message from kbsd. 0 (DRAIN), KBS_CHANNEL_EOF, or -1. */
static int fronts_control(struct kbs_fronts *f, int control_fd, struct kbs_channel_msg *m,
                          struct kbs_error *err)
{
    int rc = kbs_channel_recv(control_fd, m, kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);

    if (rc != 0) {
        return rc;
    }
    if (m->frame.type != KBS_WIRE_DRAIN) {
        return kbs_fail(err, KBS_DENIED, "kbsd sent %s to a sign worker that serves",
                        kbs_wire_type_name(m->frame.type));
    }
    f->drain_ns = kbs_clock_mono_ns();
    return 0;
}

/* Waits for the end of all threads. 0, -1, or KBS_FRONTS_STUCK. */
static int fronts_stop(struct kbs_fronts *f, struct kbs_error *err)
{
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS + FRONT_TICK_MS);
    int rc = 0;

    kbs_io_close(&f->stop[1]);
    while (f->running > 0) {
        struct pollfd fd = {.fd = f->wake[0], .events = POLLIN};

        if (poll(&fd, 1, FRONT_TICK_MS) > 0 && fronts_reap(f, err) != 0) {
            rc = -1;
        }
        if (f->running > 0 && (fronts_is_stuck(f, err) || kbs_clock_mono_ns() >= deadline_ns)) {
            return KBS_FRONTS_STUCK;
        }
    }
    return rc;
}

int kbs_fronts_serve(struct kbs_fronts *f, int control_fd, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error stop_err = KBS_ERROR_NONE;
    int stopped;
    int rc = 0;

    while (rc == 0 && f->running > 0 && !fronts_are_drained(f)) {
        struct pollfd fds[2] = {{.fd = control_fd, .events = POLLIN},
                                {.fd = f->wake[0], .events = POLLIN}};

        if (poll(fds, 2, f->drain_ns == 0 ? FRONT_TICK_MS : FRONT_DRAIN_MS / 10) < 0 &&
            errno != EINTR) {
            rc = kbs_fail_errno(err, KBS_INTERNAL, "poll failed");
        } else if (fds[0].revents != 0) {
            rc = fronts_control(f, control_fd, &m, err);
        } else if (fds[1].revents != 0) {
            rc = fronts_reap(f, err);
        }
        if (rc == 0 && fronts_is_stuck(f, err)) {
            rc = -1;
        }
    }
    kbs_channel_msg_deinit(&m);
    stopped = fronts_stop(f, &stop_err);
    if (rc >= 0 && stopped != 0) {
        *err = stop_err;
    }
    return stopped == KBS_FRONTS_STUCK ? KBS_FRONTS_STUCK : rc < 0 || stopped < 0 ? -1 : 0;
}

struct kbs_fronts *kbs_fronts_free(struct kbs_fronts *f)
{
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (f == NULL) {
        return NULL;
    }
    if (fronts_stop(f, &ignored) == KBS_FRONTS_STUCK) {
        return NULL; /* its threads still use it */
    }
    for (size_t i = 0; i < f->n; i++) {
        kbs_token_session_close(&f->fronts[i].token);
        kbs_io_close(&f->fronts[i].fd);
    }
    for (size_t i = 0; i < 2; i++) {
        kbs_io_close(&f->stop[i]);
        kbs_io_close(&f->wake[i]);
    }
    free(f);
    return NULL;
}
