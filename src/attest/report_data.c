/*
 * One function per shape of evidence, one row per kind. JSON members are read as the kind's verifier
 * in Trustee reads them, since that is who may verify what is compared here: where its reader would
 * take the first shape that fits, evidence that could be read in two ways is refused, and lists must
 * agree in all their elements.
 *
 * The row says how a digest fills the field. A field shorter than the digest holds its front, and no
 * kind has one of less than 32 bytes.
 */
#include "attest/report_data.h"

#include "attest/quote.h"
#include "base/encoding.h"
#include "base/limits.h"
#include "cose/read/cca.h"

#define FIELD_BYTES 64
#define SNP_REPORT_BYTES 1184
#define SNP_REPORT_DATA_AT 0x50
#define CSV_REPORT_BYTES 4096
#define CSV_REPORT_DATA_AT 64
#define CSV_ANONCE_AT 188
#define CSV_MAGIC_BYTES 16
#define CSV_EXTENDED "ATTESTATION_EXT" /* and a zero */

static int malformed(const char *what, struct kbs_error *err)
{
    return kbs_fail(err, KBS_INPUT, "evidence: %s", what);
}

static struct kbs_span text_of(const json_t *v)
{
    return kbs_span(json_string_value(v), json_string_length(v));
}

/* Exactly `len` numbers of a byte each. */
static int numbers(const json_t *array, size_t len, struct kbs_buf *ret, const char *what,
                   struct kbs_error *err)
{
    size_t before = ret->len;

    if (kbs_json_bytes_get(array, ret) != 0 || ret->len - before != len) {
        return kbs_fail(err, KBS_INPUT, "evidence: \"%s\" is not an array of %zu bytes", what, len);
    }
    return 0;
}

/* A string member in standard base64. */
static int base64_member(const json_t *object, const char *name, struct kbs_buf *ret,
                         struct kbs_error *err)
{
    const json_t *v = json_object_get(object, name);

    if (!json_is_string(v) || kbs_base64_get(ret, text_of(v)) != 0) {
        return kbs_fail(err, KBS_INPUT, "evidence: \"%s\" is not base64", name);
    }
    return 0;
}

static int sample_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return base64_member(evidence, "report_data", ret, err);
}

/* COCONUT-SVSM's shape has the report itself, CoCo's has it as JSON. */
static bool is_svsm(const json_t *evidence)
{
    return json_object_get(evidence, "snp-report") != NULL;
}

static int snp_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf report = KBS_BUF(SNP_REPORT_BYTES);
    const json_t *raw = json_object_get(evidence, "snp-report");
    const json_t *coco = json_object_get(evidence, "attestation_report");
    int r = 0;

    if ((raw != NULL) == (coco != NULL)) {
        return malformed("neither CoCo's SNP report nor COCONUT-SVSM's, or both", err);
    }
    if (coco != NULL) {
        return numbers(json_object_get(coco, "report_data"), FIELD_BYTES, ret, "report_data", err);
    }
    r = json_is_string(raw) ? kbs_base64_get(&report, text_of(raw))
                            : kbs_json_bytes_get(raw, &report);
    if (r != 0 || report.len != SNP_REPORT_BYTES) {
        r = malformed("\"snp-report\" is not 1184 bytes", err);
    } else {
        kbs_buf_put(ret, report.p + SNP_REPORT_DATA_AT, FIELD_BYTES);
    }
    kbs_buf_deinit(&report);
    return r;
}

/* What a function of quote.h finds in `bytes`. */
static int put_found(int (*find)(struct kbs_span, struct kbs_span *, struct kbs_error *),
                     const struct kbs_buf *bytes, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_span field;

    if (find(kbs_buf_span(bytes), &field, err) != 0) {
        return -1;
    }
    kbs_buf_put_span(ret, field);
    return 0;
}

static int intel_find(int (*find)(struct kbs_span, struct kbs_span *, struct kbs_error *),
                      const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf quote = KBS_BUF(KBS_LIMIT_HTTP_BODY_BYTES);
    int r = base64_member(evidence, "quote", &quote, err);

    if (r == 0) {
        r = put_found(find, &quote, ret, err);
    }
    kbs_buf_deinit(&quote);
    return r;
}

