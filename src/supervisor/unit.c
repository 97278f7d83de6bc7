/*
 * Starting units: who gets which configuration and which descriptors
 * (docs/protocol/role-channels.md). Every descriptor is opened afresh for each start, because a
 * duplicate would share its file offset with what the predecessor has read. kbsd opens the PIN file
 * and the TLS key but never reads them.
 */
#include "supervisor/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/encoding.h"
#include "base/io.h"
#include "base/log.h"
#include "channel/channel.h"
#include "supervisor/fetch.h"

#define SEND_MS 5000

void kbsd_unit_init(struct kbsd_unit *u, enum kbsd_unit_kind kind, enum kbs_listener listener,
                    uint32_t index)
{
    static const enum kbsd_role first[] = {
        [KBSD_UNIT_AUDIT] = KBSD_AUDIT, [KBSD_UNIT_FRONT] = KBSD_FRONT,
        [KBSD_UNIT_LANE] = KBSD_JUDGE,  [KBSD_UNIT_FETCH] = KBSD_FETCH,
        [KBSD_UNIT_SIGN] = KBSD_TOKEN,  [KBSD_UNIT_MIGRATION] = KBSD_MIGRATE};
    const char *side = listener == KBS_LISTENER_ADMIN ? "admin" : "guest";
    *u = (struct kbsd_unit){.kind = kind, .listener = listener, .index = index, .front_end = -1};
    u->n_children = kind == KBSD_UNIT_LANE ? 2 : 1;
    kbsd_child_init(&u->children[0], first[kind]);
    kbsd_child_init(&u->children[1], KBSD_TOKEN);
    kbsd_child_init(&u->children[2], KBSD_POLICY);
    for (size_t i = 0; i < KBS_LIMIT_TLS_SIGNERS; i++) {
        u->sign_ends[i] = -1;
    }
    if (kind == KBSD_UNIT_FRONT || kind == KBSD_UNIT_LANE || kind == KBSD_UNIT_SIGN) {
        snprintf(u->name, sizeof(u->name), "%s-%s-%u",
                 kind == KBSD_UNIT_FRONT  ? "front"
                 : kind == KBSD_UNIT_LANE ? "lane"
                                          : "sign",
                 side, (unsigned int)index);
    } else {
        snprintf(u->name, sizeof(u->name), "%s",
                 kind == KBSD_UNIT_AUDIT   ? "audit"
                 : kind == KBSD_UNIT_FETCH ? "fetch"
                                           : "migration");
    }
}

void kbsd_unit_add_policy(struct kbsd_unit *u)
{
    u->n_children = 3;
}

struct kbsd_child *kbsd_unit_token(struct kbsd_unit *u)
{
    return u->kind == KBSD_UNIT_LANE   ? &u->children[1]
           : u->kind == KBSD_UNIT_SIGN ? &u->children[0]
                                       : NULL;
}

void kbsd_unit_close_ends(struct kbsd_unit *u)
{
    kbs_io_close(&u->front_end);
    for (size_t i = 0; i < KBS_LIMIT_TLS_SIGNERS; i++) {
        kbs_io_close(&u->sign_ends[i]);
    }
}

bool kbsd_unit_all(const struct kbsd_unit *u, enum kbsd_state state)
{
    bool all = true;
    for (size_t i = 0; i < u->n_children; i++) {
        all = all && u->children[i].state == state;
    }
    return all;
}

static int tell(const struct kbsd_child *c, enum kbs_wire_type type, const void *msg, int fd,
                struct kbs_error *err)
{
    return kbs_channel_send(c->control, type, 0, msg, fd, kbs_deadline_in_ms(SEND_MS), err);
}

static int attach(const struct kbsd_child *c, enum kbs_attach what, uint32_t index, int fd,
                  struct kbs_error *err)
{
    struct kbs_wire_attach msg = {.what = (uint8_t)what, .index = index};
    return tell(c, KBS_WIRE_ATTACH, &msg, fd, err);
}

