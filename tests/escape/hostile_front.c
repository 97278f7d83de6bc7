/*
 * A front that an attacker has taken over, for the test that it obtains no key, changes no row and
 * ends nothing but itself. It is the real kbs-front, walls and all; four of its calls are wrapped:
 *
 *   kbs_confine       before it, the file "attack.state" beside the executable is mapped; through it
 *                     test and front talk afterwards, without a system call
 *   kbs_lanes_attach  notes the descriptors of the lanes
 *   kbs_lanes_submit  notes every REQUEST that passes; the first one after the test has set a time
 *                     takes the process over, in the middle of serving
 *   uv_run            a front that is started while the attack is on begins with it at once
 *
 * From then on, until that time, it serves nobody. On the lanes it sends requests that are well
 * formed but not its to make (answered), and what breaks the protocol (which costs it the lane). On
 * the control channel every attempt is the end of it; kbsd starts the next one, which goes on where
 * this one was. What was sent and what came back is counted in the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/encoding.h"
#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "front/front.h"
#include "wire/route.h"

#define ANSWER_MS 3000
#define RECORDED_MAX 64
#define RECORDED_BYTES 16384
#define TALLIES 1024
#define POLITE_PER_BREACH 40 /* requests that are answered between two that cost a lane */
#define LANES_PER_CONTROL 4  /* one life in so many is spent on the lanes */
#define LIFE_MS 1000         /* and lasts so long from the first lane */
#define REQUEST_BYTES (KBS_LIMIT_WIRE_BODY_BYTES + KBS_WIRE_HEADER_BYTES)

struct tally {
    char name[56];
    uint64_t count;
};

/* "attack.state"; test_front.py knows the layout. */
struct state {
    uint64_t until_ns; /* CLOCK_MONOTONIC; 0: serve as ever */
    uint64_t seed;
    uint32_t listener;              /* enum kbs_listener: which front is hostile */
    atomic_uint lives;              /* hostile processes so far */
    atomic_uint turn[2];            /* next attempt on a lane, on the control channel */
    atomic_uint recorded;           /* of the frames below */
    uint32_t reserved[7];           /* 64 bytes up to here */
    struct tally tallies[TALLIES];  /* first the name, then the count */
    uint32_t lengths[RECORDED_MAX]; /* 0: not complete */
    uint8_t frames[RECORDED_MAX][RECORDED_BYTES];
};

static struct state *state;
static struct kbs_front *front;
static int lane_fd[KBS_LIMIT_LANES]; /* 0: none */
static uint64_t next_id = 1u << 20;
static uint64_t random_state;
static struct kbs_channel_msg answer = {.fd = -1};

int __real_kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err);
int __wrap_kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err);
int __real_kbs_lanes_attach(struct kbs_lanes *l, uint32_t index, int fd, struct kbs_error *err);
int __wrap_kbs_lanes_attach(struct kbs_lanes *l, uint32_t index, int fd, struct kbs_error *err);
int __real_kbs_lanes_submit(struct kbs_lanes *l, uint64_t id, struct kbs_buf *frame);
int __wrap_kbs_lanes_submit(struct kbs_lanes *l, uint64_t id, struct kbs_buf *frame);
int __real_uv_run(uv_loop_t *loop, uv_run_mode mode);
int __wrap_uv_run(uv_loop_t *loop, uv_run_mode mode);

/* ---- counting, and chance that can be had again ---- */

KBS_PRINTF(1, 2) static void count(const char *fmt, ...)
{
    char name[sizeof(state->tallies[0].name)] = "";
    size_t i = 0;
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    while (i < TALLIES - 1 && state->tallies[i].name[0] != '\0' &&
           strcmp(state->tallies[i].name, name) != 0) {
        i++;
    }
    if (state->tallies[i].name[0] == '\0') {
        memcpy(state->tallies[i].name, name, sizeof(name));
    }
    state->tallies[i].count++;
}

static uint64_t random64(void) /* xorshift64 */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t below(size_t n)
{
    return (size_t)(random64() % n);
}

static void random_bytes(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)random64();
    }
}

static bool on_time(void)
{
    return kbs_clock_mono_ns() < state->until_ns;
}

/* ---- valid frames with random fields, from the schema itself ---- */

#define POOL_BYTES 4096

