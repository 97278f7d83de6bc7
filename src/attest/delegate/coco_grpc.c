/*
 * The gRPC API of CoCo's Attestation Service, protos/attestation.proto: three messages, written and read
 * by hand.
 *
 * The problem: a protobuf library is many times the size of what is needed of it, and would read a
 * stranger's bytes in a judge. The approach: what we send has strings and one nested message, so that a
 * tag, a length and the bytes are all there is to writing; of what we read one string counts, and every
 * other field is stepped over by its wire type. Anything that a writer of protobuf does not produce, groups
 * included, is refused.
 *
 * gRPC puts five bytes before a message: whether it is compressed (never: we do not say that we could
 * read it) and its length, big endian.
 */
#include "attest/delegate/delegate.h"

#define FRAME_BYTES 5u
#define VARINT_BYTES 10

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5
};

/* attestation.proto: field numbers. */
enum {
    REQUEST_PARTS = 1,
    REQUEST_POLICY_IDS = 2,
    PART_TEE = 1,
    PART_EVIDENCE = 3,
    PART_RUNTIME_DATA = 5, /* structured_runtime_data */
    PART_INIT_DATA = 7,    /* init_data_toml */
    PART_HASH = 8,
    CHALLENGE_INNER = 1, /* map<string, string>: entries of key and value */
    ENTRY_KEY = 1,
    ENTRY_VALUE = 2,
    ANSWER_TEXT = 1
};

/* ---- writing ---- */

static void varint_put(struct kbs_buf *out, uint64_t v)
{
    while (v >= 0x80) {
        kbs_buf_put_u8(out, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    kbs_buf_put_u8(out, (uint8_t)v);
}

static void bytes_put(struct kbs_buf *out, unsigned int field, struct kbs_span bytes)
{
    varint_put(out, (uint64_t)field << 3 | WIRE_BYTES);
    varint_put(out, bytes.len);
    kbs_buf_put_span(out, bytes);
}

/* The framing, whose length is known at the end. Returns where it stands. */
static size_t frame_begin(struct kbs_buf *out)
{
    size_t at = out->len;

    kbs_buf_put_u8(out, 0);
    kbs_buf_put_be32(out, 0);
    return at;
}

static void frame_end(struct kbs_buf *out, size_t at)
{
    size_t len = out->len - at - FRAME_BYTES;

    for (size_t i = 0; i < 4 && !out->failed; i++) {
        out->p[at + 1 + i] = (uint8_t)(len >> (24 - 8 * i));
    }
}

static int part_put(struct kbs_buf *out, const struct kbs_delegate_question *q, size_t i,
                    struct kbs_error *err)
{
    const struct kbs_delegate_part *part = &q->parts[i];
    struct kbs_buf evidence = KBS_BUF(out->max);
    struct kbs_buf text = KBS_BUF(out->max);
    int rc = kbs_coco_evidence_put(&evidence, part->evidence, err);

    bytes_put(&text, PART_TEE, kbs_span_str(kbs_tee_name(part->tee)));
    bytes_put(&text, PART_EVIDENCE, kbs_buf_span(&evidence));
    bytes_put(&text, PART_RUNTIME_DATA, part->runtime_data);
    if (i == 0 && q->init_data.len != 0) {
        bytes_put(&text, PART_INIT_DATA, q->init_data);
    }
    bytes_put(&text, PART_HASH, kbs_span_str(kbs_hash_name(q->hash)));
    if (rc == 0 && (evidence.failed || text.failed)) {
        rc = kbs_fail(err, KBS_TOO_LARGE, "the evidence is too large to be handed on");
    }
    if (rc == 0) {
        bytes_put(out, REQUEST_PARTS, kbs_buf_span(&text));
    }
    kbs_buf_deinit(&evidence);
    kbs_buf_deinit(&text);
    return rc;
}

int kbs_coco_grpc_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                      struct kbs_error *err)
{
    size_t at = frame_begin(out);

    for (size_t i = 0; i < q->count; i++) {
        if (part_put(out, q, i, err) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < q->policy_count; i++) {
        bytes_put(out, REQUEST_POLICY_IDS, q->policy_ids[i]);
    }
    frame_end(out, at);
    return kbs_buf_check(out, "the attestation service's request", err);
}

static void entry_put(struct kbs_buf *out, const char *key, struct kbs_span value)
{
    struct kbs_buf text = KBS_BUF(out->max);

    bytes_put(&text, ENTRY_KEY, kbs_span_str(key));
    bytes_put(&text, ENTRY_VALUE, value);
    out->failed = out->failed || text.failed;
    bytes_put(out, CHALLENGE_INNER, kbs_buf_span(&text));
    kbs_buf_deinit(&text);
}

void kbs_coco_grpc_challenge_put(struct kbs_buf *out, enum kbs_tee tee, struct kbs_span tee_params)
{
    size_t at = frame_begin(out);

    entry_put(out, "tee", kbs_span_str(kbs_tee_name(tee)));
    entry_put(out, "tee_params", tee_params);
    frame_end(out, at);
}

/* ---- reading ---- */

/* 64 bits at most; the reader fails at what is longer. */
static uint64_t varint_get(struct kbs_reader *r)
{
    uint64_t v = 0;

    for (unsigned int i = 0; i < VARINT_BYTES; i++) {
        uint8_t byte = kbs_read_u8(r);

        if (i == VARINT_BYTES - 1 && byte > 1) {
            break;
        }
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            return v;
        }
    }
    r->failed = true;
    return 0;
}

/* Steps over a value; of WIRE_BYTES it gives the bytes. */
static struct kbs_span value_get(struct kbs_reader *r, uint64_t wire_type)
{
    uint64_t len;

    switch (wire_type) {
    case WIRE_VARINT:
        (void)varint_get(r);
        return KBS_SPAN_EMPTY;
    case WIRE_FIXED64:
        (void)kbs_read_bytes(r, 8);
        return KBS_SPAN_EMPTY;
    case WIRE_FIXED32:
        (void)kbs_read_bytes(r, 4);
        return KBS_SPAN_EMPTY;
    case WIRE_BYTES:
        len = varint_get(r);
        if (len > r->rest.len) {
            break;
        }
        return kbs_read_bytes(r, (size_t)len);
    default:
        break;
    }
    r->failed = true;
    return KBS_SPAN_EMPTY;
}

int kbs_coco_grpc_get(struct kbs_span body, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_reader r = kbs_reader(body);
    uint8_t compressed = kbs_read_u8(&r);
    uint64_t len = 0;

    for (int i = 0; i < 4; i++) {
        len = len << 8 | kbs_read_u8(&r);
    }
    *ret = KBS_SPAN_EMPTY;
    if (r.failed || compressed != 0 || len != r.rest.len) {
        return kbs_fail(err, KBS_INPUT, "not one uncompressed gRPC message");
    }
    while (r.rest.len > 0 && !r.failed) {
        uint64_t tag = varint_get(&r);
        struct kbs_span value = value_get(&r, tag & 7);

        if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) {
            r.failed = true;
        } else if (tag == (ANSWER_TEXT << 3 | WIRE_BYTES)) {
            *ret = value; /* the last one counts, as everywhere in protobuf */
        }
    }
    if (r.failed) {
        *ret = KBS_SPAN_EMPTY;
        return kbs_fail(err, KBS_INPUT, "a malformed gRPC message");
    }
    return 0;
}
