/*
 * The readers of reference values.
 *
 * A CoMID names what it measures by environment and key, so its values get names of those parts, as
 * Trustee's extractor makes them: vendor/model/key/digests. Digests become lower-case hex, because
 * that is how claims show measurements. What a CoMID says beyond digests and raw values is counted
 * and left out, so that whoever imports it is told.
 *
 * Rejected: CoRIM in CBOR (its signature and profiles would have to be understood to be worth
 * anything) and SWID tags (XML). Both have tools that print the JSON form.
 */
#include "attest/reference.h"

#include <stdio.h>
#include <string.h>

#include "base/encoding.h"
#include "base/limits.h"
#include "base/terms.h"

#define DIGEST_MIN_BYTES 28 /* SHA-224 */
#define DIGEST_MAX_BYTES 64

static const struct {
    const char *name;
    enum kbs_reference_form form;
} forms[] = {
    {"digests", KBS_REFERENCE_LIST},
    {"comid", KBS_REFERENCE_COMID},
    {"message", KBS_REFERENCE_MESSAGE},
    {"values", KBS_REFERENCE_VALUES},
};

bool kbs_reference_form_from_name(const char *name, enum kbs_reference_form *ret)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(name, forms[i].name) == 0) {
            *ret = forms[i].form;
            return true;
        }
    }
    return false;
}

/* What every form must come to. */
static int values_check(json_t *values, struct kbs_error *err)
{
    const char *name = NULL;
    json_t *value = NULL;

    if (json_object_size(values) == 0) {
        return kbs_fail(err, KBS_INPUT, "there are no reference values in it");
    }
    json_object_foreach(values, name, value)
    {
        if (json_is_null(value)) {
            return kbs_fail(err, KBS_INPUT, "the reference value %.60s is null", name);
        }
    }
    return 0;
}

/* ---- Trustee's messages ---- */

int kbs_reference_message(const json_t *message, json_t **ret, struct kbs_error *err)
{
    static const char *const members[] = {"version", "type", "payload", NULL};
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_REFERENCES_BYTES);
    struct kbs_span version = KBS_SPAN_LIT("0.1.0");
    struct kbs_span type = KBS_SPAN_EMPTY;
    struct kbs_span encoded = KBS_SPAN_EMPTY;
    int rc = -1;

    if (kbs_json_only(message, members, err) != 0 ||
        (json_object_get(message, "version") != NULL &&
         kbs_json_get_string(message, "version", &version, err) != 0) ||
        kbs_json_get_string(message, "type", &type, err) != 0 ||
        kbs_json_get_string(message, "payload", &encoded, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(version, "0.1.0")) {
        return kbs_fail(err, KBS_INPUT, "'version' of the message must be 0.1.0");
    }
    if (!kbs_span_equal_str(type, "sample")) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "reference values come as type sample; for others see kbs-admin attest "
                        "reference import");
    }
    if (kbs_base64_get(&payload, encoded) == 0) {
        rc = kbs_json_parse_object(kbs_buf_span(&payload), "payload", ret, err);
    } else if (payload.failed) {
        rc = kbs_fail(err, KBS_TOO_LARGE, "a payload has at most %u bytes",
                      (unsigned int)KBS_LIMIT_REFERENCES_BYTES);
    } else {
        rc = kbs_fail(err, KBS_INPUT, "'payload' is not base64");
    }
    kbs_buf_deinit(&payload);
    return rc;
}

/* ---- digests ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The first word of a line; empty for a line that has none, or a comment. */
static struct kbs_span first_word(struct kbs_span line)
{
    size_t len = 0;

    while (line.len > 0 && is_blank(line.p[0])) {
        line = kbs_span_skip(line, 1);
    }
    if (line.len > 0 && line.p[0] == '#') {
        return KBS_SPAN_EMPTY;
    }
    while (len < line.len && !is_blank(line.p[len])) {
        len++;
    }
    return kbs_span(line.p, len);
}

/* The bytes of a digest as lower-case hex. Returns owned, NULL if they are none. */
static json_t *digest_string(struct kbs_span bytes)
{
    char hex[2 * DIGEST_MAX_BYTES + 1];

    if (bytes.len < DIGEST_MIN_BYTES || bytes.len > DIGEST_MAX_BYTES) {
        return NULL;
    }
    kbs_hex_cstr(bytes, hex, sizeof(hex));
    return json_string(hex);
}

/* Hex in either case. Returns owned, NULL if it is no digest. */
static json_t *digest_of_hex(struct kbs_span word)
{
    struct kbs_buf bytes = KBS_BUF(DIGEST_MAX_BYTES);
    char lower[2 * DIGEST_MAX_BYTES];
    json_t *digest = NULL;

    if (word.len > sizeof(lower)) {
        return NULL;
    }
    for (size_t i = 0; i < word.len; i++) {
        uint8_t c = word.p[i];

        lower[i] = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    }
    if (kbs_hex_get(&bytes, kbs_span(lower, word.len)) == 0) {
        digest = digest_string(kbs_buf_span(&bytes));
    }
    kbs_buf_deinit(&bytes);
    return digest;
}

