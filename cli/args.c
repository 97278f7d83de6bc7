/*
 * One table instead of a getopt loop and a help text per command, so that the two cannot disagree.
 * Options may stand before, between and after the positionals; abbreviations are refused (a script
 * that relies on one breaks when an option is added). getopt_long keeps its place in libc's
 * globals: commands are parsed once, from one thread.
 */
#include "cli/args.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/status.h"

#define INDEX_BASE 256
#define INDEX_HELP (INDEX_BASE + KBS_CLI_ARGS_MAX)
#define INDEX_VERSION (INDEX_HELP + 1)
#define HELP_COLUMNS 26

static const struct kbs_arg *arg_at(const struct kbs_args *args, size_t i)
{
    return i < args->own_count ? &args->own[i] : &args->common[i - args->own_count];
}

static bool has_arg(const struct kbs_args *args, const char *name)
{
    for (size_t i = 0; i < args->own_count + args->common_count; i++) {
        if (strcmp(arg_at(args, i)->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void help_options(const char *title, const struct kbs_arg *list, size_t count)
{
    if (count == 0) {
        return;
    }
    (void)printf("\n%s:\n", title);
    for (size_t i = 0; i < count; i++) {
        char left[80];
        (void)snprintf(left, sizeof(left), "--%s%s%s", list[i].name,
                       list[i].kind == KBS_ARG_FLAG ? "" : " ",
                       list[i].kind == KBS_ARG_FLAG ? "" : list[i].value);
        (void)printf("  %-*s  %s\n", HELP_COLUMNS, left, list[i].help);
    }
}

static void help(const struct kbs_args *args)
{
    (void)printf("Usage: %s\n\n%s\n", args->synopsis, args->about);
    help_options("Options", args->own, args->own_count);
    help_options("Common options", args->common, args->common_count);
    (void)printf("\n  %-*s  %s\n", HELP_COLUMNS, "--help", "show this text");
    if (!has_arg(args, "version")) {
        (void)printf("  %-*s  %s\n", HELP_COLUMNS, "--version", "show the program's version");
    }
}

int kbs_args_usage(const struct kbs_args *args, const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    kbs_cli_say("%s", text);
    (void)fprintf(stderr, "usage: %s\n", args->synopsis);
    return KBS_CLI_USAGE;
}

static int store(const struct kbs_args *args, const struct kbs_arg *arg, const char *value)
{
    if (arg->kind == KBS_ARG_FLAG) {
        *(bool *)arg->target = true;
        return 0;
    }
    if (arg->kind == KBS_ARG_TEXT) {
        if (*value == '\0') {
            (void)kbs_args_usage(args, "--%s wants a value that is not empty", arg->name);
            return -1;
        }
        *(const char **)arg->target = value;
        return 0;
    }
    size_t digits = strspn(value, "0123456789");
    unsigned long n = digits > 0 && digits <= 10 ? strtoul(value, NULL, 10) : 0;
    if (digits == 0 || digits > 10 || value[digits] != '\0' || n < arg->min || n > arg->max) {
        (void)kbs_args_usage(args, "--%s wants a number from %u to %u", arg->name, arg->min,
                             arg->max);
        return -1;
    }
    *(uint32_t *)arg->target = (uint32_t)n;
    return 0;
}

static void fill_table(const struct kbs_args *args, struct option table[KBS_CLI_ARGS_MAX + 3])
{
    size_t count = args->own_count + args->common_count;
    size_t n = 0;

    for (; n < count && n < KBS_CLI_ARGS_MAX; n++) {
        const struct kbs_arg *a = arg_at(args, n);
        int takes = a->kind == KBS_ARG_FLAG ? no_argument : required_argument;
        table[n] = (struct option){a->name, takes, NULL, INDEX_BASE + (int)n};
    }
    table[n++] = (struct option){"help", no_argument, NULL, INDEX_HELP};
    if (!has_arg(args, "version")) {
        table[n++] = (struct option){"version", no_argument, NULL, INDEX_VERSION};
    }
    table[n] = (struct option){NULL, 0, NULL, 0};
}

/* getopt_long takes abbreviations; the word as it was typed tells. */
static bool is_abbreviation(const char *word, const char *name)
{
    size_t n = strlen(name);
    return strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, n) != 0;
}

/* One option that getopt_long returned: argv[optind - 1] is the last word it consumed. */
static int take(const struct kbs_args *args, int c, char **argv)
{
    if (c == 'h' || c == INDEX_HELP) {
        help(args);
        return KBS_ARGS_HELP;
    }
    if (c == INDEX_VERSION) {
        (void)printf("%s %s\n", program_invocation_short_name, KBS_VERSION);
        return KBS_ARGS_HELP;
    }
    if (c == ':') {
        (void)kbs_args_usage(args, "%s wants a value", argv[optind - 1]);
        return -1;
    }
    if (c == '?') {
        if (optopt > 0 && optopt < INDEX_BASE) {
            (void)kbs_args_usage(args, "unknown option -%c", optopt);
        } else {
            (void)kbs_args_usage(args, "unknown or malformed option %s", argv[optind - 1]);
        }
        return -1;
    }
    const struct kbs_arg *a = arg_at(args, (size_t)(c - INDEX_BASE));
    bool separate = a->kind != KBS_ARG_FLAG && optarg == argv[optind - 1];
    const char *typed = argv[optind - (separate ? 2 : 1)];
    if (is_abbreviation(typed, a->name)) {
        (void)kbs_args_usage(args, "unknown option %s (--%s?)", typed, a->name);
        return -1;
    }
    return store(args, a, optarg);
}

static int run_getopt(const struct kbs_args *args, int argc, char **argv, const char *shorts)
{
    struct option table[KBS_CLI_ARGS_MAX + 3];

    fill_table(args, table);
    optind = 0; /* glibc: start anew */
    opterr = 0;
    for (;;) {
        int c = getopt_long(argc, argv, shorts, table, NULL);
        if (c == -1) {
            return 0;
        }
        int r = take(args, c, argv);
        if (r != 0) {
            return r;
        }
    }
}

int kbs_args_parse(const struct kbs_args *args, int argc, char **argv, const char **ret_positionals)
{
    for (size_t i = 0; i < args->positionals_max; i++) {
        ret_positionals[i] = NULL;
    }
    int r = run_getopt(args, argc, argv, ":h");
    if (r != 0) {
        return r;
    }
    size_t n = (size_t)(argc - optind);
    if (n < args->positionals_min) {
        (void)kbs_args_usage(args, "an argument is missing");
        return -1;
    }
    if (n > args->positionals_max) {
        (void)kbs_args_usage(args, "what is '%s'?", argv[optind + (int)args->positionals_max]);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        ret_positionals[i] = argv[optind + (int)i];
    }
    return 0;
}

int kbs_args_parse_leading(const struct kbs_args *args, int argc, char **argv, int *ret_next)
{
    int r = run_getopt(args, argc, argv, "+:h");
    *ret_next = optind;
    return r;
}
