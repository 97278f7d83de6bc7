/*
 * Offsets and the few checks without which an offset means nothing: version, kind and length. Where a
 * structure has lengths of its own, all of them are followed to the end, so that a field that is
 * found here is the field that a full parser finds.
 */
#include "attest/quote.h"

/* Intel */
#define INTEL_HEADER_BYTES 48
#define INTEL_TEE_SGX 0x00u
#define INTEL_TEE_TDX 0x81u
#define SGX_BODY_BYTES 384
#define SGX_REPORT_DATA_AT 320
#define TD_10_BODY_BYTES 584
#define TD_15_BODY_BYTES 648
#define TD_REPORT_DATA_AT 520
#define V5_TD_10 2
#define V5_TD_15 3

/* TPM, big endian */
#define TPM_GENERATED 0xff544347u
#define TPM_ST_ATTEST_QUOTE 0x8018u
#define TPM_CLOCK_INFO_BYTES 17
#define TPM_FIRMWARE_VERSION_BYTES 8
#define TPM_PCR_BANKS_MAX 16

/* SPDM */
#define SPDM_GET_MEASUREMENTS 0xe0
#define SPDM_NONCE_AT 4
#define SPDM_REQUEST_BYTES 37

static int malformed(const char *what, struct kbs_error *err)
{
    return kbs_fail(err, KBS_INPUT, "%s", what);
}

/* The report data of a body of `body_bytes` that comes next, with signature data after it. */
static int body_field(struct kbs_reader *r, size_t body_bytes, size_t at, struct kbs_span *ret,
                      struct kbs_error *err)
{
    struct kbs_span body = kbs_read_bytes(r, body_bytes);
    uint32_t signature_bytes = kbs_read_le32(r);

    if (r->failed || r->rest.len < signature_bytes) {
        return malformed("the quote is shorter than it says", err);
    }
    *ret = kbs_span(body.p + at, KBS_QUOTE_REPORT_DATA_BYTES);
    return 0;
}

/* Version and kind of TEE of a quote's header. */
static void header(struct kbs_reader *r, uint16_t *ret_version, uint32_t *ret_tee)
{
    *ret_version = kbs_read_le16(r);
    (void)kbs_read_le16(r); /* the attestation key's type */
    *ret_tee = kbs_read_le32(r);
    (void)kbs_read_bytes(r, INTEL_HEADER_BYTES - 8);
}

int kbs_quote_tdx(struct kbs_span quote, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_reader r = kbs_reader(quote);
    size_t body_bytes = TD_10_BODY_BYTES;
    uint16_t version;
    uint32_t tee;

    header(&r, &version, &tee);
    if ((version != 4 && version != 5) || tee != INTEL_TEE_TDX) {
        return malformed("not a TDX quote of version 4 or 5", err);
    }
    if (version == 5) {
        uint16_t type = kbs_read_le16(&r);

        body_bytes = type == V5_TD_15 ? TD_15_BODY_BYTES : TD_10_BODY_BYTES;
        if (kbs_read_le32(&r) != body_bytes || (type != V5_TD_10 && type != V5_TD_15)) {
            return malformed("a TDX quote with a body that is not a TD's", err);
        }
    }
    return body_field(&r, body_bytes, TD_REPORT_DATA_AT, ret, err);
}

int kbs_quote_sgx(struct kbs_span quote, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_reader r = kbs_reader(quote);
    uint16_t version;
    uint32_t tee;

    header(&r, &version, &tee);
    if (version != 3 || tee != INTEL_TEE_SGX) {
        return malformed("not an SGX quote of version 3", err);
    }
    return body_field(&r, SGX_BODY_BYTES, SGX_REPORT_DATA_AT, ret, err);
}

static uint16_t read_be16(struct kbs_reader *r)
{
    uint16_t high = kbs_read_u8(r);

    return (uint16_t)(high << 8 | kbs_read_u8(r));
}

static uint32_t read_be32(struct kbs_reader *r)
{
    uint32_t high = read_be16(r);

    return high << 16 | read_be16(r);
}

/* TPM2B: two bytes of length, and as many. */
static struct kbs_span read_tpm2b(struct kbs_reader *r)
{
    return kbs_read_bytes(r, read_be16(r));
}

int kbs_quote_tpm(struct kbs_span message, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_reader r = kbs_reader(message);
    struct kbs_span extra;
    uint32_t banks;

    if (read_be32(&r) != TPM_GENERATED || read_be16(&r) != TPM_ST_ATTEST_QUOTE) {
        return malformed("not a quote that a TPM made", err);
    }
    (void)read_tpm2b(&r); /* qualifiedSigner */
    extra = read_tpm2b(&r);
    (void)kbs_read_bytes(&r, TPM_CLOCK_INFO_BYTES + TPM_FIRMWARE_VERSION_BYTES);
    banks = read_be32(&r);
    for (uint32_t i = 0; i < banks && i < TPM_PCR_BANKS_MAX; i++) {
        (void)read_be16(&r); /* the bank's hash */
        (void)kbs_read_bytes(&r, kbs_read_u8(&r));
    }
    (void)read_tpm2b(&r); /* pcrDigest */
    if (r.failed || banks > TPM_PCR_BANKS_MAX || r.rest.len != 0) {
        return malformed("the TPM's quote is cut short, or something follows it", err);
    }
    *ret = extra;
    return 0;
}

/* Version 1.1 or newer: in 1.0 the request has another layout. */
int kbs_quote_spdm(struct kbs_span report, struct kbs_span *ret, struct kbs_error *err)
{
    if (report.len <= SPDM_REQUEST_BYTES || report.p[0] < 0x11 || report.p[0] > 0x1f ||
        report.p[1] != SPDM_GET_MEASUREMENTS) {
        return malformed("the device's report does not begin with an SPDM request", err);
    }
    *ret = kbs_span(report.p + SPDM_NONCE_AT, KBS_QUOTE_NONCE_BYTES);
    return 0;
}
