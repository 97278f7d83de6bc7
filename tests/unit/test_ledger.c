/* src/audit/ledger: what is written verifies, what was touched does not, and what failed to be
 * written is not there. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "audit/ledger.h"
#include "base/io.h"

/* Of the last temporary(). It keeps its name, because the writer refuses a file that has none. */
static char last[] = "/tmp/kbs-ledger-XXXXXX";

static int temporary(void)
{
    (void)unlink(last);
    memcpy(last + sizeof(last) - 7, "XXXXXX", 6);
    int fd = mkostemp(last, O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int remove_last(void **state)
{
    (void)state;
    return unlink(last);
}

static off_t size_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static void open_new(struct kbs_ledger *l, int fd)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t cut;
    assert_int_equal(kbs_ledger_open(l, fd, &cut, &err), 0);
    assert_int_equal(cut, 0);
}

static int append(struct kbs_ledger *l, const char *value, struct kbs_error *err)
{
    struct kbs_ledger_field fields[] = {{KBS_SPAN_LIT("key"), KBS_SPAN_LIT("a/b/c/v1")},
                                        {KBS_SPAN_LIT("detail"), kbs_span_str(value)}};
    uint64_t seq;
    *err = KBS_ERROR_NONE;
    if (kbs_ledger_stage(l, KBS_SPAN_LIT("release"), fields, 2, &seq, err) != 0) {
        return -1;
    }
    return kbs_ledger_commit(l, err);
}

static int verify(int fd, struct kbs_ledger_report *r, struct kbs_error *err)
{
    *err = KBS_ERROR_NONE;
    return kbs_ledger_verify(fd, r, err);
}

static void test_chain_and_reopen(void **state)
{
    struct kbs_ledger l;
    struct kbs_ledger_report r;
    struct kbs_error err;
    int fd = temporary();
    (void)state;
    open_new(&l, fd);
    assert_int_equal(append(&l, "quote \" back \\ feed \n byte \xff end", &err), 0);
    assert_int_equal(append(&l, "", &err), 0);
    kbs_ledger_deinit(&l);
    open_new(&l, fd);
    assert_int_equal(append(&l, "third", &err), 0);
    kbs_ledger_deinit(&l);
    assert_int_equal(verify(fd, &r, &err), 0);
    assert_int_equal(r.records, 3);
    assert_int_equal(r.bytes, size_of(fd));
    close(fd);
}

/* The format itself, from outside: hash over predecessor and JSON, members in order. */
static void test_format(void **state)
{
    struct kbs_ledger l;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf text = KBS_BUF(4096);
    uint8_t joined[2048] = {0};
    uint8_t want[32];
    uint8_t got[32];
    int fd = temporary();
    (void)state;
    open_new(&l, fd);
    assert_int_equal(append(&l, "x", &err), 0);
    kbs_ledger_deinit(&l);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(kbs_io_read_fd(fd, &text, &err), 0);
    size_t json_len = text.len - 66;
    memcpy(joined + 32, text.p + 65, json_len);
    kbs_sha256(kbs_span(joined, 32 + json_len), want);
    for (size_t i = 0; i < 32; i++) {
        unsigned int byte = 0;
        char pair[3] = {(char)text.p[2 * i], (char)text.p[2 * i + 1], '\0'};
        assert_int_equal(sscanf(pair, "%2x", &byte), 1);
        got[i] = (uint8_t)byte;
    }
    assert_memory_equal(want, got, 32);
    const char *json = kbs_buf_cstr(&text) + 65;
    unsigned int n[7];
    char rest[128];
    assert_int_equal(sscanf(json, "{\"seq\":1,\"time\":\"%4u-%2u-%2uT%2u:%2u:%2u.%6uZ\",%127[^\n]",
                            &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], rest),
                     8);
    assert_string_equal(rest, "\"kind\":\"release\",\"key\":\"a/b/c/v1\",\"detail\":\"x\"}");
    kbs_buf_deinit(&text);
    close(fd);
}

