/*
 * Keys for trying things out: what wraps to them protects nothing, and the only question is whether it opens.
 *
 * Making such a key takes longer than all the rest of a worker's start, so these are made already. Everybody knows
 * them. Never use them for anything that somebody else sees.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/rsa_new.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/params.h>

#define KNOWN_EXPONENT 65537u

static const struct known {
    unsigned int bits;
    const char *p; /* hex */
    const char *q;
} knowns[] = {
    {2048,
     "f18fa7a4de99aa5173f7edce13fa9363afe0c57732a3ab35a4fbe1b83bab1658b22f854001135c60756c8383"
     "250152ac6c429b6fd1bfa3bb7635c7ccfa8cb170f85e9e06be12e789fcd2b9177d9fe668af7335b14c34e11c"
     "65124146dce8223024dffa290b368a474346581280d6a4cfe11645505e06f327e6f92857b626d499",
     "d792cc7de331b4e30729b98489ab37c0f7e6b1ca43a478c8429cc02b2cb16ace6380cb59bd9462e22e7cf14f"
     "1a3e375c98bfdf639091989bbc58260becb9db41e0094de2e0923e50a1cf18b18c6ed4547c02090da5d9eb52"
     "49207b0d0a3aa9e6ea54b4da9e78548e9df947ae5817eed83a997a91d09e516429ab69e21777b895"},
    {3072,
     "c780fdb1a8ef0018a19bc744a044aa6a5e0fcd47c1cbd2951d430277a9c362a2023ecf3b7afbed04370d9f8b"
     "7b89aa35721a8ba3ee11fa099e748e7e4f5859181b6d56c41bda029030396d76c709aea3c92bf02bcfb87e38"
     "bbaca8614febe24e0e5e0be7804806bbb8bcfbe20d6de52709744ab22cc5e3f8230b53280d5df1ffbeafdd6b"
     "af53a6e8f19e6e412843c51fc69acb20c17aaa0c43fd897d86476ea5ff93c78d8d4ebbdc2c491d8057017889"
     "6fc97e82dd5eb7f649ff8a2470682ecb",
     "bc35531e7b6067738855418b2622faca464b02000a17da5197c6d5710785280aa16225407b346b6e43f6b30c"
     "64d298b9d3acbd2ecfd97760be2fc90b6a047e8fa287135447b2223cf61d3a4a8a6467c53edec75733768fcd"
     "d416dbf6223ddf3c9919d35f8a17d7f80bc23857912e13339f446073bd975afa5a97e30d760c9fdf746791f3"
     "37ff2f729ee2270e5839899b8ff398e08bbe1381d7bba48b614ac0319813be23fcece2126e4eb33618bd402d"
     "686e06cfb500111c957145f5ce3e27e3"},
    {4096,
     "e59bdda09a4cb867dc13d5842654a2230a318e592c36d0f5d5bce225cf88fec45afe82686be7893c2cb5a7af"
     "c8741435fd971df52bd0c5a73186ce69c2e7e0a2d39ac48cfb38374387cf4b746f41457aa1e9d7a473b336c7"
     "5491245368c8f1b91b68126746528b93cf7b928fcdd659d560b7a36f503fbac2ecf8d3f6126ddbdefdc06196"
     "202d38f5ef149e3ccb5a9eb3970feb571b572b7dcca5150bd4fe8a237bbca83484f4ae4c3a5a815734553f2d"
     "976cd0d8b69d87d6130d31c1be211637f8a72cc929eb2df4d7026ba8fc04aa50fea1cdcbee606adc9f725f95"
     "f29ef9daa7bfa1ada7320847bc15213f193c658485a3b94441f96e315a432a67574d7985",
     "bc982de8f4b0693e146cfa4e1255bb4a19661e853a00b79ff2d6f07a99733f6de9ea933b6991093e291c8698"
     "a0178d85544a392a93b3d5baa12d5ccec42a14a3c7d229482a01cea4e7f9fdedff2fd53d13a65dd7a47dd83e"
     "58bd8545431fc400fbdc2a722f321a59b0d3a7a8bb1e5c08ec4b076c9a3d60df7dbdad6fdaa5bc5b38af1859"
     "e4f656936111289116c600cc5e1b99ebd25dd7307c443b5468a15f4c3b8f26254765493693be090d20d875cf"
     "3ca74676d3650d8770e8855afcc5fcc652ebfb0d1346701a94c7bf52b7c993eb0ac8232a3c7d0406b6c56c3d"
     "fbc81ba3448d5d504eba4fba1243bd84e48a4898e7ca44260dbe723816cd405c8b6432c1"},
};

