/*
 * One order at a time from the judge, as a closed list per duty (hsm/orders.c); anything else on
 * either channel means that the peer is compromised, and the worker ends. So does the worker whose
 * token is gone: it answers the order at hand with TOKEN_DOWN and exits, and kbsd replaces the
 * lane.
 *
 * An operation of weight leaves a deed in the ledger, durable before its RESULT (hsm/deed.c), and
 * does not begin while the last deed is not durable.
 *
 * What a failed PKCS#11 call means is hsm/ckr.c's to say. A handle that went stale (the key was
 * destroyed, or made anew, by another lane) empties what is remembered, and the order is done once
 * more; no order changes anything before it can no longer fail. An error that may be the device's
 * or the order's (GENERAL_ERROR) is settled by a self-test: if the token still works, the order
 * failed and the lane lives on. Otherwise one guest could have lanes restarted at will.
 *
 * An order whose deadline has passed is not begun: whoever asked has given up, and a token call
 * cannot be cancelled. A call that hangs is kbsd's and the judge's business; nothing inside this
 * process can stop it.
 *
 * A token that leaks what its destroyed session objects held (quirk) would eat the machine's memory
 * in days. The worker counts objects, and at a limit says WORN, once, and serves on: kbsd replaces
 * the lane when no request is in it. One that is not replaced ends between two orders when it has
 * made twice as many, as if drained: memory goes before a request.
 */
#include "hsm/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>

#include "base/log.h"
#include "channel/channel.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "hsm/receive.h"
#include "hsm/service.h"

static void serve_answer_clear(struct kbs_answer *a)
{
    kbs_buf_clear(&a->body);
    kbs_buf_clear(&a->receipt);
    a->rung = "";
    a->locality = KBS_LOCALITY_NONE;
    a->format = KBS_FORMAT_NONE;
    a->note[0] = '\0';
}

/* The order's act, twice if its handles were stale. */
static int serve_act(struct kbs_worker *w, const struct kbs_operation *operation,
                     const union kbs_order *order, struct kbs_answer *answer, struct kbs_error *err)
{
    int rc = operation->act(w, order, answer, err);

    if (rc != 0 && kbs_ckr_action(kbs_ckr_class(err, w->token.quirk)) == KBS_CKR_LOOK_AGAIN) {
        kbs_handles_forget(&w->token);
        serve_answer_clear(answer);
        *err = KBS_ERROR_NONE;
        rc = operation->act(w, order, answer, err);
    }
    return rc;
}

/*
 * What an error means for the worker: true if it must end. Settles by a self-test what may be the
 * token's fault, and corrects the category that the judge will see.
 */
static bool serve_is_fatal(struct kbs_worker *w, struct kbs_error *err)
{
    struct kbs_error selftest = KBS_ERROR_NONE;

    if (err->category == KBS_UNPROCESSABLE) {
        return false; /* the caller's fault, found out by a self-test of the operation itself */
    }
    switch (kbs_ckr_action(kbs_ckr_class(err, w->token.quirk))) {
    case KBS_CKR_SELF_TEST:
    case KBS_CKR_BLAME_BYTES: /* bytes of our own making did not open */
        if (kbs_token_selftest(&w->token, &selftest) != 0) {
            return true;
        }
        err->category = KBS_INTERNAL;
        return false;
    case KBS_CKR_REPLACE_WORKER:
    case KBS_CKR_LATCH:
        return true;
    case KBS_CKR_NOTHING:
    case KBS_CKR_FAIL_ORDER:
    case KBS_CKR_LOOK_AGAIN:
    case KBS_CKR_TRY_LATER:
        return false;
    }
    return false;
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
        result.detail = kbs_span_str(answer->note);
        result.rung = kbs_span_str(answer->rung);
        result.locality = (uint8_t)answer->locality;
        result.format = (uint8_t)answer->format;
        result.body = kbs_buf_span(&answer->body);
        result.receipt = kbs_buf_span(&answer->receipt);
    } else {
        result.detail = kbs_span_str(failure->detail);
        result.function = kbs_span_str(result.ckr != CKR_OK ? failure->func : "");
    }
    return kbs_channel_send(w->judge_fd, KBS_WIRE_RESULT, frame->id, &result, -1,
                            kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
}

