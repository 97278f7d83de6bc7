/*
 * Secrets live on OpenSSL's secure heap: mlocked, between guard pages, excluded from dumps,
 * cleansed on free. When the heap is full the allocation fails; there is no silent fallback to
 * ordinary memory. Without kbs_secret_heap_init() OpenSSL would use the ordinary heap, so
 * kbs_secret_new() refuses that.
 */
#include "base/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <unistd.h>

struct kbs_secret {
    size_t len; /* current */
    size_t cap; /* allocated: what is cleansed */
    uint8_t bytes[];
};

int kbs_secret_heap_init(struct kbs_error *err)
{
    int r;

    if (CRYPTO_secure_malloc_initialized()) {
        return 0;
    }
    r = CRYPTO_secure_malloc_init(KBS_LIMIT_SECURE_HEAP_BYTES, 32);
    if (r == 0) {
        return kbs_fail(err, KBS_INTERNAL, "the secure heap (%d bytes) could not be set up",
                        KBS_LIMIT_SECURE_HEAP_BYTES);
    }
    return r == 1 ? 0 : KBS_SECRET_UNLOCKED;
}

int kbs_secret_new(size_t len, struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_secret *s;

    if (len > KBS_LIMIT_SECRET_BYTES) {
        return kbs_fail(err, KBS_TOO_LARGE, "a secret of %zu bytes is over the limit of %u", len,
                        KBS_LIMIT_SECRET_BYTES);
    }
    if (!CRYPTO_secure_malloc_initialized()) {
        return kbs_fail(err, KBS_INTERNAL, "the secure heap is not set up");
    }
    s = OPENSSL_secure_zalloc(sizeof(*s) + len);
    if (s == NULL) {
        return kbs_fail(err, KBS_BUSY, "the secure heap is full");
    }
    s->len = len;
    s->cap = len;
    *ret = s;
    return 0;
}

struct kbs_secret *kbs_secret_free(struct kbs_secret *s)
{
    if (s != NULL) {
        OPENSSL_secure_clear_free(s, sizeof(*s) + s->cap);
    }
    return NULL;
}

void kbs_secret_cleanup(struct kbs_secret **s)
{
    *s = kbs_secret_free(*s);
}

uint8_t *kbs_secret_bytes(struct kbs_secret *s)
{
    return s->bytes;
}

size_t kbs_secret_len(const struct kbs_secret *s)
{
    return s->len;
}

void kbs_secret_truncate(struct kbs_secret *s, size_t len)
{
    if (len < s->len) {
        OPENSSL_cleanse(s->bytes + len, s->len - len);
        s->len = len;
    }
}

struct kbs_span kbs_secret_span(const struct kbs_secret *s)
{
    return kbs_span(s->bytes, s->len);
}

bool kbs_secret_equal(struct kbs_span a, struct kbs_span b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.p, b.p, a.len) == 0);
}

void kbs_cleanse(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}

/* Reads into the secret itself, so that no copy stays in a stack or stdio buffer. */
int kbs_secret_read_fd(int fd, struct kbs_secret **ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET s = NULL;
    size_t have = 0;

    if (kbs_secret_new(KBS_LIMIT_PIN_BYTES + 2, &s, err) != 0) {
        return -1;
    }
    for (;;) {
        ssize_t n = read(fd, s->bytes + have, s->len - have);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return kbs_fail_errno(err, KBS_INPUT, "the secret's descriptor cannot be read");
        }
        if (n == 0) {
            break;
        }
        have += (size_t)n;
        if (have == s->len) {
            return kbs_fail(err, KBS_INPUT, "the secret is longer than %d bytes",
                            KBS_LIMIT_PIN_BYTES);
        }
    }
    if (have > 0 && s->bytes[have - 1] == '\n') {
        have--;
    }
    if (have == 0 || have > KBS_LIMIT_PIN_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the secret is empty or longer than %d bytes",
                        KBS_LIMIT_PIN_BYTES);
    }
    kbs_secret_truncate(s, have);
    *ret = s;
    s = NULL;
    return 0;
}
