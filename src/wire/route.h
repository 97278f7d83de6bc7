/*
 * The routes that front and judge both know by number: the front matches paths to them
 * (src/http/route.c), the judge has a handler for each (src/api). Numbers are part of the REQUEST
 * message.
 */
#ifndef KBS_WIRE_ROUTE_H
#define KBS_WIRE_ROUTE_H

enum kbs_route {
    KBS_ROUTE_NONE = 0,
    /* guest listener */
    KBS_ROUTE_AUTH = 1,            /* POST /kbs/v0/auth */
    KBS_ROUTE_ATTEST = 2,          /* POST /kbs/v0/attest */
    KBS_ROUTE_KEY_RELEASE = 3,     /* POST /kbs/v0/key/{repo}/{type}/{tag} */
    KBS_ROUTE_JWKS = 4,            /* GET /.well-known/jwks.json */
    KBS_ROUTE_RESOURCE = 5,        /* GET /kbs/v0/resource/{repo}/{type}/{tag} */
    KBS_ROUTE_PKCS11_RESOURCE = 6, /* GET /kbs/v0/pkcs11/resource/{repo}/{type}/{tag} */
    KBS_ROUTE_KEY_REWRAP = 7,      /* POST /kbs/v0/key/rewrap */
    KBS_ROUTE_HSM_KEY = 8,         /* GET /kbs/v0/hsm/keys/{repo}/{type}/{tag} */
    KBS_ROUTE_KEY_PROVISION = 9,   /* POST /kbs/v0/key/provision */
    KBS_ROUTE_REGISTER_GET = 10,   /* GET /kbs/v0/register/{repo}/{type}/{tag} */
    KBS_ROUTE_REGISTER_SET = 11,   /* POST /kbs/v0/register/{repo}/{type}/{tag} */
    KBS_ROUTE_RECEIPT_JWKS = 24,   /* GET /.well-known/kbs-receipt-jwks.json */
    /* guest listener, the NEK road by names that Trustee's clients know */
    KBS_ROUTE_UNWRAP_KEY = 20,      /* GET /kbs/v0/pkcs11/wrap-key, with a body */
    KBS_ROUTE_UNWRAP_KEY_POST = 21, /* POST, the same */
    KBS_ROUTE_ID_KEY_PUBLIC = 22,   /* GET /kbs/v0/id-key/ecdh-pub-sec1 */
    KBS_ROUTE_ID_KEY_DECRYPT = 23,  /* POST /kbs/v0/id-key/decrypt */
    KBS_ROUTE_HSM_KEYS = 12,        /* GET /kbs/v0/hsm/keys */
    KBS_ROUTE_REQUEST_NONCE = 13,   /* GET /kbs/v0/key/nonce */
    /* admin listener */
    KBS_ROUTE_ADMIN_NONCE = 32,            /* GET /kbs/v0/admin/nonce */
    KBS_ROUTE_ADMIN_KEY_LIST = 33,         /* GET /kbs/v0/admin/keys */
    KBS_ROUTE_ADMIN_KEY_CREATE = 34,       /* POST /kbs/v0/admin/keys */
    KBS_ROUTE_ADMIN_KEY_SHOW = 35,         /* GET /kbs/v0/admin/keys/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_KEY_IMPORT = 36,       /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/import */
    KBS_ROUTE_ADMIN_IMPORT_KEY = 37,       /* GET /kbs/v0/admin/import-key */
    KBS_ROUTE_ADMIN_STORE_SHOW = 38,       /* GET /kbs/v0/admin/store */
    KBS_ROUTE_ADMIN_STORE_ACCEPT = 39,     /* POST /kbs/v0/admin/store/accept */
    KBS_ROUTE_ADMIN_KEY_ADOPT = 40,        /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/adopt */
    KBS_ROUTE_ADMIN_KEY_ROTATE = 41,       /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/rotate */
    KBS_ROUTE_ADMIN_KEY_POLICY = 42,       /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/policy */
    KBS_ROUTE_ADMIN_KEY_DISABLE = 43,      /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/disable */
    KBS_ROUTE_ADMIN_KEY_ENABLE = 44,       /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/enable */
    KBS_ROUTE_ADMIN_KEY_DESTROY = 45,      /* DELETE /kbs/v0/admin/keys/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_KEY_UNDO = 46,         /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/undo */
    KBS_ROUTE_ADMIN_WRAPPING_SHOW = 47,    /* GET /kbs/v0/admin/wrapping-key */
    KBS_ROUTE_ADMIN_WRAPPING_ROTATE = 48,  /* POST /kbs/v0/admin/wrapping-key/rotate */
    KBS_ROUTE_ADMIN_WRAPPING_REWRAP = 49,  /* POST /kbs/v0/admin/wrapping-key/rewrap */
    KBS_ROUTE_ADMIN_WRAPPING_DESTROY = 50, /* DELETE /kbs/v0/admin/wrapping-key */
    KBS_ROUTE_ADMIN_TOKEN_CAPS = 51,       /* GET /kbs/v0/admin/token/caps */
    KBS_ROUTE_ADMIN_SEAL_ROTATE = 53,      /* POST /kbs/v0/admin/seal-key/rotate */
    KBS_ROUTE_ADMIN_SEAL_RESEAL = 54,      /* POST /kbs/v0/admin/seal-key/reseal */
    KBS_ROUTE_ADMIN_SEAL_DESTROY = 55,     /* DELETE /kbs/v0/admin/seal-key */
    KBS_ROUTE_ADMIN_SEAL_KEY = 56,         /* GET /kbs/v0/admin/seal-key */
    KBS_ROUTE_ADMIN_SECRET_LIST = 57,      /* GET /kbs/v0/admin/secrets */
    KBS_ROUTE_ADMIN_SECRET_SHOW = 58,      /* GET /kbs/v0/admin/secrets/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_SECRET_SET = 59,       /* POST /kbs/v0/admin/secrets/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_SECRET_DELETE = 60,    /* DELETE /kbs/v0/admin/secrets/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_SECRET_POLICY = 61, /* POST /kbs/v0/admin/secrets/{repo}/{type}/{tag}/policy */
    KBS_ROUTE_ADMIN_REFERENCE_LIST = 112,   /* GET /kbs/v0/admin/reference-values */
    KBS_ROUTE_ADMIN_REFERENCE_SET = 113,    /* POST /kbs/v0/admin/reference-values */
    KBS_ROUTE_ADMIN_REFERENCE_SHOW = 114,   /* GET /kbs/v0/admin/reference-values/{id...} */
    KBS_ROUTE_ADMIN_REFERENCE_DELETE = 115, /* DELETE /kbs/v0/admin/reference-values/{id...} */
    /* admin listener, the names and bodies that Trustee's clients know */
    KBS_ROUTE_RESOURCE_LIST = 64,          /* GET /kbs/v0/resource */
    KBS_ROUTE_RESOURCE_SET = 65,           /* POST /kbs/v0/resource/{repo}/{type}/{tag} */
    KBS_ROUTE_RESOURCE_DELETE = 66,        /* DELETE /kbs/v0/resource/{repo}/{type}/{tag} */
    KBS_ROUTE_PKCS11_RESOURCE_SET = 67,    /* POST /kbs/v0/pkcs11/resource/{repo}/{type}/{tag} */
    KBS_ROUTE_PKCS11_RESOURCE_DELETE = 68, /* DELETE /kbs/v0/pkcs11/resource/{repo}/{type}/{tag} */
    KBS_ROUTE_RESOURCE_POLICY_LIST = 69,   /* GET /kbs/v0/resource-policy */
    KBS_ROUTE_RESOURCE_POLICY_SET = 70,    /* POST /kbs/v0/resource-policy */
    KBS_ROUTE_ATTESTATION_POLICY_SET = 71, /* POST /kbs/v0/attestation-policy */
    KBS_ROUTE_REFERENCE_VALUE_SET = 72,    /* POST /kbs/v0/reference-value */
    KBS_ROUTE_REFERENCE_VALUE_SHOW = 73,   /* GET /kbs/v0/reference-value/{id...} */
    KBS_ROUTE_WRAP_KEY = 74,               /* POST /kbs/v0/pkcs11/wrap-key */
    KBS_ROUTE_ID_KEY_REGISTER = 75,        /* POST /kbs/v0/id-key/register */
    /* admin listener, questions */
    KBS_ROUTE_ADMIN_RELEASE_DRY_RUN = 80, /* POST /kbs/v0/admin/release/dry-run; changes nothing */
    KBS_ROUTE_ADMIN_SIGN_LIST = 96,       /* GET /kbs/v0/admin/sign-key */
    KBS_ROUTE_ADMIN_SIGN_ROTATE = 97,     /* POST /kbs/v0/admin/sign-key/rotate */
    KBS_ROUTE_ADMIN_SIGN_DESTROY = 98,    /* DELETE /kbs/v0/admin/sign-key */
    /* admin listener, the key of receipts */
    KBS_ROUTE_ADMIN_RECEIPT_KEY = 100,      /* GET /kbs/v0/admin/receipt-key */
    KBS_ROUTE_ADMIN_RECEIPT_KEY_MAKE = 101, /* POST /kbs/v0/admin/receipt-key */
    /* admin listener, the key of TLS */
    KBS_ROUTE_ADMIN_TLS_KEY_LIST = 122,    /* GET /kbs/v0/admin/tls-key */
    KBS_ROUTE_ADMIN_TLS_KEY_MAKE = 123,    /* POST /kbs/v0/admin/tls-key */
    KBS_ROUTE_ADMIN_TLS_KEY_DESTROY = 124, /* DELETE /kbs/v0/admin/tls-key */
    /* admin listener, what is kept for guests */
    KBS_ROUTE_ADMIN_KEPT_LIST = 120,   /* GET /kbs/v0/admin/kept/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_KEPT_FORGET = 121, /* DELETE /kbs/v0/admin/kept/{repo}/{type}/{tag} */
    /* admin listener, policies and their approval */
    KBS_ROUTE_ADMIN_POLICY_LIST = 102,       /* GET /kbs/v0/admin/policies */
    KBS_ROUTE_ADMIN_POLICY_SHOW = 103,       /* GET /kbs/v0/admin/policies/{name...} */
    KBS_ROUTE_ADMIN_POLICY_SET = 104,        /* POST /kbs/v0/admin/policies/{name...} */
    KBS_ROUTE_ADMIN_APPROVAL_LIST = 105,     /* GET /kbs/v0/admin/approvals */
    KBS_ROUTE_ADMIN_APPROVAL_SHOW = 106,     /* GET /kbs/v0/admin/approvals/{id} */
    KBS_ROUTE_ADMIN_APPROVAL_GIVE = 107,     /* POST /kbs/v0/admin/approvals/{id} */
    KBS_ROUTE_ADMIN_APPROVAL_WITHDRAW = 108, /* DELETE /kbs/v0/admin/approvals/{id} */
    /* admin listener, aliases */
    KBS_ROUTE_ADMIN_ALIAS_LIST = 116,   /* GET /kbs/v0/admin/aliases */
    KBS_ROUTE_ADMIN_ALIAS_SHOW = 117,   /* GET /kbs/v0/admin/aliases/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_ALIAS_SET = 118,    /* POST /kbs/v0/admin/aliases/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_ALIAS_REMOVE = 119, /* DELETE /kbs/v0/admin/aliases/{repo}/{type}/{tag} */
    /* answered by the front itself; never in a REQUEST */
    KBS_ROUTE_HEALTHZ = 128, /* GET /healthz, both listeners */
    KBS_ROUTE_READYZ = 129,  /* GET /readyz, both listeners */
    KBS_ROUTE_METRICS = 130  /* GET /metrics, both listeners */
};

#endif
