/*
 * The JOSE attack table: what is known to have fooled readers of JOSE, against everything here that reads it. For
 * signatures these are three: a guest's session token, an administrator's Bearer token, and
 * Kbs-Signature; for keys the TEE's and an identity provider's; for encryption a sealed secret and an
 * import. Each row is refused as the next one is (401 for signatures), and each reader takes the same
 * text without the fault, so that a row says something.
 */
#include "tests/jose/maker.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "attest/ear.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/read/jwe.h"
#include "jose/read/jwt.h"
#include "jose/write/jose.h"
#include "wire/route.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1700000000
#define ISSUER "kbs-test"
#define KEYS "/kbs/v0/admin/keys"
#define RESOURCE_POLICY "/kbs/v0/resource-policy"
#define TEXT_MAX (4u << 20)

enum reader {
    SESSION,
    BEARER,
    SIGNATURE,
    READERS
};
#define S (1u << SESSION)
#define B (1u << BEARER)
#define K (1u << SIGNATURE)
#define NOBODY 0u

static const char *const reader_names[] = {"session token", "admin Bearer", "Kbs-Signature"};

struct fixture {
    struct kbs_api *api;
    struct maker good[READERS]; /* whose signatures count */
    char kid[READERS][KBS_API_THUMBPRINT_BYTES];
    struct kbs_buf providers;
    char payload[READERS][1024];
    struct kbs_error err;
};

static struct kbs_ec_public ec_of(const struct maker *m)
{
    struct kbs_buf pem = KBS_BUF(4096);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public ec;

    maker_pem(m, &pem);
    assert_int_equal(kbs_jose_public_from_pem(kbs_buf_span(&pem), &ec, &err), 0);
    kbs_buf_deinit(&pem);
    return ec;
}

/* ---- the three readers ---- */

/* As session.c does before it asks the store. */
static bool session_takes(struct fixture *f, struct kbs_span text)
{
    struct kbs_jose_jws jws;
    struct kbs_span sid;
    KBS_AUTO_JSON claims = NULL;
    bool ok;

    if (kbs_jose_jws_split(text, &jws, &f->err) != 0) {
        return false;
    }
    ok = kbs_span_equal_str(jws.kid, f->api->token.sign[0].kid) &&
         kbs_jose_jws_verify(&jws, &f->api->token.sign[0].key, &claims, &f->err) == 0 &&
         kbs_ear_check(claims, KBS_SPAN_LIT(ISSUER), NOW, &sid, &f->err) == 0;
    if (!ok && f->err.category == KBS_OK) {
        f->err.category = KBS_UNAUTHENTICATED; /* session.c's own refusal of the name */
    }
    kbs_jose_jws_deinit(&jws);
    return ok;
}

static bool gate_takes(struct fixture *f, struct kbs_wire_request *req, const char *pattern)
{
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;
    struct kbs_call call = {.api = f->api, .req = req, .answer = &f->api->answer, .now_s = NOW};

    req->method = KBS_SPAN_LIT("GET");
    req->target = kbs_span_str(pattern);
    f->api->denied =
        (struct kbs_sampler){.window_s = NOW, .count = KBS_LIMIT_AUDIT_REFUSALS_PER_MIN};
    return kbs_admin_verify(&call, "GET", pattern, false, &admin, &sequence, &f->err) == 0;
}

static bool takes(struct fixture *f, enum reader reader, struct kbs_span text)
{
    struct kbs_buf bearer = KBS_BUF(TEXT_MAX + 16);
    struct kbs_wire_request req = {.route = KBS_ROUTE_ADMIN_KEY_LIST, .signature = text};
    bool ok;

    f->err = KBS_ERROR_NONE;
    if (reader == SESSION) {
        ok = session_takes(f, text);
    } else if (reader == SIGNATURE) {
        ok = gate_takes(f, &req, KEYS);
    } else {
        kbs_buf_put_str(&bearer, "Bearer ");
        kbs_buf_put_span(&bearer, text);
        req = (struct kbs_wire_request){.route = KBS_ROUTE_RESOURCE_POLICY_LIST,
                                        .authorization = kbs_buf_span(&bearer)};
        ok = gate_takes(f, &req, RESOURCE_POLICY);
    }
    kbs_buf_deinit(&bearer);
    return ok;
}

static void expect(struct fixture *f, enum reader reader, struct kbs_span text, bool taken,
                   const char *what)
{
    bool ok = takes(f, reader, text);

    if (ok != taken || (!ok && f->err.category != KBS_UNAUTHENTICATED)) {
        fail_msg("%s: %s: %s (%s)", reader_names[reader], what, ok ? "taken" : "refused",
                 f->err.detail);
    }
}

/* ---- set-up ---- */

static void bearer_configure(struct fixture *f)
{
    struct kbs_buf list = KBS_BUF(8192);
    struct kbs_buf acls_buf = KBS_BUF(1024);
    struct kbs_wire_list_builder p = {.buf = &list};
    struct kbs_wire_list_builder a = {.buf = &acls_buf};

    f->providers = KBS_BUF(4096);
    kbs_buf_put_str(&f->providers, "{\"keys\":[");
    maker_jwk(&f->good[BEARER], "ES256", f->kid[BEARER], NULL, &f->providers);
    kbs_buf_put_str(&f->providers, "]}");
    kbs_wire_list_add(&p, KBS_SPAN_EMPTY);
    kbs_wire_list_add(&p, KBS_SPAN_EMPTY);
    kbs_wire_list_add(&p, kbs_buf_span(&f->providers));
    kbs_wire_list_add(&a, KBS_SPAN_LIT("admin"));
    kbs_wire_list_add(&a, KBS_SPAN_LIT("^/kbs/v0/resource-policy$"));
    const struct kbs_wire_list providers = kbs_wire_list_done(&p);
    const struct kbs_wire_list acls = kbs_wire_list_done(&a);
    assert_int_equal(kbs_bearer_new(&providers, &acls, &f->api->bearer, &f->err), 0);
    kbs_buf_deinit(&list);
    kbs_buf_deinit(&acls_buf);
}

