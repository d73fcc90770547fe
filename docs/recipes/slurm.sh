#!/bin/bash
# Train on one or several nodes of a SLURM cluster; before its time is up, the job saves and requeues itself.
#
#   sbatch --nodes=2 --gpus-per-node=4 --time=24:00:00 docs/recipes/slurm.sh options/train_LMLT_x4.yml
#
# Submit it from the folder that holds basicsr/train.py. What follows the option file is handed on to it.
# PROCESSES_PER_NODE=2 in the environment starts that many instead of one for each GPU.
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180

file=${1:?"which option file?"}
shift
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# A rendezvous shared with the training keeps PyTorch from restarting it on several nodes.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# How long torchrun waits for its processes to save, within the 180 seconds above. Older versions wait 30.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=150
# Since SLURM 22.05, srun does not take it from sbatch.
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# A signal interrupts `wait`, which then has to wait again.
wait_for() {
    local status
    wait "$1"
    status=$?
    while kill -0 "$1" 2> /dev/null; do
        wait "$1"
        status=$?
    done
    return "$status"
}

# Runs on each node. SLURM may send its signal to this function alone or to all that it has started: torchrun would
# end by SIGUSR1, and so would data workers that have just started. They ignore it, and torchrun hands SIGTERM on to
# the training.
on_node() {
    (trap "" USR1 && exec torchrun "$@") &
    agent=$!
    trap 'kill -TERM "$agent"' USR1
    # Of a preemption, or at the very end. It may have come to torchrun too, which must not get it twice.
    trap 'pkill -TERM -P "$agent"' TERM
    wait_for "$agent"
}
export -f wait_for on_node

# Nodes do not save at the same moment: the first to end must not end the others.
srun --kill-on-bad-exit=0 --ntasks-per-node=1 bash -c 'on_node "$@"' on_node \
    --nnodes="$SLURM_NNODES" --nproc_per_node="${PROCESSES_PER_NODE:-gpu}" --max_restarts=3 \
    --rdzv_backend=c10d --rdzv_endpoint="$first:$((15000 + SLURM_JOB_ID % 16001))" --rdzv_id="$SLURM_JOB_ID" \
    basicsr/train.py -opt "$file" --launcher pytorch --auto_resume "$@" &
training=$!

# SLURM warns this script alone (B:), so that it knows why the training ends.
warned=
trap 'warned=yes; scancel --signal=USR1 "$SLURM_JOB_ID"' USR1
wait_for "$training"
status=$?

# A training that failed by itself would fail again.
if [ "$warned" ] && [ "$status" -ne 0 ]; then
    echo "Job $SLURM_JOB_ID is requeued."
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60  # SLURM ends this script
fi
exit "$status"
