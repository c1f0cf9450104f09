"""The machines: office (LAN hosts behind a switch), ISP box, internet."""