/* Opens, hands over, closes. */
static int attach_file(const struct kbsd_child *c, enum kbs_attach what, const char *path,
                       int flags, struct kbs_error *err)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "%s: %s", path, strerror(errno));
    }
    int rc = attach(c, what, 0, fd, err);
    kbs_io_close(&fd);
    return rc;
}

/*
 * The PIN file, and which one it was: a PIN that is refused is remembered by that. A credential is
 * another file at every start, so nothing of it is kept: once one was refused, all are until a person
 * removes token.lock.
 */
static int attach_pin(struct kbsd_unit *u, const struct kbsd_child *token,
                      const struct kbs_config_token *config, struct kbs_error *err)
{
    const char *path = config->pin_file;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int rc = -1;
    if (fd < 0 || fstat(fd, &u->pin) != 0) {
        (void)kbs_fail_errno(err, KBS_INTERNAL, "%s: %s", path, strerror(errno));
    } else {
        rc = attach(token, KBS_ATTACH_PIN, 0, fd, err);
    }
    if (config->pin_credential) {
        memset(&u->pin, 0, sizeof(u->pin));
    }
    kbs_io_close(&fd);
    return rc;
}

static int start(struct kbsd_unit *u, struct kbsd_child *c, const struct kbsd_start *with,
                 struct kbs_error *err)
{
    if (kbsd_child_start(c, with->source, err) != 0) {
        return -1;
    }
    kbs_log(KBS_LOG_INFO, "role-started", "unit=%s name=%s child=%ld", u->name,
            kbsd_role_name(c->role), (long)c->pid);
    return 0;
}

static int start_migration(struct kbsd_unit *u, const struct kbsd_start *with,
                           struct kbs_error *err)
{
    const struct kbs_wire_migrate msg = {.store_path = kbs_span_str(with->config->store_path)};
    return start(u, &u->children[0], with, err) != 0
               ? -1
               : tell(&u->children[0], KBS_WIRE_MIGRATE, &msg, -1, err);
}

static int start_audit(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    struct kbsd_child *c = &u->children[0];
    struct kbs_wire_config_audit config = {.production = with->config->production};
    if (start(u, c, with, err) != 0 || tell(c, KBS_WIRE_CONFIG_AUDIT, &config, -1, err) != 0 ||
        attach_file(c, KBS_ATTACH_LEDGER, with->config->audit_path, O_RDWR | O_APPEND | O_CREAT,
                    err) != 0) {
        return -1;
    }
    return tell(c, KBS_WIRE_GO, NULL, -1, err);
}

static int configure_front(const struct kbsd_unit *u, const struct kbsd_start *with,
                           struct kbs_error *err)
{
    bool guest = u->listener == KBS_LISTENER_GUEST;
    const struct kbs_wire_config_front config = {.listener = (uint8_t)u->listener,
                                                 .production = with->config->production,
                                                 .lanes = guest ? with->config->token.lanes : 1,
                                                 .max_connections = with->config->max_connections,
                                                 .auth_per_s = with->config->auth_per_s,
                                                 .body_bytes = with->config->body_bytes};
    return tell(&u->children[0], KBS_WIRE_CONFIG_FRONT, &config, -1, err);
}

static int start_front(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    struct kbsd_child *c = &u->children[0];
    const struct kbs_config_server *server =
        u->listener == KBS_LISTENER_GUEST ? &with->config->guest : &with->config->admin;
    /* A pair of files is read at every start: a renewed one must not be torn apart. */
    if ((server->key_uri == NULL && kbsd_tls_read(with->tls, server, err) != 0) ||
        start(u, c, with, err) != 0 || configure_front(u, with, err) != 0 ||
        (server->n_sockets > 0 && kbsd_tls_tell(with->tls, server, c->control, err) != 0)) {
        return -1;
    }
    for (size_t i = 0; i < with->listeners->n; i++) {
        const struct kbsd_listener *l = &with->listeners->v[i];
        if (attach(c, l->tls ? KBS_ATTACH_LISTENER_TLS : KBS_ATTACH_LISTENER_PLAIN, (uint32_t)i,
                   l->fd, err) != 0) {
            return -1;
        }
    }
    return tell(c, KBS_WIRE_GO, NULL, -1, err);
}

