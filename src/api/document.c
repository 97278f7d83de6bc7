/*
 * Documents: read by whoever decides by them, set by administrators.
 *
 * The problem: a policy or a reference value decides as much as a key's row does. The approach: it
 * is one: a signed row (row.c) of a store that is the ledger's (epoch.c), changed in a mutation
 * (mutation.c), of which the token's part is signing only. A document's versions stay, for those who
 * ask what was decided by which, up to KBS_LIMIT_DOCUMENT_VERSIONS; all of them together have a
 * bound, because each mutation reads them.
 */
#include "api/context.h"

#include <stdlib.h>

/* A document's part in a change: the next version, and the oldest one if that is too many. */
struct part {
    struct kbs_document next;
    struct kbs_document oldest;
    bool drops;
};

struct set {
    struct kbs_mutation *m;
    enum kbs_document_kind kind;
    const struct kbs_span *names;
    const struct kbs_span *texts;
    size_t count;
    struct part *parts; /* owned */
};

int kbs_document_get(struct kbs_api *api, enum kbs_document_kind kind, struct kbs_span name,
                     struct kbs_document *ret, struct kbs_buf *text, struct kbs_error *err)
{
    if (kbs_epoch_gate(api, err) != 0 ||
        kbs_store_document_newest(api->store, kind, name, ret, text, err) != 0 ||
        kbs_epoch_of_row(api, ret->epoch, err) != 0 ||
        kbs_row_check_document(api, ret, kbs_buf_span(text), err) != 0) {
        return -1;
    }
    if (text->len == 0) {
        return kbs_fail(err, KBS_MISSING, "no such %s", kbs_document_kind_name(kind));
    }
    return 0;
}

int kbs_document_version(struct kbs_api *api, enum kbs_document_kind kind, struct kbs_span name,
                         uint32_t version, struct kbs_document *ret, struct kbs_buf *text,
                         struct kbs_error *err)
{
    if (kbs_epoch_gate(api, err) != 0) {
        return -1;
    }
    if ((version == 0
             ? kbs_store_document_newest(api->store, kind, name, ret, text, err)
             : kbs_store_document_version(api->store, kind, name, version, ret, text, err)) != 0 ||
        kbs_epoch_of_row(api, ret->epoch, err) != 0) {
        return -1;
    }
    return kbs_row_check_document(api, ret, kbs_buf_span(text), err);
}

/* The version that follows the newest one, whose row must be ours. */
static int next_version(const struct set *s, struct kbs_span name, uint32_t *ret,
                        struct kbs_error *err)
{
    struct kbs_api *api = s->m->api;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_error found = KBS_ERROR_NONE;
    struct kbs_document newest;
    int rc = kbs_store_document_newest(api->store, s->kind, name, &newest, &text, &found);

    *ret = 1;
    if (rc == 0) {
        rc = kbs_row_check_document(api, &newest, kbs_buf_span(&text), err);
        *ret = newest.version + 1;
        if (rc == 0 && *ret == 0) {
            rc = kbs_fail(err, KBS_CONFLICT, "the document has no version left");
        }
    } else if (found.category == KBS_MISSING) {
        rc = 0;
    } else {
        *err = found;
    }
    kbs_buf_deinit(&text);
    return rc;
}

static int part_fill(const struct set *s, size_t i, struct kbs_error *err)
{
    struct part *p = &s->parts[i];
    uint64_t versions = 0;

    p->next.kind = s->kind;
    p->next.created_s = s->m->call->now_s;
    if (!kbs_document_name_valid(s->names[i]) ||
        !kbs_span_to_cstr(s->names[i], p->next.name, sizeof(p->next.name))) {
        return kbs_fail(err, KBS_INPUT,
                        "a name is 1 to %d letters, digits, '_', '-', '.', in segments with '/'",
                        KBS_LIMIT_DOCUMENT_NAME_BYTES);
    }
    if (next_version(s, s->names[i], &p->next.version, err) != 0) {
        return -1;
    }
    p->oldest = p->next;
    if (kbs_store_document_versions(s->m->api->store, s->kind, s->names[i], &versions,
                                    &p->oldest.version, err) != 0) {
        return -1;
    }
    p->drops = versions >= KBS_LIMIT_DOCUMENT_VERSIONS;
    return 0;
}

