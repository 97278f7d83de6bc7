/*
 * Signatures are asked for by many threads, and a channel carries one question at a time: so a link is a pool of
 * channels, each with at most one order in flight. Whoever has an order takes a channel out, asks without
 * the lock, and puts it back; what is found to be dead is closed in its place.
 *
 * A channel whose answer did not come in time owes it. It is left out until that has come, and thrown it away: a token
 * that is slow for a while must not use up the channels, which nobody replaces as long as the worker lives.
 *
 * A channel is looked at before it is used. The worker may have gone while nobody asked, and then whoever has an order
 * should wait for the next worker's channel, not fail for the last one's death. Nor may there be
 * anything to read: a worker speaks only when asked.
 *
 * After fork(2) both processes hold the same sockets, and would read each other's answers. The first call in a
 * child closes its copies and makes lock and condition anew, whose state came from threads that are not there
 * (own()). Told by the process id, not by pthread_atfork(3): a handler would have to know all links, and outlive
 * none. A child of a child that got its grandparent's id is not foreseen.
 */
#include "providers/link.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "channel/channel.h"

#define OWED_MS \
    50 /* for the rest of an answer that has begun to arrive, and until it is looked for again */

struct link_slot {
    int fd;    /* -1: there is none */
    int next;  /* takes its place when it is put back; -1 */
    bool busy; /* taken out: fd is the taker's */
    bool owes; /* an answer that nobody waits for any more */
};

struct kbs_link {
    atomic_uint refs;
    atomic_int
        owner; /* process whose descriptors these are; -pid while that one makes them its own */
    pthread_mutex_t mutex;
    pthread_cond_t change;
    bool orphan; /* in a forked child, nothing attached yet */
    struct kbs_link_source source;
    size_t n;
    struct link_slot slots[KBS_LIMIT_TLS_SIGNERS];
};

static int init_lock(struct kbs_link *link)
{
    pthread_condattr_t attr;
    int r = pthread_mutex_init(&link->mutex, NULL);

    if (r != 0 || (r = pthread_condattr_init(&attr)) != 0) {
        return r;
    }
    r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    r = r != 0 ? r : pthread_cond_init(&link->change, &attr);
    (void)pthread_condattr_destroy(&attr);
    return r;
}

int kbs_link_new(size_t n, struct kbs_link **ret, struct kbs_error *err)
{
    struct kbs_link *link;

    if (n == 0 || n > KBS_LIMIT_TLS_SIGNERS) {
        return kbs_fail(err, KBS_INPUT, "a link of %zu channels", n);
    }
    link = calloc(1, sizeof(*link));
    if (link == NULL || init_lock(link) != 0) {
        free(link);
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    atomic_init(&link->refs, 1);
    atomic_init(&link->owner, (int)getpid());
    link->n = n;
    for (size_t i = 0; i < n; i++) {
        link->slots[i] = (struct link_slot){.fd = -1, .next = -1};
    }
    *ret = link;
    return 0;
}

static void close_all(struct kbs_link *link)
{
    for (size_t i = 0; i < link->n; i++) {
        kbs_io_close(&link->slots[i].fd);
        kbs_io_close(&link->slots[i].next);
        link->slots[i].busy = false;
        link->slots[i].owes = false;
    }
}

/* In a forked child, once: nothing of the parent's is used. To be called before the lock is. */
static void own(struct kbs_link *link)
{
    const int self = (int)getpid();
    int owner = atomic_load(&link->owner);

    while (owner != self) {
        if (owner == -self) {
            (void)sched_yield(); /* another thread of this process is at it */
            owner = atomic_load(&link->owner);
        } else if (atomic_compare_exchange_strong(&link->owner, &owner, -self)) {
            close_all(link);
            link->orphan = link->source.open == NULL;
            (void)init_lock(link); /* cannot fail: glibc allocates nothing for it */
            atomic_store(&link->owner, self);
            return;
        }
    }
}

struct kbs_link *kbs_link_ref(struct kbs_link *link)
{
    (void)atomic_fetch_add(&link->refs, 1);
    return link;
}

struct kbs_link *kbs_link_free(struct kbs_link *link)
{
    if (link != NULL && atomic_fetch_sub(&link->refs, 1) == 1) {
        own(link); /* or the condition would wait for the parent's threads */
        close_all(link);
        if (link->source.free != NULL) {
            link->source.free(link->source.self);
        }
        (void)pthread_cond_destroy(&link->change);
        (void)pthread_mutex_destroy(&link->mutex);
        free(link);
    }
    return NULL;
}

void kbs_link_set_source(struct kbs_link *link, const struct kbs_link_source *source)
{
    link->source = *source;
}

int kbs_link_attach(struct kbs_link *link, uint32_t index, int fd, struct kbs_error *err)
{
    struct link_slot *slot;
    int *place;

    if (index >= link->n || fd < 0) {
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_INPUT, "channel %u of a link of %zu", index, link->n);
    }
    own(link);
    slot = &link->slots[index];
    (void)pthread_mutex_lock(&link->mutex);
    place = slot->busy ? &slot->next : &slot->fd;
    kbs_io_close(place);
    *place = fd;
    slot->owes = slot->busy && slot->owes;
    link->orphan = false;
    (void)pthread_cond_signal(&link->change);
    (void)pthread_mutex_unlock(&link->mutex);
    return 0;
}

