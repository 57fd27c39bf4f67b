# shellcheck shell=bash
# How a machine becomes one that runs Nomad, for servers and clients. Each step may be repeated: all of it is run whenever
# the machine starts.

# A command that fails ends the boot. It is named as it is written here: values, which may be secret, are not printed.
work=
ended() { # STATUS COMMAND
    if [[ -n $work ]]; then rm -rf "$work"; fi
    if (($1 != 0)); then say "the boot ended with code $1: $2" >&2; fi
}
trap 'ended $? "$BASH_COMMAND"' EXIT

install_packages() { # PACKAGE...
    if dpkg --status "$@" >/dev/null 2>&1; then return; fi
    say "installs packages"
    export DEBIAN_FRONTEND=noninteractive
    local attempt
    for attempt in 1 2 3 4 5; do
        if apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends "$@"; then return; fi
        sleep $((attempt * 10))
    done
    fail "packages could not be installed: $*"
}

install_nomad() {
    if [[ $(/usr/local/bin/nomad version 2>/dev/null | head --lines=1) == "Nomad v$NOMAD_VERSION" ]]; then return; fi
    say "installs Nomad $NOMAD_VERSION"
    local zip name=nomad_${NOMAD_VERSION}_linux_amd64.zip
    zip=$(mktemp)
    curl --fail --silent --show-error --location --retry 10 --retry-connrefused --output "$zip" \
        "https://releases.hashicorp.com/nomad/$NOMAD_VERSION/$name"
    if ! sha256sum --check --status <<<"$NOMAD_SHA256  $zip"; then
        rm "$zip"
        fail "$name does not have the SHA-256 that the stack names, so it is not run"
    fi
    unzip -o -q "$zip" nomad -d /usr/local/bin
    chmod 0755 /usr/local/bin/nomad
    rm "$zip"
    CHANGED=yes
}

install_units() { # UNIT...
    local unit
    for unit in "$@"; do install --mode=0644 "/usr/local/lib/mlops/$unit" "/etc/systemd/system/$unit"; done
    systemctl daemon-reload
}

# A running agent is left alone unless its configuration is another. One that ends at once may only lack a grant that is
# not effective yet, such as a server's on the key of its key ring.
start_nomad() {
    if [[ $CHANGED != yes ]] && systemctl --quiet is-active nomad.service; then return; fi
    say "starts Nomad"
    local attempts=60
    until systemctl restart nomad.service; do
        attempts=$((attempts - 1))
        if ((attempts == 0)); then fail "Nomad does not start: $(journalctl --unit=nomad.service --lines=1 --output=cat)"; fi
        sleep 10
    done
}
