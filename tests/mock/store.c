/*
 * Token objects, shared by processes (lanes) that may be killed at any instruction.
 *
 * One file, `journal`: a sequence of transactions, each with its length and a digest. A change is
 * one append under a lock; whoever finds a tail that does not check was beaten to it by a writer
 * (look again later) or is the next writer (cut it off). So a change is there as a whole or not at
 * all, and readers need no lock. Objects are replayed into memory; handles are numbers given at
 * creation and never used again.
 *
 * The digest chain is not for security: values stand here in the clear. Record locks (fcntl), not
 * flock, and no rename: kbs-token's list of system calls has the former and not the latter.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mock.h"

#define MAGIC 0x4b4d3031u /* "KM01" */
#define TRANSACTION_MAX (1u << 17)

enum entry {
    ENTRY_PINS = 1,
    ENTRY_RESET = 2,
    ENTRY_PUT = 3,
    ENTRY_REMOVE = 4
};

struct head {
    uint32_t magic;
    uint32_t len;
    uint8_t digest[32]; /* SHA-256 of the entries */
};

static struct {
    int fd;
    off_t end; /* of the last whole transaction taken up */
    struct mock_pins pins;
    CK_OBJECT_HANDLE last_handle;
    size_t n;
    size_t room;
    struct mock_object **objects;
} store = {.fd = -1};

/* ---- entries ---- */

struct writer {
    uint8_t *p;
    size_t len;
};

static void put(struct writer *w, const void *p, size_t n)
{
    if (w->len + n > TRANSACTION_MAX) {
        abort(); /* sized for everything a test may ask for */
    }
    if (n > 0) {
        memcpy(w->p + w->len, p, n);
    }
    w->len += n;
}

static void put_number(struct writer *w, uint64_t v)
{
    put(w, &v, sizeof(v));
}

static void put_object(struct writer *w, const struct mock_object *o)
{
    put_number(w, ENTRY_PUT);
    put_number(w, o->handle);
    put_number(w, o->n);
    for (size_t i = 0; i < o->n; i++) {
        put_number(w, o->a[i].type);
        put_number(w, o->a[i].len);
        put(w, o->a[i].p, o->a[i].len);
    }
}

struct reader {
    const uint8_t *p;
    size_t left;
};

static const uint8_t *take(struct reader *r, size_t n)
{
    const uint8_t *p = r->p;

    if (n > r->left) {
        abort(); /* the digest was right, so we wrote it */
    }
    r->p += n;
    r->left -= n;
    return p;
}

static uint64_t take_number(struct reader *r)
{
    uint64_t v;

    memcpy(&v, take(r, sizeof(v)), sizeof(v));
    return v;
}

static struct mock_object *take_object(struct reader *r)
{
    struct mock_object *o = mock_object_new();
    uint64_t n;

    o->handle = take_number(r);
    n = take_number(r);
    for (uint64_t i = 0; i < n; i++) {
        CK_ATTRIBUTE_TYPE type = take_number(r);
        size_t len = take_number(r);

        mock_object_set(o, type, take(r, len), len);
    }
    return o;
}

static void drop_object(CK_OBJECT_HANDLE handle)
{
    for (size_t i = 0; i < store.n; i++) {
        if (store.objects[i]->handle == handle) {
            mock_object_free(store.objects[i]);
            memmove(&store.objects[i], &store.objects[i + 1],
                    (store.n - i - 1) * sizeof(store.objects[0]));
            store.n--;
            return;
        }
    }
}

static void keep_object(struct mock_object *o)
{
    drop_object(o->handle);
    if (store.n == store.room) {
        store.room = store.room > 0 ? 2 * store.room : 64;
        store.objects = realloc(store.objects, store.room * sizeof(store.objects[0]));
        if (store.objects == NULL) {
            abort();
        }
    }
    store.objects[store.n++] = o;
    store.last_handle = o->handle > store.last_handle ? o->handle : store.last_handle;
}

static void drop_all(void)
{
    while (store.n > 0) {
        mock_object_free(store.objects[--store.n]);
    }
}

static void replay(struct reader *r)
{
    while (r->left > 0) {
        switch (take_number(r)) {
        case ENTRY_PINS:
            memcpy(&store.pins, take(r, sizeof(store.pins)), sizeof(store.pins));
            break;
        case ENTRY_RESET:
            drop_all();
            break;
        case ENTRY_PUT:
            keep_object(take_object(r));
            break;
        case ENTRY_REMOVE:
            drop_object(take_number(r));
            break;
        default:
            abort();
        }
    }
}