/* What a good one of each says. The nonce is the gate's own. */
static void payloads_make(struct fixture *f)
{
    struct kbs_call call = {.api = f->api, .answer = &f->api->answer, .now_s = NOW};
    KBS_AUTO_JSON nonce = NULL;
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_buf b = KBS_BUF(64);

    (void)snprintf(f->payload[SESSION], sizeof(f->payload[SESSION]),
                   "{\"iss\":\"" ISSUER "\",\"iat\":%d,\"exp\":%d,\"sid\":\"00ff\",\"eat_profile\":"
                   "\"tag:github.com,2024:confidential-containers/Trustee\"}",
                   NOW - 1, NOW + 60);
    (void)snprintf(f->payload[BEARER], sizeof(f->payload[BEARER]),
                   "{\"role\":\"admin\",\"exp\":%d}", NOW + 60);
    f->api->answer.body = KBS_BUF(4096);
    assert_int_equal(kbs_api_admin_nonce(&call, &f->err), 0);
    assert_int_equal(
        kbs_json_parse_object(kbs_buf_span(&f->api->answer.body), "nonce", &nonce, &f->err), 0);
    kbs_sha256(KBS_SPAN_EMPTY, digest);
    kbs_base64url_put(&b, kbs_span(digest, sizeof(digest)));
    (void)snprintf(f->payload[SIGNATURE], sizeof(f->payload[SIGNATURE]),
                   "{\"m\":\"GET\",\"p\":\"" KEYS
                   "\",\"b\":\"%s\",\"n\":\"%s\",\"s\":1,\"exp\":%d}",
                   kbs_buf_cstr(&b), json_string_value(json_object_get(nonce, "nonce")), NOW + 60);
    kbs_buf_deinit(&b);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->api = calloc(1, sizeof(*f->api));
    assert_non_null(f->api);
    for (size_t i = 0; i < READERS; i++) {
        struct kbs_ec_public ec;

        f->good[i] = maker_new("ES256");
        ec = ec_of(&f->good[i]);
        kbs_jose_thumbprint(&ec, f->kid[i]);
    }
    f->api->admin_mode = KBS_ADMIN_BEARER;
    f->api->token.sign_count = 1;
    f->api->token.sign[0].key = ec_of(&f->good[SESSION]);
    memcpy(f->api->token.sign[0].kid, f->kid[SESSION], sizeof(f->kid[SESSION]));
    f->api->admins = calloc(1, sizeof(*f->api->admins));
    assert_non_null(f->api->admins);
    f->api->admin_count = 1;
    f->api->admins[0].key = ec_of(&f->good[SIGNATURE]);
    memcpy(f->api->admins[0].thumbprint, f->kid[SIGNATURE], sizeof(f->kid[SIGNATURE]));
    bearer_configure(f);
    payloads_make(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    f->api->bearer = kbs_bearer_free(f->api->bearer);
    for (size_t i = 0; i < READERS; i++) {
        maker_free(&f->good[i]);
    }
    kbs_buf_deinit(&f->providers);
    kbs_buf_deinit(&f->api->answer.body);
    free(f->api->admins);
    free(f->api);
    free(f);
    return 0;
}

/* ---- headers: signed as they should be, whatever they say ---- */

/* $K: the member "kid" as it should be; $T: what else this reader's header has. */
static void header_make(const struct fixture *f, enum reader reader, const char *template,
                        struct kbs_buf *out)
{
    for (; *template != '\0'; template ++) {
        if (strncmp(template, "$K", 2) == 0) {
            kbs_buf_printf(out, "\"kid\":\"%s\"", f->kid[reader]);
            template ++;
        } else if (strncmp(template, "$T", 2) == 0) {
            kbs_buf_put_str(out, reader == SIGNATURE ? ",\"typ\":\"kbs-admin\"" : "");
            template ++;
        } else {
            kbs_buf_put_u8(out, (uint8_t) * template);
        }
    }
    assert_false(out->failed);
}

static void header_asked(struct fixture *f, enum reader reader, const char *template, bool taken)
{
    struct kbs_buf header = KBS_BUF(TEXT_MAX);
    struct kbs_buf text = KBS_BUF(TEXT_MAX);

    header_make(f, reader, template, &header);
    maker_jws(&f->good[reader], kbs_buf_cstr(&header), f->payload[reader], &text);
    expect(f, reader, kbs_buf_span(&text), taken, template);
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&text);
}

static const struct {
    const char *header;
    unsigned int taken; /* readers that rightly ignore what they do not know (RFC 7515 section 4) */
} headers[] = {
    {"{\"alg\":\"ES256\",$K$T}", S | B | K}, /* the detector */
    {"{\"alg\":\"none\",$K$T}", NOBODY},
    {"{\"alg\":\"None\",$K$T}", NOBODY},
    {"{\"alg\":\"nOnE\",$K$T}", NOBODY},
    {"{\"alg\":\"\",$K$T}", NOBODY},
    {"{$K$T}", NOBODY},
    {"{\"alg\":null,$K$T}", NOBODY},
    {"{\"alg\":256,$K$T}", NOBODY},
    {"{\"alg\":[\"ES256\"],$K$T}", NOBODY},
    {"{\"alg\":\"es256\",$K$T}", NOBODY},
    {"{\"alg\":\"ES256 \",$K$T}", NOBODY},
    {"{\"alg\":\"ES256\\u0000\",$K$T}", NOBODY},
    {"{\"Alg\":\"ES256\",$K$T}", NOBODY},
    {"{\"alg\":\"ES256K\",$K$T}", NOBODY},
    {"{\"alg\":\"ES384\",$K$T}", NOBODY},
    {"{\"alg\":\"ES512\",$K$T}", NOBODY},
    {"{\"alg\":\"HS256\",$K$T}", NOBODY},
    {"{\"alg\":\"HS384\",$K$T}", NOBODY},
    {"{\"alg\":\"HS512\",$K$T}", NOBODY},
    {"{\"alg\":\"RS256\",$K$T}", NOBODY},
    {"{\"alg\":\"PS256\",$K$T}", NOBODY},
    {"{\"alg\":\"EdDSA\",$K$T}", NOBODY},
    {"{\"alg\":\"RSA1_5\",$K$T}", NOBODY},
    {"{\"alg\":\"dir\",$K$T}", NOBODY},
    {"{\"alg\":\"ECDH-ES+A256KW\",$K$T}", NOBODY},
    {"{\"alg\":\"PBES2-HS256+A128KW\",\"p2c\":2147483647,$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"alg\":\"none\",$K$T}", NOBODY},
    {"{\"alg\":\"none\",\"alg\":\"ES256\",$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",$K,$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"crit\":[\"exp\"],$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"crit\":[],$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"crit\":[\"b64\"],\"b64\":false,$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"b64\":false,$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"b64\":true,$K$T}", NOBODY},
    {"{\"alg\":\"ES256\",$K$T} ", S | B | K}, /* white space around JSON means nothing */
    {"{\"alg\":\"ES256\",$K$T}x", NOBODY},
    {"[{\"alg\":\"ES256\",$K$T}]", NOBODY},
    {"\"ES256\"", NOBODY},
    {"{\"alg\":\"ES256\",$K$T", NOBODY},
    {"{\"alg\":\"ES256\",\"kid\":null$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"kid\":\"\"$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"kid\":7$T}", NOBODY},
    {"{\"alg\":\"ES256\"$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"kid\":\"../../etc/passwd\"$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"kid\":\"a\\u0000b\"$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"kid\":\"' OR 1=1 --\"$T}", NOBODY},
    {"{\"alg\":\"ES256\",\"typ\":7,$K}", NOBODY},
    {"{\"alg\":\"ES256\",\"typ\":\"JWT\",$K}", S | B}, /* a JWT is no Kbs-Signature */
    {"{\"alg\":\"ES256\",\"typ\":\"kbs-admin\",$K}", S | B | K},
    {"{\"alg\":\"ES256\",\"zip\":\"DEF\",$K$T}", S | B}, /* zip is of JWE: nothing is inflated */
    {"{\"alg\":\"ES256\",\"cty\":\"JWT\",$K$T}", S | B},
    {"{\"alg\":\"ES256\",\"jku\":\"https://evil.example/jwks\",$K$T}", S | B}, /* never fetched */
    {"{\"alg\":\"ES256\",\"x5u\":\"file:///dev/zero\",$K$T}", S | B},
    {"{\"alg\":\"ES256\",\"x5c\":[\"AAAA\"],$K$T}", S | B},
};

