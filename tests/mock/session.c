/* Slot, token, PINs, sessions, and finding objects: PKCS#11 2.40 sections 5.4 to 5.7. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "mock.h"

#define SLOT 7u                    /* not 0, which is easily a mistake */
#define TOKEN_HANDLES 0x40000000UL /* handles of session objects begin here */
#define PIN_MIN_BYTES 4u
#define PIN_MAX_BYTES 256u

struct mock mock;

static CK_RV check_slot(CK_SLOT_ID slot)
{
    if (slot != SLOT) {
        return CKR_SLOT_ID_INVALID;
    }
    return mock_script_vanished() ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
}

static void pad(unsigned char *field, size_t size, const char *text)
{
    size_t n = strlen(text);

    memset(field, ' ', size);
    memcpy(field, text, n < size ? n : size);
}

CK_RV mock_give(const uint8_t *value, size_t len, CK_BYTE_PTR out, CK_ULONG_PTR out_len)
{
    CK_ULONG room;

    if (out_len == NULL) {
        return CKR_ARGUMENTS_BAD;
    }
    room = *out_len;
    *out_len = len;
    if (out == NULL) {
        return CKR_OK;
    }
    if (room < len) {
        return CKR_BUFFER_TOO_SMALL;
    }
    if (len > 0) {
        memcpy(out, value, len);
    }
    return CKR_OK;
}

/* ---- the module ---- */

CK_RV mock_initialize(void *args)
{
    (void)args; /* one lock of our own: the caller's functions are not needed */
    if (mock.initialized) {
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    }
    memset(&mock, 0, sizeof(mock));
    if (!mock_conf_read(&mock.conf, mock.latency_ms) || !mock_script_open(mock.conf.folder)) {
        return CKR_GENERAL_ERROR;
    }
    if (!mock_store_open(mock.conf.folder)) {
        mock_script_close();
        return CKR_GENERAL_ERROR;
    }
    mock.initialized = true;
    mock.next_session = 1;
    mock.next_object = TOKEN_HANDLES;
    return CKR_OK;
}

CK_RV mock_finalize(void)
{
    (void)mock_close_all(SLOT);
    free(mock.sessions);
    free(mock.objects);
    mock_store_close();
    mock_script_close();
    memset(&mock, 0, sizeof(mock));
    return CKR_OK;
}

CK_RV mock_slot_list(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n)
{
    CK_ULONG room;
    CK_ULONG have = present != CK_FALSE && mock_script_vanished() ? 0 : 1;

    if (n == NULL) {
        return CKR_ARGUMENTS_BAD;
    }
    room = *n;
    *n = have;
    if (list == NULL || have == 0) {
        return CKR_OK;
    }
    if (room < have) {
        return CKR_BUFFER_TOO_SMALL;
    }
    list[0] = SLOT;
    return CKR_OK;
}

CK_RV mock_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    if (slot != SLOT) {
        return CKR_SLOT_ID_INVALID;
    }
    memset(info, 0, sizeof(*info));
    pad(info->slotDescription, sizeof(info->slotDescription), "mock slot of the kbs-hsm tests");
    pad(info->manufacturerID, sizeof(info->manufacturerID), mock.conf.manufacturer);
    info->flags = mock_script_vanished() ? 0 : CKF_TOKEN_PRESENT;
    return CKR_OK;
}

CK_RV mock_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    const struct mock_pins *pins = mock_store_pins();
    CK_RV rv = check_slot(slot);

    if (rv != CKR_OK) {
        return rv;
    }
    memset(info, 0, sizeof(*info));
    pad(info->label, sizeof(info->label), "");
    if (pins->initialized) {
        memcpy(info->label, pins->label, sizeof(info->label));
    }
    pad(info->manufacturerID, sizeof(info->manufacturerID), mock.conf.manufacturer);
    pad(info->model, sizeof(info->model), mock.conf.model);
    pad(info->serialNumber, sizeof(info->serialNumber), mock.conf.serial);
    info->flags = CKF_RNG | CKF_LOGIN_REQUIRED;
    info->flags |= pins->initialized ? CKF_TOKEN_INITIALIZED : 0;
    info->flags |= pins->user_set ? CKF_USER_PIN_INITIALIZED : 0;
    info->flags |= pins->user_failures > 0 ? CKF_USER_PIN_COUNT_LOW : 0;
    info->flags |= pins->user_failures + 1 == mock.conf.pin_tries ? CKF_USER_PIN_FINAL_TRY : 0;
    info->flags |= pins->user_failures >= mock.conf.pin_tries ? CKF_USER_PIN_LOCKED : 0;
    info->ulMaxSessionCount = CK_EFFECTIVELY_INFINITE;
    info->ulMaxRwSessionCount = CK_EFFECTIVELY_INFINITE;
    info->ulSessionCount = mock.sessions_n;
    info->ulRwSessionCount = CK_UNAVAILABLE_INFORMATION;
    info->ulMaxPinLen = PIN_MAX_BYTES;
    info->ulMinPinLen = PIN_MIN_BYTES;
    info->ulTotalPublicMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulTotalPrivateMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION;
    return CKR_OK;
}

