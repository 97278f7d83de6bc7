/*
 * What the mock is: which mechanisms, which lies, how slow. Read once, at C_Initialize, from the
 * file that KBS_MOCK_CONF names. Without that variable SoftHSM's own (SOFTHSM2_CONF) is read, whose
 * directories.tokendir means the same folder, so that whatever can set up SoftHSM, `kbs-admin init`
 * among it, can set up the mock. Lines are `name = value`; SoftHSM's other names are passed over,
 * anything else that is not known ends the start.
 *
 * A profile only takes away. Several can be named: what is left is what all of them have.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mock.h"

#define LINE_BYTES 4096

const struct mock_mechanism mock_mechanisms[] = {
    {CKM_EC_KEY_PAIR_GEN, "CKM_EC_KEY_PAIR_GEN", CKF_GENERATE_KEY_PAIR, 256, 521},
    {CKM_RSA_PKCS_KEY_PAIR_GEN, "CKM_RSA_PKCS_KEY_PAIR_GEN", CKF_GENERATE_KEY_PAIR, 2048, 4096},
    {CKM_AES_KEY_GEN, "CKM_AES_KEY_GEN", CKF_GENERATE, 16, 32},
    {CKM_GENERIC_SECRET_KEY_GEN, "CKM_GENERIC_SECRET_KEY_GEN", CKF_GENERATE, 1, 512},
    {CKM_ECDH1_DERIVE, "CKM_ECDH1_DERIVE", CKF_DERIVE, 256, 521},
    {CKM_HKDF_DERIVE, "CKM_HKDF_DERIVE", CKF_DERIVE, 1, 512},
    {CKM_CONCATENATE_BASE_AND_DATA, "CKM_CONCATENATE_BASE_AND_DATA", CKF_DERIVE, 1, 4096},
    {CKM_CONCATENATE_DATA_AND_BASE, "CKM_CONCATENATE_DATA_AND_BASE", CKF_DERIVE, 1, 4096},
    {CKM_SHA256_KEY_DERIVATION, "CKM_SHA256_KEY_DERIVATION", CKF_DERIVE, 1, 32},
    {CKM_AES_CBC_ENCRYPT_DATA, "CKM_AES_CBC_ENCRYPT_DATA", CKF_DERIVE, 16, 32},
    {CKM_AES_KEY_WRAP, "CKM_AES_KEY_WRAP", CKF_WRAP | CKF_UNWRAP, 16, 32},
    {CKM_AES_KEY_WRAP_PAD, "CKM_AES_KEY_WRAP_PAD", CKF_WRAP | CKF_UNWRAP, 16, 32},
    {CKM_AES_KEY_WRAP_KWP, "CKM_AES_KEY_WRAP_KWP", CKF_WRAP | CKF_UNWRAP, 16, 32},
    {CKM_RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP", CKF_WRAP | CKF_UNWRAP | CKF_ENCRYPT | CKF_DECRYPT,
     2048, 4096},
    {CKM_RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS", CKF_SIGN, 2048, 4096},
    {CKM_RSA_PKCS, "CKM_RSA_PKCS", CKF_SIGN, 2048, 4096},
    {CKM_AES_GCM, "CKM_AES_GCM", CKF_WRAP | CKF_UNWRAP | CKF_ENCRYPT | CKF_DECRYPT, 16, 32},
    {CKM_AES_CMAC, "CKM_AES_CMAC", CKF_SIGN | CKF_VERIFY, 16, 32},
    {CKM_SHA256_HMAC, "CKM_SHA256_HMAC", CKF_SIGN | CKF_VERIFY, 1, 512},
    {CKM_SHA256, "CKM_SHA256", CKF_DIGEST, 0, 0},
    {CKM_ECDSA, "CKM_ECDSA", CKF_SIGN | CKF_VERIFY, 256, 521},
    {CKM_ECDSA_SHA256, "CKM_ECDSA_SHA256", CKF_SIGN | CKF_VERIFY, 256, 521},
};
const size_t mock_mechanism_count = sizeof(mock_mechanisms) / sizeof(mock_mechanisms[0]);
_Static_assert(sizeof(mock_mechanisms) / sizeof(mock_mechanisms[0]) <= MOCK_MECHANISMS_MAX,
               "mock_conf.without has room for every mechanism");

#define KDF_STANDARD (MOCK_KDF_NULL | MOCK_KDF_X963 | MOCK_KDF_SP800)

/* What a token of that kind has not. Shapes of vendors, as far as they are known, not copies. */
static const struct profile {
    const char *name;
    unsigned int kdfs;
    unsigned int refusals;
    CK_MECHANISM_TYPE without[10];
} profiles[] = {
    {"all", KDF_STANDARD, 0, {0}},
    {"luna",
     MOCK_KDF_X963 | MOCK_KDF_LUNA,
     0,
     {CKM_HKDF_DERIVE, CKM_CONCATENATE_BASE_AND_DATA, CKM_CONCATENATE_DATA_AND_BASE,
      CKM_SHA256_KEY_DERIVATION}},
    {"nshield-like",
     MOCK_KDF_NULL | MOCK_KDF_X963,
     MOCK_REFUSE_DIGEST_KEY,
     {CKM_HKDF_DERIVE, CKM_SHA256_KEY_DERIVATION, CKM_AES_GCM}},
    {"kryoptic", KDF_STANDARD, 0, {CKM_SHA256_KEY_DERIVATION, CKM_AES_KEY_WRAP_PAD}},
    {"softhsm",
     MOCK_KDF_NULL,
     MOCK_REFUSE_VALUE_LEN,
     {CKM_HKDF_DERIVE, CKM_CONCATENATE_BASE_AND_DATA, CKM_CONCATENATE_DATA_AND_BASE,
      CKM_SHA256_KEY_DERIVATION, CKM_AES_KEY_WRAP_KWP, CKM_AES_GCM, CKM_ECDSA_SHA256}},
    {"rsa-only",
     KDF_STANDARD,
     0,
     {CKM_EC_KEY_PAIR_GEN, CKM_ECDH1_DERIVE, CKM_ECDSA, CKM_ECDSA_SHA256, CKM_HKDF_DERIVE}},
    {"value-len", KDF_STANDARD | MOCK_KDF_LUNA, MOCK_NEED_VALUE_LEN, {0}},
    {"fips3", KDF_STANDARD | MOCK_KDF_LUNA, MOCK_REFUSE_IMPORT, {0}},
    {"no-kw",
     KDF_STANDARD | MOCK_KDF_LUNA,
     0,
     {CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP_KWP}},
    {"no-gcm", KDF_STANDARD | MOCK_KDF_LUNA, 0, {CKM_AES_GCM}},
};