static void headers_are_read_strictly(void **state)
{
    for (size_t i = 0; i < COUNT(headers); i++) {
        for (enum reader r = SESSION; r < READERS; r++) {
            header_asked(*state, r, headers[i].header, (headers[i].taken & (1u << r)) != 0);
        }
    }
}

/* A name or a nesting beyond all measure costs no more than its bytes. */
static void headers_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct kbs_buf kid = KBS_BUF(TEXT_MAX);
    struct kbs_buf deep = KBS_BUF(TEXT_MAX);

    kbs_buf_put_str(&kid, "{\"alg\":\"ES256\",\"kid\":\"");
    for (int i = 0; i < 65536; i++) {
        kbs_buf_put_u8(&kid, 'k');
    }
    kbs_buf_put_str(&kid, "\"$T}");
    kbs_buf_put_str(&deep, "{\"alg\":\"ES256\",$K$T,\"a\":");
    for (int i = 0; i < 1000; i++) {
        kbs_buf_put_str(&deep, "[");
    }
    for (int i = 0; i < 1000; i++) {
        kbs_buf_put_str(&deep, "]");
    }
    kbs_buf_put_str(&deep, "}");
    for (enum reader r = SESSION; r < READERS; r++) {
        header_asked(f, r, kbs_buf_cstr(&kid), false);
        header_asked(f, r, kbs_buf_cstr(&deep), false);
    }
    kbs_buf_deinit(&kid);
    kbs_buf_deinit(&deep);
}

/* A token that brings the key it was signed with, under the name of ours. */
static void keys_from_tokens_are_not_trusted(void **state)
{
    struct fixture *f = *state;
    struct maker thief = maker_new("ES256");

    for (enum reader r = SESSION; r < READERS; r++) {
        struct kbs_buf header = KBS_BUF(4096);
        struct kbs_buf text = KBS_BUF(TEXT_MAX);

        header_make(f, r, "{\"alg\":\"ES256\",$K$T", &header); /* unchanged: the retired key */
        kbs_buf_put_u8(&header, '}');
        maker_jws(&thief, kbs_buf_cstr(&header), f->payload[r], &text);
        expect(f, r, kbs_buf_span(&text), false, "another key under the name");
        kbs_buf_clear(&header);
        kbs_buf_clear(&text);
        header_make(f, r, "{\"alg\":\"ES256\",$K$T,\"jwk\":", &header);
        maker_jwk(&thief, "ES256", f->kid[r], NULL, &header);
        kbs_buf_put_u8(&header, '}');
        maker_jws(&thief, kbs_buf_cstr(&header), f->payload[r], &text);
        expect(f, r, kbs_buf_span(&text), false, "a key in the header");
        kbs_buf_clear(&text); /* and it is not even looked at */
        maker_jws(&f->good[r], kbs_buf_cstr(&header), f->payload[r], &text);
        expect(f, r, kbs_buf_span(&text), r != SIGNATURE, "a key in the header, signed by ours");
        kbs_buf_deinit(&header);
        kbs_buf_deinit(&text);
    }
    maker_free(&thief);
}

/* A token for one reader is nothing to the others, even under their keys' names. */
static void readers_are_apart(void **state)
{
    struct fixture *f = *state;

    for (enum reader from = SESSION; from < READERS; from++) {
        for (enum reader to = SESSION; to < READERS; to++) {
            struct kbs_buf header = KBS_BUF(4096);
            struct kbs_buf text = KBS_BUF(TEXT_MAX);

            header_make(f, to, "{\"alg\":\"ES256\",$K$T}", &header);
            maker_jws(&f->good[to], kbs_buf_cstr(&header), f->payload[from], &text);
            expect(f, to, kbs_buf_span(&text), from == to, "the other reader's payload");
            kbs_buf_clear(&text);
            maker_jws(&f->good[from], kbs_buf_cstr(&header), f->payload[to], &text);
            expect(f, to, kbs_buf_span(&text), from == to, "the other reader's key");
            kbs_buf_deinit(&header);
            kbs_buf_deinit(&text);
        }
    }
}

/* The public half as the secret of an HMAC, in every form that a reader may have at hand. */
static void public_keys_are_no_secrets(void **state)
{
    struct fixture *f = *state;

    for (enum reader r = SESSION; r < READERS; r++) {
        struct kbs_ec_public ec = ec_of(&f->good[r]);
        struct kbs_buf forms[3] = {KBS_BUF(4096), KBS_BUF(4096), KBS_BUF(4096)};
        struct kbs_buf header = KBS_BUF(4096);
        uint8_t point[KBS_EC_POINT_MAX_BYTES];

        maker_pem(&f->good[r], &forms[0]);
        maker_jwk(&f->good[r], "ES256", f->kid[r], NULL, &forms[1]);
        kbs_buf_put(&forms[2], point, kbs_ec_point_put(&ec, point));
        header_make(f, r, "{\"alg\":\"HS256\",$K$T}", &header);
        for (size_t i = 0; i < COUNT(forms); i++) {
            struct kbs_buf text = KBS_BUF(TEXT_MAX);

            maker_hs256(kbs_buf_span(&forms[i]), kbs_buf_cstr(&header), f->payload[r], &text);
            expect(f, r, kbs_buf_span(&text), false, "HS256 by the public key");
            kbs_buf_deinit(&text);
            kbs_buf_deinit(&forms[i]);
        }
        kbs_buf_deinit(&header);
    }
}

