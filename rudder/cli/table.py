"""Tables for people: aligned columns, numbers to the right."""

from collections.abc import Sequence


def render(rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Rows of cells as text. Floats get four significant digits; columns of numbers align right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    lines = [list(header), *cells] if header else cells
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = [all(_is_number(row[column]) for row in rows) for column in range(len(widths))]
    shown = [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    if header:
        shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return str(cell)
