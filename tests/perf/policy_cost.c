/*
 * What a decision costs beside one ES256 verification. Subjects: a release policy as a release asks it, our own claims
 * (kbs) included; and policies in Rego as a GET of a resource asks them, from the claims' text to
 * the verdict, kbs-policy and its worker included. Reference: OpenSSL alone verifying one ES256
 * signature over a token of 1 KiB, the key parsed before.
 *
 * Both take turns in windows of 50 ms, 15 pairs; printed are the medians of the pairs' ratios: of CPU time, that of
 * kbs-policy's processes counted in, and of the time that passes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "api/context.h"
#include "base/random.h"
#include "policy/release.h"
#include "tests/policy/policy_process.h"

#define PAIRS 15
#define WINDOW_NS 50000000u
#define TOKEN_BYTES 1024

/* A guest's claims as kbs_ear_build() makes them of SNP evidence, abridged. */
static const char claims[] =
    "{\"eat_profile\":\"tag:github.com,2024:confidential-containers/Trustee\",\"iat\":1,\"exp\":2,"
    "\"iss\":\"kbs\",\"sid\":\"5e55000000000000000000000000000000000000000000000000000000000000\","
    "\"ear.verifier-id\":{\"developer\":\"kbs-hsm\",\"build\":\"1\"},\"submods\":{\"cpu0\":{"
    "\"ear.status\":\"affirming\",\"ear.trustworthiness-vector\":{\"configuration\":3,"
    "\"executables\":3,\"hardware\":2},\"ear.appraisal-policy-id\":\"default\","
    "\"ear.veraison.annotated-evidence\":{\"snp\":{\"measurement\":\"aabbccddeeff00112233445566778899"
    "aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899\",\"policy_debug_allowed\":"
    "false,\"vmpl\":0,\"reported_tcb_bootloader\":9,\"reported_tcb_tee\":0,\"reported_tcb_snp\":23,"
    "\"reported_tcb_microcode\":72,\"chip_id\":\"00112233\",\"platform_smt_enabled\":true},"
    "\"report_data\":\"00\",\"init_data\":\"00\"}}}}";

static const struct subject {
    const char *name;
    const char *release; /* JSON */
    const char *rego;
} subjects[] = {
    {"release policy",
     "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":["
     "{\"claim\":\"kbs.binding_level\",\"at-least\":4},"
     "{\"claim\":\"submods.cpu0.\\\"ear.status\\\"\",\"equals\":\"affirming\"},"
     "{\"claim\":\"kbs.native.tcb.microcode\",\"at-least\":72},"
     "{\"not\":{\"claim\":\"kbs.native.debug\",\"equals\":true}},"
     "{\"claim\":\"submods.cpu0.\\\"ear.veraison.annotated-evidence\\\".snp.measurement\",\"prefix\":"
     "\"aabbcc\"}]}]}",
     NULL},
    {"Rego: allow := true", NULL, "package policy\nallow := true\n"},
    {"Rego: no sample TEE", NULL,
     "package policy\nimport rego.v1\ndefault allow = false\nallow if {\n"
     "  not input.submods.cpu0[\"ear.veraison.annotated-evidence\"].sample\n}\n"},
    {"Rego: all affirming", NULL,
     "package policy\nimport rego.v1\ndefault allow = false\n"
     "allow if {\n  not any_not_affirming\n  count(input.submods) > 0\n}\n"
     "any_not_affirming if {\n  some _, s in input.submods\n  s[\"ear.status\"] != \"affirming\"\n}\n"},
};

struct bench {
    struct kbs_api api; /* as far as decisions use it */
    struct kbs_session session;
    struct kbs_key key;
    struct policy_process process;
    json_t *input;
    json_t *policy;
    const struct subject *subject;
    EVP_PKEY *es256;
    uint8_t token[TOKEN_BYTES];
    uint8_t signature[160];
    size_t signature_len;
};

static void must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "policy_cost: %s failed\n", what);
        exit(1);
    }
}

/* ---- time ---- */

struct spent {
    uint64_t wall_ns;
    uint64_t cpu_ns;
};

