#!/bin/bash
# Takes the newest certificates from Secret Manager, and lets the agent read them where they are new: tasks go on.
set -euo pipefail
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

refresh_certificates "$NOMAD_USER"
if [[ $CHANGED == yes ]]; then systemctl reload nomad.service; fi
