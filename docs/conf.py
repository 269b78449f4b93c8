"""The site, which the last command of the README builds. It runs the examples."""

import os
import sys
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

from skvae import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))
os.environ.setdefault("OMP_NUM_THREADS", "2")

project, author, copyright, release = "skvae", "The skvae developers", "The skvae developers", __version__
extensions = [
    "myst_parser",
    "numpydoc",
    "printed",
    "results",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "auto_examples/*.json", "auto_examples/*.py"]
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*")]  # single backticks in docstrings: a link where there is something to link to

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_typehints = "none"  # numpydoc's sections tell the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

# The inventories are committed, so that the site is built without the network.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "_inventories/python.inv"),
    "sklearn": ("https://scikit-learn.org/stable", "_inventories/scikit-learn.inv"),
}

EXAMPLES = [  # in the order in which one meets their subjects
    "quickstart",
    "calibrate",
    "choose_components",
    "look_at_components",
    "find_outliers",
    "fill_missing_channels",
    "measurement_errors",
    "sample_spectra",
    "save_and_load",
    "images",
    "custom_posterior",
    "grid_search",
]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "within_subsection_order": ExplicitOrder([f"{name}.py" for name in EXAMPLES]),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "thumbnail_size": (400, 250),
}

html_theme = "pydata_sphinx_theme"
html_title = "skvae"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
toc_object_entries_show_parents = "hide"
ALONE = ["getting_started", "how_it_works", "troubleshooting", "glossary", "contributing", "changelog"]
html_sidebars = {page: [] for page in ALONE}  # no pages stand below them
html_theme_options = {
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 5,
    "show_prev_next": False,
}


def escape_bars(app, what, name, obj, options, lines):
    """Formulae in docstrings have bars, such as p(x | z), which reStructuredText takes for a substitution's."""
    for i, line in enumerate(lines):
        if "``" not in line and not line.lstrip().startswith((">>>", "...")):
            lines[i] = line.replace("|", r"\|")


def setup(app):
    app.connect("autodoc-process-docstring", escape_bars, priority=400)  # before numpydoc
