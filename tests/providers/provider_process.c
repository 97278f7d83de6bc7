/*
 * provider_process CASE URI: a program that has loaded the provider from openssl.cnf, and does what programs do: it
 * forks, has threads, loses its worker, ignores its children, has no standard input, exits without freeing anything.
 * Exits 0 if all went as it should; the leak checker has a say in that too.
 */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(x)                                                   \
    do {                                                          \
        if (!(x)) {                                               \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #x); \
            ERR_print_errors_fp(stderr);                          \
            _exit(1);                                             \
        }                                                         \
    } while (0)

static EVP_PKEY *load(const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);
    OSSL_STORE_INFO *info;
    EVP_PKEY *key;

    MUST(store != NULL);
    info = OSSL_STORE_load(store);
    MUST(info != NULL && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY);
    key = OSSL_STORE_INFO_get1_PKEY(info);
    MUST(key != NULL && OSSL_STORE_eof(store) == 1);
    OSSL_STORE_INFO_free(info);
    MUST(OSSL_STORE_close(store) == 1);
    return key;
}

static bool try_sign(EVP_PKEY *key)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_MD_CTX *verify = EVP_MD_CTX_new();
    unsigned char sig[1024];
    size_t len = sizeof(sig);
    bool ok = EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(md, sig, &len, (const unsigned char *)"text", 4) == 1 &&
              EVP_DigestVerifyInit(verify, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestVerify(verify, sig, len, (const unsigned char *)"text", 4) == 1;

    EVP_MD_CTX_free(md);
    EVP_MD_CTX_free(verify);
    return ok;
}

/* The children of this process, other than zombies. */
static size_t children(pid_t *ret_last)
{
    char path[64];
    char pids[4096];
    char *save = NULL;
    size_t n = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    f = fopen(path, "re");
    MUST(f != NULL);
    pids[fread(pids, 1, sizeof(pids) - 1, f)] = '\0';
    (void)fclose(f);
    for (char *p = strtok_r(pids, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save)) {
        *ret_last = (pid_t)strtol(p, NULL, 10);
        n++;
    }
    return n;
}

static size_t descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    MUST(d != NULL);
    while (readdir(d) != NULL) {
        n++;
    }
    (void)closedir(d);
    return n;
}

/* Loads and frees: neither process nor descriptor stays. */
static void case_traces(const char *uri)
{
    size_t before;
    pid_t last;

    EVP_PKEY_free(load(uri));
    before = descriptors();
    for (int i = 0; i < 3; i++) {
        EVP_PKEY *key = load(uri);

        MUST(children(&last) == 1);
        MUST(try_sign(key));
        EVP_PKEY_free(key);
        MUST(children(&last) == 0);
    }
    MUST(descriptors() == before);
}

/* Parent and child sign by turns and at a time; each has a worker, and the child's ends with its key. */
static void case_fork(const char *uri)
{
    EVP_PKEY *key = load(uri);
    pid_t last;
    pid_t pid;
    int status;

    MUST(try_sign(key));
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < 20; i++) {
            MUST(try_sign(key));
        }
        MUST(children(&last) == 1);
        EVP_PKEY_free(key);
        MUST(children(&last) == 0);
        _exit(0);
    }
    for (int i = 0; i < 20; i++) {
        MUST(try_sign(key));
    }
    MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    MUST(children(&last) == 1);
    MUST(try_sign(key));
    EVP_PKEY_free(key);
    MUST(children(&last) == 0);
}

/* A child that only frees, or only exits, takes nothing from its parent. */
static void case_idle_children(const char *uri)
{
    EVP_PKEY *key = load(uri);

    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        int status;

        MUST(pid >= 0);
        if (pid == 0) {
            if (i == 0) {
                EVP_PKEY_free(key);
            }
            exit(0);
        }
        MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        MUST(try_sign(key));
    }
    EVP_PKEY_free(key);
}

