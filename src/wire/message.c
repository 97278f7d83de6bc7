/*
 * One encoder and one decoder, driven by the schema table that message.h spells out: no message has
 * code of its own, so none can forget a bound. Rejected: generated code (a build step to audit) and
 * casting packets to structs (padding, alignment, trust).
 */
#include "wire/message.h"

#include <stddef.h>

#include "base/limits.h"

enum field_kind {
    FIELD_U8,
    FIELD_U32,
    FIELD_U64,
    FIELD_BYTES,
    FIELD_LIST
};

struct field {
    enum field_kind kind;
    uint16_t offset;
};

struct schema {
    const char *name;
    uint32_t cap; /* body bytes */
    uint16_t count;
    const struct field *fields;
};

#define FIELD(m, k, f) {.kind = FIELD_##k, .offset = offsetof(struct kbs_wire_##m, f)},
#define FIELDS(number, upper, lower, body_cap) \
    static const struct field lower##_fields[] = {KBS_WIRE_##upper##_FIELDS(FIELD, lower)};
KBS_WIRE_MESSAGES(FIELDS)

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ROW(number, upper, lower, body_cap)     \
    [number] = {.name = #upper,                 \
                .cap = (body_cap),              \
                .count = COUNT(lower##_fields), \
                .fields = lower##_fields},
#define EMPTY_ROW(number, upper) [number] = {.name = #upper},
static const struct schema schemas[] = {KBS_WIRE_MESSAGES(ROW) KBS_WIRE_EMPTY_MESSAGES(EMPTY_ROW)};

static const struct schema *schema_of(uint32_t type)
{
    return type < COUNT(schemas) && schemas[type].name != NULL ? &schemas[type] : NULL;
}

const char *kbs_wire_type_name(enum kbs_wire_type type)
{
    const struct schema *s = schema_of((uint32_t)type);

    return s != NULL ? s->name : "?";
}

int kbs_wire_header_decode(const uint8_t header[KBS_WIRE_HEADER_BYTES], struct kbs_frame *ret,
                           struct kbs_error *err)
{
    struct kbs_reader r = kbs_reader(kbs_span(header, KBS_WIRE_HEADER_BYTES));
    uint32_t body_len = kbs_read_le32(&r);
    uint16_t version = kbs_read_le16(&r);
    uint16_t type = kbs_read_le16(&r);
    const struct schema *s = schema_of(type);

    ret->body_len = body_len;
    ret->type = (enum kbs_wire_type)type;
    ret->id = kbs_read_le64(&r);
    ret->deadline_ns = kbs_read_le64(&r);
    if (version != KBS_WIRE_VERSION) {
        return kbs_fail(err, KBS_INPUT, "role message of version %u, this is version %d", version,
                        KBS_WIRE_VERSION);
    }
    if (s == NULL) {
        return kbs_fail(err, KBS_INPUT, "role message of unknown type %u", type);
    }
    if (kbs_read_le64(&r) != 0) {
        return kbs_fail(err, KBS_INPUT, "role message with a reserved field that is not zero");
    }
    if (body_len > s->cap) {
        return kbs_fail(err, KBS_INPUT, "role message %s of %u bytes is over its limit of %u",
                        s->name, body_len, s->cap);
    }
    return 0;
}

static void put_field(struct kbs_buf *out, const struct field *f, const void *msg)
{
    const void *at = (const uint8_t *)msg + f->offset;
    const struct kbs_span *bytes = at;
    const struct kbs_wire_list *list = at;

    switch (f->kind) {
    case FIELD_U8:
        kbs_buf_put_u8(out, *(const uint8_t *)at);
        break;
    case FIELD_U32:
        kbs_buf_put_le32(out, *(const uint32_t *)at);
        break;
    case FIELD_U64:
        kbs_buf_put_le64(out, *(const uint64_t *)at);
        break;
    case FIELD_BYTES:
        kbs_buf_put_le32(out, (uint32_t)bytes->len);
        kbs_buf_put_span(out, *bytes);
        break;
    case FIELD_LIST:
        kbs_buf_put_le16(out, list->count);
        kbs_buf_put_span(out, list->encoded);
        break;
    }
}

int kbs_wire_body_put(struct kbs_buf *out, enum kbs_wire_type type, const void *msg,
                      struct kbs_error *err)
{
    const struct schema *s = schema_of((uint32_t)type);
    size_t start = out->len;

    if (s == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "role message of unknown type %u", (unsigned int)type);
    }
    for (size_t i = 0; i < s->count; i++) {
        put_field(out, &s->fields[i], msg);
    }
    if (out->failed || out->len - start > s->cap) {
        out->len = start;
        return kbs_fail(err, KBS_TOO_LARGE, "role message %s is over its limit of %u bytes",
                        s->name, s->cap);
    }
    return 0;
}

int kbs_wire_encode(struct kbs_buf *out, enum kbs_wire_type type, uint64_t id, uint64_t deadline_ns,
                    const void *msg, struct kbs_error *err)
{
    size_t start = out->len;
    size_t body_len;

    kbs_buf_put_le32(out, 0);
    kbs_buf_put_le16(out, KBS_WIRE_VERSION);
    kbs_buf_put_le16(out, (uint16_t)type);
    kbs_buf_put_le64(out, id);
    kbs_buf_put_le64(out, deadline_ns);
    kbs_buf_put_le64(out, 0);
    if (kbs_wire_body_put(out, type, msg, err) != 0) {
        out->len = start;
        return -1;
    }
    body_len = out->len - start - KBS_WIRE_HEADER_BYTES;
    for (size_t i = 0; i < 4; i++) {
        out->p[start + i] = (uint8_t)(body_len >> (8 * i));
    }
    return 0;
}

/* Walks the items so that iterators need not check again. */
static bool read_list(struct kbs_reader *r, struct kbs_wire_list *ret)
{
    const uint8_t *start;

    ret->count = kbs_read_le16(r);
    if (r->failed || ret->count > KBS_LIMIT_WIRE_LIST_ITEMS) {
        return false;
    }
    start = r->rest.p;
    for (uint16_t i = 0; i < ret->count; i++) {
        (void)kbs_read_bytes(r, kbs_read_le32(r));
    }
    ret->encoded = r->failed ? KBS_SPAN_EMPTY : kbs_span(start, (size_t)(r->rest.p - start));
    return !r->failed;
}

static bool get_field(struct kbs_reader *r, const struct field *f, void *msg)
{
    void *at = (uint8_t *)msg + f->offset;

    switch (f->kind) {
    case FIELD_U8:
        *(uint8_t *)at = kbs_read_u8(r);
        break;
    case FIELD_U32:
        *(uint32_t *)at = kbs_read_le32(r);
        break;
    case FIELD_U64:
        *(uint64_t *)at = kbs_read_le64(r);
        break;
    case FIELD_BYTES:
        *(struct kbs_span *)at = kbs_read_bytes(r, kbs_read_le32(r));
        break;
    case FIELD_LIST:
        return read_list(r, at);
    }
    return !r->failed;
}

int kbs_wire_decode(enum kbs_wire_type type, struct kbs_span body, void *msg, struct kbs_error *err)
{
    const struct schema *s = schema_of((uint32_t)type);
    struct kbs_reader r = kbs_reader(body);

    if (s == NULL) {
        return kbs_fail(err, KBS_INPUT, "role message of unknown type %u", (unsigned int)type);
    }
    for (size_t i = 0; i < s->count; i++) {
        if (!get_field(&r, &s->fields[i], msg)) {
            return kbs_fail(err, KBS_INPUT, "role message %s: field %zu is cut short or too long",
                            s->name, i);
        }
    }
    if (r.rest.len != 0) {
        return kbs_fail(err, KBS_INPUT, "role message %s has %zu bytes left over", s->name,
                        r.rest.len);
    }
    return 0;
}

struct kbs_wire_iter kbs_wire_list_iter(const struct kbs_wire_list *list)
{
    return (struct kbs_wire_iter){.r = kbs_reader(list->encoded), .left = list->count};
}

bool kbs_wire_list_next(struct kbs_wire_iter *it, struct kbs_span *ret)
{
    if (it->left == 0) {
        return false;
    }
    it->left--;
    *ret = kbs_read_bytes(&it->r, kbs_read_le32(&it->r));
    return !it->r.failed;
}

struct kbs_span kbs_wire_list_at(const struct kbs_wire_list *list, uint16_t n)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(list);
    struct kbs_span item = KBS_SPAN_EMPTY;

    for (uint16_t i = 0; kbs_wire_list_next(&it, &item); i++) {
        if (i == n) {
            return item;
        }
    }
    return KBS_SPAN_EMPTY;
}

bool kbs_wire_list_find(const struct kbs_wire_list *list, const char *name, struct kbs_span *ret)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(list);
    struct kbs_span key;
    struct kbs_span value;

    while (kbs_wire_list_next(&it, &key) && kbs_wire_list_next(&it, &value)) {
        if (kbs_span_equal_str(key, name)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

void kbs_wire_list_add(struct kbs_wire_list_builder *b, struct kbs_span item)
{
    if (b->count >= KBS_LIMIT_WIRE_LIST_ITEMS) {
        b->buf->failed = true;
        return;
    }
    kbs_buf_put_le32(b->buf, (uint32_t)item.len);
    kbs_buf_put_span(b->buf, item);
    b->count++;
}

void kbs_wire_list_add_pair(struct kbs_wire_list_builder *b, const char *name,
                            struct kbs_span value)
{
    kbs_wire_list_add(b, kbs_span_str(name));
    kbs_wire_list_add(b, value);
}

struct kbs_wire_list kbs_wire_list_done(const struct kbs_wire_list_builder *b)
{
    return (struct kbs_wire_list){.count = b->count, .encoded = kbs_buf_span(b->buf)};
}
