#!/bin/bash
# Installs the store program, `mlops-registry`, at the version of the checkout that this machine was provisioned from.
set -euo pipefail
# shellcheck source=lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

home=${1:-/opt/mlops-registry}
command=${2:-/usr/local/bin/mlops-registry}
list="$(realpath "${BASH_SOURCE[0]%/*}")/store-program.sha256"
cmp --silent "$list" "$home/store-program.sha256" && exit
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
# Each upload of this version has a name of its own. Any of them will do: what is in it is checked.
objects=https://storage.googleapis.com/storage/v1/b/$PROGRAM_BUCKET/o
object=$(google "$objects?prefix=${PROGRAM_OBJECTS//\//%2F}&maxResults=1" | jq --raw-output '.items[0].name // empty | @uri')
[[ -n $object ]] || fail "gs://$PROGRAM_BUCKET/$PROGRAM_OBJECTS holds no store program; run \`pulumi up\` from this version's checkout"
google --output "$work/program.zip" "$objects/$object?alt=media"
rm -rf "$home"
install --directory "$home/src"
unzip -q "$work/program.zip" -d "$home/src"
# Every file is the one that the boot script names, whoever may write to the bucket.
(cd "$home/src" && sha256sum --check --quiet --strict "$list") || fail "the store program is not the one of this platform's version"
python3 -m venv "$home"
"$home/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --requirement "$home/src/requirements/registry.txt"
# Not built as a package, which would need a build backend: as in images/registry.
echo "$home/src/registry" >"$("$home/bin/python" -c 'import site; print(site.getsitepackages()[0])')/mlops-registry.pth"
printf '#!%s/bin/python\nfrom mlops_registry.main import main\n\nmain()\n' "$home" >"$command"
chmod 0755 "$command"
"$home/bin/python" -m compileall -q "$home"
cp "$list" "$home/store-program.sha256"
