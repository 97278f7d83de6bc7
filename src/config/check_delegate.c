/*
 * [attestation_service] type: evidence that is handed to an attestation service. What it names must be
 * there: an endpoint to ask it by, and an issuer to verify what it says by, or every handshake of those
 * kinds would fail, and only then.
 */
#include "config/schema.h"

#include <stdio.h>

static struct kbs_doc_place at_item(const struct kbs_config_loader *l, enum kbs_config_key_id id,
                                    size_t i)
{
    return l->seen[id][0].items != NULL ? l->seen[id][0].items[i] : kbs_config_at(l, id);
}

/* What only means something with a service, or cannot be left out with one. */
static void check_given(struct kbs_config_loader *l, enum kbs_delegate type)
{
    static const enum kbs_config_key_id keys[] = {
        KBS_CONFIG_KEY_DELEGATE_ENDPOINT, KBS_CONFIG_KEY_DELEGATE_ISSUER,
        KBS_CONFIG_KEY_DELEGATE_TEES, KBS_CONFIG_KEY_DELEGATE_POLICIES};

    char missing[64] = "";

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *name = kbs_config_keys[keys[i]].name;
        bool given = l->seen[keys[i]][0].given;

        if (type == KBS_DELEGATE_BUILTIN && given) {
            kbs_config_fail(l, kbs_config_at(l, keys[i]),
                            "attestation_service.%s: type says that there is no such service",
                            name);
        } else if (type != KBS_DELEGATE_BUILTIN && !given &&
                   keys[i] != KBS_CONFIG_KEY_DELEGATE_POLICIES) {
            size_t len = strlen(missing);

            (void)snprintf(missing + len, sizeof(missing) - len, "%s%s", len > 0 ? ", " : "", name);
        }
    }
    if (missing[0] != '\0') {
        kbs_config_fail(l, kbs_config_at(l, KBS_CONFIG_KEY_DELEGATE_TYPE),
                        "attestation_service.type: beside it is missing: %s", missing);
    }
}

static void check_tees(struct kbs_config_loader *l)
{
    const struct kbs_config_delegate *d = &l->config->delegate;

    for (size_t i = 0; i < d->tees.n; i++) {
        enum kbs_tee tee = kbs_tee_from_name(kbs_span_str(d->tees.v[i]));
        struct kbs_doc_place at = at_item(l, KBS_CONFIG_KEY_DELEGATE_TEES, i);

        if (tee == KBS_TEE_NONE) {
            kbs_config_fail(l, at, "attestation_service.tees: no such kind of evidence");
        } else if (!kbs_delegate_takes(d->type, tee)) {
            kbs_config_fail(l, at, "attestation_service.tees: %s does not verify %s",
                            kbs_delegate_name(d->type), kbs_tee_name(tee));
        } else if ((tee == KBS_TEE_SAMPLE || tee == KBS_TEE_SAMPLEDEVICE) &&
                   !l->config->allow_sample) {
            kbs_config_fail(l, at, "attestation_service.tees: %s needs allow_sample = true",
                            kbs_tee_name(tee));
        }
    }
}

static void check_endpoint(struct kbs_config_loader *l)
{
    const struct kbs_config_fetch *fetch = &l->config->fetch;

    if (!kbs_config_usable(l, KBS_CONFIG_KEY_DELEGATE_ENDPOINT)) {
        return;
    }
    for (size_t i = 0; i < fetch->n_endpoints; i++) {
        if (fetch->endpoints[i].name != NULL &&
            strcmp(fetch->endpoints[i].name, l->config->delegate.endpoint) == 0) {
            return;
        }
    }
    kbs_config_fail(l, kbs_config_at(l, KBS_CONFIG_KEY_DELEGATE_ENDPOINT),
                    "attestation_service.endpoint: there is no [[fetch.endpoint]] of that name");
}

static void check_issuer(struct kbs_config_loader *l)
{
    if (!kbs_config_usable(l, KBS_CONFIG_KEY_DELEGATE_ISSUER)) {
        return;
    }
    for (size_t i = 0; i < l->config->n_issuers; i++) {
        const char *name = l->config->issuers[i].name;

        if (name != NULL && strcmp(name, l->config->delegate.issuer) == 0) {
            return;
        }
    }
    kbs_config_fail(l, kbs_config_at(l, KBS_CONFIG_KEY_DELEGATE_ISSUER),
                    "attestation_service.issuer: there is no [[issuer]] of that name");
}

void kbs_config_check_delegate(struct kbs_config_loader *l)
{
    struct kbs_config_delegate *d = &l->config->delegate;

    if (l->seen[KBS_CONFIG_KEY_DELEGATE_TYPE][0].bad) {
        return;
    }
    d->type = kbs_delegate_from_name(kbs_span_str(d->type_name));
    check_given(l, d->type);
    if (d->type != KBS_DELEGATE_BUILTIN) {
        check_tees(l);
        check_endpoint(l);
        check_issuer(l);
    }
}
