"""Who vouches for a bundle: Ed25519 signatures over its manifest. The only module that knows the library behind it.

A public key is written `ed25519:BASE64`; a private key is a PEM file as `openssl genpkey -algorithm ed25519` makes it. A
signature carries the public key it claims to be of: whether that key counts is asked of the configuration (`work.signers`),
never of the bundle. A private key is read to sign, and stays nowhere.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from station.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    PrivateKey = Ed25519PrivateKey

KEY_PREFIX = "ed25519:"
KEY_SIZE_BYTES = 32
SIGNATURE_SIZE_BYTES = 64
# What is signed begins with this, so that a signature made for anything else is none of a bundle.
_CONTEXT = b"flashing-station bundle 1\n"
_MOST_PEM_BYTES = 64 << 10


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the signature of a manifest as it lies in a bundle: public key and signature, one line each."""
    signature = base64.b64encode(key.sign(_CONTEXT + manifest)).decode()
    return f"{public_key_of(key)}\n{signature}\n".encode()


def signer_of(manifest: bytes, signature: bytes) -> str:
    """Return the public key that signed this manifest; empty when the signature does not hold.

    Base64 can be written in several ways; only the one of `sign` counts, so that nobody makes another file of a signed one.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        named, made, rest = signature.decode("ascii").split("\n")
        raw = base64.b64decode(made, validate=True)
    except (UnicodeDecodeError, ValueError):
        return ""
    key = _key_bytes(named)
    if key is None or rest or len(raw) != SIGNATURE_SIZE_BYTES or base64.b64encode(raw).decode() != made:
        return ""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(raw, _CONTEXT + manifest)
    except InvalidSignature:
        return ""
    return named


def public_key_of(key: Ed25519PrivateKey) -> str:
    """Return the public key that belongs to a private one, as `work.signers` wants it."""
    return KEY_PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def new_private_key(path: Path) -> Ed25519PrivateKey:
    """Make a private key and write it to the new file `path`, readable by its owner only; raises `ConfigurationError`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor made with its mode
            file.write(key.private_bytes(*form))
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"cannot be made ({error.strerror})", fix="name a new file"
        ) from None
    return key


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; raises `ConfigurationError` for what is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    fix = "station recipe key FILE --new makes one, as does: openssl genpkey -algorithm ed25519"
    try:
        with path.open("rb") as file:
            pem = file.read(_MOST_PEM_BYTES)
        key = load_pem_private_key(pem, password=None)
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"the key cannot be read ({error.strerror})", fix=fix
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError is how the library says that a password is wanted. What it says of the file is not repeated: it is a key.
        raise ConfigurationError(file=str(path), problem="no private key without a password", fix=fix) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(file=str(path), problem="a private key, and none of Ed25519", fix=fix)
    return key


def _key_bytes(text: str) -> bytes | None:
    """The public key that is written so; None for what is none, and for another way to write one."""
    if not text.startswith(KEY_PREFIX):
        return None
    try:
        raw = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == KEY_SIZE_BYTES and KEY_PREFIX + base64.b64encode(raw).decode() == text else None
