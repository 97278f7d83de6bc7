/*
 * Inside kbs-fetch: what there is to ask (endpoints), what is asked (jobs), what is kept fresh
 * (documents), and for whom (peers).
 */
#ifndef KBS_FETCH_COURIER_H
#define KBS_FETCH_COURIER_H

#include "base/clock.h"
#include "fetch/cache.h"
#include "fetch/peer.h"
#include "fetch/transfer.h"

#define KBS_COURIER_NAME_BYTES 64
#define KBS_COURIER_URL_BYTES 2048

/* Where something is, and how it is spoken to. */
struct kbs_place {
    char name[KBS_COURIER_NAME_BYTES];
    char url[KBS_COURIER_URL_BYTES]; /* as libcurl takes it: of a unix socket "http://localhost" */
    char unix_path[108];             /* "" for none */
    struct kbs_buf ca;
    struct kbs_buf certificate;
    struct kbs_buf key;
    struct kbs_buf headers; /* lines, each ending in NUL */
    struct kbs_trust trust; /* of these four */
};

/*
 * A circuit breaker. Closed: everybody asks. Open: nobody, until open_until_ns; then one asks, and
 * its answer closes it or opens it anew.
 */
struct kbs_breaker {
    uint32_t limit; /* failures in a row; 0: it never opens */
    uint32_t open_ms;
    uint32_t failures;
    uint64_t open_until_ns; /* 0: closed */
    bool probing;           /* one is asking */
};

/* [[fetch.endpoint]] */
struct kbs_endpoint {
    struct kbs_place place;
    uint32_t timeout_ms;
    uint32_t connect_ms;
    uint32_t retries;
    bool http2;
    uint32_t parallel;
    uint32_t keep_days;
    struct kbs_breaker breaker;
    uint32_t running; /* transfers */
    uint32_t waiting; /* jobs that have none: for a place, or for the next try */
};

/* One FETCH, until its FETCHED. */
struct kbs_job {
    struct kbs_job *next;
    struct kbs_endpoint *endpoint;
    size_t peer; /* place and serial: whose it is */
    uint64_t peer_serial;
    uint64_t id;
    struct kbs_buf message; /* the body of FETCH, which `fetch` borrows */
    struct kbs_wire_fetch fetch;
    char url[KBS_COURIER_URL_BYTES];
    uint64_t deadline_ns;
    uint64_t not_before_ns; /* the next try */
    uint32_t tries;
    bool probe; /* its transfer is the breaker's one */
    struct kbs_transfer *transfer;
};

/* [[fetch.document]] */
struct kbs_document {
    struct kbs_place place;
    uint32_t timeout_ms;
    uint32_t refresh_s;
    bool discovery;
    struct kbs_buf hosts;              /* where jwks_uri may be: names, each ending in NUL */
    char found[KBS_COURIER_URL_BYTES]; /* jwks_uri, while it is being fetched; "" before */
    bool there;
    int64_t fetched_s;
    struct kbs_buf content;
    char etag[KBS_TRANSFER_TEXT_BYTES]; /* of `content` */
    char etag_url[KBS_COURIER_URL_BYTES];
    uint64_t due_ns;
    uint64_t asked_ns; /* when a judge last had it fetched; 0: never */
    uint32_t failures; /* in a row */
    struct kbs_transfer *transfer;
};

struct kbs_courier {
    bool production;
    CURLM *multi;
    struct kbs_buf system_ca;
    struct kbs_cache cache;
    struct kbs_endpoint endpoints[KBS_LIMIT_FETCH_ENDPOINTS];
    size_t n_endpoints;
    struct kbs_document documents[KBS_LIMIT_FETCH_DOCUMENTS];
    size_t n_documents;
    struct kbs_job *jobs; /* in the order in which they came */
    size_t waiting_bytes; /* of their messages */
    struct kbs_peer peers[KBS_LIMIT_FETCH_PEERS];
    uint64_t serials;
};

/* startup.c: CONFIG_FETCH, descriptors, GO. */
KBS_MUST_CHECK int kbs_courier_configure(struct kbs_courier *c, struct kbs_error *err);
void kbs_courier_deinit(struct kbs_courier *c);

/* breaker.c: whether one may ask now; *ret_probe: as the one whose answer decides. */
bool kbs_breaker_may_ask(struct kbs_breaker *b, uint64_t now_ns, bool *ret_probe);
/* What came of an attempt. True if the state changed, which is worth a line of log. */
bool kbs_breaker_note(struct kbs_breaker *b, bool ok, bool probe, uint64_t now_ns);
/* The probe was called off. */
void kbs_breaker_cancel(struct kbs_breaker *b, bool probe);

/* job.c: a FETCH of a peer's. Never -1: whatever is wrong with it, it is answered. */
void kbs_jobs_take(struct kbs_courier *c, size_t peer, uint64_t id, struct kbs_span body);
/* Its transfer has ended. */
void kbs_job_done(struct kbs_courier *c, struct kbs_job *job);
/* Starts, retries and gives up what is due. Returns when to call again. */
uint64_t kbs_jobs_step(struct kbs_courier *c, uint64_t now_ns);
/* Calls off what peers that are gone had asked for. */
void kbs_jobs_orphaned(struct kbs_courier *c);

/* document.c */
void kbs_documents_load(struct kbs_courier *c); /* from the cache; all are due at once */
void kbs_documents_want(struct kbs_courier *c, struct kbs_peer *peer, uint64_t id,
                        struct kbs_span body);
void kbs_document_done(struct kbs_courier *c, struct kbs_document *d);
uint64_t kbs_documents_step(struct kbs_courier *c, uint64_t now_ns);

#endif
