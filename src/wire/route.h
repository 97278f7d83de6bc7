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
    KBS_ROUTE_AUTH = 1,        /* POST /kbs/v0/auth */
    KBS_ROUTE_ATTEST = 2,      /* POST /kbs/v0/attest */
    KBS_ROUTE_KEY_RELEASE = 3, /* POST /kbs/v0/key/{repo}/{type}/{tag} */
    KBS_ROUTE_JWKS = 4,        /* GET /.well-known/jwks.json */
    /* admin listener */
    KBS_ROUTE_ADMIN_NONCE = 32,        /* GET /kbs/v0/admin/nonce */
    KBS_ROUTE_ADMIN_KEY_LIST = 33,     /* GET /kbs/v0/admin/keys */
    KBS_ROUTE_ADMIN_KEY_CREATE = 34,   /* POST /kbs/v0/admin/keys */
    KBS_ROUTE_ADMIN_KEY_SHOW = 35,     /* GET /kbs/v0/admin/keys/{repo}/{type}/{tag} */
    KBS_ROUTE_ADMIN_KEY_IMPORT = 36,   /* POST /kbs/v0/admin/keys/{repo}/{type}/{tag}/import */
    KBS_ROUTE_ADMIN_IMPORT_KEY = 37,   /* GET /kbs/v0/admin/import-key */
    KBS_ROUTE_ADMIN_STORE_SHOW = 38,   /* GET /kbs/v0/admin/store */
    KBS_ROUTE_ADMIN_STORE_ACCEPT = 39, /* POST /kbs/v0/admin/store/accept */
    /* answered by the front itself; never in a REQUEST */
    KBS_ROUTE_HEALTHZ = 128, /* GET /healthz, both listeners */
    KBS_ROUTE_READYZ = 129,  /* GET /readyz, both listeners */
    KBS_ROUTE_METRICS = 130  /* GET /metrics, both listeners */
};

#endif
