/*
 * The problem: a ledger is worth what its reader can find out without trusting who wrote it. The
 * chain says that nothing was changed since the newest head that somebody else has; signed heads
 * say it of everything before them; and two writers who do not trust each other, the judge (orders)
 * and the token worker (deeds), have to tell the same story. The approach: one pass, in which every
 * order id collects its records; what does not come together in the end is a finding, or a note if
 * a crash explains it. A release is whole with its order and a deed that says "done": the deed was
 * durable before the judge had the answer. A mutation also has an outcome.
 *
 * What is tolerated, because an honest service can leave it behind:
 *   - an order without a deed: the lane died, or the token never began;
 *   - a deed that says that the token did not do it, without `release-failed`: the judge died;
 *   - an order that could not be written, if a `release-failed` names it, with or without its deed;
 *   - an intent without outcome that a later `store-recovered` closed;
 *   - a key that the token says it no longer has, where it was told to destroy it: an earlier
 *     attempt died between token and store.
 * A deed that no order names is never tolerated, nor is "done" without a deed: neither an order nor
 * its deed can be lost once a later record of theirs is there.
 *
 * Nothing here trusts a record beyond its shape: members that are missing are empty.
 */
#include "cli/audit_verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "jose/read/json.h"
#include "jose/write/jose.h"

#define WINDOW KBS_LIMIT_AUDIT_CLIENTS /* records that can be under way at once */
#define HASHES 4096                    /* how far back a head may point */
#define NO_OP "change"                 /* of a mutation in which the token only signs rows */

struct reader {
    struct kbs_audit_summary *out;
    const struct kbs_ec_public *head_key;
    char head_kid[44];
    json_t *open;        /* order id -> {"order","deed","end": line, ...} */
    char intent[72];     /* what the newest intent stands under in `open` */
    uint64_t phase_line; /* of the newest record with an epoch */
    uint64_t epoch;      /* before the current record */
    bool outcome;
    uint8_t hashes[HASHES][KBS_SHA256_BYTES];
    bool failed; /* out of memory */
};

void kbs_audit_summary_deinit(struct kbs_audit_summary *s)
{
    json_decref(s->findings);
    json_decref(s->notes);
    s->findings = NULL;
    s->notes = NULL;
}

KBS_PRINTF(4, 5)
static void say(struct reader *r, json_t *list, uint64_t line, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (json_array_append_new(
            list, json_pack("{s:I, s:s}", "line", (json_int_t)line, "text", text)) != 0) {
        r->failed = true;
    }
}

#define finding(r, ...) say((r), (r)->out->findings, __VA_ARGS__)
#define note(r, ...) say((r), (r)->out->notes, __VA_ARGS__)

static const char *text_of(const json_t *record, const char *name)
{
    const char *s = json_string_value(json_object_get(record, name));

    return s != NULL ? s : "";
}

static bool is(const json_t *record, const char *name, const char *value)
{
    return strcmp(text_of(record, name), value) == 0;
}

static uint64_t number_of(const json_t *record, const char *name)
{
    return strtoull(text_of(record, name), NULL, 10);
}

static uint64_t line_of(const json_t *entry, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(entry, name));
}

/* ---- orders and deeds ---- */

/* The entry of a record's order, made if need be. Borrowed; NULL if memory ran out. */
static json_t *entry_of(struct reader *r, const char *id)
{
    json_t *entry = json_object_get(r->open, id);

    if (entry == NULL && json_object_set_new(r->open, id, json_object()) == 0) {
        entry = json_object_get(r->open, id);
    }
    r->failed = r->failed || entry == NULL;
    return entry;
}

static void entry_set(struct reader *r, json_t *entry, const char *name, const char *value)
{
    r->failed = r->failed || json_object_set_new(entry, name, json_string(value)) != 0;
}

