#include "signed.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/encoding.h"
#include "base/process.h"

static void get_nonce(struct judge *j, char *out, size_t size)
{
    const struct ask ask = {
        .route = KBS_ROUTE_ADMIN_NONCE, .method = "GET", .target = "/kbs/v0/admin/nonce"};
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;

    assert_non_null(r);
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "nonce", &body, &err), 0);
    (void)snprintf(out, size, "%s", json_string_value(json_object_get(body, "nonce")));
    free(r);
}

struct signature signature_for(struct judge *j, const struct ask *ask)
{
    struct signature s = {.key = j->admin,
                          .typ = "kbs-admin",
                          .m = ask->method != NULL ? ask->method : "POST",
                          .p = ask->target,
                          .body = ask->body != NULL ? ask->body : "",
                          .s = ++j->sequence,
                          .exp = kbs_clock_unix_s() + 60};

    get_nonce(j, s.nonce, sizeof(s.nonce));
    return s;
}

const char *signature_make(struct signature *s)
{
    struct kbs_ec_public public = key_public(s->key, KBS_CURVE_P256);
    struct kbs_buf payload = KBS_BUF(4095);
    uint8_t digest[KBS_SHA256_BYTES];
    char kid[44];

    kbs_sha256(kbs_span_str(s->body), digest);
    kbs_jose_thumbprint(&public, kid);
    kbs_buf_printf(&payload, "{\"m\":\"%s\",\"p\":\"%s\",\"b\":\"", s->m, s->p);
    kbs_base64url_put(&payload, kbs_span(digest, sizeof(digest)));
    kbs_buf_printf(&payload, "\",\"n\":\"%s\",\"s\":%llu,\"exp\":%lld%s}", s->nonce,
                   (unsigned long long)s->s, (long long)s->exp, s->extra != NULL ? s->extra : "");
    jws_sign(s->key, s->kid != NULL ? s->kid : kid, s->typ, kbs_buf_cstr(&payload), s->text,
             sizeof(s->text));
    kbs_buf_deinit(&payload);
    return s->text;
}

void expect_signed(struct judge *j, struct ask ask, unsigned int status, const char *text)
{
    struct signature s = signature_for(j, &ask);

    ask.signature = signature_make(&s);
    judge_expect(j, &ask, status, text);
}

void ask_signed(struct judge *j, struct ask ask, struct reply *ret)
{
    struct signature s = signature_for(j, &ask);

    ask.signature = signature_make(&s);
    judge_ask(j, &ask, ret);
}

void crash_at(struct judge *j, struct ask ask, unsigned int record)
{
    j->ledger_mood = LEDGER_DIES;
    j->dies_at = record;
    expect_signed(j, ask, 503, NULL);
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
    j->ledger_mood = LEDGER_WRITES;
    judge_start(j);
}
