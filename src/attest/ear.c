/*
 * The attestation result as claims (draft-ietf-rats-ear, profile of Trustee).
 *
 * Policies written for Trustee's tokens are to see the same names at the same places, so the names
 * here are Trustee's, `ear.veraison.annotated-evidence` included. Claims are what the verifier
 * established and nothing else: a trust claim of 0 ("no claim", AR4SI) is left out, and init_data
 * is there only if the TEE's field is the digest of the document that was sent (so Trustee has it).
 *
 * report_data stands as Trustee writes it: the evidence's own base64 for the sample kinds, lower-case
 * hex for every kind that has a report field.
 *
 * A service that verified evidence in our place says the same things by the same names, and its word is
 * repeated here, but not for what we know better: whether the TEE holds the digest of the init-data that was
 * sent is compared here, and what is not backed by a document of this handshake is not called init_data.
 * Where we verified the same evidence ourselves, ours are the claims, and the worse appraisal counts.
 *
 * `sid` is ours: it names the session that the token belongs to, and makes the token useless beside
 * it. Since these tokens are read by nobody's clock but ours, kbs_ear_check() grants no leeway.
 */
#include "attest/ear.h"

#include <stdio.h>

#include "base/encoding.h"

#define EAR_PROFILE "tag:github.com,2024:confidential-containers/Trustee"
#define EAR_DEVELOPER "kbs-hsm"
#define EAR_BUILD "kbs-judge " KBS_VERSION
#define EVIDENCE "ear.veraison.annotated-evidence"
#define INIT_DATA "init_data"
#define SID_MAX_BYTES 64
#define SUBMOD_NAME_BYTES 32
#define RUNTIME_DATA_MAX_BYTES KBS_LIMIT_JWT_BYTES

/* Spans as JSON strings; NULL if they are not UTF-8. */
static json_t *span_string(struct kbs_span s)
{
    return json_stringn(s.len != 0 ? (const char *)s.p : "", s.len);
}

static json_t *report_data_string(enum kbs_tee tee, const struct kbs_digest *digest)
{
    struct kbs_buf text = KBS_BUF(2 * KBS_DIGEST_MAX_BYTES);
    json_t *v;

    if (kbs_evidence_is_sample(tee)) {
        kbs_base64_put(&text, kbs_digest_span(digest));
    } else {
        kbs_hex_put(&text, kbs_digest_span(digest));
    }
    v = span_string(kbs_buf_span(&text));
    kbs_buf_deinit(&text);
    return v;
}

