"""Reaching a private Nomad: fixed ports of this machine, each led to a live server of a Nomad region.

`gcloud.py` finds servers and opens a tunnel to one through Identity-Aware Proxy; `listener.py` leads connections
through such tunnels; `session.py` runs a command beside them. Deliberately no tunnel protocol of its own: Google's
`gcloud` speaks it, keeps it and logs in, and everyone who may open a tunnel has it.
"""

from mlops.tunnel.gcloud import TunnelError
from mlops.tunnel.session import Offer, run

__all__ = ["Offer", "TunnelError", "run"]
