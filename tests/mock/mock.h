/*
 * The mock PKCS#11 module, inside. What it is for and how it is told what to do: README.md in this
 * folder. Every function that returns a CK_RV does so in PKCS#11's meaning; all of them run under
 * one lock, taken in entry.c.
 */
#ifndef KBS_TESTS_MOCK_H
#define KBS_TESTS_MOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hsm/p11.h"

/* Of PKCS#11 3.0, for headers that stop at 2.40. */
#ifndef CKM_AES_KEY_WRAP_KWP
#define CKM_AES_KEY_WRAP_KWP (0x210bUL)
#endif
#ifndef CKD_SHA256_KDF_SP800
#define CKD_SHA256_KDF_SP800 (0x10UL)
#endif
#ifndef CKF_HKDF_SALT_NULL
#define CKF_HKDF_SALT_NULL (1UL)
#endif
#ifndef CKF_HKDF_SALT_KEY
#define CKF_HKDF_SALT_KEY (4UL)
#endif
#define MOCK_CKD_LUNA (0x80000014UL) /* Luna's own number for the Concat KDF with SHA-256 */

#define MOCK_VALUE_MAX 8192u  /* bytes of one attribute, and of one wrapped key */
#define MOCK_DATA_MAX 262144u /* bytes of what is encrypted, decrypted or signed at once */

/* ---- configuration ---- */

enum mock_lie {
    MOCK_LIE_UNWRAP_READABLE = 1, /* C_UnwrapKey ignores CKA_SENSITIVE, as openCryptoki does */
    MOCK_LIE_ZERO_PAD = 2,        /* AES Key Wrap fills a key of odd length with zeros */
    MOCK_LIE_EXTRACTABLE = 4,     /* CKA_EXTRACTABLE=FALSE is stored and not minded, as in NSS */
    MOCK_LIE_NO_VALUE_LEN = 8 /* derived and unwrapped keys say CKA_VALUE_LEN 0, as in SoftHSM */
};

enum mock_refusal {
    MOCK_REFUSE_IMPORT = 1,     /* C_CreateObject of secret and private keys: FIPS 140 level 3 */
    MOCK_REFUSE_DIGEST_KEY = 2, /* C_DigestKey */
    MOCK_REFUSE_VALUE_LEN = 4,  /* CKA_VALUE_LEN in C_UnwrapKey */
    MOCK_NEED_VALUE_LEN = 8     /* CKA_VALUE_LEN is wanted in C_UnwrapKey: Luna before 7.9.3 */
};

#define MOCK_MECHANISMS_MAX 40u

struct mock_conf {
    char folder[3500]; /* of the token: journal, calls, script */
    char manufacturer[33];
    char model[17];
    char serial[17];
    unsigned int pin_tries;
    unsigned int lies;                 /* bits of enum mock_lie */
    unsigned int refusals;             /* bits of enum mock_refusal */
    bool without[MOCK_MECHANISMS_MAX]; /* by index of mock_mechanisms */
    unsigned int kdfs;                 /* bits: 1 NULL, 2 X9.63, 4 SP800, 8 Luna's */
};

struct mock_mechanism {
    CK_MECHANISM_TYPE type;
    const char *name;
    CK_FLAGS flags; /* of CK_MECHANISM_INFO */
    CK_ULONG min;
    CK_ULONG max;
};
extern const struct mock_mechanism mock_mechanisms[];
extern const size_t mock_mechanism_count;

#define MOCK_KDF_NULL 1u
#define MOCK_KDF_X963 2u
#define MOCK_KDF_SP800 4u
#define MOCK_KDF_LUNA 8u

/* Reads the file that KBS_MOCK_CONF names, or SOFTHSM2_CONF if that is not set. False, and a line
 * on stderr, if there is none or a line of it makes no sense. */
bool mock_conf_read(struct mock_conf *ret, uint32_t latency_ms[]);
/* The mechanism exists in this configuration and has all of `flags`. */
bool mock_conf_has(const struct mock_conf *c, CK_MECHANISM_TYPE type, CK_FLAGS flags);

