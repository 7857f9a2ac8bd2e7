#!/bin/sh
# The whole example: readings in, notices at a webhook, a picture out. What an earlier run left is removed.
# PORT is that of the webhook (0: a free one); LIMIT and FOR take the place of these settings.
set -eu
cd "$(dirname "$0")"
readings=${1:-../../../../shared/data/machine-temperature.csv}
if [ ! -f "$readings" ]; then
    echo "there is no $readings; ./run.sh FILE takes one (timestamp,value)" >&2
    exit 1
fi
python=${PYTHON:-python3}
rm -rf data out notices.ndjson webhook.url
cat "$readings" > readings.csv

"$python" webhook.py "${PORT:-8099}" &
webhook=$!
trap 'kill "$webhook" 2> /dev/null || true' EXIT
while [ ! -s webhook.url ]; do
    kill -0 "$webhook" || exit 1
    sleep 0.1
done

sed -e "s|http://127.0.0.1:8099/|$(cat webhook.url)|" -e "s|limit = 3.5|limit = ${LIMIT:-3.5}|" \
    -e "s|for = \"8h\"|for = \"${FOR:-8h}\"|" wasmill.toml > running.toml
"${WASMILL:-wasmill}" run running.toml
"$python" picture.py
