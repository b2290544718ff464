"""Time of training under `recipe.max_time`, which a learning-rate schedule follows in place of steps."""

import time

now = time.monotonic


class TrainingClock:
    """Seconds from the first step on, validations and checkpoints included, over all processes that continued the run.

    Each rank reads `seconds` of its own; what counts is `elapsed`, the first rank's time at the end of the last step, on which
    all ranks agree: so they have one learning rate and end after the same step.
    """

    def __init__(self, max_seconds: float) -> None:
        self.max_seconds = max_seconds
        self.elapsed = 0.0
        self.warmed_up_at: float | None = (
            None  # the part of the run after which a warm-up of a number of steps was over
        )
        self._before = 0.0  # seconds of the processes before this one
        self._started_at: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, by this rank's clock."""
        return self._before + (0.0 if self._started_at is None else now() - self._started_at)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.max_seconds - self.seconds)

    @property
    def is_over(self) -> bool:
        """Whether the time was spent at the end of the last step."""
        return self.elapsed >= self.max_seconds

    def start(self) -> None:
        """The first step of this process begins."""
        self._started_at = now()

    def stop(self) -> None:
        """The training of this process has ended."""
        self._before, self._started_at = self.seconds, None

    def agree(self, elapsed: float) -> None:
        """Take over the time that all ranks have agreed on after a step."""
        self.elapsed = elapsed

    def progress(self, step: int, total_steps: int | None) -> float:
        """The part of the run that is over, 0 to 1: of its time, or of its steps where they are limited too and further."""
        of_steps = step / total_steps if total_steps else 0.0
        return min(1.0, max(self.elapsed / self.max_seconds, of_steps))

    def state_dict(self) -> dict[str, float | None]:
        return {"seconds": self.seconds, "elapsed": self.elapsed, "warmed_up_at": self.warmed_up_at}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self._before, self.elapsed = float(state["seconds"] or 0), float(state["elapsed"] or 0)
        self.warmed_up_at = state["warmed_up_at"]
