/*
 * memscan PID: looks for byte strings in every readable mapping of a process. Standard input has a
 * line per needle, `name hex`, at least 8 bytes each; each name found is printed, then "scanned N"
 * bytes. Thousands of needles over hundreds of megabytes are why this is C: the first 8 bytes of
 * each needle are looked up at every offset.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS (1u << 20)
#define NEEDLE_MAX 512
#define CHUNK (1u << 22)

struct needle {
    struct needle *next;
    char name[64];
    size_t len;
    bool found;
    uint8_t bytes[NEEDLE_MAX];
};

static uint64_t prefix_of(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static size_t slot_of(uint64_t prefix)
{
    return (size_t)((prefix * UINT64_C(0x9e3779b97f4a7c15)) >> 44) & (SLOTS - 1);
}

static bool add(struct needle **table, const char *name, const char *hex)
{
    struct needle *n = calloc(1, sizeof(*n));
    unsigned int byte;

    if (n == NULL) {
        return false;
    }
    (void)snprintf(n->name, sizeof(n->name), "%s", name);
    for (; n->len < NEEDLE_MAX && sscanf(hex + 2 * n->len, "%2x", &byte) == 1; n->len++) {
        n->bytes[n->len] = (uint8_t)byte;
    }
    if (n->len < 8 || n->len * 2 != strlen(hex)) {
        free(n);
        return false;
    }
    n->next = table[slot_of(prefix_of(n->bytes))];
    table[slot_of(prefix_of(n->bytes))] = n;
    return true;
}

static void scan(struct needle **table, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 8 <= len; i++) {
        for (struct needle *n = table[slot_of(prefix_of(p + i))]; n != NULL; n = n->next) {
            if (!n->found && n->len <= len - i && memcmp(p + i, n->bytes, n->len) == 0) {
                n->found = true;
                (void)printf("found %s\n", n->name);
            }
        }
    }
}

/* Chunks overlap by the longest needle. Pages that cannot be read (I/O mappings) are passed over.
 */
static uint64_t scan_mapping(struct needle **table, int memory, uint64_t at, uint64_t end,
                             uint8_t *buf)
{
    uint64_t scanned = 0;
    size_t kept = 0; /* bytes of the previous chunk at the front of buf */

    while (at < end) {
        size_t want = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        ssize_t n = pread(memory, buf + kept, want, (off_t)at);
        size_t have;

        if (n <= 0) {
            break;
        }
        have = kept + (size_t)n;
        scan(table, buf, have);
        scanned += (uint64_t)n;
        at += (uint64_t)n;
        kept = have < NEEDLE_MAX ? have : NEEDLE_MAX;
        memmove(buf, buf + have - kept, kept);
    }
    return scanned;
}

int main(int argc, char **argv)
{
    struct needle **table = calloc(SLOTS, sizeof(*table));
    uint8_t *buf = malloc(CHUNK + NEEDLE_MAX);
    char line[2 * NEEDLE_MAX + 128];
    char name[64];
    char hex[2 * NEEDLE_MAX + 2];
    char path[64];
    uint64_t scanned = 0;
    FILE *maps;
    int memory;

    if (argc != 2 || table == NULL || buf == NULL) {
        return 2;
    }
    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (sscanf(line, "%63s %1025s", name, hex) != 2 || !add(table, name, hex)) {
            (void)fprintf(stderr, "memscan: bad needle\n");
            return 2;
        }
    }
    (void)snprintf(path, sizeof(path), "/proc/%s/maps", argv[1]);
    maps = fopen(path, "re");
    (void)snprintf(path, sizeof(path), "/proc/%s/mem", argv[1]);
    memory = open(path, O_RDONLY | O_CLOEXEC);
    if (maps == NULL || memory < 0) {
        perror("memscan");
        return 2;
    }
    while (fgets(line, sizeof(line), maps) != NULL) {
        uint64_t from;
        uint64_t to;
        char readable;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c", &from, &to, &readable) == 3 &&
            readable == 'r') {
            scanned += scan_mapping(table, memory, from, to, buf);
        }
    }
    (void)printf("scanned %" PRIu64 "\n", scanned);
    (void)fclose(maps);
    (void)close(memory);
    return 0;
}
