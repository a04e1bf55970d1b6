"""Certificates for tests of TLS: an authority, and the server and client that it vouches for."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER_NAME = "milvus.test"
"""What the server's certificate names: not 127.0.0.1, so that a client has to be told."""


@dataclass(frozen=True)
class Certificates:
    """PEM files."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def write_certificates(folder: Path, server_name: str = SERVER_NAME) -> Certificates:
    """Make all of them anew below `folder`, good for a day."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Certificates(
        *(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key"))
    )
    authority = _Issuer()
    files.authority.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    authority.issue(server_name, files.server, files.server_key)
    authority.issue("client.test", files.client, files.client_key)
    return files


class _Issuer:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name("authority.test")
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        unsigned = _certificate(self.name, self.name, self.key).add_extension(constraints, critical=True)
        self.certificate = unsigned.sign(self.key, hashes.SHA256())

    def issue(self, subject: str, certificate: Path, key: Path) -> None:
        own_key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(subject)])
        unsigned = _certificate(_name(subject), self.name, own_key).add_extension(names, critical=False)
        certificate.write_bytes(unsigned.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            own_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
