/*
 * The advice is static text by rung and CK_RV: what a code means is a matter of the call that gave
 * it, and an operator has the vendor's manual, not PKCS#11's. A row without a CK_RV is for any
 * failure of that rung. The first row that fits a failed cell is given, once.
 */
#include "hsm/caps.h"

#include "hsm/ckr.h"

#define CAPS_ANY_RV CKR_OK

struct caps_advice {
    const char *rung;
    const char *function; /* NULL: any */
    CK_RV rv;             /* CAPS_ANY_RV: any */
    const char *text;
};

static const struct caps_advice caps_advice[] = {
    {"COSE-HKDF", "C_DeriveKey", CKR_MECHANISM_INVALID,
     "COSE-HKDF: the token has no HKDF_DERIVE; COSE is made by transport, or clients ask for JOSE"},
    {"JOSE-KDF", "C_DeriveKey", CKR_MECHANISM_PARAM_INVALID,
     "JOSE-KDF: ECDH1_DERIVE lacks the KDF of SP 800-56C; JOSE-chain does the same in steps"},
    {"JOSE-KDF", "C_DeriveKey", CKR_MECHANISM_INVALID,
     "JOSE-KDF: the token does not take that KDF (or no ECDH1_DERIVE); JOSE-chain does the same in "
     "steps"},
    {"JOSE-KDF", "C_GenerateKeyPair", CAPS_ANY_RV,
     "JOSE-KDF: the token makes no EC session keys: only RSA TEE keys can be served"},
    {"JOSE-chain", "C_DeriveKey", CKR_MECHANISM_INVALID,
     "JOSE-chain: the token cannot concatenate or digest key objects"},
    {"JOSE-chain", "C_DeriveKey", CKR_MECHANISM_PARAM_INVALID,
     "JOSE-chain: CKD_NULL is refused, as modules in FIPS mode do; JOSE-KDF is what they allow"},
    {"JOSE-chain", "C_WrapKey", CKR_MECHANISM_INVALID,
     "AES Key Wrap is missing: no recipient can be made for an EC key in this token"},
    {"RSA-OAEP-256", "C_CreateObject", CAPS_ANY_RV,
     "RSA-OAEP-256: the TEE's public key cannot be brought in as a session object"},
    {"RSA-OAEP-256", "C_WrapKey", CAPS_ANY_RV,
     "RSA-OAEP-256: OAEP with SHA-256 is refused; RSA TEE keys get only what `worker` may do, or "
     "RSA-OAEP with SHA-1 if they ask for it"},
    {"RSA-OAEP", "C_WrapKey", CAPS_ANY_RV,
     "RSA-OAEP: OAEP with SHA-1 is refused, which is no loss: clients should say RSA-OAEP-256"},
    {"GCM-wrap", "C_WrapKey", CAPS_ANY_RV,
     "GCM-wrap: keys do not wrap by AES-GCM; clients that know only flattened JWEs are served for "
     "keys with floor `worker`"},
    {"transport", "C_CreateObject", CAPS_ANY_RV,
     "transport: C_CreateObject refused, import of plain keys is forbidden (FIPS level 3); "
     "transport-unwrap is used"},
    {"transport", "C_DigestKey", CAPS_ANY_RV,
     "transport: C_DigestKey refused, so a shared secret cannot be hashed in the token"},
    {"transport-unwrap", "C_UnwrapKey", CAPS_ANY_RV,
     "transport-unwrap: a key that is encrypted to the token's RSA session pair does not unwrap"},
    {"worker", NULL, CAPS_ANY_RV,
     "worker: no one-use wrapping key comes in, or AES Key Wrap is missing: floor `worker` is not "
     "served"},
};

static const char *caps_result_name(enum kbs_probe_result v)
{
    static const char *const names[] = {"-", "skipped", "failed", "padded", "passed"};

    return v <= KBS_PROBE_PASSED ? names[v] : "-";
}

