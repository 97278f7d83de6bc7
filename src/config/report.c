/*
 * What there is to say about a configuration: everything at once, because an operator who converts
 * a file wants one list and not one error a run. Findings are kept in the order of the file, so that
 * the tree may be walked in any other. A report that is full still counts.
 */
#include "config/schema.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_BYTES 640

/* After all that stand earlier, or at the same place but were found earlier. */
static size_t position_of(const struct kbs_config_report *r, const struct kbs_config_finding *f)
{
    size_t i = r->n;
    while (i > 0 && f->line != 0 &&
           (r->v[i - 1].line == 0 || r->v[i - 1].line > f->line ||
            (r->v[i - 1].line == f->line && r->v[i - 1].column > f->column))) {
        i--;
    }
    return i;
}

static void report(struct kbs_config_loader *l, bool error, struct kbs_doc_place at,
                   const char *message)
{
    struct kbs_config_report *r = l->report;
    struct kbs_config_finding f = {.error = error, .line = at.line, .column = at.column};
    char text[TEXT_BYTES + 128];
    if (at.line > 0) {
        snprintf(text, sizeof(text), "%s:%u:%u: %s", l->file, at.line, at.column, message);
    } else {
        snprintf(text, sizeof(text), "%s:%s%s %s", l->file, at.pointer != NULL ? at.pointer : "",
                 at.pointer != NULL && at.pointer[0] != '\0' ? ":" : "", message);
    }
    r->n_errors += error ? 1 : 0;
    f.text = r->n < KBS_CONFIG_FINDINGS ? kbs_arena_cstr(&r->arena, kbs_span_str(text)) : NULL;
    if (f.text == NULL) {
        r->n_left_out++;
        return;
    }
    size_t place = position_of(r, &f);
    memmove(&r->v[place + 1], &r->v[place], (r->n - place) * sizeof(f));
    r->v[place] = f;
    r->n++;
}

int kbs_config_fail(struct kbs_config_loader *l, struct kbs_doc_place at, const char *fmt, ...)
{
    char message[TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    report(l, true, at, message);
    return -1;
}

void kbs_config_warn(struct kbs_config_loader *l, struct kbs_doc_place at, const char *fmt, ...)
{
    char message[TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    report(l, false, at, message);
}

int kbs_config_insecure(struct kbs_config_loader *l, struct kbs_doc_place at, const char *what)
{
    if (l->config->production) {
        return kbs_config_fail(l, at, "%s: refused in the production profile", what);
    }
    kbs_config_warn(l, at, "%s: production would refuse this", what);
    return 0;
}

int kbs_config_no_memory(struct kbs_config_loader *l)
{
    return kbs_fail(l->err, KBS_INTERNAL, "%s: no memory for the configuration", l->file);
}

void kbs_config_report_deinit(struct kbs_config_report *report)
{
    kbs_arena_deinit(&report->arena);
    *report = (struct kbs_config_report){.n = 0};
}
