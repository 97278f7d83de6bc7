/*
 * Documents: texts that an administrator sets under a name, in versions, and that decide something:
 * policies in Rego, reference values, requests that wait for approval, aliases. Their rows are signed as those of keys are (catalog/row.h).
 */
#ifndef KBS_CATALOG_DOCUMENT_H
#define KBS_CATALOG_DOCUMENT_H

#include "base/digest.h"
#include "base/ec.h"
#include "base/limits.h"

enum kbs_document_kind {
    KBS_DOCUMENT_NONE = 0,
    KBS_DOCUMENT_RESOURCE_POLICY = 1,
    KBS_DOCUMENT_ATTESTATION_POLICY = 2,
    KBS_DOCUMENT_REFERENCE_VALUE = 3,
    KBS_DOCUMENT_APPROVAL = 4, /* a request that waits for other administrators (api/approval.c) */
    KBS_DOCUMENT_ALIAS = 5,    /* of a path: which others it stands for, by whom (api/alias.c) */
    KBS_DOCUMENT_COUNT
};

/* A version of a document, but for its text. */
struct kbs_document {
    enum kbs_document_kind kind;
    char name[KBS_LIMIT_DOCUMENT_NAME_BYTES + 1];
    uint32_t version;
    int64_t created_s; /* Unix time */
    uint64_t epoch;    /* of the mutation that made the row */
    uint8_t request[KBS_SHA256_BYTES];
    uint8_t signature[KBS_ES256_BYTES];
};

/* "resource-policy", ...; "unknown" for numbers out of range. Static. */
const char *kbs_document_kind_name(enum kbs_document_kind kind);

/*
 * True for a document's name: segments as in the path of a key (kbs_key_segment_valid()), any number of
 * them, in all at most KBS_LIMIT_DOCUMENT_NAME_BYTES.
 */
bool kbs_document_name_valid(struct kbs_span name);

#endif
