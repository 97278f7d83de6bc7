/*
 * Role-to-role messages: the schema is the table below; structs, numbers, encoder and decoder
 * follow from it, so both ends assert the same fields. No I/O here (src/channel moves frames).
 *
 *   frame: u32 body_len, u16 version, u16 type, u64 id, u64 deadline_ns (CLOCK_MONOTONIC),
 *          u64 reserved, all little endian, then the body
 *   body:  the message's fields in schema order: u8, u32, u64, bytes (u32 length, then the bytes),
 *          list (u16 count, then that many bytes fields)
 *
 * docs/protocol/role-channels.md says who may send what to whom, and when.
 */
#ifndef KBS_WIRE_MESSAGE_H
#define KBS_WIRE_MESSAGE_H

#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"
#include "wire/card.h"

#define KBS_WIRE_VERSION 1
#define KBS_WIRE_HEADER_BYTES 32

/* A decoded list borrows the body it came from; items are read with kbs_wire_list_next(). */
struct kbs_wire_list {
    uint16_t count;
    struct kbs_span encoded; /* count times (u32 length, bytes), already validated by the decoder */
};

/* The tables: a line a row. clang-format would fold them. */
/* clang-format off */

/* F(message, kind, field): the fields of each message, in wire order. */

/*
 * kbsd -> kbs-front. listener: enum kbs_listener; auth_per_s: handshakes that one source may begin in a second, 0
 * for any number; body_bytes: of any request, at most KBS_LIMIT_HTTP_BODY_BYTES
 */
#define KBS_WIRE_CONFIG_FRONT_FIELDS(F, m) \
    F(m, U8, listener) F(m, U8, production) F(m, U32, lanes) F(m, U32, max_connections) F(m, U32, auth_per_s) \
    F(m, U32, body_bytes)
/*
 * kbsd -> kbs-front, before GO if it has a TLS listener, and again when one of these has changed. certificate: PEM
 * chain, leaf first; client_ca: PEM, empty: no client certificate is asked for; signers: channels to a sign worker
 * that follow as ATTACH sign, 0: the key follows as ATTACH tls-key; minimum, maximum: of TLS 1.`n`; ciphers, suites of
 * TLS 1.3 among them, and groups: as OpenSSL spells lists of them, empty for the library's
 */
#define KBS_WIRE_CONFIG_TLS_FIELDS(F, m) \
    F(m, BYTES, certificate) F(m, BYTES, client_ca) F(m, U32, signers) F(m, U8, minimum) F(m, U8, maximum) \
    F(m, BYTES, ciphers) F(m, BYTES, groups)
/*
 * kbsd -> kbs-judge. duty: enum kbs_duty; rsa1_5: 1 if TEE keys with that alg are taken; sessions:
 * that may wait for their evidence at a time; resource_bytes: of a resource's value; resource_policy:
 * release policy (JSON) of resources that come without one, empty for none. Only with duty admin:
 * admin_keys: PEM public keys (P-256) of enrolled administrators; admin_mode: enum kbs_admin_mode;
 * identity_providers: issuer, audience (either may be empty) and keys (PEM, JWKS or "document:NAME") in turn; acls: role
 * and pattern in turn; approvals: how many administrators a change of one of approvals_for
 * (KBS_WIRE_APPROVALS_*) needs. Only with duty release: snp_*: [attest.snp] of the configuration; snp: 1 if it is
 * there; snp_files: the folder's files, name below it ("genoa/ark.pem") and content in turn; snp_products:
 * names; snp_minimum: product's name and enum kbs_wire_snp_minimum in turn; snp_chips: CHIP_IDs, 64 bytes
 * each; snp_providers: CSP_IDs; snp_allow: KBS_WIRE_SNP_ALLOW_*; snp_test_root: SHA-256 of a test PKI's root
 * key, empty for AMD's; issuers: bodies of CONFIG_ISSUER; delegate: enum kbs_delegate, and if it is not BUILTIN: the names of the endpoint that is
 * asked and of the issuer of its tokens, the kinds of evidence that are handed to it (names), and the ids of the
 * policies that it is asked to apply; snp_signers: "vcek", "vlek", empty for both; snp_platform_* and snp_guest_*:
 * names of bits (attest/snp/verify.c); snp_kds: the endpoint that missing VCEKs are fetched from, empty for none.
 * nek_key, id_key: paths of the keys that wrap-key and id-key are about, empty for none;
 * check: 1 if the judge is only to say by its exit status whether it can use this; no ATTACH and no GO come then
 */
#define KBS_WIRE_CONFIG_JUDGE_FIELDS(F, m) \
    F(m, U8, duty) F(m, U32, lane) F(m, U8, production) F(m, U8, allow_sample) F(m, U8, rsa1_5) \
    F(m, BYTES, store_path) F(m, BYTES, issuer) F(m, U32, session_s) F(m, U32, token_s) F(m, U32, sessions) \
    F(m, U32, resource_bytes) F(m, BYTES, resource_policy) F(m, LIST, admin_keys) F(m, U8, admin_mode) \
    F(m, LIST, identity_providers) F(m, LIST, acls) \
    F(m, U8, snp) F(m, LIST, snp_files) F(m, U32, snp_vmpl) F(m, LIST, snp_products) F(m, LIST, snp_minimum) \
    F(m, LIST, snp_chips) F(m, LIST, snp_providers) F(m, U32, snp_crl_grace_s) F(m, U8, snp_allow) \
    F(m, BYTES, snp_test_root) F(m, LIST, issuers) \
    F(m, U8, delegate) F(m, BYTES, delegate_endpoint) F(m, BYTES, delegate_issuer) F(m, LIST, delegate_tees) \
    F(m, LIST, delegate_policies) \
    F(m, LIST, snp_signers) F(m, LIST, snp_platform_required) F(m, LIST, snp_platform_forbidden) \
    F(m, LIST, snp_guest_required) F(m, LIST, snp_guest_forbidden) F(m, BYTES, snp_kds) F(m, U8, check) \
    F(m, U32, approvals) F(m, U8, approvals_for) F(m, BYTES, nek_key) F(m, BYTES, id_key)
