/*
 * The problem: a token signs in 0.2 to 20 ms, or hangs, and one loop serves everybody. The approach: a
 * step of a handshake, from bytes that were received to bytes that can be sent, is a job in libuv's thread
 * pool. While it runs the connection's TLS belongs to the thread: nothing is read from the socket (the
 * kernel keeps it), nothing is written, and a connection that is closed meanwhile is only freed when the job
 * is over. As many threads as there are channels to the sign worker, so none waits for a channel as long as
 * the worker answers; each waits for at most KBS_LIMIT_TLS_SIGN_MS.
 *
 * malloc(3) counts processors when it makes room for a thread, in files that a front cannot open by then: so it
 * is told how much room there is to be. Another malloc(3) than the C library's does not listen, and needs not to.
 *
 * The pool is used for nothing else. libuv would use it for files and names, which a front does not have.
 */
#include "front/handshake.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

/*
 * Of malloc(3), for all threads: the first one, which is sbrk(2)'s. glibc looks at
 * /proc/sys/vm/overcommit_memory before it gives back memory of any other, and a front may not.
 */
#define ARENAS 1

static void nothing(uv_work_t *work)
{
    (void)work;
}

static void nothing_done(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

int kbs_handshake_threads(struct kbs_error *err)
{
    uv_loop_t
        loop; /* of its own: the pool is one for all loops, and the front's is not to run yet */
    uv_work_t first;
    char n[12];

    (void)snprintf(n, sizeof(n), "%d", KBS_LIMIT_TLS_SIGNERS);
    (void)mallopt(M_ARENA_MAX, ARENAS);
    if (setenv("UV_THREADPOOL_SIZE", n, 1) != 0 || uv_loop_init(&loop) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the threads for handshakes cannot be started");
    }
    if (uv_queue_work(&loop, &first, nothing, nothing_done) != 0 ||
        uv_run(&loop, UV_RUN_DEFAULT) != 0) {
        (void)uv_loop_close(&loop);
        return kbs_fail(err, KBS_INTERNAL, "the threads for handshakes cannot be started");
    }
    (void)uv_loop_close(&loop);
    return 0;
}

static void step(uv_work_t *work)
{
    struct kbs_conn *conn = work->data;

    kbs_tls_handshake(conn->tls);
}

static void stepped(uv_work_t *work, int status)
{
    struct kbs_conn *conn = work->data;

    (void)status; /* UV_ECANCELED: of a connection that was closed before its turn */
    kbs_conn_stepped(conn);
}

void kbs_handshake_step(struct kbs_conn *conn)
{
    conn->work.data = conn;
    conn->stepping = uv_queue_work(conn->owner->loop, &conn->work, step, stepped) == 0;
    conn->broken = conn->broken || !conn->stepping;
    conn->open_handles += conn->stepping ? 1 : 0;
}
