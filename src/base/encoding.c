/*
 * Text encodings. Decoders are canonical: exactly one text decodes to given bytes, so that nothing
 * signed or hashed has two spellings. They are table-free and branch on public data only.
 */
#include "base/encoding.h"

static const char alphabet_std[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char hex_digits[] = "0123456789abcdef";

static void base64_put(struct kbs_buf *out, struct kbs_span in, const char *alphabet, bool pad)
{
    for (size_t i = 0; i < in.len; i += 3) {
        size_t n = in.len - i < 3 ? in.len - i : 3;
        uint32_t v = (uint32_t)in.p[i] << 16;
        char four[4];

        v |= n > 1 ? (uint32_t)in.p[i + 1] << 8 : 0;
        v |= n > 2 ? in.p[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            four[k] = k <= n ? alphabet[(v >> (18 - 6 * k)) & 63] : '=';
        }
        kbs_buf_put(out, four, pad ? 4 : n + 1);
    }
}

void kbs_base64url_put(struct kbs_buf *out, struct kbs_span in)
{
    base64_put(out, in, alphabet_url, false);
}

void kbs_base64_put(struct kbs_buf *out, struct kbs_span in)
{
    base64_put(out, in, alphabet_std, true);
}

static int digit_of(uint8_t c, const char *alphabet)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == (uint8_t)alphabet[62]) {
        return 62;
    }
    return c == (uint8_t)alphabet[63] ? 63 : -1;
}

/* Decodes 2 to 4 digits into 1 to 3 bytes; the unused low bits must be zero. Returns bytes, or -1.
 */
static int quad_get(struct kbs_span digits, const char *alphabet, uint8_t out[3])
{
    uint32_t v = 0;
    size_t bytes = digits.len - 1;

    for (size_t i = 0; i < 4; i++) {
        int d = i < digits.len ? digit_of(digits.p[i], alphabet) : 0;

        if (d < 0) {
            return -1;
        }
        v = (v << 6) | (uint32_t)d;
    }
    if ((v & ((1u << (8 * (3 - bytes))) - 1)) != 0) {
        return -1;
    }
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(v >> (16 - 8 * i));
    }
    return (int)bytes;
}

static int base64_get(struct kbs_buf *out, struct kbs_span text, const char *alphabet)
{
    size_t before = out->len;
    uint8_t *to;

    if (text.len % 4 == 1) {
        return -1;
    }
    to = kbs_buf_reserve(out, text.len / 4 * 3 + (text.len % 4 > 0 ? text.len % 4 - 1 : 0));
    if (to == NULL) {
        return -1;
    }
    for (size_t i = 0; i < text.len; i += 4) {
        size_t n = text.len - i < 4 ? text.len - i : 4;
        uint8_t three[3];
        int bytes = quad_get(kbs_span(text.p + i, n), alphabet, three);

        if (bytes < 0) {
            out->len = before;
            return -1;
        }
        kbs_buf_put(out, three, (size_t)bytes);
    }
    return 0;
}

int kbs_base64url_get(struct kbs_buf *out, struct kbs_span text)
{
    return base64_get(out, text, alphabet_url);
}

int kbs_base64_get(struct kbs_buf *out, struct kbs_span text)
{
    if (text.len % 4 != 0) {
        return -1;
    }
    for (size_t pads = 0; pads < 2 && text.len > 0 && text.p[text.len - 1] == '='; pads++) {
        text.len--;
    }
    return base64_get(out, text, alphabet_std);
}

static int exact(int (*get)(struct kbs_buf *, struct kbs_span), uint8_t *out, size_t len,
                 struct kbs_span text)
{
    struct kbs_buf b = KBS_BUF(len);
    int r = -1;

    if (get(&b, text) == 0 && b.len == len) {
        if (len > 0) {
            memcpy(out, b.p, len);
        }
        r = 0;
    }
    kbs_buf_deinit(&b);
    return r;
}