static int tdx_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return intel_find(kbs_quote_tdx, evidence, ret, err);
}

static int sgx_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return intel_find(kbs_quote_sgx, evidence, ret, err);
}

/*
 * Azure: without "version", the quote's bytes as arrays of numbers; with version 1 or 2, as hex. The
 * first shape of SNP calls it "quote", all others "tpm_quote".
 */
static int azure_find(const json_t *evidence, const char *first_name, struct kbs_buf *ret,
                      struct kbs_error *err)
{
    const json_t *version = json_object_get(evidence, "version");
    const json_t *quote = json_object_get(evidence, version != NULL ? "tpm_quote" : first_name);
    const json_t *other = json_object_get(evidence, version != NULL ? "quote" : "tpm_quote");
    const json_t *message = json_object_get(quote, "message");
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    int r = -1;

    if (other != NULL && other != quote) {
        return malformed("two TPM quotes", err);
    }
    if (version == NULL) {
        r = kbs_json_bytes_get(message, &bytes);
    } else if (json_integer_value(version) == 1 || json_integer_value(version) == 2) {
        r = json_is_string(message) ? kbs_hex_get(&bytes, text_of(message)) : -1;
    }
    r = r == 0 ? put_found(kbs_quote_tpm, &bytes, ret, err)
               : malformed("no TPM quote with a message in the shape of its version", err);
    kbs_buf_deinit(&bytes);
    return r;
}

static int az_snp_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return azure_find(evidence, "quote", ret, err);
}

static int az_tdx_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return azure_find(evidence, "tpm_quote", ret, err);
}

static int tpm_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    int r = base64_member(json_object_get(evidence, "tpm_quote"), "message", &bytes, err);

    if (r == 0) {
        r = put_found(kbs_quote_tpm, &bytes, ret, err);
    }
    kbs_buf_deinit(&bytes);
    if (r == 0 && (ret->len < KBS_QUOTE_NONCE_BYTES || ret->len > FIELD_BYTES)) {
        r = malformed("the TPM's quote has not 32 to 64 bytes of extraData", err);
    }
    return r;
}

/* {"token": [numbers]}; older attesters send it as the text of that. */
static int cca_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf token = KBS_BUF(KBS_LIMIT_HTTP_BODY_BYTES);
    struct kbs_span challenge;
    KBS_AUTO_JSON inner = NULL;
    int r = 0;

    if (json_is_string(evidence)) {
        if (kbs_json_parse_object(text_of(evidence), "CCA evidence", &inner, err) != 0) {
            return -1;
        }
        evidence = inner;
    }
    if (kbs_json_bytes_get(json_object_get(evidence, "token"), &token) != 0) {
        r = malformed("\"token\" is not an array of bytes", err);
    } else if (kbs_cose_cca_challenge(kbs_buf_span(&token), &challenge, err) != 0) {
        r = -1;
    } else {
        kbs_buf_put_span(ret, challenge);
    }
    kbs_buf_deinit(&token);
    return r;
}

/* Hygon's older reports are masked with a number of the firmware's, which stands beside. */
static void csv_unmask(struct kbs_buf *field, uint32_t anonce)
{
    for (size_t i = 0; i < field->len; i++) {
        field->p[i] ^= (uint8_t)(anonce >> (8 * (i % 4)));
    }
}

