/*
 * Strict JSON (RFC 8259) over jansson: duplicate members, NUL characters, bytes after the value,
 * invalid UTF-8 and depth over KBS_LIMIT_JSON_DEPTH are refused. Errors name the place, never the
 * content.
 */
#ifndef KBS_JOSE_READ_JSON_H
#define KBS_JOSE_READ_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"

/*
 * From here on, what jansson gives back to the heap is overwritten first: texts, names and values
 * of requests. Once, before the first use of jansson in a process that reads secrets.
 */
void kbs_json_wipe_freed(void);

/* json_decref() by scope. */
void kbs_json_cleanup(json_t **v);
#define KBS_AUTO_JSON __attribute__((cleanup(kbs_json_cleanup))) json_t *

/*
 * Parses one object; anything else is KBS_INPUT. `what` names the text in the detail. Returns
 * owned.
 */
KBS_MUST_CHECK int kbs_json_parse_object(struct kbs_span text, const char *what, json_t **ret,
                                         struct kbs_error *err);

/* Typed members; KBS_INPUT with the member's name if absent or of another type. Return borrowed. */
KBS_MUST_CHECK int kbs_json_get_string(const json_t *object, const char *name, struct kbs_span *ret,
                                       struct kbs_error *err);
KBS_MUST_CHECK int kbs_json_get_integer(const json_t *object, const char *name, int64_t *ret,
                                        struct kbs_error *err);
KBS_MUST_CHECK int kbs_json_get_object(const json_t *object, const char *name, json_t **ret,
                                       struct kbs_error *err);
/* Optional string: the empty span when absent or null. */
KBS_MUST_CHECK int kbs_json_opt_string(const json_t *object, const char *name, struct kbs_span *ret,
                                       struct kbs_error *err);
/* Appends an array's numbers, each 0 to 255, as bytes. -1 (and nothing said) for anything else, or if
 * it does not fit. */
KBS_MUST_CHECK int kbs_json_bytes_get(const json_t *array, struct kbs_buf *out);
/* KBS_INPUT if `object` has a member that is not in the NULL-terminated list. */
KBS_MUST_CHECK int kbs_json_only(const json_t *object, const char *const *names,
                                 struct kbs_error *err);

/* Compact text in member order. */
KBS_MUST_CHECK int kbs_json_dump(const json_t *v, struct kbs_buf *out, struct kbs_error *err);

/*
 * Canonical text (RFC 8785): members sorted by UTF-16 code units, shortest escapes, no white space.
 * Numbers other than integers within +-2^53 are KBS_INPUT: nothing that we hash contains one.
 */
KBS_MUST_CHECK int kbs_json_canonical(const json_t *v, struct kbs_buf *out, struct kbs_error *err);

#endif