/* Notes where a record of the order stands. A second one of the same sort is a finding. */
static void entry_line(struct reader *r, json_t *entry, const char *what, uint64_t line,
                       const char *id)
{
    if (line_of(entry, what) != 0) {
        finding(r, line, "order %s has a second %s, the first in line %" PRIu64, id,
                strcmp(what, "deed") == 0    ? "deed"
                : strcmp(what, "order") == 0 ? "order record"
                                             : "end",
                line_of(entry, what));
        return;
    }
    r->failed = r->failed || json_object_set_new(entry, what, json_integer((json_int_t)line)) != 0;
}

/* The deed is for the key of the order: by its kid, or by the digest of it that a card has. */
static bool deed_is_for_kid(const json_t *entry)
{
    char hex[2 * KBS_SHA256_BYTES + 1];
    uint8_t digest[KBS_SHA256_BYTES];

    if (json_object_get(entry, "deed_kid_sha256") == NULL) {
        return is(entry, "kid", text_of(entry, "deed_kid"));
    }
    kbs_sha256(kbs_span_str(text_of(entry, "kid")), digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex, sizeof(hex));
    return is(entry, "deed_kid_sha256", hex);
}

/* What the token says of an order that is said to be carried out. */
static bool deed_is_done(const json_t *entry)
{
    return is(entry, "deed_outcome", "done") ||
           (is(entry, "op", "destroy") &&
            is(entry, "deed_outcome", kbs_category_name(KBS_MISSING)));
}

/* A release has no outcome of its own: order and deed are all there is. */
static bool is_release(const json_t *entry)
{
    return is(entry, "op", "release") || is(entry, "op", "open-secret") ||
           is(entry, "op", "rewrap-nek") || is(entry, "op", "provision") ||
           is(entry, "op", "reprovision") || is(entry, "op", "register-set");
}

/* What came together: does it agree? */
static void entry_agree(struct reader *r, const char *id, const json_t *entry)
{
    uint64_t line = line_of(entry, "deed");
    bool claimed = is(entry, "ending", "done");
    bool done = deed_is_done(entry);

    if (line_of(entry, "order") != 0 && !deed_is_for_kid(entry)) {
        finding(r, line, "order %s was for %s, and the deed is for %s", id, text_of(entry, "kid"),
                json_object_get(entry, "deed_kid_sha256") != NULL ? "another key"
                                                                  : text_of(entry, "deed_kid"));
    }
    if (line_of(entry, "order") != 0 && !is(entry, "op", text_of(entry, "deed_op"))) {
        finding(r, line, "order %s was to %s, and the deed is %s", id, text_of(entry, "op"),
                text_of(entry, "deed_op"));
    }
    if (claimed && !done) {
        finding(r, line, "order %s is said to be carried out, and the token says %s", id,
                text_of(entry, "deed_outcome"));
    } else if (!claimed && done && line_of(entry, "end") != 0) {
        note(r, line, "order %s was carried out by the token and ended as %s", id,
             text_of(entry, "ending"));
    }
}

static void entry_maybe_close(struct reader *r, const char *id)
{
    json_t *entry = json_object_get(r->open, id);
    bool whole = is_release(entry) && is(entry, "deed_outcome", "done");

    if (line_of(entry, "order") != 0 && line_of(entry, "end") != 0 && is(entry, "op", NO_OP)) {
        (void)json_object_del(r->open, id);
    } else if (line_of(entry, "order") != 0 && line_of(entry, "deed") != 0 &&
               (line_of(entry, "end") != 0 || whole)) {
        entry_agree(r, id, entry);
        (void)json_object_del(r->open, id);
    }
}

