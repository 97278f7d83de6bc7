/*
 * Every issuer times every defect that a token of any issuer can have. Each cell mints its own token; one that
 * must be refused must be for that defect's reason, so a check that is taken out shows in its column. The table
 * is printed, and kept as issuers.txt of the build folder.
 *
 * Cells that do not apply say why. What only one kind of token has is in test_profiles.c.
 */
#include "mint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_BYTES 24

struct cell {
    struct mint *m;
    struct kbs_issuer_config config;
    struct kbs_issuer_expected expected;
    json_t *claims;
    struct kbs_buf header; /* empty: the issuer's own */
    const struct maker *by;
    bool taken;      /* what must become of it */
    const char *why; /* and the reason, if it is refused */
    const char *na;  /* this cannot happen to this issuer's tokens */
};

struct column {
    const char *name;
    void (*make)(struct cell *c);
};

static struct maker strangers[MINT_COUNT]; /* of the same kinds, keys of another issuer */
static struct kbs_buf stranger_pem[MINT_COUNT];
static struct mint_pki pkis[MINT_COUNT];

static size_t row_of(const struct cell *c)
{
    return (size_t)(c->m - mints);
}

static void refuse(struct cell *c, const char *why)
{
    c->taken = false;
    c->why = why;
}

static void header(struct cell *c, const char *alg, const char *more)
{
    kbs_buf_clear(&c->header);
    mint_header(c->m, alg, more, &c->header);
}

static bool names_no_key(const struct cell *c)
{
    return c->m->profile == KBS_ISSUER_GOOGLE || c->m->profile == KBS_ISSUER_NRAS;
}

static bool is_cvm(const struct cell *c)
{
    return strcmp(c->m->name, "maa-cvm") == 0;
}

/* ---- good ones ---- */

static void passport(struct cell *c)
{
    c->taken = true;
    c->expected = mint_passport();
    c->na = names_no_key(c) ? "names no TEE key" : NULL;
}

static void session(struct cell *c)
{
    c->taken = true;
    c->na = is_cvm(c) ? "repeats nothing of its evidence" : NULL;
}

/* ---- times ---- */

static void set_time(struct cell *c, const char *name, int64_t s)
{
    json_object_set_new(c->claims, name, json_integer(s));
}

static void expired(struct cell *c)
{
    refuse(c, "it has expired");
    set_time(c, "exp", MINT_NOW - 31);
}

static void no_exp(struct cell *c)
{
    refuse(c, "\"exp\" is not an integer");
    json_object_del(c->claims, "exp");
    c->na = c->m->profile == KBS_ISSUER_VERAISON ? "has none: its age counts" : NULL;
}

static void not_yet(struct cell *c)
{
    refuse(c, "it is not valid yet");
    set_time(c, "nbf", MINT_NOW + 31);
}

static void future(struct cell *c)
{
    refuse(c, "issued in the future");
    set_time(c, "iat", MINT_NOW + 31);
}

static void old(struct cell *c)
{
    refuse(c, "it is older than 300 s");
    set_time(c, "iat", MINT_NOW - 331);
}

static void fraction(struct cell *c)
{
    refuse(c, "\"iat\" is not an integer");
    json_object_set_new(c->claims, "iat", json_real(MINT_NOW - 10.5));
}

/* ---- whose it is, and for whom ---- */

static void wrong_iss(struct cell *c)
{
    refuse(c, "its issuer is not one that is trusted");
    mint_set(c->claims, "iss", json_string("https://evil.example"));
}

/* By the name of an issuer: of another one is not enough. */
static void asked_other(struct cell *c)
{
    refuse(c, "its issuer is not one that is trusted");
    c->expected.issuer = "stranger";
}

static void wrong_aud(struct cell *c)
{
    refuse(c, c->m->aud != NULL ? "it is for another audience" : "none is configured");
    json_object_set_new(c->claims, "aud", json_string("another.example"));
}

/* ---- keys and algorithms ---- */

