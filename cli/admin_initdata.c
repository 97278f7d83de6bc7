/*
 * kbs-admin initdata: makes a document that a guest is launched with, and tells what the TEEs' fields
 * then hold, for reference values and launch tools. Nothing here talks to a service.
 *
 * What goes in comes out: a file that a TOML literal string can hold is written as one, readable, and
 * any other text with escapes. Both read back as the same bytes.
 */
#include <stdio.h>

#include "attest/initdata.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"

#define INIT_DATA_MAX_BYTES KBS_LIMIT_HTTP_BODY_BYTES
#define ENTRIES_MAX 16

/* ---- make ----------------------------------------------------------------------------------- */

/* True if ''' on a line, the text, ''' reads back as the text: no ''' in it or before the end, and
 * no control characters but tab and line feed. */
static bool is_literal(struct kbs_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.p[i];

        if ((c < 0x20 && c != '\t' && c != '\n') ||
            (c == '\'' && (i + 1 == text.len || text.p[i + 1] == '\''))) {
            return false;
        }
    }
    return true;
}

/* One member of [data]: NAME=FILE. */
static int put_entry(struct kbs_buf *out, const char *entry, struct kbs_error *err)
{
    struct kbs_buf file = KBS_BUF(INIT_DATA_MAX_BYTES);
    const char *equals = strchr(entry, '=');
    int r = 0;

    if (equals == NULL || equals == entry) {
        return kbs_fail(err, KBS_INPUT, "%.100s: not of the form NAME=FILE", entry);
    }
    r = kbs_cli_read_file(equals + 1, &file, err);
    struct kbs_span text = kbs_buf_span(&file);
    if (r == 0 && (!kbs_utf8_valid(text) || (text.len > 0 && memchr(text.p, 0x7f, text.len)))) {
        r = kbs_fail(err, KBS_INPUT, "%.100s is not text", equals + 1);
    }
    if (r == 0) {
        kbs_json_string_put(out, kbs_span(entry, (size_t)(equals - entry)));
        kbs_buf_put_str(out, " = ");
        if (is_literal(text)) {
            kbs_buf_put_str(out, "'''\n");
            kbs_buf_put_span(out, text);
            kbs_buf_put_str(out, "'''");
        } else {
            kbs_json_string_put(out, text);
        }
        kbs_buf_put_str(out, "\n");
    }
    kbs_buf_deinit(&file);
    return r;
}

static int make(const char *algorithm, const char *const *entries, const char *to,
                struct kbs_error *err)
{
    struct kbs_buf out = KBS_BUF(INIT_DATA_MAX_BYTES);
    enum kbs_hash hash = KBS_HASH_NONE;
    struct kbs_digest digest;
    int r = 0;

    kbs_buf_printf(&out, "version = \"0.1.0\"\nalgorithm = \"%s\"\n\n[data]\n", algorithm);
    for (size_t i = 0; r == 0 && i < ENTRIES_MAX && entries[i] != NULL; i++) {
        r = put_entry(&out, entries[i], err);
    }
    if (r == 0) {
        r = kbs_buf_check(&out, "init-data", err);
    }
    /* Read as the verifier will read it. */
    if (r == 0) {
        r = kbs_init_data_digest(kbs_buf_span(&out), &hash, &digest, err);
    }
    if (r == 0) {
        r = kbs_cli_write_new(to, kbs_buf_span(&out), err);
    }
    kbs_buf_deinit(&out);
    return r;
}

int kbs_admin_cmd_initdata_make(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *entries[ENTRIES_MAX + 1] = {NULL};
    const char *algorithm = "sha384";
    const char *to = "-";
    const struct kbs_arg own[] = {
        {"algorithm", KBS_ARG_TEXT, &algorithm, "NAME", "sha256, sha384 (default) or sha512", 0, 0},
        {"out", KBS_ARG_TEXT, &to, "FILE", "a new file (default: standard output)", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin initdata make NAME=FILE... [--algorithm NAME] [--out FILE]",
        .about = "Make an init-data document (TOML, 0.1.0) of files, such as aa.toml=FILE,\n"
                 "cdh.toml=FILE and policy.rego=FILE.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = ENTRIES_MAX,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, entries);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    return kbs_cli_end(make(algorithm, entries, to, &err), &err);
}

/* ---- digest --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t bytes;
} fields[] = {
    {"snp host_data", 32},
    {"tdx mrconfigid", 48},
    {"sgx configid", 64},
    {"cca rpv", 64},
};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

/* What PCR 8 holds after the digest was extended into it: SHA-256(zeros || digest). */
static void pcr8(const struct kbs_digest *digest, struct kbs_digest *ret)
{
    static const uint8_t zeros[KBS_SHA256_BYTES];
    const struct kbs_span parts[] = {kbs_span(zeros, sizeof(zeros)), kbs_digest_span(digest)};

    kbs_digest(KBS_HASH_SHA256, parts, 2, ret);
}

static json_t *hex(struct kbs_span bytes)
{
    char text[2 * KBS_DIGEST_MAX_BYTES + 1];

    kbs_hex_cstr(bytes, text, sizeof(text));
    return json_string(text);
}

/* Every line as a member, in order. Returns owned, NULL if out of memory. */
static json_t *lines_of(enum kbs_hash hash, const struct kbs_digest *digest)
{
    json_t *lines = json_pack("{s:s, s:o}", "algorithm", kbs_hash_name(hash), "digest",
                              hex(kbs_digest_span(digest)));

    for (size_t i = 0; i < FIELDS; i++) {
        uint8_t field[KBS_DIGEST_MAX_BYTES];

        kbs_init_data_fit(kbs_digest_span(digest), field, fields[i].bytes);
        (void)json_object_set_new(lines, fields[i].name, hex(kbs_span(field, fields[i].bytes)));
    }
    if (hash == KBS_HASH_SHA256) {
        struct kbs_digest extended;

        pcr8(digest, &extended);
        (void)json_object_set_new(lines, "vtpm pcr8", hex(kbs_digest_span(&extended)));
    }
    return lines;
}

static int digest_show(const char *path, bool json, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(INIT_DATA_MAX_BYTES);
    enum kbs_hash hash = KBS_HASH_NONE;
    struct kbs_digest digest;
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = kbs_init_data_digest(kbs_buf_span(&text), &hash, &digest, err);
    }
    kbs_buf_deinit(&text);
    if (r != 0) {
        return -1;
    }
    json_t *lines = lines_of(hash, &digest);
    if (json || lines == NULL) {
        return kbs_cli_json(lines, err);
    }
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(lines, name, value)
    {
        kbs_cli_field(name, "%s", json_string_value(value));
    }
    json_decref(lines);
    return 0;
}

int kbs_admin_cmd_initdata_digest(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *path = NULL;
    const struct kbs_args args = {
        .synopsis = "kbs-admin initdata digest FILE [options]",
        .about = "Print the digest of an init-data document by its own algorithm, and what the\n"
                 "fields of the TEEs hold of it.",
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    return kbs_cli_end(digest_show(path, o->json, &err), &err);
}
