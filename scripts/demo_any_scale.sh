#!/usr/bin/env bash
# Any scale on real photographs, some minutes on two CPU cores: prepare, train, compare with bicubic, upscale.
#   DEMO_ITERATIONS  training length (default 1000); a gain over bicubic is demanded from 800 on
set -euo pipefail
source "$(dirname "$0")/environment.sh"
iterations=${DEMO_ITERATIONS:-1000}
model=experiments/demo_ESC_LTE/models/net_g_latest.pth

echo "== Photographs that come with scikit-image, as LMDB"
rm -rf datasets/demo experiments/demo_ESC_LTE tb_logger/demo_ESC_LTE results/demo_ESC_LTE
python scripts/demo_photos.py datasets/demo
lmlt prepare datasets/demo/train_HR -o datasets/demo --scale 4 --crop-size 320 --step 160 --lmdb

echo "== Training a small ESC with LTE for $iterations iterations, at scales from 1 to 4"
torchrun --nproc_per_node=1 basicsr/train.py -opt options/demo_ESC_LTE.yml \
    --force_yml train:total_iter="$iterations" train:scheduler:periods="[$iterations]"

echo "== Photographs it has not seen, at scales seen and unseen"
least=0
if [ "$iterations" -lt 800 ]; then least=none; fi
python scripts/demo_any_scale_report.py --model "$model" --gt datasets/demo/heldout_HR --least-gain "$least"

echo "== One photograph at three sizes"
for size in "--scale 1.5" "--scale 3.7" "--size 1920x1080"; do
    # shellcheck disable=SC2086  # an option and its value
    lmlt upscale datasets/demo/heldout_HR/coffee.png -o "results/demo_ESC_LTE/coffee${size// /_}.png" \
        --model "$model" $size
done
