/*
 * Command lines: a table per command says what it takes; parsing (getopt_long), range checks and
 * the help text follow from it. Wrong usage is reported here and ends in KBS_CLI_USAGE.
 */
#ifndef KBS_CLI_ARGS_H
#define KBS_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum kbs_arg_kind {
    KBS_ARG_FLAG,  /* target: bool * */
    KBS_ARG_TEXT,  /* target: const char **, borrows argv */
    KBS_ARG_NUMBER /* target: uint32_t *, decimal within min and max */
};

struct kbs_arg {
    const char *name; /* without the dashes */
    enum kbs_arg_kind kind;
    void *target;
    const char *value; /* what the help text calls the value */
    const char *help;
    uint32_t min;
    uint32_t max;
};

#define KBS_CLI_ARGS_MAX 32

struct kbs_args {
    const char *synopsis; /* "kbs-admin key show PATH [--version N]" */
    const char *about;    /* what it does, one or a few sentences */
    const struct kbs_arg *own;
    size_t own_count;
    const struct kbs_arg *common; /* shown under "Common options" */
    size_t common_count;
    size_t positionals_min;
    size_t positionals_max;
};

/* Parsing ended in printing the help text: exit with KBS_CLI_OK. */
#define KBS_ARGS_HELP 1

/*
 * Parses argv[1..]. Positionals (borrowed) are stored in order into `ret_positionals`, which has
 * room for positionals_max and is NULL-filled. Returns 0, KBS_ARGS_HELP, or -1 after a message on
 * standard error.
 */
KBS_MUST_CHECK int kbs_args_parse(const struct kbs_args *args, int argc, char **argv,
                                  const char **ret_positionals);

/*
 * Parses only the options before the first word, for programs with subcommands. *ret_next is its
 * index in argv (argc if there is none). Returns as kbs_args_parse().
 */
KBS_MUST_CHECK int kbs_args_parse_leading(const struct kbs_args *args, int argc, char **argv,
                                          int *ret_next);

/* "<program>: <text>" and a hint at --help on standard error; returns KBS_CLI_USAGE. */
int kbs_args_usage(const struct kbs_args *args, const char *format, ...) KBS_PRINTF(2, 3);

#endif