/*
 * An item of CONFIG_JUDGE.issuers: [[issuer]]. profile: its name; minimum_binding: enum kbs_binding, 0 if
 * it is not given; keys, anchor, crl: texts of the files; key_path, document, agree_with: empty if not given;
 * issuer, audience, algorithms: texts; allow: KBS_WIRE_ISSUER_*; require: names and values in turn, a name as
 * often as it has values
 */
#define KBS_WIRE_CONFIG_ISSUER_FIELDS(F, m) \
    F(m, BYTES, name) F(m, BYTES, profile) F(m, LIST, issuer) F(m, LIST, audience) F(m, LIST, algorithms) \
    F(m, BYTES, keys) F(m, BYTES, document) F(m, BYTES, anchor) F(m, BYTES, crl) F(m, BYTES, key_path) \
    F(m, U32, max_age_s) F(m, U32, skew_s) F(m, U32, max_stale_s) F(m, U8, allow) F(m, BYTES, agree_with) \
    F(m, U8, minimum_binding) F(m, LIST, require)
/*
 * kbsd -> kbs-token. uri: RFC 7512; init_args: pReserved of C_Initialize, empty if none; env:
 * NAME=value; seccomp: enum kbs_seccomp; folders: what the module reads and writes while it serves;
 * rsa1_5: as for the judge. Only with duty sign: key: URI of the one private key (RFC 7512: object, id); certificate:
 * PEM, whose leaf's key must be that one, empty for any; general: 1 if it signs and agrees on whatever it is asked, for
 * an operator's own command line: kbsd never says so
 */
#define KBS_WIRE_CONFIG_TOKEN_FIELDS(F, m) \
    F(m, U8, duty) F(m, U32, lane) F(m, U8, production) F(m, U8, rsa1_5) F(m, BYTES, module) F(m, BYTES, uri) \
    F(m, BYTES, init_args) F(m, LIST, env) F(m, U8, seccomp) F(m, LIST, folders) \
    F(m, BYTES, key) F(m, BYTES, certificate) F(m, U8, general)
#define KBS_WIRE_CONFIG_AUDIT_FIELDS(F, m) F(m, U8, production)
#define KBS_WIRE_CONFIG_POLICY_FIELDS(F, m) F(m, U8, production)
/*
 * kbsd -> kbs-fetch. cache: the folder, empty for none; endpoints, documents: bodies of CONFIG_ENDPOINT and
 * CONFIG_DOCUMENT. Where PEM of a CA may stand, empty is the system's
 */
#define KBS_WIRE_CONFIG_FETCH_FIELDS(F, m) \
    F(m, U8, production) F(m, BYTES, cache) F(m, LIST, endpoints) F(m, LIST, documents)
/*
 * url: http, https, or unix:PATH; certificate: PEM of a client's, whose key is attached; header files are attached;
 * timeout_ms: for an answer, retries and waiting included; parallel: transfers at a time; failures: in a row, after
 * which it is not asked for open_ms, 0 for never; keep_days: 200 to GET is kept in the cache, 0 for not
 */
#define KBS_WIRE_CONFIG_ENDPOINT_FIELDS(F, m) \
    F(m, BYTES, name) F(m, BYTES, url) F(m, BYTES, ca) F(m, BYTES, certificate) F(m, U32, timeout_ms) \
    F(m, U32, connect_ms) F(m, U32, retries) F(m, U8, http2) F(m, U32, parallel) F(m, U32, failures) \
    F(m, U32, open_ms) F(m, U32, keep_days)
/*
 * discovery: 1 if url is an OpenID issuer, whose metadata name the document (jwks_uri); jwks_hosts: where that may be
 * beside the issuer's own host
 */
#define KBS_WIRE_CONFIG_DOCUMENT_FIELDS(F, m) \
    F(m, BYTES, name) F(m, BYTES, url) F(m, BYTES, ca) F(m, U32, timeout_ms) F(m, U32, refresh_s) \
    F(m, U8, discovery) F(m, LIST, jwks_hosts)
/* kbsd -> role, with exactly one descriptor. what: enum kbs_attach */
#define KBS_WIRE_ATTACH_FIELDS(F, m) F(m, U8, what) F(m, U32, index)
/* kbsd -> kbs-judge, in the place of a configuration: bring the store up to date, then leave */
#define KBS_WIRE_MIGRATE_FIELDS(F, m) F(m, BYTES, store_path)
/* role -> kbsd. pid: its own, for logs and the announcement */
#define KBS_WIRE_READY_FIELDS(F, m) F(m, BYTES, detail) F(m, U32, pid)
/* role -> kbsd, its last message. status: enum kbs_exit */
#define KBS_WIRE_LEAVING_FIELDS(F, m) F(m, U8, status)
/* kbsd -> kbs-front. index: of the lane that gets no further request, and is closed once it has none */
#define KBS_WIRE_DETACH_FIELDS(F, m) F(m, U32, index)
/* kbs-audit -> kbsd, and kbsd -> every kbs-front. writable: 0 while the ledger cannot be written */
#define KBS_WIRE_HEALTH_FIELDS(F, m) F(m, U8, writable)
#define KBS_WIRE_LOGIN_DONE_FIELDS(F, m) F(m, U8, ok) F(m, U8, pin_error) F(m, BYTES, detail)

