"""What the machines of the lab do: real programs (curl, dig, openssl, iperf3) and small clients of our own."""
