/*
 * The files of a new service. Private ones are written owner-only from their first byte
 * (kbs_io_write_file), the folder itself is 0700, and nothing existing is ever replaced. PINs and
 * private keys pass only through secrets.
 *
 * SoftHSM reads its configuration from a path in the environment, NSS from a string in
 * C_Initialize: both take absolute paths, because kbs-token's working directory is nobody's
 * business. Both formats lack escapes that their readers agree on, so `init` refuses folders whose
 * names would need them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/encoding.h"
#include "base/io.h"
#include "base/random.h"
#include "cli/init.h"

#define PIN_BYTES 16 /* of entropy */
#define TEXT_MAX_BYTES 32768

void kbs_init_path(const struct kbs_init *in, const char *name, char out[KBS_INIT_PATH_BYTES])
{
    (void)snprintf(out, KBS_INIT_PATH_BYTES, "%s/%s", in->folder, name);
}

int kbs_init_find_module(struct kbs_init *in, struct kbs_error *err)
{
    static const char *const softhsm[] = {
        "/usr/lib/" KBS_LIBRARY_ARCH "/softhsm/libsofthsm2.so",
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/lib/*/softhsm/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
        NULL,
    };
    static const char *const nss[] = {
        "/usr/lib/" KBS_LIBRARY_ARCH "/nss/libsoftokn3.so",
        "/usr/lib/" KBS_LIBRARY_ARCH "/libsoftokn3.so",
        "/usr/lib64/libsoftokn3.so",
        "/usr/lib64/nss/libsoftokn3.so",
        "/usr/lib/libsoftokn3.so",
        "/usr/lib/*/nss/libsoftokn3.so",
        "/usr/lib/*/libsoftokn3.so",
        NULL,
    };
    const char *const *patterns = in->token == KBS_INIT_SOFTHSM ? softhsm : nss;

    for (size_t i = 0; patterns[i] != NULL; i++) {
        glob_t found = {.gl_pathc = 0};
        int n = -1;
        if (glob(patterns[i], GLOB_NOSORT, NULL, &found) == 0 && found.gl_pathc > 0) {
            n = snprintf(in->module, sizeof(in->module), "%s", found.gl_pathv[0]);
        }
        globfree(&found);
        if (n > 0 && (size_t)n < sizeof(in->module)) {
            return 0;
        }
    }
    return kbs_fail(err, KBS_MISSING, "no %s in the usual places: install it or give --module",
                    in->token == KBS_INIT_SOFTHSM ? "libsofthsm2.so" : "libsoftokn3.so");
}

int kbs_init_folder(const struct kbs_init *in, const char *name, struct kbs_error *err)
{
    char path[KBS_INIT_PATH_BYTES];

    kbs_init_path(in, name, path);
    if (mkdir(path, 0700) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "cannot make the folder %s", name);
    }
    return 0;
}

int kbs_init_write(const struct kbs_init *in, const char *name, struct kbs_span content,
                   unsigned int mode, struct kbs_error *err)
{
    char path[KBS_INIT_PATH_BYTES];

    kbs_init_path(in, name, path);
    return kbs_io_write_file(path, content, mode, true, err);
}

/* Random bytes in hex and a line feed. */
static int write_pin(const struct kbs_init *in, const char *name, struct kbs_error *err)
{
    static const char digits[] = "0123456789abcdef";
    KBS_AUTO_SECRET raw = NULL;
    KBS_AUTO_SECRET pin = NULL;

    if (kbs_secret_new(PIN_BYTES, &raw, err) != 0 ||
        kbs_secret_new(2 * PIN_BYTES + 1, &pin, err) != 0) {
        return -1;
    }
    const uint8_t *from = kbs_secret_bytes(raw);
    uint8_t *to = kbs_secret_bytes(pin);
    kbs_random(kbs_secret_bytes(raw), PIN_BYTES);
    for (size_t i = 0; i < PIN_BYTES; i++) {
        to[2 * i] = (uint8_t)digits[from[i] >> 4];
        to[2 * i + 1] = (uint8_t)digits[from[i] & 15];
    }
    to[2 * PIN_BYTES] = '\n';
    return kbs_init_write(in, name, kbs_secret_span(pin), 0600, err);
}

