# shellcheck shell=bash
# How a machine becomes one that runs Nomad, for servers and clients. Each step may be repeated: all of it is run whenever
# the machine starts.

install_packages() { # PACKAGE...
    if dpkg --status "$@" >/dev/null 2>&1; then return; fi
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

# A running agent is left alone unless its configuration is another.
start_nomad() {
    if [[ $CHANGED == yes ]] || ! systemctl --quiet is-active nomad.service; then systemctl restart nomad.service; fi
}
