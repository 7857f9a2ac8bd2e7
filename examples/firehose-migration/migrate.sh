#!/bin/sh
# Brings the stream of clickstream.json to the host at HOST, and puts records as its producers do.
# WASMILL_KEY is an operator's key. WASMILL and AWS are the two programs, where they are not in the PATH.
set -eu
cd "$(dirname "$0")"
host=${HOST:-http://127.0.0.1:7070}
wasmill=${WASMILL:-wasmill}
aws=${AWS:-aws}

# The function is left out here. Where a plugin of its name is among the host's, nothing needs to be said of it.
without="--plugin clickstream-mask-addresses="

echo "== as a part of the configuration"
"$wasmill" import-firehose clickstream.json $without > clickstream.toml
cat wasmill.toml clickstream.toml > moved.toml
"$wasmill" check moved.toml

echo "== over the API"
"$wasmill" import-firehose clickstream.json $without --create --host "$host"

echo "== as its producers put"
pair=$("$wasmill" key create --name producers --signs --scope push,read --host "$host")
AWS_ACCESS_KEY_ID=$(echo "$pair" | sed -n 's/^AWS_ACCESS_KEY_ID=//p')
AWS_SECRET_ACCESS_KEY=$(echo "$pair" | sed -n 's/^AWS_SECRET_ACCESS_KEY=//p')
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
# Version 2 takes the bytes of records in base64 unless it is told otherwise.
raw=
case $($aws --version 2>&1) in aws-cli/2*) raw="--cli-binary-format raw-in-base64-out" ;; esac
# Words, perhaps, not one.
firehose() { $aws firehose "$@" --endpoint-url "$host" --region eu-west-1 --output json; }
firehose describe-delivery-stream --delivery-stream-name clickstream
firehose put-record-batch --delivery-stream-name clickstream --records file://records.json $raw
