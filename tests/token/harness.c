/*
 * Why real processes: what is tested is the executable that will hold the keys, with its
 * descriptors, exit statuses and phases, against real tokens. Why a copy per test: a test that
 * breaks its token breaks only itself. NSS is pointed to its folder by C_Initialize's parameters,
 * the others by a configuration file that a variable names.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/io.h"
#include "cose/read/cose.h"
#include "cose/write/cose.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

#define TIMEOUT_MS 30000

static const struct token_kind kinds[] = {
    {.name = "softhsm",
     .modules = {"/usr/lib/softhsm/libsofthsm2.so",
                 "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                 "/usr/lib64/pkcs11/libsofthsm2.so"},
     .conf_env = "SOFTHSM2_CONF",
     .best_locality = KBS_LOCALITY_TRANSPORT,
     .jose_rung = "transport",
     .cose_rung = "transport",
     .manufacturer = "SoftHSM project",
     .class = KBS_TOKEN_CLASS_SOFTWARE},
    {.name = "nss",
     .modules = {"/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
                 "/usr/lib/aarch64-linux-gnu/libsoftokn3.so", "/usr/lib64/libsoftokn3.so"},
     .nss = true,
     .short_kcv = true,
     .best_locality = KBS_LOCALITY_TOKEN,
     .jose_rung = "JOSE-chain",
     .cose_rung = "COSE-HKDF",
     .manufacturer = "Mozilla Foundation",
     .class = KBS_TOKEN_CLASS_SOFTWARE},
    {.name = "kryoptic",
     .modules = {"build/deps/kryoptic/libkryoptic_pkcs11.so"},
     .conf_env = "KRYOPTIC_CONF",
     .short_kcv = true,
     .no_des = true,
     .best_locality = KBS_LOCALITY_TOKEN,
     .jose_rung = "JOSE-KDF",
     .cose_rung = "COSE-HKDF",
     .manufacturer = "Kryoptic Project",
     .class = KBS_TOKEN_CLASS_SOFTWARE},
    /* In the name spaces of with-opencryptoki. */
    {.name = "opencryptoki",
     .modules = {"/usr/lib/x86_64-linux-gnu/opencryptoki/libopencryptoki.so.0",
                 "/usr/lib/aarch64-linux-gnu/opencryptoki/libopencryptoki.so.0"},
     .slots = true,
     .short_kcv = true,
     .best_locality = KBS_LOCALITY_TOKEN,
     .jose_rung = "JOSE-KDF",
     .cose_rung = "transport",
     .manufacturer = "IBM",
     .class = KBS_TOKEN_CLASS_SOFTWARE},
    /* tests/mock: configured like SoftHSM, does everything, and is of no class that is known. */
    {.name = "mock",
     .modules = {"tests/bin/libkbs-mock-p11.so"},
     .conf_env = "SOFTHSM2_CONF",
     .short_kcv = true,
     .best_locality = KBS_LOCALITY_TOKEN,
     .jose_rung = "JOSE-KDF",
     .cose_rung = "COSE-HKDF",
     .manufacturer = "kbs-hsm",
     .class = KBS_TOKEN_CLASS_UNKNOWN,
     .mock = true},
};
const struct token_kind *kind;
const char *module_path;

/* The path of a candidate; one that is not absolute is of our own build, or made by ci/tokens. */
static const char *module_candidate(const char *path)
{
    static char ours[512];

    if (path[0] == '/') {
        return path;
    }
    bool made = strncmp(path, "build/deps/", strlen("build/deps/")) == 0;
    (void)snprintf(ours, sizeof(ours), "%s/%s", getenv(made ? "KBS_SOURCE_DIR" : "KBS_BUILD_DIR"),
                   path);
    return ours;
}

enum kbs_locality rung_locality(const char *rung)
{
    return strcmp(rung, "transport") == 0 ? KBS_LOCALITY_TRANSPORT : KBS_LOCALITY_TOKEN;
}

bool harness_select(const char *name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (size_t m = 0; strcmp(kinds[i].name, name) == 0 && kinds[i].modules[m] != NULL; m++) {
            const char *path = module_candidate(kinds[i].modules[m]);

            if (access(path, R_OK) == 0) {
                kind = &kinds[i];
                module_path = path;
                return true;
            }
        }
    }
    print_message("%s: its module is not there; %s\n", name,
                  strcmp(name, "kryoptic") == 0 || strcmp(name, "opencryptoki") == 0
                      ? "ci/tokens brings it"
                      : "ci/setup installs it");
    return false;
}

