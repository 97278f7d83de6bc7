/*
 * Regular expressions of an operator over request targets of whoever reaches the listener.
 *
 * The problem: Trustee compiles these expressions with an engine whose time is linear in the text
 * whatever the expression; the usual engines backtrack, and `^/kbs(/[a-z]+)*$` against 4 KB of `/a` and one
 * wrong character at the end would hold the admin lane for longer than the universe is old. The
 * approach: PCRE2, but its other matcher, which follows all alternatives at once and never goes
 * back, without JIT, in a workspace of fixed size and with limits on the rest; and of PCRE2's
 * syntax what Trustee's engine has too and reads alike. So what this cannot decide in bounded time
 * is refused when the service starts, or, where only the text can tell, is no match.
 *
 * Rejected: regcomp(3) of glibc, which has neither \d nor (?:), needs memory without bound for
 * counted repetitions and backtracks for references; an engine of our own.
 *
 * An expression must match from the first byte to the last: in `^/kbs/a|/b$` the two anchors
 * belong to one alternative each, so that Trustee lets `/kbs/a/whatever` pass. Here it does not.
 */
#include "policy/acl.h"

#include <ctype.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define WORKSPACE_INTS 4096 /* some 680 places in an expression that are tried at a time */
#define MATCH_LIMIT 10000   /* calls of the matcher by itself: groups */
#define DEPTH_LIMIT 100     /* of those calls */
#define HEAP_LIMIT_KIB 256
#define NESTING_MAX 16

struct kbs_acl {
    pcre2_code *code;
    pcre2_match_context *limits;
    pcre2_match_data *data;
};

/* Where a walk over the text of an expression is. */
struct walk {
    struct kbs_span text;
    size_t i;
    bool in_class;
    bool quantified; /* what stands before is a quantifier */
};

static uint8_t at(const struct walk *w, size_t ahead)
{
    return w->i + ahead < w->text.len ? w->text.p[w->i + ahead] : 0;
}

/* Escapes that both engines read alike: a punctuation character, or one of these classes. */
static bool escape_known(uint8_t c)
{
    return ispunct(c) || (c != 0 && strchr("dDwWsSbBntrx", c) != NULL);
}

/* NULL, or what is not taken inside of [...]. */
static const char *class_step(struct walk *w)
{
    uint8_t c = at(w, 0);

    if (c == '[' && at(w, 1) != ':') {
        return "a class in a class";
    }
    if ((c == '&' || c == '-' || c == '~') && at(w, 1) == c) {
        return "an operator on classes";
    }
    if (c == '[') { /* [:alpha:] */
        while (at(w, 0) != ']' && at(w, 0) != 0) {
            w->i++;
        }
    }
    w->in_class = c != ']';
    return NULL;
}

/* NULL, or what is not taken outside of a class. */
static const char *plain_step(struct walk *w)
{
    uint8_t c = at(w, 0);
    bool after_quantifier = w->quantified;

    w->quantified = c == '*' || c == '+' || c == '?' || c == '}';
    if (c == '+' && after_quantifier) {
        return "a possessive quantifier";
    }
    if (c == '(' && at(w, 1) == '*') {
        return "a verb";
    }
    if (c == '(' && at(w, 1) == '?' && at(w, 2) != ':') {
        return "a group other than (...) and (?:...)";
    }
    if (c == '(' && at(w, 1) == '?') {
        w->i++; /* the question mark quantifies nothing */
    }
    if (c == '[') {
        w->in_class = true;
        w->i += at(w, 1) == '^' ? 1 : 0;
        w->i += at(w, 1) == ']' ? 1 : 0; /* at the beginning it is a member */
    }
    return NULL;
}

/* Only what is sure to mean what it means to Trustee, and to be matched without going back. */
static int syntax_check(struct kbs_span text, struct kbs_error *err)
{
    struct walk w = {.text = text};
    const char *wrong = NULL;

    for (; w.i < text.len && wrong == NULL; w.i++) {
        if (at(&w, 0) < 0x20 || at(&w, 0) > 0x7e) {
            wrong = "a character that no target has";
        } else if (at(&w, 0) == '\\') {
            wrong = escape_known(at(&w, 1)) ? NULL : "this escape";
            w.i++;
            w.quantified = false;
        } else {
            wrong = w.in_class ? class_step(&w) : plain_step(&w);
        }
    }
    if (wrong != NULL) {
        return kbs_fail(err, KBS_INPUT, "%s at character %zu is not taken here", wrong, w.i);
    }
    return 0;
}

static int compile(struct kbs_span pattern, struct kbs_acl *acl, struct kbs_error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    PCRE2_UCHAR text[96];
    PCRE2_SIZE offset = 0;
    int code = 0;

    if (context == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    (void)pcre2_set_parens_nest_limit(context, NESTING_MAX);
    acl->code = pcre2_compile(pattern.p, pattern.len, PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code,
                              &offset, context);
    pcre2_compile_context_free(context);
    if (acl->code == NULL) {
        (void)pcre2_get_error_message(code, text, sizeof(text));
        return kbs_fail_native(err, KBS_INPUT, KBS_ORIGIN_LIB, code, "%s at character %zu",
                               (const char *)text, (size_t)offset + 1);
    }
    return 0;
}

int kbs_acl_new(struct kbs_span pattern, struct kbs_acl **ret, struct kbs_error *err)
{
    struct kbs_acl *acl;

    *ret = NULL;
    if (pattern.len > KBS_LIMIT_ADMIN_ACL_BYTES) {
        return kbs_fail(err, KBS_INPUT, "longer than %d bytes", KBS_LIMIT_ADMIN_ACL_BYTES);
    }
    if (!kbs_span_starts_with(pattern, "^/kbs") || pattern.p[pattern.len - 1] != '$') {
        return kbs_fail(err, KBS_INPUT, "it does not begin with ^/kbs and end with $");
    }
    if (syntax_check(pattern, err) != 0) {
        return -1;
    }
    acl = calloc(1, sizeof(*acl));
    if (acl == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (compile(pattern, acl, err) != 0) {
        (void)kbs_acl_free(acl);
        return -1;
    }
    acl->limits = pcre2_match_context_create(NULL);
    acl->data = pcre2_match_data_create(1, NULL);
    if (acl->limits == NULL || acl->data == NULL) {
        (void)kbs_acl_free(acl);
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    (void)pcre2_set_match_limit(acl->limits, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(acl->limits, DEPTH_LIMIT);
    (void)pcre2_set_heap_limit(acl->limits, HEAP_LIMIT_KIB);
    *ret = acl;
    return 0;
}

struct kbs_acl *kbs_acl_free(struct kbs_acl *acl)
{
    if (acl != NULL) {
        pcre2_match_data_free(acl->data);
        pcre2_match_context_free(acl->limits);
        pcre2_code_free(acl->code);
        free(acl);
    }
    return NULL;
}

bool kbs_acl_allows(const struct kbs_acl *acl, struct kbs_span target)
{
    int workspace[WORKSPACE_INTS];

    /* 0 means that it matches in more ways than the one that there is room for. */
    return pcre2_dfa_match(acl->code, target.p, target.len, 0, 0, acl->data, acl->limits, workspace,
                           WORKSPACE_INTS) >= 0;
}
