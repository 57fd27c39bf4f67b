#!/bin/bash
# Saves a snapshot of Nomad's state in the bucket of logs. Every server has the timer; only the leader saves.
set -euo pipefail
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

export NOMAD_ADDR=https://127.0.0.1:4646 NOMAD_CACERT=$TLS/ca.pem
leader=$(curl --fail --silent --show-error --cacert "$NOMAD_CACERT" "$NOMAD_ADDR/v1/status/leader" | jq --raw-output .)
[[ $leader == "$(metadata instance/network-interfaces/0/ip):4647" ]] || exit 0

work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
# In the environment of this one program, not in its arguments.
NOMAD_TOKEN=$(secret "$TOKEN_SECRET") nomad operator snapshot save "$work/nomad.snap" >/dev/null
nomad operator snapshot inspect "$work/nomad.snap" >/dev/null
name=nomad/$NOMAD_REGION/$(date --utc +%Y-%m-%dT%H-%M-%SZ).snap
google --request POST --header 'Content-Type: application/octet-stream' --data-binary "@$work/nomad.snap" --output /dev/null \
    "https://storage.googleapis.com/upload/storage/v1/b/$SNAPSHOT_BUCKET/o?uploadType=media&name=${name//\//%2F}"
echo "saved gs://$SNAPSHOT_BUCKET/$name"