struct filler {
    uint8_t pool[POOL_BYTES]; /* what random fields borrow */
    struct kbs_buf lists[4];
    size_t n_lists;
    size_t longest;
};

static void fill_U8(struct filler *f, uint8_t *v)
{
    (void)f;
    *v = (uint8_t)(below(2) ? below(16) : below(256));
}

static void fill_U32(struct filler *f, uint32_t *v)
{
    (void)f;
    *v = (uint32_t)(below(2) ? below(8) : random64());
}

static void fill_U64(struct filler *f, uint64_t *v)
{
    (void)f;
    *v = below(2) ? below(8) : random64();
}

static void fill_BYTES(struct filler *f, struct kbs_span *v)
{
    static const size_t usual[] = {0, 1, 4, 16, 20, 32, 64};
    size_t n = below(2) ? usual[below(7)] : below(f->longest);

    n = n < f->longest ? n : f->longest;
    *v = kbs_span(f->pool + below(POOL_BYTES - n), n);
}

static void fill_LIST(struct filler *f, struct kbs_wire_list *v)
{
    struct kbs_buf *buf = &f->lists[f->n_lists++ % 4];
    struct kbs_wire_list_builder list = {.buf = buf};

    kbs_buf_clear(buf);
    for (size_t n = below(8); n > 0; n--) {
        struct kbs_span item;

        fill_BYTES(f, &item);
        kbs_wire_list_add(&list, item);
    }
    *v = kbs_wire_list_done(&list);
}

#define FILL(m, kind, field) fill_##kind(f, &((struct kbs_wire_##m *)msg)->field);
#define FILL_MESSAGE(number, upper, lower, cap)           \
    static void fill_##lower(struct filler *f, void *msg) \
    {                                                     \
        KBS_WIRE_##upper##_FIELDS(FILL, lower)            \
    }
KBS_WIRE_MESSAGES(FILL_MESSAGE)

#define MEMBER(number, upper, lower, cap) struct kbs_wire_##lower lower;
union any_message {
    KBS_WIRE_MESSAGES(MEMBER)
};

#define FILLED(number, upper, lower, cap) {KBS_WIRE_##upper, fill_##lower},
#define EMPTY(number, upper) {KBS_WIRE_##upper, NULL},
static const struct {
    enum kbs_wire_type type;
    void (*fill)(struct filler *f, void *msg);
} types[] = {KBS_WIRE_MESSAGES(FILLED) KBS_WIRE_EMPTY_MESSAGES(EMPTY)};

#define TYPES (sizeof(types) / sizeof(types[0]))

/* Appends a frame of that type. What does not fit its cap is tried again with shorter fields. */
static void random_frame(struct kbs_buf *out, size_t which)
{
    static struct filler f;
    static union any_message msg;
    struct kbs_error err = KBS_ERROR_NONE;

    for (f.longest = 512; f.longest > 1; f.longest /= 2) {
        random_bytes(f.pool, sizeof(f.pool));
        for (size_t i = 0; i < 4; i++) {
            kbs_buf_init(&f.lists[i], 1u << 16);
        }
        if (types[which].fill != NULL) {
            types[which].fill(&f, &msg);
        }
        int r = kbs_wire_encode(out, types[which].type, next_id++, kbs_deadline_in_ms(ANSWER_MS),
                                types[which].fill != NULL ? &msg : NULL, &err);
        for (size_t i = 0; i < 4; i++) {
            kbs_buf_deinit(&f.lists[i]);
        }
        if (r == 0) {
            return;
        }
        kbs_buf_clear(out);
    }
}

/* ---- requests, from the recorded ones ---- */

static bool recorded_decode(size_t i, struct kbs_wire_request *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span frame = kbs_span(state->frames[i], state->lengths[i]);

    return frame.len > KBS_WIRE_HEADER_BYTES &&
           kbs_wire_decode(KBS_WIRE_REQUEST, kbs_span_skip(frame, KBS_WIRE_HEADER_BYTES), ret,
                           &err) == 0;
}

/* A recorded request for which `wanted` holds; false if there is none. */
static bool recorded_find(bool (*wanted)(const struct kbs_wire_request *r),
                          struct kbs_wire_request *ret)
{
    uint32_t n = state->recorded < RECORDED_MAX ? state->recorded : RECORDED_MAX;
    size_t first = n > 0 ? below(n) : 0;

