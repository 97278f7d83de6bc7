/*
 * One thread, one poll loop over a signalfd and the control channels. After every wake-up the
 * handlers only note what happened (a message, a death); step() then does whatever is due:
 * deadlines, drains, starts, one login, attaching, announcing. So there is one place for every
 * decision, and it sees a consistent picture.
 *
 * Invariants
 *   - A token worker between LOGIN_GRANT and LOGIN_DONE (login.c) is neither signalled nor cut off
 *     before KBS_LIMIT_TOKEN_LOGIN_MS has passed: SoftHSM destroys its token when it is killed there.
 *   - After one PIN error no lane starts that has not logged in.
 *   - A lane exists as a whole or not at all. The audit's death takes all lanes with it, a front's
 *     death those that were attached to it, because their channels died.
 *   - kbs-fetch's death takes nobody with it: fronts and judges do without, and get a channel to the
 *     next one.
 *   - A worn lane (recycle.c) is never ended: its front lets go of it, and so it leaves by itself,
 *     with nothing in flight.
 *   - A death is handled after everything the dead role had said. How it is learnt, child.c decides:
 *     by SIGCHLD, or because the control channel hung up.
 */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/process.h"
#include "channel/channel.h"
#include "supervisor/announce.h"
#include "supervisor/fetch.h"
#include "supervisor/login.h"
#include "supervisor/recycle.h"
#include "supervisor/reload.h"
#include "supervisor/sign.h"
#include "supervisor/spawn.h"
#include "supervisor/times.h"
#include "supervisor/unit.h"

#define UNITS_MAX (3 + 4 + KBS_LIMIT_LANES + 3)
#define CONTROLS_MAX (1 + KBSD_UNIT_CHILDREN * UNITS_MAX)
#define MESSAGE_MS 1000 /* for the rest of a message that has begun to arrive */

enum phase {
    PHASE_MIGRATE,
    PHASE_RUN,
    PHASE_DRAIN_GUESTS,
    PHASE_DRAIN_ADMINS, /* after the guests: the admin lane signs the ledger's last head */
    PHASE_DRAIN_AUDIT,
    PHASE_END
};

struct supervisor {
    const struct kbs_config *config;
    const struct kbsd_options *options;
    enum phase phase;
    int status; /* to exit with */
    int signal_fd;
    struct kbsd_users users;
    struct kbsd_source source;
    struct kbsd_listeners guest;
    struct kbsd_listeners admin;
    /* audit, guest front, admin front, sign workers, guest lanes, admin lane, kbs-fetch if there is one, migration */
    struct kbsd_unit units[UNITS_MAX];
    size_t n_units;
    struct kbsd_login login;
    bool announced;
    bool announce_due;
    bool ledger_down; /* kbs-audit says that it cannot write */
    struct kbsd_reload reload;
    struct kbsd_server_tls tls[2]; /* of guests, of administrators */
};

static struct kbsd_unit *audit_of(struct supervisor *s)
{
    return &s->units[0];
}

static struct kbsd_unit *migration_of(struct supervisor *s)
{
    return &s->units[s->n_units - 1];
}

/* NULL if nothing is to be fetched. */
static struct kbsd_unit *fetch_of(struct supervisor *s)
{
    struct kbsd_unit *u = &s->units[s->n_units - 2];
    return u->kind == KBSD_UNIT_FETCH ? u : NULL;
}

static struct kbsd_unit *front_of(struct supervisor *s, enum kbs_listener listener)
{
    return &s->units[listener == KBS_LISTENER_GUEST ? 1 : 2];
}

static struct kbsd_server_tls *tls_of(struct supervisor *s, enum kbs_listener listener)
{
    return &s->tls[listener == KBS_LISTENER_GUEST ? 0 : 1];
}

static const struct kbs_config_server *server_of(const struct supervisor *s,
                                                 enum kbs_listener listener)
{
    return listener == KBS_LISTENER_GUEST ? &s->config->guest : &s->config->admin;
}

/* Ending things */

/*
 * A token worker may be in the middle of changing the token, which not every module survives: it is
 * asked, unless it hangs; kbs-policy, which is about to see the end of its judge, likewise. A judge
 * is killed: its store and its records of intent are made for that,
 * and as long as it lives its front would send it requests that can only fail. One that is recycled
 * gets none, and leaves by itself.
 */
static void child_end(struct kbsd_child *c, enum kbsd_cause cause)
{
    if (c->state == KBSD_LOGIN) {
        c->condemned = true;
    } else if ((c->role == KBSD_TOKEN || c->role == KBSD_POLICY) && c->state == KBSD_READY &&
               cause != KBSD_CAUSE_STUCK) {
        kbsd_child_drain(c, kbsd_times.grace_ms);
    } else if (c->state != KBSD_GONE && c->state != KBSD_ENDING) {
        kbsd_child_kill(c, cause == KBSD_CAUSE_RECYCLED ? 0 : SIGTERM, kbsd_times.grace_ms);
    }
}

static void unit_down(struct supervisor *s, struct kbsd_unit *u);

/* Tells every process of the unit to leave; the first cause counts. */
static void unit_end(struct supervisor *s, struct kbsd_unit *u, enum kbsd_cause cause)
{
    if (u->state != KBSD_UNIT_UP) {
        return;
    }
    u->state = KBSD_UNIT_ENDING;
    u->cause = cause;
    s->announce_due = true;
    kbsd_unit_close_ends(u);
    for (size_t i = 0; i < u->n_children; i++) {
        child_end(&u->children[i], cause);
    }
    if (kbsd_unit_all(u, KBSD_GONE)) {
        unit_down(s, u);
    }
}