static void caps_cell_put(struct kbs_buf *out, size_t rung, size_t format, size_t kind,
                          size_t length, const struct kbs_probe *probe)
{
    const char *function = probe->rv != CKR_OK ? probe->function : "-";
    const char *why = "-";

    if (probe->rv != CKR_OK) {
        why = kbs_ckr_name(probe->rv);
    } else if (probe->result == KBS_PROBE_SKIPPED && probe->function != NULL) {
        why = probe->function;
    } else if (probe->result == KBS_PROBE_FAILED) {
        why = "wrong result";
    }
    kbs_buf_printf(
        out, "%s\t%s\t%s\t%zu\t%s\t%s\t%s\t%s\n", kbs_rungs[rung].name,
        kbs_format_name((enum kbs_format)format), kbs_tee_kind_name((enum kbs_tee_kind)kind),
        kbs_probe_length_bytes((enum kbs_probe_length)length), caps_result_name(probe->result),
        kbs_locality_name(kbs_rungs[rung].locality), function, why);
}

void kbs_caps_put(struct kbs_buf *out, const struct kbs_ladder *ladder)
{
    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        for (size_t format = 0; format < KBS_FORMAT_COUNT; format++) {
            for (size_t kind = 0; kind < KBS_TEE_KIND_COUNT; kind++) {
                for (size_t length = 0; length < KBS_PROBE_LENGTHS; length++) {
                    const struct kbs_probe *probe = &ladder->probes[rung][format][kind][length];

                    if (probe->result != KBS_PROBE_NONE) {
                        caps_cell_put(out, rung, format, kind, length, probe);
                    }
                }
            }
        }
    }
}

/* True if a cell of that rung, of the ordinary length, failed as the row says. */
static bool caps_advice_fits(const struct caps_advice *row, const struct kbs_ladder *ladder,
                             size_t rung)
{
    for (size_t format = 0; format < KBS_FORMAT_COUNT; format++) {
        for (size_t kind = 0; kind < KBS_TEE_KIND_COUNT; kind++) {
            const struct kbs_probe *probe = &ladder->probes[rung][format][kind][KBS_PROBE_32];

            if (probe->result == KBS_PROBE_FAILED && probe->function != NULL &&
                (row->rv == CAPS_ANY_RV || row->rv == probe->rv) &&
                (row->function == NULL ||
                 kbs_span_equal_str(kbs_span_str(probe->function), row->function))) {
                return true;
            }
        }
    }
    return false;
}

static bool caps_any_padded(const struct kbs_ladder *ladder)
{
    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        for (size_t format = 0; format < KBS_FORMAT_COUNT; format++) {
            for (size_t kind = 0; kind < KBS_TEE_KIND_COUNT; kind++) {
                if (ladder->probes[rung][format][kind][KBS_PROBE_20].result == KBS_PROBE_PADDED) {
                    return true;
                }
            }
        }
    }
    return false;
}

void kbs_caps_notes_put(struct kbs_buf *out, const struct kbs_ladder *ladder,
                        const struct kbs_token *t)
{
    for (size_t i = 0; t->quirk->notes[i] != NULL; i++) {
        kbs_buf_printf(out, "# %s\n", t->quirk->notes[i]);
    }
    for (size_t i = 0; i < sizeof(caps_advice) / sizeof(caps_advice[0]); i++) {
        for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
            if (kbs_span_equal_str(kbs_span_str(kbs_rungs[rung].name), caps_advice[i].rung) &&
                caps_advice_fits(&caps_advice[i], ladder, rung)) {
                kbs_buf_printf(out, "# %s.\n", caps_advice[i].text);
            }
        }
    }
    if (ladder->kcv.result == KBS_PROBE_FAILED) {
        kbs_buf_printf(out,
                       "# No check value of a key could be computed (%s: %s), so results were "
                       "compared by length only. The service does not start on this token.\n",
                       ladder->kcv.function, kbs_ckr_name(ladder->kcv.rv));
    }
    if (ladder->gcm.result == KBS_PROBE_FAILED) {
        kbs_buf_printf(out,
                       "# The token does not decrypt by AES-GCM (%s: %s): of a sealed secret the "
                       "content key comes out, too, to the process that has the secret then.\n",
                       ladder->gcm.function, kbs_ckr_name(ladder->gcm.rv));
    }
    if (caps_any_padded(ladder)) {
        kbs_buf_put_str(out, "# The token pads keys that are no multiple of 8 bytes when it wraps "
                             "them. Such keys are refused here before it sees them.\n");
    }
}
