"""A fit while it runs: what it says, how Ctrl-C ends it, and that nothing is lost or half done then."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from lnn_edge import LiquidNeuralRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 10, 3)).astype(np.float32)
Y = X[..., :2]
LINE = r"epoch {}/{}  loss \d\.?\d*(e-\d+)?  (validation \d\.?\d*(e-\d+)?  )?\d+ s left\n"


def quick(**options):
    return LiquidNeuralRegressor(8, "CfC", **{"n_jobs": 1, "verbose": 0, "random_state": 0, **options})


class TestProgress:
    def test_lines_for_a_log(self, capfd):
        quick(verbose=2, epochs=20, validation_split=0.25).fit(X, Y)
        out, err = capfd.readouterr()
        assert out == ""
        expected = "".join(LINE.format(epoch, 20) for epoch in range(2, 21, 2))
        assert re.fullmatch(expected, err), err
        assert "validation" in err

    def test_lines_of_a_resumed_run(self, capfd, tmp_path):
        place = {"checkpoint": tmp_path / "run.safetensors", "schedule": "constant"}
        quick(epochs=10, **place).fit(X, Y)
        capfd.readouterr()
        quick(epochs=20, verbose=2, **place).fit(X, Y)
        assert re.fullmatch("".join(LINE.format(epoch, 20) for epoch in range(12, 21, 2)), capfd.readouterr().err)

    @pytest.mark.parametrize("verbose", [0, 1])
    def test_nothing_where_nobody_watches(self, verbose, capfd):
        quick(verbose=verbose, epochs=2).fit(X, Y)
        assert capfd.readouterr() == ("", "")

    def test_a_line_now_and_then_where_no_bar_can_be(self, monkeypatch, capfd):
        """A long fit into a pipe or a log said nothing at all."""
        monkeypatch.setattr("lnn_edge.progress._BETWEEN_LINES_S", 0.0)
        quick(verbose=1, epochs=3).fit(X, Y)
        assert re.fullmatch("".join(LINE.format(epoch, 3) for epoch in (1, 2, 3)), capfd.readouterr().err)

    def test_bar_on_a_terminal(self, warm):
        """A real terminal: the bar shows loss, epochs and the time left, and is gone at the end."""
        program = (
            "import numpy as np; from lnn_edge import LiquidNeuralRegressor; x = np.ones((4, 10, 3), np.float32); "
            "x[:, :, 0] = np.arange(10); LiquidNeuralRegressor(8, 'LTC', epochs=40, n_jobs=1).fit(x, x); print('done')"
        )
        ours, theirs = pty.openpty()
        environment = warm | {"TERM": "xterm", "COLUMNS": "100"}
        process = subprocess.Popen(
            ["python", "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            shown += part
        os.close(ours)
        assert process.wait() == 0, shown
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
        assert re.search(r"loss \d\.\d+ .*\d+/40 \d:\d\d:\d\d \d:\d\d:\d\d", text)
        assert text.rstrip().endswith("done")


def press_ctrl_c_when(happened):
    """A real signal, from another thread, once something is true."""

    def watch():
        give_up = time.monotonic() + 60
        while not happened() and time.monotonic() < give_up:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


class TestCtrlC:
    @pytest.mark.parametrize("jobs", [1, 2])
    def test_keeps_the_best_so_far(self, jobs, tmp_path):
        path = tmp_path / "run.safetensors"
        model = quick(epochs=10**6, checkpoint=path, checkpoint_every=1, schedule="constant", n_jobs=jobs, batch_size=2)
        press_ctrl_c_when(path.exists)
        message = (
            r"training was interrupted after epoch (\d+) of 1000000: kept the weights of epoch \d+ \(loss \S+\); "
            "fit with the same checkpoint to go on"
        )
        with pytest.warns(ConvergenceWarning, match=message):
            model.fit(X, Y)
        assert model.stopped_ == "interrupted"
        assert model.n_epochs_ >= 1
        assert model.best_epoch_ == 1 + int(np.argmin([record.loss for record in model.history_]))
        assert np.isfinite(model.predict(X)).all()
        assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
        longer = quick(epochs=model.n_epochs_ + 1, checkpoint=path, schedule="constant", n_jobs=jobs, batch_size=2)
        assert longer.fit(X, Y).history_[:-1] == model.history_

    def test_before_the_first_epoch_is_an_interrupt(self, monkeypatch):
        """There is nothing to keep: the caller's estimator is as it was, and the exception is Python's own."""
        model = quick(epochs=1).fit(X, Y)
        before = model.predict(X)
        begun = threading.Event()
        run = type(model.network_).run

        def slowly(*arguments):
            begun.set()
            time.sleep(0.2)
            return run(*arguments)

        monkeypatch.setattr(type(model.network_), "run", slowly)
        press_ctrl_c_when(begun.is_set)
        with pytest.raises(KeyboardInterrupt):
            model.fit(np.concatenate([X] * 50), np.concatenate([Y] * 50), batch_size=4)
        monkeypatch.undo()
        np.testing.assert_array_equal(model.predict(X), before)


class TestDivergence:
    """Each epoch is one step, so that its loss is of the weights before it."""

    def test_weights_that_diverged_are_not_kept(self, monkeypatch):
        """The loss goes down until a last step spoils everything: its epoch looks best, and is not."""
        untrained = quick(epochs=1).fit(X, Y, learning_rate=1e-9).score(X, Y)
        rates = iter([0.01] * 5 + [1e25] * 50)
        monkeypatch.setattr("lnn_edge.train.fit.trainer.rate_at", lambda *_: next(rates))
        with pytest.warns(ConvergenceWarning, match=r"training diverged in epoch 7 of 50: kept the weights of epoch 5"):
            model = quick(epochs=50, clip_value=None).fit(X, Y)
        assert (model.stopped_, model.n_epochs_, model.best_epoch_) == ("diverged", 6, 5)
        losses = [record.loss for record in model.history_]
        assert losses == sorted(losses, reverse=True)
        assert model.score(X, Y) > untrained

    def test_in_the_first_step(self):
        with pytest.raises(ValueError, match="training diverged: the loss was not finite in the first epoch"):
            quick(epochs=50, clip_value=None, schedule="constant").fit(X, Y, learning_rate=1e25)

    def test_with_data_held_out(self, monkeypatch):
        """Then the loss that decides is of the weights after the epoch, and the one before is right."""
        rates = iter([0.01] * 5 + [1e25] * 50)
        monkeypatch.setattr("lnn_edge.train.fit.trainer.rate_at", lambda *_: next(rates))
        with pytest.warns(ConvergenceWarning, match=r"training diverged in epoch 6 of 50"):
            model = quick(epochs=50, clip_value=None, validation_split=0.25).fit(X, Y)
        assert np.isfinite(model.predict(X)).all()


def test_early_stopping(tmp_path):
    """Noise cannot be learnt: the held-out loss soon gets no better, and the best epoch is the one that is kept."""
    noise = np.random.default_rng(1).normal(size=Y.shape).astype(np.float32)
    model = quick(epochs=300, validation_split=0.25, patience=5, learning_rate=0.05).fit(X, noise)
    assert model.stopped_ == "early"
    assert model.n_epochs_ == model.best_epoch_ + 5 < 300
    losses = [record.validation_loss for record in model.history_]
    assert model.best_epoch_ == 1 + int(np.argmin(losses))


def test_early_stopping_keeps_the_weights_of_the_best_epoch():
    """They are those of a run that ends there."""
    noise = np.random.default_rng(1).normal(size=Y.shape).astype(np.float32)
    options = {"validation_split": 0.25, "learning_rate": 0.05, "schedule": "constant"}
    stopped = quick(epochs=300, patience=5, **options).fit(X, noise)
    ended = quick(epochs=stopped.best_epoch_, **options).fit(X, noise)
    assert stopped.n_epochs_ > ended.n_epochs_
    np.testing.assert_array_equal(stopped.predict(X), ended.predict(X))
