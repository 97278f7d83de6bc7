/*
 * What people and scripts read. Results go to standard output, diagnostics to standard error. Text
 * that came from a server is shown with its control characters replaced, so that it cannot drive
 * the terminal.
 */
#ifndef KBS_CLI_OUTPUT_H
#define KBS_CLI_OUTPUT_H

#include <jansson.h>

#include "base/error.h"
#include "base/span.h"

/* "<program>: <text>" on standard error. */
void kbs_cli_say(const char *format, ...) KBS_PRINTF(1, 2);
/* The error on standard error; returns its exit status (cli/status.h), so that a command ends with
 * it. */
int kbs_cli_fail(const struct kbs_error *err);

/* One aligned line "label   value" on standard output. */
void kbs_cli_field(const char *label, const char *format, ...) KBS_PRINTF(2, 3);
/* The same for outside text of any kind. */
void kbs_cli_field_text(const char *label, struct kbs_span value);
/* The same for eight hex digits of a key check value. */
void kbs_cli_field_kcv(const char *label, const uint8_t kcv[4]);

/* A line of outside text. */
void kbs_cli_line(struct kbs_span value);

/* The label on a line of its own, then indented JSON. `value` is borrowed. */
KBS_MUST_CHECK int kbs_cli_field_json(const char *label, const json_t *value,
                                      struct kbs_error *err);

/*
 * Indented JSON and a line feed on standard output. Takes `value` (NULL means that memory ran out).
 */
KBS_MUST_CHECK int kbs_cli_json(json_t *value, struct kbs_error *err);

/*
 * A table of `columns` texts per row, each column as wide as its widest cell. Cells are borrowed.
 */
void kbs_cli_table(const struct kbs_span *cells, size_t rows, size_t columns);

/* Flushes standard output; -1 if what was printed did not arrive (a full disk, a closed pipe). */
KBS_MUST_CHECK int kbs_cli_flush(struct kbs_error *err);

/* The end of a command whose work gave `rc`: the status to exit with, after kbs_cli_flush() or the error. */
int kbs_cli_end(int rc, struct kbs_error *err);

#endif
