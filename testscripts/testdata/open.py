"""Open captured packets layer by layer with scapy, an implementation of ESP and
AH that shares nothing with ours.

    open.py KEYS PCAP

Prints a line per packet: the layers from the outside in, each with what was
verified. A packet that does not open prints the reason and makes the exit
status 1."""
import logging
import sys
import warnings

logging.getLogger("scapy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from scapy.layers.ipsec import AH, AUTH_ALGOS, ESP, AuthAlgo, SecurityAssociation
from scapy.utils import rdpcap

# The ICV length of old Linux kernels, which scapy has no name for.
AUTH_ALGOS["SHA2-256-96"] = AuthAlgo("SHA2-256-96", mac=HMAC, digestmod=hashes.SHA256, icv_size=12)

# Names of the algorithms: ours, scapy's.
ENC = {"-": None, "null": "NULL", "3des": "3DES", "aes": "AES-CBC", "aes-gcm": "AES-GCM", "chacha20poly1305": "CHACHA20-POLY1305"}
AUTH = {"-": None, "md5": "HMAC-MD5-96", "sha1": "HMAC-SHA1-96", "sha256": "SHA2-256-128", "sha256-96": "SHA2-256-96", "sha384": "SHA2-384-192", "sha512": "SHA2-512-256"}


def key(text):
    if text == "-":
        return None
    return bytes.fromhex(text.removeprefix("0x").replace("_", ""))


def load(path):
    table = {}
    for line in open(path):
        f = line.split()
        if not f or f[0].startswith("#"):
            continue
        proto, spi, dst, enc, enckey, auth, authkey = f
        args = {}
        if ENC[enc]:
            args.update(crypt_algo=ENC[enc], crypt_key=key(enckey))
        if AUTH[auth]:
            args.update(auth_algo=AUTH[auth], auth_key=key(authkey))
        cls = ESP if proto == "esp" else AH
        table[cls, int(spi, 0), dst] = SecurityAssociation(cls, spi=int(spi, 0), **args)
    return table


def describe(pkt, table):
    out = []
    while True:
        out.append("%s > %s" % (pkt.src, pkt.dst))
        inner = pkt.payload
        if isinstance(inner, (ESP, AH)):
            cls = type(inner)
            sa = table.get((cls, inner.spi, pkt.dst))
            if sa is None:
                raise ValueError("no key for %s 0x%x at %s" % (cls.__name__, inner.spi, pkt.dst))
            out.append("%s(0x%x,%d)" % (cls.__name__, inner.spi, inner.seq))
            pkt = sa.decrypt(pkt, verify=True)
            # What scapy gives back is a packet in transport mode, with the outer
            # addresses, whose payload it has not looked at.
            pkt = type(pkt)(bytes(pkt))
            out.append("verified")
            continue
        if isinstance(inner, (IP, IPv6)):
            pkt = inner
            continue
        if isinstance(inner, ICMP):
            out.append("ICMP type %d" % inner.type)
        elif isinstance(inner, (ICMPv6EchoRequest, ICMPv6EchoReply)):
            out.append("ICMP6 type %d" % inner.type)
        elif isinstance(inner, (TCP, UDP)):
            out.append("%s %d > %d" % (type(inner).__name__, inner.sport, inner.dport))
        else:
            out.append("protocol %d" % (pkt.proto if isinstance(pkt, IP) else pkt.nh))
        return " ".join(out)


def main():
    table = load(sys.argv[1])
    bad = 0
    for frame in rdpcap(sys.argv[2]):
        pkt = frame[IP] if IP in frame and (IPv6 not in frame or frame.getlayer(IP) is frame.payload) else frame.getlayer(IPv6)
        if pkt is None:
            continue
        if isinstance(pkt, IPv6) and pkt.nh in (0, 58) and ICMPv6EchoRequest not in pkt and ICMPv6EchoReply not in pkt:
            continue
        try:
            # Parse again from bytes: scapy keeps what it guessed of inner layers.
            print(describe(type(pkt)(bytes(pkt)), table))
        except Exception as e:
            print("not opened: %s: %s" % (type(e).__name__, e))
            bad = 1
    return bad


sys.exit(main())
