/*
 * From a path and a URI to a logged-in session.
 *
 * p11-kit loads the module unmanaged and nothing of its configuration is read: which module serves
 * is kbsd's decision, not that of files in /etc. C_Initialize is called here and not by p11-kit,
 * because NSS softokn takes its parameters in pReserved.
 *
 * One session is opened and never closed before the end: closing the last session drops the login,
 * and SoftHSM keeps private session objects only as long as it is open. One is enough for a process that
 * does one thing at a time; the threads of a sign worker (hsm/fronts.c) have one each beside it, of the same
 * login. For them C_Initialize asks for the system's own locks, always: a module that has none says so.
 *
 * Rejected: the slot number as a name. It changes with every token added (and in SoftHSM at
 * C_InitToken).
 */
#include "hsm/module.h"

#include <stdlib.h>

#include <p11-kit/p11-kit.h>
#include <p11-kit/uri.h>

#include "base/encoding.h"
#include "base/random.h"
#include "hsm/ckr.h"

#define MODULE_SLOTS_MAX 256u
#define MODULE_SO_PIN_BYTES 16u /* random bytes; twice as many hex digits */

/*
 * C_Initialize's argument as NSS softokn reads it: when pReserved is set, one more pointer follows
 * that must be NULL (nss/pkcs11t.h). Others do not look there.
 */
struct module_init_args {
    CK_C_INITIALIZE_ARGS args;
    void *nss_reserved;
};

int kbs_token_load(struct kbs_token *t, const char *path, char *init_args, struct kbs_error *err)
{
    struct module_init_args args = {.args.flags = CKF_OS_LOCKING_OK, .args.pReserved = init_args};
    CK_RV rv;

    p11_kit_be_quiet();
    t->f = p11_kit_module_load(path, P11_KIT_MODULE_UNMANAGED);
    if (t->f == NULL) {
        const char *why = p11_kit_message();
        return kbs_fail(err, KBS_INPUT, "cannot load the PKCS#11 module: %s",
                        why != NULL ? why : "no reason given");
    }
    rv = t->f->C_Initialize(&args);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Initialize", __LINE__);
    }
    t->initialized = true;
    return 0;
}

/* Parses a token URI. Returns owned (p11_kit_uri_free()), or NULL. */
static P11KitUri *module_uri_parse(const char *text, struct kbs_error *err)
{
    P11KitUri *uri = p11_kit_uri_new();
    int rc;

    if (uri == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "no memory for the token URI");
        return NULL;
    }
    rc = p11_kit_uri_parse(text, P11_KIT_URI_FOR_TOKEN, uri);
    if (rc != P11_KIT_URI_OK) {
        (void)kbs_fail(err, KBS_INPUT, "the token URI does not parse: %s", p11_kit_uri_message(rc));
    } else if (p11_kit_uri_get_pin_value(uri) != NULL || p11_kit_uri_get_pin_source(uri) != NULL) {
        (void)kbs_fail(err, KBS_INPUT, "the token URI names a PIN, which belongs into pin_file");
    } else if (p11_kit_uri_any_unrecognized(uri)) {
        (void)kbs_fail(err, KBS_INPUT, "the token URI has attributes that are not a token's");
    } else {
        return uri;
    }
    p11_kit_uri_free(uri);
    return NULL;
}

static int module_slots(const struct kbs_token *t, CK_SLOT_ID slots[MODULE_SLOTS_MAX],
                        CK_ULONG *ret_n, struct kbs_error *err)
{
    CK_RV rv;

    /* The call without a list makes tokens that came or changed visible. */
    rv = t->f->C_GetSlotList(CK_TRUE, NULL, ret_n);
    if (rv == CKR_OK) {
        *ret_n = MODULE_SLOTS_MAX;
        rv = t->f->C_GetSlotList(CK_TRUE, slots, ret_n);
    }
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetSlotList", __LINE__);
    }
    return 0;
}

static void module_unpad(char *out, size_t size, const unsigned char *field, size_t field_len)
{
    size_t n = p11_kit_space_strlen(field, field_len);

    n = n < size ? n : size - 1;
    memcpy(out, field, n);
    out[n] = '\0';
}

static void module_take_info(struct kbs_token *t, CK_SLOT_ID slot, const CK_TOKEN_INFO *info)
{
    t->slot = slot;
    t->info = *info;
    module_unpad(t->label, sizeof(t->label), info->label, sizeof(info->label));
    module_unpad(t->manufacturer, sizeof(t->manufacturer), info->manufacturerID,
                 sizeof(info->manufacturerID));
    module_unpad(t->model, sizeof(t->model), info->model, sizeof(info->model));
    module_unpad(t->serial, sizeof(t->serial), info->serialNumber, sizeof(info->serialNumber));
    t->quirk = kbs_quirk_find(t->manufacturer, t->model);
}

/*
 * Looks for tokens that the URI names (NULL: all), initialised or not as asked. Returns the number
 * of matches (the first one in *ret_slot and *ret_info), or -1.
 */
