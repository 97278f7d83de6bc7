/*
 * Every failure gets exactly one class here, and every class one action, so that no call site
 * invents its own recovery: a caller's bad blob must never restart a worker, and a dead device must
 * never be blamed on a caller.
 *
 * A CK_RV has one meaning by the standard (ckr_rows), with exceptions by function and by token
 * (ckr_rules, first match wins). Tokens disagree about the vague codes: SoftHSM says GENERAL_ERROR
 * for a garbled blob, others for a lost device; kryoptic says DEVICE_ERROR for it. Those are AMBIGUOUS, and a self-test settles them;
 * so are codes that no row has. C_Login is stricter: an answer that nobody can read may have cost a
 * try of the PIN, and a worker that is replaced would try again, and again, until the token locks.
 * There is no class that logs in again: the PIN is cleansed after the first login, and a new login
 * has to be granted by kbsd (one at a time per token), so a worker that was logged out is replaced.
 *
 * Rejected: re-initialising the module in place. Vendors' modules are known to recover only with a
 * new process, and a new process is what kbsd makes anyway.
 */
#include "hsm/ckr.h"

#include <string.h>

/* In a rule, in the place of a CK_RV. No token may answer these. */
#define CKR_ANY_VENDOR ((CK_RV)-1)   /* any with CKR_VENDOR_DEFINED */
#define CKR_ANY_UNLISTED ((CK_RV)-2) /* any that ckr_rows does not have */

#define CKR_SOFTHSM "SoftHSM project" /* as in hsm/quirks.c */
#define CKR_KRYOPTIC "Kryoptic"

struct ckr_row {
    CK_RV rv;
    enum kbs_ckr_class class;
    const char *name;
};

struct ckr_rule {
    const char *function;
    CK_RV rv;
    const char *token; /* how its manufacturer begins; NULL: any */
    enum kbs_ckr_class class;
};

