/*
 * The store's standing, and an administrator's word that it is to be used as it is.
 *
 * The problem: after a restore from a backup the store is older than the ledger, and every lane
 * refuses to serve keys from it (epoch.c). Whether that was the operator's doing or an attack is
 * not for a program to decide. The approach: an administrator sees both epochs and accepts exactly
 * the one shown; the ledger says so first (phase restore, with an epoch of its own that is above
 * all others), then the store takes that epoch. Rows still have to be signed one by one: accepting
 * makes an old row current, not a foreign one ours.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "base/log.h"

#define SHOW_PATTERN "/kbs/v0/admin/store"
#define ACCEPT_PATTERN "/kbs/v0/admin/store/accept"

static void standing_put(const struct kbs_api *api, struct kbs_buf *out)
{
    const struct kbs_standing *s = &api->standing;

    kbs_buf_printf(out, "{\"serves\":%s,\"epoch\":%llu,\"ledger_epoch\":%llu,\"reason\":",
                   s->stale ? "false" : "true", (unsigned long long)s->store.epoch,
                   (unsigned long long)s->ledger_epoch);
    if (s->stale) {
        kbs_json_string_put(out, kbs_span_str(s->reason));
    } else {
        kbs_buf_put_str(out, "null");
    }
    kbs_buf_put_u8(out, '}');
}

int kbs_api_admin_store_show(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_names[] = {NULL};
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", SHOW_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 ||
        kbs_epoch_check(call->api, err) != 0) {
        return -1;
    }
    standing_put(call->api, &call->answer->body);
    return 0;
}

static int accept_parse(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"epoch", NULL};
    const struct kbs_standing *s = &call->api->standing;
    KBS_AUTO_JSON body = NULL;
    int64_t epoch = 0;

    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 ||
        kbs_json_get_integer(body, "epoch", &epoch, err) != 0 ||
        kbs_epoch_check(call->api, err) != 0) {
        return -1;
    }
    if (!call->api->token.has_row) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no sign-row key, see kbs-admin init");
    }
    if (!s->stale) {
        return kbs_fail(err, KBS_CONFLICT, "the store is the ledger's: there is nothing to accept");
    }
    if (epoch < 0 || (uint64_t)epoch != s->store.epoch) {
        return kbs_fail(err, KBS_CONFLICT, "the store is at another epoch, %llu",
                        (unsigned long long)s->store.epoch);
    }
    return 0;
}

static int accept_record(struct kbs_call *call, const struct kbs_admin *admin, uint64_t sequence,
                         const struct kbs_store_mutation *m, struct kbs_error *err)
{
    const struct kbs_standing *s = &call->api->standing;
    struct kbs_record r;
    int rc = 0;

    kbs_record_init(&r, "store-accept");
    r.phase = KBS_PHASE_RESTORE;
    r.epoch = m->epoch.epoch;
    kbs_record_u64(&r, "store_epoch", m->from_epoch);
    kbs_record_hex(&r, "manifest", kbs_span(m->epoch.manifest, sizeof(m->epoch.manifest)));
    kbs_record_str(&r, "reason", s->reason);
    kbs_admin_record(&r, admin, sequence);
    kbs_record_text(&r, "peer", call->req->peer);
    rc = kbs_api_ledger_append(call->api, &r, NULL, err);
    kbs_record_deinit(&r);
    return rc;
}

int kbs_api_admin_store_accept(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_standing *s = &call->api->standing;
    struct kbs_store_mutation m = {.rows = NULL};
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "POST", ACCEPT_PATTERN, true, &admin, &sequence, err) != 0 ||
        accept_parse(call, err) != 0) {
        return -1;
    }
    m.from_epoch = s->store.epoch;
    m.epoch.epoch = s->ledger_epoch + 1;
    if (kbs_store_manifest(call->api->store, NULL, m.epoch.manifest, NULL, err) != 0 ||
        accept_record(call, admin, sequence, &m, err) != 0 ||
        kbs_epoch_commit(call->api, &m, err) != 0 || kbs_epoch_check(call->api, err) != 0) {
        return -1;
    }
    kbs_head_sign(call->api);
    standing_put(call->api, &call->answer->body);
    return 0;
}
