#!/usr/bin/env bash
# Environment, lint, types, documentation, tests. Arguments go to pytest: `bash scripts/test.sh -m "not slow"`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

ruff check .
ruff format --check .
mypy
python scripts/generate_options.py --check
python scripts/generate_schema.py --check
# Strictly: a broken link, an unknown name or anything loaded from elsewhere fails. Material's word about its own
# future is no news here.
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --site-dir "$site"
# Most tests are small: processes of one thread each finish sooner than one process with threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# The memory of large tensors stays with the process: page by page, getting it again takes as long as computing.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
processes=$(python -c 'import os; print(min(4, os.cpu_count() or 1))')
python -m pytest -n "$processes" --dist loadfile --no-loadscope-reorder "$@"
