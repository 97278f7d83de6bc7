/*
 * The judge as a process: configuration, peers, one request at a time.
 *
 * The problem: peers (kbsd, front, token, ledger, and where they are built kbs-policy and kbs-fetch), of
 * which only two may speak first, and none may be trusted to keep to its turn. The approach: a fixed
 * order at start, then one poll over all of them. kbsd and front may send; token and ledger only ever answer within a request, so anything
 * from them in between, end of file included, is the end of this lane. Any message that the phase
 * does not have is fatal, as the protocol demands.
 *
 * A handler may find that a peer is out of step (kbs_api_handle()): its answer is still sent, then
 * we exit with the status that says what kbsd should do. Nothing is kept in memory that a new judge
 * would miss.
 */
#include "judge/judge.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/io.h"
#include "base/log.h"
#include "base/secret.h"
#include "channel/channel.h"
#include "confine/confine.h"
#include "judge/issuers.h"
#include "judge/snp.h"

/* A loop step or message handler: nothing to report, go on. Outside of enum kbs_exit's values. */
#define JUDGE_GO_ON (-1)

/* judge_configure(): there was a store to be migrated, or a configuration to be looked at, and
 * nothing else to do. */
#define JUDGE_DONE 1

struct judge {
    int control;
    int front;
    int token;
    int ledger;
    int policy;                        /* -1: no kbs-policy */
    int fetch;                         /* -1: no kbs-fetch, or the api has it */
    struct kbs_channel_msg config_msg; /* what `config` borrows */
    struct kbs_wire_config_judge config;
    struct kbs_channel_msg msg;
    struct kbs_store *store;
    struct kbs_judge_snp *snp; /* NULL: not configured */
    struct kbs_verifier verifiers[KBS_TEE_COUNT];
    struct kbs_issuers *issuers; /* NULL: none is configured */
    struct kbs_api *api;
};

/* One ATTACH before GO. Takes the descriptor of j->msg. */
static int judge_attach(struct judge *j, struct kbs_error *err)
{
    struct kbs_wire_attach attach;
    int *slot = NULL;

    if (kbs_channel_msg_decode(&j->msg, KBS_WIRE_ATTACH, &attach, err) != 0) {
        return -1;
    }
    switch (attach.what) {
    case KBS_ATTACH_FRONT:
        slot = &j->front;
        break;
    case KBS_ATTACH_TOKEN:
        slot = &j->token;
        break;
    case KBS_ATTACH_AUDIT:
        slot = &j->ledger;
        break;
    case KBS_ATTACH_POLICY:
        slot = &j->policy;
        break;
    case KBS_ATTACH_FETCH:
        slot = &j->fetch;
        break;
    default:
        break;
    }
    if (slot == NULL || *slot >= 0) {
        return kbs_fail(err, KBS_INPUT, "an ATTACH that a judge does not take, or takes only once");
    }
    *slot = j->msg.fd;
    j->msg.fd = -1;
    return 0;
}

/* The first message: what kind of life this will be. */
static int judge_begin(struct judge *j, struct kbs_error *err)
{
    int rc =
        kbs_channel_recv(j->control, &j->config_msg, kbs_deadline_in_ms(KBS_LIMIT_START_MS), err);

    return rc == KBS_CHANNEL_EOF ? kbs_fail(err, KBS_INTERNAL, "kbsd is gone") : rc;
}

/* MIGRATE: the store's schema is brought up to date, before there is a network or another judge. */
static int judge_migrate(const struct judge *j, struct kbs_error *err)
{
    struct kbs_wire_migrate migrate;
    char path[4096];

    if (kbs_channel_msg_decode(&j->config_msg, KBS_WIRE_MIGRATE, &migrate, err) != 0) {
        return -1;
    }
    if (!kbs_span_to_cstr(migrate.store_path, path, sizeof(path))) {
        return kbs_fail(err, KBS_INPUT, "the store's path is too long");
    }
    return kbs_store_migrate(path, err);
}