/* ---- folders ---- */

static void run(const char *a, const char *b, const char *c, const char *e)
{
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execlp(a, a, b, c, e, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/*
 * openCryptoki's tokens are where it was compiled to look: a link there leads to the folder in use.
 * What its processes share in memory belongs to the folder that was in use before.
 */
static void slots_enter(const struct token_dir *d)
{
    static const char *const slots[] = {"kbs0", "kbs1"};
    char link[128];
    char folder[300];
    char shared[128];

    for (size_t i = 0; kind->slots && i < sizeof(slots) / sizeof(slots[0]); i++) {
        char now[300] = {0};

        (void)snprintf(link, sizeof(link), "/var/lib/opencryptoki/%s", slots[i]);
        (void)snprintf(folder, sizeof(folder), "%s/%s", d->path, slots[i]);
        (void)snprintf(shared, sizeof(shared), "/dev/shm/var.lib.opencryptoki.%s", slots[i]);
        if (readlink(link, now, sizeof(now) - 1) > 0 && strcmp(now, folder) == 0) {
            continue;
        }
        run("rm", "-rf", link, shared);
        assert_int_equal(symlink(folder, link), 0);
    }
}

/*
 * A new token takes C_InitToken only with a PIN that is compiled into openCryptoki, and then asks
 * for another: its own tool does both. Left to kbs-token is the user's PIN.
 */
static void slots_init(const struct token_dir *d)
{
    slots_enter(d);
    run("sh", "-c",
        "echo kbs-test | pkcsconf -I -c 0 -S 87654321 >/dev/null && "
        "pkcsconf -P -c 0 -S 87654321 -n " SO_PIN,
        NULL);
}

static void slots_make(const struct token_dir *d)
{
    char folders[2][300];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(folders[i], sizeof(folders[i]), "%s/kbs%d/TOK_OBJ", d->path, i);
    }
    run("mkdir", "-p", folders[0], folders[1]);
    run("chgrp", "-R", "pkcs11", d->path); /* or its slot is not there */
}

static void dir_conf_write(const struct token_dir *d, const char *path)
{
    struct kbs_buf text = KBS_BUF(1024);
    struct kbs_error err = KBS_ERROR_NONE;

    if (strcmp(kind->name, "kryoptic") == 0) {
        for (int slot = 1; slot <= 2; slot++) {
            kbs_buf_printf(&text,
                           "[[slots]]\nslot = %d\ndbtype = \"sqlite\"\n"
                           "dbargs = \"%s/token-%d.sql\"\n",
                           slot, d->path, slot);
        }
    } else {
        kbs_buf_printf(&text,
                       "directories.tokendir = %s\nobjectstore.backend = file\n"
                       "log.level = ERROR\n",
                       d->path);
    }
    assert_int_equal(kbs_io_write_file(path, kbs_buf_span(&text), 0600, false, &err), 0);
    kbs_buf_deinit(&text);
}

static void dir_configure(struct token_dir *d)
{
    char conf[300];

    d->uri = "pkcs11:token=kbs-test";
    d->env[0] = '\0';
    d->init_args[0] = '\0';
    if (kind->nss) {
        (void)snprintf(d->init_args, sizeof(d->init_args),
                       "configdir='sql:%s' certPrefix='' keyPrefix='' secmod='' flags= "
                       "dbTokenDescription='kbs-test'",
                       d->path);
    } else if (kind->slots) {
        slots_make(d);
    } else {
        (void)snprintf(conf, sizeof(conf), "%s/token.conf", d->path);
        (void)snprintf(d->env, sizeof(d->env), "%s=%s", kind->conf_env, conf);
        dir_conf_write(d, conf);
    }
}

static void dir_make(struct token_dir *d)
{
    (void)snprintf(d->path, sizeof(d->path), "%s/kbs-token-test-XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(d->path));
    dir_configure(d);
}

void dir_new(struct token_dir *d)
{
    dir_make(d);
    if (kind->slots) {
        slots_init(d);
    }
}

void dir_copy(const struct token_dir *from, struct token_dir *d)
{
    char source[300];

    dir_make(d);
    (void)snprintf(source, sizeof(source), "%s/.", from->path);
    run("cp", "-a", source, d->path);
    dir_configure(d);
}

const char *dir_so_pin(void)
{
    return kind->slots ? SO_PIN "\n" : NULL;
}

void dir_remove(const struct token_dir *d)
{
    run("rm", "-rf", d->path, NULL);
}

void dir_enter(const struct token_dir *d)
{
    if (d->env[0] != '\0') {
        (void)setenv(kind->conf_env, strchr(d->env, '=') + 1, 1);
    }
    slots_enter(d);
}

/* ---- worker ---- */

/* What a worker on this kind of token reads and writes besides the token's folder. */
static const char *const slots_folders[] = {"/run/opencryptoki", "/run/lock/opencryptoki",
                                            "/dev/shm"};

static void worker_exec(const struct start_options *o, int control)
{
    char path[512];
    const char *bin = getenv("KBS_BIN_DIR");

    (void)snprintf(path, sizeof(path), "%s/kbs-token", bin != NULL ? bin : "bin");
    /* Not dumpable, so the leak checker cannot look at it; it would end with an error. */
    (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    if (o->no_memlock) {
        const struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 ||
            (geteuid() == 0 && prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) != 0)) {
            _exit(125);
        }
    }
    if (dup2(control, 3) < 0) {
        _exit(126);
    }
    (void)fcntl(3, F_SETFD, 0);
    (void)execl(path, "kbs-token", o->init ? "--init-token" : NULL, (char *)NULL);
    _exit(127);
}

static void send_ok(int fd, enum kbs_wire_type type, const void *msg, int attach)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_channel_send(fd, type, 0, msg, attach, kbs_deadline_in_ms(TIMEOUT_MS), &err) != 0) {
        fail_msg("%s: %s", kbs_wire_type_name(type), err.detail);
    }
}

