/*
 * Inside src/attest/issuer only: what the profiles are written with. A profile gets claims whose signature,
 * issuer, audience and times hold, checks what else that kind of token must say, and fills the result in.
 */
#ifndef KBS_ATTEST_ISSUER_PROFILE_H
#define KBS_ATTEST_ISSUER_PROFILE_H

#include "attest/issuer/issuer.h"
#include "base/arena.h"
#include "jose/read/x5c.h"

#define KBS_ISSUER_EVIDENCE "ear.veraison.annotated-evidence"
#define KBS_ISSUER_CPU "cpu0"
#define KBS_ISSUER_FIELD_MAX_BYTES 1024 /* report data, held data */

/* Names of [issuer.require]. */
enum kbs_require {
    KBS_REQUIRE_TEES = 0,   /* the kinds of TEE that are taken */
    KBS_REQUIRE_POLICY_IDS, /* of the appraisal policies, one of which must have been applied */
    KBS_REQUIRE_POLICY_HASHES,
    KBS_REQUIRE_TCB_STATUSES,
    KBS_REQUIRE_COMPLIANCE,
    KBS_REQUIRE_MEASUREMENTS, /* hex */
    KBS_REQUIRE_ID_KEYS,      /* hex */
    KBS_REQUIRE_HOST_DATA,    /* hex */
    KBS_REQUIRE_IMAGES,
    KBS_REQUIRE_SUPPORT,
    KBS_REQUIRE_SUBMODS, /* "NAME=tee", the TEE's own first */
    KBS_REQUIRE_CANONICAL_RUNTIME,
    KBS_REQUIRE_COUNT
};

struct kbs_issuer_list {
    const char **v; /* in the issuers' arena */
    size_t n;
};

struct kbs_issuer_kind;

struct kbs_issuer {
    const char *name;
    const struct kbs_issuer_kind *kind;
    struct kbs_issuer_list iss;
    struct kbs_issuer_list audiences;
    unsigned int algs;
    struct kbs_jwt_keys keys; /* items NULL: of the document or the anchor */
    const char *document;     /* NULL: none */
    struct kbs_x5c_trust *trust;
    const char *key_path; /* NULL: the profile's own */
    uint32_t max_age_s;
    uint32_t skew_s;
    uint32_t max_stale_s;
    bool passport;
    bool known_keys;
    const char *agree_with;
    enum kbs_binding minimum_binding;
    struct kbs_issuer_list require[KBS_REQUIRE_COUNT];
};

/* One token on its way. */
struct kbs_issuer_job {
    const struct kbs_issuer *issuer;
    const struct kbs_issuer_expected *expected;
    bool session; /* there is a session of ours that it has to fit */
    bool allow_sample;
    const char *authority;  /* its `iss`; the issuer's name if it has none */
    const json_t *claims;   /* verified */
    const json_t *detached; /* NRAS: name -> verified claims; else NULL */
    struct kbs_issuer_result *ret;
};

typedef int kbs_issuer_map_fn(struct kbs_issuer_job *job, struct kbs_error *err);

/* What is known of a profile; a row of the table in issuer.c. */
struct kbs_issuer_kind {
    const char *name;
    const char *algorithm; /* unless others are configured */
    kbs_issuer_map_fn *map;
    const char *const
        *key_paths; /* where its tokens have keys, NULL-terminated; NULL: none has one */
    bool needs_audience;
    bool no_issuer_once;   /* there were tokens of it without `iss` */
    bool no_exp;           /* its tokens need not have `exp`: their age is what counts */
    unsigned int requires; /* bits of enum kbs_require that must be configured */
    unsigned int knows;    /* those that may be */
};

kbs_issuer_map_fn kbs_issuer_map_coco;     /* coco.c; also another service like this one */
kbs_issuer_map_fn kbs_issuer_map_simple;   /* simple.c */
kbs_issuer_map_fn kbs_issuer_map_ita;      /* ita.c */
kbs_issuer_map_fn kbs_issuer_map_maa;      /* maa.c */
kbs_issuer_map_fn kbs_issuer_map_google;   /* google.c */
kbs_issuer_map_fn kbs_issuer_map_veraison; /* veraison.c */
kbs_issuer_map_fn kbs_issuer_map_nras;     /* nras.c */

/* ---- issuer.c ---- */

enum kbs_issuer_profile kbs_issuer_profile_of(const struct kbs_issuer *issuer);
/* Signature, issuer, audience and times of one token. Returns owned. */
KBS_MUST_CHECK int kbs_issuer_open(const struct kbs_issuer *issuer, const struct kbs_jose_jws *jws,
                                   const struct kbs_issuer_expected *expected, json_t **ret,
                                   struct kbs_error *err);

/* ---- nras.c ---- */

/* True for a text that is an overall token with detached ones. */
bool kbs_nras_is(struct kbs_span text);
/* Takes it apart: *ret_overall borrows *ret_whole; *ret_detached: name -> token. Both owned. */
KBS_MUST_CHECK int kbs_nras_split(struct kbs_span text, json_t **ret_whole,
                                  struct kbs_span *ret_overall, json_t **ret_detached,
                                  struct kbs_error *err);
/* Verifies each detached token against its digest in the overall one. Name -> claims; returns owned. */
KBS_MUST_CHECK int kbs_nras_open(const struct kbs_issuer *issuer, const json_t *detached,
                                 const json_t *overall, const struct kbs_issuer_expected *expected,
                                 json_t **ret, struct kbs_error *err);

/* ---- require.c ---- */

