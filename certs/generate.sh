#!/bin/sh
# Makes a throw-away CA, a server certificate and a client certificate with openssl.
# For trying things out; keys are not protected and nothing here is renewed.
set -eu

usage() {
    cat <<'TEXT'
usage: certs/generate.sh [--dir DIR] [--days N] [NAME...]

Writes to DIR (default: the directory of this script):
  ca.pem      ca.key        the authority
  server.pem  server.key    for localhost, 127.0.0.1, ::1 and every NAME (names or addresses)
  client.pem  client.key    a client certificate, CN=client

Files of an earlier run are replaced. Validity: N days (default 30).
TEXT
}

dir=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
days=30
while [ $# -gt 0 ]; do
    case $1 in
        --dir | --days)
            [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
            if [ "$1" = --dir ]; then dir=$2; else days=$2; fi
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        -*) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
        *) break ;;
    esac
done
case $days in
    '' | *[!0-9]*) echo "--days $days is not a number of days" >&2; exit 2 ;;
esac
command -v openssl >/dev/null || { echo "openssl is not installed" >&2; exit 1; }

san="DNS:localhost,IP:127.0.0.1,IP:::1"
for name in "$@"; do
    case $name in
        *[!A-Za-z0-9.:*_-]*) echo "$name is neither a name nor an address" >&2; exit 2 ;;
        *:*) san="$san,IP:$name" ;;
        *[!0-9.]*) san="$san,DNS:$name" ;;
        *) san="$san,IP:$name" ;;
    esac
done

umask 077 # keys are for their owner only, from the first byte on
mkdir -p "$dir"
tmp=$(mktemp -d "$dir/.new.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$tmp/$1.key" 2>/dev/null
}

# issue STEM SUBJECT EXTENSION...: a certificate signed by the authority.
issue() {
    stem=$1 subject=$2
    shift 2
    new_key "$stem"
    printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
        "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" "$@" >"$tmp/extensions"
    openssl req -new -key "$tmp/$stem.key" -subj "$subject" -out "$tmp/request"
    openssl x509 -req -in "$tmp/request" -CA "$tmp/ca.pem" -CAkey "$tmp/ca.key" \
        -set_serial "0x$(openssl rand -hex 16)" -days "$days" -sha256 \
        -extfile "$tmp/extensions" -out "$tmp/$stem.pem" 2>/dev/null
    openssl verify -CAfile "$tmp/ca.pem" "$tmp/$stem.pem" >/dev/null
}

# A name of its own: authorities of one name with different keys confuse clients.
new_key ca
openssl req -x509 -new -key "$tmp/ca.key" -days "$days" -sha256 \
    -subj "/O=gwproxy/CN=throw-away CA $(openssl rand -hex 4)" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$tmp/ca.pem"
issue server "/O=gwproxy/CN=server" "extendedKeyUsage=serverAuth" "subjectAltName=$san"
issue client "/O=gwproxy/CN=client" "extendedKeyUsage=clientAuth" "subjectAltName=DNS:client"

chmod 644 "$tmp"/*.pem
for stem in ca server client; do
    mv -f "$tmp/$stem.key" "$tmp/$stem.pem" "$dir/"
done
echo "written to $dir: ca, server and client (.pem and .key), valid for $days days"
