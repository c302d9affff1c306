"""Pages as one file: templates with everything escaped, and pictures inside them."""

import base64
from pathlib import Path

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> str:
    """Fill a template; names and texts are escaped, what is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def inside(png: bytes) -> str:
    """Return the address of a picture that is part of the page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
