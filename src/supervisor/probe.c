/*
 * Certificates are a judge's to understand: kbsd has no library for them, on purpose. So one is started
 * as a running service does before it reloads (reload.c), as the user that we are and without a
 * service around it; its log line on our standard error names the file.
 */
#include "supervisor/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

#include "base/io.h"
#include "base/process.h"
#include "channel/channel.h"
#include "supervisor/times.h"
#include "supervisor/unit.h"

/* Until it has left, or has had its time. */
static int wait_for(struct kbsd_child *c, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error ignored = KBS_ERROR_NONE;
    int wstatus = 0;

    /* Nothing is expected of it but its last message and its end. */
    while (kbs_channel_recv(c->control, &m, c->deadline_ns, &ignored) == 0) {
    }
    kbs_channel_msg_deinit(&m);
    kbsd_child_kill(c, kbs_clock_mono_ns() >= c->deadline_ns ? SIGKILL : 0, 0);
    while (waitpid(c->pid, &wstatus, 0) < 0 && errno == EINTR) {
    }
    kbsd_child_gone(c);
    if (!WIFEXITED(wstatus) || WEXITSTATUS(wstatus) != KBS_EXIT_OK) {
        return kbs_fail(err, KBS_INPUT,
                        "kbs-judge cannot use this configuration: see start_failed");
    }
    return 0;
}

int kbsd_probe(const struct kbs_config *config, const struct kbsd_options *options,
               struct kbs_error *err)
{
    const struct kbsd_users nobody = {.of = {{.own = false}}};
    struct kbsd_source source = {.libexec = options->libexec,
                                 .users = &nobody,
                                 .null_fd = open("/dev/null", O_RDWR | O_CLOEXEC)};
    const struct kbsd_start with = {.config = config, .check = true, .source = &source};
    struct kbsd_unit judge;
    int rc = -1;

    if (config->snp.certificates == NULL) {
        kbs_io_close(&source.null_fd);
        return 0;
    }
    kbsd_unit_init(&judge, KBSD_UNIT_MIGRATION, KBS_LISTENER_NONE, 0);
    if (source.null_fd < 0) {
        rc = kbs_fail_errno(err, KBS_INTERNAL, "/dev/null: %s", strerror(errno));
    } else if (kbsd_unit_start(&judge, &with, err) == 0) {
        rc = wait_for(&judge.children[0], err);
    } else if (judge.children[0].state != KBSD_GONE) {
        (void)!wait_for(&judge.children[0], err);
    }
    kbs_io_close(&source.null_fd);
    return rc;
}
