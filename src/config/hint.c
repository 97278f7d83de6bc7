/*
 * What may have been meant by a key that does not exist: the nearest name of its table, or the table
 * that has a key of this name. Nearness is Levenshtein's distance; how far a guess may reach grows
 * with the name, so that a short one does not become any other short one.
 */
#include "config/schema.h"

#include <stdio.h>

#define NAME_BYTES 64

/* The least number of bytes to put in, take out or replace. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES + 1];
    size_t len_b = strlen(b);
    if (strlen(a) > NAME_BYTES || len_b > NAME_BYTES) {
        return NAME_BYTES;
    }
    for (size_t k = 0; k <= len_b; k++) {
        row[k] = k;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t k = 1; k <= len_b; k++) {
            size_t best = diagonal + (a[i - 1] != b[k - 1] ? 1 : 0);
            diagonal = row[k];
            best = row[k] + 1 < best ? row[k] + 1 : best;
            row[k] = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
        }
    }
    return row[len_b];
}

struct nearest {
    const char *wanted;
    char name[NAME_BYTES + 1];
    size_t distance;
};

static void offer(struct nearest *n, const char *name, size_t len)
{
    char text[NAME_BYTES + 1];
    snprintf(text, sizeof(text), "%.*s", (int)(len < NAME_BYTES ? len : NAME_BYTES), name);
    size_t d = distance(n->wanted, text);
    if (d < n->distance) {
        n->distance = d;
        memcpy(n->name, text, sizeof(text));
    }
}

/* Tables that stand directly in `table`, by their own name. */
static void offer_tables(struct nearest *n, const char *table)
{
    size_t prefix = strlen(table);
    for (size_t i = 0; i < kbs_config_n_tables; i++) {
        const char *path = kbs_config_tables[i].path;
        if (strncmp(path, table, prefix) != 0 || (prefix > 0 && path[prefix] != '.')) {
            continue;
        }
        const char *name = path + prefix + (prefix > 0 ? 1 : 0);
        size_t len = strcspn(name, ".[");
        if (name[len] != '.') {
            offer(n, name, len);
        }
    }
}

const char *kbs_config_hint(const char *table, const char *name, char *out, size_t size)
{
    size_t reach = strlen(name) / 4 + 1;
    struct nearest n = {.wanted = name, .distance = (reach < 3 ? reach : 3) + 1};
    const char *elsewhere = NULL;
    for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
        const struct kbs_config_key *key = &kbs_config_keys[i];
        if (strcmp(key->table, table) == 0) {
            offer(&n, key->name, strlen(key->name));
        } else if (strcmp(key->name, name) == 0) {
            elsewhere = key->table;
        }
    }
    offer_tables(&n, table);
    out[0] = '\0';
    if (n.name[0] != '\0') {
        snprintf(out, size, "; did you mean \"%s\"?", n.name);
    } else if (elsewhere != NULL) {
        snprintf(out, size, "; there is one in [%s]", elsewhere);
    }
    return out;
}
