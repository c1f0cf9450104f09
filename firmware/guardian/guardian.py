# ruff: noqa: BLE001 -- a fault in one reading must not keep the others from being read
"""The running guardian: reads, asks the tables, acts. One loop that never waits for anything but its own clock."""

import gc
import json
import select
import time

import background
import button
import core
import files
import keys
import lights
import observe
import policy
import probe
import watchdog
import work

LOOK_S = 5
STORE_AGAIN_S = 30
PIN_WINDOW_S = 600
CONFIRM_MS = 3000
TEST_MS = 1500
HOLD_MS = 100


class Clock:
    """Milliseconds that only go forward, whatever the width of the interpreter's numbers."""

    def __init__(self):
        self.last = time.ticks_ms()
        self.total = self.last

    def now(self):
        """CLOCK_MONOTONIC on a 64-bit machine."""
        ticks = time.ticks_ms()
        self.total += max(0, time.ticks_diff(ticks, self.last))
        self.last = ticks
        return self.total


class Guardian:
    """config: a checked configuration; legend: pattern.Legend; say(text): one line for the journal; notify(text):
    systemd's socket."""

    def __init__(self, config, config_ok, legend, say, notify):
        self.config, self.legend, self.say, self.notify = config, legend, say, notify
        self.clock = Clock()
        now_ms = self.clock.now()
        now = now_ms // 1000
        self.dog = watchdog.Watchdog(config["watchdog"], config["watchdog_s"], say)
        self.dog.tend(True, now)  # before anything that could take long
        self.poll = select.poll()
        self.see = {"config_ok": config_ok, "mode": "normal", "disk": "ok", "quiet_max_s": config["quiet_max_s"]}
        self.frames = observe.Frames(now)
        self.probe = probe.Probe(self._sys, self.frames, say)
        self.heartbeat = observe.Heartbeat(config["beat_lost_s"])
        self.bridge = observe.Bridge(config["bridge_gone_s"], config["stalled_s"])
        self.button = button.Button(config["short_ms"], config["reset_ms"], config["stuck_ms"])
        self.keys = None
        if config["button"]:
            self.keys = keys.Keys(config["sysfs"], config["input"], config["button"]["key"], self.poll, say)
        self.lights = lights.Lights(config["sysfs"], config["leds"], legend)
        self.relay = lights.Relay(config["sysfs"], config["relay"])
        self.jobs = background.Background()
        self.job = None
        self.state = policy.clean(None)
        self.judged = False
        self.mode_since = now
        self.failed_since = None
        self.job_next = {"judge": now, "store": now, "look": now}
        self.wanted = None  # the state that is to be stored
        self.shown = {}
        self.test_until = self.confirm_until = 0
        self.testing = False
        self.ticks = 0
        self.following = now_ms
        self.left = None
        self.told = {}
        self.written = None

    # --- readings ------------------------------------------------------------------------------------------------

    def _sys(self, path):
        return files.text(self.config["sysfs"] + "/" + path, 256)

    def _guarded(self, name, read):
        """Runs one reading. What it raises is said once and leaves what was known."""
        try:
            read()
            self.told[name] = ""
        except MemoryError:
            gc.collect()
        except Exception as error:
            if self.told.get(name) != repr(error):
                self.told[name] = repr(error)
                self.say(f"{name}: {error!r}")

    def _read_bridge(self, now):
        folder = "{}/class/net/{}/brif".format(self.config["sysfs"], self.config["bridge"])
        names = files.names(folder)
        ports = None
        if names is not None:
            ports = {}
            for name in names:
                base = "{}/class/net/{}/".format(self.config["sysfs"], name)
                carrier = files.number(base + "carrier")  # cannot be read while the port is down
                received = files.number(base + "statistics/rx_packets") or 0
                sent = files.number(base + "statistics/tx_packets") or 0
                ports[name] = (None if carrier is None else carrier == 1, received, sent)
        self.see.update(self.bridge.see(ports, now))

    def _read_filter(self, now):
        for key in ("attached", "base", "loop"):
            self.see.pop(key, None)
        self.see.update(self.heartbeat.see(files.value(self.config["heartbeat"]), now))

    def _read_update(self):
        status = files.value(self.config["update"])
        self.see["update"] = status.get("state") if isinstance(status, dict) else None

    # --- the disk ------------------------------------------------------------------------------------------------

    def _work(self, now):
        done, answer = self.jobs.poll()
        if done:
            self._answered(answer if isinstance(answer, dict) else {"stored": False}, now)
        if not self.jobs.busy():
            self._next(now)
        failing = self.failed_since is not None and now - self.failed_since >= self.config["unwritable_s"]
        self.see["disk"] = (
            "slow" if self.jobs.slow(now, self.config["disk_slow_s"]) else "unwritable" if failing else "ok"
        )

    def _next(self, now):
        config = self.config
        if not self.judged and now >= self.job_next["judge"]:
            self.job, run = "judge", lambda: (work.reopened(config), work.judge(config))[1]
        elif self.wanted is not None and now >= self.job_next["store"]:
            wanted = self.wanted
            self.job, run = "store", lambda: work.store(config, wanted)
        elif now >= self.job_next["look"]:
            self.job, run = "look", lambda: work.look(config)
        else:
            return
        self.job_next[self.job] = now + (LOOK_S if self.job == "look" else STORE_AGAIN_S)
        self.jobs.begin(run, now)

    def _answered(self, answer, now):
        if self.job == "look":
            self.see["enrol"] = answer.get("enrol")
            return
        if not answer.get("stored"):
            if self.failed_since is None:
                self.failed_since = now
            self._guarded("state folder", lambda: self._complain(answer))
            if self.job == "judge" and "state" in answer:  # what is known now holds, though it cannot be kept
                self._take(answer["state"], now)
            return
        self.failed_since = None
        if self.job == "judge":
            self.judged = True
            self._take(answer["state"], now)
            self.say("start: {reason}, mode {mode}, {count} resets in a row".format(**self.state))
            if self.state["mode"] == "plain" and files.exists(self.config["early"]):
                self._request(
                    "plain", now
                )  # the disk came after the data path: nobody could judge before it was loaded
        elif answer["state"] == self.wanted:
            before = self.state["mode"]
            self._take(self.wanted, now)
            self.wanted = None
            self.say("mode {} -> {}".format(before, self.state["mode"]))
            if before == "plain" and self.state["mode"] == "trial":
                self._request("protect", now)

    def _complain(self, answer):
        raise OSError(answer.get("error") or 5)

    def _take(self, state, now):
        if state["mode"] != self.state["mode"]:
            self.mode_since = now
        self.state = policy.clean(state)
        self.see["mode"] = self.state["mode"]

    def _later(self, now):
        if self.wanted is None and self.judged:
            config = self.config
            after, changed = policy.later(self.state, now - self.mode_since, config["retry_s"], config["stable_s"])
            if changed:
                self.wanted = after
                self.job_next["store"] = now

    # --- acting --------------------------------------------------------------------------------------------------

    def _request(self, name, now):
        content = {"v": 1, "at": now}
        if name == "pin-window":
            content["until"] = now + PIN_WINDOW_S
        self.say("request: " + name)
        files.put("{}/{}".format(self.config["run"], name), json.dumps(content))

    def _press(self, now_ms):
        if self.keys is None:
            return
        edges = self.keys.edges()
        if edges is None:
            self.button.lost()
            return
        for down in edges:
            happened = self.button.change(down, now_ms)
            if happened is None:
                continue
            if happened == "short":
                self.test_until = now_ms + TEST_MS
            else:
                self.confirm_until = now_ms + CONFIRM_MS
            self._request(button.request(happened, files.exists(self.config["pin_wanted"])), now_ms // 1000)

    def _publish(self):
        """status.json, when it says something else than before."""
        lamps = {}
        for lamp in self.shown:
            colour, flashes = self.legend.rows.get((lamp, self.shown[lamp]), ("amber", 9))
            lamps[lamp] = {"state": self.shown[lamp], "colour": colour, "flashes": flashes}
        see, config, state, dog = self.see, self.config, self.state, self.dog
        status = {
            "v": 1,
            "lamps": lamps,
            "feeding": core.feeds(see),
            "evidence": see.get("evidence"),
            "watchdog": {"device": config["watchdog"], "open": dog.is_open(), "timeout_s": dog.timeout_s},
            "mode": state["mode"],
            "count": state["count"],
            "reason": state["reason"],
            "bridge": see.get("bridge"),
            "links": see.get("links"),
            "relay": core.relay(see),
            "disk": see["disk"],
            "config_ok": see["config_ok"],
        }
        if status != self.written:
            files.put(self.config["run"] + "/status.json", json.dumps(status))
            self.written = status

    def tick(self, now_ms):
        """Once a second: readings, evidence, decision, watchdog, lamps."""
        now = now_ms // 1000
        self._guarded("probe", lambda: self.probe.ask(now))
        self.see["evidence"] = self.probe.evidence
        self.see["quiet_s"] = self.frames.quiet(now)
        self.dog.tend(core.feeds(self.see), now)
        self.see["watchdog"] = self.dog.is_open()
        self._guarded("bridge", lambda: self._read_bridge(now))
        self._guarded("heartbeat", lambda: self._read_filter(now))
        self._guarded("update", self._read_update)
        self._guarded("disk", lambda: self._work(now))
        self._guarded("mode", lambda: self._later(now))
        if self.keys is not None:
            self._guarded("keys", lambda: self.keys.look(now))
        self.testing = files.exists(self.config["lamp_test"])
        self._guarded("relay", lambda: self.relay.set(core.relay(self.see), now_ms))
        self._decide(now_ms)
        self._guarded("status", self._publish)
        self.notify("WATCHDOG=1")
        self.ticks += 1
        if self.ticks % 10 == 0:
            gc.collect()

    def _decide(self, now_ms):
        self.see["button"] = "confirmed" if now_ms < self.confirm_until else self.button.look(now_ms)
        self.shown = core.lamps(self.see, self.legend.rows)

    def _light(self, now_ms):
        self._decide(now_ms)
        self.left = self.lights.show(self.shown, now_ms, self.testing or now_ms < self.test_until)

    def step(self, now_ms):
        """What is due at this moment; milliseconds until something is due again."""
        if now_ms >= self.following:
            self.tick(now_ms)
            self.following = now_ms + self.config["tick_ms"]
        self._guarded("button", lambda: self._press(now_ms))
        self.left = None
        self._guarded("lamps", lambda: self._light(now_ms))
        wait = self.following - now_ms
        if self.left is not None:
            wait = min(wait, self.left)
        if self.button.since is not None:
            wait = min(wait, HOLD_MS)
        return max(1, wait)

    def run(self):
        """Never returns."""
        wait = self.step(self.clock.now())
        self.notify("READY=1")
        while True:
            self.poll.poll(wait)
            wait = self.step(self.clock.now())
