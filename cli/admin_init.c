/*
 * kbs-admin init: a folder with everything a service needs, or nothing.
 *
 * What is made is made inside DIR, which is new or empty, and locked, since two inits that both
 * find it empty would undo each other's work: so undoing is emptying it. kbs.toml is written last,
 * but for handing out what was made: a folder without one is not a service, whatever ended this
 * program. Interrupts are held back until the end of a step, then obeyed after cleaning up. Making
 * everything under a temporary name and renaming was rejected: both tokens store absolute paths.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/admin.h"
#include "cli/init.h"
#include "cli/output.h"
#include "cli/status.h"

/* The folder's name stands in TOML, in softhsm2.conf and in NSS's parameters. */
static bool name_is_plain(const char *path)
{
    for (const char *c = path; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f || strchr("'\"\\#=%", *c) != NULL) {
            return false;
        }
    }
    return true;
}

static int is_empty(const char *path, struct kbs_error *err)
{
    DIR *d = opendir(path);
    bool empty = true;

    if (d == NULL) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot read the folder");
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    }
    (void)closedir(d);
    return empty ? 0 : kbs_fail(err, KBS_CONFLICT, "the folder exists and is not empty");
}

static int lock_folder(const char *dir, int *ret_lock, struct kbs_error *err)
{
    *ret_lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*ret_lock < 0) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot read the folder");
    }
    if (flock(*ret_lock, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? kbs_fail(err, KBS_CONFLICT, "another init is at work in the folder")
                   : kbs_fail_errno(err, KBS_INPUT, "cannot lock the folder");
    }
    return 0;
}

/* DIR made or found, locked and empty; its absolute path in in->folder. */
static int take_folder(struct kbs_init *in, const char *dir, bool *ret_made, int *ret_lock,
                       struct kbs_error *err)
{
    *ret_made = false;
    if (mkdir(dir, 0700) == 0) {
        *ret_made = true;
    } else if (errno != EEXIST) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot make %.120s", dir);
    }
    if (lock_folder(dir, ret_lock, err) != 0 || is_empty(dir, err) != 0) {
        return -1;
    }
    if (chmod(dir, 0700) != 0) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot make %.120s private", dir);
    }
    if (realpath(dir, in->folder) == NULL) {
        (void)kbs_fail_errno(err, KBS_INPUT, "cannot resolve %.120s", dir);
    } else if (!name_is_plain(in->folder)) {
        (void)kbs_fail(err, KBS_INPUT,
                       "the folder's path must not hold ' \" \\ # = %% or control characters");
    } else {
        return 0;
    }
    if (*ret_made) {
        (void)rmdir(dir);
    }
    return -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    return at->level > 0 ? remove(path) : 0;
}

static void undo(const struct kbs_init *in, bool made)
{
    if (nftw(in->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 ||
        (made && rmdir(in->folder) != 0)) {
        kbs_cli_say("cannot remove what was made in %s: %s", in->folder, strerror(errno));
    }
}

static bool interrupted(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1 ||
            sigismember(&pending, SIGHUP) == 1);
}

static int make(struct kbs_init *in, struct kbs_error *err)
{
    static int (*const steps[])(struct kbs_init * in, struct kbs_error * err) = {
        kbs_init_token_files, kbs_init_admin_key, kbs_init_make_token, kbs_init_tls,
        kbs_init_profile,     kbs_init_config,    kbs_init_hand_out,
    };

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (interrupted()) {
            return kbs_fail(err, KBS_INTERNAL, "interrupted");
        }
        if (steps[i](in, err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Everything or nothing. */
static int make_or_undo(struct kbs_init *in, const char *dir, struct kbs_error *err)
{
    sigset_t hold;
    sigset_t before;
    bool made = false;
    int lock = -1;

    (void)sigemptyset(&hold);
    (void)sigaddset(&hold, SIGINT);
    (void)sigaddset(&hold, SIGTERM);
    (void)sigaddset(&hold, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &hold, &before);
    int r = take_folder(in, dir, &made, &lock, err);
    if (r == 0) {
        r = make(in, err);
        if (r != 0) {
            undo(in, made);
        }
    }
    kbs_io_close(&lock);
    (void)sigprocmask(SIG_SETMASK, &before, NULL); /* a pending signal ends the program here */
    return r;
}

static int show(const struct kbs_init *in, bool json, struct kbs_error *err)
{
    char config[KBS_INIT_PATH_BYTES];
    char profile[KBS_INIT_PATH_BYTES];

    kbs_init_path(in, "kbs.toml", config);
    kbs_init_path(in, "admin/profile.json", profile);
    if (json) {
        return kbs_cli_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "config", config, "profile",
                                      profile, "module", in->module, "token", in->token_text,
                                      "rungs", in->rungs, "import_key", in->thumbprint),
                            err);
    }
    kbs_cli_field("configuration", "%s", config);
    kbs_cli_field("profile", "%s", profile);
    kbs_cli_field("module", "%s", in->module);
    kbs_cli_field("token", "%s", in->token_text);
    kbs_cli_field("release rungs", "%s", in->rungs);
    kbs_cli_field("import key", "%s", in->thumbprint);
    kbs_cli_field("users", "%s", in->handed_out ? "one per role" : "one for all roles");
    kbs_cli_field("guests", "https://%s", in->listen);
    kbs_cli_field("administrators", "https://%s", in->admin_listen);
    (void)printf("\nNext:\n  kbsd -c '%s'\n  kbs-admin --profile '%s' key generate demo/key/one\n",
                 config, profile);
    return 0;
}

/* An address as kbsd takes it: a number, not a name, and a port. */
static int check_listen(const struct kbs_args *args, const char *option, const char *listen)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t address[16];
    char host[64];
    uint16_t port;

    if (kbs_io_split_address(listen, host, &port, &err) != 0 ||
        (inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1)) {
        return kbs_args_usage(args, "%s is ADDRESS:PORT or [IPv6]:PORT, in numbers", option);
    }
    return KBS_CLI_OK;
}

