/* What kbs-token does when the token fails or lies: fault.c in front of SoftHSM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/process.h"
#include "harness.h"
#include "hsm/p11.h"

static struct token_dir template_dir;

/* One worker behind the fault module, with a key to release. */
struct scene {
    struct token_dir dir;
    struct worker w;
    struct key_ref key;
    struct kbs_agree_key *tee;
    struct kbs_wire_release order;
};

static void plan(const struct token_dir *d, const char *text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/plan", d->path);
    assert_int_equal(kbs_io_write_file(path, kbs_span_str(text), 0600, false, &err), 0);
}

static const char *fault_module(void)
{
    static char path[512];

    (void)snprintf(path, sizeof(path), "%s/tests/bin/libtoken_fault.so", getenv("KBS_BUILD_DIR"));
    return path;
}

/* Starts with a plan in force from the first call on. */
static void scene_start(struct scene *s, const char *first_plan, bool expect_failure)
{
    struct start_options o = {.module = fault_module(), .expect_failure = expect_failure};
    struct kbs_error err = KBS_ERROR_NONE;
    char path[300];

    dir_copy(&template_dir, &s->dir);
    (void)snprintf(path, sizeof(path), "%s/plan", s->dir.path);
    (void)setenv("KBS_FAULT_PLAN", path, 1);
    (void)setenv("KBS_FAULT_MODULE", module_path, 1);
    plan(&s->dir, first_plan);
    s->key = key_ref(1, 1);
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &s->tee, &err), 0);
    s->order = release_order(&s->key, kbs_agree_key_public(s->tee), KBS_FORMAT_JOSE);
    worker_start(&s->w, &s->dir, &o);
}

static void scene_warm(struct scene *s)
{
    struct kbs_wire_result r;

    scene_start(s, "", false);
    r = order_generate(&s->w, &s->key, 32);
    assert_int_equal(r.category, KBS_OK);
    r = worker_order(&s->w, KBS_WIRE_RELEASE, &s->order);
    assert_int_equal(r.category, KBS_OK);
}

static void scene_end(struct scene *s, int status)
{
    int got = status == 0 ? worker_stop(&s->w) : worker_wait(&s->w);

    assert_int_equal(got, status);
    (void)kbs_agree_key_free(s->tee);
    dir_remove(&s->dir);
}

static int group_setup(void **state)
{
    (void)state;
    dir_new_with_keys(&template_dir);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    dir_remove(&template_dir);
    return 0;
}

/* Device gone, session gone, logged out, object that stays: TOKEN_DOWN, then the worker ends. */
static void test_fatal_faults(void **state)
{
    static const struct {
        const char *plan;
        const char *function;
        CK_RV ckr;
    } cases[] = {
        {"C_WrapKey 0x30", "C_WrapKey", CKR_DEVICE_ERROR},
        {"C_DeriveKey 0x32", "C_DeriveKey", CKR_DEVICE_REMOVED},
        {"C_GenerateKeyPair 0xb3", "C_GenerateKeyPair", CKR_SESSION_HANDLE_INVALID},
        {"C_GetAttributeValue 0x101", "C_GetAttributeValue", CKR_USER_NOT_LOGGED_IN},
        {"C_WrapKey 0x5", "C_WrapKey", CKR_GENERAL_ERROR}, /* the self-test fails as well */
        {"C_WrapKey 0x80001234", "C_WrapKey", 0x80001234}, /* a vendor's code: the same */
        {"C_DestroyObject 0x6 once", "", CKR_OK},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct scene s;
        struct kbs_wire_result r;

        scene_warm(&s);
        plan(&s.dir, cases[i].plan);
        r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
        if (r.category != KBS_TOKEN_DOWN || r.ckr != cases[i].ckr ||
            !kbs_span_equal_str(r.function, cases[i].function) || r.body.len != 0) {
            fail_msg("case %zu: category %u, ckr 0x%llx", i, r.category, (unsigned long long)r.ckr);
        }
        scene_end(&s, KBS_EXIT_FAILURE);
    }
}

