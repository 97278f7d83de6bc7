/*
 * CoCo's attester sends the report as the sev crate prints it, so what was signed has to be written
 * again, and the crate has changed its mind: members were renamed (_author_key_en, key_info),
 * gathered into objects (current_build and its two fellows, current), added (fmc, cpuid_*,
 * *_mit_vector) and left out (_reserved_*). One table names them all. Whatever the shape, a member
 * goes to one place in the report, no two members go to the same place, what is not named here is
 * refused, and the signature decides in the end whether the result is what the hardware made.
 *
 * Reserved members are written like others: an attester that is older than its firmware sends there
 * what newer reports hold (CPUID, mitigation vectors). As fields moved out of them they became
 * shorter from the front, so it is their end that has a fixed place.
 *
 * Numbers are integers in the range of their field and arrays have exactly its length. Members that
 * are null or absent leave zeros: that is what the crate does with fields that the report's version
 * has not.
 */
#include "attest/snp/evidence.h"

#include "base/encoding.h"

enum kind {
    U8,
    U32,
    U64,
    BYTES,     /* array of `len` numbers */
    TCB,       /* object */
    SIGNATURE, /* object */
    VERSION,   /* object {"major", "minor", "build"}, in the report the other way round */
    TAIL,      /* array of at most `len` numbers, the last of them at the end of the field */
    NULL_ONLY  /* there as null, or not at all */
};

struct member {
    const char *name;
    enum kind kind;
    uint16_t at;
    uint16_t len;
    bool required;
};

static const struct member report_members[] = {
    {"version", U32, KBS_SNP_AT_VERSION, 4, true},
    {"guest_svn", U32, KBS_SNP_AT_GUEST_SVN, 4, true},
    {"policy", U64, KBS_SNP_AT_POLICY, 8, true},
    {"family_id", BYTES, KBS_SNP_AT_FAMILY_ID, 16, true},
    {"image_id", BYTES, KBS_SNP_AT_IMAGE_ID, 16, true},
    {"vmpl", U32, KBS_SNP_AT_VMPL, 4, true},
    {"sig_algo", U32, KBS_SNP_AT_SIG_ALGO, 4, true},
    {"current_tcb", TCB, KBS_SNP_AT_CURRENT_TCB, 8, true},
    {"plat_info", U64, KBS_SNP_AT_PLAT_INFO, 8, true},
    {"key_info", U32, KBS_SNP_AT_KEY_INFO, 4, false},
    {"_author_key_en", U32, KBS_SNP_AT_KEY_INFO, 4, false},
    {"report_data", BYTES, KBS_SNP_AT_REPORT_DATA, 64, true},
    {"measurement", BYTES, KBS_SNP_AT_MEASUREMENT, 48, true},
    {"host_data", BYTES, KBS_SNP_AT_HOST_DATA, 32, true},
    {"id_key_digest", BYTES, KBS_SNP_AT_ID_KEY_DIGEST, 48, true},
    {"author_key_digest", BYTES, KBS_SNP_AT_AUTHOR_KEY_DIGEST, 48, true},
    {"report_id", BYTES, KBS_SNP_AT_REPORT_ID, 32, true},
    {"report_id_ma", BYTES, KBS_SNP_AT_REPORT_ID_MA, 32, true},
    {"reported_tcb", TCB, KBS_SNP_AT_REPORTED_TCB, 8, true},
    {"cpuid_fam_id", U8, KBS_SNP_AT_CPUID_FAMILY, 1, false},
    {"cpuid_mod_id", U8, KBS_SNP_AT_CPUID_MODEL, 1, false},
    {"cpuid_step", U8, KBS_SNP_AT_CPUID_STEPPING, 1, false},
    {"chip_id", BYTES, KBS_SNP_AT_CHIP_ID, 64, true},
    {"committed_tcb", TCB, KBS_SNP_AT_COMMITTED_TCB, 8, true},
    {"current", VERSION, KBS_SNP_AT_CURRENT_FIRMWARE, 3, false},
    {"current_build", U8, KBS_SNP_AT_CURRENT_FIRMWARE, 1, false},
    {"current_minor", U8, KBS_SNP_AT_CURRENT_FIRMWARE + 1, 1, false},
    {"current_major", U8, KBS_SNP_AT_CURRENT_FIRMWARE + 2, 1, false},
    {"committed", VERSION, KBS_SNP_AT_COMMITTED_FIRMWARE, 3, false},
    {"committed_build", U8, KBS_SNP_AT_COMMITTED_FIRMWARE, 1, false},
    {"committed_minor", U8, KBS_SNP_AT_COMMITTED_FIRMWARE + 1, 1, false},
    {"committed_major", U8, KBS_SNP_AT_COMMITTED_FIRMWARE + 2, 1, false},
    {"launch_tcb", TCB, KBS_SNP_AT_LAUNCH_TCB, 8, true},
    {"launch_mit_vector", U64, KBS_SNP_AT_LAUNCH_MIT_VECTOR, 8, false},
    {"current_mit_vector", U64, KBS_SNP_AT_CURRENT_MIT_VECTOR, 8, false},
    {"signature", SIGNATURE, 0, 0, true},
    {"_reserved_0", U32, KBS_SNP_AT_KEY_INFO + 4, 4, false},
    {"_reserved_1", TAIL, KBS_SNP_AT_CPUID_FAMILY, 24, false},
    {"_reserved_2", U8, KBS_SNP_AT_CURRENT_FIRMWARE + 3, 1, false},
    {"_reserved_3", U8, KBS_SNP_AT_COMMITTED_FIRMWARE + 3, 1, false},
    {"_reserved_4", TAIL, KBS_SNP_AT_LAUNCH_MIT_VECTOR, 168, false},
};

