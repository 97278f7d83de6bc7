/*
 * Key ids of these keys are fixed, so every lane and every replica finds them without being told.
 * What each may do stands in one table, and a key that can do anything else is not used, whoever
 * made it.
 *
 * Versions: only the admin lane makes and destroys them, all lanes need them. A card or a sealed
 * secret names its version, so its use is one look-up by CKA_ID, remembered. Which one is the
 * newest is needed only to wrap, to seal and to describe, and is asked for by label each time: a
 * C_FindObjects in orders that make keys anyway, and no lane can be behind. Rejected: probing
 * versions upwards (old ones are destroyed, so there are gaps), remembering the newest.
 *
 * The newest version is never destroyed, so no version number is used twice.
 *
 * A sign-token key is published as soon as it is there and signs from a time on, so that whoever keeps
 * a copy of the JWK set has it by then. That time must be the same for every lane and replica, which
 * share nothing but the token, so it stands in the token: in the label of the public half, "... from
 * 1767225600". The labels of private halves, by which versions are found, are all alike. A label without
 * a time is that of a key that signs at once. Rejected: CKA_START_DATE, which knows days only, and which
 * tokens do not keep.
 */
#include "hsm/service.h"

#include "base/clock.h"
#include "hsm/ckr.h"

#define SERVICE_LABEL_BYTES 64u
#define SERVICE_FROM " from " /* what stands between a label and its time */
#define SERVICE_SECRET_BYTES 32u

struct service_kind {
    enum kbs_purpose purpose;
    CK_KEY_TYPE type;
    unsigned int usage; /* bits of enum kbs_usage */
    size_t versions;    /* that there may be at a time; 1: it has none */
};

static const struct service_kind service_kinds[] = {
    {KBS_PURPOSE_IMPORT, CKK_EC, KBS_USAGE_DERIVE, 1},
    {KBS_PURPOSE_SIGN_TOKEN, CKK_EC, KBS_USAGE_SIGN, KBS_LIMIT_SIGN_VERSIONS},
    {KBS_PURPOSE_SIGN_ROW, CKK_EC, KBS_USAGE_SIGN, 1},
    {KBS_PURPOSE_SIGN_HEAD, CKK_EC, KBS_USAGE_SIGN, 1},
    {KBS_PURPOSE_CARD, CKK_GENERIC_SECRET, KBS_USAGE_SIGN, 1},
    {KBS_PURPOSE_WRAP_CATALOG, CKK_AES, KBS_USAGE_WRAP | KBS_USAGE_UNWRAP, KBS_LIMIT_KEY_VERSIONS},
    {KBS_PURPOSE_SEAL, CKK_EC, KBS_USAGE_DERIVE, KBS_LIMIT_KEY_VERSIONS},
    {KBS_PURPOSE_REQUEST, CKK_EC, KBS_USAGE_DERIVE, 1},
    {KBS_PURPOSE_SIGN_RECEIPT, CKK_EC, KBS_USAGE_SIGN, 1},
    {KBS_PURPOSE_TLS, CKK_EC, KBS_USAGE_SIGN, KBS_LIMIT_SIGN_VERSIONS},
};

static const struct service_kind *service_kind(enum kbs_purpose purpose)
{
    for (size_t i = 0; i < sizeof(service_kinds) / sizeof(service_kinds[0]); i++) {
        if (service_kinds[i].purpose == purpose) {
            return &service_kinds[i];
        }
    }
    return NULL;
}

static CK_OBJECT_CLASS service_class(const struct service_kind *kind)
{
    return kind->type == CKK_EC ? CKO_PRIVATE_KEY : CKO_SECRET_KEY;
}

void kbs_service_cka_id(enum kbs_purpose purpose, uint32_t version, uint8_t ret[KBS_CKA_ID_BYTES])
{
    uint8_t id[KBS_KEY_ID_BYTES];

    kbs_service_key_id(purpose, id);
    kbs_cka_id(id, version, ret);
}

