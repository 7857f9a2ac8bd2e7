#!/bin/sh
# The whole example: payments are made, the first part becomes a model, the rest wait for an answer each. What an earlier run left
# is removed. PORT is that of the webhook (0: a free one), LISTEN where the host listens, DEADLINE how
# long a payment waits.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
rm -rf data history models out notices.ndjson webhook.url
"$python" payments.py

LISTEN=${LISTEN:-127.0.0.1:7070}
sed -e "s|127.0.0.1:7070|$LISTEN|" history.toml > running.toml
"$python" send.py push
OMP_NUM_THREADS=1 "$python" train.py

"$python" webhook.py "${PORT:-8099}" &
webhook=$!
trap 'kill "$webhook" 2> /dev/null || true' EXIT
while [ ! -s webhook.url ]; do
    kill -0 "$webhook" || exit 1
    sleep 0.1
done
sed -e "s|http://127.0.0.1:8099/|$(cat webhook.url)|" -e "s|127.0.0.1:7070|$LISTEN|" \
    -e "s|deadline = \"2s\"|deadline = \"${DEADLINE:-2s}\"|" wasmill.toml > running.toml
"$python" send.py ask
"$python" report.py