CK_RV mock_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *n)
{
    CK_MECHANISM_TYPE have[MOCK_MECHANISMS_MAX];
    CK_ULONG count = 0;
    CK_ULONG room;
    CK_RV rv = check_slot(slot);

    if (rv != CKR_OK || n == NULL) {
        return rv != CKR_OK ? rv : CKR_ARGUMENTS_BAD;
    }
    for (size_t i = 0; i < mock_mechanism_count; i++) {
        if (!mock.conf.without[i]) {
            have[count++] = mock_mechanisms[i].type;
        }
    }
    room = *n;
    *n = count;
    if (list == NULL) {
        return CKR_OK;
    }
    if (room < count) {
        return CKR_BUFFER_TOO_SMALL;
    }
    memcpy(list, have, count * sizeof(have[0]));
    return CKR_OK;
}

CK_RV mock_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CK_RV rv = check_slot(slot);

    for (size_t i = 0; rv == CKR_OK && i < mock_mechanism_count; i++) {
        if (mock_mechanisms[i].type == type && !mock.conf.without[i]) {
            info->flags = mock_mechanisms[i].flags;
            info->ulMinKeySize = mock_mechanisms[i].min;
            info->ulMaxKeySize = mock_mechanisms[i].max;
            return CKR_OK;
        }
    }
    return rv != CKR_OK ? rv : CKR_MECHANISM_INVALID;
}

/* ---- PINs ---- */

static bool pin_hash(const struct mock_pins *pins, const uint8_t *pin, CK_ULONG len,
                     uint8_t out[32])
{
    uint8_t text[32 + PIN_MAX_BYTES];
    bool ok;

    if (len > PIN_MAX_BYTES || (len > 0 && pin == NULL)) {
        return false;
    }
    memcpy(text, pins->label, 32);
    if (len > 0) {
        memcpy(text + 32, pin, len);
    }
    ok = mock_sha256(text, 32 + len, out);
    OPENSSL_cleanse(text, sizeof(text));
    return ok;
}

/* Compares, counts failures, forgets them at success. */
static CK_RV pin_check(CK_USER_TYPE user, const uint8_t *pin, CK_ULONG len)
{
    struct mock_pins pins = *mock_store_pins();
    uint32_t *failures = user == CKU_SO ? &pins.so_failures : &pins.user_failures;
    const uint8_t *wanted = user == CKU_SO ? pins.so : pins.user;
    uint8_t got[32];
    bool right;

    if (*failures >= mock.conf.pin_tries) {
        return CKR_PIN_LOCKED;
    }
    right = pin_hash(&pins, pin, len, got) && CRYPTO_memcmp(got, wanted, sizeof(got)) == 0;
    if (right && *failures == 0) {
        return CKR_OK;
    }
    if (!right) {
        mock_script_count_wrong_pin();
    }
    *failures = right ? 0 : *failures + 1;
    if (mock_store_set_pins(&pins) != CKR_OK) {
        return CKR_DEVICE_ERROR;
    }
    return right ? CKR_OK : CKR_PIN_INCORRECT;
}

CK_RV mock_init_token(CK_SLOT_ID slot, const uint8_t *pin, CK_ULONG len, const uint8_t *label)
{
    struct mock_pins pins = {.initialized = true};
    CK_RV rv = check_slot(slot);

    if (rv == CKR_OK && (label == NULL || len < PIN_MIN_BYTES)) {
        rv = label == NULL ? CKR_ARGUMENTS_BAD : CKR_PIN_LEN_RANGE;
    }
    if (rv == CKR_OK && mock.sessions_n > 0) {
        rv = CKR_SESSION_EXISTS;
    }
    if (rv == CKR_OK && mock_store_pins()->initialized) {
        rv = pin_check(CKU_SO, pin, len);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    memcpy(pins.label, label, sizeof(pins.label));
    if (!pin_hash(&pins, pin, len, pins.so)) {
        return CKR_PIN_LEN_RANGE;
    }
    return mock_store_reset(&pins);
}

CK_RV mock_init_pin(CK_SESSION_HANDLE s, const uint8_t *pin, CK_ULONG len)
{
    struct mock_session *session;
    struct mock_pins pins = *mock_store_pins();
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK && !mock.so) {
        rv = CKR_USER_NOT_LOGGED_IN;
    }
    if (rv != CKR_OK) {
        return rv;
    }
    if (len < PIN_MIN_BYTES || !pin_hash(&pins, pin, len, pins.user)) {
        return CKR_PIN_LEN_RANGE;
    }
    pins.user_set = true;
    pins.user_failures = 0;
    return mock_store_set_pins(&pins);
}

