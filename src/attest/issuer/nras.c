/*
 * NVIDIA Remote Attestation Service: an overall token, and a detached one per device, as a JSON array.
 *
 * The overall token counts for exactly the devices whose detached tokens it has the digests of; each of them is
 * verified as the overall one is. It names no key and says nothing of a TEE: it counts beside a CPU's evidence
 * whose runtime data holds the devices' (additional-evidence), never alone.
 */
#include "attest/issuer/profile.h"

#include <stdio.h>

#include "base/encoding.h"

#define TEXT_BYTES (1u << 19)
#define DEVICES_MAX 16
#define NONCE_BYTES 32
#define NAME_BYTES 24

bool kbs_nras_is(struct kbs_span text)
{
    return text.len > 0 && text.p[0] == '[';
}

/* The parser takes objects only, which this becomes one of. */
static int array_parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf object = KBS_BUF(TEXT_BYTES + 16);
    struct kbs_error why = KBS_ERROR_NONE;
    int rc;

    kbs_buf_put_str(&object, "{\"tokens\":");
    kbs_buf_put_span(&object, text);
    kbs_buf_put_u8(&object, '}');
    rc = object.failed || kbs_json_parse_object(kbs_buf_span(&object), "tokens", ret, &why) != 0
             ? kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: not a strict JSON array of at most %u bytes",
                        TEXT_BYTES)
             : 0;
    kbs_buf_deinit(&object);
    return rc;
}

int kbs_nras_split(struct kbs_span text, json_t **ret_whole, struct kbs_span *ret_overall,
                   json_t **ret_detached, struct kbs_error *err)
{
    const json_t *array;
    const json_t *pair;
    json_t *detached;

    *ret_detached = NULL;
    if (array_parse(text, ret_whole, err) != 0) {
        return -1;
    }
    array = json_object_get(*ret_whole, "tokens");
    pair = json_array_get(array, 0);
    detached = json_array_get(array, 1);
    if (json_object_size(*ret_whole) != 1 || json_array_size(array) != 2 ||
        json_array_size(pair) != 2 || !json_is_string(json_array_get(pair, 0)) ||
        strcmp(json_string_value(json_array_get(pair, 0)), "JWT") != 0 ||
        !json_is_string(json_array_get(pair, 1)) || !json_is_object(detached) ||
        json_object_size(detached) == 0 || json_object_size(detached) > DEVICES_MAX) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: not [[\"JWT\", overall], {name: token}]");
    }
    *ret_overall = kbs_span(json_string_value(json_array_get(pair, 1)),
                            json_string_length(json_array_get(pair, 1)));
    *ret_detached = json_incref(detached);
    return 0;
}

/* submods: {name: ["DIGEST", ["SHA-256", hex]]} */
static int digest_check(const json_t *overall, const char *name, struct kbs_span token,
                        struct kbs_error *err)
{
    const json_t *entry = json_object_get(json_object_get(overall, "submods"), name);
    const json_t *said = json_array_get(entry, 1);
    const json_t *hash = json_array_get(said, 0);
    struct kbs_span hex = KBS_SPAN_EMPTY;
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t expected[KBS_SHA256_BYTES];

    if (json_is_string(json_array_get(said, 1))) {
        hex = kbs_span(json_string_value(json_array_get(said, 1)),
                       json_string_length(json_array_get(said, 1)));
    }
    kbs_sha256(token, digest);
    if (!json_is_string(json_array_get(entry, 0)) ||
        strcmp(json_string_value(json_array_get(entry, 0)), "DIGEST") != 0 ||
        !json_is_string(hash) || strcmp(json_string_value(hash), "SHA-256") != 0 ||
        kbs_hex_get_exact(expected, sizeof(expected), hex) != 0 ||
        memcmp(digest, expected, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: a device's is not the one of the overall token");
    }
    return 0;
}

static int detached_open(const struct kbs_issuer *issuer, const char *name, const json_t *text,
                         const json_t *overall, const struct kbs_issuer_expected *expected,
                         json_t *ret, struct kbs_error *err)
{
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct kbs_span token = KBS_SPAN_EMPTY;
    json_t *claims = NULL;
    int rc;

    if (json_is_string(text)) {
        token = kbs_span(json_string_value(text), json_string_length(text));
    }
    if (digest_check(overall, name, token, err) != 0 ||
        kbs_jws_split(token, KBS_JWS_ALGS_ALL, &jws, err) != 0) {
        return -1;
    }
    rc = kbs_issuer_open(issuer, &jws, expected, &claims, err);
    kbs_jose_jws_deinit(&jws);
    if (rc == 0 && json_object_set_new(ret, name, claims) != 0) {
        rc = kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return rc;
}

int kbs_nras_open(const struct kbs_issuer *issuer, const json_t *detached, const json_t *overall,
                  const struct kbs_issuer_expected *expected, json_t **ret, struct kbs_error *err)
{
    KBS_AUTO_JSON opened = json_object();
    const char *name;
    json_t *text;

    *ret = NULL;
    if (json_object_size(detached) != json_object_size(json_object_get(overall, "submods"))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: not of the devices that the overall one names");
    }
    json_object_foreach((json_t *)(uintptr_t)detached, name, text)
    {
        if (detached_open(issuer, name, text, overall, expected, opened, err) != 0) {
            return -1;
        }
    }
    *ret = json_incref(opened);
    return 0;
}

/* What the devices signed: the first 32 bytes of the digest that device evidence carries, in hex. */
static int nonce_check(struct kbs_issuer_job *job, const json_t *claims, struct kbs_error *err)
{
    const struct kbs_digest *expected = job->expected->report_data;
    char hex[2 * NONCE_BYTES + 1];

    if (!job->session || expected == NULL || expected->len < NONCE_BYTES) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: they count only in a handshake");
    }
    kbs_hex_cstr(kbs_span(expected->p, NONCE_BYTES), hex, sizeof(hex));
    if (!kbs_claim_is(claims, "eat_nonce", hex)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation tokens: the nonce is not ours");
    }
    job->ret->tells_report_data = true;
    return 0;
}

/* x-nvidia-...-nonce-match: all that are there, and there is one. */
static bool nonce_matched(const json_t *claims)
{
    static const char end[] = "-nonce-match";
    bool any = false;
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)claims, name, v)
    {
        size_t n = strlen(name);

        if (n >= sizeof(end) && strcmp(name + n - (sizeof(end) - 1), end) == 0) {
            if (!json_is_true(v)) {
                return false;
            }
            any = true;
        }
    }
    return any;
}