static struct kbs_span service_label(enum kbs_purpose purpose, char ret[SERVICE_LABEL_BYTES])
{
    struct kbs_buf text = KBS_BUF(SERVICE_LABEL_BYTES - 1);
    struct kbs_span label;

    kbs_buf_printf(&text, "kbs-hsm/%s", kbs_purpose_name(purpose));
    (void)kbs_span_to_cstr(kbs_buf_span(&text), ret, SERVICE_LABEL_BYTES);
    kbs_buf_deinit(&text);
    label = kbs_span_str(ret);
    return label;
}

/* The same, and the time in it. */
static struct kbs_span service_label_from(enum kbs_purpose purpose, uint64_t from_s,
                                          char ret[SERVICE_LABEL_BYTES])
{
    struct kbs_buf text = KBS_BUF(SERVICE_LABEL_BYTES - 1);

    kbs_buf_put_span(&text, service_label(purpose, ret));
    if (from_s != 0) {
        kbs_buf_printf(&text, SERVICE_FROM "%llu", (unsigned long long)from_s);
    }
    (void)kbs_span_to_cstr(kbs_buf_span(&text), ret, SERVICE_LABEL_BYTES);
    kbs_buf_deinit(&text);
    return kbs_span_str(ret);
}

/* The time in a label, 0 if there is none. */
static uint64_t service_label_time(enum kbs_purpose purpose, struct kbs_span label)
{
    char plain[SERVICE_LABEL_BYTES];
    struct kbs_span before[] = {service_label(purpose, plain), KBS_SPAN_LIT(SERVICE_FROM)};
    uint64_t time = 0;

    for (size_t i = 0; i < 2; i++) {
        if (label.len < before[i].len ||
            !kbs_span_equal(kbs_span(label.p, before[i].len), before[i])) {
            return 0;
        }
        label = kbs_span_skip(label, before[i].len);
    }
    for (size_t i = 0; i < label.len; i++) {
        if (label.p[i] < '0' || label.p[i] > '9' || time > UINT32_MAX) {
            return 0;
        }
        time = time * 10 + (uint64_t)(label.p[i] - '0');
    }
    return time;
}

/* What such a key is: the template that it is made by and compared with. For an EC pair,
 * public_key too. Of a private key the curve is not compared, its point is. */
static void service_templates(const struct service_kind *kind, enum kbs_curve curve,
                              struct kbs_template *key, struct kbs_template *public_key)
{
    if (kind->type == CKK_EC) {
        kbs_template_ec_pair(public_key, key, curve, true, kind->usage);
    } else {
        kbs_template_secret_key(key, kind->type, true, false, kind->usage);
        kbs_template_number(key, CKA_VALUE_LEN, SERVICE_SECRET_BYTES);
    }
}

int kbs_service_find(struct kbs_token *t, CK_OBJECT_CLASS class, enum kbs_purpose purpose,
                     uint32_t version, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    const struct service_kind *kind = service_kind(purpose);
    struct kbs_template key = {.n = 0};
    struct kbs_template public_key = {.n = 0};
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    struct kbs_span id = kbs_span(cka_id, sizeof(cka_id));
    bool is_new = false;

    if (kind == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the service has no key of that purpose");
    }
    kbs_service_cka_id(purpose, version, cka_id);
    if (kbs_handles_get(t, class, id, ret, &is_new, err) != 0) {
        return err->category == KBS_MISSING
                   ? kbs_fail(err, KBS_MISSING, "the token has no %s key of version %u",
                              kbs_purpose_name(purpose), version)
                   : -1;
    }
    if (!is_new && t->quirk->handles_are_unique) {
        return 0;
    }
    service_templates(kind, KBS_CURVE_P256, &key, &public_key);
    if (kbs_object_check_key(t, *ret, class, id, false, err) != 0 ||
        (is_new && kbs_object_check_template(t, *ret, class == CKO_PUBLIC_KEY ? &public_key : &key,
                                             err) != 0)) {
        kbs_handles_forget(t); /* or the next use would not look */
        return -1;
    }
    return 0;
}

