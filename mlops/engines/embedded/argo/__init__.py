"""The Argo part of the embedded engine: WorkflowTemplates run on one machine, step by step as processes.

`workflows` is the door (register, submit, get, list, stop, log), `api` its HTTP side. Behind it: `support` (what is
executed, ignored, refused), `execution` (one workflow's course), the rules of `dag`, `loops`, `retries` and `priority`
(which step goes first), `values`, `tags` and `expressions`, `pods` and `spark` (one step as a process), `artifacts`,
`cache`, and `record` (what is remembered and shown). Built on the engine's generic parts, like `nomad/` beside it.
Deliberately not: a cluster, and what definitions mean (`definitions.argo`).
"""

from mlops.engines.embedded.argo.api import routes
from mlops.engines.embedded.argo.support import validate
from mlops.engines.embedded.argo.workflows import Workflows

__all__ = ["Workflows", "routes", "validate"]