static const struct member signature_members[] = {
    {"r", BYTES, KBS_SNP_AT_SIGNATURE_R, KBS_SNP_SCALAR_FIELD_BYTES, true},
    {"s", BYTES, KBS_SNP_AT_SIGNATURE_S, KBS_SNP_SCALAR_FIELD_BYTES, true},
    {"_reserved", TAIL, KBS_SNP_AT_SIGNATURE_END, KBS_SNP_REPORT_BYTES - KBS_SNP_AT_SIGNATURE_END,
     false},
};

static const struct member version_members[] = {
    {"build", U8, 0, 1, true},
    {"minor", U8, 1, 1, true},
    {"major", U8, 2, 1, true},
};

/* A TCB with an fmc has Turin's layout, one without has that of the products before, with reserved
 * bytes where attesters that do not know Turin send the parts they have no name for. */
static const struct member tcb_members_first[] = {
    {"fmc", NULL_ONLY, 0, 0, false}, {"bootloader", U8, 0, 1, true},
    {"tee", U8, 1, 1, true},         {"_reserved", BYTES, 2, 4, false},
    {"snp", U8, 6, 1, true},         {"microcode", U8, 7, 1, true},
};
static const struct member tcb_members_turin[] = {
    {"fmc", U8, 0, 1, true}, {"bootloader", U8, 1, 1, true}, {"tee", U8, 2, 1, true},
    {"snp", U8, 3, 1, true}, {"microcode", U8, 7, 1, true},
};

#define TWICE "SNP report: \"%s\" goes where another member went"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct writer {
    uint8_t *to;
    bool written[KBS_SNP_REPORT_BYTES]; /* which bytes a member has been written to */
};

static int put_members(struct writer *w, size_t base, const json_t *object, const char *what,
                       const struct member *list, size_t count, struct kbs_error *err);

/* Marks bytes as written; false if one was already. */
static bool claim(struct writer *w, size_t at, size_t len)
{
    for (size_t i = at; i < at + len; i++) {
        if (w->written[i]) {
            return false;
        }
        w->written[i] = true;
    }
    return true;
}

static int put_number(struct writer *w, size_t at, const struct member *m, const json_t *v,
                      struct kbs_error *err)
{
    json_int_t n = json_integer_value(v);

    if (!claim(w, at, m->len)) {
        return kbs_fail(err, KBS_INPUT, TWICE, m->name);
    }
    if (!json_is_integer(v) || n < 0 || (m->len < 8 && (n >> (8 * m->len)) != 0)) {
        return kbs_fail(err, KBS_INPUT, "SNP report: \"%s\" is not a number of %u bytes", m->name,
                        m->len);
    }
    for (size_t i = 0; i < m->len; i++) {
        w->to[at + i] = (uint8_t)((uint64_t)n >> (8 * i));
    }
    return 0;
}

static bool get_byte(const json_t *v, uint8_t *to)
{
    json_int_t n = json_integer_value(v);

    *to = (uint8_t)n;
    return json_is_integer(v) && n >= 0 && n <= 255;
}

static int put_bytes(struct writer *w, size_t at, const struct member *m, const json_t *v,
                     struct kbs_error *err)
{
    size_t len = json_array_size(v);
    bool good = json_is_array(v) && (m->kind == TAIL ? len <= m->len : len == m->len);
    size_t from = at + m->len - (good ? len : 0);

