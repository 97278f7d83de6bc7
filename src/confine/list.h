/* Inside src/confine: what the walls of one role are made of. */
#ifndef KBS_CONFINE_LIST_H
#define KBS_CONFINE_LIST_H

#include "confine/confine.h"

/* The condition under which a call is on the list. */
enum kbs_confine_when {
    KBS_WHEN_ALWAYS,
    KBS_WHEN_NOT_EXEC, /* mmap, mprotect: without PROT_EXEC */
    KBS_WHEN_FLAGS,    /* fcntl: F_GETFD, F_SETFD, F_GETFL, F_SETFL */
    KBS_WHEN_LOCKS,    /* fcntl: the same, and POSIX locks */
    KBS_WHEN_NONBLOCK, /* ioctl: FIONBIO, as libuv does it */
    KBS_WHEN_NODELAY,  /* setsockopt: IPPROTO_TCP, TCP_NODELAY */
    KBS_WHEN_DOMAIN,   /* getsockopt: SOL_SOCKET */
    KBS_WHEN_FORK,     /* clone: a process like this one, as fork(3) makes it */
    KBS_WHEN_THREAD,   /* clone: a thread, as pthread_create(3) makes it */
    KBS_WHEN_INTERNET, /* socket: IPv4, IPv6 and unix; refused with EACCES if it is another */
    KBS_WHEN_NEVER,    /* refused with EACCES instead of death: libraries try, and can do without */
    KBS_WHEN_UNKNOWN,  /* the same with ENOSYS: there is an older call for it */
    KBS_WHEN_COUNT
};

struct kbs_confine_call {
    const char
        *name; /* as libseccomp knows it; one that this architecture has not is passed over */
    enum kbs_confine_when when;
};

struct kbs_confine_list {
    const char *name;
    const struct kbs_confine_call *calls;
    size_t n_calls;
    const char *const *readable; /* files beside the plan's folders; NULL at the end */
    uint32_t descriptors;        /* RLIMIT_NOFILE */
    uint32_t address_mib;        /* RLIMIT_AS */
    bool forks;    /* or has threads: no RLIMIT_NPROC, which counts a user's, not ours */
    bool connects; /* Landlock leaves it TCP, but for listening */
};

const struct kbs_confine_list *kbs_confine_list(enum kbs_confine_role role);

/* What the build adds: nothing, or what sanitizers need (plain.c, sanitized.c). */
extern const struct kbs_confine_call kbs_confine_extra[];
extern const size_t kbs_confine_extra_count;
extern const bool kbs_confine_address_limited; /* sanitizers map terabytes */

const char *kbs_confine_when_text(enum kbs_confine_when when); /* "" for ALWAYS */

/* The walls, one by one. Failures are KBS_INPUT and say which wall and why. */
KBS_MUST_CHECK int kbs_confine_limits(const struct kbs_confine_list *list, uint32_t descriptors,
                                      struct kbs_error *err);
/* *ret_abi: the kernel's, also after a failure further on. */
KBS_MUST_CHECK int kbs_confine_landlock(const struct kbs_confine_list *list,
                                        const struct kbs_confine_plan *plan, int *ret_abi,
                                        struct kbs_error *err);
KBS_MUST_CHECK int kbs_confine_seccomp(const struct kbs_confine_list *list, bool log_only,
                                       struct kbs_error *err);

#endif