/* The deed of an order, when it is over and before anybody else knows. */
static int serve_deed(struct kbs_worker *w, const struct kbs_deed *deed,
                      const struct kbs_answer *answer, const struct kbs_error *failure,
                      struct kbs_error *err)
{
    const struct kbs_deed_outcome outcome = {.category = failure->category,
                                             .rung = answer->rung,
                                             .locality = answer->locality,
                                             .format = answer->format,
                                             .token_class = w->token.quirk->class,
                                             .serial = w->token.serial,
                                             .receipt = kbs_buf_span(&answer->receipt)};

    return kbs_deeds_record(&w->deeds, deed, &outcome, err);
}

/* Does the order, or refuses it; what came of it is in *failure. True if the worker must end. */
static bool serve_do(struct kbs_worker *w, const struct kbs_frame *frame,
                     const struct kbs_operation *operation, const union kbs_order *order,
                     struct kbs_deed *deed, struct kbs_answer *answer, struct kbs_error *failure)
{
    bool fatal = false;

    if (frame->deadline_ns <= kbs_clock_mono_ns()) {
        (void)kbs_fail(failure, KBS_DEADLINE,
                       "the order's deadline had passed before it was begun");
        return false;
    }
    if (operation->deed != NULL && kbs_deeds_settle(&w->deeds, failure) != 0) {
        return failure->category == KBS_TOKEN_DOWN;
    }
    if (operation->deed != NULL) {
        deed->op = operation->deed;
        operation->describe(order, deed);
    }
    if (deed->op != NULL && !deed->has_row && deed->order.len != KBS_LIMIT_ORDER_BYTES) {
        (void)kbs_fail(failure, KBS_INPUT, "the order's id has %zu bytes", deed->order.len);
    } else if (serve_act(w, operation, order, answer, failure) != 0) {
        fatal = serve_is_fatal(w, failure);
    }
    if (w->token.destroy_failures > 0) {
        fatal = true;
        (void)kbs_fail(failure, KBS_TOKEN_DOWN, "a session object could not be destroyed");
    }
    if (fatal) {
        failure->category = KBS_TOKEN_DOWN;
    }
    return fatal;
}

/* The order from its message to its RESULT. What the message held (a SEAL's plaintext) is wiped. */
static int serve_order(struct kbs_worker *w, struct kbs_channel_msg *m,
                       const struct kbs_operation *operation, struct kbs_error *err)
{
    union kbs_order order;
    struct kbs_answer answer = KBS_ANSWER;
    struct kbs_deed deed = {.op = NULL};
    struct kbs_error deed_err = KBS_ERROR_NONE;
    struct kbs_error failure = KBS_ERROR_NONE;
    bool fatal;
    int rc;

    if (kbs_channel_msg_decode(m, operation->type, &order, err) != 0) {
        return -1; /* the peer breaks the protocol */
    }
    fatal = serve_do(w, &m->frame, operation, &order, &deed, &answer, &failure);
    if (failure.category == KBS_OK) {
        kbs_operation_deed_done(operation, kbs_buf_span(&answer.body), &deed);
    }
    if (serve_deed(w, &deed, &answer, &failure, &deed_err) != 0) {
        fatal = fatal || deed_err.category == KBS_TOKEN_DOWN;
        failure = deed_err; /* what was made is not answered */
    }
    kbs_cleanse(m->body.p, m->body.len); /* not sooner: a stale handle has the order done twice */
    if (failure.category >= KBS_BUSY) {
        kbs_log_error("order-failed", &failure);
    }
    rc = serve_result(w, &m->frame, &answer, &failure, err);
    kbs_buf_deinit(&answer.body);
    kbs_buf_deinit(&answer.receipt);
    if (rc == 0 && fatal) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the token cannot be used any more");
    }
    return rc;
}

/* ---- DESCRIBE ---- */

/* The public keys that a judge publishes or verifies with. */
struct serve_points {
    struct kbs_buf import;
    struct kbs_buf row;
    struct kbs_buf head;
    struct kbs_buf seal;
    struct kbs_buf receipt;
    struct kbs_buf request;
};

static int serve_points_get(struct kbs_worker *w, struct serve_points *p, uint32_t seal_version,
                            struct kbs_error *err)
{
    struct kbs_token *t = &w->token;

    if (kbs_service_point(t, KBS_PURPOSE_IMPORT, 1, &p->import, err) != 0 ||
        kbs_service_point(t, KBS_PURPOSE_SIGN_ROW, 1, &p->row, err) != 0 ||
        kbs_service_point(t, KBS_PURPOSE_SIGN_HEAD, 1, &p->head, err) != 0 ||
        kbs_service_point(t, KBS_PURPOSE_SIGN_RECEIPT, 1, &p->receipt, err) != 0 ||
        kbs_service_point(t, KBS_PURPOSE_REQUEST, 1, &p->request, err) != 0) {
        return -1;
    }
    return seal_version == 0 ? 0
                             : kbs_service_point(t, KBS_PURPOSE_SEAL, seal_version, &p->seal, err);
}