static const struct ckr_row ckr_rows[] = {
    {CKR_OK, KBS_CKR_OK, "CKR_OK"},
    {CKR_HOST_MEMORY, KBS_CKR_DEVICE, "CKR_HOST_MEMORY"},
    {CKR_SLOT_ID_INVALID, KBS_CKR_DEVICE, "CKR_SLOT_ID_INVALID"},
    {CKR_GENERAL_ERROR, KBS_CKR_AMBIGUOUS, "CKR_GENERAL_ERROR"},
    {CKR_FUNCTION_FAILED, KBS_CKR_AMBIGUOUS, "CKR_FUNCTION_FAILED"},
    {CKR_ARGUMENTS_BAD, KBS_CKR_REQUEST, "CKR_ARGUMENTS_BAD"},
    {CKR_CANT_LOCK, KBS_CKR_DEVICE, "CKR_CANT_LOCK"},
    {CKR_NEED_TO_CREATE_THREADS, KBS_CKR_DEVICE, "CKR_NEED_TO_CREATE_THREADS"},
    {CKR_ATTRIBUTE_READ_ONLY, KBS_CKR_REQUEST, "CKR_ATTRIBUTE_READ_ONLY"},
    {CKR_ATTRIBUTE_SENSITIVE, KBS_CKR_REQUEST, "CKR_ATTRIBUTE_SENSITIVE"},
    {CKR_ATTRIBUTE_TYPE_INVALID, KBS_CKR_REQUEST, "CKR_ATTRIBUTE_TYPE_INVALID"},
    {CKR_ATTRIBUTE_VALUE_INVALID, KBS_CKR_REQUEST, "CKR_ATTRIBUTE_VALUE_INVALID"},
    {CKR_ACTION_PROHIBITED, KBS_CKR_REQUEST, "CKR_ACTION_PROHIBITED"},
    {CKR_DATA_INVALID, KBS_CKR_REQUEST, "CKR_DATA_INVALID"},
    {CKR_DATA_LEN_RANGE, KBS_CKR_REQUEST, "CKR_DATA_LEN_RANGE"},
    {CKR_DEVICE_ERROR, KBS_CKR_DEVICE, "CKR_DEVICE_ERROR"},
    {CKR_DEVICE_MEMORY, KBS_CKR_CAPACITY, "CKR_DEVICE_MEMORY"},
    {CKR_DEVICE_REMOVED, KBS_CKR_DEVICE, "CKR_DEVICE_REMOVED"},
    {CKR_ENCRYPTED_DATA_INVALID, KBS_CKR_REQUEST, "CKR_ENCRYPTED_DATA_INVALID"},
    {CKR_ENCRYPTED_DATA_LEN_RANGE, KBS_CKR_REQUEST, "CKR_ENCRYPTED_DATA_LEN_RANGE"},
    {CKR_FUNCTION_NOT_SUPPORTED, KBS_CKR_REQUEST, "CKR_FUNCTION_NOT_SUPPORTED"},
    {CKR_KEY_HANDLE_INVALID, KBS_CKR_STALE, "CKR_KEY_HANDLE_INVALID"},
    {CKR_KEY_SIZE_RANGE, KBS_CKR_REQUEST, "CKR_KEY_SIZE_RANGE"},
    {CKR_KEY_TYPE_INCONSISTENT, KBS_CKR_REQUEST, "CKR_KEY_TYPE_INCONSISTENT"},
    {CKR_KEY_NEEDED, KBS_CKR_REQUEST, "CKR_KEY_NEEDED"},
    {CKR_KEY_INDIGESTIBLE, KBS_CKR_REQUEST, "CKR_KEY_INDIGESTIBLE"},
    {CKR_KEY_FUNCTION_NOT_PERMITTED, KBS_CKR_REQUEST, "CKR_KEY_FUNCTION_NOT_PERMITTED"},
    {CKR_KEY_NOT_WRAPPABLE, KBS_CKR_REQUEST, "CKR_KEY_NOT_WRAPPABLE"},
    {CKR_KEY_UNEXTRACTABLE, KBS_CKR_REQUEST, "CKR_KEY_UNEXTRACTABLE"},
    {CKR_MECHANISM_INVALID, KBS_CKR_REQUEST, "CKR_MECHANISM_INVALID"},
    {CKR_MECHANISM_PARAM_INVALID, KBS_CKR_REQUEST, "CKR_MECHANISM_PARAM_INVALID"},
    {CKR_OBJECT_HANDLE_INVALID, KBS_CKR_STALE, "CKR_OBJECT_HANDLE_INVALID"},
    /* An operation that is active when we start one was left behind by us: start afresh. */
    {CKR_OPERATION_ACTIVE, KBS_CKR_DEVICE, "CKR_OPERATION_ACTIVE"},
    {CKR_OPERATION_NOT_INITIALIZED, KBS_CKR_DEVICE, "CKR_OPERATION_NOT_INITIALIZED"},
    {CKR_PIN_INCORRECT, KBS_CKR_OPERATOR, "CKR_PIN_INCORRECT"},
    {CKR_PIN_INVALID, KBS_CKR_OPERATOR, "CKR_PIN_INVALID"},
    {CKR_PIN_LEN_RANGE, KBS_CKR_OPERATOR, "CKR_PIN_LEN_RANGE"},
    {CKR_PIN_EXPIRED, KBS_CKR_OPERATOR, "CKR_PIN_EXPIRED"},
    {CKR_PIN_LOCKED, KBS_CKR_OPERATOR, "CKR_PIN_LOCKED"},
    {CKR_PIN_TOO_WEAK, KBS_CKR_OPERATOR, "CKR_PIN_TOO_WEAK"},
    {CKR_SESSION_CLOSED, KBS_CKR_LOGGED_OUT, "CKR_SESSION_CLOSED"},
    {CKR_SESSION_COUNT, KBS_CKR_CAPACITY, "CKR_SESSION_COUNT"},
    {CKR_SESSION_HANDLE_INVALID, KBS_CKR_LOGGED_OUT, "CKR_SESSION_HANDLE_INVALID"},
    {CKR_SESSION_READ_ONLY, KBS_CKR_REQUEST, "CKR_SESSION_READ_ONLY"},
    {CKR_SIGNATURE_INVALID, KBS_CKR_REQUEST, "CKR_SIGNATURE_INVALID"},
    {CKR_TEMPLATE_INCOMPLETE, KBS_CKR_REQUEST, "CKR_TEMPLATE_INCOMPLETE"},
    {CKR_TEMPLATE_INCONSISTENT, KBS_CKR_REQUEST, "CKR_TEMPLATE_INCONSISTENT"},
    {CKR_TOKEN_NOT_PRESENT, KBS_CKR_DEVICE, "CKR_TOKEN_NOT_PRESENT"},
    {CKR_TOKEN_NOT_RECOGNIZED, KBS_CKR_DEVICE, "CKR_TOKEN_NOT_RECOGNIZED"},
    {CKR_TOKEN_WRITE_PROTECTED, KBS_CKR_REQUEST, "CKR_TOKEN_WRITE_PROTECTED"},
    {CKR_UNWRAPPING_KEY_HANDLE_INVALID, KBS_CKR_STALE, "CKR_UNWRAPPING_KEY_HANDLE_INVALID"},
    {CKR_UNWRAPPING_KEY_SIZE_RANGE, KBS_CKR_REQUEST, "CKR_UNWRAPPING_KEY_SIZE_RANGE"},
    {CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, KBS_CKR_REQUEST, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT"},
    {CKR_USER_ALREADY_LOGGED_IN, KBS_CKR_REQUEST, "CKR_USER_ALREADY_LOGGED_IN"},
    {CKR_USER_NOT_LOGGED_IN, KBS_CKR_LOGGED_OUT, "CKR_USER_NOT_LOGGED_IN"},
    {CKR_USER_PIN_NOT_INITIALIZED, KBS_CKR_OPERATOR, "CKR_USER_PIN_NOT_INITIALIZED"},
    {CKR_USER_TYPE_INVALID, KBS_CKR_REQUEST, "CKR_USER_TYPE_INVALID"},
    {CKR_USER_ANOTHER_ALREADY_LOGGED_IN, KBS_CKR_REQUEST, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"},
    {CKR_USER_TOO_MANY_TYPES, KBS_CKR_CAPACITY, "CKR_USER_TOO_MANY_TYPES"},
    {CKR_WRAPPED_KEY_INVALID, KBS_CKR_REQUEST, "CKR_WRAPPED_KEY_INVALID"},
    {CKR_WRAPPED_KEY_LEN_RANGE, KBS_CKR_REQUEST, "CKR_WRAPPED_KEY_LEN_RANGE"},
    {CKR_WRAPPING_KEY_HANDLE_INVALID, KBS_CKR_STALE, "CKR_WRAPPING_KEY_HANDLE_INVALID"},
    {CKR_WRAPPING_KEY_SIZE_RANGE, KBS_CKR_REQUEST, "CKR_WRAPPING_KEY_SIZE_RANGE"},
    {CKR_WRAPPING_KEY_TYPE_INCONSISTENT, KBS_CKR_REQUEST, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT"},
    {CKR_RANDOM_NO_RNG, KBS_CKR_DEVICE, "CKR_RANDOM_NO_RNG"},
    {CKR_DOMAIN_PARAMS_INVALID, KBS_CKR_REQUEST, "CKR_DOMAIN_PARAMS_INVALID"},
    {CKR_CURVE_NOT_SUPPORTED, KBS_CKR_REQUEST, "CKR_CURVE_NOT_SUPPORTED"},
    {CKR_BUFFER_TOO_SMALL, KBS_CKR_REQUEST, "CKR_BUFFER_TOO_SMALL"},
    {CKR_CRYPTOKI_NOT_INITIALIZED, KBS_CKR_DEVICE, "CKR_CRYPTOKI_NOT_INITIALIZED"},
    {CKR_CRYPTOKI_ALREADY_INITIALIZED, KBS_CKR_DEVICE, "CKR_CRYPTOKI_ALREADY_INITIALIZED"},
    {CKR_MUTEX_BAD, KBS_CKR_DEVICE, "CKR_MUTEX_BAD"},
    {CKR_FIPS_SELF_TEST_FAILED, KBS_CKR_DEVICE, "CKR_FIPS_SELF_TEST_FAILED"},
    {CKR_LIBRARY_LOAD_FAILED, KBS_CKR_DEVICE, "CKR_LIBRARY_LOAD_FAILED"},
    {CKR_PUBLIC_KEY_INVALID, KBS_CKR_REQUEST, "CKR_PUBLIC_KEY_INVALID"},
    {CKR_FUNCTION_REJECTED, KBS_CKR_REQUEST, "CKR_FUNCTION_REJECTED"},
};

static const struct ckr_rule ckr_rules[] = {
    /* Several SoftHSM processes that start at once can find a token file half written. */
    {"C_Login", CKR_GENERAL_ERROR, CKR_SOFTHSM, KBS_CKR_DEVICE},
    {"C_Login", CKR_ANY_VENDOR, NULL, KBS_CKR_OPERATOR},
    {"C_Login", CKR_ANY_UNLISTED, NULL, KBS_CKR_OPERATOR},
    {"C_Login", CKR_ARGUMENTS_BAD, NULL, KBS_CKR_OPERATOR}, /* a PIN of a form it does not take */
    /* Without a session there is nothing to test the token with. */
    {"C_Initialize", CKR_GENERAL_ERROR, NULL, KBS_CKR_DEVICE},
    {"C_Initialize", CKR_FUNCTION_FAILED, NULL, KBS_CKR_DEVICE},
    {"C_OpenSession", CKR_GENERAL_ERROR, NULL, KBS_CKR_DEVICE},
    {"C_OpenSession", CKR_FUNCTION_FAILED, NULL, KBS_CKR_DEVICE},
    /* An object that another process destroyed. */
    {"C_GetAttributeValue", CKR_GENERAL_ERROR, CKR_KRYOPTIC, KBS_CKR_STALE},
    {"C_UnwrapKey", CKR_GENERAL_ERROR, CKR_SOFTHSM, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_DEVICE_ERROR, CKR_KRYOPTIC, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_ENCRYPTED_DATA_INVALID, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_ENCRYPTED_DATA_LEN_RANGE, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_WRAPPED_KEY_INVALID, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_WRAPPED_KEY_LEN_RANGE, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_DATA_INVALID, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_DATA_LEN_RANGE, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_KEY_SIZE_RANGE, NULL, KBS_CKR_BYTES},
    {"C_UnwrapKey", CKR_SIGNATURE_INVALID, NULL, KBS_CKR_BYTES},
    {"C_Decrypt", CKR_DEVICE_ERROR, CKR_KRYOPTIC, KBS_CKR_BYTES},
    {"C_Decrypt", CKR_ENCRYPTED_DATA_INVALID, NULL, KBS_CKR_BYTES},
    {"C_Decrypt", CKR_ENCRYPTED_DATA_LEN_RANGE, NULL, KBS_CKR_BYTES},
    {"C_Decrypt", CKR_DATA_INVALID, NULL, KBS_CKR_BYTES},
    {"C_Decrypt", CKR_DATA_LEN_RANGE, NULL, KBS_CKR_BYTES},
    {"C_Decrypt", CKR_SIGNATURE_INVALID, NULL, KBS_CKR_BYTES},
};

static const struct {
    const char *name;
    enum kbs_ckr_action action;
    enum kbs_category category;
    const char *action_text;
} ckr_classes[KBS_CKR_CLASS_COUNT] = {
    [KBS_CKR_OK] = {"ok", KBS_CKR_NOTHING, KBS_OK, "-"},
    /* What came from outside was validated: callers who know better say so. */
    [KBS_CKR_REQUEST] = {"request", KBS_CKR_FAIL_ORDER, KBS_INTERNAL, "the order fails"},
    [KBS_CKR_BYTES] = {"bytes", KBS_CKR_BLAME_BYTES, KBS_INTERNAL,
                       "self-test; the bytes are at fault if it passes"},
    [KBS_CKR_STALE] = {"stale", KBS_CKR_LOOK_AGAIN, KBS_INTERNAL, "look again, once"},
    [KBS_CKR_AMBIGUOUS] = {"ambiguous", KBS_CKR_SELF_TEST, KBS_TOKEN_DOWN,
                           "self-test; the order fails if it passes, else a new worker"},
    [KBS_CKR_CAPACITY] = {"capacity", KBS_CKR_TRY_LATER, KBS_BUSY, "try later"},
    [KBS_CKR_LOGGED_OUT] = {"logged-out", KBS_CKR_REPLACE_WORKER, KBS_TOKEN_DOWN, "a new worker"},
    [KBS_CKR_DEVICE] = {"device", KBS_CKR_REPLACE_WORKER, KBS_TOKEN_DOWN, "a new worker"},
    [KBS_CKR_OPERATOR] = {"operator", KBS_CKR_LATCH, KBS_TOKEN_DOWN, "no login is tried again"},
};

static const struct ckr_row *ckr_find(CK_RV rv)
{
    for (size_t i = 0; i < sizeof(ckr_rows) / sizeof(ckr_rows[0]); i++) {
        if (ckr_rows[i].rv == rv) {
            return &ckr_rows[i];
        }
    }
    return NULL;
}

static bool ckr_rule_fits(const struct ckr_rule *rule, const char *function, CK_RV rv,
                          const struct kbs_quirk *token)
{
    bool fits_rv = rule->rv == rv ||
                   (rule->rv == CKR_ANY_VENDOR && (rv & CKR_VENDOR_DEFINED) != 0) ||
                   (rule->rv == CKR_ANY_UNLISTED && ckr_find(rv) == NULL);
    bool fits_token =
        rule->token == NULL ||
        (token != NULL && strncmp(token->manufacturer, rule->token, strlen(rule->token)) == 0);

    return fits_rv && fits_token && strcmp(rule->function, function) == 0;
}

enum kbs_ckr_class kbs_ckr_lookup(const char *function, CK_RV rv, const struct kbs_quirk *token)
{
    const struct ckr_row *row = ckr_find(rv);

    for (size_t i = 0; rv != CKR_OK && i < sizeof(ckr_rules) / sizeof(ckr_rules[0]); i++) {
        if (ckr_rule_fits(&ckr_rules[i], function, rv, token)) {
            return ckr_rules[i].class;
        }
    }
    return row != NULL ? row->class : KBS_CKR_AMBIGUOUS;
}

enum kbs_ckr_action kbs_ckr_action(enum kbs_ckr_class class)
{
    return ckr_classes[class].action;
}

enum kbs_category kbs_ckr_category(enum kbs_ckr_class class)
{
    return ckr_classes[class].category;
}

enum kbs_ckr_class kbs_ckr_class(const struct kbs_error *err, const struct kbs_quirk *token)
{
    return err->origin == KBS_ORIGIN_CKR ? kbs_ckr_lookup(err->func, (CK_RV)err->native, token)
                                         : KBS_CKR_OK;
}

bool kbs_ckr_is_fatal(const struct kbs_error *err, const struct kbs_quirk *token)
{
    enum kbs_ckr_action action = kbs_ckr_action(kbs_ckr_class(err, token));

    return action == KBS_CKR_REPLACE_WORKER || action == KBS_CKR_LATCH;
}

const char *kbs_ckr_name(CK_RV rv)
{
    const struct ckr_row *row = ckr_find(rv);

    if (row != NULL) {
        return row->name;
    }
    return (rv & CKR_VENDOR_DEFINED) != 0 ? "CKR_VENDOR_DEFINED" : "CKR_?";
}

int kbs_ckr_fail(struct kbs_error *err, CK_RV rv, const char *function, int line)
{
    enum kbs_category category = kbs_ckr_category(kbs_ckr_lookup(function, rv, NULL));

    return kbs_error_set(err, category, KBS_ORIGIN_CKR, (int64_t)rv, function, line,
                         "the token answered %s to %s", kbs_ckr_name(rv), function);
}

CK_RV kbs_ckr_of(const struct kbs_error *err)
{
    return err->origin == KBS_ORIGIN_CKR ? (CK_RV)err->native : CKR_OK;
}

static void ckr_print_row(struct kbs_buf *out, const char *function, const char *rv,
                          const char *token, enum kbs_ckr_class class)
{
    kbs_buf_printf(out, "%-14s %-36s %-16s %-11s %s\n", function, rv, token,
                   ckr_classes[class].name, ckr_classes[class].action_text);
}

void kbs_ckr_print(struct kbs_buf *out)
{
    for (size_t i = 0; i < sizeof(ckr_rules) / sizeof(ckr_rules[0]); i++) {
        const struct ckr_rule *r = &ckr_rules[i];
        const char *rv = kbs_ckr_name(r->rv);

        rv = r->rv == CKR_ANY_VENDOR ? "any of a vendor" : rv;
        rv = r->rv == CKR_ANY_UNLISTED ? "any not listed" : rv;
        ckr_print_row(out, r->function, rv, r->token != NULL ? r->token : "any", r->class);
    }
    for (size_t i = 0; i < sizeof(ckr_rows) / sizeof(ckr_rows[0]); i++) {
        ckr_print_row(out, "any", ckr_rows[i].name, "any", ckr_rows[i].class);
    }
    ckr_print_row(out, "any", "any not listed", "any", KBS_CKR_AMBIGUOUS);
}