CK_RV mock_set_pin(CK_SESSION_HANDLE s, const uint8_t *old, CK_ULONG old_len, const uint8_t *pin,
                   CK_ULONG len)
{
    struct mock_session *session;
    struct mock_pins pins;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = pin_check(mock.so ? CKU_SO : CKU_USER, old, old_len);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    pins = *mock_store_pins();
    if (len < PIN_MIN_BYTES || !pin_hash(&pins, pin, len, mock.so ? pins.so : pins.user)) {
        return CKR_PIN_LEN_RANGE;
    }
    return mock_store_set_pins(&pins);
}

CK_RV mock_login(CK_SESSION_HANDLE s, CK_USER_TYPE user, const uint8_t *pin, CK_ULONG len)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);

    if (rv != CKR_OK) {
        return rv;
    }
    if (user != CKU_USER && user != CKU_SO) {
        return CKR_USER_TYPE_INVALID;
    }
    if (mock.user || mock.so) {
        return mock.user == (user == CKU_USER) ? CKR_USER_ALREADY_LOGGED_IN
                                               : CKR_USER_ANOTHER_ALREADY_LOGGED_IN;
    }
    if (user == CKU_USER && !mock_store_pins()->user_set) {
        return CKR_USER_PIN_NOT_INITIALIZED;
    }
    rv = pin_check(user, pin, len);
    if (rv == CKR_OK) {
        mock.user = user == CKU_USER;
        mock.so = user == CKU_SO;
    }
    return rv;
}

CK_RV mock_logout(CK_SESSION_HANDLE s)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK && !mock.user && !mock.so) {
        rv = CKR_USER_NOT_LOGGED_IN;
    }
    mock.user = false;
    mock.so = false;
    return rv;
}

/* ---- sessions ---- */

CK_RV mock_session_find(CK_SESSION_HANDLE handle, struct mock_session **ret)
{
    for (size_t i = 0; i < mock.sessions_n; i++) {
        if (mock.sessions[i]->handle == handle) {
            *ret = mock.sessions[i];
            return mock_script_vanished() ? CKR_DEVICE_REMOVED : CKR_OK;
        }
    }
    return CKR_SESSION_HANDLE_INVALID;
}

CK_RV mock_open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_SESSION_HANDLE *ret)
{
    struct mock_session *session;
    CK_RV rv = check_slot(slot);

    if (rv == CKR_OK && (flags & CKF_SERIAL_SESSION) == 0) {
        rv = CKR_SESSION_PARALLEL_NOT_SUPPORTED;
    }
    if (rv == CKR_OK && !mock_store_pins()->initialized) {
        rv = CKR_TOKEN_NOT_RECOGNIZED;
    }
    if (rv != CKR_OK) {
        return rv;
    }
    session = calloc(1, sizeof(*session));
    mock.sessions = realloc(mock.sessions, (mock.sessions_n + 1) * sizeof(mock.sessions[0]));
    if (session == NULL || mock.sessions == NULL) {
        abort();
    }
    session->handle = mock.next_session++;
    session->rw = (flags & CKF_RW_SESSION) != 0;
    mock.sessions[mock.sessions_n++] = session;
    *ret = session->handle;
    return CKR_OK;
}

static void session_free(struct mock_session *session)
{
    for (size_t i = 0; i < mock.objects_n;) {
        if (mock.objects[i]->session == session->handle) {
            mock_object_free(mock.objects[i]);
            mock.objects[i] = mock.objects[--mock.objects_n];
        } else {
            i++;
        }
    }
    for (size_t i = 0; i < MOCK_OP_COUNT; i++) {
        mock_active_clear(&session->active[i]);
    }
    EVP_MD_CTX_free(session->digest);
    free(session->found);
    free(session);
}

CK_RV mock_close_session(CK_SESSION_HANDLE s)
{
    for (size_t i = 0; i < mock.sessions_n; i++) {
        if (mock.sessions[i]->handle == s) {
            session_free(mock.sessions[i]);
            mock.sessions[i] = mock.sessions[--mock.sessions_n];
            if (mock.sessions_n == 0) { /* the last session takes the login along */
                mock.user = false;
                mock.so = false;
            }
            return CKR_OK;
        }
    }
    return CKR_SESSION_HANDLE_INVALID;
}