/* What only the admin lane's judge is told: a guest lane is not trusted with knowing it. */
struct admin_lists {
    struct kbs_buf keys;
    struct kbs_buf providers;
    struct kbs_buf acls;
};

static void put_admin_lists(struct admin_lists *lists, const struct kbs_config *c,
                            struct kbs_wire_config_judge *ret)
{
    struct kbs_wire_list_builder keys = {.buf = &lists->keys};
    struct kbs_wire_list_builder providers = {.buf = &lists->providers};
    struct kbs_wire_list_builder acls = {.buf = &lists->acls};
    for (size_t i = 0; i < c->admin_key_paths.n; i++) {
        kbs_wire_list_add(&keys, c->admin_keys[i]);
    }
    for (size_t i = 0; i < c->n_providers; i++) {
        kbs_wire_list_add(&providers, kbs_span_str(c->providers[i].issuer));
        kbs_wire_list_add(&providers, kbs_span_str(c->providers[i].audience));
        kbs_wire_list_add(&providers, c->providers[i].keys);
    }
    for (size_t i = 0; i < c->n_acls; i++) {
        kbs_wire_list_add(&acls, kbs_span_str(c->acls[i].role));
        kbs_wire_list_add(&acls, kbs_span_str(c->acls[i].allowed_endpoints));
    }
    ret->admin_mode = (uint8_t)c->admin_mode;
    ret->admin_keys = kbs_wire_list_done(&keys);
    ret->identity_providers = kbs_wire_list_done(&providers);
    ret->acls = kbs_wire_list_done(&acls);
    ret->approvals = c->approvals;
    ret->approvals_for = (uint8_t)((c->approvals_policy ? KBS_WIRE_APPROVALS_POLICY : 0) |
                                   (c->approvals_destroy ? KBS_WIRE_APPROVALS_DESTROY : 0));
}

/* [attest.snp], for those who verify evidence. */
#define SNP_NAMES 5
struct snp_lists {
    struct kbs_buf files;
    struct kbs_buf products;
    struct kbs_buf minimum;
    struct kbs_buf chips;
    struct kbs_buf providers;
    struct kbs_buf names[SNP_NAMES]; /* of signers and bits */
};

static void put_strings(const struct kbs_config_strings *from, struct kbs_wire_list_builder *to)
{
    for (size_t i = 0; i < from->n; i++) {
        kbs_wire_list_add(to, kbs_span_str(from->v[i]));
    }
}

static struct kbs_wire_list put_names(struct kbs_buf *buf, const struct kbs_config_strings *from)
{
    struct kbs_wire_list_builder list = {.buf = buf};

    kbs_buf_init(buf, KBS_LIMIT_WIRE_BODY_BYTES);
    put_strings(from, &list);
    return kbs_wire_list_done(&list);
}

static bool names_failed(const struct snp_lists *lists)
{
    bool failed = false;
    for (size_t i = 0; i < SNP_NAMES; i++) {
        failed = failed || lists->names[i].failed;
    }
    return failed;
}

static void put_snp_minimum(const struct kbs_config_snp *snp, struct kbs_wire_list_builder *to)
{
    for (size_t i = 0; i < snp->n_minimum; i++) {
        const struct kbs_config_snp_minimum *m = &snp->minimum[i];
        uint8_t bytes[KBS_WIRE_SNP_MINIMUM_BYTES] = {
            [KBS_WIRE_SNP_FMC] = (uint8_t)m->fmc,
            [KBS_WIRE_SNP_BOOTLOADER] = (uint8_t)m->bootloader,
            [KBS_WIRE_SNP_TEE] = (uint8_t)m->tee,
            [KBS_WIRE_SNP_SNP] = (uint8_t)m->snp,
            [KBS_WIRE_SNP_MICROCODE] = (uint8_t)m->microcode,
        };
        if (m->firmware != NULL) {
            (void)kbs_config_snp_firmware(m->firmware, bytes + KBS_WIRE_SNP_FIRMWARE);
        }
        kbs_wire_list_add(to, kbs_span_str(m->product));
        kbs_wire_list_add(to, kbs_span(bytes, sizeof(bytes)));
    }
}

