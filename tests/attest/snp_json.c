/* Written from the shapes themselves, not from the table that reads them. */
#include "tests/attest/snp_json.h"

#include "attest/snp/tcb.h"
#include "base/encoding.h"

static json_t *bytes(struct kbs_span s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s.len; i++) {
        (void)json_array_append_new(list, json_integer(s.p[i]));
    }
    return list;
}

static void put(json_t *to, const char *name, json_t *value)
{
    (void)json_object_set_new(to, name, value);
}

static void put_bytes(json_t *to, const char *name, const struct kbs_snp_report *r, size_t at,
                      size_t len)
{
    put(to, name, bytes(kbs_span(r->raw + at, len)));
}

static void put_u32(json_t *to, const char *name, const struct kbs_snp_report *r,
                    enum kbs_snp_at at)
{
    put(to, name, json_integer(kbs_snp_u32(r, at)));
}

static void put_u64(json_t *to, const char *name, const struct kbs_snp_report *r,
                    enum kbs_snp_at at)
{
    put(to, name, json_integer((json_int_t)kbs_snp_u64(r, at)));
}

static void put_tcb(json_t *to, const char *name, const struct kbs_snp_report *r, size_t at,
                    enum kbs_snp_product product, enum snp_json_shape shape)
{
    const uint8_t *raw = r->raw + at;
    bool turin = product == KBS_SNP_PRODUCT_TURIN;
    json_t *tcb = json_object();

    if (shape == SNP_JSON_NEW) {
        put(tcb, "fmc", turin ? json_integer(raw[0]) : json_null());
    }
    put(tcb, "bootloader", json_integer(raw[turin ? 1 : 0]));
    put(tcb, "tee", json_integer(raw[turin ? 2 : 1]));
    if (shape == SNP_JSON_FIRST) {
        put(tcb, "_reserved", bytes(kbs_span(raw + 2, 4)));
    }
    put(tcb, "snp", json_integer(raw[turin ? 3 : 6]));
    put(tcb, "microcode", json_integer(raw[7]));
    put(to, name, tcb);
}

static void put_version(json_t *to, const char *name, const struct kbs_snp_report *r, size_t at)
{
    put(to, name,
        json_pack("{s:i, s:i, s:i}", "major", r->raw[at + 2], "minor", r->raw[at + 1], "build",
                  r->raw[at]));
}

static void put_first(json_t *to, const struct kbs_snp_report *r)
{
    put_u32(to, "_author_key_en", r, KBS_SNP_AT_KEY_INFO);
    put(to, "_reserved_0", json_integer(0));
    put_bytes(to, "_reserved_1", r, KBS_SNP_AT_CPUID_FAMILY, 24);
    put(to, "current_build", json_integer(r->raw[0x1E8]));
    put(to, "current_minor", json_integer(r->raw[0x1E9]));
    put(to, "current_major", json_integer(r->raw[0x1EA]));
    put(to, "_reserved_2", json_integer(0));
    put(to, "committed_build", json_integer(r->raw[0x1EC]));
    put(to, "committed_minor", json_integer(r->raw[0x1ED]));
    put(to, "committed_major", json_integer(r->raw[0x1EE]));
    put(to, "_reserved_3", json_integer(0));
    put_bytes(to, "_reserved_4", r, 0x1F8, 168);
}

static void put_new(json_t *to, const struct kbs_snp_report *r)
{
    bool v3 = kbs_snp_u32(r, KBS_SNP_AT_VERSION) >= 3;
    bool v5 = kbs_snp_u32(r, KBS_SNP_AT_VERSION) >= 5;

    put_u32(to, "key_info", r, KBS_SNP_AT_KEY_INFO);
    put(to, "cpuid_fam_id", v3 ? json_integer(r->raw[0x188]) : json_null());
    put(to, "cpuid_mod_id", v3 ? json_integer(r->raw[0x189]) : json_null());
    put(to, "cpuid_step", v3 ? json_integer(r->raw[0x18A]) : json_null());
    put_version(to, "current", r, KBS_SNP_AT_CURRENT_FIRMWARE);
    put_version(to, "committed", r, KBS_SNP_AT_COMMITTED_FIRMWARE);
    if (v5) {
        put_u64(to, "launch_mit_vector", r, KBS_SNP_AT_LAUNCH_MIT_VECTOR);
        put_u64(to, "current_mit_vector", r, KBS_SNP_AT_CURRENT_MIT_VECTOR);
    }
}

