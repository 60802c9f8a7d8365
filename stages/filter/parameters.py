"""Parameters of the filter stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.base import EXECUTION, POOL, StageParams
from stages.filter.presets import with_preset

Share = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0)]


def _threshold(default: Any, description: str, **bounds: Any) -> Any:
    """A parameter that earlier artifacts may differ in and still lend their rows: what the scores were made with
    stands beside the scores, and verdicts are always new."""
    return Field(default, description=description, json_schema_extra=POOL, **bounds)


class CaptionRules(StageParams):
    """Rules of the caption. An image without a caption passes all but `required`."""

    required: bool = Field(False, description="Drop images without a caption.")
    min_words: int | None = Field(None, description="Fewest words.", ge=1)
    max_words: int | None = Field(None, description="Most words.", ge=1)
    min_characters: int | None = Field(None, description="Fewest characters.", ge=1)
    max_repetition: Share | None = Field(None, description="Largest share of content words that were said before.")
    min_variety: Share | None = Field(None, description="Smallest number of different words over that of all words.")
    max_capitals: Share | None = Field(None, description="Largest share of capitalised words after the first.")
    first_capital: bool = Field(False, description="The caption must begin with a capital letter.")
    determiner: bool = Field(False, description="An English determiner must occur.")
    preposition: bool = Field(False, description="An English preposition must occur.")
    noun: bool = Field(False, description="A content word, one outside the closed classes of English, must occur.")
    max_content: Share | None = Field(None, description="Largest share of content words: a bare list of nouns has 1.")
    max_codes: Share | None = Field(None, description="Largest share of tokens that are links, file names or numbers.")
    boilerplate: bool = Field(False, description="Drop captions such as 'profile photo' or 'IMG_0012.jpg'.")
    max_copies: int | None = Field(None, description="Most images of the pool with the same caption.", ge=1)
    blacklist: list[str] = Field([], description="Words and phrases that drop an image.")
    vocabulary: str | None = Field(None, description="Text file of known words, one a line; for `max_unknown`.")
    max_unknown: Share | None = Field(None, description="Largest share of words that the vocabulary lacks.")
    languages: list[str] = Field([], description="Accepted languages, ISO 639-1 codes; none accepts all.")
    min_language: Share = Field(
        0.1, description="Smallest probability of the accepted languages; low, since captions are short."
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        from curation.filters.languages import check_languages

        check_languages(self.languages)
        if self.min_words and self.max_words and self.min_words > self.max_words:
            raise ValueError(f"min_words ({self.min_words}) is above max_words ({self.max_words}): nothing would pass")
        return self

    def thresholds(self) -> dict[str, float | bool | None]:
        """Thresholds by parameter, for `curation.filters.checks.checks_in_use`."""
        names = self.model_dump(exclude={"blacklist", "vocabulary", "languages"})
        unused = {} if self.languages else {"min_language": None}
        unused |= {} if self.vocabulary else {"max_unknown": None}
        return {**names, **unused, "blacklist": bool(self.blacklist)}


class CleanvisionChecks(StageParams):
    """cleanvision's issues by its names and on its scales, 0 bad to 1 good: lower scores drop the image."""

    dark: Share | None = Field(None, description="Perceived brightness that 99 % of the pixels do not pass.")
    light: Share | None = Field(None, description="One less the perceived brightness that 5 % do not pass.")
    blurry: Share | None = Field(None, description="Edges and uneven grey levels at 64 pixels.")
    low_information: Share | None = Field(None, description="A tenth of the entropy of the levels in bits.")
    odd_aspect_ratio: Share | None = Field(None, description="Shorter side over longer side.")
    odd_size: Share | None = Field(
        None, description="1 midway between the quartiles of the pool's sides, .5 where 3 times their distance beyond."
    )
    grayscale: bool = Field(False, description="Drop files that hold grey levels alone.")