/* What comes after the digest in a line is for people: sha384sum puts a file's name there. */
static int list_lines(struct kbs_span text, json_t *list, struct kbs_error *err)
{
    for (unsigned int line = 1; text.len > 0; line++) {
        const uint8_t *end = memchr(text.p, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.p) : text.len;
        struct kbs_span word = first_word(kbs_span(text.p, len));
        json_t *digest = word.len > 0 ? digest_of_hex(word) : NULL;

        if (word.len > 0 && json_array_append_new(list, digest) != 0) {
            return kbs_fail(err, KBS_INPUT, "line %u is not a digest in hex", line);
        }
        if (json_array_size(list) > KBS_REFERENCE_DIGESTS) {
            return kbs_fail(err, KBS_TOO_LARGE, "there are more than %d digests",
                            KBS_REFERENCE_DIGESTS);
        }
        text = kbs_span_skip(text, end != NULL ? len + 1 : len);
    }
    return json_array_size(list) > 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "there are no reference values in it");
}

static int list_read(struct kbs_span text, const char *as, json_t **ret, struct kbs_error *err)
{
    json_t *list = json_array();

    if (as == NULL) {
        json_decref(list);
        return kbs_fail(err, KBS_INPUT,
                        "a list of digests needs a name, such as "
                        "snp_launch_measurement");
    }
    *ret = json_pack("{s:o}", as, list);
    if (*ret == NULL) {
        return kbs_fail(err, KBS_INPUT, "the name is not UTF-8");
    }
    return list_lines(text, list, err);
}

/* ---- CoMID ---- */

struct comid {
    struct kbs_reference_import *import;
    json_t *values;
    struct kbs_buf name; /* of the measurement at hand */
};

/* Appends a part of a name, its other characters as '_'. An empty one is none. */
static void name_add(struct kbs_buf *name, const char *part)
{
    if (part == NULL || *part == '\0') {
        return;
    }
    kbs_buf_put_str(name, name->len > 0 ? "/" : "");
    for (const char *c = part; *c != '\0'; c++) {
        bool kept = kbs_key_segment_valid(kbs_span(c, 1)) || (c != part && *c == '.');

        kbs_buf_put_u8(name, kept ? (uint8_t)*c : '_');
    }
}

/* The key of a measurement: a text, or a number. */
static void name_add_key(struct kbs_buf *name, const json_t *key)
{
    const json_t *value = json_object_get(key, "value");
    char text[32];

    if (json_is_integer(value)) {
        (void)snprintf(text, sizeof(text), "claim%" JSON_INTEGER_FORMAT, json_integer_value(value));
        name_add(name, text);
    } else {
        name_add(name, json_string_value(value));
    }
}

