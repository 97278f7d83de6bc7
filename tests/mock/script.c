/*
 * Faults on demand. The file `script` in the token's folder is looked at before every call and read
 * again when it has changed, so that a service that runs can be attacked. A file and not an
 * interface, because it must reach a hardened process that talks to nobody but its judge. One
 * order a line, `FUNCTION [WHEN] ACTION`; the first that is due is carried out:
 *
 *   FUNCTION  C_WrapKey, or * for any
 *   WHEN      always (default), once, nth N (or just N), every N: counted over all processes from
 *             the moment the script was written
 *   ACTION    rv CKR_DEVICE_ERROR (or 0x30), delay MS, hang, exit, vanish, garble, wrong-length
 *
 * Calls, orders carried out and wrong PINs are counted in the file `calls`, mapped by all processes
 * of the token: its records describe themselves (struct mock_calls), and tests read them.
 *
 * The module runs behind seccomp and Landlock like any other: no call is used here that kbs-token
 * may not make.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calls.h"
#include "mock.h"

#define SCRIPT_BYTES 4096u

enum when {
    ALWAYS,
    NTH,
    EVERY
};
enum action {
    RV,
    DELAY,
    HANG,
    EXIT,
    VANISH,
    GARBLE,
    WRONG_LENGTH
};

struct order {
    enum mock_function function; /* MOCK_FUNCTION_COUNT: any */
    enum when when;
    uint32_t n;
    enum action action;
    unsigned long value; /* CK_RV, or milliseconds */
};

_Static_assert(MOCK_CALLS_FUNCTIONS == MOCK_FUNCTION_COUNT, "calls.h has a record for each");

static struct {
    char path[4096];
    struct mock_calls *shared;
    struct stat seen; /* of the script as it was read; all zero: there was none */
    uint32_t id;
    size_t n;
    struct order orders[MOCK_ORDERS_MAX];
} script;

static const char *const names[MOCK_FUNCTION_COUNT] = {
    [MOCK_C_INITIALIZE] = "C_Initialize",
    [MOCK_C_FINALIZE] = "C_Finalize",
    [MOCK_C_GET_INFO] = "C_GetInfo",
    [MOCK_C_GET_SLOT_LIST] = "C_GetSlotList",
    [MOCK_C_GET_SLOT_INFO] = "C_GetSlotInfo",
    [MOCK_C_GET_TOKEN_INFO] = "C_GetTokenInfo",
    [MOCK_C_GET_MECHANISM_LIST] = "C_GetMechanismList",
    [MOCK_C_GET_MECHANISM_INFO] = "C_GetMechanismInfo",
    [MOCK_C_INIT_TOKEN] = "C_InitToken",
    [MOCK_C_INIT_PIN] = "C_InitPIN",
    [MOCK_C_SET_PIN] = "C_SetPIN",
    [MOCK_C_OPEN_SESSION] = "C_OpenSession",
    [MOCK_C_CLOSE_SESSION] = "C_CloseSession",
    [MOCK_C_CLOSE_ALL_SESSIONS] = "C_CloseAllSessions",
    [MOCK_C_GET_SESSION_INFO] = "C_GetSessionInfo",
    [MOCK_C_LOGIN] = "C_Login",
    [MOCK_C_LOGOUT] = "C_Logout",
    [MOCK_C_CREATE_OBJECT] = "C_CreateObject",
    [MOCK_C_COPY_OBJECT] = "C_CopyObject",
    [MOCK_C_DESTROY_OBJECT] = "C_DestroyObject",
    [MOCK_C_GET_ATTRIBUTE_VALUE] = "C_GetAttributeValue",
    [MOCK_C_SET_ATTRIBUTE_VALUE] = "C_SetAttributeValue",
    [MOCK_C_FIND_OBJECTS_INIT] = "C_FindObjectsInit",
    [MOCK_C_FIND_OBJECTS] = "C_FindObjects",
    [MOCK_C_FIND_OBJECTS_FINAL] = "C_FindObjectsFinal",
    [MOCK_C_ENCRYPT_INIT] = "C_EncryptInit",
    [MOCK_C_ENCRYPT] = "C_Encrypt",
    [MOCK_C_DECRYPT_INIT] = "C_DecryptInit",
    [MOCK_C_DECRYPT] = "C_Decrypt",
    [MOCK_C_DIGEST_INIT] = "C_DigestInit",
    [MOCK_C_DIGEST] = "C_Digest",
    [MOCK_C_DIGEST_UPDATE] = "C_DigestUpdate",
    [MOCK_C_DIGEST_KEY] = "C_DigestKey",
    [MOCK_C_DIGEST_FINAL] = "C_DigestFinal",
    [MOCK_C_SIGN_INIT] = "C_SignInit",
    [MOCK_C_SIGN] = "C_Sign",
    [MOCK_C_VERIFY_INIT] = "C_VerifyInit",
    [MOCK_C_VERIFY] = "C_Verify",
    [MOCK_C_GENERATE_KEY] = "C_GenerateKey",
    [MOCK_C_GENERATE_KEY_PAIR] = "C_GenerateKeyPair",
    [MOCK_C_WRAP_KEY] = "C_WrapKey",
    [MOCK_C_UNWRAP_KEY] = "C_UnwrapKey",
    [MOCK_C_DERIVE_KEY] = "C_DeriveKey",
    [MOCK_C_GENERATE_RANDOM] = "C_GenerateRandom",
};

