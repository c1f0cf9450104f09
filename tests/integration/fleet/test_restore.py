"""The department's server is lost: a new one from the backup, and the box, which nobody touches, is back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from lab.department import Department, open_department
from lab.loopback import Loopback
from tests.integration.enrol.boxes import Factory
from tests.integration.fleet.box_side import running
from tests.integration.fleet.conftest import SECTIONS, SERVICES, Town
from vigie_department import config as configuration


def test_a_box_outlives_the_server_of_its_department(tmp_path: Path, repo_root: Path) -> None:
    """What only the lost server had is gone; what the box still kept arrives, and it obeys the new one."""
    object_file = repo_root / "firmware" / "bpf" / "build" / "filter.bpf.o"
    with open_department(SERVICES, sections=SECTIONS) as old, Loopback() as place:
        town = Town(old, Factory(old, tmp_path), object_file)
        enrolled = town.factory.box()
        trust = shutil.copytree(old.config.paths.trust, enrolled.config.paths.run.parent / "trust")
        enrolled.config = replace(enrolled.config, paths=replace(enrolled.config.paths, trust=trust))
        enrolled.restart()
        with running(town.member(enrolled)) as box:
            box.enrol()
            box.start("link")
            box.until_code("connected")
            box.filter.add_alerts(20)
            box.until(lambda: town.alerts(box.name) == (20, 20), "the first alerts arrive")
            archive = Path(old.cli("backup", "--to", str(tmp_path)).require().out.split(" ")[0])
            box.filter.add_alerts(5)
            box.until(lambda: box.filter.waiting == 0, "confirmed by the server that will be lost")
            old.cli("exception", "add", "late.example", "--all", "--for", "1j", "--why", "essai").require()
            box.until(lambda: box.filter.call("department-show")["exceptions"] == 1, "in force, after the backup")
            version = box.filter.call("department-show")["version"]
            for name in list(old.processes):
                old.stop(name, kill=True)
            shutil.rmtree(old.root)
            box.filter.add_alerts(30)
            box.until(lambda: box.link_status["code"] != "connected", "the box notices")

            new = Department(place, place.temp / "n", old.ports, listen="127.0.0.1")
            new.cli("restore", str(archive), timeout=120).require()
            new.config = configuration.load(root=new.root)
            new.start(*SERVICES)
            box.department, after = new, Town(new, town.factory, object_file)
            box.until_code("connected")
            box.until(lambda: box.filter.waiting == 0, "everything kept is confirmed by the new server")
            assert after.alerts(box.name) == (50, 50), "20 of the backup and 30 of the outbox"
            new.cli("exception", "add", "new.example", "--box", box.name, "--for", "1j", "--why", "essai").require()
            box.until(lambda: box.filter.call("department-show")["version"] > version, "obeys the new server")
            box.stop("link")
            for name in list(new.processes):
                new.stop(name)