/* The object that was hashed, as an object; `additional` NULL: without that member. */
static int runtime_data_object(const struct kbs_rcar_attestation *a,
                               const struct kbs_span *additional, json_t **ret,
                               struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(RUNTIME_DATA_MAX_BYTES);
    int r;

    *ret = NULL;
    kbs_rcar_runtime_data_put(&text, &a->tee_key, a->nonce, additional);
    r = kbs_buf_check(&text, "runtime data", err);
    if (r == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&text), "runtime data", ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

/* The name of part i: its class, and how many of that class are before it. */
static void submod_name(const struct kbs_ear *ear, size_t i, char *out, size_t size)
{
    const char *class = ear->parts[i].result.class;
    unsigned int index = 0;

    for (size_t before = 0; before < i; before++) {
        index += strcmp(ear->parts[before].result.class, class) == 0 ? 1 : 0;
    }
    (void)snprintf(out, size, "%s%u", class, index);
}

/* The appraisal of part i. Returns owned, or NULL when memory runs out. */
static json_t *submod(const struct kbs_ear_part *part, json_t *evidence)
{
    const char *policy = part->policy[0] != '\0' ? part->policy : KBS_EAR_POLICY_DEFAULT;
    const struct kbs_trust_vector *trust = &part->result.trust;

    return json_pack("{s:s, s:o, s:s, s:O}", "ear.status", kbs_trust_status(trust),
                     "ear.trustworthiness-vector", kbs_trust_json(trust), "ear.appraisal-policy-id",
                     policy, EVIDENCE, evidence);
}

/*
 * Only the first one's runtime data is over the others' evidence, which is not repeated here: what
 * was found in it stands in their own parts, and a token has to fit into a header.
 */
int kbs_ear_evidence(const struct kbs_ear *ear, size_t i, json_t **ret, struct kbs_error *err)
{
    const struct kbs_ear_part *part = &ear->parts[i];
    const struct kbs_evidence_result *r = &part->result;
    const struct kbs_span *additional = i == 0 && ear->attestation->device_count == 0
                                            ? kbs_rcar_additional(ear->attestation)
                                            : NULL;
    KBS_AUTO_JSON runtime_data = NULL;

    if (part->tee == KBS_TEE_NONE || r->class == NULL || !json_is_object(r->claims) ||
        !r->verified || part->report_digest.len == 0) {
        return kbs_fail(err, KBS_INTERNAL, "claims without verified evidence");
    }
    if (runtime_data_object(ear->attestation, additional, &runtime_data, err) != 0) {
        return -1;
    }
    *ret = json_pack("{s:O, s:o, s:O}", kbs_tee_name(part->tee), r->claims, "report_data",
                     report_data_string(part->tee, &part->report_digest), "runtime_data_claims",
                     runtime_data);
    if (*ret == NULL ||
        (r->init_data == KBS_INIT_DATA_MATCHED &&
         json_object_set(*ret, INIT_DATA, json_object_get(r->claims, INIT_DATA)) != 0)) {
        json_decref(*ret);
        *ret = NULL;
        return kbs_fail(err, KBS_INTERNAL, "the claims set cannot be built");
    }
    return 0;
}

static int submod_add(const struct kbs_ear *ear, size_t i, json_t *submods, struct kbs_error *err)
{
    KBS_AUTO_JSON evidence = NULL;
    char name[SUBMOD_NAME_BYTES];

    if (kbs_ear_evidence(ear, i, &evidence, err) != 0) {
        return -1;
    }
    submod_name(ear, i, name, sizeof(name));
    if (json_object_set_new(submods, name, submod(&ear->parts[i], evidence)) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the claims set cannot be built");
    }
    return 0;
}

/* ---- what was verified elsewhere ---- */

/* Tiers of ear.status (draft-ietf-rats-ear), the worst last; what is none of them is the worst. */
static int status_rank(const char *status)
{
    static const char *const tiers[] = {"affirming", "none", "warning", "contraindicated"};
    int rank = 0;

    while (rank < 3 && (status == NULL || strcmp(status, tiers[rank]) != 0)) {
        rank++;
    }
    return rank;
}

/* Our own submodule learns what somebody else says of the same evidence. */
static int submod_agree(json_t *ours, const json_t *theirs, struct kbs_error *err)
{
    static const char *const kept[] = {"ear.status", "ear.trustworthiness-vector",
                                       "ear.appraisal-policy-id", KBS_EAR_AUTHORITY};
    json_t *status = json_object_get(theirs, "ear.status");
    json_t *delegated = json_object();
    bool ok = json_object_set_new(ours, KBS_EAR_DELEGATED, delegated) == 0;

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]) && ok; i++) {
        json_t *v = json_object_get(theirs, kept[i]);

        ok = v == NULL || json_object_set(delegated, kept[i], v) == 0;
    }
    if (ok && status_rank(json_string_value(status)) >
                  status_rank(json_string_value(json_object_get(ours, "ear.status")))) {
        ok = json_object_set(ours, "ear.status", status) == 0;
    }
    return ok ? 0 : kbs_fail(err, KBS_INTERNAL, "the claims set cannot be built");
}

/* Whether a field, in hex, holds the digest of that document. */
static int init_data_holds(const json_t *field, struct kbs_span document, bool *ret,
                           struct kbs_error *err)
{
    struct kbs_span text = kbs_span(json_string_value(field), json_string_length(field));
    uint8_t bytes[KBS_DIGEST_MAX_BYTES];
    struct kbs_digest digest;
    enum kbs_hash hash;

