"""flags: the command line of a rudder.cli, generated from the frozen dataclass of its settings.

A field's ``help`` stands beside it; its flag is its name with dashes, its type is its annotation.
Nonsense raises ValueError that names the flag; ``parse`` turns that into one line and exit code 2.
"""

import argparse
import dataclasses
import os
import sys
import types
import typing
from typing import Any, NoReturn, TypeVar

ConfigT = TypeVar("ConfigT")
# A flag of this type takes several words, as in ``--traces A B C``.
_WORDS = tuple[str, ...]
_EXPECTED = {
    int: "a whole number",
    float: "a number",
    tuple[int, ...]: "whole numbers with commas between",
}


def flag(
    default: Any, text: str, choices: tuple[str, ...] = (), words: tuple[str, ...] = ()
) -> Any:
    """A dataclass field with its help text and, where there are few values, those values.

    words: what a field of numbers may hold as well.
    """
    metadata = {"help": text, "choices": choices, "words": words}
    return dataclasses.field(default=default, metadata=metadata)


def positional(text: str) -> Any:
    """A required ``tuple[str, ...]`` field, given as plain words and not by a flag."""
    return dataclasses.field(metadata={"help": text, "choices": (), "positional": True})


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError naming the flag of field ``name`` unless the condition holds."""
    if not condition:
        raise ValueError(f"--{name.replace('_', '-')} {value}: expected {expected}")


def _program() -> str | None:
    """How the user started us with ``python -m``; None where it was another way."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return None if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see --help)")


def _value_type(annotation: Any) -> Any:
    """The type a flag's text is read as: ``int | None`` reads an int."""
    if isinstance(annotation, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation


def _read(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        return tuple(element(part) for part in text.split(","))
    return kind(text)


def from_args(config_class: type[ConfigT], argv: list[str], description: str = "") -> ConfigT:
    """Build a config from command-line words. Raises ValueError on anything it cannot read."""
    parser = _Parser(
        prog=_program(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds = {name: _value_type(hint) for name, hint in typing.get_type_hints(config_class).items()}
    named = {field.name: field for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    for field in named.values():
        _add_argument(parser, field, kinds[field.name])
    given = {
        key: value for key, value in vars(parser.parse_args(argv)).items() if value is not None
    }
    return config_class(
        **{
            name: value if isinstance(value, bool) else _value(named[name], kinds[name], value)
            for name, value in given.items()
        }
    )


def _add_argument(parser: argparse.ArgumentParser, field: Any, kind: Any) -> None:
    if field.metadata.get("positional"):
        parser.add_argument(field.name, nargs="+", help=field.metadata["help"])
        return
    name = "--" + field.name.replace("_", "-")
    default = field.default
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = field.metadata["help"] + ("" if shown in (None, "") else f" (default: {shown})")
    text = text.replace("%", "%%")
    if kind == _WORDS:
        parser.add_argument(name, nargs="+", default=None, help=text, metavar="WORD")
    elif kind is bool:
        parser.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        metavar = "|".join(field.metadata["choices"]) or field.name.upper()
        parser.add_argument(name, default=None, help=text, metavar=metavar)


def _value(field: Any, kind: Any, text: Any) -> Any:
    """A flag's text, or its words, as the field's type. Raises ValueError naming the flag."""
    if kind == _WORDS or field.metadata.get("positional"):
        return tuple(text)
    words, choices = field.metadata["words"], field.metadata["choices"]
    if text in words:
        return text
    require(not choices or text in choices, field.name, text, "one of " + ", ".join(choices))
    expected = " or ".join([_EXPECTED.get(kind, "numbers with commas between"), *words])
    try:
        return _read(kind, text)
    except ValueError:
        raise ValueError(f"--{field.name.replace('_', '-')} {text}: expected {expected}") from None


def parse(
    config_class: type[ConfigT], description: str = "", argv: list[str] | None = None
) -> ConfigT:
    """``from_args`` for a ``main``: bad input prints one line to stderr and exits with 2."""
    try:
        return from_args(config_class, sys.argv[1:] if argv is None else argv, description)
    except ValueError as error:
        fail(error)


# Set by MPICH's and Open MPI's mpiexec, and srun, in the order in which they are trusted.
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")


def rank_of_launcher() -> int:
    """The rank that a launcher gave this process, 0 without one."""
    # torchrun's variable may be left over in a shell or a container, alone.
    names = ("RANK", *_RANKS) if "MASTER_ADDR" in os.environ else _RANKS
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def fail(error: Exception) -> NoReturn:
    """Print a user's error, once per job where the launcher tells us our rank, and exit with 2."""
    if rank_of_launcher() == 0:
        print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(2)
