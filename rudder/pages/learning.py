"""Learning: the loss of every minibatch and the scores of every evaluation."""

import itertools

import numpy as np

from rudder.pages.buckets import Buckets
from rudder.pages.card import card, empty
from rudder.pages.charts import Line, bucket_edges, line_chart, room
from rudder.pages.frame import Axis
from rudder.pages.legend import legend
from rudder.pages.markup import Markup
from rudder.pages.numerals import fixed, is_number, percent, plain, short
from rudder.pages.runs import Run
from rudder.pages.traffic import places, sampling

TITLE = "Learning"


def learning(run: Run) -> Markup:
    """Two charts, of loss and of scores."""
    if not np.isfinite(run.minibatches.loss).any():
        return empty(TITLE, "No step of training was written down, so there is no loss to show.")
    body = [*_loss(run), *_scores(run)]
    note = sampling(len(run.minibatches))
    return card(TITLE, _takeaway(run), *body, note=note)


def _takeaway(run: Run) -> str:
    loss = run.minibatches.loss
    finite = loss[np.isfinite(loss)]
    ends = f"The loss went from {fixed(float(finite[0]), 3)} to {fixed(float(finite[-1]), 3)}"
    val = [score for score in run.scores if is_number(score["val"])]
    if not val:
        return f"{ends}."
    best = max(val, key=lambda score: float(score["val"]))
    return f"{ends}; validation was best, {percent(100 * best['val'])}, after epoch " + (
        f"{best['epoch'] + 1}."
    )


def _loss(run: Run) -> list[Markup]:
    steps = run.minibatches
    buckets = Buckets.of(len(steps))
    edges = bucket_edges(buckets, steps.number)
    low, high = buckets.lows(steps.loss), buckets.highs(steps.loss)
    line = Line(
        name="training loss", colour="blue", values=buckets.means(steps.loss), low=low, high=high
    )
    x = Axis(label="minibatch", low=edges[0], high=edges[-1], show=short, whole=True)
    y = Axis(label="Loss, mean over the global batch", low=0.0, high=room([high]), show=short)
    tips = [
        f"{places(edges, place)}\nloss {fixed(float(value), 4)}"
        for place, value in enumerate(line.values)
    ]
    label = f"Training loss by minibatch, {fixed(float(line.values[-1]), 3)} at the end"
    return [legend([line]), line_chart([line], edges, x, y, tips=tips, label=label, height=150)]


def _scores(run: Run) -> list[Markup]:
    if not run.scores:
        return []
    epochs = [score["epoch"] + 1 for score in run.scores]
    lines = [
        Line(
            name=name,
            colour=colour,
            values=100 * np.array([score[key] for score in run.scores], float),
            dashed=key == "train",
        )
        for key, name, colour in (
            ("train", "training", "grey"),
            ("val", "validation", "green"),
            ("test", "test", "purple"),
        )
    ]
    values = np.concatenate([line.values for line in lines])
    if not np.isfinite(values).any():
        return []
    middles = [(a + b) / 2 for a, b in itertools.pairwise(epochs)]
    edges = [epochs[0] - 0.5, *middles, epochs[-1] + 0.5]
    metric = str(run.scores[0]["metric"]).replace("_", "-")
    low = max(0.0, float(np.nanmin(values)) - 3)
    x = Axis(label="epoch", low=edges[0], high=edges[-1], show=plain, whole=True)
    y = Axis(
        label=f"{metric.capitalize()} over all nodes (%)",
        low=low,
        high=min(100.0, float(np.nanmax(values)) + 3),
        show=plain,
    )
    tips = [
        "\n".join(
            [f"epoch {epoch}", *(f"{ln.name} {percent(float(ln.values[i]))}" for ln in lines)]
        )
        for i, epoch in enumerate(epochs)
    ]
    label = f"{metric} by epoch: " + ", ".join(
        f"{line.name} {percent(float(line.values[-1]))}" for line in lines
    )
    return [
        legend(lines),
        line_chart(
            lines, edges, x, y, at=epochs, tips=tips, label=f"{label} at the end", height=110
        ),
    ]