static void wrong_alg(struct cell *c)
{
    refuse(c, "its \"alg\" is not its issuer's");
    header(c, c->m->other_alg, NULL);
}

static void alg_none(struct cell *c)
{
    refuse(c, "\"alg\" is not one of ours");
    header(c, "none", NULL);
}

static void alg_hs256(struct cell *c)
{
    refuse(c, "\"alg\" is not one of ours");
    header(c, "HS256", NULL);
}

static void other_key(struct cell *c)
{
    refuse(c, "the signature does not verify");
    c->by = &strangers[row_of(c)];
}

static void unknown_kid(struct cell *c)
{
    refuse(c, "names a key that its issuer does not have");
    kbs_buf_printf(&c->header, "{\"alg\":\"%s\",\"kid\":\"k9\"}", c->m->alg);
    c->na = c->m->source == MINT_PEM ? "a PEM key has no name" : NULL;
}

static void header_jwk(struct cell *c)
{
    struct kbs_buf more = KBS_BUF(4096);

    other_key(c);
    kbs_buf_put_str(&more, ",\"jwk\":");
    maker_jwk(c->by, c->m->alg, NULL, NULL, &more);
    header(c, c->m->alg, kbs_buf_cstr(&more));
    kbs_buf_deinit(&more);
}

static void header_jku(struct cell *c)
{
    other_key(c);
    header(c, c->m->alg,
           ",\"jku\":\"https://evil.example/jwks\",\"x5u\":\"https://evil.example/c\"");
}

static void crit(struct cell *c)
{
    refuse(c, "critical extensions");
    header(c, c->m->alg, ",\"crit\":[\"exp\"]");
}

static void stale(struct cell *c)
{
    refuse(c, "too old to go by");
    c->config.max_stale_s = 59;
    c->na = c->m->source != MINT_DOCUMENT ? "its keys are pinned" : NULL;
}

/* ---- the TEE's key ---- */

static json_t *jwk_of(const char *text)
{
    json_t *v = json_loads(text, 0, NULL);

    assert_non_null(v);
    return v;
}

static void missing_key(struct cell *c)
{
    static const char *const at[KBS_ISSUER_COUNT] = {
        [KBS_ISSUER_COCO_EAR] =
            "submods|cpu0|ear.veraison.annotated-evidence|runtime_data_claims|tee-pubkey",
        [KBS_ISSUER_COCO_SIMPLE] = "customized_claims|runtime_data|tee-pubkey",
        [KBS_ISSUER_ITA] = "tdx|attester_runtime_data|tee-pubkey",
        [KBS_ISSUER_MAA] = "x-ms-runtime|tee-pubkey",
        [KBS_ISSUER_VERAISON] = "submods|CCA_REALM|ear.veraison.key-attestation",
        [KBS_ISSUER_KBS] =
            "submods|cpu0|ear.veraison.annotated-evidence|runtime_data_claims|tee-pubkey",
    };
    const char *path = at[c->m->profile];

    refuse(c, "no TEE key where its issuer has it");
    c->na = names_no_key(c) ? "names no TEE key" : NULL;
    if (strcmp(c->m->name, "ita-v1") == 0) {
        path = "attester_runtime_data|tee-pubkey";
    } else if (is_cvm(c)) {
        path = "x-ms-runtime|keys";
    }
    if (c->na == NULL) {
        mint_set(c->claims, path, NULL);
    }
}

/* A second encryption key in an array of them. */
static void two_in_array(struct cell *c)
{
    json_t *keys = json_object_get(json_object_get(c->claims, "x-ms-runtime"), "keys");
    json_t *second = jwk_of(mint_guest.other_jwk);

    json_object_set_new(second, "use", json_string("enc"));
    if (keys == NULL) {
        keys = json_array();
        json_object_set_new(json_object_get(c->claims, "x-ms-runtime"), "keys", keys);
        c->why = "a TEE key at two places";
    } else {
        c->why = "two keys could be the TEE's";
    }
    json_array_append_new(keys, second);
}

