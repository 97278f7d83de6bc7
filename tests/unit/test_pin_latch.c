/* The latch of a refused PIN: what sets it, what lifts it, who sees it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pin_latch.h"

struct folder {
    char path[64];
    char pin[80];
    char lock[80];
    int lock_fd;
};

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void folder_make(struct folder *f)
{
    (void)snprintf(f->path, sizeof(f->path), "/tmp/kbs-pin-latch-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    (void)snprintf(f->pin, sizeof(f->pin), "%s/pin", f->path);
    (void)snprintf(f->lock, sizeof(f->lock), "%s/token.lock", f->path);
    write_file(f->pin, "1234\n");
    f->lock_fd = open(f->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(f->lock_fd >= 0);
}

static void folder_remove(struct folder *f)
{
    assert_int_equal(close(f->lock_fd), 0);
    assert_int_equal(unlink(f->pin), 0);
    assert_int_equal(unlink(f->lock), 0);
    assert_int_equal(rmdir(f->path), 0);
}

static int check(const struct folder *f)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct stat st;

    assert_int_equal(stat(f->pin, &st), 0);
    return kbs_pin_latch_check(f->lock_fd, &st, &err);
}

static void set(const struct folder *f)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct stat st;

    assert_int_equal(stat(f->pin, &st), 0);
    assert_int_equal(kbs_pin_latch_set(f->lock_fd, &st, &err), 0);
}

static void set_mtime(const struct folder *f, time_t seconds, long ns)
{
    const struct timespec times[2] = {{seconds, ns}, {seconds, ns}};

    assert_int_equal(utimensat(AT_FDCWD, f->pin, times, 0), 0);
}

static void test_refused_once_is_refused(void **state)
{
    struct folder f;

    (void)state;
    folder_make(&f);
    assert_int_equal(check(&f), 0);
    set(&f);
    assert_int_equal(check(&f), KBS_PIN_LATCHED);
    assert_int_equal(check(&f), KBS_PIN_LATCHED); /* looking does not lift it */
    set(&f);
    assert_int_equal(check(&f), KBS_PIN_LATCHED);
    folder_remove(&f);
}

/* Whoever opens the lock anew: a restart, another kbsd. */
static void test_another_process_sees_it(void **state)
{
    struct folder f;
    int status = -1;

    (void)state;
    folder_make(&f);
    set(&f);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct kbs_error err = KBS_ERROR_NONE;
        struct stat st;
        int fd = open(f.lock, O_RDONLY | O_CLOEXEC);
        int rc = stat(f.pin, &st) == 0 ? kbs_pin_latch_check(fd, &st, &err) : -1;
        _exit(rc == KBS_PIN_LATCHED ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    folder_remove(&f);
}

static void test_an_operators_change_lifts_it(void **state)
{
    struct folder f;
    char other[80];

    (void)state;
    folder_make(&f);
    set_mtime(&f, 1700000000, 5);
    set(&f);
    set_mtime(&f, 1700000000, 6); /* time alone, to the nanosecond */
    assert_int_equal(check(&f), 0);
    set_mtime(&f, 1700000000, 5);
    assert_int_equal(check(&f), KBS_PIN_LATCHED);
    write_file(f.pin, "12345\n"); /* size */
    set_mtime(&f, 1700000000, 5);
    assert_int_equal(check(&f), 0);
    set(&f);
    (void)snprintf(other, sizeof(other), "%s/other", f.path); /* another file of that name */
    write_file(other, "12345\n");
    assert_int_equal(rename(other, f.pin), 0);
    set_mtime(&f, 1700000000, 5);
    assert_int_equal(check(&f), 0);
    assert_int_equal(chmod(f.pin, 0400), 0);
    set(&f);
    assert_int_equal(chmod(f.pin, 0600), 0); /* no correction */
    assert_int_equal(check(&f), KBS_PIN_LATCHED);
    folder_remove(&f);
}

/* A shorter line over a longer one leaves nothing of it. */
static void test_the_newest_counts(void **state)
{
    struct folder f;

    (void)state;
    folder_make(&f);
    set_mtime(&f, 1700000000, 999999999);
    set(&f);
    set_mtime(&f, 7, 0);
    set(&f);
    assert_int_equal(check(&f), KBS_PIN_LATCHED);
    set_mtime(&f, 1700000000, 999999999);
    assert_int_equal(check(&f), 0);
    folder_remove(&f);
}

static void test_damage_is_not_guessed_at(void **state)
{
    static const char *const texts[] = {"refused device=1", "x\n", "\n",
                                        "refused device=1 inode=2 size=3 mtime=4.000000000"};
    struct folder f;

    (void)state;
    folder_make(&f);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_file(f.lock, texts[i]);
        assert_int_equal(check(&f), -1);
    }
    set(&f);
    assert_int_equal(check(&f), KBS_PIN_LATCHED);
    write_file(f.lock, "");
    assert_int_equal(check(&f), 0);
    folder_remove(&f);
}

static void test_a_lock_that_cannot_be_used(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct folder f;
    struct stat st;

    (void)state;
    folder_make(&f);
    assert_int_equal(stat(f.pin, &st), 0);
    int fd = open(f.lock, O_RDONLY | O_CLOEXEC);
    assert_int_equal(kbs_pin_latch_set(fd, &st, &err), -1);
    err = KBS_ERROR_NONE;
    assert_int_equal(kbs_pin_latch_check(-1, &st, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
    assert_int_equal(close(fd), 0);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_once_is_refused),
        cmocka_unit_test(test_another_process_sees_it),
        cmocka_unit_test(test_an_operators_change_lifts_it),
        cmocka_unit_test(test_the_newest_counts),
        cmocka_unit_test(test_damage_is_not_guessed_at),
        cmocka_unit_test(test_a_lock_that_cannot_be_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
