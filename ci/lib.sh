# Shell helpers shared by the scripts in ci/. Sourced, never run: it sets KBS_ROOT to the top of the checkout,
# so every script works from any directory, and gives all of them one way to report and one way to become root.
# shellcheck shell=bash

KBS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # read by the scripts that source this file
readonly KBS_ROOT

# What a reader of the log scans for: "==> text" opens a step, "name: text" is said about it.
step() { printf '\n==> %s\n' "$*"; }
note() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() { printf '%s: error: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Runs a command and shows its output only if it fails.
quietly() {
    local output
    output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }
}

# Runs a command as root: directly if we are, else through sudo, else says what is missing.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "'$1' needs root, and there is no sudo: run this as root once"
    fi
}
