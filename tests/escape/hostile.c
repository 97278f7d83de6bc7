/*
 * A role that an attacker has taken over, for the tests of confinement. It is the real role, linked
 * with --wrap=kbs_confine: before it confines itself this file opens the test's orders, then it
 * goes on as ever. On SIGUSR1, in the middle of serving, it makes the one attempt that the orders
 * name, with plain system calls, and says on standard error what came of it. A kernel that ends the
 * process instead says so to kbsd.
 *
 * Orders ("orders" beside the executable): 16 bytes that are read before confinement, "bare" leaves
 * confinement out (so that the test can see each attempt succeed), then per attempt a line "NAME
 * ARGUMENT NUMBER". Only read(2) and write(2), which every list has, are used around the attempt.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine/confine.h"

#define FD_ORDERS 50
#define FD_SOCKET 51
#define FD_SOCKET_2 52
#define HEAD_BYTES 16

struct order {
    char name[24];
    char text[256]; /* a path, or a number in decimal */
    unsigned long number;
};

int __real_kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err);
int __wrap_kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err);

static long number_of(const struct order *o)
{
    return strtol(o->text, NULL, 10);
}

static long try_nothing(const struct order *o)
{
    (void)o;
    return 0;
}

static long try_open(const struct order *o)
{
    return syscall(SYS_openat, AT_FDCWD, o->text, O_RDONLY | O_CLOEXEC, 0);
}

static long try_write(const struct order *o)
{
    return syscall(SYS_openat, AT_FDCWD, o->text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static long try_socket(const struct order *o)
{
    (void)o;
    return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

/* On a socket that was there before. */
static long try_connect(const struct order *o)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number_of(o))};

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return syscall(SYS_connect, FD_SOCKET, &to, sizeof(to));
}

static long try_bind(const struct order *o)
{
    struct sockaddr_in to = {.sin_family = AF_INET};

    (void)o;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return syscall(SYS_bind, FD_SOCKET_2, &to, sizeof(to));
}

static long try_execve(const struct order *o)
{
    char shell[] = "sh";
    char option[] = "-c";
    char command[] = "echo 'escape: execve succeeded' >&2";
    char *const argv[] = {shell, option, command, NULL};
    char *const environment[] = {NULL};

    (void)o;
    return syscall(SYS_execve, "/bin/sh", argv, environment);
}

static long try_fork(const struct order *o)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

    (void)o;
    if (pid == 0) {
        (void)syscall(SYS_exit_group, 0);
    }
    return pid;
}

/* Lets go again: a process that is traced cannot be waited for by its parent. */
static long try_ptrace(const struct order *o)
{
    long pid = number_of(o);
    long rc = syscall(SYS_ptrace, PTRACE_SEIZE, pid, 0, 0);

    if (rc == 0) {
        (void)syscall(SYS_ptrace, PTRACE_INTERRUPT, pid, 0, 0);
        (void)syscall(SYS_wait4, pid, NULL, __WALL, NULL);
        (void)syscall(SYS_ptrace, PTRACE_DETACH, pid, 0, 0);
    }
    return rc;
}

static long try_vm_read(const struct order *o)
{
    char byte[8];
    struct iovec here = {.iov_base = byte, .iov_len = sizeof(byte)};
    struct iovec there = {.iov_base = (void *)o->number, .iov_len = sizeof(byte)};

    return syscall(SYS_process_vm_readv, number_of(o), &here, 1, &there, 1, 0);
}

/* The control channel of another role. Sockets cannot be opened: ENXIO is after the permission. */
static long try_proc_fd(const struct order *o)
{
    long rc = try_open(o);

    return rc < 0 && errno == ENXIO ? 0 : rc;
}

static long try_pidfd_getfd(const struct order *o)
{
    long pidfd = syscall(434 /* pidfd_open */, number_of(o), 0);

    return pidfd < 0 ? pidfd : syscall(438 /* pidfd_getfd */, pidfd, 3, 0);
}

/* A signal that changes nothing. Not SIGCONT, which a session may always send. */
static long try_kill(const struct order *o)
{
    return syscall(SYS_kill, number_of(o), SIGWINCH);
}

static long try_mprotect(const struct order *o)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)o;
    return page == MAP_FAILED ? -1 : syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
}

static long try_mmap(const struct order *o)
{
    (void)o;
    return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long try_dumpable(const struct order *o)
{
    (void)o;
    return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long try_io_uring(const struct order *o)
{
    char parameters[120] = {0};

    (void)o;
    return syscall(425 /* io_uring_setup */, 4, parameters);
}

static const struct {
    const char *name;
    long (*attempt)(const struct order *o);
} attempts[] = {
    {"nothing", try_nothing},   {"open", try_open},         {"write", try_write},
    {"socket", try_socket},     {"connect", try_connect},   {"bind", try_bind},
    {"execve", try_execve},     {"fork", try_fork},         {"ptrace", try_ptrace},
    {"vm_read", try_vm_read},   {"proc_fd", try_proc_fd},   {"pidfd_getfd", try_pidfd_getfd},
    {"kill", try_kill},         {"mprotect", try_mprotect}, {"mmap", try_mmap},
    {"dumpable", try_dumpable}, {"io_uring", try_io_uring},
};

static void say(const char *name, const char *what, int number)
{
    char line[128];
    int n = number != 0 ? snprintf(line, sizeof(line), "escape: %s %s %d\n", name, what, number)
                        : snprintf(line, sizeof(line), "escape: %s %s\n", name, what);

    (void)!write(STDERR_FILENO, line, (size_t)n);
}

static void on_signal(int number)
{
    int saved = errno;
    char text[512];
    struct order o;
    ssize_t n = read(FD_ORDERS, text, sizeof(text) - 1);

    (void)number;
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%23s %255s %lu", o.name, o.text, &o.number) != 3) {
        say("orders", "unreadable", errno);
        return;
    }
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        if (strcmp(attempts[i].name, o.name) == 0) {
            say(o.name, "tried", 0);
            errno = 0;
            long rc = attempts[i].attempt(&o);
            say(o.name, rc < 0 ? "refused" : "succeeded", rc < 0 ? errno : 0);
        }
    }
    errno = saved;
}

/* Before confinement. False if the orders are to do without it. */
static bool take_orders(void)
{
    char path[512] = "";
    char head[HEAD_BYTES + 1] = "";
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    char *slash = n > 0 ? strrchr(path, '/') : NULL;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    int fd;

    if (slash == NULL) {
        _exit(99);
    }
    memcpy(slash, "/orders", sizeof("/orders"));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || dup2(fd, FD_ORDERS) != FD_ORDERS || close(fd) != 0 ||
        read(FD_ORDERS, head, HEAD_BYTES) != HEAD_BYTES) {
        _exit(98);
    }
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || dup2(fd, FD_SOCKET) != FD_SOCKET || close(fd) != 0 ||
        (fd = socket(AF_INET, SOCK_STREAM, 0)) < 0 || dup2(fd, FD_SOCKET_2) != FD_SOCKET_2 ||
        close(fd) != 0 || sigaction(SIGUSR1, &action, NULL) != 0) {
        _exit(97);
    }
    return strncmp(head, "bare", 4) != 0;
}

int __wrap_kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err)
{
    return take_orders() ? __real_kbs_confine(plan, err) : 0;
}
