"""How do we talk to QEMU's monitor from ordinary, blocking code?

``qemu.qmp`` is asynchronous; its event loop runs in a thread of its own here, and every call waits for its
answer. Events are kept in a list that a caller can search from a mark it took earlier.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient
from qemu.qmp.error import QMPError

from builder.machine.agent import slowness
from builder.machine.errors import MachineDied, QemuRefused

Alive = Callable[[], None]  # raises MachineDied where there is nobody left to answer
TICK = 0.05


class Monitor:
    """One QMP connection. ``alive`` is asked while waiting, so that a dead QEMU ends a call at once."""

    def __init__(self, socket: Path, alive: Alive, *, timeout: float = 30.0) -> None:
        self.events: list[dict[str, Any]] = []
        self.alive = alive
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="qmp", daemon=True)
        self.thread.start()
        try:
            self.client = self.connect(socket, timeout)
            self.listener = EventListener()
            self.client.register_listener(self.listener)
            asyncio.run_coroutine_threadsafe(self._collect(), self.loop)
        except BaseException:
            self._end_loop()
            raise

    def connect(self, socket: Path, timeout: float) -> QMPClient:
        deadline = time.monotonic() + timeout
        while True:
            self.alive()
            client = QMPClient(socket.name)
            if socket.exists():
                try:
                    self.call(client.connect(str(socket)), timeout=timeout)
                except (QMPError, OSError):
                    if time.monotonic() > deadline:
                        raise
                else:
                    return client
            if time.monotonic() > deadline:
                raise MachineDied(f"QEMU opened no monitor within {timeout:.0f} s")
            time.sleep(TICK)

    async def _collect(self) -> None:
        async for event in self.listener:
            self.events.append(dict(event))

    def call(self, work: Coroutine[Any, Any, Any], *, timeout: float) -> Any:
        """Run a coroutine in the loop's thread and wait for it, watching that QEMU lives."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        deadline = time.monotonic() + timeout * slowness()
        try:
            while True:
                try:
                    return future.result(TICK * 4)
                except concurrent.futures.TimeoutError:
                    if future.done():
                        raise
                    self.alive()
                    if time.monotonic() > deadline:
                        raise MachineDied(f"QEMU's monitor gave no answer in {timeout:.0f} s") from None
        except BaseException:
            future.cancel()
            raise

    def execute(
        self, command: str, arguments: dict[str, Any] | None = None, *, timeout: float = 60.0
    ) -> Any:
        """One QMP command's return value. Raises QemuRefused on QEMU's error, MachineDied if it is gone."""
        try:
            return self.call(self.client.execute(command, arguments), timeout=timeout)
        except QMPError as e:
            self.alive()
            raise QemuRefused(f"QEMU refused {command}: {e}") from e

    def job(self, command: str, arguments: dict[str, Any], *, timeout: float = 120.0) -> None:
        """Run a command that starts a background job (its ``job-id`` is ours) and wait for its end."""
        name = arguments["job-id"]
        self.execute(command, arguments)
        deadline = time.monotonic() + timeout
        while True:
            (state,) = [j for j in self.execute("query-jobs") if j["id"] == name]
            if state["status"] == "concluded":
                self.execute("job-dismiss", {"id": name})
                if state.get("error"):
                    raise QemuRefused(f"QEMU's {command} failed: {state['error']}")
                return
            if time.monotonic() > deadline:
                raise MachineDied(f"QEMU's {command} did not end in {timeout:.0f} s")
            time.sleep(TICK)

    def wait_event(self, name: str, *, since: int, timeout: float, **data: Any) -> dict[str, Any] | None:
        """The first event after mark ``since`` with this name and data, or None."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events[since:]:
                if event["event"] == name and all(event["data"].get(k) == v for k, v in data.items()):
                    return event
            if time.monotonic() > deadline:
                return None
            self.alive()
            time.sleep(TICK)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self.client.disconnect(), self.loop).result(2.0)
        self._end_loop()

    def _end_loop(self) -> None:
        async def finish() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with contextlib.suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            asyncio.run_coroutine_threadsafe(finish(), self.loop).result(2.0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5.0)
        if not self.thread.is_alive():
            self.loop.close()
