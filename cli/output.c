/*
 * Output that survives being piped: values without decoration, columns by spaces, nothing but the
 * result on standard output, and a failure to write it is a failure of the command. Outside text
 * passes put_text(): details and names come from a server that may lie, and a terminal obeys escape
 * sequences. C0 and C1 controls are replaced; other UTF-8 is left alone.
 */
#include "cli/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/encoding.h"
#include "cli/status.h"

#define LABEL_COLUMNS 18
#define TABLE_COLUMNS_MAX 16

static void put_text(FILE *f, struct kbs_span s)
{
    bool utf8 = kbs_utf8_valid(s);

    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.p[i];
        bool c1 = utf8 && c == 0xc2 && i + 1 < s.len && s.p[i + 1] < 0xa0;
        if (c < 0x20 || c == 0x7f || c1 || (c >= 0x80 && !utf8)) {
            (void)fputc('?', f);
            i += c1 ? 1 : 0;
        } else {
            (void)fputc(c, f);
        }
    }
}

static void put_formatted(FILE *f, const char *format, va_list args) KBS_PRINTF(2, 0);
static void put_formatted(FILE *f, const char *format, va_list args)
{
    char text[1024];
    int n = vsnprintf(text, sizeof(text), format, args);

    if (n > 0) {
        put_text(f, kbs_span_str(text));
    }
}

void kbs_cli_say(const char *format, ...)
{
    va_list args;

    (void)fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    put_formatted(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

int kbs_cli_fail(const struct kbs_error *err)
{
    if (err->origin == KBS_ORIGIN_ERRNO) {
        kbs_cli_say("%s: %s", err->detail, strerror((int)err->native));
    } else {
        kbs_cli_say("%s", err->detail);
    }
    return kbs_cli_status(err);
}

void kbs_cli_field(const char *label, const char *format, ...)
{
    va_list args;

    (void)printf("%-*s", LABEL_COLUMNS, label);
    va_start(args, format);
    put_formatted(stdout, format, args);
    va_end(args);
    (void)putchar('\n');
}

void kbs_cli_field_text(const char *label, struct kbs_span value)
{
    (void)printf("%-*s", LABEL_COLUMNS, label);
    put_text(stdout, value);
    (void)putchar('\n');
}

void kbs_cli_line(struct kbs_span value)
{
    put_text(stdout, value);
    (void)putchar('\n');
}

void kbs_cli_field_kcv(const char *label, const uint8_t kcv[4])
{
    kbs_cli_field(label, "%02x%02x%02x%02x", (unsigned int)kcv[0], (unsigned int)kcv[1],
                  (unsigned int)kcv[2], (unsigned int)kcv[3]);
}

/* Escaped to ASCII, so that nothing in it reaches the terminal raw. */
static int put_json(const json_t *value, struct kbs_error *err)
{
    if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_ENSURE_ASCII) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "cannot write the result");
    }
    (void)putchar('\n');
    return 0;
}

int kbs_cli_field_json(const char *label, const json_t *value, struct kbs_error *err)
{
    (void)printf("%s\n", label);
    return put_json(value, err);
}

int kbs_cli_json(json_t *value, struct kbs_error *err)
{
    if (value == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    int r = put_json(value, err);
    json_decref(value);
    return r;
}

void kbs_cli_table(const struct kbs_span *cells, size_t rows, size_t columns)
{
    size_t width[TABLE_COLUMNS_MAX] = {0};

    for (size_t i = 0; i < rows * columns; i++) {
        size_t *w = &width[i % columns % TABLE_COLUMNS_MAX];
        *w = cells[i].len > *w ? cells[i].len : *w;
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            struct kbs_span cell = cells[r * columns + c];
            put_text(stdout, cell);
            if (c + 1 < columns) {
                (void)printf("%*s", (int)(width[c % TABLE_COLUMNS_MAX] - cell.len + 2), "");
            }
        }
        (void)putchar('\n');
    }
}

int kbs_cli_flush(struct kbs_error *err)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "cannot write the result");
    }
    return 0;
}

int kbs_cli_end(int rc, struct kbs_error *err)
{
    return rc != 0 || kbs_cli_flush(err) != 0 ? kbs_cli_fail(err) : KBS_CLI_OK;
}
