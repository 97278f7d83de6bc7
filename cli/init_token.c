/*
 * Making the token is kbs-token's work: no other program of the project loads a PKCS#11 module.
 * Here is the other end of its channels (docs/protocol/role-channels.md): kbsd's part on the
 * control channel, with a login that is always granted since there is one worker, then the judge's
 * part, a GENERATE for each of the service's keys and a DESCRIBE. There is no ledger yet, so
 * kbs-token --init-token leaves no deeds.
 *
 * PINs travel as descriptors of the files just written; this process never reads them back. A
 * Ctrl-C at the terminal ends the child (worker.c), its channel closes, and `init` cleans up.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "base/random.h"
#include "base/terms.h"
#include "channel/channel.h"
#include "cli/init.h"
#include "cli/token_start.h"
#include "jose/write/jose.h"

#define PROGRAM "kbs-token"
#define OPTION "--init-token"

/* The PIN files, read once by kbs-token. */
static int attach_pin(const struct kbs_cli_worker *w, const struct kbs_init *in, const char *name,
                      uint32_t index, uint64_t deadline, struct kbs_error *err)
{
    char path[KBS_INIT_PATH_BYTES];

    kbs_init_path(in, name, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "cannot open the file %s", name);
    }
    int r = kbs_cli_worker_attach(w, KBS_ATTACH_PIN, index, fd, deadline, err);
    kbs_io_close(&fd);
    return r;
}

int kbs_init_wire(const struct kbs_init *in, struct kbs_init_wire *ret, struct kbs_error *err)
{
    struct kbs_wire_list_builder env = {.buf = &ret->env_list};
    struct kbs_wire_list_builder folders = {.buf = &ret->folder_list};
    char folder[KBS_INIT_PATH_BYTES];

    *ret = (struct kbs_init_wire){.init_args = KBS_BUF(8192),
                                  .env = KBS_BUF(8192),
                                  .env_list = KBS_BUF(8192 + 16),
                                  .folder_list = KBS_BUF(KBS_INIT_PATH_BYTES + 16)};
    kbs_init_path(in, "token", folder);
    kbs_wire_list_add(&folders, kbs_span_str(folder));
    kbs_init_args_put(in, &ret->init_args);
    kbs_init_env_put(in, &ret->env);
    if (ret->env.len > 0) {
        kbs_wire_list_add(&env, kbs_buf_span(&ret->env));
    }
    ret->config = (struct kbs_wire_config_token){.production = in->production ? 1 : 0,
                                                 .module = kbs_span_str(in->module),
                                                 .uri = KBS_SPAN_LIT(KBS_INIT_URI),
                                                 .init_args = kbs_buf_span(&ret->init_args),
                                                 .env = kbs_wire_list_done(&env),
                                                 .folders = kbs_wire_list_done(&folders)};
    return kbs_buf_check(&ret->init_args, "init_args", err) == 0 &&
                   kbs_buf_check(&ret->env, "env", err) == 0 &&
                   kbs_buf_check(&ret->env_list, "env", err) == 0
               ? kbs_buf_check(&ret->folder_list, "folders", err)
               : -1;
}

void kbs_init_wire_deinit(struct kbs_init_wire *w)
{
    kbs_buf_deinit(&w->init_args);
    kbs_buf_deinit(&w->env);
    kbs_buf_deinit(&w->env_list);
    kbs_buf_deinit(&w->folder_list);
}

static int send_config(const struct kbs_cli_worker *w, const struct kbs_init *in, uint64_t deadline,
                       struct kbs_error *err)
{
    struct kbs_init_wire wire;
    int r = kbs_init_wire(in, &wire, err);

    if (r == 0) {
        wire.config.duty = KBS_DUTY_ADMIN;
        r = kbs_channel_send(w->control, KBS_WIRE_CONFIG_TOKEN, 0, &wire.config, -1, deadline, err);
    }
    kbs_init_wire_deinit(&wire);
    return r;
}

static int configure(const struct kbs_cli_worker *w, const struct kbs_init *in, int judge_end,
                     uint64_t deadline, struct kbs_error *err)
{
    if (send_config(w, in, deadline, err) != 0 ||
        kbs_cli_worker_attach(w, KBS_ATTACH_JUDGE, 0, judge_end, deadline, err) != 0 ||
        attach_pin(w, in, "pin", 0, deadline, err) != 0) {
        return -1;
    }
    if (in->token == KBS_INIT_SOFTHSM && attach_pin(w, in, "so-pin", 1, deadline, err) != 0) {
        return -1;
    }
    return kbs_channel_send(w->control, KBS_WIRE_GO, 0, NULL, -1, deadline, err);
}

