"""Starts the link shortener on a free port and drives its API from outside, as a user's client would.

Run from the root of the tree: `python3 checks/end_to_end.py`. Exit status 0 means that everything held.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANSWER_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30


@contextmanager
def running(database):
    """Yields the port of a server on `database`, and requires that SIGTERM ends it cleanly."""
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "shortener", "--port", "0", "--db", str(database)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )
    try:
        line = process.stdout.readline().strip()
        prefix = "listening on http://127.0.0.1:"
        assert line.startswith(prefix), f"first line was {line!r}"
        yield int(line.removeprefix(prefix))
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOP_TIMEOUT_S)
        assert status == 0, f"exit status after SIGTERM was {status}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def call(port, method, path, body=None):
    """Returns status, headers and the body (parsed when it is JSON)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read()
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        return answer.status, answer.headers, json.loads(raw) if is_json else raw.decode()
    finally:
        connection.close()


def expect(what, actual, wanted):
    assert actual == wanted, f"{what}: expected {wanted!r}, got {actual!r}"


def first_run(port):
    expect("health", call(port, "GET", "/healthz")[::2], (200, {"status": "ok"}))

    status, _, link = call(port, "POST", "/api/links", {"url": "https://example.org/a?b=c"})
    expect("create", (status, link["code"], link["short_path"], link["visits"]), (201, "1000", "/1000", 0))
    status, _, link = call(port, "POST", "/api/links", {"url": "http://example.org/", "code": "My_own-1"})
    expect("create with a code", (status, link["code"]), (201, "My_own-1"))
    status, _, body = call(port, "POST", "/api/links", {"url": "http://example.org/", "code": "My_own-1"})
    expect("a code in use", (status, body["error"]["code"]), (409, "code_taken"))
    status, _, body = call(port, "POST", "/api/links", {"url": "javascript:alert(1)"})
    expect("a bad URL", (status, body["error"]["code"]), (400, "invalid_url"))

    status, headers, _ = call(port, "GET", "/1000")
    expect("redirect", (status, headers["Location"]), (302, "https://example.org/a?b=c"))
    status, _, link = call(port, "GET", "/api/links/1000")
    expect("visits", (status, link["visits"]), (200, 1))
    status, _, body = call(port, "GET", "/api/links")
    expect("recent links", [link["code"] for link in body["links"]], ["My_own-1", "1000"])

    expect("delete", call(port, "DELETE", "/api/links/My_own-1")[0], 204)
    status, _, body = call(port, "GET", "/My_own-1")
    expect("a deleted link", (status, body["error"]["code"]), (404, "not_found"))

    status, headers, page = call(port, "GET", "/")
    expect("page", (status, headers["Content-Security-Policy"]), (200, "default-src 'self'"))
    assert 'id="create-form"' in page, "the page has no form"
    expect("script", call(port, "GET", "/static/app.js")[0], 200)


def second_run(port):
    status, _, link = call(port, "GET", "/api/links/1000")
    expect("after a restart", (status, link["visits"]), (200, 1))


def main():
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "links.db"
        with running(database) as port:
            first_run(port)
        with running(database) as port:
            second_run(port)
    print("end to end: ok")


if __name__ == "__main__":
    main()
