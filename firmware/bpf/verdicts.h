/* SPDX-License-Identifier: GPL-2.0-only */
/* Numbers shared with Python (vigie.contract.codes). Append-only: a number, once
 * released, is never reused nor given another meaning; tests compare the two sides.
 */
#pragma once

/* What is done with a frame. */
enum verdict {
	V_PASS = 0,	/* forwarded */
	V_REFUSE = 1,	/* dropped, and the sender told (TCP RST, ICMP prohibited), rate limited */
	V_NXDOMAIN = 2,	/* the DNS query is answered here: no such name, with an extended error */
	V_DROP = 3,	/* dropped silently */
	V_OBSERVE = 4,	/* forwarded, and reported as if blocked */
	V_HOLD = 5,	/* given to userspace until the server's name is known */
};

/* Why. 0-31 pass, 32-63 block (or observe), 64-95 anomalies, 96-127 counters of the machinery. */
enum reason {
	R_NONE = 0,
	R_DEFAULT = 1,		/* no layer objects */
	R_LOCAL = 2,		/* the remote end is on-link: router, neighbour */
	R_NOT_IP = 3,		/* ARP, STP, LLDP, EAPOL, PPPoE ... */
	R_MULTICAST = 4,	/* IP multicast or limited broadcast */
	R_OWN = 5,		/* a flow that the box opened, or an on-link LAN host on a declared port */
	R_ESTABLISHED = 6,	/* inbound packet of a flow that the LAN opened */
	R_EXCEPTION = 7,	/* allowed (or observed) by an exception */
	R_NEVER_BLOCK = 8,	/* address or name of the never-block list */
	R_LEARNING = 9,		/* unsolicited inbound, let in while learning or while roles are unknown */
	R_INBOUND_ALLOWED = 10,	/* unsolicited inbound to a port in real use */
	R_ICMP_ERROR = 11,	/* ICMP error that quotes a known flow */

	R_ISOLATION = 32,
	R_QUARANTINE = 33,
	R_EXCEPTION_BLOCK = 34,
	R_TOXIC_ADDRESS = 35,
	R_TOXIC_DNS = 36,
	R_TOXIC_SNI = 37,
	R_DEVICE_CLASS = 38,
	R_DYNAMIC = 39,
	R_INBOUND = 40,		/* inbound default */
	R_SPOOF = 41,		/* the box's own MAC or address as source */
	R_NOT_FOR_BOX = 42,	/* addressed to the box, neither own flow nor declared port */
	R_LOOP = 43,		/* both cables in one switch: this port is blocked */

	R_SHORT_FRAME = 64,	/* shorter than an Ethernet header */
	R_SHORT_IP = 65,	/* IP header truncated */
	R_BAD_IP_VERSION = 66,	/* EtherType and version disagree */
	R_BAD_IP_LENGTH = 67,	/* header or total length impossible */
	R_SHORT_L4 = 68,	/* transport header truncated: address verdict only */
	R_BAD_TCP = 69,		/* data offset impossible: address verdict only */
	R_EXT_HEADERS = 70,	/* IPv6 extension chain too long or truncated: address verdict only */
	R_VLAN_DEPTH = 71,	/* more tags than parsed: passes as not IP */
	R_FRAGMENT = 72,	/* fragment: address verdict only */
	R_BAD_DNS = 73,		/* DNS that cannot be parsed: no name verdict */
	R_BAD_TLS = 74,		/* ClientHello that cannot be parsed: no name verdict */
	R_BAD_SOURCE = 75,	/* multicast, loopback or unspecified source with a unicast destination */

	C_FLOW_NEW = 97,
	C_FLOW_EVICTED = 98,
	C_REFUSAL_LIMITED = 99,	/* refused, but no RST/ICMP: rate limit */
	C_REFUSAL_FAILED = 100,	/* RST/ICMP/NXDOMAIN could not be built: dropped silently */
	C_HELD = 101,		/* frames given to userspace for their server name */
	C_HOLD_EXPIRED = 102,	/* let through: undecided after hold_ns, or daemon silent */
	C_HOLD_FULL = 103,	/* let through: held ring full or frame too large */
	C_EVENT_LIMITED = 104,	/* events not reported: rate limit */
	C_EVENT_FULL = 105,	/* events not reported: ring full */
	C_MAC_MOVED = 106,
	C_NO_BASE = 107,	/* the slot named by the generation held no base */
	C_NO_CONTROL = 108,
	C_RESOLVED = 109,	/* addresses learnt from answers for never-block or essential names */
	REASON_COUNT = 128,
};

enum event_kind {
	E_BLOCKED = 1,		/* refused, dropped or NXDOMAIN; payload: the name, if one decided */
	E_OBSERVED = 2,		/* would have been blocked */
	E_FLOW = 3,		/* flow entered the cache */
	E_DNS = 4,		/* DNS message, either way; payload: the message, cut at 512 bytes */
	E_NAME = 5,		/* ClientHello read in the data path; payload: the server name */
	E_DHCP = 6,		/* payload: the message */
	E_DISCOVERY = 7,	/* mDNS, SSDP, WS-Discovery, LLMNR; payload: the message */
	E_NEIGHBOUR = 8,	/* ARP or ND; payload: the message */
	E_ROUTER = 9,		/* router advertisement; payload: the message */
	E_INBOUND = 10,		/* unsolicited inbound that passed (learning) */
	E_PROBE = 11,		/* the box's own loop probe came in */
	E_MAC_MOVED = 12,
	E_HELD = 13,		/* on the held ring; payload: the whole frame from the Ethernet header */
	EVENT_KINDS = 16,
};

/* Indicator classes. */
enum direction { D_BOTH = 0, D_OUT = 1 /* LAN opened */, D_IN = 2 /* internet opened */ };
enum action { A_NONE = 0, A_BLOCK = 1, A_OBSERVE = 2, A_ALLOW = 3 };

enum category {
	CAT_NONE = 0, CAT_MALWARE = 1, CAT_C2 = 2, CAT_PHISHING = 3, CAT_SCANNER = 4, CAT_BRUTEFORCE = 5,
	CAT_SPAM = 6, CAT_BOTNET = 7, CAT_RANSOMWARE = 8, CAT_STALKERWARE = 9, CAT_CRYPTOMINING = 10,
	CAT_ANONYMISER = 11, CAT_SUSPICIOUS = 12, CAT_HIJACKED = 13, CAT_SCAM = 14, CAT_DOH = 15, CAT_TEST = 16,
};

enum device_class {
	DC_NONE = 0, DC_COMPUTER = 1, DC_CAMERA = 2, DC_PRINTER = 3, DC_PHONE = 4, DC_TV = 5, DC_NETWORK = 6,
	DC_STORAGE = 7, DC_ALARM = 8, DC_IOT = 9, DC_MOBILE = 10,
};

enum inbound_mode { IN_OFF = 0, IN_LEARN = 1, IN_REFUSE = 2 };
enum initiator { INIT_UNKNOWN = 0, INIT_PORT0 = 1, INIT_PORT1 = 2 };
