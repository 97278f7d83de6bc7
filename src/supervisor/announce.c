/*
 * Tests and demonstrations wait for the announcement file instead of polling ports, and find in it
 * the ports that "port 0" became and the processes to look into. It is replaced as a whole, so a
 * reader never sees half of it.
 */
#include "supervisor/announce.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/encoding.h"
#include "base/io.h"

#define ANNOUNCEMENT_BYTES 65536

static void put_urls(struct kbs_buf *out, const char *name, const struct kbsd_listeners *l,
                     bool tls)
{
    bool first = true;
    kbs_buf_printf(out, "\"%s\":[", name);
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].tls == tls) {
            kbs_buf_put_str(out, first ? "" : ",");
            kbs_json_string_put(out, kbs_span_str(l->v[i].url));
            first = false;
        }
    }
    kbs_buf_put_str(out, "],");
}

static void put_roles(struct kbs_buf *out, const struct kbsd_unit *u, bool *first)
{
    for (size_t i = 0; i < u->n_children; i++) {
        kbs_buf_printf(
            out, "%s{\"role\":\"%s\",\"pid\":%ld,\"unit\":\"%s\",\"lane\":", *first ? "" : ",",
            kbsd_role_name(u->children[i].role), (long)u->children[i].pid, u->name);
        if (u->kind == KBSD_UNIT_LANE) {
            kbs_buf_printf(out, "%u}", (unsigned int)u->index);
        } else {
            kbs_buf_put_str(out, "null}");
        }
        *first = false;
    }
}

int kbsd_announce(const char *path, const struct kbsd_listeners *guest,
                  const struct kbsd_listeners *admin, const struct kbsd_unit *units, size_t n_units,
                  struct kbs_error *err)
{
    struct kbs_buf out = KBS_BUF(ANNOUNCEMENT_BYTES);
    bool first = true;
    kbs_buf_printf(&out, "{\"pid\":%ld,", (long)getpid());
    put_urls(&out, "guest", guest, true);
    put_urls(&out, "guest_plain", guest, false);
    put_urls(&out, "admin", admin, true);
    kbs_buf_put_str(&out, "\"roles\":[");
    for (size_t i = 0; i < n_units; i++) {
        if (units[i].state == KBSD_UNIT_UP && units[i].ready_ns != 0) {
            put_roles(&out, &units[i], &first);
        }
    }
    kbs_buf_put_str(&out, "]}\n");
    int rc = kbs_buf_check(&out, "the announcement", err);
    if (rc == 0) {
        rc = kbs_io_write_file(path, kbs_buf_span(&out), 0644, false, err);
    }
    kbs_buf_deinit(&out);
    return rc;
}

void kbsd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    if (len < 2 || len >= sizeof(un.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(un.sun_path, path, len);
    if (path[0] == '@') {
        un.sun_path[0] = '\0'; /* the abstract name space */
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
                      (const struct sockaddr *)&un,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    }
    kbs_io_close(&fd);
}
