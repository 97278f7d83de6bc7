/*
 * The worker rung: a flattened JWE whose payload is the released key, made here. For tokens without
 * GCM-wrap and guests that know nothing else, and only for keys whose floor is `worker`: their
 * owner has accepted that the key is in this process, on the secure heap, for one operation.
 *
 * PKCS#11 shows a sensitive key to nobody, but it wraps it under a key whose value we know.
 */
#include "base/random.h"
#include "hsm/jwe.h"
#include "hsm/rung.h"
#include "hsm/transport.h"

int kbs_worker_open(struct kbs_token *t, CK_OBJECT_HANDLE key, struct kbs_secret **ret,
                    struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    KBS_AUTO_SECRET kek = NULL;
    CK_OBJECT_HANDLE kek_object = CK_INVALID_HANDLE;
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len = 0;

    if (kbs_secret_new(KBS_DERIVE_KEK_BYTES, &kek, err) != 0) {
        return -1;
    }
    kbs_random(kbs_secret_bytes(kek), KBS_DERIVE_KEK_BYTES);
    if (kbs_transport_import(&scratch, kek, KBS_USAGE_WRAP, &kek_object, err) != 0 ||
        kbs_object_wrap(t, kek_object, key, wrapped, &wrapped_len, err) != 0) {
        return -1;
    }
    return kbs_agree_unwrap(kbs_secret_span(kek), kbs_span(wrapped, wrapped_len), ret, err);
}

int kbs_rung_worker(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                    const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                    struct kbs_recipient *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET opened = NULL;

    (void)choice;
    if (kbs_worker_open(t, key, &opened, err) != 0 ||
        kbs_jwe_seal(order->tee, kbs_secret_span(opened), ret, ret->ciphertext, err) != 0) {
        return -1;
    }
    ret->ciphertext_len = kbs_secret_len(opened);
    return 0;
}
