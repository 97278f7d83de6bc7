/* See signer.h. What it cannot do is an assertion that fails: it is a part of the tests. */
#include "signer.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/random.h"
#include "base/terms.h"
#include "channel/channel.h"

#define MUST(x)          \
    do {                 \
        if (!(x)) {      \
            assert(!#x); \
        }                \
    } while (0)

static void sign_with(struct signer *s, const char *md, bool pss, int salt, struct kbs_span in,
                      bool whole, struct kbs_buf *out)
{
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    EVP_PKEY_CTX *ctx = NULL;
    EVP_MD_CTX *md_ctx = EVP_MD_CTX_new();

    if (whole) {
        MUST(EVP_DigestSignInit_ex(md_ctx, &ctx, md, s->libctx, NULL, s->key, NULL) == 1);
    } else {
        ctx = EVP_PKEY_CTX_new_from_pkey(s->libctx, s->key, NULL);
        MUST(EVP_PKEY_sign_init(ctx) == 1);
        EVP_MD *fetched = EVP_MD_fetch(s->libctx, md, NULL);
        MUST(EVP_PKEY_CTX_set_signature_md(ctx, fetched) == 1);
        EVP_MD_free(fetched);
    }
    if (EVP_PKEY_is_a(s->key, "RSA")) {
        MUST(EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) ==
             1);
        MUST(!pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt) == 1);
    }
    MUST((whole ? EVP_DigestSign(md_ctx, sig, &len, in.p, in.len)
                : EVP_PKEY_sign(ctx, sig, &len, in.p, in.len)) == 1);
    kbs_buf_put(out, sig, len);
    if (!whole) {
        EVP_PKEY_CTX_free(ctx);
    }
    EVP_MD_CTX_free(md_ctx);
}

static void sign_tls(struct signer *s, const struct kbs_wire_sign_tls *order, struct kbs_buf *out)
{
    static const char *const pss[] = {"SHA256", "SHA384", "SHA512"};

    s->last_scheme = order->scheme;
    switch (order->scheme) {
    case 0x0403:
        sign_with(s, "SHA256", false, 0, order->content, true, out);
        break;
    case 0x0503:
        sign_with(s, "SHA384", false, 0, order->content, true, out);
        break;
    default:
        MUST(order->scheme >= 0x0804 && order->scheme <= 0x0806);
        sign_with(s, pss[order->scheme - 0x0804], true, RSA_PSS_SALTLEN_DIGEST, order->content,
                  true, out);
    }
}

static void sign_digest(struct signer *s, const struct kbs_wire_sign_digest *order,
                        struct kbs_buf *out)
{
    static const char *const names[] = {NULL, "SHA256", "SHA384", "SHA512"};

    if (s->mode == SIGNER_ECHO || s->mode == SIGNER_HOLD) {
        kbs_buf_put_span(out, order->digest);
        return;
    }
    MUST(order->hash >= KBS_HASH_SHA256 && order->hash <= KBS_HASH_SHA512);
    MUST((order->alg == KBS_SIGN_ECDSA) == (EVP_PKEY_is_a(s->key, "EC") == 1));
    MUST(order->digest.len == kbs_hash_bytes(order->hash));
    sign_with(s, names[order->hash], order->alg == KBS_SIGN_RSA_PSS, (int)order->salt,
              order->digest, false, out);
}

static void agree(struct signer *s, struct kbs_span point, struct kbs_buf *out)
{
    uint8_t z[66];
    size_t len = sizeof(z);
    EVP_PKEY *peer = EVP_PKEY_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(s->libctx, s->key, NULL);

    MUST(EVP_PKEY_copy_parameters(peer, s->key) == 1);
    MUST(EVP_PKEY_set1_encoded_public_key(peer, point.p, point.len) == 1);
    MUST(EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1);
    MUST(EVP_PKEY_derive(ctx, z, &len) == 1);
    kbs_buf_put(out, z, len);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
}

static void answer_honestly(struct signer *s, const struct kbs_channel_msg *m, struct kbs_buf *out)
{
    struct kbs_error err = KBS_ERROR_NONE;
    union {
        struct kbs_wire_sign_tls tls;
        struct kbs_wire_sign_digest digest;
        struct kbs_wire_agree agree;
    } order;
    unsigned char *der = NULL;
    int len;

    MUST(kbs_channel_msg_decode(m, m->frame.type,
                                m->frame.type == KBS_WIRE_PUBLIC_WANT ? NULL : &order, &err) == 0);
    switch (m->frame.type) {
    case KBS_WIRE_SIGN_TLS:
        sign_tls(s, &order.tls, out);
        break;
    case KBS_WIRE_SIGN_DIGEST:
        sign_digest(s, &order.digest, out);
        break;
    case KBS_WIRE_AGREE:
        agree(s, order.agree.point, out);
        break;
    case KBS_WIRE_PUBLIC_WANT:
        len = s->key != NULL ? i2d_PUBKEY(s->key, &der) : 0;
        kbs_buf_put(out, der, (size_t)len);
        OPENSSL_free(der);
        break;
    default:
        MUST(!"an order of the list sign");
    }
}