    *ret = false;
    if (kbs_init_data_digest(document, &hash, &digest, err) != 0) {
        return -1;
    }
    if (text.len % 2 == 0 && text.len / 2 <= sizeof(bytes) &&
        kbs_hex_get_exact(bytes, text.len / 2, text) == 0) {
        *ret = kbs_init_data_compare(kbs_digest_span(&digest), kbs_span(bytes, text.len / 2)) ==
               KBS_INIT_DATA_MATCHED;
    }
    return 0;
}

/*
 * init_data stands in our claims only for a document of this handshake. One that was sent and is not what the
 * service found in the evidence was not checked, or not believed: refused.
 */
static int submod_init_data(const struct kbs_ear *ear, json_t *submod, struct kbs_error *err)
{
    json_t *evidence = json_object_get(submod, EVIDENCE);
    const json_t *field = json_object_get(evidence, INIT_DATA);
    bool holds = false;

    if (ear->attestation->init_data.len != 0 && field != NULL) {
        if (init_data_holds(field, ear->attestation->init_data, &holds, err) != 0) {
            return -1;
        }
        return holds ? 0
                     : kbs_fail(err, KBS_UNAUTHENTICATED,
                                "the attestation service found other init-data than was sent");
    }
    (void)json_object_del(evidence, INIT_DATA);
    (void)json_object_del(evidence, INIT_DATA "_claims");
    return 0;
}

/* The TEE's own part: what is in it of init-data, and of devices' evidence, which is not repeated. */
static int submod_settle(const struct kbs_ear *ear, json_t *submod, struct kbs_error *err)
{
    json_t *evidence = json_object_get(submod, EVIDENCE);

    if (ear->attestation->device_count != 0) {
        (void)json_object_del(json_object_get(evidence, "runtime_data_claims"),
                              "additional-evidence");
    }
    return submod_init_data(ear, submod, err);
}

/* Adds what was verified elsewhere to what was verified here. */
static int submods_merge(const struct kbs_ear *ear, json_t *submods, struct kbs_error *err)
{
    const char *name;
    json_t *theirs;

    json_object_foreach((json_t *)(uintptr_t)ear->submods, name, theirs)
    {
        json_t *ours = json_object_get(submods, name);
        json_t *copy = ours == NULL ? json_deep_copy(theirs) : NULL;

        if (ours != NULL) {
            if (submod_agree(ours, theirs, err) != 0) {
                return -1;
            }
        } else if (json_object_set_new(submods, name, copy) != 0) {
            return kbs_fail(err, KBS_INTERNAL, "the claims set cannot be built");
        } else if (strcmp(name, "cpu0") == 0 && submod_settle(ear, copy, err) != 0) {
            return -1;
        }
    }
    return 0;
}

int kbs_ear_build(const struct kbs_ear *ear, json_t **ret, struct kbs_error *err)
{
    KBS_AUTO_JSON submods = json_object();

    *ret = NULL;
    if (submods == NULL || ear->part_count > KBS_EAR_PARTS_MAX ||
        (ear->part_count == 0 && ear->submods == NULL)) {
        return kbs_fail(err, KBS_INTERNAL, "claims without verified evidence");
    }
    for (size_t i = 0; i < ear->part_count; i++) {
        if (submod_add(ear, i, submods, err) != 0) {
            return -1;
        }
    }
    if (ear->submods != NULL && submods_merge(ear, submods, err) != 0) {
        return -1;
    }
    if (!json_is_object(json_object_get(submods, "cpu0"))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "nothing was said of the TEE itself");
    }
    return kbs_ear_wrap(ear->issuer, ear->sid, ear->iat, ear->exp, submods, ret, err);
}

int kbs_ear_wrap(struct kbs_span issuer, struct kbs_span sid, int64_t iat, int64_t exp,
                 json_t *submods, json_t **ret, struct kbs_error *err)
{
    *ret = json_pack("{s:s, s:I, s:I, s:o, s:o, s:{s:s, s:s}, s:O}", "eat_profile", EAR_PROFILE,
                     "iat", (json_int_t)iat, "exp", (json_int_t)exp, "iss", span_string(issuer),
                     "sid", span_string(sid), "ear.verifier-id", "developer", EAR_DEVELOPER,
                     "build", EAR_BUILD, "submods", submods);
    if (*ret == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the claims set cannot be built");
    }
    return 0;
}