/* What is left of an order at the end of the ledger. */
static void entry_left(struct reader *r, const char *id, const json_t *entry)
{
    uint64_t order = line_of(entry, "order");
    uint64_t deed = line_of(entry, "deed");
    uint64_t end = line_of(entry, "end");
    bool claimed = is(entry, "ending", "done");

    if (order == 0 && deed != 0 && end == 0) {
        finding(r, deed, "a deed without an order: %s of %s (order %s, %s)",
                text_of(entry, "deed_op"), text_of(entry, "deed_kid"), id,
                text_of(entry, "deed_outcome"));
    } else if (order == 0 && claimed) {
        finding(r, end, "order %s ends as carried out and has no beginning", id);
    } else if (order == 0) {
        note(r, end, "order %s could not be recorded, or its answer was dropped", id);
    } else if (deed == 0 && claimed) {
        finding(r, end, "order %s is said to be carried out, and the token says nothing", id);
    } else if (end == 0 && !is_release(entry)) {
        bool recovered = json_object_get(entry, "recovered") != NULL;
        say(r, recovered ? r->out->notes : r->out->findings, order,
            "the %s of %s was never finished%s%s", text_of(entry, "op"), text_of(entry, "kid"),
            recovered ? "; found out later: rows committed: " : "",
            recovered ? text_of(entry, "recovered") : "");
    } else if (end == 0) {
        note(r, order, "the release of %s was ordered and %s: its lane ended",
             text_of(entry, "kid"), deed != 0 ? "refused by the token" : "not carried out");
    }
    /* An order that ended as failed, and that the token never began: nothing to say. */
}

static void on_order(struct reader *r, uint64_t line, const char *id, const char *op,
                     const char *kid)
{
    json_t *entry = entry_of(r, id);

    if (entry != NULL) {
        entry_line(r, entry, "order", line, id);
        entry_set(r, entry, "op", op);
        entry_set(r, entry, "kid", kid);
        entry_maybe_close(r, id);
    }
}

static void on_end(struct reader *r, uint64_t line, const char *id, const char *ending)
{
    json_t *entry = entry_of(r, id);

    if (entry != NULL) {
        entry_line(r, entry, "end", line, id);
        entry_set(r, entry, "ending", ending);
        entry_maybe_close(r, id);
    }
}

static void on_deed(struct reader *r, uint64_t line, const json_t *record)
{
    const char *id = text_of(record, "order");
    json_t *entry = NULL;

    r->out->deeds++;
    if (is(record, "op", "sign-row")) {
        if (r->outcome && line - r->phase_line > WINDOW) {
            finding(r, line, "a row of the store was signed, and no mutation was under way");
        }
        return;
    }
    entry = entry_of(r, id);
    if (entry != NULL) {
        entry_line(r, entry, "deed", line, id);
        entry_set(r, entry, "deed_op", text_of(record, "op"));
        entry_set(r, entry, "deed_kid", text_of(record, "kid"));
        if (json_object_get(record, "kid_sha256") != NULL) {
            entry_set(r, entry, "deed_kid_sha256", text_of(record, "kid_sha256"));
        }
        entry_set(r, entry, "deed_outcome", text_of(record, "outcome"));
        entry_maybe_close(r, id);
    }
}

/* kbs-audit started. */
static void on_open(struct reader *r, uint64_t line, const json_t *record)
{
    if (json_object_get(record, "cut_bytes") != NULL) {
        note(r, line, "a record that was not written to its end was cut off before this one");
    }
}

/* ---- mutations ---- */

/* The token's part in a mutation, as its deed calls it. */
static const struct mutation {
    const char *kind;
    const char
        *op; /* NULL: it has none but to sign rows, or several, which have records of their own */
    const char *kid; /* NULL: that of the key it names */
} mutations[] = {
    {"key-generate", "generate", NULL},
    {"key-import", "import", NULL},
    {"key-adopt", "adopt", NULL},
    {"key-policy", "recard", NULL},
    {"key-state", NULL, NULL},
    {"key-destroy", "destroy", NULL},
    {"secret-set", "seal", NULL},
    {"secret-policy", "recard", NULL},
    {"secret-delete", NULL, NULL},
    {"resource-policy-set", NULL, NULL},
    {"attestation-policy-set", NULL, NULL},
    {"reference-value-set", NULL, NULL},
    {"reference-value-delete", NULL, NULL},
    {"kept-forget", NULL, NULL},
    {"alias-set", NULL, NULL},
    {"alias-remove", NULL, NULL},
    {"approval-request", NULL, NULL},
    {"approval-give", NULL, NULL},
    {"approval-withdraw", NULL, NULL},
    {"wrapping-key-generate", "generate", "wrap-catalog"},
    {"wrapping-key-rewrap", NULL, "wrap-catalog"},
    {"wrapping-key-destroy", "destroy", "wrap-catalog"},
    {"seal-key-generate", "generate", "seal"},
    {"seal-key-reseal", NULL, "seal"},
    {"seal-key-destroy", "destroy", "seal"},
    {"sign-key-generate", "generate", "sign-token"},
    {"sign-key-destroy", "destroy", "sign-token"},
    {"receipt-key-generate", "generate", "sign-receipt"},
    {"tls-key-generate", "generate", "tls"},
    {"tls-key-destroy", "destroy", "tls"},
};