/* All documents, with these, keep to their bounds. */
static int check_space(const struct set *s, struct kbs_error *err)
{
    uint64_t rows = 0;
    uint64_t bytes = 0;

    if (kbs_store_document_space(s->m->api->store, &rows, &bytes, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < s->count; i++) {
        rows += s->parts[i].drops ? 0 : 1;
        bytes += s->texts[i].len;
    }
    if (rows > KBS_LIMIT_DOCUMENTS || bytes > KBS_LIMIT_DOCUMENTS_BYTES) {
        return kbs_fail(err, KBS_TOO_LARGE,
                        "all versions of all documents are at most %u, of %u bytes together",
                        (unsigned int)KBS_LIMIT_DOCUMENTS, (unsigned int)KBS_LIMIT_DOCUMENTS_BYTES);
    }
    return 0;
}

static int set_begin(struct set *s, struct kbs_error *err)
{
    struct kbs_buf basis =
        KBS_BUF(KBS_LIMIT_REFERENCE_VALUES * (KBS_LIMIT_DOCUMENT_NAME_BYTES + 16));

    if (kbs_mutation_begin(s->m, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (part_fill(s, i, err) != 0) {
            kbs_buf_deinit(&basis);
            return -1;
        }
        kbs_buf_printf(&basis, "%s %u\n", s->parts[i].next.name,
                       (unsigned int)s->parts[i].next.version);
    }
    kbs_sha256(kbs_buf_span(&basis), s->m->basis);
    kbs_buf_deinit(&basis);
    s->m->document = &s->parts[0].next;
    return check_space(s, err);
}

static int set_intent(const struct set *s, struct kbs_error *err)
{
    struct kbs_buf names = KBS_BUF(KBS_LIMIT_AUDIT_RECORD_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_record r;

    kbs_mutation_record(s->m, KBS_PHASE_INTENT, &r);
    if (s->count == 1) {
        kbs_sha256(s->texts[0], digest);
        kbs_record_hex(&r, "text", kbs_span(digest, sizeof(digest)));
    } else { /* `name` and `version` are the first one's; `request` is the digest of it all */
        kbs_record_u64(&r, "documents", s->count);
        for (size_t i = 0; i < s->count; i++) {
            kbs_buf_put_str(&names, i > 0 ? " " : "");
            kbs_buf_put_span(&names, s->names[i]);
        }
        kbs_record_text(&r, "names", kbs_buf_span(&names));
        kbs_buf_deinit(&names);
    }
    return kbs_mutation_intent(s->m, &r, err);
}

static int set_commit(const struct set *s, struct kbs_error *err)
{
    struct kbs_store_document rows[2 * KBS_LIMIT_REFERENCE_VALUES];
    size_t n = 0;

    for (size_t i = 0; i < s->count; i++) {
        rows[n++] = (struct kbs_store_document){
            .document = &s->parts[i].next, .text = s->texts[i], .request = s->m->request};
        if (s->parts[i].drops) {
            rows[n++] =
                (struct kbs_store_document){.document = &s->parts[i].oldest, .dropped = true};
        }
    }
    return kbs_mutation_commit_documents(s->m, rows, n, err);
}

static int set_make(const struct set *s, struct kbs_error *err)
{
    struct kbs_record r;

    if (set_intent(s, err) != 0) {
        return -1;
    }
    if (set_commit(s, err) != 0) {
        return kbs_mutation_failed(s->m, "failed", err);
    }
    kbs_mutation_record(s->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(s->m, &r, err);
}

int kbs_document_set(struct kbs_mutation *m, enum kbs_document_kind kind,
                     const struct kbs_span *names, const struct kbs_span *texts, size_t count,
                     struct kbs_error *err)
{
    struct set s = {.m = m, .kind = kind, .names = names, .texts = texts, .count = count};
    int rc = -1;

    if (count == 0 || count > KBS_LIMIT_REFERENCE_VALUES) {
        return kbs_fail(err, KBS_INPUT, "1 to %d of them can be set at a time",
                        KBS_LIMIT_REFERENCE_VALUES);
    }
    s.parts = calloc(count, sizeof(*s.parts));
    if (s.parts == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (set_begin(&s, err) == 0) {
        rc = set_make(&s, err);
    }
    m->document = NULL; /* it points into the parts */
    free(s.parts);
    return rc;
}
