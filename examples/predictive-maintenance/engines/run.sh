#!/bin/sh
# The whole example: engines that failed become a model, and engines that fly are told how many flights they have left.
# What an earlier run left is removed. PORT is that of the webhook (0: a free one).
set -eu
cd "$(dirname "$0")"
cmapss=${1:-../../../../shared/data/cmapss}
if [ ! -f "$cmapss/train_FD001.txt" ]; then
    echo "there is no $cmapss/train_FD001.txt; ./run.sh DIRECTORY takes the files of C-MAPSS, FD001" >&2
    exit 1
fi
python=${PYTHON:-python3}
wasmill=${WASMILL:-wasmill}
rm -rf data history models out notices.ndjson webhook.url
# As published numbers stand between blanks; the plugin wants one tab.
for part in train test; do
    sed -e 's/[ \t][ \t]*$//' -e 's/[ \t][ \t]*/\t/g' "$cmapss/${part}_FD001.txt" > "$part.txt"
done

"$wasmill" run history.toml
OMP_NUM_THREADS=1 "$python" train.py

"$python" webhook.py "${PORT:-8099}" &
webhook=$!
trap 'kill "$webhook" 2> /dev/null || true' EXIT
while [ ! -s webhook.url ]; do
    kill -0 "$webhook" || exit 1
    sleep 0.1
done
rm -rf data
sed -e "s|http://127.0.0.1:8099/|$(cat webhook.url)|" wasmill.toml > running.toml
"$wasmill" run running.toml
"$python" picture.py "$cmapss/RUL_FD001.txt"