/* ---- the file ---- */

bool mock_store_open(const char *folder)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/journal", folder);
    store.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store.fd >= 0) {
        mock_store_sync();
    }
    return store.fd >= 0;
}

void mock_store_close(void)
{
    drop_all();
    free(store.objects);
    if (store.fd >= 0) {
        (void)close(store.fd);
    }
    memset(&store, 0, sizeof(store));
    store.fd = -1;
}

void mock_store_sync(void)
{
    struct stat st;
    struct head head;

    while (fstat(store.fd, &st) == 0 && st.st_size > store.end &&
           pread(store.fd, &head, sizeof(head), store.end) == (ssize_t)sizeof(head) &&
           head.magic == MAGIC && head.len <= TRANSACTION_MAX) {
        uint8_t *entries = malloc(head.len);
        uint8_t digest[32];
        bool whole = entries != NULL &&
                     pread(store.fd, entries, head.len, store.end + (off_t)sizeof(head)) ==
                         (ssize_t)head.len &&
                     mock_sha256(entries, head.len, digest) &&
                     memcmp(digest, head.digest, sizeof(digest)) == 0;

        if (whole) {
            replay(&(struct reader){entries, head.len});
            store.end += (off_t)(sizeof(head) + head.len);
        }
        free(entries);
        if (!whole) {
            return;
        }
    }
}

static bool store_lock(short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    int rc;

    do {
        rc = fcntl(store.fd, F_SETLKW, &lock);
    } while (rc != 0 && type != F_UNLCK);
    return rc == 0;
}

static void writer_begin(struct writer *w)
{
    w->p = malloc(TRANSACTION_MAX);
    w->len = 0;
    if (w->p == NULL || !store_lock(F_WRLCK)) {
        abort();
    }
    mock_store_sync();
}

static CK_RV writer_commit(struct writer *w)
{
    struct head head = {.magic = MAGIC, .len = (uint32_t)w->len};
    uint8_t *all = malloc(sizeof(head) + w->len);
    CK_RV rv = CKR_DEVICE_ERROR;

    if (all != NULL && mock_sha256(w->p, w->len, head.digest) &&
        ftruncate(store.fd, store.end) == 0) {
        memcpy(all, &head, sizeof(head));
        memcpy(all + sizeof(head), w->p, w->len);
        if (pwrite(store.fd, all, sizeof(head) + w->len, store.end) ==
            (ssize_t)(sizeof(head) + w->len)) {
            mock_store_sync();
            rv = CKR_OK;
        }
    }
    free(all);
    free(w->p);
    (void)store_lock(F_UNLCK);
    return rv;
}

const struct mock_pins *mock_store_pins(void)
{
    return &store.pins;
}

CK_RV mock_store_set_pins(const struct mock_pins *pins)
{
    struct writer w;

    writer_begin(&w);
    put_number(&w, ENTRY_PINS);
    put(&w, pins, sizeof(*pins));
    return writer_commit(&w);
}

CK_RV mock_store_reset(const struct mock_pins *pins)
{
    struct writer w;

    writer_begin(&w);
    put_number(&w, ENTRY_RESET);
    put_number(&w, ENTRY_PINS);
    put(&w, pins, sizeof(*pins));
    return writer_commit(&w);
}

CK_RV mock_store_put(struct mock_object **objects, size_t n)
{
    struct writer w;

    writer_begin(&w);
    for (size_t i = 0; i < n; i++) {
        objects[i]->handle = store.last_handle + 1 + i;
        put_object(&w, objects[i]);
    }
    return writer_commit(&w);
}

CK_RV mock_store_replace(const struct mock_object *o)
{
    struct writer w;

    writer_begin(&w);
    put_object(&w, o);
    return writer_commit(&w);
}

CK_RV mock_store_remove(CK_OBJECT_HANDLE handle)
{
    struct writer w;

    writer_begin(&w);
    put_number(&w, ENTRY_REMOVE);
    put_number(&w, handle);
    return writer_commit(&w);
}

size_t mock_store_count(void)
{
    return store.n;
}

struct mock_object *mock_store_at(size_t i)
{
    return store.objects[i];
}