/* ---- functions, their scripts and their counters ---- */

/* In the order of CK_FUNCTION_LIST; only those that the mock implements. */
enum mock_function {
    MOCK_C_INITIALIZE,
    MOCK_C_FINALIZE,
    MOCK_C_GET_INFO,
    MOCK_C_GET_SLOT_LIST,
    MOCK_C_GET_SLOT_INFO,
    MOCK_C_GET_TOKEN_INFO,
    MOCK_C_GET_MECHANISM_LIST,
    MOCK_C_GET_MECHANISM_INFO,
    MOCK_C_INIT_TOKEN,
    MOCK_C_INIT_PIN,
    MOCK_C_SET_PIN,
    MOCK_C_OPEN_SESSION,
    MOCK_C_CLOSE_SESSION,
    MOCK_C_CLOSE_ALL_SESSIONS,
    MOCK_C_GET_SESSION_INFO,
    MOCK_C_LOGIN,
    MOCK_C_LOGOUT,
    MOCK_C_CREATE_OBJECT,
    MOCK_C_COPY_OBJECT,
    MOCK_C_DESTROY_OBJECT,
    MOCK_C_GET_ATTRIBUTE_VALUE,
    MOCK_C_SET_ATTRIBUTE_VALUE,
    MOCK_C_FIND_OBJECTS_INIT,
    MOCK_C_FIND_OBJECTS,
    MOCK_C_FIND_OBJECTS_FINAL,
    MOCK_C_ENCRYPT_INIT,
    MOCK_C_ENCRYPT,
    MOCK_C_DECRYPT_INIT,
    MOCK_C_DECRYPT,
    MOCK_C_DIGEST_INIT,
    MOCK_C_DIGEST,
    MOCK_C_DIGEST_UPDATE,
    MOCK_C_DIGEST_KEY,
    MOCK_C_DIGEST_FINAL,
    MOCK_C_SIGN_INIT,
    MOCK_C_SIGN,
    MOCK_C_VERIFY_INIT,
    MOCK_C_VERIFY,
    MOCK_C_GENERATE_KEY,
    MOCK_C_GENERATE_KEY_PAIR,
    MOCK_C_WRAP_KEY,
    MOCK_C_UNWRAP_KEY,
    MOCK_C_DERIVE_KEY,
    MOCK_C_GENERATE_RANDOM,
    MOCK_FUNCTION_COUNT
};
const char *mock_function_name(enum mock_function f);
/* MOCK_FUNCTION_COUNT if there is none of that name. */
enum mock_function mock_function_of(const char *name);

/* One call, from its entry to its return. */
struct mock_call {
    enum mock_function function;
    CK_RV rv;          /* planned; CKR_OK: the call is to be done */
    bool garble;       /* the answer has one bit wrong */
    bool wrong_length; /* the answer is one byte short */
};

/* Opens counters and script in the token's folder. False if they cannot be opened. */
bool mock_script_open(const char *folder);
void mock_script_close(void);
/*
 * Counts the call, waits, and says what is planned for it. May not return (hang, exit). Others may come in
 * while it waits, and C_Finalize be among them.
 */
void mock_script_apply(struct mock_call *c, uint32_t latency_ms);
/* entry.c: waits without the lock that all of this runs under. */
void mock_wait(unsigned long ms);
/* A script has made the token vanish. */
bool mock_script_vanished(void);
/* Counts a login that was tried with a PIN that is not the token's. */
void mock_script_count_wrong_pin(void);

/* ---- objects ---- */

#define MOCK_ATTRIBUTES_MAX 48u

struct mock_attribute {
    CK_ATTRIBUTE_TYPE type;
    CK_ULONG len;
    uint8_t *p; /* owned, NULL if len is 0 */
};

struct mock_object {
    CK_OBJECT_HANDLE handle;
    CK_SESSION_HANDLE session; /* session objects: theirs; 0: a token object */
    size_t n;
    struct mock_attribute a[MOCK_ATTRIBUTES_MAX];
};

