/*
 * Unit tests of the admin lane's gate in Trustee's modes: whom each lets in, on which routes, what a refusal says,
 * and what is kept and recorded of who was let in. The judge's own suites do the same from outside.
 */
#include "tests/jose/maker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "base/clock.h"
#include "base/io.h"
#include "jose/read/jwt.h"
#include "wire/route.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1700000000
#define EXP "\"exp\":1700000300"
#define TARGET "/kbs/v0/resource/a/b/c"
#define PATTERN "/kbs/v0/resource/*/*/*"
#define PREFIX "admin access denied for endpoint resource: Admin access denied: "
#define NO_ISSUER PREFIX "Cannot verify token with any of the issuers"

struct fixture {
    struct kbs_api *api;
    struct maker ed;    /* provider 1, PEM, issuer and audience asked */
    struct maker es;    /* provider 2, a JWK set */
    struct maker token; /* the token's sign-token key, wrongly provider 3 */
    struct kbs_buf params_buf;
    struct kbs_wire_list params;
    char authorization[8192];
    struct kbs_wire_request req;
    struct kbs_call call;
    const struct kbs_admin *admin;
    uint64_t sequence;
    struct kbs_error err;
};

static struct kbs_wire_list list_of(struct kbs_buf *buf, const char *const *items, size_t n)
{
    struct kbs_wire_list_builder b = {.buf = buf};

    for (size_t i = 0; i < n; i++) {
        kbs_wire_list_add(&b, kbs_span_str(items[i]));
    }
    return kbs_wire_list_done(&b);
}

static void bearer_configure(struct fixture *f)
{
    struct kbs_buf pem = KBS_BUF(4096);
    struct kbs_buf set = KBS_BUF(4096);
    struct kbs_buf own = KBS_BUF(4096);
    struct kbs_buf providers_buf = KBS_BUF(65536);
    struct kbs_buf acls_buf = KBS_BUF(65536);

    maker_pem(&f->ed, &pem);
    kbs_buf_put_str(&set, "{\"keys\":[");
    maker_jwk(&f->es, "ES256", "k1", NULL, &set);
    kbs_buf_put_str(&set, "]}");
    maker_pem(&f->token, &own);
    const char *const providers[] = {"idp", "kbs", kbs_buf_cstr(&pem), "", "", kbs_buf_cstr(&set),
                                     "",    "",    kbs_buf_cstr(&own)};
    const char *const acls[] = {"admin",    "^/kbs/v0/.*$",
                                "resource", "^/kbs/v0/resource/a/[^/?]+/[^/?]+$",
                                "resource", "^/kbs/v0/resource-policy$"};
    const struct kbs_wire_list p = list_of(&providers_buf, providers, COUNT(providers));
    const struct kbs_wire_list a = list_of(&acls_buf, acls, COUNT(acls));
    if (kbs_bearer_new(&p, &a, &f->api->bearer, &f->err) != 0) {
        fail_msg("%s", f->err.detail);
    }
    kbs_buf_deinit(&pem);
    kbs_buf_deinit(&set);
    kbs_buf_deinit(&own);
    kbs_buf_deinit(&providers_buf);
    kbs_buf_deinit(&acls_buf);
}