static json_t *coco_report(const struct kbs_snp_report *r, enum kbs_snp_product product,
                           enum snp_json_shape shape)
{
    json_t *to = json_object();
    json_t *signature = json_object();

    put_u32(to, "version", r, KBS_SNP_AT_VERSION);
    put_u32(to, "guest_svn", r, KBS_SNP_AT_GUEST_SVN);
    put_u64(to, "policy", r, KBS_SNP_AT_POLICY);
    put_bytes(to, "family_id", r, KBS_SNP_AT_FAMILY_ID, 16);
    put_bytes(to, "image_id", r, KBS_SNP_AT_IMAGE_ID, 16);
    put_u32(to, "vmpl", r, KBS_SNP_AT_VMPL);
    put_u32(to, "sig_algo", r, KBS_SNP_AT_SIG_ALGO);
    put_tcb(to, "current_tcb", r, KBS_SNP_AT_CURRENT_TCB, product, shape);
    put_u64(to, "plat_info", r, KBS_SNP_AT_PLAT_INFO);
    put_bytes(to, "report_data", r, KBS_SNP_AT_REPORT_DATA, 64);
    put_bytes(to, "measurement", r, KBS_SNP_AT_MEASUREMENT, 48);
    put_bytes(to, "host_data", r, KBS_SNP_AT_HOST_DATA, 32);
    put_bytes(to, "id_key_digest", r, KBS_SNP_AT_ID_KEY_DIGEST, 48);
    put_bytes(to, "author_key_digest", r, KBS_SNP_AT_AUTHOR_KEY_DIGEST, 48);
    put_bytes(to, "report_id", r, KBS_SNP_AT_REPORT_ID, 32);
    put_bytes(to, "report_id_ma", r, KBS_SNP_AT_REPORT_ID_MA, 32);
    put_tcb(to, "reported_tcb", r, KBS_SNP_AT_REPORTED_TCB, product, shape);
    put_bytes(to, "chip_id", r, KBS_SNP_AT_CHIP_ID, 64);
    put_tcb(to, "committed_tcb", r, KBS_SNP_AT_COMMITTED_TCB, product, shape);
    put_tcb(to, "launch_tcb", r, KBS_SNP_AT_LAUNCH_TCB, product, shape);
    if (shape == SNP_JSON_FIRST) {
        put_first(to, r);
    } else {
        put_new(to, r);
    }
    put_bytes(signature, "r", r, KBS_SNP_AT_SIGNATURE_R, KBS_SNP_SCALAR_FIELD_BYTES);
    put_bytes(signature, "s", r, KBS_SNP_AT_SIGNATURE_S, KBS_SNP_SCALAR_FIELD_BYTES);
    put(to, "signature", signature);
    return to;
}

static json_t *svsm(const struct kbs_snp_report *r)
{
    struct kbs_buf text = KBS_BUF(4096);
    json_t *out = NULL;

    kbs_base64_put(&text, kbs_span(r->raw, sizeof(r->raw)));
    out = json_pack("{s:s, s:s}", "snp-report", kbs_buf_cstr(&text), "certs-buf", "");
    kbs_buf_deinit(&text);
    return out;
}

json_t *snp_json(const struct kbs_snp_report *r, enum kbs_snp_product product,
                 enum snp_json_shape shape, const char *leaf_type, struct kbs_span leaf)
{
    json_t *chain = json_null();

    if (shape == SNP_JSON_SVSM) {
        return svsm(r);
    }
    if (leaf.len > 0) {
        chain = json_pack("[{s:s, s:o}]", "cert_type", leaf_type, "data", bytes(leaf));
    }
    return json_pack("{s:o, s:o}", "attestation_report", coco_report(r, product, shape),
                     "cert_chain", chain);
}
