/*
 * Problem: a record counts only when it is on the disk, and one fdatasync per record would limit
 * the whole service to what the disk can sync. Records that wait together are therefore staged,
 * written with one write and made durable by one fdatasync; the caller acknowledges after that.
 *
 * Invariants: `durable_*` describes a prefix of the file that was synced. After any failure the
 * staged records are forgotten and the file is cut back to that prefix, so that a record nobody was
 * told about cannot become the predecessor of one that somebody was. A failed fsync leaves the page
 * cache in an unknown state (the pages are marked clean although they never reached the disk);
 * cutting them off and writing anew is the only honest retry. A file whose length is not what we
 * left, or that has no name any more, is somebody else's doing: it is neither cut nor appended to.
 *
 * A torn last line is what a crash in the middle of write(2) leaves: a beginning of a record
 * without its line feed, or with zeros in the place of blocks that were not written. Only that is
 * cut off. Anything else that does not verify, a foreign file given by mistake included, is left
 * exactly as it is.
 *
 * Rejected: O_DSYNC per write (no grouping over several records in one call to measure), and
 * preallocation (the end of the file is the end of the chain, for everybody who reads it).
 */
#include "audit/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encoding.h"

#define HEX_BYTES (2 * KBS_SHA256_BYTES)
#define NAME_BYTES 32
#define READ_BYTES 65536
/* A full group; also the most that one write(2) is asked to take. */
#define STAGE_BYTES \
    ((size_t)KBS_LIMIT_AUDIT_BATCH * KBS_LIMIT_AUDIT_RECORD_BYTES + KBS_LEDGER_LINE_BYTES)

static void chain(const uint8_t previous[KBS_SHA256_BYTES], struct kbs_span json,
                  uint8_t ret[KBS_SHA256_BYTES])
{
    struct kbs_span parts[2] = {kbs_span(previous, KBS_SHA256_BYTES), json};
    struct kbs_digest digest;
    kbs_digest(KBS_HASH_SHA256, parts, 2, &digest);
    memcpy(ret, digest.p, KBS_SHA256_BYTES);
}

