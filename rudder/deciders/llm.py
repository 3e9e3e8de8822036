"""Decision maker (paper, section 4.2): asks a language model in this process when to replace."""

import time
from collections.abc import Callable
from typing import Any

from rudder.agent.context import History, build_history, fit
from rudder.agent.grammar import ANSWER_END, ANSWER_TOKENS, GRAMMAR, early_word, parse_answer
from rudder.agent.llama import LlamaEngine
from rudder.agent.metrics import collect
from rudder.agent.models import resolve_model
from rudder.agent.prompt import facts_text, system_text
from rudder.agent.state import STATE_MARK, state_section
from rudder.agent.template import THINK_CLOSE
from rudder.config import SteerConfig
from rudder.deciders.base import Act, Decider
from rudder.observations import Context, Decision, Facts, Outcome, Snapshot

_STATE_PLACE = "(here goes the state)"
# Tokens a thought may take; and fewer than this are not worth thinking.
THOUGHT_TOKENS, _SHORTEST_THOUGHT = 512, 32


class LLMDecider(Decider):
    """An agent: metrics and history in, a decision, its reason and its expectations out.

    log: told of the prompt's static part once, and of every exchange: prompt (its state section),
    answer, decided_ms and answered_ms (latencies until the decision was certain and to the end),
    decision, valid, tokens, prompt_tokens, and with reasoning the thought.
    Raises ValueError where the model cannot be used: which, why and what to do.
    """

    name, slow = "llm", True

    def __init__(
        self, facts: Facts, config: SteerConfig, log: Callable[[dict[str, Any]], None]
    ) -> None:
        self._config, self._log = config, log
        self._engine = LlamaEngine(
            resolve_model(config.agent_model),
            context=config.agent_context,
            threads=config.agent_threads,
            gpu_layers=config.agent_gpu_layers,
        )
        self._system, self._facts = system_text(config.agent_reasoning), facts_text(facts)
        self._thinking = config.agent_reasoning
        self._room = self._engine.context - ANSWER_TOKENS
        if self._thinking:
            self._room -= _SHORTEST_THOUGHT
        # Rendered once: only the state changes.
        self._frame = self._engine.template.render(
            self._system, self._facts + STATE_MARK + _STATE_PLACE, self._thinking
        )
        try:
            self._prompt(_largest(facts))
        except ValueError as error:
            self._engine.close()
            raise ValueError(
                f"{self._engine.path} with a context of {self._engine.context} tokens: {error}: "
                "give a larger --agent-context, or a model that was trained on longer texts"
            ) from None
        log({"event": "agent", "model": str(self._engine.path), **self._static()})

    def decide(self, context: Context, act: Act) -> Decision:
        began = time.perf_counter()
        until = began + self._config.agent_timeout
        state, prompt = self._prompt(context)
        thought = ""
        if self._thinking:
            prompt, thought = self._think(prompt, until)
        decided_ms: list[float] = []

        def watch(text: str) -> None:
            word = None if decided_ms else early_word(text)
            if word is not None:
                act(word)
                decided_ms.append(1e3 * (time.perf_counter() - began))

        generated = self._engine.generate(
            prompt,
            end=ANSWER_END,
            max_tokens=ANSWER_TOKENS,
            until=until,
            grammar=GRAMMAR,
            on_text=watch,
        )
        answered_ms = 1e3 * (time.perf_counter() - began)
        decision = parse_answer(generated.text, context.latest.minibatch)
        exchange: dict[str, Any] = {
            "event": "exchange",
            "minibatch": decision.minibatch,
            "prompt": state,
            "answer": generated.text,
            "decision": "replace" if decision.replace else "keep",
            "valid": decision.valid,
            "decided_ms": decided_ms[0] if decided_ms else answered_ms,
            "answered_ms": answered_ms,
            "tokens": generated.tokens,
            "prompt_tokens": generated.prompt_tokens,
        }
        self._log(exchange | ({"thought": thought} if self._thinking else {}))
        if decided_ms and not decision.valid:
            raise RuntimeError("the answer was cut off after its decision")
        return decision

    def interrupt(self) -> None:
        self._engine.interrupt()

    def close(self) -> None:
        self._engine.close()

    def _static(self) -> dict[str, Any]:
        return {"system": self._system, "facts": self._facts, "context": self._engine.context}

    def _prompt(self, context: Context) -> tuple[str, str]:
        """(state section, whole prompt), with as much history as there is room for."""
        metrics = collect(context)

        def write(history: History) -> tuple[str, str]:
            state = state_section(metrics, history)
            return state, self._frame.replace(_STATE_PLACE, state.removeprefix(STATE_MARK))

        def size(texts: tuple[str, str]) -> int:
            return self._engine.count(texts[1])

        return fit(build_history(context), write, size, self._room)

    def _think(self, prompt: str, until: float) -> tuple[str, str]:
        """Let the model think aloud; returns the prompt with its thought, and the thought."""
        end = THINK_CLOSE if self._engine.template.thinks else "{"
        room = self._engine.context - ANSWER_TOKENS - self._engine.count(prompt) - 8
        generated = self._engine.generate(
            prompt, end=end, max_tokens=max(min(room, THOUGHT_TOKENS), 1), until=until
        )
        thought = generated.text.partition(end)[0].strip()
        close = f"\n{THINK_CLOSE}\n\n" if self._engine.template.thinks else "\n"
        return f"{prompt}{thought}{close}", thought


def _largest(facts: Facts) -> Context:
    """A context whose figures are as long as they get, for the room that a prompt takes."""
    most = max(facts.num_nodes, facts.capacity, 1)
    snapshot = Snapshot(
        minibatch=0,
        epoch=0,
        step=0,
        remote=most,
        hits=0,
        halo_remote=most,
        halo_hits=0,
        replaced=0,
        replacement_rows=0,
        stale=most,
        candidates=most,
        filled=facts.capacity,
        capacity=max(facts.capacity, 1),
        num_minibatches=facts.num_minibatches,
        ahead_remote=most,
        ahead_hits=0,
    )
    outcomes = [
        Outcome(
            decision=Decision(replace=replace, minibatch=0),
            before=snapshot,
            applied=0,
            after=snapshot,
        )
        for replace in (True, False)
    ]
    return Context(recent=(snapshot,), outcomes=outcomes)
