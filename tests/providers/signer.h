/* A sign worker of the tests: a thread with a software key at the other end of a channel. It can misbehave. */
#ifndef KBS_TESTS_SIGNER_H
#define KBS_TESTS_SIGNER_H

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum signer_mode {
    SIGNER_HONEST = 0,
    SIGNER_ECHO,        /* SIGN_DIGEST: the digest is the answer */
    SIGNER_HOLD,        /* the same, but only after signer_release() */
    SIGNER_SHORT,       /* a byte too few */
    SIGNER_LONG,        /* a byte too many */
    SIGNER_HUGE,        /* 100000 bytes */
    SIGNER_EMPTY,       /* success, and no body */
    SIGNER_GARBAGE,     /* random bytes of the right length */
    SIGNER_REFUSE,      /* KBS_DENIED, with a text that is no text */
    SIGNER_NO_CATEGORY, /* category 200 */
    SIGNER_WRONG_ID,
    SIGNER_WRONG_TYPE, /* another message than RESULT */
    SIGNER_TWICE,      /* two answers */
    SIGNER_CUT,        /* half an answer, then the end */
    SIGNER_NOISE,      /* bytes that are no frame */
    SIGNER_CLOSE,      /* the end, in the place of an answer */
    SIGNER_MODE_COUNT
};

struct signer {
    pthread_t thread;
    int fd;
    EVP_PKEY *key; /* borrowed; NULL with the modes that need none */
    OSSL_LIB_CTX *libctx;
    enum signer_mode mode;
    pthread_mutex_t mutex;
    pthread_cond_t change;
    bool released;
    unsigned int asked; /* under the mutex */
    atomic_int answered;
    uint32_t last_scheme; /* of SIGN_TLS; read after signer_stop() or between orders */
};

/* Starts it. Returns the other end of its channel. */
int signer_start(struct signer *s, EVP_PKEY *key, enum signer_mode mode);
/* Waits until it has been asked n times in all. */
void signer_await(struct signer *s, unsigned int n);
void signer_release(struct signer *s);
/* Waits for its end, which comes when its channel is closed by the other side or by itself. */
void signer_join(struct signer *s);
/* Ends it, whoever holds the other side. */
void signer_stop(struct signer *s);

#endif
