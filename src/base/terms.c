/*
 * The tables behind terms.h, the identifiers derived from them, and the one rule for what a key
 * path is: front, judge, token and clients all ask here, so they cannot disagree about a name.
 */
#include "base/terms.h"

#include <stdio.h>

#include "base/digest.h"
#include "base/limits.h"

static const char *const purposes[KBS_PURPOSE_COUNT] = {
    "none",         "release", "import", "sign-token", "sign-row",     "sign-head", "card",
    "wrap-catalog", "seal",    "nek",    "request",    "sign-receipt", "tls"};
static const char *const localities[KBS_LOCALITY_COUNT] = {"none", "worker", "transport", "token"};
static const char *const token_classes[KBS_TOKEN_CLASS_COUNT] = {
    "unknown", "software", "hardware-host-assisted", "hardware"};
static const char *const duties[KBS_DUTY_COUNT] = {"none", "release", "admin", "sign"};
static const char *const formats[KBS_FORMAT_COUNT] = {"none", "jose", "cose", "jwe"};
static const char *const bindings[KBS_BINDING_COUNT] = {"none",     "token",    "session",
                                                        "evidence", "hardware", "full"};
static const char *const provenances[KBS_PROVENANCE_COUNT] = {"none", "generated", "imported",
                                                              "adopted"};
static const char *const storages[KBS_STORAGE_COUNT] = {"none", "resident", "wrapped", "sealed"};
static const char *const key_algs[KBS_KEY_ALG_COUNT] = {"none",  "AES",   "generic", "secret",
                                                        "P-256", "P-384", "P-521",   "RSA"};
static const char *const key_states[KBS_KEY_STATE_COUNT] = {"none", "enabled", "disabled",
                                                            "pending-destruction", "destroyed"};
static const char *const kcv_macs[KBS_KCV_COUNT] = {"none", "HMAC-SHA-256", "AES-CMAC", "SHA-256"};
static const char *const tee_algs[KBS_TEE_ALG_COUNT] = {
    "none", "ECDH-ES+A256KW", "RSA-OAEP-256", "RSA-OAEP", "RSA1_5", "ES256", "ES384", "ES512"};
static const char *const tees[KBS_TEE_COUNT] = {
    "none",     "sample", "sampledevice", "az-snp-vtpm", "az-tdx-vtpm", "cca", "csv",
    "hygondcu", "nvidia", "se",           "sgx",         "snp",         "tdx", "tpm"};
static const char *const delegates[KBS_DELEGATE_COUNT] = {
    "builtin", "coco_as_rest", "coco_as_rest_v1", "coco_as_grpc", "intel_ta"};
static const char *const protocols[KBS_PROTOCOL_COUNT] = {"none", "0.2.0", "0.4.0"};

/* Clients of before September 2025 spell these so, in the same version of the protocol. */
static const struct {
    const char *name;
    enum kbs_tee tee;
} tees_of_before[] = {{"azsnpvtpm", KBS_TEE_AZ_SNP_VTPM}, {"aztdxvtpm", KBS_TEE_AZ_TDX_VTPM}};

static const char *name_of(const char *const *table, size_t count, size_t v)
{
    return v < count ? table[v] : "unknown";
}

static size_t value_of(const char *const *table, size_t count, struct kbs_span name)
{
    for (size_t i = 1; i < count; i++) {
        if (kbs_span_equal_str(name, table[i])) {
            return i;
        }
    }
    return 0;
}

const char *kbs_purpose_name(enum kbs_purpose v)
{
    return name_of(purposes, KBS_PURPOSE_COUNT, (size_t)v);
}

const char *kbs_locality_name(enum kbs_locality v)
{
    return name_of(localities, KBS_LOCALITY_COUNT, (size_t)v);
}

const char *kbs_token_class_name(enum kbs_token_class v)
{
    return name_of(token_classes, KBS_TOKEN_CLASS_COUNT, (size_t)v);
}

const char *kbs_duty_name(enum kbs_duty v)
{
    return name_of(duties, KBS_DUTY_COUNT, (size_t)v);
}

const char *kbs_format_name(enum kbs_format v)
{
    return name_of(formats, KBS_FORMAT_COUNT, (size_t)v);
}

const char *kbs_binding_name(enum kbs_binding v)
{
    return name_of(bindings, KBS_BINDING_COUNT, (size_t)v);
}

const char *kbs_delegate_name(enum kbs_delegate v)
{
    return name_of(delegates, KBS_DELEGATE_COUNT, (size_t)v);
}

enum kbs_delegate kbs_delegate_from_name(struct kbs_span name)
{
    size_t v = value_of(delegates, KBS_DELEGATE_COUNT, name); /* 0 also for what is not there */

    return v != 0 || kbs_span_equal_str(name, delegates[0]) ? (enum kbs_delegate)v
                                                            : KBS_DELEGATE_COUNT;
}

