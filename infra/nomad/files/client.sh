#!/bin/bash
# Makes this machine a Nomad client, whenever it starts: packages, docker, the store program, Nomad, certificates, agent.
set -euo pipefail
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"
# shellcheck source=machine.sh
source "${BASH_SOURCE[0]%/*}/machine.sh"

# Docker runs without AppArmor where its parser is not installed, and says nothing; docker.io only recommends it.
install_packages apparmor ca-certificates curl docker.io iptables jq openssl python3 python3-venv unzip
install_nomad

# Before the agent takes a task: tasks are kept from the machine's identity.
install_config /usr/local/lib/mlops/daemon.json /etc/docker/daemon.json root
if [[ $CHANGED == yes ]]; then systemctl restart docker.service; fi
if [[ $(docker info --format '{{.SecurityOptions}}') != *name=apparmor* ]]; then
    fail "Docker confines no container by AppArmor, so no task is run here"
fi
install_units nomad.service mlops-certificates.{service,timer} mlops-metadata.service
systemctl enable --quiet mlops-metadata.service
systemctl restart mlops-metadata.service
install --mode=0755 /usr/local/lib/mlops/docker-credential-artifact-registry.sh /usr/local/bin/docker-credential-artifact-registry

say "installs the store program"
bash /usr/local/lib/mlops/store-program.sh

# Every task runs as nobody, and hands its run's directory to the next one there.
install --directory --owner=nobody --group=nogroup --mode=0700 /var/lib/mlops/models
install --directory --mode=0700 /var/lib/nomad /etc/nomad.d

say "takes its certificates"
refresh_certificates root
install_config /usr/local/lib/mlops/agent.json /etc/nomad.d/agent.json root
start_nomad
systemctl enable --now --quiet mlops-certificates.timer
say "this machine is a Nomad client"