static int set_up(void **state)
{
    static const char *const params[] = {"a", "b", "c"};
    struct fixture *f = calloc(1, sizeof(*f));
    struct kbs_buf pem = KBS_BUF(4096);
    struct kbs_jws_key key;

    assert_non_null(f);
    f->api = calloc(1, sizeof(*f->api));
    assert_non_null(f->api);
    f->ed = maker_new("EdDSA");
    f->es = maker_new("ES256");
    f->token = maker_new("ES256");
    maker_pem(&f->token, &pem);
    assert_int_equal(kbs_jws_key_from_pem(kbs_buf_span(&pem), &key, &f->err), 0);
    kbs_buf_deinit(&pem);
    f->api->token.sign_count = 1;
    f->api->token.sign[0].key = key.ec;
    f->params_buf = KBS_BUF(256);
    f->params = list_of(&f->params_buf, params, COUNT(params));
    bearer_configure(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->api->bearer = kbs_bearer_free(f->api->bearer);
    maker_free(&f->ed);
    maker_free(&f->es);
    maker_free(&f->token);
    kbs_buf_deinit(&f->params_buf);
    free(f->api);
    free(f);
    return 0;
}

/* Asks the gate; what the ledger would be told is counted, for there is none. */
static int ask(struct fixture *f, enum kbs_admin_mode mode, enum kbs_route route)
{
    struct kbs_sampler full = {.window_s = NOW, .count = KBS_LIMIT_AUDIT_REFUSALS_PER_MIN};
    int rc;

    f->api->admin_mode = mode;
    f->api->denied = full;
    f->api->answer.variant = NULL;
    f->err = KBS_ERROR_NONE;
    f->req.route = (uint8_t)route;
    f->req.method = KBS_SPAN_LIT("POST");
    f->req.params = f->params;
    if (f->req.target.len == 0) {
        f->req.target = KBS_SPAN_LIT(TARGET);
    }
    f->call =
        (struct kbs_call){.api = f->api, .req = &f->req, .answer = &f->api->answer, .now_s = NOW};
    rc = kbs_admin_verify(&f->call, "POST", PATTERN, true, &f->admin, &f->sequence, &f->err);
    assert_int_equal(f->api->denied.suppressed, rc != 0); /* every refusal is recorded */
    assert_true((rc == 0) == (f->api->answer.variant == NULL));
    return rc;
}

static void token(struct fixture *f, const struct maker *m, const char *header, const char *payload)
{
    struct kbs_buf text = KBS_BUF(8000);

    maker_jws(m, header, payload, &text);
    (void)snprintf(f->authorization, sizeof(f->authorization), "Bearer %s", kbs_buf_cstr(&text));
    f->req.authorization = kbs_span_str(f->authorization);
    kbs_buf_deinit(&text);
}

static void refused(struct fixture *f, enum kbs_category category, const char *detail)
{
    if (ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET) != -1 || f->err.category != category ||
        strcmp(f->err.detail, detail) != 0) {
        fail_msg("expected '%s', got %s '%s'", detail, kbs_category_name(f->err.category),
                 f->err.detail);
    }
    assert_string_equal(f->api->answer.variant, "AdminAuthAccess");
}

static bool record_has(const struct kbs_admin *admin, uint64_t sequence, const char *text)
{
    struct kbs_record r;
    bool found;

    kbs_record_init(&r, "test");
    kbs_admin_record(&r, admin, sequence);
    found = memmem(r.buf.p, r.buf.len, text, strlen(text)) != NULL;
    kbs_record_deinit(&r);
    return found;
}

static void bearer_lets_in(void **state)
{
    struct fixture *f = *state;
    char name[KBS_API_THUMBPRINT_BYTES];
    struct kbs_span kept;

    token(f, &f->ed, NULL,
          "{\"iss\":\"idp\",\"aud\":[\"kbs\"],\"role\":\"admin\",\"sub\":\"ann\"," EXP "}");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    assert_int_equal(f->sequence, 0);
    assert_int_equal(f->admin->auth, KBS_ADMIN_BY_BEARER);
    assert_string_equal(f->admin->role, "admin");
    assert_int_equal(strncmp(f->admin->thumbprint, "bearer:", 7), 0);
    assert_int_equal(strlen(f->admin->thumbprint), KBS_API_THUMBPRINT_BYTES - 1);
    assert_true(record_has(f->admin, 0, f->admin->thumbprint));
    assert_true(record_has(f->admin, 0, "bearer"));
    assert_true(record_has(f->admin, 0, "role"));
    assert_false(record_has(f->admin, 0, "sequence"));
    (void)snprintf(name, sizeof(name), "%s", f->admin->thumbprint);

    kept = kbs_admin_request(&f->call); /* header and payload, and no signature */
    assert_true(kept.len > 40);
    assert_ptr_equal(kept.p, f->req.authorization.p + strlen("Bearer "));
    assert_int_equal(kept.p[kept.len], '.');
    assert_null(
        memchr((const char *)memchr(kept.p, '.', kept.len) + 1, '.',
               kept.len - (size_t)((const uint8_t *)memchr(kept.p, '.', kept.len) - kept.p) - 1));

    /* The same person in another role has the same name; another person, or issuer, has not. */
    token(f, &f->ed, NULL,
          "{\"iss\":\"idp\",\"aud\":\"kbs\",\"role\":\"resource\",\"sub\":\"ann\"," EXP "}");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    assert_string_equal(f->admin->thumbprint, name);
    token(f, &f->ed, NULL,
          "{\"iss\":\"idp\",\"aud\":\"kbs\",\"role\":\"admin\",\"sub\":\"bob\"," EXP "}");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    assert_string_not_equal(f->admin->thumbprint, name);
    token(f, &f->es, "{\"alg\":\"ES256\",\"kid\":\"k1\"}",
          "{\"role\":\"admin\",\"sub\":\"ann\"," EXP "}");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    assert_string_not_equal(f->admin->thumbprint, name);
    f->authorization[0] = 'b'; /* RFC 9110: the scheme's case does not matter */
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
}

