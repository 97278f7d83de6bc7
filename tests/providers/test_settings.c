/* providers/settings.h and folders.h: which key is meant, and where what starts its worker is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/params.h>

#include "providers/folders.h"

/* The provider's section of openssl.cnf: names and values. */
static const char *const *section;

static int get_params(const OSSL_CORE_HANDLE *handle, OSSL_PARAM params[])
{
    (void)handle;
    for (const char *const *p = section; p != NULL && p[0] != NULL; p += 2) {
        OSSL_PARAM *wanted = OSSL_PARAM_locate(params, p[0]);

        if (wanted != NULL) {
            assert_int_equal(OSSL_PARAM_set_utf8_ptr(wanted, p[1]), 1);
        }
    }
    return 1;
}

static const struct kbs_provider provider = {.get_params = get_params};

static const char *const variables[] = {
    "KBS_PKCS11_MODULE", "KBS_PKCS11_PIN_FILE", "KBS_PKCS11_INIT_ARGS",
    "KBS_PKCS11_ENV",    "KBS_PKCS11_FOLDERS",  "KBS_PKCS11_SECCOMP",
    "KBS_TOKEN_PROGRAM", "KBS_LIBEXEC",         "SOFTHSM2_CONF"};

static int forget(void **state)
{
    (void)state;
    section = NULL;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)unsetenv(variables[i]);
    }
    return 0;
}

static enum kbs_category read_uri(const char *uri, struct kbs_settings *s, struct kbs_error *err)
{
    int r;

    *err = KBS_ERROR_NONE;
    r = kbs_settings_read(&provider, uri, s, err);
    assert_int_equal(r, err->category == KBS_OK ? 0 : -1);
    return err->category;
}

#define REST "?module-path=/m&pin-source=/p"

static void test_what_is_taken(void **state)
{
    static const struct {
        const char *uri;
        const char *token;
        const char *key;
        bool public_only;
    } cases[] = {
        {"pkcs11:" REST, "pkcs11:", "pkcs11:", false},
        {"pkcs11:object=a;token=b" REST, "pkcs11:token=b", "pkcs11:object=a;token=b", false},
        {"pkcs11:serial=1;model=2;manufacturer=3;token=4;id=%00%ff" REST,
         "pkcs11:serial=1;model=2;manufacturer=3;token=4",
         "pkcs11:serial=1;model=2;manufacturer=3;token=4;id=%00%ff", false},
        {"pkcs11:type=private;object=a=b" REST, "pkcs11:", "pkcs11:object=a=b", false},
        {"pkcs11:object=a;type=public" REST, "pkcs11:", "pkcs11:object=a", true},
        {"pkcs11:object=" REST, "pkcs11:", "pkcs11:object=", false}};
    struct kbs_settings s;
    struct kbs_error err;
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_uri(cases[i].uri, &s, &err), KBS_OK);
        assert_string_equal(s.token, cases[i].token);
        assert_string_equal(s.key, cases[i].key);
        assert_int_equal(s.public_only, cases[i].public_only);
        assert_string_equal(s.module, "/m");
        assert_string_equal(s.pin_file, "/p");
        assert_string_equal(s.program, KBS_BINDIR "/kbs-token");
        assert_null(s.init_args);
        kbs_settings_deinit(&s);
    }
}