static void drain(struct supervisor *s, int status)
{
    if (s->phase < PHASE_DRAIN_GUESTS) {
        s->status = status;
        s->phase = PHASE_DRAIN_GUESTS;
        kbs_log(KBS_LOG_INFO, "drain", "status=%d", status);
        kbsd_notify("STOPPING=1\n");
        unit_end(s, migration_of(s), KBSD_CAUSE_FAILURE);
    } else if (s->status == KBS_EXIT_OK) {
        s->status = status;
    }
}

/* Lanes and sign workers that have channels to this unit cannot live on. */
static void end_dependants(struct supervisor *s, const struct kbsd_unit *u)
{
    for (size_t i = 0; i < s->n_units; i++) {
        struct kbsd_unit *lane = &s->units[i];
        bool attached = lane->ready_ns != 0 && lane->listener == u->listener;
        if ((lane->kind == KBSD_UNIT_LANE && (u->kind == KBSD_UNIT_AUDIT || attached)) ||
            (lane->kind == KBSD_UNIT_SIGN && attached)) {
            unit_end(s, lane, KBSD_CAUSE_COLLATERAL);
        }
    }
}

static uint64_t backoff_ms(unsigned int failures)
{
    uint64_t ms = KBS_LIMIT_RESTART_BACKOFF_MIN_MS;
    for (unsigned int i = 1; i < failures && ms < KBS_LIMIT_RESTART_BACKOFF_MAX_MS; i++) {
        ms *= 2;
    }
    return ms < KBS_LIMIT_RESTART_BACKOFF_MAX_MS ? ms : KBS_LIMIT_RESTART_BACKOFF_MAX_MS;
}

/* Every process of the unit is gone: never again, at once, or after a while. */
static void unit_down(struct supervisor *s, struct kbsd_unit *u)
{
    uint64_t now_ns = kbs_clock_mono_ns();
    uint64_t wait_ms = 0;
    if (u->ready_ns != 0 && now_ns - u->ready_ns >= kbsd_times.healthy_ms * KBS_NS_PER_MS) {
        u->failures = 0;
    }
    if (u->cause != KBSD_CAUSE_COLLATERAL && u->cause != KBSD_CAUSE_RECYCLED) {
        bool at_once = u->cause == KBSD_CAUSE_STUCK && u->ready_ns != 0 && u->failures == 0;
        u->failures++;
        wait_ms = at_once ? 0 : backoff_ms(u->failures);
    }
    u->ready_ns = 0;
    u->restart_at_ns = now_ns + wait_ms * KBS_NS_PER_MS;
    u->state = u->hopeless ? KBSD_UNIT_FAILED : KBSD_UNIT_DOWN;
    if (s->phase != PHASE_RUN) {
        return;
    }
    if (kbsd_sign_rests(u)) {
        u->state = KBSD_UNIT_DOWN;
        u->failures = 0;
        return;
    }
    if (u->state == KBSD_UNIT_FAILED) {
        kbs_log(KBS_LOG_ERROR, "unit-failed",
                "unit=%s advice=\"see above; it is not started again\"", u->name);
        if ((u->kind != KBSD_UNIT_LANE && u->kind != KBSD_UNIT_FETCH &&
             u->kind != KBSD_UNIT_SIGN) ||
            (!s->announced && !s->login.latched)) {
            drain(s, KBS_EXIT_CONFIG);
        }
    } else {
        kbs_log(u->cause == KBSD_CAUSE_RECYCLED ? KBS_LOG_INFO : KBS_LOG_WARN, "unit-restart",
                "unit=%s failures=%u in_ms=%llu", u->name, u->failures,
                (unsigned long long)wait_ms);
    }
}

/* The login */

static void pin_latch(struct supervisor *s)
{
    if (!kbsd_login_latch(&s->login)) {
        return;
    }
    const struct kbs_config_token *t = &s->config->token;
    kbs_log(KBS_LOG_ERROR, "pin-error",
            "advice=\"the token refused the PIN; nobody logs in any more, since that may lock it: "
            "correct %s%s%s, check the token's PIN counter, then restart kbsd\"",
            t->pin_credential ? "the credential and remove " : "",
            t->pin_credential ? t->lock_file : t->pin_file,
            t->pin_credential ? "" : " (or touch it, to try again)");
    for (size_t i = 0; i < s->n_units; i++) {
        struct kbsd_unit *u = &s->units[i];
        const struct kbsd_child *token = kbsd_unit_token(u);
        if (token != NULL && token->state != KBSD_LOGGED_IN && token->state != KBSD_READY) {
            u->hopeless = true;
            unit_end(s, u, KBSD_CAUSE_FAILURE);
        }
    }
}

static void login_done(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c,
                       const struct kbs_wire_login_done *done)
{
    char text[256];
    bool ok = done->ok == 1 && done->pin_error == 0;
    if (done->pin_error != 0 && s->login.holder == c) {
        kbsd_login_refused(&s->login, &u->pin);
    }
    kbsd_login_over(&s->login, c);
    kbs_log(ok ? KBS_LOG_INFO : KBS_LOG_ERROR, "login-done",
            "unit=%s child=%ld ok=%d pin_error=%d detail=%s", u->name, (long)c->pid, done->ok,
            done->pin_error, kbs_log_text(done->detail, text, sizeof(text)));
    for (size_t i = 0; ok && i < u->n_children; i++) {
        if (u->children[i].state == KBSD_STARTING || u->children[i].state == KBSD_LOGGED_IN) {
            u->children[i].deadline_ns = kbs_deadline_in_ms(kbsd_times.start_ms);
        }
    }
    if (c->condemned) {
        kbsd_child_kill(c, SIGTERM, kbsd_times.grace_ms);
    } else if (!ok) {
        /* It leaves by itself, with a status that says why. */
        kbsd_child_kill(c, 0, kbsd_times.grace_ms);
    }
    if (done->pin_error != 0) {
        u->hopeless = true;
        pin_latch(s);
    }
}

