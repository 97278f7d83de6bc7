/*
 * Secrets: key material and PINs on OpenSSL's secure heap (locked, guarded, not dumped, cleansed on
 * free). A secret has a fixed capacity, never grows, is never printed, and is compared in constant
 * time.
 */
#ifndef KBS_BASE_SECRET_H
#define KBS_BASE_SECRET_H

#include "base/error.h"
#include "base/span.h"

struct kbs_secret;

/* kbs_secret_heap_init(): the heap is there, but its memory could not be locked (RLIMIT_MEMLOCK).
 */
#define KBS_SECRET_UNLOCKED 1

/*
 * Sets up the secure heap; call once, at start, in a process that will hold secrets. Returns 0,
 * KBS_SECRET_UNLOCKED (a start-up error in the production profile, a loud warning in the demo), or
 * -1.
 */
KBS_MUST_CHECK int kbs_secret_heap_init(struct kbs_error *err);

/* A zeroed secret of `len` bytes, at most KBS_LIMIT_SECRET_BYTES. Returns owned. */
KBS_MUST_CHECK int kbs_secret_new(size_t len, struct kbs_secret **ret, struct kbs_error *err);

/* Cleanses and frees; NULL is fine. Always returns NULL, so that `s = kbs_secret_free(s)` reads
 * well. */
struct kbs_secret *kbs_secret_free(struct kbs_secret *s);
void kbs_secret_cleanup(struct kbs_secret **s);
#define KBS_AUTO_SECRET __attribute__((cleanup(kbs_secret_cleanup))) struct kbs_secret *

uint8_t *kbs_secret_bytes(struct kbs_secret *s); /* returns borrowed */
size_t kbs_secret_len(const struct kbs_secret *s);
/* Shortens a secret and cleanses what falls off; never grows. */
void kbs_secret_truncate(struct kbs_secret *s, size_t len);
struct kbs_span kbs_secret_span(
    const struct kbs_secret *s); /* borrowed; not to be copied or logged */

/* Constant time in the content; lengths are public. */
bool kbs_secret_equal(struct kbs_span a, struct kbs_span b);

/* OPENSSL_cleanse by our name, for stack temporaries. */
void kbs_cleanse(void *p, size_t n);

/*
 * Reads at most KBS_LIMIT_PIN_BYTES from a descriptor to its end into a new secret; one trailing
 * line feed is dropped. Does not close the descriptor. Returns owned. KBS_INPUT if empty or too
 * long.
 */
KBS_MUST_CHECK int kbs_secret_read_fd(int fd, struct kbs_secret **ret, struct kbs_error *err);

#endif
