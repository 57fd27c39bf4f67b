# shellcheck shell=bash
# What the programs of a machine share: Google's APIs by the machine's own identity, secrets, the agent's certificates.
# Neither a token nor a secret is ever an argument, which `ps` would show, or printed: they go through pipes.

# What this machine is told: PROJECT, NOMAD_REGION and so on, by boot.py.
# shellcheck source=machine.env
source "${BASH_SOURCE[0]%/*}/machine.env"

METADATA=http://169.254.169.254/computeMetadata/v1
TLS=/etc/nomad.d/tls

# Goes to the serial console, whose last such line `pulumi up` prints where a server does not come up (console.py).
say() { # MESSAGE
    echo "mlops: $1"
}

fail() { # MESSAGE
    say "$1" >&2
    exit 1
}

metadata() { # PATH
    curl --fail --silent --show-error --retry 10 --retry-connrefused --header 'Metadata-Flavor: Google' "$METADATA/$1"
}

# A new grant takes minutes until it holds everywhere (cloud.google.com/iam/docs/access-change-propagation), and until then
# the answer is 403, which curl itself does not try again. Its arguments are used again, so none of them is standard input.
google() { # CURL_ARGUMENT...
    local token answer attempts=60
    token=$(metadata instance/service-accounts/default/token | jq --raw-output .access_token)
    until answer=$(
        curl --fail --silent --show-error --retry 10 --retry-connrefused --retry-max-time 300 --max-time 300 \
            --write-out '\n%{http_code}' --header @<(printf 'Authorization: Bearer %s\n' "$token") "$@"
    ); do
        attempts=$((attempts - 1))
        if [[ ${answer##*$'\n'} != 403 ]] || ((attempts == 0)); then return 1; fi
        sleep 10
    done
    printf '%s' "${answer%$'\n'*}"
}

secret() { # NAME
    google "https://secretmanager.googleapis.com/v1/projects/$PROJECT/secrets/$1/versions/latest:access" |
        jq --raw-output .payload.data | base64 --decode
}

# Whether anything that the agent reads is another than before.
export CHANGED=no

# Takes the agent's certificates from Secret Manager.
refresh_certificates() { # OWNER
    local bundle part
    bundle=$(secret "$CERTIFICATES_SECRET")
    install --directory --owner="$1" --mode=0700 "$TLS"
    for part in ca certificate key; do
        (umask 077 && jq --raw-output ".$part // empty" <<<"$bundle" >"$TLS/$part.new")
        # An answer without it must not take the place of what works.
        [[ -s $TLS/$part.new ]] || fail "$CERTIFICATES_SECRET has no $part"
        install_config "$TLS/$part.new" "$TLS/$part.pem" "$1"
        rm "$TLS/$part.new"
    done
}

# Puts a file in its place, where it is another than the one there.
install_config() { # SOURCE TARGET OWNER
    if ! cmp --silent "$1" "$2"; then
        install -D --owner="$3" --mode=0600 "$1" "$2"
        CHANGED=yes
    fi
}
