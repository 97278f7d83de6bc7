/*
 * The class of a token (hardware, software) is a claim about the world behind the module, which no
 * probe can make: NSS and SoftHSM pass rungs that some hardware does not. So it comes from this
 * table, by the names that the token gives itself, and a token that is not listed is "unknown"
 * whatever it says. So are those whose vendor ships a simulator under the names of the device.
 *
 * Mechanisms are not listed here: the ladder finds out by doing. What a token ignores in a template is
 * not here either: every object is read back, and what can be mended is (object.c). One exception is a
 * number: Luna's own for the Concat KDF means something else elsewhere, so it is tried on Luna only.
 *
 * docs/tokens has a page per family, with what these notes are too short for.
 */
#include "hsm/quirks.h"

#include "hsm/p11.h"

/* CKD_SHA256_NIST_KDF of Thales' header. */
#define QUIRK_LUNA_CONCAT_KDF 0x80000014UL

#define QUIRK_LUNA_NOTES                                                                                  \
    {                                                                                                     \
        "Luna: not run on hardware by this project; send the output of kbs-token --probe.",               \
            "Luna: a partition in FIPS mode may refuse ECDH with CKD_NULL and the import of plain keys; " \
            "JOSE-KDF needs neither.",                                                                    \
            "Luna: released keys need CKA_EXTRACTABLE, which a partition policy can forbid."              \
    }

static const struct kbs_quirk quirks[] = {
    {"SoftHSM project",
     "SoftHSM",
     KBS_TOKEN_CLASS_SOFTWARE,
     false,
     CKD_SHA256_KDF_SP800,
     {"SoftHSM: no KDF of JOSE's or COSE's, so releases to EC keys are by transport. To RSA keys only "
      "RSA-OAEP with SHA-1.",
      "SoftHSM: it signs no HMAC-SHA-256 with keys under 32 bytes, so the check value of shorter AES "
      "keys is AES-CMAC."},
     true},
    /* An empty key database takes the first PIN from a security officer who logs in without one. */
    {"Mozilla Foundation",
     "NSS",
     KBS_TOKEN_CLASS_SOFTWARE,
     true,
     CKD_SHA256_KDF_SP800,
     {"NSS: a store of keys, not a keeper of rules: it does not enforce CKA_EXTRACTABLE of secret keys "
      "or CKA_DERIVE.",
      "NSS: its mechanism list does not name the concatenations that it does."},
     false},
    {"IBM",
     "Soft",
     KBS_TOKEN_CLASS_SOFTWARE,
     false,
     CKD_SHA256_KDF_SP800,
     {"openCryptoki: pkcsslotd must run, and the service's user be in group pkcs11.",
      "openCryptoki: JOSE-KDF and AES Key Wrap need 3.25 or newer; older ones do RSA-OAEP only.",
      "openCryptoki: CKA_SENSITIVE is ignored in C_UnwrapKey; it is set once more and read back."},
     false},
    {"IBM",
     "EP11",
     KBS_TOKEN_CLASS_HARDWARE,
     false,
     CKD_SHA256_KDF_SP800,
     {"EP11: documented without AES Key Wrap, so no recipient can be made for an EC key; not run on "
      "hardware by this project."},
     false},
    {"Kryoptic",
     "",
     KBS_TOKEN_CLASS_SOFTWARE,
     false,
     CKD_SHA256_KDF_SP800,
     {"kryoptic: documented to do every token-local rung; not run by this project."},
     false},
    {"Safe", "Luna", KBS_TOKEN_CLASS_HARDWARE, false, QUIRK_LUNA_CONCAT_KDF, QUIRK_LUNA_NOTES,
     false},
    {"Thales", "Luna", KBS_TOKEN_CLASS_HARDWARE, false, QUIRK_LUNA_CONCAT_KDF, QUIRK_LUNA_NOTES,
     false},
    {"nCipher Corp. Ltd",
     "",
     KBS_TOKEN_CLASS_HARDWARE,
     false,
     CKD_SHA256_KDF_SP800,
     {"nShield: not run on hardware by this project; send the output of kbs-token --probe.",
      "nShield: CKNFAST_OVERRIDE_SECURITY_ASSURANCES decides about extractable and imported keys; read "
      "its manual before setting it."},
     false},
    {"Yubico",
     "YubiHSM",
     KBS_TOKEN_CLASS_HARDWARE_HOST_ASSISTED,
     false,
     CKD_SHA256_KDF_SP800,
     {"YubiHSM: derives in the host's library, and wraps no secret key under a session key: no rung is "
      "expected to pass; not run on hardware by this project."},
     false},
    /* A container image for tests has the same names. */
    {"Nitrokey GmbH",
     "NetHSM",
     KBS_TOKEN_CLASS_UNKNOWN,
     false,
     CKD_SHA256_KDF_SP800,
     {"NetHSM: its module has neither C_DeriveKey nor C_WrapKey: it cannot release keys."},
     false},
};

static const struct kbs_quirk quirk_unknown = {
    "",
    "",
    KBS_TOKEN_CLASS_UNKNOWN,
    false,
    CKD_SHA256_KDF_SP800,
    {"This token is not in the table of known tokens, so its class is unknown; send the output of "
     "kbs-token --probe to have it added."},
    false};

const struct kbs_quirk *kbs_quirk_find(const char *manufacturer, const char *model)
{
    for (size_t i = 0; i < sizeof(quirks) / sizeof(quirks[0]); i++) {
        if (kbs_span_starts_with(kbs_span_str(manufacturer), quirks[i].manufacturer) &&
            kbs_span_starts_with(kbs_span_str(model), quirks[i].model)) {
            return &quirks[i];
        }
    }
    return &quirk_unknown;
}
