/*
 * Only kbsd reads the configuration: it is asked, so that the two cannot disagree. Whatever it says
 * is a text of its own.
 */
#include "base/terms.h"
#include "cli/tls.h"
#include "jose/read/json.h"

#define PRINTED_BYTES (512u * 1024)

static const char *text(const json_t *table, const char *name)
{
    return json_string_value(json_object_get(table, name)); /* NULL for null */
}

static bool same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static struct kbs_wire_list list(const json_t *table, const char *name, struct kbs_buf *buf)
{
    struct kbs_wire_list_builder to = {.buf = buf};
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(table, name), i, item)
    {
        kbs_wire_list_add(&to, kbs_span_str(json_string_value(item)));
    }
    return kbs_wire_list_done(&to);
}

static int take_token(struct kbs_tls_host *h, struct kbs_error *err)
{
    const json_t *token = json_object_get(h->config, "token");
    struct kbs_tls_token *t = &h->token;
    const char *mode = text(json_object_get(h->config, "profile"), "mode");
    const char *module = text(token, "module");
    const char *uri = text(token, "uri");
    const char *init_args = text(token, "init_args");
    const char *seccomp = text(token, "seccomp");

    t->pin_file = text(token, "pin_file");
    t->lock_file = text(token, "lock_file");
    t->pin_credential = json_is_true(json_object_get(token, "pin_credential"));
    if (mode == NULL || module == NULL || uri == NULL || init_args == NULL || seccomp == NULL ||
        t->pin_file == NULL || t->lock_file == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "kbsd --print-config lacks something: another version?");
    }
    t->config = (struct kbs_wire_config_token){
        .production = strcmp(mode, "production") == 0 ? 1 : 0,
        .module = kbs_span_str(module),
        .uri = kbs_span_str(uri),
        .init_args = kbs_span_str(init_args),
        .env = list(token, "env", &h->env),
        .seccomp = strcmp(seccomp, "log") == 0 ? KBS_SECCOMP_LOG : KBS_SECCOMP_KILL,
        .folders = list(token, "folders", &h->folders)};
    return kbs_buf_check(&h->env, "env", err) != 0 ? -1
                                                   : kbs_buf_check(&h->folders, "folders", err);
}

static int take_server(struct kbs_tls_host *h, struct kbs_error *err)
{
    bool guest = strcmp(h->listener, "guest") == 0;
    const json_t *own = json_object_get(h->config, guest ? "http_server" : "admin_server");
    const json_t *other = json_object_get(h->config, guest ? "admin_server" : "http_server");

    h->certificate = text(own, "certificate");
    h->key_file = text(own, "private_key");
    h->key_uri = text(own, "key_uri");
    if (json_array_size(json_object_get(own, "sockets")) == 0) {
        return kbs_fail(err, KBS_INPUT, "the %s listener has no TLS", h->listener);
    }
    if (h->certificate == NULL || (h->key_file == NULL) == (h->key_uri == NULL)) {
        return kbs_fail(err, KBS_INTERNAL, "kbsd --print-config lacks something: another version?");
    }
    h->shared = json_array_size(json_object_get(other, "sockets")) != 0 &&
                same(h->certificate, text(other, "certificate"));
    h->key_shared =
        same(h->key_file, text(other, "private_key")) && same(h->key_uri, text(other, "key_uri"));
    return 0;
}

int kbs_tls_host_read(const char *file, const char *listener, struct kbs_tls_host *ret,
                      struct kbs_error *err)
{
    char *argv[] = {(char *)(uintptr_t) "kbsd", (char *)(uintptr_t) "-c", (char *)(uintptr_t)file,
                    (char *)(uintptr_t) "--print-config", NULL};
    struct kbs_buf printed = KBS_BUF(PRINTED_BYTES);
    int r = kbs_cli_program_read(argv, &printed, err);

    ret->listener = listener;
    if (r == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&printed), "kbsd --print-config", &ret->config, err);
    }
    kbs_buf_deinit(&printed);
    return r == 0 && take_server(ret, err) == 0 ? take_token(ret, err) : -1;
}

void kbs_tls_host_deinit(struct kbs_tls_host *h)
{
    kbs_buf_deinit(&h->env);
    kbs_buf_deinit(&h->folders);
    json_decref(h->config);
    h->config = NULL;
}
