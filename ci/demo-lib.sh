# What the demos share: a service that is started, waited for and stopped, in a temporary folder that goes with it.
# Sourced after ci/lib.sh, never run. Sets `work`, and `dir` is the folder of the service at hand.
# shellcheck shell=bash

readonly start_s=60
work=
kbsd_pid=

stop_service() {
    if [ -n "$kbsd_pid" ]; then
        kill -TERM "$kbsd_pid" 2>/dev/null || true
        wait "$kbsd_pid" || true
        kbsd_pid=
    fi
}

clean_up() {
    stop_service
    if [ -n "$work" ] && [ -z "${KBS_DEMO_KEEP:-}" ]; then
        rm -rf "$work"
    fi
}

# Prints a command as it would be typed, then runs it.
show() {
    printf '\n$ %s\n' "${*//$work\//}"
    "$@"
}

# Waits until kbsd has announced itself, for at most start_s seconds.
await_service() {
    local announce=$1 deadline=$((SECONDS + start_s))
    until [ -s "$announce" ]; do
        kill -0 "$kbsd_pid" 2>/dev/null || die "kbsd ended: $(cat "$work/kbsd.log")"
        [ "$SECONDS" -lt "$deadline" ] || die "kbsd did not come up: $(cat "$work/kbsd.log")"
        read -rt 0.1 <>"$work/never" || true
    done
}

# url KIND: an address from the announcement.
url() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]][0])' "$dir/announce.json" "$1"
}

# start_service TOKEN: a new one in $work/TOKEN, and how its administrator and its guests are called.
start_service() {
    local token=$1
    dir=$work/$token
    show kbs-admin init "$dir" --token "$token" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0
    printf '\n$ kbsd -c %s/kbs.toml &\n' "$token"
    kbsd -c "$dir/kbs.toml" --announce "$dir/announce.json" 2>"$work/kbsd.log" &
    kbsd_pid=$!
    await_service "$dir/announce.json"
    # shellcheck disable=SC2034  # for the script that sources this file
    admin=(kbs-admin --profile "$dir/admin/profile.json" --url "$(url admin)")
    # shellcheck disable=SC2034
    guest=(--url "$(url guest)" --ca "$dir/tls/cert.pem")
}

# The programs, and a folder to work in.
begin_demo() {
    step "dependencies"
    ci/setup
    step "build"
    quietly cmake --preset release
    quietly cmake --build --preset release -j "$(nproc)"
    PATH=$KBS_ROOT/build/release/bin:$PATH
    work=$(mktemp -d)
    mkfifo "$work/never"
}
