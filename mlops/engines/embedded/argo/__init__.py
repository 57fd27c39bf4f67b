"""The Argo part of the embedded engine: WorkflowTemplates run on one machine, step by step as processes.

`workflows` is the door (register, submit, get, list, stop, log), `api` its HTTP side. Behind it: `fields` (what is
executed, ignored, refused), `run` (Argo's rules), `order` (which step goes first), `step` and `spark` (one step as a
process), `artifacts`, `cache`, `tags` and `expressions`, and `workflow` (what is shown). Built on the engine's generic
parts, like `nomad/` beside it.
Deliberately not: a cluster.
"""

from mlops.engines.embedded.argo.api import routes
from mlops.engines.embedded.argo.fields import validate
from mlops.engines.embedded.argo.workflows import Workflows

__all__ = ["Workflows", "routes", "validate"]
