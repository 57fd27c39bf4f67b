#!/bin/bash
# Bootstraps the ACLs of a Nomad with a token that is known beforehand: on standard input, and neither an argument nor
# printed. Any number of servers may do it, any number of times: one succeeds, for the others it is already done.
set -euo pipefail
address=$1 ca=$2
patience=${3:-600}
IFS= read -r token || [[ -n $token ]]

ask() { # PATH CURL_ARGUMENT...: the answer, and on a line of its own its status
    local path=$1
    shift
    curl --silent --cacert "$ca" --max-time 30 --write-out '\n%{http_code}' "$@" "$address/v1/$path" || true
}

# With another token than this the program could not sign in, and nor could anybody else.
known() {
    local answer
    answer=$(ask acl/token/self --header @<(printf 'X-Nomad-Token: %s\n' "$token"))
    [[ ${answer##*$'\n'} == 200 ]]
}

deadline=$((SECONDS + patience))
problem="no answer"
while ((SECONDS < deadline)); do
    answer=$(printf '{"BootstrapSecret":"%s"}' "$token" | ask acl/bootstrap --request PUT --data-binary @-)
    status=${answer##*$'\n'}
    case $status:$answer in
    200:*)
        echo "bootstrapped the ACLs"
        exit
        ;;
    400:*"bootstrap already done"*)
        if known; then
            echo "the ACLs are bootstrapped already"
            exit
        fi
        problem="the ACLs were bootstrapped with another token; docs/runbooks/rotate-certificates-and-tokens.md tells how to reset them"
        ;;
    000:*) problem="no answer" ;;
    *) problem="status $status" ;;
    esac
    sleep 2
done
echo "the ACLs could not be bootstrapped within $patience seconds: $problem" >&2
exit 1
