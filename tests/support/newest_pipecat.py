"""Lets examples and the code of pages run with an older Pipecat than they are written for.

They import what the newest Pipecat has; `docs/reference/compatibility.md` says what to import
from an older one.
"""

import sys

from pipecat_hydra.service.pipecat_versions import FunctionSchema, tool_options

__all__: list[str] = []

_SCHEMAS = "pipecat.adapters.llm.schemas"

for _name, _moved in (("direct_function", tool_options), ("function_schema", FunctionSchema)):
    sys.modules.setdefault(f"{_SCHEMAS}.{_name}", sys.modules[_moved.__module__])
