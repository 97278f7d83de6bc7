/*
 * Is this the store that the ledger knows?
 *
 * The problem: a store that was put back to an earlier day holds only rows that were signed, among
 * them keys that were taken away and policies that were mended since. The approach: mutations are
 * counted in both (DESIGN 6): intent(e+1) in the ledger, rows and epoch e+1 in the store, outcome
 * in the ledger. So the store is at the newest intent's epoch, or one before if that one's outcome
 * is not known (a crash in between); anything else serves no key until an administrator accepts it.
 *
 * The number alone could be edited: its row is signed, over a chain of all rows. Both are read
 * before and after the ledger is asked, and if another lane's mutation came in between, again.
 *
 * What a crash left open is closed by the admin lane, at its start and before its next mutation, so
 * that a store of the epoch before is not valid for longer than it must be. To close an epoch whose
 * rows were never committed, the store's number is raised without any.
 */
#include "api/context.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "catalog/row.h"

#define ATTEMPTS 16
#define RECHECK_MS 1000

static const uint8_t nothing[KBS_ES256_BYTES];

KBS_PRINTF(2, 3) static void stale(struct kbs_api *api, const char *fmt, ...)
{
    struct kbs_standing *s = &api->standing;
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(s->reason, sizeof(s->reason), fmt, args);
    va_end(args);
    if (!s->stale) {
        kbs_log(KBS_LOG_ERROR, "store-refused",
                "why=\"%s\" advice=\"no key is served: see kbs-admin store accept\"", s->reason);
    }
    s->stale = true;
    s->checked_ns = kbs_clock_mono_ns();
}

/* The epoch's row is ours, and so are the rows below it. */
static bool epoch_is_signed(const struct kbs_api *api, const struct kbs_store_epoch *e)
{
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];

    if (e->epoch == 0) { /* a new store */
        return memcmp(e->manifest, nothing, sizeof(e->manifest)) == 0;
    }
    kbs_row_epoch_put(&content, e->epoch, e->manifest);
    kbs_row_digest(kbs_buf_span(&content), digest);
    kbs_buf_deinit(&content);
    return api->token.has_row && kbs_ec_verify(&api->token.row, digest, e->signature);
}

/* Store and ledger at one moment. */
static int epoch_read(struct kbs_api *api, uint8_t manifest[KBS_SHA256_BYTES],
                      struct kbs_error *err)
{
    struct kbs_standing *s = &api->standing;
    struct kbs_api_head head = {.seq = 0};
    struct kbs_store_epoch after;

    for (int i = 0; i < ATTEMPTS; i++) {
        if (kbs_store_epoch_get(api->store, &s->store, err) != 0 ||
            kbs_store_manifest(api->store, NULL, manifest, NULL, err) != 0 ||
            kbs_api_ledger_head(api, &head, err) != 0 ||
            kbs_store_epoch_get(api->store, &after, err) != 0) {
            return -1;
        }
        if (after.epoch == s->store.epoch) {
            s->ledger_epoch = head.epoch;
            s->ledger_outcome = head.outcome;
            return 0;
        }
    }
    return kbs_fail(err, KBS_BUSY, "the store does not hold still");
}

/* Closes the newest epoch, whose outcome nobody recorded. */
static int epoch_recover(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_standing *s = &api->standing;
    bool committed = s->store.epoch == s->ledger_epoch;
    struct kbs_store_mutation m = {.from_epoch = s->store.epoch, .epoch = s->store};
    struct kbs_record r;
    int rc = 0;

    m.epoch.epoch = s->ledger_epoch;
    if (!committed && kbs_epoch_commit(api, &m, err) != 0) {
        return -1;
    }
    kbs_record_init(&r, "store-recovered");
    r.phase = KBS_PHASE_OUTCOME;
    r.epoch = s->ledger_epoch;
    kbs_record_str(&r, "outcome", committed ? "committed" : "never");
    rc = kbs_api_ledger_append(api, &r, NULL, err);
    kbs_record_deinit(&r);
    if (rc == 0) {
        s->ledger_outcome = true;
    }
    return rc;
}

int kbs_epoch_check(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_standing *s = &api->standing;
    uint8_t manifest[KBS_SHA256_BYTES];
    bool was_stale = s->stale;

    if (epoch_read(api, manifest, err) != 0) {
        return -1;
    }
    if (!epoch_is_signed(api, &s->store)) {
        stale(api, "the store's epoch is not signed by this service");
        return 0;
    }
    if (memcmp(manifest, s->store.manifest, sizeof(manifest)) != 0) {
        stale(api, "the store's rows are not those of its epoch");
        return 0;
    }
    if (s->store.epoch != s->ledger_epoch &&
        (s->store.epoch + 1 != s->ledger_epoch || s->ledger_outcome)) {
        stale(api, "the store is at epoch %llu and the ledger at %llu: it is not the newest one",
              (unsigned long long)s->store.epoch, (unsigned long long)s->ledger_epoch);
        return 0;
    }
    if (was_stale) {
        kbs_log(KBS_LOG_INFO, "store-accepted", "epoch=%llu", (unsigned long long)s->store.epoch);
    }
    s->stale = false;
    if (api->duty == KBS_DUTY_ADMIN && !s->ledger_outcome && api->token.has_row) {
        return epoch_recover(api, err);
    }
    return 0;
}

int kbs_epoch_gate(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_standing *s = &api->standing;

    if (s->stale && kbs_clock_mono_ns() - s->checked_ns >= (uint64_t)RECHECK_MS * KBS_NS_PER_MS &&
        kbs_epoch_check(api, err) != 0) {
        return -1;
    }
    return s->stale ? kbs_fail(err, KBS_BUSY, "no key is served: %.140s", s->reason) : 0;
}

int kbs_epoch_of_row(struct kbs_api *api, uint64_t row_epoch, struct kbs_error *err)
{
    struct kbs_standing *s = &api->standing;
    struct kbs_store_epoch now;

    if (kbs_store_epoch_get(api->store, &now, err) != 0) {
        return -1;
    }
    if (now.epoch < s->store.epoch || row_epoch > now.epoch) {
        stale(api, "the store went back from epoch %llu to %llu",
              (unsigned long long)s->store.epoch, (unsigned long long)now.epoch);
        return kbs_epoch_gate(api, err);
    }
    s->store = now;
    return 0;
}

int kbs_epoch_advance(struct kbs_api *api, struct kbs_store_mutation *m, struct kbs_error *err)
{
    uint8_t now[KBS_SHA256_BYTES];

    if (kbs_store_manifest(api->store, m, now, m->epoch.manifest, err) != 0) {
        return -1;
    }
    if (memcmp(now, api->standing.store.manifest, sizeof(now)) != 0) {
        stale(api, "the store's rows are not those of its epoch");
        return kbs_epoch_gate(api, err);
    }
    return 0;
}

int kbs_epoch_commit(struct kbs_api *api, struct kbs_store_mutation *m, struct kbs_error *err)
{
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    int rc = 0;

    kbs_row_epoch_put(&content, m->epoch.epoch, m->epoch.manifest);
    rc = kbs_row_sign(api, kbs_buf_span(&content), m->epoch.signature, err);
    kbs_buf_deinit(&content);
    if (rc != 0 || kbs_store_commit(api->store, m, err) != 0) {
        return -1;
    }
    api->standing.store = m->epoch;
    return 0;
}
