/* See random.h. */
#include "base/random.h"

#include <limits.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

void kbs_random(void *out, size_t n)
{
    if (n > INT_MAX || RAND_bytes(out, (int)n) != 1) {
        (void)fputs("kbs: no random bytes\n", stderr);
        abort();
    }
}