/* Messages */

/* Passes on to a front whether the ledger can be written; one that does not take it is dying. */
static void tell_health(const struct supervisor *s, const struct kbsd_unit *front)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_health health = {.writable = s->ledger_down ? 0 : 1};
    if (front->children[0].state == KBSD_READY &&
        kbs_channel_send(front->children[0].control, KBS_WIRE_HEALTH, 0, &health, -1,
                         kbs_deadline_in_ms(MESSAGE_MS), &err) != 0) {
        kbs_log_error("health", &err);
    }
}

static void ledger_health(struct supervisor *s, const struct kbs_wire_health *health)
{
    s->ledger_down = health->writable == 0;
    kbs_log(s->ledger_down ? KBS_LOG_ERROR : KBS_LOG_INFO, "ledger-health", "writable=%d",
            health->writable);
    tell_health(s, front_of(s, KBS_LISTENER_GUEST));
    tell_health(s, front_of(s, KBS_LISTENER_ADMIN));
}

static void message(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c,
                    const struct kbs_channel_msg *m)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_login_done done;
    struct kbs_wire_ready ready;
    struct kbs_wire_health health;
    char text[256];
    enum kbsd_state next = kbsd_role_next(c->role, c->state, m->frame.type);
    bool again = m->frame.type == KBS_WIRE_WORN && c->worn;
    int rc = next == KBSD_GONE || again ? -1 : 0;
    if (rc == 0 && m->frame.type == KBS_WIRE_LOGIN_DONE) {
        rc = kbs_channel_msg_decode(m, KBS_WIRE_LOGIN_DONE, &done, &err);
    } else if (rc == 0 && m->frame.type == KBS_WIRE_READY) {
        rc = kbs_channel_msg_decode(m, KBS_WIRE_READY, &ready, &err);
    } else if (rc == 0 && m->frame.type == KBS_WIRE_HEALTH) {
        rc = kbs_channel_msg_decode(m, KBS_WIRE_HEALTH, &health, &err);
    }
    if (rc != 0) {
        kbs_log(KBS_LOG_ERROR, "role-broken", "unit=%s name=%s child=%ld state=%s sent=%s", u->name,
                kbsd_role_name(c->role), (long)c->pid, kbsd_state_name(c->state),
                kbs_wire_type_name(m->frame.type));
        c->condemned = c->state == KBSD_LOGIN;
        if (!c->condemned) {
            kbsd_child_kill(c, SIGKILL, 0);
        }
        return;
    }
    c->state = next;
    if (m->frame.type == KBS_WIRE_LOGIN_DONE) {
        login_done(s, u, c, &done);
    } else if (m->frame.type == KBS_WIRE_HEALTH) {
        ledger_health(s, &health);
    } else if (m->frame.type == KBS_WIRE_LOGIN_WANT) {
        /* Others may come first: neither it nor its judge, which waits for it, is slow. A judge that
         * is leaving is held to that deadline. */
        c->deadline_ns = KBS_DEADLINE_NONE;
        if (u->children[0].state == KBSD_STARTING) {
            u->children[0].deadline_ns = KBS_DEADLINE_NONE;
        }
    } else if (m->frame.type == KBS_WIRE_WORN) {
        c->worn = true;
        kbs_log(KBS_LOG_INFO, "role-worn", "unit=%s name=%s child=%ld", u->name,
                kbsd_role_name(c->role), (long)c->pid);
    } else {
        c->deadline_ns = KBS_DEADLINE_NONE;
        c->pid = kbsd_child_is_unit(c) ? (pid_t)ready.pid : c->pid;
        kbs_log(KBS_LOG_INFO, "role-ready", "unit=%s name=%s child=%ld detail=%s", u->name,
                kbsd_role_name(c->role), (long)c->pid,
                kbs_log_text(ready.detail, text, sizeof(text)));
    }
}

/* The role's last message: only how it ends is left to come. */
static void leaving(struct kbsd_child *c, const struct kbs_channel_msg *m)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_leaving says;
    if (kbs_channel_msg_decode(m, KBS_WIRE_LEAVING, &says, &err) == 0) {
        c->left = says.status;
    }
    if (c->state != KBSD_ENDING) {
        kbsd_child_kill(c, 0, kbsd_times.grace_ms);
    }
}

/* One message of a role, or its end. */
static void control_read(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = kbs_channel_recv(c->control, &m, kbs_deadline_in_ms(MESSAGE_MS), &err);
    if (rc == 0 && m.frame.type == KBS_WIRE_LEAVING) {
        leaving(c, &m);
    } else if (rc == 0 && c->state != KBSD_ENDING) {
        message(s, u, c, &m);
    } else if (rc != 0 && c->state != KBSD_ENDING) {
        if (rc < 0) {
            kbs_log_error("role-broken", &err);
        }
        if (c->state == KBSD_LOGIN && kbsd_child_is_unit(c)) {
            c->unheard = true; /* likewise; its channel is how its end is learnt */
        } else if (c->state == KBSD_LOGIN) {
            kbs_io_close(&c->control); /* the deadline of the login stands */
        } else {
            kbsd_child_kill(c, rc < 0 ? SIGKILL : 0, rc < 0 ? 0 : kbsd_times.grace_ms);
        }
    }
    kbs_channel_msg_deinit(&m);
}

