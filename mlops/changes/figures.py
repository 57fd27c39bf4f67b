"""Capacity in words: pools, amounts, and how they change.

Owns what is said of figures, wherever they are said.
"""

from inventory.capacity import Amount, Pool, PoolChange


def kind(pool: Pool) -> str:
    """What machines a pool has, and what moves their number."""
    parts = [pool.machine_type or ("" if pool.kind == "disk" else "unknown machine type"), "spot" if pool.spot else ""]
    return " ".join(filter(None, [*parts, pool.kind, f"by {pool.scaled_by}" if pool.scaled_by else ""]))


def pairs(low: Amount, high: Amount) -> list[tuple[float | None, float | None]]:
    """The figures of two amounts side by side: machines, vCPU, memory, disk."""
    return [
        (low.machines, high.machines),
        (low.vcpu, high.vcpu),
        (low.memory_gb, high.memory_gb),
        (low.disk_gb, high.disk_gb),
    ]


def span(low: float | None, high: float | None) -> str:
    """From one figure to another."""
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def amounts(old: Amount, new: Amount) -> str:
    """What of two amounts differs."""
    names = ("machines", "vCPU", "GB memory", "GB disk")
    return ", ".join(
        f"{_number(before)} -> {_number(after)} {name}"
        for name, (before, after) in zip(names, pairs(old, new), strict=True)
        if before != after
    )


def pool_change(change: PoolChange) -> str:
    """How a pool changes, in one line."""
    old, new = change.old, change.new
    if old is None or new is None:
        pool = old or new
        if pool is None:
            return change.name
        spans = [span(low, high) for low, high in pairs(pool.minimum, pool.maximum)]
        text = f"{spans[0]} {kind(pool)}: {spans[1]} vCPU, {spans[2]} GB memory, {spans[3]} GB disk"
        return f"{change.name}: {text}{'' if new else ', no more'}"
    before, after = kind(old), kind(new)
    if old.machine_type != new.machine_type:
        before, after = old.machine_type or "unknown", new.machine_type or "unknown"
    parts = [f"{before} -> {after}" if before != after else after]
    before, after = (span(pool.minimum.machines, pool.maximum.machines) for pool in (old, new))
    parts.append(f"{before} -> {after} machines" if before != after else f"{after} machines")
    for word, amount in (
        ("at least", amounts(*(pool.minimum.model_copy(update={"machines": 0}) for pool in (old, new)))),
        ("at most", amounts(*(pool.maximum.model_copy(update={"machines": 0}) for pool in (old, new)))),
    ):
        if amount:
            parts.append(f"{word} {amount}")
    return f"{change.name}: {'; '.join(parts)}"
