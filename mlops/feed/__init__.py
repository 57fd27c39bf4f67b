"""A stand-in for Salesforce on loopback: the REST calls that jsforce makes, over the real CoIL 2000 data.

Owns: the token endpoint, the query endpoint with its paging, the shape of Salesforce's answers and errors, the two
objects that the data set is served as, and the certificate. Deliberately not: where the server listens and how long it
lives (the embedded engine's supervisor runs it), and anything of Salesforce that reading records does not need.
"""

from mlops.feed.app import make_app
from mlops.feed.data import FeedError
from mlops.feed.tls import make_tls

__all__ = ["FeedError", "make_app", "make_tls"]
