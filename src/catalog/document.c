/*
 * Names of documents. They stand in paths of requests, so the rule is that of the paths of keys but
 * for the number of segments: reference values are named as their makers please.
 */
#include "catalog/document.h"

#include "base/terms.h"

static const char *const kind_names[KBS_DOCUMENT_COUNT] = {
    [KBS_DOCUMENT_RESOURCE_POLICY] = "resource-policy",
    [KBS_DOCUMENT_ATTESTATION_POLICY] = "attestation-policy",
    [KBS_DOCUMENT_REFERENCE_VALUE] = "reference-value",
    [KBS_DOCUMENT_APPROVAL] = "approval",
    [KBS_DOCUMENT_ALIAS] = "alias",
};

const char *kbs_document_kind_name(enum kbs_document_kind kind)
{
    return kind > KBS_DOCUMENT_NONE && kind < KBS_DOCUMENT_COUNT ? kind_names[kind] : "unknown";
}

bool kbs_document_name_valid(struct kbs_span name)
{
    size_t begin = 0;

    if (name.len > KBS_LIMIT_DOCUMENT_NAME_BYTES) {
        return false;
    }
    for (size_t i = 0; i <= name.len; i++) {
        if (i == name.len || name.p[i] == '/') {
            if (!kbs_key_segment_valid(kbs_span(name.p + begin, i - begin))) {
                return false;
            }
            begin = i + 1;
        }
    }
    return true;
}
