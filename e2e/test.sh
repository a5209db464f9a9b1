#!/usr/bin/env bash
# Runs all end-to-end tests, with the flags of go test that are given. One machine carries all the hosts, and it may be
# shared: when a test or two have failed, they are run once more, on hosts of their own. A test that fails twice has
# failed, and so has a run in which some test did not come to its end. Which ones were run again is told at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() { "${GO:-go}" test -tags e2e -count=1 -p 1 -v "$@" ./e2e/...; }

run "$@" | tee "$log" && exit 0

mapfile -t failed < <(sed -n 's/^--- FAIL: \(Test[A-Za-z0-9_]*\) .*/\1/p' "$log" | sort -u)
if ((${#failed[@]} < 1 || ${#failed[@]} > 2)); then
	exit 1
fi
for name in $(run "$@" -list '^Test' | grep '^Test'); do
	grep -q "^--- [A-Z]*: $name " "$log" || { echo "e2e: $name did not come to its end"; exit 1; }
done
echo "e2e: once more: ${failed[*]}"
run "$@" -run "^($(IFS='|' && echo "${failed[*]}"))\$" || exit 1
echo "e2e: passed, ${failed[*]} at the second try"