/* The version in a CKA_ID of that purpose, 0 if it is another's. */
static uint32_t service_version(enum kbs_purpose purpose, const uint8_t *cka_id, size_t len)
{
    uint8_t wanted[KBS_CKA_ID_BYTES];
    uint32_t version = 0;

    if (len != KBS_CKA_ID_BYTES) {
        return 0;
    }
    for (size_t i = KBS_KEY_ID_BYTES; i < KBS_CKA_ID_BYTES; i++) {
        version = version << 8 | cka_id[i];
    }
    kbs_service_cka_id(purpose, version, wanted);
    return memcmp(wanted, cka_id, sizeof(wanted)) == 0 ? version : 0;
}

/* The objects with a kind's label, some of which may be somebody else's. */
static int service_objects(const struct kbs_token *t, const struct service_kind *kind,
                           CK_OBJECT_HANDLE ret[KBS_LIMIT_KEY_VERSIONS + 1], size_t *ret_n,
                           struct kbs_error *err)
{
    struct kbs_template wanted = {.n = 0};
    char label[SERVICE_LABEL_BYTES];

    kbs_template_number(&wanted, CKA_CLASS, service_class(kind));
    kbs_template_bool(&wanted, CKA_TOKEN, true);
    kbs_template_bytes(&wanted, CKA_LABEL, service_label(kind->purpose, label));
    if (kbs_object_list(t, &wanted, ret, KBS_LIMIT_KEY_VERSIONS + 1, ret_n, err) != 0) {
        return -1;
    }
    if (*ret_n > KBS_LIMIT_KEY_VERSIONS) { /* the service made no more than that */
        return kbs_fail(err, KBS_INTERNAL, "the token has too many secret or private keys named %s",
                        label);
    }
    return 0;
}

/* Puts a version in its place among those before it. */
static void service_insert(uint32_t *versions, size_t n, uint32_t version)
{
    size_t at = n;

    for (; at > 0 && versions[at - 1] > version; at--) {
        versions[at] = versions[at - 1];
    }
    versions[at] = version;
}