/* The honest answer as a frame. */
static void put_frame(struct kbs_buf *frame, uint64_t id, const struct kbs_wire_result *result)
{
    struct kbs_error err = KBS_ERROR_NONE;

    MUST(kbs_wire_encode(frame, KBS_WIRE_RESULT, id, KBS_DEADLINE_NONE, result, &err) == 0);
}

static void spoil(struct signer *s, struct kbs_buf *body, struct kbs_wire_result *result)
{
    static const uint8_t zeros[100000];

    switch (s->mode) {
    case SIGNER_SHORT:
        body->len -= body->len > 0 ? 1 : 0;
        break;
    case SIGNER_LONG:
        kbs_buf_put_u8(body, 0);
        break;
    case SIGNER_HUGE:
        kbs_buf_put(body, zeros, sizeof(zeros));
        break;
    case SIGNER_EMPTY:
        kbs_buf_clear(body);
        break;
    case SIGNER_GARBAGE:
        kbs_random(body->p, body->len);
        body->p[0] = 0x31; /* never a SEQUENCE by chance */
        break;
    case SIGNER_REFUSE:
        *result = (struct kbs_wire_result){.category = KBS_DENIED,
                                           .ckr = 0x68,
                                           .detail = KBS_SPAN_LIT("no\n\x1b[31m\xff such key")};
        return;
    case SIGNER_NO_CATEGORY:
        result->category = 200;
        break;
    default:
        break;
    }
    result->body = kbs_buf_span(body);
}

static void answer(struct signer *s, const struct kbs_channel_msg *m)
{
    struct kbs_buf body = KBS_BUF(200000);
    struct kbs_buf frame = KBS_BUF(400000);
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t id = m->frame.id;

    answer_honestly(s, m, &body);
    spoil(s, &body, &result);
    put_frame(&frame, s->mode == SIGNER_WRONG_ID ? id + 1 : id, &result);
    if (s->mode == SIGNER_TWICE) {
        put_frame(&frame, id, &result);
    } else if (s->mode == SIGNER_WRONG_TYPE) {
        kbs_buf_clear(&frame);
        MUST(kbs_wire_encode(&frame, KBS_WIRE_GO, id, KBS_DEADLINE_NONE, NULL, &err) == 0);
    } else if (s->mode == SIGNER_CUT) {
        frame.len /= 2;
    } else if (s->mode == SIGNER_NOISE) {
        kbs_random(frame.p, frame.len);
    }
    (void)send(s->fd, frame.p, frame.len, MSG_NOSIGNAL); /* the asker may have gone */
    kbs_buf_deinit(&frame);
    kbs_buf_deinit(&body);
}

static void *run(void *arg)
{
    struct signer *s = arg;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;

    while (kbs_channel_recv(s->fd, &m, KBS_DEADLINE_NONE, &err) == 0) {
        (void)pthread_mutex_lock(&s->mutex);
        s->asked++;
        (void)pthread_cond_broadcast(&s->change);
        while (s->mode == SIGNER_HOLD && !s->released) {
            (void)pthread_cond_wait(&s->change, &s->mutex);
        }
        (void)pthread_mutex_unlock(&s->mutex);
        if (s->mode == SIGNER_CLOSE) {
            break;
        }
        (void)atomic_fetch_add(&s->answered, 1);
        answer(s, &m);
        if (s->mode == SIGNER_CUT) {
            break;
        }
    }
    (void)shutdown(s->fd, SHUT_RDWR);
    kbs_channel_msg_deinit(&m);
    return NULL;
}

int signer_start(struct signer *s, EVP_PKEY *key, enum signer_mode mode)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int fds[2];

    MUST(kbs_channel_pair(fds, &err) == 0);
    *s = (struct signer){.fd = fds[1], .key = key, .mode = mode, .libctx = OSSL_LIB_CTX_new()};
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_cond_init(&s->change, NULL);
    MUST(pthread_create(&s->thread, NULL, run, s) == 0);
    return fds[0];
}

void signer_await(struct signer *s, unsigned int n)
{
    (void)pthread_mutex_lock(&s->mutex);
    while (s->asked < n) {
        (void)pthread_cond_wait(&s->change, &s->mutex);
    }
    (void)pthread_mutex_unlock(&s->mutex);
}

void signer_release(struct signer *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->released = true;
    (void)pthread_cond_broadcast(&s->change);
    (void)pthread_mutex_unlock(&s->mutex);
}

void signer_join(struct signer *s)
{
    MUST(pthread_join(s->thread, NULL) == 0);
    (void)close(s->fd);
    (void)pthread_cond_destroy(&s->change);
    (void)pthread_mutex_destroy(&s->mutex);
    OSSL_LIB_CTX_free(s->libctx);
}

void signer_stop(struct signer *s)
{
    signer_release(s);
    (void)shutdown(s->fd, SHUT_RDWR);
    signer_join(s);
}
