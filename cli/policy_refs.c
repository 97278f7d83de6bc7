/*
 * The problem: a rule that is undefined says nothing of why; nearly always a member of the claims that it names
 * is not there, or is called otherwise. The engine does not tell which. The approach: the references that stand
 * in the policy's text are looked up in the documents. That is not an evaluation: a reference behind a `not`, or
 * in a rule that did not matter, is shown as well, and one that is made of variables is followed up to the first.
 *
 * The text is a person's file and may be anything: one pass, no recursion, nothing is built but the names.
 */
#include "cli/policy_refs.h"

#include <ctype.h>
#include <string.h>

#define NAME_MAX_BYTES 256

struct scan {
    struct kbs_span text;
    size_t at;
    unsigned int line;
};

static int peek(const struct scan *s)
{
    return s->at < s->text.len ? s->text.p[s->at] : -1;
}

static void step(struct scan *s)
{
    s->line += peek(s) == '\n' ? 1 : 0;
    s->at++;
}

static bool is_word(int c)
{
    return c == '_' || isalnum(c);
}

/* Past a string, from its opening quote: with escapes, or raw between backquotes. */
static void skip_string(struct scan *s)
{
    int quote = peek(s);

    step(s);
    while (peek(s) >= 0 && peek(s) != quote && (quote == '`' || peek(s) != '\n')) {
        if (quote == '"' && peek(s) == '\\') {
            step(s);
        }
        step(s);
    }
    if (peek(s) == quote) {
        step(s);
    }
}

/* .name or ["name"] from here on: into `name`, and past it. False, and where it was, if there is none. */
static bool take_member(struct scan *s, char name[NAME_MAX_BYTES])
{
    struct scan t = *s;
    size_t n = 0;
    bool bracket = peek(&t) == '[';
    bool ends = false;

    if (peek(&t) != '.' && !bracket) {
        return false;
    }
    step(&t);
    if (bracket) {
        if (peek(&t) != '"') {
            return false;
        }
        step(&t);
    }
    while (
        n + 1 < NAME_MAX_BYTES && peek(&t) >= 0 &&
        (bracket ? peek(&t) != '"' && peek(&t) != '\\' && peek(&t) != '\n' : is_word(peek(&t)))) {
        name[n++] = (char)peek(&t);
        step(&t);
    }
    name[n] = '\0';
    ends = !bracket;
    if (bracket && peek(&t) == '"') {
        step(&t);
        ends = peek(&t) == ']';
        step(&t);
    }
    if (n == 0 || !ends) {
        return false;
    }
    *s = t;
    return true;
}

/* A reference that begins with this document, if it names a member at all. */
static void take_reference(struct scan *s, size_t begin, const json_t *document,
                           kbs_cli_ref_each *each, void *ctx)
{
    unsigned int line = s->line;
    char name[NAME_MAX_BYTES];
    bool named = false;

    while (take_member(s, name)) {
        document = json_object_get(document, name);
        named = true;
    }
    if (named) {
        each(ctx, kbs_span(s->text.p + begin, s->at - begin), line, document != NULL);
    }
}

/* Past one word; if it is one of the two documents, and no part of a longer reference, what follows it. */
static void take_word(struct scan *s, const json_t *input, const json_t *data,
                      kbs_cli_ref_each *each, void *ctx)
{
    size_t begin = s->at;
    bool part = begin > 0 && s->text.p[begin - 1] == '.';
    struct kbs_span word;

    while (is_word(peek(s))) {
        step(s);
    }
    word = kbs_span(s->text.p + begin, s->at - begin);
    if (!part && kbs_span_equal_str(word, "input")) {
        take_reference(s, begin, input, each, ctx);
    } else if (!part && kbs_span_equal_str(word, "data")) {
        take_reference(s, begin, data, each, ctx);
    }
}

void kbs_cli_refs(struct kbs_span policy, const json_t *input, const json_t *data,
                  kbs_cli_ref_each *each, void *ctx)
{
    struct scan s = {.text = policy, .line = 1};

    while (peek(&s) >= 0) {
        if (peek(&s) == '#') {
            while (peek(&s) >= 0 && peek(&s) != '\n') {
                step(&s);
            }
        } else if (peek(&s) == '"' || peek(&s) == '`') {
            skip_string(&s);
        } else if (is_word(peek(&s))) {
            take_word(&s, input, data, each, ctx);
        } else {
            step(&s);
        }
    }
}