static void attach_text(int control, uint32_t index, const char *text)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(close(fds[1]), 0);
    send_ok(control, KBS_WIRE_ATTACH,
            &(struct kbs_wire_attach){.what = KBS_ATTACH_PIN, .index = index}, fds[0]);
    assert_int_equal(close(fds[0]), 0);
}

/* The channels of a lane's worker. */
static void attach_lane(struct worker *w, bool init)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int judge[2];
    int audit[2];

    assert_int_equal(kbs_channel_pair(judge, &err), 0);
    w->judge = judge[0];
    send_ok(w->control, KBS_WIRE_ATTACH, &(struct kbs_wire_attach){.what = KBS_ATTACH_JUDGE},
            judge[1]);
    kbs_io_close(&judge[1]);
    if (!init) {
        assert_int_equal(kbs_channel_pair(audit, &err), 0);
        w->audit = audit[0];
        send_ok(w->control, KBS_WIRE_ATTACH, &(struct kbs_wire_attach){.what = KBS_ATTACH_AUDIT},
                audit[1]);
        kbs_io_close(&audit[1]);
    }
}

/* Those of a sign worker. */
static void attach_fronts(struct worker *w, size_t n, size_t first)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int front[2];

    for (w->n_fronts = 0; w->n_fronts < n; w->n_fronts++) {
        assert_int_equal(kbs_channel_pair(front, &err), 0);
        w->fronts[w->n_fronts] = front[0];
        send_ok(w->control, KBS_WIRE_ATTACH,
                &(struct kbs_wire_attach){.what = KBS_ATTACH_FRONT,
                                          .index = (uint32_t)(first + w->n_fronts)},
                front[1]);
        kbs_io_close(&front[1]);
    }
}

