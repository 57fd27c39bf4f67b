#!/bin/bash
# Keeps tasks from the metadata server, and so from the machine's identity: containers, and processes that are not root's.
# Names are still looked up there (port 53). Run again, it changes nothing.
set -euo pipefail
server=169.254.169.254

rule() { # CHAIN ARGUMENT...
    iptables --wait --check "$@" 2>/dev/null || iptables --wait --insert "$@"
}

# The chain is docker's, for rules that come before its own; it is there once docker runs.
iptables --wait --new-chain DOCKER-USER 2>/dev/null || true
for protocol in tcp udp; do
    rule DOCKER-USER --destination "$server" --protocol "$protocol" ! --dport 53 --jump REJECT
done
rule OUTPUT --destination "$server" --protocol tcp ! --dport 53 --match owner ! --uid-owner 0 --jump REJECT
