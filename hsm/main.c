/*
 * kbs-token: custody. The only process that loads a PKCS#11 module, reads the PIN and knows
 * handles.
 *
 *   kbs-token                  started by kbsd: a lane's worker, or by its configuration a sign worker
 *   kbs-token --init-token     started by `kbs-admin init`: makes the token and sets its PIN first
 *   kbs-token --probe ...      by an operator: prints what a token can do (probe.c)
 *
 * Phases: harden; configuration and descriptors until GO; LOGIN_WANT, LOGIN_GRANT; load, find, log
 * in; LOGIN_DONE; probe; READY; serve. A sign worker (duty sign) has no judge and no ledger, but channels to
 * fronts, and one key instead of a ladder (hsm/fronts.c). Everything before LOGIN_DONE happens under kbsd's grant, one
 * worker at a time, because C_Initialize and C_Login of several SoftHSM processes race for the
 * token's files.
 *
 * What `kbs-admin init` writes for the two tokens of the test matrix:
 *
 *   SoftHSM   env ["SOFTHSM2_CONF=<file>"], uri "pkcs11:token=<label>". The file holds
 *             "directories.tokendir = <folder>", "objectstore.backend = file", "log.level = ERROR";
 *             the folder exists. The new token gets the label in the URI; a second attached PIN
 *             (index 1) is the security officer's, without one it is random and forgotten.
 *   NSS       init_args "configdir='sql:<folder>' certPrefix='' keyPrefix='' secmod='' flags=
 *             dbTokenDescription='<label>'" (one line), uri "pkcs11:token=<label>". The folder
 *             exists and is empty. The label has no quote and at most 32 characters; the other
 *             token of the module, "NSS Generic Crypto Services", keeps its name.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "hsm/ckr.h"
#include "hsm/fronts.h"
#include "hsm/probe.h"
#include "hsm/secret.h"
#include "hsm/serve.h"
#include "hsm/wear.h"
#include "role/role.h"

#define MAIN_PATH_BYTES 4096u

/* main_login(): kbsd drains before this worker had its turn. */
#define MAIN_DRAINED 1

/* What kbsd hands over before GO. */
struct main_setup {
    bool init_token;
    bool production;
    enum kbs_duty duty;
    struct kbs_channel_msg config_msg; /* owns what config borrows */
    struct kbs_wire_config_token config;
    int judge_fd;
    int audit_fd; /* -1 with --init-token: there is no ledger yet */
    int pin_fd;
    int so_pin_fd;                        /* --init-token only, -1 if there is none */
    int front_fds[KBS_LIMIT_TLS_SIGNERS]; /* duty sign only: n_fronts of them, none missing */
    size_t n_fronts;
};

/* Where a descriptor goes; NULL if this worker is not to have it. */
static int *main_place(struct main_setup *s, const struct kbs_wire_attach *attach)
{
    bool sign = s->config.duty == KBS_DUTY_SIGN;

    if (attach->what == KBS_ATTACH_PIN && attach->index == 0) {
        return &s->pin_fd;
    }
    if (attach->what == KBS_ATTACH_PIN && attach->index == 1 && s->init_token) {
        return &s->so_pin_fd;
    }
    if (sign) {
        if (attach->what != KBS_ATTACH_FRONT || attach->index >= KBS_LIMIT_TLS_SIGNERS) {
            return NULL;
        }
        s->n_fronts = attach->index >= s->n_fronts ? attach->index + 1 : s->n_fronts;
        return &s->front_fds[attach->index];
    }
    if (attach->what == KBS_ATTACH_JUDGE && attach->index == 0) {
        return &s->judge_fd;
    }
    return attach->what == KBS_ATTACH_AUDIT && attach->index == 0 && !s->init_token ? &s->audit_fd
                                                                                    : NULL;
}

static int main_take_attach(struct main_setup *s, struct kbs_channel_msg *m, struct kbs_error *err)
{
    struct kbs_wire_attach attach;
    int *place;

    if (kbs_channel_msg_decode(m, KBS_WIRE_ATTACH, &attach, err) != 0) {
        return -1;
    }
    place = main_place(s, &attach);
    if (place == NULL || *place >= 0) {
        return kbs_fail(err, KBS_INPUT, "unexpected descriptor %u of kind %u", attach.index,
                        attach.what);
    }
    *place = m->fd;
    m->fd = -1;
    return 0;
}