#define CODE(code)  \
    {               \
#code, code \
    }
static const struct {
    const char *name;
    CK_RV rv;
} codes[] = {
    CODE(CKR_HOST_MEMORY),
    CODE(CKR_SLOT_ID_INVALID),
    CODE(CKR_GENERAL_ERROR),
    CODE(CKR_FUNCTION_FAILED),
    CODE(CKR_ARGUMENTS_BAD),
    CODE(CKR_ATTRIBUTE_READ_ONLY),
    CODE(CKR_ATTRIBUTE_SENSITIVE),
    CODE(CKR_ATTRIBUTE_TYPE_INVALID),
    CODE(CKR_ATTRIBUTE_VALUE_INVALID),
    CODE(CKR_DATA_LEN_RANGE),
    CODE(CKR_DEVICE_ERROR),
    CODE(CKR_DEVICE_MEMORY),
    CODE(CKR_DEVICE_REMOVED),
    CODE(CKR_FUNCTION_NOT_SUPPORTED),
    CODE(CKR_KEY_HANDLE_INVALID),
    CODE(CKR_KEY_SIZE_RANGE),
    CODE(CKR_KEY_FUNCTION_NOT_PERMITTED),
    CODE(CKR_KEY_UNEXTRACTABLE),
    CODE(CKR_MECHANISM_INVALID),
    CODE(CKR_MECHANISM_PARAM_INVALID),
    CODE(CKR_OBJECT_HANDLE_INVALID),
    CODE(CKR_OPERATION_ACTIVE),
    CODE(CKR_OPERATION_NOT_INITIALIZED),
    CODE(CKR_PIN_INCORRECT),
    CODE(CKR_PIN_LOCKED),
    CODE(CKR_PIN_EXPIRED),
    CODE(CKR_SESSION_CLOSED),
    CODE(CKR_SESSION_COUNT),
    CODE(CKR_SESSION_HANDLE_INVALID),
    CODE(CKR_SESSION_READ_ONLY),
    CODE(CKR_TEMPLATE_INCOMPLETE),
    CODE(CKR_TEMPLATE_INCONSISTENT),
    CODE(CKR_TOKEN_NOT_PRESENT),
    CODE(CKR_TOKEN_WRITE_PROTECTED),
    CODE(CKR_USER_NOT_LOGGED_IN),
    CODE(CKR_WRAPPED_KEY_INVALID),
    CODE(CKR_WRAPPING_KEY_HANDLE_INVALID),
    CODE(CKR_BUFFER_TOO_SMALL),
    CODE(CKR_CRYPTOKI_NOT_INITIALIZED),
};

const char *mock_function_name(enum mock_function f)
{
    return f < MOCK_FUNCTION_COUNT ? names[f] : "?";
}

enum mock_function mock_function_of(const char *name)
{
    int f = 0;

