# Shorthands for the steps of test.sh, which are the steps of CI.

# Every step
all:
    ./test.sh

# What .ci/run does
ci:
    .ci/run

# Debian packages that the tests need
packages:
    ./test.sh packages

fmt:
    ./test.sh fmt

clippy:
    ./test.sh clippy

test:
    ./test.sh test

doc:
    ./test.sh doc

deny:
    ./test.sh deny
