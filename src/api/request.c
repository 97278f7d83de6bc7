/*
 * The parts of a request that several handlers read: Bearer token, content type, query, path parameters, Accept.
 *
 * The problem: lenient reading here is how a request comes to mean two things. The approach: what
 * is not known is refused with 400, and names are compared after the front's single decoding, never
 * decoded again.
 *
 * Accept: formats are few, so each gets the q of the most specific range that names it, and the
 * list is sorted by q, then by place. A wildcard only ever means JOSE, the default: a client that
 * says it takes anything has not said that it knows COSE.
 */
#include "api/context.h"

#include "base/encoding.h"

#include <strings.h>

#define Q_MAX 1000u
#define BEARER "Bearer "

static struct kbs_span trim(struct kbs_span s)
{
    while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s = kbs_span_skip(s, 1);
    }
    while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Cuts the text up to a separator off *rest; quoted strings are passed over. */
static struct kbs_span cut(struct kbs_span *rest, char separator)
{
    struct kbs_span piece = *rest;
    bool quoted = false;

    for (size_t i = 0; i < rest->len; i++) {
        if (rest->p[i] == '"') {
            quoted = !quoted;
        } else if (rest->p[i] == (uint8_t)separator && !quoted) {
            piece.len = i;
            *rest = kbs_span_skip(*rest, i + 1);
            return trim(piece);
        }
    }
    *rest = KBS_SPAN_EMPTY;
    return trim(piece);
}

int kbs_request_bearer(const struct kbs_wire_request *req, struct kbs_span *ret,
                       struct kbs_error *err)
{
    struct kbs_span text = req->authorization;

    *ret = KBS_SPAN_EMPTY;
    if (text.len <= strlen(BEARER) || strncasecmp((const char *)text.p, BEARER, strlen(BEARER)) !=
                                          0) { /* RFC 9110 section 11.1 */
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Authorization is not a Bearer token");
    }
    *ret = kbs_span_skip(text, strlen(BEARER));
    return 0;
}

static bool is_name(struct kbs_span s, const char *name)
{
    return s.len == strlen(name) && strncasecmp((const char *)s.p, name, s.len) == 0;
}

int kbs_request_json_type(const struct kbs_wire_request *req, bool lenient, struct kbs_error *err)
{
    struct kbs_span rest = req->content_type;

    if (rest.len == 0 && lenient) {
        return 0;
    }
    if (!is_name(cut(&rest, ';'), "application/json")) {
        return kbs_fail(err, KBS_INPUT, "Content-Type must be application/json");
    }
    return 0;
}

int kbs_request_query_only(const struct kbs_wire_request *req, const char *const *names,
                           struct kbs_error *err)
{
    for (uint16_t i = 0; i < req->query.count; i = (uint16_t)(i + 2)) {
        struct kbs_span name = kbs_wire_list_at(&req->query, i);
        const char *const *known = names;

        while (*known != NULL && !kbs_span_equal_str(name, *known)) {
            known++;
        }
        if (*known == NULL) {
            return kbs_fail(err, KBS_INPUT, "unknown query parameter");
        }
        for (uint16_t j = 0; j < i; j = (uint16_t)(j + 2)) {
            if (kbs_span_equal(name, kbs_wire_list_at(&req->query, j))) {
                return kbs_fail(err, KBS_INPUT, "query parameter '%s' twice", *known);
            }
        }
    }
    return 0;
}

/* A query parameter of 1 to max; *ret keeps its value if there is none. */
static int query_number(const struct kbs_wire_request *req, const char *name, uint32_t max,
                        uint32_t *ret, struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;
    uint64_t number = 0;

    if (!kbs_wire_list_find(&req->query, name, &text)) {
        return 0;
    }
    for (size_t i = 0; i < text.len && text.len <= 10; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            number = 0;
            break;
        }
        number = number * 10 + (uint64_t)(text.p[i] - '0');
    }
    if (number == 0 || number > max || text.p[0] == '0') {
        return kbs_fail(err, KBS_INPUT, "%s must be a decimal number from 1 to %u", name,
                        (unsigned int)max);
    }
    *ret = (uint32_t)number;
    return 0;
}

int kbs_request_version(const struct kbs_wire_request *req, uint32_t *ret, struct kbs_error *err)
{
    *ret = 0;
    return query_number(req, "version", UINT32_MAX, ret, err);
}

int kbs_request_page(const struct kbs_wire_request *req, struct kbs_span *ret_after,
                     uint32_t *ret_limit, struct kbs_error *err)
{
    static const char *const names[] = {"after", "limit", NULL};

    *ret_after = KBS_SPAN_EMPTY;
    *ret_limit = KBS_LIMIT_KEY_LIST_ITEMS;
    if (kbs_request_query_only(req, names, err) != 0) {
        return -1;
    }
    (void)kbs_wire_list_find(&req->query, "after", ret_after);
    return query_number(req, "limit", KBS_LIMIT_KEY_LIST_ITEMS, ret_limit, err);
}

int kbs_request_path(struct kbs_call *call, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_buf path = KBS_BUF(KBS_LIMIT_KEY_PATH_BYTES);
    int result = 0;

    for (uint16_t i = 0; i < 3; i++) {
        if (i > 0) {
            kbs_buf_put_u8(&path, '/');
        }
        kbs_buf_put_span(&path, kbs_wire_list_at(&call->req->params, i));
    }
    if (path.failed || call->req->params.count != 3 || !kbs_key_path_valid(kbs_buf_span(&path))) {
        result = kbs_fail(err, KBS_INPUT,
                          "the path is not repo/type/tag of letters, digits, '_', '-', '.'");
    } else {
        *ret = kbs_arena_copy(&call->arena, kbs_buf_span(&path));
        if (ret->p == NULL) {
            result = kbs_fail(err, KBS_INTERNAL, "out of memory");
        }
    }
    kbs_buf_deinit(&path);
    return result;
}

