/* The limit that is shipped. See wear.h. */
#include "hsm/wear.h"

#include "base/limits.h"

uint64_t kbs_wear_objects(void)
{
    return KBS_LIMIT_TOKEN_OBJECTS;
}