    for (size_t i = 0; i < n; i++) {
        if (recorded_decode((first + i) % n, ret) && wanted(ret)) {
            return true;
        }
    }
    return false;
}

static bool is_any(const struct kbs_wire_request *r)
{
    return r->route != KBS_ROUTE_NONE;
}

static bool is_release(const struct kbs_wire_request *r)
{
    return r->route == KBS_ROUTE_KEY_RELEASE;
}

static bool is_signed(const struct kbs_wire_request *r)
{
    return r->signature.len > 0;
}

static bool is_mutation(const struct kbs_wire_request *r)
{
    return r->route == KBS_ROUTE_ADMIN_KEY_CREATE;
}

static void put_request(struct kbs_buf *out, const struct kbs_wire_request *r)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_wire_encode(out, KBS_WIRE_REQUEST, next_id++, kbs_deadline_in_ms(ANSWER_MS), r, &err) !=
        0) {
        kbs_buf_clear(out);
    }
}

static struct kbs_wire_request request(enum kbs_route route, const char *method, const char *target)
{
    return (struct kbs_wire_request){.route = (uint8_t)route,
                                     .listener = (uint8_t)front->conns.listener,
                                     .peer = KBS_SPAN_LIT("127.0.0.1:1"),
                                     .method = kbs_span_str(method),
                                     .target = kbs_span_str(target)};
}

/* Sends what is in `frame` and waits for the answer. False if none came. */
static bool ask(int fd, const struct kbs_buf *frame)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t deadline = kbs_deadline_in_ms(ANSWER_MS);

    return kbs_io_write_all(fd, frame->p, frame->len, deadline, &err) == 0 &&
           kbs_channel_recv(fd, &answer, deadline, &err) == 0;
}

/* ---- attempts on a lane that are answered: each puts one request into `out` ---- */

static void make_replay(struct kbs_buf *out, int fd)
{
    struct kbs_wire_request r;

    (void)fd;
    if (recorded_find(is_any, &r)) {
        put_request(out, &r);
    }
}

static void make_replay_mutation(struct kbs_buf *out, int fd)
{
    struct kbs_wire_request r;

    (void)fd;
    if (recorded_find(is_mutation, &r)) {
        put_request(out, &r);
    }
}

/* An administrator's request by the guests' front, and a guest's by the administrators'. */
static void make_other_listener(struct kbs_buf *out, int fd)
{
    struct kbs_wire_request r;

    (void)fd;
    if (recorded_find(below(2) ? is_signed : is_release, &r)) {
        r.listener = r.listener == KBS_LISTENER_GUEST ? KBS_LISTENER_ADMIN : KBS_LISTENER_GUEST;
        put_request(out, &r);
    }
}

static void make_forged_admin(struct kbs_buf *out, int fd)
{
    static const struct {
        enum kbs_route route;
        const char *method;
        const char *target;
    } routes[] = {{KBS_ROUTE_ADMIN_NONCE, "GET", "/kbs/v0/admin/nonce"},
                  {KBS_ROUTE_ADMIN_KEY_LIST, "GET", "/kbs/v0/admin/keys"},
                  {KBS_ROUTE_ADMIN_KEY_CREATE, "POST", "/kbs/v0/admin/keys"},
                  {KBS_ROUTE_ADMIN_KEY_SHOW, "GET", "/kbs/v0/admin/keys/a/b/c"},
                  {KBS_ROUTE_ADMIN_KEY_IMPORT, "POST", "/kbs/v0/admin/keys/a/b/c/import"},
                  {KBS_ROUTE_ADMIN_IMPORT_KEY, "GET", "/kbs/v0/admin/import-key"},
                  {KBS_ROUTE_ADMIN_STORE_SHOW, "GET", "/kbs/v0/admin/store"},
                  {KBS_ROUTE_ADMIN_STORE_ACCEPT, "POST", "/kbs/v0/admin/store/accept"}};
    size_t i = below(sizeof(routes) / sizeof(routes[0]));
    struct kbs_wire_request r = request(routes[i].route, routes[i].method, routes[i].target);

    (void)fd;
    r.listener = KBS_LISTENER_ADMIN;
    r.content_type = KBS_SPAN_LIT("application/json");
    r.body =
        KBS_SPAN_LIT("{\"path\":\"hostile/front/key\",\"purpose\":\"release\",\"alg\":\"AES\"}");
    put_request(out, &r);
}