static void hex(const uint8_t in[KBS_SHA256_BYTES], char out[HEX_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < KBS_SHA256_BYTES; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[HEX_BYTES] = '\0';
}

/* What stands before the time in the record of that number. */
static size_t json_prefix(uint64_t seq, char out[64])
{
    return (size_t)snprintf(out, 64, "{\"seq\":%" PRIu64 ",\"time\":\"", seq);
}

static const char *const phases[KBS_PHASE_COUNT] = {"", "intent", "outcome", "restore"};

#define TIME_BYTES 27 /* as put_time() writes it */

/* Takes a text off the front; false if something else stands there. */
static bool skip_text(struct kbs_span *s, const char *text)
{
    if (!kbs_span_starts_with(*s, text)) {
        return false;
    }
    *s = kbs_span_skip(*s, strlen(text));
    return true;
}

/* What a record says of epochs. The members we write ourselves stand at fixed places. */
static enum kbs_phase phase_of(struct kbs_span json, uint64_t seq, uint64_t *ret_epoch)
{
    char prefix[64];
    uint64_t epoch = 0;
    enum kbs_phase phase = KBS_PHASE_NONE;
    json_prefix(seq, prefix);
    if (!skip_text(&json, prefix) || json.len < TIME_BYTES) {
        return KBS_PHASE_NONE;
    }
    json = kbs_span_skip(json, TIME_BYTES);
    if (!skip_text(&json, "\",\"kind\":\"")) {
        return KBS_PHASE_NONE;
    }
    while (json.len > 0 && json.p[0] != '"') {
        json = kbs_span_skip(json, 1);
    }
    if (!skip_text(&json, "\",\"phase\":\"")) {
        return KBS_PHASE_NONE;
    }
    for (int i = KBS_PHASE_NONE + 1; i < KBS_PHASE_COUNT && phase == KBS_PHASE_NONE; i++) {
        phase = skip_text(&json, phases[i]) ? (enum kbs_phase)i : KBS_PHASE_NONE;
    }
    if (phase == KBS_PHASE_NONE || !skip_text(&json, "\",\"epoch\":\"")) {
        return KBS_PHASE_NONE;
    }
    while (json.len > 0 && json.p[0] >= '0' && json.p[0] <= '9') {
        epoch = epoch * 10 + (uint64_t)(json.p[0] - '0');
        json = kbs_span_skip(json, 1);
    }
    *ret_epoch = epoch;
    return phase;
}

/* The newest epoch after a record of that phase. */
static void epoch_advance(enum kbs_phase phase, uint64_t epoch, uint64_t *newest, bool *outcome)
{
    if (phase != KBS_PHASE_NONE) {
        *newest = epoch;
        *outcome = phase != KBS_PHASE_INTENT;
    }
}

/* A line without its line feed, against its predecessor. NULL, or what is wrong. Advances *r. */
static const char *verify_line(struct kbs_ledger_report *r, struct kbs_span line)
{
    uint8_t hash[KBS_SHA256_BYTES];
    char want[HEX_BYTES + 1];
    char prefix[64];
    uint64_t epoch = 0;
    if (line.len < HEX_BYTES + 3 || line.p[HEX_BYTES] != ' ') {
        return "is not a record";
    }
    struct kbs_span json = kbs_span_skip(line, HEX_BYTES + 1);
    chain(r->head, json, hash);
    hex(hash, want);
    if (memcmp(want, line.p, HEX_BYTES) != 0) {
        return "does not match its hash or its predecessor";
    }
    json_prefix(r->records + 1, prefix);
    if (!kbs_span_starts_with(json, prefix) || json.p[json.len - 1] != '}') {
        return "has a wrong sequence number or shape";
    }
    memcpy(r->head, hash, sizeof(hash));
    r->records++;
    enum kbs_phase phase = phase_of(json, r->records, &epoch);
    epoch_advance(phase, epoch, &r->epoch, &r->outcome);
    r->bytes += line.len + 1;
    return NULL;
}

/* True for the beginning of a record, as far as one can tell without its end, then zeros. */
static bool looks_torn(struct kbs_span tail, uint64_t seq)
{
    char prefix[64];
    size_t prefix_len = json_prefix(seq, prefix);
    size_t len = tail.len;
    while (len > 0 && tail.p[len - 1] == '\0') {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t c = tail.p[i];
        bool fits = i < HEX_BYTES                 ? (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')
                    : i == HEX_BYTES              ? c == ' '
                    : i <= HEX_BYTES + prefix_len ? c == (uint8_t)prefix[i - HEX_BYTES - 1]
                                                  : c >= ' ';
        if (!fits) {
            return false;
        }
    }
    return true;
}

static int broken(const struct kbs_ledger_report *r, const char *why, struct kbs_error *err)
{
    return kbs_fail(err, KBS_CONFLICT, "ledger: line %" PRIu64 " (byte %" PRIu64 ") %s",
                    r->records + 1, r->bytes, why);
}

/* Takes all whole lines out of `in`. */
static int verify_lines(struct kbs_ledger_report *r, struct kbs_buf *in, kbs_ledger_each *each,
                        void *ctx, struct kbs_error *err)
{
    size_t done = 0;
    const uint8_t *feed;
    while (done < in->len && (feed = memchr(in->p + done, '\n', in->len - done)) != NULL) {
        struct kbs_span line = kbs_span(in->p + done, (size_t)(feed - (in->p + done)));
        const char *why = verify_line(r, line);
        if (why != NULL) {
            return broken(r, why, err);
        }
        if (each != NULL) {
            each(ctx, r, kbs_span_skip(line, HEX_BYTES + 1));
        }
        done += line.len + 1;
    }
    kbs_buf_consume(in, done);
    return 0;
}

/* The rest after the last line feed. Zeros may go on for longer than any line, so they are only
 * counted. */
static int verify_tail(struct kbs_ledger_report *r, const struct kbs_buf *in, uint64_t zeros,
                       struct kbs_error *err)
{
    if (in->len == 0 && zeros == 0) {
        return 0;
    }
    if (!looks_torn(kbs_buf_span(in), r->records + 1)) {
        return broken(r, "has no end and is not the beginning of a record", err);
    }
    r->torn_bytes = in->len + zeros;
    return KBS_LEDGER_TORN;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

int kbs_ledger_verify(int fd, struct kbs_ledger_report *ret, struct kbs_error *err)
{
    return kbs_ledger_scan(fd, NULL, NULL, ret, err);
}

int kbs_ledger_scan(int fd, kbs_ledger_each *each, void *ctx, struct kbs_ledger_report *ret,
                    struct kbs_error *err)
{
    struct kbs_buf in = KBS_BUF(KBS_LEDGER_LINE_BYTES + READ_BYTES);
    uint64_t zeros = 0; /* read after a line that was already as long as one may be */
    int rc = 0;
    *ret = (struct kbs_ledger_report){.outcome = true};
    if (lseek(fd, 0, SEEK_SET) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "ledger: seek");
    }
    for (;;) {
        uint8_t *room = kbs_buf_reserve(&in, READ_BYTES);
        if (room == NULL) {
            rc = kbs_fail(err, KBS_INTERNAL, "ledger: no memory");
            break;
        }
        ssize_t n = read(fd, room, READ_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = kbs_fail_errno(err, KBS_INTERNAL, "ledger: read");
            break;
        }
        if (n == 0) {
            rc = verify_tail(ret, &in, zeros, err);
            break;
        }
        if (in.len > KBS_LEDGER_LINE_BYTES - READ_BYTES && all_zero(room, (size_t)n)) {
            zeros += (uint64_t)n;
            continue;
        }
        kbs_buf_commit(&in, (size_t)n);
        rc = zeros == 0 ? verify_lines(ret, &in, each, ctx, err)
                        : broken(ret, "is not a record", err);
        if (rc == 0 && in.len > KBS_LEDGER_LINE_BYTES) {
            rc = broken(ret, "is too long for a record", err);
        }
        if (rc != 0) {
            break;
        }
    }
    kbs_buf_deinit(&in);
    return rc;
}

static void forget_staged(struct kbs_ledger *l)
{
    kbs_buf_clear(&l->staged);
    l->staged_seq = l->durable_seq;
    memcpy(l->staged_head, l->durable_head, sizeof(l->staged_head));
    l->staged_epoch = l->durable_epoch;
    l->staged_outcome = l->durable_outcome;
}

/* Cuts the file back to what is known to be durable. */
static int cut_back(struct kbs_ledger *l, struct kbs_error *err)
{
    if (ftruncate(l->fd, (off_t)l->durable_bytes) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "ledger: cannot cut the unfinished end off: %s",
                              strerror(errno));
    }
    l->dirty = false;
    return 0;
}

int kbs_ledger_open(struct kbs_ledger *l, int fd, uint64_t *ret_cut_bytes, struct kbs_error *err)
{
    struct kbs_ledger_report report;
    *l = (struct kbs_ledger){.fd = fd, .staged = KBS_BUF(STAGE_BYTES)};
    *ret_cut_bytes = 0;
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return kbs_fail(err, KBS_CONFLICT, "ledger: is not a regular file");
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum kbs_category category = errno == EWOULDBLOCK ? KBS_CONFLICT : KBS_INTERNAL;
        return kbs_fail_errno(err, category, "ledger: another process has it locked");
    }
    int rc = kbs_ledger_verify(fd, &report, err);
    if (rc < 0) {
        return -1;
    }
    l->durable_bytes = report.bytes;
    l->durable_seq = report.records;
    memcpy(l->durable_head, report.head, sizeof(report.head));
    l->durable_epoch = report.epoch;
    l->durable_outcome = report.outcome;
    forget_staged(l);
    if (rc == KBS_LEDGER_TORN && cut_back(l, err) != 0) {
        return -1;
    }
    *ret_cut_bytes = report.torn_bytes;
    return rc;
}

