#!/usr/bin/env bash
# Installs the system packages that building, testing and running need, and only those that are missing.
# Uses sudo only when not root. Says what it installs; says what is missing when it cannot install.
set -euo pipefail

# what proves that it is there, and the Debian/Ubuntu package that brings it
needs=(
  "bwrap bubblewrap"
  "git git"
  "python3 python3"
  "cc build-essential"
  "faketime faketime"
)

missing=()
for need in "${needs[@]}"; do
  read -r program package <<<"$need"
  command -v "$program" >/dev/null 2>&1 || missing+=("$package")
done
[ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] || missing+=(ca-certificates)

if [ ${#missing[@]} -eq 0 ]; then
  echo "system packages: all present"
  exit 0
fi

echo "system packages missing: ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
  echo "error: no apt-get here; install them with this system's own package manager" >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "error: neither root nor sudo; ask an administrator to run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "installing with apt-get: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q </dev/null
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
