/*
 * An operator with a token that nobody here has seen runs this and sends what it prints: the
 * token's names, the matrix, and notes. It makes session objects only, needs none of the service's
 * keys and no kbsd, and prints nothing that is secret. That a rung fails is what it is for, so it
 * exits 0 then.
 */
#include "hsm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "hsm/caps.h"
#include "hsm/ckr.h"
#include "hsm/secret.h"

#define PROBE_TEXT_MAX_BYTES 65536u
#define PROBE_WRITE_MS 10000u

static const char probe_usage[] =
    "usage: kbs-token --probe --module PATH --uri URI [--pin-file FILE] [--init-args TEXT]\n"
    "                 [--env NAME=VALUE]...\n"
    "Does every way of releasing a key once, on throw-away session keys, and prints which of them\n"
    "this token can do. The PIN comes from FILE or from standard input. No secret is printed.\n";

struct probe_options {
    const char *module;
    const char *uri;
    const char *pin_file; /* NULL: standard input */
    char *init_args;      /* NULL: none */
};

static int probe_env(char *text, struct kbs_error *err)
{
    char *equals = strchr(text, '=');

    if (equals == NULL || equals == text) {
        return kbs_fail(err, KBS_INPUT, "--env wants NAME=VALUE");
    }
    *equals = '\0';
    return setenv(text, equals + 1, 1) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the environment cannot be set");
}

static int probe_options_get(int argc, char **argv, struct probe_options *ret,
                             struct kbs_error *err)
{
    static const struct option options[] = {
        {"probe", no_argument, NULL, 'p'},
        {"module", required_argument, NULL, 'm'},
        {"uri", required_argument, NULL, 'u'},
        {"pin-file", required_argument, NULL, 'f'},
        {"init-args", required_argument, NULL, 'i'},
        {"env", required_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            break;
        case 'm':
            ret->module = optarg;
            break;
        case 'u':
            ret->uri = optarg;
            break;
        case 'f':
            ret->pin_file = optarg;
            break;
        case 'i':
            ret->init_args = optarg[0] != '\0' ? optarg : NULL; /* some modules refuse "" */
            break;
        case 'e':
            if (probe_env(optarg, err) != 0) {
                return -1;
            }
            break;
        default:
            return kbs_fail(err, KBS_INPUT, "unknown or incomplete option");
        }
    }
    if (ret->module == NULL || ret->uri == NULL || optind != argc) {
        return kbs_fail(err, KBS_INPUT, "--module and --uri are needed, and nothing else");
    }
    return 0;
}

static int probe_pin(const struct probe_options *o, struct kbs_secret **ret, struct kbs_error *err)
{
    int fd = STDIN_FILENO;
    int rc;

    if (o->pin_file != NULL) {
        fd = open(o->pin_file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return kbs_fail_errno(err, KBS_INPUT, "the PIN file cannot be opened");
        }
    }
    rc = kbs_secret_read_fd(fd, ret, err);
    if (o->pin_file != NULL) {
        kbs_io_close(&fd);
    }
    return rc;
}

static void probe_version_put(struct kbs_buf *out, const char *what, const CK_VERSION *v)
{
    kbs_buf_printf(out, "%s\t%u.%u\n", what, v->major, v->minor);
}

/* CK_INFO and CK_TOKEN_INFO as far as they tell tokens apart. */
static void probe_info_put(struct kbs_buf *out, const struct kbs_token *t)
{
    CK_INFO library = {0};
    CK_TOKEN_INFO token = {0};

    kbs_buf_printf(out, "token\t%s\nmanufacturer\t%s\nmodel\t%s\nserial\t%s\nclass\t%s\n", t->label,
                   t->manufacturer, t->model, t->serial, kbs_token_class_name(t->quirk->class));
    if (t->f->C_GetTokenInfo(t->slot, &token) == CKR_OK) {
        probe_version_put(out, "hardware version", &token.hardwareVersion);
        probe_version_put(out, "firmware version", &token.firmwareVersion);
    }
    if (t->f->C_GetInfo(&library) == CKR_OK) {
        probe_version_put(out, "library version", &library.libraryVersion);
        probe_version_put(out, "cryptoki version", &library.cryptokiVersion);
    }
}

static int probe_run(const struct probe_options *o, struct kbs_token *t, struct kbs_buf *out,
                     struct kbs_error *err)
{
    KBS_AUTO_SECRET pin = NULL;
    struct kbs_ladder *ladder;
    int rc;

    if (probe_pin(o, &pin, err) != 0 || kbs_token_load(t, o->module, o->init_args, err) != 0 ||
        kbs_token_find(t, o->uri, err) != 0 || kbs_token_login(t, pin, err) != 0) {
        return -1;
    }
    pin = kbs_secret_free(pin);
    ladder = calloc(1, sizeof(*ladder));
    if (ladder == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "no memory for the ladder");
    }
    probe_info_put(out, t);
    rc = kbs_ladder_probe(ladder, t, true, err);
    if (rc == 0) {
        rc = kbs_secret_probe(t, ladder, true, err);
    }
    if (rc != 0 && kbs_ckr_of(err) != CKR_OK) { /* what the token cannot do is a result, here */
        kbs_buf_printf(out, "# Not even a throw-away AES session key could be made (%s: %s).\n",
                       err->func, kbs_ckr_name(kbs_ckr_of(err)));
        *err = KBS_ERROR_NONE;
        rc = 0;
    }
    if (rc == 0) {
        kbs_buf_put_str(out, "\n");
        kbs_caps_put(out, ladder);
        kbs_buf_put_str(out, "\n");
        kbs_caps_notes_put(out, ladder, t);
        if (t->destroy_failures > 0) {
            kbs_buf_printf(out, "# %u session objects could not be destroyed.\n",
                           t->destroy_failures);
        }
        rc = kbs_buf_check(out, "the matrix", err);
    }
    free(ladder);
    return rc;
}

bool kbs_probe_main(int argc, char **argv, int *ret_status)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_error write_err = KBS_ERROR_NONE;
    struct probe_options options = {.module = NULL};
    struct kbs_token token = KBS_TOKEN_NULL;
    struct kbs_buf out = KBS_BUF(PROBE_TEXT_MAX_BYTES);

    if (argc < 2 || strcmp(argv[1], "--probe") != 0) {
        return false;
    }
    *ret_status = KBS_EXIT_OK;
    if (kbs_process_harden(STDERR_FILENO, &err) != 0 || kbs_secret_heap_init(&err) < 0) {
        *ret_status = KBS_EXIT_FAILURE;
    } else if (probe_options_get(argc, argv, &options, &err) != 0) {
        (void)fputs(probe_usage, stderr);
        *ret_status = KBS_EXIT_CONFIG;
    } else if (probe_run(&options, &token, &out, &err) != 0) {
        *ret_status = KBS_EXIT_FAILURE;
    }
    /* What was found before an error is worth having too. */
    if (kbs_io_write_all(STDOUT_FILENO, out.p, out.len, kbs_deadline_in_ms(PROBE_WRITE_MS),
                         &write_err) != 0) {
        *ret_status = KBS_EXIT_FAILURE;
    }
    if (err.category != KBS_OK) {
        kbs_log_error("probe-failed", &err);
    }
    kbs_token_close(&token);
    kbs_buf_deinit(&out);
    return true;
}
