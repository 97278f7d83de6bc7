/*
 * One order at a time from the judge, as a closed list per duty; anything else on either channel
 * means that the peer is compromised, and the worker ends. So does the worker whose token is gone:
 * it answers the order at hand with TOKEN_DOWN and exits, and kbsd replaces the lane.
 *
 * An operation of weight leaves a deed in the ledger, durable before its RESULT (hsm/deed.c), and
 * does not begin while the last deed is not durable.
 *
 * An error that may be the device's or the order's (GENERAL_ERROR) is settled by a self-test: if
 * the token still works, the order failed and the lane lives on. Otherwise one guest could have
 * lanes restarted at will.
 *
 * An order whose deadline has passed is not begun: whoever asked has given up, and a token call
 * cannot be cancelled. A call that hangs is kbsd's and the judge's business; nothing inside this
 * process can stop it.
 */
#include "hsm/serve.h"

#include <errno.h>
#include <poll.h>

#include "base/log.h"
#include "channel/channel.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "hsm/keys.h"
#include "hsm/release.h"

/* serve_fn: the message does not decode: the peer breaks the protocol. */
#define SERVE_MALFORMED 1

/* Fills in *deed as far as the order can be read, also when it is refused. */
typedef int serve_fn(struct kbs_worker *w, const struct kbs_channel_msg *m, struct kbs_deed *deed,
                     struct kbs_answer *ret, struct kbs_error *err);

static void deed_key(struct kbs_deed *deed, struct kbs_span key_id, uint32_t version)
{
    if (key_id.len == KBS_KEY_ID_BYTES) {
        kbs_cka_id(key_id.p, version, deed->cka_id);
        deed->has_cka_id = true;
    }
}

static int order_id_check(struct kbs_span order, struct kbs_error *err)
{
    return order.len == KBS_LIMIT_ORDER_BYTES
               ? 0
               : kbs_fail(err, KBS_INPUT, "the order's id has %zu bytes", order.len);
}

static int serve_release(struct kbs_worker *w, const struct kbs_channel_msg *m,
                         struct kbs_deed *deed, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_wire_release order;

    if (kbs_channel_msg_decode(m, KBS_WIRE_RELEASE, &order, err) != 0) {
        return SERVE_MALFORMED;
    }
    deed->op = "release";
    deed->order = order.order;
    deed->kid = order.kid;
    deed_key(deed, order.key_id, order.key_version);
    if (order_id_check(order.order, err) != 0) {
        return -1;
    }
    return kbs_release(&w->token, &w->ladder, w->cache, &order, ret, err);
}

static int serve_sign_ear(struct kbs_worker *w, const struct kbs_channel_msg *m,
                          struct kbs_deed *deed, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_wire_sign_ear order;

    if (kbs_channel_msg_decode(m, KBS_WIRE_SIGN_EAR, &order, err) != 0) {
        return SERVE_MALFORMED;
    }
    (void)deed; /* any number of tokens opens nothing */
    return kbs_sign_ear(&w->signer, &w->token, &order, ret, err);
}

static int serve_generate(struct kbs_worker *w, const struct kbs_channel_msg *m,
                          struct kbs_deed *deed, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_wire_generate order;

    if (kbs_channel_msg_decode(m, KBS_WIRE_GENERATE, &order, err) != 0) {
        return SERVE_MALFORMED;
    }
    deed->op = "generate";
    deed->order = order.order;
    if (order.purpose == KBS_PURPOSE_RELEASE) {
        deed->kid = order.label;
        deed_key(deed, order.key_id, order.key_version);
    } else if (order.purpose < KBS_PURPOSE_COUNT) {
        deed->kid = kbs_span_str(kbs_purpose_name((enum kbs_purpose)order.purpose));
    }
    if (order_id_check(order.order, err) != 0) {
        return -1;
    }
    return kbs_keys_generate(&w->token, &order, ret, err);
}

