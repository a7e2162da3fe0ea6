"""``cahp.prune``: a model's name in, a run out."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Unpack, overload

from cahp import models
from cahp.api.following import Followed, following
from cahp.api.options import Name, Options, settings_of
from cahp.api.pruned import PruneResult
from cahp.export.recipe import recipe
from cahp.run.bench import open_bench
from cahp.run.prune import measure_run, method_of
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


@overload
def prune(
    model: Settings, /, *, progress: Followed = None, yes: bool = False, store: Store | None = None
) -> PruneResult: ...


@overload
def prune(
    model: Name | HeadModel = ...,
    data: Name | None = None,
    *,
    budget: int | str = "auto",
    progress: Followed = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[Options],
) -> PruneResult: ...


def prune(
    model: Name | HeadModel | Settings = Settings.model,
    data: Name | None = None,
    *,
    progress: Followed = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Any,
) -> PruneResult:
    """Choose the heads that complement each other, and measure what keeping only them costs and saves.

    ``cahp.prune("minilm-bbc", budget=20, recover="refit")`` is what ``cahp prune`` of the same words does; a
    ``cahp.Settings`` says the same. The same call finds its results again on disk.

    Args:
        model: A built-in, a hub id, a folder, a model that ``cahp.load`` read, or all that is asked as a ``Settings``.
        data: A built-in, a file, a folder or ``hub:org/name``; without, what comes with the model.
        budget: How many heads stay: ``"auto"`` (the curve's knee), a number, or a share such as ``"15%"``.
        progress: None shows bars in a notebook and in an interactive terminal, True also in a script, False nowhere; a
            callable is told ``(stage, done, total)`` instead, and may raise ``cahp.Cancelled``.
        yes: Fetch from the hub also what is larger than a gigabyte.
        store: Where results are kept, and found again; by default the user's cache.
        **options: The other fields of ``cahp.Settings``, such as ``method``, ``recover``, ``limit``, ``eval_limit``
            (texts) and ``seed``.

    Returns:
        The run. It shows itself in a notebook; ``mask``, ``metrics``, ``plot``, ``report`` and ``save`` are its own.

    Raises:
        CahpError: If model, data and options cannot be used together: one sentence with the next step.
    """
    settings, loaded = _asked(model, data, options)
    method_of(settings)  # An unknown method is refused before any data are fetched.
    with following(progress, yes=yes) as follow:
        bench = open_bench(settings, store=store, model=loaded, progress=follow.progress, watch=follow.watch)
        run = measure_run(bench, command=recipe(settings).shell)
    return PruneResult(run.document, run.mask, run.arrays, bench=bench)


def _spelled() -> inspect.Signature:
    """The options one by one, for help and for what notebooks show while one types."""
    own = inspect.signature(prune)
    *first, _ = own.parameters.values()
    said = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Settings(), field.name))
        for field in fields(Settings)
        if field.name not in own.parameters
    ]
    return own.replace(parameters=[*first, *said])


prune.__signature__ = _spelled()  # type: ignore[attr-defined]


def _asked(
    model: Name | HeadModel | Settings, data: Name | None, options: dict[str, Any]
) -> tuple[Settings, HeadModel | None]:
    if isinstance(model, Settings):
        if data is not None or options:
            raise OptionError("a Settings says all that is asked; give the options to it, or none of it")
        return model, None
    if getattr(model, "card", None) is None:
        return settings_of(model, data, **options), None  # type: ignore[arg-type]
    return _of_loaded(model, data, options), model  # type: ignore[arg-type, return-value]


def _of_loaded(model: HeadModel, data: Name | None, options: dict[str, Any]) -> Settings:
    """What is asked of a model that is read already: by its name, prompt and device others find the same model."""
    # Here, since it imports torch.
    from cahp.models.devices import device

    card, prompt, where = model.card, model.card.prompt, model.device.type
    own = {} if prompt is None else {"prompt": prompt.template, "answers": prompt.answers}
    unsaid = {name: value for name, value in own.items() if not options.get(name)}
    settings = settings_of(models.name_of(card), data, **{**options, **unsaid})
    if models.asked(settings.prompt, settings.answers) != prompt:
        raise OptionError(
            f"{card.id} was loaded with {'no' if prompt is None else 'another'} prompt; give prompt and answers to "
            "cahp.load, or the model by its name"
        )
    if settings.device not in ("auto", where):
        raise OptionError(
            f"{card.id} was loaded on {where} and not on {settings.device}; leave device out, or give it to cahp.load"
        )
    return settings if device(settings.device).type == where else replace(settings, device=where)
