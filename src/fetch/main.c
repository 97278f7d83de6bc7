/*
 * kbs-fetch: the courier, the only process with outbound sockets. Fronts have it ask attestation
 * services on behalf of a request; judges read from it the documents that it keeps fresh.
 *
 * One thread, one loop: curl_multi_poll() waits for libcurl's sockets and for ours. After every
 * wake-up: what transfers have ended, what peers want, what is due.
 *
 * It parses what anybody on the network may send, so it is worth least of all roles: it holds no key
 * of the service, and nothing that it brings is believed. Where it goes is in its configuration and
 * nowhere else; a peer names an endpoint, never an address.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "fetch/courier.h"
#include "jose/read/json.h"
#include "role/role.h"

#define CONTROL_MS 5000
#define POLL_MAX_MS 60000
#define DRAINED 1

static void peer_add(struct kbs_courier *c, enum kbs_peer_kind kind, int fd, uint32_t index)
{
    for (size_t i = 0; i < KBS_LIMIT_FETCH_PEERS; i++) {
        if (c->peers[i].kind == KBS_PEER_NONE) {
            kbs_peer_init(&c->peers[i], kind, fd, index, ++c->serials);
            return;
        }
    }
    kbs_log(KBS_LOG_ERROR, "peer-refused", "index=%u why=\"all %d places are taken\"", index,
            KBS_LIMIT_FETCH_PEERS);
    kbs_io_close(&fd);
}

/* One message of kbsd. DRAINED at DRAIN, and when kbsd is gone. */
static int control_read(struct kbs_courier *c, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_attach attach;
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(CONTROL_MS), err);

    if (rc == KBS_CHANNEL_EOF || (rc == 0 && m.frame.type == KBS_WIRE_DRAIN)) {
        /* Fronts are drained before: nobody waits for anything any more. */
        kbs_channel_msg_deinit(&m);
        return DRAINED;
    }
    if (rc == 0) {
        rc = kbs_channel_msg_decode(&m, KBS_WIRE_ATTACH, &attach, err);
    }
    if (rc == 0 && (attach.what == KBS_ATTACH_FRONT || attach.what == KBS_ATTACH_JUDGE)) {
        peer_add(c, attach.what == KBS_ATTACH_FRONT ? KBS_PEER_FRONT : KBS_PEER_JUDGE, m.fd,
                 attach.index);
        m.fd = -1;
    } else if (rc == 0) {
        rc = kbs_fail(err, KBS_INPUT, "an ATTACH that kbs-fetch does not take");
    }
    kbs_channel_msg_deinit(&m);
    return rc;
}

/* At most one message of each per round: one that sends many does not keep the others waiting. */
static void peer_read(struct kbs_courier *c, size_t i)
{
    struct kbs_peer *p = &c->peers[i];
    struct kbs_frame frame;
    struct kbs_span body;

    if (kbs_peer_read(p, &frame, &body) != KBS_PEER_MESSAGE) {
        return;
    }
    if (p->kind == KBS_PEER_FRONT) {
        kbs_jobs_take(c, i, frame.id, body);
    } else {
        kbs_documents_want(c, p, frame.id, body);
    }
    kbs_peer_taken(p);
}

struct waiting {
    struct curl_waitfd fds[1 + KBS_LIMIT_FETCH_PEERS];
    size_t peers[1 + KBS_LIMIT_FETCH_PEERS];
    unsigned int n;
};

static void wait_for(const struct kbs_courier *c, struct waiting *w)
{
    w->n = 1;
    w->fds[0] = (struct curl_waitfd){.fd = KBS_FD_CONTROL, .events = CURL_WAIT_POLLIN};
    for (size_t i = 0; i < KBS_LIMIT_FETCH_PEERS; i++) {
        const struct kbs_peer *p = &c->peers[i];

        if (p->kind != KBS_PEER_NONE) {
            bool unsent = kbs_peer_has_unsent(p);
            w->fds[w->n] = (struct curl_waitfd){
                .fd = p->fd,
                .events = (short)(CURL_WAIT_POLLIN | (unsent ? CURL_WAIT_POLLOUT : 0))};
            w->peers[w->n++] = i;
        }
    }
}

