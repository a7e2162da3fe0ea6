"""What a model predicts: the tasks, their items and their answers.

A task (``cahp.tasks.task``) says what an item is, how items are counted, read and measured, what serves as a label, and
what all that is called. Texts and models carry their task, and everything else asks it.
"""

from cahp.tasks.answers import (
    NO_LABEL as NO_LABEL,
    Evaluation as Evaluation,
    TokenEvaluation as TokenEvaluation,
    WindowProtocol as WindowProtocol,
)
from cahp.tasks.task import CLASSIFICATION as CLASSIFICATION, NEXT_TOKEN as NEXT_TOKEN, Task as Task
from cahp.tasks.texts import Item as Item, Texts as Texts, find_source as find_source

#: All tasks by name.
TASKS = {task.name: task for task in (CLASSIFICATION, NEXT_TOKEN)}
