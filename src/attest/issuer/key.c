/*
 * The TEE's key in a token.
 *
 * The problem: callers of attestation services choose parts of what is signed (runtime data, client payloads),
 * so a key that is looked for at several places is chosen by whoever can write to one of them. The approach:
 * one place per issuer, either configured or the profile's; where a profile has several, because the service
 * changed, exactly one of them may have a key. Of an array of keys one is chosen by its name or its
 * use, never by its position.
 *
 * Pointers are those of RFC 6901, but for members of arrays: `kid:NAME` or `use:enc`.
 */
#include "attest/issuer/profile.h"
#include "base/encoding.h"
#include "jose/write/jose.h"

#define SEGMENT_BYTES 256
#define NO_KEY_PATH "none"

/* The next segment, unescaped; false if there is none or it is malformed. */
static bool segment_next(const char **path, char out[SEGMENT_BYTES])
{
    const char *p = *path;
    size_t n = 0;

    if (*p++ != '/') {
        return false;
    }
    for (; *p != '\0' && *p != '/'; p++) {
        char c = *p;

        if (c == '~') {
            p++;
            c = *p == '0' ? '~' : '/';
            if (*p != '0' && *p != '1') {
                return false;
            }
        }
        if (n + 1 == SEGMENT_BYTES) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    *path = p;
    return true;
}

static bool has_op(const json_t *key, const char *op)
{
    const json_t *ops = json_object_get(key, "key_ops");

    for (size_t i = 0; i < json_array_size(ops); i++) {
        const json_t *v = json_array_get(ops, i);

        if (json_is_string(v) && strcmp(json_string_value(v), op) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_for_encryption(const json_t *key)
{
    return kbs_claim_is(key, "use", "enc") || has_op(key, "encrypt") || has_op(key, "wrapKey") ||
           has_op(key, "deriveKey") || has_op(key, "deriveBits");
}

static bool is_wanted(const json_t *key, const char *segment)
{
    if (strncmp(segment, "kid:", 4) == 0) {
        return kbs_claim_is(key, "kid", segment + 4);
    }
    return strcmp(segment, "use:enc") == 0 && is_for_encryption(key);
}

/* The one element that the segment means. 1 if there is none; -1 if there are several. */
static int element_find(const json_t *array, const char *segment, const json_t **ret,
                        struct kbs_error *err)
{
    *ret = NULL;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *key = json_array_get(array, i);

        if (!is_wanted(key, segment)) {
            continue;
        }
        if (*ret != NULL) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "attestation token: two keys could be the TEE's");
        }
        *ret = key;
    }
    return *ret != NULL ? 0 : 1;
}

/* 0 with the value, 1 if there is nothing, -1. */
static int pointer_find(const json_t *claims, const char *path, const json_t **ret,
                        struct kbs_error *err)
{
    const json_t *at = claims;
    char segment[SEGMENT_BYTES];

    while (*path != '\0') {
        if (!segment_next(&path, segment)) {
            return kbs_fail(err, KBS_INTERNAL, "issuer: a malformed key_path");
        }
        if (json_is_array(at)) {
            int rc = element_find(at, segment, &at, err);
            if (rc != 0) {
                return rc;
            }
        } else {
            at = json_object_get(at, segment);
        }
        if (at == NULL || json_is_null(at)) {
            return 1;
        }
    }
    *ret = at;
    return 0;
}

/* The value at exactly one of the profile's places; *ret stays NULL if there is none at any. */
static int built_in_find(const struct kbs_issuer_job *job, const json_t **ret,
                         struct kbs_error *err)
{
    *ret = NULL;
    for (const char *const *path = job->issuer->kind->key_paths; path != NULL && *path != NULL;
         path++) {
        const json_t *found = NULL;
        int rc = pointer_find(job->claims, *path, &found, err);

        if (rc < 0) {
            return -1;
        }
        if (rc == 0 && *ret != NULL) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "attestation token: it has a TEE key at two places");
        }
        *ret = rc == 0 ? found : *ret;
    }
    return 0;
}

/* ---- forms of keys ---- */

