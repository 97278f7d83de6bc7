/*
 * A configuration file as a tree, whichever language it is written in: TOML 1.0 (toml.cc, by toml++)
 * or JSON (json.c, by jansson). Every node knows where it stood, for messages. Plain C types only,
 * because the other side of one of the two is C++.
 */
#ifndef KBS_CONFIG_DOCUMENT_H
#define KBS_CONFIG_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Tables and lists further down are there, but empty: the schema ends before that. */
#define KBS_DOC_DEPTH 8

enum kbs_doc_type {
    KBS_DOC_TABLE = 1,
    KBS_DOC_ARRAY,
    KBS_DOC_STRING,
    KBS_DOC_INTEGER,
    KBS_DOC_BOOLEAN,
    KBS_DOC_OTHER /* floating point, dates, times, null */
};

/* UTF-8, not terminated, may hold NUL bytes (both languages can escape them). */
struct kbs_doc_text {
    const char *p;
    size_t len;
};

/*
 * From TOML: line and column from 1, as editors count; columns count code points. From JSON, whose
 * parser does not tell: a pointer (RFC 6901), and line 0. Neither: the document as a whole.
 */
struct kbs_doc_place {
    unsigned int line;
    unsigned int column;
    const char *pointer; /* NULL from TOML; a long one is cut */
};

struct kbs_doc_node {
    enum kbs_doc_type type;
    struct kbs_doc_text key; /* in a table; len 0 in an array */
    struct kbs_doc_place key_at;
    struct kbs_doc_place value_at;
    struct kbs_doc_text string; /* STRING */
    int64_t integer;            /* INTEGER */
    bool boolean;               /* BOOLEAN */
    size_t count;               /* TABLE, ARRAY: how many are in it */
    struct kbs_doc_node *first; /* TABLE, ARRAY: of those, in no particular order in a table */
    struct kbs_doc_node *next;  /* the one after this one in its table or array */
};

struct kbs_doc_error {
    struct kbs_doc_place at;
    char message[128]; /* empty: no memory */
};

/* Zeroed memory that lives longer than the tree; NULL when there is none left. */
struct kbs_doc_memory {
    void *(*alloc)(void *arg, size_t size);
    void *arg;
};

/*
 * Both: *ret gets the root, a table, in `memory`, strings included. 0, or -1 with *err for a text that
 * is not in that language (a key that is there twice among the reasons).
 */
int kbs_doc_parse_toml(const char *text, size_t len, const struct kbs_doc_memory *memory,
                       struct kbs_doc_node **ret, struct kbs_doc_error *err);
int kbs_doc_parse_json(const char *text, size_t len, const struct kbs_doc_memory *memory,
                       struct kbs_doc_node **ret, struct kbs_doc_error *err);

/* Other files in JSON that a configuration names. NULL, or what is wrong with it: static text. */
const char *kbs_doc_check_object(const char *text, size_t len);
const char *kbs_doc_check_jwks(const char *text, size_t len); /* RFC 7517 section 5, public keys */

#ifdef __cplusplus
}
#endif
#endif
