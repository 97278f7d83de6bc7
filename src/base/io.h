/* Blocking descriptor helpers with deadlines. All descriptors are close-on-exec from birth. */
#ifndef KBS_BASE_IO_H
#define KBS_BASE_IO_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"

/* kbs_io_read_exact(): the peer closed before the first byte. */
#define KBS_IO_EOF 1

/* Waits until fd has `events` (POLLIN, POLLOUT). 0, or -1 with KBS_DEADLINE / KBS_INTERNAL. */
KBS_MUST_CHECK int kbs_io_wait(int fd, short events, uint64_t deadline_ns, struct kbs_error *err);

/* Exactly n bytes. 0, KBS_IO_EOF, or -1. Works on blocking and non-blocking descriptors. */
KBS_MUST_CHECK int kbs_io_read_exact(int fd, void *p, size_t n, uint64_t deadline_ns,
                                     struct kbs_error *err);
KBS_MUST_CHECK int kbs_io_write_all(int fd, const void *p, size_t n, uint64_t deadline_ns,
                                    struct kbs_error *err);

/* The whole of a regular file or descriptor, at most buf->max bytes. KBS_TOO_LARGE beyond. */
KBS_MUST_CHECK int kbs_io_read_fd(int fd, struct kbs_buf *out, struct kbs_error *err);
KBS_MUST_CHECK int kbs_io_read_file(const char *path, struct kbs_buf *out, struct kbs_error *err);

/*
 * Writes a new file atomically: a temporary beside it with `mode` from the start, fsync, rename,
 * fsync of the folder. With `exclusive`, an existing file is KBS_CONFLICT and left alone.
 */
KBS_MUST_CHECK int kbs_io_write_file(const char *path, struct kbs_span content, unsigned int mode,
                                     bool exclusive, struct kbs_error *err);

/* Closes *fd if it is >= 0 and sets it to -1. */
void kbs_io_close(int *fd);

/* "host:port" (IPv4, or "[IPv6]:port"); KBS_INPUT otherwise. Both outputs NUL-terminated, host at
 * most 63 bytes. */
KBS_MUST_CHECK int kbs_io_split_address(const char *address, char host[64], uint16_t *ret_port,
                                        struct kbs_error *err);

#endif