static void two_keys(struct cell *c)
{
    json_t *other = json_pack("{s:o}", "tee-pubkey", jwk_of(mint_guest.other_jwk));

    refuse(c, "a TEE key at two places");
    switch (c->m->profile) {
    case KBS_ISSUER_COCO_EAR:
    case KBS_ISSUER_KBS:
        refuse(c, "a device's TEE key is another one");
        mint_set(c->claims,
                 "submods|gpu0|ear.veraison.annotated-evidence|runtime_data_claims|tee-pubkey",
                 json_incref(json_object_get(other, "tee-pubkey")));
        break;
    case KBS_ISSUER_ITA:
        mint_set(c->claims,
                 strcmp(c->m->name, "ita-v1") == 0 ? "attester_user_data"
                                                   : "tdx|attester_user_data",
                 json_incref(other));
        c->expected.tee = KBS_TEE_NONE; /* user data makes it one of Azure's */
        break;
    case KBS_ISSUER_MAA:
        two_in_array(c);
        break;
    default:
        c->na = names_no_key(c) ? "names no TEE key" : "one place, and no array";
        break;
    }
    json_decref(other);
}

/* ---- chains in the header ---- */

static void x5c(struct cell *c, const struct kbs_buf *chain, const struct kbs_buf *anchor,
                const struct maker *jwk, const char *why)
{
    struct kbs_buf more = KBS_BUF(65536);
    struct kbs_buf inside = KBS_BUF(65536);

    c->config = mint_config(c->m, MINT_ANCHOR, kbs_buf_span(anchor));
    if (chain != NULL) {
        kbs_buf_put_str(&inside, ",\"x5c\":[");
        kbs_buf_put_span(&inside, kbs_buf_span(chain));
        kbs_buf_put_u8(&inside, ']');
    }
    kbs_buf_put_str(&more, ",\"jwk\":");
    maker_jwk(jwk, c->m->alg, NULL, inside.len > 0 ? kbs_buf_cstr(&inside) : NULL, &more);
    header(c, c->m->alg, kbs_buf_cstr(&more));
    kbs_buf_deinit(&more);
    kbs_buf_deinit(&inside);
    /* A detached token of NRAS has no header of its own here. */
    c->na = c->m->profile == KBS_ISSUER_NRAS ? "publishes a key set" : NULL;
    c->taken = why == NULL;
    c->why = why;
}

static void x5c_01(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->direct, &pki->anchor, &c->m->maker, NULL);
}

static void x5c_02(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    c->by = &strangers[row_of(c)];
    x5c(c, &pki->direct, &pki->anchor, c->by, "is not the key of its certificate");
}

static void x5c_03(struct cell *c)
{
    x5c(c, NULL, &pkis[row_of(c)].anchor, &c->m->maker, "x5c: not 1 to");
}

static void x5c_04(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->direct, &pki->decoy_anchor, &c->m->maker, "no chain to a pinned anchor");
}

static void x5c_05(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->chain, &pki->anchor, &c->m->maker, NULL);
}

static void x5c_06(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->shuffled, &pki->anchor, &c->m->maker, NULL);
}

static void x5c_07(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->partial, &pki->anchor, &c->m->maker, NULL);
}

static void x5c_old(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->old, &pki->anchor, &c->m->maker, "certificate has expired");
}

static void x5c_revoked(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->direct, &pki->anchor, &c->m->maker, "certificate revoked");
    c->config.crl = kbs_buf_span(&pki->crl);
}

/* The leaf's own issuer revokes nothing, but is revoked itself. */
static void x5c_ca_revoked(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->chain, &pki->anchor, &c->m->maker, "certificate revoked");
    c->config.crl = kbs_buf_span(&pki->chain_crl);
}

static void x5c_no_crl(struct cell *c)
{
    struct mint_pki *pki = &pkis[row_of(c)];
    x5c(c, &pki->chain, &pki->anchor, &c->m->maker, "unable to get certificate CRL");
    c->config.crl = kbs_buf_span(&pki->empty_crl);
}