static int device_check(struct kbs_issuer_job *job, const json_t *claims, struct kbs_error *err)
{
    const json_t *measured = json_object_get(claims, "measres");

    if (!json_is_string(measured) ||
        (strcmp(json_string_value(measured), "success") != 0 &&
         strcmp(json_string_value(measured), "comparison-successful") != 0)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: a device is not measured as it should be");
    }
    if (!kbs_claim_is(claims, "dbgstat", "disabled")) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: debugging of a device is not disabled");
    }
    if (!nonce_matched(claims)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: a device's nonce did not match");
    }
    if (json_object_get(claims, "eat_nonce") != NULL && nonce_check(job, claims, err) != 0) {
        return -1;
    }
    return kbs_claim_must_be(claims, "secboot", true, err);
}

/* GPU-0 is gpu0 in our submods, and so on. */
static int device_name(const char *name, char ret[NAME_BYTES], struct kbs_error *err)
{
    static const struct {
        const char *theirs;
        const char *ours;
    } classes[] = {{"GPU-", "gpu"}, {"SWITCH-", "switch"}, {"NVSWITCH-", "switch"}};

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        size_t n = strlen(classes[i].theirs);
        size_t digits =
            strncmp(name, classes[i].theirs, n) == 0 ? strspn(name + n, "0123456789") : 0;

        if (digits > 0 && digits < 4 && name[n + digits] == '\0') {
            (void)snprintf(ret, NAME_BYTES, "%s%s", classes[i].ours, name + n);
            return 0;
        }
    }
    return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation tokens: a device of an unknown kind");
}

static int device_take(struct kbs_issuer_job *job, const char *name, const json_t *claims,
                       struct kbs_error *err)
{
    char ours[NAME_BYTES];
    const struct kbs_derived derived = {
        .name = ours,
        .tee = KBS_TEE_NVIDIA,
        .claims = claims,
        .hardware = KBS_TRUST_GENUINE,
        .executables = KBS_TRUST_EXECUTABLES_KNOWN, /* compared with NVIDIA's reference values */
        .configuration = KBS_TRUST_CONFIGURATION_SAFE,
    };

    if (device_check(job, claims, err) != 0 || device_name(name, ours, err) != 0) {
        return -1;
    }
    if (json_object_get(job->ret->submods, ours) != NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation tokens: a device twice");
    }
    return kbs_issuer_derived_add(job, &derived, err);
}

int kbs_issuer_map_nras(struct kbs_issuer_job *job, struct kbs_error *err)
{
    const char *name;
    json_t *claims;

    if (job->detached == NULL || !kbs_claim_is(job->claims, "sub", "NVIDIA-PLATFORM-ATTESTATION")) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation tokens: not an overall one with its detached ones");
    }
    if (kbs_require_tee(job, KBS_TEE_NVIDIA, err) != 0 ||
        kbs_claim_must_be(job->claims, "x-nvidia-overall-att-result", true, err) != 0 ||
        nonce_check(job, job->claims, err) != 0) {
        return -1;
    }
    json_object_foreach((json_t *)(uintptr_t)job->detached, name, claims)
    {
        if (device_take(job, name, claims, err) != 0) {
            return -1;
        }
    }
    return 0;
}