/* Of Turin's chips the configuration may have the 8 bytes that are not zero. */
static int put_snp_chips(const struct kbs_config_snp *snp, struct kbs_wire_list_builder *to,
                         struct kbs_error *err)
{
    for (size_t i = 0; i < snp->chip_ids.n; i++) {
        struct kbs_span hex = kbs_span_str(snp->chip_ids.v[i]);
        uint8_t id[64] = {0};
        if (hex.len / 2 > sizeof(id) || kbs_hex_get_exact(id, hex.len / 2, hex) != 0) {
            return kbs_fail(err, KBS_INPUT, "attest.snp.chip_ids: not hex");
        }
        kbs_wire_list_add(to, kbs_span(id, sizeof(id)));
    }
    return 0;
}

static int put_snp(struct snp_lists *lists, const struct kbs_config_snp *snp, uint8_t root[32],
                   struct kbs_wire_config_judge *ret, struct kbs_error *err)
{
    struct kbs_wire_list_builder files = {.buf = &lists->files};
    struct kbs_wire_list_builder products = {.buf = &lists->products};
    struct kbs_wire_list_builder minimum = {.buf = &lists->minimum};
    struct kbs_wire_list_builder chips = {.buf = &lists->chips};
    struct kbs_wire_list_builder providers = {.buf = &lists->providers};
    for (size_t i = 0; i < snp->n_files; i++) {
        kbs_wire_list_add_pair(&files, snp->files[i].name, snp->files[i].content);
    }
    if (put_snp_chips(snp, &chips, err) != 0) {
        return -1;
    }
    put_strings(&snp->products, &products);
    put_snp_minimum(snp, &minimum);
    put_strings(&snp->providers, &providers);
    ret->snp = 1;
    ret->snp_files = kbs_wire_list_done(&files);
    ret->snp_vmpl = snp->vmpl;
    ret->snp_products = kbs_wire_list_done(&products);
    ret->snp_minimum = kbs_wire_list_done(&minimum);
    ret->snp_chips = kbs_wire_list_done(&chips);
    ret->snp_providers = kbs_wire_list_done(&providers);
    ret->snp_signers = put_names(&lists->names[0], &snp->signers);
    ret->snp_platform_required = put_names(&lists->names[1], &snp->platform_required);
    ret->snp_platform_forbidden = put_names(&lists->names[2], &snp->platform_forbidden);
    ret->snp_guest_required = put_names(&lists->names[3], &snp->guest_required);
    ret->snp_guest_forbidden = put_names(&lists->names[4], &snp->guest_forbidden);
    ret->snp_kds = kbs_span_str(snp->kds);
    ret->snp_crl_grace_s = snp->crl_grace_hours * 3600;
    ret->snp_allow =
        (uint8_t)((snp->allow_no_crl ? KBS_WIRE_SNP_ALLOW_NO_CRL : 0) |
                  (snp->allow_masked_chip_id ? KBS_WIRE_SNP_ALLOW_MASKED_CHIP_ID : 0) |
                  (snp->allow_unexplained_data ? KBS_WIRE_SNP_ALLOW_UNEXPLAINED_DATA : 0) |
                  (snp->svsm_binding ? KBS_WIRE_SNP_ALLOW_SVSM_BINDING : 0));
    if (snp->test_root != NULL) {
        if (kbs_hex_get_exact(root, 32, kbs_span_str(snp->test_root)) != 0) {
            return kbs_fail(err, KBS_INPUT, "attest.snp.test_root: not hex");
        }
        ret->snp_test_root = kbs_span(root, 32);
    }
    return lists->files.failed || lists->products.failed || lists->minimum.failed ||
                   lists->chips.failed || lists->providers.failed || names_failed(lists)
               ? kbs_fail(err, KBS_INTERNAL, "no memory for [attest.snp]")
               : 0;
}