/*
 * kbs-front -> kbs-judge. route: enum kbs_route; target: the raw request target; params: the
 * path parameters of the route, in order, percent-decoded; query: names and values in turn,
 * decoded; cookie: the value of kbs-session-id; signature: the Kbs-Signature header. Absent
 * headers are empty. fetched: bodies of FETCHED, an item for each FETCH that this request was answered with
 * so far, in order: to be believed like anything else in a request; proof: the Kbs-Proof header; channel: with
 * one, tls-exporter (RFC 9266) of the connection, empty if it has none
 */
#define KBS_WIRE_REQUEST_FIELDS(F, m) \
    F(m, U8, route) F(m, U8, listener) F(m, BYTES, peer) F(m, BYTES, method) F(m, BYTES, target) \
    F(m, LIST, params) F(m, LIST, query) F(m, BYTES, cookie) F(m, BYTES, authorization) F(m, BYTES, accept) \
    F(m, BYTES, content_type) F(m, BYTES, signature) F(m, BYTES, body) F(m, LIST, fetched) \
    F(m, BYTES, proof) F(m, BYTES, channel)
/*
 * kbs-judge -> kbs-front. cookie: new value, empty for none; cookie_expires_s: Unix time; receipt: the Kbs-Receipt
 * header, empty for none
 */
#define KBS_WIRE_RESPONSE_FIELDS(F, m) \
    F(m, U32, status) F(m, BYTES, content_type) F(m, BYTES, cookie) F(m, U64, cookie_expires_s) \
    F(m, U32, retry_after_s) F(m, BYTES, body) F(m, BYTES, receipt)

/*
 * kbs-judge -> kbs-front, in the place of RESPONSE: the request is to be sent again, to any lane, with the answer to
 * this attached. kbs-front -> kbs-fetch: the same. endpoint: a name of [[fetch.endpoint]]; method: enum kbs_fetch_method;
 * suffix: what follows the endpoint's URL, empty or beginning with "/"; headers are the endpoint's own, but for
 * content_type and accept (empty: none); max: bytes of an answer
 */
#define KBS_WIRE_FETCH_FIELDS(F, m) \
    F(m, BYTES, endpoint) F(m, U8, method) F(m, BYTES, suffix) F(m, BYTES, content_type) F(m, BYTES, accept) \
    F(m, BYTES, body) F(m, U32, max)
/*
 * kbs-fetch -> kbs-front. outcome: enum kbs_fetch_outcome, and only DONE has the rest: status: of HTTP; grpc_status: the
 * trailer's number, KBS_WIRE_GRPC_NONE without one; detail: why there is no answer, for a person
 */
#define KBS_WIRE_FETCHED_FIELDS(F, m) \
    F(m, U8, outcome) F(m, U32, status) F(m, U32, grpc_status) F(m, BYTES, content_type) F(m, BYTES, body) \
    F(m, BYTES, detail)
/*
 * kbs-judge -> kbs-fetch, answered at once from memory: what there is of a document that is kept fresh
 * ([[fetch.document]] and what else CONFIG_FETCH names). look_again: 1 asks for a refresh in the background
 */
#define KBS_WIRE_CACHED_WANT_FIELDS(F, m) F(m, BYTES, name) F(m, U8, look_again)
/* kbs-fetch -> kbs-judge. there: 0 if it has never been fetched; fetched_s: Unix time of the last time it was */
#define KBS_WIRE_CACHED_FIELDS(F, m) F(m, U8, there) F(m, U64, fetched_s) F(m, BYTES, content)

/*
 * kbs-judge, kbs-token -> kbs-audit; fields: names and values in turn; phase: enum kbs_phase, with the epoch
 * of the mutation (0 for NONE); later: 1 if nobody waits for it yet, so that it may share the sync of a
 * later record. Answered by ACK: its number once it is durable, 0 if it could not be written.
 */
#define KBS_WIRE_APPEND_FIELDS(F, m) \
    F(m, BYTES, kind) F(m, U8, phase) F(m, U64, epoch) F(m, U8, later) F(m, LIST, fields)
#define KBS_WIRE_ACK_FIELDS(F, m) F(m, U64, seq)
/*
 * kbs-audit -> kbs-judge, answer to HEAD_WANT: number and hash (32 bytes) of the newest durable record, the
 * newest epoch of an intent or restore, and whether its outcome is known (a restore's always is)
 */
#define KBS_WIRE_HEAD_FIELDS(F, m) F(m, U64, seq) F(m, BYTES, hash) F(m, U64, epoch) F(m, U8, outcome)

/*
 * kbs-token -> kbs-judge, answer to DESCRIBE. *_public: uncompressed P-256 point, empty if there
 * is none; rungs: names, in the order in which they are tried; token_class: enum kbs_token_class;
 * wrap_version, seal_version: the newest wrap-catalog and seal keys, 0 if there is none; sign_keys: bodies of
 * SIGN_KEY, all versions of the sign-token key that there are, the oldest first; tls_keys: the same of tls, with
 * duty admin only; request_public: likewise, of the key that requests are encrypted to
 */
#define KBS_WIRE_DESCRIBED_FIELDS(F, m) \
    F(m, BYTES, manufacturer) F(m, BYTES, model) F(m, BYTES, serial) F(m, U8, token_class) F(m, LIST, rungs) \
    F(m, LIST, sign_keys) F(m, BYTES, import_public) F(m, BYTES, row_public) F(m, BYTES, head_public) \
    F(m, BYTES, seal_public) F(m, U32, seal_version) F(m, U32, wrap_version) F(m, BYTES, receipt_public) \
    F(m, BYTES, request_public) F(m, LIST, tls_keys)
/*
 * An item of DESCRIBED. curve: enum kbs_curve; point: uncompressed; from_s: Unix time from which it signs, if no
 * newer one does (kbs_sign_version_at())
 */
