"""What a model predicts: the tasks, their items and their answers.

A task (``cahp.tasks.task``) says what an item is, how items are counted, read and measured, what serves as a label, and
what all that is called. Texts and models carry their task, and everything else asks it.
"""

from cahp.tasks.answers import NO_LABEL, Evaluation, TokenEvaluation, WindowProtocol
from cahp.tasks.task import CLASSIFICATION, NEXT_TOKEN, Task
from cahp.tasks.texts import Item, Texts, find_source

#: All tasks by name.
TASKS = {task.name: task for task in (CLASSIFICATION, NEXT_TOKEN)}

__all__ = [
    "CLASSIFICATION",
    "NEXT_TOKEN",
    "NO_LABEL",
    "TASKS",
    "Evaluation",
    "Item",
    "Task",
    "Texts",
    "TokenEvaluation",
    "WindowProtocol",
    "find_source",
]