/* [attestation_service], for those who ask it. */
static int put_delegate(const struct kbs_config_delegate *d, struct kbs_buf lists[2],
                        struct kbs_wire_config_judge *ret, struct kbs_error *err)
{
    struct kbs_wire_list_builder tees = {.buf = &lists[0]};
    struct kbs_wire_list_builder policies = {.buf = &lists[1]};
    put_strings(&d->tees, &tees);
    put_strings(&d->policy_ids, &policies);
    ret->delegate = (uint8_t)d->type;
    ret->delegate_endpoint = kbs_span_str(d->endpoint);
    ret->delegate_issuer = kbs_span_str(d->issuer);
    ret->delegate_tees = kbs_wire_list_done(&tees);
    ret->delegate_policies = kbs_wire_list_done(&policies);
    return kbs_buf_check(&lists[0], "tees of [attestation_service]", err) != 0
               ? -1
               : kbs_buf_check(&lists[1], "policy_ids of [attestation_service]", err);
}

/* [[issuer]]: an item is the body of a message of its own. */
struct issuer_lists {
    struct kbs_buf issuer;
    struct kbs_buf audience;
    struct kbs_buf algorithms;
    struct kbs_buf require;
    struct kbs_buf body;
};

static uint8_t binding_of(const char *name)
{
    int b = name != NULL ? KBS_BINDING_TOKEN : KBS_BINDING_COUNT;
    while (b < KBS_BINDING_COUNT && strcmp(name, kbs_binding_name((enum kbs_binding)b)) != 0) {
        b++;
    }
    return b < KBS_BINDING_COUNT ? (uint8_t)b : 0;
}

static void put_requirements(const struct kbs_config_issuer *i, struct kbs_wire_list_builder *to)
{
    for (int r = 0; r < KBS_CONFIG_ISSUER_REQUIRES; r++) {
        for (size_t k = 0; k < i->require[r].n; k++) {
            kbs_wire_list_add_pair(to, kbs_config_require_name((enum kbs_config_require)r),
                                   kbs_span_str(i->require[r].v[k]));
        }
    }
    if (i->canonical_runtime) {
        kbs_wire_list_add_pair(to, "canonical_runtime", KBS_SPAN_LIT("true"));
    }
}

static int put_issuer(const struct kbs_config_issuer *i, struct issuer_lists *lists,
                      struct kbs_wire_list_builder *to, struct kbs_error *err)
{
    struct kbs_wire_list_builder issuer = {.buf = &lists->issuer};
    struct kbs_wire_list_builder audience = {.buf = &lists->audience};
    struct kbs_wire_list_builder algorithms = {.buf = &lists->algorithms};
    struct kbs_wire_list_builder require = {.buf = &lists->require};
    put_strings(&i->issuers, &issuer);
    put_strings(&i->audiences, &audience);
    put_strings(&i->algorithms, &algorithms);
    put_requirements(i, &require);
    const struct kbs_wire_config_issuer item = {
        .name = kbs_span_str(i->name),
        .profile = kbs_span_str(i->profile),
        .issuer = kbs_wire_list_done(&issuer),
        .audience = kbs_wire_list_done(&audience),
        .algorithms = kbs_wire_list_done(&algorithms),
        .keys = i->keys,
        .document = kbs_span_str(i->document),
        .anchor = i->anchor,
        .crl = i->crl,
        .key_path = kbs_span_str(i->key_path),
        .max_age_s = i->max_age_s,
        .skew_s = i->skew_s,
        .max_stale_s = i->max_stale_s,
        .allow = (uint8_t)((i->passport ? KBS_WIRE_ISSUER_PASSPORT : 0) |
                           (i->known_keys ? KBS_WIRE_ISSUER_KNOWN_KEYS : 0)),
        .agree_with = kbs_span_str(i->agree_with),
        .minimum_binding = binding_of(i->minimum_binding),
        .require = kbs_wire_list_done(&require),
    };
    if (kbs_wire_body_put(&lists->body, KBS_WIRE_CONFIG_ISSUER, &item, err) != 0) {
        return -1;
    }
    kbs_wire_list_add(to, kbs_buf_span(&lists->body));
    return 0;
}

