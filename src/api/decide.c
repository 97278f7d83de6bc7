/*
 * Whether a guest may have a key or a secret: for releases, and for those who ask what a release
 * would come to.
 *
 * The problem: the answer depends on the row, on what the row's card says whatever a policy says, on
 * the resource policy for what is asked for as a resource, and on the key's own policy; and who asks
 * beforehand must get the answer that the release would get. The approach: one road for both. The
 * caller reads the row, names it in its records, and asks; whatever is not "yes" has its reason in
 * the error.
 *
 * A policy may ask for a locality (kbs.locality), which is the token's to choose when the order is
 * given, after the policy was asked. So the policy is asked what it says of the key's floor, then of
 * each stronger locality, and the first that it allows is the floor of this one order: the token
 * then keeps to it or refuses (501). What a policy was told is what is enforced.
 */
#include "api/context.h"

#include "attest/ear.h"
#include "attest/identity.h"
#include "policy/release.h"

void kbs_decision_deinit(struct kbs_decision *d)
{
    kbs_buf_deinit(&d->policy);
    kbs_buf_deinit(&d->sealed);
    kbs_buf_deinit(&d->resource_policy);
    json_decref(d->explained);
    d->explained = NULL;
}

int kbs_decision_load(struct kbs_decision *d, struct kbs_span path, uint32_t version,
                      struct kbs_error *err)
{
    struct kbs_store *store = d->api->store;

    if (kbs_epoch_gate(d->api, err) != 0 ||
        (d->secret ? kbs_store_secret_newest(store, path, &d->key, &d->policy, &d->sealed, err)
                   : kbs_store_key_get(store, path, version, &d->key, &d->policy, err)) != 0) {
        return -1;
    }
    return kbs_epoch_of_row(d->api, d->key.epoch, err);
}

/* The policy of that name: 0 with its text, empty if it is not set. */
static int policy_get(struct kbs_decision *d, struct kbs_span name, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;

    kbs_buf_clear(&d->resource_policy);
    if (kbs_document_get(d->api, KBS_DOCUMENT_RESOURCE_POLICY, name, &d->governs,
                         &d->resource_policy, &found) == 0) {
        return 0;
    }
    kbs_buf_clear(&d->resource_policy);
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    return 0;
}

/*
 * The resource policy that governs this path: its text, empty if none is set or nobody asks it, and the row
 * that says its name. There may be several: of the path itself, of its first two segments, of the first one
 * (a tenant's), and the default. The longest that is set governs, and no other is asked. Whatever is wrong
 * with that one, its row or its text, is the end of it: it never gives way to a weaker one.
 */
static int load_resource_policy(struct kbs_decision *d, struct kbs_error *err)
{
    struct kbs_buf name = KBS_BUF(sizeof(KBS_RESOURCE_POLICY) + KBS_LIMIT_KEY_PATH_BYTES);
    int rc = 0;

    if (!d->resource) {
        return 0;
    }
    kbs_buf_put_str(&name, KBS_RESOURCE_POLICY "/");
    kbs_buf_put_str(&name, d->key.path);
    rc = kbs_buf_check(&name, "the name of a policy", err);
    for (size_t len = name.len; rc == 0 && d->resource_policy.len == 0 && len > 0; len--) {
        if (len == name.len || name.p[len] == '/') {
            rc = policy_get(d, kbs_span(name.p, len), err);
        }
    }
    kbs_buf_deinit(&name);
    return rc;
}

/* A register may be kept under a key of any purpose. */
static enum kbs_purpose purpose_wanted(const struct kbs_decision *d)
{
    if (d->keeps == KBS_KEEPS_REGISTER) {
        return d->key.card.purpose;
    }
    return d->nek != NULL || d->keeps == KBS_KEEPS_PROVISION ? KBS_PURPOSE_NEK
           : d->secret                                       ? KBS_PURPOSE_SEAL
                                                             : KBS_PURPOSE_RELEASE;
}

