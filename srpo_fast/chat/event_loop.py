"""An asyncio event loop beside the caller, who is no coroutine."""

import asyncio
import atexit
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager


@contextmanager
def event_loop(resource: AbstractAsyncContextManager[object]) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own. At the end, what still runs in it is cancelled and `resource` closed."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True, name="event_loop")

    def stop() -> None:
        if thread.is_alive():
            asyncio.run_coroutine_threadsafe(_wind_up(resource), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        if not loop.is_closed():
            loop.close()

    thread.start()
    # a generator that an exception keeps alive is closed only after daemon threads were frozen: too late to join one
    atexit.register(stop)
    try:
        yield loop
    finally:
        stop()
        atexit.unregister(stop)


async def _wind_up(resource: AbstractAsyncContextManager[object]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await resource.__aexit__(None, None, None)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