/* A key of the service, an EC pair on that curve. ret: its public half; NULL for secret keys. */
static int generate_on(const struct kbs_cli_worker *w, enum kbs_purpose purpose,
                       enum kbs_curve curve, struct kbs_ec_public *ret, uint64_t deadline,
                       struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_result result;
    uint8_t id[KBS_KEY_ID_BYTES];
    uint8_t order[KBS_LIMIT_ORDER_BYTES];
    int r;

    kbs_service_key_id(purpose, id);
    kbs_random(order, sizeof(order));
    const struct kbs_wire_generate msg = {.order = kbs_span(order, sizeof(order)),
                                          .purpose = (uint8_t)purpose,
                                          .key_id = kbs_span(id, sizeof(id)),
                                          .key_version = 1,
                                          .curve = (uint8_t)curve};
    r = kbs_channel_call(w->judge, KBS_WIRE_GENERATE, &msg, KBS_WIRE_RESULT, &result, &m, deadline,
                         err);
    if (r == 0 && result.category != KBS_OK) {
        int n = result.detail.len < 120 ? (int)result.detail.len : 120;
        r = kbs_fail_native(err, KBS_TOKEN_DOWN, KBS_ORIGIN_CKR, result.ckr, "the %s key: %.*s",
                            kbs_purpose_name(purpose), n, (const char *)result.detail.p);
    } else if (r == 0 && ret != NULL) {
        r = kbs_ec_point_get(curve, result.body, ret, err);
    }
    if (r == 0 && ret != NULL) {
        r = kbs_ec_public_check(ret, err);
    }
    kbs_channel_msg_deinit(&m);
    return r;
}

static int generate(const struct kbs_cli_worker *w, enum kbs_purpose purpose,
                    struct kbs_ec_public *ret, uint64_t deadline, struct kbs_error *err)
{
    return generate_on(w, purpose, KBS_CURVE_P256, ret, deadline, err);
}

static void take_text(struct kbs_buf *from, char *out, size_t size)
{
    const char *text = kbs_buf_cstr(from);

    (void)snprintf(out, size, "%s", text != NULL ? text : "");
    kbs_buf_deinit(from);
}

static int describe(const struct kbs_cli_worker *w, struct kbs_init *in, uint64_t deadline,
                    struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_buf token = KBS_BUF(sizeof(in->token_text) - 1);
    struct kbs_buf rungs = KBS_BUF(sizeof(in->rungs) - 1);
    struct kbs_wire_described d;
    struct kbs_span rung;
    int r = kbs_channel_call(w->judge, KBS_WIRE_DESCRIBE, NULL, KBS_WIRE_DESCRIBED, &d, &m,
                             deadline, err);

    if (r == 0) {
        kbs_buf_put_span(&token, d.manufacturer);
        kbs_buf_put_str(&token, " ");
        kbs_buf_put_span(&token, d.model);
        kbs_buf_printf(&token, " (%s), serial ",
                       kbs_token_class_name((enum kbs_token_class)d.token_class));
        kbs_buf_put_span(&token, d.serial);
        struct kbs_wire_iter it = kbs_wire_list_iter(&d.rungs);
        while (kbs_wire_list_next(&it, &rung)) {
            kbs_buf_put_str(&rungs, rungs.len > 0 ? ", " : "");
            kbs_buf_put_span(&rungs, rung);
        }
    }
    take_text(&token, in->token_text, sizeof(in->token_text));
    take_text(&rungs, in->rungs, sizeof(in->rungs));
    kbs_channel_msg_deinit(&m);
    return r;
}

static int make_keys(const struct kbs_cli_worker *w, struct kbs_init *in, struct kbs_error *err)
{
    uint64_t deadline = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    struct kbs_ec_public sign_key;
    struct kbs_ec_public import_key;
    struct kbs_ec_public seal_key;
    struct kbs_ec_public tls_key;

    if (generate(w, KBS_PURPOSE_CARD, NULL, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_WRAP_CATALOG, NULL, deadline, err) != 0 ||
        generate_on(w, KBS_PURPOSE_SIGN_TOKEN, in->sign_curve, &sign_key, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_IMPORT, &import_key, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_SEAL, &seal_key, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_REQUEST, &in->request_key, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_SIGN_ROW, &in->row_key, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_SIGN_HEAD, &in->head_key, deadline, err) != 0 ||
        generate(w, KBS_PURPOSE_SIGN_RECEIPT, &in->receipt_key, deadline, err) != 0 ||
        (in->tls_in_token && generate(w, KBS_PURPOSE_TLS, &tls_key, deadline, err) != 0) ||
        describe(w, in, deadline, err) != 0) {
        return -1;
    }
    kbs_jose_thumbprint(&import_key, in->thumbprint);
    kbs_jose_thumbprint(&seal_key, in->seal_thumbprint);
    return 0;
}

int kbs_init_make_token(struct kbs_init *in, struct kbs_error *err)
{
    uint64_t deadline = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    const struct kbs_cli_login alone = {.lock_file = NULL};
    struct kbs_cli_worker w = KBS_CLI_WORKER_NULL;
    int judge_end = -1;
    int r = kbs_cli_worker_start(&w, PROGRAM, OPTION, &judge_end, err);

    if (r == 0) {
        r = configure(&w, in, judge_end, deadline, err);
    }
    kbs_io_close(&judge_end);
    if (r == 0) {
        r = kbs_cli_token_ready(&w, &alone, deadline, err);
    }
    if (r == KBS_CLI_TOKEN_ENDED) {
        r = kbs_fail(err, KBS_TOKEN_DOWN, PROGRAM " ended before it was ready");
    }
    if (r == 0) {
        r = make_keys(&w, in, err);
    }
    kbs_cli_worker_stop(&w, r != 0);
    if (r != 0 && err->category != KBS_MISSING) {
        err->category = KBS_TOKEN_DOWN;
    }
    return r;
}
