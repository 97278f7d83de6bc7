/*
 * The JSON Canonicalization Scheme (RFC 8785), the part of it that anything we hash needs.
 *
 * Members are sorted by UTF-16 code units, which is not the byte order of UTF-8: a character beyond
 * the basic plane is a surrogate pair (0xD800...) and comes before U+E000 to U+FFFF. In UTF-8 such
 * a character starts with a byte from 0xF0, and those others with 0xEE or 0xEF; everywhere else
 * byte order and code unit order agree, since two valid texts that differ first inside a character
 * have the same lead byte. So one special case in the comparison does it, without decoding.
 *
 * Numbers are integers within +-2^53, the range in which ECMAScript's form is the plain decimal
 * one. Anything else is refused, never rounded: the floating-point half of RFC 8785 is where
 * implementations differ, and no JWK, nonce or claim that we hash has a reason to contain one.
 *
 * Recursion is bounded by KBS_LIMIT_JSON_DEPTH, also for values that were built, not parsed.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "base/limits.h"
#include "jose/read/json.h"

#define JSON_INTEGER_MAX (INT64_C(1) << 53)

static int canonical_put(const json_t *v, size_t depth, struct kbs_buf *out, struct kbs_error *err);

static int utf16_compare(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    uint8_t x = (uint8_t)*a;
    uint8_t y = (uint8_t)*b;
    if (x >= 0xf0 && (y == 0xee || y == 0xef)) {
        return -1;
    }
    if (y >= 0xf0 && (x == 0xee || x == 0xef)) {
        return 1;
    }
    return x < y ? -1 : x > y;
}

static int name_compare(const void *a, const void *b)
{
    return utf16_compare(*(const char *const *)a, *(const char *const *)b);
}

static int object_put(json_t *v, size_t depth, struct kbs_buf *out, struct kbs_error *err)
{
    size_t n = json_object_size(v);
    const char **names = calloc(n + 1, sizeof(*names));
    size_t i = 0;
    int r = 0;

    if (names == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    for (void *it = json_object_iter(v); it != NULL && i < n; it = json_object_iter_next(v, it)) {
        names[i++] = json_object_iter_key(it);
    }
    qsort(names, i, sizeof(*names), name_compare);
    kbs_buf_put_u8(out, '{');
    for (size_t k = 0; k < i && r == 0; k++) {
        if (k > 0) {
            kbs_buf_put_u8(out, ',');
        }
        kbs_json_string_put(out, kbs_span_str(names[k]));
        kbs_buf_put_u8(out, ':');
        r = canonical_put(json_object_get(v, names[k]), depth + 1, out, err);
    }
    kbs_buf_put_u8(out, '}');
    free(names);
    return r;
}

static int array_put(const json_t *v, size_t depth, struct kbs_buf *out, struct kbs_error *err)
{
    kbs_buf_put_u8(out, '[');
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (i > 0) {
            kbs_buf_put_u8(out, ',');
        }
        if (canonical_put(json_array_get(v, i), depth + 1, out, err) != 0) {
            return -1;
        }
    }
    kbs_buf_put_u8(out, ']');
    return 0;
}

static int integer_put(int64_t n, struct kbs_buf *out, struct kbs_error *err)
{
    if (n > JSON_INTEGER_MAX || n < -JSON_INTEGER_MAX) {
        return kbs_fail(err, KBS_INPUT, "an integer beyond 2^53 has no canonical form here");
    }
    kbs_buf_printf(out, "%" PRId64, n);
    return 0;
}

static int canonical_put(const json_t *v, size_t depth, struct kbs_buf *out, struct kbs_error *err)
{
    if (v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "no JSON value to write");
    }
    if (depth > KBS_LIMIT_JSON_DEPTH) {
        return kbs_fail(err, KBS_INPUT, "JSON nested more than %d levels deep",
                        KBS_LIMIT_JSON_DEPTH);
    }
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return object_put((json_t *)(uintptr_t)v, depth, out,
                          err); /* its iterators change nothing */
    case JSON_ARRAY:
        return array_put(v, depth, out, err);
    case JSON_STRING:
        kbs_json_string_put(out, kbs_span(json_string_value(v), json_string_length(v)));
        return 0;
    case JSON_INTEGER:
        return integer_put(json_integer_value(v), out, err);
    case JSON_TRUE:
        kbs_buf_put_str(out, "true");
        return 0;
    case JSON_FALSE:
        kbs_buf_put_str(out, "false");
        return 0;
    case JSON_NULL:
        kbs_buf_put_str(out, "null");
        return 0;
    case JSON_REAL:
        return kbs_fail(err, KBS_INPUT, "a number that is no integer has no canonical form here");
    }
    return kbs_fail(err, KBS_INTERNAL, "unknown JSON type");
}

int kbs_json_canonical(const json_t *v, struct kbs_buf *out, struct kbs_error *err)
{
    if (canonical_put(v, 0, out, err) != 0) {
        return -1;
    }
    return kbs_buf_check(out, "canonical JSON", err);
}