#define KBS_WIRE_SIGN_KEY_FIELDS(F, m) F(m, U32, version) F(m, U8, curve) F(m, U64, from_s) F(m, BYTES, point)
/*
 * List `release`. order: 16 random bytes that the `release` record and the deed both carry (so too
 * in every other order that names a key); kid: repo/type/tag/vN; card: the key's (wire/card.h), checked by
 * kbs-token, which takes key id, version and purpose from it; blob: of a wrapped key, empty for a resident
 * one; tee_key: kbs_tee_key_put(), re-validated by kbs-token; formats: enum kbs_format, one byte each, most
 * wanted first; floor: enum kbs_locality, which can only raise the card's; party_v: 32 bytes;
 * empty_context: 1 leaves both party infos out; salt: COSE only; receipt (so too in the next three): empty, or what
 * the judge has to say for one (wire/receipt.h); pop: 1 if the request came with a proof of possession and tee_key
 * is the key that it names (docs/protocol/requests.md), by the judge's word
 */
#define KBS_WIRE_RELEASE_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, kid) F(m, BYTES, card) F(m, BYTES, blob) F(m, BYTES, tee_key) \
    F(m, BYTES, formats) F(m, U8, floor) F(m, U8, empty_context) F(m, BYTES, party_v) F(m, BYTES, salt) \
    F(m, BYTES, receipt) F(m, U8, pop)
/*
 * List `release`. A sealed secret to a TEE: card and sealed (docs/protocol/sealed-secrets.md) as SEAL answered
 * them; the answer body is a flattened JWE to tee_key, its locality `worker`; pop: as in RELEASE
 */
#define KBS_WIRE_OPEN_SECRET_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, kid) F(m, BYTES, card) F(m, BYTES, sealed) F(m, BYTES, tee_key) \
    F(m, BYTES, receipt) F(m, U8, pop)
/*
 * List `release`. A request's body that was encrypted to the request key (docs/protocol/requests.md): the decoded
 * parts of its JWE. The answer body is the plaintext
 */
#define KBS_WIRE_OPEN_REQUEST_FIELDS(F, m) \
    F(m, BYTES, apv) F(m, BYTES, epk_x) F(m, BYTES, epk_y) F(m, BYTES, encrypted_key) F(m, BYTES, iv) \
    F(m, BYTES, ciphertext) F(m, BYTES, tag)
/*
 * List `release`. A NEK blob (wire/nek.h) opened and wrapped to the TEE key. card: of the key of purpose nek
 * that it is addressed to, kid: that key's; public_key: its public half (kbs_tee_key_put()), empty for an AES
 * key; kind: enum kbs_nek_kind; epk: the blob's, by kbs_tee_key_put(), ECDH only; blob_salt: COSE only; binding:
 * kbs_nek_binding_put() of what the guest attested, fields 0 for RSA; wrapped: the wrapped key. The rest as RELEASE
 */
#define KBS_WIRE_REWRAP_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, kid) F(m, BYTES, card) F(m, BYTES, public_key) F(m, U8, kind) F(m, BYTES, epk) \
    F(m, BYTES, blob_salt) F(m, BYTES, binding) F(m, BYTES, wrapped) F(m, BYTES, tee_key) F(m, BYTES, formats) \
    F(m, U8, floor) F(m, U8, empty_context) F(m, BYTES, party_v) F(m, BYTES, salt) F(m, BYTES, receipt) \
    F(m, U8, pop)
/*
 * List `release`. A new NEK of key_bytes, made in the token and kept nowhere: wrapped to the key of purpose nek for
 * whoever `binding` is of, and to the TEE key (empty: to none). Answer body: the blob's mark (KBS_MARK_BYTES), u32
 * length (big endian) and the blob, as kbs_nek_blob_put() prints it (AES: JSON), then the answer to the TEE, whose
 * PartyVInfo is kbs_nek_provision_v() of party_v and that blob. The rest as REWRAP
 */
#define KBS_WIRE_PROVISION_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, kid) F(m, BYTES, card) F(m, BYTES, public_key) F(m, U32, key_bytes) F(m, BYTES, binding) \
    F(m, BYTES, tee_key) F(m, BYTES, formats) F(m, U8, floor) F(m, U8, empty_context) F(m, BYTES, party_v) F(m, BYTES, salt) \
    F(m, BYTES, receipt) F(m, U8, pop)
/*
 * List `release`. What PROVISION made, once more to its guest: the parts of that blob, and its mark, without which
 * it is not opened. Answer body as of PROVISION. The rest as REWRAP
 */
#define KBS_WIRE_REPROVISION_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, kid) F(m, BYTES, card) F(m, BYTES, public_key) F(m, U8, kind) F(m, BYTES, epk) \
    F(m, BYTES, binding) F(m, BYTES, wrapped) F(m, BYTES, mark) F(m, BYTES, tee_key) F(m, BYTES, formats) \
    F(m, U8, floor) F(m, U8, empty_context) F(m, BYTES, party_v) F(m, BYTES, salt) \
    F(m, BYTES, receipt) F(m, U8, pop)
/*
 * List `release`. The next value of a register (docs/protocol/register.md). name: of the register; binding:
 * kbs_nek_binding_put() of the guest whose it is; old_mark: empty if there is no value yet, and then old_value is 0
 * and old_digest empty. Answer body: the mark (KBS_MARK_BYTES) of name, binding, value and digest
 */
#define KBS_WIRE_REGISTER_SET_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, name) F(m, BYTES, binding) F(m, U64, old_value) F(m, BYTES, old_digest) \
    F(m, BYTES, old_mark) F(m, U64, value) F(m, BYTES, digest)
/* List `release`. Is this mark of those? No answer body */
#define KBS_WIRE_REGISTER_CHECK_FIELDS(F, m) \
    F(m, BYTES, name) F(m, BYTES, binding) F(m, U64, value) F(m, BYTES, digest) F(m, BYTES, mark)
