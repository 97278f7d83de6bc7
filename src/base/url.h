/*
 * URLs as this service takes them: a small part of RFC 3986. Absolute, http or https, or a unix
 * socket; printable ASCII; no user, no fragment, no dot segments, plain or escaped. So two readers
 * of one URL cannot see two destinations.
 */
#ifndef KBS_BASE_URL_H
#define KBS_BASE_URL_H

#include "base/span.h"

enum kbs_url_scheme {
    KBS_URL_NONE = 0,
    KBS_URL_HTTP,
    KBS_URL_HTTPS,
    KBS_URL_UNIX /* "unix:/path/of/a/socket", spoken to with http */
};

/* All borrow the text. */
struct kbs_url {
    enum kbs_url_scheme scheme;
    struct kbs_span host; /* without brackets; UNIX: empty */
    uint16_t port;        /* 0 if it is the scheme's */
    struct kbs_span path; /* with the query; empty, or beginning with "/"; UNIX: of the socket */
};

/* False if it is not such a URL. */
bool kbs_url_parse(struct kbs_span text, struct kbs_url *ret);

/* What may be put behind a URL that ends in its host or path: empty, or a path with a query. */
bool kbs_url_suffix_valid(struct kbs_span suffix);

/* Never leaves the machine: a unix socket, localhost, 127.0.0.0/8, ::1. */
bool kbs_url_is_local(const struct kbs_url *url);

/* Two hosts in any case of their letters (RFC 3986 section 3.2.2). */
bool kbs_url_host_equal(struct kbs_span a, struct kbs_span b);

#endif
