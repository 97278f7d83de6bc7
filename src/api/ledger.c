/*
 * Records to kbs-audit.
 *
 * The problem: what was decided must be on the disk before its answer leaves, and an fsync costs as
 * much as a release. The approach: two phases. A record is sent before the token is asked, and its
 * acknowledgement is awaited after the token has answered, so that disk and token work at the same
 * time. One record is in flight at a time (docs/protocol/role-channels.md), and its ACK carries its
 * id.
 *
 * A ledger that does not acknowledge ends the judge: the answer is 503, what the token may have
 * given is dropped unread, and the process exits, since a late ACK would be taken for that of the
 * next record.
 *
 * Refusals of who has proved nothing are recorded, but at most QUOTA_PER_WINDOW a minute of each
 * kind: whoever reaches a listener can cause them, and the ledger's disk, and the lane's time for
 * an fsync, belong to the releases. The next record says how many were left out.
 */
#include "api/context.h"

#include <stdio.h>

#include "base/encoding.h"
#include "base/log.h"

#define QUOTA_WINDOW_S 60
#define QUOTA_PER_WINDOW 60

void kbs_record_init(struct kbs_record *r, const char *kind)
{
    r->kind = kind;
    r->buf = KBS_BUF(KBS_LIMIT_AUDIT_RECORD_BYTES);
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

bool kbs_record_admit(struct kbs_record_quota *q, int64_t now_s)
{
    uint64_t now = (uint64_t)now_s;

    if (now - q->window_s >= QUOTA_WINDOW_S) { /* also if the clock was set back */
        q->window_s = now;
        q->count = 0;
    }
    if (q->count >= QUOTA_PER_WINDOW) {
        q->suppressed++;
        return false;
    }
    q->count++;
    return true;
}

void kbs_record_suppressed(struct kbs_record *r, const struct kbs_record_quota *q)
{
    if (q->suppressed != 0) {
        kbs_record_u64(r, "suppressed", q->suppressed);
    }
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
    int rc = kbs_channel_recv(l->fd, &l->answer, kbs_deadline_in_ms(KBS_LIMIT_AUDIT_ACK_MS), err);

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
