"""The order of images in shards: each pass has every image once, and a position is a pass, a group and an offset."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ganblocks.data.streaming.order import Place, ShardOrder

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(0, 99), st.integers(0, 200), st.integers(0, 40))
def test_requests_from_any_position_are_those_of_the_whole_order(sizes, together, seed, position, count):
    whole = ShardOrder(sizes, seed, together=together, flip=True).requests(0, 250)
    part = ShardOrder(sizes, seed, together=together, flip=True).requests(position, count)
    assert part == whole[position : position + count]


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(0, 99))
def test_each_pass_has_every_image_once_and_each_group_those_of_its_shards(sizes, together, seed):
    order, total = ShardOrder(sizes, seed, together=together), sum(sizes)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    for epoch in range(3):
        numbers = [request.number for request in order.requests(epoch * total, total)]
        assert sorted(numbers) == list(range(total))
        position = epoch * total
        for group in range(order.num_groups):
            shards = order.shards_of(epoch, group)
            size = sum(sizes[shard] for shard in shards)
            part = numbers[position - epoch * total :][:size]
            assert sorted(part) == [number for number in range(total) if shard_of[number] in shards]
            for offset in range(size):
                assert order.place(position + offset) == Place(epoch, group, offset)
            position += size


def test_shards_and_images_have_another_order_in_each_pass_and_for_each_seed():
    def numbers(seed, position):
        return [request.number for request in ShardOrder([50] * 8, seed, together=2).requests(position, 400)]

    orders = [numbers(0, 0), numbers(0, 400), numbers(1, 0), numbers(1, 400)]
    assert len({tuple(order) for order in orders}) == 4
    assert len({tuple(number // 50 for number in order[:100]) for order in orders}) == 4


def test_half_of_the_images_are_mirrored_and_in_the_next_pass_another_half():
    order = ShardOrder([100] * 4, 0, together=2, flip=True)
    flips = [{each.number for each in order.requests(400 * epoch, 400) if each.flip} for epoch in range(2)]
    assert 160 < len(flips[0]) < 240
    assert flips[0] != flips[1]
    assert not any(each.flip for each in ShardOrder([100] * 4, 0, together=2).requests(0, 400))


def test_a_group_is_announced_once_with_the_next_one():
    announced = []
    order = ShardOrder([2] * 5, 0, together=2, announce=announced.append)
    for position in range(0, 20, 2):
        order.requests(position, 2)
    groups = [order.shards_of(epoch, group) for epoch in range(3) for group in range(3)]
    assert announced == [groups[number] + groups[number + 1] for number in range(6)]
