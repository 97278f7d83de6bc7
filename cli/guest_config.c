/*
 * Whoever launches a guest decides what it is asked to trust, unless that is measured: then evidence tells a
 * guest with another configuration from this one, and no key is released to it. So the service's
 * URL, its TLS key and its receipt key stand in init-data, and what stands there cannot be
 * overruled by an option.
 *
 * A member that is there and cannot be read ends the guest. Passing over it would be to run without the
 * pins that somebody has asked for.
 */
#include "cli/guest_config.h"

#include "attest/initdata.h"
#include "attest/initdata_entry.h"
#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

#define PIN_PREFIX "sha256//"

bool kbs_guest_pin_valid(struct kbs_span pin)
{
    struct kbs_buf digest = KBS_BUF(KBS_SHA256_BYTES);
    bool ok = kbs_span_starts_with(pin, PIN_PREFIX) &&
              kbs_base64_get(&digest, kbs_span_skip(pin, strlen(PIN_PREFIX))) == 0 &&
              digest.len == KBS_SHA256_BYTES;

    kbs_buf_deinit(&digest);
    return ok;
}

/* What goes together, whoever wrote it. */
static int config_check(const struct kbs_guest_config *c, struct kbs_error *err)
{
    bool https = kbs_span_starts_with(kbs_span_str(c->url), "https://");

    if (c->tls_pin[0] != '\0' && !kbs_guest_pin_valid(kbs_span_str(c->tls_pin))) {
        return kbs_fail(err, KBS_INPUT, "a TLS pin is sha256// and the base64 of a SHA-256 digest");
    }
    return c->tls_pin[0] == '\0' || https
               ? 0
               : kbs_fail(err, KBS_INPUT, "a TLS pin is for a URL of https://, beside it");
}

static int config_text(const json_t *o, const char *name, char *out, size_t size,
                       struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(o, name, &text, err) != 0) {
        return -1;
    }
    return kbs_span_to_cstr(text, out, size)
               ? 0
               : kbs_fail(err, KBS_INPUT, KBS_GUEST_CONFIG_NAME ": \"%s\" is too long", name);
}

static int config_key(const json_t *o, struct kbs_guest_config *ret, struct kbs_error *err)
{
    json_t *jwk = NULL;

    if (json_object_get(o, "receipt_key") == NULL) {
        return 0;
    }
    if (kbs_json_get_object(o, "receipt_key", &jwk, err) != 0 ||
        kbs_jose_jwk_get(jwk, "ES256", &ret->receipt_key, err) != 0) {
        return -1;
    }
    ret->has_receipt_key = ret->receipt_key.curve == KBS_CURVE_P256;
    return ret->has_receipt_key
               ? 0
               : kbs_fail(err, KBS_INPUT,
                          KBS_GUEST_CONFIG_NAME ": the receipt key is not on P-256");
}

static int config_parse(struct kbs_span text, struct kbs_guest_config *ret, struct kbs_error *err)
{
    static const char *const members[] = {"url", "tls_pin", "receipt_key", NULL};
    KBS_AUTO_JSON o = NULL;

    if (text.len > KBS_GUEST_CONFIG_MAX_BYTES) {
        return kbs_fail(err, KBS_INPUT, KBS_GUEST_CONFIG_NAME " is too long");
    }
    return kbs_json_parse_object(text, KBS_GUEST_CONFIG_NAME, &o, err) == 0 &&
                   kbs_json_only(o, members, err) == 0 &&
                   config_text(o, "url", ret->url, sizeof(ret->url), err) == 0 &&
                   config_text(o, "tls_pin", ret->tls_pin, sizeof(ret->tls_pin), err) == 0 &&
                   config_key(o, ret, err) == 0
               ? config_check(ret, err)
               : -1;
}

int kbs_guest_config_read(struct kbs_span init_data, struct kbs_guest_config *ret,
                          struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;
    enum kbs_hash hash;
    struct kbs_digest digest;

    *ret = (struct kbs_guest_config){.url = ""};
    if (kbs_init_data_digest(init_data, &hash, &digest, err) != 0 ||
        kbs_init_data_entry(init_data, KBS_GUEST_CONFIG_NAME, &text, err) != 0) {
        return -1;
    }
    return text.p != NULL ? config_parse(text, ret, err) : 0;
}

int kbs_guest_config_put(const struct kbs_guest_config *c, struct kbs_buf *out,
                         struct kbs_error *err)
{
    const char *comma = "";

    if (config_check(c, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(out, '{');
    if (c->url[0] != '\0') {
        kbs_buf_put_str(out, "\"url\":");
        kbs_json_string_put(out, kbs_span_str(c->url));
        comma = ",";
    }
    if (c->tls_pin[0] != '\0') {
        kbs_buf_printf(out, "%s\"tls_pin\":\"%s\"", comma, c->tls_pin);
        comma = ",";
    }
    if (c->has_receipt_key) {
        kbs_buf_printf(out, "%s\"receipt_key\":", comma);
        kbs_jose_jwk_put(out, &c->receipt_key);
    }
    kbs_buf_put_str(out, "}");
    return kbs_buf_check(out, KBS_GUEST_CONFIG_NAME, err);
}