struct mock_object *mock_object_new(void);
void mock_object_free(struct mock_object *o); /* wipes; NULL is fine */
struct mock_object *mock_object_copy(const struct mock_object *o);
void mock_object_set(struct mock_object *o, CK_ATTRIBUTE_TYPE type, const void *p, size_t len);
void mock_object_set_bool(struct mock_object *o, CK_ATTRIBUTE_TYPE type, bool value);
void mock_object_set_number(struct mock_object *o, CK_ATTRIBUTE_TYPE type, CK_ULONG value);
const struct mock_attribute *mock_object_get(const struct mock_object *o, CK_ATTRIBUTE_TYPE type);
bool mock_object_bool(const struct mock_object *o, CK_ATTRIBUTE_TYPE type);
CK_ULONG mock_object_number(const struct mock_object *o, CK_ATTRIBUTE_TYPE type); /* ~0 if none */

/* How an object comes to be: what its template may hold, and what is written into it. */
enum mock_birth {
    MOCK_BORN_CREATED,
    MOCK_BORN_GENERATED,
    MOCK_BORN_DERIVED,
    MOCK_BORN_UNWRAPPED
};

/*
 * A new object from a template: every attribute known, of the right size and allowed at this birth,
 * defaults filled in. `class` and `type` are what the mechanism makes, ~0 where the template says.
 */
CK_RV mock_object_from_template(const CK_ATTRIBUTE *t, CK_ULONG n, enum mock_birth birth,
                                CK_ULONG class, CK_ULONG type, struct mock_object **ret);
/* The value of a secret key, with CKA_VALUE_LEN, CKA_CHECK_VALUE and the history flags. `base`:
 * what it was derived from, NULL for none. `mechanism` of generation, ~0 for none. */
CK_RV mock_object_finish_secret(struct mock_object *o, enum mock_birth birth, const uint8_t *value,
                                size_t len, const struct mock_object *base, CK_ULONG mechanism);
/* The history flags of a private key. */
void mock_object_finish_private(struct mock_object *o, enum mock_birth birth, CK_ULONG mechanism);

/* ---- the token's folder ---- */

struct mock_pins {
    bool initialized;
    bool user_set;
    uint8_t so[32]; /* SHA-256 of label and PIN */
    uint8_t user[32];
    uint32_t so_failures;
    uint32_t user_failures;
    uint8_t label[32];
};

bool mock_store_open(const char *folder);
void mock_store_close(void);
/* Takes up what other processes have written. */
void mock_store_sync(void);
const struct mock_pins *mock_store_pins(void);
/* These lock, sync, append one transaction and apply it. */
CK_RV mock_store_set_pins(const struct mock_pins *pins);
CK_RV mock_store_reset(const struct mock_pins *pins); /* C_InitToken: no object stays */
/* Gives the objects handles. Borrows them: what stays is what the journal says. */
CK_RV mock_store_put(struct mock_object **objects, size_t n);
CK_RV mock_store_replace(const struct mock_object *o); /* the same handle; borrows it */
CK_RV mock_store_remove(CK_OBJECT_HANDLE handle);
size_t mock_store_count(void);
struct mock_object *mock_store_at(size_t i);

/* ---- sessions ---- */

enum mock_operation {
    MOCK_OP_NONE,
    MOCK_OP_ENCRYPT,
    MOCK_OP_DECRYPT,
    MOCK_OP_SIGN,
    MOCK_OP_VERIFY,
    MOCK_OP_COUNT
};

struct mock_active {
    CK_MECHANISM_TYPE mechanism; /* 0: none */
    struct mock_object *key;     /* a copy, owned */
    uint8_t iv[16];
    size_t iv_len;
    uint8_t aad[1024];
    size_t aad_len;
    size_t tag_len;
    CK_ULONG hash; /* OAEP, PSS */
    CK_ULONG mgf;
    CK_ULONG salt; /* PSS */
};

struct mock_session {
    CK_SESSION_HANDLE handle;
    bool rw;
    struct mock_active active[MOCK_OP_COUNT];
    void *digest; /* EVP_MD_CTX of C_Digest*, NULL: none */
    bool finding;
    CK_OBJECT_HANDLE *found;
    size_t found_n;
    size_t found_next;
};

