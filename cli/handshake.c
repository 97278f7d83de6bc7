/*
 * The handshake as today's guests do it, with one difference: the digest that goes into the
 * evidence is kept, because the answers to key requests are bound to it. Sample evidence is the
 * only kind that is made here, without a TEE; it proves nothing, which is the server's to know
 * (docs/configuration.md, allow_sample). Any other is a program's (evidence.c).
 *
 * The hash is SHA-384 unless the challenge selects another of those offered (Trustee's
 * extra-params). In version 0.2.0 the message has no nonce, and the digest is over less.
 */
#include "cli/handshake.h"

#include <stdio.h>

#include "attest/rcar.h"
#include "base/encoding.h"
#include "cli/files.h"
#include "jose/read/json.h"
#include "jose/write/jose.h"

#define AUTH_BODY                                          \
    "{\"version\":\"%s\",\"tee\":\"%s\",\"extra-params\":" \
    "{\"supported-hash-algorithms\":[\"sha256\",\"sha384\",\"sha512\"]}}"
#define SAMPLE_SVN "1"
#define BODY_MAX_BYTES 16384
#define ATTESTATION_MAX_BYTES KBS_LIMIT_HTTP_BODY_BYTES
#define AUTH_BODY_MAX_BYTES 256

void kbs_guest_session_deinit(struct kbs_guest_session *s)
{
    kbs_buf_deinit(&s->token);
    kbs_guest_key_deinit(&s->one_request);
}

/* Absent, empty or an object that may select a hash. */
static int read_extra_params(const json_t *challenge, enum kbs_hash *ret, struct kbs_error *err)
{
    const json_t *extra = json_object_get(challenge, "extra-params");
    struct kbs_span name = KBS_SPAN_EMPTY;

    *ret = KBS_HASH_SHA384;
    if (!json_is_object(extra)) {
        return 0;
    }
    if (kbs_json_opt_string(extra, "selected-hash-algorithm", &name, err) != 0) {
        return -1;
    }
    if (name.len > 0) {
        *ret = kbs_hash_from_name(name);
    }
    if (*ret == KBS_HASH_NONE || *ret == KBS_HASH_SM3) {
        return kbs_fail(err, KBS_INPUT, "auth: the server selects a hash that was not offered");
    }
    return 0;
}

static int read_challenge(const struct kbs_http_response *r, struct kbs_guest_session *s,
                          struct kbs_error *err)
{
    KBS_AUTO_JSON challenge = NULL;
    struct kbs_span nonce;

    if (kbs_http_expect_ok(r, "auth", err) != 0 ||
        kbs_json_parse_object(kbs_buf_span(&r->body), "challenge", &challenge, err) != 0 ||
        kbs_json_get_string(challenge, "nonce", &nonce, err) != 0 ||
        read_extra_params(challenge, &s->hash, err) != 0) {
        return -1;
    }
    if (nonce.len == 0 || !kbs_span_to_cstr(nonce, s->nonce, sizeof(s->nonce))) {
        return kbs_fail(err, KBS_INPUT, "auth: the nonce is empty or too long");
    }
    if (r->cookie[0] == '\0') {
        return kbs_fail(err, KBS_INPUT, "auth: the server set no session cookie");
    }
    memcpy(s->cookie, r->cookie, sizeof(s->cookie));
    return 0;
}

static int challenge(struct kbs_http_client *http, const struct kbs_guest_how *how,
                     struct kbs_guest_session *s, struct kbs_error *err)
{
    char body[AUTH_BODY_MAX_BYTES];
    int n = snprintf(body, sizeof(body), AUTH_BODY, kbs_protocol_name(s->version), how->tee);
    const struct kbs_http_request q = {.method = "POST",
                                       .target = "/kbs/v0/auth",
                                       .body = kbs_span(body, (size_t)n),
                                       .content_type = "application/json"};
    struct kbs_http_response r = {.status = 0};
    int rc = kbs_http_send(http, &q, &r, err);

    if (rc == 0) {
        rc = read_challenge(&r, s, err);
    }
    kbs_http_response_deinit(&r);
    return rc;
}

