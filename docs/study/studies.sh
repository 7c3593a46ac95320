#!/bin/sh
# All studies on the demo family, into a folder: sh docs/study/studies.sh FOLDER
set -e
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
run() {
    name="$1"
    shift
    eft-eval study "$name" --family demo "$@" --out "$folder/$name"
}
folder="${1:?name a folder}"
run scaling --seeds 1,2,3 --tasks demo_fact,demo_help --limit 64 --batch-size 64
run frontier --seeds 1,2,3 --tasks demo_help,demo_harm --limit 64 --batch-size 64
run truncation --seeds 1,2,3 --tasks demo_fact,demo_help --limit 64 --batch-size 64
run speed --seeds 1,2,3 --tasks demo_help --limit 12
run tokens --seeds 1,2,3 --tasks demo_fact --limit 32 --batch-size 64
run sequence --tasks demo_fact,demo_help --limit 32 --batch-size 64
