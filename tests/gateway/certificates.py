"""Certificates made on the spot, by a root of their own."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from corral.gateway.wire.tls import Pair

NOW = datetime.now(UTC)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A root that signs; `root` is its certificate in PEM."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made = self._sign("Test root", self._key, [], NOW - timedelta(days=1), NOW + timedelta(days=9), root=True)
        self.root = self._made.public_bytes(serialization.Encoding.PEM)

    def pair(self, folder, *, names=("localhost",), begins=-1, ends=30, passphrase=None, prefix="server"):
        """Write a certificate and its key; days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [*map(x509.DNSName, names), x509.IPAddress(ip_address("127.0.0.1"))]
        made = self._sign("server", key, alternatives, NOW + timedelta(days=begins), NOW + timedelta(days=ends))
        lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        pair = Pair(folder / f"{prefix}.crt", folder / f"{prefix}.key")
        pair.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
        pair.key.chmod(0o600)
        return pair

    def _sign(self, name, key, alternatives, begins, ends, *, root=False):
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("Test root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())