/* What the key or secret says of itself, whatever a policy says. */
static int row_allows(const struct kbs_decision *d, struct kbs_error *err)
{
    enum kbs_purpose wanted = purpose_wanted(d);
    uint8_t digest[KBS_SHA256_BYTES];

    if (d->key.state == KBS_KEY_STATE_DESTROYED) {
        return kbs_fail(err, KBS_MISSING, "no such key or version");
    }
    if (!d->key.has_card) {
        return kbs_fail(err, KBS_DENIED,
                        "this key is from before there were key cards: it must be rotated");
    }
    if (d->key.card.purpose != wanted) {
        return kbs_fail(err, KBS_DENIED, "the purpose of this key is %s, not %s",
                        kbs_purpose_name(d->key.card.purpose), kbs_purpose_name(wanted));
    }
    if (d->key.state != KBS_KEY_STATE_ENABLED) {
        return kbs_fail(err, KBS_DENIED, "this key is %s", kbs_key_state_name(d->key.state));
    }
    if ((d->key.card.flags & KBS_CARD_POP_REQUIRED) != 0 && !d->how.session->pop) {
        return kbs_fail(err, KBS_DENIED,
                        "this key is only for requests with a proof of possession");
    }
    kbs_sha256(kbs_buf_span(&d->policy), digest);
    if (memcmp(digest, d->key.card.policy, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the card of %.120s/v%u is of another policy",
                        d->key.path, (unsigned int)d->key.version);
    }
    return 0;
}

/*
 * A NEK is for whom its blob says, and what a guest is, its evidence says. Found here so that the record
 * says why; a blob that lies about it is wrapped under another key and does not open.
 */
static int nek_allows(struct kbs_decision *d, const json_t *input, struct kbs_error *err)
{
    const struct kbs_nek_binding *said = &d->nek->said;

    if ((d->key.card.flags & KBS_CARD_BINDING_REQUIRED) != 0 && said->fields == 0) {
        return kbs_fail(err, KBS_DENIED, "this key opens only blobs that are bound to a guest");
    }
    if (kbs_identity_bind(input, d->how.session->tee, said->fields, &d->binding, err) != 0) {
        return -1;
    }
    return memcmp(d->binding.digest, said->digest, sizeof(said->digest)) == 0
               ? 0
               : kbs_fail(err, KBS_DENIED, "this NEK is bound to another guest");
}

/*
 * What a resource policy reads besides the claims: `data` as Trustee has it, and our own root. The
 * former needs no escaping: segments of paths are letters, digits and three signs.
 */
