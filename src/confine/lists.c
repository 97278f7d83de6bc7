/*
 * The system calls each role may still make once it serves, to be read. A call that is not here
 * ends the process (SIGSYS), so a list is what strace showed over all suites, plus what the C
 * library, OpenSSL, SQLite and the two token modules do on the paths that those did not take, each
 * with its reason. Names come in the spelling of several architectures and C libraries side by side
 * (newfstatat, fstat; unlink, unlinkat); the goal is at most 45 names per role.
 *
 * What no list has: execve, ptrace and process_vm_*, kill, prctl, bpf, io_uring
 * (which would open files past this filter), mount, bind, and anything that makes memory executable.
 * Fork is on one list only, kbs-policy's; socket and connect on one, kbs-fetch's; new threads on that one and
 * on a sign worker's. The threads of a front are there before its list is.
 *
 * Rejected: one list for all roles (as large as the largest); errno instead of death (an exploit
 * may try again, and a bug in a list would show as a strange error far away).
 */
#include "confine/list.h"

/* clang-format off */

/* Memory, time, the end: what any C program does without being asked. */
#define LIST_EVERY_ROLE \
    {"brk", KBS_WHEN_ALWAYS}, {"mmap", KBS_WHEN_NOT_EXEC}, {"mprotect", KBS_WHEN_NOT_EXEC}, \
    {"munmap", KBS_WHEN_ALWAYS}, {"mremap", KBS_WHEN_ALWAYS}, {"madvise", KBS_WHEN_ALWAYS}, \
    {"futex", KBS_WHEN_ALWAYS}, {"getrandom", KBS_WHEN_ALWAYS}, {"getpid", KBS_WHEN_ALWAYS}, \
    {"clock_gettime", KBS_WHEN_ALWAYS},       /* where the vDSO has no clock */ \
    {"rt_sigreturn", KBS_WHEN_ALWAYS}, {"rt_sigprocmask", KBS_WHEN_ALWAYS}, \
    {"restart_syscall", KBS_WHEN_ALWAYS},     /* after SIGSTOP and SIGCONT */ \
    {"read", KBS_WHEN_ALWAYS}, {"write", KBS_WHEN_ALWAYS}, {"close", KBS_WHEN_ALWAYS}, \
    {"poll", KBS_WHEN_ALWAYS}, {"ppoll", KBS_WHEN_ALWAYS}, \
    {"sendto", KBS_WHEN_ALWAYS}, {"recvfrom", KBS_WHEN_ALWAYS}, {"recvmsg", KBS_WHEN_ALWAYS}, \
    {"exit_group", KBS_WHEN_ALWAYS}

/* SQLite in the judge and in NSS; SoftHSM's object files. Landlock says where. */
#define LIST_FILES \
    {"openat", KBS_WHEN_ALWAYS}, {"newfstatat", KBS_WHEN_ALWAYS}, {"fstat", KBS_WHEN_ALWAYS}, \
    {"lseek", KBS_WHEN_ALWAYS}, {"pread64", KBS_WHEN_ALWAYS}, {"pwrite64", KBS_WHEN_ALWAYS}, \
    {"ftruncate", KBS_WHEN_ALWAYS}, {"fsync", KBS_WHEN_ALWAYS}, {"fdatasync", KBS_WHEN_ALWAYS}, \
    {"fcntl", KBS_WHEN_LOCKS}, {"access", KBS_WHEN_ALWAYS}, {"faccessat", KBS_WHEN_ALWAYS}, \
    {"unlink", KBS_WHEN_ALWAYS}, {"unlinkat", KBS_WHEN_ALWAYS}, \
    {"geteuid", KBS_WHEN_ALWAYS}, {"fchown", KBS_WHEN_ALWAYS}, {"fchmod", KBS_WHEN_ALWAYS}, \
    {"clock_nanosleep", KBS_WHEN_ALWAYS}, {"nanosleep", KBS_WHEN_ALWAYS}, /* busy */ \
    {"sysinfo", KBS_WHEN_ALWAYS}              /* qsort(3) asks how much memory there is */

static const struct kbs_confine_call front_calls[] = {
    LIST_EVERY_ROLE,
    {"accept4", KBS_WHEN_ALWAYS}, {"shutdown", KBS_WHEN_ALWAYS}, {"sendmsg", KBS_WHEN_ALWAYS},
    {"getpeername", KBS_WHEN_ALWAYS}, {"getsockopt", KBS_WHEN_DOMAIN},
    {"setsockopt", KBS_WHEN_NODELAY}, {"epoll_ctl", KBS_WHEN_ALWAYS},
    {"epoll_wait", KBS_WHEN_ALWAYS}, {"epoll_pwait", KBS_WHEN_ALWAYS},
    {"fcntl", KBS_WHEN_FLAGS}, {"ioctl", KBS_WHEN_NONBLOCK},
    {"exit", KBS_WHEN_ALWAYS},                /* of its threads, as the process ends */
    {"sched_yield", KBS_WHEN_ALWAYS},         /* libuv, when a thread has just called its loop */
};

