#!/usr/bin/env bash
# Environment, lint, types, tests. Arguments go to pytest: `bash scripts/test.sh -m "not slow"`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

ruff check .
ruff format --check .
mypy
python scripts/generate_options.py --check
python scripts/generate_schema.py --check
python -m pytest "$@"
