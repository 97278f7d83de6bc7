/*
 * What was fetched, on disk: a file for each URL, "get-" or "doc-" and the SHA-256 of the URL in
 * hex, holding the body and nothing else; its time is when it was fetched. So an operator can fill
 * the folder of a service without a network by other means. What it holds is as trustworthy as an
 * answer from the network: whoever asked judges it.
 */
#ifndef KBS_FETCH_CACHE_H
#define KBS_FETCH_CACHE_H

#include "base/buf.h"

#define KBS_CACHE_FOLDER_BYTES 1024

struct kbs_cache {
    char folder[KBS_CACHE_FOLDER_BYTES]; /* "" for none: nothing is found, nothing is kept */
    size_t kept;                         /* private: files of kind "get" */
};

/* The folder has to be there. Removes what an interrupted write has left. */
KBS_MUST_CHECK int kbs_cache_open(struct kbs_cache *c, struct kbs_span folder,
                                  struct kbs_error *err);

/* kind: "get" or "doc". False if there is none, or one over out->max. *ret_s: Unix time. */
bool kbs_cache_get(const struct kbs_cache *c, const char *kind, const char *url,
                   struct kbs_buf *out, int64_t *ret_s);

/* Replaces it atomically. "get": at most KBS_LIMIT_FETCH_KEPT, the oldest makes room. A failure is
 * a line in the log: the cache is a help, not a promise. */
void kbs_cache_put(struct kbs_cache *c, const char *kind, const char *url, struct kbs_span body);

/* It was fetched again and is as it was. */
void kbs_cache_touch(const struct kbs_cache *c, const char *kind, const char *url);

#endif