/* What a role said before it died counts: a PIN error above all. */
static void control_read_rest(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c)
{
    for (int i = 0; i < 8 && c->control >= 0; i++) {
        struct pollfd p = {.fd = c->control, .events = POLLIN};
        if (poll(&p, 1, 0) != 1 || (p.revents & POLLIN) == 0) {
            break;
        }
        control_read(s, u, c);
    }
    kbs_io_close(&c->control);
}

/* Deaths */

/* How a process ended. */
struct end {
    int status; /* KBSD_STATUS_NONE: by a signal, or a unit that had no time to say */
    int signal;
};

/* The schema is what it should be, or nothing can be started at all. */
static void migrated(struct supervisor *s, struct kbsd_unit *u, struct end end)
{
    u->state = KBSD_UNIT_FAILED; /* it is for once */
    if (s->phase == PHASE_MIGRATE && end.status == KBS_EXIT_OK) {
        s->phase = PHASE_RUN;
    } else {
        kbs_log(KBS_LOG_ERROR, "migrate-failed", "status=%d signal=%d", end.status, end.signal);
        drain(s, KBS_EXIT_CONFIG);
    }
}

static void renew_tls(struct supervisor *s, enum kbs_listener listener)
{
    kbsd_sign_renew(tls_of(s, listener), server_of(s, listener), front_of(s, listener), s->units,
                    s->n_units);
}

/* A judge has looked at the candidate: with status 0 it can be used. */
static void checked(struct supervisor *s, struct kbsd_unit *u, struct end end)
{
    u->state = KBSD_UNIT_FAILED;
    if (end.status == KBS_EXIT_OK && s->phase == PHASE_RUN) {
        kbsd_reload_take(&s->reload, &s->config, s->units, s->n_units);
        renew_tls(s, KBS_LISTENER_GUEST);
        renew_tls(s, KBS_LISTENER_ADMIN);
        return;
    }
    kbs_log(KBS_LOG_ERROR, "reload-refused",
            "status=%d signal=%d detail=\"a judge cannot use it, see above\" advice=\"the "
            "configuration of before stays in force\"",
            end.status, end.signal);
    kbsd_reload_drop(&s->reload);
}

/* While the service drains, who has left because it should gives the others of its unit time to. */
static enum kbsd_cause cause_of(const struct supervisor *s, const struct kbsd_unit *u,
                                struct end end)
{
    if ((u->detached || s->phase != PHASE_RUN) && end.status == KBS_EXIT_OK) {
        return KBSD_CAUSE_RECYCLED;
    }
    return end.status == KBS_EXIT_STUCK ? KBSD_CAUSE_STUCK : KBSD_CAUSE_FAILURE;
}

/* Whoever had a channel to it needs another one. */
static void fetch_lost(struct supervisor *s)
{
    for (size_t i = 0; i < s->n_units; i++) {
        s->units[i].fetches = false;
    }
}

static void child_died(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c,
                       struct end end)
{
    enum kbsd_cause cause = cause_of(s, u, end);
    bool expected =
        cause == KBSD_CAUSE_RECYCLED || u->state != KBSD_UNIT_UP || s->phase != PHASE_RUN;
    kbs_log(expected ? KBS_LOG_INFO : KBS_LOG_WARN, "role-died",
            "unit=%s name=%s child=%ld status=%d signal=%d", u->name, kbsd_role_name(c->role),
            (long)c->pid, end.status, end.signal);
    if (end.status == KBS_EXIT_PIN && s->login.holder == c) { /* it had no time for LOGIN_DONE */
        kbsd_login_refused(&s->login, &u->pin);
    }
    kbsd_login_over(&s->login, c);
    kbsd_child_gone(c);
    if (u->kind == KBSD_UNIT_MIGRATION) {
        if (s->reload.candidate != NULL) {
            checked(s, u, end);
        } else {
            migrated(s, u, end);
        }
        return;
    }
    if (end.status == KBS_EXIT_PIN || end.status == KBS_EXIT_CONFIG ||
        end.status == KBSD_EXIT_NOT_EXECUTED) {
        /* A service that runs goes on without; its files may be there again later. */
        bool later =
            u->kind == KBSD_UNIT_FETCH || (u->kind == KBSD_UNIT_SIGN && end.status != KBS_EXIT_PIN);
        u->hopeless = !later || !s->announced;
    }
    if (end.status == KBS_EXIT_PIN) {
        pin_latch(s);
    }
    if (u->state == KBSD_UNIT_UP) {
        unit_end(s, u, cause);
    } else if (kbsd_unit_all(u, KBSD_GONE)) {
        unit_down(s, u);
    }
    if (u->kind == KBSD_UNIT_FETCH) {
        fetch_lost(s);
    } else if ((u->kind == KBSD_UNIT_AUDIT || u->kind == KBSD_UNIT_FRONT) &&
               s->phase == PHASE_RUN) {
        end_dependants(s, u);
    }
}

/* A unit's control channel has ended, and its process with it. */
static void unit_gone(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c)
{
    control_read_rest(s, u, c);
    child_died(s, u, c, (struct end){.status = c->left});
}