/* ---- shape ---- */

static void duplicate(struct cell *c)
{
    refuse(c, "JWS payload");
    mint_twice = "\"iat\":1,";
}

static void oversized(struct cell *c)
{
    char *pad = malloc(60001);

    refuse(c, "longer than 65536 bytes");
    assert_non_null(pad);
    memset(pad, 'x', 60000);
    pad[60000] = '\0';
    json_object_set_new(c->claims, "pad", json_string(pad));
    free(pad);
}

/* ---- what a session expects ---- */

static void other_report(struct cell *c)
{
    static struct kbs_digest digest;

    digest = (struct kbs_digest){.len = 48};
    c->expected.report_data = &digest;
    refuse(c, c->m->profile == KBS_ISSUER_NRAS ? "the nonce is not ours"
                                               : "its report data is not the session's");
    c->na = is_cvm(c)                            ? "repeats nothing of its evidence"
            : c->m->profile == KBS_ISSUER_GOOGLE ? "tells no report data"
                                                 : NULL;
}

static void other_session_key(struct cell *c)
{
    c->expected.tee_key = &mint_guest.other_key;
    refuse(c, c->m->profile == KBS_ISSUER_GOOGLE ? "its nonces are not"
                                                 : "its TEE key is not the session's");
    c->na = c->m->profile == KBS_ISSUER_NRAS ? "names no TEE key" : NULL;
}

static void other_nonce(struct cell *c)
{
    static struct kbs_buf other;
    const char *nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const struct kbs_span none = KBS_SPAN_EMPTY;

    kbs_buf_deinit(&other);
    other = KBS_BUF(4096);
    kbs_rcar_runtime_data_put(&other, &mint_guest.key, kbs_span_str(nonce), &none);
    c->expected.runtime_data = kbs_buf_span(&other);
    c->expected.nonce = kbs_span_str(nonce);
    refuse(c, c->m->profile == KBS_ISSUER_GOOGLE ? "its nonces are not"
                                                 : "its runtime data is not the session's");
    c->na = is_cvm(c) ? "repeats nothing of its evidence"
            : c->m->profile == KBS_ISSUER_VERAISON || c->m->profile == KBS_ISSUER_NRAS
                ? "repeats no runtime data"
                : NULL;
    if (c->na != NULL) {
        kbs_buf_deinit(&other);
    }
}

static void other_tee(struct cell *c)
{
    refuse(c, "the session is not");
    c->expected.tee = KBS_TEE_SE;
    c->na = is_cvm(c) ? "repeats nothing of its evidence" : NULL;
}