/* One field of a recorded request becomes something else: another's, noise, nothing. */
static void make_changed_field(struct kbs_buf *out, int fd)
{
    static uint8_t noise[64];
    struct kbs_wire_request r;
    struct kbs_wire_request other;

    (void)fd;
    if (!recorded_find(is_any, &r) || !recorded_find(is_any, &other)) {
        return;
    }
    struct {
        struct kbs_span *field;
        struct kbs_span others;
    } spans[] = {{&r.method, other.method},       {&r.target, other.target},
                 {&r.cookie, other.cookie},       {&r.authorization, other.authorization},
                 {&r.accept, other.accept},       {&r.content_type, other.content_type},
                 {&r.signature, other.signature}, {&r.body, other.body},
                 {&r.proof, other.proof}};
    size_t i = below(sizeof(spans) / sizeof(spans[0]) + 4);

    random_bytes(noise, sizeof(noise));
    if (i < sizeof(spans) / sizeof(spans[0])) {
        *spans[i].field = below(3) == 0   ? kbs_span(noise, below(sizeof(noise)))
                          : below(2) == 0 ? KBS_SPAN_EMPTY
                                          : spans[i].others;
    } else if (i % 4 == 0) {
        r.route = other.route;
    } else if (i % 4 == 1) {
        r.listener = (uint8_t)below(4);
    } else if (i % 4 == 2) {
        r.params = other.params;
    } else {
        r.query = other.query;
    }
    put_request(out, &r);
}

static void make_random_request(struct kbs_buf *out, int fd)
{
    (void)fd;
    for (size_t i = 0; i < TYPES; i++) {
        if (types[i].type == KBS_WIRE_REQUEST) {
            random_frame(out, i);
        }
    }
}

/* A session of our own, with a nonce and a cookie, and then a key without having attested. */
static void make_unattested(struct kbs_buf *out, int fd)
{
    static uint8_t cookie[KBS_LIMIT_COOKIE_BYTES * 2];
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_request r;
    struct kbs_wire_response response;
    struct kbs_wire_request auth = request(KBS_ROUTE_AUTH, "POST", "/kbs/v0/auth");

    if (!recorded_find(is_release, &r)) {
        return;
    }
    auth.content_type = KBS_SPAN_LIT("application/json");
    auth.body = KBS_SPAN_LIT("{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}");
    put_request(out, &auth);
    if (!ask(fd, out) || kbs_channel_msg_decode(&answer, KBS_WIRE_RESPONSE, &response, &err) != 0 ||
        response.cookie.len > sizeof(cookie)) {
        return;
    }
    kbs_buf_clear(out);
    memcpy(cookie, response.cookie.p, response.cookie.len);
    r.cookie = kbs_span(cookie, response.cookie.len);
    r.authorization = KBS_SPAN_EMPTY;
    put_request(out, &r);
}

/* A recorded signature over a nonce that is fresh: all is right but the signature. */
static void make_fresh_nonce(struct kbs_buf *out, int fd)
{
    static struct kbs_buf text;
    static struct kbs_buf payload;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_request nonce = request(KBS_ROUTE_ADMIN_NONCE, "GET", "/kbs/v0/admin/nonce");
    struct kbs_wire_request r;
    struct kbs_wire_response response;

    if (!recorded_find(is_mutation, &r)) {
        return;
    }
    const uint8_t *dot = memchr(r.signature.p, '.', r.signature.len);
    const uint8_t *end = dot != NULL ? memrchr(r.signature.p, '.', r.signature.len) : NULL;
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&payload);
    kbs_buf_init(&text, 8192);
    kbs_buf_init(&payload, 8192);
    put_request(out, &nonce);
    if (end == NULL || end <= dot || !ask(fd, out) ||
        kbs_channel_msg_decode(&answer, KBS_WIRE_RESPONSE, &response, &err) != 0 ||
        kbs_base64url_get(&payload, kbs_span(dot + 1, (size_t)(end - dot - 1))) != 0) {
        kbs_buf_clear(out);
        return;
    }
    kbs_buf_clear(out);
    char *old = memmem(payload.p, payload.len, "\"n\":\"", 5);
    const char *fresh =
        response.body.len > 0 ? memmem(response.body.p, response.body.len, "\":\"", 3) : NULL;
    size_t n =
        fresh != NULL ? response.body.len - (size_t)(fresh + 5 - (const char *)response.body.p) : 0;
    if (old != NULL && fresh != NULL && n > 0 && n < payload.len) {
        memcpy(old + 5, fresh + 3, n); /* nonces are of one length */
    }
    kbs_buf_put(&text, r.signature.p, (size_t)(dot + 1 - r.signature.p));
    kbs_base64url_put(&text, kbs_buf_span(&payload));
    kbs_buf_put(&text, end, (size_t)(r.signature.p + r.signature.len - end));
    r.signature = kbs_buf_span(&text);
    put_request(out, &r);
}

