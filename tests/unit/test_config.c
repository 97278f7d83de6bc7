/* src/config: the whole of docs/configuration.md accepted; everything else refused, with the
 * place it stands at. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "config/config.h"

struct folder {
    char path[64];
    char file[96];
    char json[96];
    struct kbs_config_report report; /* of the newest load() */
};

/* kbs_config_load(), with the report in the fixture. */
static int load(struct folder *f, const char *file, const struct kbs_config **ret,
                struct kbs_error *err)
{
    kbs_config_report_deinit(&f->report);
    return kbs_config_load(file, ret, &f->report, err);
}

static void put(const char *folder, const char *name, const char *text, unsigned int mode)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(kbs_io_write_file(path, kbs_span_str(text), mode, false, &err), 0);
}

static void make_folder(const char *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

/* A folder for [attest.snp], and one that has nothing of it. */
static void put_certificates(const char *folder)
{
    make_folder(folder, "snp");
    make_folder(folder, "snp/genoa");
    make_folder(folder, "snp/genoa/vcek");
    make_folder(folder, "snp/genoa/vcek/deep");
    put(folder, "snp/top.pem", "not handed over", 0644);
    put(folder, "snp/genoa/ark.pem", "one", 0644);
    put(folder, "snp/genoa/crl.der", "two", 0644);
    put(folder, "snp/genoa/.hidden.pem", "not handed over", 0644);
    put(folder, "snp/genoa/notes.txt", "not handed over", 0644);
    put(folder, "snp/genoa/vcek/1.der", "three", 0644);
    put(folder, "snp/genoa/vcek/deep/2.der", "not handed over", 0644);
    make_folder(folder, "open-snp");
    make_folder(folder, "open-snp/genoa");
    put(folder, "open-snp/genoa/ark.pem", "one", 0646);
}

static int set_up(void **state)
{
    struct folder *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    snprintf(f->path, sizeof(f->path), "/tmp/kbs-config-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    snprintf(f->file, sizeof(f->file), "%s/kbs.toml", f->path);
    snprintf(f->json, sizeof(f->json), "%s/kbs.json", f->path);
    char store[128];
    snprintf(store, sizeof(store), "%s/store", f->path);
    assert_int_equal(mkdir(store, 0700), 0);
    put(f->path, "key.pem", "not looked at", 0600);
    put(f->path, "open-key.pem", "not looked at", 0644);
    put(f->path, "cert.pem", "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
        0644);
    put(f->path, "admin.pem", "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n", 0644);
    put(f->path, "oops.pem", "-----BEGIN EC PRIVATE KEY-----\n-----BEGIN PUBLIC KEY-----\n", 0644);
    put(f->path, "empty.pem", "", 0644);
    put(f->path, "module.so", "", 0644);
    put(f->path, "pin", "1234", 0600);
    put(f->path, "open-pin", "1234", 0640);
    put(f->path, "open-admin.pem", "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n",
        0646);
    put(f->path, "open-module.so", "", 0757);
    put(f->path, "store/open-store.db", "", 0602);
    put(f->path, "policy.json", "{\"version\":1,\"rules\":[]}", 0644);
    put(f->path, "list.json", "[]", 0644);
    put_certificates(f->path);
    put(f->path, "jwks.json", "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"1\"}]}", 0644);
    put(f->path, "crl.pem", "-----BEGIN X509 CRL-----\nMA==\n-----END X509 CRL-----\n", 0644);
    put(f->path, "secret-jwks.json", "{\"keys\":[{\"kty\":\"EC\",\"d\":\"AA\"}]}", 0644);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    struct folder *f = *state;
    (void)nftw(f->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    kbs_config_report_deinit(&f->report);
    free(f);
    return 0;
}

/* Each line is one that a case may replace; the numbers matter for the positions. */
static const char *const good[] = {
    "[profile]",                                                                   /* 1 */
    "mode = \"demo\"",                                                             /* 2 */
    "[http_server]",                                                               /* 3 */
    "sockets = [\"127.0.0.1:8080\", \"[::]:0\"]",                                  /* 4 */
    "private_key = \"key.pem\"",                                                   /* 5 */
    "certificate = \"cert.pem\"",                                                  /* 6 */
    "plain_sockets = [\"127.0.0.2:1\", \"[::1]:2\", \"unix:s\", \"unix:/run/s\"]", /* 7 */
    "[admin_server]",                                                              /* 8 */
    "sockets = [\"127.0.0.1:8081\"]",                                              /* 9 */
    "private_key = \"key.pem\"",                                                   /* 10 */
    "certificate = \"cert.pem\"",                                                  /* 11 */
    "[admin]",                                                                     /* 12 */
    "keys = [\"admin.pem\"]",                                                      /* 13 */
    "[token]",                                                                     /* 14 */
    "module = \"module.so\"",                                                      /* 15 */
    "uri = \"pkcs11:token=kbs\"",                                                  /* 16 */
    "pin_file = \"pin\"",                                                          /* 17 */
    "init_args = \"configdir='sql:x'\"",                                           /* 18 */
    "env = [\"SOFTHSM2_CONF=token/x.conf\"]",                                      /* 19 */
    "lanes = 3",                                                                   /* 20 */
    "[store]",                                                                     /* 21 */
    "path = \"store/store.db\"",                                                   /* 22 */
    "[audit]",                                                                     /* 23 */
    "path = \"/tmp/audit.log\"",                                                   /* 24 */
    "[attestation_service]",                                                       /* 25 */
    "timeout = 7",                                                                 /* 26 */
    "allow_sample = true",                                                         /* 27 */
    "[attestation_token]",                                                         /* 28 */
    "issuer_name = \"someone\"",                                                   /* 29 */
    "duration_min = 9",                                                            /* 30 */
    "[limits]",                                                                    /* 31 */
    "max_connections = 100",                                                       /* 32 */
};
#define LINES (sizeof(good) / sizeof(good[0]))

#define SNP "[attest.snp]\n"
#define SNP_FOLDER SNP "certificates = \"snp\"\n"
#define ISSUER "[[issuer]]\nname = \"a\"\nprofile = \"maa\"\n" /* lines 32 to 34 */
#define ISSUER_KEYS ISSUER "keys = \"jwks.json\"\n"            /* and 35 */
#define ROOT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Loads the good file with up to two lines replaced (number from 1; 0: none). */
static int load_with(struct folder *f, size_t line, const char *text, size_t line2,
                     const char *text2, const struct kbs_config **ret, struct kbs_error *err)
{
    struct kbs_buf out = KBS_BUF(8192);
    for (size_t i = 1; i <= LINES; i++) {
        kbs_buf_put_str(&out, i == line ? text : i == line2 ? text2 : good[i - 1]);
        kbs_buf_put_u8(&out, '\n');
    }
    assert_false(out.failed);
    assert_int_equal(kbs_io_write_file(f->file, kbs_buf_span(&out), 0600, false, err), 0);
    kbs_buf_deinit(&out);
    *err = KBS_ERROR_NONE;
    return load(f, f->file, ret, err);
}

static void in_folder(const struct folder *f, const char *name, const char *is)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", f->path, name);
    assert_string_equal(is, path);
}

static void test_good(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    assert_int_equal(load_with(f, 0, NULL, 0, NULL, &c, &err), 0);
    assert_false(c->production);
    assert_int_equal(c->guest.n_sockets, 2);
    assert_int_equal(c->guest.sockets[0].address.ss_family, AF_INET);
    assert_int_equal(c->guest.sockets[1].address.ss_family, AF_INET6);
    assert_int_equal(c->guest.n_plain_sockets, 4);
    assert_int_equal(c->guest.plain_sockets[2].address.ss_family, AF_UNIX);
    in_folder(f, "s", c->guest.plain_sockets[2].text + 5);
    assert_string_equal(c->guest.plain_sockets[3].text, "unix:/run/s");
    in_folder(f, "key.pem", c->guest.private_key);
    assert_int_equal(c->admin.n_sockets, 1);
    assert_int_equal(c->admin_key_paths.n, 1);
    assert_true(kbs_span_starts_with(c->admin_keys[0], "-----BEGIN PUBLIC KEY-----"));
    in_folder(f, "module.so", c->token.module);
    assert_string_equal(c->token.uri, "pkcs11:token=kbs");
    in_folder(f, "pin", c->token.pin_file);
    assert_string_equal(c->token.init_args, "configdir='sql:x'");
    assert_int_equal(c->token.env.n, 1);
    assert_string_equal(c->token.env.v[0], "SOFTHSM2_CONF=token/x.conf");
    assert_int_equal(c->token.lanes, 3);
    in_folder(f, "store/store.db", c->store_path);
    assert_string_equal(c->audit_path, "/tmp/audit.log");
    assert_true(c->allow_sample);
    assert_int_equal(c->session_min, 7);
    assert_int_equal(c->token_min, 9);
    assert_string_equal(c->issuer, "someone");
    assert_int_equal(c->max_connections, 100);
    assert_false(c->token.seccomp_log);
    assert_int_equal(c->token.folders.n, 0);
    assert_string_equal(c->users.token, "kbs-token");
    assert_int_equal(f->report.n, 1);
    assert_false(f->report.v[0].error);
    assert_non_null(strstr(f->report.v[0].text, "kbs.toml:27:16: allow_sample"));
    c = kbs_config_free(c);
    assert_null(c);
}

static void test_defaults(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    static const char *const text =
        "admin_server={sockets=['127.0.0.1:0'],private_key='key.pem',certificate='cert.pem'}\n"
        "http_server.plain_sockets = ['127.0.0.1:0']\n"
        "admin.keys = ['admin.pem']\naudit.path = 'a'\n"
        "token={module='module.so',uri='pkcs11:serial=1;model=x',pin_file='pin'}\n";
    put(f->path, "kbs.toml", text, 0600);
    assert_int_equal(load(f, f->file, &c, &err), 0);
    assert_true(c->production);
    assert_false(c->allow_sample);
    assert_null(c->guest.private_key);
    assert_int_equal(c->token.lanes, 2);
    assert_int_equal(c->token.env.n, 0);
    in_folder(f, "store/store.db", c->store_path);
    assert_string_equal(c->token.seccomp, "kill");
    assert_string_equal(c->token.init_args, "");
    assert_string_equal(c->issuer, "kbs-hsm");
    assert_int_equal(c->session_min, 5);
    assert_int_equal(c->token_min, 5);
    assert_int_equal(c->max_connections, 1024);
    assert_int_equal(f->report.n, 0);
    assert_int_equal(c->admin_mode, KBS_ADMIN_SIGNED);
    assert_int_equal(c->auth_per_s, 200);
    assert_int_equal(c->sessions, 50000);
    assert_int_equal(c->body_bytes, 2 << 20);
    assert_int_equal(c->resource_bytes, 131072);
    assert_int_equal(c->resource_policy.len, 0);
    assert_false(c->rsa1_5);
    assert_false(c->token.pin_credential);
    in_folder(f, "token.lock", c->token.lock_file);
    c = kbs_config_free(c);
}

struct bad {
    size_t line;
    const char *text;
    const char *says; /* after the file's name */
};

/* Line 13 and those up to 16; what follows is line 17. */
#define ADMIN                                               \
    "keys = [\"admin.pem\"]\n"                              \
    "trustee_compat = true\n"                               \
    "authorization_mode = \"AuthenticatedAuthorization\"\n" \
    "[admin.authentication.bearer_jwt]\n"

static const struct bad bads[] = {
    /* syntax, names, types */
    {2, "mode = ", ":2:"},
    {2, "mode = \"demo", ":2:"},
    {2, "mode = \"\xff\"", ":2:"},
    {2, "mode = \"demo\"\nmode = \"demo\"", ":3:"},
    {21, "[token]", ":21:"},
    {20, "lane = 3", ":20:1: unknown key \"lane\" in table \"token\""},
    {20, "lanes = 3\n\"a\\u0000b\" = 1", ":21:1: unknown key \"a?b\""},
    {1, "[profil]", ":1:2: unknown table \"profil\""},
    {1, "\"http_server.sockets\" = []\n[profile]", ":1:1: unknown key \"http_server.sockets\""},
    {1, "[token.more]\n[profile]", ":1:8: unknown key \"more\" in table \"token\""},
    {1, "[.profile]", ":1:2: the name of a table begins with a letter"},
    {1, " [ [=]]", ":1:5: the name of a table begins with a letter"},
    {1, "[]", ":1:"},
    {4, "sockets = [\"127.0.0.1:1\",}]", ":4:26: Error while parsing value"},
    {1, "[[[x]]]", ":1:3: the name of a table begins"},
    {1, "[", ":1:2: the name of a table begins"},
    {1, "[[ \r\n", ":1:4: the name of a table begins"},
    {2, "mode = \xc3\xa9", ":2:8: only strings and comments may hold characters outside of ASCII"},
    {2, "# \xc3\xa9 [.x] '\nmode = \"a\\\"\xc3\xa9\"\n\xc3\xa9 = 1",
     ":4:1: only strings and comments"},
    {2, "mode = '''\n[.x] \xc3\xa9\n''''\n[.x]", ":5:2: the name of a table begins"},
    {2, "mode = \"\"\"\n[.x]\\\"\"\"\"\n[.x]", ":4:2: the name of a table begins"},
    {2, "mode = \"\"\n[.x]", ":3:2: the name of a table begins"},
    {1, "[[profile]]", ":1:3: \"profile\" must be a table"},
    {20, "lanes = \"3\"", ":20:9: token.lanes must be a whole number"},
    {20, "lanes = 3.0", ":20:9: token.lanes must be a whole number"},
    {2, "mode = 1", ":2:8: profile.mode must be a string"},
    {2, "mode = 2026-01-01", ":2:8: profile.mode must be a string"},
    {2, "mode = [\"demo\"]", ":2:8: profile.mode must be a string"},
    {27, "allow_sample = 1", ":27:16: attestation_service.allow_sample must be true or false"},
    {4, "sockets = \"127.0.0.1:1\"", ":4:11: http_server.sockets must be a list of strings"},
    {4, "sockets = [1]", ":4:12: http_server.sockets must be a string"},
    {4, "sockets = [\"127.0.0.1:1\", [\"127.0.0.1:2\"]]",
     ":4:27: http_server.sockets must be a string"},
    {22, "path = { a = 1 }", ":22:8: store.path must be a string"},
    {20, "lane = 3", ":20:1: unknown key \"lane\" in table \"token\"; did you mean \"lanes\"?"},
    {20, "pinfile = \"x\"",
     ":20:1: unknown key \"pinfile\" in table \"token\"; did you mean \"pin_file\""},
    {20, "duration_min = 3",
     ":20:1: unknown key \"duration_min\" in table \"token\"; there is one in "
     "[attestation_token]"},
    {20, "zzzzzz = 3", ":20:1: unknown key \"zzzzzz\" in table \"token\""},
    {1, "[admn]\n[profile]", ":1:2: unknown table \"admn\"; did you mean \"admin\"?"},
    {13, "keys = [\"admin.pem\"]\nautorization.x = 1",
     ":14:1: unknown key \"autorization\" in table \"admin\"; did you mean \"authorization\"?"},
    {1, "[[plugins]]\nname = \"resource\"\npolicies = 1\n[profile]",
     ":3:1: unknown key \"policies\" in table \"plugins[]\"; did you mean \"policy\"?"},
    {1, "[plugins]\n[profile]", ":1:1: \"plugins\" must be a list of at most 8 tables"},
    {1, "plugins = [1]\n[profile]", ":1:12: plugins[] must be a table"},
    {12, "[admin.authentication]\nbearer_jwt = 1\n[admin]",
     ":13:1: \"admin.authentication.bearer_jwt\" must be a table"},
    {27, "allow_rsa1_5 = \"yes\"",
     ":27:16: attestation_service.allow_rsa1_5 must be true or false"},
    /* ranges */
    {7, "payload_request_size = 3", ":7:24: http_server.payload_request_size must be 1 to 2"},
    {7, "payload_request_size = 0.5",
     ":7:24: http_server.payload_request_size must be a whole number"},
    {32, "auth_per_second = 1000001", ":32:19: limits.auth_per_second must be 0 to 1000000"},
    {32, "sessions = 0", ":32:12: limits.sessions must be 1 to 100000"},
    {32, "resource_bytes = 131073", ":32:18: limits.resource_bytes must be 1 to 131072"},
    {20, "lanes = 0", ":20:9: token.lanes must be 1 to 32"},
    {20, "lanes = 33", ":20:9: token.lanes must be 1 to 32"},
    {20, "lanes = -4294967295", ":20:9: token.lanes must be 1 to 32"},
    {26, "timeout = 4294967297", ":26:11: attestation_service.timeout must be 1 to 1440"},
    {30, "duration_min = 0", ":30:16: attestation_token.duration_min must be 1 to 1440"},
    {32, "max_connections = 1025", ":32:19: limits.max_connections must be 1 to 1024"},
    {13, "keys = []", ":13:8: admin.keys must have 1 to 64 elements"},
    {13, "keys = [\"\"]", ":13:9: admin.keys must have 1 to 1024 bytes"},
    {22, "path = \"\"", ":22:8: store.path must have 1 to 1024 bytes"},
    {22, "path = \"a\\u0000b\"", ":22:8: store.path holds a NUL character"},
    /* [attest.snp] */
    {32, SNP "certificates = \"none\"", ":33:16: attest.snp.certificates: No such file"},
    {32, SNP "certificates = \"store\"", ":33:16: attest.snp.certificates: has no certificates"},
    {32, SNP "certificates = \"pin\"", ":33:16: attest.snp.certificates: Not a directory"},
    {32, SNP_FOLDER "signers = [\"ask\"]", ":34:12: attest.snp.signers: must be"},
    {32, SNP_FOLDER "platform_required = [\"alias\"]",
     ":34:22: attest.snp.platform_required: must be"},
    {32, SNP_FOLDER "guest_forbidden = [\"cxl\", \"debug\"]",
     ":34:27: attest.snp.guest_forbidden: must be"},
    {32, SNP_FOLDER "guest_required = [\"smt\"]\nguest_forbidden = [\"cxl\", \"smt\"]",
     ":35:19: attest.snp.guest_forbidden: \"smt\" is required too"},
    {32, SNP_FOLDER "platform_required = [\"ecc\"]\nplatform_forbidden = [\"ecc\"]",
     ":35:22: attest.snp.platform_forbidden: \"ecc\" is required too"},
    {32, SNP "vmpl = 1", ": certificates is missing in table [attest.snp]"},
    {32, SNP "minimum = [{ product = \"genoa\" }]",
     ": certificates is missing in table [attest.snp]"},
    /* issuers */
    {32, "[[issuer]]\nname = \"a\"", ":32:1: profile is missing in issuer[]"},
    {32, "[[issuer]]\nname = \"a\"\nprofile = \"coco\"", ":34:11: issuer[].profile: must be"},
    {32, ISSUER, ":33:8: issuer[]: exactly one of keys, document and anchor"},
    {32, ISSUER_KEYS "document = \"d\"", ":33:8: issuer[]: exactly one of keys"},
    {32, ISSUER_KEYS "crl = \"crl.pem\"", ":36:7: issuer[].crl: it is for an anchor"},
    {32, ISSUER "anchor = \"admin.pem\"", ":35:10: anchor: "},
    {32, ISSUER "keys = \"nothing\"", ":35:8: keys: No such file"},
    {32, ISSUER "keys = \"secret-jwks.json\"", ":35:8: keys: "},
    {32, ISSUER "keys = \"oops.pem\"", ":35:8: keys: "},
    {32, ISSUER_KEYS "algorithms = [\"HS256\"]", ":36:15: issuer[].algorithms: must be ES"},
    {32, ISSUER_KEYS "algorithms = [\"none\"]", ":36:15: issuer[].algorithms: must be ES"},
    {32, ISSUER_KEYS "key_path = \"a.b\"", ":36:12: issuer[].key_path: must be a JSON pointer"},
    {32, ISSUER_KEYS "minimum_binding = \"high\"", ":36:19: issuer[].minimum_binding: must be"},
    {32, ISSUER_KEYS "passport = true\nminimum_binding = \"evidence\"",
     ":36:12: issuer[].passport: a token alone never has"},
    {32, ISSUER_KEYS "known_keys = true", ":33:8: issuer[]: known_keys and agree_with are for"},
    {32, ISSUER_KEYS "passport = true\nagree_with = \"a\"",
     ":37:14: issuer[].agree_with: there is no other issuer"},
    {32, ISSUER_KEYS "skew_s = 601", ":36:10: issuer[].skew_s must be 0 to 600"},
    {32, ISSUER_KEYS "require = { tees = [\"toaster\"] }",
     ":36:21: issuer[].require.tees: must be"},
    {32, ISSUER_KEYS "require = { submods = [\"A\"] }",
     ":36:24: issuer[].require.submods: must be like"},
    {32, ISSUER_KEYS "require = { colour = [] }", ":36:13: unknown key \"colour\""},
    {32,
     ISSUER_KEYS "[[issuer]]\nname = \"a\"\nprofile = \"ita\"\nissuer = [\"i\"]\ndocument = \"d\"",
     ":37:8: issuer[].name: \"a\" is there twice"},
    {32, ISSUER_KEYS "[[issuer]]\nname = \"b\"\nprofile = \"ita\"\ndocument = \"d\"",
     ":36:1: issuer[].issuer: another one has the same"},
    {32, SNP_FOLDER "vmpl = 4", ":34:8: attest.snp.vmpl must be 0 to 3"},
    {32, SNP_FOLDER "products = [\"Genoa\"]", ":34:13: attest.snp.products: must be \"milan\""},
    {32, SNP_FOLDER "products = []", ":34:12: attest.snp.products must have 1 to 3"},
    {32, SNP_FOLDER "chip_ids = [\"0123\"]", ":34:13: attest.snp.chip_ids: must be CHIP_ID"},
    {32, SNP_FOLDER "test_root = \"00\"", ":34:13: attest.snp.test_root: must be a SHA-256"},
    {32, SNP_FOLDER "vmlp = 0",
     ":34:1: unknown key \"vmlp\" in table \"attest.snp\"; did you mean"},
    {32, SNP_FOLDER "minimum = [{ snp = 1 }]",
     ":34:12: product is missing in attest.snp.minimum[]"},
    {32, SNP_FOLDER "minimum = [{ product = \"genoa\", snp = 256 }]",
     ":34:39: attest.snp.minimum[].snp must be 0 to 255"},
    {32, SNP_FOLDER "minimum = [{ product = \"genoa\", firmware = \"1.55\" }]",
     ":34:44: attest.snp.minimum[].firmware: must be like"},
    {32, SNP_FOLDER "minimum = [{ product = \"genoa\", firmware = \"1.55.256\" }]",
     ":34:44: attest.snp.minimum[].firmware: must be like"},
    {32, SNP_FOLDER "minimum = [{ product = \"turin\" }, { product = \"turin\" }]",
     ":34:47: attest.snp.minimum: \"turin\" is there twice"},
    /* values */
    {2, "mode = \"test\"", ":2:8: profile.mode: must be"},
    {4, "sockets = [\"127.0.0.1\"]", ":4:12: http_server.sockets: must be \"address:port\""},
    {4, "sockets = [\"127.0.0.1:65536\"]", ":4:12: http_server.sockets: must be"},
    {4, "sockets = [\"::1:80\"]", ":4:12: http_server.sockets: "},
    {4, "sockets = [\"localhost:80\"]", ":4:12: http_server.sockets: the address must be a number"},
    {4, "sockets = [\"unix:/x\"]", ":4:12: http_server.sockets: unix sockets carry no TLS"},
    {7, "plain_sockets = [\"unix:\"]", ":7:18: http_server.plain_sockets: no path"},
    {7, "plain_sockets = [\"0.0.0.0:80\"]",
     ":7:18: http_server.plain_sockets: without TLS only loopback"},
    {7, "plain_sockets = [\"127.0.0.1:1\", \"[::]:80\"]",
     ":7:33: http_server.plain_sockets: without TLS"},
    {7, "plain_sockets = [\"[::ffff:127.0.0.1]:80\"]",
     ":7:18: http_server.plain_sockets: without TLS"},
    {9, "sockets = []", ":9:11: admin_server.sockets must have 1 to 8 elements"},
    {9, "sockets = [\"127.0.0.1:1\"]\nplain_sockets = [\"127.0.0.1:0\"]",
     ":10:1: unknown key \"plain_sockets\" in table \"admin_server\""},
    {16, "uri = \"token=kbs\"", ":16:7: token.uri: must begin with"},
    {16, "uri = \"pkcs11:token=kbs?pin-value=1234\"", ":16:7: token.uri: may not hold a PIN"},
    {16, "uri = \"pkcs11:token=kbs;PIN-Value=1234\"", ":16:7: token.uri: may not hold a PIN"},
    {16, "uri = \"pkcs11:token=kbs?pin-source=file:x\"", ":16:7: token.uri: may not hold a PIN"},
    {16, "uri = \"pkcs11:token=kbs?pin -value=1234\"", ":16:7: token.uri: may hold only printable"},
    {16, "uri = \"pkcs11:token=kbs?pin%2Dvalue=1234\"", ":16:7: token.uri: may not have a query"},
    {16, "uri = \"pkcs11:token=kbs?module-path=/x\"", ":16:7: token.uri: may not have a query"},
    {16, "uri = \"pkcs11:manufacturer=x\"", ":16:7: token.uri: must name one token"},
    {16, "uri = \"pkcs11:\"", ":16:7: token.uri: must name one token"},
    {16, "uri = \"pkcs11:token=\"", ":16:7: token.uri: has an attribute without a value"},
    {16, "uri = \"pkcs11:token=kbs;object=x\"", ":16:7: token.uri: has an attribute that does not"},
    {19, "env = [\"A=b\", \"A\"]", ":19:15: token.env: must be NAME=value"},
    {19, "env = [\"1A=b\"]", ":19:8: token.env: must be NAME=value"},
    {19, "env = [\"A=b\", \"HSM_PIN=1234\"]", ":19:15: token.env: may not hold a PIN"},
    {19, "env = [\"pin=1234\"]", ":19:8: token.env: may not hold a PIN"},
    {17, "pin_file = \"env:PIN\"", ":17:12: token.pin_file: an environment is inherited"},
    {17, "pin_file = \"credential:pin\"", ":17:12: token.pin_file: there are no credentials"},
    {17, "pin_file = \"credential:../pin\"", ":17:12: token.pin_file: the name of a credential"},
    {17, "pin_file = \"credential:\"", ":17:12: token.pin_file: the name of a credential"},
    {5, "private_key = \"credential:a/b\"", ":5:15: http_server.private_key: the name of a cred"},
    {18, "pin = \"1234\"", ":18:1: token.pin: a PIN does not stand in this file"},
    {18, "pin_env = \"X\"", ":18:1: token.pin_env: an environment is inherited"},
    /* administrators by Trustee's ways */
    {13, "keys = [\"admin.pem\"]\nauthorization_mode = \"None\"",
     ":14:22: admin.authorization_mode: must be"},
    {13, "keys = [\"admin.pem\"]\napprovals = 2",
     ":14:13: approvals: 2 administrators are needed, and keys has 1"},
    {13, "keys = [\"admin.pem\"]\napprovals = 0", ":14:13: admin.approvals must be 1 to 8"},
    {13, "keys = [\"admin.pem\"]\napprovals_for = [\"policies\"]",
     ":14:18: admin.approvals_for: must be \"policy\" or \"destroy\""},
    {13, "keys = [\"admin.pem\"]\nauthorization_mode = \"InsecureAllowAll\"",
     ":14:22: authorization_mode: \"InsecureAllowAll\" needs trustee_compat = true"},
    {13,
     "keys = [\"admin.pem\"]\ntrustee_compat = true\n"
     "authorization_mode = \"AuthenticatedAuthorization\"",
     ":15:22: authorization_mode: \"AuthenticatedAuthorization\" needs identity_providers"},
    {13, ADMIN "identity_providers = [{ public_key_uri = \"admin.pem\" }]",
     ":15:22: authorization_mode: \"AuthenticatedAuthorization\" needs acls"},
    {13, ADMIN "identity_providers = [{ issuer = \"x\" }]", ":17:23: identity_providers: neither"},
    {13, ADMIN "identity_providers = [{ jwk_set_uri = \"https://x/\" }]",
     ":17:39: admin.authentication.bearer_jwt.identity_providers[].jwk_set_uri: put the URL"},
    {13, ADMIN "identity_providers = [{ jwk_set_uri = \"file://x\" }]",
     ":17:39: admin.authentication.bearer_jwt.identity_providers[].jwk_set_uri: a file: URI"},
    {13, ADMIN "identity_providers = [{ jwk_set_uri = \"list.json\" }]",
     ":17:39: jwk_set_uri: is not a JWK Set"},
    {13, ADMIN "identity_providers = [{ jwk_set_uri = \"secret-jwks.json\" }]",
     ":17:39: jwk_set_uri: holds a private key"},
    {13, ADMIN "identity_providers = [{ public_key_uri = \"oops.pem\" }]",
     ":17:42: public_key_uri: holds a private key"},
    {13, ADMIN "identity_providers = [{ public_key_uri = \"jwks.json\" }]",
     ":17:42: public_key_uri: has no PEM block PUBLIC KEY"},
    {13, ADMIN "[admin.authorization.regex_acl]\nacls = [{ role = \"a\" }]",
     ":18:9: allowed_endpoints is missing in admin.authorization.regex_acl.acls[]"},
    {13,
     ADMIN "[admin.authorization.regex_acl]\n"
           "acls = [{ role = \"a\", allowed_endpoints = \"/kbs/.*\" }]",
     ":18:43: admin.authorization.regex_acl.acls[].allowed_endpoints: must begin with"},
    {13,
     ADMIN "[admin.authorization.regex_acl]\n"
           "acls = [{ role = \"a\", allowed_endpoints = \"^/kbs/.*\" }]",
     ":18:43: admin.authorization.regex_acl.acls[].allowed_endpoints: must begin with"},
    /* plugins */
    {32, "[[plugins]]\npolicy = \"policy.json\"", ":32:1: name is missing in plugins[]"},
    {32, "[[plugins]]\nname = \"resource\"\npolicy = \"list.json\"",
     ":34:10: plugins[].policy: is not a JSON object"},
    {32, "[[plugins]]\nname = \"resource\"\npolicy = \"pin\"",
     ":34:10: plugins[].policy: is not JSON"},
    {32, "[[plugins]]\nname = \"resource\"\npolicy = \"none.json\"",
     ":34:10: plugins[].policy: No such file"},
    {32, "[[plugins]]\nname = \"resource\"\n[[plugins]]\nname = \"resource\"",
     ":35:8: plugins[].name: \"resource\" is there twice"},
    {29, "issuer_name = \"a\\\"b\"", ":29:15: attestation_token.issuer_name: may hold only"},
    /* files */
    {5, "private_key = \"none.pem\"", ":5:15: private_key: No such file"},
    {5, "private_key = \"/tmp\"", ":5:15: private_key: is not a regular file"},
    {6, "certificate = \"none.pem\"", ":6:15: certificate: No such file"},
    {6, "certificate = \"empty.pem\"", ":6:15: certificate: has no PEM block CERTIFICATE"},
    {6, "certificate = \"oops.pem\"", ":6:15: certificate: holds a private key"},
    {10, "private_key = \"none.pem\"", ":10:15: private_key: No such file"},
    {13, "keys = [\"admin.pem\", \"none.pem\"]", ":13:22: admin.keys: No such file"},
    {13, "keys = [\"oops.pem\"]", ":13:9: admin.keys: holds a private key"},
    {13, "keys = [\"cert.pem\"]", ":13:9: admin.keys: has no PEM block PUBLIC KEY"},
    {15, "module = \"none.so\"", ":15:10: module: No such file"},
    {17, "pin_file = \"none\"", ":17:12: pin_file: No such file"},
    {22, "path = \"none/store.db\"", ":22:8: store.path: its folder does not exist"},
    {24, "path = \"/tmp\"", ":24:8: audit.path: is not a regular file"},
    {20, "folders = [\"none\"]", ":20:12: token.folders: is not a folder"},
    {20, "folders = [\"store\", \"pin\"]", ":20:21: token.folders: is not a folder"},
    {20, "seccomp = \"off\"", ":20:11: token.seccomp: must be"},
    {32, "[users]\njudge = \"a b\"", ":33:9: users.judge: must be a user"},
    {32, "[users]\njudge = \"-a\"", ":33:9: users.judge: must be a user"},
    {32, "[users]\njudge = \"12345678901\"", ":33:9: users.judge: is too large"},
    {32, "[users]\nnobody = \"1\"", ":33:1: unknown key"},
    /* missing */
    {13, "", ": keys is missing in table [admin]"},
    {16, "", ": uri is missing in table [token]"},
    {10, "", ": private_key is missing in table [admin_server]"},
    {5, "", ":4:11: http_server.sockets needs http_server.private_key"},
    {6, "", ":4:11: http_server.sockets needs http_server.certificate"},
    {4,
     "sockets = [\"127.0.0.1:1\",\"127.0.0.1:2\",\"127.0.0.1:3\",\"127.0.0.1:4\",\"127.0.0.1:5\"]",
     ":4:11: http_server: at most 8 sockets"},
};

/* Whether a finding begins with that; no finding may hold a PIN. */
static bool is_said(const struct folder *f, const char *want)
{
    bool said = false;
    for (size_t i = 0; i < f->report.n; i++) {
        said = said || strncmp(f->report.v[i].text, want, strlen(want)) == 0;
        assert_null(strstr(f->report.v[i].text, "1234"));
    }
    return said;
}

static void test_bad(void **state)
{
    struct folder *f = *state;
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        const struct bad *b = &bads[i];
        const struct kbs_config *c = NULL;
        struct kbs_error err;
        char want[256];
        int rc = load_with(f, b->line, b->text, 0, NULL, &c, &err);
        snprintf(want, sizeof(want), "%s%s", f->file, b->says);
        if (rc != -1 || err.category != KBS_INPUT || !is_said(f, want)) {
            fail_msg("%s\nwant %s\ngot  %d %s", b->text, want, rc,
                     rc == 0 ? "no error" : err.detail);
        }
        assert_null(c);
    }
}

static void test_no_sockets(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    assert_int_equal(load_with(f, 4, "sockets = []", 7, "plain_sockets = []", &c, &err), -1);
    assert_non_null(
        strstr(err.detail, ":4:11: http_server: sockets and plain_sockets are both empty"));
}

/* Everything that a drop-in for Trustee's KBS can be told. */
static void test_trustee(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    assert_int_equal(
        load_with(f, 13,
                  ADMIN
                  "identity_providers = [{ issuer = \"i\", audience = \"a\", public_key_uri = "
                  "\"admin.pem\", jwk_set_uri = \"jwks.json\" }, { jwk_set_uri = \"jwks.json\" "
                  "}]\n"
                  "[[admin.authorization.regex_acl.acls]]\n"
                  "role = \"one\"\nallowed_endpoints = \"^/kbs/v0/resource/.*$\"\n"
                  "[[admin.authorization.regex_acl.acls]]\n"
                  "role = \"two\"\nallowed_endpoints = \"^/kbs/.*$\"\n",
                  32,
                  "max_connections = 100\nauth_per_second = 0\nsessions = 7\nresource_bytes = 1\n"
                  "[[plugins]]\nname = \"resource\"\npolicy = \"policy.json\"",
                  &c, &err),
        0);
    assert_true(c->trustee_compat);
    assert_int_equal(c->admin_mode, KBS_ADMIN_BEARER);
    assert_int_equal(c->n_providers, 3);
    assert_string_equal(c->providers[0].issuer, "i");
    assert_string_equal(c->providers[0].audience, "a");
    assert_true(kbs_span_starts_with(c->providers[0].keys, "-----BEGIN PUBLIC KEY-----"));
    assert_string_equal(c->providers[1].issuer, "");
    assert_true(kbs_span_starts_with(c->providers[1].keys, "{\"keys\""));
    assert_string_equal(c->providers[2].issuer, "i"); /* the other kind of the first one's keys */
    assert_true(kbs_span_starts_with(c->providers[2].keys, "{\"keys\""));
    assert_int_equal(c->n_acls, 2);
    assert_string_equal(c->acls[0].role, "one");
    assert_string_equal(c->acls[1].allowed_endpoints, "^/kbs/.*$");
    assert_int_equal(c->auth_per_s, 0);
    assert_int_equal(c->sessions, 7);
    assert_int_equal(c->resource_bytes, 1);
    assert_true(kbs_span_equal_str(c->resource_policy, "{\"version\":1,\"rules\":[]}"));
    assert_int_equal(f->report.n, 2); /* trustee_compat, allow_sample */
    c = kbs_config_free(c);
}

/* `sockets` without TLS: loopback always, other addresses where production is not. */
static void test_insecure_http(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    assert_int_equal(load_with(f, 4,
                               "insecure_http = true\nsockets = [\"127.0.0.1:1\", \"unix:x\"]", 27,
                               "allow_rsa1_5 = true", &c, &err),
                     0);
    assert_int_equal(c->guest.n_sockets, 0);
    assert_int_equal(c->guest.n_plain_sockets, 6);
    assert_true(c->rsa1_5);
    in_folder(f, "x", c->guest.plain_sockets[1].text + 5);
    assert_int_equal(f->report.n, 1);
    assert_non_null(strstr(f->report.v[0].text, ":4:17: http_server: private_key and certificate"));
    c = kbs_config_free(c);
    assert_int_equal(
        load_with(f, 4, "insecure_http = true\nsockets = [\"0.0.0.0:1\"]", 27, "", &c, &err), 0);
    assert_int_equal(f->report.n, 2);
    assert_non_null(
        strstr(f->report.v[1].text, ":5:12: http_server.sockets: insecure_http on an address"));
    assert_non_null(strstr(f->report.v[1].text, "production would refuse this"));
    c = kbs_config_free(c);
}

/* What is not signed is not for production, however it is said. */
static void test_compat_is_for_the_demo(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    assert_int_equal(load_with(f, 13,
                               "keys = [\"admin.pem\"]\ntrustee_compat = true\n"
                               "authorization_mode = \"InsecureAllowAll\"",
                               27, "", &c, &err),
                     0);
    assert_int_equal(c->admin_mode, KBS_ADMIN_INSECURE_ALLOW_ALL);
    assert_int_equal(f->report.n, 2);
    c = kbs_config_free(c);
    assert_int_equal(
        load_with(f, 13, "keys = [\"admin.pem\"]\ntrustee_compat = true", 2, "", &c, &err), -1);
    assert_non_null(strstr(
        err.detail, "trustee_compat: lets requests in that no administrator signed: refused"));
    assert_int_equal(load_with(f, 13, "keys = [\"admin.pem\"]\nauthorization_mode = \"DenyAll\"",
                               27, "", &c, &err),
                     0);
    assert_int_equal(c->admin_mode, KBS_ADMIN_DENY_ALL);
    assert_int_equal(f->report.n, 0);
    c = kbs_config_free(c);
}

/* systemd's credentials: the PIN is found there, and what must be written beside it is elsewhere. */
static void test_credentials(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    char folder[128];
    snprintf(folder, sizeof(folder), "%s/credentials", f->path);
    assert_int_equal(mkdir(folder, 0700), 0);
    put(folder, "pin", "1234", 0440); /* as systemd's ACL makes it look */
    put(folder, "key", "secret", 0400);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
    int rc = load_with(f, 17, "pin_file = \"credential:pin\"", 10,
                       "private_key = \"credential:key\"", &c, &err);
    assert_int_equal(rc, 0);
    in_folder(f, "credentials/pin", c->token.pin_file);
    in_folder(f, "credentials/key", c->admin.private_key);
    assert_true(c->token.pin_credential);
    assert_string_equal(c->token.lock_file, "/tmp/token.lock");
    assert_int_equal(f->report.n, 1); /* allow_sample */
    c = kbs_config_free(c);
    rc = load_with(f, 17, "pin_file = \"credential:none\"", 27, "", &c, &err);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err.detail, ":17:12: pin_file: No such file"));
    put(folder, "open", "1234", 0444);
    rc = load_with(f, 17, "pin_file = \"credential:open\"", 27, "", &c, &err);
    assert_int_equal(rc, 0);
    assert_int_equal(f->report.n, 1);
    assert_non_null(strstr(f->report.v[0].text, ":17:12: pin_file: others than its owner"));
    c = kbs_config_free(c);
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
}