static const struct mutation *mutation_find(const char *kind)
{
    for (size_t i = 0; i < sizeof(mutations) / sizeof(mutations[0]); i++) {
        if (strcmp(mutations[i].kind, kind) == 0) {
            return &mutations[i];
        }
    }
    return NULL;
}

static void on_intent(struct reader *r, uint64_t line, const json_t *record,
                      const struct mutation *m)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];

    r->out->mutations++;
    (void)snprintf(kid, sizeof(kid), "%s/v%s", text_of(record, "path"), text_of(record, "version"));
    if (m->op != NULL) {
        (void)snprintf(r->intent, sizeof(r->intent), "%s", text_of(record, "order"));
    } else {
        (void)snprintf(r->intent, sizeof(r->intent), "intent %" PRIu64, line);
    }
    on_order(r, line, r->intent, m->op != NULL ? m->op : NO_OP, m->kid != NULL ? m->kid : kid);
}

/* One of several orders of a mutation. */
static void on_part(struct reader *r, uint64_t line, const json_t *record)
{
    const char *id = text_of(record, "order");
    json_t *entry = NULL;

    on_order(r, line, id, text_of(record, "op"), text_of(record, "kid"));
    entry = json_object_get(r->open, id);
    if (entry != NULL) {
        entry_set(r, entry, "intent", text_of(record, "intent"));
    }
}

/* What came of a mutation came of all its orders that have not failed. */
static void on_outcome(struct reader *r, uint64_t line, const json_t *record,
                       const struct mutation *m)
{
    char whole[72];
    const char *id;
    json_t *entry;
    void *next;

    if (m->op != NULL) {
        on_end(r, line, text_of(record, "order"), text_of(record, "outcome"));
        return;
    }
    (void)snprintf(whole, sizeof(whole), "intent %s", text_of(record, "intent"));
    on_end(r, line, whole, text_of(record, "outcome"));
    json_object_foreach_safe(r->open, next, id, entry)
    {
        if (json_object_get(entry, "intent") != NULL && line_of(entry, "end") == 0 &&
            is(entry, "intent", text_of(record, "intent"))) {
            on_end(r, line, id, text_of(record, "outcome"));
        }
    }
}

static void on_mutation(struct reader *r, const struct kbs_ledger_report *so_far,
                        const json_t *record, const struct mutation *m)
{
    if (is(record, "phase", "intent")) {
        on_intent(r, so_far->records, record, m);
    } else {
        on_outcome(r, so_far->records, record, m);
    }
}

static void on_recovered(struct reader *r, uint64_t line, const json_t *record)
{
    const char *rows = is(record, "outcome", "never") ? "no" : "yes";
    const char *id;
    json_t *entry;

    note(r, line, "a mutation that a crash interrupted was closed: its rows were %s",
         is(record, "outcome", "never") ? "never committed" : "committed");
    json_object_foreach(r->open, id, entry)
    {
        char whole[72];

        (void)snprintf(whole, sizeof(whole), "intent %s", text_of(entry, "intent"));
        if (strcmp(id, r->intent) == 0 || strcmp(whole, r->intent) == 0) {
            entry_set(r, entry, "recovered", rows);
        }
    }
}