CK_RV mock_close_all(CK_SLOT_ID slot)
{
    if (slot != SLOT) {
        return CKR_SLOT_ID_INVALID;
    }
    while (mock.sessions_n > 0) {
        (void)mock_close_session(mock.sessions[0]->handle);
    }
    return CKR_OK;
}

CK_RV mock_session_info(CK_SESSION_HANDLE s, CK_SESSION_INFO *info)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);

    if (rv != CKR_OK) {
        return rv;
    }
    info->slotID = SLOT;
    info->flags = CKF_SERIAL_SESSION | (session->rw ? CKF_RW_SESSION : 0);
    info->ulDeviceError = 0;
    info->state = mock.so                    ? CKS_RW_SO_FUNCTIONS
                  : mock.user && session->rw ? CKS_RW_USER_FUNCTIONS
                  : mock.user                ? CKS_RO_USER_FUNCTIONS
                  : session->rw              ? CKS_RW_PUBLIC_SESSION
                                             : CKS_RO_PUBLIC_SESSION;
    return CKR_OK;
}

/* ---- objects of token and sessions ---- */

static bool is_visible(const struct mock_object *o)
{
    return mock.user || !mock_object_bool(o, CKA_PRIVATE);
}

CK_RV mock_find_object(CK_OBJECT_HANDLE handle, CK_RV missing, struct mock_object **ret)
{
    bool in_session = handle >= TOKEN_HANDLES;
    size_t n = in_session ? mock.objects_n : mock_store_count();

    for (size_t i = 0; i < n; i++) {
        struct mock_object *o = in_session ? mock.objects[i] : mock_store_at(i);

        if (o->handle == handle && is_visible(o)) {
            *ret = o;
            return CKR_OK;
        }
    }
    return missing;
}

CK_RV mock_adopt(struct mock_session *s, struct mock_object **objects, size_t n)
{
    bool token = mock_object_bool(objects[0], CKA_TOKEN);

    for (size_t i = 0; i < n; i++) {
        if (mock_object_bool(objects[i], CKA_TOKEN) != token) {
            return CKR_TEMPLATE_INCONSISTENT; /* one transaction, one place */
        }
        objects[i]->session = token ? 0 : s->handle;
    }
    if (token) {
        return s->rw ? mock_store_put(objects, n) : CKR_SESSION_READ_ONLY;
    }
    mock.objects = realloc(mock.objects, (mock.objects_n + n) * sizeof(mock.objects[0]));
    if (mock.objects == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        objects[i]->handle = mock.next_object++;
        mock.objects[mock.objects_n++] = objects[i];
    }
    return CKR_OK;
}

static bool matches(const struct mock_object *o, const CK_ATTRIBUTE *t, CK_ULONG n)
{
    for (CK_ULONG i = 0; i < n; i++) {
        const struct mock_attribute *a = mock_object_get(o, t[i].type);

        if (a == NULL || a->len != t[i].ulValueLen ||
            (a->len > 0 && memcmp(a->p, t[i].pValue, a->len) != 0)) {
            return false;
        }
    }
    return is_visible(o);
}

CK_RV mock_find_init(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);
    size_t room = mock_store_count() + mock.objects_n;

    if (rv == CKR_OK && session->finding) {
        rv = CKR_OPERATION_ACTIVE;
    }
    if (rv != CKR_OK) {
        return rv;
    }
    session->found = calloc(room + 1, sizeof(session->found[0]));
    if (session->found == NULL) {
        abort();
    }
    session->finding = true;
    session->found_n = 0;
    session->found_next = 0;
    for (size_t i = 0; i < room; i++) {
        const struct mock_object *o =
            i < mock.objects_n ? mock.objects[i] : mock_store_at(i - mock.objects_n);

        if (matches(o, t, n)) {
            session->found[session->found_n++] = o->handle;
        }
    }
    return CKR_OK;
}

CK_RV mock_find_next(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *list, CK_ULONG max, CK_ULONG *n)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK && !session->finding) {
        rv = CKR_OPERATION_NOT_INITIALIZED;
    }
    if (rv != CKR_OK) {
        return rv;
    }
    for (*n = 0; *n < max && session->found_next < session->found_n; (*n)++) {
        list[*n] = session->found[session->found_next++];
    }
    return CKR_OK;
}

CK_RV mock_find_final(CK_SESSION_HANDLE s)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK && !session->finding) {
        rv = CKR_OPERATION_NOT_INITIALIZED;
    }
    if (rv == CKR_OK) {
        free(session->found);
        session->found = NULL;
        session->finding = false;
    }
    return rv;
}