/* Everything that is wrong, at once and in the order of the file. */
static void test_all_at_once(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    assert_int_equal(load_with(f, 20, "lanes = 0\nlane = 1\nworker = 2\nseccomp = \"x\"", 4,
                               "sockets = [\"a\", \"127.0.0.1:1\", \"b\"]", &c, &err),
                     -1);
    static const unsigned int lines[] = {4, 4, 20, 21, 22, 23, 30};
    assert_int_equal(f->report.n, 7);
    assert_int_equal(f->report.n_errors, 6);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(f->report.v[i].line, lines[i]);
        assert_int_equal(f->report.v[i].error, i < 6);
    }
    assert_string_equal(err.detail, f->report.v[0].text);
}

/* More than a report holds is counted, and what cannot be told is an error all the same. */
static void test_too_many(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    struct kbs_buf text = KBS_BUF(65536);
    for (int i = 0; i < 300; i++) {
        kbs_buf_printf(&text, "key%d = 1\n", i);
    }
    assert_int_equal(kbs_io_write_file(f->file, kbs_buf_span(&text), 0600, false, &err), 0);
    kbs_buf_deinit(&text);
    assert_int_equal(load(f, f->file, &c, &err), -1);
    assert_int_equal(f->report.n, KBS_CONFIG_FINDINGS);
    assert_true(f->report.n_left_out >= 200);
    assert_true(f->report.n_errors > 300);
}

