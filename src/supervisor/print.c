/*
 * Written by hand, not with the JSON library, which only src/config knows. Members are in the order
 * of docs/configuration.md; what is not there is null, so that a reader finds every member.
 */
#include "supervisor/print.h"

#include "base/encoding.h"
#include "base/io.h"

#define PRINT_BYTES (512u * 1024)

/* "name":"value", or null. `before` separates. */
static void put_text(struct kbs_buf *out, const char *before, const char *name, const char *value)
{
    kbs_buf_printf(out, "%s\"%s\":", before, name);
    if (value != NULL) {
        kbs_json_string_put(out, kbs_span_str(value));
    } else {
        kbs_buf_put_str(out, "null");
    }
}

static void put_list(struct kbs_buf *out, const char *name, const struct kbs_config_strings *list)
{
    kbs_buf_printf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < list->n; i++) {
        kbs_buf_put_str(out, i > 0 ? "," : "");
        kbs_json_string_put(out, kbs_span_str(list->v[i]));
    }
    kbs_buf_put_str(out, "]");
}

static void put_sockets(struct kbs_buf *out, const char *before, const char *name,
                        const struct kbs_config_socket *sockets, size_t n)
{
    kbs_buf_printf(out, "%s\"%s\":[", before, name);
    for (size_t i = 0; i < n; i++) {
        kbs_buf_put_str(out, i > 0 ? "," : "");
        kbs_json_string_put(out, kbs_span_str(sockets[i].text));
    }
    kbs_buf_put_str(out, "]");
}

static void put_server(struct kbs_buf *out, const char *table, const struct kbs_config_server *s)
{
    kbs_buf_printf(out, ",\n\"%s\":", table);
    put_sockets(out, "{", "sockets", s->sockets, s->n_sockets);
    put_sockets(out, ",", "plain_sockets", s->plain_sockets, s->n_plain_sockets);
    put_text(out, ",", "private_key", s->private_key);
    put_text(out, ",", "key_uri", s->key_uri);
    put_text(out, ",", "certificate", s->certificate);
    put_text(out, ",", "client_ca", s->client_ca);
    if (s->n_sockets > 0) {
        kbs_buf_printf(out, ",\"tls\":{\"min_version\":\"1.%u\",\"max_version\":\"1.%u\"",
                       s->tls.minimum, s->tls.maximum);
        put_text(out, ",", "ciphers", s->tls.ciphers);
        put_text(out, ",", "groups", s->tls.groups);
        kbs_buf_put_str(out, "}}");
    } else {
        kbs_buf_put_str(out, ",\"tls\":null}");
    }
}

static void put_token(struct kbs_buf *out, const struct kbs_config_token *t)
{
    put_text(out, ",\n\"token\":{", "module", t->module);
    put_text(out, ",", "uri", t->uri);
    put_text(out, ",", "pin_file", t->pin_file);
    kbs_buf_printf(out, ",\"pin_credential\":%s", t->pin_credential ? "true" : "false");
    put_text(out, ",", "lock_file", t->lock_file);
    put_text(out, ",", "init_args", t->init_args);
    put_list(out, "env", &t->env);
    put_list(out, "folders", &t->folders);
    put_text(out, ",", "seccomp", t->seccomp);
    kbs_buf_printf(out, ",\"lanes\":%u}", t->lanes);
}

int kbsd_print_config(const struct kbs_config *config, int fd, struct kbs_error *err)
{
    struct kbs_buf out = KBS_BUF(PRINT_BYTES);
    put_text(&out, "{", "file", config->file);
    put_text(&out, ",\n\"profile\":{", "mode", config->mode);
    kbs_buf_put_str(&out, "}");
    put_server(&out, "http_server", &config->guest);
    put_server(&out, "admin_server", &config->admin);
    put_token(&out, &config->token);
    put_text(&out, ",\n\"store\":{", "path", config->store_path);
    put_text(&out, "},\n\"audit\":{", "path", config->audit_path);
    kbs_buf_put_str(&out, "}}\n");
    int rc = kbs_buf_check(&out, "the configuration", err);
    if (rc == 0) {
        rc = kbs_io_write_all(fd, out.p, out.len, KBS_DEADLINE_NONE, err);
    }
    kbs_buf_deinit(&out);
    return rc;
}
