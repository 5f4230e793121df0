import asyncio

import pytest

from corral.launcher.race import race, together


class Alarm(Exception):
    pass


async def alarm(after):
    await asyncio.wait_for(asyncio.Event().wait(), after) if after else None
    raise Alarm


async def never():
    await asyncio.Event().wait()


async def answer(value):
    await asyncio.sleep(0)
    return value


async def test_the_work_s_result_is_given_and_guards_are_ended():
    assert await race(answer(7), never()) == 7
    assert len(asyncio.all_tasks()) == 1


async def test_a_guard_that_raises_ends_the_work():
    ended = asyncio.Event()

    async def work():
        try:
            await never()
        finally:
            ended.set()

    with pytest.raises(Alarm):
        await race(work(), alarm(0))
    assert ended.is_set()


async def test_an_error_of_the_work_is_raised():
    async def broken():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await race(broken(), never())


async def test_cancelling_it_ends_everything():
    task = asyncio.create_task(race(never(), never()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1


async def test_together_gives_all_results_by_name():
    assert await together({"a": answer(1), "b": answer(2)}) == {"a": 1, "b": 2}


async def test_the_first_error_ends_the_others_and_comes_alone():
    with pytest.raises(Alarm):
        await together({"a": never(), "b": alarm(0)})
    assert len(asyncio.all_tasks()) == 1
