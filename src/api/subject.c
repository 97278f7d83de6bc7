/*
 * The `kbs` root of the claims model: what we know ourselves about a guest, a key and a request, for
 * release policies (their paths that begin with kbs) and for resource policies (their data.kbs).
 *
 * The invariant: nothing in it is a token's to say. Its members come from the session's row, which
 * the judge wrote when it attested; from the key's row, which is signed; from the token and the
 * request; and, under `native`, from evidence that was verified here down to the vendor's root. The
 * names of a TEE's claims are its verifier's (src/attest), and of evidence that somebody else
 * verified nothing is copied here, whatever it is called.
 */
#include "api/context.h"

#include <stdio.h>

#include "attest/ear.h"
#include "base/encoding.h"
#include "jose/write/jose.h"

/* Where the claims of evidence verified here say what every TEE has a word for. */
static const struct native_names {
    enum kbs_tee tee;
    const char *debug;
    const char *vmpl;
    const char *places[2]; /* the first there is: which chip, or which provider's */
    const char *tcb;       /* what the members of its TCB begin with */
    const char *tcb_parts[6];
} native_names[] = {
    {KBS_TEE_SNP,
     "policy_debug_allowed",
     "vmpl",
     {"csp_id", "chip_id"},
     "reported_tcb_",
     {"bootloader", "tee", "snp", "microcode", "fmc", NULL}},
};

/* Sets `name` to the member `from` of the claims, if they have it. */
static bool copy(json_t *to, const char *name, const json_t *claims, const char *from)
{
    json_t *v = json_object_get(claims, from);

    return v == NULL || json_object_set(to, name, v) == 0;
}

static bool copy_tcb(json_t *to, const struct native_names *names, const json_t *claims)
{
    json_t *tcb = json_object();
    bool good = tcb != NULL;

    for (size_t i = 0; good && names->tcb_parts[i] != NULL; i++) {
        char from[64];

        (void)snprintf(from, sizeof(from), "%s%s", names->tcb, names->tcb_parts[i]);
        good = copy(tcb, names->tcb_parts[i], claims, from);
    }
    return json_object_set_new(to, "tcb", tcb) == 0 && good;
}

static bool copy_native(json_t *to, const struct native_names *names, const json_t *claims)
{
    const char *place =
        json_object_get(claims, names->places[0]) != NULL ? names->places[0] : names->places[1];

    return copy(to, "debug", claims, names->debug) && copy(to, "vmpl", claims, names->vmpl) &&
           copy(to, "place", claims, place) && copy_tcb(to, names, claims);
}

/* Returns owned; NULL if memory runs out. */
static json_t *native_json(const struct kbs_session *session, const json_t *input)
{
    bool chain = session->binding >= KBS_BINDING_HARDWARE;
    json_t *native = json_pack("{s:b}", "chain", chain ? 1 : 0);
    const json_t *claims = chain ? kbs_ear_native(input, session->tee) : NULL;

    for (size_t i = 0; claims != NULL && i < sizeof(native_names) / sizeof(native_names[0]); i++) {
        if (native_names[i].tee == session->tee && !copy_native(native, &native_names[i], claims)) {
            json_decref(native);
            return NULL;
        }
    }
    return native;
}

static json_t *key_json(const struct kbs_key *key)
{
    char id[2 * KBS_KEY_ID_BYTES + 1];

    kbs_hex_cstr(kbs_span(key->id, sizeof(key->id)), id, sizeof(id));
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:I}", "id", id, "path", key->path, "version",
        (json_int_t)key->version, "purpose", kbs_purpose_name(key->card.purpose), "provenance",
        kbs_provenance_name(key->card.provenance), "floor", kbs_locality_name(key->card.floor),
        "class", kbs_storage_name(key->card.storage), "alg", kbs_key_alg_name(key->card.alg),
        "bytes", (json_int_t)key->card.bytes);
}

/* Who vouches for the guest: another issuer, or we. */
static json_t *issuer_json(const struct kbs_api *api, const json_t *input)
{
    struct kbs_span iss = kbs_span_str(api->issuer);
    const json_t *ignored = NULL;
    struct kbs_span other;

    if (kbs_ear_authority(input, &other, &ignored)) {
        iss = other;
    }
    return json_stringn((const char *)iss.p, iss.len);
}

/* The session's part. */
static json_t *session_json(const struct kbs_api *api, const struct kbs_circumstances *c,
                            const json_t *input)
{
    const struct kbs_session *s = c->session;
    char tee_key[KBS_API_THUMBPRINT_BYTES] = "";

    kbs_jose_tee_thumbprint(kbs_session_key(s), tee_key);
    return json_pack(
        "{s:s, s:o, s:s, s:s, s:i, s:I, s:I, s:s, s:b, s:o}", "mode",
        s->passport != NULL ? "passport" : "rcar", "issuer", issuer_json(api, input), "tee",
        kbs_tee_name(s->tee), "binding", kbs_binding_name(s->binding), "binding_level",
        (int)s->binding, "token_age_s", (json_int_t)(c->now_s - s->attested_s), "session_age_s",
        (json_int_t)(c->now_s - s->created_s), "key_thumbprint", tee_key, "init_data_matched",
        s->passport == NULL && kbs_ear_init_data_matched(input) ? 1 : 0, "native",
        native_json(s, input));
}

json_t *kbs_subject_root(const struct kbs_api *api, const struct kbs_circumstances *c,
                         const json_t *input)
{
    json_t *root = session_json(api, c, input);
    KBS_AUTO_JSON request = json_pack(
        "{s:o, s:s, s:s, s:b, s:b, s:b, s:s, s:s, s:s%, s:I}", "key", key_json(c->key), "locality",
        kbs_locality_name(c->locality), "token_class", kbs_token_class_name(api->token.class),
        "pop", c->session->pop, "channel_bound", c->session->channel_bound, "encrypted",
        c->session->encrypted, "plugin", c->plugin, "method", c->method, "path",
        (const char *)c->target.p, c->target.len, "time", (json_int_t)c->now_s);

    if (root == NULL || request == NULL || json_object_update(root, request) != 0) {
        json_decref(root);
        return NULL;
    }
    return root;
}
