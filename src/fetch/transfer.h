/*
 * One HTTP request and its answer, by libcurl, beside others in one thread. Nothing here knows why
 * it is made. The destination is the caller's; redirects are answers like any other.
 */
#ifndef KBS_FETCH_TRANSFER_H
#define KBS_FETCH_TRANSFER_H

#include <curl/curl.h>

#include "base/buf.h"
#include "wire/message.h"

#define KBS_TRANSFER_TEXT_BYTES 128

/* How a destination shows that it is the right one, and we that we are. All borrowed, all PEM. */
struct kbs_trust {
    struct kbs_span ca;          /* never empty for https */
    struct kbs_span certificate; /* ours; empty for none */
    struct kbs_span key;         /* ours */
    struct kbs_span headers;     /* lines, each ending in NUL */
};

/* What to ask, where. Borrowed until the transfer is freed, but for url and etag. */
struct kbs_transfer_want {
    const char *url;
    const char *unix_path; /* NULL: by TCP */
    const struct kbs_trust *trust;
    bool http2; /* without TLS by prior knowledge (RFC 9113 section 3.3) */
    enum kbs_fetch_method method;
    struct kbs_span content_type; /* empty: none */
    struct kbs_span accept;       /* empty: none */
    const char *etag;             /* If-None-Match; "" for none */
    struct kbs_span body;
    size_t max; /* bytes of an answer's body */
    uint32_t timeout_ms;
    uint32_t connect_ms;
};

/* What came of it. */
struct kbs_answer {
    enum kbs_fetch_outcome outcome; /* DONE, FAILED, TIMEOUT or LARGE */
    bool again;                     /* it may be better next time */
    uint32_t status;
    uint32_t grpc_status;
    char content_type[KBS_TRANSFER_TEXT_BYTES];
    char etag[KBS_TRANSFER_TEXT_BYTES];
    char detail[KBS_TRANSFER_TEXT_BYTES]; /* without an address: may go to whoever asked */
    char log[CURL_ERROR_SIZE];            /* the same for the log */
    struct kbs_buf body;
};

/* Whose transfer it is. */
enum kbs_transfer_for {
    KBS_TRANSFER_FOR_JOB,
    KBS_TRANSFER_FOR_DOCUMENT
};

struct kbs_transfer {
    CURL *easy;                 /* private */
    struct curl_slist *headers; /* private */
    struct kbs_span own;        /* private: what its headers are made of */
    size_t header_bytes;        /* private: received */
    bool large;                 /* private */
    enum kbs_transfer_for kind;
    void *owner;
    struct kbs_answer answer;
};

/* libcurl for the whole process; once, and before confinement. Returns owned. */
KBS_MUST_CHECK int kbs_transfers_open(CURLM **ret, struct kbs_error *err);
void kbs_transfers_close(CURLM *multi);

/* Begins one; it goes on in curl_multi_perform(). Returns owned. -1 only without memory. */
KBS_MUST_CHECK int kbs_transfer_start(CURLM *multi, const struct kbs_transfer_want *want,
                                      enum kbs_transfer_for kind, void *owner,
                                      struct kbs_transfer **ret, struct kbs_error *err);

/* One that has ended, its answer complete; still its owner's. NULL if there is none (left). */
struct kbs_transfer *kbs_transfers_next_done(CURLM *multi);

/* Ends it, whatever its state. NULL is fine. Always returns NULL. */
struct kbs_transfer *kbs_transfer_free(CURLM *multi, struct kbs_transfer *t);

#endif
