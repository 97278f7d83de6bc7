/*
 * A role without a job, for the tests of kbsd. Under any role's name it takes its configuration and
 * descriptors like the real one, then connects to the test (test.sock beside its executable) and
 * does what the test orders, one line per datagram, and reports what kbsd says to it. So the test
 * decides the order of everything.
 *
 * Reports: "start role=R lane=N duty=N listener=N fds=0,1,2,3 in=/dev/null out=/dev/null
 * attach=1.0,3.0 env=0 pid=N" and numbers of the configuration, "got TYPE", "got ATTACH what.index", "got DETACH index",
 *          "got EOF"
 * Orders:  "want" "ready" "done OK PIN" "worn" "garbage" "exit N" "close" "stubborn" "slip HOW"
 *
 * As a unit (kbsd --units) it begins and ends as real roles do.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/process.h"
#include "channel/channel.h"
#include "confine/leash.h"
#include "role/role.h"

#define WAIT_MS 60000

struct fake {
    int test; /* SOCK_SEQPACKET to the test */
    char role[32];
    bool migrate; /* the configuration was to migrate the store */
    bool unit;    /* started by a service manager */
    char report[1024];
    size_t len;
};

static void add(struct fake *f, const char *text)
{
    size_t n = strlen(text);
    if (f->len + n < sizeof(f->report)) {
        memcpy(f->report + f->len, text, n + 1);
        f->len += n;
    }
}

static void add_number(struct fake *f, const char *before, long number)
{
    char text[64];
    snprintf(text, sizeof(text), "%s%ld", before, number);
    add(f, text);
}

static void report(struct fake *f)
{
    if (send(f->test, f->report, f->len, MSG_NOSIGNAL) < 0) {
        _exit(99);
    }
    f->len = 0;
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The descriptor table as kbsd left it. */
static void list_descriptors(struct fake *f)
{
    int fds[64];
    size_t n = 0;
    const struct dirent *e;
    DIR *d = opendir("/proc/self/fd");
    while (d != NULL && n < 64 && (e = readdir(d)) != NULL) {
        int fd = atoi(e->d_name);
        if (e->d_name[0] != '.' && fd != dirfd(d)) {
            fds[n++] = fd;
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    qsort(fds, n, sizeof(fds[0]), compare);
    for (size_t i = 0; i < n; i++) {
        add_number(f, i == 0 ? " fds=" : ",", fds[i]);
    }
    for (int fd = 0; fd < 2; fd++) {
        char link[32];
        char target[64] = "";
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        (void)!readlink(link, target, sizeof(target) - 1);
        add(f, fd == 0 ? " in=" : " out=");
        add(f, target);
    }
}

static void connect_test(struct fake *f)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char exe[sizeof(un.sun_path)] = "";
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash = n > 0 ? strrchr(exe, '/') : NULL;
    if (slash == NULL) {
        _exit(98);
    }
    snprintf(f->role, sizeof(f->role), "%.*s", 31, slash + 1);
    *slash = '\0';
    if (snprintf(un.sun_path, sizeof(un.sun_path), "%s/test.sock", exe) >=
        (int)sizeof(un.sun_path)) {
        _exit(98);
    }
    f->test = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (f->test < 0 || connect(f->test, (const struct sockaddr *)&un, sizeof(un)) != 0) {
        _exit(97);
    }
}

static void describe_config(struct fake *f, const struct kbs_channel_msg *m)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_config_front front;
    struct kbs_wire_config_tls tls;
    struct kbs_wire_config_judge judge;
    struct kbs_wire_config_token token;
    struct kbs_wire_config_fetch fetch;
    if (m->frame.type == KBS_WIRE_CONFIG_FRONT &&
        kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_FRONT, &front, &err) == 0) {
        add_number(f, " listener=", front.listener);
        add_number(f, " auth_per_s=", front.auth_per_s);
        add_number(f, " body_bytes=", front.body_bytes);
    } else if (m->frame.type == KBS_WIRE_CONFIG_TLS &&
               kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_TLS, &tls, &err) == 0) {
        add_number(f, " certificate=", (long)tls.certificate.len);
        add_number(f, " signers=", tls.signers);
    } else if (m->frame.type == KBS_WIRE_CONFIG_JUDGE &&
               kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_JUDGE, &judge, &err) == 0) {
        add_number(f, " lane=", judge.lane);
        add_number(f, " duty=", judge.duty);
        add_number(f, " admins=", judge.admin_keys.count);
        add_number(f, " admin_mode=", judge.admin_mode);
        add_number(f, " providers=", judge.identity_providers.count);
        add_number(f, " acls=", judge.acls.count);
        add_number(f, " rsa1_5=", judge.rsa1_5);
        add_number(f, " sessions=", judge.sessions);
        add_number(f, " resource_bytes=", judge.resource_bytes);
        add_number(f, " resource_policy=", (long)judge.resource_policy.len);
        add_number(f, " snp=", judge.snp);
        add_number(f, " snp_files=", judge.snp_files.count);
        add_number(f, " snp_minimum=", judge.snp_minimum.count);
        add_number(f, " snp_chips=", judge.snp_chips.count);
        add_number(f, " snp_allow=", judge.snp_allow);
        add_number(f, " snp_test_root=", (long)judge.snp_test_root.len);
    } else if (m->frame.type == KBS_WIRE_CONFIG_TOKEN &&
               kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_TOKEN, &token, &err) == 0) {
        add_number(f, " lane=", token.lane);
        add_number(f, " duty=", token.duty);
        add_number(f, " variables=", token.env.count);
        add_number(f, " rsa1_5=", token.rsa1_5);
    } else if (m->frame.type == KBS_WIRE_CONFIG_FETCH &&
               kbs_channel_msg_decode(m, KBS_WIRE_CONFIG_FETCH, &fetch, &err) == 0) {
        add_number(f, " endpoints=", fetch.endpoints.count);
        add_number(f, " documents=", fetch.documents.count);
        add_number(f, " cache=", (long)fetch.cache.len);
    }
}