const char *kbs_require_name(enum kbs_require r);
enum kbs_require kbs_require_from_name(struct kbs_span name); /* KBS_REQUIRE_COUNT: none */
bool kbs_require_given(const struct kbs_issuer_job *job, enum kbs_require r);
bool kbs_require_lists(const struct kbs_issuer_job *job, enum kbs_require r, struct kbs_span value);
/* 0 if the string at that member is one that is allowed; `fallback`: what is if nothing is configured. */
KBS_MUST_CHECK int kbs_require_member(const struct kbs_issuer_job *job, enum kbs_require r,
                                      const json_t *object, const char *name, const char *fallback,
                                      struct kbs_error *err);
/* 0 if the kind is taken here; it becomes the result's. */
KBS_MUST_CHECK int kbs_require_tee(struct kbs_issuer_job *job, enum kbs_tee tee,
                                   struct kbs_error *err);

/* ---- members of claims ---- */

struct kbs_span kbs_claim_text(const json_t *object,
                               const char *name); /* empty if it is no string */
bool kbs_claim_is(const json_t *object, const char *name, const char *value);
/* 0 if the member is false, or says so as a text; absent is not false. */
KBS_MUST_CHECK int kbs_claim_must_be(const json_t *object, const char *name, bool value,
                                     struct kbs_error *err);

/* ---- key.c ---- */

/*
 * Finds the TEE's key: at the issuer's one place, or at exactly one of the profile's. Checks it against the
 * session's and takes it into the result.
 */
KBS_MUST_CHECK int kbs_issuer_key_take(struct kbs_issuer_job *job, struct kbs_error *err);
/* The same for a value that the profile found: a JWK, or a text: the base64url of a SubjectPublicKeyInfo,
 * of ITA held data. */
KBS_MUST_CHECK int kbs_issuer_key_take_value(struct kbs_issuer_job *job, const json_t *value,
                                             struct kbs_error *err);
/* True if a JWK is the key that was taken. */
bool kbs_issuer_key_is(const struct kbs_issuer_job *job, const json_t *jwk);

/* ---- bind.c ---- */

enum kbs_text_form {
    KBS_TEXT_HEX,
    KBS_TEXT_BASE64,
    KBS_TEXT_BASE64URL
};
/* Decodes a string into *ret, which is emptied first. KBS_UNAUTHENTICATED if it is not of that form. */
KBS_MUST_CHECK int kbs_issuer_bytes(const json_t *text, enum kbs_text_form form, const char *what,
                                    struct kbs_buf *ret, struct kbs_error *err);
/* True if the field is that digest, filled up with zeros or cut at not less than 32 bytes. */
bool kbs_issuer_field_is(struct kbs_span field, const struct kbs_digest *digest);
/* In a session: the field is the report data that the evidence carries. Notes that it was told. */
KBS_MUST_CHECK int kbs_issuer_report_data(struct kbs_issuer_job *job, struct kbs_span field,
                                          struct kbs_error *err);
/* In a session: the object is the runtime data that was hashed; what `verbose_token` leaves out may be missing. */
KBS_MUST_CHECK int kbs_issuer_runtime_data(const struct kbs_issuer_job *job, const json_t *runtime,
                                           struct kbs_error *err);
/*
 * The field is a digest of prefix and the canonical text of `value`: by `hash`, or if that is NONE by any of
 * those that RCAR has. KBS_UNAUTHENTICATED with `what` if not.
 */
KBS_MUST_CHECK int kbs_issuer_explains(struct kbs_span field, struct kbs_span prefix,
                                       const json_t *value, enum kbs_hash hash, const char *what,
                                       struct kbs_error *err);
/* The same for bytes that are there as they were hashed. */
KBS_MUST_CHECK int kbs_issuer_explains_bytes(struct kbs_span field, struct kbs_span prefix,
                                             struct kbs_span bytes, enum kbs_hash hash,
                                             const char *what, struct kbs_error *err);

/* ---- appraisal.c ---- */

/* What an EAR says of one submodule, in the names of Trustee. */
struct kbs_appraisal {
    const char *name;      /* in our submods: "cpu0" */
    const json_t *members; /* the issuer's own; copied but for what is ours to say */
};
/* An EAR's: status is not better than its worst claim. Adds it, and lowers the result's status to it. */
KBS_MUST_CHECK int kbs_issuer_appraisal_take(struct kbs_issuer_job *job,
                                             const struct kbs_appraisal *appraisal,
                                             struct kbs_error *err);

/* What our rules make of a token that is no EAR. */
struct kbs_derived {
    const char *name;
    enum kbs_tee tee;
    const json_t *claims; /* verbatim, in annotated-evidence under the TEE's name */
    int hardware;         /* AR4SI */
    int executables;
    int configuration;
    struct kbs_span policy_id;   /* empty: the issuer's name */
    struct kbs_span report_data; /* bytes; empty: not told */
    const json_t *runtime_data;  /* NULL: not told */
    const char *init_data;       /* hex; NULL: not told */
};
KBS_MUST_CHECK int kbs_issuer_derived_add(struct kbs_issuer_job *job, const struct kbs_derived *d,
                                          struct kbs_error *err);

/* AR4SI trust claims that rules of ours give. */
#define KBS_TRUST_GENUINE 2            /* hardware */
#define KBS_TRUST_HARDWARE_OLD 32      /* genuine, with known weaknesses */
#define KBS_TRUST_EXECUTABLES_KNOWN 3  /* what an operator listed */
#define KBS_TRUST_EXECUTABLES_OTHER 33 /* nobody compared them with anything */
#define KBS_TRUST_CONFIGURATION_SAFE 3

#endif
