/*
 * Strict JSON on top of jansson.
 *
 * The problem: what a signature or a hash covers must have one meaning, and a body from an
 * unauthenticated client must have a bounded cost. jansson is close: with JSON_REJECT_DUPLICATES
 * it refuses duplicate members, and without its permissive flags it refuses NUL escapes, invalid
 * UTF-8, lone surrogates and bytes after the value. Three things it does not do: it swallows a
 * NUL byte right after a number ({"a":1<NUL>} parses), it recurses 2048 levels deep, and it
 * spends about eighty times the text's size on a text like [{},{},...].
 *
 * So one pass over the bytes comes first and refuses NUL bytes, depth over KBS_LIMIT_JSON_DEPTH
 * and more than KBS_LIMIT_JSON_VALUES values. It is no parser: a text that is not JSON may pass
 * it and is refused by jansson.
 *
 * jansson's own error texts quote the input, so details are ours: what, why, line and column.
 *
 * Rejected: a parser of our own (one more to get wrong), and jansson's callbacks (it has none
 * for parsing).
 */
#include "jose/read/json.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/secret.h"

/* jansson's free takes no size, and its strings grow by copying; so the allocator is asked. */
static void wipe_and_free(void *p)
{
    if (p != NULL) {
        kbs_cleanse(p, malloc_usable_size(p));
        free(p);
    }
}

void kbs_json_wipe_freed(void)
{
    json_set_alloc_funcs(malloc, wipe_and_free);
}

void kbs_json_cleanup(json_t **v)
{
    json_decref(*v);
    *v = NULL;
}

/* What the pass over the bytes counts. */
struct json_shape {
    size_t depth;
    size_t max_depth;
    size_t values; /* at least the number of values and member names */
    bool nul;
};

static void shape_step(struct json_shape *s, uint8_t c)
{
    if (c == '{' || c == '[') {
        s->depth++;
        s->values++;
        s->max_depth = s->depth > s->max_depth ? s->depth : s->max_depth;
    } else if (c == '}' || c == ']') {
        s->depth -= s->depth > 0 ? 1 : 0;
    } else if (c == ',' || c == ':') {
        s->values++;
    }
}

static struct json_shape shape_of(struct kbs_span text)
{
    struct json_shape s = {.depth = 0};
    bool in_string = false;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.p[i];

        s.nul = s.nul || c == 0;
        if (!in_string) {
            shape_step(&s, c);
            in_string = c == '"';
        } else if (c == '\\') {
            i++; /* cannot end the string; a NUL here is no JSON to jansson either */
        } else {
            in_string = c != '"';
        }
    }
    return s;
}

static int shape_check(struct kbs_span text, const char *what, struct kbs_error *err)
{
    struct json_shape s = shape_of(text);

    if (s.nul) {
        return kbs_fail(err, KBS_INPUT, "%s is not valid JSON: NUL byte", what);
    }
    if (s.max_depth > KBS_LIMIT_JSON_DEPTH) {
        return kbs_fail(err, KBS_INPUT, "%s is nested more than %d levels deep", what,
                        KBS_LIMIT_JSON_DEPTH);
    }
    if (s.values > KBS_LIMIT_JSON_VALUES) {
        return kbs_fail(err, KBS_INPUT, "%s has more than %u values", what, KBS_LIMIT_JSON_VALUES);
    }
    return 0;
}

int kbs_json_parse_object(struct kbs_span text, const char *what, json_t **ret,
                          struct kbs_error *err)
{
    json_error_t e;

    *ret = NULL;
    if (text.len == 0) {
        return kbs_fail(err, KBS_INPUT, "%s is empty, not a JSON object", what);
    }
    if (shape_check(text, what, err) != 0) {
        return -1;
    }
    KBS_AUTO_JSON v = json_loadb((const char *)text.p, text.len, JSON_REJECT_DUPLICATES, &e);
    if (v == NULL && json_error_code(&e) == json_error_duplicate_key) {
        return kbs_fail(err, KBS_INPUT, "%s has a duplicate member (line %d, column %d)", what,
                        e.line, e.column);
    }
    if (v == NULL && json_error_code(&e) == json_error_out_of_memory) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (v == NULL) {
        return kbs_fail_native(err, KBS_INPUT, KBS_ORIGIN_LIB, json_error_code(&e),
                               "%s is not valid JSON (line %d, column %d)", what, e.line, e.column);
    }
    if (!json_is_object(v)) {
        return kbs_fail(err, KBS_INPUT, "%s is not a JSON object", what);
    }
    *ret = json_incref(v);
    return 0;
}