/* The next message of the control channel; end of file is an error here. */
static int main_recv(struct kbs_channel_msg *m, uint32_t timeout_ms, struct kbs_error *err)
{
    int rc = kbs_channel_recv(KBS_FD_CONTROL, m, kbs_deadline_in_ms(timeout_ms), err);

    return rc == KBS_CHANNEL_EOF ? kbs_fail(err, KBS_INTERNAL, "kbsd hung up during start") : rc;
}

static int main_send(enum kbs_wire_type type, const void *msg, struct kbs_error *err)
{
    return kbs_channel_send(KBS_FD_CONTROL, type, 0, msg, -1,
                            kbs_deadline_in_ms(KBS_LIMIT_TOKEN_OP_MS), err);
}

/* That it is all there. */
static int main_check_setup(const struct main_setup *s, struct kbs_error *err)
{
    bool sign = s->config.duty == KBS_DUTY_SIGN;

    if (s->config.duty <= KBS_DUTY_NONE || s->config.duty >= KBS_DUTY_COUNT) {
        return kbs_fail(err, KBS_INPUT, "unknown duty %u", s->config.duty);
    }
    if (sign && s->init_token) {
        return kbs_fail(err, KBS_INPUT, "a sign worker does not make a token");
    }
    if (!sign && s->config.general != 0) {
        return kbs_fail(err, KBS_INPUT, "only a sign worker can be general");
    }
    if (sign && s->n_fronts == 0) {
        return kbs_fail(err, KBS_INPUT, "a sign worker without a channel to a front");
    }
    for (size_t i = 0; i < s->n_fronts; i++) {
        if (s->front_fds[i] < 0) {
            return kbs_fail(err, KBS_INPUT, "channel %zu to the front is missing", i);
        }
    }
    if (s->pin_fd < 0 || (!sign && (s->judge_fd < 0 || (s->audit_fd < 0 && !s->init_token)))) {
        return kbs_fail(err, KBS_INPUT, "no channel to a judge or to the ledger, or no PIN");
    }
    return 0;
}

/* CONFIG_TOKEN, ATTACHes, GO. */
static int main_take_setup(struct main_setup *s, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int rc = main_recv(&s->config_msg, KBS_LIMIT_START_MS, err);

    if (rc == 0) {
        rc = kbs_channel_msg_decode(&s->config_msg, KBS_WIRE_CONFIG_TOKEN, &s->config, err);
    }
    while (rc == 0) {
        rc = main_recv(&m, KBS_LIMIT_START_MS, err);
        if (rc != 0 || m.frame.type == KBS_WIRE_GO) {
            break;
        }
        rc = main_take_attach(s, &m, err);
    }
    kbs_channel_msg_deinit(&m);
    if (rc != 0 || main_check_setup(s, err) != 0) {
        return -1;
    }
    s->duty = (enum kbs_duty)s->config.duty;
    s->production = s->config.production != 0;
    return 0;
}

/* Secrets may not be written to swap: an error in production, a warning in the demo. */
static int main_check_heap(const struct main_setup *s, int heap, struct kbs_error *err)
{
    if (heap != KBS_SECRET_UNLOCKED) {
        return heap;
    }
    if (s->production) {
        return kbs_fail(err, KBS_INPUT,
                        "memory for secrets cannot be locked: raise RLIMIT_MEMLOCK");
    }
    kbs_log(KBS_LOG_WARN, "memory-unlocked",
            "consequence=\"secrets may be written to swap\" profile=demo");
    return 0;
}

/* NAME=value into the environment, for the module. */
static int main_set_env(const struct main_setup *s, struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(&s->config.env);
    struct kbs_span item;

    while (kbs_wire_list_next(&it, &item)) {
        char text[MAIN_PATH_BYTES];
        char *equals;

        if (!kbs_span_to_cstr(item, text, sizeof(text)) || (equals = strchr(text, '=')) == NULL ||
            equals == text) {
            return kbs_fail(err, KBS_INPUT, "an env entry is not NAME=value");
        }
        *equals = '\0';
        if (setenv(text, equals + 1, 1) != 0) {
            return kbs_fail(err, KBS_INTERNAL, "the environment cannot be set");
        }
    }
    return 0;
}