class WatermarkModel(StageParams):
    """A classifier of watermarks, or of anything else that shall drop an image."""

    path: str = Field(description="TorchScript file, or .safetensors weights of `architecture`.")
    architecture: str | None = Field(None, description="timm name of the model that .safetensors weights belong to.")
    size: int = Field(224, ge=16, le=1024, description="Side of its input in pixels.")
    positive: int = Field(1, ge=0, description="The class whose probability counts; one output alone is a logit.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        from curation.model_names import check_model_name

        if self.path.endswith(".safetensors") != (self.architecture is not None):
            raise ValueError(
                f"{self.path!r} with architecture {self.architecture!r}: .safetensors weights need the timm name of "
                "their model as architecture, a TorchScript file none"
            )
        if self.architecture is not None:
            check_model_name(self.architecture)
        return self


class ImageText(StageParams):
    """An open_clip model for `clip_score` and `aesthetic`."""

    model: str = Field(description="open_clip name, or 'local-dir:FOLDER' with an open_clip_config.json.")
    weights: str = Field(description="A weights file, a tag of open_clip's (it downloads them), or 'random[:SEED]'.")
    head: str | None = Field(None, description=".safetensors file of a linear head, for `aesthetic`.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        from curation.filters.model_files import check_image_text_model

        check_image_text_model(self.model, self.weights)
        return self


class FunctionRule(StageParams):
    """The numbers of a user's filter that an image passes with."""

    min: float | None = Field(None, description="Lower numbers drop the image.")
    max: float | None = Field(None, description="Higher numbers drop the image.")

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a filter needs min, max or both, else it drops nothing")
        return self


class KeepBy(StageParams):
    """A table that says how probable it is that an image is kept."""

    table: str = Field(description="Parquet or CSV file with a column image_id or url.")
    column: str = Field("keep_probability", description="Its column of probabilities or losses.")
    values: Literal["probability", "loss"] = Field(
        "probability", description="'loss': kept with the share of the losses that are at most its own, to a power."
    )
    power: float = Field(1.0, gt=0, description="That power; larger keeps fewer of the easy images.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")


def _named_apart(functions: dict[str, FunctionRule]) -> dict[str, FunctionRule]:
    from curation.filters.checks import IMAGE_CHECKS
    from curation.filters.cleanvision import PREFIX
    from curation.filters.functions import check_filters

    for name in functions:
        if name in IMAGE_CHECKS or name.startswith(("caption_", PREFIX)):
            raise ValueError(f"'{name}' is the name of a check that curatrain brings: name the entry point otherwise")
    check_filters(functions)
    return functions


class FilterParams(StageParams):
    """Which images are kept. Each check has a threshold; null leaves the check out.

    The defaults (preset 'basic') drop what no training wants: blank, black, white and hopelessly blurred pictures.
    Measured: of 4,091 OpenMoji drawings they drop 1, of 795 Tux Paint stamps 6, of 204 crops of wallpapers 2.
    """

    preset: Literal["none", "basic", "strict", "cc3m", "cc12m", "datacomp", "cleanvision"] = _threshold(
        "basic", "Thresholds for what is not given: see `stages/filter/presets.py`."
    )
    small: int | None = _threshold(16, "Shortest side in pixels.", ge=1)
    aspect: float | None = _threshold(8.0, "Longer side over shorter side, at most.", ge=1)
    odd_size: float | None = _threshold(
        10.0, "How many times the pool's median side an image's side may be, or the reverse.", gt=1
    )
    formats: list[str] | None = _threshold(None, "File formats to keep, such as jpeg and png; null keeps all.")
    low_detail: Above | None = _threshold(None, "Fewest encoded bytes for a pixel.")
    low_information: Above | None = _threshold(0.2, "Lowest entropy of the grey levels in bits, 0 to 8.", le=8)
    near_blank: Share | None = _threshold(0.004, "Lowest standard deviation of the grey levels, 0 to .5.")
    dark: Share | None = _threshold(0.08, "Grey level that 99 % of the pixels do not pass: lower is too dark.")
    bright: Share | None = _threshold(0.95, "Grey level that 1 % of the pixels do not pass: higher is too bright.")
    blur: Share | None = _threshold(0.9, "Highest blur effect, 0 sharp to 1 blurred.")
    greyscale: Share | None = _threshold(None, "Lowest chroma that 1 % of the pixels must pass.")
    few_colours: Above | None = _threshold(None, "Lowest entropy of the colours in 512 bins, in bits, 0 to 9.", le=9)
    text: Share | None = _threshold(None, "Largest share of the area that looks like lines of text.")
    watermark: Share | None = _threshold(0.5, "Largest probability by `watermark_model`; without effect without one.")
    clip_score: float | None = _threshold(None, "Lowest cosine of image and caption by `image_text`.", ge=-1, le=1)
    aesthetic: float | None = _threshold(None, "Lowest aesthetic score by `image_text.head`.")
    captions: CaptionRules = _threshold(CaptionRules(), "Rules of the caption.")
    cleanvision: CleanvisionChecks = _threshold(CleanvisionChecks(), "Checks on the scales of cleanvision.")
    watermark_model: WatermarkModel | None = _threshold(None, "The model of the check `watermark`.")
    image_text: ImageText | None = _threshold(None, "The model of `clip_score` and `aesthetic`.")
    functions: Annotated[dict[str, FunctionRule], AfterValidator(_named_apart)] = _threshold(
        {}, "Filters of installed packages (entry points of group 'curatrain.filters') and their limits."
    )
    keep_by: KeepBy | None = _threshold(None, "Keep by chance, with probabilities from a table.")
    max_dropped_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="The stage fails if a larger share of the images is dropped, or all of them.",
        json_schema_extra=EXECUTION,
    )
    actors: int = Field(0, ge=0, description="Workers; 0: as many as the CPUs carry.", json_schema_extra=EXECUTION)

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        return with_preset(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _scored(self) -> Self:
        if self.clip_score is not None and self.image_text is None:
            raise ValueError("clip_score needs image_text: an open_clip model and its weights")
        if self.aesthetic is not None and (self.image_text is None or self.image_text.head is None):
            raise ValueError("aesthetic needs image_text.head: a linear head on an open_clip model's image vectors")
        return self