/* The order fails, the lane lives. */
static void test_passing_faults(void **state)
{
    static const struct {
        const char *plan;
        enum kbs_category category;
    } cases[] = {
        {"C_WrapKey 0x5 once", KBS_INTERNAL}, /* the self-test passes */
        {"C_WrapKey 0x69 once", KBS_INTERNAL},
        {"C_DeriveKey 0x70 once", KBS_INTERNAL},
        {"C_GenerateKeyPair 0xb1 once", KBS_BUSY},
        {"C_GenerateKeyPair 0x31 once", KBS_BUSY}, /* full for now */
        {"C_WrapKey 0x100 once", KBS_INTERNAL},    /* no failure is ever an answer */
        {"point", KBS_INTERNAL},                   /* the token's fault, not the guest's */
        {"stale", KBS_OK},                         /* looked up again, done again */
    };
    struct scene s;

    (void)state;
    scene_warm(&s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_wire_result r;

        plan(&s.dir, cases[i].plan);
        r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
        if (r.category != cases[i].category) {
            fail_msg("case %zu: %s", i, kbs_category_name((enum kbs_category)r.category));
        }
        plan(&s.dir, "");
        r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
        assert_int_equal(r.category, KBS_OK);
    }
    scene_end(&s, 0);
}

/* Found out at start, not by the first guest: what a lane may not serve with, or with less. */
static void test_start_faults(void **state)
{
    static const char *const plans[] = {
        "C_DestroyObject 0x6 once", /* an object of the probe stays behind */
        "C_DeriveKey 0x31 once",    /* a limit that passes is not the lack of a rung */
        "C_DeriveKey 0x30 once",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        struct scene s;
        struct kbs_channel_msg m = KBS_CHANNEL_MSG;
        struct kbs_wire_leaving leaving;
        struct kbs_error err = KBS_ERROR_NONE;

        scene_start(&s, plans[i], true);
        assert_int_equal(s.w.login.ok, 1);
        assert_int_equal(kbs_channel_recv(s.w.control, &m, kbs_deadline_in_ms(10000), &err), 0);
        assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_LEAVING, &leaving, &err), 0);
        assert_int_equal(leaving.status, KBS_EXIT_FAILURE); /* no READY */
        kbs_channel_msg_deinit(&m);
        scene_end(&s, KBS_EXIT_FAILURE);
    }
}

/* A full token is not blamed on the blob. */
static void test_import_to_a_full_token(void **state)
{
    struct scene s;
    struct kbs_wire_result r;
    struct kbs_wire_described described;
    struct sent sent = {.wrapped_len = 40};
    uint8_t point[65];

    (void)state;
    scene_warm(&s);
    described = worker_describe(&s.w);
    assert_int_equal(described.import_public.len, sizeof(point));
    memcpy(point, described.import_public.p, sizeof(point));
    struct key_ref k = key_ref(4, 1);
    struct kbs_wire_import order = import_order(&sent, &k);
    order.epk_x = kbs_span(point + 1, 32);
    order.epk_y = kbs_span(point + 33, 32);
    plan(&s.dir, "C_UnwrapKey 0x31 once");
    r = worker_order(&s.w, KBS_WIRE_IMPORT, &order);
    assert_int_equal(r.category, KBS_BUSY); /* nothing is said about the blob */
    r = worker_order(&s.w, KBS_WIRE_IMPORT, &order);
    assert_int_equal(r.category, KBS_UNPROCESSABLE);
    scene_end(&s, 0);
}

/* A stale handle that stays stale is looked up once, not for ever. */
static void test_stale_twice(void **state)
{
    struct scene s;
    struct kbs_wire_result r;

    (void)state;
    scene_warm(&s);
    plan(&s.dir, "C_WrapKey 0x60");
    r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
    assert_int_equal(r.category, KBS_INTERNAL);
    plan(&s.dir, "");
    r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
    assert_int_equal(r.category, KBS_OK);
    scene_end(&s, 0);
}

