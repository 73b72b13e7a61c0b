"""`pipecat-hydra web`: serves a web page on which a user talks to Hydra.

`server` listens, and runs the emulator if there is no key. `app` answers HTTP requests, except for
those that `guard` refuses. `calls` holds the calls in progress; each is a `call` with a pipeline of
its own. `static/` is the page.
The extra `web` must be installed: `main.serve` checks that before any other module imports it.
"""

from pipecat_hydra.cli.web.main import serve
from pipecat_hydra.cli.web.options import DEFAULT_INSTRUCTIONS, WebOptions

__all__ = ["DEFAULT_INSTRUCTIONS", "WebOptions", "serve"]
