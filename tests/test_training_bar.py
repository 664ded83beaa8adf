"""A training in front of the user: lines, and a bar between them where there is a terminal."""

import io
import pickle

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from vol3dseg.cli import training_bar
from vol3dseg.cli.training_bar import TrainingBar
from vol3dseg.training.timing import Step


def step(number, epoch=1, part="train", left_s=None):
    return Step(epoch, 3, part, number, 5, loss=0.5, left_s=left_s)


@pytest.fixture
def screen(monkeypatch):
    """What a terminal gets of the bars, and the bars."""
    bars, file = [], io.StringIO()

    def bar(*more, transient):
        assert transient
        console = Console(file=file, force_terminal=True, width=200)
        words = [TextColumn("{task.description} {task.completed}/{task.total}"), *more]
        bars.append(Progress(*words, console=console, auto_refresh=False, transient=True))
        return bars[-1]

    monkeypatch.setattr(training_bar, "progress_bar", bar)
    return file, bars


def test_a_bar_stands_between_the_lines(screen, capsys):
    file, bars = screen
    bar = TrainingBar()
    bar.line("before")
    assert not bars
    for number in (1, 2):
        bar.step(step(number, left_s=90.0))
        bars[0].refresh()
    assert "epoch 1/3 2/5 loss 0.5000  90 s to the end" in file.getvalue()
    bar.step(step(1, part="validation"))
    bars[0].refresh()
    assert "epoch 1/3, validation 1/5 loss 0.5000" in file.getvalue()
    assert len(bars[0].tasks) == 1
    assert bars[0].live.is_started
    bar.line("epoch 1/3")
    assert not bars[0].live.is_started
    bar.step(step(1, epoch=2))
    assert len(bars) == 2
    bar.close()
    bar.close()
    assert not bars[1].live.is_started
    assert capsys.readouterr().out == "before\nepoch 1/3\n"


def test_it_is_one_bar_in_the_process_that_trains(screen):
    _, bars = screen
    bar = TrainingBar()
    line, show = pickle.loads(pickle.dumps((bar.line, bar.step)))
    show(step(1))
    assert bars[0].live.is_started
    line("epoch 1/3")
    assert not bars[0].live.is_started


def test_where_there_is_no_terminal_lines_are_all(capsys):
    bar = TrainingBar()
    bar.step(step(1))
    bar.line("epoch 1/3")
    bar.close()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("epoch 1/3\n", "")
