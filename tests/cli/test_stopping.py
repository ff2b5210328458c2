import asyncio
import os
import signal

from banyan.cli.stopping import StopWish, heard_signals


def test_a_wish_from_before_the_loop_is_heard_and_a_second_one_insists() -> None:
    async def run(wish: StopWish) -> None:
        wish.attach()
        await asyncio.wait_for(wish.asked(), 1)
        insisting = asyncio.create_task(wish.insisted())
        await asyncio.sleep(0.01)
        assert not insisting.done()
        wish.hear(signal.SIGINT, None)
        await asyncio.wait_for(insisting, 1)

    wish = StopWish()
    wish.hear(signal.SIGTERM, None)
    asyncio.run(run(wish))


def test_a_hang_up_reloads_and_stops_nothing_and_handlers_are_put_back() -> None:
    reloads: list[int] = []

    async def run(wish: StopWish) -> None:
        wish.attach(on_reload=lambda: reloads.append(1))
        os.kill(os.getpid(), signal.SIGHUP)
        while not reloads:
            await asyncio.sleep(0.005)
        asking = asyncio.create_task(wish.asked())
        await asyncio.sleep(0.02)
        assert not asking.done()
        asking.cancel()

    before = signal.getsignal(signal.SIGHUP)
    with heard_signals() as wish:
        os.kill(os.getpid(), signal.SIGHUP)  # too early to reload anything
        asyncio.run(run(wish))
    assert reloads == [1]
    assert signal.getsignal(signal.SIGHUP) == before
