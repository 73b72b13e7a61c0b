"""What the check asks. `QUESTIONS` has all questions, in the order in which they are shown.

Each question is a pure function of the logs of its scenes, so it can be asked of any logs.
"""

from typing import Final

from pipecat_hydra.cli.check.questions.calls import CALL_QUESTIONS
from pipecat_hydra.cli.check.questions.configurations import CONFIGURATION_QUESTIONS
from pipecat_hydra.cli.check.questions.connections import CONNECTION_QUESTIONS
from pipecat_hydra.cli.check.questions.question import Answer, Logs, Question, Verdict
from pipecat_hydra.cli.check.questions.replies import REPLY_QUESTIONS
from pipecat_hydra.cli.check.questions.turns import TURN_QUESTIONS

__all__ = ["QUESTIONS", "Answer", "Logs", "Question", "Verdict"]

QUESTIONS: Final = {
    question.id: question
    for question in (
        *CONNECTION_QUESTIONS,
        *CONFIGURATION_QUESTIONS,
        *TURN_QUESTIONS,
        *REPLY_QUESTIONS,
        *CALL_QUESTIONS,
    )
}
"""All questions, by id."""
