/*
 * p11-kit parses, as for the token's own URI (hsm/module.c). What a URI does not say is not asked for;
 * what it says of a token must be true of the one that is open: a URI that was copied from elsewhere shall
 * not find a key of the same name here.
 */
#include "hsm/uri.h"

#include <p11-kit/uri.h>

#include "hsm/ckr.h"

#define URI_BYTES 2048u

/* Parses an object URI. Returns owned (p11_kit_uri_free()), or NULL. */
static P11KitUri *uri_parse(struct kbs_span text, struct kbs_error *err)
{
    char uri_text[URI_BYTES];
    P11KitUri *uri;
    int rc;

    if (!kbs_span_to_cstr(text, uri_text, sizeof(uri_text))) {
        (void)kbs_fail(err, KBS_INPUT, "the key's URI is longer than %u bytes", URI_BYTES - 1);
        return NULL;
    }
    uri = p11_kit_uri_new();
    if (uri == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "no memory for the key's URI");
        return NULL;
    }
    rc = p11_kit_uri_parse(uri_text, P11_KIT_URI_FOR_OBJECT_ON_TOKEN, uri);
    if (rc != P11_KIT_URI_OK) {
        (void)kbs_fail(err, KBS_INPUT, "the key's URI does not parse: %s", p11_kit_uri_message(rc));
    } else if (p11_kit_uri_get_pin_value(uri) != NULL || p11_kit_uri_get_pin_source(uri) != NULL ||
               p11_kit_uri_any_unrecognized(uri)) {
        (void)kbs_fail(err, KBS_INPUT,
                       "the key's URI has attributes other than id, object, type and a token's");
    } else {
        return uri;
    }
    p11_kit_uri_free(uri);
    return NULL;
}

/* `type` as a URI spells it. */
static const char *uri_type(CK_OBJECT_CLASS class)
{
    return class == CKO_SECRET_KEY ? "secret-key" : class == CKO_PRIVATE_KEY ? "private" : "public";
}

/* What the URI asks for as a template that borrows from it. */
static int uri_template(const struct kbs_token *t, P11KitUri *uri, CK_OBJECT_CLASS class,
                        bool by_name, struct kbs_template *ret, struct kbs_error *err)
{
    CK_TOKEN_INFO info = t->info;
    CK_ATTRIBUTE *type = p11_kit_uri_get_attribute(uri, CKA_CLASS);
    CK_ATTRIBUTE *id = p11_kit_uri_get_attribute(uri, CKA_ID);
    CK_ATTRIBUTE *label = p11_kit_uri_get_attribute(uri, CKA_LABEL);

    if (p11_kit_uri_match_token_info(uri, &info) != 1) {
        return kbs_fail(err, KBS_INPUT, "the key's URI names another token than this one");
    }
    if (type != NULL && *(CK_OBJECT_CLASS *)type->pValue != class) {
        return kbs_fail(err, KBS_INPUT, "the key's URI has another type than %s", uri_type(class));
    }
    if (by_name && (id == NULL || id->ulValueLen == 0) &&
        (label == NULL || label->ulValueLen == 0)) {
        return kbs_fail(err, KBS_INPUT, "the key's URI has neither id nor object");
    }
    kbs_template_number(ret, CKA_CLASS, class);
    kbs_template_bool(ret, CKA_TOKEN, true);
    if (id != NULL) {
        kbs_template_bytes(ret, CKA_ID, kbs_span(id->pValue, id->ulValueLen));
    }
    if (label != NULL) {
        kbs_template_bytes(ret, CKA_LABEL, kbs_span(label->pValue, label->ulValueLen));
    }
    return 0;
}

int kbs_uri_objects(const struct kbs_token *t, struct kbs_span text, CK_OBJECT_CLASS class,
                    bool by_name, CK_OBJECT_HANDLE *ret, size_t room, size_t *ret_n,
                    struct kbs_error *err)
{
    struct kbs_template wanted = {.n = 0};
    P11KitUri *uri = uri_parse(text, err);
    int rc;

    if (uri == NULL) {
        return -1;
    }
    rc = uri_template(t, uri, class, by_name, &wanted, err);
    if (rc == 0) {
        rc = kbs_object_list(t, &wanted, ret, room, ret_n, err);
    }
    p11_kit_uri_free(uri);
    return rc;
}
