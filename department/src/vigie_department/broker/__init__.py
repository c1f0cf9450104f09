"""Generated configuration of the department's servers (Mosquitto, nginx), and the watch that makes revocation real."""
