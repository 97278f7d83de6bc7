/*
 * Requests and certificates by OpenSSL, whatever the key is made of. Names are checked here before
 * OpenSSL's parser sees them: in it, a comma and a colon more make another kind of name.
 *
 * What is signed is verified with the public half before it is given out: a token that signs by
 * another key than it shows is found here, not by a CA or a client.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/encoding.h"
#include "base/random.h"
#include "cli/tls.h"

#define SAN_BYTES 4096
#define NAME_BYTES 256   /* of one attribute, or one alternative name */
#define CLOCK_SKEW_S 300 /* of whoever is the first to connect */
#define SERIAL_BYTES 16

/* ---- names ---- */

/* One "type=value" of RFC 4514, from *text on; *text is behind its comma then. */
static int take_attribute(const char **text, char type[NAME_BYTES], struct kbs_buf *value,
                          struct kbs_error *err)
{
    const char *at = *text + strspn(*text, " ");
    size_t n = strcspn(at, "=,");
    uint8_t byte;

    if (at[n] != '=' || n == 0 || n >= NAME_BYTES) {
        return kbs_fail(err, KBS_INPUT,
                        "--subject is TYPE=VALUE[,TYPE=VALUE...], as CN=kbs.example");
    }
    memcpy(type, at, n);
    type[n] = '\0';
    for (at += n + 1; *at != '\0' && *at != ','; at++) {
        if (strchr("\"+;<>", *at) != NULL) {
            return kbs_fail(err, KBS_INPUT, "--subject: '%c' needs a \\ before it", *at);
        }
        if (*at == '\\' && kbs_hex_get_exact(&byte, 1, kbs_span(at + 1, strnlen(at + 1, 2))) == 0) {
            kbs_buf_put_u8(value, byte);
            at += 2;
            continue;
        }
        at += *at == '\\' && at[1] != '\0' ? 1 : 0;
        kbs_buf_put_u8(value, (uint8_t)*at);
    }
    bool dangling = *at == ',' && at[1] == '\0';
    *text = *at == ',' ? at + 1 : at;
    return !dangling && value->len > 0 && kbs_utf8_valid(kbs_buf_span(value)) && !value->failed
               ? 0
               : kbs_fail(err, KBS_INPUT,
                          "--subject: what %.32s is, or comes behind it, is missing or too long",
                          type);
}

/* The first one stands last in the name (RFC 4514 section 2.1). */
static int put_subject(X509_NAME *name, const char *text, struct kbs_error *err)
{
    struct kbs_buf value = KBS_BUF(NAME_BYTES);
    char type[NAME_BYTES];
    int r = 0;

    do {
        kbs_buf_clear(&value);
        r = take_attribute(&text, type, &value, err);
        if (r == 0 && X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8, value.p, (int)value.len,
                                                 0, 0) != 1) {
            r = kbs_fail_openssl(err, KBS_INPUT,
                                 "--subject: %.32s is no attribute, or its value does not fit",
                                 type);
        }
    } while (r == 0 && *text != '\0');
    kbs_buf_deinit(&value);
    return r;
}

/*
 * A host name (RFC 1123), as certificates have it: in ASCII, "*" for a whole first label at most.
 */
static bool is_host(const char *host, size_t len)
{
    size_t label = 0;
    size_t i = len > 2 && host[0] == '*' && host[1] == '.' ? 2 : 0;

    for (; i < len; i++) {
        bool dot = host[i] == '.';
        bool edge = label == 0 || i + 1 == len || host[i + 1] == '.';
        if ((dot && label == 0) ||
            (!dot && !isalnum((unsigned char)host[i]) && (host[i] != '-' || edge))) {
            return false;
        }
        label = dot ? 0 : label + 1;
        if (label > 63) {
            return false;
        }
    }
    return label > 0 && len <= 253;
}