struct bad_json {
    const char *text;
    const char *says; /* after the file's name */
};

static void test_bad_json(void **state)
{
    struct folder *f = *state;
    static const struct bad_json cases[] = {
        {"", ":1:1: is not JSON"},
        {"{\n  \"token\": {\"pin\": \"1234\" 5}\n}", ":2:27: is not JSON: '}' expected"},
        {"[]", ": is not a JSON object"},
        {"{} {}", ":1:4: is not JSON"},
        {"{\"admin\": {}, \"admin\": {}}", ":1:21: is not JSON: duplicate object key"},
        {"{\"token\": {\"lane\": 1}}", ":/token/lane: unknown key \"lane\" in table"},
        {"{\"a/b~c\\u001b\": 1}", ":/a~1b~0c?: unknown key \"a/b~c"},
        {"{\"token\": {\"lanes\": \"3\"}}", ":/token/lanes: token.lanes must be a whole number"},
        {"{\"token\": {\"lanes\": null}}", ":/token/lanes: token.lanes must be a whole number"},
        {"{\"token\": {\"lanes\": 1e3}}", ":/token/lanes: token.lanes must be a whole number"},
        {"{\"token\": {\"env\": [\"A=b\", 1]}}", ":/token/env/1: token.env must be a string"},
        {"{\"plugins\": [{\"policy\": \"x\"}]}", ":/plugins/0: name is missing in plugins[]"},
        {"{\"token\": []}", ":/token: \"token\" must be a table"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct kbs_config *c = NULL;
        struct kbs_error err;
        char want[256];
        put(f->path, "kbs.json", cases[i].text, 0600);
        int rc = load(f, f->json, &c, &err);
        snprintf(want, sizeof(want), "%s%s", f->json, cases[i].says);
        if (rc != -1 || !is_said(f, want)) {
            fail_msg("%s\nwant %s\ngot  %d %s", cases[i].text, want, rc, err.detail);
        }
    }
}

/* The folder's files travel under their names, and nothing that is not a certificate or a list. */
static void test_snp(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;
    bool found[3] = {false, false, false};
    static const char *const names[3] = {"genoa/ark.pem", "genoa/crl.der", "genoa/vcek/1.der"};
    static const char *const texts[3] = {"one", "two", "three"};
    uint8_t version[3];

    assert_int_equal(load_with(f, 0, NULL, 0, NULL, &c, &err), 0);
    assert_null(c->snp.certificates);
    c = kbs_config_free(c);
    assert_int_equal(load_with(f, 32,
                               SNP_FOLDER "vmpl = 1\nproducts = [\"milan\"]\ncrl_grace_hours = 24\n"
                                          "minimum = [{ product = \"genoa\", bootloader = 9, "
                                          "firmware = \"1.55.29\" }]",
                               0, NULL, &c, &err),
                     0);
    assert_int_equal(c->snp.n_files, 3);
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 3; k++) {
            found[k] = found[k] || (strcmp(c->snp.files[i].name, names[k]) == 0 &&
                                    kbs_span_equal_str(c->snp.files[i].content, texts[k]));
        }
    }
    assert_true(found[0] && found[1] && found[2]);
    assert_int_equal(c->snp.vmpl, 1);
    assert_string_equal(c->snp.products.v[0], "milan");
    assert_int_equal(c->snp.crl_grace_hours, 24);
    assert_int_equal(c->snp.n_minimum, 1);
    assert_int_equal(c->snp.minimum[0].bootloader, 9);
    assert_true(kbs_config_snp_firmware(c->snp.minimum[0].firmware, version));
    assert_memory_equal(version, ((uint8_t[]){1, 55, 29}), 3);
    c = kbs_config_free(c);
}

