#!/usr/bin/env bash
# Usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS are taken from the environment.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

USAGE='usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]'
slurm_tool "${1:?$USAGE}" "${2:?$USAGE}" train.py "${3:?$USAGE}" --work-dir "${4:?$USAGE}" "${@:5}"