/* List `release`. claims: the JWT claims set, JSON; the answer body is a compact JWS (RFC 7515) */
#define KBS_WIRE_SIGN_EAR_FIELDS(F, m) F(m, BYTES, claims)
/*
 * List `admin`. purpose release or nek: a key of alg (enum kbs_key_alg) and key_bytes with that id and kid, kept as
 * `storage` says (nek: resident); its card will say floor, flags, policy (SHA-256 of the policy's text) and created (Unix
 * seconds). Answer body: KBS_MADE, below. Other purposes: the service's own key, version key_version, all
 * else ignored; answer body: the uncompressed point of an EC pair, empty for card and wrap-catalog. Of sign-token
 * also curve (enum kbs_curve: P-256 or P-384) and from_s, the Unix time before which it does not sign, 0 for none;
 * of tls also curve, and from_s is 0
 */
#define KBS_WIRE_GENERATE_FIELDS(F, m) \
    F(m, BYTES, order) F(m, U8, purpose) F(m, BYTES, key_id) F(m, U32, key_version) F(m, BYTES, kid) \
    F(m, U8, alg) F(m, U32, key_bytes) F(m, U8, storage) F(m, U8, floor) F(m, U8, flags) F(m, BYTES, policy) \
    F(m, U64, created) F(m, U8, curve) F(m, U64, from_s)
/*
 * List `admin`. epk_x, epk_y: P-256; wrapped: AES-KW blob (RFC 3394) under ECDH-ES+A256KW to the
 * import key with apu "kbs-import-v1" and apv the kid. The rest as GENERATE. Answer body: KBS_MADE
 */
#define KBS_WIRE_IMPORT_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, key_id) F(m, U32, key_version) F(m, BYTES, kid) F(m, U8, alg) F(m, U8, storage) \
    F(m, U8, floor) F(m, U8, flags) F(m, BYTES, policy) F(m, U64, created) \
    F(m, BYTES, epk_x) F(m, BYTES, epk_y) F(m, BYTES, wrapped)
/*
 * List `admin`. uri: RFC 7512 object attributes (id, object, type) of one secret key that is in the token.
 * Answer body: KBS_MADE; rung and locality: the best that the key can reach
 */
#define KBS_WIRE_ADOPT_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, key_id) F(m, U32, key_version) F(m, BYTES, kid) F(m, U8, floor) F(m, U8, flags) \
    F(m, BYTES, policy) F(m, U64, created) F(m, BYTES, uri)
/* List `admin`. The same key with another policy, floor or flags. Answer body: the new card */
#define KBS_WIRE_RECARD_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, card) F(m, U8, floor) F(m, U8, flags) F(m, BYTES, policy)
/*
 * List `admin`. A wrapped key from the wrapping key of its card to the newest one. Answer body: KBS_MADE; the
 * check value is computed anew, from the key that was unwrapped
 */
#define KBS_WIRE_REWRAP_CATALOG_FIELDS(F, m) F(m, BYTES, order) F(m, BYTES, card) F(m, BYTES, blob)
/*
 * List `admin`. purpose release or nek: the key of the card, whose token objects are destroyed if it is resident; else
 * version key_version of the service's key of that purpose, which may not be the newest. No answer body
 */
#define KBS_WIRE_DESTROY_FIELDS(F, m) F(m, BYTES, order) F(m, U8, purpose) F(m, BYTES, card) F(m, U32, key_version)
/*
 * List `admin`. A secret as it came from an administrator: jwe_* are the decoded parts of a JWE addressed to
 * the newest seal key (docs/protocol/sealed-secrets.md), or all are empty and plaintext is the secret, which
 * kbs-token seals itself. Answer body: card, then the sealed secret
 */
#define KBS_WIRE_SEAL_FIELDS(F, m) \
    F(m, BYTES, order) F(m, BYTES, key_id) F(m, U32, key_version) F(m, BYTES, kid) F(m, BYTES, policy) F(m, U64, created) \
    F(m, BYTES, epk_x) F(m, BYTES, epk_y) F(m, BYTES, encrypted_key) F(m, BYTES, iv) F(m, BYTES, ciphertext) \
    F(m, BYTES, tag) F(m, BYTES, plaintext)
/*
 * List `admin`. A sealed secret from the seal key of its card to the newest one; kid, card and sealed as for
 * OPEN_SECRET. Answer body: card, then the sealed secret
 */
#define KBS_WIRE_RESEAL_FIELDS(F, m) F(m, BYTES, order) F(m, BYTES, kid) F(m, BYTES, card) F(m, BYTES, sealed)
/*
 * List `admin`. content: the row's authenticated bytes (src/store); the answer body is r||s (64 bytes, ES256)
 * over SHA-256("kbs-row-v1" || content)
 */
#define KBS_WIRE_SIGN_ROW_FIELDS(F, m) F(m, BYTES, content)
/* List `admin`. The answer body is r||s over SHA-256("kbs-head-v1" || seq as 8 bytes big endian || hash) */
#define KBS_WIRE_SIGN_HEAD_FIELDS(F, m) F(m, U64, seq) F(m, BYTES, hash)
/*
 * The list `sign`, whose key is the worker's only one. RESULT's body: the signature as TLS has it (ECDSA: DER).
 * scheme: SignatureScheme (RFC 8446 section 4.2.3); content: all that is signed (section 4.4.3), and it must be a
 * server's CertificateVerify
 */
#define KBS_WIRE_SIGN_TLS_FIELDS(F, m) F(m, U32, scheme) F(m, BYTES, content)
/*
 * Only of a worker that is `general`. alg: enum kbs_sign_alg; hash: enum kbs_hash; salt: bytes, of PSS; digest: of that
 * hash. RESULT's body: the signature, as above
 */
