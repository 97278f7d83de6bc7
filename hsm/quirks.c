/*
 * The class of a token (hardware, software) is a claim about the world behind the module, which no
 * probe can make: NSS and SoftHSM pass rungs that some hardware does not. So it comes from this
 * table, by the names that the token gives itself, and a token that is not listed is "unknown"
 * whatever it says.
 *
 * Mechanisms are not listed here: the ladder finds out by doing.
 */
#include "hsm/quirks.h"

static const struct kbs_quirk quirks[] = {
    /* Handles are counted up, and one whose object is gone stays invalid. */
    {"SoftHSM project", "SoftHSM", KBS_TOKEN_CLASS_SOFTWARE, false, true},
    /* An empty key database takes the first PIN from a security officer who logs in without one. */
    {"Mozilla Foundation", "NSS", KBS_TOKEN_CLASS_SOFTWARE, true, false},
};

static const struct kbs_quirk quirk_unknown = {"", "", KBS_TOKEN_CLASS_UNKNOWN, false, false};

const struct kbs_quirk *kbs_quirk_find(const char *manufacturer, const char *model)
{
    for (size_t i = 0; i < sizeof(quirks) / sizeof(quirks[0]); i++) {
        if (kbs_span_starts_with(kbs_span_str(manufacturer), quirks[i].manufacturer) &&
            kbs_span_starts_with(kbs_span_str(model), quirks[i].model)) {
            return &quirks[i];
        }
    }
    return &quirk_unknown;
}