static const struct kbs_confine_call judge_calls[] = {
    LIST_EVERY_ROLE, LIST_FILES,
    {"shutdown", KBS_WHEN_ALWAYS},            /* the last answer, api_handle() */
};

#define LIST_TOKEN \
    LIST_EVERY_ROLE, LIST_FILES, \
    {"getdents64", KBS_WHEN_ALWAYS},          /* SoftHSM looks for new objects */ \
    {"socket", KBS_WHEN_NEVER}                /* SoftHSM's syslog(3) */

static const struct kbs_confine_call token_calls[] = {LIST_TOKEN};

/* Only on openCryptoki, and the one list with rename: Landlock keeps it inside one of the folders. */
#define LIST_OPENCRYPTOKI \
    {"flock", KBS_WHEN_ALWAYS},               /* its lock on the token */ \
    {"rename", KBS_WHEN_ALWAYS},              /* its object files are written beside */ \
    {"shmdt", KBS_WHEN_ALWAYS}                /* what it shares with pkcsslotd, at the end */

static const struct kbs_confine_call opencryptoki_calls[] = {LIST_TOKEN, LIST_OPENCRYPTOKI};

/* A sign worker has a thread for each channel of its front (hsm/fronts.c), and malloc(3) arenas for them. */
#define LIST_THREADS \
    {"clone3", KBS_WHEN_UNKNOWN}, {"clone", KBS_WHEN_THREAD}, \
    {"set_robust_list", KBS_WHEN_ALWAYS}, {"rseq", KBS_WHEN_ALWAYS}, {"exit", KBS_WHEN_ALWAYS}, \
    {"sched_getaffinity", KBS_WHEN_ALWAYS}, \
    {"gettid", KBS_WHEN_ALWAYS},              /* NSPR, of a thread that it has not made */ \
    {"rt_sigaction", KBS_WHEN_ALWAYS}         /* the first pthread_create(3): what setuid(2) is told by */

static const struct kbs_confine_call sign_calls[] = {LIST_TOKEN, LIST_THREADS};
static const struct kbs_confine_call sign_opencryptoki_calls[] = {LIST_TOKEN, LIST_OPENCRYPTOKI,
                                                                  LIST_THREADS};

static const struct kbs_confine_call audit_calls[] = {
    LIST_EVERY_ROLE,
    {"newfstatat", KBS_WHEN_ALWAYS}, {"fstat", KBS_WHEN_ALWAYS},
    {"fstatfs", KBS_WHEN_ALWAYS},             /* how much disk is left */
    {"fdatasync", KBS_WHEN_ALWAYS}, {"ftruncate", KBS_WHEN_ALWAYS}, {"lseek", KBS_WHEN_ALWAYS},
};

/* A worker that may die of a policy, and the timer that it dies by (src/policy/rego/worker.c). */
static const struct kbs_confine_call policy_calls[] = {
    LIST_EVERY_ROLE,
    {"clone", KBS_WHEN_FORK}, {"wait4", KBS_WHEN_ALWAYS}, {"setitimer", KBS_WHEN_ALWAYS},
    {"socketpair", KBS_WHEN_ALWAYS},
    {"set_robust_list", KBS_WHEN_ALWAYS}, {"rseq", KBS_WHEN_ALWAYS}, /* fork(3), in the child */
    {"sched_yield", KBS_WHEN_ALWAYS},         /* the engine's locks */
};

/*
 * libcurl, its resolver's threads, and the cache. getaddrinfo(3) reads files at any time, and
 * Landlock says which.
 */
static const struct kbs_confine_call fetch_calls[] = {
    LIST_EVERY_ROLE,
    {"socket", KBS_WHEN_INTERNET}, {"connect", KBS_WHEN_ALWAYS}, {"socketpair", KBS_WHEN_ALWAYS},
    {"getsockopt", KBS_WHEN_ALWAYS}, {"setsockopt", KBS_WHEN_ALWAYS},
    {"getsockname", KBS_WHEN_ALWAYS}, {"getpeername", KBS_WHEN_ALWAYS},
    {"sendmmsg", KBS_WHEN_ALWAYS},            /* both questions of a name in one */
    {"uname", KBS_WHEN_ALWAYS},               /* gethostname(3), for the domain to look in */
    {"ioctl", KBS_WHEN_ALWAYS}, {"fcntl", KBS_WHEN_FLAGS},
    {"rt_sigaction", KBS_WHEN_ALWAYS},        /* libcurl, around the end of a connection */
    {"clone3", KBS_WHEN_UNKNOWN}, {"clone", KBS_WHEN_THREAD},
    {"set_robust_list", KBS_WHEN_ALWAYS}, {"rseq", KBS_WHEN_ALWAYS}, {"exit", KBS_WHEN_ALWAYS},
    {"openat", KBS_WHEN_ALWAYS}, {"newfstatat", KBS_WHEN_ALWAYS}, {"fstat", KBS_WHEN_ALWAYS},
    {"lseek", KBS_WHEN_ALWAYS}, {"getdents64", KBS_WHEN_ALWAYS},
    {"fsync", KBS_WHEN_ALWAYS}, {"fchmod", KBS_WHEN_ALWAYS}, {"rename", KBS_WHEN_ALWAYS},
    {"unlink", KBS_WHEN_ALWAYS}, {"utimensat", KBS_WHEN_ALWAYS},
};