#define KBS_WIRE_SIGN_DIGEST_FIELDS(F, m) F(m, U8, alg) F(m, U8, hash) F(m, U32, salt) F(m, BYTES, digest)
/* The same. point: uncompressed, on the key's curve. RESULT's body: Z (SEC 1 section 3.3.1) */
#define KBS_WIRE_AGREE_FIELDS(F, m) F(m, BYTES, point)
/*
 * kbs-token -> kbs-judge, the answer to every order. category: enum kbs_category, KBS_OK on
 * success; ckr and function: the PKCS#11 call that failed; detail: text for the requester; rung,
 * locality (enum kbs_locality), format (enum kbs_format): how a release was made; body: the
 * finished answer; receipt: of it, finished too, if the order asked for one
 */
#define KBS_WIRE_RESULT_FIELDS(F, m) \
    F(m, U8, category) F(m, U64, ckr) F(m, BYTES, function) F(m, BYTES, detail) F(m, BYTES, rung) \
    F(m, U8, locality) F(m, BYTES, serial) F(m, U8, format) F(m, BYTES, body) F(m, BYTES, receipt)

/*
 * kbs-judge -> kbs-policy. digest: SHA-256 of text, a Rego policy; query: enum kbs_rego_query, what it is asked for.
 * Answered by VERDICT: LOADED, or ERROR with its place
 */
#define KBS_WIRE_POLICY_LOAD_FIELDS(F, m) F(m, BYTES, digest) F(m, BYTES, text) F(m, U8, query)
/* kbs-judge -> kbs-policy. input, data: JSON objects; query: as it was loaded. Answered by VERDICT, but never LOADED */
#define KBS_WIRE_POLICY_EVAL_FIELDS(F, m) F(m, BYTES, digest) F(m, BYTES, input) F(m, BYTES, data) F(m, U8, query)
/*
 * kbs-policy -> kbs-judge. outcome: enum kbs_rego_verdict; detail: why, for a person; line, column: 0 if not known;
 * result: with RESULT alone, a JSON object
 */
#define KBS_WIRE_VERDICT_FIELDS(F, m) \
    F(m, U8, outcome) F(m, BYTES, detail) F(m, U32, line) F(m, U32, column) F(m, BYTES, result)

/* M(NUMBER, UPPER, lower, body cap in bytes): messages with fields. */
#define KBS_WIRE_MESSAGES(M) \
    M(1, CONFIG_FRONT, config_front, 131072) \
    M(2, CONFIG_JUDGE, config_judge, KBS_LIMIT_WIRE_BODY_BYTES) \
    M(3, CONFIG_TOKEN, config_token, 65536) \
    M(4, CONFIG_AUDIT, config_audit, 64) \
    M(5, ATTACH, attach, 64) \
    M(6, READY, ready, 4096) \
    M(7, LOGIN_DONE, login_done, 4096) \
    M(8, HEALTH, health, 64) \
    M(9, LEAVING, leaving, 64) \
    M(10, MIGRATE, migrate, 8192) \
    M(11, DETACH, detach, 64) \
    M(12, CONFIG_POLICY, config_policy, 64) \
    M(13, CONFIG_FETCH, config_fetch, KBS_LIMIT_WIRE_BODY_BYTES) \
    M(14, CONFIG_ENDPOINT, config_endpoint, 262144) \
    M(15, CONFIG_DOCUMENT, config_document, 131072) \
    M(16, REQUEST, request, KBS_LIMIT_WIRE_BODY_BYTES) \
    M(17, RESPONSE, response, KBS_LIMIT_WIRE_BODY_BYTES) \
    M(18, FETCH, fetch, KBS_LIMIT_WIRE_BODY_BYTES) \
    M(19, FETCHED, fetched, KBS_LIMIT_FETCH_BYTES + 4096) \
    M(20, CACHED_WANT, cached_want, 1024) \
    M(21, CACHED, cached, KBS_LIMIT_FETCH_DOCUMENT_BYTES + 64) \
    M(22, CONFIG_ISSUER, config_issuer, KBS_WIRE_ISSUER_BYTES) \
    M(23, CONFIG_TLS, config_tls, KBS_LIMIT_WIRE_BODY_BYTES) \
    M(32, APPEND, append, KBS_LIMIT_AUDIT_RECORD_BYTES) \
    M(33, ACK, ack, 64) \
    M(34, HEAD, head, 128) \
    M(48, DESCRIBED, described, 16384) \
    M(49, RELEASE, release, 4096) \
    M(50, SIGN_EAR, sign_ear, KBS_LIMIT_JWT_BYTES) \
    M(51, GENERATE, generate, 4096) \
    M(52, IMPORT, import, 4096) \
    M(53, RESULT, result, 2 * KBS_LIMIT_SECRET_VALUE_BYTES) \
    M(54, SIGN_ROW, sign_row, 2 * KBS_LIMIT_POLICY_BYTES) \
    M(55, SIGN_HEAD, sign_head, 64) \
    M(56, OPEN_SECRET, open_secret, 2 * KBS_LIMIT_SECRET_VALUE_BYTES) \
    M(57, ADOPT, adopt, 4096) \
    M(58, RECARD, recard, 1024) \
    M(59, REWRAP_CATALOG, rewrap_catalog, 1024) \
    M(60, DESTROY, destroy, 1024) \
    M(61, SEAL, seal, 2 * KBS_LIMIT_SECRET_VALUE_BYTES) \
    M(62, RESEAL, reseal, 2 * KBS_LIMIT_SECRET_VALUE_BYTES) \
    M(63, SIGN_KEY, sign_key, 256) \
    M(95, REWRAP, rewrap, 8192) \
    M(96, PROVISION, provision, 8192) \
    M(97, REPROVISION, reprovision, 8192) \
    M(98, REGISTER_SET, register_set, 2048) \
    M(99, REGISTER_CHECK, register_check, 2048) \
    M(104, OPEN_REQUEST, open_request, 8192) \
    M(105, SIGN_TLS, sign_tls, 512) \
    M(106, SIGN_DIGEST, sign_digest, 512) \
    M(107, AGREE, agree, 512) \
    M(80, POLICY_LOAD, policy_load, 2 * KBS_LIMIT_DOCUMENT_BYTES) \
    M(81, POLICY_EVAL, policy_eval, KBS_LIMIT_POLICY_EVAL_BYTES) \
    M(82, VERDICT, verdict, 1024 + KBS_LIMIT_POLICY_RESULT_BYTES)

