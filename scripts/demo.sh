#!/usr/bin/env bash
# The whole way on real photographs in about ten minutes on two CPU cores: prepare, train, test, look.
#   DEMO_ITERATIONS  training length (default 500); the gain over bicubic is demanded from 400 on
set -euo pipefail
source "$(dirname "$0")/environment.sh"
iterations=${DEMO_ITERATIONS:-500}

echo "== Photographs that come with scikit-image, as LMDB"
rm -rf datasets/demo experiments/demo_LMLT_x4 tb_logger/demo_LMLT_x4 results/demo_test_LMLT_x4
python scripts/demo_photos.py datasets/demo
lmlt prepare datasets/demo/train_HR -o datasets/demo --scale 4 --crop-size 320 --step 160 --lmdb
lmlt prepare datasets/demo/heldout_HR -o datasets/demo --scale 4 --lmdb

echo "== Training LMLT x4 for $iterations iterations"
torchrun --nproc_per_node=1 basicsr/train.py -opt options/demo_LMLT_x4.yml \
    --force_yml train:total_iter="$iterations" train:scheduler:periods="[$iterations]"

echo "== Testing on photographs it has not seen"
python basicsr/test.py -opt options/demo_test_LMLT_x4.yml

least=0.3
if [ "$iterations" -lt 400 ]; then least=none; fi
python scripts/demo_report.py --network LMLT --gt datasets/demo/heldout_HR_mod4 \
    --lq datasets/demo/heldout_LR_bicubic/X4 --suffix x4 --results results/demo_test_LMLT_x4/visualization/heldout \
    --picture results/demo_test_LMLT_x4/comparison.png --least-gain "$least"
