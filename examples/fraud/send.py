"""Starts a host with running.toml, sends payments to it, and stops it: `send.py push` the first part, before there
is a model; `send.py ask` the rest, a few at a time, each time waiting for the answers (answers.ndjson, times.json)."""

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

# The model is made of payments before this moment, and tried on those after it.
SPLIT = "2026-05-07T00:00:00Z"
# Payments that come at once: so many wait in one request.
AT_ONCE = 40
HEADERS = {"content-type": "application/x-ndjson"}


def start(config):
    """A host, and the address that it says it listens at."""
    command = [os.environ.get("WASMILL", "wasmill"), "run", "--log-format", "json", "--drain-timeout", "10m", config]
    host = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = queue.Queue()

    def read():
        for line in host.stderr:
            entry = json.loads(line) if line.startswith("{") else {"level": "ERROR"}
            if "http" in entry:
                address.put(entry["http"])
            if entry.get("level") in ("WARN", "ERROR"):
                print(line, end="", file=sys.stderr)
        address.put(None)

    threading.Thread(target=read).start()
    return host, address.get() or sys.exit(f"the host ended with {host.wait()}")


def request(connection, path, body):
    connection.request("POST", path, body, HEADERS)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {text.decode()}")
    return json.loads(text)


with open("payments.ndjson", encoding="utf-8") as file:
    payments = file.readlines()
split = next(at for at, line in enumerate(payments) if json.loads(line)["time"] >= SPLIT)
if sys.argv[1] == "push":
    payments = payments[:split]
else:
    payments = payments[split:]
host, address = start("running.toml")
try:
    connection = http.client.HTTPConnection(address)
    if sys.argv[1] == "push":
        for at in range(0, len(payments), 10_000):
            request(connection, "/v1/streams/payments/records", "".join(payments[at:at + 10_000]))
    else:
        times, late = [], 0
        with open("answers.ndjson", "w", encoding="utf-8") as file:
            for at in range(0, len(payments), AT_ONCE):
                began = time.monotonic()
                answer = request(connection, "/v1/streams/payments/decide", "".join(payments[at:at + AT_ONCE]))
                times.append(time.monotonic() - began)
                if answer["fallback"]:
                    late += 1
                for record in answer.get("records", []):
                    file.write(json.dumps(record) + "\n")
        with open("times.json", "w", encoding="utf-8") as file:
            json.dump({"asked": len(payments), "late": late, "seconds": times}, file)
except BaseException:
    host.kill()
    raise
# What is gathered is delivered before it ends.
host.send_signal(signal.SIGTERM)
if host.wait() != 0:
    raise SystemExit(f"the host ended with {host.returncode}")
print(f"{len(payments)} payments {'pushed' if sys.argv[1] == 'push' else 'asked for'}")
