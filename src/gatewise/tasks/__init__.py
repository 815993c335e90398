"""Applications of recurrent networks, all with the same verbs: fit, predict, score, save, load, resume."""

from gatewise.tasks.base import Task
from gatewise.tasks.errors import InputError, WriteError
from gatewise.tasks.registry import TASKS, load, task_named

__all__ = ["TASKS", "InputError", "Task", "WriteError", "load", "task_named"]
