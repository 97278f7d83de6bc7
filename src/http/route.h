/*
 * The route table: which methods and paths exist on which listener, and how large a body each may
 * have. enum kbs_route (wire/route.h) is the result; what a route means is the judge's business.
 */
#ifndef KBS_HTTP_ROUTE_H
#define KBS_HTTP_ROUTE_H

#include "base/terms.h"
#include "http/target.h"
#include "wire/route.h"

#define KBS_HTTP_PARAMS_MAX 3

/* kbs_http_route_find(): conditions. */
#define KBS_HTTP_ROUTE_NO_PATH 1   /* no such path on this listener */
#define KBS_HTTP_ROUTE_NO_METHOD 2 /* the path exists, with other methods */

struct kbs_http_match {
    enum kbs_route route;
    const char *method;                          /* static: "GET", "POST" or "DELETE" */
    size_t body_max;                             /* bytes; 0 for routes without a body */
    struct kbs_span params[KBS_HTTP_PARAMS_MAX]; /* borrows the target's segments */
    size_t param_count;
    const struct kbs_span *tail; /* of a row that ends in "{...}": borrows the target's segments */
    size_t tail_count;           /* at least 1; 0 for other rows */
    const char *allow; /* static: the value of Allow for KBS_HTTP_ROUTE_NO_METHOD, else NULL */
};

/*
 * Finds the route of (listener, method, path). 0, KBS_HTTP_ROUTE_NO_PATH or
 * KBS_HTTP_ROUTE_NO_METHOD. Methods are compared byte for byte (RFC 9110 section 9.1).
 */
KBS_MUST_CHECK int kbs_http_route_find(enum kbs_listener listener, struct kbs_span method,
                                       const struct kbs_http_target *target,
                                       struct kbs_http_match *ret);

/*
 * A stable lower-case name for logs and metrics ("key-release"); "none" for numbers out of the
 * table.
 */
const char *kbs_http_route_name(enum kbs_route route);

/* The table by row, for metrics and tests; false beyond its end. */
struct kbs_http_route_row {
    enum kbs_route route;
    unsigned int listeners; /* bit 1 << enum kbs_listener */
    const char *method;
    const char *path; /* "{}" stands for one segment, "{...}" at its end for all that are left */
    size_t body_max;
    const char *name;
};
bool kbs_http_route_row(size_t n, struct kbs_http_route_row *ret);

#endif
