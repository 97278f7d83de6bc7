/* providers/link.h: channels that die, lie, are late, are replaced, are shared with a child; many threads. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/terms.h"
#include "channel/channel.h"
#include "providers/link.h"
#include "signer.h"

#define SOON_MS 50
#define LONG_MS 20000

static const struct kbs_wire_sign_digest plain_order = {
    .alg = KBS_SIGN_ECDSA,
    .hash = KBS_HASH_SHA256,
    .digest = {.p = (const uint8_t *)"what is signed", .len = 14}};

static struct kbs_link *new_link(size_t n)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_link *link;

    assert_int_equal(kbs_link_new(n, &link, &err), 0);
    return link;
}

static void attach(struct kbs_link *link, uint32_t index, int fd)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_link_attach(link, index, fd, &err), 0);
}

/* The category of one order; the answer of a success must be the digest. */
static enum kbs_category order(struct kbs_link *link, uint32_t timeout_ms, struct kbs_error *err)
{
    struct kbs_buf answer = KBS_BUF(512);
    int r;

    *err = KBS_ERROR_NONE;
    r = kbs_link_order(link, KBS_WIRE_SIGN_DIGEST, &plain_order, timeout_ms, &answer, err);
    if (r == 0) {
        assert_true(kbs_span_equal(kbs_buf_span(&answer), plain_order.digest));
        assert_int_equal(err->category, KBS_OK);
    } else {
        assert_int_equal(r, -1);
        assert_int_not_equal(err->category, KBS_OK);
    }
    kbs_buf_deinit(&answer);
    return err->category;
}

static void test_an_order_is_answered(void **state)
{
    struct kbs_link *link = new_link(1);
    struct kbs_error err;
    struct signer s;
    (void)state;

    attach(link, 0, signer_start(&s, NULL, SIGNER_ECHO));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    }
    assert_null(kbs_link_free(link));
    signer_join(&s); /* its channel was closed */
    assert_int_equal(atomic_load(&s.answered), 3);
    assert_null(kbs_link_free(NULL));
}

