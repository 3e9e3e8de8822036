"""The agent on real llama.cpp, with tiny models of random weights: nonsense, but always valid."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rudder.agent.grammar import grammar
from rudder.agent.llama import LlamaEngine
from rudder.agent.template import ChatTemplate
from rudder.config import SteerConfig
from rudder.deciders.ledger import Ledger
from rudder.deciders.llm import LLMDecider
from rudder.deciders.worker import Worker
from rudder.observations import Action, Decision
from tests.rudder.contexts import FACTS, random_context
from tests.rudder.gguf_models import CHAT, NO_SYSTEM, ONLY_STATE, SHAPE, THINKS, write_model

# A byte is a token here, so the whole prompt takes four times what it takes a real model.
LONG = replace(SHAPE, context=8192)


class Agent:
    """A decider and what it logged."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.log: list[dict[str, Any]] = []
        config = SteerConfig(agent_model=str(path), **({"agent_context": 8192} | settings))
        self.decider = LLMDecider(FACTS, config)
        self._ledger = Ledger("llm", lambda event, **fields: self.log.append(fields))

    def decide(self, seed: int) -> Decision:
        acted: list[Action] = []
        decision = self._ledger.ask(self.decider, random_context(seed), acted.append)
        assert acted == [decision.action]
        assert decision.valid
        assert decision.expect_hits is not None
        assert decision.expect_moved is not None
        assert 1 <= len(decision.reason) <= 72
        return decision


def model(folder: Path, template: str | None = CHAT, **varied: Any) -> Path:
    return write_model(folder / "model.gguf", template, **({"shape": LONG} | varied))


def test_every_answer_is_valid_and_acted_on_early(tmp_path: Path) -> None:
    agent = Agent(model(tmp_path, ONLY_STATE, shape=SHAPE))
    decisions = [agent.decide(seed) for seed in range(40)]
    assert {decision.replace for decision in decisions} == {True, False}
    exchanges = agent.log
    assert len(exchanges) == 40
    for decision, exchange in zip(decisions, exchanges, strict=True):
        assert exchange["minibatch"] == decision.minibatch
        assert exchange["decided_ms"] < exchange["answered_ms"]
        assert exchange["prompt"].startswith("### state\n")
        assert exchange["answer"].startswith('{"decision":')
        assert exchange["decision"] == ("replace" if decision.replace else "keep")
        assert exchange["valid"]
    agent.decider.close()


def test_it_can_be_asked_for_the_buffers_size(tmp_path: Path) -> None:
    agent = Agent(model(tmp_path, ONLY_STATE, shape=SHAPE), steer="size")
    decisions = [agent.decide(seed) for seed in range(12)]
    assert {decision.action for decision in decisions} <= {Action.GROW, Action.KEEP, Action.SHRINK}
    assert len({decision.action for decision in decisions}) > 1
    assert "fetch unknown" in agent.log[0]["prompt"]
    assert '"grow" or "keep" or "shrink"' in agent.decider.about["system"]
    agent.decider.close()


def test_the_static_part_is_told_once(tmp_path: Path) -> None:
    agent = Agent(model(tmp_path))
    agent.decide(1)
    about, (exchange,) = agent.decider.about, agent.log
    assert "remote rows" in about["system"]
    assert "40000 remote neighbours" in about["facts"]
    assert about["system"] not in str(exchange)


@pytest.mark.parametrize(
    "template",
    [CHAT, NO_SYSTEM, ONLY_STATE, THINKS, None, "{{ undefined.thing }}", "{{ 1 / 0 }}", "silent"],
)
@pytest.mark.parametrize("reasoning", [False, True])
def test_all_kinds_of_templates(tmp_path: Path, template: str | None, reasoning: bool) -> None:
    agent = Agent(model(tmp_path, template), agent_reasoning=reasoning)
    for seed in (1, 2):
        agent.decide(seed)
    assert ("thought" in agent.log[-1]) == reasoning