    if (good && !claim(w, from, len)) {
        return kbs_fail(err, KBS_INPUT, TWICE, m->name);
    }
    for (size_t i = 0; good && i < len; i++) {
        good = get_byte(json_array_get(v, i), &w->to[from + i]);
    }
    if (!good) {
        return kbs_fail(err, KBS_INPUT, "SNP report: \"%s\" is not an array of %u bytes", m->name,
                        m->len);
    }
    return 0;
}

static int put_tcb(struct writer *w, size_t at, const struct member *m, const json_t *v,
                   struct kbs_error *err)
{
    const json_t *fmc = json_object_get(v, "fmc");

    if (fmc != NULL && !json_is_null(fmc)) {
        return put_members(w, at, v, m->name, tcb_members_turin, COUNT(tcb_members_turin), err);
    }
    return put_members(w, at, v, m->name, tcb_members_first, COUNT(tcb_members_first), err);
}

static int put_member(struct writer *w, size_t base, const struct member *m, const json_t *v,
                      struct kbs_error *err)
{
    size_t at = base + m->at;

    switch (m->kind) {
    case U8:
    case U32:
    case U64:
        return put_number(w, at, m, v, err);
    case BYTES:
    case TAIL:
        return put_bytes(w, at, m, v, err);
    case TCB:
        return put_tcb(w, at, m, v, err);
    case SIGNATURE:
        return put_members(w, at, v, m->name, signature_members, COUNT(signature_members), err);
    case VERSION:
        return put_members(w, at, v, m->name, version_members, COUNT(version_members), err);
    case NULL_ONLY:
        return kbs_fail(err, KBS_INPUT, "SNP report: \"%s\" is not null", m->name);
    }
    return kbs_fail(err, KBS_INTERNAL, "no such kind of member");
}

/* Writes an object's members; `base` is where its part of the report begins. */
static int put_members(struct writer *w, size_t base, const json_t *object, const char *what,
                       const struct member *list, size_t count, struct kbs_error *err)
{
    size_t seen = 0;

    if (!json_is_object(object)) {
        return kbs_fail(err, KBS_INPUT, "SNP report: \"%s\" is not an object", what);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *v = json_object_get(object, list[i].name);

        if (v == NULL || json_is_null(v)) {
            if (list[i].required) {
                return kbs_fail(err, KBS_INPUT, "SNP report: no \"%s\" in \"%s\"", list[i].name,
                                what);
            }
            seen += v != NULL;
            continue;
        }
        seen++;
        if (put_member(w, base, &list[i], v, err) != 0) {
            return -1;
        }
    }
    if (seen != json_object_size(object)) {
        return kbs_fail(err, KBS_INPUT, "SNP report: \"%s\" has a member that is not known", what);
    }
    return 0;
}

/* "attestation_report" */
static int get_report(const json_t *object, struct kbs_snp_report *ret, struct kbs_error *err)
{
    struct writer w = {.to = ret->raw};

    memset(ret->raw, 0, sizeof(ret->raw));
    return put_members(&w, 0, object, "attestation_report", report_members, COUNT(report_members),
                       err);
}

/* Appends an array of byte values. */
static int get_array(const json_t *v, const char *what, struct kbs_buf *out, struct kbs_error *err)
{
    if (kbs_json_bytes_get(v, out) != 0 && !out->failed) {
        return kbs_fail(err, KBS_INPUT, "SNP evidence: \"%s\" holds what is not a byte", what);
    }
    return kbs_buf_check(out, what, err);
}

