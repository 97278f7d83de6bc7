/*
 * The beginning and the end of a role. Which of two starters it had shows in LISTEN_PID and
 * LISTEN_FDS (sd_listen_fds(3)): the service manager passes the connection as descriptor 3, which is
 * where kbsd puts it too, so from here on there is no difference but the leash.
 *
 * Without the leash a unit would be a role that kbsd cannot end when it hangs. So it is not left to
 * be attached some time: it is the first message, and no other will do.
 */
#include "role/role.h"

#include <stdlib.h>
#include <unistd.h>

#include "channel/channel.h"
#include "confine/leash.h"

#define LEAVING_MS 1000

/* Descriptors beyond the first would be closed by kbs_process_harden(): Accept=yes passes none. */
static bool is_unit(void)
{
    const char *pid = getenv("LISTEN_PID");

    return pid != NULL && strtol(pid, NULL, 10) == (long)getpid();
}

static int take_leash(struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_attach attach;
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    int rc = kbs_channel_recv(KBS_FD_CONTROL, &m, deadline_ns, err);

    if (rc == KBS_CHANNEL_EOF) {
        rc = kbs_fail(err, KBS_INTERNAL, "kbsd is gone");
    }
    if (rc == 0) {
        rc = kbs_channel_msg_decode(&m, KBS_WIRE_ATTACH, &attach, err);
    }
    if (rc == 0 && attach.what != KBS_ATTACH_LEASH) {
        rc = kbs_fail(err, KBS_INPUT, "a unit is given its leash before anything else");
    }
    if (rc == 0) {
        rc = kbs_confine_leash(m.fd, err);
        m.fd = -1;
    }
    kbs_channel_msg_deinit(&m);
    return rc;
}

int kbs_role_begin(struct kbs_error *err)
{
    bool unit = is_unit();

    if (kbs_process_harden(KBS_FD_CONTROL, err) != 0) {
        return -1;
    }
    if (!unit) {
        return 0;
    }
    if (clearenv() != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the environment cannot be emptied");
    }
    return take_leash(err);
}

int kbs_role_end(int status)
{
    struct kbs_error ignored = KBS_ERROR_NONE; /* kbsd may be gone */
    const struct kbs_wire_leaving leaving = {.status = (uint8_t)status};

    (void)!kbs_channel_send(KBS_FD_CONTROL, KBS_WIRE_LEAVING, 0, &leaving, -1,
                            kbs_deadline_in_ms(LEAVING_MS), &ignored);
    return status;
}