static void child_reaped(struct supervisor *s, struct kbsd_unit *u, struct kbsd_child *c,
                         int wstatus)
{
    pid_t pid = c->pid;
    c->pid = -1; /* the number may be somebody else's by now: not to be signalled */
    control_read_rest(s, u, c);
    c->pid = pid;
    child_died(s, u, c,
               (struct end){.status = WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : KBSD_STATUS_NONE,
                            .signal = WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : 0});
}

static void reap(struct supervisor *s)
{
    int wstatus;
    pid_t pid;
    while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0) {
        for (size_t i = 0; i < s->n_units; i++) {
            for (size_t k = 0; k < s->units[i].n_children; k++) {
                if (s->units[i].children[k].pid == pid) {
                    child_reaped(s, &s->units[i], &s->units[i].children[k], wstatus);
                }
            }
        }
    }
}

static void read_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            drain(s, KBS_EXIT_OK);
        }
        s->reload.due = s->reload.due || info.ssi_signo == SIGHUP;
    }
    reap(s);
}

/* What is due */

/* A service that begins has kbs-fetch before it has lanes; later on nobody waits for it. */
static bool fetch_is_awaited(struct supervisor *s)
{
    const struct kbsd_unit *fetch = fetch_of(s);
    return !s->announced && fetch != NULL && fetch->failures == 0 &&
           !kbsd_unit_all(fetch, KBSD_READY);
}

static bool may_start(struct supervisor *s, const struct kbsd_unit *u)
{
    const struct kbsd_unit *audit = audit_of(s);
    if (u->spare || (u->kind == KBSD_UNIT_LANE && fetch_is_awaited(s))) {
        return false;
    }
    return u->kind == KBSD_UNIT_AUDIT ||
           (audit->state == KBSD_UNIT_UP && kbsd_unit_all(audit, KBSD_READY));
}

/* -1 if there is none that serves. */
static int fetch_control(struct supervisor *s)
{
    const struct kbsd_unit *fetch = fetch_of(s);
    bool serves = fetch != NULL && fetch->state == KBSD_UNIT_UP && kbsd_unit_all(fetch, KBSD_READY);
    return serves ? fetch->children[0].control : -1;
}

static struct kbsd_start start_of(struct supervisor *s, const struct kbsd_unit *u)
{
    return (struct kbsd_start){
        .config = s->config,
        .source = &s->source,
        .listeners = u->listener == KBS_LISTENER_GUEST ? &s->guest : &s->admin,
        .audit_control = audit_of(s)->children[0].control,
        .client_index = (uint32_t)(u - s->units),
        .fetch_control = fetch_control(s),
        .tls = u->renewal ? &tls_of(s, u->listener)->next : &tls_of(s, u->listener)->now,
    };
}

static void start_due(struct supervisor *s)
{
    for (size_t i = 0; i < s->n_units && s->phase == PHASE_RUN; i++) {
        struct kbsd_unit *u = &s->units[i];
        struct kbs_error err = KBS_ERROR_NONE;
        if (u->state != KBSD_UNIT_DOWN || u->restart_at_ns > kbs_clock_mono_ns() ||
            !may_start(s, u)) {
            continue;
        }
        if (kbsd_unit_token(u) != NULL && s->login.latched) {
            u->state = KBSD_UNIT_FAILED;
            kbs_log(KBS_LOG_ERROR, "unit-failed",
                    "unit=%s advice=\"the PIN was refused, see pin-error\"", u->name);
            continue;
        }
        const struct kbsd_start with = start_of(s, u);
        if (kbsd_unit_start(u, &with, &err) != 0) {
            kbs_log_error("unit-start", &err);
            unit_end(s, u, KBSD_CAUSE_FAILURE);
        }
    }
}

static void unit_serves(struct supervisor *s, struct kbsd_unit *u)
{
    if (u->kind == KBSD_UNIT_AUDIT && s->ledger_down) {
        s->ledger_down = false; /* it has just written its first record */
        tell_health(s, front_of(s, KBS_LISTENER_GUEST));
        tell_health(s, front_of(s, KBS_LISTENER_ADMIN));
    } else if (u->kind == KBSD_UNIT_FRONT && s->ledger_down) {
        tell_health(s, u);
    }
    u->ready_ns = kbs_clock_mono_ns();
    s->announce_due = true;
}

/* -1 if the front does not take it. */
static int attach_lane(const struct kbsd_unit *front, struct kbsd_unit *u, struct kbs_error *err)
{
    const struct kbs_wire_attach lane = {.what = KBS_ATTACH_LANE, .index = u->index};
    if (kbs_channel_send(front->children[0].control, KBS_WIRE_ATTACH, 0, &lane, u->front_end,
                         kbs_deadline_in_ms(MESSAGE_MS), err) != 0) {
        return -1;
    }
    kbs_io_close(&u->front_end);
    return 0;
}

/* Hands a lane or a sign worker that is ready to its front. Fronts and the audit serve as soon as they are ready. */
static void attach_ready(struct supervisor *s)
{
    for (size_t i = 0; i < s->n_units; i++) {
        struct kbsd_unit *u = &s->units[i];
        if (u->state != KBSD_UNIT_UP || u->ready_ns != 0 || !kbsd_unit_all(u, KBSD_READY)) {
            continue;
        }
        if (u->kind != KBSD_UNIT_LANE && u->kind != KBSD_UNIT_SIGN) {
            unit_serves(s, u);
            continue;
        }
        struct kbsd_unit *front = front_of(s, u->listener);
        struct kbsd_unit *old = NULL;
        struct kbs_error err = KBS_ERROR_NONE;
        if (front->state != KBSD_UNIT_UP || front->children[0].state != KBSD_READY) {
            continue;
        }
        int rc = u->kind == KBSD_UNIT_LANE
                     ? attach_lane(front, u, &err)
                     : kbsd_sign_attach(tls_of(s, u->listener), server_of(s, u->listener), front, u,
                                        s->units, s->n_units, &old, &err);
        if (rc != 0) {
            kbs_log_error("unit-attach", &err);
            kbsd_child_kill(&front->children[0], SIGKILL, 0);
            continue;
        }
        unit_serves(s, u);
        kbs_log(KBS_LOG_INFO, u->kind == KBSD_UNIT_LANE ? "lane-attached" : "signer-attached",
                "unit=%s front=%s", u->name, front->name);
        if (old != NULL) {
            unit_end(s, old, KBSD_CAUSE_RECYCLED);
        }
    }
}

