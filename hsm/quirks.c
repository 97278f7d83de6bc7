/*
 * The class of a token (hardware, software) is a claim about the world behind the module, which no
 * probe can make: NSS and SoftHSM pass rungs that some hardware does not. So it comes from this
 * table, by the names that the token gives itself, and a token that is not listed is "unknown"
 * whatever it says. So are those whose vendor ships a simulator under the names of the device.
 *
 * Mechanisms are not listed here: the ladder finds out by doing. What a token ignores in a template
 * is not here either: every object is read back, and what can be mended is (object.c). One
 * exception is a number: Luna's own for the Concat KDF means something else elsewhere, so it is
 * tried on Luna only.
 *
 * docs/tokens has a page per family, with what these notes are too short for.
 */
#include "hsm/quirks.h"

/* CKD_SHA256_NIST_KDF of Thales' header. */
#define QUIRK_LUNA_CONCAT_KDF 0x80000014UL

/* Where a page of docs/tokens says "not run on hardware", so does the first note. */
#define QUIRK_NOT_RUN "not run on hardware by this project; send the output of kbs-token --probe."

static const char *const notes_softhsm[] = {
    "SoftHSM: it has no KDF of JOSE's or COSE's, so releases to EC keys are by transport. To RSA "
    "keys only RSA-OAEP with SHA-1.",
    "SoftHSM: it signs no HMAC-SHA-256 with keys under 32 bytes, so the check value of shorter "
    "AES keys is AES-CMAC.",
    NULL};
static const char *const notes_nss[] = {
    "NSS: a store of keys, not a keeper of rules: it does not enforce CKA_EXTRACTABLE of secret "
    "keys or CKA_DERIVE.",
    "NSS: its mechanism list does not name the concatenations that it does.", NULL};
static const char *const notes_opencryptoki[] = {
    "openCryptoki: pkcsslotd must run, and the service's user be in group pkcs11.",
    "openCryptoki: JOSE-KDF and AES Key Wrap need 3.25 or newer; older ones do RSA-OAEP only.",
    "openCryptoki: it has no HKDF_DERIVE, so COSE is by transport.",
    "openCryptoki: \"disable-event-support\" must be in opencryptoki.conf, or kbs-token cannot "
    "confine itself.",
    "openCryptoki: C_UnwrapKey ignores CKA_SENSITIVE and CKA_EXTRACTABLE; they are set once more "
    "and read back.",
    NULL};
static const char *const notes_ep11[] = {
    "EP11: " QUIRK_NOT_RUN,
    "EP11: documented without AES Key Wrap, so no recipient can be made for an EC key.", NULL};
static const char *const notes_kryoptic[] = {
    "kryoptic: it calls a garbled blob a device error, which is taken for the blob's fault if a "
    "self-test passes.",
    NULL};
static const char *const notes_luna[] = {
    "Luna: " QUIRK_NOT_RUN,
    "Luna: in FIPS mode a partition may refuse ECDH with CKD_NULL and the import of plain keys; "
    "JOSE-KDF needs neither.",
    "Luna: released keys need CKA_EXTRACTABLE, which a partition policy can forbid.", NULL};
static const char *const notes_nshield[] = {
    "nShield: " QUIRK_NOT_RUN,
    "nShield: CKNFAST_OVERRIDE_SECURITY_ASSURANCES decides about extractable and imported keys; "
    "read its manual before setting it.",
    NULL};
static const char *const notes_yubihsm[] = {
    "YubiHSM: " QUIRK_NOT_RUN,
    "YubiHSM: it derives in the host's library and wraps no secret key under a session key: no "
    "rung is expected to pass.",
    NULL};
static const char *const notes_nethsm[] = {
    "NetHSM: its module has neither C_DeriveKey nor C_WrapKey: it cannot release keys.", NULL};
static const char *const notes_unknown[] = {
    "This token is not in the table of known tokens, so its class is unknown; send the output of "
    "kbs-token --probe to have it added.",
    NULL};

static const struct kbs_quirk quirks[] = {
    {.manufacturer = "SoftHSM project",
     .model = "SoftHSM",
     .class = KBS_TOKEN_CLASS_SOFTWARE,
     .leaks_objects = true,
     /* Handles are counted up, and one whose object is gone stays invalid. */
     .handles_are_unique = true,
     .notes = notes_softhsm},
    /* An empty key database takes the first PIN from a security officer who logs in without one. */
    {.manufacturer = "Mozilla Foundation",
     .model = "NSS",
     .class = KBS_TOKEN_CLASS_SOFTWARE,
     .so_pin_empty = true,
     .notes = notes_nss},
    {.manufacturer = "IBM",
     .model = "Soft",
     .class = KBS_TOKEN_CLASS_SOFTWARE,
     .opencryptoki = true,
     .notes = notes_opencryptoki},
    {.manufacturer = "IBM",
     .model = "EP11",
     .class = KBS_TOKEN_CLASS_HARDWARE,
     .notes = notes_ep11},
    {.manufacturer = "Kryoptic",
     .model = "",
     .class = KBS_TOKEN_CLASS_SOFTWARE,
     .notes = notes_kryoptic},
    {.manufacturer = "Safe", /* spelt SafeNet or Safenet */
     .model = "Luna",
     .class = KBS_TOKEN_CLASS_HARDWARE,
     .concat_kdf = QUIRK_LUNA_CONCAT_KDF,
     .notes = notes_luna},
    {.manufacturer = "Thales",
     .model = "Luna",
     .class = KBS_TOKEN_CLASS_HARDWARE,
     .concat_kdf = QUIRK_LUNA_CONCAT_KDF,
     .notes = notes_luna},
    {.manufacturer = "nCipher Corp. Ltd",
     .model = "",
     .class = KBS_TOKEN_CLASS_HARDWARE,
     .notes = notes_nshield},
    {.manufacturer = "Yubico",
     .model = "YubiHSM",
     .class = KBS_TOKEN_CLASS_HARDWARE_HOST_ASSISTED,
     .notes = notes_yubihsm},
    /* A container image for tests has the same names. */
    {.manufacturer = "Nitrokey GmbH",
     .model = "NetHSM",
     .class = KBS_TOKEN_CLASS_UNKNOWN,
     .notes = notes_nethsm},
};

static const struct kbs_quirk quirk_unknown = {
    .manufacturer = "", .model = "", .class = KBS_TOKEN_CLASS_UNKNOWN, .notes = notes_unknown};

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