struct mock {
    bool initialized;
    struct mock_conf conf;
    uint32_t latency_ms[MOCK_FUNCTION_COUNT];
    bool user; /* who is logged in: this process's sessions share it */
    bool so;
    CK_ULONG next_session;
    CK_ULONG next_object;
    size_t sessions_n;
    struct mock_session **sessions;
    size_t objects_n;
    struct mock_object **objects; /* session objects */
};
extern struct mock mock;

CK_RV mock_session_find(CK_SESSION_HANDLE handle, struct mock_session **ret);
/* Copies, with the two-call convention for lengths. */
CK_RV mock_give(const uint8_t *value, size_t len, CK_BYTE_PTR out, CK_ULONG_PTR out_len);
/* An object that this process may see now; `missing` if there is none. */
CK_RV mock_find_object(CK_OBJECT_HANDLE handle, CK_RV missing, struct mock_object **ret);
/* Takes n new objects into the token or the session, as their CKA_TOKEN says. */
CK_RV mock_adopt(struct mock_session *s, struct mock_object **objects, size_t n);

CK_RV mock_initialize(void *args);
CK_RV mock_finalize(void);
CK_RV mock_slot_list(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n);
CK_RV mock_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info);
CK_RV mock_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info);
CK_RV mock_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *n);
CK_RV mock_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info);
CK_RV mock_init_token(CK_SLOT_ID slot, const uint8_t *pin, CK_ULONG len, const uint8_t *label);
CK_RV mock_init_pin(CK_SESSION_HANDLE s, const uint8_t *pin, CK_ULONG len);
CK_RV mock_set_pin(CK_SESSION_HANDLE s, const uint8_t *old, CK_ULONG old_len, const uint8_t *pin,
                   CK_ULONG len);
CK_RV mock_open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_SESSION_HANDLE *ret);
CK_RV mock_close_session(CK_SESSION_HANDLE s);
CK_RV mock_close_all(CK_SLOT_ID slot);
CK_RV mock_session_info(CK_SESSION_HANDLE s, CK_SESSION_INFO *info);
CK_RV mock_login(CK_SESSION_HANDLE s, CK_USER_TYPE user, const uint8_t *pin, CK_ULONG len);
CK_RV mock_logout(CK_SESSION_HANDLE s);

CK_RV mock_create(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *ret);
CK_RV mock_copy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n,
                CK_OBJECT_HANDLE *ret);
CK_RV mock_destroy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o);
CK_RV mock_get_attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n);
CK_RV mock_set_attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n);
CK_RV mock_find_init(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n);
CK_RV mock_find_next(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *list, CK_ULONG max, CK_ULONG *n);
CK_RV mock_find_final(CK_SESSION_HANDLE s);

CK_RV mock_generate(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,
                    CK_OBJECT_HANDLE *ret);
CK_RV mock_generate_pair(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *pub, CK_ULONG pub_n,
                         CK_ATTRIBUTE *priv, CK_ULONG priv_n, CK_OBJECT_HANDLE *ret_pub,
                         CK_OBJECT_HANDLE *ret_priv);
CK_RV mock_derive(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE base, CK_ATTRIBUTE *t,
                  CK_ULONG n, CK_OBJECT_HANDLE *ret);
CK_RV mock_wrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE wrapping,
                CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *len);
CK_RV mock_unwrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE unwrapping,
                  const CK_BYTE *blob, CK_ULONG len, CK_ATTRIBUTE *t, CK_ULONG n,
                  CK_OBJECT_HANDLE *ret);

/* The parameters of a wrapping or encrypting mechanism, checked against the key's type. */
CK_RV mock_take_cipher(const CK_MECHANISM *m, const struct mock_object *key, struct mock_active *p);
/* in -> out (room for MOCK_VALUE_MAX + 64) by the mechanism of `p`. */
bool mock_cipher(bool seal, const struct mock_active *p, const struct mock_object *key,
                 const uint8_t *in, size_t n, uint8_t *out, size_t *len);

