#!/bin/bash
# Makes this machine a Nomad server, whenever it starts: packages, disk, Nomad, secrets, agent, bootstrap of the ACLs.
set -euo pipefail
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"
# shellcheck source=machine.sh
source "${BASH_SOURCE[0]%/*}/machine.sh"

install_packages ca-certificates curl jq openssl unzip
install_nomad
id nomad >/dev/null 2>&1 || useradd --system --home-dir /var/lib/nomad --shell /usr/sbin/nologin nomad

# Raft's data outlives the machine: it is on a disk of its own, formatted once.
disk=/dev/disk/by-id/google-data
blkid "$disk" >/dev/null || mkfs.ext4 -q "$disk"
install --directory /var/lib/nomad
mountpoint --quiet /var/lib/nomad || mount -o discard,defaults "$disk" /var/lib/nomad
install --directory --owner=nomad --mode=0700 /var/lib/nomad/data
install --directory --owner=nomad --mode=0700 /etc/nomad.d

say "takes its secrets"
refresh_certificates nomad
install_config /usr/local/lib/mlops/agent.json /etc/nomad.d/agent.json nomad

# What is secret, or known to Google only, has files of its own, and is in memory until it is in its place.
work=$(mktemp --directory --tmpdir=/run)
# In two steps: the metadata server ends its answers with no newline, which `read` would take for a failure.
name=$(metadata instance/attributes/nomad-key)
IFS=/ read -r _ project _ location _ ring _ key <<<"$name"
jq --null-input --arg project "$project" --arg region "$location" --arg ring "$ring" --arg key "$key" \
    '{keyring: {gcpckms: {active: true, project: $project, region: $region, key_ring: $ring, crypto_key: $key}}}' \
    >"$work/keyring.json"
secret "$GOSSIP_SECRET" | jq --raw-input --slurp '{server: {encrypt: rtrimstr("\n")}}' >"$work/gossip.json"
install_config "$work/keyring.json" /etc/nomad.d/keyring.json nomad
install_config "$work/gossip.json" /etc/nomad.d/gossip.json nomad
if [[ $REPLICATES == yes ]]; then
    secret "$TOKEN_SECRET" | jq --raw-input --slurp '{acl: {replication_token: rtrimstr("\n")}}' >"$work/replication.json"
    install_config "$work/replication.json" /etc/nomad.d/replication.json nomad
fi

install -D --mode=0644 /usr/local/lib/mlops/server-user.conf /etc/systemd/system/nomad.service.d/user.conf
install_units nomad.service mlops-certificates.{service,timer} mlops-snapshot.{service,timer} mlops-report.{service,timer}
start_nomad
say "waits for a leader, to bootstrap the ACLs"
secret "$TOKEN_SECRET" | bash /usr/local/lib/mlops/bootstrap.sh https://127.0.0.1:4646 "$TLS/ca.pem"
systemctl enable --now --quiet mlops-certificates.timer mlops-snapshot.timer mlops-report.timer
say "this machine is a Nomad server"