/* Epochs go up by one, and by nobody's leave but an administrator's for a restore. */
static void check_epoch(struct reader *r, const struct kbs_ledger_report *so_far,
                        const json_t *record)
{
    bool intent = is(record, "phase", "intent");
    bool restore = is(record, "phase", "restore");
    uint64_t epoch = number_of(record, "epoch");

    if (json_object_get(record, "epoch") == NULL) {
        return;
    }
    if ((intent && epoch != r->epoch + (r->outcome ? 1 : 0)) ||
        (restore && epoch != r->epoch + 1) || (!intent && !restore && epoch != r->epoch)) {
        finding(r, so_far->records, "epoch %" PRIu64 " does not follow %" PRIu64, epoch, r->epoch);
    }
    if (restore) {
        note(r, so_far->records, "administrator %s accepted a store of epoch %s: %s",
             text_of(record, "admin"), text_of(record, "store_epoch"), text_of(record, "reason"));
    }
    r->phase_line = so_far->records;
    r->epoch = so_far->epoch;
    r->outcome = so_far->outcome;
}

/* ---- heads ---- */

static bool head_verifies(const struct reader *r, uint64_t seq, const json_t *record)
{
    struct kbs_digest digest;
    uint8_t signature[KBS_ES256_BYTES];
    uint8_t number[8];

    for (size_t i = 0; i < sizeof(number); i++) {
        number[i] = (uint8_t)(seq >> (56 - 8 * i));
    }
    const struct kbs_span parts[] = {KBS_SPAN_LIT("kbs-head-v1"), kbs_span(number, sizeof(number)),
                                     kbs_span(r->hashes[seq % HASHES], KBS_SHA256_BYTES)};
    kbs_digest(KBS_HASH_SHA256, parts, 3, &digest);
    return is(record, "kid", r->head_kid) &&
           kbs_base64url_get_exact(signature, sizeof(signature),
                                   kbs_span_str(text_of(record, "signature"))) == 0 &&
           kbs_ec_verify(r->head_key, digest.p, signature);
}

static void on_head(struct reader *r, uint64_t line, const json_t *record)
{
    uint64_t seq = number_of(record, "head_seq");
    uint8_t hash[KBS_SHA256_BYTES];

    if (seq == 0 || seq >= line || line - seq >= HASHES) {
        finding(r, line, "a head for record %" PRIu64 ", which it cannot be for", seq);
    } else if (kbs_hex_get_exact(hash, sizeof(hash), kbs_span_str(text_of(record, "head_hash"))) !=
                   0 ||
               memcmp(hash, r->hashes[seq % HASHES], sizeof(hash)) != 0) {
        finding(r, line, "the head names another hash for record %" PRIu64, seq);
    } else if (r->head_key != NULL && !head_verifies(r, seq, record)) {
        finding(r, line, "the head is not signed by the pinned head key");
    } else if (r->head_key != NULL) {
        r->out->heads++;
        r->out->head_covers = seq;
    }
}

/* ---- the pass ---- */

static void on_counts(struct reader *r, uint64_t line, const json_t *record, const char *kind)
{
    uint64_t left_out = number_of(record, "suppressed");

    if (strcmp(kind, "suppressed") == 0) {
        r->out->refusals += number_of(record, "count");
        note(r, line, "%s refusals were counted and not written: the disk was nearly full",
             text_of(record, "count"));
    } else if (strcmp(kind, "resumed") == 0) {
        note(r, line, "the ledger could not be written before this; %s records were refused",
             text_of(record, "refused"));
    } else {
        r->out->refusals += 1 + left_out;
    }
}

/* What the token was told to do for a release, as its deed calls it. */
static const char *release_op(const json_t *record)
{
    if (is(record, "provision", "now")) {
        return "provision";
    }
    return is(record, "provision", "before") ? "reprovision"
           : is(record, "class", "sealed")   ? "open-secret"
           : *text_of(record, "nek") != '\0' ? "rewrap-nek"
                                             : "release";
}

