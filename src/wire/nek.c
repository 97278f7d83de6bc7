/*
 * One binding, two uses: in the KDF of what is wrapped to an EC key (PartyVInfo), and as the data that a
 * wrapping key is derived with from an AES key. Both ways a guest with other values gets another
 * wrapping key, and the blob does not open; nothing has to be believed about the blob.
 */
#include "wire/nek.h"

static const struct {
    const char *name;
    bool hosts;
} fields[KBS_NEK_FIELD_COUNT] = {
    [KBS_NEK_INIT_DATA] = {"init-data", true},      [KBS_NEK_HOST_DATA] = {"host-data", true},
    [KBS_NEK_MEASUREMENT] = {"measurement", false}, [KBS_NEK_ID_BLOCK] = {"id-block", false},
    [KBS_NEK_CHIP_ID] = {"chip-id", true},
};

const char *kbs_nek_field_name(enum kbs_nek_field field)
{
    return (unsigned int)field < KBS_NEK_FIELD_COUNT ? fields[field].name : "?";
}

enum kbs_nek_field kbs_nek_field_from_name(struct kbs_span name)
{
    size_t i = 0;

    while (i < KBS_NEK_FIELD_COUNT && !kbs_span_equal_str(name, fields[i].name)) {
        i++;
    }
    return (enum kbs_nek_field)i;
}

bool kbs_nek_field_is_hosts(enum kbs_nek_field field)
{
    return (unsigned int)field < KBS_NEK_FIELD_COUNT && fields[field].hosts;
}

/* SHA-256 over some spans. */
static void digest_of(const struct kbs_span *parts, size_t n, uint8_t ret[KBS_SHA256_BYTES])
{
    struct kbs_digest d;

    kbs_digest(KBS_HASH_SHA256, parts, n, &d);
    memcpy(ret, d.p, KBS_SHA256_BYTES);
}

void kbs_nek_bind(uint8_t bits, const struct kbs_span values[KBS_NEK_FIELD_COUNT],
                  struct kbs_nek_binding *ret)
{
    struct kbs_span parts[1 + 2 * KBS_NEK_FIELD_COUNT] = {KBS_SPAN_LIT("kbs-nek-binding-v1")};
    uint8_t heads[KBS_NEK_FIELD_COUNT][3];
    size_t n = 1;

    *ret = (struct kbs_nek_binding){.fields = bits};
    for (unsigned int i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        if ((bits & 1u << i) != 0) {
            heads[i][0] = (uint8_t)i;
            heads[i][1] = (uint8_t)(values[i].len >> 8);
            heads[i][2] = (uint8_t)values[i].len;
            parts[n++] = kbs_span(heads[i], sizeof(heads[i]));
            parts[n++] = values[i];
        }
    }
    if (bits != 0) {
        digest_of(parts, n, ret->digest);
    }
}

void kbs_nek_binding_put(const struct kbs_nek_binding *b, uint8_t out[KBS_NEK_BINDING_BYTES])
{
    out[0] = b->fields;
    memcpy(out + 1, b->digest, sizeof(b->digest));
}

int kbs_nek_binding_get(struct kbs_span bytes, struct kbs_nek_binding *ret, struct kbs_error *err)
{
    static const uint8_t zeros[KBS_SHA256_BYTES];

    if (bytes.len != KBS_NEK_BINDING_BYTES || bytes.p[0] >> KBS_NEK_FIELD_COUNT != 0 ||
        (bytes.p[0] == 0 && memcmp(bytes.p + 1, zeros, sizeof(zeros)) != 0)) {
        return kbs_fail(err, KBS_INPUT, "the blob's binding is malformed");
    }
    ret->fields = bytes.p[0];
    memcpy(ret->digest, bytes.p + 1, sizeof(ret->digest));
    return 0;
}

void kbs_nek_derivation(const struct kbs_nek_binding *b, uint8_t ret[KBS_SHA256_BYTES])
{
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    const struct kbs_span parts[] = {KBS_SPAN_LIT("kbs-nek-v1"),
                                     kbs_span(binding, sizeof(binding))};

    kbs_nek_binding_put(b, binding);
    digest_of(parts, 2, ret);
}

void kbs_nek_party_v(struct kbs_span report_digest, const uint8_t nonce[32],
                     struct kbs_span wrapped, uint8_t ret[KBS_SHA256_BYTES])
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_span parts[] = {KBS_SPAN_LIT("kbs-rewrap-v1"), report_digest,
                                     kbs_span(nonce, 32), kbs_span(digest, sizeof(digest))};

    kbs_sha256(wrapped, digest);
    digest_of(parts, 4, ret);
}

void kbs_nek_provision_v(const uint8_t party_v[KBS_SHA256_BYTES], struct kbs_span blob,
                         uint8_t ret[KBS_SHA256_BYTES])
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_span parts[] = {KBS_SPAN_LIT("kbs-provision-v1"),
                                     kbs_span(party_v, KBS_SHA256_BYTES),
                                     kbs_span(digest, sizeof(digest))};

    kbs_sha256(blob, digest);
    digest_of(parts, 3, ret);
}