static int copy_of(const struct kbs_buf *text, size_t len)
{
    int fd = temporary();
    assert_int_equal(write(fd, text->p, len), (ssize_t)len);
    return fd;
}

static int small(struct kbs_buf *text)
{
    struct kbs_ledger l;
    struct kbs_error err = KBS_ERROR_NONE;
    int fd = temporary();
    open_new(&l, fd);
    assert_int_equal(append(&l, "one", &err), 0);
    assert_int_equal(append(&l, "two", &err), 0);
    assert_int_equal(append(&l, "three", &err), 0);
    kbs_ledger_deinit(&l);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(kbs_io_read_fd(fd, text, &err), 0);
    return fd;
}

static void test_every_flipped_byte(void **state)
{
    struct kbs_buf text = KBS_BUF(4096);
    int fd = small(&text);
    (void)state;
    for (size_t i = 0; i < text.len; i++) {
        for (unsigned int flip = 1; flip < 256; flip <<= 1) {
            struct kbs_ledger_report r;
            struct kbs_error err;
            uint8_t changed = (uint8_t)(text.p[i] ^ flip);
            assert_int_equal(ftruncate(fd, 0), 0);
            assert_int_equal(write(fd, text.p, i), (ssize_t)i);
            assert_int_equal(write(fd, &changed, 1), 1);
            assert_int_equal(write(fd, text.p + i + 1, text.len - i - 1),
                             (ssize_t)(text.len - i - 1));
            assert_int_not_equal(verify(fd, &r, &err), 0);
            assert_in_range(r.records, 0, 2);
        }
    }
    kbs_buf_deinit(&text);
    close(fd);
}

