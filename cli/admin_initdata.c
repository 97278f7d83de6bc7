/*
 * kbs-admin initdata: makes a document that a guest is launched with, and tells what the TEEs' fields
 * then hold, for reference values and launch tools. Nothing here talks to a service.
 *
 * `make` also writes the guest's own configuration (guest_config.h), of which the pins are the part that
 * nobody should have to type.
 *
 * What goes in comes out: a file that a TOML literal string can hold is written as one, readable, and
 * any other text with escapes. Both read back as the same bytes.
 */
#include <stdio.h>

#include "attest/initdata.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/guest_config.h"
#include "cli/output.h"
#include "cli/status.h"
#include "cli/tls.h"

#define INIT_DATA_MAX_BYTES KBS_LIMIT_HTTP_BODY_BYTES
#define ENTRIES_MAX 16

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

static int digest_print(struct kbs_span text, bool json, struct kbs_error *err)
{
    enum kbs_hash hash = KBS_HASH_NONE;
    struct kbs_digest digest;

    if (kbs_init_data_digest(text, &hash, &digest, err) != 0) {
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

static int digest_show(const char *path, bool json, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(INIT_DATA_MAX_BYTES);
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = digest_print(kbs_buf_span(&text), json, err);
    }
    kbs_buf_deinit(&text);
    return r;
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

/* One member of [data]. */
static void put_member(struct kbs_buf *out, struct kbs_span name, struct kbs_span text)
{
    kbs_json_string_put(out, name);
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

/* NAME=FILE. */
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
        put_member(out, kbs_span(entry, (size_t)(equals - entry)), text);
    }
    kbs_buf_deinit(&file);
    return r;
}

/* What is to be made, as typed. */
struct make {
    const char *entries[ENTRIES_MAX + 1];
    const char *algorithm;
    const char *to;
    const char *url;
    const char *tls_pin;
    const char *tls_cert; /* a file to compute the pin of */
    const char *receipt_key;
    bool json;
};

/* Of a file's first certificate. */
static int pin_of(const char *file, char ret[KBS_TLS_PIN_BYTES], struct kbs_error *err)
{
    struct kbs_tls_chain chain = {.n = 0};
    int r = kbs_tls_chain_read(file, &chain, err);

    if (r == 0) {
        r = kbs_tls_pin(X509_get_X509_PUBKEY(chain.v[0]), ret, err);
    }
    kbs_tls_chain_deinit(&chain);
    return r;
}

static int config_of(const struct make *m, struct kbs_guest_config *ret, struct kbs_error *err)
{
    char pin[KBS_TLS_PIN_BYTES];
    const char *wanted = m->tls_pin != NULL ? m->tls_pin : "";
    int r = 0;

    *ret = (struct kbs_guest_config){.url = "", .has_receipt_key = m->receipt_key != NULL};
    if (m->tls_cert != NULL) {
        r = pin_of(m->tls_cert, pin, err);
        wanted = pin;
    }
    if (r == 0 && (!kbs_span_to_cstr(kbs_span_str(wanted), ret->tls_pin, sizeof(ret->tls_pin)) ||
                   !kbs_span_to_cstr(kbs_span_str(m->url), ret->url, sizeof(ret->url)))) {
        r = kbs_fail(err, KBS_INPUT, "the URL or the pin is too long");
    }
    if (r == 0 && m->receipt_key != NULL) {
        r = kbs_admin_pinned_key(m->receipt_key, &ret->receipt_key, err);
    }
    return r;
}

static bool wants_config(const struct make *m)
{
    return m->url != NULL || m->tls_pin != NULL || m->tls_cert != NULL || m->receipt_key != NULL;
}

static int put_config(const struct make *m, struct kbs_buf *out, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_GUEST_CONFIG_MAX_BYTES);
    struct kbs_guest_config config;
    int r = wants_config(m) ? config_of(m, &config, err) : 0;

    if (r == 0 && wants_config(m)) {
        r = kbs_guest_config_put(&config, &text, err);
        put_member(out, KBS_SPAN_LIT(KBS_GUEST_CONFIG_NAME), kbs_buf_span(&text));
    }
    kbs_buf_deinit(&text);
    return r;
}

static int make(const struct make *m, struct kbs_error *err)
{
    struct kbs_buf out = KBS_BUF(INIT_DATA_MAX_BYTES);
    struct kbs_guest_config again;
    enum kbs_hash hash = KBS_HASH_NONE;
    struct kbs_digest digest;
    int r = 0;

    kbs_buf_printf(&out, "version = \"0.1.0\"\nalgorithm = \"%s\"\n\n[data]\n", m->algorithm);
    r = put_config(m, &out, err);
    for (size_t i = 0; r == 0 && i < ENTRIES_MAX && m->entries[i] != NULL; i++) {
        r = put_entry(&out, m->entries[i], err);
    }
    if (r == 0) {
        r = kbs_buf_check(&out, "init-data", err);
    }
    /* Read as the verifier and, if there is something for it, the guest will read it. */
    if (r == 0) {
        r = kbs_init_data_digest(kbs_buf_span(&out), &hash, &digest, err);
    }
    if (r == 0 && wants_config(m)) {
        r = kbs_guest_config_read(kbs_buf_span(&out), &again, err);
    }
    if (r == 0) {
        r = kbs_cli_write_new(m->to, kbs_buf_span(&out), err);
    }
    if (r == 0 && strcmp(m->to, "-") != 0) {
        r = digest_print(kbs_buf_span(&out), m->json, err);
    }
    kbs_buf_deinit(&out);
    return r;
}

int kbs_admin_cmd_initdata_make(struct kbs_admin_options *o, int argc, char **argv)
{
    struct make m = {.algorithm = "sha384", .to = "-"};
    const struct kbs_arg own[] = {
        {"algorithm", KBS_ARG_TEXT, &m.algorithm, "NAME", "sha256, sha384 (default) or sha512", 0,
         0},
        {"out", KBS_ARG_TEXT, &m.to, "FILE", "a new file (default: standard output)", 0, 0},
        {"kbs-url", KBS_ARG_TEXT, &m.url, "URL", "the guest's service, into " KBS_GUEST_CONFIG_NAME,
         0, 0},
        {"tls-pin", KBS_ARG_TEXT, &m.tls_pin, "PIN", "its TLS key: sha256//BASE64", 0, 0},
        {"tls-cert", KBS_ARG_TEXT, &m.tls_cert, "PEM", "the same, of this certificate", 0, 0},
        {"receipt-key", KBS_ARG_TEXT, &m.receipt_key, "PEM", "its receipt key", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin initdata make [NAME=FILE...] [--kbs-url URL] [--tls-pin PIN]\n"
                    "    [--receipt-key PEM] [--algorithm NAME] [--out FILE]",
        .about =
            "Make an init-data document (TOML, 0.1.0) of files, such as aa.toml=FILE,\n"
            "cdh.toml=FILE and policy.rego=FILE, and of what kbs-guest is to trust. With --out\n"
            "its digest is printed, as by `initdata digest`.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 0,
        .positionals_max = ENTRIES_MAX,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, m.entries);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if ((m.entries[0] == NULL && !wants_config(&m)) || (m.tls_pin != NULL && m.tls_cert != NULL)) {
        return kbs_args_usage(&args, m.tls_pin != NULL && m.tls_cert != NULL
                                         ? "--tls-pin and --tls-cert exclude each other"
                                         : "there is nothing to put into it");
    }
    m.json = o->json;
    return kbs_cli_end(make(&m, &err), &err);
}
