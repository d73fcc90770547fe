#!/usr/bin/env bash
# Attacks every command for so many seconds (default: 1200) with a seed (default: 0): kills, mutated files, missing resources.
# Prints what was tried, survived and lost; the seed repeats it. Exit status 1 if anything was lost.
#   bash scripts/attack.sh [SECONDS] [SEED]
# docs/promises.md says what is attacked and how.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

export PYTHONPATH="$root:$root/tests${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1
exec python -W ignore -m attack --seconds "${1:-1200}" --seed "${2:-0}"
