/*
 * RFC 7512, as far as it names a private or public key: the attributes of tokens (token, serial, manufacturer, model)
 * and objects (object, id, type), and the queries module-path and pin-source. kbs-token parses what is handed on
 * to it with p11-kit; here only the parts are told apart, and anything else is refused: an attribute that
 * was passed over might be the one that told two keys apart.
 *
 * pin-value is refused, since a command line is seen by everybody on the machine; a pin-source that is a
 * command (RFC 7512 section 4) because nothing is run here but kbs-token.
 *
 * The environment of a process that runs with its caller's rights raised is not looked at (secure_getenv(3)).
 */
#include "providers/settings.h"

#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#include "base/encoding.h"
#include "base/io.h"

#define SCHEME "pkcs11:"
#define PATH_BYTES 4096u
#define PROGRAM "/kbs-token"

/* Percent-decoded (RFC 3986 section 2.1). Returns owned; NULL if it is none, or has a NUL. */
static char *decoded(struct kbs_span text)
{
    struct kbs_buf out = KBS_BUF(PATH_BYTES);
    const char *plain;
    bool ok = true;
    char *copy;

    for (size_t i = 0; ok && i < text.len; i++) {
        unsigned int value = text.p[i];

        if (value == '%') {
            char hex[3] = {0};
            char *end;

            ok = text.len - i > 2;
            memcpy(hex, text.p + i + 1, ok ? 2 : 0);
            value = (unsigned int)strtoul(hex, &end, 16);
            ok = ok && end == hex + 2 && hex[0] != '+' && hex[0] != '-' && hex[0] != ' ';
            i += 2;
        }
        ok = ok && value != 0;
        kbs_buf_put_u8(&out, (uint8_t)value);
    }
    plain = ok ? kbs_buf_cstr(&out) : NULL;
    copy = plain != NULL ? strdup(plain) : NULL;
    kbs_buf_deinit(&out);
    return copy;
}

/* Cuts off what precedes the next `separator`, or all. False when nothing is left. */
static bool next_part(struct kbs_span *rest, char separator, struct kbs_span *ret)
{
    const uint8_t *end;

    if (rest->len == 0) {
        return false;
    }
    end = memchr(rest->p, separator, rest->len);
    *ret = kbs_span(rest->p, end != NULL ? (size_t)(end - rest->p) : rest->len);
    *rest = kbs_span_skip(*rest, ret->len + 1);
    return true;
}

static bool split(struct kbs_span part, struct kbs_span *ret_name, struct kbs_span *ret_value)
{
    const uint8_t *equals = part.len > 0 ? memchr(part.p, '=', part.len) : NULL;

    if (equals == NULL || equals == part.p) {
        return false;
    }
    *ret_name = kbs_span(part.p, (size_t)(equals - part.p));
    *ret_value = kbs_span_skip(part, ret_name->len + 1);
    return true;
}

static bool is_one_of(struct kbs_span name, const char *const *names)
{
    while (*names != NULL && !kbs_span_equal_str(name, *names)) {
        names++;
    }
    return *names != NULL;
}

/* ---- the path ---- */

static void put_attribute(struct kbs_buf *uri, struct kbs_span attribute)
{
    kbs_buf_put_str(uri, uri->len > sizeof(SCHEME) - 1 ? ";" : "");
    kbs_buf_put_span(uri, attribute);
}

static int take_attribute(struct kbs_settings *s, struct kbs_span attribute, struct kbs_buf *token,
                          struct kbs_buf *key, struct kbs_error *err)
{
    static const char *const of_tokens[] = {"token", "serial", "manufacturer", "model", NULL};
    static const char *const of_objects[] = {"object", "id", NULL};
    struct kbs_span name;
    struct kbs_span value;