static void transfers_step(struct kbs_courier *c)
{
    struct kbs_transfer *t;
    int running;

    (void)curl_multi_perform(c->multi, &running);
    while ((t = kbs_transfers_next_done(c->multi)) != NULL) {
        if (t->kind == KBS_TRANSFER_FOR_JOB) {
            kbs_job_done(c, t->owner);
        } else {
            kbs_document_done(c, t->owner);
        }
    }
}

static int poll_ms(uint64_t until_ns)
{
    int ms = kbs_deadline_poll_ms(until_ns);

    return ms < 0 || ms > POLL_MAX_MS ? POLL_MAX_MS : ms;
}

/* Until kbsd says so, or is gone. */
static int serve(struct kbs_courier *c, struct kbs_error *err)
{
    struct waiting w;
    int rc = 0;

    while (rc == 0) {
        uint64_t now_ns = kbs_clock_mono_ns();
        uint64_t jobs_ns = kbs_jobs_step(c, now_ns);
        uint64_t documents_ns = kbs_documents_step(c, now_ns);

        wait_for(c, &w);
        if (curl_multi_poll(c->multi, w.fds, w.n,
                            poll_ms(jobs_ns < documents_ns ? jobs_ns : documents_ns),
                            NULL) != CURLM_OK) {
            return kbs_fail(err, KBS_INTERNAL, "libcurl cannot wait");
        }
        transfers_step(c);
        for (unsigned int i = 1; i < w.n; i++) {
            struct kbs_peer *p = &c->peers[w.peers[i]];

            if ((w.fds[i].revents & CURL_WAIT_POLLOUT) != 0) {
                kbs_peer_flush(p);
            }
            if ((w.fds[i].revents & CURL_WAIT_POLLIN) != 0 && p->kind != KBS_PEER_NONE) {
                peer_read(c, w.peers[i]);
            }
        }
        kbs_jobs_orphaned(c);
        if (w.fds[0].revents != 0) {
            rc = control_read(c, err);
        }
    }
    return rc == DRAINED ? 0 : rc;
}

static int run(struct kbs_courier *c, struct kbs_error *err)
{
    const char *folders[1] = {c->cache.folder};
    struct kbs_confine_plan plan = {.role = KBS_CONFINE_FETCH, .folders = folders};
    struct kbs_wire_ready ready = {.pid = (uint32_t)getpid()};
    struct kbs_buf detail = KBS_BUF(128);
    int rc;

    if (kbs_transfers_open(&c->multi, err) != 0) {
        return KBS_EXIT_FAILURE;
    }
    if (kbs_courier_configure(c, err) != 0) {
        return kbs_exit_of(err);
    }
    kbs_documents_load(c);
    plan.production = c->production;
    plan.n_folders = c->cache.folder[0] != '\0' ? 1 : 0;
    if (kbs_confine(&plan, err) != 0) {
        return KBS_EXIT_CONFIG;
    }
    kbs_buf_printf(&detail, "%zu endpoints, %zu documents", c->n_endpoints, c->n_documents);
    ready.detail = kbs_buf_span(&detail);
    rc = kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_READY, 0, &ready, -1,
                          kbs_deadline_in_ms(CONTROL_MS), err);
    kbs_buf_deinit(&detail);
    return rc == 0 && serve(c, err) == 0 ? KBS_EXIT_OK : KBS_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_courier *c;
    int status = KBS_EXIT_FAILURE;

    if (kbs_confine_print(KBS_CONFINE_FETCH, argc, argv)) {
        return KBS_EXIT_OK;
    }
    if (kbs_role_begin(&err) != 0) {
        kbs_log_error("start-failed", &err);
        return kbs_role_end(kbs_exit_of(&err));
    }
    kbs_json_wipe_freed();
    c = calloc(1, sizeof(*c));
    if (c != NULL) {
        for (size_t i = 0; i < KBS_LIMIT_FETCH_PEERS; i++) {
            c->peers[i].fd = -1;
        }
        status = run(c, &err);
        if (status != KBS_EXIT_OK) {
            kbs_log_error("exit", &err);
        }
        kbs_courier_deinit(c);
    }
    free(c);
    return kbs_role_end(status);
}
