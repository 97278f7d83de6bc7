/*
 * A file for each URL, so that nothing has to be kept in step with anything. kbs_io_write_file()
 * replaces a file whole or not at all; what it may leave behind when it is interrupted has a dot in
 * its name, and is removed at the next start.
 *
 * There are few files and they change seldom, so the oldest is found by looking at all of them.
 */
#include "fetch/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/log.h"

#define PATH_BYTES (KBS_CACHE_FOLDER_BYTES + 128)

static bool path_of(const struct kbs_cache *c, const char *kind, const char *url,
                    char ret[PATH_BYTES])
{
    uint8_t digest[KBS_SHA256_BYTES];
    char hex[2 * KBS_SHA256_BYTES + 1];

    kbs_sha256(kbs_span_str(url), digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex, sizeof(hex));
    return c->folder[0] != '\0' &&
           snprintf(ret, PATH_BYTES, "%s/%s-%s", c->folder, kind, hex) < PATH_BYTES;
}

static bool is_kept(const char *name)
{
    return strncmp(name, "get-", 4) == 0 && strchr(name, '.') == NULL;
}

int kbs_cache_open(struct kbs_cache *c, struct kbs_span folder, struct kbs_error *err)
{
    *c = (struct kbs_cache){.kept = 0};
    if (folder.len == 0) {
        return 0;
    }
    if (!kbs_span_to_cstr(folder, c->folder, sizeof(c->folder))) {
        return kbs_fail(err, KBS_INPUT, "the path of the cache is too long");
    }
    DIR *d = opendir(c->folder);
    if (d == NULL) {
        return kbs_fail_errno(err, KBS_INPUT, "the cache %s cannot be opened: %s", c->folder,
                              strerror(errno));
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        const char *dot = strchr(e->d_name, '.');
        bool left = dot != NULL &&
                    (strncmp(e->d_name, "get-", 4) == 0 || strncmp(e->d_name, "doc-", 4) == 0);
        if (left) {
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
        c->kept += is_kept(e->d_name) ? 1 : 0;
    }
    (void)closedir(d);
    return 0;
}

bool kbs_cache_get(const struct kbs_cache *c, const char *kind, const char *url,
                   struct kbs_buf *out, int64_t *ret_s)
{
    struct kbs_error why = KBS_ERROR_NONE;
    struct stat st;
    char path[PATH_BYTES];
    bool found = false;

    if (!path_of(c, kind, url, path)) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        kbs_io_read_fd(fd, out, &why) == 0) {
        *ret_s = (int64_t)st.st_mtime;
        found = true;
    }
    kbs_io_close(&fd);
    return found;
}

static void remove_oldest(struct kbs_cache *c)
{
    char oldest[PATH_BYTES] = "";
    int64_t oldest_s = INT64_MAX;
    DIR *d = opendir(c->folder);

    if (d == NULL) {
        return;
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        struct stat st;
        if (is_kept(e->d_name) && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            (int64_t)st.st_mtime < oldest_s) {
            oldest_s = (int64_t)st.st_mtime;
            (void)snprintf(oldest, sizeof(oldest), "%s/%.80s", c->folder, e->d_name);
        }
    }
    if (oldest[0] != '\0' && unlink(oldest) == 0) {
        c->kept--;
    }
    (void)closedir(d);
}

void kbs_cache_put(struct kbs_cache *c, const char *kind, const char *url, struct kbs_span body)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct stat st;
    char path[PATH_BYTES];

    if (!path_of(c, kind, url, path)) {
        return;
    }
    bool is_new = strcmp(kind, "get") == 0 && stat(path, &st) != 0;
    if (is_new && c->kept >= KBS_LIMIT_FETCH_KEPT) {
        remove_oldest(c);
    }
    if (kbs_io_write_file(path, body, 0600, false, &err) != 0) {
        kbs_log_error("cache", &err);
    } else {
        c->kept += is_new ? 1 : 0;
    }
}

void kbs_cache_touch(const struct kbs_cache *c, const char *kind, const char *url)
{
    char path[PATH_BYTES];

    if (path_of(c, kind, url, path)) {
        (void)utimensat(AT_FDCWD, path, NULL, 0);
    }
}
