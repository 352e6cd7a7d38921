"""Seals and opens IPsec packets with scapy, one JSON request a line.

A request has: op (seal or open), proto (esp or ah), spi, seq (64 bits; above 32
only with esn), esn (true for extended sequence numbers), crypt, ckey, auth, akey,
tunnel (null or [source, destination]), packet (hex). The answer has
packet (hex) or error.
"""
import json
import struct
import sys
import warnings

warnings.simplefilter("ignore")

from scapy.all import AH, ESP, IP, IPv6, raw  # noqa: E402
from scapy.layers import ipsec  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.hmac import HMAC  # noqa: E402

ipsec.AUTH_ALGOS["SHA2-256-96"] = ipsec.AuthAlgo(
    "SHA2-256-96", mac=HMAC, digestmod=hashes.SHA256, icv_size=12)


# Scapy knows extended sequence numbers with combined modes and AH, but not with
# ESP and a separate HMAC. The HMAC then also covers the high half, behind all
# else (RFC 4303 section 2.2.1): these append it.
high = b""


class HighMAC:
    def __init__(self, *args):
        self.mac = HMAC(*args)
        self.update = self.mac.update

    def finalize(self):
        self.update(high)
        return self.mac.finalize()


for name, a in list(ipsec.AUTH_ALGOS.items()):
    if a.mac is HMAC:
        ipsec.AUTH_ALGOS["high " + name] = ipsec.AuthAlgo(
            "high " + name, mac=HighMAC, digestmod=a.digestmod, icv_size=a.icv_size)


def packet(b):
    return IP(b) if b[0] >> 4 == 4 else IPv6(b)


def answer(q):
    global high
    tunnel, auth, esn = None, q["auth"], q["esn"]
    if q["tunnel"]:
        src, dst = q["tunnel"]
        tunnel = IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst)
    if esn and q["proto"] == "esp" and auth != "NULL":
        auth, esn, high = "high " + auth, False, struct.pack("!L", q["seq"] >> 32)
    sa = ipsec.SecurityAssociation(
        AH if q["proto"] == "ah" else ESP, spi=q["spi"],
        seq_num=q["seq"] & 0xffffffff, esn_en=esn, esn=q["seq"] >> 32 if esn else 0,
        crypt_algo=q["crypt"] or None, crypt_key=bytes.fromhex(q["ckey"]) or None,
        auth_algo=auth or None, auth_key=bytes.fromhex(q["akey"]) or None,
        tunnel_header=tunnel)
    p = packet(bytes.fromhex(q["packet"]))
    return raw(sa.encrypt(p) if q["op"] == "seal" else sa.decrypt(p)).hex()


for line in sys.stdin:
    try:
        r = {"packet": answer(json.loads(line))}
    except Exception as e:
        r = {"error": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(r), flush=True)