/* Since firmware 1.4 a report of 4096 bytes, in one of two layouts that share their beginning. */
static int csv_find_wrapped(const json_t *wrapper, struct kbs_buf *ret, struct kbs_error *err)
{
    static const uint8_t none[CSV_MAGIC_BYTES];
    struct kbs_buf report = KBS_BUF(CSV_REPORT_BYTES);
    struct kbs_buf magic = KBS_BUF(CSV_MAGIC_BYTES);
    const json_t *flags = json_object_get(wrapper, "flags");
    bool extended;
    bool known;
    int r = -1;

    if (numbers(json_object_get(wrapper, "magic"), CSV_MAGIC_BYTES, &magic, "magic", err) == 0 &&
        numbers(json_object_get(wrapper, "data"), CSV_REPORT_BYTES, &report, "data", err) == 0) {
        extended = memcmp(magic.p, CSV_EXTENDED, CSV_MAGIC_BYTES) == 0;
        known = memcmp(magic.p, none, CSV_MAGIC_BYTES) == 0 ||
                (extended && (json_integer_value(flags) == 0 || json_integer_value(flags) == 1));
        if (!json_is_integer(flags) || !known) {
            r = malformed("a CSV report of a kind that is not known", err);
        } else {
            struct kbs_reader anonce =
                kbs_reader(kbs_span_skip(kbs_buf_span(&report), CSV_ANONCE_AT));

            kbs_buf_put(ret, report.p + CSV_REPORT_DATA_AT, FIELD_BYTES);
            if (!extended || json_integer_value(flags) == 0) {
                csv_unmask(ret, kbs_read_le32(&anonce));
            }
            r = 0;
        }
    }
    kbs_buf_deinit(&magic);
    kbs_buf_deinit(&report);
    return r;
}

static int csv_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    const json_t *report = json_object_get(evidence, "attestation_report");
    const json_t *body = json_object_get(report, "body");
    const json_t *anonce = json_object_get(report, "anonce");

    if ((body != NULL) == (json_object_get(report, "magic") != NULL)) {
        return malformed("neither of the shapes of a CSV report, or both", err);
    }
    if (body == NULL) {
        return csv_find_wrapped(report, ret, err);
    }
    if (!json_is_integer(anonce) || json_integer_value(anonce) < 0 ||
        json_integer_value(anonce) > UINT32_MAX) {
        return malformed("\"anonce\" is not a number of 4 bytes", err);
    }
    if (numbers(json_object_get(body, "report_data"), FIELD_BYTES, ret, "report_data", err) != 0) {
        return -1;
    }
    csv_unmask(ret, (uint32_t)json_integer_value(anonce));
    return 0;
}

static bool is_hex(struct kbs_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)(text.p[i] | 0x20);

        if (!((text.p[i] >= '0' && text.p[i] <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return text.len % 2 == 0;
}

/* A device's report is base64, of older attesters hex: what can be read as hex is. */
static int nvidia_find_one(const json_t *device, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_DEVICE_EVIDENCE_BYTES);
    const json_t *report = json_object_get(device, "evidence");
    struct kbs_span text = text_of(report);
    int r = -1;

    if (json_is_string(report)) {
        r = is_hex(text) ? kbs_hex_get(&bytes, text) : kbs_base64_get(&bytes, text);
    }
    r = r == 0 ? put_found(kbs_quote_spdm, &bytes, ret, err)
               : malformed("a device's report is neither base64 nor lower-case hex", err);
    kbs_buf_deinit(&bytes);
    return r;
}

static int dcu_find_one(const json_t *report, struct kbs_buf *ret, struct kbs_error *err)
{
    const json_t *body = json_object_get(report, "body");

    return numbers(json_object_get(body, "user_data"), FIELD_BYTES, ret, "user_data", err);
}

/* Devices that are attested together: there is one at least, and all have the same field. */
static int list_find(int (*find_one)(const json_t *, struct kbs_buf *, struct kbs_error *),
                     const json_t *list, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf next = KBS_BUF(FIELD_BYTES);
    int r = 0;

    if (!json_is_array(list) || json_array_size(list) == 0) {
        return malformed("no list of devices' reports", err);
    }
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        kbs_buf_clear(&next);
        r = find_one(json_array_get(list, i), &next, err);
        if (r == 0 && i == 0) {
            kbs_buf_put_span(ret, kbs_buf_span(&next));
        } else if (r == 0 && !kbs_span_equal(kbs_buf_span(ret), kbs_buf_span(&next))) {
            r = malformed("devices' reports with different report data", err);
        }
    }
    kbs_buf_deinit(&next);
    return r;
}

static int nvidia_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return list_find(nvidia_find_one, json_object_get(evidence, "device_evidence_list"), ret, err);
}