#define BIT(tee) (1u << (tee))
#define COCO_REST_TEES                                                                        \
    (BIT(KBS_TEE_SAMPLE) | BIT(KBS_TEE_SAMPLEDEVICE) | BIT(KBS_TEE_AZ_SNP_VTPM) |             \
     BIT(KBS_TEE_AZ_TDX_VTPM) | BIT(KBS_TEE_CCA) | BIT(KBS_TEE_CSV) | BIT(KBS_TEE_HYGONDCU) | \
     BIT(KBS_TEE_SE) | BIT(KBS_TEE_SGX) | BIT(KBS_TEE_SNP) | BIT(KBS_TEE_TDX))
#define COCO_GRPC_TEES \
    ((COCO_REST_TEES | BIT(KBS_TEE_NVIDIA) | BIT(KBS_TEE_TPM)) & ~BIT(KBS_TEE_SAMPLEDEVICE))

bool kbs_delegate_takes(enum kbs_delegate type, enum kbs_tee tee)
{
    static const uint32_t takes[KBS_DELEGATE_COUNT] = {
        [KBS_DELEGATE_COCO_REST] = COCO_REST_TEES,
        [KBS_DELEGATE_COCO_REST_V1] = COCO_REST_TEES & ~BIT(KBS_TEE_SAMPLEDEVICE),
        [KBS_DELEGATE_COCO_GRPC] = COCO_GRPC_TEES,
        [KBS_DELEGATE_INTEL_TA] = BIT(KBS_TEE_SGX) | BIT(KBS_TEE_TDX)};

    return (unsigned int)type < KBS_DELEGATE_COUNT && tee > KBS_TEE_NONE && tee < KBS_TEE_COUNT &&
           (takes[type] & BIT(tee)) != 0;
}

const char *kbs_provenance_name(enum kbs_provenance v)
{
    return name_of(provenances, KBS_PROVENANCE_COUNT, (size_t)v);
}

const char *kbs_tee_name(enum kbs_tee v)
{
    return name_of(tees, KBS_TEE_COUNT, (size_t)v);
}

const char *kbs_protocol_name(enum kbs_protocol v)
{
    return name_of(protocols, KBS_PROTOCOL_COUNT, (size_t)v);
}

const char *kbs_storage_name(enum kbs_storage v)
{
    return name_of(storages, KBS_STORAGE_COUNT, (size_t)v);
}

const char *kbs_key_alg_name(enum kbs_key_alg v)
{
    return name_of(key_algs, KBS_KEY_ALG_COUNT, (size_t)v);
}

const char *kbs_key_state_name(enum kbs_key_state v)
{
    return name_of(key_states, KBS_KEY_STATE_COUNT, (size_t)v);
}

const char *kbs_kcv_mac_name(enum kbs_kcv_mac v)
{
    return name_of(kcv_macs, KBS_KCV_COUNT, (size_t)v);
}

const char *kbs_tee_alg_name(enum kbs_tee_alg v)
{
    return name_of(tee_algs, KBS_TEE_ALG_COUNT, (size_t)v);
}

enum kbs_purpose kbs_purpose_from_name(struct kbs_span name)
{
    return (enum kbs_purpose)value_of(purposes, KBS_PURPOSE_COUNT, name);
}

enum kbs_locality kbs_locality_from_name(struct kbs_span name)
{
    return (enum kbs_locality)value_of(localities, KBS_LOCALITY_COUNT, name);
}

enum kbs_tee kbs_tee_from_name(struct kbs_span name)
{
    for (size_t i = 0; i < sizeof(tees_of_before) / sizeof(tees_of_before[0]); i++) {
        if (kbs_span_equal_str(name, tees_of_before[i].name)) {
            return tees_of_before[i].tee;
        }
    }
    return (enum kbs_tee)value_of(tees, KBS_TEE_COUNT, name);
}

enum kbs_protocol kbs_protocol_from_name(struct kbs_span name)
{
    return (enum kbs_protocol)value_of(protocols, KBS_PROTOCOL_COUNT, name);
}

enum kbs_storage kbs_storage_from_name(struct kbs_span name)
{
    return (enum kbs_storage)value_of(storages, KBS_STORAGE_COUNT, name);
}

enum kbs_key_alg kbs_key_alg_from_name(struct kbs_span name)
{
    return (enum kbs_key_alg)value_of(key_algs, KBS_KEY_ALG_COUNT, name);
}

enum kbs_key_state kbs_key_state_from_name(struct kbs_span name)
{
    return (enum kbs_key_state)value_of(key_states, KBS_KEY_STATE_COUNT, name);
}

enum kbs_kcv_mac kbs_kcv_mac_from_name(struct kbs_span name)
{
    return (enum kbs_kcv_mac)value_of(kcv_macs, KBS_KCV_COUNT, name);
}

enum kbs_tee_alg kbs_tee_alg_from_name(struct kbs_span name)
{
    return (enum kbs_tee_alg)value_of(tee_algs, KBS_TEE_ALG_COUNT, name);
}

bool kbs_tee_alg_signs(enum kbs_tee_alg alg)
{
    return alg == KBS_TEE_ALG_ES256 || alg == KBS_TEE_ALG_ES384 || alg == KBS_TEE_ALG_ES512;
}