/* Into `out`, which the message borrows. */
static int put_issuers(const struct kbs_config *c, struct kbs_buf *out, struct kbs_wire_list *ret,
                       struct kbs_error *err)
{
    struct kbs_wire_list_builder to = {.buf = out};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < c->n_issuers; i++) {
        struct issuer_lists lists = {.issuer = KBS_BUF(65536),
                                     .audience = KBS_BUF(65536),
                                     .algorithms = KBS_BUF(1024),
                                     .require = KBS_BUF(KBS_WIRE_ISSUER_BYTES),
                                     .body = KBS_BUF(KBS_WIRE_ISSUER_BYTES)};
        rc = put_issuer(&c->issuers[i], &lists, &to, err);
        kbs_buf_deinit(&lists.issuer);
        kbs_buf_deinit(&lists.audience);
        kbs_buf_deinit(&lists.algorithms);
        kbs_buf_deinit(&lists.require);
        kbs_buf_deinit(&lists.body);
    }
    *ret = kbs_wire_list_done(&to);
    return rc == 0 ? kbs_buf_check(out, "the list of issuers", err) : rc;
}

static int configure_judge(const struct kbsd_unit *u, const struct kbs_config *c, bool check,
                           struct kbs_error *err)
{
    struct kbs_buf issuers = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    struct admin_lists lists = {.keys = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                                .providers = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                                .acls = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES)};
    struct snp_lists snp = {.files = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                            .products = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                            .minimum = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                            .chips = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                            .providers = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES)};
    struct kbs_buf delegate[2] = {KBS_BUF(65536), KBS_BUF(65536)};
    uint8_t root[32];
    bool admin = u->listener == KBS_LISTENER_ADMIN;
    struct kbs_wire_config_judge config = {
        .duty = admin ? KBS_DUTY_ADMIN : KBS_DUTY_RELEASE,
        .lane = u->index,
        .production = c->production,
        .allow_sample = c->allow_sample,
        .rsa1_5 = c->rsa1_5,
        .store_path = kbs_span_str(c->store_path),
        .issuer = kbs_span_str(c->issuer),
        .session_s = c->session_min * 60,
        .token_s = c->token_min * 60,
        .sessions = c->sessions,
        .resource_bytes = c->resource_bytes,
        .resource_policy = c->resource_policy,
        .nek_key = c->nek_key,
        .id_key = c->id_key,
        .check = check,
    };
    if (admin) {
        put_admin_lists(&lists, c, &config);
    }
    int rc = kbs_buf_check(&lists.keys, "the list of administrators", err);
    if (rc == 0) {
        rc = kbs_buf_check(&lists.providers, "the list of identity providers", err);
    }
    if (rc == 0) {
        rc = kbs_buf_check(&lists.acls, "the list of acls", err);
    }
    if (rc == 0 && !admin && c->snp.certificates != NULL) {
        rc = put_snp(&snp, &c->snp, root, &config, err);
    }
    if (rc == 0 && !admin) {
        rc = put_delegate(&c->delegate, delegate, &config, err);
    }
    if (rc == 0 && !admin) {
        rc = put_issuers(c, &issuers, &config.issuers, err);
    }
    if (rc == 0) {
        rc = tell(&u->children[0], KBS_WIRE_CONFIG_JUDGE, &config, -1, err);
    }
    kbs_buf_deinit(&lists.keys);
    kbs_buf_deinit(&lists.providers);
    kbs_buf_deinit(&lists.acls);
    kbs_buf_deinit(&snp.files);
    kbs_buf_deinit(&snp.products);
    kbs_buf_deinit(&snp.minimum);
    kbs_buf_deinit(&snp.chips);
    kbs_buf_deinit(&snp.providers);
    for (size_t i = 0; i < SNP_NAMES; i++) {
        kbs_buf_deinit(&snp.names[i]);
    }
    kbs_buf_deinit(&delegate[0]);
    kbs_buf_deinit(&delegate[1]);
    kbs_buf_deinit(&issuers);
    return rc;
}

