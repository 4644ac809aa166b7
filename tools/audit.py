"""Measure the built site as a phone gets it: Lighthouse, and a table.

    python tools/audit.py [page ...]

Needs Node (npx) and Chromium, and the site (`make book`). Lighthouse's timings depend
on the machine: they are printed, and decide nothing but this command's exit status.
"""

import functools
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))

import browser  # noqa: E402  the tests' client of DevTools

SITE = ROOT / "_build" / "html"
LIGHTHOUSE = "lighthouse@12.8.2"
FLAGS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage
--disable-background-networking --disable-component-update --disable-sync"""
GOALS = {"performance": 95, "accessibility": 100, "best-practices": 95, "seo": 95}
SHIFT, WEIGHT = 0.05, 700  # largest layout shift; kB, compressed, without fonts
RUNS = 3  # the middle one counts


class Server(http.server.SimpleHTTPRequestHandler):
    """The site, compressed as any host would."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        body, kind = path.read_bytes(), self.guess_type(str(path))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "max-age=31536000")
        if "gzip" in self.headers.get("Accept-Encoding", "") and "font" not in kind:
            body = gzip.compress(body, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(folder):
    """A server of the folder on a free port of this machine, in a thread."""
    handler = functools.partial(Server, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pages(site):
    """What is measured: the landing page, the longest chapter, the tools."""
    chapters = site.glob("book/[0-9][0-9]_*.html")
    chapters = sorted(chapters, key=lambda path: path.stat().st_size)
    apps = ("calculator", "explorer", "gallery")
    named = [site / "book" / f"{name}.html" for name in apps]
    chosen = [site / "book" / "index.html", *chapters[-1:], *named]
    return [path.relative_to(site).as_posix() for path in chosen if path.exists()]


def measure(url, chromium):
    """Lighthouse's report on one address, a dict."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "report.json")
        command = ["npx", "--yes", LIGHTHOUSE, url, "--quiet", "--output=json"]
        command += [f"--output-path={out}", f"--chrome-flags={' '.join(FLAGS.split())}"]
        done = subprocess.run(
            command,
            env={**os.environ, "CHROME_PATH": chromium},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if not out.exists():
            raise RuntimeError(f"Lighthouse: {done.stderr[-2000:]}")
        return json.loads(out.read_text(encoding="utf-8"))


def row(report):
    """What the table says of a report: scores in percent, shift, kilobytes."""
    found = {k: round(100 * (report["categories"][k]["score"] or 0)) for k in GOALS}
    audits = report["audits"]
    found["shift"] = audits["cumulative-layout-shift"]["numericValue"]
    items = audits["network-requests"]["details"]["items"]
    sizes = [i.get("transferSize", 0) for i in items if i.get("resourceType") != "Font"]
    found["kB"] = sum(sizes) / 1000
    return found


def failed(found):
    """The names of the goals that a page misses."""
    missed = [name for name, goal in GOALS.items() if found[name] < goal]
    missed += ["shift"] * (found["shift"] > SHIFT) + ["kB"] * (found["kB"] > WEIGHT)
    return missed


def complaints(report):
    """The audits of a report that are not passed, with what they count for."""
    for category in GOALS:
        for reference in report["categories"][category]["auditRefs"]:
            audit = report["audits"][reference["id"]]
            if reference["weight"] and (audit["score"] or 0) < 0.9:
                shown = audit.get("displayValue", "")
                yield f"    {category}: {audit['title']} {shown}".rstrip()


def main(arguments):
    chromium = browser.find()
    if shutil.which("npx") is None or chromium is None:
        missing = "Node (npx)" if chromium else "Chromium"
        print(f"The audit needs {missing}, which is not there. Nothing was measured.")
        return 2
    if not (SITE / "book").is_dir():
        print("No site in _build/html: run `make book` first.")
        return 2
    server, status = serve(SITE), 0
    print("page                     perf  access.  best  SEO  shift    kB")
    for page in arguments or pages(SITE):
        url = f"http://127.0.0.1:{server.server_port}/{page}"
        reports = [measure(url, chromium) for _ in range(RUNS)]
        reports.sort(key=lambda one: one["categories"]["performance"]["score"] or 0)
        report = reports[RUNS // 2]
        found = row(report)
        print(
            "{:24} {performance:4} {accessibility:8} {best-practices:5} {seo:4} "
            "{shift:6.3f} {kB:5.0f}".format(Path(page).stem[:24], **found),
            flush=True,
        )
        if missed := failed(found):
            status = 1
            print("  below the goal:", ", ".join(missed))
        for line in complaints(report):
            print(line)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