/*
 * A public half is an object of its own, which another may stand in for: what is sealed or wrapped
 * to that one, its owner can read. One that is not the private key's is not told. Only an
 * administrator's client seals and wraps, so guest lanes do not look; guests encrypt requests.
 */
static int serve_prove(struct kbs_worker *w, enum kbs_purpose purpose, uint32_t version,
                       struct kbs_buf *point, uint32_t *proven, struct kbs_error *err)
{
    struct kbs_ec_public key;
    bool ok = false;

    if ((w->duty != KBS_DUTY_ADMIN && purpose != KBS_PURPOSE_REQUEST) || point->len == 0 ||
        *proven == version) {
        return 0;
    }
    if (kbs_ec_point_get(KBS_CURVE_P256, kbs_buf_span(point), &key, err) != 0) {
        return -1;
    }
    if (kbs_receive_prove(&w->token, &w->ladder, purpose, version, &key, &ok, err) != 0) {
        if (kbs_ckr_is_fatal(err, w->token.quirk) || err->category == KBS_BUSY) {
            return -1;
        }
        kbs_log_error("public-half-unproven", err); /* and nothing opens by that road */
        *err = KBS_ERROR_NONE;
        return 0;
    }
    if (ok) {
        *proven = version;
        return 0;
    }
    kbs_log(KBS_LOG_ERROR, "public-half-foreign",
            "purpose=%s version=%u why=\"it is not the private key's: it is not told to anybody\"",
            kbs_purpose_name(purpose), (unsigned int)version);
    kbs_buf_clear(point);
    return 0;
}

static void serve_points_deinit(struct serve_points *p)
{
    kbs_buf_deinit(&p->import);
    kbs_buf_deinit(&p->row);
    kbs_buf_deinit(&p->head);
    kbs_buf_deinit(&p->seal);
    kbs_buf_deinit(&p->receipt);
    kbs_buf_deinit(&p->request);
}

/* The versions of a key that signs, as the token has them now. */
static int serve_sign_keys(struct kbs_worker *w, struct kbs_sign_keys *keys,
                           struct kbs_wire_list_builder *list, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(256);
    int rc = kbs_sign_keys_look(keys, &w->token, err);

    for (size_t i = 0; rc == 0 && i < keys->n; i++) {
        const struct kbs_signer *signer = &keys->signers[i];
        uint8_t point[KBS_EC_POINT_MAX_BYTES];
        const struct kbs_wire_sign_key key = {
            .version = signer->version,
            .curve = (uint8_t)signer->public_key.curve,
            .from_s = signer->from_s,
            .point = kbs_span(point, kbs_ec_point_put(&signer->public_key, point))};

        kbs_buf_clear(&body);
        rc = kbs_wire_body_put(&body, KBS_WIRE_SIGN_KEY, &key, err);
        kbs_wire_list_add(list, kbs_buf_span(&body));
    }
    kbs_buf_deinit(&body);
    return rc;
}