int kbs_base64url_get_exact(uint8_t *out, size_t len, struct kbs_span text)
{
    return exact(kbs_base64url_get, out, len, text);
}

void kbs_hex_put(struct kbs_buf *out, struct kbs_span in)
{
    for (size_t i = 0; i < in.len; i++) {
        kbs_buf_put_u8(out, (uint8_t)hex_digits[in.p[i] >> 4]);
        kbs_buf_put_u8(out, (uint8_t)hex_digits[in.p[i] & 15]);
    }
}

void kbs_hex_cstr(struct kbs_span in, char *out, size_t size)
{
    size_t n = 0;

    for (; n < in.len && 2 * n + 2 < size; n++) {
        out[2 * n] = hex_digits[in.p[n] >> 4];
        out[2 * n + 1] = hex_digits[in.p[n] & 15];
    }
    if (size > 0) {
        out[2 * n] = '\0';
    }
}

static int nibble_of(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int kbs_hex_get(struct kbs_buf *out, struct kbs_span text)
{
    size_t before = out->len;

    if (text.len % 2 != 0) {
        return -1;
    }
    for (size_t i = 0; i < text.len; i += 2) {
        int hi = nibble_of(text.p[i]);
        int lo = nibble_of(text.p[i + 1]);

        if (hi < 0 || lo < 0) {
            out->len = before;
            return -1;
        }
        kbs_buf_put_u8(out, (uint8_t)(hi << 4 | lo));
    }
    return out->failed ? -1 : 0;
}

int kbs_hex_get_exact(uint8_t *out, size_t len, struct kbs_span text)
{
    return exact(kbs_hex_get, out, len, text);
}

/* Length of the UTF-8 sequence at the front of `in` (RFC 3629 section 4), or 0 if it is not valid.
 */
static size_t utf8_sequence(struct kbs_span in)
{
    uint8_t c = in.p[0];
    uint8_t lo = 0x80;
    uint8_t hi = 0xbf;
    size_t n;

    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        n = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        n = 3;
        lo = c == 0xe0 ? 0xa0 : 0x80;
        hi = c == 0xed ? 0x9f : 0xbf;
    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 4;
        lo = c == 0xf0 ? 0x90 : 0x80;
        hi = c == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (in.len < n || in.p[1] < lo || in.p[1] > hi) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((in.p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

/* How many bytes stand for themselves: printable ASCII but the two that are escaped. */
static size_t plain_run(struct kbs_span in)
{
    size_t n = 0;

    while (n < in.len && in.p[n] >= 0x20 && in.p[n] < 0x7f && in.p[n] != '"' && in.p[n] != '\\') {
        n++;
    }
    return n;
}

bool kbs_utf8_valid(struct kbs_span in)
{
    for (;;) {
        size_t n;

        in = kbs_span_skip(in, plain_run(in));
        if (in.len == 0) {
            return true;
        }
        n = utf8_sequence(in);
        if (n == 0) {
            return false;
        }
        in = kbs_span_skip(in, n);
    }
}

static const char *short_escape(uint8_t c)
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

void kbs_json_string_put(struct kbs_buf *out, struct kbs_span in)
{
    kbs_buf_put_u8(out, '"');
    for (;;) {
        size_t n = plain_run(in);
        const char *escape;

        kbs_buf_put(out, in.p, n);
        in = kbs_span_skip(in, n);
        if (in.len == 0) {
            break;
        }
        n = utf8_sequence(in);
        escape = short_escape(in.p[0]);
        if (n == 0) {
            kbs_buf_put_str(out, "\xef\xbf\xbd");
            n = 1;
        } else if (escape != NULL) {
            kbs_buf_put_str(out, escape);
        } else if (in.p[0] < 0x20) {
            kbs_buf_printf(out, "\\u%04x", in.p[0]);
        } else {
            kbs_buf_put(out, in.p, n);
        }
        in = kbs_span_skip(in, n);
    }
    kbs_buf_put_u8(out, '"');
}