static void test_what_is_no_link(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_link *link = NULL;
    int fds[2];
    (void)state;

    assert_int_equal(kbs_link_new(0, &link, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_int_equal(kbs_link_new(KBS_LIMIT_TLS_SIGNERS + 1, &link, &err), -1);

    link = new_link(2);
    assert_int_equal(kbs_channel_pair(fds, &err), 0);
    assert_int_equal(kbs_link_attach(link, 2, fds[0], &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* taken, and so closed */
    assert_int_equal(kbs_link_attach(link, 0, -1, &err), -1);
    (void)close(fds[1]);
    (void)kbs_link_free(link);
}

static void test_no_channel_in_time(void **state)
{
    struct kbs_link *link = new_link(1);
    struct kbs_error err;
    uint64_t before = kbs_clock_mono_ns();
    (void)state;

    assert_int_equal(order(link, SOON_MS, &err), KBS_DEADLINE);
    assert_true(kbs_clock_mono_ns() - before >= SOON_MS * KBS_NS_PER_MS);
    (void)kbs_link_free(link);
}

/* What the one channel's worker does in the place of an answer, and what it costs. */
static void test_misbehaviour(void **state)
{
    static const struct {
        enum signer_mode mode;
        enum kbs_category category;
        bool kept; /* is the channel used again? */
    } cases[] = {
        {SIGNER_REFUSE, KBS_DENIED, true},        {SIGNER_NO_CATEGORY, KBS_TOKEN_DOWN, true},
        {SIGNER_WRONG_ID, KBS_TOKEN_DOWN, false}, {SIGNER_WRONG_TYPE, KBS_TOKEN_DOWN, false},
        {SIGNER_TWICE, KBS_TOKEN_DOWN, false},    {SIGNER_CUT, KBS_TOKEN_DOWN, false},
        {SIGNER_NOISE, KBS_TOKEN_DOWN, false},    {SIGNER_CLOSE, KBS_TOKEN_DOWN, false},
        {SIGNER_HUGE, KBS_TOO_LARGE, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_link *link = new_link(1);
        struct kbs_buf answer = KBS_BUF(512);
        struct kbs_error err = KBS_ERROR_NONE;
        struct signer s;

        attach(link, 0, signer_start(&s, NULL, cases[i].mode));
        assert_int_equal(kbs_link_order(link, KBS_WIRE_PUBLIC_WANT, NULL, LONG_MS, &answer, &err),
                         -1);
        if (err.category != cases[i].category) {
            fail_msg("mode %d: %s: %s", (int)cases[i].mode, kbs_category_name(err.category),
                     err.detail);
        }
        if (cases[i].mode == SIGNER_REFUSE) {
            assert_int_equal(err.native, 0x68);
            assert_string_equal(err.detail, "no??[31m? such key");
        }
        kbs_buf_clear(&answer);
        err = KBS_ERROR_NONE;
        assert_int_equal(kbs_link_order(link, KBS_WIRE_PUBLIC_WANT, NULL, SOON_MS, &answer, &err),
                         -1);
        assert_int_equal(err.category, cases[i].kept ? cases[i].category : KBS_DEADLINE);
        (void)kbs_link_free(link);
        signer_join(&s);
        kbs_buf_deinit(&answer);
    }
}

static void test_a_late_answer_is_nobodys(void **state)
{
    struct kbs_link *link = new_link(1);
    struct kbs_error err;
    static const uint8_t other[32] = {1};
    const struct kbs_wire_sign_digest late = {.digest = {.p = other, .len = sizeof(other)}};
    struct kbs_buf answer = KBS_BUF(512);
    struct signer slow;
    struct signer next;
    (void)state;

    attach(link, 0, signer_start(&slow, NULL, SIGNER_HOLD));
    assert_int_equal(kbs_link_order(link, KBS_WIRE_SIGN_DIGEST, &late, SOON_MS, &answer, &err), -1);
    assert_int_equal(err.category, KBS_DEADLINE);
    assert_int_equal(order(link, SOON_MS, &err),
                     KBS_DEADLINE); /* it is not asked while it owes an answer */
    assert_int_equal(slow.asked, 1);
    signer_release(&slow);
    for (int i = 0; i < 3; i++) { /* order() compares: none of these is the late one */
        assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    }
    assert_int_equal(slow.asked, 4);
    /* while it owes one it can be replaced */
    (void)kbs_link_free(link);
    signer_join(&slow);
    link = new_link(1);
    attach(link, 0, signer_start(&slow, NULL, SIGNER_HOLD));
    assert_int_equal(order(link, SOON_MS, &err), KBS_DEADLINE);
    attach(link, 0, signer_start(&next, NULL, SIGNER_ECHO));
    signer_release(&slow);
    signer_join(&slow); /* it found its channel closed */
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    (void)kbs_link_free(link);
    signer_join(&next);
}

static void test_an_order_that_is_too_large_costs_no_channel(void **state)
{
    static const uint8_t large[1000];
    const struct kbs_wire_sign_digest too_large = {.digest = {.p = large, .len = sizeof(large)}};
    struct kbs_link *link = new_link(1);
    struct kbs_buf answer = KBS_BUF(512);
    struct kbs_error err = KBS_ERROR_NONE;
    struct signer s;
    (void)state;

    attach(link, 0, signer_start(&s, NULL, SIGNER_ECHO));
    assert_int_equal(kbs_link_order(link, KBS_WIRE_SIGN_DIGEST, &too_large, LONG_MS, &answer, &err),
                     -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    (void)kbs_link_free(link);
    signer_join(&s);
    kbs_buf_deinit(&answer);
}

struct asker {
    pthread_t thread;
    struct kbs_link *link;
    uint32_t timeout_ms;
    unsigned int seed;
    int orders;
    int failures;
    struct kbs_error err;
};

static void *ask_once(void *arg)
{
    struct asker *a = arg;

    (void)order(a->link, a->timeout_ms, &a->err);
    return NULL;
}

static void ask_aside(struct asker *a, struct kbs_link *link)
{
    *a = (struct asker){.link = link, .timeout_ms = LONG_MS};
    assert_int_equal(pthread_create(&a->thread, NULL, ask_once, a), 0);
}

static enum kbs_category ask_outcome(struct asker *a)
{
    assert_int_equal(pthread_join(a->thread, NULL), 0);
    return a->err.category;
}

static void test_whoever_asks_waits_for_a_channel(void **state)
{
    struct kbs_link *link = new_link(2);
    struct asker a;
    struct signer s;
    (void)state;

    ask_aside(&a, link);
    attach(link, 1, signer_start(&s, NULL, SIGNER_ECHO));
    assert_int_equal(ask_outcome(&a), KBS_OK);
    (void)kbs_link_free(link);
    signer_join(&s);
}

static void test_a_channel_that_died_at_rest_is_not_used(void **state)
{
    struct kbs_link *link = new_link(2);
    struct kbs_error err;
    struct signer dead;
    struct signer alive;
    (void)state;

    attach(link, 0, signer_start(&dead, NULL, SIGNER_ECHO));
    attach(link, 1, signer_start(&alive, NULL, SIGNER_ECHO));
    signer_stop(&dead);
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    assert_int_equal(atomic_load(&alive.answered), 1);
    (void)kbs_link_free(link);
    signer_join(&alive);
}

static void test_a_channel_is_replaced_while_it_is_waited_on(void **state)
{
    struct kbs_link *link = new_link(1);
    struct kbs_error err;
    struct asker a;
    struct signer old;
    struct signer between;
    struct signer new;
    (void)state;

    attach(link, 0, signer_start(&old, NULL, SIGNER_HOLD));
    ask_aside(&a, link);
    signer_await(&old, 1);
    attach(link, 0, signer_start(&between, NULL, SIGNER_ECHO));
    attach(link, 0, signer_start(&new, NULL, SIGNER_ECHO)); /* twice, even */
    signer_join(&between);
    signer_release(&old);
    assert_int_equal(ask_outcome(&a), KBS_OK);
    signer_join(&old); /* closed once its answer had come */
    assert_int_equal(atomic_load(&old.answered), 1);
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    assert_int_equal(atomic_load(&new.answered), 1);
    (void)kbs_link_free(link);
    signer_join(&new);
}

/* Each thread's answers must be its own. */
static void *ask_many(void *arg)
{
    struct asker *a = arg;

    for (int i = 0; i < a->orders; i++) {
        uint32_t digest[8] = {a->seed, (uint32_t)i, a->seed ^ (uint32_t)i};
        const struct kbs_wire_sign_digest one = {.digest = kbs_span(digest, sizeof(digest))};
        struct kbs_buf answer = KBS_BUF(512);
        struct kbs_error err = KBS_ERROR_NONE;

        if (kbs_link_order(a->link, KBS_WIRE_SIGN_DIGEST, &one, LONG_MS, &answer, &err) != 0 ||
            !kbs_span_equal(kbs_buf_span(&answer), one.digest)) {
            a->failures++;
        }
        kbs_buf_deinit(&answer);
    }
    return NULL;
}

#define N_ASKERS 12
#define N_SIGNERS 3

static void test_many_threads(void **state)
{
    struct kbs_link *link = new_link(N_SIGNERS);
    struct asker askers[N_ASKERS];
    struct signer signers[N_SIGNERS];
    int answered = 0;
    (void)state;

    for (uint32_t i = 0; i < N_SIGNERS; i++) {
        attach(link, i, signer_start(&signers[i], NULL, SIGNER_ECHO));
    }
    for (unsigned int i = 0; i < N_ASKERS; i++) {
        askers[i] = (struct asker){.link = kbs_link_ref(link), .seed = i, .orders = 300};
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_many, &askers[i]), 0);
    }
    for (int i = 0; i < N_ASKERS; i++) {
        assert_int_equal(pthread_join(askers[i].thread, NULL), 0);
        assert_int_equal(askers[i].failures, 0);
        (void)kbs_link_free(link);
    }
    (void)kbs_link_free(link);
    for (int i = 0; i < N_SIGNERS; i++) {
        signer_join(&signers[i]);
        answered += atomic_load(&signers[i].answered);
    }
    assert_int_equal(answered, 300 * N_ASKERS);
}

/* Runs f in a child. Returns its exit status. */
static int in_child(int (*f)(struct kbs_link *link), struct kbs_link *link)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(f(link));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int child_is_refused(struct kbs_link *link)
{
    struct kbs_error err;
    uint64_t before = kbs_clock_mono_ns();

    if (order(link, LONG_MS, &err) != KBS_TOKEN_DOWN ||
        kbs_clock_mono_ns() - before > LONG_MS / 2 * KBS_NS_PER_MS) {
        return 1;
    }
    (void)kbs_link_free(link);
    return 0;
}

static int child_has_its_own(struct kbs_link *link)
{
    struct kbs_error err;
    struct signer s;

    attach(link, 0, signer_start(&s, NULL, SIGNER_ECHO));
    if (order(link, LONG_MS, &err) != KBS_OK) {
        return 1;
    }
    (void)kbs_link_free(link);
    signer_join(&s);
    return atomic_load(&s.answered) == 1 ? 0 : 2;
}

static int child_only_frees(struct kbs_link *link)
{
    (void)kbs_link_free(link);
    return 0;
}

/* While another thread waits for an answer, so that the lock and the channel have a state worth having. */
static void test_a_child_has_no_channel_of_its_parent(void **state)
{
    struct kbs_link *link = new_link(2);
    struct kbs_error err;
    struct asker a;
    struct asker waiting;
    struct signer held[2];
    (void)state;

    for (uint32_t i = 0; i < 2; i++) {
        attach(link, i, signer_start(&held[i], NULL, SIGNER_HOLD));
    }
    ask_aside(&a, link);
    signer_await(&held[0], 1);
    ask_aside(&waiting, link);
    signer_await(&held[1], 1);
    assert_int_equal(in_child(child_is_refused, link), 0);
    assert_int_equal(in_child(child_has_its_own, link), 0);
    assert_int_equal(in_child(child_only_frees, link), 0);
    signer_release(&held[0]);
    signer_release(&held[1]);
    assert_int_equal(ask_outcome(&a), KBS_OK);
    assert_int_equal(ask_outcome(&waiting), KBS_OK);
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    (void)kbs_link_free(link);
    signer_join(&held[0]);
    signer_join(&held[1]);
}

struct source {
    struct signer signers[4];
    unsigned int opened;
    bool fails;
    unsigned int freed;
};

static int source_open(void *self, uint64_t deadline_ns, int *ret_fd, struct kbs_error *err)
{
    struct source *s = self;

    assert_true(deadline_ns > kbs_clock_mono_ns());
    if (s->fails) {
        return kbs_fail(err, KBS_MISSING, "no worker today");
    }
    *ret_fd = signer_start(&s->signers[s->opened++], NULL, SIGNER_ECHO);
    return 0;
}

static void source_free(void *self)
{
    ((struct source *)self)->freed++;
}

static struct source *child_source;

static int child_opens_anew(struct kbs_link *link)
{
    struct kbs_error err;
    unsigned int before = child_source->opened;

    if (order(link, LONG_MS, &err) != KBS_OK || child_source->opened != before + 1) {
        return 1;
    }
    return atomic_load(&child_source->signers[before].answered) == 1 ? 0 : 2;
}

static void test_a_link_with_a_source(void **state)
{
    struct kbs_link *link = new_link(1);
    struct source source = {.fails = true};
    struct kbs_error err;
    (void)state;

    child_source = &source;
    kbs_link_set_source(
        link, &(struct kbs_link_source){.open = source_open, .free = source_free, .self = &source});
    assert_int_equal(order(link, LONG_MS, &err), KBS_MISSING);
    assert_string_equal(err.detail, "no worker today");
    source.fails = false;
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    assert_int_equal(source.opened, 1);
    signer_stop(&source.signers[0]); /* the worker dies: another one is brought */
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    assert_int_equal(source.opened, 2);
    assert_int_equal(in_child(child_opens_anew, link), 0);
    assert_int_equal(order(link, LONG_MS, &err), KBS_OK);
    assert_int_equal(source.opened, 2);
    (void)kbs_link_free(link);
    assert_int_equal(source.freed, 1);
    signer_join(&source.signers[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_order_is_answered),
        cmocka_unit_test(test_what_is_no_link),
        cmocka_unit_test(test_no_channel_in_time),
        cmocka_unit_test(test_misbehaviour),
        cmocka_unit_test(test_a_late_answer_is_nobodys),
        cmocka_unit_test(test_an_order_that_is_too_large_costs_no_channel),
        cmocka_unit_test(test_whoever_asks_waits_for_a_channel),
        cmocka_unit_test(test_a_channel_that_died_at_rest_is_not_used),
        cmocka_unit_test(test_a_channel_is_replaced_while_it_is_waited_on),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_a_child_has_no_channel_of_its_parent),
        cmocka_unit_test(test_a_link_with_a_source),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