/* ---- texts: a good token, changed ---- */

struct forged {
    struct kbs_buf header;    /* base64url */
    struct kbs_buf payload;   /* base64url */
    struct kbs_buf signature; /* bytes */
    struct kbs_buf text;      /* what is sent, if a row made it itself */
    const struct maker *by;
};

static void part_put(struct forged *x, const struct kbs_buf *part)
{
    kbs_buf_put_span(&x->text, kbs_buf_span(part));
}

static void text_put(struct forged *x, const char *between, const char *end)
{
    part_put(x, &x->header);
    kbs_buf_put_str(&x->text, between);
    part_put(x, &x->payload);
    kbs_buf_put_str(&x->text, between);
    kbs_base64url_put(&x->text, kbs_buf_span(&x->signature));
    kbs_buf_put_str(&x->text, end);
}

static void signature_number(struct forged *x, size_t half, const BIGNUM *n)
{
    assert_int_equal(BN_bn2binpad(n, x->signature.p + 32 * half, 32), 32);
}

static void number_set(struct forged *x, size_t half, bool order)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    BIGNUM *zero = BN_new();

    signature_number(x, half, order ? EC_GROUP_get0_order(group) : zero);
    BN_free(zero);
    EC_GROUP_free(group);
}

static void unchanged(struct forged *x)
{
    (void)x;
}
static void r_is_zero(struct forged *x)
{
    number_set(x, 0, false);
}
static void s_is_zero(struct forged *x)
{
    number_set(x, 1, false);
}
static void both_are_zero(struct forged *x)
{
    number_set(x, 0, false);
    number_set(x, 1, false);
}
static void r_is_the_order(struct forged *x)
{
    number_set(x, 0, true);
}
static void s_is_the_order(struct forged *x)
{
    number_set(x, 1, true);
}
static void a_bit_of_the_signature(struct forged *x)
{
    x->signature.p[63] ^= 1;
}
static void shorter_signature(struct forged *x)
{
    x->signature.len--;
}
static void longer_signature(struct forged *x)
{
    kbs_buf_put_u8(&x->signature, 0);
}
static void no_signature(struct forged *x)
{
    x->signature.len = 0;
}
static void half_a_signature(struct forged *x)
{
    x->signature.len = 32;
}
static void der_signature(struct forged *x)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct kbs_buf input = KBS_BUF(8192);
    uint8_t der[128];
    size_t n = sizeof(der);

    kbs_buf_put_span(&input, kbs_buf_span(&x->header));
    kbs_buf_put_u8(&input, '.');
    kbs_buf_put_span(&input, kbs_buf_span(&x->payload));
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, x->by->pkey), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &n, input.p, input.len), 1);
    kbs_buf_clear(&x->signature);
    kbs_buf_put(&x->signature, der, n);
    kbs_buf_deinit(&input);
    EVP_MD_CTX_free(ctx);
}
static void payload_without_signature(struct forged *x)
{
    part_put(x, &x->header);
    kbs_buf_put_u8(&x->text, '.');
    part_put(x, &x->payload);
}
static void no_payload(struct forged *x)
{
    kbs_buf_clear(&x->payload);
}
static void detached_payload(struct forged *x)
{
    kbs_buf_put_span(&x->text, kbs_buf_span(&x->header));
    kbs_buf_put_str(&x->text, "..");
    kbs_base64url_put(&x->text, kbs_buf_span(&x->signature));
}
static void four_parts(struct forged *x)
{
    text_put(x, ".", ".AAAA");
}
static void five_parts(struct forged *x)
{
    text_put(x, ".", ".AAAA.AAAA");
}
static void final_dot(struct forged *x)
{
    text_put(x, ".", ".");
}
static void blank_before(struct forged *x)
{
    kbs_buf_put_u8(&x->text, ' ');
    text_put(x, ".", "");
}
static void blank_behind(struct forged *x)
{
    text_put(x, ".", " ");
}
static void line_end_behind(struct forged *x)
{
    text_put(x, ".", "\n");
}
static void padding_behind(struct forged *x)
{
    text_put(x, ".", "==");
}
static void padding_inside(struct forged *x)
{
    kbs_buf_put_str(&x->payload, "=");
}
static void blank_inside(struct forged *x)
{
    kbs_buf_put_str(&x->header, " ");
}
static void nul_inside(struct forged *x)
{
    kbs_buf_put_u8(&x->payload, 0);
}
static void other_alphabet(struct forged *x)
{
    x->payload.p[4] = '+';
}
static void bits_behind(struct forged *x)
{
    text_put(x, ".", "");
    x->text.p[x->text.len - 1]++; /* 64 bytes leave 4 bits of the last character unused */
}
static void a_bit_of_the_payload(struct forged *x)
{
    x->payload.p[8] = x->payload.p[8] == 'A' ? 'B' : 'A';
}
static void json_form(struct forged *x)
{
    kbs_buf_put_str(&x->text, "{\"protected\":\"");
    part_put(x, &x->header);
    kbs_buf_put_str(&x->text, "\",\"payload\":\"");
    part_put(x, &x->payload);
    kbs_buf_put_str(&x->text, "\",\"signature\":\"");
    kbs_base64url_put(&x->text, kbs_buf_span(&x->signature));
    kbs_buf_put_str(&x->text, "\"}");
}
static void unprotected_header(struct forged *x)
{
    kbs_buf_put_str(&x->text, "{\"header\":{\"alg\":\"ES256\"},\"payload\":\"");
    part_put(x, &x->payload);
    kbs_buf_put_str(&x->text, "\",\"signature\":\"");
    kbs_base64url_put(&x->text, kbs_buf_span(&x->signature));
    kbs_buf_put_str(&x->text, "\"}");
}
/* A good token as the payload of a good token. */
static void nested(struct forged *x)
{
    struct kbs_buf inner = KBS_BUF(16384);
    char header[512];
    struct kbs_buf decoded = KBS_BUF(512);

    text_put(x, ".", "");
    kbs_buf_put_span(&inner, kbs_buf_span(&x->text));
    kbs_buf_clear(&x->text);
    assert_int_equal(kbs_base64url_get(&decoded, kbs_buf_span(&x->header)), 0);
    assert_true(kbs_span_to_cstr(kbs_buf_span(&decoded), header, sizeof(header)));
    maker_jws(x->by, header, kbs_buf_cstr(&inner), &x->text);
    kbs_buf_deinit(&inner);
    kbs_buf_deinit(&decoded);
}
static void megabyte(struct forged *x)
{
    while (x->payload.len < (1u << 20)) {
        kbs_buf_put_str(&x->payload,
                        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    }
}
static void dots(struct forged *x)
{
    for (int i = 0; i < 65536; i++) {
        kbs_buf_put_u8(&x->text, '.');
    }
}

static const struct {
    const char *name;
    void (*change)(struct forged *x);
    bool taken;
} texts[] = {
    {"unchanged", unchanged, true}, /* the detector */
    {"r is 0", r_is_zero, false},
    {"s is 0", s_is_zero, false},
    {"r and s are 0", both_are_zero, false},
    {"r is the order", r_is_the_order, false},
    {"s is the order", s_is_the_order, false},
    {"a bit of the signature", a_bit_of_the_signature, false},
    {"a bit of the payload", a_bit_of_the_payload, false},
    {"63 bytes", shorter_signature, false},
    {"65 bytes", longer_signature, false},
    {"32 bytes", half_a_signature, false},
    {"no signature", no_signature, false},
    {"DER", der_signature, false},
    {"two parts", payload_without_signature, false},
    {"no payload", no_payload, false},
    {"detached payload", detached_payload, false},
    {"four parts", four_parts, false},
    {"five parts", five_parts, false},
    {"a dot at the end", final_dot, false},
    {"a blank before", blank_before, false},
    {"a blank behind", blank_behind, false},
    {"a line end behind", line_end_behind, false},
    {"padding", padding_behind, false},
    {"padding inside", padding_inside, false},
    {"a blank inside", blank_inside, false},
    {"NUL inside", nul_inside, false},
    {"the other alphabet", other_alphabet, false},
    {"bits behind the last byte", bits_behind, false},
    {"JSON serialisation", json_form, false},
    {"unprotected header", unprotected_header, false},
    {"nested", nested, false},
    {"a megabyte", megabyte, false},
    {"64 KiB of dots", dots, false},
};

static void text_asked(struct fixture *f, enum reader r, size_t row)
{
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_buf input = KBS_BUF(8192);
    struct forged x = {.header = KBS_BUF(TEXT_MAX),
                       .payload = KBS_BUF(TEXT_MAX),
                       .signature = KBS_BUF(1024),
                       .text = KBS_BUF(TEXT_MAX),
                       .by = &f->good[r]};

    header_make(f, r, "{\"alg\":\"ES256\",$K$T}", &header);
    kbs_base64url_put(&x.header, kbs_buf_span(&header));
    kbs_base64url_put(&x.payload, kbs_span_str(f->payload[r]));
    kbs_buf_put_span(&input, kbs_buf_span(&x.header));
    kbs_buf_put_u8(&input, '.');
    kbs_buf_put_span(&input, kbs_buf_span(&x.payload));
    maker_sign(&f->good[r], kbs_buf_span(&input), &x.signature);
    texts[row].change(&x);
    if (x.text.len == 0) {
        text_put(&x, ".", "");
    }
    expect(f, r, kbs_buf_span(&x.text), texts[row].taken, texts[row].name);
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&input);
    kbs_buf_deinit(&x.header);
    kbs_buf_deinit(&x.payload);
    kbs_buf_deinit(&x.signature);
    kbs_buf_deinit(&x.text);
}

