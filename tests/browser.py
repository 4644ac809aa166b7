"""A headless Chromium for tests, spoken to over its DevTools protocol."""

import json
import os
import re
import shutil
import subprocess
import time

import pytest
from tornado.ioloop import IOLoop
from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--disable-extensions --remote-debugging-port=0 --remote-allow-origins=*""".split()
PATIENCE = 60  # seconds


def find():
    """The path of a Chromium on this machine, or None. CHROMIUM names another one."""
    return os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )


needed = pytest.mark.skipif(
    find() is None, reason="no Chromium here: apt-get install chromium"
)


class Browser:
    """One page in a Chromium of its own; a context manager.

    events: all that the page has reported, as (method, parameters); dom, console and
    network are switched on. Nothing waits longer than a minute.
    """

    def __init__(self, folder):
        """Args: folder, an empty one, for the browser's profile."""
        command = [
            find(),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ]
        quiet = dict(stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        with open(folder / "log", "w") as log:
            self.process = subprocess.Popen(command, stdout=log, **quiet)
        self.loop, self.events, self.last = IOLoop(make_current=False), [], 0
        self.socket = self.session = None
        try:
            self.socket = self.wait(
                websocket_connect, self.address(folder / "log"), max_message_size=2**28
            )
            target = self.call("Target.getTargets")["targetInfos"]
            page = next(one for one in target if one["type"] == "page")
            self.session = self.call(
                "Target.attachToTarget", targetId=page["targetId"], flatten=True
            )["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the browser."""
        if self.socket is not None:
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.loop.close()

    def address(self, log):
        """Where the browser listens, once it does."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(r"ws://\S+", log.read_text(errors="replace")):
                return found[0]
            time.sleep(0.05)
        raise RuntimeError(f"no browser: {log.read_text(errors='replace')[-2000:]}")

    def wait(self, function, *args, **kwargs):
        """What an asynchronous function returns."""

        async def patient():
            return await function(*args, **kwargs)

        return self.loop.run_sync(patient, timeout=PATIENCE)

    def read(self):
        """The next message of the browser."""
        message = self.wait(self.socket.read_message)
        if message is None:
            raise RuntimeError("the browser has ended")
        message = json.loads(message)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def call(self, method, **parameters):
        """A command of the protocol. Returns: its result. Raises: RuntimeError."""
        self.last += 1
        message = dict(id=self.last, method=method, params=parameters)
        if self.session:
            message["sessionId"] = self.session
        self.wait(self.socket.write_message, json.dumps(message))
        while (answer := self.read()).get("id") != self.last:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, url):
        """Load a page, and wait until it has. The events before are forgotten."""
        self.events.clear()
        failed = self.call("Page.navigate", url=url).get("errorText")
        if failed:
            raise RuntimeError(f"{url}: {failed}")
        while "Page.loadEventFired" not in [name for name, _ in self.events]:
            self.read()

    def run(self, script):
        """The value of a JavaScript expression (a promise is awaited)."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def press(self, key, code=0, text=""):
        """A key, down and up: its name ("Tab"), its number (9), what it types."""
        beside = dict(key=key, code=key, windowsVirtualKeyCode=code)
        down = beside | (dict(text=text) if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **beside)

    def type(self, text):
        """Text into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def size(self, width, height=800):
        """The window in CSS pixels; one narrower than 600 is a phone's."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