/* ---- attempts on a channel that break the protocol: each sends by itself ---- */

static void send_some(int fd, const void *p, size_t n)
{
    (void)!send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void breach_random_bytes(int fd)
{
    static uint8_t bytes[65536];
    size_t n = 1 + (below(4) == 0 ? below(sizeof(bytes)) : below(200));

    random_bytes(bytes, n);
    send_some(fd, bytes, n);
}

static void breach_flipped_bytes(int fd)
{
    static uint8_t bytes[RECORDED_BYTES];
    size_t n = state->recorded > 0 ? below(state->recorded) % RECORDED_MAX : 0;
    size_t len = state->lengths[n];

    memcpy(bytes, state->frames[n], len);
    for (size_t flips = 1 + below(8); len > 0 && flips > 0; flips--) {
        bytes[below(below(2) ? len : KBS_WIRE_HEADER_BYTES)] ^= (uint8_t)(1u << below(8));
    }
    send_some(fd, bytes, len);
}

static void put_header(uint8_t *header, uint32_t body_len, uint16_t type)
{
    memset(header, 0, KBS_WIRE_HEADER_BYTES);
    memcpy(header, &body_len, sizeof(body_len));
    header[4] = KBS_WIRE_VERSION;
    memcpy(header + 6, &type, sizeof(type));
}

static void breach_oversized(int fd)
{
    static const uint32_t lengths[] = {KBS_LIMIT_WIRE_BODY_BYTES + 1, 0x7fffffff, 0x80000000,
                                       0xffffffff};
    uint8_t header[KBS_WIRE_HEADER_BYTES];

    put_header(header, lengths[below(4)], KBS_WIRE_REQUEST);
    send_some(fd, header, sizeof(header));
}

/* As much as may be announced, and a little of it. Then the channel is closed. */
static void breach_half_frame(int fd)
{
    static uint8_t bytes[KBS_WIRE_HEADER_BYTES + 1024];

    random_bytes(bytes, sizeof(bytes));
    put_header(bytes, KBS_LIMIT_WIRE_BODY_BYTES, KBS_WIRE_REQUEST);
    send_some(fd, bytes, 1 + below(sizeof(bytes) - 1));
    (void)shutdown(fd, SHUT_WR);
}

/* A sound request with descriptors: one, several, or as an ATTACH. */
static void send_descriptors(int fd, const struct kbs_buf *frame, size_t n)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = frame->p, .iov_len = frame->len};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(int));
    for (size_t i = 0; i < n; i++) {
        const int mine = STDERR_FILENO;
        memcpy(CMSG_DATA(c) + i * sizeof(int), &mine, sizeof(int));
    }
    (void)!sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void breach_descriptors(int fd)
{
    struct kbs_buf frame = KBS_BUF(REQUEST_BYTES);

    make_replay(&frame, fd);
    if (frame.len > 0) {
        send_descriptors(fd, &frame, 1 + below(8));
    }
    kbs_buf_deinit(&frame);
}