/* The numbers of a key (RFC 8017 section 3.2), in the order in which they are worked out. */
struct numbers {
    BIGNUM *p, *q, *e, *n, *d, *dp, *dq, *qinv;
};

static void numbers_free(struct numbers *k)
{
    BIGNUM *all[] = {k->p, k->q, k->e, k->n, k->d, k->dp, k->dq, k->qinv};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        BN_free(all[i]);
    }
}

static bool numbers_make(const struct known *from, struct numbers *k)
{
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *p1 = BN_new();
    BIGNUM *q1 = BN_new();
    BIGNUM *phi = BN_new();
    bool ok = ctx != NULL && p1 != NULL && q1 != NULL && phi != NULL;

    k->e = BN_new();
    k->n = BN_new();
    k->d = BN_new();
    k->dp = BN_new();
    k->dq = BN_new();
    k->qinv = BN_new();
    ok = ok && k->e != NULL && k->n != NULL && k->d != NULL && k->dp != NULL && k->dq != NULL &&
         k->qinv != NULL && BN_hex2bn(&k->p, from->p) != 0 && BN_hex2bn(&k->q, from->q) != 0 &&
         BN_set_word(k->e, KNOWN_EXPONENT) == 1 && BN_mul(k->n, k->p, k->q, ctx) == 1 &&
         BN_sub(p1, k->p, BN_value_one()) == 1 && BN_sub(q1, k->q, BN_value_one()) == 1 &&
         BN_mul(phi, p1, q1, ctx) == 1 && BN_mod_inverse(k->d, k->e, phi, ctx) != NULL &&
         BN_mod(k->dp, k->d, p1, ctx) == 1 && BN_mod(k->dq, k->d, q1, ctx) == 1 &&
         BN_mod_inverse(k->qinv, k->q, k->p, ctx) != NULL;
    BN_free(p1);
    BN_free(q1);
    BN_free(phi);
    BN_CTX_free(ctx);
    return ok;
}

static OSSL_PARAM *numbers_params(const struct numbers *k)
{
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;

    if (bld != NULL && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, k->n) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, k->e) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_D, k->d) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_FACTOR1, k->p) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_FACTOR2, k->q) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_EXPONENT1, k->dp) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_EXPONENT2, k->dq) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, k->qinv) == 1) {
        params = OSSL_PARAM_BLD_to_param(bld);
    }
    OSSL_PARAM_BLD_free(bld);
    return params;
}

/* Returns owned, or NULL. */
static EVP_PKEY *known_new(const struct known *from)
{
    struct numbers k = {.p = NULL};
    OSSL_PARAM *params = numbers_make(from, &k) ? numbers_params(&k) : NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *pkey = NULL;

    if (params != NULL && ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1) {
        (void)EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params);
    }
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    numbers_free(&k);
    return pkey;
}

int kbs_agree_rsa_known(unsigned int bits, struct kbs_agree_rsa **ret, struct kbs_error *err)
{
    EVP_PKEY *pkey = NULL;

    *ret = NULL;
    ERR_clear_error();
    for (size_t i = 0; i < sizeof(knowns) / sizeof(knowns[0]); i++) {
        if (knowns[i].bits == bits) {
            pkey = known_new(&knowns[i]);
            return pkey != NULL ? kbs_agree_rsa_new(pkey, ret, err)
                                : kbs_fail_openssl(err, KBS_INTERNAL, "the known RSA key");
        }
    }
    return kbs_fail(err, KBS_INPUT, "there is no known RSA key of %u bits", bits);
}