static struct kbs_span string_span(const json_t *v)
{
    return kbs_span(json_string_value(v), json_string_length(v));
}

int kbs_json_get_string(const json_t *object, const char *name, struct kbs_span *ret,
                        struct kbs_error *err)
{
    const json_t *v = json_object_get(object, name);

    *ret = KBS_SPAN_EMPTY;
    if (!json_is_string(v)) {
        return kbs_fail(err, KBS_INPUT, "\"%s\" is %s", name,
                        v == NULL ? "missing" : "not a string");
    }
    *ret = string_span(v);
    return 0;
}

int kbs_json_get_integer(const json_t *object, const char *name, int64_t *ret,
                         struct kbs_error *err)
{
    const json_t *v = json_object_get(object, name);

    *ret = 0;
    if (!json_is_integer(v)) {
        return kbs_fail(err, KBS_INPUT, "\"%s\" is %s", name,
                        v == NULL ? "missing" : "not an integer");
    }
    *ret = json_integer_value(v);
    return 0;
}

int kbs_json_get_object(const json_t *object, const char *name, json_t **ret, struct kbs_error *err)
{
    json_t *v = json_object_get(object, name);

    *ret = NULL;
    if (!json_is_object(v)) {
        return kbs_fail(err, KBS_INPUT, "\"%s\" is %s", name,
                        v == NULL ? "missing" : "not an object");
    }
    *ret = v;
    return 0;
}

int kbs_json_opt_string(const json_t *object, const char *name, struct kbs_span *ret,
                        struct kbs_error *err)
{
    const json_t *v = json_object_get(object, name);

    *ret = KBS_SPAN_EMPTY;
    if (v == NULL || json_is_null(v)) {
        return 0;
    }
    return kbs_json_get_string(object, name, ret, err);
}

static bool is_listed(const char *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (strcmp(name, *names) == 0) {
            return true;
        }
    }
    return false;
}

int kbs_json_bytes_get(const json_t *array, struct kbs_buf *out)
{
    size_t before = out->len;
    const json_t *v;
    size_t i;

    if (!json_is_array(array)) {
        return -1;
    }
    json_array_foreach(array, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT8_MAX) {
            out->len = before;
            return -1;
        }
        kbs_buf_put_u8(out, (uint8_t)json_integer_value(v));
    }
    return out->failed ? -1 : 0;
}

int kbs_json_only(const json_t *object, const char *const *names, struct kbs_error *err)
{
    /* jansson's iterators take no const object, and change none. */
    json_t *o = json_incref((json_t *)(uintptr_t)object);
    bool ok = true;

    for (void *it = json_object_iter(o); it != NULL && ok; it = json_object_iter_next(o, it)) {
        ok = is_listed(json_object_iter_key(it), names);
    }
    json_decref(o);
    if (!ok) {
        return kbs_fail(err, KBS_INPUT,
                        "a member beside \"%s\" and the others allowed there is unknown",
                        names[0] != NULL ? names[0] : "");
    }
    return 0;
}

static int dump_chunk(const char *p, size_t n, void *data)
{
    struct kbs_buf *out = data;

    kbs_buf_put(out, p, n);
    return out->failed ? -1 : 0;
}

int kbs_json_dump(const json_t *v, struct kbs_buf *out, struct kbs_error *err)
{
    if (json_dump_callback(v, dump_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0 &&
        !out->failed) {
        return kbs_fail(err, KBS_INTERNAL, "JSON cannot be written");
    }
    return kbs_buf_check(out, "JSON text", err);
}