static const struct {
    const char *name;
    enum mock_lie lie;
} lies[] = {
    {"unwrap-readable", MOCK_LIE_UNWRAP_READABLE},
    {"zero-pad", MOCK_LIE_ZERO_PAD},
    {"extractable", MOCK_LIE_EXTRACTABLE},
    {"no-value-len", MOCK_LIE_NO_VALUE_LEN},
};

static size_t mechanism_index(CK_MECHANISM_TYPE type)
{
    size_t i = 0;

    while (i < mock_mechanism_count && mock_mechanisms[i].type != type) {
        i++;
    }
    return i;
}

bool mock_conf_has(const struct mock_conf *c, CK_MECHANISM_TYPE type, CK_FLAGS flags)
{
    size_t i = mechanism_index(type);

    return i < mock_mechanism_count && !c->without[i] &&
           (mock_mechanisms[i].flags & flags) == flags;
}

static bool take_profile(struct mock_conf *c, const char *name)
{
    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        const struct profile *p = &profiles[i];

        if (strcmp(p->name, name) != 0) {
            continue;
        }
        c->kdfs &= p->kdfs;
        c->refusals |= p->refusals;
        for (size_t m = 0; m < 10 && p->without[m] != 0; m++) {
            c->without[mechanism_index(p->without[m])] = true;
        }
        return true;
    }
    return false;
}

static bool take_without(struct mock_conf *c, const char *name)
{
    for (size_t i = 0; i < mock_mechanism_count; i++) {
        if (strcmp(mock_mechanisms[i].name, name) == 0) {
            c->without[i] = true;
            return true;
        }
    }
    return false;
}

