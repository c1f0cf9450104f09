"""Brings a box into the fleet: register of purchased boxes, enrolment authority."""
