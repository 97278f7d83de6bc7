/*
 * Whose turn it is to log in to a token: by token.lock beside the PIN file, the file that kbsd keeps. Logins to one token
 * then follow one another, whoever wants them, and a PIN that was refused is tried once (base/pin_latch.h).
 */
#ifndef KBS_PROVIDERS_LOGIN_H
#define KBS_PROVIDERS_LOGIN_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"

struct kbs_login {
    int lock_fd;     /* -1: not our turn */
    bool has_latch;  /* lock_fd is of token.lock */
    struct stat pin; /* of the descriptor that the worker reads the PIN from */
};
#define KBS_LOGIN ((struct kbs_login){.lock_fd = -1})

/*
 * Waits for its turn; pin_fd: the PIN file, opened (borrowed). Where token.lock cannot be opened, the PIN file is locked
 * in its place. KBS_UNAUTHENTICATED if the PIN in it has been refused before, KBS_DEADLINE.
 */
KBS_MUST_CHECK int kbs_login_begin(struct kbs_login *login, const char *pin_file, int pin_fd,
                                   uint64_t deadline_ns, struct kbs_error *err);
void kbs_login_end(struct kbs_login *login, bool refused); /* harmless when it was not our turn */

#endif
