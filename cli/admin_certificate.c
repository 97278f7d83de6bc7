/*
 * kbs-admin tls csr, selfsigned, install, show: a listener's certificate, for who sits on the
 * server's host and may read what kbsd reads. The key may be in the token or in a file; the
 * commands are the same. They need no running service and disturb none.
 *
 * `install` replaces a certificate only by one that the service can use at once. It does not tell
 * the service by itself: an operator's tools know how (systemctl, a container's signal), and it may
 * not run at all.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"
#include "cli/tls.h"

#define PEM_BYTES (2 * KBS_TLS_CHAIN_BYTES)
#define MODE 0644u /* certificates are public */

/* ---- what all of them take ---- */

struct tls {
    const char *config;
    const char *listener;
    struct kbs_tls_names names;
    uint32_t days;
    const char *to;
    const char *certificate; /* to be installed */
    const char *chain;       /* and what is to follow it; NULL: nothing */
    uint32_t pid;
    bool dry_run;
    bool json;
};
#define TLS_DEFAULT ((struct tls){.listener = "guest", .to = "-", .days = 365})

#define COMMON_ARGS 2
static void common_args(struct tls *t, struct kbs_arg list[COMMON_ARGS])
{
    list[0] = (struct kbs_arg){
        "listener", KBS_ARG_TEXT, &t->listener, "NAME", "guest (default) or admin", 0, 0};
    list[1] = (struct kbs_arg){"config-file",
                               KBS_ARG_TEXT,
                               &t->config,
                               "FILE",
                               "of the service (default: $KBS_CONFIG_FILE, kbs.toml)",
                               0,
                               0};
}

/* KBS_CLI_GO_ON, or the status to exit with. */
static int parse(const struct kbs_admin_options *o, struct kbs_args *args, int argc, char **argv,
                 struct tls *t)
{
    struct kbs_arg common[COMMON_ARGS];

    common_args(t, common);
    args->common = common;
    args->common_count = COMMON_ARGS;
    int r = kbs_args_parse(args, argc, argv, &t->certificate);
    args->common = NULL;
    args->common_count = 0;
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (strcmp(t->listener, "guest") != 0 && strcmp(t->listener, "admin") != 0) {
        return kbs_args_usage(args, "--listener is guest or admin");
    }
    if (o->dry_run && args->positionals_max == 0) {
        return kbs_args_usage(args, "tls has no --dry-run but for install");
    }
    t->dry_run = t->dry_run || o->dry_run;
    if (t->config == NULL) {
        t->config = getenv("KBS_CONFIG_FILE");
    }
    if (t->config == NULL || t->config[0] == '\0') {
        t->config = "kbs.toml";
    }
    return KBS_CLI_GO_ON;
}

/* ---- csr, selfsigned ---- */

static int make(const struct tls *t, bool request, struct kbs_error *err)
{
    struct kbs_tls_host host = KBS_TLS_HOST;
    struct kbs_tls_key key = KBS_TLS_KEY;
    struct kbs_buf pem = KBS_BUF(PEM_BYTES);
    int r = kbs_tls_host_read(t->config, t->listener, &host, err);

    if (r == 0) {
        r = kbs_tls_key_open(&host, KBS_SPAN_LIT(""), &key, err);
    }
    if (r == 0) {
        r = request ? kbs_tls_request(&key, &t->names, &pem, err)
                    : kbs_tls_selfsigned(&key, &t->names, t->days, &pem, err);
    }
    if (r == 0) {
        r = kbs_cli_write_new(t->to, kbs_buf_span(&pem), err);
    }
    kbs_tls_key_close(&key);
    kbs_buf_deinit(&pem);
    kbs_tls_host_deinit(&host);
    return r == 0 ? 0 : -1; /* UNFIT has said why */
}