/* Fronts, and judges that began when there was no kbs-fetch or another one. */
static void attach_fetch(struct supervisor *s)
{
    for (size_t i = 0; i < s->n_units; i++) {
        struct kbsd_unit *u = &s->units[i];
        struct kbs_error err = KBS_ERROR_NONE;
        int control = fetch_control(s);
        bool wants = (u->kind == KBSD_UNIT_FRONT || u->kind == KBSD_UNIT_LANE) && !u->fetches &&
                     u->state == KBSD_UNIT_UP && u->children[0].state == KBSD_READY;
        if (control < 0 || !wants) {
            continue;
        }
        u->fetches = true;
        if (kbsd_fetch_attach(control, &u->children[0], (uint32_t)i, &err) != 0) {
            kbs_log_error("fetch-attach", &err); /* one of the two is dying */
        } else {
            kbs_log(KBS_LOG_INFO, "fetch-attached", "unit=%s", u->name);
        }
    }
}

/*
 * Has worn lanes replaced. After a PIN error none would come back. The judge leaves when its front
 * has closed their channel, which a request in flight may put off.
 */
static void recycle_due(struct supervisor *s)
{
    struct kbsd_unit *u;
    while (!s->login.latched && (u = kbsd_recycle_next(s->units, s->n_units)) != NULL) {
        struct kbsd_child *front = &front_of(s, u->listener)->children[0];
        struct kbs_wire_detach lane = {.index = u->index};
        struct kbs_error err = KBS_ERROR_NONE;
        if (front->state != KBSD_READY) {
            continue; /* its death takes the lane along */
        }
        kbs_log(KBS_LOG_INFO, "lane-recycled", "unit=%s", u->name);
        u->children[0].deadline_ns = kbs_deadline_in_ms(kbsd_times.detach_ms);
        if (kbs_channel_send(front->control, KBS_WIRE_DETACH, 0, &lane, -1,
                             kbs_deadline_in_ms(MESSAGE_MS), &err) != 0) {
            kbs_log_error("lane-detach", &err);
            kbsd_child_kill(front, SIGKILL, 0);
        }
    }
}

/* One candidate at a time: another SIGHUP while a judge looks at one is seen to afterwards. */
static void reload_due(struct supervisor *s)
{
    struct kbsd_unit *u = migration_of(s);
    struct kbs_error err = KBS_ERROR_NONE;
    if (!s->reload.due || s->reload.candidate != NULL || kbsd_sign_renews(s->units, s->n_units)) {
        return;
    }
    s->reload.due = false;
    if (kbsd_reload_read(&s->reload, s->options->config, s->config) != 0) {
        return;
    }
    struct kbsd_start with = start_of(s, u);
    with.config = &s->reload.tried;
    with.check = true;
    if (kbsd_unit_start(u, &with, &err) == 0) {
        return;
    }
    kbs_log_error("unit-start", &err);
    if (kbsd_unit_all(u, KBSD_GONE)) {
        checked(s, u, (struct end){.status = KBSD_STATUS_NONE});
    } else {
        unit_end(s, u, KBSD_CAUSE_FAILURE);
    }
}

static void expire_child(const char *unit, struct kbsd_child *c)
{
    if (c->state != KBSD_GONE && kbs_clock_mono_ns() >= c->deadline_ns) {
        kbs_log(KBS_LOG_ERROR, "role-overdue", "unit=%s name=%s child=%ld state=%s", unit,
                kbsd_role_name(c->role), (long)c->pid, kbsd_state_name(c->state));
        kbsd_child_kill(c, SIGKILL, 0);
    }
}

static void expire(struct supervisor *s)
{
    for (size_t i = 0; i < s->n_units; i++) {
        for (size_t k = 0; k < s->units[i].n_children; k++) {
            expire_child(s->units[i].name, &s->units[i].children[k]);
        }
    }
}

static void child_drain(struct kbsd_child *c)
{
    if (c->state == KBSD_LOGIN) {
        c->condemned = true;
    } else if (c->role == KBSD_JUDGE && c->state == KBSD_STARTING) {
        /* Nothing is in flight, and it would wait for a worker that will not log in any more. */
        kbsd_child_kill(c, SIGTERM, kbsd_times.grace_ms);
    } else if (c->state != KBSD_GONE && c->state != KBSD_ENDING) {
        /* Roles keep the limit themselves; the grace is for those that do not. */
        kbsd_child_drain(c, kbsd_times.drain_ms + kbsd_times.grace_ms);
    }
}

/*
 * Drains a unit: of a lane first the judge, which may still need its token worker. True when it has
 * nothing left to do or to record; a worker that is logging in has not, and is waited for
 * elsewhere.
 */