/* Takes everything up to GO. Descriptors are closed: nobody else's end stays open because of us. */
static void configure(struct fake *f)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    bool first = true;
    while (!f->migrate) {
        struct kbs_wire_attach attach;
        if (kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(WAIT_MS), &err) != 0) {
            _exit(96);
        }
        if (m.frame.type == KBS_WIRE_GO) {
            break;
        }
        if (m.frame.type == KBS_WIRE_ATTACH) {
            if (kbs_channel_msg_decode(&m, KBS_WIRE_ATTACH, &attach, &err) != 0) {
                _exit(95);
            }
            add_number(f, first ? " attach=" : ",", attach.what);
            add_number(f, ".", attach.index);
            first = false;
        } else if (m.frame.type == KBS_WIRE_MIGRATE) {
            f->migrate = true;
        } else {
            describe_config(f, &m);
        }
    }
    kbs_channel_msg_deinit(&m);
}

/* One message from kbsd. False at the end of the channel. */
static bool control(struct fake *f)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_attach attach;
    struct kbs_wire_detach detach;
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &m, kbs_deadline_in_ms(WAIT_MS), &err);
    add(f, "got ");
    add(f, rc == 0 ? kbs_wire_type_name(m.frame.type) : "EOF");
    if (rc == 0 && m.frame.type == KBS_WIRE_ATTACH &&
        kbs_channel_msg_decode(&m, KBS_WIRE_ATTACH, &attach, &err) == 0) {
        add_number(f, " ", attach.what);
        add_number(f, ".", attach.index);
    }
    if (rc == 0 && m.frame.type == KBS_WIRE_DETACH &&
        kbs_channel_msg_decode(&m, KBS_WIRE_DETACH, &detach, &err) == 0) {
        add_number(f, " ", detach.index);
    }
    report(f);
    kbs_channel_msg_deinit(&m);
    return rc == 0;
}

static void tell(enum kbs_wire_type type, const void *msg)
{
    struct kbs_error err = KBS_ERROR_NONE;
    /* kbsd may have dropped us: the test sees that elsewhere. */
    (void)!kbs_channel_send(KBS_FD_CONTROL, type, 0, msg, -1, kbs_deadline_in_ms(WAIT_MS), &err);
}

