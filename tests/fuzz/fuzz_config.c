/*
 * Configurations under arbitrary bytes: JSON if they begin with "{", else TOML. The properties: it is
 * the file's fault and never memory's; there is a tree or an error and never both; findings are in the
 * order of the file, and each says which file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_report(const struct kbs_config_report *r, const char *file)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct kbs_config_finding *f = &r->v[i];
        if (strncmp(f->text, file, strlen(file)) != 0) {
            abort();
        }
        if (i > 0 && f->line != 0 && (r->v[i - 1].line == 0 || r->v[i - 1].line > f->line)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *file = size > 0 && data[0] == '{' ? "/nowhere/kbs.json" : "/nowhere/kbs.toml";
    const struct kbs_config *config = NULL;
    struct kbs_config_report report;
    struct kbs_error err = KBS_ERROR_NONE;

    if (size > KBS_CONFIG_FILE_BYTES) {
        return 0;
    }
    int rc = kbs_config_load_text(file, kbs_span(data, size), &config, &report, &err);
    check_report(&report, file);
    if (rc != (report.n_errors > 0 ? -1 : 0) || (rc == 0) != (config != NULL) ||
        (rc != 0 && err.category != KBS_INPUT)) {
        abort();
    }
    kbs_config_report_deinit(&report);
    config = kbs_config_free(config);
    return 0;
}
