"""What may change from one resample to the next."""

from __future__ import annotations

from dataclasses import dataclass

from cahp.studies.stability import Axis


@dataclass(frozen=True)
class Variation:
    """What is changed from one resample to the next, in a person's words."""

    label: str
    means: str
    one: str
    column: str


# The first costs nothing, so that there is a picture at once.
VARIATIONS: dict[Axis, Variation] = {
    "degree": Variation(
        "Other degrees",
        "Only the polynomial that smooths the silhouette curve changes, and with it the knee that says how many heads "
        "to keep.",
        "degree",
        "degree of the polynomial",
    ),
    "seed": Variation(
        "Other seeds",
        "The projection and the clustering start from another random number; texts and all else stay.",
        "seed",
        "seed of the projection",
    ),
    "sample": Variation(
        "Other texts",
        "Each resample sees another random half of the calibration texts, put together from ten stratified parts whose "
        "statistics merge exactly. Halves vary about as much as whole samples drawn anew.",
        "sample",
        "number of the sample",
    ),
}