/* E(NUMBER, UPPER): messages without fields. */
#define KBS_WIRE_EMPTY_MESSAGES(E) \
    E(64, GO)          /* kbsd -> role: configuration and descriptors are complete */ \
    E(65, DRAIN)       /* kbsd -> role: finish what is in flight, then exit */ \
    E(66, LOGIN_WANT)  /* kbs-token -> kbsd */ \
    E(67, LOGIN_GRANT) /* kbsd -> kbs-token */ \
    E(68, DESCRIBE)    /* kbs-judge -> kbs-token */ \
    E(69, HEAD_WANT)   /* kbs-judge -> kbs-audit */ \
    E(70, CAPS)        /* kbs-judge -> kbs-token; RESULT's body: the matrix, hsm/caps.h */ \
    E(71, WORN)        /* kbs-token -> kbsd, once: serves on, but is to be replaced */ \
    E(72, PUBLIC_WANT) /* to a sign worker; RESULT's body: SubjectPublicKeyInfo of its key, DER */

#define KBS_WIRE_ENUM_M(number, upper, lower, cap) KBS_WIRE_##upper = (number),
#define KBS_WIRE_ENUM_E(number, upper) KBS_WIRE_##upper = (number),
enum kbs_wire_type {
    KBS_WIRE_NONE = 0,
    KBS_WIRE_MESSAGES(KBS_WIRE_ENUM_M) KBS_WIRE_EMPTY_MESSAGES(KBS_WIRE_ENUM_E)
};
#undef KBS_WIRE_ENUM_M
#undef KBS_WIRE_ENUM_E

#define KBS_WIRE_C_U8 uint8_t
#define KBS_WIRE_C_U32 uint32_t
#define KBS_WIRE_C_U64 uint64_t
#define KBS_WIRE_C_BYTES struct kbs_span
#define KBS_WIRE_C_LIST struct kbs_wire_list
#define KBS_WIRE_MEMBER(m, kind, field) KBS_WIRE_C_##kind field;
#define KBS_WIRE_STRUCT(number, upper, lower, cap) \
    struct kbs_wire_##lower { \
        KBS_WIRE_##upper##_FIELDS(KBS_WIRE_MEMBER, lower) \
    };
KBS_WIRE_MESSAGES(KBS_WIRE_STRUCT)
#undef KBS_WIRE_STRUCT
#undef KBS_WIRE_MEMBER

/* clang-format on */

/* ATTACH: what the descriptor is. */
enum kbs_attach {
    KBS_ATTACH_LISTENER_TLS = 1,   /* front: a bound, listening socket */
    KBS_ATTACH_LISTENER_PLAIN = 2, /* front: the same, spoken to without TLS */
    KBS_ATTACH_TLS_KEY = 3,        /* front: PEM private key, read once */
    KBS_ATTACH_LANE = 4,           /* front: channel to the judge of lane `index` */
    KBS_ATTACH_FRONT = 5,          /* judge: channel to its front; fetch: to a front; sign worker: `index` of several */
    KBS_ATTACH_TOKEN = 6,          /* judge: channel to its token worker */
    KBS_ATTACH_AUDIT = 7,          /* judge, token: channel to kbs-audit */
    KBS_ATTACH_JUDGE = 8,          /* token, policy: channel to its judge; fetch: to a judge */
    KBS_ATTACH_PIN = 9,            /* token: the PIN file, read once */
    KBS_ATTACH_LEDGER = 10,        /* audit: the ledger, opened for reading and appending */
    KBS_ATTACH_CLIENT = 11,        /* audit: channel of a judge of duty release */
    KBS_ATTACH_CLIENT_ADMIN = 12,  /* audit: of the admin lane's judge: mutations and heads too */
    KBS_ATTACH_CLIENT_TOKEN = 13,  /* audit: of a token worker: deeds and nothing else */
    KBS_ATTACH_POLICY = 15,        /* judge: channel to its kbs-policy; there may be none */
    KBS_ATTACH_FETCH = 16,         /* front, judge: channel to kbs-fetch; there may be none */
    KBS_ATTACH_CLIENT_KEY =
        17, /* fetch: PEM key of endpoint `index`'s client certificate, read once */
    KBS_ATTACH_HEADERS = 18, /* fetch: header lines for endpoint `index`, read once */
    KBS_ATTACH_SIGN = 19,    /* front: channel `index` to its sign worker */
    KBS_ATTACH_LEASH = 14    /* any role that is a unit: what ends it (confine/leash.h) */
};

/*
 * KBS_MADE, the answer body of GENERATE, IMPORT, ADOPT and REWRAP_CATALOG for a key of purpose release: enum
 * kbs_kcv_mac (1 byte), key check value (KBS_KCV_BYTES), alg (1 byte, enum kbs_key_alg), key length (u32 big
 * endian), card (KBS_CARD_BYTES), and for a wrapped key its blob.
 */
#define KBS_MADE_HEAD_BYTES (1 + KBS_KCV_BYTES + 1 + 4)

/*
 * A mark: HMAC-SHA-256 by the token's card key over a row that a guest lane keeps (docs/protocol/store-rows.md), made
 * and checked by kbs-token only.
 */