#define FETCH "[fetch]\n"
#define ENDPOINT(rest) FETCH "[[fetch.endpoint]]\n" rest "\n"
#define DOCUMENT(rest) FETCH "[[fetch.document]]\n" rest "\n"
#define AS "name = \"as\"\nurl = \"https://as.example/base\"\n"
#define JWKS "name = \"jwks/a\"\nurl = \"https://as.example/jwks\"\n"

static void test_fetch(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;

    assert_int_equal(load_with(f, 0, NULL, 0, NULL, &c, &err), 0);
    assert_false(kbs_config_fetches(c));
    c = kbs_config_free(c);
    assert_int_equal(load_with(f, 32,
                               FETCH "cache = \"store\"\n"
                                     "[[fetch.endpoint]]\n" AS "ca = \"cert.pem\"\n"
                                     "client_certificate = \"cert.pem\"\nclient_key = \"key.pem\"\n"
                                     "header_files = [\"pin\"]\nkeep_days = 3\nhttp2 = true\n"
                                     "[[fetch.endpoint]]\nname = \"b\"\nurl = \"unix:/run/b\"\n"
                                     "[[fetch.document]]\n" JWKS "jwks_hosts = [\"keys.example\"]\n"
                                     "discovery = true\nrefresh_s = 60\n",
                               0, NULL, &c, &err),
                     0);
    assert_true(kbs_config_fetches(c));
    in_folder(f, "store", c->fetch.cache);
    assert_int_equal(c->fetch.n_endpoints, 2);
    const struct kbs_config_endpoint *e = c->fetch.endpoints;
    assert_string_equal(e[0].name, "as");
    assert_true(kbs_span_starts_with(e[0].ca, "-----BEGIN CERTIFICATE-----"));
    assert_true(kbs_span_starts_with(e[0].certificate, "-----BEGIN CERTIFICATE-----"));
    in_folder(f, "key.pem", e[0].client_key);
    in_folder(f, "pin", e[0].header_files.v[0]);
    assert_true(e[0].http2 && e[0].keep_days == 3);
    assert_int_equal(e[1].ca.len, 0);
    assert_int_equal(e[1].timeout_ms, 10000);
    assert_int_equal(e[1].connect_ms, 3000);
    assert_int_equal(e[1].retries, 1);
    assert_int_equal(e[1].parallel, 16);
    assert_int_equal(e[1].failures, 5);
    assert_int_equal(c->fetch.n_documents, 1);
    assert_int_equal(c->fetch.documents[0].refresh_s, 60);
    assert_true(c->fetch.documents[0].discovery);
    assert_string_equal(c->fetch.documents[0].jwks_hosts.v[0], "keys.example");
    c = kbs_config_free(c);
}

