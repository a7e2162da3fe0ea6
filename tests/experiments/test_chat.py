from pathlib import Path

import chat
import fakes
import pytest
import torch
from chat import Conversation

from cahp import models
from cahp.models.surgery import cut
from cahp.values import HeadMask, OptionError


@pytest.mark.parametrize("template", [None, "{% for turn in messages %}{{ turn.content }} {% endfor %}"])
def test_both_models_answer_from_what_they_said_before(
    tmp_path: Path, template: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")), device="cpu")
    model.tokenizer.chat_template = template
    keep = model.card.full_mask.keep.copy()
    keep[1, :2] = 0
    pruned = cut(model, HeadMask(keep))
    pair = (Conversation(model), Conversation(pruned))
    answers = [chat.talk(pair, text, 4) for text in ("the film was", "and the plot")]
    for talked, name in zip(pair, ("full", "pruned"), strict=True):
        *before, answer = talked.turns
        ids = torch.tensor([Conversation(model, before).read_turns()])
        expected = fakes.write_on(talked.model.network, ids, 4)[0, ids.shape[1] :]
        assert answer["content"] == answers[-1][name] == model.tokenizer.decode(expected)
        assert len(before) == 3
    different = sum(answer["full"] != answer["pruned"] for answer in answers)
    assert capsys.readouterr().out.count(chat.DIFFERS) == different > 0


def test_only_a_run_is_talked_to(tmp_path: Path) -> None:
    assert fakes.reason(OptionError, chat.open_pair, str(tmp_path)).endswith(f"`cahp prune --out {tmp_path}`")
