#!/usr/bin/env bash
# Mines on many machines by Apache Beam.
#
#   launch/mine_beam.sh [--dry-run] direct|flink|spark|dataflow OPTIONS OF experiments/mine_corpus.py
#   FLINK_MASTER=host:8081 launch/mine_beam.sh flink --warc warc.paths.gz --seed seed.jsonl --out /shared/corpus
#
# --out is a folder that every worker has at the same path (NFS, Lustre, Filestore, a FUSE mount of a bucket): stages pass
# files. Every worker needs this version with its extra [beam]: IMAGE names a container that has it.
#   flink     FLINK_MASTER (host:port), IMAGE
#   spark     SPARK_MASTER (spark://host:port), IMAGE
#   dataflow  GCP_PROJECT, GCP_REGION, GCP_TEMP (gs://bucket/tmp), IMAGE; the image mounts the shared folder
set -euo pipefail

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=1; shift; fi
[ $# -ge 1 ] || usage
runner=$1
shift

need() {
    for name in "$@"; do
        [ -n "${!name:-}" ] || { echo "error: $name is not set: $runner needs it; see the top of $0" >&2; exit 2; }
    done
}

case "$runner" in
direct)
    class=DirectRunner
    options="--direct_running_mode=multi_processing --direct_num_workers=${WORKERS:-0}"
    ;;
flink)
    need FLINK_MASTER IMAGE
    class=FlinkRunner
    options="--flink_master=$FLINK_MASTER --environment_type=DOCKER --environment_config=$IMAGE"
    ;;
spark)
    need SPARK_MASTER IMAGE
    class=SparkRunner
    options="--spark_master_url=$SPARK_MASTER --environment_type=DOCKER --environment_config=$IMAGE"
    ;;
dataflow)
    need GCP_PROJECT GCP_REGION GCP_TEMP IMAGE
    class=DataflowRunner
    options="--project=$GCP_PROJECT --region=$GCP_REGION --temp_location=$GCP_TEMP --sdk_container_image=$IMAGE"
    ;;
*) usage ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
command=("${PYTHON:-python}" "$root/experiments/mine_corpus.py" --runner "$class" --runner-options="$options" "$@")
if [ -n "$dry_run" ]; then
    printf '%q ' "${command[@]}"
    echo
    exit
fi
exec "${command[@]}"