static int serve_import(struct kbs_worker *w, const struct kbs_channel_msg *m,
                        struct kbs_deed *deed, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_wire_import order;

    if (kbs_channel_msg_decode(m, KBS_WIRE_IMPORT, &order, err) != 0) {
        return SERVE_MALFORMED;
    }
    deed->op = "import";
    deed->order = order.order;
    deed->kid = order.label;
    deed_key(deed, order.key_id, order.key_version);
    if (order_id_check(order.order, err) != 0) {
        return -1;
    }
    return kbs_keys_import(&w->token, &w->ladder, &order, ret, err);
}

static int serve_sign_row(struct kbs_worker *w, const struct kbs_channel_msg *m,
                          struct kbs_deed *deed, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_wire_sign_row order;

    if (kbs_channel_msg_decode(m, KBS_WIRE_SIGN_ROW, &order, err) != 0) {
        return SERVE_MALFORMED;
    }
    deed->op = "sign-row";
    deed->has_row = true;
    kbs_sign_row_digest(order.content, deed->row);
    return kbs_sign_row(&w->row_signer, &w->token, &order, ret, err);
}

static int serve_sign_head(struct kbs_worker *w, const struct kbs_channel_msg *m,
                           struct kbs_deed *deed, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_wire_sign_head order;

    if (kbs_channel_msg_decode(m, KBS_WIRE_SIGN_HEAD, &order, err) != 0) {
        return SERVE_MALFORMED;
    }
    (void)deed; /* it would move the head; a head that is not the ledger's is found by its reader */
    return kbs_sign_head(&w->head_signer, &w->token, &order, ret, err);
}

/* The operation lists. DESCRIBE is on both and answered by a message of its own. */
static const struct operation {
    enum kbs_wire_type type;
    bool on_release_list; /* everything here is on the admin list */
    bool has_weight;      /* leaves a deed */
    serve_fn *serve;
} operations[] = {
    {KBS_WIRE_RELEASE, true, true, serve_release},
    {KBS_WIRE_SIGN_EAR, true, false, serve_sign_ear},
    {KBS_WIRE_GENERATE, false, true, serve_generate},
    {KBS_WIRE_IMPORT, false, true, serve_import},
    {KBS_WIRE_SIGN_ROW, false, true, serve_sign_row},
    {KBS_WIRE_SIGN_HEAD, false, false, serve_sign_head},
};

static const struct operation *serve_find(enum kbs_duty duty, enum kbs_wire_type type)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (operations[i].type == type &&
            (operations[i].on_release_list || duty == KBS_DUTY_ADMIN)) {
            return &operations[i];
        }
    }
    return NULL;
}

/*
 * What an error means for the worker: true if it must end. Settles ambiguous errors by a self-test
 * and corrects the category that the judge will see.
 */
static bool serve_is_fatal(struct kbs_worker *w, struct kbs_error *err)
{
    struct kbs_error selftest = KBS_ERROR_NONE;
    CK_RV rv = kbs_ckr_of(err);

    if (err->category == KBS_UNPROCESSABLE) {
        return false; /* the caller's fault, found out by a self-test of the operation itself */
    }
    if (kbs_ckr_class(rv) == KBS_CKR_AMBIGUOUS) {
        if (kbs_token_selftest(&w->token, &selftest) != 0) {
            return true;
        }
        err->category = KBS_INTERNAL;
    }
    return kbs_ckr_is_fatal(rv);
}

static int serve_result(struct kbs_worker *w, const struct kbs_frame *frame,
                        const struct kbs_answer *answer, const struct kbs_error *failure,
                        struct kbs_error *err)
{
    struct kbs_wire_result result = {
        .category = (uint8_t)failure->category,
        .ckr = kbs_ckr_of(failure),
        .serial = kbs_span_str(w->token.serial),
    };