int kbs_init_token_files(struct kbs_init *in, struct kbs_error *err)
{
    struct kbs_buf conf = KBS_BUF(TEXT_MAX_BYTES);
    int r = -1;

    if (write_pin(in, "pin", err) != 0 || kbs_init_folder(in, "token", err) != 0 ||
        kbs_init_folder(in, "store", err) != 0) {
        return -1;
    }
    if (in->token == KBS_INIT_NSS) {
        return 0;
    }
    kbs_buf_printf(&conf,
                   "directories.tokendir = %s/token/tokens\n"
                   "objectstore.backend = file\n"
                   "log.level = ERROR\n"
                   "slots.removable = false\n",
                   in->folder);
    if (write_pin(in, "so-pin", err) == 0 && kbs_init_folder(in, "token/tokens", err) == 0 &&
        kbs_buf_check(&conf, "softhsm2.conf", err) == 0) {
        r = kbs_init_write(in, "token/softhsm2.conf", kbs_buf_span(&conf), 0600, err);
    }
    kbs_buf_deinit(&conf);
    return r;
}

void kbs_init_args_put(const struct kbs_init *in, struct kbs_buf *out)
{
    if (in->token == KBS_INIT_NSS) {
        kbs_buf_printf(out,
                       "configdir='sql:%s/token' certPrefix='' keyPrefix='' secmod='' flags= "
                       "dbTokenDescription='kbs'",
                       in->folder);
    }
}

void kbs_init_env_put(const struct kbs_init *in, struct kbs_buf *out)
{
    if (in->token == KBS_INIT_SOFTHSM) {
        kbs_buf_printf(out, "SOFTHSM2_CONF=%s/token/softhsm2.conf", in->folder);
    }
}

/* Where an administrator on this machine finds the listener: wildcards are reached on loopback. */
static int connect_address(const char *listen, char out[128], struct kbs_error *err)
{
    char host[64];
    uint16_t port;

    if (kbs_io_split_address(listen, host, &port, err) != 0) {
        return -1;
    }
    bool v6 = strchr(host, ':') != NULL;
    if (strcmp(host, "0.0.0.0") == 0) {
        (void)snprintf(host, sizeof(host), "127.0.0.1");
    } else if (strcmp(host, "::") == 0) {
        (void)snprintf(host, sizeof(host), "::1");
    }
    (void)snprintf(out, 128, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", (unsigned int)port);
    return 0;
}

#define PEM_LINE_BYTES 64

/* A P-256 SubjectPublicKeyInfo (RFC 5480) as PEM (RFC 7468). */
static int write_public(const struct kbs_init *in, const char *name,
                        const struct kbs_ec_public *key, struct kbs_error *err)
{
    static const uint8_t head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                   0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                   0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
    struct kbs_buf der = KBS_BUF(sizeof(head) + KBS_EC_POINT_MAX_BYTES);
    struct kbs_buf text = KBS_BUF(512);
    struct kbs_buf pem = KBS_BUF(512);
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    int r = -1;

    kbs_buf_put(&der, head, sizeof(head));
    kbs_buf_put(&der, point, kbs_ec_point_put(key, point));
    kbs_base64_put(&text, kbs_buf_span(&der));
    kbs_buf_put_str(&pem, "-----BEGIN PUBLIC KEY-----\n");
    for (size_t i = 0; i < text.len; i += PEM_LINE_BYTES) {
        size_t n = text.len - i < PEM_LINE_BYTES ? text.len - i : PEM_LINE_BYTES;
        kbs_buf_put(&pem, text.p + i, n);
        kbs_buf_put_u8(&pem, '\n');
    }
    kbs_buf_put_str(&pem, "-----END PUBLIC KEY-----\n");
    if (kbs_buf_check(&text, name, err) == 0 && kbs_buf_check(&pem, name, err) == 0) {
        r = kbs_init_write(in, name, kbs_buf_span(&pem), 0600, err);
    }
    kbs_buf_deinit(&der);
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&pem);
    return r;
}