int kbs_service_versions(const struct kbs_token *t, enum kbs_purpose purpose,
                         uint32_t ret[KBS_LIMIT_KEY_VERSIONS], size_t *ret_n, struct kbs_error *err)
{
    const struct service_kind *kind = service_kind(purpose);
    CK_OBJECT_HANDLE found[KBS_LIMIT_KEY_VERSIONS + 1];
    size_t n = 0;

    *ret_n = 0;
    if (kind == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the service has no key of that purpose");
    }
    if (service_objects(t, kind, found, &n, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t cka_id[KBS_CKA_ID_MAX_BYTES];
        size_t len = 0;
        uint32_t version;

        if (kbs_object_cka_id(t, found[i], cka_id, &len, err) != 0) {
            if (err->category != KBS_UNPROCESSABLE) {
                return -1;
            }
            *err = KBS_ERROR_NONE; /* somebody else's object with our label */
            continue;
        }
        version = service_version(purpose, cka_id, len);
        if (version != 0) {
            service_insert(ret, (*ret_n)++, version);
        }
    }
    return 0;
}

int kbs_service_newest(const struct kbs_token *t, enum kbs_purpose purpose, uint32_t *ret,
                       struct kbs_error *err)
{
    uint32_t versions[KBS_LIMIT_KEY_VERSIONS];
    size_t n = 0;

    *ret = 0;
    if (kbs_service_versions(t, purpose, versions, &n, err) != 0) {
        return -1;
    }
    *ret = n > 0 ? versions[n - 1] : 0;
    return 0;
}

int kbs_service_point(struct kbs_token *t, enum kbs_purpose purpose, uint32_t version,
                      struct kbs_buf *out, struct kbs_error *err)
{
    uint8_t bytes[KBS_EC_POINT_MAX_BYTES];
    struct kbs_ec_public point;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (kbs_service_find(t, CKO_PUBLIC_KEY, purpose, version, &object, err) != 0) {
        if (err->category != KBS_MISSING) {
            return -1;
        }
        *err = KBS_ERROR_NONE;
        return 0;
    }
    if (kbs_object_ec_point(t, object, KBS_CURVE_P256, &point, err) != 0) {
        return -1;
    }
    kbs_buf_put(out, bytes, kbs_ec_point_put(&point, bytes));
    return kbs_buf_check(out, "a public key", err);
}

int kbs_service_public(struct kbs_token *t, enum kbs_purpose purpose, uint32_t version,
                       struct kbs_ec_public *ret, uint64_t *ret_from_s, struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    enum kbs_curve curve = KBS_CURVE_NONE;
    char text[SERVICE_LABEL_BYTES];
    struct kbs_span label;

    if (kbs_service_find(t, CKO_PUBLIC_KEY, purpose, version, &object, err) != 0 ||
        kbs_object_curve(t, object, &curve, err) != 0 ||
        kbs_object_ec_point(t, object, curve, ret, err) != 0 ||
        kbs_ec_public_check(ret, err) != 0 ||
        kbs_object_label(t, object, text, sizeof(text), &label, err) != 0) {
        return -1;
    }
    *ret_from_s = service_label_time(purpose, label);
    return 0;
}

static int service_check_absent(const struct kbs_token *t, CK_OBJECT_CLASS class,
                                struct kbs_span cka_id, struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (kbs_object_find(t, class, cka_id, &object, err) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "the token has that key already");
    }
    if (err->category != KBS_MISSING) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

/* Keys that others verify by: their curve is the order's to say. */
static bool service_has_curve(const struct service_kind *kind)
{
    return kind->purpose == KBS_PURPOSE_SIGN_TOKEN || kind->purpose == KBS_PURPOSE_TLS;
}

static enum kbs_curve service_curve(const struct service_kind *kind,
                                    const struct kbs_wire_generate *m)
{
    return service_has_curve(kind) ? (enum kbs_curve)m->curve : KBS_CURVE_P256;
}

static uint64_t service_from(const struct service_kind *kind, const struct kbs_wire_generate *m)
{
    return kind->purpose == KBS_PURPOSE_SIGN_TOKEN ? m->from_s : 0;
}

/* A tls key begins to sign when its certificate is there, which is not for the token to know. */
static int service_check_sign(const struct service_kind *kind, const struct kbs_wire_generate *m,
                              struct kbs_error *err)
{
    uint64_t latest =
        (uint64_t)kbs_clock_unix_s() + KBS_LIMIT_SIGN_AFTER_S + KBS_LIMIT_REQUEST_MS / 1000;
    const char *name = kbs_purpose_name(kind->purpose);

    if (m->curve != KBS_CURVE_P256 && m->curve != KBS_CURVE_P384) {
        return kbs_fail(err, KBS_INPUT, "a %s key is on P-256 or P-384", name);
    }
    if (kind->purpose == KBS_PURPOSE_TLS) {
        return m->from_s == 0 ? 0 : kbs_fail(err, KBS_INPUT, "a tls key has no time to begin at");
    }
    return m->from_s <= latest ? 0
                               : kbs_fail(err, KBS_INPUT, "a %s key signs within %d days", name,
                                          KBS_LIMIT_SIGN_AFTER_S / 86400);
}

/* A token that does not keep the label would have the key sign at once, unknown to those who verify. */
static int service_check_from(const struct kbs_token *t, const struct service_kind *kind,
                              const struct kbs_wire_generate *m, CK_OBJECT_HANDLE public_key,
                              struct kbs_error *err)
{
    char text[SERVICE_LABEL_BYTES];
    struct kbs_span label;

    if (service_from(kind, m) == 0) {
        return 0;
    }
    if (kbs_object_label(t, public_key, text, sizeof(text), &label, err) != 0) {
        return -1;
    }
    return service_label_time(kind->purpose, label) == m->from_s
               ? 0
               : kbs_fail(err, KBS_INTERNAL,
                          "the token made a key with another label than asked for");
}

static int service_generate_pair(struct kbs_token *t, const struct service_kind *kind,
                                 const struct kbs_wire_generate *m, struct kbs_span cka_id,
                                 struct kbs_answer *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};
    enum kbs_curve curve = service_curve(kind, m);
    char label[SERVICE_LABEL_BYTES];
    char public_label[SERVICE_LABEL_BYTES];
    uint8_t bytes[KBS_EC_POINT_MAX_BYTES];
    struct kbs_ec_public point;
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE private_object = CK_INVALID_HANDLE;

    /* Both halves: with a second public key of that id, neither pair could be found any more. */
    if (service_check_absent(t, CKO_PRIVATE_KEY, cka_id, err) != 0 ||
        service_check_absent(t, CKO_PUBLIC_KEY, cka_id, err) != 0) {
        return -1;
    }
    service_templates(kind, curve, &private_key, &public_key);
    kbs_template_bytes(&public_key, CKA_ID, cka_id);
    kbs_template_bytes(&public_key, CKA_LABEL,
                       service_label_from(kind->purpose, service_from(kind, m), public_label));
    kbs_template_bool(&private_key, CKA_MODIFIABLE, false);
    kbs_template_bytes(&private_key, CKA_ID, cka_id);
    kbs_template_bytes(&private_key, CKA_LABEL, service_label(kind->purpose, label));
    if (kbs_scratch_generate_ec(&scratch, &public_key, &private_key, &public_object,
                                &private_object, err) != 0 ||
        kbs_object_ec_point(t, public_object, curve, &point, err) != 0 ||
        kbs_ec_public_check(&point, err) != 0 ||
        service_check_from(t, kind, m, public_object, err) != 0) {
        return -1;
    }
    kbs_buf_put(&ret->body, bytes, kbs_ec_point_put(&point, bytes));
    if (kbs_buf_check(&ret->body, "the public key", err) != 0) {
        return -1;
    }
    kbs_scratch_keep(&scratch, public_object);
    kbs_scratch_keep(&scratch, private_object);
    return 0;
}

