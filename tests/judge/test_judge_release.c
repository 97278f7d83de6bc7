/*
 * Who gets what: the matrix of denials, what policies are told about a guest, and the question
 * beforehand. The judge is the real one and so is kbs-policy, where it is built; token, ledger and
 * front are the harness.
 */
#include "signed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/process.h"
#include "base/random.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define POLICY(conditions) "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" conditions "]}]}"
#define IS(claim, value) "{\"claim\":\"" claim "\",\"equals\":" value "}"
#define ALLOW POLICY(IS("kbs.tee", "\"sample\""))
#define TERMS "{\"identity\":[\"measurement\"],\"quota\":1}"
#define KEEPS                                            \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" IS( \
        "kbs.tee", "\"sample\"") "]}],"                  \
                                 "\"provision\":" TERMS ",\"register\":" TERMS "}"
#define REGO(rule) "package policy\nimport rego.v1\n" rule "\n"

/* ---- the matrix: what is wrong times the road ---- */

enum road {
    ROAD_RESOURCE,
    ROAD_KEY,
    ROAD_REWRAP,
    ROAD_PROVISION,
    ROAD_REGISTER,
    ROAD_COUNT
};

static const char *const road_names[ROAD_COUNT] = {"resource", "key", "rewrap", "provision",
                                                   "register"};

/* A NEK that is bound to nobody, wrapped to the key of that tag. */
#define BLOB                                                                                \
    "{\"recipient\":{\"header\":{\"alg\":\"A256KW\",\"kid\":\"a/b/%s/v1\","                 \
    "\"apu\":\"a2JzLW5lay12MQ\",\"apv\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}," \
    "\"encrypted_key\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}"

/* What a road is set up with so that a cell must be denied, and how. */
struct cell {
    const char *policy; /* of the row itself; NULL: none */
    const char *rego;   /* the resource policy; NULL: none */
    const char *tamper; /* SQL, afterwards */
    unsigned int status;
    const char *reason; /* in the record */
};

/* One by ROAD_RESOURCE and one by ROAD_KEY, which is that of every road to a key. */
static const struct defect {
    const char *name;
    struct cell cells[2];
} defects[] = {
    {"no policy",
     {[ROAD_RESOURCE] = {.status = 403, .reason = "policy: none, so nothing is released"},
      [ROAD_KEY] = {.status = 403, .reason = "policy: none, so nothing is released"}}},
    {"broken policy",
     {[ROAD_RESOURCE] = {.rego = REGO("allow if {"),
                         .status = 403,
                         .reason = "the resource policy cannot be evaluated"},
      [ROAD_KEY] = {.policy = "{\"version\":\"1.0.0\"}",
                    .status = 500,
                    .reason = "stored policy: needs exactly one of"}}},
    {"undefined allow",
     {[ROAD_RESOURCE] = {.rego = REGO("allow if input.none == 1"),
                         .status = 403,
                         .reason = "the resource policy denies: allow is undefined"},
      [ROAD_KEY] = {.policy = POLICY("{\"not\":" IS("none", "1") "}"),
                    .status = 403,
                    .reason = "policy: anyOf[0] none is absent"}}},
    {"non-boolean allow",
     {[ROAD_RESOURCE] = {.rego = REGO("allow := \"true\""),
                         .status = 403,
                         .reason = "the resource policy denies: allow is not a boolean"},
      [ROAD_KEY] = {.policy = POLICY(IS("kbs.pop", "\"false\"")),
                    .status = 403,
                    .reason = "policy: anyOf[0] kbs.pop is of another type"}}},
    {"edited row",
     {[ROAD_RESOURCE] = {.rego = REGO("allow := false"),
                         .tamper = "UPDATE document SET text = 'package policy\nallow := true\n'",
                         .status = 500,
                         .reason = "is not signed as it is"},
      [ROAD_KEY] = {.policy = POLICY(IS("kbs.tee", "\"snp\"")),
                    .tamper = "UPDATE key SET policy = '" ALLOW "'",
                    .status = 500,
                    .reason = "is not signed as it is"}}},
    {"missing claim",
     {[ROAD_RESOURCE] =
          {.rego = REGO("default allow := false\nallow if input.submods.cpu9[\"ear.status\"] == "
                        "\"affirming\""),
           .status = 403,
           .reason = "the resource policy denies: allow is false"},
      [ROAD_KEY] = {.policy = POLICY(IS("submods.cpu9.\\\"ear.status\\\"", "\"affirming\"")),
                    .status = 403,
                    .reason = "policy: anyOf[0] submods.cpu9.\"ear.status\" is absent"}}},
};