/* "cert_chain": the one certificate of type VCEK or VLEK; AMD's own are passed over. */
static int get_chain(const json_t *chain, struct kbs_buf *leaf, struct kbs_error *err)
{
    bool found = false;

    if (chain == NULL || json_is_null(chain)) {
        return 0;
    }
    if (!json_is_array(chain)) {
        return kbs_fail(err, KBS_INPUT, "SNP evidence: \"cert_chain\" is not an array");
    }
    for (size_t i = 0; i < json_array_size(chain); i++) {
        const json_t *one = json_array_get(chain, i);
        const char *type = json_string_value(json_object_get(one, "cert_type"));
        const json_t *data = json_object_get(one, "data");

        if (!json_is_array(data)) {
            return kbs_fail(err, KBS_INPUT, "SNP evidence: a certificate without data");
        }
        if (type == NULL || (strcmp(type, "VCEK") != 0 && strcmp(type, "VLEK") != 0)) {
            continue;
        }
        if (found) {
            return kbs_fail(err, KBS_INPUT, "SNP evidence: more than one VCEK or VLEK");
        }
        found = true;
        if (get_array(data, "cert_chain", leaf, err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Bytes in either of COCONUT-SVSM's spellings; absent and null are empty. */
static int get_svsm_bytes(const json_t *evidence, const char *name, struct kbs_buf *out,
                          struct kbs_error *err)
{
    const json_t *v = json_object_get(evidence, name);

    if (v == NULL || json_is_null(v)) {
        return 0;
    }
    if (json_is_array(v)) {
        return get_array(v, name, out, err);
    }
    if (!json_is_string(v) ||
        kbs_base64_get(out, kbs_span(json_string_value(v), json_string_length(v))) != 0) {
        return kbs_fail(err, KBS_INPUT, "SNP evidence: \"%s\" is neither base64 nor bytes", name);
    }
    return 0;
}

static int parse_svsm(const json_t *evidence, struct kbs_snp_evidence *ret, struct kbs_error *err)
{
    static const char *const names[] = {"snp-report", "certs-buf", NULL};
    struct kbs_buf report = KBS_BUF(KBS_SNP_REPORT_BYTES + 1);
    struct kbs_buf table = KBS_BUF(KBS_LIMIT_CERT_TABLE_BYTES);
    int r = kbs_json_only(evidence, names, err);

    if (r == 0) {
        r = get_svsm_bytes(evidence, "snp-report", &report, err);
    }
    if (r == 0) {
        r = kbs_snp_report_parse(kbs_buf_span(&report), &ret->report, err);
    }
    if (r == 0) {
        r = get_svsm_bytes(evidence, "certs-buf", &table, err);
    }
    if (r == 0) {
        r = kbs_snp_cert_table_leaf(kbs_buf_span(&table), &ret->leaf, err);
    }
    kbs_buf_deinit(&report);
    kbs_buf_deinit(&table);
    return r;
}

static int parse_coco(const json_t *evidence, struct kbs_snp_evidence *ret, struct kbs_error *err)
{
    static const char *const names[] = {"attestation_report", "cert_chain", NULL};

    if (kbs_json_only(evidence, names, err) != 0 ||
        get_report(json_object_get(evidence, "attestation_report"), &ret->report, err) != 0) {
        return -1;
    }
    return get_chain(json_object_get(evidence, "cert_chain"), &ret->leaf, err);
}

void kbs_snp_evidence_deinit(struct kbs_snp_evidence *e)
{
    kbs_buf_deinit(&e->leaf);
}

int kbs_snp_evidence_parse(const json_t *evidence, struct kbs_snp_evidence *ret,
                           struct kbs_error *err)
{
    int r = 0;

    kbs_buf_init(&ret->leaf, KBS_LIMIT_CERTIFICATE_BYTES);
    if (!json_is_object(evidence)) {
        return kbs_fail(err, KBS_INPUT, "SNP evidence is not an object");
    }
    ret->svsm = json_object_get(evidence, "snp-report") != NULL;
    r = ret->svsm ? parse_svsm(evidence, ret, err) : parse_coco(evidence, ret, err);
    if (r != 0) {
        kbs_snp_evidence_deinit(ret);
    }
    return r;
}

/* VCEK 63da758d-e664-4564-adc5-f4b93be8accd, VLEK a8074bc2-a25a-483e-aae6-39c045a0b8a1: as RFC 9562
 * orders the bytes, and as EFI does. */
static const uint8_t leaf_guids[][16] = {
    {0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
     0xcd},
    {0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
     0xcd},
    {0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8,
     0xa1},
    {0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8,
     0xa1},
};

int kbs_snp_cert_table_leaf(struct kbs_span table, struct kbs_buf *leaf, struct kbs_error *err)
{
    struct kbs_reader r = kbs_reader(table);
    bool found = false;

    while (r.rest.len > 0) {
        struct kbs_span guid = kbs_read_bytes(&r, 16);
        uint32_t offset = kbs_read_le32(&r);
        uint32_t length = kbs_read_le32(&r);

        if (!r.failed && kbs_snp_is_zero(guid)) {
            return 0;
        }
        if (r.failed || offset > table.len || length > table.len - offset) {
            return kbs_fail(err, KBS_INPUT, "SNP evidence: the certificate table is cut short");
        }
        for (size_t i = 0; i < COUNT(leaf_guids); i++) {
            if (!kbs_span_equal(guid, kbs_span(leaf_guids[i], sizeof(leaf_guids[i])))) {
                continue;
            }
            if (found) {
                return kbs_fail(err, KBS_INPUT, "SNP evidence: more than one VCEK or VLEK");
            }
            found = true;
            kbs_buf_put(leaf, table.p + offset, length);
        }
        if (kbs_buf_check(leaf, "certificate", err) != 0) {
            return -1;
        }
    }
    return 0;
}
