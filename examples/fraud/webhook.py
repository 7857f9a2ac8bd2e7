"""A webhook: keeps what is posted in notices.ndjson, a line each, and shows it. `webhook.py PORT`; 0 takes a free one."""

import http.server
import json
import os
import sys


class Webhook(http.server.BaseHTTPRequestHandler):
    seen = set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        notice = json.loads(body)
        # Of a request whose answer was lost nobody knows whether it was taken: it comes again under the same key.
        key = self.headers["idempotency-key"]
        if key not in self.seen:
            self.seen.add(key)
            with open("notices.ndjson", "a", encoding="utf-8") as file:
                file.write(json.dumps(notice, ensure_ascii=False) + "\n")
            print(notice["text"], flush=True)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Webhook)
with open("webhook.url.part", "w", encoding="utf-8") as file:
    file.write(f"http://127.0.0.1:{server.server_port}/")
os.rename("webhook.url.part", "webhook.url")
server.serve_forever()
