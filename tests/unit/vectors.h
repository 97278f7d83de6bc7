/* Public test vectors for unit tests. KBS_VECTORS_DIR comes from tests/CMakeLists.txt. */
#ifndef KBS_TESTS_VECTORS_H
#define KBS_TESTS_VECTORS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"

/* Reads a whole file; skips the calling test, saying so, where the vectors are absent. */
static inline void vectors_read(const char *name, struct kbs_buf *out)
{
    char path[512];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", KBS_VECTORS_DIR, name);
    f = fopen(path, "rb");
    if (f == NULL) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    for (;;) {
        uint8_t chunk[4096];
        size_t n = fread(chunk, 1, sizeof(chunk), f);

        kbs_buf_put(out, chunk, n);
        if (n < sizeof(chunk)) {
            break;
        }
    }
    (void)fclose(f);
    assert_false(out->failed);
}

#endif