void kbs_ledger_deinit(struct kbs_ledger *l)
{
    kbs_buf_deinit(&l->staged);
}

static bool name_valid(struct kbs_span s, bool underscore)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
              (underscore && c == '_'))) {
            return false;
        }
    }
    return s.len > 0 && s.len <= NAME_BYTES;
}

static int check_fields(const struct kbs_ledger_field *fields, size_t n, struct kbs_error *err)
{
    for (size_t i = 0; i < n; i++) {
        struct kbs_span name = fields[i].name;
        if (!name_valid(name, true) || kbs_span_equal_str(name, "seq") ||
            kbs_span_equal_str(name, "time") || kbs_span_equal_str(name, "kind") ||
            kbs_span_equal_str(name, "phase") || kbs_span_equal_str(name, "epoch")) {
            return kbs_fail(err, KBS_INPUT, "ledger: field %zu has no proper name", i);
        }
        if (fields[i].value.len > KBS_LIMIT_AUDIT_FIELD_BYTES) {
            return kbs_fail(err, KBS_INPUT, "ledger: the value of field %zu is too long", i);
        }
        for (size_t k = 0; k < i; k++) {
            if (kbs_span_equal(name, fields[k].name)) {
                return kbs_fail(err, KBS_INPUT, "ledger: field %zu is there twice", i);
            }
        }
    }
    return 0;
}