static void on_record(struct reader *r, const struct kbs_ledger_report *so_far,
                      const json_t *record)
{
    const char *kind = text_of(record, "kind");
    uint64_t line = so_far->records;

    check_epoch(r, so_far, record);
    if (strcmp(kind, "release") == 0) {
        r->out->releases++;
        on_order(r, line, text_of(record, "order"), release_op(record), text_of(record, "kid"));
    } else if (strcmp(kind, "register") == 0) {
        on_order(r, line, text_of(record, "order"), "register-set", text_of(record, "name"));
    } else if (strcmp(kind, "release-failed") == 0 || strcmp(kind, "register-failed") == 0 ||
               strcmp(kind, "order-failed") == 0) {
        on_end(r, line, text_of(record, "order"), kind);
    } else if (strcmp(kind, "deed") == 0) {
        on_deed(r, line, record);
    } else if (mutation_find(kind) != NULL) {
        on_mutation(r, so_far, record, mutation_find(kind));
    } else if (strcmp(kind, "order") == 0) {
        on_part(r, line, record);
    } else if (strcmp(kind, "store-recovered") == 0) {
        on_recovered(r, line, record);
    } else if (strcmp(kind, "head") == 0) {
        on_head(r, line, record);
    } else if (strcmp(kind, "open") == 0) {
        on_open(r, line, record);
    } else if (strcmp(kind, "attest") != 0 && strcmp(kind, "store-accept") != 0) {
        on_counts(r, line, record, kind);
    }
}

static void each(void *ctx, const struct kbs_ledger_report *so_far, struct kbs_span json)
{
    struct reader *r = ctx;
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON record = NULL;

    memcpy(r->hashes[so_far->records % HASHES], so_far->head, KBS_SHA256_BYTES);
    if (kbs_json_parse_object(json, "record", &record, &ignored) != 0) {
        finding(r, so_far->records, "not a JSON object as the ledger writes it");
        return;
    }
    on_record(r, so_far, record);
}

static void finish(struct reader *r, int rc, const struct kbs_error *broken)
{
    struct kbs_audit_summary *s = r->out;
    const char *id;
    json_t *entry;

    json_object_foreach(r->open, id, entry)
    {
        /* Without its order, or without its end, it may still disagree. */
        if (line_of(entry, "deed") != 0) {
            entry_agree(r, id, entry);
        }
        entry_left(r, id, entry);
    }
    if (rc < 0) {
        finding(r, s->ledger.records + 1, "%s", broken->detail);
    } else if (rc == KBS_LEDGER_TORN) {
        note(r, s->ledger.records + 1, "a record that was not written to its end");
    }
    if (r->head_key == NULL) {
        note(r, s->ledger.records, "signed heads were not verified: there is no head key");
    } else if (s->head_covers < s->ledger.records) {
        note(r, s->ledger.records, "%" PRIu64 " records since the last signed head",
             s->ledger.records - s->head_covers);
    }
}

int kbs_audit_verify(int fd, const struct kbs_ec_public *head_key, struct kbs_audit_summary *ret,
                     struct kbs_error *err)
{
    struct reader *r = calloc(1, sizeof(*r));
    int rc = -1;

    *ret = (struct kbs_audit_summary){.findings = json_array(), .notes = json_array()};
    if (r == NULL || ret->findings == NULL || ret->notes == NULL ||
        (r->open = json_object()) == NULL) {
        free(r);
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    r->out = ret;
    r->head_key = head_key;
    r->outcome = true;
    if (head_key != NULL) {
        kbs_jose_thumbprint(head_key, r->head_kid);
    }
    rc = kbs_ledger_scan(fd, each, r, &ret->ledger, err);
    if (rc >= 0 || err->category == KBS_CONFLICT) {
        finish(r, rc, err);
        rc = r->failed ? kbs_fail(err, KBS_INTERNAL, "out of memory") : 0;
    }
    json_decref(r->open);
    free(r);
    return rc;
}