def test_a_template_that_does_not_parse_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.gguf: its chat template does not parse \(unexp"):
        Agent(model(tmp_path, "{{ broken("))


def test_a_template_that_never_ends_gives_way_to_a_plain_one() -> None:
    many = "{% for n in range(99999) %}"
    began = time.perf_counter()
    template = ChatTemplate(many * 3 + "{% endfor %}" * 3 + CHAT)
    assert not template.own
    assert "the task" in template.render("the task", "### state\nnow", reasoning=False)
    assert time.perf_counter() - began < 30


def test_the_system_text_reaches_models_without_a_system_role(tmp_path: Path) -> None:
    engine = LlamaEngine(model(tmp_path, NO_SYSTEM), context=512)
    text = engine.template.render("the task", "### state\nnow", reasoning=False)
    assert text == "<|im_start|>user\nthe task\n\n### state\nnow<|im_end|>\n<|im_start|>assistant\n"
    assert engine.template.own


def test_marks_of_training_text_change_nothing() -> None:
    content = "{{ m['content'] }}"
    marked = CHAT.replace(content, f"{{% generation %}}{content}{{%- endgeneration -%}}")
    assert ChatTemplate(marked).own
    texts = [ChatTemplate(source).render("a", "### state", False) for source in (CHAT, marked)]
    assert texts[0] == texts[1]


def test_a_thought_is_opened_and_closed(tmp_path: Path) -> None:
    engine = LlamaEngine(model(tmp_path, THINKS), context=512)
    render = engine.template.render
    assert render("a", "### state\n", reasoning=True).endswith("assistant\n<think>\n")
    assert render("a", "### state\n", reasoning=False).endswith("<think>\n\n</think>\n\n")


def test_same_context_same_answer(tmp_path: Path) -> None:
    path = model(tmp_path)
    first, second = Agent(path), Agent(path)
    answers = [first.decide(seed) for seed in (1, 2, 3)]
    # In another order, so that other prefixes are reused.
    assert [second.decide(seed) for seed in (3, 2, 1)] == answers[::-1]
    assert [first.decide(seed) for seed in (1, 2, 3)] == answers


def test_the_prefix_is_evaluated_once(tmp_path: Path) -> None:
    agent = Agent(model(tmp_path, shape=replace(LONG, dim=128, layers=4, heads=4)))
    for seed in (1, 2, 3):
        agent.decide(seed)
    first, *later = [exchange["decided_ms"] for exchange in agent.log]
    assert min(later) < first / 2
    assert agent.log[0]["prompt_tokens"] > 3000


def test_history_gives_way_to_the_context(tmp_path: Path) -> None:
    path = model(tmp_path)
    agent = Agent(path, agent_context=3300)
    roomy = Agent(path)
    seed = next(s for s in range(99) if len(random_context(s).outcomes) > 10)
    agent.decide(seed)
    roomy.decide(seed)
    kept, whole = (
        [line for line in each.log[0]["prompt"].splitlines() if " ago " in line or "mean" in line]
        for each in (agent, roomy)
    )
    assert roomy.log[0]["prompt"].count(" ago ") == 6
    assert agent.log[0]["prompt"].count(" ago ") < 6
    # The oldest go first, and the means know of all.
    assert kept == whole[len(whole) - len(kept) :]
    assert any("mean of" in line for line in kept)
    assert agent.log[0]["prompt_tokens"] + agent.log[0]["tokens"] <= 3300


@pytest.mark.parametrize("rules", [grammar(), 'root ::= [ -~]+ "}"'])
def test_trying_the_likeliest_token_first_changes_no_answer(tmp_path: Path, rules: str) -> None:
    path = model(tmp_path)
    asked = [LlamaEngine(path, context=512, many_tokens=many) for many in (0, 10**6)]
    for prompt in ("a", "bc", "the state", "### now"):
        until = time.perf_counter() + 60
        one, other = (
            engine.generate(prompt, end='"}', max_tokens=60, until=until, grammar=rules)
            for engine in asked
        )
        assert one == other
    for engine in asked:
        engine.close()


def test_a_timeout_is_an_error_and_the_next_call_works(tmp_path: Path) -> None:
    path = model(tmp_path, shape=replace(LONG, dim=512, layers=8, heads=8, ff=1024))
    agent = Agent(path, agent_timeout=0.2)
    began = time.perf_counter()
    with pytest.raises(TimeoutError, match="too long"):
        agent.decide(1)
    assert time.perf_counter() - began < 1.0  # in the middle of a prompt of some seconds
    engine = LlamaEngine(path, context=512)
    with pytest.raises(TimeoutError):
        engine.generate("x" * 400, end="}", max_tokens=9, until=time.perf_counter() + 0.02)
    later = time.perf_counter() + 60
    assert engine.generate("x", end="}", max_tokens=2, until=later).tokens == 2
    with pytest.raises(TimeoutError):
        engine.generate("y", end="}", max_tokens=2, until=time.perf_counter() - 1)


def test_a_worker_runs_it(tmp_path: Path) -> None:
    agent = Agent(model(tmp_path))
    worker = Worker(agent.decider, sync=True)
    context = random_context(7)
    for snapshot in context.recent:
        worker.post(snapshot)
        worker.take(snapshot.minibatch + 1)
    worker.close()
    assert worker.ledger.tally.valid == worker.ledger.tally.count == len(context.recent)
    assert not worker.ledger.failures


def test_closing_interrupts_a_prompt_of_seconds(tmp_path: Path) -> None:
    path = model(tmp_path, shape=replace(LONG, dim=512, layers=8, heads=8, ff=1024))
    before = threading.active_count()
    worker = Worker(Agent(path).decider)
    worker.post(random_context(7).latest)
    time.sleep(0.3)
    began = time.perf_counter()
    worker.close()
    assert time.perf_counter() - began < 1.0
    assert not worker.ledger.failures
    assert threading.active_count() == before


def test_quantized_models(tmp_path: Path) -> None:
    for kind in ("F32", "Q8_0"):
        Agent(model(tmp_path, kind=kind)).decide(1)


def test_model_files_are_the_same_every_time(tmp_path: Path) -> None:
    assert model(tmp_path).read_bytes() == model(tmp_path).read_bytes()