static void worker_configure(struct worker *w, const struct token_dir *d,
                             const struct start_options *o)
{
    struct kbs_buf env = KBS_BUF(1024);
    struct kbs_buf folder = KBS_BUF(1024);
    struct kbs_wire_list_builder list = {.buf = &env};
    struct kbs_wire_list_builder folders = {.buf = &folder};
    struct kbs_wire_config_token config = {
        .duty = (uint8_t)(o->duty != KBS_DUTY_NONE ? o->duty : KBS_DUTY_ADMIN),
        .production = o->production,
        .rsa1_5 = o->rsa1_5,
        .module = kbs_span_str(o->module != NULL ? o->module : module_path),
        .uri = kbs_span_str(o->uri != NULL ? o->uri : d->uri),
        .init_args = kbs_span_str(d->init_args),
        .key = kbs_span_str(o->key != NULL ? o->key : ""),
        .certificate = o->certificate,
        .general = o->general,
    };

    if (d->env[0] != '\0') {
        kbs_wire_list_add(&list, kbs_span_str(d->env));
    }
    config.env = kbs_wire_list_done(&list);
    kbs_wire_list_add(&folders, kbs_span_str(d->path));
    for (size_t i = 0; kind->slots && i < sizeof(slots_folders) / sizeof(slots_folders[0]); i++) {
        kbs_wire_list_add(&folders, kbs_span_str(slots_folders[i]));
    }
    config.folders = kbs_wire_list_done(&folders);
    send_ok(w->control, KBS_WIRE_CONFIG_TOKEN, &config, -1);
    kbs_buf_deinit(&env);
    kbs_buf_deinit(&folder);
    if (o->duty == KBS_DUTY_SIGN) {
        attach_fronts(w, o->fronts, o->front_first);
    }
    if (o->duty != KBS_DUTY_SIGN || o->lane_too) {
        attach_lane(w, o->init);
    }
    attach_text(w->control, 0, o->pin != NULL ? o->pin : PIN "\n");
    if (o->so_pin != NULL) {
        attach_text(w->control, 1, o->so_pin);
    }
    send_ok(w->control, KBS_WIRE_GO, NULL, -1);
}

static void expect(struct worker *w, struct kbs_channel_msg *m, enum kbs_wire_type type, void *msg)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_channel_recv(w->control, m, kbs_deadline_in_ms(TIMEOUT_MS), &err) != 0 ||
        kbs_channel_msg_decode(m, type, msg, &err) != 0) {
        fail_msg("expected %s: %s", kbs_wire_type_name(type), err.detail);
    }
}

void worker_start(struct worker *w, const struct token_dir *d, const struct start_options *o)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_ready ready;
    int control[2];

    slots_enter(d);
    *w = (struct worker){
        .judge = -1, .audit = -1, .login_msg = KBS_CHANNEL_MSG, .answer_msg = KBS_CHANNEL_MSG};
    assert_int_equal(kbs_channel_pair(control, &err), 0);
    w->control = control[0];
    w->pid = fork();
    assert_true(w->pid >= 0);
    if (w->pid == 0) {
        worker_exec(o, control[1]);
    }
    kbs_io_close(&control[1]);
    worker_configure(w, d, o);
    if (o->expect_exit) {
        return;
    }
    expect(w, &m, KBS_WIRE_LOGIN_WANT, NULL);
    send_ok(w->control, KBS_WIRE_LOGIN_GRANT, NULL, -1);
    expect(w, &w->login_msg, KBS_WIRE_LOGIN_DONE, &w->login);
    if (!o->expect_failure) {
        if (w->login.ok != 1) {
            fail_msg("login: %.*s", (int)w->login.detail.len, (const char *)w->login.detail.p);
        }
        expect(w, &m, KBS_WIRE_READY, &ready);
        w->ready = true;
    }
    kbs_channel_msg_deinit(&m);
}