    if (!split(attribute, &name, &value)) {
        return kbs_fail(err, KBS_INPUT, "the URI has a part that is not NAME=VALUE");
    }
    if (is_one_of(name, of_tokens)) {
        put_attribute(token, attribute);
        put_attribute(key, attribute);
    } else if (is_one_of(name, of_objects)) {
        put_attribute(key, attribute);
    } else if (!kbs_span_equal_str(name, "type")) {
        return kbs_fail(err, KBS_INPUT, "the URI's attribute %.*s does not name a key here",
                        (int)(name.len < 40 ? name.len : 40), (const char *)name.p);
    } else if (kbs_span_equal_str(value, "public")) {
        s->public_only = true;
    } else if (!kbs_span_equal_str(value, "private")) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the URI names no key: type=private or type=public");
    }
    return 0;
}

static int take_path(struct kbs_settings *s, struct kbs_span path, struct kbs_error *err)
{
    struct kbs_buf token = KBS_BUF(KBS_SETTINGS_URI_BYTES - 1);
    struct kbs_buf key = KBS_BUF(KBS_SETTINGS_URI_BYTES - 1);
    struct kbs_span attribute;
    int r = 0;

    kbs_buf_put_str(&token, SCHEME);
    kbs_buf_put_str(&key, SCHEME);
    while (r == 0 && next_part(&path, ';', &attribute)) {
        r = take_attribute(s, attribute, &token, &key, err);
    }
    if (r == 0 && (token.failed || key.failed)) {
        r = kbs_fail(err, KBS_TOO_LARGE, "the URI has over %d bytes", KBS_SETTINGS_URI_BYTES - 1);
    }
    if (r == 0) {
        s->token = strdup(kbs_buf_cstr(&token));
        s->key = strdup(kbs_buf_cstr(&key));
    }
    kbs_buf_deinit(&token);
    kbs_buf_deinit(&key);
    return r;
}

/* ---- the query ---- */

static int take_text(char **place, struct kbs_span value, const char *name, struct kbs_error *err)
{
    if (*place != NULL) {
        return kbs_fail(err, KBS_INPUT, "the URI has %s twice", name);
    }
    *place = decoded(value);
    return *place != NULL && **place != '\0'
               ? 0
               : kbs_fail(err, KBS_INPUT, "the URI's %s is no path", name);
}

static int take_query(struct kbs_settings *s, struct kbs_span part, struct kbs_error *err)
{
    struct kbs_span name;
    struct kbs_span value;

    if (!split(part, &name, &value)) {
        return kbs_fail(err, KBS_INPUT, "the URI has a query that is not NAME=VALUE");
    }
    if (kbs_span_equal_str(name, "pin-value")) {
        return kbs_fail(err, KBS_DENIED,
                        "pin-value: a PIN in a URI is seen by others; put it in a file and say "
                        "pin-source=file:PATH");
    }
    if (kbs_span_equal_str(name, "module-path")) {
        return take_text(&s->module, value, "module-path", err);
    }
    if (kbs_span_equal_str(name, "pin-source")) {
        value = kbs_span_skip(value, kbs_span_starts_with(value, "file://") ? 7
                                     : kbs_span_starts_with(value, "file:") ? 5
                                                                            : 0);
        if (take_text(&s->pin_file, value, "pin-source", err) != 0) {
            return -1;
        }
        return s->pin_file[0] != '|'
                   ? 0
                   : kbs_fail(err, KBS_UNSUPPORTED, "pin-source: only a file, not a command");
    }
    return kbs_fail(err, KBS_INPUT,
                    "the URI's query %.*s is unknown: module-path and pin-source are",
                    (int)(name.len < 40 ? name.len : 40), (const char *)name.p);
}

