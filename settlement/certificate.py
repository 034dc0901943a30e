"""The completion certificate (R13.4): a printable page, signed with Ed25519 by the registry.

The signature covers the page's text above the signature block, UTF-8, exactly as printed. The public key is
printed with it and published (docs/settlement.md), so anybody can check a page without asking the registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from settlement.accounts import AccountForm
from settlement.compliance import Compliance
from settlement.errors import NOT_USABLE, Refused

_BLOCK: Final = "-----SIGNATURE (Ed25519)-----"


def new_key(path: Path) -> None:
    """Make the registry's signing key (PEM, readable by its owner only). The file must not exist yet."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(pem)


def load_key(path: Path) -> Ed25519PrivateKey:
    """The signing key of a PEM file; ValueError where it holds another kind of key."""
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("is no Ed25519 key")
    return key


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public key as 64 hexadecimal digits."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return raw.hex()


def certificate(entity: Compliance, form: AccountForm, date: int, key: Ed25519PrivateKey) -> str | Refused:
    """The page for an entity that has complied; refused for one that has not."""
    if not entity.complied:
        return Refused(NOT_USABLE, "account", f"{entity.missing_t} t are missing for {entity.year}")
    text = "\n".join(
        [
            "CERTIFICATE OF COMPLETION  履约完成证明",
            "National carbon market registry  全国碳排放权注册登记系统",
            "",
            f"Entity 单位:              {form.name}",
            f"Credit code 信用代码:     {form.identity}",
            f"Registry account 账户:    {form.number}",
            f"Compliance year 履约年度: {entity.year}",
            f"Verified emissions 核查排放量: {entity.emissions_t} t CO2e",
            f"Surrendered 清缴:         {entity.surrendered_t} t",
            f"Offset by CCER 抵销:      {entity.offset_t} t",
            f"Issued on 出具日期:       {date // 10_000:04d}-{date // 100 % 100:02d}-{date % 100:02d}",
            "",
        ]
    )
    signature = key.sign(text.encode()).hex()
    return f"{text}\n{_BLOCK}\npublic key {public_hex(key)}\n{signature[:64]}\n{signature[64:]}\n"


def is_genuine(page: str, public_key_hex: str) -> bool:
    """Whether a page is unchanged and signed with this key."""
    text, found, block = page.partition(f"\n{_BLOCK}\n")
    lines = block.split("\n")
    if not found or len(lines) != 4 or lines[0] != f"public key {public_key_hex}" or lines[3]:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key_hex))
        public.verify(bytes.fromhex(lines[1] + lines[2]), text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
