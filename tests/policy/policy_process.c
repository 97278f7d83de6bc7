/* See policy_process.h. Without cmocka: also for what is no test. */
#include "policy_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/process.h"
#include "channel/channel.h"

#define LIMIT_MS 20000

static const char *program(char *out, size_t size)
{
    const char *folder = getenv("KBS_BIN_DIR");

    (void)snprintf(out, size, "%s/kbs-policy", folder != NULL ? folder : "bin");
    return out;
}

bool policy_process_built(void)
{
    char path[1024];

    return access(program(path, sizeof(path)), X_OK) == 0;
}

static void become_policy(int control)
{
    char path[1024];
    char name[] = "kbs-policy";
    char *argv[] = {name, NULL};

    if (control == KBS_FD_CONTROL) {
        (void)fcntl(control, F_SETFD, 0);
    } else {
        (void)dup2(control, KBS_FD_CONTROL);
    }
    (void)execv(program(path, sizeof(path)), argv);
    _exit(127);
}

static bool tell(int fd, enum kbs_wire_type type, const void *msg, int send_fd)
{
    struct kbs_error err = KBS_ERROR_NONE;

    return kbs_channel_send(fd, type, 0, msg, send_fd, kbs_deadline_in_ms(LIMIT_MS), &err) == 0;
}

static bool configure(const struct policy_process *p, int questions)
{
    const struct kbs_wire_config_policy config = {.production = 0};
    const struct kbs_wire_attach attach = {.what = KBS_ATTACH_JUDGE};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    bool up = tell(p->control, KBS_WIRE_CONFIG_POLICY, &config, -1) &&
              tell(p->control, KBS_WIRE_ATTACH, &attach, questions) &&
              tell(p->control, KBS_WIRE_GO, NULL, -1) &&
              kbs_channel_recv(p->control, &m, kbs_deadline_in_ms(LIMIT_MS), &err) == 0 &&
              m.frame.type == KBS_WIRE_READY;

    kbs_channel_msg_deinit(&m);
    return up;
}

bool policy_process_start(struct policy_process *p)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int control[2];
    int questions[2];

    if (kbs_channel_pair(control, &err) != 0 || kbs_channel_pair(questions, &err) != 0) {
        return false;
    }
    p->pid = fork();
    if (p->pid == 0) {
        become_policy(control[1]);
    }
    (void)close(control[1]);
    p->control = control[0];
    p->judge = questions[0];
    bool up = p->pid > 0 && configure(p, questions[1]);
    (void)close(questions[1]);
    return up;
}

bool policy_process_end(struct policy_process *p)
{
    struct pollfd ended = {.fd = p->control, .events = 0};
    int status = 0;

    kbs_io_close(&p->judge);
    if (p->pid > 0) {
        if (poll(&ended, 1, LIMIT_MS) != 1) {
            (void)kill(p->pid, SIGKILL);
        }
        (void)waitpid(p->pid, &status, 0);
    }
    p->pid = 0;
    kbs_io_close(&p->control);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
