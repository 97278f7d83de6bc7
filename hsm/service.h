/*
 * The service's own keys, one purpose each, under key ids that are fixed (kbs_service_key_id()):
 * finding them, making them, and the versions of those that have versions (sign-token, wrap-catalog,
 * seal, tls).
 */
#ifndef KBS_HSM_SERVICE_H
#define KBS_HSM_SERVICE_H

#include "hsm/answer.h"
#include "hsm/object.h"
#include "wire/message.h"

/* CKA_ID of the service's own key of a purpose and version. */
void kbs_service_cka_id(enum kbs_purpose purpose, uint32_t version, uint8_t ret[KBS_CKA_ID_BYTES]);

/*
 * The object of that class: the secret key, or one half of the EC pair. Remembered, so that a warm
 * use makes no C_FindObjects; a secret or private key is checked against its template when it is
 * found. KBS_MISSING if there is none.
 */
KBS_MUST_CHECK int kbs_service_find(struct kbs_token *t, CK_OBJECT_CLASS class,
                                    enum kbs_purpose purpose, uint32_t version,
                                    CK_OBJECT_HANDLE *ret, struct kbs_error *err);

/* All versions of a purpose that there are, the oldest first. Asks the token each time, as the next. */
KBS_MUST_CHECK int kbs_service_versions(const struct kbs_token *t, enum kbs_purpose purpose,
                                        uint32_t ret[KBS_LIMIT_KEY_VERSIONS], size_t *ret_n,
                                        struct kbs_error *err);
/* The newest version of a purpose, 0 if there is none. Asks the token each time: another lane makes
 * them. */
KBS_MUST_CHECK int kbs_service_newest(const struct kbs_token *t, enum kbs_purpose purpose,
                                      uint32_t *ret, struct kbs_error *err);

/* The public half as an uncompressed point; nothing is appended where there is none. */
KBS_MUST_CHECK int kbs_service_point(struct kbs_token *t, enum kbs_purpose purpose,
                                     uint32_t version, struct kbs_buf *out, struct kbs_error *err);

/*
 * The same of a purpose whose keys are of several curves, and when it signs (Unix time, 0: it always
 * has). KBS_MISSING if there is no such pair.
 */
KBS_MUST_CHECK int kbs_service_public(struct kbs_token *t, enum kbs_purpose purpose,
                                      uint32_t version, struct kbs_ec_public *ret,
                                      uint64_t *ret_from_s, struct kbs_error *err);

/*
 * GENERATE of a purpose other than release; the answer is the uncompressed point of an EC pair and
 * empty for a secret key. KBS_INPUT for a purpose, version, curve or time that cannot be, KBS_CONFLICT
 * if the key exists, the version does not follow the newest one, or there are as many as there may be.
 */
KBS_MUST_CHECK int kbs_service_generate(struct kbs_token *t, const struct kbs_wire_generate *m,
                                        struct kbs_answer *ret, struct kbs_error *err);

/*
 * DESTROY of one version. KBS_INPUT for purposes without versions, KBS_CONFLICT for the newest version
 * and the one that signs, KBS_MISSING if it is gone already.
 */
KBS_MUST_CHECK int kbs_service_destroy(struct kbs_token *t, enum kbs_purpose purpose,
                                       uint32_t version, struct kbs_error *err);

#endif