bool kbs_tee_alg_is_ec(enum kbs_tee_alg alg)
{
    return alg == KBS_TEE_ALG_ECDH_ES_A256KW || kbs_tee_alg_signs(alg);
}

bool kbs_key_alg_is_pair(enum kbs_key_alg alg)
{
    return alg >= KBS_KEY_ALG_P256 && alg <= KBS_KEY_ALG_RSA;
}

enum kbs_binding kbs_binding_from_name(struct kbs_span name)
{
    return (enum kbs_binding)value_of(bindings, KBS_BINDING_COUNT, name);
}

bool kbs_key_bytes_valid(enum kbs_key_alg alg, uint64_t bytes)
{
    switch (alg) {
    case KBS_KEY_ALG_AES:
        return bytes == 16 || bytes == 24 || bytes == 32;
    case KBS_KEY_ALG_GENERIC:
        return bytes >= KBS_LIMIT_KEY_BYTES_MIN && bytes <= KBS_LIMIT_KEY_BYTES_MAX &&
               bytes % 8 == 0;
    case KBS_KEY_ALG_SECRET:
        return bytes >= 1 && bytes <= KBS_LIMIT_SECRET_VALUE_BYTES;
    case KBS_KEY_ALG_P256:
        return bytes == 32;
    case KBS_KEY_ALG_P384:
        return bytes == 48;
    case KBS_KEY_ALG_P521:
        return bytes == 66;
    case KBS_KEY_ALG_RSA:
        return bytes == 256 || bytes == 384 || bytes == 512;
    case KBS_KEY_ALG_NONE:
    case KBS_KEY_ALG_COUNT:
        return false;
    }
    return false;
}

void kbs_cka_id(const uint8_t key_id[KBS_KEY_ID_BYTES], uint32_t version,
                uint8_t ret[KBS_CKA_ID_BYTES])
{
    memcpy(ret, key_id, KBS_KEY_ID_BYTES);
    for (size_t i = 0; i < 4; i++) {
        ret[KBS_KEY_ID_BYTES + i] = (uint8_t)(version >> (24 - 8 * i));
    }
}

void kbs_service_key_id(enum kbs_purpose purpose, uint8_t ret[KBS_KEY_ID_BYTES])
{
    struct kbs_span parts[2] = {KBS_SPAN_LIT("kbs-hsm "), kbs_span_str(kbs_purpose_name(purpose))};
    struct kbs_digest d;

    kbs_digest(KBS_HASH_SHA256, parts, 2, &d);
    memcpy(ret, d.p, KBS_KEY_ID_BYTES);
}

static bool segment_char(uint8_t c, bool first)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || (c == '.' && !first);
}

size_t kbs_sign_version_at(const uint64_t *from_s, size_t n, uint64_t now_s)
{
    size_t first = 0;

    for (size_t i = n; i-- > 0;) {
        if (from_s[i] <= now_s) {
            return i;
        }
        first = from_s[i] <= from_s[first] ? i : first;
    }
    return first;
}

bool kbs_key_segment_valid(struct kbs_span segment)
{
    for (size_t i = 0; i < segment.len; i++) {
        if (!segment_char(segment.p[i], i == 0)) {
            return false;
        }
    }
    return segment.len > 0;
}

bool kbs_key_path_valid(struct kbs_span path)
{
    size_t segments = 0;

    if (path.len > KBS_LIMIT_KEY_PATH_BYTES) {
        return false;
    }
    for (;;) {
        const uint8_t *slash = path.len > 0 ? memchr(path.p, '/', path.len) : NULL;
        size_t n = slash != NULL ? (size_t)(slash - path.p) : path.len;

        if (!kbs_key_segment_valid(kbs_span(path.p, n))) {
            return false;
        }
        segments++;
        if (slash == NULL) {
            return segments == 3;
        }
        path = kbs_span_skip(path, n + 1);
    }
}

bool kbs_kid_split(struct kbs_span kid, struct kbs_span *ret_path, uint32_t *ret_version)
{
    size_t slash = kid.len;
    uint64_t version = 0;
    struct kbs_span digits;

    while (slash > 0 && kid.p[slash - 1] != '/') {
        slash--;
    }
    digits = kbs_span_skip(kid, slash);
    if (slash == 0 || digits.len < 2 || digits.len > 11 || digits.p[0] != 'v' ||
        digits.p[1] == '0') {
        return false;
    }
    for (size_t i = 1; i < digits.len; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9') {
            return false;
        }
        version = version * 10 + (uint64_t)(digits.p[i] - '0');
    }
    *ret_path = kbs_span(kid.p, slash - 1);
    *ret_version = (uint32_t)version;
    return version <= UINT32_MAX && kbs_key_path_valid(*ret_path);
}

void kbs_party_v(struct kbs_span report_digest, const uint8_t nonce[32], uint8_t ret[32])
{
    struct kbs_span parts[3] = {KBS_SPAN_LIT("kbs-v1"), report_digest, kbs_span(nonce, 32)};
    struct kbs_digest d;

    kbs_digest(KBS_HASH_SHA256, parts, 3, &d);
    memcpy(ret, d.p, KBS_SHA256_BYTES);
}