CK_RV mock_operation_init(CK_SESSION_HANDLE s, enum mock_operation op, CK_MECHANISM *m,
                          CK_OBJECT_HANDLE key);
CK_RV mock_operation(CK_SESSION_HANDLE s, enum mock_operation op, const CK_BYTE *in, CK_ULONG n,
                     CK_BYTE *out, CK_ULONG *len);
CK_RV mock_verify(CK_SESSION_HANDLE s, const CK_BYTE *in, CK_ULONG n, const CK_BYTE *signature,
                  CK_ULONG len);
CK_RV mock_digest_init(CK_SESSION_HANDLE s, CK_MECHANISM *m);
CK_RV mock_digest_update(CK_SESSION_HANDLE s, const CK_BYTE *in, CK_ULONG n);
CK_RV mock_digest_key(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key);
CK_RV mock_digest_final(CK_SESSION_HANDLE s, CK_BYTE *out, CK_ULONG *len);
void mock_active_clear(struct mock_active *a);

/* ---- cryptography: bytes in, bytes out; false on any failure ---- */

bool mock_kw(bool pad, const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t n,
             uint8_t *out, size_t *len);
bool mock_kw_open(bool pad, const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t n,
                  uint8_t *out, size_t *len);
bool mock_gcm(bool seal, const struct mock_active *p, const uint8_t *key, size_t key_len,
              const uint8_t *in, size_t n, uint8_t *out, size_t *len);
/* CBC without padding; n is a multiple of 16. */
bool mock_cbc(const uint8_t *key, size_t key_len, const uint8_t iv[16], const uint8_t *in, size_t n,
              uint8_t *out);
bool mock_cmac(const uint8_t *key, size_t key_len, const uint8_t *in, size_t n, uint8_t out[16]);
bool mock_hmac(const uint8_t *key, size_t key_len, const uint8_t *in, size_t n, uint8_t out[32]);
/* name: "X963KDF" or "SSKDF" with SHA-256. */
bool mock_kdf(const char *name, const uint8_t *z, size_t n, const uint8_t *info, size_t info_n,
              uint8_t *out, size_t len);
bool mock_hkdf(bool extract, bool expand, const uint8_t *key, size_t n, const uint8_t *salt,
               size_t salt_n, const uint8_t *info, size_t info_n, uint8_t *out, size_t len);
/* The curve of a CKA_EC_PARAMS: OpenSSL's name and field size; NULL if not supported. */
const char *mock_curve(const struct mock_attribute *params, size_t *ret_field);
/* A new pair: uncompressed point and scalar, field-sized. */
bool mock_ec_new(const char *group, size_t field, uint8_t *point, uint8_t *scalar);
bool mock_ecdh(const char *group, size_t field, const uint8_t *scalar, const uint8_t *peer,
               size_t peer_n, uint8_t *z);
bool mock_ecdsa(const char *group, size_t field, const uint8_t *scalar, const uint8_t *digest,
                size_t n, uint8_t *rs);
bool mock_ecdsa_verify(const char *group, size_t field, const uint8_t *point, size_t point_n,
                       const uint8_t *digest, size_t n, const uint8_t *rs);
bool mock_rsa_new(unsigned int bits, struct mock_object *pub, struct mock_object *priv);
/* OAEP with the RSA key of an object; `hash` and `mgf` as CK_RSA_PKCS_OAEP_PARAMS has them. */
bool mock_oaep(bool seal, const struct mock_object *key, CK_ULONG hash, CK_ULONG mgf,
               const uint8_t *in, size_t n, uint8_t *out, size_t *len);
bool mock_sha256(const uint8_t *in, size_t n, uint8_t out[32]);
/* RSASSA of a digest by the private key of an object: PSS, or PKCS#1 v1.5 whose DigestInfo is in `in`. */
bool mock_rsa_sign(const struct mock_object *key, const CK_RSA_PKCS_PSS_PARAMS *pss,
                   const uint8_t *in, size_t n, uint8_t *out, size_t *len);

#endif
