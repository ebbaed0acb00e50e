"""Hidden check: the page, the container file, the CI configuration, and tests that are able to fail.

Run from the root of the delivered tree. Prints one line per case; exit status 0 only when all hold.
"""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else os.getcwd()).resolve()
SUITE_TIMEOUT_S = 240
CASES = []

# Each breaks one promise of the description in memory, then runs the delivered suite, which has to notice.
BREAKAGES = {
    "visits are not counted": "import shortener.store as s; s.LinkStore.visit = s.LinkStore.get",
    "delete removes nothing": "import shortener.store as s; s.LinkStore.delete = lambda self, code: True",
    "codes have their digits reversed": "import shortener.codec as c; e = c.encode; c.encode = lambda n: e(n)[::-1]",
    "bad URLs are accepted": (
        "from http.server import BaseHTTPRequestHandler as B\n"
        "send = B.send_response\n"
        "def lenient(self, status, message=None):\n"
        "    send(self, 201 if status == 400 else status, message)\n"
        "B.send_response = lenient\n"
    ),
}


def case(function):
    CASES.append(function)
    return function


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


class Page(HTMLParser):
    def __init__(self, source):
        super().__init__()
        self.tags, self.inline, self._open = [], [], None
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data.strip())

    def handle_endtag(self, tag):
        self._open = None

    def with_id(self, name):
        return next(((tag, attrs) for tag, attrs in self.tags if attrs.get("id") == name), (None, {}))


@case
def page_has_the_named_parts():
    page = Page(text("static/index.html"))
    assert any(tag == "html" and attrs.get("lang") for tag, attrs in page.tags), "no lang"
    assert any(tag == "title" for tag, _ in page.tags), "no title"
    assert page.with_id("create-form")[0] == "form", "no form"
    assert page.with_id("message")[1].get("role") == "status", "no status element"
    assert page.with_id("links")[0], "no list"
    inputs = {attrs.get("name"): attrs for tag, attrs in page.tags if tag == "input"}
    labels = {attrs.get("for") for tag, attrs in page.tags if tag == "label"}
    wrapped = sum(1 for tag, _ in page.tags if tag == "label")
    for name in ("url", "code"):
        assert name in inputs, f"no input {name}"
        named = inputs[name].get("id") in labels or inputs[name].get("aria-label")
        assert named or (labels == {None} and wrapped >= 2), f"input {name} has no label"


@case
def page_loads_nothing_from_elsewhere_and_nothing_inline():
    page = Page(text("static/index.html"))
    assert not page.inline, "inline script or style"
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), f"inline handler or style on {tag}"
        for name in ("src", "href", "action"):
            value = attrs.get(name) or ""
            assert not re.match(r"(?i)([a-z]+:)?//|data:|javascript:", value), f"{tag} {name}={value}"
    assert any(tag == "script" and attrs.get("src") == "/static/app.js" for tag, attrs in page.tags), "app.js not loaded"


@case
def script_treats_text_as_text():
    script = text("static/app.js")
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script, f"{word} occurs"
    for word in ("/api/links", "DELETE", "POST", "textContent"):
        assert word in script, f"{word} does not occur"


@case
def only_the_standard_library_is_imported():
    for file in sorted(ROOT.glob("*.py")) + sorted(ROOT.glob("[!.]*/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                local = (ROOT / top).is_dir() or (file.parent / f"{top}.py").is_file() or (file.parent / top).is_dir()
                assert local or top in sys.stdlib_module_names, f"{file.relative_to(ROOT)} imports {name}"


@case
def container_file():
    lines = re.sub(r"\\\n", " ", text("Dockerfile")).splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    images = [line.split()[1] for line in lines if line.upper().startswith("FROM ")]
    assert images and all(re.search(r"python:3\.1[1-3](\.\d+)?-slim", image) for image in images), f"images {images}"
    users = [line.split()[1] for line in lines if line.upper().startswith("USER ")]
    assert users and users[-1].split(":")[0] not in ("root", "0"), "runs as root"
    assert any(re.match(r"(?i)EXPOSE\s+8080\b", line) for line in lines), "no EXPOSE 8080"
    health = [line for line in lines if line.upper().startswith("HEALTHCHECK")]
    assert health and "/healthz" in health[-1] and "python" in health[-1], "health check"
    assert not re.search(r"\b(curl|wget)\b", "\n".join(lines)), "needs curl or wget"
    start = " ".join(line for line in lines if re.match(r"(?i)(ENTRYPOINT|CMD)\s*\[", line))
    for word in ("shortener", "0.0.0.0", "/data"):
        assert word in start, f"{word} is not in the exec-form start command"
    ignored = text(".dockerignore")
    assert ".git" in ignored and "__pycache__" in ignored, ".dockerignore"


@case
def ci_configuration():
    ci = text(".github/workflows/ci.yml")
    assert "\t" not in ci, "tabs"
    for pattern in (r"\bpush\b", r"\bpull_request\b", r"contents:\s*read", r"unittest\s+discover\s+-s\s+tests", r"checks/end_to_end\.py",
                    r"""["']3\.11["']""", r"""["']3\.13["']"""):
        assert re.search(pattern, ci), f"{pattern} not found"
    assert not re.search(r":\s*write\b|pull_request_target|secrets\.", ci), "more rights than needed"


@case
def given_files_are_unchanged_in_what_they_ask():
    codec_tests = text("tests/test_codec.py")
    for wanted in ("range(1, 11)", '"1" + "0" * power', '"z" * power', "2**63 - 1", '"ab-c"'):
        assert wanted in codec_tests, f"tests/test_codec.py no longer asks for {wanted}"


def run_suite(breakage):
    program = f"{breakage}\nimport unittest\nunittest.main(module=None, argv=['x', 'discover', '-s', 'tests'])\n"
    done = subprocess.run([sys.executable, "-B", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=SUITE_TIMEOUT_S)
    ran = re.search(r"Ran (\d+) tests?", done.stderr)
    return done.returncode, int(ran[1]) if ran else 0


@case
def suite_passes_and_covers_more_than_the_codec():
    status, ran = run_suite("")
    assert status == 0, f"exit status {status}"
    assert ran >= 15, f"only {ran} tests"


@case
def suite_is_able_to_fail():
    assert run_suite("")[0] == 0, "the suite fails before anything is broken"
    for what, breakage in BREAKAGES.items():
        assert run_suite(breakage)[0] != 0, f"the suite did not notice that {what}"


def main():
    failed = 0
    for check in CASES:
        try:
            check()
            print(f"ok      {check.__name__}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(CASES) - failed} of {len(CASES)} hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
