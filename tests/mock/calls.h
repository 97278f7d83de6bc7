/* The file `calls` in a mock token's folder, as the module maps it and tests read it: what was
 * called, and what a script made of it. Its counters only grow. */
#ifndef KBS_TESTS_MOCK_CALLS_H
#define KBS_TESTS_MOCK_CALLS_H

#include <stdint.h>

#define MOCK_ORDERS_MAX 16u
#define MOCK_CALLS_FUNCTIONS 44u

struct mock_calls_record {
    char name[32];
    uint64_t calls;
    uint64_t faults; /* orders of scripts that were carried out */
    uint64_t inside; /* calls that wait their latency now */
    uint64_t most;   /* and how many did at a time, at most, in one process or several */
};

struct mock_calls {
    uint64_t vanished;              /* the id of the script that said so */
    uint64_t wrong_pins;            /* C_Login and C_SetPIN with a PIN that is not the token's */
    uint64_t hits[MOCK_ORDERS_MAX]; /* of a line: script id in the upper half, times met below */
    struct mock_calls_record functions[MOCK_CALLS_FUNCTIONS];
};

#endif