struct matrix {
    struct judge *j;
    struct guest guest;
    struct kbs_buf table;
    char target[64]; /* of the request that is being asked, as the next */
    char body[512];
    uint32_t document; /* version of the resource policy */
    bool engine;
};

static const struct cell *cell_of(const struct defect *d, enum road road)
{
    return &d->cells[road == ROAD_RESOURCE ? ROAD_RESOURCE : ROAD_KEY];
}

/* A request for the row of that tag. */
static struct ask ask_for(struct matrix *m, enum road road, const char *tag)
{
    static const enum kbs_route routes[] = {KBS_ROUTE_RESOURCE, KBS_ROUTE_KEY_RELEASE,
                                            KBS_ROUTE_KEY_REWRAP, KBS_ROUTE_KEY_PROVISION,
                                            KBS_ROUTE_REGISTER_GET};
    struct ask ask = {.route = routes[road],
                      .method = road == ROAD_RESOURCE || road == ROAD_REGISTER ? "GET" : "POST",
                      .target = m->target,
                      .cookie = m->guest.cookie};

    if (road == ROAD_REWRAP || road == ROAD_PROVISION) {
        (void)snprintf(m->target, sizeof(m->target), "/kbs/v0/key/%s", road_names[road]);
        (void)snprintf(m->body, sizeof(m->body),
                       road == ROAD_REWRAP ? BLOB : "{\"key\":\"a/b/%s\"}", tag);
        ask.body = m->body;
        ask.content_type = "application/json";
        return ask;
    }
    (void)snprintf(m->target, sizeof(m->target), "/kbs/v0/%s/a/b/%s", road_names[road], tag);
    ask.params[0] = "a";
    ask.params[1] = "b";
    ask.params[2] = tag;
    return ask;
}

static void put(struct matrix *m, enum road road, const char *tag, const struct cell *cell)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "a/b/%s", tag);
    if (road == ROAD_RESOURCE) {
        judge_add_secret(m->j, path, 1, cell->policy);
        judge_add_document(m->j, KBS_DOCUMENT_RESOURCE_POLICY, "resource-policy", ++m->document,
                           cell->rego != NULL ? cell->rego : "");
    } else {
        struct kbs_key key = judge_new_key(path, 1, 0);
        key.card.purpose = road == ROAD_KEY ? KBS_PURPOSE_RELEASE : KBS_PURPOSE_NEK;
        judge_recard(&key);
        judge_put_key(m->j, &key, cell->policy);
    }
    if (cell->tamper != NULL) {
        judge_tamper(m->j, cell->tamper);
    }
}

/* The reason that a record has, up to the next field. */
static void reason_of(const struct judge *j, char *out, size_t size)
{
    const char *from = strstr(j->ledger_text, " reason=");
    const char *to = from != NULL ? strstr(from, " peer=") : NULL;

    from = from != NULL ? from + strlen(" reason=") : "-";
    size_t n = to != NULL && to > from ? (size_t)(to - from) : strcspn(from, "\n");
    (void)snprintf(out, size, "%.*s", (int)n, from);
}

static void check_cell(struct matrix *m, const struct defect *d, enum road road, const char *tag)
{
    const struct cell *cell = cell_of(d, road);
    struct reply *r = calloc(1, sizeof(*r));
    char reason[256];

    assert_non_null(r);
    put(m, road, tag, cell);
    struct ask ask = ask_for(m, road, tag);
    unsigned int orders = m->j->orders;
    ledger_forget(m->j);
    judge_ask(m->j, &ask, r);
    assert_int_equal(r->status, cell->status);
    assert_int_equal(m->j->orders, orders);
    ledger_expect(m->j, road == ROAD_REGISTER ? "register-denied" : "release-denied");
    ledger_expect(m->j, cell->reason);
    ledger_expect(m->j, " policy=");
    ledger_expect_not(m->j, "release session=");
    reason_of(m->j, reason, sizeof(reason));
    kbs_buf_printf(&m->table, "%-18s %-9s %u  %s\n", d->name, road_names[road], r->status, reason);
    free(r);
}