static void texts_are_read_strictly(void **state)
{
    for (size_t i = 0; i < COUNT(texts); i++) {
        for (enum reader r = SESSION; r < READERS; r++) {
            text_asked(*state, r, i);
        }
    }
}

/* ---- claims ---- */

static const char *const times[] = {
    "", /* absent */
    "\"exp\":null",
    "\"exp\":\"1700000060\"",
    "\"exp\":1700000060.5",
    "\"exp\":1e308",
    "\"exp\":1e400",
    "\"exp\":-1",
    "\"exp\":0",
    "\"exp\":99999999999999999999",
    "\"exp\":[1700000060]",
    "\"exp\":true",
    "\"exp\":1700000060,\"exp\":1",
    "\"exp\":1700000060,\"nbf\":\"1\"",
    "\"exp\":1700000060,\"nbf\":1.5",
    "\"exp\":1700000060,\"nbf\":1700009999",
    "\"exp\":1700000060,\"nbf\":9223372036854775807",
    "\"exp\":1699999000",
};
static const char *const session_times[] = {
    "\"exp\":1700000060,\"iat\":\"1\"", "\"exp\":1700000060,\"iat\":-1",
    "\"exp\":1700000060,\"iat\":1.5",   "\"exp\":1700000060,\"iat\":1700000001",
    "\"exp\":1700000060,\"iat\":1e308", "\"exp\":1700000060",
};

static void payload_asked(struct fixture *f, enum reader r, const char *payload, bool taken)
{
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_buf text = KBS_BUF(TEXT_MAX);

    header_make(f, r, "{\"alg\":\"ES256\",$K$T}", &header);
    maker_jws(&f->good[r], kbs_buf_cstr(&header), payload, &text);
    expect(f, r, kbs_buf_span(&text), taken, payload);
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&text);
}

#define PROFILE \
    "\"eat_profile\":\"tag:github.com,2024:confidential-containers/Trustee\",\"sid\":\"00\""

static void claims_are_read_strictly(void **state)
{
    struct fixture *f = *state;
    static const char *const issuers[] = {"", "\"iss\":null,", "\"iss\":\"KBS-TEST\",",
                                          "\"iss\":\"kbs-test/\",", "\"iss\":[\"kbs-test\"],"};
    char payload[1024];

    for (size_t i = 0; i < COUNT(times); i++) {
        (void)snprintf(payload, sizeof(payload),
                       "{\"iss\":\"" ISSUER "\",%s%s\"iat\":1," PROFILE "}", times[i],
                       times[i][0] != '\0' ? "," : "");
        payload_asked(f, SESSION, payload, false);
        (void)snprintf(payload, sizeof(payload), "{%s%s\"role\":\"admin\"}", times[i],
                       times[i][0] != '\0' ? "," : "");
        payload_asked(f, BEARER, payload, false);
    }
    for (size_t i = 0; i < COUNT(session_times); i++) {
        (void)snprintf(payload, sizeof(payload), "{\"iss\":\"" ISSUER "\",%s," PROFILE "}",
                       session_times[i]);
        payload_asked(f, SESSION, payload, false);
    }
    for (size_t i = 0; i < COUNT(issuers); i++) {
        (void)snprintf(payload, sizeof(payload), "{%s\"exp\":1700000060,\"iat\":1," PROFILE "}",
                       issuers[i]);
        payload_asked(f, SESSION, payload, false);
    }
    payload_asked(f, SESSION, "{\"iss\":\"" ISSUER "\",\"exp\":1700000060,\"iat\":1," PROFILE "}",
                  true);
    payload_asked(f, BEARER, "{\"exp\":1700000060,\"role\":\"admin\"}", true);
    payload_asked(f, BEARER, "{\"exp\":9223372036854775807,\"role\":\"admin\"}",
                  true); /* as Trustee */
}