static int resource_data(const struct kbs_decision *d, const json_t *kbs, struct kbs_buf *out,
                         struct kbs_error *err)
{
    kbs_buf_printf(out, "{\"plugin\":\"%s\",\"method\":\"GET\",\"query\":{},\"resource-path\":[\"",
                   d->how.plugin);
    for (const char *c = d->key.path; *c != '\0'; c++) {
        if (*c == '/') {
            kbs_buf_put_str(out, "\",\"");
        } else {
            kbs_buf_put_u8(out, (uint8_t)*c);
        }
    }
    kbs_buf_put_str(out, "\"],\"kbs\":");
    if (kbs_json_dump(kbs, out, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(out, '}');
    return kbs_buf_check(out, "the resource policy's data", err);
}

static int resource_policy_allows(struct kbs_decision *d, const json_t *kbs, struct kbs_error *err)
{
    struct kbs_buf data = KBS_BUF(KBS_LIMIT_POLICY_EVAL_BYTES - KBS_LIMIT_JWT_BYTES);
    int rc = resource_data(d, kbs, &data, err);

    if (rc == 0) {
        rc = kbs_rego_decide(d->api, kbs_buf_span(&d->resource_policy),
                             kbs_buf_span(&d->how.session->claims), kbs_buf_span(&data), err);
    }
    kbs_buf_deinit(&data);
    return rc;
}

static int policy_allows_at(struct kbs_decision *d, const json_t *policy,
                            const struct kbs_policy_subject *subject, json_t *kbs,
                            enum kbs_locality locality, struct kbs_error *err)
{
    if (json_object_set_new(kbs, "locality", json_string(kbs_locality_name(locality))) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the kbs claims cannot be built");
    }
    d->floor = locality;
    return kbs_policy_decide_loaded(policy, subject, err);
}

/* What is kept is kept for whom the policy's terms say that the guest is. */
static int keeps_allows(struct kbs_decision *d, const json_t *policy, const json_t *input,
                        struct kbs_error *err)
{
    if (kbs_keeps_terms(policy, d->keeps, &d->terms, err) != 0) {
        return -1;
    }
    if (d->keeps == KBS_KEEPS_PROVISION && d->key.card.alg == KBS_KEY_ALG_RSA) {
        return kbs_fail(err, KBS_DENIED,
                        "what is wrapped to an RSA key is bound to nobody: nothing is provisioned");
    }
    return kbs_identity_bind(input, d->how.session->tee, d->terms.identity, &d->binding, err);
}

/* At the key's floor, or else at the least locality above it that the policy allows. */
static int policy_allows(struct kbs_decision *d, const json_t *input, json_t *kbs,
                         struct kbs_error *err)
{
    struct kbs_parsed *policies = &d->api->policies[d->key.id[0] & (KBS_API_PARSED - 1)];
    struct kbs_policy_subject subject = {.input = input, .kbs = kbs};
    int top = d->secret ? KBS_LOCALITY_WORKER : KBS_LOCALITY_TOKEN;
    const json_t *policy = NULL;
    int rc = -1;

    (void)kbs_ear_authority(input, &subject.authority, &subject.vouched);
    if (kbs_parsed_get(policies, kbs_buf_span(&d->policy), kbs_policy_load, &policy, err) != 0) {
        return -1;
    }
    for (int at = (int)d->floor; rc != 0 && at <= top; at++) {
        rc = policy_allows_at(d, policy, &subject, kbs, (enum kbs_locality)at, err);
    }
    if (d->explain) {
        d->explained = kbs_policy_explain(policy, &subject);
    }
    return rc == 0 && d->keeps != KBS_KEEPS_NOTHING ? keeps_allows(d, policy, input, err) : rc;
}

void kbs_decision_owner(const struct kbs_decision *d, struct kbs_store_owner *ret)
{
    memcpy(ret->key_id, d->key.id, sizeof(ret->key_id));
    kbs_nek_binding_put(&d->binding, ret->identity);
}

static int claims_parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    return kbs_json_parse_object(text, "claims", ret, err);
}

int kbs_session_input(struct kbs_api *api, const struct kbs_session *session, const json_t **ret,
                      struct kbs_error *err)
{
    struct kbs_parsed *claims = &api->claims[session->sid[0] & (KBS_API_PARSED - 1)];

    return kbs_parsed_get(claims, kbs_buf_span(&session->claims), claims_parse, ret, err) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the session's claims do not parse");
}

static int policies_allow(struct kbs_decision *d, const json_t *input, json_t *kbs,
                          struct kbs_error *err)
{
    if (d->resource_policy.len != 0) {
        d->by = "resource-policy";
        if (resource_policy_allows(d, kbs, err) != 0) {
            return -1;
        }
        if (d->secret && d->policy.len == 0) {
            return 0; /* a secret without a policy of its own is the resource policy's alone */
        }
    }
    d->by = "release-policy";
    return policy_allows(d, input, kbs, err);
}

int kbs_decide(struct kbs_decision *d, struct kbs_error *err)
{
    const json_t *input = NULL;

    d->by = "row";
    d->floor = d->key.card.floor;
    if (kbs_row_check(d->api, &d->key, kbs_buf_span(&d->policy), err) != 0 ||
        row_allows(d, err) != 0 || load_resource_policy(d, err) != 0) {
        return -1;
    }
    if (kbs_session_input(d->api, d->how.session, &input, err) != 0) {
        return -1;
    }
    if (d->nek != NULL && nek_allows(d, input, err) != 0) {
        return -1;
    }
    d->how.key = &d->key;
    d->how.locality = d->floor;
    KBS_AUTO_JSON kbs = kbs_subject_root(d->api, &d->how, input);
    if (kbs == NULL || (d->supposed != NULL && json_object_update(kbs, d->supposed) != 0)) {
        return kbs_fail(err, KBS_INTERNAL, "the kbs claims cannot be built");
    }
    return policies_allow(d, input, kbs, err);
}

bool kbs_decision_to_record(const struct kbs_error *err)
{
    return err->category == KBS_DENIED || err->category == KBS_INTERNAL;
}
