/*
 * kbs-guest: a guest of the key broker for tests, demonstrations and operators who want to see what
 * a guest sees. It makes its TEE key in software and its evidence is "sample".
 */
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/program.h"
#include "cli/status.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"attest", kbs_guest_cmd_attest},
    {"get-key", kbs_guest_cmd_get_key},
    {"get-resource", kbs_guest_cmd_get_resource},
    {"open", kbs_guest_cmd_open},
    {"rewrap", kbs_guest_cmd_rewrap},
    {"provision", kbs_guest_cmd_provision},
    {"register", kbs_guest_cmd_register},
};

int main(int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis =
            "kbs-guest attest | get-key | get-resource | rewrap | provision | register | open [options]",
        .about = "A guest of the key broker service with sample evidence.\n\n"
                 "  attest          attest and print the token\n"
                 "  get-key         attest, ask for a key and open the answer\n"
                 "  get-resource    attest, ask for a secret and open the answer\n"
                 "  rewrap          attest, have the guest's own wrapped key wrapped to it\n"
                 "  provision       attest, have a key of its own made, or given again\n"
                 "  register        attest, read or raise a value that only grows\n"
                 "  open            open an answer kept in a file\n\n"
                 "kbs-guest COMMAND --help shows a command's options.",
    };
    int at = 0;
    int r = kbs_args_parse_leading(&args, argc, argv, &at);

    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (at >= argc) {
        return kbs_args_usage(&args, "a command is missing");
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[at], commands[i].name) == 0) {
            int status = kbs_cli_start();
            return status != KBS_CLI_OK ? status : commands[i].run(argc - at, argv + at);
        }
    }
    return kbs_args_usage(&args, "unknown command %s", argv[at]);
}
