/*
 * Handing the two folders that roles write into to those roles' users, and what kbsd opens (PIN, TLS
 * key, configuration, the folder for its ledger) to kbsd's, if there is a user of that name: as a
 * systemd unit it is not root. The security officer's PIN and the administrator's private key stay
 * root's.
 *
 * This happens after the token was made, in a folder that until now only root could enter, so there
 * is nobody who could put a link in the way; links are not followed all the same.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/init.h"

#define ENTRY_BYTES 4096
#define DEPTH_MAX 4 /* token/tokens/<uuid>/<object> */

struct owner {
    uid_t uid;
    gid_t gid;
};

/* As in kbsd's defaults (docs/configuration.md, [users]) and docs/systemd/kbs-hsm.sysusers. */
enum role {
    ROLE_FRONT,
    ROLE_JUDGE,
    ROLE_TOKEN,
    ROLE_AUDIT,
    ROLE_KBSD, /* need not exist: then kbsd is root */
    ROLE_COUNT
};

static bool find_owners(struct owner owners[ROLE_COUNT])
{
    static const char *const names[ROLE_COUNT] = {
        [ROLE_FRONT] = "kbs-front", [ROLE_JUDGE] = "kbs-judge", [ROLE_TOKEN] = "kbs-token",
        [ROLE_AUDIT] = "kbs-audit", [ROLE_KBSD] = "kbsd",
    };
    struct passwd entry;
    struct passwd *found = NULL;
    char text[ENTRY_BYTES];

    for (size_t i = 0; i < ROLE_COUNT; i++) {
        if (getpwnam_r(names[i], &entry, text, sizeof(text), &found) == 0 && found != NULL) {
            owners[i] = (struct owner){.uid = entry.pw_uid, .gid = entry.pw_gid};
        } else if (i == ROLE_KBSD) {
            owners[i] = (struct owner){.uid = 0, .gid = 0};
        } else {
            return false;
        }
    }
    return true;
}

static int give(int parent, const char *name, const struct owner *to, unsigned int depth,
                struct kbs_error *err)
{
    struct stat st;
    int rc = 0;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        fchownat(parent, name, to->uid, to->gid, AT_SYMLINK_NOFOLLOW) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "cannot hand out %.120s", name);
    }
    if (!S_ISDIR(st.st_mode) || depth == 0) {
        return 0;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        (void)kbs_fail_errno(err, KBS_INTERNAL, "cannot read %.120s", name);
        kbs_io_close(&fd);
        return -1;
    }
    for (const struct dirent *e = readdir(d); e != NULL && rc == 0; e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            rc = give(dirfd(d), e->d_name, to, depth - 1, err);
        }
    }
    (void)closedir(d);
    return rc;
}

/* What kbsd opens, and the folders on the way to it. */
static int give_to_kbsd(const struct kbs_init *in, const struct owner *kbsd, struct kbs_error *err)
{
    static const struct {
        const char *name;
        unsigned int depth;
    } what[] = {{"pin", 0}, {"tls", 1}, {"admin", 0}, {"admin/admin.pub.pem", 0}, {"kbs.toml", 0}};
    char path[KBS_INIT_PATH_BYTES];

    for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
        kbs_init_path(in, what[i].name, path);
        if (give(AT_FDCWD, path, kbsd, what[i].depth, err) != 0) {
            return -1;
        }
    }
    return give(AT_FDCWD, in->folder, kbsd, 0, err);
}

int kbs_init_hand_out(struct kbs_init *in, struct kbs_error *err)
{
    struct owner owners[ROLE_COUNT];
    char token[KBS_INIT_PATH_BYTES];
    char store[KBS_INIT_PATH_BYTES];

    if (geteuid() != 0 || !find_owners(owners)) {
        return 0;
    }
    kbs_init_path(in, "token", token);
    kbs_init_path(in, "store", store);
    if (give(AT_FDCWD, token, &owners[ROLE_TOKEN], DEPTH_MAX, err) != 0 ||
        give(AT_FDCWD, store, &owners[ROLE_JUDGE], DEPTH_MAX, err) != 0 ||
        give_to_kbsd(in, &owners[ROLE_KBSD], err) != 0) {
        return -1;
    }
    if (chmod(in->folder, 0711) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "cannot open the folder for the roles");
    }
    in->handed_out = true;
    return 0;
}