/* CONFIG, three to five ATTACHes, GO. */
static int judge_configure(struct judge *j, struct kbs_error *err)
{
    uint64_t deadline = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    int rc = judge_begin(j, err);

    if (rc == 0 && j->config_msg.frame.type == KBS_WIRE_MIGRATE) {
        return judge_migrate(j, err) != 0 ? -1 : JUDGE_DONE;
    }
    if (rc == 0) {
        rc = kbs_channel_msg_decode(&j->config_msg, KBS_WIRE_CONFIG_JUDGE, &j->config, err);
    }
    if (rc == 0 && j->config.check != 0) {
        return kbs_judge_snp_new(&j->config, &j->snp, err) != 0 ? -1 : JUDGE_DONE;
    }
    while (rc == 0) {
        rc = kbs_channel_recv(j->control, &j->msg, deadline, err);
        if (rc == 0 && j->msg.frame.type == KBS_WIRE_GO) {
            break;
        }
        if (rc == 0) {
            rc = judge_attach(j, err);
        }
    }
    if (rc == KBS_CHANNEL_EOF) {
        return kbs_fail(err, KBS_INTERNAL, "kbsd is gone");
    }
    if (rc == 0 && (j->front < 0 || j->token < 0 || j->ledger < 0)) {
        return kbs_fail(err, KBS_INPUT, "GO without front, token and audit");
    }
    return rc;
}

/*
 * The one judge with secrets of its own: an admin lane that wraps keys for administrators who send them in plain
 * text (api/id_key.c). Never in production, so it may be that the heap cannot be locked.
 */
static int judge_open_heap(const struct kbs_api_setup *setup, struct kbs_error *err)
{
    bool wraps = setup->duty == KBS_DUTY_ADMIN && !setup->production && setup->id_key.len != 0;

    return !wraps || kbs_secret_heap_init(err) >= 0 ? 0 : -1;
}

static int judge_open(struct judge *j, struct kbs_error *err)
{
    struct kbs_api_setup setup = {
        .duty = j->config.duty < KBS_DUTY_COUNT ? (enum kbs_duty)j->config.duty : KBS_DUTY_NONE,
        .production = j->config.production != 0,
        .allow_sample = j->config.allow_sample != 0,
        .rsa1_5 = j->config.rsa1_5 != 0,
        .sessions = j->config.sessions,
        .resource_bytes = j->config.resource_bytes,
        .svsm = (j->config.snp_allow & KBS_WIRE_SNP_ALLOW_SVSM_BINDING) != 0,
        .verifiers = j->verifiers,
        .resource_policy = j->config.resource_policy,
        .nek_key = j->config.nek_key,
        .id_key = j->config.id_key,
        .issuer = j->config.issuer,
        .session_s = j->config.session_s,
        .token_s = j->config.token_s,
        .admin_keys = &j->config.admin_keys,
        .admin_mode = j->config.admin_mode < KBS_ADMIN_MODE_COUNT
                          ? (enum kbs_admin_mode)j->config.admin_mode
                          : KBS_ADMIN_SIGNED,
        .identity_providers = &j->config.identity_providers,
        .acls = &j->config.acls,
        .approvals = j->config.approvals,
        .approvals_for = j->config.approvals_for,
        .token_fd = j->token,
        .ledger_fd = j->ledger,
        .policy_fd = j->policy,
        .delegate = (enum kbs_delegate)j->config.delegate, /* whatever it is: the api looks */
        .delegate_endpoint = j->config.delegate_endpoint,
        .delegate_issuer = j->config.delegate_issuer,
        .delegate_tees = &j->config.delegate_tees,
        .delegate_policies = &j->config.delegate_policies,
    };
    char path[4096];

    if (j->config.production != 0 && setup.allow_sample) {
        return kbs_fail(err, KBS_INPUT, "the production profile does not take sample evidence");
    }
    if (j->config.store_path.len == 0 ||
        !kbs_span_to_cstr(j->config.store_path, path, sizeof(path))) {
        return kbs_fail(err, KBS_INPUT, "the store's path is empty or too long");
    }
    if (kbs_judge_snp_new(&j->config, &j->snp, err) != 0 ||
        kbs_judge_issuers_new(&j->config, &j->issuers, err) != 0 ||
        kbs_store_open(path, &j->store, err) != 0) {
        return -1;
    }
    if (j->snp != NULL) {
        j->verifiers[KBS_TEE_SNP] = kbs_judge_snp_verifier(j->snp);
    }
    setup.store = j->store;
    setup.fetch_fd = j->fetch;
    j->fetch = -1;
    setup.issuers = j->issuers;
    return judge_open_heap(&setup, err) == 0 ? kbs_api_new(&setup, &j->api, err) : -1;
}