#define KBS_MARK_BYTES 32

enum kbs_fetch_method {
    KBS_FETCH_GET = 0,
    KBS_FETCH_POST = 1
};

/* FETCHED: what became of it. Anything but DONE has no answer. */
enum kbs_fetch_outcome {
    KBS_FETCH_NONE = 0,
    KBS_FETCH_DONE = 1,    /* there is an answer, of whatever status */
    KBS_FETCH_FAILED = 2,  /* the other side cannot be reached, or broke off */
    KBS_FETCH_TIMEOUT = 3, /* it did not answer in the endpoint's time */
    KBS_FETCH_LARGE = 4,   /* its answer is over `max` */
    KBS_FETCH_OPEN = 5,    /* it failed lately and is not asked again yet (circuit breaker) */
    KBS_FETCH_REFUSED = 6, /* there is no such endpoint, or it may not be asked that */
    KBS_FETCH_OUTCOME_COUNT
};
#define KBS_WIRE_GRPC_NONE UINT32_MAX

/* CONFIG_JUDGE, snp_minimum: an item is these, a byte each. */
enum kbs_wire_snp_minimum {
    KBS_WIRE_SNP_FMC = 0,
    KBS_WIRE_SNP_BOOTLOADER,
    KBS_WIRE_SNP_TEE,
    KBS_WIRE_SNP_SNP,
    KBS_WIRE_SNP_MICROCODE,
    KBS_WIRE_SNP_FIRMWARE, /* major, minor, build */
    KBS_WIRE_SNP_MINIMUM_BYTES = KBS_WIRE_SNP_FIRMWARE + 3
};
/* CONFIG_JUDGE, bits of snp_allow. */
#define KBS_WIRE_SNP_ALLOW_NO_CRL 1u
#define KBS_WIRE_SNP_ALLOW_MASKED_CHIP_ID 2u
#define KBS_WIRE_SNP_ALLOW_UNEXPLAINED_DATA 4u
#define KBS_WIRE_SNP_ALLOW_SVSM_BINDING 8u

/* CONFIG_ISSUER, bits of allow. */
#define KBS_WIRE_ISSUER_PASSPORT 1u
#define KBS_WIRE_ISSUER_KNOWN_KEYS 2u
#define KBS_WIRE_ISSUER_BYTES (512u * 1024)

/* CONFIG_JUDGE, bits of approvals_for. */
#define KBS_WIRE_APPROVALS_POLICY 1u
#define KBS_WIRE_APPROVALS_DESTROY 2u

/* CONFIG_TOKEN: what a system call that is not on kbs-token's list comes to. */
enum kbs_seccomp {
    KBS_SECCOMP_KILL = 0,
    KBS_SECCOMP_LOG = 1 /* logged by the kernel and allowed: to find a new module's needs */
};

struct kbs_frame {
    uint32_t body_len;
    enum kbs_wire_type type;
    uint64_t id;          /* chosen by the asker, echoed in the answer */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; KBS_DEADLINE_NONE if there is none */
};

const char *kbs_wire_type_name(enum kbs_wire_type type); /* "RELEASE", ...; "?" if unknown */

/*
 * Reads a frame header of exactly KBS_WIRE_HEADER_BYTES. KBS_INPUT for another version, an unknown
 * type, a reserved field that is not zero or a body over the type's cap.
 */
KBS_MUST_CHECK int kbs_wire_header_decode(const uint8_t header[KBS_WIRE_HEADER_BYTES],
                                          struct kbs_frame *ret, struct kbs_error *err);

/*
 * Appends a whole frame (header and body) to `out`. `msg` is the struct of that type, NULL for
 * messages without fields. KBS_TOO_LARGE if the body is over the type's cap or `out` is full.
 */
KBS_MUST_CHECK int kbs_wire_encode(struct kbs_buf *out, enum kbs_wire_type type, uint64_t id,
                                   uint64_t deadline_ns, const void *msg, struct kbs_error *err);

/*
 * The same without the header: for messages that are items of another message's list.
 */
KBS_MUST_CHECK int kbs_wire_body_put(struct kbs_buf *out, enum kbs_wire_type type, const void *msg,
                                     struct kbs_error *err);

/*
 * Decodes a body into the struct of that type (NULL for messages without fields). Spans and lists
 * borrow `body`. KBS_INPUT if a field is cut short, a list is too long, or bytes are left over.
 */
KBS_MUST_CHECK int kbs_wire_decode(enum kbs_wire_type type, struct kbs_span body, void *msg,
                                   struct kbs_error *err);

/* Lists: an iterator over a decoded one, and a builder into a buffer that must outlive the message.
 */
struct kbs_wire_iter {
    struct kbs_reader r;
    uint16_t left;
};
struct kbs_wire_iter kbs_wire_list_iter(const struct kbs_wire_list *list);
bool kbs_wire_list_next(struct kbs_wire_iter *it, struct kbs_span *ret); /* false at the end */
/* The n-th item, from 0; the empty span beyond the end. */
struct kbs_span kbs_wire_list_at(const struct kbs_wire_list *list, uint16_t n);
/* For lists of names and values in turn: the value of the first such name. False if absent. */
bool kbs_wire_list_find(const struct kbs_wire_list *list, const char *name, struct kbs_span *ret);

struct kbs_wire_list_builder {
    struct kbs_buf *buf; /* holds only this list */
    uint16_t count;
};
void kbs_wire_list_add(struct kbs_wire_list_builder *b, struct kbs_span item);
void kbs_wire_list_add_pair(struct kbs_wire_list_builder *b, const char *name,
                            struct kbs_span value);
struct kbs_wire_list kbs_wire_list_done(const struct kbs_wire_list_builder *b);

#endif
