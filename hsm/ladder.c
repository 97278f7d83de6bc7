/*
 * The choice is policy of one line: the highest locality first, within it the client's order of
 * formats, never below the key's floor. Rejected: the client's order first, which would let a
 * guest's preference for COSE cost a locality that JOSE has.
 *
 * An answer of "unsupported" is read by somebody who has to do something about it, so it says what
 * would have been needed and what the token reaches instead.
 */
#include "hsm/ladder.h"

#include <stdio.h>

#include "hsm/ckr.h"

static const struct {
    const char *name;
    enum kbs_tee_alg alg;
} ladder_kinds[KBS_TEE_KIND_COUNT] = {
    [KBS_TEE_P256] = {"P-256", KBS_TEE_ALG_ECDH_ES_A256KW},
    [KBS_TEE_P384] = {"P-384", KBS_TEE_ALG_ECDH_ES_A256KW},
    [KBS_TEE_P521] = {"P-521", KBS_TEE_ALG_ECDH_ES_A256KW},
    [KBS_TEE_RSA_2048] = {"RSA-2048", KBS_TEE_ALG_RSA_OAEP_256},
    [KBS_TEE_RSA_2048_SHA1] = {"RSA-2048-SHA1", KBS_TEE_ALG_RSA_OAEP},
    [KBS_TEE_RSA_3072] = {"RSA-3072", KBS_TEE_ALG_RSA_OAEP_256},
    [KBS_TEE_RSA_3072_SHA1] = {"RSA-3072-SHA1", KBS_TEE_ALG_RSA_OAEP},
};

const char *kbs_tee_kind_name(enum kbs_tee_kind kind)
{
    return kind < KBS_TEE_KIND_COUNT ? ladder_kinds[kind].name : "unknown";
}

enum kbs_tee_alg kbs_tee_kind_alg(enum kbs_tee_kind kind)
{
    return kind < KBS_TEE_KIND_COUNT ? ladder_kinds[kind].alg : KBS_TEE_ALG_NONE;
}

static enum kbs_tee_kind ladder_kind_of_curve(enum kbs_curve curve)
{
    switch (curve) {
    case KBS_CURVE_P256:
        return KBS_TEE_P256;
    case KBS_CURVE_P384:
        return KBS_TEE_P384;
    case KBS_CURVE_P521:
        return KBS_TEE_P521;
    case KBS_CURVE_NONE:
        break;
    }
    return KBS_TEE_KIND_COUNT;
}

enum kbs_tee_kind kbs_tee_kind_of(const struct kbs_tee_key *key)
{
    bool small = key->rsa.n_len == KBS_LIMIT_RSA_BYTES_MIN;

    switch (key->alg) {
    case KBS_TEE_ALG_ECDH_ES_A256KW:
        return ladder_kind_of_curve(key->ec.curve);
    case KBS_TEE_ALG_RSA_OAEP_256:
        return small ? KBS_TEE_RSA_2048 : KBS_TEE_RSA_3072;
    case KBS_TEE_ALG_RSA_OAEP:
        return small ? KBS_TEE_RSA_2048_SHA1 : KBS_TEE_RSA_3072_SHA1;
    case KBS_TEE_ALG_RSA1_5: /* no rung: it is for secrets */
    case KBS_TEE_ALG_ES256:  /* nor these: nothing is wrapped to them */
    case KBS_TEE_ALG_ES384:
    case KBS_TEE_ALG_ES512:
    case KBS_TEE_ALG_NONE:
    case KBS_TEE_ALG_COUNT:
        break;
    }
    return KBS_TEE_KIND_COUNT;
}

size_t kbs_probe_length_bytes(enum kbs_probe_length v)
{
    return v == KBS_PROBE_20 ? 20 : 32;
}

