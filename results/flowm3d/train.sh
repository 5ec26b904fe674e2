#!/usr/bin/env bash
# The three models of README.md, stage by stage, each on one core: `train.sh flowm`, and beside it `train.sh ablations`.
set -euo pipefail
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1

collect() { # NAME EPISODES SEED OPTIONS...
    local name=$1 episodes=$2 seed=$3
    shift 3
    [ -d "data/$name" ] || mindseye collect block-world --preset small --episodes "$episodes" --seed "$seed" --out "data/$name" "$@"
}

stage() { # RUN FROM DATA CLIPS CONTEXT HORIZON RATE UPDATES OPTIONS...
    local run=$1 from=$2 data=$3 clips=$4 context=$5 horizon=$6 rate=$7 updates=$8
    shift 8
    [ "$from" = - ] || set -- --start-from "runs/$from" "$@"
    mindseye train flowm3d --threads 1 --preset small --data "data/$data" --out "runs/$run" --set train.batch_size="$clips" \
        --set train.context="$context" --set train.horizon="$horizon" --set train.learning_rate="$rate" \
        --set train.updates="$updates" --set train.schedule="${SCHEDULE:-constant}" "$@"
}

brief=(--set train.warmup=10)
no_vc=(--set model.velocity_channels=false)
no_sme=(--set model.self_motion=false)
redraw() { echo --set model.reconstruction="$1"; }
forced() { echo --set model.teacher_forcing="$1"; }

case $1 in
data)
    collect room 4000 0
    collect unseen 64 1000 --set frames=290
    collect still 8000 8 --policy zero --truth none --set frames=30 --set world.fewest=4 --set world.most=8
    collect crowd 10000 9 --policy zero --truth none --set frames=16 --set world.fewest=10 --set world.most=16
    ;;
flowm)
    # What writing and drawing have to do is learned where it costs least: without velocities, from clips of few frames.
    stage look1 - room 8 6 2 1e-3 1000 "${no_vc[@]}" "${brief[@]}"
    stage look2 look1 room 24 2 1 1e-3 452 "${no_vc[@]}" $(redraw 5) "${brief[@]}"
    stage look3 look2 room 24 2 1 1e-3 1375 "${no_vc[@]}" $(redraw 5) "${brief[@]}"
    stage walk1 look3 room 4 20 20 5e-4 1223
    # Things that move, seen by who stands still.
    stage still1 walk1 still 8 2 3 5e-4 1294 $(redraw 0) $(forced 1)
    stage still2 still1 still 8 2 3 5e-4 325 $(redraw 0) $(forced 1)
    stage still3 still2 still 8 2 3 5e-4 820 $(redraw 0) $(forced 1)
    stage crowd still3 crowd 8 2 3 5e-4 1498 $(redraw 0.5) $(forced 1)
    stage walk2 crowd room 4 20 20 5e-4 396
    stage walk3 walk2 room 4 12 24 5e-4 852 $(redraw 0.5) $(forced 0.5)
    SCHEDULE=cosine stage walk4 walk3 room 3 50 90 5e-4 640 $(redraw 0.2) # stopped by hand after 391 updates
    SCHEDULE=cosine stage flowm3d walk4 room 3 50 90 2.5e-4 150 $(redraw 0.2)
    ;;
ablations)
    stage no_sme1 - room 8 6 2 1e-3 900 "${no_vc[@]}" "${no_sme[@]}" "${brief[@]}"
    stage no_sme2 no_sme1 room 24 2 1 1e-3 2252 "${no_vc[@]}" "${no_sme[@]}" $(redraw 5) "${brief[@]}"
    stage no_sme3 no_sme2 room 4 20 20 5e-4 700 "${no_sme[@]}"
    SCHEDULE=cosine stage no_sme no_sme3 room 3 50 90 5e-4 200 "${no_sme[@]}" $(redraw 0.2)
    # By now `flowm` has made look3.
    stage no_vc1 look3 room 4 20 20 5e-4 1294 "${no_vc[@]}"
    stage no_vc2 no_vc1 room 4 12 24 5e-4 600 "${no_vc[@]}" $(redraw 0.5) $(forced 0.5)
    SCHEDULE=cosine stage no_vc no_vc2 room 3 50 90 5e-4 500 "${no_vc[@]}" $(redraw 0.2)
    ;;
esac
