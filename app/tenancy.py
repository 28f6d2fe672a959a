"""The tenant id: a UUID that only `parse_tenant_id` produces, so that a type checker rejects an unverified one."""

from typing import NewType
from uuid import UUID, uuid5

from app.errors import InvalidTenantId

TenantId = NewType("TenantId", UUID)

# Fixed for ever: a product's name for a tenant maps to the same id on every machine.
NAMESPACE = UUID("6f1c2d0e-7a3b-5c4d-9e8f-0a1b2c3d4e5f")
MAX_NAME_LENGTH = 200
# The scope of what belongs to no tenant: the global model and the item of its training. No name maps to it.
EVERYONE = TenantId(UUID("00000000-0000-8000-8000-000000000000"))


def parse_tenant_id(text: object) -> TenantId:
    """The tenant id for a UUID in any spelling, or for a product's own name of the tenant (a UUIDv5 of it).

    Raises
    ------
    InvalidTenantId : empty, longer than 200 characters, or with control characters
    """
    if isinstance(text, UUID):
        return TenantId(text)
    name = str(text).strip()
    try:
        return TenantId(UUID(name))
    except ValueError:
        pass_as_name = bool(name) and len(name) <= MAX_NAME_LENGTH and name.isprintable()
    if not pass_as_name:
        raise InvalidTenantId(
            f"{name[:40]!r} is no tenant id.",
            next_step=f"Give a UUID, or a printable name of 1 to {MAX_NAME_LENGTH} characters.",
        )
    return TenantId(uuid5(NAMESPACE, name))
