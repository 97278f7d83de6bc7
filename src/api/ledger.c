/*
 * Records to kbs-audit.
 *
 * The problem: what was decided must be on the disk before its answer leaves, and an fsync costs as
 * much as a release. The approach: two phases. An order is sent before the token is asked, marked
 * `later`, and its acknowledgement is awaited after the token has answered: the token's own deed is
 * durable by then, and one sync has carried both. One record is in flight at a time
 * (docs/protocol/role-channels.md), and its ACK carries its id.
 *
 * A ledger that cannot be written says so (ACK with number 0): the request is answered with 503 and
 * the judge lives on. One that does not acknowledge at all ends the judge: the answer is 503, what
 * the token may have given is dropped unread, and the process exits, since a late ACK would be
 * taken for that of the next record.
 */
#include "api/context.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "base/log.h"

#define RECORD_BYTES 1000u /* more than most records have: one allocation */

void kbs_record_init(struct kbs_record *r, const char *kind)
{
    r->kind = kind;
    r->phase = KBS_PHASE_NONE;
    r->epoch = 0;
    r->later = false;
    r->buf = KBS_BUF(KBS_LIMIT_AUDIT_RECORD_BYTES);
    (void)kbs_buf_reserve(&r->buf, RECORD_BYTES);
    r->list = (struct kbs_wire_list_builder){.buf = &r->buf, .count = 0};
}

void kbs_record_deinit(struct kbs_record *r)
{
    kbs_buf_deinit(&r->buf);
}

void kbs_record_text(struct kbs_record *r, const char *name, struct kbs_span value)
{
    if (!kbs_utf8_valid(value)) {
        value = KBS_SPAN_LIT("?");
    }
    if (value.len > KBS_LIMIT_AUDIT_FIELD_BYTES) {
        value.len = KBS_LIMIT_AUDIT_FIELD_BYTES;
        while (value.len > 0 && (value.p[value.len] & 0xc0) == 0x80) { /* not inside a character */
            value.len--;
        }
    }
    kbs_wire_list_add_pair(&r->list, name, value);
}

void kbs_record_str(struct kbs_record *r, const char *name, const char *value)
{
    kbs_record_text(r, name, kbs_span_str(value));
}

void kbs_record_u64(struct kbs_record *r, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    kbs_record_str(r, name, text);
}

void kbs_record_hex(struct kbs_record *r, const char *name, struct kbs_span value)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_AUDIT_FIELD_BYTES);

    kbs_hex_put(&text, value);
    kbs_record_text(r, name, kbs_buf_span(&text));
    kbs_buf_deinit(&text);
}

static int ledger_failed(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_error cause = *err;

    kbs_log_error("ledger_channel", &cause);
    api->must_exit = KBS_EXIT_FAILURE;
    return kbs_fail(err, cause.category == KBS_DEADLINE ? KBS_DEADLINE : KBS_BUSY,
                    "the audit ledger is not available");
}

int kbs_api_ledger_start(struct kbs_api *api, const struct kbs_record *r, struct kbs_error *err)
{
    struct kbs_wire_append append = {.kind = kbs_span_str(r->kind),
                                     .phase = (uint8_t)r->phase,
                                     .epoch = r->epoch,
                                     .later = r->later ? 1 : 0,
                                     .fields = kbs_wire_list_done(&r->list)};

    if (kbs_buf_check(&r->buf, "audit record", err) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "an audit record is too large");
    }
    api->ledger.last_id++;
    if (kbs_channel_send(api->ledger.fd, KBS_WIRE_APPEND, api->ledger.last_id, &append, -1,
                         kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err) != 0) {
        return ledger_failed(api, err);
    }
    return 0;
}

int kbs_api_ledger_await(struct kbs_api *api, uint64_t *ret_seq, struct kbs_error *err)
{
    struct kbs_api_ledger *l = &api->ledger;
    struct kbs_wire_ack ack = {.seq = 0};
    int rc =
        kbs_channel_recv_turn(l->fd, &l->answer, kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err);

    if (rc == KBS_CHANNEL_EOF) {
        rc = kbs_fail(err, KBS_BUSY, "kbs-audit is gone");
    } else if (rc == 0 && l->answer.frame.id != l->last_id) {
        rc = kbs_fail(err, KBS_INPUT, "an ACK of another record");
    } else if (rc == 0) {
        rc = kbs_channel_msg_decode(&l->answer, KBS_WIRE_ACK, &ack, err);
    }
    if (rc != 0) {
        return ledger_failed(api, err);
    }
    if (ack.seq == 0) {
        return kbs_fail(err, KBS_BUSY, "the audit ledger cannot be written");
    }
    if (ret_seq != NULL) {
        *ret_seq = ack.seq;
    }
    return 0;
}

int kbs_api_ledger_append(struct kbs_api *api, const struct kbs_record *r, uint64_t *ret_seq,
                          struct kbs_error *err)
{
    if (kbs_api_ledger_start(api, r, err) != 0) {
        return -1;
    }
    return kbs_api_ledger_await(api, ret_seq, err);
}

int kbs_api_ledger_head(struct kbs_api *api, struct kbs_api_head *ret, struct kbs_error *err)
{
    struct kbs_api_ledger *l = &api->ledger;
    struct kbs_wire_head head;
    int rc = kbs_channel_call(l->fd, KBS_WIRE_HEAD_WANT, NULL, KBS_WIRE_HEAD, &head, &l->answer,
                              kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err);

    if (rc == 0 && head.hash.len != sizeof(ret->hash)) {
        rc = kbs_fail(err, KBS_INPUT, "a head that is no SHA-256 digest");
    }
    if (rc != 0) {
        return ledger_failed(api, err);
    }
    ret->seq = head.seq;
    memcpy(ret->hash, head.hash.p, sizeof(ret->hash));
    ret->epoch = head.epoch;
    ret->outcome = head.outcome != 0;
    return 0;
}

void kbs_api_ledger_owe(struct kbs_api *api, struct kbs_record *record)
{
    if (api->owed != NULL) { /* cannot be: nothing is ordered while something is owed */
        kbs_record_deinit(api->owed);
        free(api->owed);
    }
    api->owed = record;
}

int kbs_api_ledger_settle(struct kbs_api *api, struct kbs_error *err)
{
    if (api->owed == NULL) {
        return 0;
    }
    if (kbs_api_ledger_append(api, api->owed, NULL, err) != 0) {
        return -1;
    }
    kbs_api_ledger_owe(api, NULL);
    return 0;
}