/* Nobody asked, so nothing may have come, not even the end. */
static bool is_quiet(int fd)
{
    uint8_t byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* Takes the answer that a channel owes, if it is there. True while it is not; what is no answer ends the channel. */
static bool still_owes(struct link_slot *slot)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (slot->owes && is_quiet(slot->fd)) {
        return true;
    }
    if (slot->owes &&
        (kbs_channel_recv_turn(slot->fd, &m, kbs_deadline_in_ms(OWED_MS), &ignored) != 0 ||
         m.frame.type != KBS_WIRE_RESULT)) {
        kbs_io_close(&slot->fd);
    }
    slot->owes = false;
    kbs_channel_msg_deinit(&m);
    return false;
}

/* A channel at rest, or the place for one that the source is to open; NULL if there is neither. */
static struct link_slot *find(struct kbs_link *link)
{
    struct link_slot *empty = NULL;

    for (size_t i = 0; i < link->n; i++) {
        struct link_slot *slot = &link->slots[i];

        if (slot->busy || still_owes(slot)) {
            continue;
        }
        if (slot->fd >= 0 && is_quiet(slot->fd)) {
            return slot;
        }
        kbs_io_close(&slot->fd);
        empty = slot;
    }
    return link->source.open != NULL ? empty : NULL;
}

/* Until a channel is put back or attached; a late answer makes no noise, so not for long if one is owed. */
static void wait_for_change(struct kbs_link *link, uint64_t deadline_ns)
{
    uint64_t soon_ns = kbs_deadline_in_ms(OWED_MS);
    struct timespec until;

    for (size_t i = 0; i < link->n; i++) {
        deadline_ns = link->slots[i].owes && soon_ns < deadline_ns ? soon_ns : deadline_ns;
    }
    until = (struct timespec){.tv_sec = (time_t)(deadline_ns / 1000000000u),
                              .tv_nsec = (long)(deadline_ns % 1000000000u)};
    (void)pthread_cond_timedwait(&link->change, &link->mutex, &until);
}

static int take(struct kbs_link *link, uint64_t deadline_ns, struct link_slot **ret,
                struct kbs_error *err)
{
    int r = 0;

    (void)pthread_mutex_lock(&link->mutex);
    while ((*ret = find(link)) == NULL && !link->orphan && kbs_clock_mono_ns() < deadline_ns) {
        wait_for_change(link, deadline_ns);
    }
    if (*ret != NULL) {
        (*ret)->busy = true;
        r = 0;
    } else if (link->orphan) {
        r = kbs_fail(err, KBS_TOKEN_DOWN, "a forked process has no channel to the sign worker");
    } else {
        r = kbs_fail(err, KBS_DEADLINE, "no channel to the sign worker was free in time");
    }
    (void)pthread_mutex_unlock(&link->mutex);
    return r;
}

enum condition {
    AT_REST,
    OWING, /* an answer */
    BROKEN
};

static void put_back(struct kbs_link *link, struct link_slot *slot, enum condition condition)
{
    (void)pthread_mutex_lock(&link->mutex);
    slot->owes = condition == OWING && slot->next < 0;
    if (condition == BROKEN || slot->next >= 0) {
        kbs_io_close(&slot->fd);
        slot->fd = slot->next;
        slot->next = -1;
    }
    slot->busy = false;
    (void)pthread_cond_signal(&link->change);
    (void)pthread_mutex_unlock(&link->mutex);
}

/* The category and text that the worker gave; text that may be shown. */
static int refused(const struct kbs_wire_result *result, struct kbs_error *err)
{
    char text[KBS_LIMIT_ERROR_DETAIL_BYTES];
    size_t n = result->detail.len < sizeof(text) - 1 ? result->detail.len : sizeof(text) - 1;

    for (size_t i = 0; i < n; i++) {
        const uint8_t c = result->detail.p[i];

        text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    text[n] = '\0';
    if (result->category >= KBS_CATEGORY_COUNT) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the sign worker answered category %u",
                        result->category);
    }
    return kbs_fail_native(err, (enum kbs_category)result->category, KBS_ORIGIN_CKR, result->ckr,
                           "%s", text);
}

static int ask(int fd, enum kbs_wire_type type, const void *order, uint64_t deadline_ns,
               struct kbs_buf *ret, enum condition *ret_condition, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_result result;
    int r = kbs_channel_call(fd, type, order, KBS_WIRE_RESULT, &result, &m, deadline_ns, err);

    if (r != 0) {
        *ret_condition = err->category == KBS_TOO_LARGE
                             ? AT_REST /* by the encoder: nothing was sent */
                         : err->category == KBS_DEADLINE ? OWING
                                                         : BROKEN;
        if (*ret_condition == BROKEN) {
            err->category = KBS_TOKEN_DOWN;
        }
    } else if (result.category != KBS_OK) {
        r = refused(&result, err);
    } else {
        kbs_buf_put_span(ret, result.body);
        r = kbs_buf_check(ret, "the sign worker's answer", err);
    }
    kbs_channel_msg_deinit(&m);
    return r;
}

int kbs_link_order(struct kbs_link *link, enum kbs_wire_type type, const void *order,
                   uint32_t timeout_ms, struct kbs_buf *ret, struct kbs_error *err)
{
    uint64_t deadline_ns = kbs_deadline_in_ms(timeout_ms);
    struct link_slot *slot;
    enum condition condition = AT_REST;
    int r;

    own(link);
    if (take(link, deadline_ns, &slot, err) != 0) {
        return -1;
    }
    r = slot->fd >= 0 ? 0 : link->source.open(link->source.self, deadline_ns, &slot->fd, err);
    if (r == 0) {
        r = ask(slot->fd, type, order, deadline_ns, ret, &condition, err);
    }
    put_back(link, slot, condition);
    return r;
}
