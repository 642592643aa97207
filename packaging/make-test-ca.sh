#!/bin/bash
# Makes the identities of a cluster's nodes: a certificate authority of their own, one certificate and key per node, one
# heartbeat key for all. For tests and first deployments; the CA's key stays in OUTDIR, so keep that directory to yourself.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: make-test-ca.sh [--force] OUTDIR NODE...

Makes OUTDIR/NODE/{ca.crt,node.crt,node.key,heartbeat.key} for each NODE, the content of /etc/safepair/identity there,
and OUTDIR/{ca.crt,ca.key,heartbeat.key}, which a later call uses again to add a node.
  --force   replace what is there, CA included: every node needs its new files then
TEXT
}

die() {
    echo "make-test-ca.sh: $*" >&2
    exit 1
}

force=
nodes=()
out=
for argument in "$@"; do
    case $argument in
        --force) force=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*) usage >&2 && exit 64 ;;
        *) if [ -z "$out" ]; then out=$argument; else nodes+=("$argument"); fi ;;
    esac
done
if [ "${#nodes[@]}" = 0 ]; then
    usage >&2
    exit 64
fi
command -v openssl >/dev/null || die "openssl is missing; apt-get install openssl"
for node in "${nodes[@]}"; do
    [[ $node =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]] ||
        die "'$node' is not a node name: a-z, 0-9 and - inside, at most 63 of them"
    if [ -z "$force" ] && [ -e "$out/$node" ]; then
        die "$out/$node is there already; remove it, or replace everything with --force"
    fi
done

umask 077
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Backdated: a node whose clock is somewhat behind must still accept it.
begin=$(date -u -d '-30 days' +%Y%m%d%H%M%SZ)
end=$(date -u -d '+3650 days' +%Y%m%d%H%M%SZ)

cat >"$work/ca.conf" <<'TEXT'
[ca]
default_ca = own
[own]
database = $ENV::WORK/index
new_certs_dir = $ENV::WORK
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = any_name
prompt = no
[any_name]
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[node]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:$ENV::NODE
TEXT
export WORK=$work NODE=none
: >"$work/index"

quiet() {
    "$@" >"$work/output" 2>&1 || {
        cat "$work/output" >&2
        die "failed: $*"
    }
}

new_key() {
    quiet openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

if [ -n "$force" ] || [ ! -e "$out/ca.key" ]; then
    for node in "$out"/*/node.crt; do
        [ -n "$force" ] || [ ! -e "$node" ] ||
            die "$out has nodes and no ca.key, so none can be added; replace everything with --force"
    done
    new_key "$work/ca.key"
    quiet openssl req -new -config "$work/ca.conf" -key "$work/ca.key" -subj "/CN=safepair cluster CA" -out "$work/ca.csr"
    quiet openssl ca -batch -notext -config "$work/ca.conf" -selfsign -keyfile "$work/ca.key" -extensions authority \
        -startdate "$begin" -enddate "$end" -in "$work/ca.csr" -out "$work/ca.crt"
    openssl rand -hex 32 >"$work/heartbeat.key"
    mv -f "$work/ca.key" "$work/ca.crt" "$work/heartbeat.key" "$out/"
fi

for node in "${nodes[@]}"; do
    export NODE=$node
    new_key "$work/node.key"
    quiet openssl req -new -config "$work/ca.conf" -key "$work/node.key" -subj "/CN=$node" -out "$work/node.csr"
    quiet openssl ca -batch -notext -config "$work/ca.conf" -cert "$out/ca.crt" -keyfile "$out/ca.key" -extensions node \
        -startdate "$begin" -enddate "$end" -in "$work/node.csr" -out "$work/node.crt"
    # Whole or not at all: a directory that is there counts as made.
    rm -rf "$work/identity" "${out:?}/$node"
    mkdir "$work/identity"
    cp "$out/ca.crt" "$out/heartbeat.key" "$work/node.crt" "$work/node.key" "$work/identity/"
    chmod 0600 "$work"/identity/*
    cp -a "$work/identity" "$out/.$node.new"
    mv "$out/.$node.new" "$out/$node"
    echo "$out/$node"
done
