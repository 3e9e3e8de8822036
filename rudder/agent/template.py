"""Chat templates: how a model wants a system text and a user's text written down.

A template is a program that came with a model. It runs in jinja2's sandbox, and its loops have a
deadline: nothing that a file says makes a run wait.
"""

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rudder.agent.state import STATE_MARK

_PLAIN = "{% for m in messages %}{{ m['content'] }}\n\n{% endfor %}Answer:\n"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
# ``{% generation %}`` marks text for training; here it means nothing.
_GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation\b")
# A template takes a millisecond.
_RENDER_S = 2.0


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def compile_template(source: str) -> jinja2.Template:
    """A template whose loops go through ``in_time``. Raises ValueError where it does not parse."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    source = _GENERATION.sub(lambda tag: tag[1] + ("endif" if tag[2] else "if true"), source)
    try:
        tree = environment.parse(source)
        for loop in list(tree.find_all(jinja2.nodes.For)):
            name = jinja2.nodes.Name("in_time", "load", lineno=loop.lineno)
            loop.iter = jinja2.nodes.Call(name, [loop.iter], [], None, None, lineno=loop.lineno)
        code = environment.compile(tree)
    except jinja2.TemplateError as error:
        raise ValueError(error.message) from None
    return jinja2.Template.from_code(environment, code, environment.globals)


class ChatTemplate:
    """Writes prompts for one model.

    source: the model's own template, which parses, or None. One that cannot be rendered, or drops
    the state, gives way to a plain one; one that rejects or drops the system role gets both texts
    as one.   begin, end: texts of the model's special tokens.
    own: whether the model's own template is used.   thinks: whether it knows of thinking aloud.
    """

    def __init__(self, source: str | None, begin: str = "", end: str = "") -> None:
        self._special = {"bos_token": begin, "eos_token": end}
        self.own = source is not None and self._suits(source)
        if not self.own:
            self._template, self._merge, self.thinks = compile_template(_PLAIN), False, False

    def _suits(self, source: str) -> bool:
        """Take a template up; whether the state comes through it."""
        self._template, self.thinks = compile_template(source), THINK_CLOSE in source
        for self._merge in (False, True):
            try:
                text = self.render("probe of the system", STATE_MARK + "probe of the state", False)
            except Exception:  # whatever its author left in it
                continue
            if "probe of the state" in text and ("probe of the system" in text or self._merge):
                return True
        return False

    def render(self, system: str, user: str, reasoning: bool) -> str:
        """The whole prompt, up to where the answer begins (or, with reasoning, the thought)."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if self._merge:
            messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
        until = time.perf_counter() + _RENDER_S

        def in_time(items: Iterable[Any]) -> Iterator[Any]:
            for item in items:
                if time.perf_counter() > until:
                    _raise(f"the template did not end within {_RENDER_S:g} s")
                yield item

        text = self._template.render(
            messages=messages,
            in_time=in_time,
            add_generation_prompt=True,
            enable_thinking=reasoning,
            raise_exception=_raise,
            # The same prompt on every day.
            strftime_now=lambda form: "1 January 2025",
            date_string="1 January 2025",
            **self._special,
        )
        in_thought = text.rstrip().endswith(THINK_OPEN)
        if self.thinks and reasoning and not in_thought:
            return f"{text}{THINK_OPEN}\n"
        if in_thought and not reasoning:
            return f"{text.rstrip()}\n\n{THINK_CLOSE}\n\n"
        return text