static void keep_table(const struct kbs_buf *table)
{
    const char *folder = getenv("KBS_BUILD_DIR");
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/denials.txt", folder != NULL ? folder : ".");
    FILE *f = fopen(path, "w");
    if (f != NULL) {
        (void)fwrite(table->p, 1, table->len, f);
        (void)fclose(f);
    }
    (void)fwrite(table->p, 1, table->len, stdout);
}

/* So that the matrix cannot pass because everything is refused. */
static void check_allowed(struct matrix *m, enum road road, const char *tag)
{
    const struct cell good = {.policy =
                                  road == ROAD_PROVISION || road == ROAD_REGISTER ? KEEPS : ALLOW,
                              .rego = m->engine ? REGO("allow := true") : NULL};

    put(m, road, tag, &good);
    struct ask ask = ask_for(m, road, tag);
    if (road == ROAD_REGISTER) {
        judge_expect(m->j, &ask, 404, "this guest has no value in the register yet");
    } else {
        judge_expect(m->j, &ask, 200, NULL);
    }
}

static void test_matrix(void **state)
{
    struct matrix m = {.j = *state, .table = KBS_BUF(1 << 16), .engine = policy_process_built()};
    char tag[16];

    m.j->with_engine = m.engine;
    judge_restart(m.j);
    guest_auth(m.j, &m.guest);
    guest_attest(m.j, &m.guest);
    kbs_buf_printf(&m.table, "%-18s %-9s %s\n", "policy", "road",
                   "status and reason in the ledger");
    for (size_t i = 0; i < COUNT(defects); i++) {
        for (int road = 0; road < ROAD_COUNT; road++) {
            const struct cell *cell = cell_of(&defects[i], (enum road)road);

            (void)snprintf(tag, sizeof(tag), "%zu-%s", i, road_names[road]);
            if (cell->rego != NULL && !m.engine) {
                kbs_buf_printf(&m.table, "%-18s %-9s skipped: kbs-policy is not built\n",
                               defects[i].name, road_names[road]);
            } else {
                check_cell(&m, &defects[i], (enum road)road, tag);
            }
        }
    }
    for (int road = 0; road < ROAD_COUNT; road++) {
        (void)snprintf(tag, sizeof(tag), "good-%s", road_names[road]);
        check_allowed(&m, (enum road)road, tag);
    }
    assert_non_null(kbs_buf_cstr(&m.table));
    keep_table(&m.table);
    kbs_buf_deinit(&m.table);
    guest_free(&m.guest);
}

/* ---- what a policy is told ---- */

#define TOLD                                                                                \
    IS("kbs.mode", "\"rcar\"")                                                              \
    "," IS("kbs.issuer", "\"" JUDGE_ISSUER "\"") "," IS("kbs.tee", "\"sample\"") "," IS(    \
        "kbs.binding", "\"evidence\"") ",{\"claim\":\"kbs.binding_level\",\"at-least\":3}," \
                                       "{\"claim\":\"kbs.token_age_s\",\"less\":60},"       \
                                       "{\"claim\":\"kbs.session_age_s\",\"less\":60}," IS( \
                                           "kbs.init_data_matched",                         \
                                           "false") "," IS("kbs.native.chain",              \
                                                           "false") ",{\"claim\":\"kbs."    \
                                                                    "native.debug\","       \
                                                                    "\"exists\":"           \
                                                                    "false}"

static void test_told(void **state)
{
    static const char policy[] = POLICY(
        TOLD
        "," IS("kbs.key.path", "\"a/b/told\"") "," IS("kbs.key.version", "1") "," IS("kbs.key.purpose", "\"release\"") "," IS("kbs.key.provenance", "\"generated\"") "," IS("kbs.key.class", "\"resident\"") "," IS(
            "kbs.key.floor",
            "\"transport\"") "," IS("kbs.key.bytes",
                                    "32") "," IS("kbs.locality",
                                                 "\"transport\"") "," IS("kbs.token_class",
                                                                         "\"software\"") "," IS("kbs.pop",
                                                                                                "false") "," IS("kbs.encrypted",
                                                                                                                "false") "," IS("kbs.plugin",
                                                                                                                                "\"key\"") "," IS("kbs.method",
                                                                                                                                                  "\"POST\"") "," IS("kbs.path",
                                                                                                                                                                     "\"/kbs/v0/key/a/b/told\"") ",{\"claim\":\"kbs."
                                                                                                                                                                                                 "time\",\"at-"
                                                                                                                                                                                                 "least\":"
                                                                                                                                                                                                 "1700000000}");
    struct matrix m = {.j = *state};
    uint8_t digest[KBS_SHA256_BYTES];
    char hex[80] = " policy=";

    guest_auth(m.j, &m.guest);
    guest_attest(m.j, &m.guest);
    judge_add_key(m.j, "a/b/told", 1, policy);
    struct ask ask = ask_for(&m, ROAD_KEY, "told");
    judge_expect(m.j, &ask, 200, NULL);
    kbs_sha256(kbs_span_str(policy), digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex + strlen(hex), sizeof(hex) - strlen(hex));
    ledger_expect(m.j, hex);
    guest_free(&m.guest);
}