static int configure_token(const struct kbsd_unit *u, const struct kbsd_child *token,
                           const struct kbs_config *c, const struct kbsd_tls *tls,
                           struct kbs_error *err)
{
    struct kbs_buf env = KBS_BUF(32768);
    struct kbs_buf paths = KBS_BUF(KBS_CONFIG_FOLDERS * 8192);
    struct kbs_wire_list_builder list = {.buf = &env};
    struct kbs_wire_list_builder folders = {.buf = &paths};
    for (size_t i = 0; i < c->token.folders.n; i++) {
        kbs_wire_list_add(&folders, kbs_span_str(c->token.folders.v[i]));
    }
    for (size_t i = 0; i < c->token.env.n; i++) {
        kbs_wire_list_add(&list, kbs_span_str(c->token.env.v[i]));
    }
    bool signs = u->kind == KBSD_UNIT_SIGN;
    enum kbs_duty orders = u->listener == KBS_LISTENER_ADMIN ? KBS_DUTY_ADMIN : KBS_DUTY_RELEASE;
    struct kbs_wire_config_token config = {
        .duty = (uint8_t)(signs ? KBS_DUTY_SIGN : orders),
        .lane = u->index,
        .production = c->production,
        .module = kbs_span_str(c->token.module),
        .uri = kbs_span_str(c->token.uri),
        .rsa1_5 = c->rsa1_5,
        .init_args = kbs_span_str(c->token.init_args),
        .env = kbs_wire_list_done(&list),
        .seccomp = c->token.seccomp_log ? KBS_SECCOMP_LOG : KBS_SECCOMP_KILL,
        .folders = kbs_wire_list_done(&folders),
        .key = signs ? kbs_buf_span(&tls->key) : KBS_SPAN_EMPTY,
        .certificate = signs ? kbs_buf_span(&tls->certificate) : KBS_SPAN_EMPTY,
    };
    int rc = kbs_buf_check(&env, "the token's environment", err);
    if (rc == 0) {
        rc = kbs_buf_check(&paths, "the token's folders", err);
    }
    if (rc == 0) {
        rc = tell(token, KBS_WIRE_CONFIG_TOKEN, &config, -1, err);
    }
    kbs_buf_deinit(&env);
    kbs_buf_deinit(&paths);
    return rc;
}

/* The third of a lane, if it has one: a policy's process has nothing but its channel to the judge. */
static int start_policy(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    const struct kbs_wire_config_policy config = {.production = with->config->production};
    struct kbsd_child *judge = &u->children[0];
    struct kbsd_child *policy = &u->children[2];
    int questions[2] = {-1, -1}; /* judge, policy */
    int rc = -1;
    if (u->n_children < 3) {
        return 0;
    }
    if (kbs_channel_pair(questions, err) == 0 && start(u, policy, with, err) == 0 &&
        tell(policy, KBS_WIRE_CONFIG_POLICY, &config, -1, err) == 0 &&
        attach(policy, KBS_ATTACH_JUDGE, 0, questions[1], err) == 0 &&
        tell(policy, KBS_WIRE_GO, NULL, -1, err) == 0) {
        rc = attach(judge, KBS_ATTACH_POLICY, 0, questions[0], err);
    }
    kbs_io_close(&questions[0]);
    kbs_io_close(&questions[1]);
    return rc;
}

/* Also a lane that does not get it now may get it later: the supervisor tries again. */
static int attach_fetch(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    if (with->fetch_control < 0) {
        return 0;
    }
    u->fetches = true;
    return kbsd_fetch_attach(with->fetch_control, &u->children[0], with->client_index, err);
}

static int start_fetch(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    return start(u, &u->children[0], with, err) != 0
               ? -1
               : kbsd_fetch_configure(&u->children[0], with->config, err);
}

