"""Seals and opens IPsec packets with scapy, one JSON request a line.

A request has: op (seal or open), proto (esp or ah), spi, seq, crypt, ckey,
auth, akey, tunnel (null or [source, destination]), packet (hex). The answer has
packet (hex) or error.
"""
import json
import sys
import warnings

warnings.simplefilter("ignore")

from scapy.all import AH, ESP, IP, IPv6, raw  # noqa: E402
from scapy.layers import ipsec  # noqa: E402
from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives.hmac import HMAC  # noqa: E402

ipsec.AUTH_ALGOS["SHA2-256-96"] = ipsec.AuthAlgo(
    "SHA2-256-96", mac=HMAC, digestmod=hashes.SHA256, icv_size=12)


def packet(b):
    return IP(b) if b[0] >> 4 == 4 else IPv6(b)


def answer(q):
    tunnel = None
    if q["tunnel"]:
        src, dst = q["tunnel"]
        tunnel = IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst)
    sa = ipsec.SecurityAssociation(
        AH if q["proto"] == "ah" else ESP, spi=q["spi"], seq_num=q["seq"],
        crypt_algo=q["crypt"] or None, crypt_key=bytes.fromhex(q["ckey"]) or None,
        auth_algo=q["auth"] or None, auth_key=bytes.fromhex(q["akey"]) or None,
        tunnel_header=tunnel)
    p = packet(bytes.fromhex(q["packet"]))
    return raw(sa.encrypt(p) if q["op"] == "seal" else sa.decrypt(p)).hex()


for line in sys.stdin:
    try:
        r = {"packet": answer(json.loads(line))}
    except Exception as e:
        r = {"error": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(r), flush=True)
