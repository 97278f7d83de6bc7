/* kbs-token-few-N is kbs-token, but worn after N objects: seconds of load instead of hours. */
#include "hsm/wear.h"

uint64_t kbs_wear_objects(void)
{
    return KBS_TEST_OBJECTS;
}
