/*
 * Request targets: the path and query of an origin-form target (RFC 9112 section 3.2.1, RFC 3986),
 * decoded once. There is one accepted spelling of everything that path handling is usually fooled
 * with; the rest is refused, so that front, judge, policy and store all see the same segments.
 */
#ifndef KBS_HTTP_TARGET_H
#define KBS_HTTP_TARGET_H

#include "base/arena.h"
#include "base/error.h"
#include "base/limits.h"

struct kbs_http_target {
    struct kbs_span segments[KBS_LIMIT_HTTP_SEGMENTS];     /* decoded, not empty, valid UTF-8 */
    size_t segment_count;                                  /* 0 for "/" */
    struct kbs_span query[2 * KBS_LIMIT_HTTP_QUERY_PAIRS]; /* names and values in turn, decoded */
    size_t query_count;                                    /* spans: twice the pairs */
};

/* What the arena of kbs_http_target_parse() needs at most: the decoded text, each piece aligned. */
#define KBS_HTTP_TARGET_ARENA_BYTES \
    (KBS_LIMIT_HTTP_TARGET_BYTES + 32 * (KBS_LIMIT_HTTP_SEGMENTS + 2 * KBS_LIMIT_HTTP_QUERY_PAIRS))

/*
 * Parses `raw` (borrowed only during the call). The spans of *ret live in `arena`. KBS_INPUT for
 * anything but an origin-form target of
 *   path: "/" or "/" segment *( "/" segment ); no empty segment, no trailing slash, no "." or "..";
 *         segments of at most KBS_LIMIT_HTTP_SEGMENT_BYTES bytes, whose decoded form has no "/",
 *         "\", ";" and no control;
 *   query: absent, empty, or name "=" value *( "&" name "=" value ); names not empty and not
 *         repeated; "+" only as %2B, because some decoders read it as a space.
 */
KBS_MUST_CHECK int kbs_http_target_parse(struct kbs_span raw, struct kbs_arena *arena,
                                         struct kbs_http_target *ret, struct kbs_error *err);

#endif
