/* A parsed leaf, for the files of this folder that hand it to OpenSSL. */
#ifndef KBS_ATTEST_SNP_LEAF_H
#define KBS_ATTEST_SNP_LEAF_H

#include <openssl/x509.h>

#include "attest/snp/certs.h"

struct kbs_snp_leaf {
    X509 *cert;
    EVP_PKEY *key; /* borrowed from cert */
    struct kbs_snp_leaf_facts facts;
};

#endif