/* Module to logged-in session. The PINs are cleansed when this returns. */
static int main_open_token(const struct main_setup *s, struct kbs_token *t, struct kbs_error *err)
{
    KBS_AUTO_SECRET pin = NULL;
    KBS_AUTO_SECRET so_pin = NULL;
    char module[MAIN_PATH_BYTES];
    char uri[MAIN_PATH_BYTES];
    char init_args[MAIN_PATH_BYTES];

    if (!kbs_span_to_cstr(s->config.module, module, sizeof(module)) ||
        !kbs_span_to_cstr(s->config.uri, uri, sizeof(uri)) ||
        !kbs_span_to_cstr(s->config.init_args, init_args, sizeof(init_args))) {
        return kbs_fail(err, KBS_INPUT, "module, uri or init_args is too long");
    }
    if (kbs_secret_read_fd(s->pin_fd, &pin, err) != 0 ||
        (s->so_pin_fd >= 0 && kbs_secret_read_fd(s->so_pin_fd, &so_pin, err) != 0) ||
        main_set_env(s, err) != 0 ||
        kbs_token_load(t, module, init_args[0] != '\0' ? init_args : NULL, err) != 0) {
        return -1;
    }
    if (s->init_token && kbs_token_provision(t, uri, so_pin, pin, err) != 0) {
        return -1;
    }
    if (kbs_token_find(t, uri, err) != 0) {
        return -1;
    }
    return kbs_token_login(t, pin, err);
}

static bool main_is_pin_error(const struct kbs_token *t, const struct kbs_error *err)
{
    return kbs_ckr_class(err, t->quirk) == KBS_CKR_OPERATOR;
}

/* LOGIN_WANT to LOGIN_DONE. kbsd hears the outcome in every case, so that the next worker may log
 * in. 0, MAIN_DRAINED, or -1. */
static int main_login(struct main_setup *s, struct kbs_token *t, struct kbs_error *err)
{
    struct kbs_wire_login_done done = {.ok = 1};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error send_err = KBS_ERROR_NONE;
    int rc = main_send(KBS_WIRE_LOGIN_WANT, NULL, err);

    if (rc == 0) {
        rc = main_recv(&m, KBS_LIMIT_START_MS, err);
    }
    if (rc == 0 && m.frame.type == KBS_WIRE_DRAIN) {
        rc = MAIN_DRAINED;
    } else if (rc == 0) {
        rc = kbs_channel_msg_decode(&m, KBS_WIRE_LOGIN_GRANT, NULL, err);
    }
    kbs_channel_msg_deinit(&m);
    if (rc != 0) {
        return rc;
    }
    rc = main_open_token(s, t, err);
    kbs_io_close(&s->pin_fd);
    kbs_io_close(&s->so_pin_fd);
    if (rc != 0) {
        done.ok = 0;
        done.pin_error = main_is_pin_error(t, err);
        done.detail = kbs_span_str(err->detail);
    }
    if (main_send(KBS_WIRE_LOGIN_DONE, &done, rc == 0 ? err : &send_err) != 0) {
        return -1;
    }
    return rc;
}

/*
 * After login and probe, so that the module has loaded, opened and asked for whatever it needs only
 * once. Its folders are the operator's to name: a module does not tell.
 */
static int main_confine(const struct main_setup *s, const struct kbs_token *t,
                        struct kbs_error *err)
{
    char paths[KBS_CONFINE_FOLDERS][MAIN_PATH_BYTES];
    const char *folders[KBS_CONFINE_FOLDERS];
    struct kbs_wire_iter it = kbs_wire_list_iter(&s->config.folders);
    bool sign = s->duty == KBS_DUTY_SIGN;
    enum kbs_confine_role role = sign ? KBS_CONFINE_TOKEN_SIGN : KBS_CONFINE_TOKEN;
    enum kbs_confine_role role_opencryptoki =
        sign ? KBS_CONFINE_TOKEN_SIGN_OPENCRYPTOKI : KBS_CONFINE_TOKEN_OPENCRYPTOKI;
    struct kbs_confine_plan plan = {.role = t->quirk->opencryptoki ? role_opencryptoki : role,
                                    .production = s->production,
                                    .log_only = s->config.seccomp == KBS_SECCOMP_LOG,
                                    .folders = folders};
    struct kbs_span folder;

    while (kbs_wire_list_next(&it, &folder)) {
        if (plan.n_folders == KBS_CONFINE_FOLDERS ||
            !kbs_span_to_cstr(folder, paths[plan.n_folders], MAIN_PATH_BYTES)) {
            return kbs_fail(err, KBS_INPUT, "too many folders, or one with too long a name");
        }
        folders[plan.n_folders] = paths[plan.n_folders];
        plan.n_folders++;
    }
    return kbs_confine(&plan, err);
}