/* clang-format on */

static const char *const nothing[] = {NULL};
/* jansson and SQLite seed themselves there, NSS reseeds. */
static const char *const random_device[] = {"/dev/urandom", NULL};
/* openCryptoki asks for its group whenever it makes a token object. */
static const char *const opencryptoki_readable[] = {"/dev/urandom", "/etc/group", NULL};

/* Where names and addresses come from. */
static const char *const resolver_files[] = {"/etc/resolv.conf", "/etc/hosts",   "/etc/host.conf",
                                             "/etc/gai.conf",    "/dev/urandom", NULL};

#define LIST(name_, calls_, readable_, descriptors_, address_mib_, forks_)                     \
    {                                                                                          \
        .name = (name_), .calls = (calls_), .n_calls = sizeof(calls_) / sizeof((calls_)[0]),   \
        .readable = (readable_), .descriptors = (descriptors_), .address_mib = (address_mib_), \
        .forks = (forks_)                                                                      \
    }

/* The front's number of descriptors follows from the configuration. */
static const struct kbs_confine_list lists[KBS_CONFINE_ROLE_COUNT] = {
    [KBS_CONFINE_FRONT] = LIST("kbs-front", front_calls, nothing, 64, 8192, false),
    [KBS_CONFINE_JUDGE] = LIST("kbs-judge", judge_calls, random_device, 64, 2048, false),
    [KBS_CONFINE_TOKEN] = LIST("kbs-token", token_calls, random_device, 256, 4096, false),
    [KBS_CONFINE_TOKEN_OPENCRYPTOKI] =
        LIST("kbs-token", opencryptoki_calls, opencryptoki_readable, 256, 4096, false),
    [KBS_CONFINE_TOKEN_SIGN] = LIST("kbs-token", sign_calls, random_device, 256, 4096, true),
    [KBS_CONFINE_TOKEN_SIGN_OPENCRYPTOKI] =
        LIST("kbs-token", sign_opencryptoki_calls, opencryptoki_readable, 256, 4096, true),
    [KBS_CONFINE_AUDIT] =
        LIST("kbs-audit", audit_calls, nothing, KBS_LIMIT_AUDIT_CLIENTS + 16, 1024, false),
    [KBS_CONFINE_POLICY] =
        LIST("kbs-policy", policy_calls, nothing, 16, KBS_LIMIT_POLICY_MIB, true),
    [KBS_CONFINE_FETCH] = {.name = "kbs-fetch",
                           .calls = fetch_calls,
                           .n_calls = sizeof(fetch_calls) / sizeof(fetch_calls[0]),
                           .readable = resolver_files,
                           .descriptors = 2048,
                           .address_mib = 8192,
                           .forks = true,
                           .connects = true},
};

const struct kbs_confine_list *kbs_confine_list(enum kbs_confine_role role)
{
    return &lists[role];
}

const char *kbs_confine_when_text(enum kbs_confine_when when)
{
    static const char *const texts[KBS_WHEN_COUNT] = {
        [KBS_WHEN_ALWAYS] = "",
        [KBS_WHEN_NOT_EXEC] = "without PROT_EXEC",
        [KBS_WHEN_FLAGS] = "F_GETFD F_SETFD F_GETFL F_SETFL",
        [KBS_WHEN_LOCKS] = "F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW",
        [KBS_WHEN_NONBLOCK] = "FIONBIO",
        [KBS_WHEN_NODELAY] = "IPPROTO_TCP TCP_NODELAY",
        [KBS_WHEN_DOMAIN] = "SOL_SOCKET",
        [KBS_WHEN_FORK] = "as fork(3)",
        [KBS_WHEN_THREAD] = "as pthread_create(3)",
        [KBS_WHEN_INTERNET] = "AF_UNIX AF_INET AF_INET6",
        [KBS_WHEN_UNKNOWN] = "refused with ENOSYS",
        [KBS_WHEN_NEVER] = "refused with EACCES",
    };
    return when < KBS_WHEN_COUNT ? texts[when] : "?";
}