bool kbs_ladder_passed(const struct kbs_ladder *ladder, size_t rung)
{
    for (size_t format = 0; format < KBS_FORMAT_COUNT; format++) {
        for (size_t kind = 0; kind < KBS_TEE_KIND_COUNT; kind++) {
            if (ladder->probes[rung][format][kind][KBS_PROBE_32].result == KBS_PROBE_PASSED) {
                return true;
            }
        }
    }
    return false;
}

/* What is to be released: the index of its cells. */
struct ladder_wanted {
    enum kbs_tee_kind kind;
    enum kbs_probe_length length;
};

static const struct kbs_probe *ladder_probe_of(const struct kbs_ladder *ladder, size_t rung,
                                               uint8_t format, const struct ladder_wanted *wanted)
{
    /* AES Key Wrap of other lengths is never tried, whatever the probe saw: some tokens pad. */
    static const struct kbs_probe not_for_that = {.result = KBS_PROBE_NONE};

    if (!kbs_rung_makes(&kbs_rungs[rung], (enum kbs_format)format,
                        kbs_tee_kind_alg(wanted->kind)) ||
        (wanted->length == KBS_PROBE_20 && !kbs_rungs[rung].any_length)) {
        return &not_for_that;
    }
    /* Of 20 bytes only the smallest keys are probed: the length does not depend on the TEE key. */
    if (wanted->length == KBS_PROBE_20) {
        enum kbs_tee_alg alg = kbs_tee_kind_alg(wanted->kind);
        enum kbs_tee_kind smallest = alg == KBS_TEE_ALG_ECDH_ES_A256KW ? KBS_TEE_P256
                                     : alg == KBS_TEE_ALG_RSA_OAEP     ? KBS_TEE_RSA_2048_SHA1
                                                                       : KBS_TEE_RSA_2048;
        const struct kbs_probe *of_20 = &ladder->probes[rung][format][smallest][KBS_PROBE_20];

        if (of_20->result != KBS_PROBE_PASSED) {
            return of_20;
        }
    }
    return &ladder->probes[rung][format][wanted->kind][KBS_PROBE_32];
}

/* The first rung with exactly that locality which passed. */
static bool ladder_rung_at(const struct kbs_ladder *ladder, enum kbs_locality locality,
                           uint8_t format, const struct ladder_wanted *wanted,
                           struct kbs_ladder_choice *ret)
{
    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        if (kbs_rungs[rung].locality == locality &&
            ladder_probe_of(ladder, rung, format, wanted)->result == KBS_PROBE_PASSED) {
            *ret = (struct kbs_ladder_choice){.rung = &kbs_rungs[rung],
                                              .format = (enum kbs_format)format};
            return true;
        }
    }
    return false;
}

static bool ladder_best(const struct kbs_ladder *ladder, struct kbs_span formats,
                        const struct ladder_wanted *wanted, enum kbs_locality floor,
                        struct kbs_ladder_choice *ret)
{
    for (int locality = KBS_LOCALITY_TOKEN; locality >= (int)floor; locality--) {
        for (size_t i = 0; i < formats.len; i++) {
            if (ladder_rung_at(ladder, (enum kbs_locality)locality, formats.p[i], wanted, ret)) {
                return true;
            }
        }
    }
    return false;
}

/* "; jose needs JOSE-KDF (C_DeriveKey: CKR_MECHANISM_PARAM_INVALID) or JOSE-chain (...)" */
static void ladder_missing_put(struct kbs_buf *out, const struct kbs_ladder *ladder, uint8_t format,
                               const struct ladder_wanted *wanted, enum kbs_locality floor,
                               bool reasons)
{
    size_t n = 0;

    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        const struct kbs_probe *probe = ladder_probe_of(ladder, rung, format, wanted);

        if (probe->result == KBS_PROBE_NONE || kbs_rungs[rung].locality < floor) {
            continue;
        }
        if (n++ == 0) {
            kbs_buf_printf(out, "; %s needs %s", kbs_format_name((enum kbs_format)format),
                           kbs_rungs[rung].name);
        } else {
            kbs_buf_printf(out, " or %s", kbs_rungs[rung].name);
        }
        if (reasons && probe->rv != CKR_OK) {
            kbs_buf_printf(out, " (%s: %s)", probe->function, kbs_ckr_name(probe->rv));
        }
    }
    if (n == 0) {
        kbs_buf_printf(out, "; %s has none", kbs_format_name((enum kbs_format)format));
    }
}