static const struct column columns[] = {
    {"good-passport", passport},
    {"good-session", session},
    {"expired", expired},
    {"no-exp", no_exp},
    {"not-yet", not_yet},
    {"future-iat", future},
    {"too-old", old},
    {"fraction", fraction},
    {"wrong-iss", wrong_iss},
    {"asked-other", asked_other},
    {"wrong-aud", wrong_aud},
    {"wrong-alg", wrong_alg},
    {"alg-none", alg_none},
    {"alg-HS256", alg_hs256},
    {"other-key", other_key},
    {"unknown-kid", unknown_kid},
    {"header-jwk", header_jwk},
    {"header-jku", header_jku},
    {"crit", crit},
    {"stale-keys", stale},
    {"missing-key", missing_key},
    {"two-keys", two_keys},
    {"x5c-01-ok", x5c_01},
    {"x5c-02-mismatch", x5c_02},
    {"x5c-03-none", x5c_03},
    {"x5c-04-anchor", x5c_04},
    {"x5c-05-chain", x5c_05},
    {"x5c-06-shuffled", x5c_06},
    {"x5c-07-partial", x5c_07},
    {"x5c-expired", x5c_old},
    {"x5c-revoked", x5c_revoked},
    {"x5c-ca-revoked", x5c_ca_revoked},
    {"x5c-no-crl", x5c_no_crl},
    {"duplicate", duplicate},
    {"oversized", oversized},
    {"other-report", other_report},
    {"other-tee-key", other_session_key},
    {"other-nonce", other_nonce},
    {"other-tee", other_tee},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

struct place {
    size_t row;
    size_t column;
};
static char outcomes[MINT_COUNT][COLUMNS][CELL_BYTES];
static const char *reasons[MINT_COUNT][COLUMNS];

/* The issuer, and another one whose key is good for nothing here. */
static int verify(const struct cell *c, struct kbs_span token, struct kbs_issuer_result *ret,
                  struct kbs_error *err)
{
    const struct kbs_span iss = KBS_SPAN_LIT("stranger");
    const struct kbs_span alg = kbs_span_str(c->m->alg);
    const struct kbs_issuer_config configs[] = {
        c->config,
        {.name = iss,
         .profile = KBS_ISSUER_COCO_EAR,
         .issuers = &iss,
         .issuer_count = 1,
         .algorithms = &alg,
         .algorithm_count = 1,
         .keys = kbs_buf_span(&stranger_pem[row_of(c)]),
         .max_age_s = 300,
         .passport = true},
    };
    struct kbs_issuers *issuers = NULL;
    int rc = kbs_issuers_new(configs, 2, false, &issuers, err);

    if (rc != 0) {
        fail_msg("configuration: %s", err->detail);
    }
    rc = kbs_issuer_verify(issuers, token, &c->expected, ret, err);
    if (rc == 0) {
        assert_string_equal(ret->issuer, c->m->name);
    }
    /* The names in the result are the issuers'. */
    ret->issuer = NULL;
    ret->agree_with = NULL;
    kbs_issuers_free(issuers);
    return rc;
}

static void check_taken(const struct cell *c, const struct kbs_issuer_result *r)
{
    bool in_session = c->expected.report_data != NULL;

    assert_int_equal(r->binding, in_session ? KBS_BINDING_SESSION : KBS_BINDING_TOKEN);
    assert_int_equal(r->tee, c->m->tee);
    assert_true(json_object_size(r->submods) > 0);
    assert_non_null(r->status);
    assert_int_equal(r->iat, MINT_NOW - 10);
    assert_int_equal(r->exp, MINT_NOW - 10 + 300);
    assert_int_equal(r->has_tee_key, !names_no_key(c));
    if (r->has_tee_key) {
        assert_true(kbs_tee_key_equal(&r->tee_key, &mint_guest.key));
        assert_int_equal(strlen(r->thumbprint), 43);
    }
    assert_int_equal(r->tells_report_data, in_session && c->m->profile != KBS_ISSUER_GOOGLE);
}

static void test_cell(void **state)
{
    const struct place *p = *state;
    struct mint *m = &mints[p->row];
    struct cell c = {.m = m,
                     .config = mint_config(m, m->source, KBS_SPAN_EMPTY),
                     .expected = mint_session(m),
                     .claims = m->claims(&mint_guest),
                     .header = KBS_BUF(65536),
                     .by = &m->maker};
    struct kbs_buf token = KBS_BUF(MINT_TEXT_BYTES);
    struct kbs_issuer_result result = {.issuer = NULL};
    struct kbs_error err = KBS_ERROR_NONE;

    assert_non_null(c.claims);
    if (is_cvm(&c)) {
        c.expected = mint_passport();
    }
    columns[p->column].make(&c);
    reasons[p->row][p->column] = c.na;
    if (c.na == NULL) {
        (void)snprintf(outcomes[p->row][p->column], CELL_BYTES, "FAIL");
        mint_token(m, c.by, c.header.len > 0 ? kbs_buf_cstr(&c.header) : NULL, c.claims, &token);
        int rc = verify(&c, kbs_buf_span(&token), &result, &err);
        mint_twice = NULL;
        if (c.taken && rc != 0) {
            fail_msg("refused: %s", err.detail);
        } else if (c.taken) {
            check_taken(&c, &result);
        } else if (rc == 0) {
            fail_msg("taken");
        } else {
            assert_null(result.submods);
            assert_int_equal(err.category, strcmp(columns[p->column].name, "stale-keys") == 0
                                               ? KBS_BUSY
                                               : KBS_UNAUTHENTICATED);
            if (strstr(err.detail, c.why) == NULL) {
                fail_msg("refused for another reason: %s", err.detail);
            }
        }
        (void)snprintf(outcomes[p->row][p->column], CELL_BYTES, "%s",
                       c.taken ? "taken" : "refused");
    } else {
        (void)snprintf(outcomes[p->row][p->column], CELL_BYTES, "n/a");
    }
    mint_twice = NULL;
    kbs_issuer_result_deinit(&result);
    kbs_buf_deinit(&token);
    kbs_buf_deinit(&c.header);
    json_decref(c.claims);
}

/* ---- the table ---- */

static void print_to(FILE *f)
{
    fprintf(f, "%-16s", "");
    for (size_t r = 0; r < MINT_COUNT; r++) {
        fprintf(f, " %-11s", mints[r].name);
    }
    fprintf(f, "\n");
    for (size_t i = 0; i < COLUMNS; i++) {
        fprintf(f, "%-16s", columns[i].name);
        for (size_t r = 0; r < MINT_COUNT; r++) {
            fprintf(f, " %-11s", outcomes[r][i]);
        }
        fprintf(f, "\n");
    }
    fprintf(f, "n/a:\n");
    for (size_t i = 0; i < COLUMNS; i++) {
        for (size_t r = 0; r < MINT_COUNT; r++) {
            if (reasons[r][i] != NULL) {
                fprintf(f, "  %s, %s: %s\n", mints[r].name, columns[i].name, reasons[r][i]);
            }
        }
    }
}

static void print_table(void)
{
    const char *folder = getenv("KBS_BUILD_DIR");
    char path[4096];
    FILE *f = NULL;

    print_to(stdout);
    if (folder != NULL && snprintf(path, sizeof(path), "%s/issuers.txt", folder) < 4096) {
        f = fopen(path, "w");
    }
    if (f != NULL) {
        print_to(f);
        fclose(f);
    }
}

static int group_begin(void **state)
{
    size_t rsa_row = MINT_COUNT;

    (void)state;
    mint_begin();
    for (size_t r = 0; r < MINT_COUNT; r++) {
        bool rsa = mints[r].alg[0] != 'E';
        bool again = rsa && rsa_row < MINT_COUNT;

        strangers[r] =
            again ? maker_as(&strangers[rsa_row], mints[r].alg) : maker_new(mints[r].alg);
        if (again) {
            assert_int_equal(EVP_PKEY_up_ref(strangers[r].pkey), 1);
        } else if (rsa) {
            rsa_row = r;
        }
        stranger_pem[r] = KBS_BUF(4096);
        maker_pem(&strangers[r], &stranger_pem[r]);
        mint_pki_begin(&pkis[r], &mints[r].maker);
    }
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    print_table();
    for (size_t r = 0; r < MINT_COUNT; r++) {
        maker_free(&strangers[r]);
        kbs_buf_deinit(&stranger_pem[r]);
        mint_pki_end(&pkis[r]);
    }
    mint_end();
    return 0;
}

int main(void)
{
    static struct CMUnitTest tests[MINT_COUNT * COLUMNS];
    static struct place places[MINT_COUNT * COLUMNS];
    static char names[MINT_COUNT * COLUMNS][64];

    for (size_t i = 0; i < MINT_COUNT * COLUMNS; i++) {
        places[i] = (struct place){.row = i / COLUMNS, .column = i % COLUMNS};
        (void)snprintf(names[i], sizeof(names[i]), "%s/%s", mints[places[i].row].name,
                       columns[places[i].column].name);
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = test_cell, .initial_state = &places[i]};
    }
    return cmocka_run_group_tests_name("issuers", tests, group_begin, group_end);
}