static int start_lane(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    struct kbsd_child *judge = &u->children[0];
    struct kbsd_child *token = &u->children[1];
    const struct kbsd_child audit = {.control = with->audit_control};
    int front[2] = {-1, -1};  /* front, judge */
    int orders[2] = {-1, -1}; /* judge, token */
    int ledger[2] = {-1, -1}; /* judge, audit */
    int deeds[2] = {-1, -1};  /* token, audit */
    enum kbs_attach client =
        u->listener == KBS_LISTENER_ADMIN ? KBS_ATTACH_CLIENT_ADMIN : KBS_ATTACH_CLIENT;
    int rc = -1;
    if (kbs_channel_pair(front, err) == 0 && kbs_channel_pair(orders, err) == 0 &&
        kbs_channel_pair(ledger, err) == 0 && kbs_channel_pair(deeds, err) == 0 &&
        start(u, judge, with, err) == 0 && start(u, token, with, err) == 0 &&
        attach(&audit, client, with->client_index, ledger[1], err) == 0 &&
        attach(&audit, KBS_ATTACH_CLIENT_TOKEN, with->client_index, deeds[1], err) == 0 &&
        configure_token(u, token, with->config, NULL, err) == 0 &&
        attach(token, KBS_ATTACH_JUDGE, 0, orders[1], err) == 0 &&
        attach(token, KBS_ATTACH_AUDIT, 0, deeds[0], err) == 0 &&
        attach_pin(u, token, &with->config->token, err) == 0 &&
        tell(token, KBS_WIRE_GO, NULL, -1, err) == 0 &&
        configure_judge(u, with->config, false, err) == 0 &&
        attach(judge, KBS_ATTACH_FRONT, 0, front[1], err) == 0 &&
        attach(judge, KBS_ATTACH_TOKEN, 0, orders[0], err) == 0 &&
        attach(judge, KBS_ATTACH_AUDIT, 0, ledger[0], err) == 0 &&
        start_policy(u, with, err) == 0 && attach_fetch(u, with, err) == 0) {
        rc = tell(judge, KBS_WIRE_GO, NULL, -1, err);
    }
    u->front_end = front[0];
    kbs_io_close(&front[1]);
    for (size_t i = 0; i < 2; i++) {
        kbs_io_close(&orders[i]);
        kbs_io_close(&ledger[i]);
        kbs_io_close(&deeds[i]);
    }
    return rc;
}

/* A channel for each signature that can be asked for at a time. */
static int start_sign(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    struct kbsd_child *c = &u->children[0];
    int rc = start(u, c, with, err) != 0 ||
                     configure_token(u, c, with->config, with->tls, err) != 0 ||
                     attach_pin(u, c, &with->config->token, err) != 0
                 ? -1
                 : 0;
    for (uint32_t i = 0; i < KBS_LIMIT_TLS_SIGNERS && rc == 0; i++) {
        int pair[2] = {-1, -1}; /* front, worker */
        rc = kbs_channel_pair(pair, err);
        if (rc == 0) {
            u->sign_ends[i] = pair[0];
            rc = attach(c, KBS_ATTACH_FRONT, i, pair[1], err);
        }
        kbs_io_close(&pair[1]);
    }
    return rc == 0 ? tell(c, KBS_WIRE_GO, NULL, -1, err) : -1;
}

/* A judge that only looks at the configuration, and says by its status whether it can be used. */
static int start_check(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    snprintf(u->name, sizeof(u->name), "check");
    return start(u, &u->children[0], with, err) != 0 ? -1
                                                     : configure_judge(u, with->config, true, err);
}

int kbsd_unit_start(struct kbsd_unit *u, const struct kbsd_start *with, struct kbs_error *err)
{
    u->state = KBSD_UNIT_UP;
    u->ready_ns = 0;
    u->hopeless = false;
    u->detached = false;
    u->stale = false;
    u->fetches = false;
    switch (u->kind) {
    case KBSD_UNIT_AUDIT:
        return start_audit(u, with, err);
    case KBSD_UNIT_FRONT:
        return start_front(u, with, err);
    case KBSD_UNIT_MIGRATION:
        return with->check ? start_check(u, with, err) : start_migration(u, with, err);
    case KBSD_UNIT_FETCH:
        return start_fetch(u, with, err);
    case KBSD_UNIT_SIGN:
        return start_sign(u, with, err);
    case KBSD_UNIT_LANE:
    default:
        return start_lane(u, with, err);
    }
}
