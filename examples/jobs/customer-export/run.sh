#!/usr/bin/env bash
# Shows four eyes: submits a job that needs an approval, is refused as its own submitter, approves as somebody else.
#
# Wants a running stack (`devfactory up`), DEVFACTORY_URL, and in DEVFACTORY_API_KEY a key that may make keys.
# Set DEVFACTORY to the binary when it is not on the PATH.
set -euo pipefail
cd "$(dirname "$0")"
: "${DEVFACTORY_URL:?set it to the address that devfactory up printed}" "${DEVFACTORY_API_KEY:?set it to the admin key}"
devfactory="${DEVFACTORY:-devfactory}"

# Prints one member of the JSON object on standard input: field NAME [NAME...]
field() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[k], sys.argv[1:], json.load(sys.stdin)))' "$@"; }
state() { "$devfactory" --json status "$job" | field summary state; }
say() { printf '\n== %s\n' "$*"; }

submitter=$("$devfactory" --json keys create --name alice-submitter --role submitter --role approver | field secret)
approver=$("$devfactory" --json keys create --name bob-approver --role approver | field secret)

say "alice-submitter submits"
export DEVFACTORY_API_KEY="$submitter"
job=$("$devfactory" --json submit . | field id)
until [ "$(state)" != DRAFT ] && [ "$(state)" != GOVERNANCE_ANALYSIS ]; do sleep 0.5; done
"$devfactory" status "$job"
[ "$(state)" = AWAITING_APPROVAL ] || { echo "expected AWAITING_APPROVAL, got $(state)" >&2; exit 1; }

say "alice-submitter approves her own job, which must be refused"
if "$devfactory" approve "$job"; then echo "the submitter was allowed to approve" >&2; exit 1; fi
[ "$(state)" = AWAITING_APPROVAL ] || { echo "the job moved to $(state)" >&2; exit 1; }

say "bob-approver approves"
DEVFACTORY_API_KEY="$approver" "$devfactory" approve "$job" --comment "Masking reduces what leaves production."

say "the job goes on: planned, built, validated; then the delivery to production waits as well"
until case "$(state)" in AWAITING_APPROVAL | COMPLETED | FAILED | REJECTED | CANCELLED | PAUSED) true ;; *) false ;; esac; do sleep 0.5; done
"$devfactory" status "$job"
[ "$(state)" = AWAITING_APPROVAL ] || { echo "expected AWAITING_APPROVAL for the delivery, got $(state)" >&2; exit 1; }

say "bob-approver has seen the result and approves its delivery"
DEVFACTORY_API_KEY="$approver" "$devfactory" approve "$job" --comment "The export holds masked addresses only."
"$devfactory" watch "$job"
[ "$(state)" = COMPLETED ] || { echo "the job ended in $(state)" >&2; exit 1; }