static void bearer_refuses(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *payload; /* by the first provider's key */
        enum kbs_category category;
        const char *detail;
    } rows[] = {
#define PAYLOAD(members) "{\"iss\":\"idp\",\"aud\":\"kbs\"," members "}"
        {PAYLOAD("\"role\":\"admin\""), KBS_UNAUTHENTICATED,
         NO_ISSUER " (JWT: \"exp\" is not an integer)"},
        {PAYLOAD("\"role\":\"admin\",\"exp\":1699999939"), KBS_UNAUTHENTICATED,
         NO_ISSUER " (JWT: it has expired)"},
        {PAYLOAD("\"role\":\"admin\",\"nbf\":1700000061," EXP), KBS_UNAUTHENTICATED,
         NO_ISSUER " (JWT: it is not valid yet)"},
        {"{\"iss\":\"other\",\"aud\":\"kbs\",\"role\":\"admin\"," EXP "}", KBS_UNAUTHENTICATED,
         NO_ISSUER " (JWT: it is of another issuer)"},
        {"{\"iss\":\"idp\",\"aud\":\"guest\",\"role\":\"admin\"," EXP "}", KBS_UNAUTHENTICATED,
         NO_ISSUER " (JWT: it is for another audience)"},
        {PAYLOAD("\"eat_profile\":\"x\",\"role\":\"admin\"," EXP), KBS_UNAUTHENTICATED,
         NO_ISSUER " (JWT: it is an attestation token)"},
        {PAYLOAD(EXP), KBS_UNAUTHENTICATED, PREFIX "Missing required `role` claim in JWT"},
        {PAYLOAD("\"role\":[\"admin\"]," EXP), KBS_UNAUTHENTICATED,
         PREFIX "Missing required `role` claim in JWT"},
        {PAYLOAD("\"role\":\"guest\"," EXP), KBS_DENIED, PREFIX "Role guest not allowed"},
        {PAYLOAD("\"role\":\"Admin\"," EXP), KBS_DENIED, PREFIX "Role Admin not allowed"},
        {PAYLOAD("\"role\":\"admin\\u0000\"," EXP), KBS_UNAUTHENTICATED, NO_ISSUER},
        {PAYLOAD("\"role\":\"\"," EXP), KBS_DENIED, PREFIX "Role ? not allowed"},
        {PAYLOAD("\"role\":\"<script>\"," EXP), KBS_DENIED, PREFIX "Role ? not allowed"},
        {PAYLOAD(
             "\"role\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"," EXP),
         KBS_DENIED, PREFIX "Role ? not allowed"},
        {"[]", KBS_UNAUTHENTICATED, NO_ISSUER},
        {"{\"role\":\"admin\",\"role\":\"guest\"," EXP "}", KBS_UNAUTHENTICATED, NO_ISSUER},
#undef PAYLOAD
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        token(f, &f->ed, NULL, rows[i].payload);
        refused(f, rows[i].category, rows[i].detail);
        assert_true((f->admin != NULL) == (rows[i].category == KBS_DENIED));
    }
    f->req.authorization = KBS_SPAN_EMPTY;
    refused(f, KBS_UNAUTHENTICATED, PREFIX "Authorization is not a Bearer token");
    f->req.authorization = KBS_SPAN_LIT("Basic YTpi");
    refused(f, KBS_UNAUTHENTICATED, PREFIX "Authorization is not a Bearer token");
    f->req.authorization = KBS_SPAN_LIT("Bearer a.b.c");
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
}