static bool take_lie(struct mock_conf *c, const char *name)
{
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        if (strcmp(lies[i].name, name) == 0) {
            c->lies |= (unsigned int)lies[i].lie;
            return true;
        }
    }
    return false;
}

/* `latency = 10` or `latency = C_WrapKey 10 C_DeriveKey 3`. */
static bool take_latency(char *value, uint32_t latency_ms[])
{
    char *save = NULL;
    const char *word = strtok_r(value, " ", &save);
    enum mock_function f = MOCK_FUNCTION_COUNT;

    for (; word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *end = NULL;
        unsigned long ms = strtoul(word, &end, 10);

        if (*end != '\0') {
            f = mock_function_of(word);
            if (f == MOCK_FUNCTION_COUNT) {
                return false;
            }
            continue;
        }
        for (int i = 0; i < MOCK_FUNCTION_COUNT; i++) {
            if (f == MOCK_FUNCTION_COUNT || i == (int)f) {
                latency_ms[i] = (uint32_t)ms;
            }
        }
    }
    return true;
}

static bool take_words(struct mock_conf *c, char *value,
                       bool (*take)(struct mock_conf *c, const char *word))
{
    char *save = NULL;

    for (const char *word = strtok_r(value, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save)) {
        if (!take(c, word)) {
            return false;
        }
    }
    return true;
}

static bool take_text(char *out, size_t size, const char *value)
{
    return (size_t)snprintf(out, size, "%s", value) < size;
}

static bool take(struct mock_conf *c, uint32_t latency_ms[], const char *name, char *value)
{
    if (strcmp(name, "folder") == 0 || strcmp(name, "directories.tokendir") == 0) {
        return take_text(c->folder, sizeof(c->folder), value);
    }
    if (strcmp(name, "manufacturer") == 0) {
        return take_text(c->manufacturer, sizeof(c->manufacturer), value);
    }
    if (strcmp(name, "model") == 0) {
        return take_text(c->model, sizeof(c->model), value);
    }
    if (strcmp(name, "serial") == 0) {
        return take_text(c->serial, sizeof(c->serial), value);
    }
    if (strcmp(name, "profile") == 0) {
        c->kdfs = strstr(value, "luna") != NULL ? KDF_STANDARD | MOCK_KDF_LUNA : KDF_STANDARD;
        return take_words(c, value, take_profile);
    }
    if (strcmp(name, "without") == 0) {
        return take_words(c, value, take_without);
    }
    if (strcmp(name, "lies") == 0) {
        return take_words(c, value, take_lie);
    }
    if (strcmp(name, "latency") == 0) {
        return take_latency(value, latency_ms);
    }
    if (strcmp(name, "pin_tries") == 0) {
        c->pin_tries = (unsigned int)strtoul(value, NULL, 10);
        return c->pin_tries > 0;
    }
    return strcmp(name, "objectstore.backend") == 0 || strncmp(name, "log.", 4) == 0 ||
           strncmp(name, "slots.", 6) == 0; /* SoftHSM's */
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text)
{
    size_t n;

    text += strspn(text, " \t");
    n = strlen(text);
    while (n > 0 && strchr(" \t\n", text[n - 1]) != NULL) {
        text[--n] = '\0';
    }
    return text;
}

bool mock_conf_read(struct mock_conf *ret, uint32_t latency_ms[])
{
    const char *own = getenv("KBS_MOCK_CONF");
    const char *path = own != NULL ? own : getenv("SOFTHSM2_CONF");
    FILE *f = path != NULL ? fopen(path, "re") : NULL;
    char line[LINE_BYTES];
    bool ok = f != NULL;

    *ret = (struct mock_conf){.manufacturer = "kbs-hsm",
                              .model = "mock",
                              .serial = "1",
                              .pin_tries = 10,
                              .kdfs = KDF_STANDARD};
    while (ok && fgets(line, sizeof(line), f) != NULL) {
        char *equals = strchr(line, '=');
        char *name = trim(line);

        if (*name == '\0' || *name == '#') {
            continue;
        }
        ok = equals != NULL;
        if (ok) {
            *equals = '\0';
            ok = take(ret, latency_ms, trim(name), trim(equals + 1));
        }
        if (!ok) {
            (void)fprintf(stderr, "mock: %s: what is this: %s\n", path, name);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return ok && ret->folder[0] != '\0';
}