    while (f < MOCK_FUNCTION_COUNT && strcmp(names[f], name) != 0) {
        f++;
    }
    return (enum mock_function)f;
}

bool mock_script_open(const char *folder)
{
    char path[4096];
    int fd;
    void *p = MAP_FAILED;

    (void)snprintf(script.path, sizeof(script.path), "%s/script", folder);
    (void)snprintf(path, sizeof(path), "%s/calls", folder);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    if (ftruncate(fd, (off_t)sizeof(struct mock_calls)) == 0) { /* grows it; what is there stays */
        p = mmap(NULL, sizeof(struct mock_calls), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    (void)close(fd);
    if (p == MAP_FAILED) {
        return false;
    }
    script.shared = p;
    for (size_t i = 0; i < MOCK_FUNCTION_COUNT; i++) {
        (void)snprintf(script.shared->functions[i].name, 32, "%s", names[i]);
    }
    return true;
}

void mock_script_close(void)
{
    if (script.shared != NULL) {
        (void)munmap(script.shared, sizeof(struct mock_calls));
    }
    memset(&script, 0, sizeof(script));
}

/* ---- reading ---- */

static bool parse_code(const char *word, unsigned long *ret)
{
    char *end = NULL;

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(codes[i].name, word) == 0) {
            *ret = codes[i].rv;
            return true;
        }
    }
    *ret = strtoul(word, &end, 0);
    return end != word && *end == '\0';
}

/* Leaves *ret alone unless the word is a number. */
static bool parse_number(const char *word, unsigned long *ret)
{
    char *end = NULL;
    unsigned long n = word != NULL ? strtoul(word, &end, 10) : 0;

    if (word == NULL || end == word || *end != '\0') {
        return false;
    }
    *ret = n;
    return true;
}

/* WHEN, if it is there. *word is then the next word. */
static bool parse_when(const char **word, char **save, struct order *o)
{
    unsigned long n = 1;

    o->when = ALWAYS;
    if (strcmp(*word, "always") == 0) {
        *word = strtok_r(NULL, " \t", save);
    } else if (strcmp(*word, "once") == 0 || parse_number(*word, &n)) {
        o->when = NTH;
        *word = strtok_r(NULL, " \t", save);
    } else if (strcmp(*word, "nth") == 0 || strcmp(*word, "every") == 0) {
        o->when = **word == 'n' ? NTH : EVERY;
        if (!parse_number(strtok_r(NULL, " \t", save), &n)) {
            return false;
        }
        *word = strtok_r(NULL, " \t", save);
    }
    o->n = (uint32_t)n;
    return *word != NULL && n > 0;
}

static bool parse_order(char *line, struct order *o)
{
    static const char *const actions[] = {"rv",     "delay",  "hang",        "exit",
                                          "vanish", "garble", "wrong-length"};
    char *save = NULL;
    const char *word = strtok_r(line, " \t", &save);
    const char *argument;
    size_t i = 0;

    if (word == NULL) {
        return false;
    }
    o->function = mock_function_of(word);
    if (o->function == MOCK_FUNCTION_COUNT && strcmp(word, "*") != 0) {
        return false;
    }
    word = strtok_r(NULL, " \t", &save);
    if (word == NULL || !parse_when(&word, &save, o)) {
        return false;
    }
    while (i < 7 && strcmp(actions[i], word) != 0) {
        i++;
    }
    argument = strtok_r(NULL, " \t", &save);
    o->action = (enum action)i;
    if (i == RV) {
        return argument != NULL && parse_code(argument, &o->value);
    }
    return i == DELAY ? parse_number(argument, &o->value) : i < 7;
}

static void script_read(const struct stat *st)
{
    char text[SCRIPT_BYTES + 1];
    char *save = NULL;
    int fd = open(script.path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, SCRIPT_BYTES) : -1;
    uint32_t id = 2166136261u ^ (uint32_t)st->st_mtim.tv_nsec ^ (uint32_t)st->st_ino;

    script.n = 0;
    script.seen = *st;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (n < 0) {
        return;
    }
    text[n] = '\0';
    for (ssize_t i = 0; i < n; i++) {
        id = (id ^ (uint8_t)text[i]) * 16777619u;
    }
    script.id = id | 1; /* never 0, which the counters begin with */
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (line[0] == '#' || script.n == MOCK_ORDERS_MAX) {
            continue;
        }
        if (parse_order(line, &script.orders[script.n])) {
            script.n++;
        } else {
            static const char text_[] = "mock: a line of the script makes no sense\n";
            (void)!write(STDERR_FILENO, text_, sizeof(text_) - 1);
            abort(); /* a test that attacks nothing must not pass */
        }
    }
}

