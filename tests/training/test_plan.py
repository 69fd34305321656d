"""The order of a run: every example once an epoch, shared prompts found, seeded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.training.plan import (
    Example,
    Plan,
    bucket,
    evaluation_batches,
    make_batch,
    shard,
    split_batch,
    work,
)
from livery.training.prefixes import shared_groups


def example(prompt: list[int], answer: list[int]) -> Example:
    tokens = np.asarray(prompt + answer, np.int32)
    mask = np.zeros(len(tokens), bool)
    mask[len(prompt) :] = True
    return Example(tokens, mask)


@st.composite
def example_sets(draw: st.DrawFn) -> list[Example]:
    """Examples with nested shared prompts, of small alphabets so that sharing happens by chance."""
    stems = draw(st.lists(st.lists(st.integers(1, 3), max_size=30), min_size=1, max_size=4))
    found: list[Example] = []
    for _ in range(draw(st.integers(1, 40))):
        stem = draw(st.sampled_from(stems))
        own = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
        answer = draw(st.lists(st.integers(4, 9), min_size=1, max_size=5))
        found.append(example(stem + own, answer))
    return found


@pytest.mark.slow
@given(example_sets(), st.integers(1, 6), st.integers(1, 3), st.booleans(), st.integers(0, 2))
def test_every_example_stands_once_in_an_epoch_whole(
    examples: list[Example], batch: int, accum: int, share: bool, epoch: int
) -> None:
    plan = Plan(examples, batch, accum, seed=3, share_prefix=share)
    seen: list[int] = []
    for step in plan.epoch(epoch):
        assert sum(len(chunk.rows) for chunk in step) <= batch * accum
        for chunk in step:
            made = make_batch(chunk, examples)
            seen += made.rows
            for i, row in enumerate(made.rows):
                t, mask = examples[row].tokens, examples[row].supervised
                n = made.lengths[i]
                inputs = np.concatenate([made.prefix, made.tokens[i, :n]])
                assert inputs.tolist() == t[:-1].tolist()
                assert (made.tokens[i, n:] == 0).all()
                assert (made.targets[i, n:] == -1).all()
                positions = np.nonzero(made.targets[i] >= 0)[0] + len(made.prefix) + 1
                assert positions.tolist() == np.nonzero(mask)[0].tolist()
                assert (t[positions] == made.targets[i][made.targets[i] >= 0]).all()
    assert sorted(seen) == list(range(len(examples)))


@pytest.mark.slow
@given(example_sets(), st.integers(1, 5), st.integers(1, 4))
def test_shards_cover_a_step_exactly(examples: list[Example], batch: int, world: int) -> None:
    plan = Plan(examples, batch, 2)
    for number in range(len(plan.epoch(0))):
        whole = plan.step(number)
        parts = [shard(whole, rank, world) for rank in range(world)]
        rows = sorted(r for part in parts for b in part for r in b.rows)
        assert rows == sorted(r for b in whole for r in b.rows)
        assert sum(b.supervised for p in parts for b in p) == sum(b.supervised for b in whole)


def test_one_batch_is_dealt_out_evenly() -> None:
    batch = make_batch_of(12)
    assert sorted(len(p.rows) for p in split_batch(batch, 3)) == [4, 4, 4]
    assert [len(shard([batch], r, 3)[0].rows) for r in range(3)] == [4, 4, 4]


def test_a_lone_row_leaves_a_process_empty_handed() -> None:
    batch = make_batch_of(1)
    assert [len(shard([batch], r, 2)) for r in range(2)] == [1, 0]


def make_batch_of(rows: int):
    examples = [example([1] * 20 + [i % 3], [4, 5]) for i in range(rows)]
    (batch,) = Plan(examples, rows).step(0)
    return batch


def test_the_shared_system_prompt_is_found_and_the_last_prompt_token_left_out() -> None:
    system = list(range(10, 60))
    examples = [example([*system, 100 + i], [200 + i, 2]) for i in range(20)]
    (group,) = Plan(examples, 8).groups
    assert group.prefix == 50
    assert len(group.rows) == 20
    same = [example(system, [200 + i, 2]) for i in range(20)]  # whole prompts alike
    (group,) = Plan(same, 8).groups
    assert group.prefix == 49


def test_schemas_under_one_system_prompt_become_groups_of_their_own() -> None:
    system = [7] * 20
    examples = [
        example([*system, *([50 + schema] * 300), 1 + i], [5, 2])
        for i in range(8)
        for schema in range(3)
    ]
    groups = Plan(examples, 8).groups
    assert sorted(g.prefix for g in groups) == [320, 320, 320]
    assert all(len({examples[r].tokens[25] for r in g.rows}) == 1 for g in groups)


def test_nothing_shared_means_plain_batches_with_little_padding() -> None:
    rng = np.random.default_rng(0)
    examples = [
        example(rng.integers(10, 5000, int(n)).tolist(), [3, 2]) for n in rng.integers(5, 200, 500)
    ]
    plan = Plan(examples, 8)
    assert [g.prefix for g in plan.groups] == [0]
    done = work(plan)
    assert done.prefix == 0
    assert done.padding / done.computed < 0.12


def test_the_plan_is_a_function_of_the_seed() -> None:
    examples = [example([1] * 30 + [i], [2, i]) for i in range(50)]
    assert Plan(examples, 4, seed=1).epoch(0) == Plan(examples, 4, seed=1).epoch(0)
    assert Plan(examples, 4, seed=1).epoch(0) != Plan(examples, 4, seed=2).epoch(0)
    plan = Plan(examples, 4, seed=1)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.locate(len(plan.epoch(0)) + 2) == (1, 2)
    assert plan.progress(len(plan.epoch(0))) == 1.0
    assert plan.total_steps(2.5) == sum(len(plan.epoch(e)) for e in (0, 1)) + round(
        len(plan.epoch(2)) / 2
    )


def test_an_epoch_costs_a_fraction_where_prompts_are_long() -> None:
    examples = [example([*range(1000, 1400), i], [5] * 20) for i in range(64)]
    done = work(Plan(examples, 8))
    assert done.plain / done.computed > 5


@pytest.mark.parametrize("length", [1, 7, 8, 9, 63, 65, 200, 257, 1000, 1025, 5000])
def test_buckets_round_up_and_not_far(length: int) -> None:
    assert length <= bucket(length) <= max(length + 7, length * 9 / 8)


def test_evaluation_sees_every_row_once_in_a_fixed_order() -> None:
    examples = [example([1] * 30 + [i], [2] * (1 + i % 5)) for i in range(33)]
    batches = list(evaluation_batches(examples, 8))
    assert sorted(r for b in batches for r in b.rows) == list(range(33))
    again = list(evaluation_batches(examples, 8))
    assert [b.rows for b in batches] == [b.rows for b in again]


def test_no_examples_no_groups() -> None:
    assert shared_groups([], 4) == []