/* The worker ends with its key although a child still has copies of its channels. */
static void case_lasting_child(const char *uri)
{
    EVP_PKEY *key = load(uri);
    int ends[2];
    pid_t last;
    pid_t pid;

    MUST(pipe(ends) == 0);
    pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        char byte;

        (void)close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    MUST(children(&last) == 2);
    EVP_PKEY_free(key);
    MUST(children(&last) == 1 && last == pid);
    (void)close(ends[0]);
    (void)close(ends[1]);
    MUST(waitpid(pid, NULL, 0) == pid);
}

/* The worker is killed between two signatures: another is started. */
static void case_killed(const char *uri)
{
    EVP_PKEY *key = load(uri);

    for (int i = 0; i < 3; i++) {
        siginfo_t info;
        pid_t worker = 0;

        MUST(try_sign(key));
        MUST(children(&worker) == 1);
        MUST(kill(worker, SIGKILL) == 0);
        MUST(waitid(P_PID, (id_t)worker, &info, WEXITED | WNOWAIT) == 0);
    }
    EVP_PKEY_free(key);
}

static void *sign_many(void *arg)
{
    for (int i = 0; i < 20; i++) {
        MUST(try_sign(arg));
    }
    return NULL;
}

static void case_threads(const char *uri)
{
    EVP_PKEY *key = load(uri);
    pthread_t threads[8];

    for (int i = 0; i < 8; i++) {
        MUST(pthread_create(&threads[i], NULL, sign_many, key) == 0);
    }
    for (int i = 0; i < 8; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
    }
    EVP_PKEY_free(key);
}

static void case_no_standard_descriptors(const char *uri)
{
    EVP_PKEY *key;

    for (int fd = 0; fd < 4; fd++) {
        if (fd != STDERR_FILENO) {
            (void)close(fd);
        }
    }
    key = load(uri);
    MUST(try_sign(key));
    EVP_PKEY_free(key);
}

static void case_children_ignored(const char *uri)
{
    EVP_PKEY *key;
    pid_t last;

    MUST(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    key = load(uri);
    MUST(try_sign(key));
    EVP_PKEY_free(key);
    MUST(children(&last) == 0);
}

/* A Ctrl-C at a terminal is for the program. */
static void case_interrupted(const char *uri)
{
    EVP_PKEY *key = load(uri);

    MUST(signal(SIGINT, SIG_IGN) != SIG_ERR);
    MUST(kill(0, SIGINT) == 0);
    MUST(try_sign(key));
    EVP_PKEY_free(key);
}

/* A wrong PIN is told to the token once, however often the program asks. */
static void case_wrong_pin(const char *uri)
{
    OSSL_STORE_CTX *store = OSSL_STORE_open(uri, NULL, NULL, NULL, NULL);

    MUST(store != NULL && OSSL_STORE_load(store) == NULL);
    MUST(OSSL_STORE_eof(store) == 1);
    MUST(OSSL_STORE_close(store) == 1);
    ERR_clear_error();
}

/* Left to the end of the process, where the leak checker sees it. */
static EVP_PKEY *volatile left;

static void case_exit(const char *uri)
{
    left = load(uri);
    MUST(try_sign(left));
}

static const struct {
    const char *name;
    void (*run)(const char *uri);
} cases[] = {{"traces", case_traces},
             {"fork", case_fork},
             {"idle-children", case_idle_children},
             {"lasting-child", case_lasting_child},
             {"killed", case_killed},
             {"threads", case_threads},
             {"no-standard-descriptors", case_no_standard_descriptors},
             {"children-ignored", case_children_ignored},
             {"interrupted", case_interrupted},
             {"wrong-pin", case_wrong_pin},
             {"exit", case_exit}};

int main(int argc, char **argv)
{
    /* Of kbs-token, which is not dumpable: the leak checker cannot look at it. Ours has been read. */
    MUST(setenv("ASAN_OPTIONS", "detect_leaks=0", 1) == 0);
    MUST(argc == 3);
    MUST(OSSL_PROVIDER_available(NULL, "kbs") == 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run(argv[2]);
            MUST(ERR_peek_error() == 0);
            return 0;
        }
    }
    return 2;
}