static void test_pin_faults(void **state)
{
    static const char *const plans[] = {"C_Login 0xa0", "C_Login 0xa1", "C_Login 0xa2",
                                        "C_Login 0xa3", "C_Login 0xa4", "C_Login 0x102",
                                        /* nobody knows what these mean: no second try */
                                        "C_Login 0x80001234", "C_Login 0x7777"};

    (void)state;
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        struct scene s;

        scene_start(&s, plans[i], true);
        assert_int_equal(s.w.login.ok, 0);
        assert_int_equal(s.w.login.pin_error, 1);
        scene_end(&s, KBS_EXIT_PIN);
    }
    struct scene s;
    scene_start(&s, "C_Login 0x30", true); /* a device error is not a PIN error: kbsd tries again */
    assert_int_equal(s.w.login.ok, 0);
    assert_int_equal(s.w.login.pin_error, 0);
    scene_end(&s, KBS_EXIT_FAILURE);
}

/* A rung that fails, or makes what nobody can open, is not used for want of a better one. */
static void test_rungs_that_fail(void **state)
{
    static const char *const plans[] = {"garble", "C_DeriveKey 0x70"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct scene s;
        struct kbs_wire_result r;
        char detail[256];

        scene_start(&s, plans[i], false);
        struct kbs_wire_described described = worker_describe(&s.w);
        struct kbs_wire_iter it = kbs_wire_list_iter(&described.rungs);
        struct kbs_span rung;
        while (kbs_wire_list_next(&it, &rung)) {
            assert_false(kbs_span_equal_str(rung, "transport"));
        }
        plan(&s.dir, "");
        r = order_generate(&s.w, &s.key, 32);
        assert_int_equal(r.category, KBS_OK);
        r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
        assert_int_equal(r.category, KBS_UNSUPPORTED);
        assert_true(kbs_span_to_cstr(r.detail, detail, sizeof(detail)));
        assert_non_null(strstr(detail, "transport")); /* names what is missing */
        scene_end(&s, 0);
    }
}

/* A token that ignores CKA_SENSITIVE: nothing is released, nothing is kept. */
static void test_readable_keys(void **state)
{
    struct scene s;
    struct kbs_wire_result r;
    struct key_ref other = key_ref(2, 1);

    (void)state;
    scene_warm(&s);
    plan(&s.dir, "readable");
    r = worker_order(&s.w, KBS_WIRE_RELEASE, &s.order);
    assert_int_equal(r.category, KBS_INTERNAL);
    r = order_generate(&s.w, &other, 32);
    assert_int_equal(r.category, KBS_INTERNAL);
    plan(&s.dir, "");
    r = order_generate(&s.w, &other, 32); /* no CONFLICT: the first try was destroyed */
    assert_int_equal(r.category, KBS_OK);
    scene_end(&s, 0);
}

/* The check value fails after the key was made: the key goes. */
static void test_generate_half_way(void **state)
{
    static const char *const plans[] = {"C_WrapKey 0x69 once", "C_UnwrapKey 0x110 once",
                                        "C_Sign 0x20 once"};
    struct scene s;
    struct key_ref k = key_ref(3, 1);
    struct kbs_wire_result r;

    (void)state;
    scene_start(&s, "", false);
    for (size_t i = 0; i < 3; i++) {
        plan(&s.dir, plans[i]);
        r = order_generate(&s.w, &k, 32);
        assert_int_equal(r.category, KBS_INTERNAL);
    }
    r = order_generate(&s.w, &k, 32);
    assert_int_equal(r.category, KBS_OK);
    scene_end(&s, 0);
}

/*
 * A wrapped key that does not open: its card says that the blob is ours, so nobody is blamed; a
 * self-test tells whether the token is there.
 */