static void test_bad_fetch(void **state)
{
    static const struct {
        const char *lines;
        const char *said;
        bool insecure; /* only production refuses it */
    } cases[] = {
        {FETCH "cache = \"nowhere\"\n", "fetch.cache: is not a folder", false},
        {FETCH "cache = \".\"\n", "a folder with other files of the service in it", true},
        {ENDPOINT("url = \"https://x\""), "name is missing in fetch.endpoint[]", false},
        {ENDPOINT("name = \"as\""), "url is missing in fetch.endpoint[]", false},
        {ENDPOINT("name = \"a b\"\nurl = \"https://x\""), "fetch.endpoint[].name: may hold only",
         false},
        {ENDPOINT("name = \"a\"\nurl = \"https://user@x\""), "without a user", false},
        {ENDPOINT("name = \"a\"\nurl = \"ftp://x\""), "must be https://", false},
        {ENDPOINT("name = \"a\"\nurl = \"https://x/\""), "may not end in", false},
        {ENDPOINT("name = \"a\"\nurl = \"https://x/a?b\""), "may not end in", false},
        {ENDPOINT("name = \"a\"\nurl = \"http://x\""), "http to another machine", true},
        {ENDPOINT(AS "[[fetch.endpoint]]\n" AS), "fetch.endpoint[].name: \"as\" is there twice",
         false},
        {ENDPOINT(AS "ca = \"nowhere\""), "ca: No such file", false},
        {ENDPOINT(AS "ca = \"admin.pem\""), "ca: has no PEM block CERTIFICATE", false},
        {ENDPOINT(AS "ca = \"oops.pem\""), "ca: holds a private key", false},
        {ENDPOINT(AS "client_certificate = \"cert.pem\""), "go together", false},
        {ENDPOINT(AS "client_key = \"key.pem\""), "go together", false},
        {ENDPOINT(AS "client_certificate = \"cert.pem\"\nclient_key = \"open-key.pem\""),
         "client_key: others may read", true},
        {ENDPOINT("name = \"a\"\nurl = \"unix:/x\"\nclient_certificate = \"cert.pem\"\n"
                  "client_key = \"key.pem\""),
         "url is not https", false},
        {ENDPOINT(AS "header_files = [\"open-key.pem\"]"), "header_files: others may read", true},
        {ENDPOINT(AS "header_files = [\"nowhere\"]"), "header_files: No such file", false},
        {ENDPOINT(AS "header_files = [\"env:KEY\"]"), "an environment is inherited", false},
        {ENDPOINT(AS "keep_days = 1"), "needs fetch.cache", false},
        {FETCH "cache = \"store\"\n[[fetch.endpoint]]\nname = \"a\"\nurl = \"unix:/x\"\n"
               "keep_days = 1\n",
         "not with a unix socket", false},
        {ENDPOINT(AS "timeout_ms = 15001"), "timeout_ms must be 1 to 15000", false},
        {ENDPOINT(AS "parallel = 33"), "parallel must be 1 to 32", false},
        {DOCUMENT(JWKS "[[fetch.document]]\n" JWKS), "\"jwks/a\" is there twice", false},
        {DOCUMENT("name = \"a\"\nurl = \"unix:/x\""), "a unix socket names no document", false},
        {DOCUMENT("name = \"a\"\nurl = \"http://127.0.0.2.example/\""), "http to another machine",
         true},
        {DOCUMENT(JWKS "discovery = true\njwks_hosts = [\"https://x\"]"), "must be a host's name",
         false},
        {DOCUMENT("name = \"a\"\nurl = \"https://x/a?b\"\ndiscovery = true"), "has no query",
         false},
        {DOCUMENT(JWKS "refresh_s = 0"), "refresh_s must be 1 to", false},
    };
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int production = 0; production < 2; production++) {
            bool refused = production == 1 || !cases[i].insecure;
            bool said = false;
            int rc = load_with(f, 32, cases[i].lines, 2,
                               production == 1 ? "mode = \"production\"" : good[1], &c, &err);
            for (size_t k = 0; k < f->report.n; k++) {
                const struct kbs_config_finding *found = &f->report.v[k];
                said =
                    said || (strstr(found->text, cases[i].said) != NULL && found->error == refused);
            }
            if (!said || (rc != 0) < refused) {
                fail_msg("%s: %s", cases[i].lines, err.detail);
            }
            c = kbs_config_free(c);
        }
    }
}

