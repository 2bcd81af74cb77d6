"""Draws from a seed, in several threads."""

from threading import Event, Thread

import torch

from pixyz.core import seeded


def drawn(seed, count):
    with seeded(seed):
        return torch.rand(count)


def test_two_threads_draw_what_their_seeds_say():
    expected = [drawn(seed, 4) for seed in (0, 1)]
    before = torch.get_rng_state()
    inside, other_has_drawn = Event(), Event()
    found = {}

    def first():
        with seeded(0):
            start = torch.rand(2)
            inside.set()
            other_has_drawn.wait(0.3)  # which it must not have, so the time passes
            found[0] = torch.cat([start, torch.rand(2)])

    def second():
        inside.wait()
        found[1] = drawn(1, 4)
        other_has_drawn.set()

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        torch.testing.assert_close(found[seed], expected[seed], rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_seed_inside_of_another():
    with seeded(0):
        a = torch.rand(2)
        inner = drawn(1, 3)
        b = torch.rand(2)
    torch.testing.assert_close(torch.cat([a, b]), drawn(0, 4), rtol=0, atol=0)
    torch.testing.assert_close(inner, drawn(1, 3), rtol=0, atol=0)