static void test_wrapped_faults(void **state)
{
    static const struct {
        const char *plan;
        enum kbs_category category;
    } cases[] = {
        {"C_UnwrapKey 0x5 once", KBS_INTERNAL},
        {"C_UnwrapKey 0x110 once", KBS_INTERNAL}, /* WRAPPED_KEY_INVALID */
        {"C_UnwrapKey 0x31 once", KBS_BUSY},
        {"C_UnwrapKey 0xf0 once", KBS_OK}, /* a stale handle of the wrapping key */
        {"C_UnwrapKey 0x5", KBS_TOKEN_DOWN},
    };
    struct scene s;
    struct key_ref k = key_ref(7, 1);
    struct kbs_wire_generate generate = generate_order(&k, 32);
    struct kbs_wire_result r;

    (void)state;
    scene_warm(&s);
    generate.storage = KBS_STORAGE_WRAPPED;
    r = worker_order(&s.w, KBS_WIRE_GENERATE, &generate);
    assert_int_equal(r.category, KBS_OK);
    key_made(&k, &r);
    struct kbs_wire_release order = release_order(&k, kbs_agree_key_public(s.tee), KBS_FORMAT_JOSE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        plan(&s.dir, cases[i].plan);
        r = worker_order(&s.w, KBS_WIRE_RELEASE, &order);
        if (r.category != cases[i].category) {
            fail_msg("case %zu: %s", i, kbs_category_name((enum kbs_category)r.category));
        }
    }
    scene_end(&s, KBS_EXIT_FAILURE);
}

/*
 * The token fails while a key is made, or makes a readable one: no key comes of it, and nothing
 * stays.
 */
static void test_card_faults(void **state)
{
    static const char *const plans[] = {"readable", "C_Sign 0x20 once", "C_Sign 0x5 once"};
    struct scene s;

    (void)state;
    scene_warm(&s);
    for (unsigned int storage = KBS_STORAGE_RESIDENT; storage <= KBS_STORAGE_WRAPPED; storage++) {
        struct key_ref k = key_ref((uint8_t)(20 + storage), 1);
        struct kbs_wire_generate generate = generate_order(&k, 32);
        struct kbs_wire_result r;

        generate.storage = (uint8_t)storage;
        for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
            plan(&s.dir, plans[i]);
            r = worker_order(&s.w, KBS_WIRE_GENERATE, &generate);
            assert_int_equal(r.category, KBS_INTERNAL);
            assert_int_equal(r.body.len, 0);
            plan(&s.dir, "");
        }
        r = worker_order(&s.w, KBS_WIRE_GENERATE, &generate); /* nothing stayed under its id */
        assert_int_equal(r.category, KBS_OK);
    }
    scene_end(&s, 0);
}

/* A token that finds objects one at a time has no fewer of them. */
static void test_found_singly(void **state)
{
    struct scene s;

    (void)state;
    scene_warm(&s);
    for (uint32_t version = 2; version <= 3; version++) {
        assert_int_equal(order_service_version(&s.w, KBS_PURPOSE_SEAL, version).category, KBS_OK);
    }
    plan(&s.dir, "singly");
    assert_int_equal(worker_describe(&s.w).seal_version, 3);
    assert_int_equal(worker_order(&s.w, KBS_WIRE_RELEASE, &s.order).category, KBS_OK);
    scene_end(&s, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fatal_faults),
        cmocka_unit_test(test_passing_faults),
        cmocka_unit_test(test_stale_twice),
        cmocka_unit_test(test_pin_faults),
        cmocka_unit_test(test_rungs_that_fail),
        cmocka_unit_test(test_readable_keys),
        cmocka_unit_test(test_generate_half_way),
        cmocka_unit_test(test_start_faults),
        cmocka_unit_test(test_import_to_a_full_token),
        cmocka_unit_test(test_wrapped_faults),
        cmocka_unit_test(test_card_faults),
        cmocka_unit_test(test_found_singly),
    };

    if (!harness_select("softhsm")) {
        (void)fprintf(stderr, "skipped: SoftHSM is not installed\n");
        return 77;
    }
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