static bool drain_unit(struct kbsd_unit *u)
{
    bool quiet = true;
    for (size_t i = 0; i < u->n_children && quiet; i++) {
        child_drain(&u->children[i]);
        quiet = u->children[i].state == KBSD_GONE || u->children[i].state == KBSD_LOGIN;
    }
    return quiet;
}

/* Drains a front, then its lanes. */
static bool drain_side(struct supervisor *s, enum kbs_listener listener)
{
    bool front_gone = drain_unit(front_of(s, listener));
    bool quiet = front_gone;
    for (size_t i = 0; i < s->n_units && front_gone; i++) {
        struct kbsd_unit *u = &s->units[i];
        if (kbsd_unit_token(u) != NULL && u->listener == listener) {
            quiet = drain_unit(u) && quiet;
        }
    }
    return quiet;
}

static bool workers_gone(struct supervisor *s)
{
    bool gone = true;
    for (size_t i = 0; i < s->n_units; i++) {
        gone = gone &&
               (kbsd_unit_token(&s->units[i]) == NULL || kbsd_unit_all(&s->units[i], KBSD_GONE));
    }
    return gone;
}

static void advance_drain(struct supervisor *s)
{
    if (s->phase == PHASE_DRAIN_GUESTS && kbsd_unit_all(migration_of(s), KBSD_GONE) &&
        drain_side(s, KBS_LISTENER_GUEST)) {
        s->phase = PHASE_DRAIN_ADMINS;
    }
    if (s->phase == PHASE_DRAIN_ADMINS && drain_side(s, KBS_LISTENER_ADMIN) && workers_gone(s)) {
        s->phase = PHASE_DRAIN_AUDIT;
    }
    if (s->phase == PHASE_DRAIN_AUDIT) {
        bool fetch_gone = fetch_of(s) == NULL || drain_unit(fetch_of(s));
        if (drain_unit(audit_of(s)) && fetch_gone) {
            s->phase = PHASE_END;
        }
    }
}

static bool serves(struct supervisor *s, enum kbs_listener listener)
{
    for (size_t i = 0; i < s->n_units; i++) {
        const struct kbsd_unit *u = &s->units[i];
        if (u->kind == KBSD_UNIT_LANE && u->listener == listener && u->ready_ns != 0) {
            return true;
        }
    }
    return false;
}

static void announce_due(struct supervisor *s)
{
    struct kbs_error err = KBS_ERROR_NONE;
    bool first = !s->announced;
    if (s->phase != PHASE_RUN || !s->announce_due ||
        (first && !(serves(s, KBS_LISTENER_GUEST) && serves(s, KBS_LISTENER_ADMIN) &&
                    kbsd_sign_serves(s->units, s->n_units)))) {
        return;
    }
    s->announced = true;
    s->announce_due = false;
    if (s->options->announce != NULL) {
        if (kbsd_announce(s->options->announce, &s->guest, &s->admin, s->units, s->n_units, &err) !=
            0) {
            kbs_log_error("announce", &err);
        } else {
            kbs_log(KBS_LOG_INFO, "announced", "file=%s", s->options->announce);
        }
    }
    if (first) {
        kbs_log(KBS_LOG_INFO, "serving", "lanes=%u", (unsigned int)s->config->token.lanes);
        kbsd_notify("READY=1\n");
    }
}

static void step(struct supervisor *s)
{
    expire(s);
    advance_drain(s);
    if (s->phase == PHASE_RUN) {
        start_due(s);
        if (kbsd_login_grant(&s->login, s->units, s->n_units) == KBSD_LOGIN_REFUSED) {
            pin_latch(s);
        }
        attach_ready(s);
        attach_fetch(s);
        reload_due(s);
        recycle_due(s);
    }
    announce_due(s);
}

/* Waiting */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_deadline(struct supervisor *s)
{
    uint64_t ret = KBS_DEADLINE_NONE;
    for (size_t i = 0; i < s->n_units; i++) {
        const struct kbsd_unit *u = &s->units[i];
        for (size_t k = 0; k < u->n_children; k++) {
            if (u->children[k].state != KBSD_GONE) {
                ret = earlier(ret, u->children[k].deadline_ns);
            }
        }
        /* One that waits for the audit is woken by the audit. One that has become due since
         * start_due() looked makes the wait end at once. */
        if (u->state == KBSD_UNIT_DOWN && s->phase == PHASE_RUN && may_start(s, u)) {
            ret = earlier(ret, u->restart_at_ns);
        }
    }
    return s->phase == PHASE_RUN ? earlier(ret, s->login.retry_ns) : ret;
}

static void wait_once(struct supervisor *s)
{
    struct pollfd fds[CONTROLS_MAX];
    struct kbsd_unit *units[CONTROLS_MAX];
    struct kbsd_child *children[CONTROLS_MAX];
    nfds_t n = 1;
    fds[0] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
    for (size_t i = 0; i < s->n_units; i++) {
        for (size_t k = 0; k < s->units[i].n_children; k++) {
            struct kbsd_child *c = &s->units[i].children[k];
            bool listening = c->state != KBSD_ENDING && !c->unheard;
            if (c->control >= 0 && (listening || kbsd_child_is_unit(c))) {
                fds[n] = (struct pollfd){.fd = c->control, .events = listening ? POLLIN : 0};
                units[n] = &s->units[i];
                children[n++] = c;
            }
        }
    }
    if (poll(fds, n, kbs_deadline_poll_ms(next_deadline(s))) <= 0) {
        return;
    }
    for (nfds_t i = 1; i < n; i++) {
        struct kbsd_child *c = children[i];
        if (fds[i].revents == 0 || c->control != fds[i].fd) {
            continue; /* handling one may have ended another */
        }
        if (kbsd_child_is_unit(c) && (fds[i].revents & POLLHUP) != 0) {
            unit_gone(s, units[i], c);
        } else if (fds[i].events != 0) {
            control_read(s, units[i], c);
        }
    }
    if (fds[0].revents != 0) {
        read_signals(s);
    }
}