#define GOOD "{\"iss\":\"idp\",\"aud\":\"kbs\",\"role\":\"admin\"," EXP "}"

/* A key that is nobody's, a key under another's name, and our own. */
static void keys_that_do_not_count(void **state)
{
    struct fixture *f = *state;
    struct maker stranger = maker_new("EdDSA");

    token(f, &stranger, NULL, GOOD);
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
    token(f, &stranger, "{\"alg\":\"ES256\",\"kid\":\"k1\"}", GOOD);
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
    maker_free(&stranger);
    token(f, &f->es, NULL, GOOD); /* a set's key without its name */
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
    token(f, &f->token, NULL,
          GOOD); /* what we sign is not an administrator's, even if configured */
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
    f->api->token.sign_count = 0; /* detector: it is that rule which refused it */
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    f->api->token.sign_count = 1;
}

static void rules_are_about_targets(void **state)
{
    struct fixture *f = *state;

    token(f, &f->ed, NULL, "{\"iss\":\"idp\",\"aud\":\"kbs\",\"role\":\"resource\"," EXP "}");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    f->req.target = KBS_SPAN_LIT(TARGET "?x=y"); /* a query is part of the target */
    refused(f, KBS_DENIED, PREFIX "Role resource not allowed");
    f->req.target = KBS_SPAN_LIT("/kbs/v0/resource/a/b/d"); /* not what the handler was given */
    refused(f, KBS_UNAUTHENTICATED, PREFIX "the target has another spelling than its route");
    f->req.target = KBS_SPAN_LIT("/kbs/v0/resource/a/b/%63");
    refused(f, KBS_UNAUTHENTICATED, PREFIX "the target has another spelling than its route");
    f->req.target = KBS_SPAN_LIT("/kbs/v0/resource-policy");
    refused(f, KBS_UNAUTHENTICATED, PREFIX "the target has another spelling than its route");
    f->req.target = KBS_SPAN_EMPTY;
}

/* No mode opens a route that Trustee's clients do not know. */
static void modes_are_for_some_routes(void **state)
{
    struct fixture *f = *state;

    token(f, &f->ed, NULL, GOOD);
    for (enum kbs_admin_mode mode = KBS_ADMIN_SIGNED; mode < KBS_ADMIN_MODE_COUNT; mode++) {
        for (int route = 0; route < 256; route++) {
            bool known =
                route >= KBS_ROUTE_RESOURCE_LIST && route <= KBS_ROUTE_ID_KEY_REGISTER;
            bool open = known && (mode == KBS_ADMIN_BEARER || mode == KBS_ADMIN_INSECURE_ALLOW_ALL);

            assert_int_equal(ask(f, mode, (enum kbs_route)route), open ? 0 : -1);
            if (!open) {
                assert_int_equal(f->err.category, KBS_UNAUTHENTICATED);
                assert_null(f->admin);
                assert_string_equal(f->err.detail, known && mode == KBS_ADMIN_DENY_ALL
                                                       ? PREFIX
                                                       "DenyAll authorization_mode is enabled"
                                                       : "Kbs-Signature is missing");
            }
        }
    }
}

static void anybody(void **state)
{
    struct fixture *f = *state;

    f->req.authorization = KBS_SPAN_EMPTY;
    assert_int_equal(ask(f, KBS_ADMIN_INSECURE_ALLOW_ALL, KBS_ROUTE_RESOURCE_SET), 0);
    assert_string_equal(f->admin->thumbprint, "anybody");
    assert_true(record_has(f->admin, 0, "anybody"));
    assert_false(record_has(f->admin, 0, "sequence"));
    assert_int_equal(kbs_admin_request(&f->call).len, 0);
    token(f, &f->ed, NULL, GOOD); /* a token changes nothing: it was not looked at */
    assert_int_equal(ask(f, KBS_ADMIN_INSECURE_ALLOW_ALL, KBS_ROUTE_RESOURCE_SET), 0);
    assert_string_equal(f->admin->thumbprint, "anybody");
    assert_int_equal(kbs_admin_request(&f->call).len, 0);
}

