/* In the place of kbs_report_data_check(): no kind of evidence has a place for report data. */
#include "attest/report_data.h"

int __wrap_kbs_report_data_check(enum kbs_tee tee, const json_t *evidence,
                                 const struct kbs_digest *expected, struct kbs_error *err);

int __wrap_kbs_report_data_check(enum kbs_tee tee, const json_t *evidence,
                                 const struct kbs_digest *expected, struct kbs_error *err)
{
    (void)evidence;
    (void)expected;
    return kbs_fail(err, KBS_UNSUPPORTED, "nothing is looked for in evidence of %s",
                    kbs_tee_name(tee));
}