static int service_generate_secret(struct kbs_token *t, const struct service_kind *kind,
                                   struct kbs_span cka_id, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template key = {.n = 0};
    struct kbs_template unused = {.n = 0};
    char label[SERVICE_LABEL_BYTES];
    CK_MECHANISM_TYPE mechanism =
        kind->type == CKK_AES ? CKM_AES_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN;
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (service_check_absent(t, CKO_SECRET_KEY, cka_id, err) != 0) {
        return -1;
    }
    service_templates(kind, KBS_CURVE_NONE, &key, &unused);
    kbs_template_bytes(&key, CKA_ID, cka_id);
    kbs_template_bytes(&key, CKA_LABEL, service_label(kind->purpose, label));
    kbs_template_bool(&key, CKA_MODIFIABLE, false); /* last: SoftHSM takes it at its word */
    if (kbs_scratch_generate(&scratch, mechanism, &key, &object, err) != 0) {
        return -1;
    }
    kbs_scratch_keep(&scratch, object);
    return 0;
}

/* That the version is the next one, and that there is room for it. */
static int service_check_next(const struct kbs_token *t, const struct service_kind *kind,
                              uint32_t version, struct kbs_error *err)
{
    uint32_t versions[KBS_LIMIT_KEY_VERSIONS];
    uint32_t newest = 0;
    size_t n = 0;

    if (kbs_service_versions(t, kind->purpose, versions, &n, err) != 0) {
        return -1;
    }
    newest = n > 0 ? versions[n - 1] : 0;
    if (n >= kind->versions) {
        return kbs_fail(err, KBS_CONFLICT, "the token has %zu %s keys: destroy old ones", n,
                        kbs_purpose_name(kind->purpose));
    }
    return version == newest + 1 ? 0
                                 : kbs_fail(err, KBS_CONFLICT, "the newest %s key has version %u",
                                            kbs_purpose_name(kind->purpose), newest);
}