/* An algorithm that costs more than ours is refused before it is computed. */
static void refusals_are_cheap(void **state)
{
    struct fixture *f = *state;
    static const char *const algs[] = {"ES256", "ES384", "ES512"};
    struct maker dear = maker_new("ES384");

    for (size_t i = 0; i < COUNT(algs); i++) {
        struct kbs_buf text = KBS_BUF(TEXT_MAX);
        const struct maker by = i == 0 ? f->good[SIGNATURE] : dear; /* not the provider's */
        char header[128];
        uint64_t begun;

        (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\"}", algs[i],
                       f->kid[BEARER]);
        maker_jws(&by, header, f->payload[BEARER], &text);
        begun = kbs_clock_mono_ns();
        for (int n = 0; n < 200; n++) {
            expect(f, BEARER, kbs_buf_span(&text), false, algs[i]);
        }
        print_message("%s under an ES256 key: %llu us a refusal\n", algs[i],
                      (unsigned long long)((kbs_clock_mono_ns() - begun) / 200000));
        kbs_buf_deinit(&text);
    }
    maker_free(&dear);
}

/* ---- keys ---- */

/* As attest/rcar.c and an identity provider's set read them. */
static bool jwk_taken(const char *text, bool tee)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public ec;
    struct kbs_rsa_public rsa;
    struct kbs_jws_key key;
    KBS_AUTO_JSON v = NULL;
    bool ok;

    if (kbs_json_parse_object(kbs_span_str(text), "JWK", &v, &err) != 0) {
        return false;
    }
    if (tee) {
        ok = kbs_jose_jwk_get(v, KBS_JOSE_ECDH_ES_A256KW, &ec, &err) == 0 ||
             kbs_jose_rsa_jwk_get(v, "RSA-OAEP-256", &rsa, &err) == 0;
    } else {
        ok = kbs_jws_key_from_jwk(v, &key, &err) == 0;
    }
    assert_true(ok || err.category == KBS_INPUT || err.category == KBS_UNPROCESSABLE);
    return ok;
}

#define X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define ZERO "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define P "_____wAAAAEAAAAAAAAAAAAAAAD_______________8" /* the field's prime */
#define EC_HEAD "{\"kty\":\"EC\",\"alg\":\"$A\","
#define EC_KEY EC_HEAD "\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\""

static const struct {
    const char *what;
    const char *jwk; /* $A: the reader's algorithm */
    bool taken;
} ec_keys[] = {
    {"unchanged", EC_KEY "}", true},
    {"unknown members", EC_KEY ",\"zz\":1}", true},
    {"infinity", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" ZERO "\",\"y\":\"" ZERO "\"}", false},
    {"off the curve", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" X "\"}", false},
    {"x and y swapped", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" Y "\",\"y\":\"" X "\"}", false},
    {"x is the prime", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" P "\",\"y\":\"" Y "\"}", false},
    {"y is the prime", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" P "\"}", false},
    {"compressed: no y", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" X "\"}", false},
    {"compressed: y is a bit", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":true}", false},
    {"compressed: in x", EC_HEAD "\"crv\":\"P-256\",\"x\":\"A" X "\",\"y\":\"" Y "\"}", false},
    {"no x", EC_HEAD "\"crv\":\"P-256\",\"y\":\"" Y "\"}", false},
    {"another curve", EC_HEAD "\"crv\":\"P-384\",\"x\":\"" X "\",\"y\":\"" Y "\"}", false},
    {"a curve of no field", EC_HEAD "\"crv\":\"secp256k1\",\"x\":\"" X "\",\"y\":\"" Y "\"}",
     false},
    {"no curve", EC_HEAD "\"x\":\"" X "\",\"y\":\"" Y "\"}", false},
    {"a private key", EC_KEY ",\"d\":\"" X "\"}", false},
    {"padding", EC_HEAD "\"crv\":\"P-256\",\"x\":\"" X "=\",\"y\":\"" Y "\"}", false},
    {"a blank", EC_HEAD "\"crv\":\"P-256\",\"x\":\" " X "\",\"y\":\"" Y "\"}", false},
    {"bits behind",
     EC_HEAD "\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV\","
             "\"y\":\"" Y "\"}",
     false},
    {"31 bytes",
     EC_HEAD "\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVE\","
             "\"y\":\"" Y "\"}",
     false},
    {"a zero in front",
     EC_HEAD "\"crv\":\"P-256\",\"x\":\"AH_NzidwuCdxfzFk6wGxYRXmVORXIu7t_L38n83c6VUA\","
             "\"y\":\"" Y "\"}",
     false},
    {"two x", EC_KEY ",\"x\":\"" X "\"}", false},
    {"another use", EC_KEY ",\"use\":\"$U\"}", false},
    {"other operations", EC_KEY ",\"key_ops\":[\"wrapKey\"]}", false},
    {"another kind",
     "{\"kty\":\"OKP\",\"alg\":\"$A\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\"}", false},
    {"symmetric", "{\"kty\":\"oct\",\"alg\":\"$A\",\"k\":\"" X "\"}", false},
    {"alg of RSA",
     "{\"kty\":\"EC\",\"alg\":\"RSA-OAEP-256\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\"}",
     false},
    {"alg none",
     "{\"kty\":\"EC\",\"alg\":\"none\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\"}", false},
};

static void jwk_asked(const char *template, bool tee, bool taken, const char *what)
{
    struct kbs_buf text = KBS_BUF(65536);

    for (const char *p = template; *p != '\0'; p++) {
        if (strncmp(p, "$A", 2) == 0) {
            kbs_buf_put_str(&text, tee ? KBS_JOSE_ECDH_ES_A256KW : "ES256");
            p++;
        } else if (strncmp(p, "$U", 2) == 0) {
            kbs_buf_put_str(&text, tee ? "sig" : "enc");
            p++;
        } else {
            kbs_buf_put_u8(&text, (uint8_t)*p);
        }
    }
    if (jwk_taken(kbs_buf_cstr(&text), tee) != taken) {
        fail_msg("%s: %s: %s", tee ? "tee-pubkey" : "provider's key", what,
                 taken ? "refused" : "taken");
    }
    kbs_buf_deinit(&text);
}