/* A resource policy is told the same, and a secret's own policy, too. */
static void test_told_rego(void **state)
{
    static const char rego[] = REGO(
        "allow if {\n  data.kbs.tee == \"sample\"\n  data.kbs.binding_level == 3\n"
        "  data.kbs.key.path == \"a/b/told\"\n  data.kbs.key.purpose == \"seal\"\n"
        "  data.kbs.locality == \"worker\"\n  data.kbs.method == \"GET\"\n"
        "  data.kbs.path == \"/kbs/v0/resource/a/b/told\"\n  data.kbs.native.chain == false\n"
        "  data.plugin == \"resource\"\n  data[\"resource-path\"] == [\"a\", \"b\", \"told\"]\n}");
    struct matrix m = {.j = *state};

    if (!policy_process_built()) {
        skip();
    }
    m.j->with_engine = true;
    judge_restart(m.j);
    guest_auth(m.j, &m.guest);
    guest_attest(m.j, &m.guest);
    put(&m, ROAD_RESOURCE, "told",
        &(struct cell){.rego = rego,
                       .policy = POLICY(TOLD "," IS("kbs.key.purpose", "\"seal\"") "," IS(
                           "kbs.locality", "\"worker\"") "," IS("kbs.plugin", "\"resource\""))});
    struct ask ask = ask_for(&m, ROAD_RESOURCE, "told");
    judge_expect(m.j, &ask, 200, NULL);
    guest_free(&m.guest);
}

/* What a policy was told of the locality is what the order asks of the token. */
static void test_locality(void **state)
{
    static const struct {
        const char *tag;
        const char *policy;
        uint8_t floor; /* 0: denied */
        const char *reason;
    } rows[] = {
        {"any", ALLOW, KBS_LOCALITY_TRANSPORT, NULL},
        {"token", POLICY(IS("kbs.locality", "\"token\"")), KBS_LOCALITY_TOKEN, NULL},
        {"either", POLICY("{\"claim\":\"kbs.locality\",\"in\":[\"token\",\"transport\"]}"),
         KBS_LOCALITY_TRANSPORT, NULL},
        {"not", POLICY("{\"not\":" IS("kbs.locality", "\"transport\"") "}"), KBS_LOCALITY_TOKEN,
         NULL},
        /* never below the key's floor */
        {"worker", POLICY(IS("kbs.locality", "\"worker\"")), 0, "kbs.locality differs"},
        {"other", POLICY(IS("kbs.locality", "\"token\"") "," IS("kbs.tee", "\"snp\"")), 0,
         "kbs.tee differs"},
    };
    struct matrix m = {.j = *state};
    char path[64];

    guest_auth(m.j, &m.guest);
    guest_attest(m.j, &m.guest);
    for (size_t i = 0; i < COUNT(rows); i++) {
        (void)snprintf(path, sizeof(path), "a/b/%s", rows[i].tag);
        judge_add_key(m.j, path, 1, rows[i].policy);
        struct ask ask = ask_for(&m, ROAD_KEY, rows[i].tag);
        m.j->release.floor = 0;
        judge_expect(m.j, &ask, rows[i].floor != 0 ? 200 : 403, rows[i].reason);
        assert_int_equal(m.j->release.floor, rows[i].floor);
    }
    guest_free(&m.guest);
}

