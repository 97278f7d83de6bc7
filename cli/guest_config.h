/*
 * A guest's own configuration in its init-data (docs/protocol/receipts.md): a member "kbs-guest.json" of
 * [data], so that what the guest trusts is measured with it.
 */
#ifndef KBS_CLI_GUEST_CONFIG_H
#define KBS_CLI_GUEST_CONFIG_H

#include "base/ec.h"

#define KBS_GUEST_CONFIG_NAME "kbs-guest.json"
#define KBS_GUEST_CONFIG_MAX_BYTES 4096

struct kbs_guest_config {
    char url[512];    /* of the service; empty: not named */
    char tls_pin[64]; /* "sha256//<base64>"; empty: none */
    bool has_receipt_key;
    struct kbs_ec_public receipt_key;
};

/* True for "sha256//" and the base64 of 32 bytes. */
bool kbs_guest_pin_valid(struct kbs_span pin);

/*
 * From init-data (TOML); all empty if it has no such member. KBS_INPUT if the document is none, is not of the shape
 * that can be read here, or the member is not what it should be.
 */
KBS_MUST_CHECK int kbs_guest_config_read(struct kbs_span init_data, struct kbs_guest_config *ret,
                                         struct kbs_error *err);

/* The text of the member. KBS_INPUT for a pin that is none, or without an https URL. */
KBS_MUST_CHECK int kbs_guest_config_put(const struct kbs_guest_config *c, struct kbs_buf *out,
                                        struct kbs_error *err);

#endif