static int evidence_put(struct kbs_buf *out, const struct kbs_guest_how *how,
                        const struct kbs_guest_session *s, struct kbs_error *err)
{
    if (how->command != NULL) {
        return kbs_guest_evidence_run(how->command, &s->digest, out, err);
    }
    kbs_buf_put_str(out, "{\"svn\":\"" SAMPLE_SVN "\",\"report_data\":\"");
    kbs_base64_put(out, kbs_digest_span(&s->digest));
    kbs_buf_put_str(out, "\"}");
    return 0;
}

/* The attestation message, but for its evidence and what is after it. `additional_evidence` is empty:
 * nobody here has devices. */
static void attestation_begin(struct kbs_buf *out, const struct kbs_guest_how *how,
                              const struct kbs_guest_session *s, const struct kbs_tee_key *key)
{
    if (s->version == KBS_PROTOCOL_0_2_0) {
        kbs_buf_put_str(out, "{\"tee-pubkey\":");
        kbs_jose_tee_jwk_put(out, key);
        kbs_buf_put_str(out, ",\"tee-evidence\":");
        return;
    }
    kbs_buf_put_str(out, "{\"init-data\":");
    if (how->init_data.len > 0) {
        kbs_buf_put_str(out, "{\"format\":\"toml\",\"body\":");
        kbs_json_string_put(out, how->init_data);
        kbs_buf_put_u8(out, '}');
    } else {
        kbs_buf_put_str(out, "null");
    }
    kbs_buf_put_str(out, ",\"runtime-data\":{\"nonce\":");
    kbs_json_string_put(out, kbs_span_str(s->nonce));
    kbs_buf_put_str(out, ",\"tee-pubkey\":");
    kbs_jose_tee_jwk_put(out, key);
    kbs_buf_put_str(out, "},\"tee-evidence\":{\"primary_evidence\":");
}

static int attestation_put(struct kbs_buf *out, const struct kbs_guest_how *how,
                           const struct kbs_guest_session *s, const struct kbs_tee_key *key,
                           struct kbs_error *err)
{
    attestation_begin(out, how, s, key);
    if (evidence_put(out, how, s, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out,
                    s->version == KBS_PROTOCOL_0_2_0 ? "}" : ",\"additional_evidence\":\"\"}}");
    return kbs_buf_check(out, "attestation", err);
}

static int read_token(const struct kbs_http_response *r, struct kbs_guest_session *s,
                      struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;
    struct kbs_span token;

    if (kbs_http_expect_ok(r, "attest", err) != 0 ||
        kbs_json_parse_object(kbs_buf_span(&r->body), "attestation result", &answer, err) != 0 ||
        kbs_json_get_string(answer, "token", &token, err) != 0) {
        return -1;
    }
    if (r->cookie[0] != '\0') {
        memcpy(s->cookie, r->cookie, sizeof(s->cookie));
    }
    kbs_buf_put_span(&s->token, token);
    return kbs_buf_check(&s->token, "attestation token", err);
}

static int attest(struct kbs_http_client *http, const struct kbs_guest_how *how,
                  struct kbs_guest_session *s, const struct kbs_tee_key *key, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(ATTESTATION_MAX_BYTES);
    struct kbs_http_response r = {.status = 0};
    int rc = -1;

    if (attestation_put(&body, how, s, key, err) == 0) {
        const struct kbs_http_request q = {.method = "POST",
                                           .target = "/kbs/v0/attest",
                                           .body = kbs_buf_span(&body),
                                           .content_type = "application/json",
                                           .cookie = s->cookie};
        rc = kbs_http_send(http, &q, &r, err);
        if (rc == 0) {
            rc = read_token(&r, s, err);
        }
    }
    kbs_http_response_deinit(&r);
    kbs_buf_deinit(&body);
    return rc;
}

int kbs_guest_attest(struct kbs_http_client *http, const struct kbs_tee_key *key,
                     const struct kbs_guest_how *how, struct kbs_guest_session *ret,
                     struct kbs_error *err)
{
    const struct kbs_span no_devices = KBS_SPAN_EMPTY;

