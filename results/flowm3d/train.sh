#!/usr/bin/env bash
# The three models of README.md, stage by stage, each on one core: `train.sh flowm`, and beside it `train.sh ablations`.
set -euo pipefail
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1

collect() { # NAME EPISODES SEED OPTIONS...
    local name=$1 episodes=$2 seed=$3
    shift 3
    [ -d "data/$name" ] || mindseye collect block-world --preset small --episodes "$episodes" --seed "$seed" --out "data/$name" "$@"
}

stage() { # RUN FROM DATA CLIPS CONTEXT HORIZON RATE UPDATES SETTINGS...
    local run=$1 from=$2 data=$3 clips=$4 context=$5 horizon=$6 rate=$7 updates=$8
    shift 8
    local options=()
    [ "$from" = - ] || options+=(--start-from "runs/$from")
    for setting in "$@"; do options+=(--set "$setting"); done
    mindseye train flowm3d --threads 1 --preset small --data "data/$data" --out "runs/$run" --set train.batch_size="$clips" \
        --set train.context="$context" --set train.horizon="$horizon" --set train.learning_rate="$rate" \
        --set train.updates="$updates" --set train.schedule="${SCHEDULE:-constant}" "${options[@]}"
}

no_vc=(model.velocity_channels=false)
# Without self-motion nothing but writing moves the map, so it writes what it predicts.
feedback=(model.feedback=true model.draws=0 model.teacher_forcing=0.125)
no_sme=(model.self_motion=false model.mixing=none model.velocity_embedding=false "${feedback[@]}")
redraw() { echo model.reconstruction="$1"; }
draws() { echo model.draws="$1"; }
warmup() { echo train.warmup="$1"; }

case $1 in
data)
    collect room 4000 0
    collect unseen 64 1000 --set frames=290
    collect probe 256 5000 --set frames=290
    collect rest 4000 20 --truth none --set frames=120 --set world.moving=false --set world.fewest=3 --set world.most=7
    ;;
flowm)
    # What writing and drawing have to do is learned where it costs least: without velocities, from clips of few frames.
    stage look1 - room 8 6 2 1e-3 1000 "${no_vc[@]}" "${feedback[@]}" "$(redraw 1)" "$(warmup 10)"
    stage look2 look1 room 24 2 1 1e-3 452 "${no_vc[@]}" "${feedback[@]}" "$(redraw 5)" "$(warmup 10)"
    stage look3 look2 room 24 2 1 1e-3 1375 "${no_vc[@]}" "${feedback[@]}" "$(redraw 5)" "$(warmup 10)"
    # In which cell a thing is, is learned where nothing but the agent moves.
    stage rest1 look3 rest 6 12 24 5e-4 884 "${no_vc[@]}" "$(redraw 0.5)" "$(draws 0)" "$(warmup 10)"
    stage rest2 rest1 rest 12 12 24 5e-4 3095 "${no_vc[@]}" "$(redraw 0.5)" "$(draws 4)" "$(warmup 10)"
    # Then with velocities, slowly at first: five channels where there was one draw something else. Clips grow.
    stage walk1 rest2 room 6 12 12 5e-4 1100 "$(redraw 0.3)" "$(draws 4)" "$(warmup 300)"
    stage walk2 walk1 room 4 24 24 5e-4 206 "$(warmup 50)"
    stage walk3 walk2 room 3 40 40 5e-4 1251 "$(draws 10)"
    SCHEDULE=cosine stage flowm3d walk3 room 3 40 60 5e-4 1700 "$(draws 10)"
    ;;
ablations)
    stage no_sme1 - room 8 6 2 1e-3 900 "${no_vc[@]}" "${no_sme[@]}" "$(redraw 1)" "$(warmup 10)"
    stage no_sme2 no_sme1 room 24 2 1 1e-3 2252 "${no_vc[@]}" "${no_sme[@]}" "$(redraw 5)" "$(warmup 10)"
    stage no_sme3 no_sme2 room 4 20 20 5e-4 700 "${no_sme[@]}" "$(redraw 1)"
    SCHEDULE=cosine stage no_sme no_sme3 room 3 50 90 5e-4 200 "${no_sme[@]}"
    # By now `flowm` has made rest2.
    stage no_vc1 rest2 room 6 12 12 5e-4 1142 "${no_vc[@]}" "$(redraw 0.3)" "$(draws 4)" "$(warmup 300)"
    stage no_vc2 no_vc1 room 4 24 24 5e-4 400 "${no_vc[@]}"
    stage no_vc3 no_vc2 room 3 40 40 5e-4 900 "${no_vc[@]}" "$(draws 10)"
    SCHEDULE=cosine stage no_vc no_vc3 room 3 40 60 5e-4 1700 "${no_vc[@]}" "$(draws 10)"
    ;;
esac