/* To this machine plain http is nothing to say anything about. */
static void test_local_http(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err;

    assert_int_equal(load_with(f, 32, ENDPOINT("name = \"a\"\nurl = \"http://127.0.0.1:1\""), 27,
                               "allow_sample = false", &c, &err),
                     0);
    assert_int_equal(f->report.n, 0);
    c = kbs_config_free(c);
}

/* Rows have what is below them to themselves, and defaults of their own. */
static void test_issuers(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    const struct kbs_config_issuer *i;
    struct kbs_error err;

    assert_int_equal(load_with(f, 0, NULL, 0, NULL, &c, &err), 0);
    assert_int_equal(c->n_issuers, 0);
    c = kbs_config_free(c);
    assert_int_equal(load_with(f, 32,
                               ISSUER_KEYS
                               "issuer = [\"x\", \"y\"]\npassport = true\nagree_with = \"b\"\n"
                               "require = { policy_hashes = [\"h\"], canonical_runtime = true }\n"
                               "[[issuer]]\nname = \"b\"\nprofile = \"ita\"\nissuer = [\"z\"]\n"
                               "document = \"d\"\nanchor = \"cert.pem\"\ncrl = \"crl.pem\"\n"
                               "max_age_s = 60\nminimum_binding = \"hardware\"\n"
                               "[issuer.require]\ntees = [\"tdx\", \"snp\"]\n"
                               "[[issuer]]\nname = \"c\"\nprofile = \"kbs\"\nissuer = [\"w\"]\n"
                               "keys = \"admin.pem\"",
                               0, NULL, &c, &err),
                     0);
    assert_int_equal(c->n_issuers, 3);
    i = c->issuers;
    assert_string_equal(i[0].profile, "maa");
    assert_int_equal(i[0].issuers.n, 2);
    assert_true(kbs_span_starts_with(i[0].keys, "{"));
    assert_int_equal(i[0].max_age_s, 300);
    assert_true(i[0].passport);
    assert_string_equal(i[0].agree_with, "b");
    assert_string_equal(i[0].require[KBS_CONFIG_REQUIRE_POLICY_HASHES].v[0], "h");
    assert_true(i[0].canonical_runtime);
    assert_int_equal(i[0].require[KBS_CONFIG_REQUIRE_TEES].n, 0);
    assert_int_equal(i[1].require[KBS_CONFIG_REQUIRE_TEES].n, 2);
    assert_int_equal(i[1].require[KBS_CONFIG_REQUIRE_POLICY_HASHES].n, 0);
    assert_false(i[1].canonical_runtime);
    assert_int_equal(i[1].max_age_s, 60);
    assert_int_equal(i[1].skew_s, 30);
    assert_int_equal(i[1].keys.len, 0);
    assert_true(kbs_span_starts_with(i[1].anchor, "-----BEGIN CERTIFICATE-----"));
    assert_true(kbs_span_starts_with(i[1].crl, "-----BEGIN X509 CRL-----"));
    assert_string_equal(i[1].minimum_binding, "hardware");
    assert_true(kbs_span_starts_with(i[2].keys, "-----BEGIN PUBLIC KEY-----"));
    assert_int_equal(i[2].max_age_s, 300);
    assert_string_equal(kbs_config_require_name(KBS_CONFIG_REQUIRE_TEES), "tees");
    assert_string_equal(kbs_config_require_name(KBS_CONFIG_REQUIRE_SUBMODS), "submods");
    c = kbs_config_free(c);
}