static int check(const struct kbs_args *args, struct kbs_init *in, const char *token,
                 const char *module)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (strcmp(token, "softhsm") != 0 && strcmp(token, "nss") != 0) {
        return kbs_args_usage(args, "--token is softhsm or nss");
    }
    in->token = strcmp(token, "nss") == 0 ? KBS_INIT_NSS : KBS_INIT_SOFTHSM;
    int status = check_listen(args, "--listen", in->listen);
    if (status == KBS_CLI_OK) {
        status = check_listen(args, "--admin-listen", in->admin_listen);
    }
    if (status != KBS_CLI_OK) {
        return status;
    }
    if (module == NULL) {
        return kbs_init_find_module(in, &err) != 0 ? kbs_cli_fail(&err) : KBS_CLI_OK;
    }
    if (realpath(module, in->module) == NULL || access(in->module, R_OK) != 0) {
        kbs_cli_say("cannot read the module %s", module);
        return KBS_CLI_FAILURE;
    }
    return KBS_CLI_OK;
}

int kbs_admin_cmd_init(struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_init in = {.listen = "127.0.0.1:8080",
                          .admin_listen = "127.0.0.1:8081",
                          .lanes = 2,
                          .sign_curve = KBS_CURVE_P256};
    const char *dir = NULL;
    const char *token = "softhsm";
    const char *module = NULL;
    const char *sign_alg = "ES256";
    const char *tls_key = "file";
    const struct kbs_arg own[] = {
        {"token", KBS_ARG_TEXT, &token, "KIND", "softhsm (default) or nss", 0, 0},
        {"module", KBS_ARG_TEXT, &module, "PATH", "PKCS#11 module, if not in the usual place", 0,
         0},
        {"listen", KBS_ARG_TEXT, &in.listen, "ADDRESS", "for guests (default 127.0.0.1:8080)", 0,
         0},
        {"admin-listen", KBS_ARG_TEXT, &in.admin_listen, "ADDRESS",
         "for administrators (default 127.0.0.1:8081)", 0, 0},
        {"lanes", KBS_ARG_NUMBER, &in.lanes, "N", "concurrent releases (default 2)", 1,
         KBS_LIMIT_LANES},
        {"sign-alg", KBS_ARG_TEXT, &sign_alg, "ALG",
         "attestation results are signed by: ES256 (default) or ES384", 0, 0},
        {"tls-key", KBS_ARG_TEXT, &tls_key, "WHERE",
         "the TLS key is in a file (default) or in the token", 0, 0},
        {"production", KBS_ARG_FLAG, &in.production, NULL, "production profile: no sample evidence",
         0, 0},
        {"json", KBS_ARG_FLAG, &o->json, NULL, "print JSON", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin init DIR [options]",
        .about =
            "Make a new service in DIR, which must be new or empty: token, service keys, TLS key\n"
            "and certificate, administrator's key and profile, kbs.toml.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_args_parse(&args, argc, argv, &dir);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (o->dry_run) {
        return kbs_args_usage(&args, "init has no --dry-run");
    }
    if (strcmp(sign_alg, "ES256") != 0 && strcmp(sign_alg, "ES384") != 0) {
        return kbs_args_usage(&args, "--sign-alg is ES256 or ES384");
    }
    if (strcmp(tls_key, "file") != 0 && strcmp(tls_key, "token") != 0) {
        return kbs_args_usage(&args, "--tls-key is file or token");
    }
    in.tls_in_token = strcmp(tls_key, "token") == 0;
    in.sign_curve = strcmp(sign_alg, "ES384") == 0 ? KBS_CURVE_P384 : KBS_CURVE_P256;
    int status = check(&args, &in, token, module);
    if (status != KBS_CLI_OK) {
        return status;
    }
    if (make_or_undo(&in, dir, &err) != 0 || show(&in, o->json, &err) != 0 ||
        kbs_cli_flush(&err) != 0) {
        return kbs_cli_fail(&err);
    }
    return KBS_CLI_OK;
}
