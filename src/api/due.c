/*
 * Keys that were to be destroyed by now.
 *
 * The problem: an administrator said a week ago that a key shall go today, and may not be here. The
 * approach: the admin lane's judge looks at its start, after every change, and wakes up when the
 * time has come. Its authority is that request, which stands in the row and is what the row was
 * signed with: a row that was not signed as it is destroys nothing. Each destruction is a mutation
 * of its own, with intent, epoch and outcome.
 *
 * A failure is logged and tried again after KBS_LIMIT_DESTROY_RETRY_MS: the store may be stale, or
 * the token read-only, and requests must not starve for it. Nor must other keys: one that cannot be
 * destroyed (the token may say so of an adopted one) is passed over until the next round.
 */
#include "api/context.h"

#include "base/log.h"

#define KEYS_AT_ONCE 8 /* between two requests */

void kbs_due_look(struct kbs_api *api)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_store_key_next_due(api->store, &api->destroy_at_s, &err) != 0) {
        kbs_log_error("destruction-not-found", &err);
        api->destroy_at_s = kbs_clock_unix_s();
        api->destroy_retry_ns = kbs_deadline_in_ms(KBS_LIMIT_DESTROY_RETRY_MS);
    }
}

int kbs_due_wait_ms(const struct kbs_api *api)
{
    int64_t left_s = api->destroy_at_s - kbs_clock_unix_s();
    int left_ms = 0;
    int retry_ms = 0;

    if (api->duty != KBS_DUTY_ADMIN || api->destroy_at_s == 0) {
        return -1;
    }
    if (left_s > 0) { /* looked at again every so often, since the clock may be set */
        left_ms =
            left_s < KBS_LIMIT_AUDIT_HEAD_MS / 1000 ? (int)left_s * 1000 : KBS_LIMIT_AUDIT_HEAD_MS;
    }
    retry_ms = api->destroy_retry_ns != 0 ? kbs_deadline_poll_ms(api->destroy_retry_ns) : 0;
    return left_ms > retry_ms ? left_ms : retry_ms;
}

/* One key, the first that did not fail in this round. KBS_MISSING if there is none. */
static int due_destroy(struct kbs_api *api, bool *ret_found, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    struct kbs_buf request = KBS_BUF(KBS_LIMIT_APPROVAL_REQUEST_BYTES);
    struct kbs_mutation m = {.api = api, .kind = "key-destroy", .has_order = true};
    struct kbs_key key;
    int rc = -1;

    *ret_found = kbs_mutation_begin(&m, err) == 0 &&
                 kbs_store_key_due(api->store, kbs_clock_unix_s(), api->destroy_failed, &key,
                                   &policy, &request, err) == 0;
    if (*ret_found && kbs_row_check(api, &key, kbs_buf_span(&policy), err) == 0) {
        m.key = &key;
        m.request = kbs_buf_span(&request);
        rc = kbs_key_destroy(&m, &key, kbs_buf_span(&policy), err);
    }
    kbs_buf_deinit(&policy);
    kbs_buf_deinit(&request);
    return rc;
}

/* Nothing more for now; if something failed, a round begins anew after a while. */
static void round_over(struct kbs_api *api, bool failed)
{
    api->destroy_retry_ns = failed ? kbs_deadline_in_ms(KBS_LIMIT_DESTROY_RETRY_MS) : 0;
    api->destroy_failed = 0;
}

void kbs_due_run(struct kbs_api *api)
{
    struct kbs_error err = KBS_ERROR_NONE;
    bool found = false;

    for (int i = 0; i < KEYS_AT_ONCE && kbs_due_wait_ms(api) == 0; i++) {
        if (due_destroy(api, &found, &err) == 0) {
            continue; /* which has looked for the next one */
        }
        if (!found && err.category == KBS_MISSING) {
            round_over(api, api->destroy_failed != 0);
            kbs_due_look(api);
            break;
        }
        kbs_log_error("key-not-destroyed", &err);
        if (!found || err.category == KBS_BUSY || api->must_exit != KBS_EXIT_OK) {
            round_over(api, true); /* it is not about this key */
            break;
        }
        api->destroy_failed++;
    }
}
