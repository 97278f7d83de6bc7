/*
 * Claim paths.
 *
 * A dotted path is what Azure's policies use, but EAR member names contain dots, so a segment may
 * be put in double quotes. Rejected: trying every way of reading an unquoted dot (a token could
 * then offer the member that the policy's author did not mean), and JSON pointers (policies written
 * for Azure would have to change).
 *
 * The first segment chooses the root, and `kbs` chooses ours, quoted or not: a member "kbs" of a
 * token cannot be named at all. Arrays are not walked into; a path through one is absent.
 *
 * Paths are printable ASCII, because denials show them.
 */
#include "policy/path.h"

#include <string.h>

/*
 * Takes the next segment off *rest, its quotes removed, and the dot after it. False if there is
 * none or it is malformed; *rest is then unspecified.
 */
static bool segment_take(struct kbs_span *rest, struct kbs_span *ret)
{
    bool quoted = rest->len > 0 && rest->p[0] == '"';
    struct kbs_span s = kbs_span_skip(*rest, quoted ? 1 : 0);
    size_t n = 0;

    while (n < s.len && s.p[n] != '"' && (quoted || s.p[n] != '.')) {
        if (s.p[n] < 0x20 || s.p[n] > 0x7e) {
            return false;
        }
        n++;
    }
    *ret = kbs_span(s.p, n);
    s = kbs_span_skip(s, n);
    if (n == 0) {
        return false;
    }
    if (quoted) {
        if (s.len == 0) {
            return false; /* no closing quote */
        }
        s = kbs_span_skip(s, 1);
    }
    if (s.len == 1 || (s.len > 0 && s.p[0] != '.')) {
        return false; /* a dot at the end, or something else after the segment */
    }
    *rest = kbs_span_skip(s, 1);
    return true;
}

int kbs_policy_path_check(struct kbs_span path, struct kbs_error *err)
{
    struct kbs_span rest = path;
    struct kbs_span segment;
    bool ours = false;
    size_t n = 0;

    if (path.len == 0 || path.len > KBS_POLICY_PATH_MAX_BYTES) {
        return kbs_fail(err, KBS_INPUT, "a claim path has 1 to %d bytes",
                        KBS_POLICY_PATH_MAX_BYTES);
    }
    while (rest.len > 0) {
        if (!segment_take(&rest, &segment)) {
            return kbs_fail(err, KBS_INPUT, "a claim path is malformed: name.name.\"na.me\"");
        }
        ours = ours || (n == 0 && kbs_span_equal_str(segment, "kbs"));
        n++;
    }
    if (n > KBS_POLICY_PATH_MAX_SEGMENTS) {
        return kbs_fail(err, KBS_INPUT, "a claim path has more than %d segments",
                        KBS_POLICY_PATH_MAX_SEGMENTS);
    }
    if (ours && n == 1) {
        return kbs_fail(err, KBS_INPUT, "a claim path names all of kbs, not a claim in it");
    }
    return 0;
}

static const json_t *member_find(const json_t *v, struct kbs_span name)
{
    char key[KBS_POLICY_PATH_MAX_BYTES + 1];

    if (!json_is_object(v) || !kbs_span_to_cstr(name, key, sizeof(key))) {
        return NULL;
    }
    return json_object_get(v, key);
}

const json_t *kbs_policy_path_find(struct kbs_span path, const json_t *input, const json_t *kbs)
{
    struct kbs_span rest = path;
    struct kbs_span segment;
    const json_t *v;

    if (!segment_take(&rest, &segment)) {
        return NULL;
    }
    v = kbs_span_equal_str(segment, "kbs") ? kbs : member_find(input, segment);
    while (rest.len > 0) {
        if (!segment_take(&rest, &segment)) {
            return NULL;
        }
        v = member_find(v, segment);
    }
    return v;
}
