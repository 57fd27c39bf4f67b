"""The feed's certificate: made anew at each start by a certificate authority that nothing else ever trusts or uses.

Owns: the server's SSL context and the public half of the authority. Deliberately not: where a client keeps that half.
"""

import os
import ssl
from collections.abc import Iterable


def make_tls(hostnames: Iterable[str]) -> tuple[ssl.SSLContext, bytes]:
    """Make a server's SSL context, and the authority with which clients check it.

    Returns:
      The context, and the authority's certificate in PEM. The private keys are in the memory of this process only.
    """
    import trustme  # cryptography is slow to import, and a reader of the plain files needs none of it

    authority = trustme.CA(organization_name="hybrid-mlops feed")
    certificate = authority.issue_cert(*hostnames)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if hasattr(os, "memfd_create"):
        # OpenSSL in Python reads keys from paths alone; this path is memory.
        with os.fdopen(os.memfd_create("feed-key"), "wb") as file:
            file.write(certificate.private_key_and_cert_chain_pem.bytes())
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    else:
        certificate.configure_cert(context)
    return context, authority.cert_pem.bytes()