/* Appends a value to the list of that name. Takes `value`. */
static int value_add(struct comid *c, const char *kind, json_t *value, struct kbs_error *err)
{
    size_t before = c->name.len;
    const char *name = NULL;
    json_t *list = NULL;
    int rc = 0;

    name_add(&c->name, kind);
    name = c->import->as != NULL ? c->import->as : kbs_buf_cstr(&c->name);
    if (name == NULL) {
        json_decref(value);
        return kbs_fail(err, KBS_INPUT, "a measurement's name is too long");
    }
    list = json_object_get(c->values, name);
    if (list == NULL) {
        list = json_array();
        rc = json_object_set_new(c->values, name, list);
    }
    if (rc != 0 || json_array_append_new(list, value) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    c->name.len = before;
    return 0;
}

/* "sha-384;<base64>", or with ':' as older tools write it. */
static int digest_add(struct comid *c, const char *text, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(DIGEST_MAX_BYTES);
    const char *separator = text != NULL ? strpbrk(text, ";:") : NULL;
    json_t *digest = NULL;

    if (separator != NULL && kbs_base64_get(&bytes, kbs_span_str(separator + 1)) == 0) {
        digest = digest_string(kbs_buf_span(&bytes));
    }
    kbs_buf_deinit(&bytes);
    if (digest == NULL) {
        return kbs_fail(err, KBS_INPUT, "a digest is not like \"sha-384;<base64>\"");
    }
    return value_add(c, "digests", digest, err);
}

static int digests_add(struct comid *c, const json_t *digests, struct kbs_error *err)
{
    const json_t *one = NULL;
    size_t i = 0;

    json_array_foreach(digests, i, one)
    {
        if (digest_add(c, json_string_value(one), err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* {"type":"bytes","value":"<base64>"} as hex. */
static int raw_add(struct comid *c, const json_t *raw, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES / 2);
    struct kbs_buf hex = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    const char *text = json_string_value(json_object_get(raw, "value"));
    json_t *value = NULL;

    if (text != NULL && kbs_base64_get(&bytes, kbs_span_str(text)) == 0) {
        kbs_hex_put(&hex, kbs_buf_span(&bytes));
        value = json_stringn((const char *)hex.p, hex.failed ? 0 : hex.len);
    }
    kbs_buf_deinit(&bytes);
    kbs_buf_deinit(&hex);
    if (value == NULL) {
        return kbs_fail(err, KBS_INPUT, "a raw value is not base64");
    }
    return value_add(c, "raw_bytes", value, err);
}

static int measurement_read(struct comid *c, const json_t *measurement, struct kbs_error *err)
{
    json_t *value = json_object_get(measurement, "value");
    size_t before = c->name.len;
    const char *name = NULL;
    json_t *member = NULL;
    int rc = 0;

    name_add_key(&c->name, json_object_get(measurement, "key"));
    name_add(&c->name, json_string_value(json_object_get(value, "name")));
    json_object_foreach(value, name, member)
    {
        if (strcmp(name, "digests") == 0) {
            rc = digests_add(c, member, err);
        } else if (strcmp(name, "raw-value") == 0) {
            rc = raw_add(c, member, err);
        } else if (strcmp(name, "name") != 0) {
            c->import->left_out++;
        }
        if (rc != 0) {
            return -1;
        }
    }
    c->name.len = before;
    return 0;
}

static int triple_read(struct comid *c, const json_t *triple, struct kbs_error *err)
{
    const json_t *class = json_object_get(json_object_get(triple, "environment"), "class");
    const json_t *measurements = json_object_get(triple, "measurements");
    const json_t *one = NULL;
    size_t i = 0;

    if (!json_is_array(measurements)) {
        return kbs_fail(err, KBS_INPUT, "a reference-values entry has no list \"measurements\"");
    }
    kbs_buf_clear(&c->name);
    name_add(&c->name, json_string_value(json_object_get(class, "vendor")));
    name_add(&c->name, json_string_value(json_object_get(class, "model")));
    json_array_foreach(measurements, i, one)
    {
        if (measurement_read(c, one, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int comid_read(const json_t *root, struct kbs_reference_import *import, json_t **ret,
                      struct kbs_error *err)
{
    const json_t *list = json_object_get(json_object_get(root, "triples"), "reference-values");
    struct comid c = {.import = import,
                      .values = json_object(),
                      .name = KBS_BUF(KBS_LIMIT_DOCUMENT_NAME_BYTES + 1)};
    const json_t *one = NULL;
    size_t i = 0;
    int rc = 0;

    *ret = c.values;
    if (!json_is_array(list)) {
        rc = kbs_fail(err, KBS_INPUT, "a CoMID has its values in triples/reference-values");
    }
    for (i = 0; rc == 0 && i < json_array_size(list); i++) {
        one = json_array_get(list, i);
        rc = triple_read(&c, one, err);
    }
    kbs_buf_deinit(&c.name);
    return rc;
}

/* ---- any of them ---- */

static enum kbs_reference_form form_of(const json_t *root)
{
    if (json_object_get(root, "triples") != NULL) {
        return KBS_REFERENCE_COMID;
    }
    return json_is_string(json_object_get(root, "payload")) &&
                   json_is_string(json_object_get(root, "type"))
               ? KBS_REFERENCE_MESSAGE
               : KBS_REFERENCE_VALUES;
}

static int json_read(struct kbs_span text, struct kbs_reference_import *import, json_t **ret,
                     struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    enum kbs_reference_form form = import->form;

    if (kbs_json_parse_object(text, "the file", &root, err) != 0) {
        return -1;
    }
    form = form != KBS_REFERENCE_ANY ? form : form_of(root);
    if (form == KBS_REFERENCE_COMID) {
        return comid_read(root, import, ret, err);
    }
    if (import->as != NULL) {
        return kbs_fail(err, KBS_INPUT, "these reference values have names of their own");
    }
    if (form == KBS_REFERENCE_MESSAGE) {
        return kbs_reference_message(root, ret, err);
    }
    *ret = json_incref(root);
    return 0;
}

/* The first byte tells texts from CBOR: tags 500 to 502, and maps, which CoRIMs begin with. */
static bool is_cbor(struct kbs_span text)
{
    return text.len > 0 && text.p[0] >= 0x80;
}

int kbs_reference_read(struct kbs_span text, struct kbs_reference_import *import, json_t **ret,
                       struct kbs_error *err)
{
    struct kbs_span begin = text;
    int rc = -1;

    *ret = NULL;
    import->left_out = 0;
    while (begin.len > 0 && (is_blank(begin.p[0]) || begin.p[0] == '\n')) {
        begin = kbs_span_skip(begin, 1);
    }
    if (is_cbor(begin)) {
        return kbs_fail(
            err, KBS_UNSUPPORTED,
            "CoRIM in CBOR is not read: import its CoMIDs as JSON (cocli corim extract)");
    }
    if (begin.len > 0 && begin.p[0] == '<') {
        return kbs_fail(err, KBS_UNSUPPORTED, "SWID tags (XML) are not read");
    }
    if (import->form == KBS_REFERENCE_LIST ||
        (import->form == KBS_REFERENCE_ANY && begin.len > 0 && begin.p[0] != '{')) {
        rc = list_read(text, import->as, ret, err);
    } else {
        rc = json_read(text, import, ret, err);
    }
    if (rc == 0) {
        rc = values_check(*ret, err);
    }
    if (rc != 0) {
        json_decref(*ret);
        *ret = NULL;
    }
    return rc;
}