static void ec_keys_are_read_strictly(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(ec_keys); i++) {
        jwk_asked(ec_keys[i].jwk, true, ec_keys[i].taken, ec_keys[i].what);
        jwk_asked(ec_keys[i].jwk, false, ec_keys[i].taken, ec_keys[i].what);
    }
}

/* A modulus of that many bytes: the first and last as given, the others alike. */
static void rsa_asked(size_t bytes, uint8_t first, uint8_t last, const char *e, const char *more,
                      bool taken, const char *what)
{
    struct kbs_buf n = KBS_BUF(8192);
    static const char *const algs[] = {"RSA-OAEP-256", "RS256"};

    for (size_t i = 0; i < bytes; i++) {
        kbs_buf_put_u8(&n, i == 0 ? first : i + 1 == bytes ? last : 0xb7);
    }
    for (size_t i = 0; i < COUNT(algs); i++) {
        struct kbs_buf text = KBS_BUF(32768);

        kbs_buf_printf(&text, "{\"kty\":\"RSA\",\"alg\":\"%s\",\"e\":\"%s\",\"n\":\"", algs[i], e);
        kbs_base64url_put(&text, kbs_buf_span(&n));
        kbs_buf_printf(&text, "\"%s}", more);
        if (jwk_taken(kbs_buf_cstr(&text), i == 0) != taken) {
            fail_msg("%s: %s", algs[i], what);
        }
        kbs_buf_deinit(&text);
    }
    kbs_buf_deinit(&n);
}

