/*
 * kbsd: reads the configuration, starts the roles and keeps them alive. It holds no key, reads no
 * PIN and parses nothing that came from a network; what it does hold is the right to start
 * everything else, so it is confined like a role.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/process.h"
#include "supervisor/supervisor.h"

#define EXIT_USAGE 2
#define PATH_BYTES 4096

static const char usage[] =
    "usage: kbsd -c FILE [--check] [--libexec DIR | --units DIR] [--announce FILE]\n"
    "  -c FILE          configuration (docs/configuration.md)\n"
    "  --check          say what is wrong with it, start nothing\n"
    "  --libexec DIR    where the roles are (default: beside kbsd)\n"
    "  --units DIR      the roles are units of the service manager, whose sockets are there\n"
    "  --announce FILE  write addresses and process ids there once serving\n"
    "  --version, --help\n";

struct arguments {
    const char *config;
    bool check;
    struct kbsd_options options;
};

/* 0, or -1 for a usage error; 1 when --help or --version has been answered. */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'},   {"check", no_argument, NULL, 'k'},
        {"libexec", required_argument, NULL, 'l'},  {"units", required_argument, NULL, 'u'},
        {"announce", required_argument, NULL, 'a'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            ret->config = optarg;
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

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct arguments args = {0};
    const struct kbs_config *config = NULL;
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
    if (kbs_config_load(args.config, &config, &err) != 0) {
        fprintf(stderr, "kbsd: %s\n", err.detail);
        return KBS_EXIT_CONFIG;
    }
    for (size_t i = 0; i < config->warnings.n; i++) {
        fprintf(stderr, "kbsd: warning: %s\n", config->warnings.v[i]);
    }
    int status = KBS_EXIT_OK;
    if (args.check) {
        fprintf(stderr, "kbsd: %s: no errors\n", args.config);
    } else {
        status = kbsd_run(config, &args.options);
    }
    config = kbs_config_free(config);
    return status;
}
