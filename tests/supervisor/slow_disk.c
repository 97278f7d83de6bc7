/*
 * A disk that takes its time, so that a deadline can pass while kbsd writes its announcement:
 * kbsd-slow is kbsd-fast with this in the place of the C library's fsync(2).
 */
#include <poll.h>
#include <unistd.h>

int fsync(int fd)
{
    (void)fd;
    (void)poll(NULL, 0, 150);
    return 0;
}
