"""The key of a sale: what makes importing the same file twice change nothing, and keeps exact duplicates apart."""

from uuid import UUID, uuid5

from app.services.sales_import.parsing import BadRow
from app.tenancy import TenantId

# Fixed for ever: the same sale has the same key on every machine.
NAMESPACE = UUID("e424158e-8a1b-5276-be41-6eeaaea10ea3")
SEPARATOR = "\x1f"  # only a product could hold it, and that stands between parts that cannot


class SaleKeys:
    """Keys for the sales of one file, in its order.

    A sale with an external id has that as its key. Any other gets a UUIDv5 of tenant, instant, amount, product and
    the number of equal rows before it in the file. What was seen is kept as one 64-bit hash per row, about 70 bytes:
    a million rows take 70 MB. Two different rows of ten million share a hash with a chance of three in a million.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._repeated: dict[int, int] = {}

    def derive(self, tenant_id: TenantId, instant: str, amount: str, product: str | None) -> tuple[str, bool]:
        """The key of a sale without an id of its own, and whether an equal row came before."""
        parts = (str(tenant_id), instant, amount, product or "")
        occurrence = self._count(hash(parts))
        return str(uuid5(NAMESPACE, SEPARATOR.join((*parts, str(occurrence))))), occurrence > 0

    def external(self, tenant_id: TenantId, sale_id: str) -> str:
        """The key of a sale that has an id.

        Raises
        ------
        BadRow : the file has that id before: adding both would need another key, dropping one would lose money
        """
        if self._count(hash((tenant_id, sale_id))):
            raise BadRow("repeated_id")
        return sale_id

    def _count(self, token: int) -> int:
        """How often the token was seen before."""
        if token not in self._seen:
            self._seen.add(token)
            return 0
        before = self._repeated.get(token, 0) + 1
        self._repeated[token] = before
        return before