static void test_missing_and_swapped_lines(void **state)
{
    struct kbs_buf text = KBS_BUF(4096);
    struct kbs_ledger_report r;
    struct kbs_error err;
    int fd = small(&text);
    size_t first = (size_t)((const uint8_t *)memchr(text.p, '\n', text.len) - text.p) + 1;
    (void)state;
    assert_int_equal(ftruncate(fd, 0), 0); /* without the first */
    assert_int_equal(write(fd, text.p + first, text.len - first), (ssize_t)(text.len - first));
    assert_int_equal(verify(fd, &r, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_non_null(strstr(err.detail, "line 1 (byte 0)"));
    assert_int_equal(write(fd, text.p, first), (ssize_t)first);
    assert_int_equal(ftruncate(fd, 0), 0); /* the first twice */
    assert_int_equal(write(fd, text.p, first), (ssize_t)first);
    assert_int_equal(write(fd, text.p, first), (ssize_t)first);
    assert_int_equal(verify(fd, &r, &err), -1);
    assert_non_null(strstr(err.detail, "line 2 "));
    assert_int_equal(r.records, 1);
    kbs_buf_deinit(&text);
    close(fd);
}

/* A crash can leave any prefix, with or without zeros behind it: cut off, said, and the chain
 * goes on. */
static void test_torn_at_every_byte(void **state)
{
    struct kbs_buf text = KBS_BUF(4096);
    int fd = small(&text);
    (void)state;
    for (size_t len = 0; len < text.len; len++) {
        for (size_t zeros = 0; zeros <= 100000; zeros += 100000) {
            struct kbs_ledger l;
            struct kbs_ledger_report r;
            struct kbs_error err = KBS_ERROR_NONE;
            uint64_t cut;
            int torn = copy_of(&text, len);
            assert_int_equal(ftruncate(torn, (off_t)(len + zeros)), 0);
            bool clean = zeros == 0 && (len == 0 || text.p[len - 1] == '\n');
            assert_int_equal(kbs_ledger_open(&l, torn, &cut, &err), clean ? 0 : KBS_LEDGER_TORN);
            assert_int_equal(cut == 0, clean);
            assert_int_equal(append(&l, "after", &err), 0);
            kbs_ledger_deinit(&l);
            assert_int_equal(verify(torn, &r, &err), 0);
            close(torn);
        }
    }
    kbs_buf_deinit(&text);
    close(fd);
}

/* A file that is no ledger is left alone, whatever the operator wrote into the configuration. */
static void test_foreign_files(void **state)
{
    static const char *const foreign[] = {"SQLite format 3", "root:x:0:0", "\n", "abc", "0123\t"};
    (void)state;
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        struct kbs_ledger l;
        struct kbs_error err = KBS_ERROR_NONE;
        uint64_t cut;
        int fd = temporary();
        size_t len = strlen(foreign[i]);
        assert_int_equal(write(fd, foreign[i], len), (ssize_t)len);
        bool prefix = strcmp(foreign[i], "abc") == 0; /* could be the beginning of a hash */
        assert_int_equal(kbs_ledger_open(&l, fd, &cut, &err), prefix ? KBS_LEDGER_TORN : -1);
        assert_int_equal(size_of(fd), prefix ? 0 : (off_t)len);
        kbs_ledger_deinit(&l);
        close(fd);
    }
    struct kbs_ledger l;
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t cut;
    int full = open("/dev/full", O_RDWR | O_APPEND | O_CLOEXEC);
    assert_int_equal(kbs_ledger_open(&l, full, &cut, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    close(full);
}

static void test_one_line_without_end(void **state)
{
    struct kbs_ledger_report r;
    struct kbs_error err;
    int fd = temporary();
    static char much[1 << 20];
    (void)state;
    memset(much, 'a', sizeof(much));
    assert_int_equal(write(fd, much, sizeof(much)), (ssize_t)sizeof(much));
    assert_int_equal(verify(fd, &r, &err), -1);
    assert_non_null(strstr(err.detail, "too long"));
    close(fd);
}

static void test_second_writer(void **state)
{
    struct kbs_ledger a;
    struct kbs_ledger b;
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t cut;
    char path[64];
    int fd = temporary();
    (void)state;
    open_new(&a, fd);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    assert_true(again >= 0);
    assert_int_equal(kbs_ledger_open(&b, again, &cut, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    kbs_ledger_deinit(&b);
    kbs_ledger_deinit(&a);
    close(again);
    close(fd);
}

static void limit_file(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* A disk that fills in the middle of a record: nothing of it stays, and the next one continues
 * the chain. */
static void test_full_disk(void **state)
{
    struct kbs_ledger l;
    struct kbs_ledger_report r;
    struct kbs_error err = KBS_ERROR_NONE;
    int fd = temporary();
    (void)state;
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    open_new(&l, fd);
    assert_int_equal(append(&l, "one", &err), 0);
    off_t before = size_of(fd);
    limit_file((rlim_t)before + 20);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(append(&l, "lost", &err), -1);
        assert_int_equal(err.category, KBS_INTERNAL);
        assert_int_equal(size_of(fd), before);
    }
    limit_file(RLIM_INFINITY);
    assert_int_equal(append(&l, "two", &err), 0);
    kbs_ledger_deinit(&l);
    assert_int_equal(verify(fd, &r, &err), 0);
    assert_int_equal(r.records, 2);
    close(fd);
}

/* The linker puts this in the place of fdatasync (tests/audit.cmake). */
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
static int failing_syncs; /* how many of the next fail */

int __wrap_fdatasync(int fd)
{
    if (failing_syncs > 0) {
        failing_syncs--;
        errno = EIO;
        return -1;
    }
    return __real_fdatasync(fd);
}

/* What could not be synced may or may not be on the disk: it is cut off, not synced again. */
static void test_failed_sync(void **state)
{
    struct kbs_ledger l;
    struct kbs_ledger_report r;
    struct kbs_error err = KBS_ERROR_NONE;
    int fd = temporary();
    (void)state;
    open_new(&l, fd);
    assert_int_equal(append(&l, "one", &err), 0);
    off_t before = size_of(fd);
    failing_syncs = 1;
    assert_int_equal(append(&l, "lost", &err), -1);
    assert_int_equal(err.native, EIO);
    assert_int_equal(size_of(fd), before);
    assert_int_equal(append(&l, "two", &err), 0);
    kbs_ledger_deinit(&l);
    assert_int_equal(verify(fd, &r, &err), 0);
    assert_int_equal(r.records, 2);
    close(fd);
}

/* Somebody else's bytes behind ours: not overwritten, not built upon. */
static void test_changed_behind_our_back(void **state)
{
    struct kbs_ledger l;
    struct kbs_error err = KBS_ERROR_NONE;
    int fd = temporary();
    (void)state;
    open_new(&l, fd);
    assert_int_equal(append(&l, "one", &err), 0);
    off_t before = size_of(fd);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(append(&l, "two", &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(size_of(fd), before + 1);
    assert_int_equal(ftruncate(fd, before), 0);
    assert_int_equal(append(&l, "two", &err), 0);
    /* A file that nobody will find again records nothing. */
    before = size_of(fd);
    assert_int_equal(unlink(last), 0);
    assert_int_equal(append(&l, "three", &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(size_of(fd), before);
    kbs_ledger_deinit(&l);
    close(fd);
}

static void test_group(void **state)
{
    struct kbs_ledger l;
    struct kbs_ledger_report r;
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t seq;
    int fd = temporary();
    (void)state;
    open_new(&l, fd);
    for (uint64_t i = 1; i <= KBS_LIMIT_AUDIT_BATCH; i++) {
        assert_int_equal(kbs_ledger_stage(&l, KBS_SPAN_LIT("attest"), NULL, 0, &seq, &err), 0);
        assert_int_equal(seq, i);
        assert_int_equal(size_of(fd), 0); /* nothing before the commit */
    }
    assert_int_equal(kbs_ledger_commit(&l, &err), 0);
    assert_int_equal(verify(fd, &r, &err), 0);
    assert_int_equal(r.records, KBS_LIMIT_AUDIT_BATCH);
    kbs_ledger_deinit(&l);
    close(fd);
}

static void test_refused_records(void **state)
{
    static char much[KBS_LIMIT_AUDIT_FIELD_BYTES + 1];
    static const struct {
        const char *kind;
        const char *names[2];
        size_t value_bytes;
    } cases[] = {
        {"", {"a", "b"}, 1},
        {"Release", {"a", "b"}, 1},
        {"release\"", {"a", "b"}, 1},
        {"release", {"a", ""}, 1},
        {"release", {"a", "a"}, 1},
        {"release", {"seq", "b"}, 1},
        {"release", {"a", "time"}, 1},
        {"release", {"kind", "b"}, 1},
        {"release", {"a\"", "b"}, 1},
        {"release", {"a", "b"}, sizeof(much)},
        {"release-with-a-name-of-33-bytes-xxx", {"a", "b"}, 1},
    };
    struct kbs_ledger l;
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t seq = 0;
    int fd = temporary();
    (void)state;
    memset(much, 'x', sizeof(much));
    open_new(&l, fd);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_ledger_field fields[2] = {
            {kbs_span_str(cases[i].names[0]), kbs_span(much, cases[i].value_bytes)},
            {kbs_span_str(cases[i].names[1]), kbs_span(much, cases[i].value_bytes)}};
        err = KBS_ERROR_NONE;
        assert_int_equal(kbs_ledger_stage(&l, kbs_span_str(cases[i].kind), fields, 2, &seq, &err),
                         -1);
        assert_int_equal(err.category, KBS_INPUT);
    }
    assert_int_equal(append(&l, "fine", &err), 0); /* and nothing of them is left behind */
    kbs_ledger_deinit(&l);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_and_reopen),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_every_flipped_byte),
        cmocka_unit_test(test_missing_and_swapped_lines),
        cmocka_unit_test(test_torn_at_every_byte),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_one_line_without_end),
        cmocka_unit_test(test_second_writer),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failed_sync),
        cmocka_unit_test(test_changed_behind_our_back),
        cmocka_unit_test(test_group),
        cmocka_unit_test(test_refused_records),
    };
    return cmocka_run_group_tests(tests, NULL, remove_last);
}
