/*
 * A disk that fails at the call the test names, under a real kbs-audit in a real service:
 * kbs-audit-faulty is kbs-audit, linked with --wrap for the calls that change the ledger's file.
 * Test and disk talk through the file "audit.faults" beside the executable, which is mapped at the
 * first of those calls, before the role confines itself.
 *
 * While armed, the call of that number and all that follow fail: EIO fails everything, as a dying
 * disk does; ENOSPC lets half of the first write through, as a full one does, fails writes and
 * syncs, and can be cut; 0 is a disk that lies: it says that it has synced, and has not. What a real
 * fdatasync has taken is noted: the file up to there is what a power failure would leave.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* test_audit_faults.py knows the layout. */
struct faults {
    uint32_t from;                /* first call that fails; 0: none does */
    uint32_t error;               /* errno */
    uint32_t calls;               /* since the test cleared it */
    uint32_t failed;              /* of these */
    uint32_t writes, syncs, cuts; /* which calls failed */
    uint32_t reserved;
    uint64_t durable_bytes;
};

static struct faults *faults;

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_ftruncate(int fd, off_t length);
int __wrap_ftruncate(int fd, off_t length);

static void map_once(void)
{
    char path[512] = "";
    ssize_t n = faults == NULL ? readlink("/proc/self/exe", path, sizeof(path) - 16) : 0;
    char *slash = n > 0 ? strrchr(path, '/') : NULL;

    if (faults != NULL) {
        return;
    }
    if (slash == NULL) {
        _exit(99);
    }
    memcpy(slash, "/audit.faults", sizeof("/audit.faults"));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *mapped = fd < 0 ? MAP_FAILED
                          : mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED || close(fd) != 0) {
        _exit(98);
    }
    faults = mapped;
}

static int is_ledger(int fd)
{
    struct stat st;

    return fd != STDERR_FILENO && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Counts a call; whether it is to fail, with errno set. */
static int fails(uint32_t *which)
{
    map_once();
    faults->calls++;
    if (faults->from == 0 || faults->calls < faults->from) {
        return 0;
    }
    faults->failed++;
    (*which)++;
    errno = (int)faults->error;
    return 1;
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    if (!is_ledger(fd)) {
        return __real_write(fd, p, n);
    }
    map_once();
    if (!fails(&faults->writes) || faults->error == 0) {
        return __real_write(fd, p, n);
    }
    if (faults->error == ENOSPC && faults->writes == 1 && n > 1) {
        return __real_write(fd, p, n / 2);
    }
    errno = (int)faults->error;
    return -1;
}

int __wrap_fdatasync(int fd)
{
    struct stat st;

    map_once();
    if (fails(&faults->syncs)) {
        return faults->error == 0 ? 0 : -1;
    }
    int r = __real_fdatasync(fd);
    if (r == 0 && fstat(fd, &st) == 0) {
        faults->durable_bytes = (uint64_t)st.st_size;
    }
    return r;
}

int __wrap_ftruncate(int fd, off_t length)
{
    map_once();
    if (faults->error == ENOSPC || faults->error == 0) {
        return __real_ftruncate(fd, length);
    }
    return fails(&faults->cuts) ? -1 : __real_ftruncate(fd, length);
}
