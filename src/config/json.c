/*
 * Configurations in JSON, for those whose tools write it, and the JSON files that a configuration
 * names. The only file of this folder that knows jansson.
 *
 * jansson keeps no positions. So a node's place is its pointer, which is as exact, and only a text
 * that is no JSON at all has a line. Duplicate members, NUL characters and anything after the value
 * are refused. jansson's own messages quote what is wrong, which may be a secret: that part is cut off.
 */
#include <jansson.h>

#include <stdio.h>
#include <string.h>

#include "config/document.h"

#define POINTER_BYTES 256

static json_t *load(const char *text, size_t len, json_error_t *why)
{
    return json_loadb(text, len, JSON_REJECT_DUPLICATES, why);
}

static struct kbs_doc_text text_of(const struct kbs_doc_memory *memory, const char *s, size_t len)
{
    char *copy = memory->alloc(memory->arg, len + 1);
    if (copy != NULL) {
        memcpy(copy, s, len);
    }
    return (struct kbs_doc_text){.p = copy, .len = copy != NULL ? len : 0};
}

/* RFC 6901 section 3: "~" and "/" are escaped. What does not fit is left out. NULL: no memory. */
static const char *pointer_of(const struct kbs_doc_memory *memory, const char *parent,
                              const char *token)
{
    char text[POINTER_BYTES];
    size_t n = strlen(parent);
    n = n < sizeof(text) - 1 ? n : sizeof(text) - 2;
    memcpy(text, parent, n);
    text[n++] = '/';
    for (const char *c = token; *c != '\0' && n + 2 <= sizeof(text); c++) {
        if (*c == '~' || *c == '/') {
            text[n++] = '~';
            text[n++] = *c == '~' ? '0' : '1';
        } else {
            text[n++] = *c >= ' ' && *c <= '~' ? *c : '?';
        }
    }
    return text_of(memory, text, n).p;
}

static bool fill(const struct kbs_doc_memory *memory, struct kbs_doc_node *node,
                 const json_t *value, int depth);

/* NULL: no memory. */
static struct kbs_doc_node *make(const struct kbs_doc_memory *memory, const json_t *value,
                                 const char *pointer, int depth)
{
    struct kbs_doc_node *node = memory->alloc(memory->arg, sizeof(*node));
    if (node == NULL || pointer == NULL) {
        return NULL;
    }
    node->value_at.pointer = node->key_at.pointer = pointer;
    node->type = KBS_DOC_OTHER;
    if (json_is_object(value) || json_is_array(value)) {
        node->type = json_is_object(value) ? KBS_DOC_TABLE : KBS_DOC_ARRAY;
        node->count = json_is_object(value) ? json_object_size(value) : json_array_size(value);
        return depth >= KBS_DOC_DEPTH || fill(memory, node, value, depth) ? node : NULL;
    }
    if (json_is_string(value)) {
        node->type = KBS_DOC_STRING;
        node->string = text_of(memory, json_string_value(value), json_string_length(value));
        return node->string.p != NULL ? node : NULL;
    }
    if (json_is_integer(value)) {
        node->type = KBS_DOC_INTEGER;
        node->integer = json_integer_value(value);
    } else if (json_is_boolean(value)) {
        node->type = KBS_DOC_BOOLEAN;
        node->boolean = json_is_true(value);
    }
    return node;
}

/* What is in an object or an array; false when there is no memory. */
static bool fill(const struct kbs_doc_memory *memory, struct kbs_doc_node *node,
                 const json_t *value, int depth)
{
    struct kbs_doc_node **link = &node->first;
    const char *name;
    json_t *v;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)value, name, v)
    {
        *link = make(memory, v, pointer_of(memory, node->value_at.pointer, name), depth + 1);
        if (*link == NULL) {
            return false;
        }
        (*link)->key = text_of(memory, name, strlen(name));
        if ((*link)->key.p == NULL) {
            return false;
        }
        link = &(*link)->next;
    }
    json_array_foreach(value, i, v)
    {
        char index[24];
        snprintf(index, sizeof(index), "%zu", i);
        *link = make(memory, v, pointer_of(memory, node->value_at.pointer, index), depth + 1);
        if (*link == NULL) {
            return false;
        }
        link = &(*link)->next;
    }
    return true;
}

int kbs_doc_parse_json(const char *text, size_t len, const struct kbs_doc_memory *memory,
                       struct kbs_doc_node **ret, struct kbs_doc_error *err)
{
    json_error_t why;
    json_t *root = load(text, len, &why);
    *ret = NULL;
    *err = (struct kbs_doc_error){.at = {.pointer = NULL}};
    if (root == NULL) {
        const char *quotes = strstr(why.text, " near ");
        snprintf(err->message, sizeof(err->message), "is not JSON: %.*s",
                 quotes != NULL ? (int)(quotes - why.text) : (int)strlen(why.text), why.text);
        err->at.line = why.line > 0 ? (unsigned int)why.line : 0;
        err->at.column = why.column > 0 ? (unsigned int)why.column : 1;
        return -1;
    }
    if (!json_is_object(root)) {
        snprintf(err->message, sizeof(err->message), "is not a JSON object");
    } else {
        *ret = make(memory, root, "", 0);
    }
    json_decref(root);
    return *ret != NULL ? 0 : -1;
}

const char *kbs_doc_check_object(const char *text, size_t len)
{
    json_error_t why;
    json_t *root = load(text, len, &why);
    const char *wrong = root == NULL            ? "is not JSON"
                        : !json_is_object(root) ? "is not a JSON object"
                                                : NULL;
    json_decref(root);
    return wrong;
}

static const char *check_jwk(const json_t *jwk)
{
    static const char *const secret[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};
    if (!json_is_object(jwk)) {
        return "holds a key that is not a JSON object";
    }
    for (size_t i = 0; i < sizeof(secret) / sizeof(secret[0]); i++) {
        if (json_object_get(jwk, secret[i]) != NULL) {
            return "holds a private key, which does not belong there";
        }
    }
    return NULL;
}

const char *kbs_doc_check_jwks(const char *text, size_t len)
{
    json_error_t why;
    json_t *root = load(text, len, &why);
    const json_t *keys = json_object_get(root, "keys");
    const char *wrong = root == NULL ? "is not JSON"
                        : json_array_size(keys) == 0
                            ? "is not a JWK Set with at least one key (RFC 7517 section 5)"
                            : NULL;
    const json_t *jwk;
    size_t i;
    json_array_foreach(keys, i, jwk)
    {
        wrong = wrong == NULL ? check_jwk(jwk) : wrong;
    }
    json_decref(root);
    return wrong;
}