static void script_refresh(void)
{
    struct stat st = {0};

    if (stat(script.path, &st) != 0) {
        memset(&st, 0, sizeof(st));
    }
    if (st.st_ino != script.seen.st_ino || st.st_size != script.seen.st_size ||
        st.st_mtim.tv_sec != script.seen.st_mtim.tv_sec ||
        st.st_mtim.tv_nsec != script.seen.st_mtim.tv_nsec) {
        script_read(&st);
    }
}

/* ---- carrying out ---- */

static uint32_t count_hit(size_t line)
{
    uint64_t *hits = &script.shared->hits[line];
    uint64_t old = __atomic_load_n(hits, __ATOMIC_SEQ_CST);
    uint64_t next;

    do {
        next = old >> 32 == script.id ? old + 1 : (uint64_t)script.id << 32 | 1u;
    } while (
        !__atomic_compare_exchange_n(hits, &old, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return (uint32_t)next;
}

static bool is_due(size_t line)
{
    const struct order *o = &script.orders[line];
    uint32_t hit = count_hit(line);

    return o->when == ALWAYS || (o->when == NTH && hit == o->n) ||
           (o->when == EVERY && hit % o->n == 0);
}

static void carry_out(const struct order *o, struct mock_call *c)
{
    switch (o->action) {
    case RV:
        c->rv = o->value;
        break;
    case DELAY:
        mock_wait(o->value);
        break;
    case HANG:
        for (;;) {
            mock_wait(1000);
        }
    case EXIT:
        _exit(42);
    case VANISH:
        __atomic_store_n(&script.shared->vanished, script.id, __ATOMIC_SEQ_CST);
        break;
    case GARBLE:
        c->garble = true;
        break;
    case WRONG_LENGTH:
        c->wrong_length = true;
        break;
    }
}

/* As mock_wait(), and counts how many do so at a time. */
static void wait_counted(struct mock_calls_record *record, uint32_t ms)
{
    uint64_t inside = __atomic_add_fetch(&record->inside, 1, __ATOMIC_SEQ_CST);
    uint64_t most = __atomic_load_n(&record->most, __ATOMIC_SEQ_CST);

    while (most < inside && !__atomic_compare_exchange_n(&record->most, &most, inside, false,
                                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    mock_wait(ms);
    if (script.shared != NULL) {
        (void)__atomic_sub_fetch(&record->inside, 1, __ATOMIC_SEQ_CST);
    }
}

void mock_script_apply(struct mock_call *c, uint32_t latency_ms)
{
    struct mock_calls_record *record;

    if (script.shared == NULL) {
        return;
    }
    record = &script.shared->functions[c->function];
    (void)__atomic_add_fetch(&record->calls, 1, __ATOMIC_SEQ_CST);
    if (latency_ms > 0) {
        wait_counted(record, latency_ms);
    }
    if (script.shared == NULL) { /* C_Finalize came in between */
        return;
    }
    script_refresh();
    for (size_t i = 0; i < script.n; i++) {
        const struct order *o = &script.orders[i];

        if ((o->function == c->function || o->function == MOCK_FUNCTION_COUNT) && is_due(i)) {
            (void)__atomic_add_fetch(&record->faults, 1, __ATOMIC_SEQ_CST);
            carry_out(o, c);
            return;
        }
    }
}

bool mock_script_vanished(void)
{
    return script.shared != NULL && script.n > 0 &&
           __atomic_load_n(&script.shared->vanished, __ATOMIC_SEQ_CST) == script.id;
}

void mock_script_count_wrong_pin(void)
{
    (void)__atomic_add_fetch(&script.shared->wrong_pins, 1, __ATOMIC_SEQ_CST);
}
