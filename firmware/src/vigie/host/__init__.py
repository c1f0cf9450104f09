"""The seam to the machine: clock, files under /proc, network devices. Each has a form that tests can replace."""
