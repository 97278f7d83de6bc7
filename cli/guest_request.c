/*
 * One request of an attested guest. Each try is a request of its own, with a nonce of its own where it is
 * protected (protect.c).
 *
 * Two answers are worth another try: 401 means that the session is gone, so attest once more; 503
 * comes with Retry-After and is honoured a few times, up to a bound. Everything else is final. Each
 * handshake has its own digest: *session is the one that the answer belongs to.
 */
#include <time.h>

#include "cli/guest.h"
#include "cli/protect.h"

#define TRIES 3
#define RETRY_AFTER_MAX_S 30

static int attest(struct kbs_http_client *http, const struct kbs_tee_key *key,
                  const struct kbs_guest_how *how, struct kbs_guest_session *session,
                  struct kbs_error *err)
{
    kbs_guest_session_deinit(session);
    return kbs_guest_attest(http, key, how, session, err);
}

static void wait_s(uint32_t seconds)
{
    struct timespec left = {.tv_sec = seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S};

    while (nanosleep(&left, &left) != 0) {
    }
}

/* One try: protected, if it is to be, and sent. */
static int send_once(struct kbs_http_client *http, const struct kbs_guest_how *how,
                     const struct kbs_http_request *request, struct kbs_guest_session *session,
                     struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_guest_protected p = {.body = {.p = NULL}};
    struct kbs_http_request q = *request;
    int r;

    q.cookie = session->cookie;
    r = kbs_guest_protect(http, how, session, &p, &q, err);
    if (r == 0) {
        r = kbs_http_send(http, &q, ret, err);
    }
    kbs_guest_protected_deinit(&p);
    return r;
}

int kbs_guest_request(struct kbs_http_client *http, const struct kbs_tee_key *key,
                      const struct kbs_guest_how *how, const struct kbs_http_request *request,
                      struct kbs_guest_session *session, struct kbs_http_response *ret,
                      struct kbs_error *err)
{
    bool attested_again = false;
    int tries = 1;

    if (attest(http, key, how, session, err) != 0) {
        return -1;
    }
    for (;;) {
        if (send_once(http, how, request, session, ret, err) != 0) {
            return -1;
        }
        if (ret->status == 401 && !attested_again) {
            attested_again = true;
            kbs_http_response_deinit(ret);
            if (attest(http, key, how, session, err) != 0) {
                return -1;
            }
        } else if (ret->status == 503 && tries < TRIES) {
            tries++;
            wait_s(ret->retry_after_s > 0 ? ret->retry_after_s : 1);
            kbs_http_response_deinit(ret);
        } else {
            return 0;
        }
    }
}
