#!/usr/bin/env bash
# From a clean clone to delivered, tested software, on a fresh Debian or Ubuntu with a Rust toolchain.
#
#   scripts/quickstart.sh                                    the recorded conversation that ships with the example
#   scripts/quickstart.sh --base-url URL --model NAME        a model of yours; its key in OPENAI_API_KEY
#
# All arguments go to `devfactory run`. Installs the missing system packages (with sudo only when not root), builds,
# runs examples/jobs/url-shortener, and runs the delivered software's own tests in ./out/software.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

say "system packages"
scripts/install-deps.sh

if ! command -v cargo >/dev/null 2>&1; then
  echo "error: no cargo on the PATH; install a Rust toolchain (https://rustup.rs) and run this again" >&2
  exit 1
fi

say "building (release; the first build takes some minutes)"
cargo build --release --locked -p devfactory -p devfactoryd -p devfactory-proxy -p devfactory-worker </dev/null

# Each run gets its own stack, so that it shows the same on a second start.
data=$(mktemp -d "${TMPDIR:-/tmp}/devfactory-quickstart.XXXXXX")
trap 'rm -rf "$data"' EXIT
devfactory="${CARGO_TARGET_DIR:-target}/release/devfactory"

say "running examples/jobs/url-shortener"
status=0
"$devfactory" run examples/jobs/url-shortener --data-dir "$data" --out ./out "$@" || status=$?
if [ "$status" -ne 0 ]; then
  trap - EXIT
  echo "error: the run ended with status $status; logs and data are kept in $data" >&2
  exit "$status"
fi

say "the audit log, verified without a daemon"
"$devfactory" audit verify --data-dir "$data/daemon"

say "the delivered software's own tests, in ./out/software"
if (cd out/software && python3 -B -m unittest discover -s tests) </dev/null; then
  say "delivered to ./out/software, its tests pass there"
else
  echo "error: the delivered software's tests fail in ./out/software" >&2
  exit 1
fi