/* Probes what the token can do and says so. */
static int main_ready(const struct main_setup *s, struct kbs_worker *w, struct kbs_error *err)
{
    struct kbs_buf detail = KBS_BUF(512);
    struct kbs_wire_ready ready = {.pid = (uint32_t)getpid()};
    const char *text;
    int rc;

    if (kbs_cards_new(&w->cards, err) != 0 ||
        kbs_ladder_probe(&w->ladder, &w->token, false, err) != 0 ||
        kbs_secret_probe(&w->token, &w->ladder, false, err) != 0 ||
        kbs_sign_keys_look(&w->sign_keys, &w->token, err) !=
            0) { /* none, if `init` has yet to make it */
        return -1;
    }
    if (w->token.destroy_failures > 0) { /* or the first order would pay for it */
        return kbs_fail(err, KBS_TOKEN_DOWN, "an object of the probe could not be destroyed");
    }
    kbs_buf_printf(&detail, "token=\"%s\" serial=%s class=%s rungs=", w->token.label,
                   w->token.serial, kbs_token_class_name(w->token.quirk->class));
    for (size_t i = 0, n = 0; i < KBS_RUNG_COUNT; i++) {
        if (kbs_ladder_passed(&w->ladder, i)) {
            kbs_buf_printf(&detail, "%s%s", n++ > 0 ? "," : "", kbs_rungs[i].name);
        }
    }
    text = kbs_buf_cstr(&detail);
    kbs_log(KBS_LOG_INFO, "ready", "%s", text != NULL ? text : "");
    ready.detail = kbs_buf_span(&detail);
    rc = main_confine(s, &w->token, err);
    if (rc == 0) {
        rc = main_send(KBS_WIRE_READY, &ready, err);
    }
    kbs_buf_deinit(&detail);
    return rc;
}

/* Its key, its threads, and says so. */
static int main_ready_sign(const struct main_setup *s, struct kbs_token *t,
                           const struct kbs_sole *key, struct kbs_fronts *fronts,
                           struct kbs_error *err)
{
    struct kbs_buf detail = KBS_BUF(512);
    struct kbs_wire_ready ready = {.pid = (uint32_t)getpid()};
    const char *text;
    int rc = main_confine(s, t, err);

    if (rc == 0) {
        rc = kbs_fronts_start(fronts, err);
    }
    kbs_buf_printf(&detail, "token=\"%s\" serial=%s class=%s channels=%zu ", t->label, t->serial,
                   kbs_token_class_name(t->quirk->class), s->n_fronts);
    kbs_sole_print(key, &detail);
    text = kbs_buf_cstr(&detail);
    ready.detail = kbs_buf_span(&detail);
    if (rc == 0) {
        kbs_log(KBS_LOG_INFO, "ready", "%s", text != NULL ? text : "");
        rc = main_send(KBS_WIRE_READY, &ready, err);
    }
    kbs_buf_deinit(&detail);
    return rc;
}

/* What a sign worker does once it is logged in. The exit status. */
static int main_sign(struct main_setup *s, struct kbs_token *t)
{
    const struct kbs_sole_wanted wanted = {.uri = s->config.key,
                                           .certificate = s->config.certificate,
                                           .general = s->config.general != 0,
                                           .production = s->production};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_sole key = KBS_SOLE;
    struct kbs_fronts *fronts = NULL;
    int status = KBS_EXIT_OK;
    int rc;

    if (kbs_sole_load(&key, t, &wanted, &err) != 0 ||
        kbs_fronts_new(t, &key, s->front_fds, s->n_fronts, &fronts, &err) != 0 ||
        main_ready_sign(s, t, &key, fronts, &err) != 0) {
        kbs_log_error("start-failed", &err);
        /* A token that lacks the mechanism will not have it the next time. */
        status = err.category == KBS_UNSUPPORTED ? (int)KBS_EXIT_CONFIG : (int)kbs_exit_of(&err);
    } else {
        rc = kbs_fronts_serve(fronts, KBS_FD_CONTROL, &err);
        if (rc != 0) {
            kbs_log_error("serve-failed", &err);
            status = KBS_EXIT_FAILURE;
        }
        if (rc == KBS_FRONTS_STUCK) { /* with a thread in the module: nothing is undone */
            _exit(kbs_role_end(KBS_EXIT_STUCK));
        }
    }
    fronts = kbs_fronts_free(fronts);
    kbs_sole_deinit(&key);
    return status;
}