static void breach_attach(int fd)
{
    struct kbs_buf frame = KBS_BUF(REQUEST_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_attach attach = {.what = (uint8_t)(1 + below(13)), .index = (uint32_t)below(4)};

    if (kbs_wire_encode(&frame, KBS_WIRE_ATTACH, 0, KBS_DEADLINE_NONE, &attach, &err) == 0) {
        send_descriptors(fd, &frame, 1);
    }
    kbs_buf_deinit(&frame);
}

/* Requests without waiting for an answer, as many as the channel takes, and then its end. */
static void breach_flood(int fd)
{
    struct kbs_buf frame = KBS_BUF(REQUEST_BYTES);

    make_forged_admin(&frame, fd);
    for (int i = 0; i < 200; i++) {
        send_some(fd, frame.p, frame.len);
    }
    (void)shutdown(fd, SHUT_RDWR);
    kbs_buf_deinit(&frame);
}

/* ---- the two targets ---- */

static const struct {
    const char *name;
    void (*make)(struct kbs_buf *out, int fd);
} polite[] = {
    {"replay", make_replay},
    {"replayed-mutation", make_replay_mutation},
    {"other-listener", make_other_listener},
    {"forged-admin", make_forged_admin},
    {"changed-field", make_changed_field},
    {"random-request", make_random_request},
    {"unattested-session", make_unattested},
    {"fresh-nonce", make_fresh_nonce},
};

static const struct {
    const char *name;
    void (*make)(int fd);
} breaches[] = {
    {"random-bytes", breach_random_bytes},
    {"flipped-bytes", breach_flipped_bytes},
    {"oversized", breach_oversized},
    {"half-frame", breach_half_frame},
    {"descriptors", breach_descriptors},
    {"attach", breach_attach},
    {"flood", breach_flood},
};

#define POLITE (sizeof(polite) / sizeof(polite[0]))
#define BREACHES (sizeof(breaches) / sizeof(breaches[0]))

static const char *side(void)
{
    return front->conns.listener == KBS_LISTENER_ADMIN ? "admin" : "guest";
}

static bool has_recipient(const struct kbs_wire_response *r)
{
    return r->status == 200 && (kbs_span_equal_str(r->content_type, "application/jose+json") ||
                                kbs_span_equal_str(r->content_type, "application/cose") ||
                                memmem(r->body.p, r->body.len, "\"encrypted_key\"", 15) != NULL);
}

static void count_answer(const char *name)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_response r;

    if (kbs_channel_msg_decode(&answer, KBS_WIRE_RESPONSE, &r, &err) != 0) {
        count("%s lane nonsense %s", side(), name);
        return;
    }
    count("%s lane answer %s %u", side(), name, (unsigned int)r.status);
    if (has_recipient(&r)) {
        count("%s lane recipient %s", side(), name);
    }
}

static void lane_lost(uint32_t lane, const char *name)
{
    count("%s lane ended %s", side(), name);
    kbs_io_close(&lane_fd[lane]);
    lane_fd[lane] = 0;
}

static void be_polite(uint32_t lane)
{
    size_t i = below(POLITE);
    struct kbs_buf out = KBS_BUF(REQUEST_BYTES);

    polite[i].make(&out, lane_fd[lane]);
    if (out.len > 0) {
        count("%s lane sent %s", side(), polite[i].name);
        if (ask(lane_fd[lane], &out)) {
            count_answer(polite[i].name);
        } else {
            lane_lost(lane, polite[i].name);
        }
    }
    kbs_buf_deinit(&out);
}

/* The attempts that are no sound request, in turn; then the types of messages, in turn. */
static const char *breach(int fd, unsigned int turn)
{
    struct kbs_buf frame = KBS_BUF(REQUEST_BYTES);
    size_t i = turn % (BREACHES + TYPES);

    if (i < BREACHES) {
        breaches[i].make(fd);
        return breaches[i].name;
    }
    random_frame(&frame, i - BREACHES);
    send_some(fd, frame.p, frame.len);
    kbs_buf_deinit(&frame);
    return kbs_wire_type_name(types[i - BREACHES].type);
}

static void break_lane(uint32_t lane)
{
    struct kbs_error err = KBS_ERROR_NONE;
    const char *name = breach(lane_fd[lane], atomic_fetch_add(&state->turn[0], 1));

    count("%s lane sent %s", side(), name);
    /* Half a frame may also look like the beginning of a long one: the end tells them apart. */
    (void)shutdown(lane_fd[lane], SHUT_WR);
    while (kbs_channel_recv(lane_fd[lane], &answer, kbs_deadline_in_ms(ANSWER_MS), &err) == 0) {
        count_answer(name);
    }
    lane_lost(lane, name);
}

static void break_control(void)
{
    const char *name = breach(KBS_FD_CONTROL, atomic_fetch_add(&state->turn[1], 1));

    count("%s control sent %s", side(), name);
}