/* A policy that the key's card does not know is not the key's, whoever signed the row. */
static void test_card_binds_policy(void **state)
{
    struct matrix m = {.j = *state};

    guest_auth(m.j, &m.guest);
    guest_attest(m.j, &m.guest);
    judge_add_key(m.j, "a/b/bound", 1, POLICY(IS("kbs.tee", "\"snp\"")));
    judge_sign_policy(m.j, "a/b/bound", 1, ALLOW);
    struct ask ask = ask_for(&m, ROAD_KEY, "bound");
    judge_expect(m.j, &ask, 500, NULL);
    ledger_expect(m.j, "the card of a/b/bound/v1 is of another policy");
    assert_int_equal(m.j->orders, 0);
    guest_free(&m.guest);
}

/* ---- the question beforehand ---- */

#define CLAIMS "\"claims\":{\"iss\":\"x\",\"submods\":{\"cpu0\":{\"ear.status\":\"affirming\"}}}"

static struct ask ask_dry_run(const char *body)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_RELEASE_DRY_RUN,
                        .target = "/kbs/v0/admin/release/dry-run",
                        .content_type = "application/json",
                        .body = body};
}

static void test_dry_run_claims(void **state)
{
    static const struct {
        const char *body;
        unsigned int status;
        const char *text;
    } rows[] = {
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"kbs\":{\"tee\":\"sample\"}}", 200,
         "\"decision\":\"allow\""},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"kbs\":{\"tee\":\"sample\"}}", 200,
         "\"rung\":{\"name\":\"JOSE-chain\",\"format\":\"jose\",\"locality\":\"token\"}"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"kbs\":{\"tee\":\"sample\"}}", 200,
         "\"kid\":\"a/b/c/v2\""},
        {"{\"path\":\"a/b/c\",\"as\":\"key\",\"version\":1," CLAIMS "}", 200,
         "\"kid\":\"a/b/c/v1\""},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"kbs\":{\"tee\":\"snp\"}}", 200,
         "\"reason\":\"policy: anyOf[0] kbs.tee differs\""},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"kbs\":{\"tee\":\"snp\"}}", 200,
         "\"found\":\"snp\""},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS
         ",\"kbs\":{\"tee\":\"sample\"},\"format\":\"cose\"}",
         200, "\"decision\":\"unsupported\""},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS
         ",\"kbs\":{\"tee\":\"sample\"},\"tee_key\":\"P-384\"}",
         200, "releases a key to P-384"},
        {"{\"path\":\"a/b/s\",\"as\":\"resource\"," CLAIMS ",\"kbs\":{\"tee\":\"sample\"}}", 200,
         "\"rung\":{\"name\":\"secret\",\"format\":\"jwe\",\"locality\":\"worker\"}"},
        {"{\"path\":\"a/b/none\",\"as\":\"key\"," CLAIMS "}", 200, "policy: none"},
        {"{\"path\":\"a/b/none\",\"as\":\"key\"," CLAIMS "}", 200, "\"policy\":null"},
        {"{\"path\":\"a/b/gone\",\"as\":\"key\"," CLAIMS "}", 404, NULL},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"kbs\":{\"key\":{\"path\":\"x\"}}}", 400,
         "supposed"},
        {"{\"path\":\"a/b/c\",\"as\":\"thing\"," CLAIMS "}", 400, "as"},
        {"{\"path\":\"a/b\",\"as\":\"key\"," CLAIMS "}", 400, "path"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"}", 400, "needs one of"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"session\":\"00\"}", 400, "needs one of"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\",\"session\":\"00\"}", 400, "hex"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\",\"session\":\"00112233445566778899aabbccddeeff\"}",
         422, NULL},
        {"{\"path\":\"a/b/c\",\"as\":\"key\",\"token\":\"x.y.z\"}", 422, NULL},
        {"{\"path\":\"a/b/c\",\"as\":\"key\",\"version\":0," CLAIMS "}", 400, "version"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\",\"format\":\"pdf\"," CLAIMS "}", 400, "format"},
        {"{\"path\":\"a/b/c\",\"as\":\"key\"," CLAIMS ",\"more\":1}", 400, "unknown"},
    };
    struct judge *j = *state;

    judge_add_key(j, "a/b/c", 1, POLICY(IS("kbs.tee", "\"snp\"")));
    judge_add_key(j, "a/b/c", 2, ALLOW);
    judge_add_key(j, "a/b/none", 1, NULL);
    judge_add_secret(j, "a/b/s", 1, ALLOW);
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint64_t records = j->records;

        expect_signed(j, ask_dry_run(rows[i].body), rows[i].status, rows[i].text);
        assert_int_equal(j->orders, 0);
        assert_int_equal(j->records, records);
    }
}