static int main_exit_status(const struct kbs_token *t, const struct kbs_error *err)
{
    if (main_is_pin_error(t, err)) {
        kbs_log(KBS_LOG_ERROR, "pin-refused",
                "ckr=%s action=\"check pin_file; no further login will be tried\"",
                kbs_ckr_name(kbs_ckr_of(err)));
        return KBS_EXIT_PIN;
    }
    return KBS_EXIT_FAILURE;
}

static int main_run(struct main_setup *s, struct kbs_worker *w)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int heap = kbs_secret_heap_init(&err);
    int status = KBS_EXIT_OK;
    int login;

    if (heap < 0 || main_take_setup(s, &err) != 0 || main_check_heap(s, heap, &err) != 0) {
        kbs_log_error("start-failed", &err);
        return kbs_exit_of(&err);
    }
    w->duty = s->duty;
    w->rsa1_5 = s->config.rsa1_5 != 0;
    w->judge_fd = s->judge_fd;
    w->deeds.fd = s->audit_fd;
    login = main_login(s, &w->token, &err);
    if (login < 0) {
        kbs_log_error("login-failed", &err);
        status = err.category == KBS_INPUT ? KBS_EXIT_CONFIG : main_exit_status(&w->token, &err);
    } else if (login == MAIN_DRAINED) {
        status = KBS_EXIT_OK;
    } else if (s->duty == KBS_DUTY_SIGN) {
        status = main_sign(s, &w->token);
    } else if (main_ready(s, w, &err) != 0) {
        kbs_log_error("start-failed", &err);
        status = kbs_exit_of(&err);
    } else if (kbs_serve(w, &err) != 0) {
        kbs_log_error("serve-failed", &err);
        status = KBS_EXIT_FAILURE;
    }
    kbs_token_close(&w->token);
    w->cards = kbs_cards_free(w->cards);
    return status;
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct main_setup setup = {.config_msg = KBS_CHANNEL_MSG,
                               .judge_fd = -1,
                               .audit_fd = -1,
                               .pin_fd = -1,
                               .so_pin_fd = -1};
    bool sign_list =
        argc == 3 && strcmp(argv[1], "--print-seccomp") == 0 && strcmp(argv[2], "sign") == 0;
    struct kbs_worker worker = {
        .control_fd = KBS_FD_CONTROL,
        .judge_fd = -1,
        .token = KBS_TOKEN_NULL,
        .sign_keys = {.purpose = KBS_PURPOSE_SIGN_TOKEN},
        .tls_keys = {.purpose = KBS_PURPOSE_TLS},
        .row_signer = {.purpose = KBS_PURPOSE_SIGN_ROW, .version = 1},
        .head_signer = {.purpose = KBS_PURPOSE_SIGN_HEAD, .version = 1},
        .receipt_signer = {.purpose = KBS_PURPOSE_SIGN_RECEIPT, .version = 1},
        .deeds = KBS_DEEDS,
        .worn_objects = kbs_wear_objects()};
    int status;

    for (size_t i = 0; i < KBS_LIMIT_TLS_SIGNERS; i++) {
        setup.front_fds[i] = -1;
    }
    if (kbs_confine_print(sign_list ? KBS_CONFINE_TOKEN_SIGN : KBS_CONFINE_TOKEN,
                          sign_list ? 2 : argc, argv)) {
        return KBS_EXIT_OK;
    }
    if (kbs_probe_main(argc, argv, &status)) {
        return status;
    }
    if (kbs_role_begin(&err) != 0) {
        kbs_log_error("start-failed", &err);
        return kbs_role_end(kbs_exit_of(&err));
    }
    setup.init_token = argc == 2 && strcmp(argv[1], "--init-token") == 0;
    if (argc > 1 && !setup.init_token) {
        kbs_log(
            KBS_LOG_ERROR, "usage",
            "expected=\"kbs-token [--init-token], started by kbsd or kbs-admin, or kbs-token --probe\"");
        return kbs_role_end(KBS_EXIT_CONFIG);
    }
    status = main_run(&setup, &worker);
    kbs_channel_msg_deinit(&setup.config_msg);
    kbs_deeds_deinit(&worker.deeds);
    kbs_io_close(&setup.judge_fd);
    kbs_io_close(&setup.audit_fd);
    kbs_io_close(&setup.pin_fd);
    kbs_io_close(&setup.so_pin_fd);
    for (size_t i = 0; i < setup.n_fronts; i++) {
        kbs_io_close(&setup.front_fds[i]);
    }
    return kbs_role_end(status);
}