static bool is_name(const char *name, size_t len)
{
    uint8_t address[16];
    char host[NAME_BYTES];

    if (len > 4 && len < sizeof(host) && strncmp(name, "DNS:", 4) == 0) {
        return is_host(name + 4, len - 4);
    }
    if (len <= 3 || len >= sizeof(host) || strncmp(name, "IP:", 3) != 0) {
        return false;
    }
    memcpy(host, name + 3, len - 3);
    host[len - 3] = '\0';
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static int check_san(const char *san, struct kbs_error *err)
{
    const char *at = san;

    for (;;) {
        size_t n = strcspn(at, ",");
        if (!is_name(at, n)) {
            return kbs_fail(err, KBS_INPUT,
                            "--san: '%.*s' is neither DNS:name (in ASCII) nor IP:address",
                            n < 120 ? (int)n : 120, at);
        }
        if (at[n] == '\0') {
            return n + (size_t)(at - san) < SAN_BYTES
                       ? 0
                       : kbs_fail(err, KBS_INPUT, "--san: too many names");
        }
        at += n + 1;
    }
}

/* The subject of a request or certificate; names->san is in order afterwards. */
static int put_names(X509_NAME *name, const struct kbs_tls_names *names, struct kbs_error *err)
{
    if (check_san(names->san, err) != 0) {
        return -1;
    }
    if (names->subject != NULL) {
        return put_subject(name, names->subject, err);
    }
    const char *first = strchr(names->san, ':') + 1;
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)first,
                                      (int)strcspn(first, ","), 0, 0) == 1
               ? 0
               : kbs_fail_openssl(err, KBS_INPUT,
                                  "the first name of --san is too long for a CN: give --subject");
}

int kbs_tls_names_check(const struct kbs_tls_names *names, struct kbs_error *err)
{
    X509_NAME *name = X509_NAME_new();
    int r = name != NULL ? put_names(name, names, err)
                         : kbs_fail_openssl(err, KBS_INTERNAL, "out of memory");

    X509_NAME_free(name);
    return r;
}

/* ---- signing ---- */

static const struct extension {
    int nid;
    const char *value; /* NULL: the alternative names */
    bool request;      /* there too */
} extensions[] = {
    {NID_basic_constraints, "critical,CA:FALSE", false},
    {NID_key_usage, "critical,digitalSignature", true},
    {NID_ext_key_usage, "serverAuth", true},
    {NID_subject_key_identifier, "hash", false},
    {NID_subject_alt_name, NULL, true},
};
#define EXTENSIONS (sizeof(extensions) / sizeof(extensions[0]))

/* certificate: NULL for a request's. Returns owned; NULL: see OpenSSL's queue. */
static STACK_OF(X509_EXTENSION) * make_extensions(X509 *certificate, const char *san)
{
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, certificate, certificate, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    for (size_t i = 0; list != NULL && i < EXTENSIONS; i++) {
        const struct extension *e = &extensions[i];
        if (certificate == NULL && !e->request) {
            continue;
        }
        X509_EXTENSION *made =
            X509V3_EXT_conf_nid(NULL, &ctx, e->nid, e->value != NULL ? e->value : san);
        if (made == NULL || sk_X509_EXTENSION_push(list, made) == 0) {
            X509_EXTENSION_free(made);
            sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
            return NULL;
        }
    }
    return list;
}

/* The hash of as many bits as the key has of security; NULL where the algorithm has its own. */
static const EVP_MD *hash_of(EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "ED25519") == 1 || EVP_PKEY_is_a(key, "ED448") == 1) {
        return NULL;
    }
    return EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_bits(key) > 256 ? EVP_sha384()
                                                                         : EVP_sha256();
}

/* The text that our provider put behind its error, if it was the one to fail. */
static int sign_failed(struct kbs_error *err)
{
    const char *data = NULL;
    int flags = 0;
    unsigned long code = ERR_peek_error_data(&data, &flags);
    char text[160];

    if (data != NULL && (flags & ERR_TXT_STRING) != 0 && *data != '\0') {
        (void)snprintf(text, sizeof(text), "%s", data);
    } else {
        ERR_error_string_n(code, text, sizeof(text));
    }
    return kbs_fail_openssl(err, KBS_TOKEN_DOWN, "the key does not sign: %s", text);
}

