/*
 * The headers this service reads, and the rules for each. Private to src/http: parser.c collects
 * them, headers.c judges them.
 */
#ifndef KBS_HTTP_HEADERS_H
#define KBS_HTTP_HEADERS_H

#include "base/error.h"
#include "base/span.h"

enum kbs_http_header {
    KBS_HTTP_HOST,
    KBS_HTTP_CONTENT_LENGTH,
    KBS_HTTP_TRANSFER_ENCODING,
    KBS_HTTP_CONTENT_TYPE,
    KBS_HTTP_AUTHORIZATION,
    KBS_HTTP_ACCEPT,
    KBS_HTTP_COOKIE,
    KBS_HTTP_SIGNATURE,
    KBS_HTTP_PROOF,
    KBS_HTTP_EXPECT,
    KBS_HTTP_UPGRADE,
    KBS_HTTP_HEADER_COUNT,
    KBS_HTTP_HEADER_OTHER = KBS_HTTP_HEADER_COUNT /* read by nobody */
};

#define KBS_HTTP_HEADER_NAME_MAX 32 /* longer names are other headers */

/* Values trimmed of white space; present[] tells an empty value from none. */
struct kbs_http_headers {
    struct kbs_span value[KBS_HTTP_HEADER_COUNT];
    bool present[KBS_HTTP_HEADER_COUNT];
};

/* The header of a name, in any case. */
enum kbs_http_header kbs_http_header_find(struct kbs_span name);

/* Without leading and trailing spaces and tabs. */
struct kbs_span kbs_http_trim(struct kbs_span s);

/*
 * Message framing (RFC 9112 section 6): Content-Length is digits, Transfer-Encoding is exactly
 * "chunked", never both, the latter not in HTTP/1.0. Also Host (exactly one in 1.1) and no Upgrade.
 * KBS_INPUT. *ret_length: the Content-Length, 0 without one, SIZE_MAX when it does not fit.
 */
KBS_MUST_CHECK int kbs_http_headers_framing(const struct kbs_http_headers *h, unsigned int minor,
                                            size_t *ret_length, struct kbs_error *err);

/*
 * The headers passed to the judge: visible ASCII. *ret_cookie as in struct kbs_http_request.
 * KBS_INPUT.
 */
KBS_MUST_CHECK int kbs_http_headers_forwarded(const struct kbs_http_headers *h,
                                              struct kbs_span *ret_cookie, struct kbs_error *err);

/* ASCII case-insensitive comparison with a literal in lower case. */
bool kbs_http_equal_nocase(struct kbs_span s, const char *lower);

#endif