/* A request with Kbs-Signature stands or falls with it, in every mode. */
static void a_signature_decides(void **state)
{
    struct fixture *f = *state;

    token(f, &f->ed, NULL, GOOD);
    f->req.signature = KBS_SPAN_LIT("a.b.c");
    for (enum kbs_admin_mode mode = KBS_ADMIN_SIGNED; mode < KBS_ADMIN_MODE_COUNT; mode++) {
        assert_int_equal(ask(f, mode, KBS_ROUTE_RESOURCE_SET), -1);
        assert_int_equal(f->err.category, KBS_UNAUTHENTICATED);
        assert_null(strstr(f->err.detail, "Admin access denied"));
    }
    f->req.signature = KBS_SPAN_EMPTY;
}

static void new_fails(const char *const *providers, size_t n_providers, const char *const *acls,
                      size_t n_acls, const char *why)
{
    struct kbs_buf providers_buf = KBS_BUF(1 << 20);
    struct kbs_buf acls_buf = KBS_BUF(1 << 20);
    const struct kbs_wire_list p = list_of(&providers_buf, providers, n_providers);
    const struct kbs_wire_list a = list_of(&acls_buf, acls, n_acls);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_bearer *b = NULL;

    if (kbs_bearer_new(&p, &a, &b, &err) != -1 || b != NULL || err.category != KBS_INPUT ||
        strstr(err.detail, why) == NULL) {
        fail_msg("expected '%s', got '%s'", why, err.detail);
    }
    kbs_buf_deinit(&providers_buf);
    kbs_buf_deinit(&acls_buf);
}

