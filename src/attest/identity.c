/*
 * A table: per TEE and field, the names of the claims whose values, one after the other, are it. Values
 * stand in claims as hex; the sample TEE's measurement is its svn as text, for it has nothing else.
 */
#include "attest/identity.h"

#include "base/buf.h"
#include "base/encoding.h"

#define EVIDENCE "ear.veraison.annotated-evidence"
#define PARTS 3

static const char *const part_names[KBS_IDENTITY_FIELD_COUNT] = {
    [KBS_IDENTITY_ID_KEY] = "id-key",
    [KBS_IDENTITY_FAMILY_ID] = "family-id",
    [KBS_IDENTITY_IMAGE_ID] = "image-id",
};

static const char *const claim_names[KBS_TEE_COUNT][KBS_IDENTITY_FIELD_COUNT][PARTS] = {
    [KBS_TEE_SAMPLE] = {[KBS_NEK_MEASUREMENT] = {"svn"}},
    [KBS_TEE_SNP] = {[KBS_NEK_HOST_DATA] = {"init_data"},
                     [KBS_NEK_MEASUREMENT] = {"measurement"},
                     [KBS_NEK_ID_BLOCK] = {"id_key_digest", "family_id", "image_id"},
                     [KBS_NEK_CHIP_ID] = {"chip_id"},
                     [KBS_IDENTITY_ID_KEY] = {"id_key_digest"},
                     [KBS_IDENTITY_FAMILY_ID] = {"family_id"},
                     [KBS_IDENTITY_IMAGE_ID] = {"image_id"}},
};

const char *kbs_identity_field_name(unsigned int field)
{
    if (field < KBS_NEK_FIELD_COUNT) {
        return kbs_nek_field_name((enum kbs_nek_field)field);
    }
    return field < KBS_IDENTITY_FIELD_COUNT ? part_names[field] : "?";
}

unsigned int kbs_identity_field_from_name(struct kbs_span name)
{
    unsigned int field = 0;

    while (field < KBS_IDENTITY_FIELD_COUNT &&
           !kbs_span_equal_str(name, kbs_identity_field_name(field))) {
        field++;
    }
    return field;
}

static int absent(enum kbs_tee tee, unsigned int field, struct kbs_error *err)
{
    return kbs_fail(err, KBS_DENIED, "the evidence of this guest (%s) has no %s", kbs_tee_name(tee),
                    kbs_identity_field_name(field));
}

/* A claim's value; plain text if it is not hex. */
static bool value_put(const json_t *claim, bool text, struct kbs_buf *out)
{
    struct kbs_span value = kbs_span(json_string_value(claim), json_string_length(claim));

    if (!json_is_string(claim) || value.len == 0) {
        return false;
    }
    if (text) {
        kbs_buf_put_span(out, value);
        return !out->failed;
    }
    return kbs_hex_get(out, value) == 0;
}

int kbs_identity_value(const json_t *input, enum kbs_tee tee, unsigned int field,
                       struct kbs_buf *ret, struct kbs_error *err)
{
    const json_t *cpu = json_object_get(json_object_get(input, "submods"), "cpu0");
    const json_t *evidence = json_object_get(cpu, EVIDENCE);
    const json_t *claims = json_object_get(evidence, kbs_tee_name(tee));
    const char *const *names = NULL;

    if ((unsigned int)tee >= KBS_TEE_COUNT || field >= KBS_IDENTITY_FIELD_COUNT) {
        return kbs_fail(err, KBS_INTERNAL, "no such TEE or field");
    }
    if (field == KBS_NEK_INIT_DATA) {
        return value_put(json_object_get(evidence, "init_data"), false, ret)
                   ? 0
                   : absent(tee, field, err);
    }
    names = claim_names[tee][field];
    if (names[0] == NULL) {
        return absent(tee, field, err);
    }
    for (size_t i = 0; i < PARTS && names[i] != NULL; i++) {
        if (!value_put(json_object_get(claims, names[i]), tee == KBS_TEE_SAMPLE, ret)) {
            return absent(tee, field, err);
        }
    }
    return 0;
}

int kbs_identity_bind(const json_t *input, enum kbs_tee tee, uint8_t fields,
                      struct kbs_nek_binding *ret, struct kbs_error *err)
{
    struct kbs_buf bytes[KBS_NEK_FIELD_COUNT];
    struct kbs_span values[KBS_NEK_FIELD_COUNT] = {KBS_SPAN_EMPTY};
    int rc = 0;

    for (unsigned int i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        kbs_buf_init(&bytes[i], KBS_IDENTITY_VALUE_BYTES);
        if (rc == 0 && (fields & 1u << i) != 0) {
            rc = kbs_identity_value(input, tee, i, &bytes[i], err);
            values[i] = kbs_buf_span(&bytes[i]);
        }
    }
    if (rc == 0) {
        kbs_nek_bind(fields, values, ret);
    }
    for (unsigned int i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        kbs_buf_deinit(&bytes[i]);
    }
    return rc;
}