static int from_jwk(const json_t *jwk, struct kbs_tee_key *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON copy = NULL;

    if (json_object_get(jwk, "alg") != NULL) {
        return kbs_rcar_tee_key_get(jwk, ret, err);
    }
    /* A key that does not say: what such keys are used with. */
    copy = json_copy((json_t *)(uintptr_t)jwk);
    if (copy == NULL ||
        json_object_set_new(copy, "alg",
                            json_string(kbs_claim_is(jwk, "kty", "RSA")
                                            ? kbs_tee_alg_name(KBS_TEE_ALG_RSA_OAEP_256)
                                            : kbs_tee_alg_name(KBS_TEE_ALG_ECDH_ES_A256KW))) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return kbs_rcar_tee_key_get(copy, ret, err);
}

static int from_spki(const json_t *text, struct kbs_tee_key *ret, struct kbs_error *err)
{
    struct kbs_buf der = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    struct kbs_jws_key key = {.kind = KBS_JWS_KEY_NONE};
    int rc = kbs_issuer_bytes(text, KBS_TEXT_BASE64URL, "akpub", &der, err);

    if (rc == 0) {
        rc = kbs_jws_key_from_spki(kbs_buf_span(&der), &key, err);
    }
    if (rc == 0 && key.kind == KBS_JWS_KEY_EC) {
        *ret = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = key.ec};
    } else if (rc == 0 && key.kind == KBS_JWS_KEY_RSA) {
        *ret = (struct kbs_tee_key){.alg = KBS_TEE_ALG_RSA_OAEP_256, .rsa = key.rsa};
    } else if (rc == 0) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED, "a key that nothing can be encrypted to");
    }
    kbs_buf_deinit(&der);
    return rc;
}

/*
 * Held data of Intel Trust Authority's oldest clients: the exponent, 4 bytes little endian, then the modulus,
 * which of SGX is little endian too.
 */
static int from_held_data(const json_t *text, bool sgx, struct kbs_tee_key *ret,
                          struct kbs_error *err)
{
    struct kbs_buf held = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    struct kbs_rsa_public *rsa = &ret->rsa;
    int rc = kbs_issuer_bytes(text, KBS_TEXT_BASE64, "attester_held_data", &held, err);

    *ret = (struct kbs_tee_key){.alg = KBS_TEE_ALG_RSA_OAEP_256};
    if (rc == 0 && (held.len <= 4 || held.len - 4 > sizeof(rsa->n))) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED, "no exponent and modulus");
    }
    for (size_t i = 4; rc == 0 && i-- > 0;) { /* without leading zeros */
        if (rsa->e_len > 0 || held.p[i] != 0) {
            rsa->e[rsa->e_len++] = held.p[i];
        }
    }
    for (size_t i = 4; rc == 0 && i < held.len; i++) {
        rsa->n[rsa->n_len++] = sgx ? held.p[held.len + 3 - i] : held.p[i];
    }
    kbs_buf_deinit(&held);
    return rc == 0 ? kbs_tee_key_check(ret, err) : rc;
}

static int key_read(const struct kbs_issuer_job *job, const json_t *value, struct kbs_tee_key *ret,
                    struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    int rc;

    if (!json_is_string(value)) {
        rc = from_jwk(value, ret, &why);
    } else if (kbs_issuer_profile_of(job->issuer) == KBS_ISSUER_ITA) {
        rc = from_held_data(value, job->ret->tee == KBS_TEE_SGX, ret, &why);
    } else {
        rc = from_spki(value, ret, &why);
    }
    return rc == 0 ? 0
                   : kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: its TEE key: %.120s",
                              why.detail);
}

bool kbs_issuer_key_is(const struct kbs_issuer_job *job, const json_t *jwk)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_tee_key key;

    return job->ret->has_tee_key && key_read(job, jwk, &key, &ignored) == 0 &&
           kbs_tee_key_equal(&key, &job->ret->tee_key);
}

int kbs_issuer_key_take_value(struct kbs_issuer_job *job, const json_t *value,
                              struct kbs_error *err)
{
    struct kbs_issuer_result *ret = job->ret;

    if (value == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: no TEE key where its issuer has it");
    }
    if (key_read(job, value, &ret->tee_key, err) != 0) {
        return -1;
    }
    if (job->expected->tee_key != NULL &&
        !kbs_tee_key_equal(&ret->tee_key, job->expected->tee_key)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its TEE key is not the session's");
    }
    ret->has_tee_key = true;
    kbs_jose_tee_thumbprint(&ret->tee_key, ret->thumbprint);
    return 0;
}

int kbs_issuer_key_take(struct kbs_issuer_job *job, struct kbs_error *err)
{
    const char *path = job->issuer->key_path;
    const json_t *value = NULL;

    if (path != NULL && strcmp(path, NO_KEY_PATH) == 0) {
        return 0;
    }
    if (path == NULL && job->issuer->kind->key_paths == NULL) {
        return 0;
    }
    int rc = path != NULL ? pointer_find(job->claims, path, &value, err)
                          : built_in_find(job, &value, err);
    return rc < 0 ? -1 : kbs_issuer_key_take_value(job, value, err);
}
