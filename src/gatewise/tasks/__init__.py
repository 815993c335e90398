"""Applications of recurrent networks, all with the same verbs: fit, predict, score, save, load, resume."""

from gatewise.tasks.base import TASKS, Task, load, task_named
from gatewise.tasks.errors import InputError, WriteError

__all__ = ["TASKS", "InputError", "Task", "WriteError", "load", "task_named"]
