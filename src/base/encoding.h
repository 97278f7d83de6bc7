/*
 * Text encodings, strict: base64url without padding (RFC 4648 section 5, as JOSE uses it), standard
 * base64 with padding (RFC 4648 section 4, as the KBS nonce uses it), hex, and JSON strings (RFC
 * 8259 section 7). Decoders refuse foreign characters, wrong padding, white space and non-zero
 * trailing bits.
 */
#ifndef KBS_BASE_ENCODING_H
#define KBS_BASE_ENCODING_H

#include "base/buf.h"

void kbs_base64url_put(struct kbs_buf *out, struct kbs_span in);
void kbs_base64_put(struct kbs_buf *out, struct kbs_span in);
void kbs_hex_put(struct kbs_buf *out, struct kbs_span in); /* lower case */
/* The same into a C string of `size` bytes, cut to whole bytes if it does not fit. */
void kbs_hex_cstr(struct kbs_span in, char *out, size_t size);

/* Appends the decoded bytes; -1 (and nothing appended) if the text is not canonical. No struct
 * kbs_error: the caller knows which member was wrong. A failed buffer also gives -1. */
KBS_MUST_CHECK int kbs_base64url_get(struct kbs_buf *out, struct kbs_span text);
KBS_MUST_CHECK int kbs_base64_get(struct kbs_buf *out, struct kbs_span text);
KBS_MUST_CHECK int kbs_hex_get(struct kbs_buf *out, struct kbs_span text);

/* The same into exactly `len` bytes; -1 for any other length. */
KBS_MUST_CHECK int kbs_base64url_get_exact(uint8_t *out, size_t len, struct kbs_span text);
KBS_MUST_CHECK int kbs_hex_get_exact(uint8_t *out, size_t len, struct kbs_span text);

/* A quoted JSON string with the shortest escapes of RFC 8785 section 3.2.2.2. Input is taken as
 * UTF-8; bytes that are not valid UTF-8 are written as U+FFFD. */
void kbs_json_string_put(struct kbs_buf *out, struct kbs_span in);

/* True when the bytes are valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool kbs_utf8_valid(struct kbs_span in);

#endif
