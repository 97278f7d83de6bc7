/* Listening sockets: bound once by kbsd, handed to every front that it starts. */
#ifndef KBS_SUPERVISOR_LISTEN_H
#define KBS_SUPERVISOR_LISTEN_H

#include "config/config.h"

struct kbsd_listener {
    int fd;
    bool tls;
    char url
        [160]; /* with the real port: "https://127.0.0.1:8080", "http://[::1]:80", "unix:/path" */
};

struct kbsd_listeners {
    struct kbsd_listener v[KBS_LIMIT_FRONT_LISTENERS];
    size_t n;
};

/* Binds and listens on everything in `server`. KBS_INPUT if an address is taken or not ours. */
KBS_MUST_CHECK int kbsd_listeners_open(struct kbsd_listeners *l,
                                       const struct kbs_config_server *server,
                                       struct kbs_error *err);
/* Closes them and removes the unix sockets. */
void kbsd_listeners_close(struct kbsd_listeners *l);

#endif
