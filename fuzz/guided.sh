#!/usr/bin/env bash
# Coverage-guided fuzzing of one target: libFuzzer over the same function as everything else.
#
#   fuzz/guided.sh TARGET [libFuzzer options, e.g. -max_total_time=60]
#
# Needs a C++ compiler, for libFuzzer itself. What reaches new code is kept in fuzz/found/TARGET,
# what fails in fuzz/corpus/TARGET, from which the next run of the tests takes it.
set -euo pipefail

# As cargo-fuzz has it, without the address sanitizer: there is no unsafe code of ours to watch.
readonly COVERAGE=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
# Cargo calls this script in place of rustc (below); what runs while building has no libFuzzer.
if [[ ${1-} == *rustc ]]; then
    [[ " $* " == *' --crate-name build_script_build '* ]] || exec "$@" "${COVERAGE[@]}"
    exec "$@"
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ $# -ge 1 ]] || {
    echo "usage: fuzz/guided.sh TARGET [libFuzzer options]; targets:" >&2
    ls fuzz/corpus >&2
    exit 2
}
readonly TARGET=$1
shift
[[ -d fuzz/corpus/$TARGET ]] || {
    echo "guided.sh: there is no target \`$TARGET\`" >&2
    exit 2
}

# Coverage of our own packages only: what others wrote is not what we search, and is built once
# for this and for `cargo run -p fuzz --profile fuzz`.
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/guided.sh cargo build --locked -p fuzz --features guided \
    --bin guided --profile fuzz
binary=${CARGO_TARGET_DIR:-target}/fuzz/guided
mkdir -p "fuzz/found/$TARGET"
FUZZ_TARGET=$TARGET "$binary" "fuzz/found/$TARGET" "fuzz/corpus/$TARGET" -max_len=16384 \
    -timeout=1 -rss_limit_mb=512 -artifact_prefix="fuzz/corpus/$TARGET/" "$@"