static int module_match(const struct kbs_token *t, P11KitUri *uri, bool initialized,
                        CK_SLOT_ID *ret_slot, CK_TOKEN_INFO *ret_info, struct kbs_error *err)
{
    CK_SLOT_ID slots[MODULE_SLOTS_MAX];
    CK_ULONG n = 0;
    int matches = 0;

    if (module_slots(t, slots, &n, err) != 0) {
        return -1;
    }
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info = {0};
        CK_RV rv = t->f->C_GetTokenInfo(slots[i], &info);

        if (rv != CKR_OK || ((info.flags & CKF_TOKEN_INITIALIZED) != 0) != initialized) {
            continue; /* a token that was pulled out in between is not ours to complain about */
        }
        if ((uri == NULL || p11_kit_uri_match_token_info(uri, &info) == 1) && matches++ == 0) {
            *ret_slot = slots[i];
            *ret_info = info;
        }
    }
    return matches;
}

int kbs_token_find(struct kbs_token *t, const char *uri_text, struct kbs_error *err)
{
    CK_SLOT_ID slot = 0;
    CK_TOKEN_INFO info = {0};
    int matches;
    P11KitUri *uri = module_uri_parse(uri_text, err);

    if (uri == NULL) {
        return -1;
    }
    matches = module_match(t, uri, true, &slot, &info, err);
    p11_kit_uri_free(uri);
    if (matches < 0) {
        return -1;
    }
    if (matches == 0) {
        return kbs_fail(err, KBS_MISSING, "no initialised token matches the token URI");
    }
    if (matches > 1) {
        return kbs_fail(err, KBS_INPUT, "the token URI matches %d tokens: add serial=", matches);
    }
    module_take_info(t, slot, &info);
    return 0;
}

static int module_session_open(struct kbs_token *t, CK_SLOT_ID slot, struct kbs_error *err)
{
    CK_RV rv =
        t->f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &t->session);

    if (rv != CKR_OK) {
        t->session = CK_INVALID_HANDLE;
        return kbs_ckr_fail(err, rv, "C_OpenSession", __LINE__);
    }
    return 0;
}

int kbs_token_login(struct kbs_token *t, struct kbs_secret *pin, struct kbs_error *err)
{
    CK_RV rv;

    if (module_session_open(t, t->slot, err) != 0) {
        return -1;
    }
    rv = t->f->C_Login(t->session, CKU_USER, kbs_secret_bytes(pin), kbs_secret_len(pin));
    if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN) {
        return kbs_ckr_fail(err, rv, "C_Login", __LINE__);
    }
    return 0;
}

int kbs_token_session(const struct kbs_token *t, struct kbs_token *ret, struct kbs_error *err)
{
    CK_RV rv;

    *ret = *t;
    ret->handles = NULL;
    ret->objects_made = 0;
    ret->session = CK_INVALID_HANDLE;
    rv = t->f->C_OpenSession(t->slot, CKF_SERIAL_SESSION, NULL, NULL, &ret->session);
    if (rv != CKR_OK) {
        ret->session = CK_INVALID_HANDLE;
        return kbs_ckr_fail(err, rv, "C_OpenSession", __LINE__);
    }
    return 0;
}

void kbs_token_session_close(struct kbs_token *t)
{
    if (t->session != CK_INVALID_HANDLE) {
        (void)t->f->C_CloseSession(t->session);
        t->session = CK_INVALID_HANDLE;
    }
}

/* A random security officer PIN, hex. Returns owned. */
static int module_so_pin_new(struct kbs_secret **ret, struct kbs_error *err)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *p;

    if (kbs_secret_new(2 * MODULE_SO_PIN_BYTES, ret, err) != 0) {
        return -1;
    }
    p = kbs_secret_bytes(*ret);
    kbs_random(p, MODULE_SO_PIN_BYTES);
    for (size_t i = MODULE_SO_PIN_BYTES; i-- > 0;) {
        uint8_t byte = p[i];
        p[2 * i] = (uint8_t)digits[byte >> 4];
        p[2 * i + 1] = (uint8_t)digits[byte & 15];
    }
    return 0;
}

/* Sets the user PIN as the security officer, in a session of its own. */
static int module_user_pin_set(struct kbs_token *t, CK_SLOT_ID slot, struct kbs_secret *so_pin,
                               struct kbs_secret *pin, struct kbs_error *err)
{
    static CK_BYTE empty[1];
    CK_BYTE *so = so_pin != NULL ? kbs_secret_bytes(so_pin) : empty;
    CK_ULONG so_len = so_pin != NULL ? kbs_secret_len(so_pin) : 0;
    const char *function = "C_Login";
    CK_RV rv;

    if (module_session_open(t, slot, err) != 0) {
        return -1;
    }
    rv = t->f->C_Login(t->session, CKU_SO, so, so_len);
    if (rv == CKR_OK) {
        function = "C_InitPIN";
        rv = t->f->C_InitPIN(t->session, kbs_secret_bytes(pin), kbs_secret_len(pin));
        (void)t->f->C_Logout(t->session);
    }
    (void)t->f->C_CloseSession(t->session);
    t->session = CK_INVALID_HANDLE;
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, function, __LINE__);
    }
    return 0;
}