int worker_wait(struct worker *w)
{
    int status = 0;

    assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
    kbs_io_close(&w->control);
    kbs_io_close(&w->judge);
    kbs_io_close(&w->audit);
    for (size_t i = 0; i < w->n_fronts; i++) {
        kbs_io_close(&w->fronts[i]);
    }
    kbs_channel_msg_deinit(&w->login_msg);
    kbs_channel_msg_deinit(&w->answer_msg);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int worker_stop(struct worker *w)
{
    kbs_io_close(&w->judge);
    for (size_t i = 0; i < w->n_fronts; i++) {
        kbs_io_close(&w->fronts[i]);
    }
    return worker_wait(w);
}

/* A deed, written down and acknowledged. */
static void worker_take_deed(struct worker *w)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_append append;
    struct kbs_buf text = KBS_BUF(sizeof(w->last_deed) - 1);
    struct kbs_span name;
    struct kbs_span value;

    if (kbs_channel_recv(w->audit, &m, kbs_deadline_in_ms(TIMEOUT_MS), &err) == 0) {
        struct kbs_wire_ack ack = {.seq = w->ledger_full ? 0 : ++w->deeds};

        assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_APPEND, &append, &err), 0);
        assert_true(kbs_span_equal_str(append.kind, "deed"));
        struct kbs_wire_iter it = kbs_wire_list_iter(&append.fields);
        kbs_buf_clear(&text);
        while (kbs_wire_list_next(&it, &name) && kbs_wire_list_next(&it, &value)) {
            kbs_buf_put_span(&text, name);
            kbs_buf_put_u8(&text, '=');
            kbs_buf_put_span(&text, value);
            kbs_buf_put_u8(&text, ' ');
        }
        assert_true(kbs_span_to_cstr(kbs_buf_span(&text), w->last_deed, sizeof(w->last_deed)));
        (void)!kbs_channel_send(w->audit, KBS_WIRE_ACK, m.frame.id, &ack, -1,
                                kbs_deadline_in_ms(TIMEOUT_MS), &err);
    }
    kbs_buf_deinit(&text);
    kbs_channel_msg_deinit(&m);
}

/* Plays the ledger until the answer of the worker is there. It answers after its deed is durable. */
static void worker_serve_ledger(struct worker *w)
{
    struct pollfd fds[2] = {{.fd = w->judge, .events = POLLIN}, {.fd = w->audit, .events = POLLIN}};

    w->last_deed[0] = '\0';
    do {
        assert_true(poll(fds, 2, TIMEOUT_MS) > 0);
        if ((fds[1].revents & POLLIN) != 0) {
            worker_take_deed(w);
        }
    } while (fds[0].revents == 0);
}

static void worker_call(struct worker *w, enum kbs_wire_type type, const void *msg,
                        enum kbs_wire_type answer_type, void *answer)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t deadline = kbs_deadline_in_ms(TIMEOUT_MS);

    if (kbs_channel_send(w->judge, type, 1, msg, -1, deadline, &err) == 0) {
        worker_serve_ledger(w);
        if (kbs_channel_recv(w->judge, &w->answer_msg, deadline, &err) == 0 &&
            w->answer_msg.frame.id == 1 &&
            kbs_channel_msg_decode(&w->answer_msg, answer_type, answer, &err) == 0) {
            return;
        }
    }
    fail_msg("%s: %s", kbs_wire_type_name(type), err.detail);
}

void must(int rc, const struct kbs_error *err)
{
    if (rc != 0) {
        fail_msg("%s", err->detail);
    }
}

void assert_category(const struct kbs_wire_result *r, enum kbs_category category)
{
    if (r->category != category) {
        fail_msg("%s instead of %s: %.*s", kbs_category_name((enum kbs_category)r->category),
                 kbs_category_name(category), (int)r->detail.len, (const char *)r->detail.p);
    }
}

struct kbs_wire_result worker_order(struct worker *w, enum kbs_wire_type type, const void *msg)
{
    struct kbs_wire_result result;

    worker_call(w, type, msg, KBS_WIRE_RESULT, &result);
    return result;
}

struct kbs_wire_described worker_describe(struct worker *w)
{
    struct kbs_wire_described described;

    worker_call(w, KBS_WIRE_DESCRIBE, NULL, KBS_WIRE_DESCRIBED, &described);
    return described;
}

struct kbs_wire_sign_key described_sign(const struct kbs_wire_described *d, uint16_t n)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_sign_key key;

    assert_true(n < d->sign_keys.count);
    assert_int_equal(
        kbs_wire_decode(KBS_WIRE_SIGN_KEY, kbs_wire_list_at(&d->sign_keys, n), &key, &err), 0);
    return key;
}

/* ---- orders ---- */

struct key_ref key_ref(uint8_t n, uint32_t version)
{
    struct key_ref k = {.version = version};

    memset(k.id, n, sizeof(k.id));
    (void)snprintf(k.kid, sizeof(k.kid), "default/key/nr-%u/v%u", (unsigned int)n, version);
    return k;
}