static void test_what_is_not(void **state)
{
    static const struct {
        const char *uri;
        enum kbs_category category;
    } cases[] = {{"", KBS_INPUT},
                 {"PKCS11:object=a" REST, KBS_INPUT},
                 {"pkcs11" REST, KBS_INPUT},
                 {"file:key.pem", KBS_INPUT},
                 {"pkcs11:object" REST, KBS_INPUT},
                 {"pkcs11:=a" REST, KBS_INPUT},
                 {"pkcs11:object=a;;id=1" REST, KBS_INPUT},
                 {"pkcs11:objekt=a" REST, KBS_INPUT},
                 {"pkcs11:slot-id=0" REST, KBS_INPUT},
                 {"pkcs11:library-version=2" REST, KBS_INPUT},
                 {"pkcs11:object=a;type=cert" REST, KBS_UNSUPPORTED},
                 {"pkcs11:object=a;type=" REST, KBS_UNSUPPORTED},
                 {"pkcs11:object=a?module-path", KBS_INPUT},
                 {"pkcs11:object=a?module-path=", KBS_INPUT},
                 {"pkcs11:object=a?module-path=/a%00b", KBS_INPUT},
                 {"pkcs11:object=a?module-path=/a%", KBS_INPUT},
                 {"pkcs11:object=a?module-path=/a%4", KBS_INPUT},
                 {"pkcs11:object=a?module-path=/a%4g", KBS_INPUT},
                 {"pkcs11:object=a?module-path=/a%+4", KBS_INPUT},
                 {"pkcs11:object=a?module-path=/a&module-path=/a", KBS_INPUT},
                 {"pkcs11:object=a?module-name=m", KBS_INPUT},
                 {"pkcs11:object=a?pin-value=1", KBS_DENIED},
                 {"pkcs11:object=a?pin-source=|cat", KBS_UNSUPPORTED},
                 {"pkcs11:object=a?pin-source=%7ccat", KBS_UNSUPPORTED},
                 {"pkcs11:object=a?pin-source=file:", KBS_INPUT},
                 {"pkcs11:object=a?pin-source=/p", KBS_MISSING},
                 {"pkcs11:object=a?module-path=/m", KBS_MISSING}};
    struct kbs_settings s;
    struct kbs_error err;
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (read_uri(cases[i].uri, &s, &err) != cases[i].category) {
            fail_msg("%s: %s: %s", cases[i].uri, kbs_category_name(err.category), err.detail);
        }
        kbs_settings_deinit(&s);
    }
}

static void test_a_long_uri(void **state)
{
    char uri[3000];
    struct kbs_settings s;
    struct kbs_error err;
    (void)state;

    for (size_t n = 2040; n <= 2041; n++) { /* with "pkcs11:" 2047 bytes, which fit, and 2048 */
        (void)snprintf(uri, sizeof(uri), "pkcs11:object=%*d" REST, (int)(n - 7), 0);
        assert_int_equal(read_uri(uri, &s, &err), n == 2040 ? KBS_OK : KBS_TOO_LARGE);
        kbs_settings_deinit(&s);
    }
}

static void test_decoding(void **state)
{
    struct kbs_settings s;
    struct kbs_error err;
    (void)state;

    assert_int_equal(
        read_uri("pkcs11:?module-path=/a%20b%2Fc%3f&pin-source=file:///p%25", &s, &err), KBS_OK);
    assert_string_equal(s.module, "/a b/c?");
    assert_string_equal(s.pin_file, "/p%");
    kbs_settings_deinit(&s);
    assert_int_equal(read_uri("pkcs11:?pin-source=file:%7Ep&module-path=m", &s, &err), KBS_OK);
    assert_string_equal(s.pin_file, "~p");
    kbs_settings_deinit(&s);
}

static void test_the_first_that_says_it(void **state)
{
    static const char *const lines[] = {"pkcs11-module", "/section/m", "pin-file", "/section/p",
                                        "init-args",     "section",    "env",      "A=section",
                                        "folders",       "/section/f", "libexec",  "/section/bin",
                                        "seccomp",       "log",        NULL};
    struct kbs_settings s;
    struct kbs_error err;
    (void)state;

    section = lines;
    assert_int_equal(read_uri("pkcs11:", &s, &err), KBS_OK);
    assert_string_equal(s.module, "/section/m");
    assert_string_equal(s.pin_file, "/section/p");
    assert_string_equal(s.init_args, "section");
    assert_string_equal(s.env, "A=section");
    assert_string_equal(s.folders, "/section/f");
    assert_string_equal(s.program, "/section/bin/kbs-token");
    assert_true(s.seccomp_log);
    kbs_settings_deinit(&s);

    (void)setenv("KBS_PKCS11_MODULE", "/env/m", 1);
    (void)setenv("KBS_PKCS11_PIN_FILE", "/env/p", 1);
    (void)setenv("KBS_PKCS11_INIT_ARGS", "", 1); /* as if it were not there */
    (void)setenv("KBS_PKCS11_SECCOMP", "kill", 1);
    (void)setenv("KBS_LIBEXEC", "/env/bin", 1);
    assert_int_equal(read_uri("pkcs11:?pin-source=/uri/p", &s, &err), KBS_OK);
    assert_string_equal(s.module, "/env/m");
    assert_string_equal(s.pin_file, "/uri/p");
    assert_string_equal(s.init_args, "section");
    assert_string_equal(s.program, "/env/bin/kbs-token");
    assert_false(s.seccomp_log);
    kbs_settings_deinit(&s);

    (void)setenv("KBS_TOKEN_PROGRAM", "/env/worker", 1);
    assert_int_equal(read_uri("pkcs11:", &s, &err), KBS_OK);
    assert_string_equal(s.program, "/env/worker");
    kbs_settings_deinit(&s);
}

