"""What people may do to the fleet. The console and the commands call the same functions; each one is audited."""