/* The other check value, by OpenSSL: AES-CMAC (NIST SP 800-38B). */
static void cmac_kcv(struct kbs_span key, uint8_t ret[KBS_KCV_BYTES])
{
    static const char text[] = "kbs-kcv";
    char cipher[] = "AES-128-CBC";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("cipher", cipher, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    uint8_t out[16];
    size_t len = 0;

    memcpy(cipher + 4, key.len == 16 ? "128" : "192", 3);
    assert_int_equal(EVP_MAC_init(ctx, key.p, key.len, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, (const uint8_t *)text, sizeof(text) - 1), 1);
    assert_int_equal(EVP_MAC_final(ctx, out, &len, sizeof(out)), 1);
    memcpy(ret, out, KBS_KCV_BYTES);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}

void key_check(const struct key_ref *k, struct kbs_span key)
{
    uint8_t kcv[KBS_KCV_BYTES];

    assert_int_equal(key.len, k->bytes);
    if (k->mac == KBS_KCV_HMAC_SHA256) {
        kbs_agree_kcv(key, kcv);
    } else {
        cmac_kcv(key, kcv);
    }
    assert_memory_equal(kcv, k->kcv, sizeof(kcv));
}

void key_made(struct key_ref *k, const struct kbs_wire_result *r)
{
    struct kbs_reader in = kbs_reader(r->body);
    struct kbs_span part;

    k->mac = (enum kbs_kcv_mac)kbs_read_u8(&in);
    part = kbs_read_bytes(&in, KBS_KCV_BYTES);
    assert_false(in.failed);
    memcpy(k->kcv, part.p, part.len);
    k->alg = (enum kbs_key_alg)kbs_read_u8(&in);
    part = kbs_read_bytes(&in, 4);
    assert_false(in.failed);
    k->bytes = (uint32_t)part.p[0] << 24 | (uint32_t)part.p[1] << 16 | (uint32_t)part.p[2] << 8 |
               part.p[3];
    part = kbs_read_bytes(&in, KBS_CARD_BYTES);
    assert_false(in.failed);
    memcpy(k->card, part.p, part.len);
    assert_true(in.rest.len <= sizeof(k->blob));
    memcpy(k->blob, in.rest.p, in.rest.len);
    k->blob_len = in.rest.len;
}

struct kbs_wire_generate generate_order(const struct key_ref *k, uint32_t bytes)
{
    return (struct kbs_wire_generate){.order = KBS_SPAN_LIT(ORDER),
                                      .purpose = KBS_PURPOSE_RELEASE,
                                      .key_id = kbs_span(k->id, sizeof(k->id)),
                                      .key_version = k->version,
                                      .kid = kbs_span_str(k->kid),
                                      .alg = KBS_KEY_ALG_AES,
                                      .key_bytes = bytes,
                                      .storage = KBS_STORAGE_RESIDENT,
                                      .floor = KBS_LOCALITY_WORKER,
                                      .policy = KBS_SPAN_LIT(POLICY),
                                      .created = 1790000000};
}

struct kbs_wire_result order_generate(struct worker *w, struct key_ref *k, uint32_t bytes)
{
    struct kbs_wire_generate order = generate_order(k, bytes);
    struct kbs_wire_result r = worker_order(w, KBS_WIRE_GENERATE, &order);

    if (r.category == KBS_OK) {
        key_made(k, &r);
    }
    return r;
}

struct kbs_wire_result order_service_version(struct worker *w, enum kbs_purpose purpose,
                                             uint32_t version)
{
    struct kbs_wire_generate order = {.order = KBS_SPAN_LIT(ORDER),
                                      .purpose = (uint8_t)purpose,
                                      .key_version = version,
                                      .curve = KBS_CURVE_P256};

    return worker_order(w, KBS_WIRE_GENERATE, &order);
}

struct kbs_wire_result order_service_key(struct worker *w, enum kbs_purpose purpose)
{
    return order_service_version(w, purpose, 1);
}

void order_service_keys(struct worker *w)
{
    static const enum kbs_purpose purposes[] = {
        KBS_PURPOSE_IMPORT,    KBS_PURPOSE_SIGN_TOKEN, KBS_PURPOSE_SIGN_ROW,
        KBS_PURPOSE_SIGN_HEAD, KBS_PURPOSE_CARD,       KBS_PURPOSE_WRAP_CATALOG,
        KBS_PURPOSE_SEAL,      KBS_PURPOSE_REQUEST,    KBS_PURPOSE_SIGN_RECEIPT};

    for (size_t i = 0; i < sizeof(purposes) / sizeof(purposes[0]); i++) {
        struct kbs_wire_result r = order_service_key(w, purposes[i]);

        if (r.category != KBS_OK) {
            fail_msg("%s: %.*s", kbs_purpose_name(purposes[i]), (int)r.detail.len,
                     (const char *)r.detail.p);
        }
        assert_int_equal(
            r.body.len,
            purposes[i] == KBS_PURPOSE_CARD || purposes[i] == KBS_PURPOSE_WRAP_CATALOG ? 0 : 65);
    }
}

struct kbs_wire_release release_order(const struct key_ref *k, const struct kbs_ec_public *tee,
                                      enum kbs_format format)
{
    static const uint8_t formats[] = {0, KBS_FORMAT_JOSE, KBS_FORMAT_COSE, KBS_FORMAT_JWE};
    static uint8_t keys[8][KBS_TEE_KEY_MAX_BYTES];
    static unsigned int next;
    const struct kbs_tee_key key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = *tee};
    uint8_t *place = keys[next++ % 8];

    return (struct kbs_wire_release){.order = KBS_SPAN_LIT(ORDER),
                                     .kid = kbs_span_str(k->kid),
                                     .card = kbs_span(k->card, sizeof(k->card)),
                                     .blob = kbs_span(k->blob, k->blob_len),
                                     .tee_key = kbs_span(place, kbs_tee_key_put(&key, place)),
                                     .formats = kbs_span(&formats[format], 1),
                                     .floor = KBS_LOCALITY_TRANSPORT,
                                     .party_v = KBS_SPAN_LIT("0123456789abcdef0123456789abcdef")};
}

