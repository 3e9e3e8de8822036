"""Decision maker (paper, section 4.2): asks a language model in this process when to replace."""

import time
from collections.abc import Sequence
from dataclasses import replace

from rudder.agent.grammar import ANSWER_END, ANSWER_TOKENS, early_action, grammar, parse_answer
from rudder.agent.llama import LlamaEngine
from rudder.agent.metrics import collect
from rudder.agent.models import resolve_model
from rudder.agent.prompt import QUESTIONS, facts_text
from rudder.agent.state import STATE_MARK
from rudder.agent.template import THINK_CLOSE
from rudder.config import SteerConfig
from rudder.deciders.base import Act, Decider
from rudder.observations import Action, Context, Decision, Facts, Outcome, Snapshot

_STATE_PLACE = "(here goes the state)"
# Tokens a thought may take; and fewer than this are not worth thinking.
THOUGHT_TOKENS, _SHORTEST_THOUGHT = 512, 32


class LLMDecider(Decider):
    """An agent: metrics and history in, a decision, its reason and its expectations out.

    about: the model's file and the prompt's static part.   exchange: prompt (its state section),
    answer, decision, valid, tokens, prompt_tokens, and with reasoning the thought.
    Raises ValueError where the model cannot be used: which, why and what to do.
    """

    name, slow = "llm", True

    def __init__(self, facts: Facts, config: SteerConfig) -> None:
        self._config = config
        self._engine = LlamaEngine(
            resolve_model(config.agent_model),
            context=config.agent_context,
            threads=config.agent_threads,
            gpu_layers=config.agent_gpu_layers,
        )
        self._question, self._thinking = QUESTIONS[config.steer], config.agent_reasoning
        self._grammar = grammar(self._question.actions)
        self._room = self._engine.context - ANSWER_TOKENS
        if self._thinking:
            self._room -= _SHORTEST_THOUGHT
        system, told = self._question.system_text(self._thinking), facts_text(facts)
        try:
            # Rendered once: only the state changes.
            self._frame = self._engine.template.render(
                system, told + STATE_MARK + _STATE_PLACE, self._thinking
            )
            self._prompt(_largest(facts, self._question.actions))
        except ValueError as error:
            self._engine.close()
            raise ValueError(
                f"{self._engine.path} with a context of {self._engine.context} tokens: {error}: "
                "give a larger --agent-context, or a model that was trained on longer texts"
            ) from None
        self.about = {
            "model": str(self._engine.path),
            "system": system,
            "facts": told,
            "context": self._engine.context,
        }

    def decide(self, context: Context, act: Act) -> Decision:
        until = time.perf_counter() + self._config.agent_timeout
        state, prompt = self._prompt(context)
        thought = ""
        if self._thinking:
            prompt, thought = self._think(prompt, until)
        actions, action = self._question.actions, None

        def watch(text: str) -> None:
            nonlocal action
            if action is None and (action := early_action(text, actions)) is not None:
                act(action)

        generated = self._engine.generate(
            prompt,
            end=ANSWER_END,
            max_tokens=ANSWER_TOKENS,
            until=until,
            grammar=self._grammar,
            on_text=watch,
        )
        decision = parse_answer(generated.text, context.latest.minibatch, actions)
        self.exchange = {
            "minibatch": decision.minibatch,
            "prompt": state,
            "answer": generated.text,
            "decision": decision.action.word,
            "valid": decision.valid,
            "tokens": generated.tokens,
            "prompt_tokens": generated.prompt_tokens,
        } | ({"thought": thought} if self._thinking else {})
        return decision

    def interrupt(self) -> None:
        self._engine.interrupt()

    def close(self) -> None:
        self._engine.close()

    def _prompt(self, context: Context) -> tuple[str, str]:
        """(state section, whole prompt), with as much history as there is room for."""
        metrics = collect(context)
        for first in range(len(metrics.past) + 1):
            state = self._question.section(replace(metrics, past=metrics.past[first:]))
            prompt = self._frame.replace(_STATE_PLACE, state.removeprefix(STATE_MARK))
            size = len(self._engine.tokenize(prompt))
            if size <= self._room:
                return state, prompt
        raise ValueError(
            f"the prompt takes {size} tokens without its history, and there is room for "
            f"{self._room}"
        )

    def _think(self, prompt: str, until: float) -> tuple[str, str]:
        """Let the model think aloud; returns the prompt with its thought, and the thought."""
        end = THINK_CLOSE if self._engine.template.thinks else "{"
        room = self._engine.context - ANSWER_TOKENS - len(self._engine.tokenize(prompt)) - 8
        generated = self._engine.generate(
            prompt, end=end, max_tokens=max(min(room, THOUGHT_TOKENS), 1), until=until
        )
        thought = generated.text.partition(end)[0].strip()
        close = f"\n{THINK_CLOSE}\n\n" if self._engine.template.thinks else "\n"
        return f"{prompt}{thought}{close}", thought


def _largest(facts: Facts, actions: Sequence[Action]) -> Context:
    """A context whose figures are as long as they get, for the room that a prompt takes."""
    most, capacity = max(facts.num_nodes, facts.capacity, 1), facts.capacity
    snapshot = Snapshot(
        minibatch=0,
        capacity=max(capacity, 1),
        num_minibatches=facts.num_minibatches,
        **dict.fromkeys(("remote", "halo_remote", "stale", "candidates", "ahead_remote"), most),
        filled=capacity,
        ahead_hits=0,
        fetch_ms=1e5,
        compute_ms=1.0,
        limit=max(capacity, 1),
    )
    decisions = [Decision(action=action, minibatch=0) for action in actions]
    outcomes = [
        Outcome(decision=one, before=snapshot, applied=0, after=snapshot) for one in decisions
    ]
    return Context(recent=(snapshot,), outcomes=outcomes)
