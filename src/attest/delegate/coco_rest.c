/*
 * The REST API of CoCo's Attestation Service: POST /attestation, POST /challenge.
 *
 * The service is handed the runtime data as a JSON object, which it canonicalises and hashes itself: the
 * text that we hashed is canonical already (attest/rcar.c), so both hash the same bytes. It is never left
 * out: without it the service checks no binding at all. Init-data goes as the document that the guest sent,
 * so that its claims come back in the token.
 *
 * Services from before the list of verification_requests take one piece of evidence, its members at the top
 * level, and know init-data only as bytes and the hash that its document names.
 */
#include "attest/delegate/delegate.h"

#include "attest/initdata.h"
#include "base/encoding.h"
#include "jose/read/json.h"

int kbs_coco_evidence_put(struct kbs_buf *out, const json_t *evidence, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_HTTP_BODY_BYTES);
    int rc = kbs_json_dump(evidence, &text, err);

    if (rc == 0) {
        kbs_base64url_put(out, kbs_buf_span(&text));
    }
    kbs_buf_deinit(&text);
    return rc;
}

/* "tee", "evidence", "runtime_data", "runtime_data_hash_algorithm": what both shapes begin with. */
static int part_put(struct kbs_buf *out, const struct kbs_delegate_part *part, const char *tee,
                    enum kbs_hash hash, struct kbs_error *err)
{
    kbs_buf_printf(out, "{\"tee\":\"%s\",\"evidence\":\"", tee);
    if (kbs_coco_evidence_put(out, part->evidence, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "\",\"runtime_data\":{\"structured\":");
    kbs_buf_put_span(out, part->runtime_data);
    kbs_buf_printf(out, "},\"runtime_data_hash_algorithm\":\"%s\"", kbs_hash_name(hash));
    return 0;
}

static void policies_put(struct kbs_buf *out, const struct kbs_delegate_question *q)
{
    kbs_buf_put_str(out, ",\"policy_ids\":[");
    for (size_t i = 0; i < q->policy_count; i++) {
        kbs_buf_put_str(out, i > 0 ? "," : "");
        kbs_json_string_put(out, q->policy_ids[i]);
    }
    kbs_buf_put_str(out, "]}");
}

int kbs_coco_rest_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                      struct kbs_error *err)
{
    kbs_buf_put_str(out, "{\"verification_requests\":[");
    for (size_t i = 0; i < q->count; i++) {
        kbs_buf_put_str(out, i > 0 ? "," : "");
        if (part_put(out, &q->parts[i], kbs_tee_name(q->parts[i].tee), q->hash, err) != 0) {
            return -1;
        }
        if (i == 0 && q->init_data.len != 0) {
            kbs_buf_put_str(out, ",\"init_data\":{\"init_data_toml\":");
            kbs_json_string_put(out, q->init_data);
            kbs_buf_put_u8(out, '}');
        }
        kbs_buf_put_u8(out, '}');
    }
    kbs_buf_put_u8(out, ']');
    policies_put(out, q);
    return kbs_buf_check(out, "the attestation service's request", err);
}

/* How the older service spells what has another name today. */
static const char *old_name(enum kbs_tee tee)
{
    switch (tee) {
    case KBS_TEE_AZ_SNP_VTPM:
        return "azsnpvtpm";
    case KBS_TEE_AZ_TDX_VTPM:
        return "aztdxvtpm";
    default:
        return kbs_tee_name(tee);
    }
}

int kbs_coco_rest_v1_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                         struct kbs_error *err)
{
    struct kbs_digest digest;
    enum kbs_hash hash = KBS_HASH_NONE;

    if (q->count != 1) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the attestation service takes no evidence of devices");
    }
    if (part_put(out, &q->parts[0], old_name(q->parts[0].tee), q->hash, err) != 0) {
        return -1;
    }
    if (q->init_data.len != 0) {
        if (kbs_init_data_digest(q->init_data, &hash, &digest, err) != 0) {
            return -1;
        }
        kbs_buf_put_str(out, ",\"init_data\":{\"raw\":\"");
        kbs_base64url_put(out, q->init_data);
        kbs_buf_printf(out, "\"},\"init_data_hash_algorithm\":\"%s\"", kbs_hash_name(hash));
    }
    policies_put(out, q);
    return kbs_buf_check(out, "the attestation service's request", err);
}

void kbs_coco_rest_challenge_put(struct kbs_buf *out, enum kbs_tee tee, struct kbs_span tee_params)
{
    kbs_buf_printf(out, "{\"tee\":\"%s\",\"tee_params\":", kbs_tee_name(tee));
    kbs_json_string_put(out, tee_params);
    kbs_buf_put_u8(out, '}');
}
