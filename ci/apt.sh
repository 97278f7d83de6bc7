# How ci/setup, ci/tokens and others use apt. Sourced after ci/lib.sh, never run. Three ways: packages installed from the host's
# own archive, with lists and cache in a temporary directory; a package of that archive unpacked below build/deps, installed
# nowhere; and package files fetched from Debian's testing suite by an apt that shares nothing with the host's, to be
# unpacked there too. Who fetches of the latter sets private_apt_otherwise: what a person can do where that fails.
# shellcheck shell=bash

scratch=
lists_fetched=
cleanup() {
    [ -z "$scratch" ] || rm -rf "$scratch" 2>/dev/null || as_root rm -rf "$scratch" # apt under sudo owns parts of it
}
trap cleanup EXIT

# One scratch directory for all of apt's private state. apt drops to the user _apt for downloads, which must be able
# to pass through it.
make_scratch() {
    [ -z "$scratch" ] || return 0
    scratch=$(mktemp -d)
    chmod 711 "$scratch"
    mkdir -p "$scratch"/{lists,cache/archives}/partial
}

missing_packages() {
    local package status
    for package in "$@"; do
        # shellcheck disable=SC2016  # dpkg-query's own variable
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=none
        [ "$status" = installed ] || printf '%s\n' "$package"
    done
}

# Private lists and cache: the packages get installed, everything else stays as the host's administrator left it.
host_apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 \
        -o Dir::State::lists="$scratch/lists" -o Dir::Cache="$scratch/cache" "$@"
}

fetch_lists() {
    make_scratch
    [ -z "$lists_fetched" ] || return 0
    host_apt update >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        die "apt-get update failed (above): are the host's apt sources reachable?"
    }
    lists_fetched=1
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    note "installing ${missing[*]}"
    fetch_lists
    host_apt install -y --no-install-recommends "${missing[@]}" >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        die "could not install: ${missing[*]} (apt's own words are above)"
    }
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -eq 0 ] || die "apt reported success, but these are not installed: ${missing[*]}"
}

# A package's files in build/deps/PACKAGE: for daemons that must not be started here, and tools whose dependencies nobody needs.
unpack_package() {
    local package=$1 folder=$KBS_ROOT/build/deps/$1 fresh
    mkdir -p "${folder%/*}"
    exec 8>"${folder%/*}/.lock-$package" # two runs side by side
    flock 8
    if [ ! -d "$folder" ]; then
        note "fetching $package (nothing of it is installed)"
        fetch_lists
        mkdir "$scratch/$package"
        (cd "$scratch/$package" && host_apt download "$package") >"$scratch/log" 2>&1 || {
            cat "$scratch/log" >&2
            die "could not download $package (apt's own words are above)"
        }
        fresh=$(mktemp -d "$folder.XXXXXX")
        dpkg-deb -x "$scratch/$package/$package"_*.deb "$fresh"
        mv "$fresh" "$folder"
    fi
    exec 8>&-
}

# Prints the URI of the Debian archive the host itself installs from. Asking apt, instead of reading its files, covers
# one-line and deb822 sources alike. The host's own release comes first; security and update pockets never carry testing.
archive_uri() {
    local codename uri
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-stable}")
    # shellcheck disable=SC2016  # apt's own variables
    uri=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v codename="$codename" '
            $2 != "main" || $1 ~ /-(security|updates|backports|proposed-updates)/ { next }
            $1 == codename && own == "" { own = $3 }
            other == "" { other = $3 }
            END { print own != "" ? own : other }')
    # shellcheck disable=SC2154  # private_apt_otherwise: the sourcing script's
    [ -n "$uri" ] || die "no Debian archive (component main) in this host's apt sources. $private_apt_otherwise"
    printf '%s\n' "$uri"
}

debian_keyring() {
    local path
    for path in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [ -r "$path" ] && { printf '%s\n' "$path"; return 0; }
    done
    die "no Debian archive keyring: install the package debian-archive-keyring"
}

# An apt that shares nothing with the host's but the way to reach the mirror: of the host's configuration only the
# Acquire options (proxies, credentials by auth.conf) are copied; hooks and preferences are not. An index past its date
# (a frozen mirror) is taken: its signature is still checked, and what we use must have a known hash or be newer.
private_apt_config() {
    local uri keyring architecture
    uri=$(archive_uri)
    keyring=$(debian_keyring)
    architecture=$(dpkg --print-architecture)
    mkdir -p "$scratch"/testing/{lists,cache/archives}/partial "$scratch"/testing/{parts,preferences,state}
    : >"$scratch/testing/status"
    cp "$keyring" "$scratch/testing/keyring.${keyring##*.}"
    chmod 644 "$scratch/testing/keyring.${keyring##*.}"
    printf 'deb [arch=%s signed-by=%s] %s testing main\n' \
        "$architecture" "$scratch/testing/keyring.${keyring##*.}" "$uri" >"$scratch/testing/sources.list"
    {
        apt-config dump --no-empty --format '%f "%v";%n' |
            grep '^Acquire::' | grep -v '^Acquire::IndexTargets' || true
        cat <<CONFIG
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Dir::State "$scratch/testing/state";
Dir::State::status "$scratch/testing/status";
Dir::State::lists "$scratch/testing/lists";
Dir::Cache "$scratch/testing/cache";
Dir::Etc::sourcelist "$scratch/testing/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$scratch/testing/parts";
CONFIG
    } >"$scratch/testing/apt.conf"
}

private_apt() {
    APT_CONFIG=$scratch/testing/apt.conf apt-get -q "$@" >"$scratch/log" 2>&1 || {
        cat "$scratch/log" >&2
        die "'apt-get $1' against the testing suite of this host's mirror failed (above). $private_apt_otherwise"
    }
}

# private_download FOLDER PACKAGE...: the packages' files, of the testing suite, in a new folder.
private_download() {
    local folder=$1
    shift
    mkdir "$folder"
    [ "$(id -u)" -ne 0 ] || chown _apt "$folder" 2>/dev/null || true
    (cd "$folder" && private_apt download "$@")
}