struct sent sent_make(struct kbs_span point, const char *apu, struct kbs_span apv,
                      struct kbs_span key)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf info = KBS_BUF(512);
    struct kbs_agree_key *sender = NULL;
    struct kbs_ec_public to;
    struct sent s;

    kbs_jose_other_info_put(&info, kbs_span_str(apu), apv);
    if (kbs_agree_key_generate(KBS_CURVE_P256, &sender, &err) != 0 ||
        kbs_ec_point_get(KBS_CURVE_P256, point, &to, &err) != 0 ||
        kbs_agree_ecdh(sender, &to, &z, &err) != 0 ||
        kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err) != 0 ||
        kbs_agree_wrap(kbs_secret_span(kek), key, s.wrapped, &s.wrapped_len, &err) != 0) {
        fail_msg("sent: %s", err.detail);
    }
    s.epk = *kbs_agree_key_public(sender);
    (void)kbs_agree_key_free(sender);
    kbs_buf_deinit(&info);
    return s;
}

struct kbs_wire_import import_order(const struct sent *s, const struct key_ref *k)
{
    return (struct kbs_wire_import){.order = KBS_SPAN_LIT(ORDER),
                                    .key_id = kbs_span(k->id, sizeof(k->id)),
                                    .key_version = k->version,
                                    .kid = kbs_span_str(k->kid),
                                    .alg = KBS_KEY_ALG_AES,
                                    .storage = KBS_STORAGE_RESIDENT,
                                    .floor = KBS_LOCALITY_WORKER,
                                    .policy = KBS_SPAN_LIT(POLICY),
                                    .created = 1790000000,
                                    .epk_x = kbs_ec_x(&s->epk),
                                    .epk_y = kbs_ec_y(&s->epk),
                                    .wrapped = kbs_span(s->wrapped, s->wrapped_len)};
}

static void open_jose(const struct kbs_wire_result *result, struct kbs_ec_public *ret_epk,
                      uint8_t *wrapped, size_t *ret_len, const struct kbs_wire_release *order)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_recipient_in r = {.kid = ""};
    json_t *json = NULL;

    if (kbs_json_parse_object(result->body, "answer", &json, &err) != 0 ||
        kbs_jose_recipient_get(json, KBS_TEE_ALG_ECDH_ES_A256KW, &r, &err) != 0) {
        fail_msg("JOSE: %s", err.detail);
    }
    assert_true(kbs_span_equal_str(order->kid, r.kid));
    if (order->empty_context == 0) {
        assert_true(kbs_span_equal(kbs_buf_span(&r.apu), order->kid));
        assert_true(kbs_span_equal(kbs_buf_span(&r.apv), order->party_v));
    } else {
        assert_int_equal(r.apu.len + r.apv.len, 0);
    }
    *ret_epk = r.epk;
    memcpy(wrapped, r.encrypted_key.p, r.encrypted_key.len);
    *ret_len = r.encrypted_key.len;
    kbs_jose_recipient_in_deinit(&r);
    json_decref(json);
}

