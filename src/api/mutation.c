/*
 * Mutations: what every change of the catalog has in common.
 *
 * The problem: a mutation touches ledger, token and store, and a crash may come between any two;
 * and it may change one row or a hundred. The approach, whatever the mutation: the intent is
 * durable before the token is asked, the rows are written after the token has done its part, all of
 * them and the epoch in one transaction, and the outcome is recorded last. A mutation that comes to
 * nothing raises the epoch without rows, so that its outcome can be told. What a crash leaves open
 * is closed by epoch.c.
 *
 * Rows are signed by the token one by one, each with the epoch of the mutation, and the epoch's own
 * row over the chain of all of them. Before that the rows that are there must be those that the
 * store's epoch was signed over: otherwise a change behind our back would be blessed by the next
 * honest one.
 *
 * The intent is the one door that every mutation goes through, so it is there that those which need more
 * administrators stop (approval.c).
 */
#include "api/context.h"

#include "base/log.h"
#include "base/random.h"
#include "catalog/row.h"

int kbs_mutation_begin(struct kbs_mutation *m, struct kbs_error *err)
{
    struct kbs_api *api = m->api;

    if (!api->token.has_row) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no sign-row key, see kbs-admin init");
    }
    /* Also closes what a crash left open, and makes sure that nothing foreign is counted in. */
    if (kbs_epoch_check(api, err) != 0 || kbs_epoch_gate(api, err) != 0) {
        return -1;
    }
    if (m->call != NULL) {
        m->request = kbs_admin_request(m->call);
    }
    kbs_random(m->order, sizeof(m->order));
    m->epoch = api->standing.store.epoch + 1;
    return 0;
}

void kbs_mutation_record(const struct kbs_mutation *m, enum kbs_phase phase, struct kbs_record *ret)
{
    kbs_record_init(ret, m->kind);
    ret->phase = phase;
    ret->epoch = phase != KBS_PHASE_NONE ? m->epoch : 0;
    if (m->has_order) {
        kbs_record_hex(ret, "order", kbs_span(m->order, sizeof(m->order)));
    }
    if (m->intent != 0) {
        kbs_record_u64(ret, "intent", m->intent);
    }
    if (m->key != NULL) {
        kbs_record_str(ret, "path", m->key->path);
        kbs_record_u64(ret, "version", m->key->version);
        kbs_record_hex(ret, "id", kbs_span(m->key->id, sizeof(m->key->id)));
    } else if (m->document != NULL) {
        kbs_record_str(ret, "document", kbs_document_kind_name(m->document->kind));
        kbs_record_str(ret, "name", m->document->name);
        kbs_record_u64(ret, "version", m->document->version);
    } else {
        kbs_record_u64(ret, "version", m->wrap_version);
    }
    if (m->admin != NULL) {
        kbs_admin_record(ret, m->admin, m->sequence);
    }
    if (m->call != NULL && m->call->approval != NULL) {
        kbs_approval_record(ret, m->call->approval);
    }
    kbs_record_str(ret, "token_serial", m->api->token.serial);
}

int kbs_mutation_intent(struct kbs_mutation *m, struct kbs_record *r, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    int rc = 0;

    if (kbs_approval_gate(m, err) != 0) {
        kbs_record_deinit(r);
        return -1;
    }
    kbs_sha256(m->request, digest);
    kbs_record_hex(r, "request", kbs_span(digest, sizeof(digest)));
    if (m->call != NULL) {
        kbs_record_text(r, "peer", m->call->req->peer);
    }
    rc = kbs_api_ledger_append(m->api, r, &m->intent, err);
    kbs_record_deinit(r);
    return rc;
}

int kbs_mutation_order(struct kbs_mutation *m, enum kbs_wire_type type, const void *order,
                       struct kbs_wire_result *ret, struct kbs_error *err)
{
    return m->call != NULL ? kbs_token_order(m->call, type, order, ret, err)
                           : kbs_token_ask(m->api, type, order, ret, err);
}

static int sign_content(struct kbs_api *api, const struct kbs_buf *content,
                        uint8_t ret[KBS_ES256_BYTES], struct kbs_error *err)
{
    if (kbs_buf_check(content, "the row", err) != 0) {
        return -1;
    }
    return kbs_row_sign(api, kbs_buf_span(content), ret, err);
}