int kbs_init_profile(struct kbs_init *in, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(TEXT_MAX_BYTES);
    char address[128];
    int r = -1;

    if (connect_address(in->admin_listen, address, err) != 0 ||
        write_public(in, "admin/row.pub.pem", &in->row_key, err) != 0 ||
        write_public(in, "admin/head.pub.pem", &in->head_key, err) != 0 ||
        write_public(in, "admin/receipt.pub.pem", &in->receipt_key, err) != 0 ||
        write_public(in, "admin/request.pub.pem", &in->request_key, err) != 0) {
        return -1;
    }
    kbs_buf_printf(
        &text,
        "{\n  \"url\": \"https://%s\",\n  \"ca\": \"../tls/cert.pem\",\n"
        "  \"key\": \"admin.key.pem\",\n  \"import_key\": \"%s\",\n"
        "  \"seal_key\": \"%s\",\n  \"row_key\": \"row.pub.pem\",\n  \"head_key\": \"head.pub.pem\",\n"
        "  \"receipt_key\": \"receipt.pub.pem\"\n}\n",
        address, in->thumbprint, in->seal_thumbprint);
    if (kbs_buf_check(&text, "profile.json", err) == 0) {
        r = kbs_init_write(in, "admin/profile.json", kbs_buf_span(&text), 0600, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

/* A TOML basic string: TOML's escapes are a superset of JSON's shortest ones. */
static void toml_put(struct kbs_buf *out, const char *before, const char *value, const char *after)
{
    kbs_buf_put_str(out, before);
    kbs_json_string_put(out, kbs_span_str(value));
    kbs_buf_put_str(out, after);
}

static void server_put(const struct kbs_init *in, struct kbs_buf *out, const char *table,
                       const char *listen)
{
    kbs_buf_printf(out, "\n[%s]\n", table);
    toml_put(out, "sockets = [", listen, "]\n");
    kbs_buf_printf(out, "private_key = \"%s\"%s\ncertificate = \"tls/cert.pem\"\n",
                   in->tls_in_token ? "pkcs11:" : "tls/key.pem",
                   in->tls_in_token ? " # the service's own, in the token" : "");
}

static void admin_put(const struct kbs_init *in, struct kbs_buf *out)
{
    kbs_buf_put_str(out, "\n[admin]\nkeys = [\"admin/admin.pub.pem\"]\n");
    if (!in->production) {
        kbs_buf_put_str(out, "# Let clients of Trustee's KBS in, which sign no request; never in "
                             "production:\n# trustee_compat = true\n"
                             "# authorization_mode = \"InsecureAllowAll\"\n");
    }
}

static const char last_tables[] =
    "\n[attestation_token]\nissuer_name = \"kbs-hsm\"\nduration_min = 5\n\n"
    "[limits]\nmax_connections = 1024\n"
    "# auth_per_second = 200 # handshakes that one source begins; 0: any number\n\n"
    "# Who may have resources that come without a policy of their own:\n"
    "# [[plugins]]\n# name = \"resource\"\n# policy = \"policy.json\"\n";

static int config_put(const struct kbs_init *in, struct kbs_buf *out, struct kbs_error *err)
{
    struct kbs_buf init_args = KBS_BUF(TEXT_MAX_BYTES / 4);
    struct kbs_buf env = KBS_BUF(TEXT_MAX_BYTES / 4);
    int r = -1;

    kbs_init_args_put(in, &init_args);
    kbs_init_env_put(in, &env);
    const char *init_args_text = kbs_buf_cstr(&init_args);
    const char *env_text = kbs_buf_cstr(&env);
    if (init_args_text == NULL || env_text == NULL) {
        (void)kbs_fail(err, KBS_TOO_LARGE, "the folder's name is too long");
        goto out;
    }
    kbs_buf_printf(
        out,
        "# Made by kbs-admin init. What each key means, and which there are beside these: "
        "kbs.toml(5).\n# After a change: kbsd -c FILE --check-config\n"
        "[profile]\nmode = \"%s\"\n",
        in->production ? "production" : "demo");
    server_put(in, out, "http_server", in->listen);
    kbs_buf_put_str(out, "plain_sockets = []\n");
    server_put(in, out, "admin_server", in->admin_listen);
    admin_put(in, out);
    kbs_buf_put_str(out, "\n[token]\n");
    toml_put(out, "module = ", in->module, "\n");
    kbs_buf_put_str(out, "uri = \"" KBS_INIT_URI
                         "\"\npin_file = \"pin\" # or \"credential:NAME\", one of "
                         "systemd's\n");
    toml_put(out, "init_args = ", init_args_text, "\n");
    if (env.len > 0) {
        toml_put(out, "env = [", env_text, "]\n");
    }
    kbs_buf_printf(out,
                   "folders = [\"token\"] # what the module may read and write while it serves\n"
                   "lanes = %u\n\n[store]\npath = \"store/store.db\"\n\n[audit]\npath = "
                   "\"audit.log\"\n\n",
                   in->lanes);
    kbs_buf_put_str(out, "[attestation_service]\ntimeout = 5\n");
    kbs_buf_put_str(out,
                    in->production
                        ? "allow_sample = false\n"
                        : "allow_sample = true # proves nothing: for tests and demonstrations\n");
    kbs_buf_put_str(out, last_tables);
    r = kbs_buf_check(out, "kbs.toml", err);
out:
    kbs_buf_deinit(&init_args);
    kbs_buf_deinit(&env);
    return r;
}

int kbs_init_config(struct kbs_init *in, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(TEXT_MAX_BYTES);
    int r = config_put(in, &text, err);

    if (r == 0) {
        r = kbs_init_write(in, "kbs.toml", kbs_buf_span(&text), 0600, err);
    }
    kbs_buf_deinit(&text);
    return r;
}