static int take_uri(struct kbs_settings *s, struct kbs_span uri, struct kbs_error *err)
{
    struct kbs_span path;
    struct kbs_span part;

    if (!kbs_span_starts_with(uri, SCHEME)) {
        return kbs_fail(err, KBS_INPUT, "not a pkcs11: URI");
    }
    uri = kbs_span_skip(uri, sizeof(SCHEME) - 1);
    path = KBS_SPAN_EMPTY;
    if (uri.len > 0 && uri.p[0] != '?') {
        (void)next_part(&uri, '?', &path);
    } else {
        uri = kbs_span_skip(uri, 1);
    }
    if (take_path(s, path, err) != 0) {
        return -1;
    }
    while (next_part(&uri, '&', &part)) {
        if (take_query(s, part, err) != 0) {
            return -1;
        }
    }
    return s->token != NULL && s->key != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

/* ---- environment and openssl.cnf ---- */

/* What was not said yet: by the environment, else by the provider's section. */
static void fill(const struct kbs_provider *provider, char **place, const char *variable,
                 const char *parameter)
{
    char *from_section = NULL;
    OSSL_PARAM request[] = {OSSL_PARAM_construct_utf8_ptr(parameter, &from_section, 0),
                            OSSL_PARAM_construct_end()};
    const char *text = secure_getenv(variable);

    if (*place != NULL) {
        return;
    }
    if ((text == NULL || *text == '\0') && provider->get_params(provider->handle, request) == 1) {
        text = from_section;
    }
    *place = text != NULL && *text != '\0' ? strdup(text) : NULL;
}

/* KBS_LIBEXEC is a folder; the section may name the program itself. */
static int fill_program(const struct kbs_provider *provider, struct kbs_settings *s,
                        struct kbs_error *err)
{
    struct kbs_buf path = KBS_BUF(PATH_BYTES);
    char *folder = NULL;
    const char *text;

    fill(provider, &s->program, "KBS_TOKEN_PROGRAM", "kbs-token");
    if (s->program == NULL) {
        fill(provider, &folder, "KBS_LIBEXEC", "libexec");
        kbs_buf_put_str(&path, folder != NULL ? folder : KBS_BINDIR);
        kbs_buf_put_str(&path, PROGRAM);
        text = kbs_buf_cstr(&path);
        s->program = text != NULL ? strdup(text) : NULL;
        free(folder);
        kbs_buf_deinit(&path);
    }
    return s->program != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

int kbs_settings_read(const struct kbs_provider *provider, const char *uri,
                      struct kbs_settings *ret, struct kbs_error *err)
{
    char *seccomp = NULL;

    *ret = (struct kbs_settings){.token = NULL};
    if (take_uri(ret, kbs_span_str(uri), err) != 0) {
        return -1;
    }
    fill(provider, &ret->module, "KBS_PKCS11_MODULE", "pkcs11-module");
    fill(provider, &ret->pin_file, "KBS_PKCS11_PIN_FILE", "pin-file");
    fill(provider, &ret->init_args, "KBS_PKCS11_INIT_ARGS", "init-args");
    fill(provider, &ret->env, "KBS_PKCS11_ENV", "env");
    fill(provider, &ret->folders, "KBS_PKCS11_FOLDERS", "folders");
    fill(provider, &seccomp, "KBS_PKCS11_SECCOMP", "seccomp");
    ret->seccomp_log = seccomp != NULL && strcmp(seccomp, "log") == 0;
    free(seccomp);
    if (ret->module == NULL) {
        return kbs_fail(err, KBS_MISSING,
                        "no PKCS#11 module: KBS_PKCS11_MODULE, module-path in the URI, or "
                        "pkcs11-module in "
                        "the provider's section");
    }
    if (ret->pin_file == NULL) {
        return kbs_fail(
            err, KBS_MISSING,
            "no PIN: KBS_PKCS11_PIN_FILE, pin-source=file:PATH in the URI, or pin-file in "
            "the provider's section");
    }
    return fill_program(provider, ret, err);
}

void kbs_settings_deinit(struct kbs_settings *s)
{
    char *const texts[] = {s->token,     s->key, s->module,  s->pin_file,
                           s->init_args, s->env, s->folders, s->program};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        free(texts[i]);
    }
    *s = (struct kbs_settings){.token = NULL};
}
