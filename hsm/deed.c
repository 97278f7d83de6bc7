/*
 * The problem: a judge that runs an attacker's code orders releases and records nothing, or records
 * something else. The approach: the worker says itself what it did, on a channel of its own, and
 * waits until that is on the disk before it answers the judge. So there is no answer without its
 * deed, whoever the judge is, and one sync of the disk carries the judge's order and this deed: the
 * order was sent before the operation began, so kbs-audit has it before it has the deed.
 *
 * A deed that could not be written (ACK with number 0) is kept; its operation is answered with
 * KBS_BUSY, without what it made. Until it is durable the worker does nothing of weight, so at most
 * one deed per lane is ever not durable. Rejected: letting the answer go with the deed in
 * kbs-audit's socket (it takes a second record, the judge's, to wait for).
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

/* Sends the deed in d->fields and waits for its ACK. */
static int deeds_append(struct kbs_deeds *d, struct kbs_error *err)
{
    const struct kbs_wire_append append = {
        .kind = DEED_KIND, .fields = {.count = d->count, .encoded = kbs_buf_span(&d->fields)}};
    struct kbs_wire_ack ack = {.seq = 0};

    if (kbs_channel_call(d->fd, KBS_WIRE_APPEND, &append, KBS_WIRE_ACK, &ack, &d->answer,
                         kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err) != 0) {
        return deeds_lost(err);
    }
    d->refused = ack.seq == 0;
    return d->refused ? kbs_fail(err, KBS_BUSY, "the audit ledger cannot be written") : 0;
}

int kbs_deeds_settle(struct kbs_deeds *d, struct kbs_error *err)
{
    return d->refused ? deeds_append(d, err) : 0;
}

int kbs_deeds_lost(struct kbs_error *err)
{
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

int kbs_deeds_record(struct kbs_deeds *d, const struct kbs_deed *deed,
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
        deed_text(&list, "format", kbs_span_str(kbs_format_name(outcome->format)));
    }
    if (done && outcome->receipt.len != 0) {
        uint8_t digest[KBS_SHA256_BYTES];

        kbs_sha256(outcome->receipt, digest);
        deed_hex(&list, "receipt", kbs_span(digest, sizeof(digest)));
    }
    deed_text(&list, "token_class", kbs_span_str(kbs_token_class_name(outcome->token_class)));
    deed_text(&list, "token_serial", kbs_span_str(outcome->serial));
    d->count = list.count;
    if (kbs_buf_check(&d->fields, "the deed", err) != 0) {
        return deeds_lost(err);
    }
    return deeds_append(d, err);
}
