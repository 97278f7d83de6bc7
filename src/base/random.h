/* Random bytes from OpenSSL's generator. Aborts if it fails: nothing sensible can follow. */
#ifndef KBS_BASE_RANDOM_H
#define KBS_BASE_RANDOM_H

#include <stddef.h>

void kbs_random(void *out, size_t n);

#endif
