/*
 * What the token's probe found, read.
 *
 * It comes as lines of text (hsm/caps.h), made by the token worker for people. A line that does not
 * have its columns is an error of the worker, not something to be passed on.
 *
 * kbs_caps_choose() says what hsm/ladder.c would choose, from the same matrix by the same rule. It is
 * for telling people; what is released is chosen where it is done.
 */
#include "api/context.h"

#include "base/encoding.h"

#define COLUMNS 8
#define COLUMN_BYTES (KBS_LIMIT_ERROR_DETAIL_BYTES / 3)
#define BYTES_DIGITS 9
#define PROBED_BYTES 32 /* the ordinary length of a released key in the matrix */

/* Cuts up to the separator, or all of it, off *rest. */
static struct kbs_span cut(struct kbs_span *rest, char separator)
{
    const uint8_t *end = rest->len != 0 ? memchr(rest->p, separator, rest->len) : NULL;
    struct kbs_span piece = *rest;

    if (end != NULL) {
        piece.len = (size_t)(end - rest->p);
        *rest = kbs_span_skip(*rest, piece.len + 1);
    } else {
        *rest = KBS_SPAN_EMPTY;
    }
    return piece;
}

static bool number_get(struct kbs_span text, uint32_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') {
            return false;
        }
        *ret = 10 * *ret + (uint32_t)(text.p[i] - '0');
    }
    return text.len != 0 && text.len <= BYTES_DIGITS && (text.len == 1 || text.p[0] != '0');
}

static bool line_get(struct kbs_span line, struct kbs_caps_cell *ret)
{
    struct kbs_span bytes;
    struct kbs_span *const columns[COLUMNS] = {&ret->rung,     &ret->format, &ret->key,
                                               &bytes,         &ret->result, &ret->locality,
                                               &ret->function, &ret->ckr};

    if (!kbs_utf8_valid(line)) {
        return false;
    }
    for (size_t i = 0; i < COLUMNS; i++) {
        *columns[i] = cut(&line, '\t');
        if (columns[i]->len == 0 || columns[i]->len > COLUMN_BYTES) {
            return false;
        }
    }
    return line.len == 0 && number_get(bytes, &ret->bytes);
}

static int malformed(struct kbs_error *err)
{
    return kbs_fail(err, KBS_INTERNAL, "the token's account of itself is malformed");
}

int kbs_caps_next(struct kbs_span *rest, struct kbs_caps_cell *ret, struct kbs_error *err)
{
    if (rest->len == 0 || rest->p[0] == '#') {
        return KBS_CAPS_END;
    }
    return line_get(cut(rest, '\n'), ret) ? 0 : malformed(err);
}

int kbs_caps_note(struct kbs_span *rest, struct kbs_span *ret, struct kbs_error *err)
{
    if (rest->len == 0) {
        return KBS_CAPS_END;
    }
    *ret = cut(rest, '\n');
    if (!kbs_span_starts_with(*ret, "# ") || !kbs_utf8_valid(*ret)) {
        return malformed(err);
    }
    *ret = kbs_span_skip(*ret, 2);
    return 0;
}

/* Keys of other lengths are probed with the smallest TEE key of each kind. */
static bool odd_length_passed(struct kbs_span text, const struct kbs_caps_cell *like)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_caps_cell cell;

    while (kbs_caps_next(&text, &cell, &ignored) == 0) {
        if (cell.bytes != PROBED_BYTES && kbs_span_equal(cell.rung, like->rung) &&
            kbs_span_equal(cell.format, like->format) && cell.key.p[0] == like->key.p[0] &&
            kbs_span_equal_str(cell.result, "passed")) {
            return true;
        }
    }
    return false;
}

/* How much a cell is wanted: 0 not at all. Locality first, then the order of the formats. */
static unsigned int rank_of(struct kbs_span text, const struct kbs_caps_cell *cell,
                            const struct kbs_caps_want *want)
{
    enum kbs_locality locality = kbs_locality_from_name(cell->locality);

    if (!kbs_span_equal_str(cell->result, "passed") || cell->bytes != PROBED_BYTES ||
        !kbs_span_equal_str(cell->key, want->tee_key) || locality < want->floor) {
        return 0;
    }
    for (size_t i = 0; i < want->format_count; i++) {
        if (kbs_span_equal_str(cell->format, kbs_format_name((enum kbs_format)want->formats[i]))) {
            bool fits = want->bytes % 8 == 0 || odd_length_passed(text, cell);

            return fits ? (unsigned int)locality * KBS_FORMAT_COUNT + KBS_FORMAT_COUNT -
                              (unsigned int)i
                        : 0;
        }
    }
    return 0;
}

int kbs_caps_choose(struct kbs_span text, const struct kbs_caps_want *want,
                    struct kbs_caps_cell *ret, struct kbs_error *err)
{
    struct kbs_span rest = text;
    struct kbs_caps_cell cell;
    unsigned int best = 0;
    int rc = 0;

    while ((rc = kbs_caps_next(&rest, &cell, err)) == 0) {
        unsigned int rank = rank_of(text, &cell, want);

        if (rank > best) {
            best = rank;
            *ret = cell;
        }
    }
    if (rc < 0) {
        return -1;
    }
    return best != 0 ? 0
                     : kbs_fail(err, KBS_UNSUPPORTED, "no rung of locality %s releases a key to %s",
                                kbs_locality_name(want->floor), want->tee_key);
}
