"""The directive ``printed``: what the Python blocks of a page, up to it, print when the site is built.

The blocks share their names, as on the page. Only what the last of them prints is shown.
"""

import io
import re
import warnings
from contextlib import redirect_stdout

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Printed(SphinxDirective):
    def run(self):
        with open(self.env.doc2path(self.env.docname), encoding="utf8") as page:
            above = "".join(page.readlines()[: self.lineno])
        namespace = {}
        for block in re.findall(r"```python\n(.*?)```", above, flags=re.DOTALL):
            text = io.StringIO()
            with redirect_stdout(text), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the page says what is warned of
                exec(compile(block, self.env.docname, "exec"), namespace)
        return [nodes.literal_block(text.getvalue(), text.getvalue(), language="none")]


def setup(app):
    app.add_directive("printed", Printed)
    return {"parallel_read_safe": True}