/* What an attacker would try; seccomp's answer is death. */
static void slip(int how)
{
    const int fds[] = {KBS_FD_LEASH, KBS_FD_CONTROL};
    for (size_t i = 0; i < 2; i++) {
        switch (how) {
        case 0:
            (void)close(fds[i]);
            break;
        case 1: /* the kernel looks at the lower half of the argument only */
            (void)syscall(SYS_close, (1L << 32) | fds[i]);
            break;
        case 2:
            (void)shutdown(fds[i], SHUT_RDWR);
            break;
        case 3:
            (void)fcntl(fds[i], F_SETFL, 0);
            break;
        default:
            (void)ioctl(fds[i], FIOASYNC, &(int){0});
            break;
        }
    }
}

static void obey(struct fake *f, const char *order)
{
    int a = 0;
    int b = 0;
    if (strcmp(order, "want") == 0) {
        tell(KBS_WIRE_LOGIN_WANT, NULL);
    } else if (strcmp(order, "ready") == 0) {
        struct kbs_wire_ready ready = {.detail = KBS_SPAN_LIT("fake"), .pid = (uint32_t)getpid()};
        tell(KBS_WIRE_READY, &ready);
    } else if (sscanf(order, "done %d %d", &a, &b) == 2) {
        struct kbs_wire_login_done done = {.ok = (uint8_t)a, .pin_error = (uint8_t)b};
        tell(KBS_WIRE_LOGIN_DONE, &done);
    } else if (strcmp(order, "worn") == 0) {
        tell(KBS_WIRE_WORN, NULL);
    } else if (strcmp(order, "garbage") == 0) {
        (void)!send(KBS_FD_CONTROL, "this is not a frame, but is longer than one", 43,
                    MSG_NOSIGNAL);
    } else if (strcmp(order, "stubborn") == 0) {
        (void)signal(SIGTERM, SIG_IGN);
        add(f, "got stubborn");
        report(f);
    } else if (strcmp(order, "close") == 0) {
        (void)close(KBS_FD_CONTROL);
    } else if (sscanf(order, "exit %d", &a) == 1) {
        _exit(f->unit ? kbs_role_end(a) : a);
    } else if (sscanf(order, "slip %d", &a) == 1) {
        slip(a);
        add(f, "got away");
        report(f);
    }
}

static void serve(struct fake *f)
{
    struct pollfd fds[2] = {{.fd = f->test, .events = POLLIN},
                            {.fd = KBS_FD_CONTROL, .events = POLLIN}};
    for (;;) {
        char order[128];
        if (poll(fds, 2, -1) < 0) {
            continue;
        }
        if (fds[1].revents != 0 && !control(f)) {
            fds[1].fd = -1; /* the test says when to leave */
        }
        if (fds[0].revents != 0) {
            ssize_t n = recv(f->test, order, sizeof(order) - 1, 0);
            if (n <= 0) {
                _exit(94); /* the test is gone */
            }
            order[n] = '\0';
            obey(f, order);
            if (strcmp(order, "close") == 0) {
                fds[1].fd = -1;
            }
        }
    }
}

int main(int argc, char **argv, char **environment)
{
    (void)argc;
    (void)argv;
    struct fake f = {.test = -1};
    struct fake seen = {.test = -1};
    sigset_t blocked;
    struct kbs_error err = KBS_ERROR_NONE;
    f.unit = getenv("LISTEN_PID") != NULL;
    if (f.unit && kbs_role_begin(&err) != 0) {
        return kbs_role_end(93);
    }
    list_descriptors(&seen);
    configure(&seen);
    connect_test(&f);
    add(&f, "start role=");
    add(&f, seen.migrate ? "migrate" : f.role);
    add(&f, seen.report);
    add_number(&f,
               " env=", f.unit ? environ != NULL && environ[0] != NULL : environment[0] != NULL);
    (void)sigprocmask(SIG_BLOCK, NULL, &blocked);
    add_number(&f, " blocked=", sigismember(&blocked, SIGTERM) == 1);
    add_number(&f, " pipe_ignored=", signal(SIGPIPE, SIG_DFL) == SIG_IGN);
    add_number(&f, " pid=", (long)getpid());
    report(&f);
    if (seen.migrate) {
        char order[32] = "";
        (void)!recv(f.test, order, sizeof(order) - 1, 0);
        obey(&f, order);
        return 1;
    }
    serve(&f);
}