    *ret =
        (struct kbs_guest_session){.version = how->version, .token = KBS_BUF(KBS_LIMIT_JWT_BYTES)};
    if (challenge(http, how, ret, err) != 0 ||
        kbs_rcar_report_digest(ret->hash, key, kbs_span_str(ret->nonce),
                               how->version == KBS_PROTOCOL_0_2_0 ? NULL : &no_devices,
                               &ret->digest, err) != 0 ||
        attest(http, how, ret, key, err) != 0) {
        kbs_guest_session_deinit(ret);
        return -1;
    }
    return 0;
}

static void hex_member_put(struct kbs_buf *out, const char *name, struct kbs_span value)
{
    kbs_buf_printf(out, ",\"%s\":\"", name);
    kbs_hex_put(out, value);
    kbs_buf_put_u8(out, '"');
}

int kbs_guest_handshake_write(const char *path, const struct kbs_guest_session *session,
                              const struct kbs_guest_ask *ask, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(BODY_MAX_BYTES);
    int r = -1;

    kbs_buf_put_str(&text, "{\"nonce\":");
    kbs_json_string_put(&text, kbs_span_str(session->nonce));
    kbs_buf_printf(&text, ",\"hash\":\"%s\"", kbs_hash_name(session->hash));
    hex_member_put(&text, "digest", kbs_digest_span(&session->digest));
    if (ask != NULL) {
        hex_member_put(&text, "request_nonce", kbs_span(ask->nonce, sizeof(ask->nonce)));
    }
    if (ask != NULL && ask->salt_len > 0) {
        hex_member_put(&text, "salt", kbs_span(ask->salt, ask->salt_len));
    }
    kbs_buf_put_str(&text, "}\n");
    if (kbs_buf_check(&text, "handshake", err) == 0) {
        r = kbs_cli_write_new(path, kbs_buf_span(&text), err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int read_members(const json_t *o, struct kbs_guest_ask *ask, struct kbs_error *err)
{
    static const char *const names[] = {"nonce", "hash", "digest", "request_nonce", "salt", NULL};
    struct kbs_span hash;
    struct kbs_span digest;
    struct kbs_span nonce;
    struct kbs_span salt;

    if (kbs_json_only(o, names, err) != 0 || kbs_json_get_string(o, "hash", &hash, err) != 0 ||
        kbs_json_get_string(o, "digest", &digest, err) != 0 ||
        kbs_json_opt_string(o, "request_nonce", &nonce, err) != 0 ||
        kbs_json_opt_string(o, "salt", &salt, err) != 0) {
        return -1;
    }
    ask->digest.len = kbs_hash_bytes(kbs_hash_from_name(hash));
    ask->salt_len = salt.len / 2;
    if (ask->digest.len == 0 || kbs_hex_get_exact(ask->digest.p, ask->digest.len, digest) != 0) {
        return kbs_fail(err, KBS_INPUT, "handshake: \"digest\" is not one of \"hash\", in hex");
    }
    if (nonce.len > 0 && kbs_hex_get_exact(ask->nonce, sizeof(ask->nonce), nonce) != 0) {
        return kbs_fail(err, KBS_INPUT, "handshake: \"request_nonce\" is not 32 bytes in hex");
    }
    if (ask->salt_len > sizeof(ask->salt) ||
        kbs_hex_get_exact(ask->salt, ask->salt_len, salt) != 0) {
        return kbs_fail(err, KBS_INPUT, "handshake: \"salt\" is not at most 64 bytes in hex");
    }
    return 0;
}

int kbs_guest_handshake_read(const char *path, struct kbs_guest_ask *ask, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(BODY_MAX_BYTES);
    KBS_AUTO_JSON o = NULL;
    int r = -1;

    if (kbs_cli_read_file(path, &text, err) == 0 &&
        kbs_json_parse_object(kbs_buf_span(&text), "handshake", &o, err) == 0) {
        r = read_members(o, ask, err);
    }
    kbs_buf_deinit(&text);
    return r;
}