static int put_bio(BIO *bio, struct kbs_buf *out, struct kbs_error *err)
{
    char *p = NULL;
    long len = BIO_get_mem_data(bio, &p);

    kbs_buf_put(out, p, (size_t)len);
    return kbs_buf_check(out, "PEM", err);
}

int kbs_tls_request(const struct kbs_tls_key *k, const struct kbs_tls_names *names,
                    struct kbs_buf *out, struct kbs_error *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    X509_REQ *request = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *list = NULL;
    int r = -1;

    if (request == NULL || bio == NULL || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(request, k->public_key) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "the request cannot be made");
        goto out;
    }
    if (put_names(X509_REQ_get_subject_name(request), names, err) != 0) {
        goto out;
    }
    list = make_extensions(NULL, names->san);
    if (list == NULL || X509_REQ_add_extensions(request, list) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "the request cannot be made");
    } else if (X509_REQ_sign(request, k->key, hash_of(k->public_key)) <= 0) {
        (void)sign_failed(err);
    } else if (X509_REQ_verify(request, k->public_key) != 1) {
        (void)kbs_fail_openssl(err, KBS_TOKEN_DOWN, "the token signs by another key than it shows");
    } else if (PEM_write_bio_X509_REQ(bio, request) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "PEM");
    } else {
        r = put_bio(bio, out, err);
    }
out:
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(request);
    BIO_free(bio);
    return r;
}

/* A positive number (RFC 5280 section 4.1.2.2) that nobody foresees. */
static bool put_serial(X509 *certificate)
{
    uint8_t serial[SERIAL_BYTES];
    BIGNUM *number;
    bool ok;

    kbs_random(serial, sizeof(serial));
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40);
    number = BN_bin2bn(serial, sizeof(serial), NULL);
    ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok;
}

static bool put_extensions(X509 *certificate, const char *san)
{
    STACK_OF(X509_EXTENSION) *list = make_extensions(certificate, san);
    bool ok = list != NULL;

    for (int i = 0; ok && i < sk_X509_EXTENSION_num(list); i++) {
        ok = X509_add_ext(certificate, sk_X509_EXTENSION_value(list, i), -1) == 1;
    }
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return ok;
}

int kbs_tls_selfsigned(const struct kbs_tls_key *k, const struct kbs_tls_names *names,
                       uint32_t days, struct kbs_buf *out, struct kbs_error *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    X509 *certificate = X509_new();
    X509_NAME *name = certificate != NULL ? X509_get_subject_name(certificate) : NULL;
    int r = -1;

    if (name == NULL || bio == NULL || X509_set_version(certificate, X509_VERSION_3) != 1 ||
        X509_set_pubkey(certificate, k->public_key) != 1 || !put_serial(certificate) ||
        X509_gmtime_adj(X509_getm_notBefore(certificate), -CLOCK_SKEW_S) == NULL ||
        X509_time_adj_ex(X509_getm_notAfter(certificate), (int)days, 0, NULL) == NULL) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "the certificate cannot be made");
        goto out;
    }
    if (put_names(name, names, err) != 0) {
        goto out;
    }
    if (X509_set_issuer_name(certificate, name) != 1 || !put_extensions(certificate, names->san)) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "the certificate cannot be made");
    } else if (X509_sign(certificate, k->key, hash_of(k->public_key)) <= 0) {
        (void)sign_failed(err);
    } else if (X509_verify(certificate, k->public_key) != 1) {
        (void)kbs_fail_openssl(err, KBS_TOKEN_DOWN, "the token signs by another key than it shows");
    } else if (PEM_write_bio_X509(bio, certificate) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "PEM");
    } else {
        r = put_bio(bio, out, err);
    }
out:
    X509_free(certificate);
    BIO_free(bio);
    return r;
}