static int serve_describe_once(struct kbs_worker *w, const struct kbs_frame *frame,
                               struct kbs_error *err)
{
    struct serve_points points = {
        .import = KBS_BUF(KBS_EC_POINT_MAX_BYTES),
        .row = KBS_BUF(KBS_EC_POINT_MAX_BYTES),
        .head = KBS_BUF(KBS_EC_POINT_MAX_BYTES),
        .seal = KBS_BUF(KBS_EC_POINT_MAX_BYTES),
        .receipt = KBS_BUF(KBS_EC_POINT_MAX_BYTES),
        .request = KBS_BUF(KBS_EC_POINT_MAX_BYTES),
    };
    struct kbs_buf rungs = KBS_BUF(512);
    struct kbs_buf sign_keys = KBS_BUF(KBS_LIMIT_SIGN_VERSIONS * 256);
    struct kbs_wire_list_builder list = {.buf = &rungs};
    struct kbs_wire_list_builder signs = {.buf = &sign_keys};
    struct kbs_buf tls_keys = KBS_BUF(KBS_LIMIT_SIGN_VERSIONS * 256);
    struct kbs_wire_list_builder tls = {.buf = &tls_keys};
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
    if (kbs_service_newest(&w->token, KBS_PURPOSE_SEAL, &described.seal_version, err) == 0 &&
        kbs_service_newest(&w->token, KBS_PURPOSE_WRAP_CATALOG, &described.wrap_version, err) ==
            0 &&
        serve_points_get(w, &points, described.seal_version, err) == 0 &&
        serve_sign_keys(w, &w->sign_keys, &signs, err) == 0 &&
        (w->duty != KBS_DUTY_ADMIN || serve_sign_keys(w, &w->tls_keys, &tls, err) == 0) &&
        serve_prove(w, KBS_PURPOSE_REQUEST, 1, &points.request, &w->proven_request, err) == 0 &&
        serve_prove(w, KBS_PURPOSE_IMPORT, 1, &points.import, &w->proven_import, err) == 0 &&
        serve_prove(w, KBS_PURPOSE_SEAL, described.seal_version, &points.seal, &w->proven_seal,
                    err) == 0) {
        described.rungs = kbs_wire_list_done(&list);
        described.sign_keys = kbs_wire_list_done(&signs);
        described.tls_keys = kbs_wire_list_done(&tls);
        described.import_public = kbs_buf_span(&points.import);
        described.row_public = kbs_buf_span(&points.row);
        described.head_public = kbs_buf_span(&points.head);
        described.seal_public = kbs_buf_span(&points.seal);
        described.receipt_public = kbs_buf_span(&points.receipt);
        described.request_public = kbs_buf_span(&points.request);
        rc = kbs_channel_send(w->judge_fd, KBS_WIRE_DESCRIBED, frame->id, &described, -1,
                              kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
    }
    kbs_buf_deinit(&rungs);
    kbs_buf_deinit(&sign_keys);
    kbs_buf_deinit(&tls_keys);
    serve_points_deinit(&points);
    return rc;
}

/* Twice, if handles were stale: another lane makes and destroys keys. */
static int serve_describe(struct kbs_worker *w, const struct kbs_frame *frame,
                          struct kbs_error *err)
{
    int rc = serve_describe_once(w, frame, err);

    if (rc != 0 && kbs_ckr_action(kbs_ckr_class(err, w->token.quirk)) == KBS_CKR_LOOK_AGAIN) {
        kbs_handles_forget(&w->token);
        *err = KBS_ERROR_NONE;
        rc = serve_describe_once(w, frame, err);
    }
    return rc;
}

/* ---- the loop ---- */

/* One message from the judge. 0, KBS_CHANNEL_EOF, or -1. */
static int serve_judge(struct kbs_worker *w, struct kbs_channel_msg *m, struct kbs_error *err)
{
    int rc = kbs_channel_recv_turn(w->judge_fd, m, kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
    const struct kbs_operation *operation;

    if (rc != 0) {
        return rc;
    }
    if (m->frame.type == KBS_WIRE_DESCRIBE) {
        return serve_describe(w, &m->frame, err);
    }
    operation = kbs_operation_find(w->duty, m->frame.type);
    if (operation == NULL) {
        return kbs_fail(err, KBS_DENIED, "the judge sent %s, which is not on the list of duty %s",
                        kbs_wire_type_name(m->frame.type), kbs_duty_name(w->duty));
    }
    return serve_order(w, m, operation, err);
}

/* After every order: what a token that leaks has cost so far. 0 to serve on, KBS_CHANNEL_EOF, or -1. */
static int serve_wear(struct kbs_worker *w, struct kbs_error *err)
{
    uint64_t made = w->token.objects_made;

    if (!w->token.quirk->leaks_objects || made < w->worn_objects) {
        return 0;
    }
    if (made >= 2 * w->worn_objects) {
        kbs_log(KBS_LOG_WARN, "worn-out", "objects=%" PRIu64 " why=\"kbsd has not replaced it\"",
                made);
        return KBS_CHANNEL_EOF;
    }
    if (w->worn) {
        return 0;
    }
    w->worn = true;
    kbs_log(KBS_LOG_INFO, "worn",
            "objects=%" PRIu64 " why=\"this token keeps memory of every session object\"", made);
    return kbs_channel_send(w->control_fd, KBS_WIRE_WORN, 0, NULL, -1,
                            kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
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
            if (rc == 0) {
                rc = serve_wear(w, err);
            }
        }
    }
    if (rc == KBS_CHANNEL_EOF && kbs_deeds_settle(&w->deeds, err) != 0) {
        rc = -1; /* the last deed may not be on the disk: said in the log */
    }
    kbs_channel_msg_deinit(&m);
    return rc < 0 ? -1 : 0;
}