    if (failure->category == KBS_OK) {
        result.rung = kbs_span_str(answer->rung);
        result.locality = (uint8_t)answer->locality;
        result.format = (uint8_t)answer->format;
        result.body = kbs_buf_span(&answer->body);
    } else {
        result.detail = kbs_span_str(failure->detail);
        result.function = kbs_span_str(result.ckr != CKR_OK ? failure->func : "");
    }
    return kbs_channel_send(w->judge_fd, KBS_WIRE_RESULT, frame->id, &result, -1,
                            kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
}

/* The deed, as soon as the operation is over and before anybody else knows. */
static int serve_deed(struct kbs_worker *w, const struct kbs_deed *deed,
                      const struct kbs_answer *answer, const struct kbs_error *failure,
                      struct kbs_error *err)
{
    const struct kbs_deed_outcome outcome = {.category = failure->category,
                                             .rung = answer->rung,
                                             .locality = answer->locality,
                                             .format = answer->format,
                                             .token_class = w->token.quirk->class,
                                             .serial = w->token.serial};

    return kbs_deeds_record(&w->deeds, deed, &outcome, err);
}

static int serve_order(struct kbs_worker *w, const struct kbs_channel_msg *m,
                       const struct operation *operation, struct kbs_error *err)
{
    struct kbs_answer answer = KBS_ANSWER;
    struct kbs_deed deed = {.op = NULL};
    struct kbs_error deed_err = KBS_ERROR_NONE;
    struct kbs_error failure = KBS_ERROR_NONE;
    bool fatal = false;
    int rc = 0;

    if (m->frame.deadline_ns <= kbs_clock_mono_ns()) {
        (void)kbs_fail(&failure, KBS_DEADLINE,
                       "the order's deadline had passed before it was begun");
    } else if (operation->has_weight && kbs_deeds_settle(&w->deeds, &failure) != 0) {
        fatal = failure.category == KBS_TOKEN_DOWN;
    } else {
        rc = operation->serve(w, m, &deed, &answer, &failure);
    }
    if (rc == SERVE_MALFORMED) {
        kbs_buf_deinit(&answer.body);
        *err = failure;
        return -1;
    }
    if (rc != 0) {
        fatal = serve_is_fatal(w, &failure);
    }
    if (w->token.destroy_failures > 0) {
        fatal = true;
        (void)kbs_fail(&failure, KBS_TOKEN_DOWN, "a session object could not be destroyed");
    }
    if (fatal) {
        failure.category = KBS_TOKEN_DOWN;
    }
    if (serve_deed(w, &deed, &answer, &failure, &deed_err) != 0) {
        fatal = fatal || deed_err.category == KBS_TOKEN_DOWN;
        failure = deed_err; /* what was made is not answered */
    }
    if (failure.category >= KBS_BUSY) {
        kbs_log_error("order-failed", &failure);
    }
    rc = serve_result(w, &m->frame, &answer, &failure, err);
    kbs_buf_deinit(&answer.body);
    if (rc == 0 && fatal) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the token cannot be used any more");
    }
    return rc;
}

/* The uncompressed point of a service key, or nothing where there is none. */
static int serve_service_point(struct kbs_worker *w, enum kbs_purpose purpose, struct kbs_buf *out,
                               struct kbs_error *err)
{
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    uint8_t bytes[KBS_EC_POINT_MAX_BYTES];
    struct kbs_ec_public point;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    kbs_keys_service_id(purpose, cka_id);
    if (kbs_object_find(&w->token, CKO_PUBLIC_KEY, cka_id, &object, err) != 0) {
        if (err->category != KBS_MISSING) {
            return -1;
        }
        *err = KBS_ERROR_NONE;
        return 0;
    }
    if (kbs_object_ec_point(&w->token, object, KBS_CURVE_P256, &point, err) != 0) {
        return -1;
    }
    kbs_buf_put(out, bytes, kbs_ec_point_put(&point, bytes));
    return kbs_buf_check(out, "a public key", err);
}

static int serve_describe(struct kbs_worker *w, const struct kbs_frame *frame,
                          struct kbs_error *err)
{
    struct kbs_buf rungs = KBS_BUF(256);
    struct kbs_buf sign = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    struct kbs_buf import = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    struct kbs_buf row = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    struct kbs_buf head = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    struct kbs_wire_list_builder list = {.buf = &rungs};
    struct kbs_wire_described described = {
        .manufacturer = kbs_span_str(w->token.manufacturer),
        .model = kbs_span_str(w->token.model),
        .serial = kbs_span_str(w->token.serial),
        .token_class = (uint8_t)w->token.quirk->class,
    };
    int rc = -1;