/* An attested session that ends in an hour, put into the store behind the judge's back. */
static void put_session(struct judge *j, const uint8_t sid[16], EVP_PKEY *key)
{
    struct kbs_session s = KBS_SESSION_NULL;
    struct kbs_store *store = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    memcpy(s.sid, sid, sizeof(s.sid));
    kbs_random(s.cookie_hash, sizeof(s.cookie_hash));
    s.version = KBS_PROTOCOL_0_4_0;
    s.tee = KBS_TEE_SAMPLE;
    s.hash = KBS_HASH_SHA384;
    s.created_s = kbs_clock_unix_s();
    s.expires_s = s.created_s + 3600;
    (void)snprintf(s.nonce, sizeof(s.nonce), "bm9uY2U=");
    assert_int_equal(kbs_store_open(j->store_path, &store, &err), 0);
    s.state = KBS_SESSION_CHALLENGED;
    assert_int_equal(kbs_store_session_create(store, &s, 10, &err), 0);
    s.state = KBS_SESSION_ATTESTED;
    s.binding = KBS_BINDING_EVIDENCE;
    s.attested_s = s.created_s;
    s.tee_key = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW,
                                     .ec = key_public(key, KBS_CURVE_P256)};
    kbs_digest(KBS_HASH_SHA384, NULL, 0, &s.report_digest);
    kbs_buf_put_str(&s.claims, "{\"iss\":\"" JUDGE_ISSUER "\",\"svn\":3}");
    assert_int_equal(kbs_store_session_attest(store, &s, &err), 0);
    assert_null(kbs_store_close(store));
    kbs_session_deinit(&s);
}

static void expect_dry_run(struct judge *j, const char *member, const char *value, const char *text)
{
    char body[4096];

    (void)snprintf(body, sizeof(body), "{\"path\":\"a/b/c\",\"as\":\"key\",\"%s\":\"%s\"}", member,
                   value);
    expect_signed(j, ask_dry_run(body), 200, text);
}

static void test_dry_run_session(void **state)
{
    static const uint8_t sid[16] = {0x5e, 0x55};
    struct judge *j = *state;
    struct kbs_ec_public sign = key_public(j->sign, KBS_CURVE_P256);
    EVP_PKEY *key = key_new("P-256");
    char hex[33];
    char kid[44];
    char payload[512];
    char token[2048];

    put_session(j, sid, key);
    judge_add_key(j, "a/b/c", 1,
                  POLICY(IS("kbs.tee", "\"sample\"") ",{\"claim\":\"svn\",\"at-least\":3}"));
    kbs_hex_cstr(kbs_span(sid, sizeof(sid)), hex, sizeof(hex));
    expect_dry_run(j, "session", hex, "\"decision\":\"allow\"");
    kbs_jose_thumbprint(&sign, kid);
    (void)snprintf(payload, sizeof(payload),
                   "{\"iss\":\"" JUDGE_ISSUER "\",\"sid\":\"%s\",\"iat\":1,\"exp\":99999999999,"
                   "\"eat_profile\":\"tag:github.com,2024:confidential-containers/Trustee\"}",
                   hex);
    jws_sign(j->sign, kid, "JWT", payload, token, sizeof(token));
    expect_dry_run(j, "token", token, "\"decision\":\"allow\"");
    judge_add_key(j, "a/b/c", 2, POLICY("{\"claim\":\"svn\",\"at-least\":4}"));
    expect_dry_run(j, "session", hex, "\"decision\":\"deny\"");
    assert_int_equal(j->orders, 0);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_matrix, judge_setup_release, judge_teardown),
        cmocka_unit_test_setup_teardown(test_told, judge_setup_release, judge_teardown),
        cmocka_unit_test_setup_teardown(test_told_rego, judge_setup_release, judge_teardown),
        cmocka_unit_test_setup_teardown(test_locality, judge_setup_release, judge_teardown),
        cmocka_unit_test_setup_teardown(test_card_binds_policy, judge_setup_release,
                                        judge_teardown),
        cmocka_unit_test_setup_teardown(test_dry_run_claims, judge_setup_admin, judge_teardown),
        cmocka_unit_test_setup_teardown(test_dry_run_session, judge_setup_admin, judge_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