static void assert_folders(const struct kbs_settings *s, const char *expected)
{
    struct kbs_buf buf = KBS_BUF(8192);
    struct kbs_wire_list_builder list = {.buf = &buf};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_list done;
    struct kbs_wire_iter it;
    struct kbs_span item;
    char text[8192] = "";

    assert_int_equal(kbs_folders_put(s, &list, &err), 0);
    done = kbs_wire_list_done(&list);
    it = kbs_wire_list_iter(&done);
    while (kbs_wire_list_next(&it, &item)) {
        size_t n = strlen(text);

        (void)snprintf(text + n, sizeof(text) - n, "[%.*s]", (int)item.len, (const char *)item.p);
    }
    assert_string_equal(text, expected);
    kbs_buf_deinit(&buf);
}

static void test_folders(void **state)
{
    static char none[] = "/usr/lib/vendor/libpkcs11.so";
    static char softhsm[] = "/usr/lib/softhsm/libsofthsm2.so";
    static char several[] = "/a:/b c::/d";
    char conf[] = "/tmp/kbs-test-folders-XXXXXX";
    char env[128];
    int fd = mkstemp(conf);
    static const char text[] =
        "# directories.tokendir = /not\nlog.level = ERROR\n  directories.tokendir =  /t/okens \n";
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    (void)close(fd);
    assert_folders(&(struct kbs_settings){.module = none}, "");
    assert_folders(&(struct kbs_settings){.module = softhsm, .folders = several}, "[/a][/b c][/d]");

    static char nss[] = "configdir='sql:/n/ss db' certPrefix=''";
    static char nss_bare[] = "flags= configdir=/n/ss certPrefix=";
    static char nss_none[] = "flags=";
    assert_folders(&(struct kbs_settings){.module = none, .init_args = nss}, "[/n/ss db]");
    assert_folders(&(struct kbs_settings){.module = none, .init_args = nss_bare}, "[/n/ss]");
    assert_folders(&(struct kbs_settings){.module = none, .init_args = nss_none}, "");

    (void)setenv("SOFTHSM2_CONF", conf, 1);
    assert_folders(&(struct kbs_settings){.module = softhsm}, "[/t/okens]");
    (void)setenv("SOFTHSM2_CONF", "/nonexistent", 1);
    assert_folders(&(struct kbs_settings){.module = softhsm}, "");
    (void)snprintf(env, sizeof(env), "X=1;SOFTHSM2_CONF=%s;Y=2", conf);
    assert_folders(&(struct kbs_settings){.module = softhsm, .env = env}, "[/t/okens]");
    (void)unlink(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_is_taken, forget),
        cmocka_unit_test_setup(test_what_is_not, forget),
        cmocka_unit_test_setup(test_a_long_uri, forget),
        cmocka_unit_test_setup(test_decoding, forget),
        cmocka_unit_test_setup(test_the_first_that_says_it, forget),
        cmocka_unit_test_setup(test_folders, forget),
    };

    return cmocka_run_group_tests(tests, NULL, forget);
}
