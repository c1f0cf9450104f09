"""The department first, then the box: flashed and registered in the workshop, sent to the town hall, plugged in."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab import plan
from lab.base import DELIVERED, Bases
from lab.box import Product
from lab.central import Central
from lab.department import Department
from lab.fleet import Member, start_dhcp
from lab.office import Office


def join(office: Office, bases: Bases, tell: Callable[[str], None]) -> None:
    """Everything runs when this returns; the box may still be on its way into the fleet: nobody helps it from here."""
    lab, times = office.lab, office.times
    tell("the department ...")
    start = time.monotonic()
    department = Department(lab["dept"], lab.world.temp / "dept")
    department.users = department.users_can_run()
    department.init()
    department.start()
    office.central = central = Central(department, bases.sources, lab.world.temp / "central")
    central.capture.start()
    times["department_s"] = time.monotonic() - start

    office.member = member = Member(lab.box, lab.world.temp / "member", department)
    product = office.product = Product(lab, bases.plain, settings=member.filter_settings())
    member.flash(product.socket)
    member.register()

    # Newer than what the box is delivered with, as any base that a department publishes later.
    tell("the department's first base ...")
    start = time.monotonic()
    version = central.prepare(plan.CENTRAL.v4, plan.CENTRAL.v6, least=DELIVERED + 10)
    central.make_operators()
    central.release(version)
    times["publish_s"] = time.monotonic() - start

    product.address = lambda: [start_dhcp(product)]
    product.services = member.start
    product.bring_up(times)
