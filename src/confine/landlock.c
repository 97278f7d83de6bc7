/*
 * Landlock: which paths, and which TCP ports, are left to the role. Nothing but its own folders; no
 * binding at all, and no connection but kbs-fetch's. It is a wall of its own behind seccomp: the judge and kbs-token
 * have to be allowed openat(2), which seccomp cannot look into.
 *
 * The kernel interface is spelt out here (Linux Documentation/userspace-api/landlock.rst), because
 * the headers of the machine that builds say nothing about the kernel that runs. What a kernel does
 * not know yet is left out, by the ABI version it reports: 1 (Linux 5.13) files, 2 (5.19) moving
 * between folders, 3 (6.2) truncating, 4 (6.7) TCP, 5 (6.10) ioctl on devices, 6 (6.12) signals and
 * abstract unix sockets. Debian 12 has 2.
 *
 * It holds for the calling thread and the threads it will make. A module that brought its own
 * threads is therefore an error, not half a wall.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "confine/list.h"

/* The same numbers on every architecture. */
#define NR_CREATE_RULESET 444
#define NR_ADD_RULE 445
#define NR_RESTRICT_SELF 446

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1

#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_REG (UINT64_C(1) << 8)
#define FS_TRUNCATE (UINT64_C(1) << 14)
/* What a role may do in its folders. Making folders, links and devices is not among it. */
#define FS_OWN_FOLDER \
    (FS_WRITE_FILE | FS_READ_FILE | FS_READ_DIR | FS_REMOVE_FILE | FS_MAKE_REG | FS_TRUNCATE)

#define NET_BIND UINT64_C(1)
#define NET_CONNECT UINT64_C(2)
#define SCOPE_ALL UINT64_C(3) /* abstract unix sockets, signals */

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* ABI 4 */
    uint64_t scoped;             /* ABI 6 */
};

struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

/* All file rights that a version can refuse. */
static uint64_t fs_all(int abi)
{
    static const unsigned int bits[] = {0, 13, 14, 15, 15, 16}; /* by ABI; the newest for later */
    size_t i = (size_t)abi < sizeof(bits) / sizeof(bits[0]) ? (size_t)abi
                                                            : sizeof(bits) / sizeof(bits[0]) - 1;

    return (UINT64_C(1) << bits[i]) - 1;
}

static int allow(int ruleset, const char *path, uint64_t rights, struct kbs_error *err)
{
    struct path_beneath_attr rule = {.allowed_access = rights};
    int fd = open(path, O_PATH | O_CLOEXEC);
    long rc;

    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INPUT, "landlock: cannot open %.120s", path);
    }
    rule.parent_fd = fd;
    rc = syscall(NR_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
    if (rc != 0) {
        (void)kbs_fail_errno(err, KBS_INPUT, "landlock: no rule for %.120s", path);
    }
    kbs_io_close(&fd);
    return rc == 0 ? 0 : -1;
}

static int add_rules(int ruleset, const struct kbs_confine_list *list,
                     const struct kbs_confine_plan *plan, uint64_t handled, struct kbs_error *err)
{
    for (size_t i = 0; list->readable[i] != NULL; i++) {
        /* A machine may lack it; then there is nothing to allow. */
        if (access(list->readable[i], R_OK) == 0 &&
            allow(ruleset, list->readable[i], FS_READ_FILE, err) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < plan->n_folders; i++) {
        if (allow(ruleset, plan->folders[i], FS_OWN_FOLDER & handled, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int check_one_thread(struct kbs_error *err)
{
    DIR *d = opendir("/proc/self/task");
    size_t n = 0;

    if (d == NULL) {
        return kbs_fail_errno(err, KBS_INPUT, "landlock: cannot count threads in /proc");
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += e->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(d);
    return n == 1 ? 0
                  : kbs_fail(err, KBS_INPUT, "landlock: does not reach %zu other threads", n - 1);
}

int kbs_confine_landlock(const struct kbs_confine_list *list, const struct kbs_confine_plan *plan,
                         int *ret_abi, struct kbs_error *err)
{
    long abi = syscall(NR_CREATE_RULESET, NULL, (size_t)0, CREATE_RULESET_VERSION);
    int rc = -1;

    *ret_abi = abi > 0 ? (int)abi : 0;
    if (abi < 1) {
        return kbs_fail_errno(err, KBS_INPUT,
                              "landlock: this kernel has it not, or not switched on");
    }
    const struct ruleset_attr attr = {
        .handled_access_fs = fs_all(*ret_abi),
        .handled_access_net = abi >= 4 ? NET_BIND | (list->connects ? 0 : NET_CONNECT) : 0,
        .scoped = abi >= 6 ? SCOPE_ALL : 0,
    };
    int ruleset = (int)syscall(NR_CREATE_RULESET, &attr, sizeof(attr), 0u);
    if (ruleset < 0) {
        return kbs_fail_errno(err, KBS_INPUT, "landlock: no rule set");
    }
    if (add_rules(ruleset, list, plan, attr.handled_access_fs, err) == 0 &&
        check_one_thread(err) == 0) {
        rc = (int)syscall(NR_RESTRICT_SELF, ruleset, 0u);
        if (rc != 0) {
            (void)kbs_fail_errno(err, KBS_INPUT, "landlock: refused");
        }
    }
    kbs_io_close(&ruleset);
    return rc;
}