    for (size_t i = 0; i < KBS_RUNG_COUNT; i++) {
        if (kbs_ladder_passed(&w->ladder, i)) {
            kbs_wire_list_add(&list, kbs_span_str(kbs_rungs[i].name));
        }
    }
    if (serve_service_point(w, KBS_PURPOSE_SIGN_TOKEN, &sign, err) == 0 &&
        serve_service_point(w, KBS_PURPOSE_IMPORT, &import, err) == 0 &&
        serve_service_point(w, KBS_PURPOSE_SIGN_ROW, &row, err) == 0 &&
        serve_service_point(w, KBS_PURPOSE_SIGN_HEAD, &head, err) == 0) {
        described.rungs = kbs_wire_list_done(&list);
        described.sign_public = kbs_buf_span(&sign);
        described.import_public = kbs_buf_span(&import);
        described.row_public = kbs_buf_span(&row);
        described.head_public = kbs_buf_span(&head);
        rc = kbs_channel_send(w->judge_fd, KBS_WIRE_DESCRIBED, frame->id, &described, -1,
                              kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
    }
    kbs_buf_deinit(&rungs);
    kbs_buf_deinit(&sign);
    kbs_buf_deinit(&import);
    kbs_buf_deinit(&row);
    kbs_buf_deinit(&head);
    return rc;
}

/* One message from the judge. 0, KBS_CHANNEL_EOF, or -1. */
static int serve_judge(struct kbs_worker *w, struct kbs_channel_msg *m, struct kbs_error *err)
{
    int rc = kbs_channel_recv_turn(w->judge_fd, m, kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
    const struct operation *operation;

    if (rc != 0) {
        return rc;
    }
    if (m->frame.type == KBS_WIRE_DESCRIBE) {
        return serve_describe(w, &m->frame, err);
    }
    operation = serve_find(w->duty, m->frame.type);
    if (operation == NULL) {
        return kbs_fail(err, KBS_DENIED, "the judge sent %s, which is not on the list of duty %s",
                        kbs_wire_type_name(m->frame.type), kbs_duty_name(w->duty));
    }
    return serve_order(w, m, operation, err);
}

/* One message from kbsd. KBS_CHANNEL_EOF also for DRAIN: nothing is in flight between two orders.
 * */
static int serve_control(struct kbs_worker *w, struct kbs_channel_msg *m, struct kbs_error *err)
{
    int rc = kbs_channel_recv(w->control_fd, m, kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);

    if (rc != 0) {
        return rc;
    }
    if (m->frame.type != KBS_WIRE_DRAIN) {
        return kbs_fail(err, KBS_DENIED, "kbsd sent %s to a token worker that serves",
                        kbs_wire_type_name(m->frame.type));
    }
    return KBS_CHANNEL_EOF;
}

int kbs_serve(struct kbs_worker *w, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int rc = 0;

    while (rc == 0) {
        struct pollfd fds[3] = {{.fd = w->control_fd, .events = POLLIN},
                                {.fd = w->judge_fd, .events = POLLIN},
                                {.fd = w->deeds.fd, .events = POLLIN}};

        if (poll(fds, 3, -1) < 0) {
            rc = errno == EINTR ? 0 : kbs_fail_errno(err, KBS_INTERNAL, "poll failed");
        } else if (fds[0].revents != 0) {
            rc = serve_control(w, &m, err);
        } else if (fds[2].revents != 0) {
            rc = kbs_deeds_lost(err);
        } else {
            rc = serve_judge(w, &m, err);
        }
    }
    if (rc == KBS_CHANNEL_EOF && kbs_deeds_settle(&w->deeds, err) != 0) {
        rc = -1; /* the last deed may not be on the disk: said in the log */
    }
    kbs_channel_msg_deinit(&m);
    return rc < 0 ? -1 : 0;
}