/* CPU time of another process, and of its first child (0 where the kernel does not tell). */
static uint64_t cpu_of(pid_t pid, pid_t *ret_child)
{
    unsigned long long ns = 0;
    char path[64];
    int child = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    FILE *f = fopen(path, "r");
    if (f != NULL) {
        must(fscanf(f, "%llu", &ns) == 1, "schedstat");
        (void)fclose(f);
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    f = fopen(path, "r");
    if (f != NULL) {
        child = fscanf(f, "%d", &child) == 1 ? child : 0;
        (void)fclose(f);
    }
    *ret_child = child;
    return ns;
}

static struct spent now(const struct bench *b)
{
    struct timespec t;
    struct spent s = {.wall_ns = kbs_clock_mono_ns()};
    pid_t child = b->process.pid;

    must(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0, "the clock");
    s.cpu_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    while (child > 0) {
        s.cpu_ns += cpu_of(child, &child);
    }
    return s;
}

/* ---- what is measured ---- */

static json_t *root_make(struct bench *b)
{
    const struct kbs_circumstances how = {.session = &b->session,
                                          .key = &b->key,
                                          .locality = KBS_LOCALITY_TRANSPORT,
                                          .plugin = "resource",
                                          .method = "GET",
                                          .target = KBS_SPAN_LIT("/kbs/v0/resource/a/b/c"),
                                          .now_s = 100};

    json_t *kbs = kbs_subject_root(&b->api, &how, b->input);
    must(kbs != NULL, "the kbs claims");
    return kbs;
}

static void ask_release(struct bench *b)
{
    KBS_AUTO_JSON kbs = root_make(b);
    const struct kbs_policy_subject subject = {.input = b->input, .kbs = kbs};
    struct kbs_error err = KBS_ERROR_NONE;

    must(kbs_policy_decide_loaded(b->policy, &subject, &err) == 0, err.detail);
}

static void ask_rego(struct bench *b)
{
    struct kbs_buf data = KBS_BUF(65536);
    KBS_AUTO_JSON kbs = root_make(b);
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_buf_put_str(&data,
                    "{\"plugin\":\"resource\",\"method\":\"GET\",\"query\":{},\"resource-path\":"
                    "[\"a\",\"b\",\"c\"],\"kbs\":");
    must(kbs_json_dump(kbs, &data, &err) == 0, "the data");
    kbs_buf_put_u8(&data, '}');
    must(kbs_rego_decide(&b->api, kbs_span_str(b->subject->rego), KBS_SPAN_LIT(claims),
                         kbs_buf_span(&data), &err) == 0,
         err.detail);
    kbs_buf_deinit(&data);
}

static void ask(struct bench *b)
{
    if (b->subject->rego != NULL) {
        ask_rego(b);
    } else {
        ask_release(b);
    }
}

static void verify(struct bench *b)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    must(ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, b->es256) == 1 &&
             EVP_DigestVerify(ctx, b->signature, b->signature_len, b->token, TOKEN_BYTES) == 1,
         "the signature");
    EVP_MD_CTX_free(ctx);
}

/* ---- the run ---- */

static void bench_init(struct bench *b)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct kbs_error err = KBS_ERROR_NONE;

    *b = (struct bench){.process = POLICY_PROCESS_NULL};
    b->api.policy_fd = -1;
    b->api.policy_answer = KBS_CHANNEL_MSG;
    b->session = KBS_SESSION_NULL;
    b->session.tee = KBS_TEE_SNP;
    b->session.binding = KBS_BINDING_FULL;
    b->session.tee_key.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
    b->session.tee_key.ec.curve = KBS_CURVE_P256;
    (void)snprintf(b->key.path, sizeof(b->key.path), "a/b/c");
    must(kbs_json_parse_object(KBS_SPAN_LIT(claims), "claims", &b->input, &err) == 0, "the claims");
    b->es256 = EVP_EC_gen("P-256");
    kbs_random(b->token, sizeof(b->token));
    b->signature_len = sizeof(b->signature);
    must(b->es256 != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, b->es256) == 1 &&
             EVP_DigestSign(ctx, b->signature, &b->signature_len, b->token, TOKEN_BYTES) == 1,
         "signing");
    EVP_MD_CTX_free(ctx);
    if (policy_process_built()) {
        must(policy_process_start(&b->process), "kbs-policy");
        b->api.policy_fd = b->process.judge;
    }
}

/* What each takes, over a window. */
static void window(struct bench *b, void (*run)(struct bench *), double *ret_cpu, double *ret_wall)
{
    struct spent from = now(b);
    struct spent to = from;
    unsigned int n = 0;

    while (kbs_clock_mono_ns() - from.wall_ns < WINDOW_NS) {
        run(b);
        n++;
    }
    to = now(b);
    *ret_cpu = (double)(to.cpu_ns - from.cpu_ns) / n;
    *ret_wall = (double)(to.wall_ns - from.wall_ns) / n;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, PAIRS, sizeof(*v), by_size);
    return v[PAIRS / 2];
}

static void measure(struct bench *b)
{
    double cpu[PAIRS];
    double wall[PAIRS];
    double es256[PAIRS];
    double ratio[PAIRS];
    double wall_ratio[PAIRS];
    double es256_wall = 0;

    ask(b); /* loads the policy */
    for (int i = 0; i < PAIRS; i++) {
        window(b, verify, &es256[i], &es256_wall);
        window(b, ask, &cpu[i], &wall[i]);
        ratio[i] = cpu[i] / es256[i];
        wall_ratio[i] = wall[i] / es256_wall;
    }
    (void)printf(
        "%-22s %.2f x ES256 in CPU time, %.2f x in time passed   (%.1f us and %.1f us; ES256 %.1f "
        "us)\n",
        b->subject->name, median(ratio), median(wall_ratio), median(cpu) / 1000,
        median(wall) / 1000, median(es256) / 1000);
}

int main(void)
{
    static struct bench b;
    struct kbs_error err = KBS_ERROR_NONE;

    bench_init(&b);
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        b.subject = &subjects[i];
        if (b.subject->rego != NULL && b.api.policy_fd < 0) {
            (void)printf("%-22s skipped: kbs-policy is not built\n", b.subject->name);
            continue;
        }
        if (b.subject->release != NULL) {
            must(kbs_policy_load(kbs_span_str(b.subject->release), &b.policy, &err) == 0,
                 err.detail);
        }
        measure(&b);
    }
    json_decref(b.policy);
    json_decref(b.input);
    EVP_PKEY_free(b.es256);
    kbs_channel_msg_deinit(&b.api.policy_answer);
    kbs_session_deinit(&b.session);
    must(policy_process_end(&b.process), "ending kbs-policy");
    return 0;
}