/* What production refuses is a warning in the demo. */
static void test_profiles(void **state)
{
    struct folder *f = *state;
    static const struct bad cases[] = {
        {27, "allow_sample = true", ":27:16: allow_sample"},
        {17, "pin_file = \"open-pin\"", ":17:12: pin_file"},
        {10, "private_key = \"open-key.pem\"", ":10:15: private_key"},
        {13, "keys = [\"open-admin.pem\"]", ":13:9: admin.keys: everybody may change it"},
        {15, "module = \"open-module.so\"", ":15:10: module: everybody may change it"},
        {22, "path = \"store/open-store.db\"", ":22:8: store: everybody may change it"},
        {20, "seccomp = \"log\"", ":20:11: seccomp"},
        {20, "folders = [\".\"]", ":20:11: token.folders: a folder with other files"},
        {22, "path = \"store.db\"", ":22:8: store.path: a folder with other files"},
        {24, "path = \"store/audit.log\"", ":22:8: store.path: a folder with other files"},
        {32, SNP "certificates = \"open-snp\"", "genoa/ark.pem: everybody may change it"},
        {32, SNP_FOLDER "allow_no_crl = true", ":34:16: allow_no_crl"},
        {32, SNP_FOLDER "test_root = \"" ROOT "\"", ":34:13: test_root"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct kbs_config *c;
        struct kbs_error err;
        char all[160];
        snprintf(all, sizeof(all), "%s", cases[i].text);
        assert_int_equal(load_with(f, cases[i].line, all, 0, NULL, &c, &err), 0);
        assert_int_equal(f->report.n, i == 0 ? 1 : 2);
        assert_int_equal(f->report.n_errors, 0);
        assert_true(strstr(f->report.v[0].text, cases[i].says) != NULL ||
                    strstr(f->report.v[1].text, cases[i].says) != NULL);
        c = kbs_config_free(c);
        /* Line 27 says allow_sample, so it must go for the others to be seen in production. */
        const char *mode = i == 0 ? "mode = \"production\"" : "mode = \"production\"\n#";
        struct kbs_buf text = KBS_BUF(8192);
        for (size_t k = 1; k <= LINES; k++) {
            kbs_buf_put_str(&text, k == cases[i].line ? all
                                   : k == 2           ? mode
                                   : k == 27 && i > 0 ? ""
                                                      : good[k - 1]);
            kbs_buf_put_u8(&text, '\n');
        }
        assert_int_equal(kbs_io_write_file(f->file, kbs_buf_span(&text), 0600, false, &err), 0);
        kbs_buf_deinit(&text);
        assert_int_equal(load(f, f->file, &c, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        assert_non_null(strstr(err.detail, "refused in the production profile"));
    }
}

static void test_unreadable(void **state)
{
    struct folder *f = *state;
    const struct kbs_config *c;
    struct kbs_error err = KBS_ERROR_NONE;
    char path[256];
    snprintf(path, sizeof(path), "%s/none.toml", f->path);
    assert_int_equal(load(f, path, &c, &err), -1);
    assert_null(c);
    put(f->path, "kbs.toml", "", 0600);
    assert_int_equal(load(f, f->file, &c, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
}

/* Deep nesting must end in an error, not in the end of the stack: brackets, and parts of a key. */
static void test_deep(void **state)
{
    struct folder *f = *state;
    static const char *const cases[][3] = {{"a = ", "[", ":1:"},
                                           {"a", ".a", ":1:4002: has more than 2000 dots"},
                                           {"{\"a\":", "[", ":1:"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct kbs_config *c;
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_buf text = KBS_BUF(65536);
        const char *file = cases[i][0][0] == '{' ? f->json : f->file;
        char want[256];
        kbs_buf_put_str(&text, cases[i][0]);
        for (int k = 0; k < 30000; k++) {
            kbs_buf_put_str(&text, cases[i][1]);
        }
        assert_int_equal(kbs_io_write_file(file, kbs_buf_span(&text), 0600, false, &err), 0);
        kbs_buf_deinit(&text);
        assert_int_equal(load(f, file, &c, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        snprintf(want, sizeof(want), "%s%s", file, cases[i][2]);
        assert_true(is_said(f, want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_sockets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_snp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fetch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_fetch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_local_http, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_issuers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_profiles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trustee, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_insecure_http, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_compat_is_for_the_demo, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_credentials, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deep, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
