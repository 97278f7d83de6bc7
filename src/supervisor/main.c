/*
 * kbsd: reads the configuration, starts the roles and keeps them alive. It holds no key, reads no
 * PIN and parses nothing that came from a network; what it does hold is the right to start
 * everything else, so it is confined like a role.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "supervisor/print.h"
#include "supervisor/probe.h"
#include "supervisor/supervisor.h"

#define EXIT_USAGE 2
#define EXIT_CHECK 2 /* --check-config or --print-config has found errors */
#define PATH_BYTES 4096

static const char usage[] =
    "usage: kbsd -c FILE [--libexec DIR | --units DIR] [--announce FILE]\n"
    "       kbsd -c FILE --check-config | --print-config\n"
    "  -c, --config-file FILE  configuration, kbs.toml(5); by default what KBS_CONFIG_FILE names\n"
    "  --check-config          say everything that is wrong with it, start nothing: 0 or 2\n"
    "  --print-config          the same, and for tools: what they need of it, as JSON\n"
    "  --libexec DIR           where the roles are (default: beside kbsd)\n"
    "  --units DIR             the roles are units of the service manager, whose sockets are there\n"
    "  --announce FILE         write addresses and process ids there once serving\n"
    "  --version, --help\n";

struct arguments {
    const char *config;
    bool check;
    bool print; /* and check */
    struct kbsd_options options;
};

/* 0, or -1 for a usage error; 1 when --help or --version has been answered. */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
    /* Any beginning that fits one only will do, "--check" and "--config" among them. */
    static const struct option known[] = {
        {"config-file", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"libexec", required_argument, NULL, 'l'},
        {"units", required_argument, NULL, 'u'},
        {"announce", required_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {"print-config", no_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    int option;
    ret->config = getenv("KBS_CONFIG_FILE");
    while ((option = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            ret->config = optarg;
            break;
        case 'p':
            ret->print = true;
            ret->check = true;
            break;
        case 'k':
            ret->check = true;
            break;
        case 'l':
            ret->options.libexec = optarg;
            break;
        case 'u':
            ret->options.units = optarg;
            break;
        case 'a':
            ret->options.announce = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return 1;
        case 'v':
            puts("kbsd " KBS_VERSION);
            return 1;
        default:
            return -1;
        }
    }
    return ret->config != NULL && optind == argc ? 0 : -1;
}

/* The folder of our own executable. */
static int own_folder(char folder[PATH_BYTES], struct kbs_error *err)
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_BYTES - 1);
    if (n <= 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "/proc/self/exe");
    }
    folder[n] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return 0;
}

/* Descriptors 0 to 2 must be something, or a socket would become standard error. */
static int fill_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    return fd < 0 || close(fd) != 0 ? -1 : 0;
}

/* Everything there is to say about the configuration, in the order of the file. */
static void print_report(const struct kbs_config_report *report)
{
    for (size_t i = 0; i < report->n; i++) {
        fprintf(stderr, "kbsd: %s%s\n", report->v[i].error ? "" : "warning: ", report->v[i].text);
    }
    if (report->n_left_out > 0) {
        fprintf(stderr, "kbsd: and %zu more\n", report->n_left_out);
    }
}

/* NULL if it cannot be used, which has been said. */
static const struct kbs_config *load(const struct arguments *args)
{
    struct kbs_config_report report;
    struct kbs_error err = KBS_ERROR_NONE;
    const struct kbs_config *config = NULL;
    int rc = args->print ? kbs_config_load_for_tools(args->config, &config, &report, &err)
                         : kbs_config_load(args->config, &config, &report, &err);
    print_report(&report);
    if (rc != 0 && report.n_errors == 0) {
        fprintf(stderr, "kbsd: %s\n", err.detail); /* it could not be read at all */
    }
    kbs_config_report_deinit(&report);
    return config;
}

/* --check-config and --print-config. */
static int check(const struct kbs_config *config, const struct arguments *args)
{
    struct kbs_error err = KBS_ERROR_NONE;
    if (kbsd_probe(config, &args->options, &err) != 0 ||
        (args->print && kbsd_print_config(config, STDOUT_FILENO, &err) != 0)) {
        fprintf(stderr, "kbsd: %s: %s\n", args->config, err.detail);
        return EXIT_CHECK;
    }
    if (!args->print) {
        fprintf(stderr, "kbsd: %s: no errors\n", args->config);
    }
    return KBS_EXIT_OK;
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct arguments args = {0};
    char folder[PATH_BYTES];
    int rc = parse_arguments(argc, argv, &args);
    if (rc != 0) {
        if (rc < 0) {
            fputs(usage, stderr);
        }
        return rc > 0 ? KBS_EXIT_OK : EXIT_USAGE;
    }
    if (fill_standard_descriptors() != 0 || kbs_process_harden(STDERR_FILENO, &err) != 0 ||
        own_folder(folder, &err) != 0) {
        kbs_log_error("start-failed", &err);
        return KBS_EXIT_FAILURE;
    }
    if (args.options.libexec == NULL) {
        args.options.libexec = folder;
    }
    const struct kbs_config *config = load(&args);
    if (config == NULL) {
        return args.check ? EXIT_CHECK : KBS_EXIT_CONFIG;
    }
    int status;
    if (args.check) {
        status = check(config, &args);
    } else {
        args.options.config = args.config;
        status = kbsd_run(config, &args.options);
    }
    config = kbs_config_free(config);
    return status;
}