/*
 * The store's folder is all that is left of the file system: SQLite makes files beside the
 * store.
 */
static int judge_confine(const struct judge *j, struct kbs_error *err)
{
    char folder[4096];
    const char *const folders[] = {folder};
    const struct kbs_confine_plan plan = {.role = KBS_CONFINE_JUDGE,
                                          .production = j->config.production != 0,
                                          .folders = folders,
                                          .n_folders = 1};

    if (!kbs_span_to_cstr(j->config.store_path, folder, sizeof(folder))) {
        return kbs_fail(err, KBS_INPUT, "the store's path is too long");
    }
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        memcpy(folder, ".", sizeof("."));
    } else {
        slash[slash == folder ? 1 : 0] = '\0';
    }
    return kbs_confine(&plan, err);
}

static int judge_ready(struct judge *j, struct kbs_error *err)
{
    struct kbs_wire_ready ready = {.detail = kbs_span_str(kbs_api_describe(j->api)),
                                   .pid = (uint32_t)getpid()};

    return kbs_channel_send(j->control, KBS_WIRE_READY, 0, &ready, -1,
                            kbs_deadline_in_ms(KBS_LIMIT_START_MS), err);
}

/* A message of the front: one request, answered. */
static int judge_request(struct judge *j)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_request request;
    struct kbs_api_reply reply;
    enum kbs_exit status = KBS_EXIT_OK;
    uint64_t id = 0;
    int rc =
        kbs_channel_recv_turn(j->front, &j->msg, kbs_deadline_in_ms(KBS_LIMIT_REQUEST_MS), &err);

    if (rc == KBS_CHANNEL_EOF) { /* it was told to let go of this lane, is drained, or has died */
        kbs_log(KBS_LOG_INFO, "front_gone", "lane=%u", (unsigned int)j->config.lane);
        kbs_api_leave(j->api);
        return KBS_EXIT_OK;
    }
    if (rc == 0) {
        rc = kbs_channel_msg_decode(&j->msg, KBS_WIRE_REQUEST, &request, &err);
    }
    if (rc == 0) {
        id = j->msg.frame.id;
        status = kbs_api_handle(j->api, &request, j->msg.frame.deadline_ns, &reply);
        if (status != KBS_EXIT_OK) {
            (void)shutdown(j->front,
                           SHUT_RD); /* the last answer: the front sees it takes no more */
        }
        const void *msg = reply.type == KBS_WIRE_FETCH ? (const void *)&reply.fetch
                                                       : (const void *)&reply.response;
        rc = kbs_channel_send(j->front, reply.type, id, msg, -1,
                              kbs_deadline_in_ms(KBS_LIMIT_REQUEST_MS), &err);
        kbs_buf_deinit(
            &j->msg.body); /* kept, it would be overwritten at its largest size each time */
        kbs_api_forget(j->api);
    }
    if (rc != 0) {
        kbs_log_error("front_channel", &err);
        return KBS_EXIT_FAILURE;
    }
    return status == KBS_EXIT_OK ? JUDGE_GO_ON : (int)status;
}

static bool readable_now(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0 && (p.revents & POLLIN) != 0;
}

/* A message of kbsd while running, other than DRAIN: the channel to a kbs-fetch that was replaced. */
static int judge_reattach(struct judge *j, struct kbs_error *err)
{
    struct kbs_wire_attach attach;

    if (kbs_channel_msg_decode(&j->msg, KBS_WIRE_ATTACH, &attach, err) != 0) {
        return -1;
    }
    if (attach.what != KBS_ATTACH_FETCH) {
        return kbs_fail(err, KBS_INPUT, "only kbs-fetch is attached to a running judge");
    }
    kbs_api_attach_fetch(j->api, j->msg.fd);
    j->msg.fd = -1;
    return 0;
}

/*
 * A message of kbsd: while running, DRAIN, or another kbs-fetch. A request that has already been sent to
 * us is in flight.
 */
