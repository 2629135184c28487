"""Sphinx configuration: `sphinx-build -W --keep-going -n -b html docs docs/_build`."""

import sys
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import roles

project = "asgi-keepalive"
author = "the asgi-keepalive contributors"
project_copyright = "the asgi-keepalive contributors"

ROOT = Path(__file__).parent.parent
# This tree's package is documented, not an installed one; `signatures` is an extension.
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "signatures",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples", "plots"]
html_theme = "furo"
html_title = "asgi-keepalive"
html_show_copyright = False
html_show_sphinx = False

plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_working_directory = str(Path(__file__).parent)

myst_heading_anchors = 3
# No button on output: only blocks that are meant to be copied have a language.
copybutton_selector = "div.highlight-python pre, div.highlight-sh pre, div.highlight-js pre"

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signatures name the types
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
# A long signature gets one line for each parameter.
maximum_signature_line_length = 80

nitpicky = True
# Types of the standard library, of typing-extensions and of trio: documented elsewhere, and no
# inventory is fetched, so that the documentation builds without a network.
nitpick_ignore = [
    ("py:class", "collections.abc.Awaitable"),
    ("py:class", "collections.abc.Callable"),
    ("py:class", "collections.abc.Mapping"),
    ("py:class", "collections.abc.MutableMapping"),
    ("py:class", "typing_extensions.Unpack"),
    ("py:class", "trio.abc.Clock"),
    # The names of ASGI's types in signatures.
    ("py:class", "ASGIApp"),
    ("py:class", "Receive"),
    ("py:class", "Scope"),
    ("py:class", "Send"),
    # The middleware's signature names it; its fields are those of `Policy`.
    ("py:class", "keepalive._policy.MiddlewareOptions"),
    ("py:class", "keepalive._policy.PolicyOptions"),
]


def code_role(
    _role: str, rawtext: str, *_: object
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Render what stands in single backticks as it stands, backslashes too."""
    return [nodes.literal(rawtext, rawtext.strip("`"), classes=["code"])], []


roles.register_local_role("as-is", code_role)
default_role = "as-is"