/* Setting up */

static int open_signals(struct supervisor *s, struct kbs_error *err)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP); /* reload */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "sigprocmask");
    }
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd < 0 ? kbs_fail_errno(err, KBS_INTERNAL, "signalfd") : 0;
}

/* One that serves, and one to replace it when the certificate is renewed. */
static void make_signers(struct supervisor *s, enum kbs_listener listener)
{
    const struct kbs_config_server *server = server_of(s, listener);
    for (uint32_t i = 0; i < 2 && server->n_sockets > 0 && server->key_uri != NULL; i++) {
        kbsd_unit_init(&s->units[s->n_units], KBSD_UNIT_SIGN, listener, i);
        s->units[s->n_units++].spare = i > 0;
    }
}

static void make_units(struct supervisor *s, unsigned int roles)
{
    kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_AUDIT, KBS_LISTENER_NONE, 0);
    kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_FRONT, KBS_LISTENER_GUEST, 0);
    kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_FRONT, KBS_LISTENER_ADMIN, 0);
    make_signers(s, KBS_LISTENER_GUEST);
    make_signers(s, KBS_LISTENER_ADMIN);
    for (uint32_t i = 0; i < s->config->token.lanes; i++) {
        kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_LANE, KBS_LISTENER_GUEST, i);
    }
    kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_LANE, KBS_LISTENER_ADMIN, 0);
    if ((roles & KBSD_ROLE(KBSD_FETCH)) != 0) {
        kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_FETCH, KBS_LISTENER_NONE, 0);
    }
    kbsd_unit_init(&s->units[s->n_units++], KBSD_UNIT_MIGRATION, KBS_LISTENER_NONE, 0);
    bool with_policy = (roles & KBSD_ROLE(KBSD_POLICY)) != 0;
    for (size_t i = 0; with_policy && i < s->n_units; i++) {
        if (s->units[i].kind == KBSD_UNIT_LANE) {
            kbsd_unit_add_policy(&s->units[i]);
        }
    }
}

static int set_up(struct supervisor *s, struct kbs_error *err)
{
    s->source = (struct kbsd_source){.libexec = s->options->libexec,
                                     .units = s->options->units,
                                     .users = &s->users,
                                     .null_fd = open("/dev/null", O_RDWR | O_CLOEXEC)};
    if (s->source.null_fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "/dev/null");
    }
    unsigned int roles = KBSD_ROLE(KBSD_MIGRATE) | KBSD_ROLE(KBSD_AUDIT) | KBSD_ROLE(KBSD_FRONT) |
                         KBSD_ROLE(KBSD_JUDGE) | KBSD_ROLE(KBSD_TOKEN);
    roles |= kbs_config_fetches(s->config) ? KBSD_ROLE(KBSD_FETCH) : 0;
    if (kbsd_source_check(&s->source, &roles, err) != 0 ||
        (s->options->units == NULL && kbsd_users_find(s->config, roles, &s->users, err) != 0)) {
        return -1;
    }
    if (open_signals(s, err) != 0 || kbsd_listeners_open(&s->guest, &s->config->guest, err) != 0 ||
        kbsd_listeners_open(&s->admin, &s->config->admin, err) != 0) {
        return -1;
    }
    if (kbsd_tls_read(&s->tls[0].now, &s->config->guest, err) != 0 ||
        kbsd_tls_read(&s->tls[1].now, &s->config->admin, err) != 0) {
        return -1;
    }
    kbsd_login_open(&s->login, s->config->token.lock_file);
    make_units(s, roles);
    if ((roles & KBSD_ROLE(KBSD_POLICY)) == 0) {
        kbs_log(KBS_LOG_INFO, "no-kbs-policy", "advice=\"Rego policies are answered with 501\"");
    }
    const struct kbsd_start with = start_of(s, migration_of(s));
    return kbsd_unit_start(migration_of(s), &with, err);
}

static void tear_down(struct supervisor *s)
{
    kbsd_listeners_close(&s->guest);
    kbsd_listeners_close(&s->admin);
    kbsd_login_close(&s->login);
    kbsd_reload_deinit(&s->reload);
    for (size_t i = 0; i < 2; i++) {
        kbsd_tls_deinit(&s->tls[i].now);
        kbsd_tls_deinit(&s->tls[i].next);
    }
    kbs_io_close(&s->signal_fd);
    kbs_io_close(&s->source.null_fd);
    if (s->announced && s->options->announce != NULL) {
        (void)unlink(s->options->announce); /* what it says is no longer true */
    }
}

int kbsd_run(const struct kbs_config *config, const struct kbsd_options *options)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct supervisor *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return KBS_EXIT_FAILURE;
    }
    *s = (struct supervisor){.config = config,
                             .options = options,
                             .signal_fd = -1,
                             .source = {.null_fd = -1},
                             .login = KBSD_LOGIN_NONE};
    int status = KBS_EXIT_CONFIG;
    if (set_up(s, &err) != 0) {
        kbs_log_error("start-failed", &err);
    } else {
        while (s->phase != PHASE_END) {
            wait_once(s);
            step(s);
        }
        status = s->status;
        kbs_log(KBS_LOG_INFO, "end", "status=%d", status);
    }
    tear_down(s);
    free(s);
    return status;
}
