"""A network as one page of HTML: its picture, tables, plots and sources, all from the IR.

`contents` gathers what a page says, `page` writes it. The page asks for nothing from elsewhere and
runs no script of its own.
"""

from resnet_spec.report.contents import Contents, Findings, contents
from resnet_spec.report.page import document

__all__ = ["Contents", "Findings", "contents", "document"]
