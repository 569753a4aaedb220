#!/usr/bin/env bash
# Proves everything. On a fresh Debian or Ubuntu with Rust: ./test.sh
#
#   ./test.sh              every step, in order
#   ./test.sh fmt clippy   only these
#
# Steps: packages fmt clippy test doc deny
# `packages` installs what tests/packages.txt lists when it may (root, or sudo without a
# password), and otherwise says what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly STEPS=(packages fmt clippy test doc deny)
readonly LIST=tests/packages.txt
# Debian keeps servers where users do not look, and rustup keeps cargo where fresh shells do not.
export PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"

say() { printf '%s\n' "$*"; }
fail() {
    say "test.sh: $*" >&2
    exit 1
}

# --- packages ---

is_there() { # PROGRAM[|OTHER...], or python3:MODULE
    local name
    local -a names
    IFS='|' read -ra names <<<"$1"
    for name in "${names[@]}"; do
        case $name in
            python3:*) /usr/bin/python3 -c "import ${name#python3:}" 2>/dev/null && return 0 ;;
            *) command -v "$name" >/dev/null && return 0 ;;
        esac
    done
    return 1
}

missing_packages() { # one a line, as the list has them
    local program package _
    while read -r program package _; do
        case $program in '' | '#'*) continue ;; esac
        is_there "$program" || say "$package"
    done <"$LIST"
}

available() { # PACKAGE[|OTHER...]: the first that the distribution has
    local name
    local -a names
    IFS='|' read -ra names <<<"$1"
    for name in "${names[@]}"; do
        if LC_ALL=C apt-cache policy "$name" | grep -q 'Candidate: [^(]'; then
            say "$name"
            return
        fi
    done
    # Nothing to choose from: apt-get names it in its error.
    say "${names[0]}"
}

# The test suite starts its own servers, on its own ports. The ones that packages start by
# themselves would only be in the way, so what was not there before is not left running.
# Its caller looks at its result, which switches `set -e` off in here: hence `|| return`.
install_packages() { # PACKAGE...
    local -a as_root=() wanted=() fresh=()
    local package unit
    [[ $EUID -eq 0 ]] || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -qq || return
    for package in "$@"; do
        wanted+=("$(available "$package")")
    done
    for unit in nginx haproxy redis-server; do
        [[ -e /lib/systemd/system/$unit.service ]] || fresh+=("$unit")
    done
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -d /run/systemd/system && ! -e $policy ]]; then
        # A container: tell the maintainer scripts to start nothing, for as long as this takes.
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        # shellcheck disable=SC2064 # the values of now are meant
        trap "${as_root[*]} rm -f $policy" EXIT
    else
        policy=
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null || return
    if [[ -n $policy ]]; then
        "${as_root[@]}" rm -f "$policy"
        trap - EXIT
    fi
    for unit in "${fresh[@]}"; do
        if [[ -d /run/systemd/system && -e /lib/systemd/system/$unit.service ]]; then
            "${as_root[@]}" systemctl disable --quiet --now "$unit.service"
        fi
    done
}

may_install() {
    command -v apt-get >/dev/null || return 1
    [[ $EUID -eq 0 ]] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

run_packages() {
    local -a missing
    mapfile -t missing < <(missing_packages)
    if [[ ${#missing[@]} -gt 0 ]] && may_install; then
        say "installing: ${missing[*]}"
        install_packages "${missing[@]}" || fail "apt-get could not install: ${missing[*]}"
        mapfile -t missing < <(missing_packages)
    fi
    [[ ${#missing[@]} -eq 0 ]] ||
        fail "the tests need Debian packages that are missing and that only root may install:" \
            "${missing[*]//|/ or }"
    say "everything that $LIST names is there"
}

# --- the rest ---

run_fmt() { cargo fmt --all --check; }
run_clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
run_test() { cargo test --locked --workspace; } # documentation examples as well
run_doc() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps; }
run_deny() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --log-level error --locked check bans licenses sources
    else
        say "cargo-deny is not installed, so licences and bans are left to CI"
    fi
}

main() {
    local -a chosen=("$@")
    local step began=$SECONDS
    [[ ${#chosen[@]} -gt 0 ]] || chosen=("${STEPS[@]}")
    for step in "${chosen[@]}"; do
        [[ " ${STEPS[*]} " == *" $step "* ]] || fail "no step \`$step\`; steps: ${STEPS[*]}"
    done
    command -v cargo >/dev/null || fail "Rust is missing; get it from https://rustup.rs"
    for step in "${chosen[@]}"; do
        local since=$SECONDS
        say "=== $step"
        # In a shell of its own, so that its first failing command ends it.
        if ! bash "${BASH_SOURCE[0]}" --only "$step"; then
            say "=== FAILED: $step, after $((SECONDS - since)) s ($((SECONDS - began)) s in all)"
            exit 1
        fi
        say "=== $step: $((SECONDS - since)) s"
    done
    say "=== PASSED: ${chosen[*]}, $((SECONDS - began)) s in all"
}

if [[ ${1-} == --only ]]; then
    "run_$2"
else
    main "$@"
fi
