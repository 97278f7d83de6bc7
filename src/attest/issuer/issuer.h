/*
 * Issuers: whoever vouches for a guest by a signed token. What verified the evidence is the operator's
 * choice; here each kind of token (a profile) is checked by its own rules and mapped to the one claims
 * model (attest/ear.h), and none of them says which key is the TEE's in a session of ours.
 *
 *   configure   [[issuer]] -> struct kbs_issuers
 *   verify      a token, and what it has to fit, -> struct kbs_issuer_result
 *
 * A token is looked up by its `iss` (or its anchor, for profiles without one): no such issuer, no token.
 * Pure: the time, fetched key sets and everything to compare with come in. Rules: RFC 8725, RFC 7519.
 */
#ifndef KBS_ATTEST_ISSUER_ISSUER_H
#define KBS_ATTEST_ISSUER_ISSUER_H

#include "attest/evidence.h"
#include "attest/rcar.h"
#include "jose/read/jwt.h"

enum kbs_issuer_profile {
    KBS_ISSUER_NONE = 0,
    KBS_ISSUER_COCO_EAR,    /* CoCo Attestation Service, EAR */
    KBS_ISSUER_COCO_SIMPLE, /* the same, before it had EAR */
    KBS_ISSUER_ITA,         /* Intel Trust Authority, v1 and v2 claims */
    KBS_ISSUER_MAA,         /* Microsoft Azure Attestation */
    KBS_ISSUER_GOOGLE,      /* Google Confidential Space */
    KBS_ISSUER_VERAISON,    /* Veraison EAR, JWT */
    KBS_ISSUER_NRAS,        /* NVIDIA Remote Attestation Service */
    KBS_ISSUER_KBS,         /* another service like this one */
    KBS_ISSUER_COUNT
};

/* The name of a profile in [[issuer]]; KBS_ISSUER_NONE, "unknown" if there is none. */
enum kbs_issuer_profile kbs_issuer_profile_from_name(struct kbs_span name);
const char *kbs_issuer_profile_name(enum kbs_issuer_profile profile);

/* What a token has to say for an issuer to be believed, by the names of [issuer.require]. */
struct kbs_issuer_requirement {
    struct kbs_span name;  /* docs/protocol/issuers.md; may be there several times */
    struct kbs_span value; /* one that is allowed */
};

/* [[issuer]]. Borrowed. Exactly one of keys, document and anchor, but anchor may stand beside document. */
struct kbs_issuer_config {
    struct kbs_span name;
    enum kbs_issuer_profile profile;
    const struct kbs_span *issuers; /* what `iss` may be; none: tokens without one */
    size_t issuer_count;
    const struct kbs_span *audiences; /* of which `aud` must have one; none: tokens without one */
    size_t audience_count;
    const struct kbs_span *algorithms; /* JOSE names; none: the profile's own */
    size_t algorithm_count;
    struct kbs_span keys;     /* PEM or a JWK set */
    struct kbs_span document; /* name of a JWK set that is kept fresh elsewhere */
    struct kbs_span
        anchor; /* PEM certificates: of x5c in tokens, beside document of x5c in its keys */
    struct kbs_span crl;      /* PEM; empty: none */
    struct kbs_span key_path; /* a JSON pointer, "none", or empty: the profile's own */
    uint32_t max_age_s;       /* since `iat` */
    uint32_t skew_s;
    uint32_t max_stale_s;       /* of document */
    bool passport;              /* its tokens count without a handshake */
    bool known_keys;            /* but only for TEE keys of which there was one */
    struct kbs_span agree_with; /* name of the issuer whose token must say the same; empty: none */
    enum kbs_binding minimum_binding; /* of a session; NONE: by what its tokens are used for */
    const struct kbs_issuer_requirement *require;
    size_t require_count;
};

struct kbs_issuers;
/*
 * Makes them of the configuration, of which nothing is borrowed afterwards. allow_sample: evidence that
 * anybody can write is taken. KBS_INPUT for what no configuration can hold. Returns owned.
 */
KBS_MUST_CHECK int kbs_issuers_new(const struct kbs_issuer_config *configs, size_t count,
                                   bool allow_sample, struct kbs_issuers **ret,
                                   struct kbs_error *err);

/*
 * Gives the text of a key set that is kept fresh elsewhere (a JWKS URL). look_again: the token at hand
 * names a key that is not in it. 0, *ret borrowed until the next call; KBS_BUSY if there is none yet.
 */
typedef int kbs_issuer_keys_fn(void *with, const char *document, bool look_again,
                               struct kbs_span *ret, int64_t *ret_fetched_s, struct kbs_error *err);

/* What a token has to fit. Borrowed. */
struct kbs_issuer_expected {
    int64_t now_s; /* Unix seconds */
    kbs_issuer_keys_fn *keys;
    void *keys_with;
    const char *issuer; /* name of the [[issuer]] that was asked; NULL: whichever the token is of */
    /* of the session whose evidence was given to it; all empty or NULL in passport mode */
    enum kbs_tee tee;
    const struct kbs_tee_key *tee_key;
    struct kbs_span runtime_data; /* the text that was hashed (kbs_rcar_runtime_data_put()) */
    struct kbs_span nonce;        /* as in it */
    const struct kbs_digest *report_data; /* what the evidence carries */
    struct kbs_span verifier_nonce;       /* what that issuer's API gave, JSON; empty if none */
};

struct kbs_issuer_result {
    const char *issuer; /* name of the [[issuer]]; borrowed from the issuers */
    enum kbs_issuer_profile profile;
    /*
     * KBS_BINDING_TOKEN in passport mode. Else KBS_BINDING_SESSION: it carries the session's key, or none, and
     * whatever it repeats of report data, runtime data and nonce is the session's.
     */
    enum kbs_binding binding;
    enum kbs_binding minimum_binding; /* what a session by it needs, as configured or by default */
    bool known_keys;                  /* as configured, for passport mode */
    const char *agree_with;           /* the same; NULL: none. Borrowed from the issuers */
    enum kbs_tee tee;                 /* of the TEE; NONE if the profile does not say */
    bool has_tee_key;                 /* it names one, at the issuer's one configured place */
    struct kbs_tee_key tee_key;       /* validated */
    bool tells_report_data; /* it repeats the evidence's, which is then what was expected */
    json_t *submods;        /* owned: as in struct kbs_ear's claims, cpu0 first; see attest/ear.h */
    const char *status;     /* the worst of all submods; static */
    int64_t iat;            /* Unix seconds */
    int64_t exp;
    char thumbprint[44]; /* RFC 7638, of the TEE key; empty without one */
};
void kbs_issuer_result_deinit(struct kbs_issuer_result *r); /* safe twice, and on a zeroed one */

/* NULL-safe. Returns NULL. */
struct kbs_issuers *kbs_issuers_free(struct kbs_issuers *issuers);
/* True if tokens of any of them count without a handshake; NULL-safe. */
bool kbs_issuers_passport(const struct kbs_issuers *issuers);

/*
 * Verifies a token: a compact JWS, for NRAS the JSON array of an overall token and detached ones. Without a
 * session's values in `expected` it is taken as a passport: then only of an issuer with `passport`, or by the
 * name of one. KBS_UNAUTHENTICATED with what is wrong with it; KBS_BUSY if its issuer's keys are not
 * there yet, or too old to go by. *ret is empty after a failure.
 */
KBS_MUST_CHECK int kbs_issuer_verify(const struct kbs_issuers *issuers, struct kbs_span token,
                                     const struct kbs_issuer_expected *expected,
                                     struct kbs_issuer_result *ret, struct kbs_error *err);

#endif