static int make_command(const struct kbs_admin_options *o, int argc, char **argv, bool request)
{
    struct tls t = TLS_DEFAULT;
    const struct kbs_arg own[] = {
        {"san", KBS_ARG_TEXT, &t.names.san, "NAMES",
         "how clients call it: DNS:NAME and IP:ADDRESS, with commas", 0, 0},
        {"subject", KBS_ARG_TEXT, &t.names.subject, "NAME",
         "as CN=kbs.example,O=Example (default: the first of --san)", 0, 0},
        {"out", KBS_ARG_TEXT, &t.to, "FILE", "into this new file (default: standard output)", 0, 0},
        {"days", KBS_ARG_NUMBER, &t.days, "N", "how long it is valid (default 365)", 1, 36500},
    };
    struct kbs_args args = {
        .synopsis = request ? "kbs-admin tls csr --san NAMES [options]"
                            : "kbs-admin tls selfsigned --san NAMES [options]",
        .about =
            request
                ? "Make a request (PKCS#10) for a TLS certificate, signed by the key of a listener, in the\n"
                  "token or in a file. For a CA, or an ACME client. Of several versions of the service's\n"
                  "own key it is the newest."
                : "Make a TLS certificate signed by its own key, in the token or in a file, for clients\n"
                  "that pin it. `tls install` puts it into service.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]) - (request ? 1 : 0),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = parse(o, &args, argc, argv, &t);

    if (status != KBS_CLI_GO_ON) {
        return status;
    }
    if (t.names.san == NULL) {
        return kbs_args_usage(&args, "--san is needed");
    }
    if (kbs_tls_names_check(&t.names, &err) != 0) {
        return kbs_args_usage(&args, "%s", err.detail);
    }
    return kbs_cli_end(make(&t, request, &err), &err);
}

int kbs_admin_cmd_tls_csr(struct kbs_admin_options *o, int argc, char **argv)
{
    return make_command(o, argc, argv, true);
}

int kbs_admin_cmd_tls_selfsigned(struct kbs_admin_options *o, int argc, char **argv)
{
    return make_command(o, argc, argv, false);
}

/* ---- the key of a certificate ---- */

/*
 * That the listener's key is that of the chain. In a token: as the service will look for it, and if
 * it would not find it, by the key that it names, to say which one that is.
 */
static int check_key(const struct kbs_tls_host *host, const struct kbs_tls_chain *chain,
                     struct kbs_error *err)
{
    struct kbs_tls_chain leaf = {.v = {chain->v[0]}, .n = 1};
    struct kbs_tls_key key = KBS_TLS_KEY;
    struct kbs_buf pem = KBS_BUF(PEM_BYTES);
    struct kbs_error first = KBS_ERROR_NONE;
    int r = kbs_tls_chain_put(&leaf, &pem, err);

    if (r == 0) {
        r = kbs_tls_key_open(host, kbs_buf_span(&pem), &key, &first);
        if (r == KBS_TLS_KEY_UNFIT) {
            kbs_tls_key_close(&key);
            r = kbs_tls_key_open(host, KBS_SPAN_LIT(""), &key, err);
        } else {
            *err = first;
        }
    }
    if (r == 0) {
        r = kbs_tls_chain_check_key(chain, key.public_key,
                                    host->key_uri != NULL ? "the token" : "the key's file", err);
    }
    if (r == 0 && first.category != KBS_OK) { /* it fits, and yet it does not: as was said */
        *err = first;
        r = -1;
    }
    kbs_tls_key_close(&key);
    kbs_buf_deinit(&pem);
    return r == 0 ? 0 : -1;
}

/* ---- install ---- */

/* KBS_CONFLICT if the path leads elsewhere, or to a listener with another key. */
static int check_place(const struct kbs_tls_host *host, struct kbs_error *err)
{
    struct stat st;

    if (host->shared && !host->key_shared) {
        return kbs_fail(err, KBS_CONFLICT,
                        "both listeners have %.100s, but not the same key: give each its own",
                        host->certificate);
    }
    if (lstat(host->certificate, &st) == 0 && !S_ISREG(st.st_mode)) {
        return kbs_fail(err, KBS_CONFLICT,
                        "%.100s is a link or no file: whoever made it has to replace it",
                        host->certificate);
    }
    return 0;
}

/* The new one in its place, the one before beside it as .old. A place is never empty. */
static int put_in_place(const char *path, struct kbs_span pem, bool *ret_same,
                        struct kbs_error *err)
{
    struct kbs_buf before = KBS_BUF(KBS_TLS_CHAIN_BYTES);
    struct kbs_buf old = KBS_BUF(8192);
    struct stat st;
    int r = 0;

    kbs_buf_printf(&old, "%s.old", path);
    const char *old_path = kbs_buf_cstr(&old);
    if (old_path == NULL) {
        r = kbs_fail(err, KBS_TOO_LARGE, "the certificate's path is too long");
    } else if (stat(path, &st) == 0) {
        r = kbs_io_read_file(path, &before, err);
        *ret_same = r == 0 && kbs_span_equal(kbs_buf_span(&before), pem);
        if (r == 0 && !*ret_same) {
            r = kbs_io_write_file(old_path, kbs_buf_span(&before), MODE, false, err);
        }
    }
    if (r == 0 && !*ret_same) {
        r = kbs_io_write_file(path, pem, MODE, false, err);
    }
    kbs_buf_deinit(&before);
    kbs_buf_deinit(&old);
    return r;
}

/* SIGHUP ends what does not know it: so only to a kbsd. */
static int reload(uint32_t pid, struct kbs_error *err)
{
    struct kbs_buf name = KBS_BUF(64);
    char path[64];
    int r;

    (void)snprintf(path, sizeof(path), "/proc/%u/comm", pid);
    r = kbs_io_read_file(path, &name, err);
    if (r != 0 || !kbs_span_equal_str(kbs_buf_span(&name), "kbsd\n")) {
        r = kbs_fail(err, KBS_MISSING, "installed, but process %u is no kbsd: not told", pid);
    } else if (kill((pid_t)pid, SIGHUP) != 0) {
        r = kbs_fail_errno(err, KBS_INPUT, "installed, but kbsd cannot be told: %s",
                           strerror(errno));
    }
    kbs_buf_deinit(&name);
    return r;
}

static int report(const struct tls *t, const struct kbs_tls_host *host, X509 *leaf, bool same,
                  struct kbs_error *err)
{
    json_t *seen = kbs_tls_certificate_json(leaf);
    const char *what = same ? "was there already" : t->dry_run ? "could be installed" : "installed";

    if (seen == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    kbs_cli_field("certificate", "%s", host->certificate);
    kbs_cli_field("for", "%s", host->shared ? "guest and admin listener" : host->listener);
    kbs_cli_field_text("subject",
                       kbs_span_str(json_string_value(json_object_get(seen, "subject"))));
    kbs_cli_field("not after", "%s", json_string_value(json_object_get(seen, "not_after")));
    kbs_cli_field("pin", "%s", json_string_value(json_object_get(seen, "pin")));
    kbs_cli_field("done", "%s", what);
    if (!t->dry_run && t->pid == 0) {
        (void)printf(
            "\nNext, if it runs:\n  systemctl reload kbsd    or    kill -HUP PID-OF-KBSD\n");
    }
    json_decref(seen);
    return 0;
}

static int install(const struct tls *t, struct kbs_error *err)
{
    struct kbs_tls_host host = KBS_TLS_HOST;
    struct kbs_tls_chain chain = {.n = 0};
    struct kbs_buf pem = KBS_BUF(KBS_TLS_CHAIN_BYTES);
    bool same = false;
    int r = -1;

    if (kbs_tls_chain_read(t->certificate, &chain, err) == 0 &&
        (t->chain == NULL || kbs_tls_chain_read(t->chain, &chain, err) == 0) &&
        kbs_tls_chain_check(&chain, err) == 0 && kbs_tls_chain_put(&chain, &pem, err) == 0 &&
        kbs_tls_host_read(t->config, t->listener, &host, err) == 0 &&
        check_place(&host, err) == 0 && check_key(&host, &chain, err) == 0) {
        r = t->dry_run ? 0 : put_in_place(host.certificate, kbs_buf_span(&pem), &same, err);
    }
    if (r == 0) {
        r = report(t, &host, chain.v[0], same, err);
    }
    if (r == 0 && t->pid != 0 && !t->dry_run) {
        r = reload(t->pid, err);
    }
    kbs_buf_deinit(&pem);
    kbs_tls_chain_deinit(&chain);
    kbs_tls_host_deinit(&host);
    return r;
}

int kbs_admin_cmd_tls_install(struct kbs_admin_options *o, int argc, char **argv)
{
    struct tls t = TLS_DEFAULT;
    const struct kbs_arg own[] = {
        {"chain", KBS_ARG_TEXT, &t.chain, "FILE", "what stands behind it: its CA's certificates", 0,
         0},
        {"pid", KBS_ARG_NUMBER, &t.pid, "N", "of the kbsd that is to read it, by SIGHUP", 1,
         4194304},
        {"dry-run", KBS_ARG_FLAG, &t.dry_run, NULL, "check it and change nothing", 0, 0},
    };
    struct kbs_args args = {
        .synopsis = "kbs-admin tls install CERTIFICATE [--chain FILE] [options]",
        .about =
            "Put a certificate (PEM, leaf first) where the configuration says, if it is of the\n"
            "listener's key and clients will take it. The one before stays beside it as .old.\n"
            "Status 6: it is of another key; 1: it is not in order. Nothing is changed then.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = parse(o, &args, argc, argv, &t);

    return status == KBS_CLI_GO_ON ? kbs_cli_end(install(&t, &err), &err) : status;
}

/* ---- show ---- */

static void print(const struct kbs_tls_host *host, const json_t *seen, const char *state)
{
    const json_t *names = json_object_get(seen, "names");
    const json_t *name;
    size_t i;

    kbs_cli_field("listener", "%s", host->listener);
    kbs_cli_field("certificate", "%s", host->certificate);
    kbs_cli_field_text("subject",
                       kbs_span_str(json_string_value(json_object_get(seen, "subject"))));
    kbs_cli_field_text("issuer", kbs_span_str(json_string_value(json_object_get(seen, "issuer"))));
    json_array_foreach(names, i, name)
    {
        kbs_cli_field_text(i == 0 ? "names" : "", kbs_span_str(json_string_value(name)));
    }
    kbs_cli_field("not after", "%s, %lld days left",
                  json_string_value(json_object_get(seen, "not_after")),
                  (long long)json_integer_value(json_object_get(seen, "days_left")));
    kbs_cli_field("SHA-256", "%s", json_string_value(json_object_get(seen, "sha256")));
    kbs_cli_field("pin", "%s", json_string_value(json_object_get(seen, "pin")));
    kbs_cli_field_text(host->key_uri != NULL ? "key in token" : "key in file",
                       kbs_span_str(host->key_uri != NULL ? host->key_uri : host->key_file));
    kbs_cli_field("key", "%s", state);
}

/* `state`: "matches", "another", "unknown". Takes `seen`. */
static int show_json(const struct kbs_tls_host *host, json_t *seen, size_t n, const char *state,
                     struct kbs_error *err)
{
    if (json_object_set_new(seen, "listener", json_string(host->listener)) != 0 ||
        json_object_set_new(seen, "certificate", json_string(host->certificate)) != 0 ||
        json_object_set_new(seen, "chain", json_integer((json_int_t)n)) != 0 ||
        json_object_set_new(
            seen, "key",
            json_pack("{s:s, s:s*, s:s*, s:s}", "where", host->key_uri != NULL ? "token" : "file",
                      "uri", host->key_uri, "file", host->key_file, "state", state)) != 0) {
        json_decref(seen);
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return kbs_cli_json(seen, err);
}

static int show(const struct tls *t, struct kbs_error *err)
{
    struct kbs_tls_host host = KBS_TLS_HOST;
    struct kbs_tls_chain chain = {.n = 0};
    struct kbs_error key_err = KBS_ERROR_NONE;
    int r = kbs_tls_host_read(t->config, t->listener, &host, err);

    if (r == 0) {
        r = kbs_tls_chain_read(host.certificate, &chain, err);
    }
    if (r == 0) {
        bool matches = check_key(&host, &chain, &key_err) == 0;
        const char *state = matches                            ? "matches"
                            : key_err.category == KBS_CONFLICT ? "another"
                                                               : "unknown";
        json_t *seen = kbs_tls_certificate_json(chain.v[0]);
        if (seen == NULL) {
            r = kbs_fail(err, KBS_INTERNAL, "out of memory");
        } else if (t->json) {
            r = show_json(&host, seen, chain.n, state, err);
        } else {
            print(&host, seen, matches ? "matches the certificate" : state);
            json_decref(seen);
        }
        if (r == 0 && !matches) { /* what is known has been said */
            *err = key_err;
            r = -1;
        }
    }
    kbs_tls_chain_deinit(&chain);
    kbs_tls_host_deinit(&host);
    return r;
}

int kbs_admin_cmd_tls_show(struct kbs_admin_options *o, int argc, char **argv)
{
    struct tls t = TLS_DEFAULT;
    const struct kbs_arg own[] = {
        {"json", KBS_ARG_FLAG, &t.json, NULL, "print JSON", 0, 0},
    };
    struct kbs_args args = {
        .synopsis = "kbs-admin tls show [options]",
        .about =
            "Show the certificate of a listener, and whether the key it has is that of it. If it is\n"
            "not, or cannot be looked at, that is told last, by the status too.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = parse(o, &args, argc, argv, &t);

    t.json = t.json || o->json;
    return status == KBS_CLI_GO_ON ? kbs_cli_end(show(&t, &err), &err) : status;
}
