"""A report server in a thread: what `peftgrid serve` runs, without its signals."""

import asyncio
import contextlib
import threading

from orchestrator import server


@contextlib.contextmanager
def served(store, suite=None):
    """The address of a server over the store; it ends with the block."""
    ready, kept = threading.Event(), {}

    def tell(url):
        kept["url"] = url
        ready.set()

    async def run():
        kept["loop"], kept["task"] = asyncio.get_running_loop(), asyncio.current_task()
        # Signals belong to the main thread; here the task is cancelled.
        kept["loop"].add_signal_handler = lambda *_: None
        source = server.open_source(store.path, suite, "test/top1", {"store": "store"})
        await server.serve_until_told(source, "127.0.0.1", 0, tell)

    def work():
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(20)
        yield kept["url"]
    finally:
        kept["loop"].call_soon_threadsafe(kept["task"].cancel)
        thread.join(20)
        assert not thread.is_alive()
