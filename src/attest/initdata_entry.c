/*
 * A guest looks for its own member of [data] among those of others (aa.toml, policy.rego), so it has to get
 * past them as every TOML parser does: past texts in their four spellings, quoted or not. It does not
 * have to understand them. What is not of that shape is refused and never guessed: a pin that a
 * reader passes over is a guest that trusts anybody.
 */
#include "attest/initdata_entry.h"

struct reader {
    struct kbs_span rest;
    unsigned int line; /* from 1 */
};

static int refused(const struct reader *r, const char *why, struct kbs_error *err)
{
    return kbs_fail(err, KBS_INPUT, "init-data, line %u: %s", r->line, why);
}

static void skip(struct reader *r, size_t n)
{
    for (size_t i = 0; i < n && i < r->rest.len; i++) {
        r->line += r->rest.p[i] == '\n' ? 1 : 0;
    }
    r->rest = kbs_span_skip(r->rest, n);
}

static bool at(const struct reader *r, const char *text)
{
    return kbs_span_starts_with(r->rest, text);
}

static void skip_blanks(struct reader *r)
{
    while (at(r, " ") || at(r, "\t")) {
        skip(r, 1);
    }
}

/* Blanks and a comment up to the end of the line, and that. False if there is anything else. */
static bool skip_line_end(struct reader *r)
{
    skip_blanks(r);
    if (at(r, "#")) {
        while (r->rest.len > 0 && !at(r, "\n")) {
            skip(r, 1);
        }
    }
    if (at(r, "\r\n")) {
        skip(r, 1);
    }
    if (r->rest.len > 0 && !at(r, "\n")) {
        return false;
    }
    skip(r, 1);
    return true;
}

/*
 * A text in those quotes, behind which the reader then is. A backslash in double quotes escapes what is
 * next, if only to get past it: *ret_escapes says that there was one.
 */
static bool take_quoted(struct reader *r, const char *quotes, struct kbs_span *ret,
                        bool *ret_escapes)
{
    bool basic = quotes[0] == '"';
    bool lines = strlen(quotes) == 3;
    struct kbs_span from;

    *ret_escapes = false;
    skip(r, strlen(quotes));
    from = r->rest;
    while (r->rest.len > 0 && !at(r, quotes)) {
        bool escape = basic && at(r, "\\");

        if (!lines && at(r, "\n")) {
            return false;
        }
        *ret_escapes = *ret_escapes || escape;
        skip(r, escape ? 2 : 1);
    }
    if (r->rest.len == 0) {
        return false;
    }
    *ret = kbs_span(from.p, (size_t)(r->rest.p - from.p));
    skip(r, strlen(quotes));
    return !lines || r->rest.len == 0 ||
           r->rest.p[0] != (uint8_t)quotes[0]; /* '''' is two things */
}

static bool take_text(struct reader *r, struct kbs_span *ret, bool *ret_escapes)
{
    static const char *const quotes[] = {"\"\"\"", "'''", "\"", "'"};

    for (size_t i = 0; i < sizeof(quotes) / sizeof(quotes[0]); i++) {
        if (at(r, quotes[i])) {
            return take_quoted(r, quotes[i], ret, ret_escapes);
        }
    }
    return false;
}

static bool is_bare(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static bool take_key(struct reader *r, struct kbs_span *ret)
{
    bool escapes = false;
    size_t n = 0;

    if (at(r, "\"\"\"") || at(r, "'''")) {
        return false;
    }
    if (at(r, "\"") || at(r, "'")) {
        return take_text(r, ret, &escapes) && !escapes;
    }
    while (n < r->rest.len && is_bare(r->rest.p[n])) {
        n++;
    }
    *ret = kbs_span(r->rest.p, n);
    skip(r, n);
    return n > 0;
}

/* `key = text` of [data]. */
static int take_member(struct reader *r, const char *name, struct kbs_span *found,
                       struct kbs_error *err)
{
    struct kbs_span key;
    struct kbs_span text;
    bool escapes = false;

    if (!take_key(r, &key)) {
        return refused(r, "not a key", err);
    }
    skip_blanks(r);
    if (!at(r, "=")) {
        return refused(r, "a key is followed by =", err);
    }
    skip(r, 1);
    skip_blanks(r);
    if (!take_text(r, &text, &escapes) || !skip_line_end(r)) {
        return refused(r, "the member of [data] that ends here is not a text", err);
    }
    if (!kbs_span_equal_str(key, name)) {
        return 0;
    }
    if (found->p != NULL || escapes) {
        return refused(r, found->p != NULL ? "a member is there twice" : "a text with escapes",
                       err);
    }
    *found = text;
    return 0;
}

/* To the first table, over lines that kbs_init_data_digest() has read. */
static void skip_top(struct reader *r)
{
    while (r->rest.len > 0) {
        skip_blanks(r);
        if (at(r, "[")) {
            return;
        }
        while (r->rest.len > 0 && !at(r, "\n")) {
            skip(r, 1);
        }
        skip(r, 1);
    }
}

int kbs_init_data_entry(struct kbs_span toml, const char *name, struct kbs_span *ret,
                        struct kbs_error *err)
{
    struct reader r = {.rest = toml, .line = 1};

    *ret = KBS_SPAN_EMPTY;
    skip_top(&r);
    if (r.rest.len == 0) {
        return 0;
    }
    if (!at(&r, "[data]")) {
        return refused(&r, "the only table may be [data]", err);
    }
    skip(&r, strlen("[data]"));
    if (!skip_line_end(&r)) {
        return refused(&r, "[data] is a line of its own", err);
    }
    while (r.rest.len > 0) {
        skip_blanks(&r);
        if (at(&r, "[")) {
            return refused(&r, "the only table may be [data]", err);
        }
        if (skip_line_end(&r)) {
            continue;
        }
        if (take_member(&r, name, ret, err) != 0) {
            *ret = KBS_SPAN_EMPTY;
            return -1;
        }
    }
    return 0;
}
