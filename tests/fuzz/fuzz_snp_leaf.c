/*
 * A leaf certificate with AMD's extensions; the same bytes as one DER element and as a certificate
 * table. The property: a leaf that parses is of a known product and of one kind, with what that kind
 * has, and no chain holds for it.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/snp/certs.h"
#include "attest/snp/evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void leaf(struct kbs_span der)
{
    struct kbs_snp_leaf *l = NULL;
    struct kbs_snp_endorsements *none = NULL;
    struct kbs_snp_chain chain;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_snp_leaf_parse(der, &l, &err) != 0) {
        if (err.category != KBS_INPUT) {
            abort();
        }
        return;
    }
    const struct kbs_snp_leaf_facts *f = kbs_snp_leaf_facts(l);
    bool vcek = f->kind == KBS_SNP_SIGNER_VCEK && f->csp_id[0] == '\0' &&
                f->hwid_len == (f->product == KBS_SNP_PRODUCT_TURIN ? 8u : 64u);
    bool vlek = f->kind == KBS_SNP_SIGNER_VLEK && f->csp_id[0] != '\0' && f->hwid_len == 0;
    if (f->product == KBS_SNP_PRODUCT_NONE || vcek == vlek ||
        kbs_snp_endorsements_new(&none, &err) != 0 ||
        kbs_snp_chain_verify(none, l, 1750000000, 0, &chain, &err) != 0 || chain.known) {
        abort();
    }
    kbs_snp_endorsements_free(none);
    kbs_snp_leaf_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_span all = kbs_span(data, size);
    struct kbs_buf found = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    struct kbs_span text;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t n;

    leaf(all);
    if (kbs_snp_der_u8(all, &n) && size != (n < 0x80 ? 3u : 4u)) {
        abort();
    }
    if (kbs_snp_der_text(all, &text) && text.len + 2 != size) {
        abort();
    }
    if (kbs_snp_cert_table_leaf(all, &found, &err) == 0 && found.len > size) {
        abort();
    }
    kbs_buf_deinit(&found);
    return 0;
}