/* RFC 3339, UTC, microseconds. */
static void put_time(struct kbs_buf *out)
{
    uint64_t now_us = kbs_clock_unix_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm tm;
    char text[32] = "1970-01-01T00:00:00";
    if (gmtime_r(&seconds, &tm) != NULL) {
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    }
    kbs_buf_printf(out, "%s.%06uZ", text, (unsigned int)(now_us % 1000000));
}

static void put_json(struct kbs_buf *out, uint64_t seq, struct kbs_span kind, enum kbs_phase phase,
                     uint64_t epoch, const struct kbs_ledger_field *fields, size_t n)
{
    char prefix[64];
    json_prefix(seq, prefix);
    kbs_buf_put_str(out, prefix);
    put_time(out);
    kbs_buf_put_str(out, "\",\"kind\":");
    kbs_json_string_put(out, kind);
    if (phase != KBS_PHASE_NONE) {
        kbs_buf_printf(out, ",\"phase\":\"%s\",\"epoch\":\"%" PRIu64 "\"", phases[phase], epoch);
    }
    for (size_t i = 0; i < n; i++) {
        kbs_buf_put_u8(out, ',');
        kbs_json_string_put(out, fields[i].name);
        kbs_buf_put_u8(out, ':');
        kbs_json_string_put(out, fields[i].value);
    }
    kbs_buf_put_u8(out, '}');
}

static bool epoch_fits(const struct kbs_ledger *l, enum kbs_phase phase, uint64_t epoch)
{
    uint64_t next = l->staged_epoch + 1;
    switch (phase) {
    case KBS_PHASE_NONE:
        return epoch == 0;
    case KBS_PHASE_INTENT:
        return epoch == (l->staged_outcome ? next : l->staged_epoch);
    case KBS_PHASE_OUTCOME:
        return epoch != 0 && epoch == l->staged_epoch;
    case KBS_PHASE_RESTORE:
        return epoch == next;
    case KBS_PHASE_COUNT:
    default:
        return false;
    }
}

int kbs_ledger_stage(struct kbs_ledger *l, struct kbs_span kind,
                     const struct kbs_ledger_field *fields, size_t n, uint64_t *ret_seq,
                     struct kbs_error *err)
{
    return kbs_ledger_stage_phase(l, kind, KBS_PHASE_NONE, 0, fields, n, ret_seq, err);
}

