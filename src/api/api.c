/*
 * A judge's knowledge before its first request: setup checked, token described, administrators
 * enrolled, store and ledger compared.
 *
 * The problem: a lane that cannot do its work should say so at start, once, in words an operator
 * can act on, and not per request. So a release lane refuses to start without a token-signing key,
 * and the admin lane without an administrator; the admin lane does start on a token that has no
 * service keys yet, so that `kbs-admin` can show what there is.
 */
#include "api/context.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/secret.h"
#include "jose/read/jose.h"
#include "jose/read/json.h"
#include "jose/write/jose.h"
#include "policy/release.h"

static int api_enrol(struct kbs_api *api, const struct kbs_wire_list *keys, struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(keys);
    struct kbs_span pem;

    if (keys->count == 0 || keys->count > KBS_LIMIT_ADMIN_KEYS) {
        return kbs_fail(err, KBS_INPUT, "the admin lane needs 1 to %d administrator keys",
                        KBS_LIMIT_ADMIN_KEYS);
    }
    api->admins = calloc(keys->count, sizeof(*api->admins));
    if (api->admins == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    while (kbs_wire_list_next(&it, &pem)) {
        struct kbs_admin *admin = &api->admins[api->admin_count];

        if (kbs_jose_public_from_pem(pem, &admin->key, err) != 0) {
            return -1;
        }
        if (admin->key.curve != KBS_CURVE_P256) {
            return kbs_fail(err, KBS_INPUT, "administrator key %zu is not on P-256",
                            api->admin_count + 1);
        }
        kbs_jose_thumbprint(&admin->key, admin->thumbprint);
        api->admin_count++;
    }
    return 0;
}

/* Two files with one key are one administrator, who counts once. */
static int api_check_approvals(const struct kbs_api *api, uint32_t approvals, struct kbs_error *err)
{
    uint32_t different = 0;

    for (size_t i = 0; i < api->admin_count; i++) {
        different +=
            kbs_admin_find(api, kbs_span_str(api->admins[i].thumbprint)) == &api->admins[i];
    }
    if (approvals > KBS_LIMIT_APPROVERS || approvals > different) {
        return kbs_fail(err, KBS_INPUT, "approvals: %u different administrators of %u",
                        (unsigned int)approvals, (unsigned int)different);
    }
    return 0;
}

/* A policy that is broken would deny every resource, and say so only to guests. */
static int api_check_policy(struct kbs_span policy, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;

    if (policy.len != 0 && kbs_policy_check(policy, &found) != 0) {
        return kbs_fail(err, KBS_INPUT, "the policy of resources is broken: %.140s", found.detail);
    }
    return 0;
}

/* False if it is none; an empty one is. */
static bool api_take_path(struct kbs_span path, char ret[KBS_LIMIT_KEY_PATH_BYTES + 1])
{
    return path.len == 0 ||
           (kbs_key_path_valid(path) && kbs_span_to_cstr(path, ret, KBS_LIMIT_KEY_PATH_BYTES + 1));
}

static int api_check(struct kbs_api *api, const struct kbs_api_setup *setup, struct kbs_error *err)
{
    if (setup->duty != KBS_DUTY_RELEASE && setup->duty != KBS_DUTY_ADMIN) {
        return kbs_fail(err, KBS_INPUT, "unknown duty");
    }
    if (setup->session_s == 0 || setup->token_s == 0) {
        return kbs_fail(err, KBS_INPUT, "sessions and tokens must live for some time");
    }
    if (setup->sessions == 0) {
        return kbs_fail(err, KBS_INPUT, "no session could ever begin");
    }
    if (setup->issuer.len == 0 ||
        !kbs_span_to_cstr(setup->issuer, api->issuer, sizeof(api->issuer))) {
        return kbs_fail(err, KBS_INPUT, "the issuer's name must be 1 to %zu bytes",
                        sizeof(api->issuer) - 1);
    }
    if (setup->resource_bytes == 0 || setup->resource_bytes > KBS_LIMIT_SECRET_VALUE_BYTES) {
        return kbs_fail(err, KBS_INPUT, "resources must have room for 1 to %u bytes",
                        (unsigned int)KBS_LIMIT_SECRET_VALUE_BYTES);
    }
    if (!api_take_path(setup->nek_key, api->nek_key) ||
        !api_take_path(setup->id_key, api->id_key)) {
        return kbs_fail(err, KBS_INPUT, "nek_key is not the path of a key");
    }
    if (api_check_policy(setup->resource_policy, err) != 0) {
        return -1;
    }
    if (setup->duty != KBS_DUTY_ADMIN) {
        return 0;
    }
    return api_enrol(api, setup->admin_keys, err) == 0
               ? api_check_approvals(api, setup->approvals, err)
               : -1;
}

/* Who else is let in; in production nobody, whatever the configuration was checked for. */
static int api_mode(struct kbs_api *api, const struct kbs_api_setup *setup, struct kbs_error *err)
{
    bool open =
        setup->admin_mode == KBS_ADMIN_BEARER || setup->admin_mode == KBS_ADMIN_INSECURE_ALLOW_ALL;

    if (setup->duty != KBS_DUTY_ADMIN) {
        return 0;
    }
    if (setup->production && open) {
        return kbs_fail(err, KBS_INPUT,
                        "the production profile takes signed administrators' requests only");
    }
    api->approvals = setup->approvals;
    api->approvals_for = setup->approvals_for;
    api->admin_mode = setup->admin_mode;
    if (setup->admin_mode != KBS_ADMIN_BEARER) {
        return 0;
    }
    return kbs_bearer_new(setup->identity_providers, setup->acls, &api->bearer, err);
}

int kbs_api_new(const struct kbs_api_setup *setup, struct kbs_api **ret, struct kbs_error *err)
{
    struct kbs_api *api = calloc(1, sizeof(*api));

    if (api == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    kbs_json_wipe_freed();
    api->duty = setup->duty;
    api->production = setup->production;
    api->allow_sample = setup->allow_sample;
    api->rsa1_5 = setup->rsa1_5;
    api->svsm = setup->svsm;
    api->verifiers = setup->verifiers;
    api->issuers = setup->issuers;
    api->sessions = setup->sessions;
    api->session_s = setup->session_s;
    api->token_s = setup->token_s;
    api->store = setup->store;
    api->resource_bytes = setup->resource_bytes;
    api->resource_policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    kbs_buf_put_span(&api->resource_policy, setup->resource_policy);
    api->token_fd = setup->token_fd;
    api->token_answer = KBS_CHANNEL_MSG;
    api->policy_fd = setup->policy_fd;
    api->policy_answer = KBS_CHANNEL_MSG;
    api->fetch = (struct kbs_api_fetch){
        .fd = -1, .answer = KBS_CHANNEL_MSG, .want = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES)};
    kbs_fetch_attach(&api->fetch, setup->fetch_fd);
    api->ledger = (struct kbs_api_ledger){.fd = setup->ledger_fd, .answer = KBS_CHANNEL_MSG};
    api->answer.body = KBS_BUF(KBS_LIMIT_HTTP_RESPONSE_BYTES);
    api->answer.receipt = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    api->head_due_ns = kbs_deadline_in_ms(KBS_LIMIT_AUDIT_HEAD_MS);
    kbs_random(api->nonce_key, sizeof(api->nonce_key));
    if (api_check(api, setup, err) != 0 || api_mode(api, setup, err) != 0 ||
        kbs_delegate_configure(&api->delegate, setup, err) != 0 ||
        kbs_token_describe(api, err) != 0) {
        (void)kbs_api_free(api);
        return -1;
    }
    if (api->duty == KBS_DUTY_RELEASE && (api->token.sign_count == 0 || !api->token.has_row)) {
        bool has_sign = api->token.sign_count > 0;

        (void)kbs_api_free(api);
        return kbs_fail(err, KBS_INPUT, "the token has no %s key, run kbs-admin init",
                        has_sign ? "sign-row" : "sign-token");
    }
    if (kbs_epoch_check(api, err) != 0) {
        (void)kbs_api_free(api);
        return -1;
    }
    if (api->duty == KBS_DUTY_ADMIN) {
        kbs_due_look(api);
    }
    (void)snprintf(api->description, sizeof(api->description), "token %s %s %s, class %s",
                   api->token.manufacturer, api->token.model, api->token.serial,
                   kbs_token_class_name(api->token.class));
    *ret = api;
    return 0;
}

void kbs_api_forget(struct kbs_api *api)
{
    kbs_buf_deinit(&api->answer.body);
    kbs_buf_deinit(&api->answer.receipt);
    kbs_buf_deinit(&api->token_answer.body);
    kbs_buf_deinit(&api->fetch.want);
    kbs_cleanse(api->answer.cookie, sizeof(api->answer.cookie));
}

struct kbs_api *kbs_api_free(struct kbs_api *api)
{
    if (api != NULL) {
        kbs_channel_msg_deinit(&api->token_answer);
        kbs_channel_msg_deinit(&api->policy_answer);
        kbs_channel_msg_deinit(&api->fetch.answer);
        kbs_buf_deinit(&api->fetch.want);
        kbs_fetch_attach(&api->fetch, -1);
        kbs_channel_msg_deinit(&api->ledger.answer);
        kbs_references_deinit(&api->references);
        kbs_buf_deinit(&api->answer.body);
        kbs_buf_deinit(&api->answer.receipt);
        kbs_buf_deinit(&api->resource_policy);
        kbs_buf_deinit(&api->delegate.texts);
        kbs_api_ledger_owe(api, NULL);
        for (size_t i = 0; i < KBS_API_PARSED; i++) {
            kbs_parsed_deinit(&api->claims[i]);
            kbs_parsed_deinit(&api->policies[i]);
        }
        free(api->admins);
        api->bearer = kbs_bearer_free(api->bearer);
        kbs_cleanse(api->nonce_key, sizeof(api->nonce_key));
        free(api);
    }
    return NULL;
}

void kbs_api_attach_fetch(struct kbs_api *api, int fd)
{
    kbs_fetch_attach(&api->fetch, fd);
}

int kbs_api_fetch_fd(const struct kbs_api *api)
{
    return api->fetch.fd;
}

const char *kbs_api_describe(const struct kbs_api *api)
{
    return api->description;
}