static int judge_control(struct judge *j)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = kbs_channel_recv(j->control, &j->msg, kbs_deadline_in_ms(KBS_LIMIT_DRAIN_MS), &err);

    if (rc == KBS_CHANNEL_EOF) {
        return KBS_EXIT_OK;
    }
    if (rc == 0 && j->msg.frame.type != KBS_WIRE_DRAIN) {
        rc = judge_reattach(j, &err);
        if (rc == 0) {
            return JUDGE_GO_ON;
        }
    }
    if (rc != 0) {
        kbs_log_error("control_channel", &err);
        return KBS_EXIT_FAILURE;
    }
    if (readable_now(j->front)) {
        rc = judge_request(j);
        if (rc != JUDGE_GO_ON) {
            return rc;
        }
    }
    kbs_api_leave(j->api);
    return KBS_EXIT_OK;
}

static int judge_step(struct judge *j)
{
    struct pollfd fds[] = {{.fd = j->control, .events = POLLIN},
                           {.fd = j->front, .events = POLLIN},
                           {.fd = j->token, .events = POLLIN},
                           {.fd = j->ledger, .events = POLLIN},
                           {.fd = j->policy, .events = POLLIN}, /* -1: passed over */
                           {.fd = kbs_api_fetch_fd(j->api), .events = POLLIN}};

    int ready = poll(fds, sizeof(fds) / sizeof(fds[0]), kbs_api_wait_ms(j->api));
    if (ready < 0) {
        return JUDGE_GO_ON; /* EINTR: we have no signal handlers, but a debugger may stop us */
    }
    if (ready == 0) {
        enum kbs_exit status = kbs_api_tick(j->api);

        return status == KBS_EXIT_OK ? JUDGE_GO_ON : (int)status;
    }
    if (fds[0].revents != 0) {
        return judge_control(j);
    }
    if (fds[2].revents != 0) {
        kbs_log(KBS_LOG_ERROR, "token_gone", "lane=%u", (unsigned int)j->config.lane);
        return KBS_EXIT_STUCK;
    }
    if (fds[3].revents != 0) {
        kbs_log(KBS_LOG_ERROR, "ledger_gone", "lane=%u", (unsigned int)j->config.lane);
        return KBS_EXIT_FAILURE;
    }
    if (fds[4].revents != 0) {
        kbs_log(KBS_LOG_ERROR, "policy_gone", "lane=%u", (unsigned int)j->config.lane);
        return KBS_EXIT_FAILURE;
    }
    if (fds[5].revents != 0) { /* it ended, or spoke unasked: kbsd brings another one */
        kbs_log(KBS_LOG_WARN, "fetch_gone", "lane=%u", (unsigned int)j->config.lane);
        kbs_api_attach_fetch(j->api, -1);
    }
    return fds[1].revents != 0 ? judge_request(j) : JUDGE_GO_ON;
}

static enum kbs_exit judge_main(struct judge *j)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int status = JUDGE_GO_ON;
    int rc = judge_configure(j, &err);

    if (rc == JUDGE_DONE) {
        return KBS_EXIT_OK;
    }
    if (rc != 0 || judge_open(j, &err) != 0 || judge_confine(j, &err) != 0 ||
        judge_ready(j, &err) != 0) {
        kbs_log_error("start_failed", &err);
        return kbs_exit_of(&err);
    }
    while (status == JUDGE_GO_ON) {
        status = judge_step(j);
    }
    return (enum kbs_exit)status;
}

enum kbs_exit kbs_judge_run(int control_fd)
{
    struct judge j = {.control = control_fd,
                      .front = -1,
                      .token = -1,
                      .ledger = -1,
                      .policy = -1,
                      .fetch = -1,
                      .config_msg = KBS_CHANNEL_MSG,
                      .msg = KBS_CHANNEL_MSG};
    enum kbs_exit status = judge_main(&j);

    (void)kbs_api_free(j.api);
    (void)kbs_store_close(j.store);
    kbs_judge_snp_free(j.snp);
    (void)kbs_issuers_free(j.issuers);
    kbs_channel_msg_deinit(&j.msg);
    kbs_channel_msg_deinit(&j.config_msg);
    kbs_io_close(&j.front);
    kbs_io_close(&j.token);
    kbs_io_close(&j.ledger);
    kbs_io_close(&j.fetch);
    return status;
}
