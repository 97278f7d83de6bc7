/* Files as the command line names them: read into secrets or buffers, "-" for standard input. */
#ifndef KBS_CLI_FILES_H
#define KBS_CLI_FILES_H

#include "base/buf.h"
#include "base/secret.h"

/* The whole of a file ("-": standard input) into a secret, at most `max` bytes (at most
 * KBS_LIMIT_SECRET_BYTES); no copy is left elsewhere. KBS_INPUT if empty, too long or unreadable.
 * Returns owned. */
KBS_MUST_CHECK int kbs_cli_read_secret(const char *path, size_t max, struct kbs_secret **ret,
                                       struct kbs_error *err);

/* The whole of a file ("-": standard input), at most out->max bytes. KBS_INPUT if it cannot be
 * read. */
KBS_MUST_CHECK int kbs_cli_read_file(const char *path, struct kbs_buf *out, struct kbs_error *err);

/* Writes a file that must not exist yet, owner-only, or standard output for "-". */
KBS_MUST_CHECK int kbs_cli_write_new(const char *path, struct kbs_span content,
                                     struct kbs_error *err);

/* `name` if it is absolute, else `folder`/`name`. KBS_INPUT if it does not fit. */
KBS_MUST_CHECK int kbs_cli_join(const char *folder, const char *name, char *out, size_t size,
                                struct kbs_error *err);

#endif