/* What is wrong in the configuration is said at the start, with the place. */
static void configurations_that_are_refused(void **state)
{
    struct fixture *f = *state;
    struct kbs_buf pem = KBS_BUF(4096);
    const char *many[3 * (KBS_LIMIT_ADMIN_PROVIDERS + 1)];
    char longer[KBS_LIMIT_ADMIN_PROVIDER_BYTES + 2];

    maker_pem(&f->ed, &pem);
    const char *key = kbs_buf_cstr(&pem);
    memset(longer, 'i', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    for (size_t i = 0; i < COUNT(many); i++) {
        many[i] = i % 3 == 2 ? key : "";
    }
    new_fails(NULL, 0, NULL, 0, "1 to 16 identity providers");
    new_fails(many, COUNT(many), NULL, 0, "1 to 16 identity providers");
    new_fails(many, 2, NULL, 0, "malformed");
    new_fails((const char *const[]){"", "", key, "", "", "x"}, 6, NULL, 0, "identity provider 2: ");
    new_fails((const char *const[]){"", "", "{\"keys\":[]}"}, 3, NULL, 0,
              "identity provider 1: JWK");
    new_fails((const char *const[]){longer, "", key}, 3, NULL, 0, "over 255 bytes");
    new_fails(many, 3, (const char *const[]){"admin"}, 1, "malformed");
    new_fails(many, 3, (const char *const[]){"admin", "^/kbs("}, 2,
              "allowed_endpoints of role admin: ");
    new_fails(many, 3, (const char *const[]){"a", "^/kbs$", "b", "/kbs$"}, 4,
              "allowed_endpoints of role b: it does not begin with ^/kbs");
    new_fails(many, 3, (const char *const[]){"<b>", "^/kbs$"}, 2, "acl 1: a role is");
    new_fails(many, 3, (const char *const[]){"", "^/kbs$"}, 2, "acl 1: a role is");
    kbs_buf_deinit(&pem);
}

/* ---- keys that a provider publishes ---- */

/* In the place of kbs-fetch, for as long as its channel is open. */
struct publisher {
    int fd;
    pthread_t thread;
    struct kbs_buf set; /* what it has; empty: nothing yet */
    int64_t fetched_s;
    unsigned int look_agains;
};

static void *publish(void *arg)
{
    struct publisher *p = arg;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_cached_want want;

    while (kbs_channel_recv(p->fd, &m, kbs_deadline_in_ms(20000), &err) == 0 &&
           kbs_channel_msg_decode(&m, KBS_WIRE_CACHED_WANT, &want, &err) == 0 &&
           kbs_span_equal_str(want.name, "idp-keys")) {
        const struct kbs_wire_cached cached = {.there = p->set.len != 0,
                                               .fetched_s = (uint64_t)p->fetched_s,
                                               .content = kbs_buf_span(&p->set)};
        p->look_agains += want.look_again;
        if (kbs_channel_send(p->fd, KBS_WIRE_CACHED, m.frame.id, &cached, -1,
                             kbs_deadline_in_ms(20000), &err) != 0) {
            break;
        }
    }
    kbs_channel_msg_deinit(&m);
    return NULL;
}

static void publisher_start(struct fixture *f, struct publisher *p)
{
    static const char *const providers[] = {"idp", "kbs", "document:idp-keys"};
    static const char *const acls[] = {"admin", "^/kbs/v0/.*$"};
    struct kbs_buf providers_buf = KBS_BUF(1024);
    struct kbs_buf acls_buf = KBS_BUF(1024);
    const struct kbs_wire_list provider_list = list_of(&providers_buf, providers, COUNT(providers));
    const struct kbs_wire_list acl_list = list_of(&acls_buf, acls, COUNT(acls));
    int fds[2];

    f->api->bearer = kbs_bearer_free(f->api->bearer);
    assert_int_equal(kbs_bearer_new(&provider_list, &acl_list, &f->api->bearer, &f->err), 0);
    assert_int_equal(kbs_channel_pair(fds, &f->err), 0);
    f->api->fetch.fd = -1;
    kbs_fetch_attach(&f->api->fetch, fds[0]);
    p->fd = fds[1];
    assert_int_equal(pthread_create(&p->thread, NULL, publish, p), 0);
    kbs_buf_deinit(&providers_buf);
    kbs_buf_deinit(&acls_buf);
}

static void publisher_stop(struct fixture *f, struct publisher *p)
{
    kbs_fetch_attach(&f->api->fetch, -1);
    assert_int_equal(pthread_join(p->thread, NULL), 0);
    kbs_io_close(&p->fd);
    kbs_channel_msg_deinit(&f->api->fetch.answer);
    kbs_buf_deinit(&p->set);
}

static void set_of(struct publisher *p, const struct maker *m, const char *kid)
{
    kbs_buf_clear(&p->set);
    kbs_buf_put_str(&p->set, "{\"keys\":[");
    maker_jwk(m, "ES256", kid, NULL, &p->set);
    kbs_buf_put_str(&p->set, "]}");
}

/* The publisher waits for its turn whenever this changes what it has. */
static void keys_that_are_published(void **state)
{
    static const char *const claims =
        "{\"iss\":\"idp\",\"aud\":[\"kbs\"],\"role\":\"admin\",\"sub\":\"ann\"," EXP "}";
    struct fixture *f = *state;
    struct publisher p = {.set = KBS_BUF(4096), .fetched_s = NOW - 60};

    publisher_start(f, &p);
    token(f, &f->es, "{\"alg\":\"ES256\",\"kid\":\"k1\"}", claims);
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER); /* not fetched yet; and it was asked to look */
    assert_int_equal(p.look_agains, 1);

    set_of(&p, &f->es, "k1");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    assert_int_equal(p.look_agains, 1);

    kbs_buf_clear(&p.set); /* what is no set leaves the keys that there are */
    kbs_buf_put_str(&p.set, "<html>");
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);

    set_of(&p, &f->token, "k2"); /* the provider has rotated: its old key counts no more */
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
    assert_int_equal(p.look_agains, 2);
    token(f, &f->token, "{\"alg\":\"ES256\",\"kid\":\"k2\"}", claims);
    f->api->token.sign_count = 0; /* it is not the service's own here */
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);

    p.fetched_s = NOW - KBS_LIMIT_ADMIN_JWKS_STALE_S - 1;
    refused(f, KBS_UNAUTHENTICATED, NO_ISSUER);
    p.fetched_s = NOW;
    assert_int_equal(ask(f, KBS_ADMIN_BEARER, KBS_ROUTE_RESOURCE_SET), 0);
    publisher_stop(f, &p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bearer_lets_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bearer_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_that_do_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rules_are_about_targets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(modes_are_for_some_routes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(anybody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_signature_decides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(configurations_that_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_that_are_published, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
