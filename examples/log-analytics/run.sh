#!/bin/sh
# The whole example: an access log (combined format) in, two tables and a report out. What an earlier run left is removed.
set -eu
cd "$(dirname "$0")"
log=${1:-../../../shared/data/apache-access.log}
if [ ! -f "$log" ]; then
    echo "there is no $log; give an access log: ./run.sh /var/log/nginx/access.log" >&2
    exit 1
fi
rm -rf data out
cat "$log" > access.log
"${WASMILL:-wasmill}" run wasmill.toml
"${PYTHON:-python3}" report.py
