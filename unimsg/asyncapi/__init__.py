"""The AsyncAPI 3.0 document of services: made from the code, shown as a page, compared with an earlier one.

Nothing of it is loaded by `import unimsg`. Documents are JSON in Python's types; `to_yaml` and `read` need the extra
`cli` where it is YAML.
"""

from unimsg.asyncapi._changes import Change
from unimsg.asyncapi._diff import diff
from unimsg.asyncapi._document import document
from unimsg.asyncapi._page import to_html
from unimsg.asyncapi._text import read, to_json, to_yaml

__all__ = ["Change", "diff", "document", "read", "to_html", "to_json", "to_yaml"]
