/* When a worker is worn. A function of its own, so that tests link another one. */
#ifndef KBS_HSM_WEAR_H
#define KBS_HSM_WEAR_H

#include <stdint.h>

/* Session and token objects that one worker of a token that leaks them makes before it is replaced. */
uint64_t kbs_wear_objects(void);

#endif
