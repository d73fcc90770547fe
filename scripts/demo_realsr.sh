#!/usr/bin/env bash
# Real-world SR in some minutes on two CPU cores: degrade photographs, train in two stages, look.
#   bash scripts/demo_realsr.sh               trains a small ESC-Real from nothing
#   bash scripts/demo_realsr.sh CHECKPOINT    fine-tunes an ESC-Real x4 checkpoint instead (slower: full size)
#   DEMO_ITERATIONS      length of stage 1 (default 300)
#   DEMO_GAN_ITERATIONS  length of stage 2 and of fine-tuning (default 40)
set -euo pipefail
checkpoint=${1:+$(realpath -- "$1")}
source "$(dirname "$0")/environment.sh"
stage_1=${DEMO_ITERATIONS:-300}
stage_2=${DEMO_GAN_ITERATIONS:-40}
data=datasets/demo_realsr
trained=demo_ESCReal_GAN_x4
tested=demo_test_ESCReal_x4

echo "== Photographs that come with scikit-image; those held out are degraded as the network will be taught"
rm -rf "$data" {experiments,tb_logger}/demo_ESCReal_{MSE,GAN}_x4 {experiments,tb_logger}/demo_finetune_ESCReal_x4 \
    "results/$tested" results/demo_degraded
python scripts/demo_photos.py "$data"
lmlt degrade "$data/heldout_HR" -o results/demo_degraded -opt options/demo_ESCReal_MSE_x4.yml --seed 1
mkdir -p "$data/photograph"
cp "$data/heldout_HR/chelsea.png" "$data/photograph/"

# The perceptual loss needs VGG19, which nothing here may download behind your back.
vgg=$(python -c 'import torch; print(torch.hub.get_dir())')/checkpoints/vgg19-dcbb9e9d.pth
perceptual=()
if [ ! -e "$vgg" ]; then
    echo "== $vgg is not there: stage 2 goes without the perceptual loss"
    perceptual=(train:perceptual_opt=none)
fi

network=()
if [ -z "$checkpoint" ]; then
    echo "== Stage 1: $stage_1 iterations by L1"
    torchrun --nproc_per_node=1 basicsr/train.py -opt options/demo_ESCReal_MSE_x4.yml \
        --force_yml train:total_iter="$stage_1"
    echo "== Stage 2: $stage_2 iterations with a discriminator, from stage 1"
    torchrun --nproc_per_node=1 basicsr/train.py -opt "options/$trained.yml" \
        --force_yml train:total_iter="$stage_2" "${perceptual[@]}"
else
    echo "== Fine-tuning $checkpoint for $stage_2 iterations"
    trained=demo_finetune_ESCReal_x4
    torchrun --nproc_per_node=1 basicsr/train.py -opt options/finetune_ESCReal_x4.yml \
        --force_yml name="$trained" path:pretrain_network_g="$checkpoint" \
        datasets:train:dataroot_gt="$data/train_HR" datasets:val:dataroot_gt="$data/heldout_HR" \
        datasets:train:num_worker_per_gpu=1 \
        datasets:train:batch_size_per_gpu=2 queue_size=24 gt_size=128 datasets:train:dataset_enlarge_ratio=100 \
        train:total_iter="$stage_2" train:net_d_init_iters=10 logger:print_freq=5 "${perceptual[@]}"
    network=(network_g:dim=64 network_g:pdim=16 network_g:n_blocks=10 network_g:conv_blocks=5
        network_g:window_size=32 network_g:exp_ratio=2)
fi

echo "== Photographs it has not seen: degraded ones, and one as it is"
python basicsr/test.py -opt "options/$tested.yml" \
    --force_yml path:pretrain_network_g="experiments/$trained/models/net_g_latest.pth" "${network[@]}"
python scripts/demo_report.py --network ESC-Real --gt "$data/heldout_HR" --lq results/demo_degraded/lq \
    --results "results/$tested/visualization/degraded" \
    --photo "$data/photograph/chelsea.png" "results/$tested/visualization/photograph/chelsea_$tested.png" \
    --picture "results/$tested/comparison.png" --least-gain none
echo "What the network was taught to restore: results/demo_degraded/contact_sheet.png"