/* C_InitToken on the first slot whose token is blank; the label is the URI's. */
static int module_token_new(struct kbs_token *t, P11KitUri *uri, struct kbs_secret *so_pin,
                            CK_SLOT_ID *ret_slot, struct kbs_error *err)
{
    CK_TOKEN_INFO *wanted = p11_kit_uri_get_token_info(uri);
    CK_TOKEN_INFO info = {0};
    CK_SLOT_ID blank = 0;
    CK_RV rv;
    int matches = module_match(t, NULL, false, &blank, &info, err);

    if (matches < 0) {
        return -1;
    }
    if (wanted->label[0] == '\0') {
        return kbs_fail(err, KBS_INPUT,
                        "the token URI has no token=, which the new token is named by");
    }
    if (matches == 0) {
        return kbs_fail(err, KBS_MISSING, "there is no slot with a token that can be initialised");
    }
    rv = t->f->C_InitToken(blank, kbs_secret_bytes(so_pin), kbs_secret_len(so_pin), wanted->label);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_InitToken", __LINE__);
    }
    matches =
        module_match(t, uri, true, ret_slot, &info, err); /* SoftHSM has moved it to a new slot */
    if (matches != 1) {
        return matches < 0
                   ? -1
                   : kbs_fail(err, KBS_INTERNAL, "the new token does not match the token URI");
    }
    return 0;
}

/* Whose security officer PIN a token to be provisioned has. */
enum module_so {
    MODULE_SO_OURS, /* the token was made just now, with the PIN given or made up */
    MODULE_SO_EMPTY,
    MODULE_SO_THEIRS /* the token was there before */
};

/*
 * The slot of the token to give a PIN to: one that the URI names and that has no PIN yet, or a new
 * one. NSS's fresh database has its name, but counts as initialised only with a PIN.
 */
static int module_provision_slot(struct kbs_token *t, P11KitUri *uri, struct kbs_secret *so_pin,
                                 CK_SLOT_ID *ret_slot, enum module_so *ret_so,
                                 struct kbs_error *err)
{
    CK_TOKEN_INFO info = {0};
    int matches = module_match(t, uri, true, ret_slot, &info, err);

    if (matches == 0) {
        matches = module_match(t, uri, false, ret_slot, &info, err);
    }
    if (matches < 0) {
        return -1;
    }
    if (matches > 1) {
        return kbs_fail(err, KBS_INPUT, "the token URI matches %d tokens: add serial=", matches);
    }
    *ret_so = MODULE_SO_THEIRS;
    if (matches == 1 && (info.flags & CKF_USER_PIN_INITIALIZED) != 0) {
        return kbs_fail(err, KBS_CONFLICT, "the token is already initialised");
    }
    if (matches == 1) {
        module_take_info(t, *ret_slot, &info);
        *ret_so = t->quirk->so_pin_empty ? MODULE_SO_EMPTY : MODULE_SO_THEIRS;
    }
    if (matches == 0 || ((info.flags & CKF_TOKEN_INITIALIZED) == 0 && *ret_so != MODULE_SO_EMPTY)) {
        *ret_so = MODULE_SO_OURS;
        return module_token_new(t, uri, so_pin, ret_slot, err);
    }
    return 0;
}

int kbs_token_provision(struct kbs_token *t, const char *uri_text, struct kbs_secret *so_pin,
                        struct kbs_secret *pin, struct kbs_error *err)
{
    KBS_AUTO_SECRET made_up = NULL;
    CK_SLOT_ID slot = 0;
    enum module_so so = MODULE_SO_THEIRS;
    P11KitUri *uri;
    int rc;

    if (so_pin == NULL) {
        if (module_so_pin_new(&made_up, err) != 0) {
            return -1;
        }
        so_pin = made_up;
    }
    uri = module_uri_parse(uri_text, err);
    if (uri == NULL) {
        return -1;
    }
    rc = module_provision_slot(t, uri, so_pin, &slot, &so, err);
    p11_kit_uri_free(uri);
    if (rc != 0) {
        return -1;
    }
    if (so == MODULE_SO_THEIRS && made_up != NULL) { /* a guess would cost a try */
        return kbs_fail(err, KBS_INPUT,
                        "the token is there without a user PIN: setting one takes its SO PIN");
    }
    return module_user_pin_set(t, slot, so == MODULE_SO_EMPTY ? NULL : so_pin, pin, err);
}

void kbs_token_close(struct kbs_token *t)
{
    if (t->f == NULL) {
        return;
    }
    if (t->session != CK_INVALID_HANDLE) {
        (void)t->f->C_Logout(t->session);
        (void)t->f->C_CloseSession(t->session);
        t->session = CK_INVALID_HANDLE;
    }
    if (t->initialized) {
        (void)t->f->C_Finalize(NULL);
        t->initialized = false;
    }
    p11_kit_module_release(t->f);
    t->f = NULL;
    free(t->handles);
    t->handles = NULL;
}
