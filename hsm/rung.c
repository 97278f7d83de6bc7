/*
 * The table of rungs. A rung is a claim about what crosses the PKCS#11 interface, so the order is
 * by that first; within it COSE before JOSE does not matter (formats are the client's choice), but
 * the one-call KDF comes before the chain that does the same in four.
 *
 *   COSE-HKDF, JOSE-KDF, JOSE-chain   the key to an EC key; derive.c
 *   RSA-OAEP-256, RSA-OAEP            the key to an RSA key; SHA-1 only if the TEE asks for it
 *   GCM-wrap                          a JWE whose payload is the key, made in the token; gcm.c
 *   transport, transport-unwrap       the wrapping key passes through this process; transport.c
 *   worker                            the key itself does; worker.c
 */
#include "hsm/rung.h"

#include "hsm/transport.h"

#define RUNG_BIT(v) (1u << (v))
#define RUNG_EC RUNG_BIT(KBS_TEE_ALG_ECDH_ES_A256KW)
#define RUNG_ALL (RUNG_EC | RUNG_BIT(KBS_TEE_ALG_RSA_OAEP_256) | RUNG_BIT(KBS_TEE_ALG_RSA_OAEP))
#define RUNG_JOSE RUNG_BIT(KBS_FORMAT_JOSE)
#define RUNG_COSE RUNG_BIT(KBS_FORMAT_COSE)
#define RUNG_JWE RUNG_BIT(KBS_FORMAT_JWE)

static int rung_ec(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                   const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                   struct kbs_recipient *ret, struct kbs_error *err)
{
    return kbs_recipient_ec(t, choice->rung->derive[choice->format], order, key, ret, err);
}

static int rung_rsa(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                    const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                    struct kbs_recipient *ret, struct kbs_error *err)
{
    (void)choice;
    return kbs_recipient_rsa(t, order, key, ret, err);
}

const struct kbs_rung kbs_rungs[KBS_RUNG_COUNT] = {
    {.name = "COSE-HKDF",
     .locality = KBS_LOCALITY_TOKEN,
     .algs = RUNG_EC,
     .formats = RUNG_COSE,
     .make = rung_ec,
     .derive = {[KBS_FORMAT_COSE] = kbs_derive_cose_hkdf}},
    {.name = "JOSE-KDF",
     .locality = KBS_LOCALITY_TOKEN,
     .algs = RUNG_EC,
     .formats = RUNG_JOSE,
     .make = rung_ec,
     .derive = {[KBS_FORMAT_JOSE] = kbs_derive_jose_kdf}},
    {.name = "JOSE-chain",
     .locality = KBS_LOCALITY_TOKEN,
     .algs = RUNG_EC,
     .formats = RUNG_JOSE,
     .make = rung_ec,
     .derive = {[KBS_FORMAT_JOSE] = kbs_derive_jose_chain}},
    {.name = "RSA-OAEP-256",
     .locality = KBS_LOCALITY_TOKEN,
     .algs = RUNG_BIT(KBS_TEE_ALG_RSA_OAEP_256),
     .formats = RUNG_JOSE,
     .any_length = true,
     .make = rung_rsa},
    {.name = "RSA-OAEP",
     .locality = KBS_LOCALITY_TOKEN,
     .algs = RUNG_BIT(KBS_TEE_ALG_RSA_OAEP),
     .formats = RUNG_JOSE,
     .any_length = true,
     .make = rung_rsa},
    {.name = "GCM-wrap",
     .locality = KBS_LOCALITY_TOKEN,
     .algs = RUNG_ALL,
     .formats = RUNG_JWE,
     .any_length = true,
     .needs_cek = true,
     .make = kbs_rung_gcm},
    {.name = "transport",
     .locality = KBS_LOCALITY_TRANSPORT,
     .algs = RUNG_EC,
     .formats = RUNG_JOSE | RUNG_COSE,
     .make = rung_ec,
     .derive = {[KBS_FORMAT_JOSE] = kbs_derive_jose_transport,
                [KBS_FORMAT_COSE] = kbs_derive_cose_transport}},
    {.name = "transport-unwrap",
     .locality = KBS_LOCALITY_TRANSPORT,
     .algs = RUNG_EC,
     .formats = RUNG_JOSE | RUNG_COSE,
     .make = rung_ec,
     .derive = {[KBS_FORMAT_JOSE] = kbs_derive_jose_transport_unwrap,
                [KBS_FORMAT_COSE] = kbs_derive_cose_transport_unwrap}},
    {.name = "worker",
     .locality = KBS_LOCALITY_WORKER,
     .algs = RUNG_ALL,
     .formats = RUNG_JWE,
     .make = kbs_rung_worker},
};

bool kbs_rung_makes(const struct kbs_rung *rung, enum kbs_format format, enum kbs_tee_alg alg)
{
    return (rung->formats & RUNG_BIT(format)) != 0 && (rung->algs & RUNG_BIT(alg)) != 0;
}

/* The length of the key as the answer carries it; 0 where only its receiver can tell (RSA). */
static size_t rung_key_bytes(const struct kbs_recipient_order *order, const struct kbs_recipient *r)
{
    if (order->format == KBS_FORMAT_JWE) {
        return r->ciphertext_len;
    }
    return order->tee->alg == KBS_TEE_ALG_ECDH_ES_A256KW ? r->wrapped_len - 8 : 0;
}

int kbs_rung_release(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                     const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                     size_t key_bytes, struct kbs_buf *body, struct kbs_error *err)
{
    struct kbs_recipient_order mine = *order;
    struct kbs_recipient made = {.wrapped_len = 0};
    size_t made_bytes;

    mine.format = choice->format;
    if (choice->rung->make(t, choice, &mine, key, &made, err) != 0) {
        return -1;
    }
    made_bytes = rung_key_bytes(&mine, &made);
    if (key_bytes != 0 && made_bytes != 0 && made_bytes != key_bytes) {
        return kbs_fail(err, KBS_INTERNAL, "the token released a key of %zu bytes, not of %zu",
                        made_bytes, key_bytes);
    }
    kbs_recipient_print(body, &mine, &made);
    return kbs_buf_check(body, "the answer", err);
}
