/*
 * A main() for fuzz targets without libFuzzer.
 *
 * The problem: inputs that once crashed a parser must be tried again in every test run, with any
 * compiler, while libFuzzer exists in clang only. The approach: run the target's one function
 * over every file named on the command line, directories included, in name order, and say how
 * many there were. Running none is a failure: a corpus that was moved would otherwise pass for
 * ever. Each input gets a heap block of exactly its size, so that AddressSanitizer sees a read
 * one byte past the end.
 *
 * A crash, a sanitizer's finding or a failed assertion ends the process; the input's name is
 * printed first.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a fuzz target defines. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

/* Larger than any input a target accepts. */
#define REPLAY_MAX_BYTES (16u * 1024 * 1024)

static int replay_file(const char *path, size_t size, unsigned *count)
{
    if (size > REPLAY_MAX_BYTES) {
        fprintf(stderr, "%s: %zu bytes is too large for an input\n", path, size);
        return -1;
    }
    uint8_t *data = malloc(size); /* of size 0: NULL or a block, either will do */
    FILE *file = fopen(path, "rb");
    int result = -1;

    if (file == NULL || (data == NULL && size != 0) || fread(data, 1, size, file) != size) {
        fprintf(stderr, "%s: cannot be read: %s\n", path, strerror(errno));
    } else {
        printf("%s (%zu bytes)\n", path, size);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, size);
        (*count)++;
        result = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    free(data);
    return result;
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_path(const char *path, unsigned *count);

static int replay_directory(const char *path, unsigned *count)
{
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, visible, alphasort);
    int result = 0;

    if (n < 0) {
        fprintf(stderr, "%s: cannot be listed: %s\n", path, strerror(errno));
        return -1;
    }
    for (int i = 0; i < n; i++) {
        char *child = NULL;

        if (asprintf(&child, "%s/%s", path, entries[i]->d_name) < 0) {
            child = NULL;
        }
        if (child == NULL || replay_path(child, count) != 0) {
            result = -1;
        }
        free(child);
        free(entries[i]);
    }
    free(entries);
    return result;
}

static int replay_path(const char *path, unsigned *count)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    if (S_ISDIR(status.st_mode)) {
        return replay_directory(path, count);
    }
    return replay_file(path, (size_t)status.st_size, count);
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    int result = 0;

    if (LLVMFuzzerInitialize != NULL) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    for (int i = 1; i < argc; i++) {
        if (replay_path(argv[i], &count) != 0) {
            result = -1;
        }
    }
    printf("ran %u inputs\n", count);
    if (count == 0) {
        fprintf(stderr, "usage: %s file|directory ... (at least one input)\n", argv[0]);
        return EXIT_FAILURE;
    }
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
