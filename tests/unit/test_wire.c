/* Unit tests of src/wire and src/channel: the schema, its bounds, and frames over real socketpairs.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "channel/channel.h"

static void a_message_survives_the_round_trip(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf params_buf = KBS_BUF(256);
    struct kbs_buf out = KBS_BUF(4096);
    struct kbs_wire_list_builder params = {.buf = &params_buf};
    struct kbs_wire_request in = {
        .route = 3, .target = KBS_SPAN_LIT("/x?y=z"), .body = KBS_SPAN_LIT("{}")};
    struct kbs_wire_request back;
    struct kbs_frame frame;
    struct kbs_span value;

    (void)state;
    kbs_wire_list_add_pair(&params, "tag", KBS_SPAN_LIT("v"));
    kbs_wire_list_add_pair(&params, "empty", KBS_SPAN_EMPTY);
    in.query = kbs_wire_list_done(&params);
    assert_int_equal(kbs_wire_encode(&out, KBS_WIRE_REQUEST, 5, 6, &in, &err), 0);
    assert_int_equal(kbs_wire_header_decode(out.p, &frame, &err), 0);
    assert_int_equal(frame.id, 5);
    assert_int_equal(kbs_wire_decode(frame.type,
                                     kbs_span_skip(kbs_buf_span(&out), KBS_WIRE_HEADER_BYTES),
                                     &back, &err),
                     0);
    assert_int_equal(back.route, 3);
    assert_true(kbs_span_equal_str(back.target, "/x?y=z"));
    assert_int_equal(back.params.count, 0);
    assert_true(kbs_wire_list_find(&back.query, "tag", &value));
    assert_true(kbs_span_equal_str(value, "v"));
    assert_true(kbs_wire_list_find(&back.query, "empty", &value));
    assert_int_equal(value.len, 0);
    assert_false(kbs_wire_list_find(&back.query, "v", &value));
    assert_true(kbs_span_equal_str(kbs_wire_list_at(&back.query, 2), "empty"));
    assert_int_equal(kbs_wire_list_at(&back.query, 4).len, 0);
    kbs_buf_deinit(&params_buf);
    kbs_buf_deinit(&out);
}

static void every_truncation_is_refused(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf out = KBS_BUF(4096);
    struct kbs_wire_result in = {.function = KBS_SPAN_LIT("C_WrapKey"),
                                 .body = KBS_SPAN_LIT("body")};
    struct kbs_wire_result back;
    struct kbs_span body;

    (void)state;
    assert_int_equal(kbs_wire_encode(&out, KBS_WIRE_RESULT, 1, 1, &in, &err), 0);
    body = kbs_span_skip(kbs_buf_span(&out), KBS_WIRE_HEADER_BYTES);
    for (size_t n = 0; n < body.len; n++) {
        assert_int_equal(kbs_wire_decode(KBS_WIRE_RESULT, kbs_span(body.p, n), &back, &err), -1);
    }
    kbs_buf_put_u8(&out, 0);
    body = kbs_span_skip(kbs_buf_span(&out), KBS_WIRE_HEADER_BYTES);
    assert_int_equal(kbs_wire_decode(KBS_WIRE_RESULT, body, &back, &err), -1);
    kbs_buf_deinit(&out);
}

static void headers_are_checked(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf out = KBS_BUF(256);
    struct kbs_frame frame;
    static const size_t corrupt[] = {3,  4, 6, 7,
                                     24, 31}; /* length, version, type, type, reserved, reserved */

    (void)state;
    assert_int_equal(kbs_wire_encode(&out, KBS_WIRE_GO, 1, 1, NULL, &err), 0);
    assert_int_equal(out.len, KBS_WIRE_HEADER_BYTES);
    for (size_t i = 0; i < sizeof(corrupt) / sizeof(corrupt[0]); i++) {
        out.p[corrupt[i]] ^= 0x80;
        assert_int_equal(kbs_wire_header_decode(out.p, &frame, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        out.p[corrupt[i]] ^= 0x80;
    }
    assert_int_equal(kbs_wire_header_decode(out.p, &frame, &err), 0);
    kbs_buf_deinit(&out);
}

static void caps_hold_when_sending(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf out = KBS_BUF(1 << 20);
    uint8_t *big = calloc(1, 8192);
    struct kbs_wire_release in = {.kid = kbs_span(big, 8192)};

    (void)state;
    assert_int_equal(kbs_wire_encode(&out, KBS_WIRE_RELEASE, 1, 1, &in, &err), -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    assert_int_equal(out.len, 0);
    free(big);
    kbs_buf_deinit(&out);
}

static void the_largest_body_passes_small_buffers(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg got = KBS_CHANNEL_MSG;
    struct kbs_wire_response in = {.status = 200};
    struct kbs_wire_response back;
    const size_t body_len = KBS_LIMIT_WIRE_BODY_BYTES - 64;
    uint8_t *body = malloc(body_len);
    int small = 4096;
    int fds[2];
    int status;
    pid_t child;

    (void)state;
    for (size_t i = 0; i < body_len; i++) {
        body[i] = (uint8_t)(i * 31);
    }
    in.body = kbs_span(body, body_len);
    assert_int_equal(kbs_channel_pair(fds, &err), 0);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    child = fork();
    if (child == 0) {
        _exit(kbs_channel_send(fds[0], KBS_WIRE_RESPONSE, 9, &in, -1, kbs_deadline_in_ms(30000),
                               &err) == 0
                  ? 0
                  : 1);
    }
    assert_int_equal(kbs_channel_recv(fds[1], &got, kbs_deadline_in_ms(30000), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&got, KBS_WIRE_RESPONSE, &back, &err), 0);
    assert_true(kbs_span_equal(back.body, in.body));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    kbs_channel_msg_deinit(&got);
    (void)close(fds[0]);
    (void)close(fds[1]);
    free(body);
}

static void a_descriptor_rides_along(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg got = KBS_CHANNEL_MSG;
    struct kbs_wire_attach in = {.what = KBS_ATTACH_PIN, .index = 3};
    struct kbs_wire_attach back;
    int fds[2];
    int p[2];
    char c = 0;

    (void)state;
    assert_int_equal(kbs_channel_pair(fds, &err), 0);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(
        kbs_channel_send(fds[0], KBS_WIRE_ATTACH, 1, &in, p[0], kbs_deadline_in_ms(1000), &err), 0);
    assert_int_equal(kbs_channel_recv(fds[1], &got, kbs_deadline_in_ms(1000), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&got, KBS_WIRE_ATTACH, &back, &err), 0);
    assert_int_equal(back.index, 3);
    assert_true(got.fd >= 0 && got.fd != p[0]);
    assert_int_equal(fcntl(got.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(write(p[1], "x", 1), 1);
    assert_int_equal(read(got.fd, &c, 1), 1);
    assert_int_equal(c, 'x');
    /* a descriptor where none belongs, and none where one belongs */
    assert_int_equal(
        kbs_channel_send(fds[0], KBS_WIRE_GO, 1, NULL, p[0], kbs_deadline_in_ms(1000), &err), 0);
    assert_int_equal(kbs_channel_recv(fds[1], &got, kbs_deadline_in_ms(1000), &err), -1);
    assert_int_equal(
        kbs_channel_send(fds[0], KBS_WIRE_ATTACH, 1, &in, -1, kbs_deadline_in_ms(1000), &err), 0);
    assert_int_equal(kbs_channel_recv(fds[1], &got, kbs_deadline_in_ms(1000), &err), -1);
    kbs_channel_msg_deinit(&got);
    for (size_t i = 0; i < 2; i++) {
        (void)close(fds[i]);
        (void)close(p[i]);
    }
}

static void silence_and_absence_are_told_apart(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg got = KBS_CHANNEL_MSG;
    struct kbs_wire_ack ack;
    struct kbs_wire_append append = {.kind = KBS_SPAN_LIT("open")};
    int fds[2];

    (void)state;
    assert_int_equal(kbs_channel_pair(fds, &err), 0);
    assert_int_equal(kbs_channel_recv(fds[1], &got, kbs_deadline_in_ms(1), &err), -1);
    assert_int_equal(err.category, KBS_DEADLINE);
    (void)close(fds[0]);
    assert_int_equal(kbs_channel_recv(fds[1], &got, kbs_deadline_in_ms(1000), &err),
                     KBS_CHANNEL_EOF);
    (void)signal(SIGPIPE, SIG_IGN);
    assert_int_equal(kbs_channel_call(fds[1], KBS_WIRE_APPEND, &append, KBS_WIRE_ACK, &ack, &got,
                                      kbs_deadline_in_ms(1000), &err),
                     -1);
    kbs_channel_msg_deinit(&got);
    (void)close(fds[1]);
}

/* Where the peer has its turn: one read, whatever the sizes, and nothing after the message. */
static void a_turn_is_one_message(void **state)
{
    static const size_t sizes[] = {0, 1, 4000, 5000, 60000, 10};
    static uint8_t bytes[60000];
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg got = KBS_CHANNEL_MSG;
    struct kbs_wire_response back;
    struct kbs_buf two = KBS_BUF(4096);
    int fds[2];

    (void)state;
    assert_int_equal(kbs_channel_pair(fds, &err), 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct kbs_wire_response response = {.status = 200, .body = kbs_span(bytes, sizes[i])};

        memset(bytes, (int)i, sizes[i]);
        assert_int_equal(kbs_channel_send(fds[0], KBS_WIRE_RESPONSE, i, &response, -1,
                                          kbs_deadline_in_ms(1000), &err),
                         0);
        assert_int_equal(kbs_channel_recv_turn(fds[1], &got, kbs_deadline_in_ms(1000), &err), 0);
        assert_int_equal(got.frame.id, i);
        assert_int_equal(kbs_channel_msg_decode(&got, KBS_WIRE_RESPONSE, &back, &err), 0);
        assert_true(kbs_span_equal(back.body, response.body));
    }
    assert_int_equal(kbs_channel_recv_turn(fds[1], &got, kbs_deadline_in_ms(1), &err), -1);
    assert_int_equal(err.category, KBS_DEADLINE);
    assert_int_equal(kbs_wire_encode(&two, KBS_WIRE_GO, 1, 0, NULL, &err), 0);
    assert_int_equal(send(fds[0], two.p, 20, 0), 20); /* a header in two parts */
    assert_int_equal(send(fds[0], two.p + 20, two.len - 20, 0), (ssize_t)two.len - 20);
    assert_int_equal(kbs_channel_recv_turn(fds[1], &got, kbs_deadline_in_ms(1000), &err), 0);
    assert_int_equal(got.frame.type, KBS_WIRE_GO);
    assert_int_equal(kbs_wire_encode(&two, KBS_WIRE_GO, 2, 0, NULL, &err), 0);
    assert_int_equal(send(fds[0], two.p, two.len, 0), (ssize_t)two.len);
    assert_int_equal(kbs_channel_recv_turn(fds[1], &got, kbs_deadline_in_ms(1000), &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_int_equal(
        kbs_channel_send(fds[0], KBS_WIRE_GO, 1, NULL, fds[0], kbs_deadline_in_ms(1000), &err), 0);
    assert_int_equal(kbs_channel_recv_turn(fds[1], &got, kbs_deadline_in_ms(1000), &err), -1);
    assert_int_equal(err.category, KBS_INPUT); /* it lacks the right to bring a descriptor */
    kbs_channel_msg_deinit(&got);
    kbs_buf_deinit(&two);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* A peer that does not read: the deadline holds although the socket blocks. */
static void a_deadline_holds_when_sending(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf body = KBS_BUF(2u << 20);
    struct kbs_wire_response response = {.status = 200};
    int fds[2];

    (void)state;
    assert_non_null(kbs_buf_reserve(&body, body.max));
    memset(body.p, 'x', body.max);
    kbs_buf_commit(&body, body.max);
    response.body = kbs_buf_span(&body);
    assert_int_equal(kbs_channel_pair(fds, &err), 0);
    assert_int_equal(
        kbs_channel_send(fds[0], KBS_WIRE_RESPONSE, 1, &response, -1, kbs_deadline_in_ms(20), &err),
        -1);
    assert_int_equal(err.category, KBS_DEADLINE);
    (void)close(fds[0]);
    (void)close(fds[1]);
    kbs_buf_deinit(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_survives_the_round_trip),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(caps_hold_when_sending),
        cmocka_unit_test(the_largest_body_passes_small_buffers),
        cmocka_unit_test(a_descriptor_rides_along),
        cmocka_unit_test(a_turn_is_one_message),
        cmocka_unit_test(silence_and_absence_are_told_apart),
        cmocka_unit_test(a_deadline_holds_when_sending),
    };

    return cmocka_run_group_tests_name("unit_wire", tests, NULL, NULL);
}