static void open_cose(const struct kbs_wire_result *result, struct kbs_ec_public *ret_epk,
                      uint8_t *wrapped, size_t *ret_len, const struct kbs_wire_release *order)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_cose_recipient_in r = {.kid = KBS_BUF(0)};

    if (kbs_cose_recipient_get(result->body, &r, &err) != 0) {
        fail_msg("COSE: %s", err.detail);
    }
    assert_true(kbs_span_equal(kbs_buf_span(&r.kid), order->kid));
    assert_true(kbs_span_equal(kbs_buf_span(&r.salt), order->salt));
    *ret_epk = r.epk;
    memcpy(wrapped, r.encrypted_key.p, r.encrypted_key.len);
    *ret_len = r.encrypted_key.len;
    kbs_cose_recipient_in_deinit(&r);
}

void open_released(const struct kbs_agree_key *tee, const struct kbs_wire_release *order,
                   const struct kbs_wire_result *result, struct kbs_secret **ret_key)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf info = KBS_BUF(2048);
    struct kbs_buf map = KBS_BUF(512);
    struct kbs_span u = order->empty_context != 0 ? KBS_SPAN_EMPTY : order->kid;
    struct kbs_span v = order->empty_context != 0 ? KBS_SPAN_EMPTY : order->party_v;
    struct kbs_ec_public epk;
    uint8_t wrapped[256];
    size_t wrapped_len = 0;
    int rc;

    if (result->format == KBS_FORMAT_JOSE) {
        open_jose(result, &epk, wrapped, &wrapped_len, order);
        kbs_jose_other_info_put(&info, u, v);
    } else {
        open_cose(result, &epk, wrapped, &wrapped_len, order);
        kbs_cose_recipient_protected_put(&map, order->kid);
        kbs_cose_kdf_context_put(&info, u, v, kbs_buf_span(&map));
    }
    rc = kbs_agree_ecdh(tee, &epk, &z, &err);
    if (rc == 0 && result->format == KBS_FORMAT_JOSE) {
        rc = kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err);
    } else if (rc == 0) {
        rc = kbs_agree_hkdf(kbs_secret_span(z), order->salt, kbs_buf_span(&info), &kek, &err);
    }
    if (rc == 0) {
        rc = kbs_agree_unwrap(kbs_secret_span(kek), kbs_span(wrapped, wrapped_len), ret_key, &err);
    }
    if (rc != 0) {
        fail_msg("the released key does not open: %s", err.detail);
    }
    kbs_buf_deinit(&info);
    kbs_buf_deinit(&map);
}

/* ---- inside ---- */

void inside_open(struct kbs_token *t, const struct token_dir *d)
{
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_SECRET pin = NULL;
    char init_args[512];

    *t = KBS_TOKEN_NULL;
    (void)snprintf(init_args, sizeof(init_args), "%s", d->init_args);
    dir_enter(d);
    if (kbs_secret_new(sizeof(PIN) - 1, &pin, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    memcpy(kbs_secret_bytes(pin), PIN, sizeof(PIN) - 1);
    if (kbs_token_load(t, module_path, init_args[0] != '\0' ? init_args : NULL, &err) != 0 ||
        kbs_token_find(t, d->uri, &err) != 0 || kbs_token_login(t, pin, &err) != 0) {
        fail_msg("inside: %s", err.detail);
    }
}

void dir_new_with_keys(struct token_dir *d)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct worker w;

    assert_true(kbs_secret_heap_init(&err) >= 0);
    dir_new(d);
    worker_start(&w, d, &(struct start_options){.init = true, .so_pin = SO_PIN "\n"});
    order_service_keys(&w);
    assert_int_equal(worker_stop(&w), 0);
}
