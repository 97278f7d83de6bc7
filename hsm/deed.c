/*
 * The problem: a judge that runs an attacker's code orders releases and records nothing, or records
 * something else. The approach: the worker says itself what it did, on a channel of its own, and
 * says it before it answers the judge. What send(2) has taken is in kbs-audit's socket, and is
 * written even if judge and worker die in the next moment.
 *
 * Its ACK is not awaited there: the judge's own record, which follows, shares the disk's time. It
 * is collected before the next operation of weight, so that at most one deed per lane is ever not
 * durable. If the ledger could not be written (ACK with number 0) the same deed is sent again, and
 * until it is durable the worker does nothing of weight. Rejected: waiting for the ACK before the
 * answer (one more fsync in the latency of every release, and an honest judge waits for a later
 * record anyway).
 *
 * Every value is bounded here, not by whom it came from: a record that kbs-audit would refuse would
 * be a way to hide one.
 */
#include "hsm/deed.h"

#include "base/digest.h"
#include "base/encoding.h"
#include "base/log.h"

#define DEED_KIND KBS_SPAN_LIT("deed")
#define DEED_HEX_BYTES 64u /* longest bytes that are recorded as hex */

void kbs_deeds_deinit(struct kbs_deeds *d)
{
    kbs_buf_deinit(&d->fields);
    kbs_channel_msg_deinit(&d->answer);
}

static int deeds_lost(struct kbs_error *err)
{
    struct kbs_error cause = *err;

    kbs_log_error("ledger-channel", &cause);
    return kbs_fail(err, KBS_TOKEN_DOWN, "the audit ledger is not available to the token worker");
}

static int deeds_transmit(struct kbs_deeds *d, struct kbs_error *err)
{
    const struct kbs_wire_append append = {
        .kind = DEED_KIND, .fields = {.count = d->count, .encoded = kbs_buf_span(&d->fields)}};

    d->last_id++;
    if (kbs_channel_send(d->fd, KBS_WIRE_APPEND, d->last_id, &append, -1,
                         kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err) != 0) {
        return deeds_lost(err);
    }
    d->waiting = true;
    return 0;
}

static int deeds_await(struct kbs_deeds *d, struct kbs_error *err)
{
    struct kbs_wire_ack ack = {.seq = 0};
    int rc = kbs_channel_recv(d->fd, &d->answer, kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err);

    if (rc == KBS_CHANNEL_EOF) {
        rc = kbs_fail(err, KBS_INTERNAL, "kbs-audit is gone");
    } else if (rc == 0 && d->answer.frame.id != d->last_id) {
        rc = kbs_fail(err, KBS_INPUT, "an ACK of another deed");
    } else if (rc == 0) {
        rc = kbs_channel_msg_decode(&d->answer, KBS_WIRE_ACK, &ack, err);
    }
    if (rc != 0) {
        return deeds_lost(err);
    }
    d->waiting = false;
    d->refused = ack.seq == 0;
    return 0;
}

int kbs_deeds_settle(struct kbs_deeds *d, struct kbs_error *err)
{
    if (d->fd < 0) {
        return 0;
    }
    if (d->waiting && deeds_await(d, err) != 0) {
        return -1;
    }
    if (d->refused && (deeds_transmit(d, err) != 0 || deeds_await(d, err) != 0)) {
        return -1;
    }
    return d->refused ? kbs_fail(err, KBS_BUSY, "the audit ledger cannot be written") : 0;
}

int kbs_deeds_read(struct kbs_deeds *d, struct kbs_error *err)
{
    if (d->waiting) {
        return deeds_await(d, err);
    }
    (void)kbs_fail(err, KBS_INTERNAL, "kbs-audit hung up, or spoke out of turn");
    return deeds_lost(err);
}

static void deed_text(struct kbs_wire_list_builder *list, const char *name, struct kbs_span value)
{
    if (!kbs_utf8_valid(value)) {
        value = KBS_SPAN_LIT("?");
    } else if (value.len > KBS_LIMIT_KID_BYTES) {
        value = KBS_SPAN_LIT("too long");
    }
    kbs_wire_list_add_pair(list, name, value);
}

static void deed_hex(struct kbs_wire_list_builder *list, const char *name, struct kbs_span value)
{
    struct kbs_buf text = KBS_BUF(2u * DEED_HEX_BYTES);

    if (value.len <= DEED_HEX_BYTES) {
        kbs_hex_put(&text, value);
        kbs_wire_list_add_pair(list, name, kbs_buf_span(&text));
    } else {
        kbs_wire_list_add_pair(list, name, KBS_SPAN_LIT("too long"));
    }
    kbs_buf_deinit(&text);
}

int kbs_deeds_send(struct kbs_deeds *d, const struct kbs_deed *deed,
                   const struct kbs_deed_outcome *outcome, struct kbs_error *err)
{
    struct kbs_wire_list_builder list = {.buf = &d->fields};
    bool done = outcome->category == KBS_OK;

    if (d->fd < 0 || deed->op == NULL) {
        return 0;
    }
    kbs_buf_clear(&d->fields);
    kbs_wire_list_add_pair(&list, "op", kbs_span_str(deed->op));
    kbs_wire_list_add_pair(&list, "outcome",
                           kbs_span_str(done ? "done" : kbs_category_name(outcome->category)));
    if (deed->has_row) {
        deed_hex(&list, "row", kbs_span(deed->row, sizeof(deed->row)));
    } else {
        deed_hex(&list, "order", deed->order);
    }
    if (deed->has_kid_sha256) {
        deed_hex(&list, "kid_sha256", kbs_span(deed->kid_sha256, sizeof(deed->kid_sha256)));
    } else if (!deed->has_row) {
        deed_text(&list, "kid", deed->kid);
    }
    if (deed->cka_id_len != 0) {
        deed_hex(&list, "cka_id", kbs_span(deed->cka_id, deed->cka_id_len));
    }
    if (done && outcome->rung[0] != '\0') {
        deed_text(&list, "rung", kbs_span_str(outcome->rung));
        deed_text(&list, "wrap_locality", kbs_span_str(kbs_locality_name(outcome->locality)));
    }
    deed_text(&list, "token_serial", kbs_span_str(outcome->serial));
    d->count = list.count;
    if (kbs_buf_check(&d->fields, "the deed", err) != 0) {
        return deeds_lost(err);
    }
    return deeds_transmit(d, err);
}