static int dcu_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    return list_find(dcu_find_one, json_object_get(evidence, "attestation_reports"), ret, err);
}

/* IBM Secure Execution: the front of user data, which may be longer. */
static int se_find(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf user_data = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    int r = base64_member(evidence, "user_data", &user_data, err);

    if (r == 0 && user_data.len < FIELD_BYTES) {
        r = malformed("\"user_data\" is shorter than 64 bytes", err);
    } else if (r == 0) {
        kbs_buf_put(ret, user_data.p, FIELD_BYTES);
    }
    kbs_buf_deinit(&user_data);
    return r;
}

/* How a digest fills the field. */
enum fill {
    EXACT,  /* it is the field */
    ZEROED, /* zeros follow it */
    CUT     /* the same, or only its front is there */
};

static const struct {
    int (*find)(const json_t *evidence, struct kbs_buf *ret, struct kbs_error *err);
    enum fill fill;
} kinds[KBS_TEE_COUNT] = {
    [KBS_TEE_SAMPLE] = {sample_find, EXACT},
    [KBS_TEE_SAMPLEDEVICE] = {sample_find, EXACT},
    [KBS_TEE_AZ_SNP_VTPM] = {az_snp_find, EXACT},
    [KBS_TEE_AZ_TDX_VTPM] = {az_tdx_find, EXACT},
    [KBS_TEE_CCA] = {cca_find, ZEROED},
    [KBS_TEE_CSV] = {csv_find, ZEROED},
    [KBS_TEE_HYGONDCU] = {dcu_find, ZEROED},
    [KBS_TEE_NVIDIA] = {nvidia_find, CUT},
    [KBS_TEE_SE] = {se_find, ZEROED},
    [KBS_TEE_SGX] = {sgx_find, ZEROED},
    [KBS_TEE_SNP] = {snp_find, ZEROED},
    [KBS_TEE_TDX] = {tdx_find, ZEROED},
    [KBS_TEE_TPM] = {tpm_find, CUT},
};

int kbs_report_data_find(enum kbs_tee tee, const json_t *evidence, struct kbs_buf *ret,
                         enum kbs_hash *ret_hash_or_none, struct kbs_error *err)
{
    struct kbs_buf field = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    int r;

    *ret_hash_or_none = KBS_HASH_NONE;
    if ((unsigned int)tee >= KBS_TEE_COUNT || kinds[tee].find == NULL) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "it is not known where evidence of %s has its report data",
                        kbs_tee_name(tee));
    }
    r = kinds[tee].find(evidence, &field, err);
    if (r == 0) {
        kbs_buf_put_span(ret, kbs_buf_span(&field));
        r = kbs_buf_check(ret, "report data", err);
    }
    kbs_buf_deinit(&field);
    if (r == 0 && tee == KBS_TEE_SNP && is_svsm(evidence)) {
        *ret_hash_or_none = KBS_HASH_SHA512;
    }
    return r;
}

static bool fills(struct kbs_span field, struct kbs_span digest, enum fill fill)
{
    size_t same = digest.len < field.len ? digest.len : field.len;

    if (digest.len == 0 || (fill == EXACT && field.len != digest.len) ||
        (fill == ZEROED && field.len < digest.len) ||
        !kbs_span_equal(kbs_span(field.p, same), kbs_span(digest.p, same))) {
        return false;
    }
    for (size_t i = same; i < field.len; i++) {
        if (field.p[i] != 0) {
            return false;
        }
    }
    return true;
}

int kbs_report_data_check(enum kbs_tee tee, const json_t *evidence,
                          const struct kbs_digest *expected, struct kbs_error *err)
{
    struct kbs_buf field = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    enum kbs_hash hash;
    int r = kbs_report_data_find(tee, evidence, &field, &hash, err);

    if (r == 0 && !fills(kbs_buf_span(&field), kbs_digest_span(expected), kinds[tee].fill)) {
        r = kbs_fail(err, KBS_UNAUTHENTICATED,
                     "evidence of %s: the report data is not the digest of the runtime data",
                     kbs_tee_name(tee));
    }
    kbs_buf_deinit(&field);
    return r;
}