static void rsa_keys_are_read_strictly(void **state)
{
    char large[5500];

    (void)state;
    memset(large, 'B', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    rsa_asked(256, 0xc5, 0x0b, "AQAB", "", true, "unchanged");
    rsa_asked(512, 0xc5, 0x0b, "AQAB", "", true, "4096 bits");
    rsa_asked(128, 0xc5, 0x0b, "AQAB", "", false, "1024 bits");
    rsa_asked(255, 0xc5, 0x0b, "AQAB", "", false, "2040 bits");
    rsa_asked(256, 0x45, 0x0b, "AQAB", "", false, "2047 bits");
    rsa_asked(513, 0xc5, 0x0b, "AQAB", "", false, "4104 bits");
    rsa_asked(2048, 0xc5, 0x0b, "AQAB", "", false, "16384 bits");
    rsa_asked(256, 0xc5, 0x0a, "AQAB", "", false, "even");
    rsa_asked(257, 0x00, 0x0b, "AQAB", "", false, "a zero in front");
    rsa_asked(256, 0xc5, 0x0b, "AQ", "", false, "e is 1");
    rsa_asked(256, 0xc5, 0x0b, "Ag", "", false, "e is 2");
    rsa_asked(256, 0xc5, 0x0b, "AA", "", false, "e is 0");
    rsa_asked(256, 0xc5, 0x0b, "", "", false, "no e");
    rsa_asked(256, 0xc5, 0x0b, "AAEAAQ", "", false, "e with a zero in front");
    rsa_asked(256, 0xc5, 0x0b, "AQAB=", "", false, "padding");
    rsa_asked(256, 0xc5, 0x0b, large, "", false, "e of 4 KiB");
    rsa_asked(256, 0xc5, 0x0b, "AQAB", ",\"d\":\"AQAB\"", false, "a private key");
    rsa_asked(256, 0xc5, 0x0b, "AQAB", ",\"p\":\"AQAB\"", false, "a prime");
}

/* ---- encryption ---- */

/* A sealed secret whose header is printed from parts; the content is not looked at here. */
struct sealed {
    const char *alg;
    const char *enc;
    const char *epk; /* NULL: a good one */
    const char *header_more;
    const char *members_more;
    size_t key_bytes;
    size_t iv_bytes;
    size_t tag_bytes;
    size_t content_bytes;
};
#define SEALED                                                                      \
    {                                                                               \
        .alg = "ECDH-ES+A256KW", .enc = "A256GCM", .key_bytes = 40, .iv_bytes = 12, \
        .tag_bytes = 16, .content_bytes = 5                                         \
    }
#define GOOD_EPK "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}"

static void bytes_put(struct kbs_buf *out, const char *name, size_t n)
{
    static const uint8_t bytes[1024];

    kbs_buf_printf(out, ",\"%s\":\"", name);
    kbs_base64url_put(out, kbs_span(bytes, n));
    kbs_buf_put_u8(out, '"');
}

static bool sealed_taken(const struct sealed *s)
{
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_buf text = KBS_BUF(16384);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jwe_in in;
    KBS_AUTO_JSON v = NULL;
    bool ok = false;

    kbs_buf_printf(&header, "{\"alg\":\"%s\",\"enc\":\"%s\",\"apu\":\"", s->alg, s->enc);
    kbs_base64url_put(&header, KBS_SPAN_LIT("kbs-seal-v1"));
    kbs_buf_put_str(&header, "\",\"apv\":\"");
    kbs_base64url_put(&header, KBS_SPAN_LIT("r/t/tag/v1"));
    kbs_buf_printf(&header, "\",\"epk\":%s,\"kid\":\"%s\"%s}", s->epk != NULL ? s->epk : GOOD_EPK,
                   "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                   s->header_more != NULL ? s->header_more : "");
    kbs_buf_put_str(&text, "{\"protected\":\"");
    kbs_base64url_put(&text, kbs_buf_span(&header));
    kbs_buf_put_u8(&text, '"');
    bytes_put(&text, "encrypted_key", s->key_bytes);
    bytes_put(&text, "iv", s->iv_bytes);
    bytes_put(&text, "ciphertext", s->content_bytes);
    bytes_put(&text, "tag", s->tag_bytes);
    kbs_buf_printf(&text, "%s}", s->members_more != NULL ? s->members_more : "");
    if (kbs_json_parse_object(kbs_buf_span(&text), "JWE", &v, &err) == 0 &&
        kbs_jose_sealed_get(v, &in, &err) == 0) {
        ok = true;
        kbs_jose_jwe_in_deinit(&in);
    }
    assert_true(ok || err.category == KBS_INPUT || err.category == KBS_UNPROCESSABLE);
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&text);
    return ok;
}

static void sealed_refused(const char *what, struct sealed s)
{
    if (sealed_taken(&s)) {
        fail_msg("sealed secret: %s: taken", what);
    }
}

static void sealed_secrets_are_read_strictly(void **state)
{
    static const char *const algs[] = {
        "dir",           "A256KW",         "A256GCMKW",          "ECDH-ES", "RSA1_5",
        "RSA-OAEP-256",  "ECDH-ES+A128KW", "PBES2-HS256+A128KW", "none",    "",
        "ecdh-es+a256kw"};
    static const char *const encs[] = {"A128GCM", "A128CBC-HS256", "A256CBC-HS512", "none", ""};
    static const char *const more[] = {
        ",\"zip\":\"DEF\"",       ",\"crit\":[\"exp\"]", ",\"p2c\":2147483647", ",\"p2s\":\"AAAA\"",
        ",\"jku\":\"https://e\"", ",\"alg\":\"dir\"",    ",\"x5c\":[]"};
    static const char *const members[] = {",\"aad\":\"AAAA\"", ",\"header\":{\"alg\":\"dir\"}",
                                          ",\"unprotected\":{\"zip\":\"DEF\"}",
                                          ",\"recipients\":[]", ",\"tag\":\"\""};
    static const char *const epks[] = {
        "null",
        "{}",
        "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" ZERO "\",\"y\":\"" ZERO "\"}",
        "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" X "\"}",
        "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" P "\",\"y\":\"" Y "\"}",
        "{\"crv\":\"P-384\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}",
        "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\"}",
        "{\"crv\":\"P-256\",\"d\":\"" X "\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}"};
    static const size_t tags[] = {0, 1, 4, 8, 12, 15, 17, 32};
    static const size_t ivs[] = {0, 11, 13, 16};
    static const size_t keys[] = {0, 24, 32, 39, 41, 48, 256};
    const struct sealed good = SEALED;
    struct sealed s;

    (void)state;
    assert_true(sealed_taken(&good)); /* the detector */
    for (size_t i = 0; i < COUNT(algs); i++) {
        s = good;
        s.alg = algs[i];
        sealed_refused(algs[i], s);
    }
    for (size_t i = 0; i < COUNT(encs); i++) {
        s = good;
        s.enc = encs[i];
        sealed_refused(encs[i], s);
    }
    for (size_t i = 0; i < COUNT(more); i++) {
        s = good;
        s.header_more = more[i];
        sealed_refused(more[i], s);
    }
    for (size_t i = 0; i < COUNT(members); i++) {
        s = good;
        s.members_more = members[i];
        sealed_refused(members[i], s);
    }
    for (size_t i = 0; i < COUNT(epks); i++) {
        s = good;
        s.epk = epks[i];
        sealed_refused(epks[i], s);
    }
    for (size_t i = 0; i < COUNT(tags); i++) {
        s = good;
        s.tag_bytes = tags[i];
        sealed_refused("tag", s);
    }
    for (size_t i = 0; i < COUNT(ivs); i++) {
        s = good;
        s.iv_bytes = ivs[i];
        sealed_refused("iv", s);
    }
    for (size_t i = 0; i < COUNT(keys); i++) {
        s = good;
        s.key_bytes = keys[i];
        sealed_refused("encrypted_key", s);
    }
    s = good;
    s.content_bytes = 0;
    sealed_refused("no content", s);
}

static bool recipient_taken(const char *header, size_t key_bytes, const char *more)
{
    struct kbs_buf text = KBS_BUF(16384);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_recipient_in in;
    KBS_AUTO_JSON v = NULL;
    bool ok = false;

    kbs_buf_printf(&text, "{\"header\":{%s}", header);
    bytes_put(&text, "encrypted_key", key_bytes);
    kbs_buf_printf(&text, "%s}", more);
    if (kbs_json_parse_object(kbs_buf_span(&text), "recipient", &v, &err) == 0 &&
        kbs_jose_recipient_get(v, KBS_TEE_ALG_ECDH_ES_A256KW, &in, &err) == 0) {
        ok = true;
        kbs_jose_recipient_in_deinit(&in);
    }
    assert_true(ok || err.category == KBS_INPUT || err.category == KBS_UNPROCESSABLE);
    kbs_buf_deinit(&text);
    return ok;
}

#define RECIPIENT(alg, epk) "\"alg\":\"" alg "\",\"epk\":" epk ",\"kid\":\"k\""

static void imports_are_read_strictly(void **state)
{
    static const char *const headers_refused[] = {
        RECIPIENT("dir", GOOD_EPK),
        RECIPIENT("ECDH-ES", GOOD_EPK),
        RECIPIENT("ECDH-ES+A128KW", GOOD_EPK),
        RECIPIENT("A256GCMKW", GOOD_EPK),
        RECIPIENT("RSA1_5", GOOD_EPK),
        RECIPIENT("PBES2-HS256+A128KW", GOOD_EPK) ",\"p2c\":2147483647",
        RECIPIENT("none", GOOD_EPK),
        RECIPIENT("ECDH-ES+A256KW", GOOD_EPK) ",\"zip\":\"DEF\"",
        RECIPIENT("ECDH-ES+A256KW", GOOD_EPK) ",\"crit\":[\"x\"]",
        RECIPIENT("ECDH-ES+A256KW", GOOD_EPK) ",\"alg\":\"dir\"",
        RECIPIENT("ECDH-ES+A256KW", "{}"),
        RECIPIENT("ECDH-ES+A256KW",
                  "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" X "\"}"),
        RECIPIENT("ECDH-ES+A256KW",
                  "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" ZERO "\",\"y\":\"" ZERO "\"}"),
        RECIPIENT("ECDH-ES+A256KW", "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\"}"),
        "\"alg\":\"ECDH-ES+A256KW\",\"kid\":\"k\"",
    };

    (void)state;
    assert_true(recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 40, "")); /* the detector */
    for (size_t i = 0; i < COUNT(headers_refused); i++) {
        if (recipient_taken(headers_refused[i], 40, "")) {
            fail_msg("import: %s: taken", headers_refused[i]);
        }
    }
    assert_false(recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 0, ""));
    assert_false(recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 16, ""));
    assert_false(recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 41, ""));
    assert_false(recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 80, ""));
    assert_false(
        recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 40, ",\"protected\":\"e30\""));
    assert_false(recipient_taken(RECIPIENT("ECDH-ES+A256KW", GOOD_EPK), 40, ",\"iv\":\"AAAA\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(headers_are_read_strictly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(headers_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_from_tokens_are_not_trusted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_are_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(public_keys_are_no_secrets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(texts_are_read_strictly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(claims_are_read_strictly, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals_are_cheap, set_up, tear_down),
        cmocka_unit_test(ec_keys_are_read_strictly),
        cmocka_unit_test(rsa_keys_are_read_strictly),
        cmocka_unit_test(sealed_secrets_are_read_strictly),
        cmocka_unit_test(imports_are_read_strictly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