int kbs_service_generate(struct kbs_token *t, const struct kbs_wire_generate *m,
                         struct kbs_answer *ret, struct kbs_error *err)
{
    const struct service_kind *kind = service_kind((enum kbs_purpose)m->purpose);
    uint32_t version = m->key_version;
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    struct kbs_span id = kbs_span(cka_id, sizeof(cka_id));

    if (kind == NULL || version == 0 || (kind->versions == 1 && version != 1)) {
        return kbs_fail(err, KBS_INPUT, "no key of that purpose and version can be generated");
    }
    if ((service_has_curve(kind) && service_check_sign(kind, m, err) != 0) ||
        (kind->versions > 1 && service_check_next(t, kind, version, err) != 0)) {
        return -1;
    }
    kbs_service_cka_id(kind->purpose, version, cka_id);
    return kind->type == CKK_EC ? service_generate_pair(t, kind, m, id, ret, err)
                                : service_generate_secret(t, kind, id, err);
}

/* Which version signs now. One that lost its public half never does. */
static int service_signing(struct kbs_token *t, const uint32_t *versions, size_t n, uint32_t *ret,
                           struct kbs_error *err)
{
    uint64_t from_s[KBS_LIMIT_KEY_VERSIONS];
    struct kbs_ec_public unused;

    for (size_t i = 0; i < n; i++) {
        if (kbs_service_public(t, KBS_PURPOSE_SIGN_TOKEN, versions[i], &unused, &from_s[i], err) !=
            0) {
            if (err->category != KBS_MISSING) {
                return -1;
            }
            *err = KBS_ERROR_NONE;
            from_s[i] = UINT64_MAX;
        }
    }
    *ret = versions[kbs_sign_version_at(from_s, n, (uint64_t)kbs_clock_unix_s())];
    return 0;
}

/* Neither what new things stand under, nor what tokens are signed with now. */
static int service_check_old(struct kbs_token *t, const struct service_kind *kind, uint32_t version,
                             struct kbs_error *err)
{
    uint32_t versions[KBS_LIMIT_KEY_VERSIONS];
    uint32_t signing = 0;
    size_t n = 0;

    if (kbs_service_versions(t, kind->purpose, versions, &n, err) != 0) {
        return -1;
    }
    if (n > 0 && version == versions[n - 1]) {
        return kbs_fail(err, KBS_CONFLICT, "version %u is the newest %s key", version,
                        kbs_purpose_name(kind->purpose));
    }
    if (n == 0 || kind->purpose != KBS_PURPOSE_SIGN_TOKEN) {
        return 0;
    }
    if (service_signing(t, versions, n, &signing, err) != 0) {
        return -1;
    }
    return version != signing
               ? 0
               : kbs_fail(err, KBS_CONFLICT, "tokens are signed with version %u now", version);
}

int kbs_service_destroy(struct kbs_token *t, enum kbs_purpose purpose, uint32_t version,
                        struct kbs_error *err)
{
    const struct service_kind *kind = service_kind(purpose);
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (kind == NULL || kind->versions == 1 || version == 0) {
        return kbs_fail(err, KBS_INPUT, "no key of that purpose and version can be destroyed");
    }
    if (service_check_old(t, kind, version, err) != 0) {
        return -1;
    }
    kbs_service_cka_id(purpose, version, cka_id);
    if (kbs_object_find(t, service_class(kind), kbs_span(cka_id, sizeof(cka_id)), &object, err) !=
            0 ||
        kbs_object_destroy(t, object, err) != 0) {
        return -1;
    }
    /* The public half is of no use alone; a token may have lost it before. */
    if (kind->type == CKK_EC &&
        kbs_object_find(t, CKO_PUBLIC_KEY, kbs_span(cka_id, sizeof(cka_id)), &object, err) == 0) {
        return kbs_object_destroy(t, object, err);
    }
    *err = KBS_ERROR_NONE;
    return 0;
}
