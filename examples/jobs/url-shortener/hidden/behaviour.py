"""Hidden check: edges of the API that the description names and an easy implementation forgets.

Run from the root of the delivered tree. Prints one line per case; exit status 0 only when all hold.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else os.getcwd()).resolve()
ANSWER_TIMEOUT_S = 30
CASES = []


def case(function):
    CASES.append(function)
    return function


def expect(actual, wanted, what=""):
    assert actual == wanted, f"{what}: expected {wanted!r}, got {actual!r}"


@contextmanager
def running(database):
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "shortener", "--port", "0", "--db", str(database)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    try:
        line = process.stdout.readline().strip()
        assert line.startswith("listening on http://127.0.0.1:"), f"first line was {line!r}"
        yield Client(int(line.rpartition(":")[2]))
        process.send_signal(signal.SIGINT)
        expect(process.wait(ANSWER_TIMEOUT_S), 0, "exit status after SIGINT")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Client:
    def __init__(self, port):
        self.port = port

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def call(self, method, path, value=None):
        body = None if value is None else json.dumps(value)
        status, headers, raw = self.raw(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        return status, headers, json.loads(raw) if raw else None

    def create(self, url, code=None):
        status, _, link = self.call("POST", "/api/links", {"url": url} | ({"code": code} if code else {}))
        assert status == 201, f"create {url!r} {code!r}: {status} {link}"
        return link

    def refused(self, wanted, method, path, value=None):
        status, headers, body = self.call(method, path, value)
        expect((status, body["error"]["code"]), wanted, f"{method} {path} {value!r}")
        return headers


@contextmanager
def fresh():
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "links.db") as client:
        yield client


@case
def automatic_codes_step_over_codes_already_taken():
    with fresh() as client:
        client.create("https://example.org/mine", "1001")
        codes = [client.create(f"https://example.org/{n}")["code"] for n in range(3)]
        assert "1001" not in codes and len(set(codes)) == 3, f"codes were {codes}"


@case
def deleted_automatic_codes_are_never_used_again():
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "links.db"
        with running(database) as client:
            first = client.create("https://example.org/")["code"]
            second = client.create("https://example.org/")["code"]
            expect((first, second), ("1000", "1001"), "first codes")
            expect(client.raw("DELETE", "/api/links/1001")[0], 204, "delete")
            client.refused((404, "not_found"), "DELETE", "/api/links/1001")
        with running(database) as client:
            expect(client.create("https://example.org/")["code"], "1002", "code after a restart")


@case
def visits_that_arrive_together_are_all_counted():
    with fresh() as client:
        code = client.create("https://example.org/")["code"]
        failures = []

        def visit():
            for _ in range(5):
                status = client.raw("GET", f"/{code}")[0]
                if status != 302:
                    failures.append(status)

        threads = [threading.Thread(target=visit) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(failures, [], "statuses")
        expect(client.call("GET", f"/api/links/{code}")[2]["visits"], 60, "visits")


@case
def reading_a_link_is_no_visit():
    with fresh() as client:
        code = client.create("https://example.org/")["code"]
        client.call("GET", f"/api/links/{code}")
        client.call("GET", "/api/links")
        expect(client.call("GET", f"/api/links/{code}")[2]["visits"], 0, "visits")


@case
def urls_in_any_language_are_kept_and_encoded_for_the_header():
    with fresh() as client:
        url = "https://example.org/สวัสดี/%E0%B8%81?q=é#ท้าย"
        link = client.create(url)
        expect(link["url"], url, "stored URL")
        status, headers, _ = client.raw("GET", link["short_path"])
        wanted = ("https://example.org/%E0%B8%AA%E0%B8%A7%E0%B8%B1%E0%B8%AA%E0%B8%94%E0%B8%B5/%E0%B8%81"
                  "?q=%C3%A9#%E0%B8%97%E0%B9%89%E0%B8%B2%E0%B8%A2")
        expect((status, headers["Location"].upper()), (302, wanted.upper()), "redirect")
        expect(headers["Cache-Control"], "no-store", "cache control")


@case
def bad_urls_are_refused():
    with fresh() as client:
        bad = ["", "example.org", "ftp://example.org/", "http://", "https:///path", "javascript:alert(1)", None, 7, ["http://example.org/"],
               "http://example.org/a b", "http://example.org/\r\nSet-Cookie: a=b", "http://example.org/\u0000", "http://example.org/\u2028x",
               " http://example.org/", "http://example.org:99999/", "http://example.org:x/", "http://[::1/", "http://exämple.org/",
               "http://:80/", "https://example.org/" + "a" * 2048]
        for url in bad:
            client.refused((400, "invalid_url"), "POST", "/api/links", {"url": url})
        client.refused((400, "invalid_url"), "POST", "/api/links", {})
        longest = "https://example.org/" + "a" * (2048 - len("https://example.org/"))
        expect(client.create(longest)["url"], longest, "longest URL")


@case
def bad_codes_are_refused():
    with fresh() as client:
        for code in ["abc", "a" * 33, "with space", "sla/sh", "dot.dot", "ünïcode", "static", "healthz", "abcd\n", "๑๒๓๔", 1234, ["abcd"]]:
            client.refused((400, "invalid_code"), "POST", "/api/links", {"url": "https://example.org/", "code": code})
        client.create("https://example.org/", "abcd")
        client.create("https://example.org/", "ABCD")
        client.create("https://example.org/", "_" * 32)
        expect(client.call("POST", "/api/links", {"url": "https://example.org/", "code": None})[0], 201, "null code")


@case
def bad_bodies_are_refused():
    with fresh() as client:
        sent = {"Content-Type": "application/json; charset=utf-8"}
        for body in [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe"]:
            status, _, raw = client.raw("POST", "/api/links", body, sent)
            expect((status, json.loads(raw)["error"]["code"]), (400, "invalid_json"), repr(body))
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"]:
            status, _, raw = client.raw("POST", "/api/links", b'{"url": "https://example.org/"}', {"Content-Type": kind})
            expect((status, json.loads(raw)["error"]["code"]), (415, "unsupported_media_type"), kind)
        status, _, _ = client.raw("POST", "/api/links", b'{"url": "https://example.org/"}', sent)
        expect(status, 201, "charset parameter")


@case
def oversized_bodies_are_refused_before_they_are_read():
    with fresh() as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=ANSWER_TIMEOUT_S) as connection:
            connection.sendall(b"POST /api/links HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Content-Length: 1000000000\r\n\r\n")
            head = connection.makefile("rb").readline()
        expect(head.split()[1:2], [b"413"], "status")
        expect(client.raw("GET", "/healthz")[0], 200, "health afterwards")


@case
def limits_are_checked():
    with fresh() as client:
        for n in range(25):
            client.create(f"https://example.org/{n}")
        links = client.call("GET", "/api/links")[2]["links"]
        expect(len(links), 20, "default limit")
        expect(links[0]["url"], "https://example.org/24", "newest first")
        expect(len(client.call("GET", "/api/links?limit=100")[2]["links"]), 25, "limit 100")
        for limit in ["0", "101", "-1", "x", "1.5", ""]:
            client.refused((400, "invalid_limit"), "GET", f"/api/links?limit={limit}")


@case
def other_methods_are_refused_with_allow():
    with fresh() as client:
        code = client.create("https://example.org/")["code"]
        for method, path, allowed in [("PUT", "/api/links", "GET, POST"), ("DELETE", "/api/links", "GET, POST"),
                                      ("POST", f"/api/links/{code}", "DELETE, GET"), ("DELETE", f"/{code}", "GET"), ("POST", "/healthz", "GET")]:
            headers = client.refused((405, "method_not_allowed"), method, path)
            expect(sorted(part.strip() for part in headers["Allow"].split(",") if part.strip() not in ("HEAD", "OPTIONS")),
                   allowed.split(", "), f"Allow for {method} {path}")


@case
def nothing_outside_static_can_be_read():
    with fresh() as client:
        for path in ["/static/../shortener/codec.py", "/static/%2e%2e/shortener/codec.py", "/static/..%2fshortener%2fcodec.py",
                     "/static/", "/static/none.js", "/static//etc/passwd", "/static/%00", "/../shortener/codec.py"]:
            client.refused((404, "not_found"), "GET", path)


@case
def static_files_and_headers():
    with fresh() as client:
        for path, kind in [("/", "text/html"), ("/static/index.html", "text/html"), ("/static/style.css", "text/css")]:
            status, headers, _ = client.raw("GET", path)
            expect((status, headers["Content-Type"].split(";")[0]), (200, kind), path)
            expect(headers["X-Content-Type-Options"], "nosniff", path)
        status, headers, _ = client.raw("GET", "/static/app.js")
        assert status == 200 and "javascript" in headers["Content-Type"], headers["Content-Type"]
        expect(client.raw("GET", "/nothing")[1]["X-Content-Type-Options"], "nosniff", "on an error")


def main():
    failed = 0
    for check in CASES:
        try:
            check()
            print(f"ok      {check.__name__}", flush=True)
        except Exception as error:
            failed += 1
            place = traceback.extract_tb(error.__traceback__)[-1].lineno
            print(f"FAILED  {check.__name__} (line {place}): {type(error).__name__}: {error}", flush=True)
    print(f"{len(CASES) - failed} of {len(CASES)} hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
