/*
 * kbs-token closes the file system to its module but for the folders that it is told of. A service's operator names
 * them in kbs.toml. At a command line SoftHSM and NSS have said already where they keep their files: in SoftHSM's
 * configuration (softhsm2.conf(5): SOFTHSM2_CONF, else the user's, else the system's), in the
 * configdir of NSS's arguments. A module in hardware needs none.
 */
#include "providers/folders.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

#define CONFIG_BYTES 65536u
#define PATH_BYTES 4096u
#define SYSTEM_CONFIG "/etc/softhsm/softhsm2.conf"

static void put_each(const char *folders, struct kbs_wire_list_builder *list)
{
    for (const char *p = folders; *p != '\0';) {
        size_t n = strcspn(p, ":");

        if (n > 0) {
            kbs_wire_list_add(list, kbs_span(p, n));
        }
        p += n + (p[n] != '\0' ? 1 : 0);
    }
}

/* configdir='sql:/folder' */
static void put_of_nss(const char *init_args, struct kbs_wire_list_builder *list)
{
    const char *p = strstr(init_args, "configdir=");
    size_t n;
    char quote;

    if (p == NULL) {
        return;
    }
    p += strlen("configdir=");
    quote = *p == '\'' || *p == '"' ? *p : ' ';
    p += quote != ' ' ? 1 : 0;
    p += strncmp(p, "sql:", 4) == 0 ? 4 : 0;
    n = (size_t)(strchrnul(p, quote) - p);
    if (n > 0) {
        kbs_wire_list_add(list, kbs_span(p, n));
    }
}

/* The value of a variable as kbs-token's module will see it. */
static bool variable(const struct kbs_settings *s, const char *name, char out[PATH_BYTES])
{
    const size_t n = strlen(name);
    const char *value = getenv(name);
    size_t len = value != NULL ? strlen(value) : 0;

    for (const char *p = s->env != NULL ? s->env : ""; *p != '\0';) {
        size_t part = strcspn(p, ";");

        if (part > n && strncmp(p, name, n) == 0 && p[n] == '=') {
            value = p + n + 1;
            len = part - n - 1;
        }
        p += part + (p[part] != '\0' ? 1 : 0);
    }
    return value != NULL && len > 0 && kbs_span_to_cstr(kbs_span(value, len), out, PATH_BYTES);
}

static void softhsm_config(const struct kbs_settings *s, char out[PATH_BYTES])
{
    char home[PATH_BYTES];

    if (variable(s, "SOFTHSM2_CONF", out)) {
        return;
    }
    if (variable(s, "HOME", home) &&
        snprintf(out, PATH_BYTES, "%s/.config/softhsm2/softhsm2.conf", home) < (int)PATH_BYTES &&
        access(out, R_OK) == 0) {
        return;
    }
    (void)snprintf(out, PATH_BYTES, "%s", SYSTEM_CONFIG);
}

/* "directories.tokendir = /folder" */
static void put_of_softhsm(const struct kbs_settings *s, struct kbs_wire_list_builder *list)
{
    struct kbs_buf text = KBS_BUF(CONFIG_BYTES);
    struct kbs_error ignored = KBS_ERROR_NONE;
    char path[PATH_BYTES];
    char *save = NULL;
    char *copy;

    softhsm_config(s, path);
    if (kbs_io_read_file(path, &text, &ignored) != 0 || kbs_buf_cstr(&text) == NULL ||
        (copy = strdup(kbs_buf_cstr(&text))) == NULL) {
        kbs_buf_deinit(&text);
        return; /* the module will say what it misses */
    }
    for (char *line = strtok_r(copy, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, '=');

        line += strspn(line, " \t");
        if (value != NULL && strncmp(line, "directories.tokendir", 20) == 0) {
            value += 1 + strspn(value + 1, " \t");
            value[strcspn(value, " \t\r")] = '\0';
            kbs_wire_list_add(list, kbs_span_str(value));
        }
    }
    free(copy);
    kbs_buf_deinit(&text);
}

int kbs_folders_put(const struct kbs_settings *s, struct kbs_wire_list_builder *list,
                    struct kbs_error *err)
{
    if (s->folders != NULL) {
        put_each(s->folders, list);
    } else if (s->init_args != NULL) {
        put_of_nss(s->init_args, list);
    } else if (strstr(s->module, "softhsm") != NULL) {
        put_of_softhsm(s, list);
    }
    return kbs_buf_check(list->buf, "the module's folders", err);
}
