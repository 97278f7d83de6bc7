/*
 * provider_token KIND: a new token with an operator's keys on it, as `pkcs11-tool --keypairgen` makes them. Prints its
 * folder, module, environment and arguments, a line each; the PIN is the harness's. Exits 77 if there is no such module.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/secret.h"
#include "cose/write/cose.h"
#include "hsm/object.h"
#include "tests/token/harness.h"

static const struct own_key {
    const char *label;
    uint8_t id;
    enum kbs_curve curve; /* NONE: RSA of 2048 bits */
} own_keys[] = {
    {"ec256", 1, KBS_CURVE_P256}, {"ec384", 2, KBS_CURVE_P384}, {"rsa", 3, KBS_CURVE_NONE},
    {"twin", 4, KBS_CURVE_P256},  {"twin", 5, KBS_CURVE_P256},  {"a key/100%", 6, KBS_CURVE_P256},
};

static void make_key(struct kbs_token *t, const struct own_key *k)
{
    static const uint8_t exponent[] = {1, 0, 1};
    struct kbs_template pub = {.n = 0};
    struct kbs_template priv = {.n = 0};
    CK_MECHANISM mech = {.mechanism = k->curve == KBS_CURVE_NONE ? CKM_RSA_PKCS_KEY_PAIR_GEN
                                                                 : CKM_EC_KEY_PAIR_GEN};
    CK_OBJECT_HANDLE objects[2];

    kbs_template_bool(&pub, CKA_TOKEN, true);
    kbs_template_bytes(&pub, CKA_ID, kbs_span(&k->id, 1));
    kbs_template_bytes(&pub, CKA_LABEL, kbs_span_str(k->label));
    kbs_template_bool(&priv, CKA_TOKEN, true);
    kbs_template_bool(&priv, CKA_PRIVATE, true);
    kbs_template_bool(&priv, CKA_SENSITIVE, true);
    kbs_template_bool(&priv, CKA_EXTRACTABLE, false);
    kbs_template_bytes(&priv, CKA_ID, kbs_span(&k->id, 1));
    kbs_template_bytes(&priv, CKA_LABEL, kbs_span_str(k->label));
    kbs_template_bool(&priv, CKA_SIGN, true);
    if (k->curve != KBS_CURVE_NONE) {
        kbs_template_bytes(&pub, CKA_EC_PARAMS, kbs_curve_oid_der(k->curve));
        kbs_template_bool(&priv, CKA_DERIVE, true);
    } else {
        kbs_template_number(&pub, CKA_MODULUS_BITS, 2048);
        kbs_template_bytes(&pub, CKA_PUBLIC_EXPONENT, kbs_span(exponent, sizeof(exponent)));
    }
    assert_int_equal(t->f->C_GenerateKeyPair(t->session, &mech, pub.a, pub.n, priv.a, priv.n,
                                             &objects[0], &objects[1]),
                     CKR_OK);
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct token_dir d;
    struct kbs_token t;
    struct worker w;

    if (argc != 2 || !harness_select(argv[1])) {
        return 77;
    }
    assert_true(kbs_secret_heap_init(&err) >= 0);
    dir_new(&d);
    worker_start(&w, &d, &(struct start_options){.init = true, .so_pin = SO_PIN "\n"});
    assert_int_equal(worker_stop(&w), 0);
    inside_open(&t, &d);
    for (size_t i = 0; i < sizeof(own_keys) / sizeof(own_keys[0]); i++) {
        make_key(&t, &own_keys[i]);
    }
    kbs_token_close(&t);
    (void)printf("%s\n%s\n%s\n%s\n%s\n", d.path, module_path, d.env, d.init_args, PIN);
    return 0;
}
