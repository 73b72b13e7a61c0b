"""`pipecat-hydra web`: a page to talk to Hydra on, served from this machine.

`server.run` listens and, if there is no key, runs the emulator; `app` is what it answers
over HTTP; `calls` holds the calls, each of which is a `call` with a pipeline of its own;
`static/` is the page. What is needed beyond the package is the extra `web`, which
`serve` looks for before anything imports it.
"""

from pipecat_hydra.cli.web.main import serve
from pipecat_hydra.cli.web.options import DEFAULT_INSTRUCTIONS, WebOptions

__all__ = ["DEFAULT_INSTRUCTIONS", "WebOptions", "serve"]