static int ladder_unsupported(const struct kbs_ladder *ladder, struct kbs_span formats,
                              const struct ladder_wanted *wanted, enum kbs_locality floor,
                              struct kbs_error *err)
{
    struct kbs_ladder_choice below = {.rung = NULL};
    char head[KBS_LIMIT_ERROR_DETAIL_BYTES];
    const char *detail = NULL;
    int n = snprintf(
        head, sizeof(head), "no rung of locality %s releases %s to %s", kbs_locality_name(floor),
        wanted->length == KBS_PROBE_20 ? "a key that is no multiple of 8 bytes" : "a key",
        kbs_tee_kind_name(wanted->kind));

    if (n > 0 && ladder_best(ladder, formats, wanted, KBS_LOCALITY_WORKER, &below)) {
        (void)snprintf(head + n, sizeof(head) - (size_t)n, "; this token reaches %s",
                       kbs_locality_name(below.rung->locality));
    }
    /* With the reasons if they fit, else without them: `kbs-admin token caps` has them all. */
    for (int reasons = 1; reasons >= 0 && detail == NULL; reasons--) {
        struct kbs_buf text = KBS_BUF(KBS_LIMIT_ERROR_DETAIL_BYTES);

        kbs_buf_put_str(&text, head);
        for (size_t i = 0; i < formats.len; i++) {
            ladder_missing_put(&text, ladder, formats.p[i], wanted, floor, reasons != 0);
        }
        detail = kbs_buf_cstr(&text);
        if (detail != NULL) {
            (void)kbs_fail(err, KBS_UNSUPPORTED, "%s", detail);
        }
        kbs_buf_deinit(&text);
    }
    return detail != NULL ? -1 : kbs_fail(err, KBS_UNSUPPORTED, "%s", head);
}

int kbs_ladder_choose(const struct kbs_ladder *ladder, struct kbs_span formats,
                      const struct kbs_tee_key *tee, size_t key_bytes, enum kbs_locality floor,
                      struct kbs_ladder_choice *ret, struct kbs_error *err)
{
    struct ladder_wanted wanted = {.kind = kbs_tee_kind_of(tee),
                                   .length = key_bytes % 8 == 0 ? KBS_PROBE_32 : KBS_PROBE_20};
    static const uint8_t jose = KBS_FORMAT_JOSE;

    if (formats.len == 0 || formats.len > KBS_FORMAT_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the order names %zu formats", formats.len);
    }
    for (size_t i = 0; i < formats.len; i++) {
        if (formats.p[i] <= KBS_FORMAT_NONE || formats.p[i] >= KBS_FORMAT_COUNT) {
            return kbs_fail(err, KBS_INPUT, "the order names an unknown format");
        }
    }
    if (wanted.kind == KBS_TEE_KIND_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the order names an unknown kind of TEE key");
    }
    if (!ladder_best(ladder, formats, &wanted, floor, ret)) {
        return ladder_unsupported(ladder, formats, &wanted, floor, err);
    }
    if (ret->rung->needs_cek) {
        struct kbs_ladder_choice cek = {.rung = NULL};

        wanted.length = KBS_PROBE_32;
        if (!ladder_rung_at(ladder, ret->rung->locality, jose, &wanted, &cek)) {
            return kbs_fail(err, KBS_INTERNAL, "no rung for the content key of %s",
                            ret->rung->name);
        }
        ret->cek = cek.rung;
    }
    return 0;
}