/* What kbsd says meanwhile: new lanes. Its end, or DRAIN, is ours. */
static void take_lanes(int wait_ms)
{
    struct pollfd p = {.fd = KBS_FD_CONTROL, .events = POLLIN};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_attach attach;

    while (poll(&p, 1, wait_ms) > 0) {
        if (kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(ANSWER_MS), &err) != 0 ||
            m.frame.type == KBS_WIRE_DRAIN) {
            _exit(KBS_EXIT_OK);
        }
        if (kbs_channel_msg_decode(&m, KBS_WIRE_ATTACH, &attach, &err) == 0 &&
            attach.index < KBS_LIMIT_LANES) {
            if (lane_fd[attach.index] > 0) {
                kbs_io_close(&lane_fd[attach.index]);
            }
            lane_fd[attach.index] = m.fd;
            m.fd = -1;
        }
        wait_ms = 0;
    }
    kbs_channel_msg_deinit(&m);
}

/* A lane that is there, or -1. */
static int any_lane(void)
{
    size_t first = below(KBS_LIMIT_LANES);

    for (size_t i = 0; i < KBS_LIMIT_LANES; i++) {
        if (lane_fd[(first + i) % KBS_LIMIT_LANES] > 0) {
            return (int)((first + i) % KBS_LIMIT_LANES);
        }
    }
    return -1;
}

static void attack_lanes(void)
{
    uint64_t end_ns = KBS_DEADLINE_NONE; /* of this life, once it has a lane */

    for (unsigned int i = 1; on_time() && kbs_clock_mono_ns() < end_ns; i++) {
        int lane = any_lane();

        take_lanes(lane < 0 ? 20 : 0);
        if (lane < 0) {
            continue;
        }
        end_ns = end_ns == KBS_DEADLINE_NONE ? kbs_deadline_in_ms(LIFE_MS) : end_ns;
        if (i % POLITE_PER_BREACH == 0) {
            break_lane((uint32_t)lane);
        } else {
            be_polite((uint32_t)lane);
        }
    }
}

/* Does not return: kbsd ends us, or the time is over. */
static _Noreturn void attack(void)
{
    unsigned int life = atomic_fetch_add(&state->lives, 1);

    random_state = state->seed + 0x9e3779b97f4a7c15u * (life + 1);
    if (life % LANES_PER_CONTROL == 0) {
        attack_lanes();
    }
    if (on_time()) {
        break_control();
    }
    while (on_time()) { /* not every breach is one at once: a frame may not be complete */
        take_lanes(50);
        break_control();
    }
    _exit(KBS_EXIT_FAILURE);
}

/* ---- in the real front's place ---- */

static bool is_ours(void)
{
    return state->until_ns != 0 && on_time() && state->listener == front->conns.listener;
}

int __wrap_kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err)
{
    char path[512] = "";
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    char *slash = n > 0 ? strrchr(path, '/') : NULL;

    if (slash == NULL) {
        _exit(99);
    }
    memcpy(slash, "/attack.state", sizeof("/attack.state"));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *mapped =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED || close(fd) != 0) {
        _exit(98);
    }
    state = mapped;
    return __real_kbs_confine(plan, err);
}

int __wrap_kbs_lanes_attach(struct kbs_lanes *l, uint32_t index, int fd, struct kbs_error *err)
{
    int r = __real_kbs_lanes_attach(l, index, fd, err);

    lane_fd[index % KBS_LIMIT_LANES] = r == 0 ? fd : 0;
    return r;
}

int __wrap_kbs_lanes_submit(struct kbs_lanes *l, uint64_t id, struct kbs_buf *frame)
{
    if (is_ours()) {
        attack();
    }
    unsigned int i = atomic_fetch_add(&state->recorded, 1);
    if (i < RECORDED_MAX && frame->len <= RECORDED_BYTES) {
        memcpy(state->frames[i], frame->p, frame->len);
        state->lengths[i] = (uint32_t)frame->len;
    }
    return __real_kbs_lanes_submit(l, id, frame);
}

int __wrap_uv_run(uv_loop_t *loop, uv_run_mode mode)
{
    front = (void *)((char *)loop - offsetof(struct kbs_front, loop));
    if (is_ours()) {
        attack();
    }
    return __real_uv_run(loop, mode);
}
