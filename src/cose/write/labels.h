/* The numbers of our COSE messages, for their writer and their reader. */
#ifndef KBS_COSE_WRITE_LABELS_H
#define KBS_COSE_WRITE_LABELS_H

/* Labels: RFC 9052 section 3.1, RFC 9596, RFC 9053 sections 5.1, 5.2, 6.3.1 and 7.1.1. */
enum {
    KBS_COSE_HEADER_ALG = 1,
    KBS_COSE_HEADER_KID = 4,
    KBS_COSE_HEADER_TYP = 16,
    KBS_COSE_HEADER_EPK = -1,
    KBS_COSE_HEADER_SALT = -20,
    KBS_COSE_HEADER_PARTY_U_IDENTITY = -21,
    KBS_COSE_HEADER_PARTY_V_NONCE = -25,
    KBS_COSE_KEY_KTY = 1,
    KBS_COSE_KEY_KTY_EC2 = 2,
    KBS_COSE_KEY_CRV = -1,
    KBS_COSE_KEY_X = -2,
    KBS_COSE_KEY_Y = -3,
    KBS_COSE_TAG_SIGN1 = 18,
    KBS_COSE_TAG_ENCRYPT = 96
};

#endif
