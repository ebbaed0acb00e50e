#!/usr/bin/env bash
# Builds and runs all tests, kind by kind, and prints totals.
#
#   scripts/test.sh          everything that fits an ordinary run
#   scripts/test.sh --full   the long ones too (DF_TEST_FULL=1)
#
# Kinds: unit (libraries and binaries, property tests among them), documentation examples, integration
# (tests/ of each package) and process (targets named e2e_*: real daemons, real signals).
# A test that cannot run here prints one line `SKIPPED: reason` and returns; it is counted as skipped, not as
# passed. So is an ignored test, unless its reason says `run by ...`: that one is the inner process of another
# test. The last line is for machines: `N passed, N failed, N skipped`.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  "") ;;
  --full) export DF_TEST_FULL=1 ;;
  *) echo "usage: scripts/test.sh [--full]" >&2; exit 2 ;;
esac

# A hung test must end the run with a message, not with the patience of whoever started it.
limit_per_kind=45m
[ -z "${DF_TEST_FULL:-}" ] || limit_per_kind=4h

logs="${CARGO_TARGET_DIR:-target}/test-logs"
mkdir -p "$logs"
passed=0 failed=0
skipped="${DF_EARLIER_SKIPS:-0}" # what .ci/run could not check
table=""

# Names of the test targets of all packages that match a pattern, once each.
targets() {
  local file name
  for file in apps/*/tests/*.rs crates/*/tests/*.rs xtask/tests/*.rs apps/*/tests/*/main.rs crates/*/tests/*/main.rs; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .rs)
    [ "$name" != main ] || name=$(basename "$(dirname "$file")")
    case "$name" in e2e_*) [ "$1" = process ] && echo "$name" ;; *) [ "$1" = integration ] && echo "$name" ;; esac
  done | sort -u
}

# Runs one kind: its name, then arguments for cargo test.
run_kind() {
  local kind="$1" log="$logs/$1.log" status=0 started=$SECONDS ok bad skips
  shift
  echo "== $kind tests"
  timeout --kill-after=30s "$limit_per_kind" cargo test --locked --workspace --no-fail-fast "$@" -- --show-output \
    </dev/null >"$log" 2>&1 || status=$?
  read -r ok bad skips < <(awk '
    /^test result: / {
      for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^passed/) ok += $i
        if ($(i + 1) ~ /^failed/) bad += $i
        if ($(i + 1) ~ /^ignored/) skips += $i
      }
    }
    /^SKIPPED: / { skips++; ok-- }
    /^test .* \.\.\. ignored, run by / { skips-- }
    END { print ok + 0, bad + 0, skips + 0 }' "$log")
  grep -E '^(SKIPPED: |test .* \.\.\. ignored)' "$log" | grep -v ' ignored, run by ' | sort | uniq -c | sed 's/^ *\([0-9]*\) /  \1 x /' || true
  if [ "$status" -ne 0 ]; then
    [ "$status" -ne 124 ] || echo "  no end after $limit_per_kind: stopped"
    [ "$bad" -gt 0 ] || bad=1 # it did not build, or died before it could count
    grep -E '^(test .* FAILED|error(\[|:))' "$log" || true
    echo "  -- the end of $log:"
    tail -n 150 "$log"
  fi
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skips))
  table+=$(printf '%-14s %6d passed %4d failed %4d skipped %6d s' "$kind" "$ok" "$bad" "$skips" "$((SECONDS - started))")$'\n'
  echo "  $ok passed, $bad failed, $skips skipped"
}

# The process tests start the real binaries from the target directory.
echo "== building"
if ! cargo build --locked --workspace --bins </dev/null; then
  printf '\nthe workspace does not build\n\n0 passed, 1 failed, %d skipped\n' "$skipped"
  exit 1
fi

run_kind unit --lib --bins
run_kind documentation --doc
for kind in integration process; do
  arguments=()
  while read -r name; do arguments+=(--test "$name"); done < <(targets "$kind")
  if [ ${#arguments[@]} -gt 0 ]; then run_kind "$kind" "${arguments[@]}"; fi
done

printf '\n%s' "$table"
if [ "$skipped" -gt 0 ]; then
  printf '\n!! %d skipped: this run does not show what the lines above name\n' "$skipped"
fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