struct kbs_span kbs_ear_status(const json_t *claims)
{
    const json_t *cpu = json_object_get(json_object_get(claims, "submods"), "cpu0");
    const json_t *status = json_object_get(cpu, "ear.status");

    return json_is_string(status) ? kbs_span(json_string_value(status), json_string_length(status))
                                  : KBS_SPAN_EMPTY;
}

bool kbs_ear_authority(const json_t *claims, struct kbs_span *ret_iss, const json_t **ret_claims)
{
    const json_t *cpu = json_object_get(json_object_get(claims, "submods"), "cpu0");
    const json_t *iss = json_object_get(cpu, KBS_EAR_AUTHORITY);
    const json_t *at = json_object_get(cpu, KBS_EAR_CLAIMS_AT);

    *ret_iss = KBS_SPAN_EMPTY;
    *ret_claims = NULL;
    if (!json_is_string(iss)) {
        return false;
    }
    *ret_iss = kbs_span(json_string_value(iss), json_string_length(iss));
    *ret_claims = claims;
    if (json_is_string(at)) { /* never `claims` for one that is no EAR, even if it is not there */
        *ret_claims = json_object_get(json_object_get(cpu, EVIDENCE), json_string_value(at));
    }
    return *ret_claims != NULL;
}

bool kbs_ear_init_data_matched(const json_t *claims)
{
    const json_t *cpu = json_object_get(json_object_get(claims, "submods"), "cpu0");

    return json_is_string(json_object_get(json_object_get(cpu, EVIDENCE), INIT_DATA));
}

const json_t *kbs_ear_native(const json_t *claims, enum kbs_tee tee)
{
    const json_t *cpu = json_object_get(json_object_get(claims, "submods"), "cpu0");

    return json_object_get(cpu, KBS_EAR_AUTHORITY) == NULL
               ? json_object_get(json_object_get(cpu, EVIDENCE), kbs_tee_name(tee))
               : NULL;
}

static bool member_is(const json_t *claims, const char *name, struct kbs_span expected)
{
    const json_t *v = json_object_get(claims, name);

    return json_is_string(v) &&
           kbs_span_equal(kbs_span(json_string_value(v), json_string_length(v)), expected);
}

static bool sid_valid(struct kbs_span sid)
{
    for (size_t i = 0; i < sid.len; i++) {
        uint8_t c = sid.p[i];

        if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) {
            return false;
        }
    }
    return sid.len != 0 && sid.len <= SID_MAX_BYTES;
}

static int times_check(const json_t *claims, int64_t now_s, struct kbs_error *err)
{
    const json_t *nbf = json_object_get(claims, "nbf");
    const json_t *iat = json_object_get(claims, "iat");
    const json_t *exp = json_object_get(claims, "exp");

    if (!json_is_integer(iat) || json_integer_value(iat) < 0 || json_integer_value(iat) > now_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no valid \"iat\"");
    }
    if (!json_is_integer(exp) || json_integer_value(exp) <= json_integer_value(iat)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no valid \"exp\"");
    }
    if (json_integer_value(exp) <= now_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: expired");
    }
    if (nbf != NULL && (!json_is_integer(nbf) || json_integer_value(nbf) > now_s)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: not valid yet");
    }
    return 0;
}

int kbs_ear_check(const json_t *claims, struct kbs_span issuer, int64_t now_s,
                  struct kbs_span *ret_sid, struct kbs_error *err)
{
    const json_t *sid = json_object_get(claims, "sid");

    *ret_sid = KBS_SPAN_EMPTY;
    if (issuer.len == 0 || !member_is(claims, "iss", issuer)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: not of this issuer");
    }
    if (!member_is(claims, "eat_profile", KBS_SPAN_LIT(EAR_PROFILE))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: another \"eat_profile\"");
    }
    if (times_check(claims, now_s, err) != 0) {
        return -1;
    }
    if (!json_is_string(sid) ||
        !sid_valid(kbs_span(json_string_value(sid), json_string_length(sid)))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no valid \"sid\"");
    }
    *ret_sid = kbs_span(json_string_value(sid), json_string_length(sid));
    return 0;
}
