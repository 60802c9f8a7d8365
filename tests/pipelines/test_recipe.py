"""Keys follow from what matters and from nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from pipelines.recipe import canonical, family_key, keyed_params, make_recipe, pool_params, recipe_key
from stages.base import EXECUTION, POOL, StageParams

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Inner(StageParams):
    depth: int = 2
    threads: int = Field(1, json_schema_extra=EXECUTION)


class Params(StageParams):
    sources: list[str] = Field([], json_schema_extra=POOL)
    size: int = 64
    workers: int = Field(0, json_schema_extra=EXECUTION)
    inner: Inner = Inner()


def recipe(params: dict, inputs: dict | None = None, **rest) -> dict:
    return make_recipe("embed", 1, "c0de", params, inputs or {}, rest.pop("externals", {}), **rest)


@given(st.dictionaries(st.text(), values, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_matter(params: dict, dice) -> None:
    items = list(params.items())
    dice.shuffle(items)
    assert recipe_key(recipe(params)) == recipe_key(recipe(dict(items)))


@given(st.dictionaries(st.text(), values, max_size=4), st.dictionaries(st.text(), values, max_size=4))
def test_different_parameters_have_different_keys(a: dict, b: dict) -> None:
    assert (recipe_key(recipe(a)) == recipe_key(recipe(b))) == (canonical(a) == canonical(b))


def test_execution_parameters_stay_out_at_any_depth() -> None:
    slow, fast = Params(), Params(workers=8, inner=Inner(threads=4))
    assert keyed_params(slow) == keyed_params(fast) == {"sources": [], "size": 64, "inner": {"depth": 2}}


def test_a_default_written_out_does_not_change_the_key() -> None:
    assert keyed_params(Params.model_validate({"size": 64})) == keyed_params(Params())


def test_a_family_ignores_which_rows_but_not_how() -> None:
    pool = pool_params(Params)
    first = family_key(recipe(keyed_params(Params(sources=["a"])), {"images": "1"}, externals={"a": "x"}), pool)
    grown = family_key(recipe(keyed_params(Params(sources=["a", "b"])), {"images": "2"}, externals={"a": "y"}), pool)
    other = family_key(recipe(keyed_params(Params(size=96))), pool)
    assert first == grown != other
