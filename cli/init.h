/* kbs-admin init: the parts of making a new service. Each makes something below `folder` and no
 * more. */
#ifndef KBS_CLI_INIT_H
#define KBS_CLI_INIT_H

#include <limits.h>

#include "agree/agree.h"
#include "base/ec.h"
#include "wire/message.h"

enum kbs_init_token {
    KBS_INIT_SOFTHSM = 1,
    KBS_INIT_NSS = 2
};

/* What was asked for, checked; and what became of it. */
struct kbs_init {
    char folder[PATH_MAX]; /* absolute */
    enum kbs_init_token token;
    char module[PATH_MAX];
    const char *listen;       /* borrowed, "address:port" */
    const char *admin_listen; /* the same */
    uint32_t lanes;
    enum kbs_curve sign_curve; /* of the key that attestation results are signed with */
    bool production;
    bool tls_in_token;                /* the TLS key is the token's */
    bool handed_out;                  /* the token and the store belong to users of their own */
    char thumbprint[44];              /* of the import key */
    char seal_thumbprint[44];         /* of the seal key */
    struct kbs_ec_public row_key;     /* signs the store's rows */
    struct kbs_ec_public head_key;    /* signs heads of the ledger */
    struct kbs_ec_public receipt_key; /* signs receipts */
    struct kbs_ec_public request_key; /* guests' requests are encrypted to it */
    char token_text[256];             /* "SoftHSM v2 (software), serial 1234" */
    char rungs[256];                  /* "transport", ... */
};

#define KBS_INIT_PATH_BYTES (PATH_MAX + 64)

/* Writes folder/name into `out`. */
void kbs_init_path(const struct kbs_init *in, const char *name, char out[KBS_INIT_PATH_BYTES]);

/* A new folder, owner-only; a new file, atomically. Never replaces anything. */
KBS_MUST_CHECK int kbs_init_folder(const struct kbs_init *in, const char *name,
                                   struct kbs_error *err);
KBS_MUST_CHECK int kbs_init_write(const struct kbs_init *in, const char *name,
                                  struct kbs_span content, unsigned int mode,
                                  struct kbs_error *err);

/* Finds the PKCS#11 module of in->token in the usual places into in->module. KBS_MISSING if there
 * is none. */
KBS_MUST_CHECK int kbs_init_find_module(struct kbs_init *in, struct kbs_error *err);

/* The steps of making one; they have one shape so that `init` can list them.
 *
 * PINs, folders and configuration of the token: `pin`, `so-pin` (SoftHSM), `token/`. */
KBS_MUST_CHECK int kbs_init_token_files(struct kbs_init *in, struct kbs_error *err);
/* `tls/key.pem`, unless the token has that key, which is there then, and a self-signed `tls/cert.pem` for loopback and the two listeners' addresses. */
KBS_MUST_CHECK int kbs_init_tls(struct kbs_init *in, struct kbs_error *err);
/* `admin/admin.key.pem` and `admin/admin.pub.pem`. */
KBS_MUST_CHECK int kbs_init_admin_key(struct kbs_init *in, struct kbs_error *err);
/* `admin/profile.json` and `admin/{row,head,receipt,request}.pub.pem`; what they pin is known. */
KBS_MUST_CHECK int kbs_init_profile(struct kbs_init *in, struct kbs_error *err);
/* `kbs.toml` */
KBS_MUST_CHECK int kbs_init_config(struct kbs_init *in, struct kbs_error *err);
/* The token folder to kbs-token, the store's to kbs-judge, what kbsd opens to kbsd (which need not
 * exist), if we are root and the roles' users exist; then others may pass through the folder, to
 * those two and no further. */
KBS_MUST_CHECK int kbs_init_hand_out(struct kbs_init *in, struct kbs_error *err);

/* What a token worker is told, but for its duty. */
struct kbs_init_wire {
    struct kbs_wire_config_token config; /* borrows from the rest, and from *in */
    struct kbs_buf init_args;
    struct kbs_buf env;
    struct kbs_buf env_list;
    struct kbs_buf folder_list;
};
KBS_MUST_CHECK int kbs_init_wire(const struct kbs_init *in, struct kbs_init_wire *ret,
                                 struct kbs_error *err);
void kbs_init_wire_deinit(struct kbs_init_wire *w);

/* The [token] values that kbs.toml and kbs-token get alike. Appended to `out`. */
void kbs_init_args_put(const struct kbs_init *in, struct kbs_buf *out);
void kbs_init_env_put(const struct kbs_init *in,
                      struct kbs_buf *out); /* one NAME=value, or nothing */
#define KBS_INIT_URI "pkcs11:token=kbs"

/*
 * Runs kbs-token --init-token, as kbsd would, and lets it make the token and the service's keys.
 * Fills thumbprint, row_key, head_key, receipt_key, token_text and rungs. KBS_TOKEN_DOWN when it fails; what it
 * logged is then on standard error.
 */
KBS_MUST_CHECK int kbs_init_make_token(struct kbs_init *in, struct kbs_error *err);

#endif