int kbs_ledger_stage_phase(struct kbs_ledger *l, struct kbs_span kind, enum kbs_phase phase,
                           uint64_t epoch, const struct kbs_ledger_field *fields, size_t n,
                           uint64_t *ret_seq, struct kbs_error *err)
{
    char text[HEX_BYTES + 1];
    uint8_t hash[KBS_SHA256_BYTES];
    if (!name_valid(kind, false)) {
        return kbs_fail(err, KBS_INPUT, "ledger: not a kind of record");
    }
    if (!epoch_fits(l, phase, epoch)) {
        return kbs_fail(err, KBS_INPUT, "ledger: epoch %" PRIu64 " does not follow %" PRIu64, epoch,
                        l->staged_epoch);
    }
    if (check_fields(fields, n, err) != 0) {
        return -1;
    }
    /* The line is written in its place, its hash last. */
    size_t start = l->staged.len;
    if (kbs_buf_reserve(&l->staged, HEX_BYTES + 1) != NULL) {
        kbs_buf_commit(&l->staged, HEX_BYTES + 1);
        put_json(&l->staged, l->staged_seq + 1, kind, phase, epoch, fields, n);
        kbs_buf_put_u8(&l->staged, '\n');
    }
    if (l->staged.failed || l->staged.len - start > KBS_LEDGER_LINE_BYTES) {
        l->staged.len = start;
        l->staged.failed = false; /* the lines before it are whole */
        return kbs_fail(err, KBS_TOO_LARGE, "ledger: too many records at once, or one too long");
    }
    uint8_t *line = l->staged.p + start;
    chain(l->staged_head,
          kbs_span(line + HEX_BYTES + 1, l->staged.len - start - (HEX_BYTES + 1) - 1), hash);
    hex(hash, text);
    memcpy(line, text, HEX_BYTES);
    line[HEX_BYTES] = ' ';
    memcpy(l->staged_head, hash, sizeof(hash));
    *ret_seq = ++l->staged_seq;
    epoch_advance(phase, epoch, &l->staged_epoch, &l->staged_outcome);
    return 0;
}

static int write_group(struct kbs_ledger *l, struct kbs_error *err)
{
    struct stat st;
    if (kbs_buf_check(&l->staged, "a group of ledger records", err) != 0) {
        return -1;
    }
    if (l->dirty && cut_back(l, err) != 0) {
        return -1;
    }
    if (fstat(l->fd, &st) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "ledger: fstat");
    }
    if ((uint64_t)st.st_size != l->durable_bytes || st.st_nlink == 0) {
        return kbs_fail(err, KBS_CONFLICT, "ledger: somebody else changed or removed the file");
    }
    for (size_t done = 0; done < l->staged.len;) {
        l->dirty = true;
        ssize_t n = write(l->fd, l->staged.p + done, l->staged.len - done);
        if (n < 0 && errno != EINTR) {
            return kbs_fail_errno(err, KBS_INTERNAL, "ledger: write: %s", strerror(errno));
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fdatasync(l->fd) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "ledger: fdatasync: %s", strerror(errno));
    }
    return 0;
}

int kbs_ledger_commit(struct kbs_ledger *l, struct kbs_error *err)
{
    if (write_group(l, err) != 0) {
        struct kbs_error second = KBS_ERROR_NONE;
        if (l->dirty) {
            (void)!cut_back(l, &second); /* tried again before the next write */
        }
        forget_staged(l);
        return -1;
    }
    l->durable_bytes += l->staged.len;
    l->durable_seq = l->staged_seq;
    memcpy(l->durable_head, l->staged_head, sizeof(l->durable_head));
    l->durable_epoch = l->staged_epoch;
    l->durable_outcome = l->staged_outcome;
    l->dirty = false;
    kbs_buf_clear(&l->staged);
    return 0;
}
