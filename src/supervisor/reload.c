/*
 * What may change while the service runs is what only judges of guests know, [attest.snp] and the files
 * of its folder, and the TLS of the two servers (sign.c). Everything else is in processes that hold sockets, a login or a file, and counts from
 * the next start; it is read and checked all the same, so that a file that would not start is not
 * taken for one that has been loaded.
 *
 * kbsd does not know what a certificate is, so a candidate that is well-formed is shown to a judge,
 * which is started for that alone, before it replaces anything. Lanes then leave one by one as worn
 * ones do (recycle.c), and each begins anew with the new configuration. So a mistake costs nothing,
 * and a good one no request.
 */
#include "supervisor/reload.h"

#include "base/log.h"

static void log_findings(const struct kbs_config_report *report)
{
    for (size_t i = 0; i < report->n; i++) {
        kbs_log(report->v[i].error ? KBS_LOG_ERROR : KBS_LOG_WARN, "reload-finding",
                "detail=\"%s\"", report->v[i].text);
    }
}

/* A front has threads for handshakes or has none, and a sign worker or none. */
static bool key_moves(const struct kbs_config_server *from, const struct kbs_config_server *to)
{
    return from->n_sockets != 0 && (from->key_uri == NULL) != (to->key_uri == NULL);
}

static void take_tls(struct kbs_config_server *to, const struct kbs_config_server *from)
{
    to->private_key = from->private_key;
    to->key_uri = from->key_uri;
    to->certificate = from->certificate;
    to->client_ca = from->client_ca;
    to->tls = from->tls;
}

int kbsd_reload_read(struct kbsd_reload *r, const char *path, const struct kbs_config *now)
{
    struct kbs_config_report report;
    struct kbs_error err = KBS_ERROR_NONE;
    char text[KBS_LIMIT_ERROR_DETAIL_BYTES + 64];

    kbsd_reload_drop(r);
    if (kbs_config_load(path, &r->candidate, &report, &err) != 0) {
        log_findings(&report);
        kbs_log(KBS_LOG_ERROR, "reload-refused",
                "detail=%s advice=\"the configuration of before stays in force\"",
                kbs_log_text(kbs_span_str(report.n_errors > 0 ? "see reload-finding" : err.detail),
                             text, sizeof(text)));
        r->candidate = NULL;
        kbs_config_report_deinit(&report);
        return -1;
    }
    log_findings(&report);
    kbs_config_report_deinit(&report);
    if (key_moves(&now->guest, &r->candidate->guest) ||
        key_moves(&now->admin, &r->candidate->admin)) {
        kbs_log(KBS_LOG_ERROR, "reload-refused",
                "detail=\"private_key cannot move between a file and the token\" advice=\"restart; "
                "the configuration of before stays in force\"");
        kbsd_reload_drop(r);
        return -1;
    }
    r->tried = *now;
    r->tried.snp = r->candidate->snp;
    take_tls(&r->tried.guest, &r->candidate->guest);
    take_tls(&r->tried.admin, &r->candidate->admin);
    return 0;
}

void kbsd_reload_take(struct kbsd_reload *r, const struct kbs_config **now, struct kbsd_unit *units,
                      size_t n_units)
{
    r->effective = r->tried;
    r->taken = kbs_config_free(r->taken);
    r->taken = r->candidate;
    r->candidate = NULL;
    *now = &r->effective;
    for (size_t i = 0; i < n_units; i++) {
        units[i].stale = units[i].kind == KBSD_UNIT_LANE &&
                         units[i].listener == KBS_LISTENER_GUEST && units[i].state == KBSD_UNIT_UP;
    }
    kbs_log(
        KBS_LOG_INFO, "reloaded",
        "tables=attest.snp,tls advice=\"guest lanes follow one by one; what else has changed counts "
        "from the next start\"");
}

void kbsd_reload_drop(struct kbsd_reload *r)
{
    r->candidate = kbs_config_free(r->candidate);
}

void kbsd_reload_deinit(struct kbsd_reload *r)
{
    kbsd_reload_drop(r);
    r->taken = kbs_config_free(r->taken);
}
