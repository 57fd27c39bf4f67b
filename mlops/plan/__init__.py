"""What a stack is, read from the program itself without a cloud."""

from mlops.plan.inventory import SECRET, UNKNOWN, Inventory, Resource
from mlops.plan.recorder import PlanError, record

__all__ = ["SECRET", "UNKNOWN", "Inventory", "PlanError", "Resource", "record"]