static int rows_sign(struct kbs_api *api, const struct kbs_store_mutation *m, struct kbs_error *err)
{
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < m->row_count; i++) {
        kbs_buf_clear(&content);
        kbs_row_key_put(&content, m->rows[i].key, m->rows[i].policy);
        rc = sign_content(api, &content, m->rows[i].key->signature, err);
    }
    for (size_t i = 0; rc == 0 && i < m->document_count; i++) {
        const struct kbs_store_document *d = &m->documents[i];

        if (!d->dropped) {
            kbs_buf_clear(&content);
            kbs_row_document_put(&content, d->document, d->text);
            rc = sign_content(api, &content, d->document->signature, err);
        }
    }
    kbs_buf_deinit(&content);
    return rc;
}

/* From the store's epoch to the mutation's, with rows that are in order and know that epoch. */
static int commit_rows(struct kbs_mutation *m, struct kbs_store_mutation *store,
                       struct kbs_error *err)
{
    store->from_epoch = m->api->standing.store.epoch;
    store->epoch = m->api->standing.store;
    store->epoch.epoch = m->epoch;
    if (kbs_epoch_advance(m->api, store, err) != 0 || rows_sign(m->api, store, err) != 0) {
        return -1;
    }
    return kbs_epoch_commit(m->api, store, err);
}

/* With the documents, which are put in order, and the approval that this is done by: it is used up. */
static int commit(struct kbs_mutation *m, struct kbs_store_mutation *store,
                  const struct kbs_store_document *documents, size_t count, struct kbs_error *err)
{
    struct kbs_approval *approval = m->call != NULL ? m->call->approval : NULL;
    struct kbs_store_document all[2 * KBS_LIMIT_REFERENCE_VALUES + KBS_APPROVAL_ROWS];
    size_t n = 0;

    for (; n < count; n++) {
        all[n] = documents[n];
    }
    n += approval != NULL ? kbs_approval_close(approval, m->request, all + n) : 0;
    for (size_t i = 0; i < n; i++) {
        all[i].document->epoch = m->epoch;
        kbs_sha256(all[i].request, all[i].document->request);
    }
    kbs_store_documents_sort(all, n);
    store->documents = all;
    store->document_count = n;
    if (commit_rows(m, store, err) != 0) {
        return -1;
    }
    if (approval != NULL) {
        kbs_approval_spend(approval);
    }
    return 0;
}

int kbs_mutation_commit(struct kbs_mutation *m, struct kbs_store_row *rows, size_t count,
                        bool erase, struct kbs_error *err)
{
    struct kbs_store_mutation store = {.rows = rows, .row_count = count, .erase = erase};

    for (size_t i = 0; i < count; i++) {
        rows[i].key->epoch = m->epoch;
        kbs_sha256(rows[i].request, rows[i].key->request);
    }
    kbs_store_rows_sort(rows, count);
    return commit(m, &store, NULL, 0, err);
}

int kbs_mutation_commit_documents(struct kbs_mutation *m,
                                  const struct kbs_store_document *documents, size_t count,
                                  struct kbs_error *err)
{
    struct kbs_store_mutation store = {.row_count = 0};

    return commit(m, &store, documents, count, err);
}

int kbs_mutation_done(struct kbs_mutation *m, struct kbs_record *r, struct kbs_error *err)
{
    int rc = kbs_api_ledger_append(m->api, r, NULL, err);

    kbs_record_deinit(r);
    if (rc == 0) {
        kbs_head_sign(m->api);
    }
    return rc;
}

int kbs_mutation_failed(struct kbs_mutation *m, const char *outcome, struct kbs_error *err)
{
    struct kbs_store_mutation nothing = {.row_count = 0}; /* an approval waits on */
    struct kbs_error failed = KBS_ERROR_NONE;
    enum kbs_phase phase = KBS_PHASE_NONE; /* leaves the epoch open */
    struct kbs_record r;

    if (m->api->must_exit == KBS_EXIT_OK && commit_rows(m, &nothing, &failed) == 0) {
        phase = KBS_PHASE_OUTCOME;
    }
    kbs_mutation_record(m, phase, &r);
    kbs_record_str(&r, "outcome", outcome);
    kbs_record_str(&r, "reason", err->detail);
    if (kbs_api_ledger_append(m->api, &r, NULL, &failed) != 0) {
        *err = failed;
    }
    kbs_record_deinit(&r);
    kbs_head_sign(m->api);
    return -1;
}

int kbs_mutation_refused(struct kbs_mutation *m, struct kbs_error *err)
{
    /* Out of step, lost while it worked, or without a ledger for its deed: nobody knows what the
     * token has done. */
    bool lost = m->api->must_exit != KBS_EXIT_OK || err->category == KBS_TOKEN_DOWN ||
                err->category == KBS_BUSY;

    return kbs_mutation_failed(m, lost ? "unknown" : "failed", err);
}
