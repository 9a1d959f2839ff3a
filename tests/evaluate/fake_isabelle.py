"""A server that speaks the protocol of `isabelle server`, with a prover that knows a few goals by heart."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STEP = re.compile(
    r'(?:have|show)(?: \w+:)? "([^"]*)"(?: using \w+)?\s+(by (?:\([^)]*\)|\w+)|sorry|sledgehammer[^\n]* sorry)'
)


class FakeProver:
    """provable: what closes a goal; suggestions: what Sledgehammer says to it; endless: (goal, method) that never ends."""

    def __init__(
        self,
        provable: Mapping[str, set[str]],
        suggestions: Mapping[str, str] | None = None,
        endless: set[tuple[str, str]] | None = None,
    ):
        self.provable, self.suggestions, self.endless = provable, suggestions or {}, endless or set()
        self.seen: list[str] = []

    def node(self, file: Path) -> dict[str, Any]:
        text = file.read_text(encoding="utf-8")
        self.seen.append(text)
        messages: list[tuple[str, str]] = []
        consolidated, tainted = True, False
        if not re.search(rf"theory\s+{file.stem}\s+imports", text) or not text.endswith("\nend\n"):
            messages.append(("error", "Bad theory name, or no end"))
        if "broken" in text:
            messages.append(("error", "Outer syntax error"))
        for goal, proof in STEP.findall(text):
            if proof.endswith("sorry"):
                tainted = True
                if "declare [[quick_and_dirty]]" not in text:
                    messages.append(("error", "Cheating requires quick_and_dirty mode!"))
                if proof.startswith("sledgehammer") and goal in self.suggestions:
                    messages.append(("writeln", self.suggestions[goal]))
            elif (goal, proof) in self.endless:
                consolidated = False
            elif proof not in self.provable.get(goal, set()):
                messages.append(("error", f"Failed to finish proof: {goal}"))
        if "thm_oracles" in text:
            messages.append(("writeln", "oracles:" + "\n  skip_proof: PROP x" * tainted))
        failed = sum(kind == "error" for kind, _ in messages)
        status = {"ok": failed == 0, "failed": failed, "consolidated": consolidated, "canceled": False}
        return {
            "node_name": str(file),
            "theory_name": f"Draft.{file.stem}",
            "status": status,
            "messages": [{"kind": kind, "message": message} for kind, message in messages],
        }


class FakeServer:
    """One connection at a time, each in the thread. on_use(server, send, task) may do something else than prove."""

    password = "5f3c-secret"

    def __init__(self, tmp: Path, prover: FakeProver):
        self.tmp, self.prover = tmp, prover
        self.on_use: Callable[[FakeServer, Callable[[str, Any], None], str], bool] = lambda *_: False
        self.commands: list[tuple[str, Any]] = []
        self.connections = self.sessions = self.tasks = 0
        self.long_messages = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def named(self, name: str) -> list[Any]:
        return [argument for command, argument in self.commands if command == name]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with connection, connection.makefile("rb") as lines:
                try:
                    self._talk(connection, lines)
                except OSError:
                    pass

    def _talk(self, connection: socket.socket, lines: Any) -> None:
        def send(name: str, argument: Any = None) -> None:
            text = f"{name} {json.dumps(argument)}" if argument is not None else name
            data = text.encode()
            connection.sendall(b"%d\r\n%s\r\n" % (len(data), data) if self.long_messages else data + b"\n")

        if lines.readline().decode().strip() != self.password:
            return
        send("OK", {"isabelle_id": "x", "isabelle_version": "Isabelle2022"})
        for line in lines:
            name, _, argument = line.decode().strip().partition(" ")
            self.commands.append((name, json.loads(argument)))
            if self._answer(name, json.loads(argument), send):
                return

    def _answer(self, name: str, argument: Any, send: Callable[..., None]) -> bool:
        """Whether to hang up."""
        if name == "purge_theories":
            send("OK", {"purged": []})
            return False
        self.tasks += 1
        task = f"task-{self.tasks}"
        send("OK", {"task": task})
        send("NOTE", {"task": task, "kind": "writeln", "message": "theory HOL 50%"})
        if name == "session_start":
            self.sessions += 1
            send(
                "FINISHED", {"task": task, "session_id": f"session-{self.sessions}", "tmp_dir": str(self.tmp)}
            )
        elif name == "use_theories" and argument["session_id"] != f"session-{self.sessions}":
            send(
                "FAILED", {"task": task, "kind": "error", "message": f"No session {argument['session_id']!r}"}
            )
        elif name == "use_theories":
            if self.on_use(self, send, task):
                return True
            files = [Path(argument["master_dir"]) / f"{theory}.thy" for theory in argument["theories"]]
            nodes = [self.prover.node(file) for file in files]
            send("FINISHED", {"task": "task-of-another", "ok": False, "nodes": []})
            send("FINISHED", {"task": task, "ok": True, "errors": [], "nodes": nodes})
        else:
            send("FINISHED", {"task": task, "ok": True, "return_code": 0})
        return False
