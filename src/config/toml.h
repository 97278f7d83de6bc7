/*
 * TOML 1.0 by toml++, seen from C: every table, array, element and value of a document of two
 * levels, with its position. Plain C types only, because the other side of this header is C++.
 */
#ifndef KBS_CONFIG_TOML_H
#define KBS_CONFIG_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum kbs_toml_type {
    KBS_TOML_TABLE = 1,
    KBS_TOML_ARRAY,
    KBS_TOML_STRING,
    KBS_TOML_INTEGER,
    KBS_TOML_BOOLEAN,
    KBS_TOML_OTHER /* floating point, dates, times */
};

/* Text as toml++ holds it: UTF-8, not terminated, may hold NUL bytes (TOML can escape them). */
struct kbs_toml_text {
    const char *p;
    size_t len;
};

/* From 1, as editors count; columns count code points. */
struct kbs_toml_position {
    unsigned int line;
    unsigned int column;
};

/* One node; everything in it is borrowed for the length of the call. */
struct kbs_toml_node {
    struct kbs_toml_text table; /* the top-level table it is in; len 0 at top level */
    struct kbs_toml_text key;
    bool element; /* of the array `key`: comes right after the array itself */
    enum kbs_toml_type type;
    size_t count;                /* ARRAY: number of elements */
    struct kbs_toml_text string; /* STRING */
    int64_t integer;             /* INTEGER */
    bool boolean;                /* BOOLEAN */
    struct kbs_toml_position key_at;
    struct kbs_toml_position value_at;
};

struct kbs_toml_error {
    struct kbs_toml_position at;
    char message[128];
};

/* Not 0 stops the walk. */
typedef int (*kbs_toml_visit)(void *arg, const struct kbs_toml_node *node);

/*
 * Parses `text` and visits what it holds: top-level values and tables, then what is in those
 * tables. Tables and arrays further down are visited but not entered. Returns 0; -1 with *err for a
 * document that is not TOML (duplicate keys among the reasons); else what the visitor returned.
 */
int kbs_toml_parse(const char *text, size_t len, kbs_toml_visit visit, void *arg,
                   struct kbs_toml_error *err);

#ifdef __cplusplus
}
#endif
#endif
