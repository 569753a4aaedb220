#!/bin/sh
# Compares gwproxy with nginx and HAProxy on this machine; see README.md for the method.
# Builds the release binary first unless GWPROXY_BIN names one or --no-build is given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec python3 -B "$here/compare.py" "$@"