/* qvalue of RFC 9110 section 12.4.2 in thousandths; false if it is none. */
static bool qvalue(struct kbs_span s, unsigned int *ret)
{
    unsigned int q = 0;
    unsigned int weight = Q_MAX;

    if (s.len == 0 || s.len > 5 || (s.len > 1 && s.p[1] != '.')) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (i == 1) {
            continue;
        }
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
        q += (unsigned int)(s.p[i] - '0') * weight;
        weight /= 10;
    }
    *ret = q;
    return q <= Q_MAX;
}

/* What one media range says: which format, how specifically, how much it is wanted. */
struct range {
    enum kbs_format format; /* KBS_FORMAT_NONE: nothing that we have */
    unsigned int specific;  /* 1 any type, 2 any application type, 3 by name */
    unsigned int q;
};

static bool cose_type_known(struct kbs_span value)
{
    return is_name(value, "cose-encrypt") || is_name(value, "\"cose-encrypt\"");
}

static int range_parse(struct kbs_span text, struct range *ret, struct kbs_error *err)
{
    struct kbs_span type = cut(&text, ';');

    *ret = (struct range){.format = KBS_FORMAT_NONE, .specific = 3, .q = Q_MAX};
    if (is_name(type, "application/jose+json")) {
        ret->format = KBS_FORMAT_JOSE;
    } else if (is_name(type, "application/cose")) {
        ret->format = KBS_FORMAT_COSE;
    } else if (is_name(type, "*/*") || is_name(type, "application/*")) {
        ret->format = KBS_FORMAT_JOSE;
        ret->specific = type.p[0] == '*' ? 1 : 2;
    }
    while (text.len > 0) {
        struct kbs_span value = cut(&text, ';');
        struct kbs_span name = cut(&value, '=');

        if (is_name(name, "q") && !qvalue(value, &ret->q)) {
            return kbs_fail(err, KBS_INPUT, "Accept holds a q that is not a weight");
        }
        if (is_name(name, "cose-type") && !cose_type_known(value)) {
            ret->format = KBS_FORMAT_NONE;
        }
    }
    return 0;
}

int kbs_request_accept(struct kbs_span accept, uint8_t ret[KBS_FORMAT_COUNT], size_t *ret_count,
                       struct kbs_error *err)
{
    struct range best[KBS_FORMAT_COUNT] = {{.format = KBS_FORMAT_NONE}};
    size_t place[KBS_FORMAT_COUNT] = {0};
    size_t n = 0;

    if (accept.len == 0) {
        accept = KBS_SPAN_LIT("*/*");
    }
    for (size_t i = 0; accept.len > 0; i++) {
        struct range r;

        if (range_parse(cut(&accept, ','), &r, err) != 0) {
            return -1;
        }
        if (r.format != KBS_FORMAT_NONE && r.specific > best[r.format].specific) {
            best[r.format] = r;
            place[r.format] = i;
        }
    }
    for (unsigned int q = Q_MAX; q > 0; q--) {
        enum kbs_format first =
            place[KBS_FORMAT_JOSE] <= place[KBS_FORMAT_COSE] ? KBS_FORMAT_JOSE : KBS_FORMAT_COSE;
        enum kbs_format second = first == KBS_FORMAT_JOSE ? KBS_FORMAT_COSE : KBS_FORMAT_JOSE;

        if (best[first].format != KBS_FORMAT_NONE && best[first].q == q) {
            ret[n++] = (uint8_t)first;
        }
        if (best[second].format != KBS_FORMAT_NONE && best[second].q == q) {
            ret[n++] = (uint8_t)second;
        }
    }
    *ret_count = n;
    if (n == 0) {
        return kbs_fail(err, KBS_INPUT,
                        "Accept must allow application/jose+json or application/cose");
    }
    return 0;
}

int kbs_request_context(const struct kbs_wire_request *req, bool *ret_empty, struct kbs_error *err)
{
    struct kbs_span context = KBS_SPAN_EMPTY;

    *ret_empty = false;
    if (!kbs_wire_list_find(&req->query, "context", &context)) {
        return 0;
    }
    *ret_empty = kbs_span_equal_str(context, "none");
    return *ret_empty ? 0 : kbs_fail(err, KBS_INPUT, "context may only be none");
}

int kbs_request_freshness(const json_t *body, struct kbs_release_want *want,
                          uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES], struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_COSE_SALT_BYTES);
    struct kbs_span nonce_text = KBS_SPAN_EMPTY;
    struct kbs_span salt_text = KBS_SPAN_EMPTY;
    int rc = 0;

    if (kbs_json_opt_string(body, "nonce", &nonce_text, err) != 0 ||
        kbs_json_opt_string(body, "salt", &salt_text, err) != 0) {
        return -1;
    }
    if (nonce_text.p != NULL &&
        kbs_base64url_get_exact(want->nonce, sizeof(want->nonce), nonce_text) != 0) {
        return kbs_fail(err, KBS_INPUT, "'nonce' is not the base64url of 32 bytes");
    }
    if (kbs_base64url_get(&bytes, salt_text) != 0) {
        rc = kbs_fail(err, KBS_INPUT, "'salt' is not the base64url of at most %d bytes",
                      KBS_LIMIT_COSE_SALT_BYTES);
    } else if (bytes.len != 0) {
        memcpy(salt, bytes.p, bytes.len);
        want->salt = kbs_span(salt, bytes.len);
    }
    kbs_buf_deinit(&bytes);
    return rc;
}
