/*
 * Resource limits. Soft and hard alike, so that the role cannot raise them again. No new process
 * and no new thread (no effect on root, whom seccomp stops as well); no more descriptors than the
 * channel table can need; an address space that holds the worst case several times over, so that a
 * runaway allocation fails in the role that makes it and not in the machine.
 *
 * Rejected: RLIMIT_FSIZE. Standard error is a file of the operator's, which a limit would make
 * fatal; the ledger and the store have to grow.
 */
#include <errno.h>
#include <sys/resource.h>

#include "confine/list.h"

/* Never above what the process was given. */
static int limit_to(int resource, rlim_t want)
{
    struct rlimit limit;

    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0) {
        return -1;
    }
    limit.rlim_max = limit.rlim_max < want ? limit.rlim_max : want;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit((__rlimit_resource_t)resource, &limit);
}

int kbs_confine_limits(const struct kbs_confine_list *list, uint32_t descriptors,
                       struct kbs_error *err)
{
    const rlim_t address_bytes = (rlim_t)list->address_mib << 20;

    if (limit_to(RLIMIT_NOFILE, descriptors != 0 ? descriptors : list->descriptors) != 0 ||
        (!list->forks && limit_to(RLIMIT_NPROC, 0) != 0) ||
        (kbs_confine_address_limited && limit_to(RLIMIT_AS, address_bytes) != 0)) {
        return kbs_fail_errno(err, KBS_INPUT, "limits: the kernel refused a resource limit");
    }
    return 0;
}
