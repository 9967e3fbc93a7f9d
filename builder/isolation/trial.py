"""What does the test of one container do: each scene once for its root and once for the control?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from builder.isolation.rows import ROWS, Row, Scene
from builder.isolation.stage import PREMADE, TEXT_VT, Side, Stage, word
from builder.isolation.verdict import Attempt, Result, Try, listened, tried_again
from builder.machine.bench import SeatInTest
from builder.machine.desktop import Desktop
from builder.machine.errors import GuestError, Unmet
from builder.machine.shell import until

Picture = Callable[[str], Path | None]
FILTERED = "2"  # /proc/self/status, Seccomp: nspawn filters the system calls of all its processes
DISPLAY = "display-manager.service lightdm.service seatsmith-greetd.service seatsmith-{sway,seatd}.service"
RATE, LENGTH = 44100, 60
PICTURES = ("screen-getfb", "screen-getfb2", "screen-prime")  # of whoever is in front
ROUNDS = 3  # of a race, which is won by chance
PLAY = (  # a tone of a minute, by a player with a name of its own (probe/sound.py: CLIENT)
    "runuser -u {user} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {user}) setsid -f bash -c "
    "'python3 -c \"import math,struct,sys; "
    'one=b\\"\\".join(struct.pack(\\"<h\\",int(9000*math.sin(n*0.1425))) for n in range({rate})); '
    '[sys.stdout.buffer.write(one) for _ in range({length})]" | '
    "pacat --client-name=seatsmith-secret-tune --raw --format=s16le --channels=1 --rate={rate}' "
    ">/dev/null 2>&1 </dev/null"
)


@dataclass
class Trial:
    """Rows of one container, as they come in."""

    seat: SeatInTest
    container: Desktop
    picture: Picture
    say: Callable[[str], None]
    rows: tuple[Row, ...] = ROWS
    attempts: dict[str, Attempt] = field(default_factory=dict)
    controls: dict[str, Attempt] = field(default_factory=dict)
    strict: bool = False
    facts: dict[str, str] = field(default_factory=dict)

    def run(self) -> list[Result]:
        """Play all scenes. What one could not do is a problem of its rows, and the next is played."""
        stage = Stage(self.seat, self.container)
        attacker, control = stage.set(usb=any(row.id == "keys-hidraw" for row in self.rows))
        scenes: tuple[tuple[Scene, Callable[[Stage, Side, Side], None]], ...] = (
            (Scene.DESKTOP, self.desktop),
            (Scene.TUNE, self.tune),
            (Scene.TEXT, self.text),
            (Scene.SWITCH, self.switch),
            (Scene.ALONE, self.alone),
        )
        for scene, play in scenes:
            if not any(scene in (row.scene, row.control_scene) for row in self.rows):
                continue
            self.say(f"{self.container.name}: {scene}")
            try:
                play(stage, attacker, control)
            except (GuestError, Unmet) as e:
                self.excuse(scene, str(e))
        stage.host.run(f"rm -rf /var/lib/machines/{self.container.name}{PREMADE}")
        self.facts = attacker.confined()
        # the whole range of ids means no user namespace (user_namespaces(7))
        self.strict = self.facts["uid_map"] != "0 0 4294967295"
        if self.facts["Seccomp"] != FILTERED:
            self.excuse(None, "the prober did not run under the container's limits")
        return [self.result(row) for row in self.rows]

    def excuse(self, scene: Scene | None, problem: str) -> None:
        for row in self.rows:
            if scene is None or (row.scene is scene and row.id not in self.attempts):
                self.attempts[row.id] = Attempt(problem=problem)

    def result(self, row: Row) -> Result:
        nothing = Attempt(problem="it was not tried")
        return Result(
            environment=self.container.name,
            strict=self.strict,
            row=row.id,
            group=row.group,
            title=row.title,
            attempt=self.attempts.get(row.id, nothing),
            control=self.controls.get(row.id, nothing),
        )

    def of(self, scene: Scene, *, control: bool = False, heard: bool = False) -> list[str]:
        """Ids of the rows that are tried in a scene."""
        return [
            row.id
            for row in self.rows
            if (row.control_scene if control else row.scene) is scene and row.heard is heard
        ]

    def sides(self, attacker: Side, control: Side) -> tuple[tuple[Side, dict[str, Attempt]], ...]:
        """Who tries, and where that is kept: the container's root first."""
        return (attacker, self.attempts), (control, self.controls)

    def try_both(self, scene: Scene, attacker: Side, control: Side) -> None:
        for side, into in self.sides(attacker, control):
            into |= side.tries(self.of(scene, control=side is control))

    # --- scenes

    def desktop(self, stage: Stage, attacker: Side, control: Side) -> None:
        self.attempts |= self.listen(stage, self.seat.host, attacker, control, self.controls)
        self.try_both(Scene.DESKTOP, attacker, control)
        for side, into in self.sides(attacker, control):
            self.arrived("victim", side, into, " ".join(map(str, stage.said("victim"))))
        for other in self.seat.containers:
            if other.name != self.container.name:
                self.neighbour(stage, other, attacker, control)

    def listen(
        self, stage: Stage, front: Desktop, attacker: Side, control: Side, proofs: dict[str, Attempt]
    ) -> dict[str, Attempt]:
        """Let both hear what is typed at an environment; the control's side of it goes to ``proofs``."""
        front.switch_to(insist=True)
        rows, secret = self.of(Scene.DESKTOP, heard=True), word()
        if not rows:
            return {}
        front.open_recorder()
        sides = stage.hear((attacker, control), rows, secret)
        until(lambda: secret in front.letters(), f"what was typed reaches {front.name}", timeout=30)
        self.picture(f"{secret!r} was typed at {front.name} while {self.container.name} listened")
        found, proven = ({row: listened(a, secret) for row, a in side.items()} for side in sides)
        proofs |= proven
        return found

    def neighbour(self, stage: Stage, other: Desktop, attacker: Side, control: Side) -> None:
        """The same with another container in front: what is typed there, and its picture."""
        proofs: dict[str, Attempt] = {}
        found = self.listen(stage, other, attacker, control, proofs)
        rows = [row.id for row in self.rows if row.id in PICTURES]
        for side, into in ((attacker, found), (control, proofs)):
            into |= side.tries(rows)
        for row, attempt in found.items():
            where = f"{other.name} in front"
            self.attempts[row] = tried_again(self.attempts[row], attempt, proofs[row], where)

    def tune(self, stage: Stage, attacker: Side, control: Side) -> None:
        stage.host.succeed(PLAY.format(user=self.seat.host.facts.user, rate=RATE, length=LENGTH))
        stage.host.run("sleep 3")
        self.try_both(Scene.TUNE, attacker, control)

    def text(self, stage: Stage, attacker: Side, control: Side) -> None:
        stage.start_console()
        self.picture("the host's text console")
        for side, into in self.sides(attacker, control):
            rows, secret = self.of(Scene.TEXT, heard=True), word()
            if rows:  # one after the other: what one reads the other does not get
                found = stage.hear((side,), rows, secret)[0]
                into |= {row: listened(attempt, secret) for row, attempt in found.items()}
        stage.console_reads()
        stage.host.run("sleep 1")
        for side, into in self.sides(attacker, control):
            before = stage.typed()
            into |= side.tries(self.of(Scene.TEXT, control=side is control))
            stage.host.run("sleep 1")
            self.arrived("screen", side, into, stage.on_console())
            self.arrived("console", side, into, stage.typed().removeprefix(before))
        self.picture("the host's text console afterwards")

    def switch(self, stage: Stage, attacker: Side, control: Side) -> None:
        """Go between the host's desktop and the container's while its root waits for the moment between.

        The control comes first: where the container wins, the host's X server may not get the card back.
        """
        for side, into in reversed(self.sides(attacker, control)):
            for _ in range(ROUNDS):
                one = self.race(stage, side)
                if one.picture:
                    break
            into["screen-switch"] = Attempt(tries=[one])

    def race(self, stage: Stage, side: Side) -> Try:
        """One round of it, which begins with the host's desktop drawn."""
        self.container.switch_to(insist=True)
        self.seat.host.switch_to(insist=True)
        self.seat.machine.wait_for_screen(still=1.0)
        stage.start("race", side.line("race"))
        for _ in range(3):
            self.container.switch_to(insist=True)
            self.seat.host.switch_to(insist=True)
        until(lambda: stage.said("race"), "the prober ends its race", timeout=60)
        said = stage.said("race")[0]
        picture = said.get("picture")
        what = f"after {said['tried']} tries" if picture else said.get("said", "")
        how = "open the card again and again, GETFB"
        return Try(how=how, outcome="done" if picture else "refused", said=what, picture=picture)

    def alone(self, stage: Stage, attacker: Side, control: Side) -> None:
        stage.bring(TEXT_VT)
        stage.inside.run(f"systemctl stop {DISPLAY}", timeout=60)
        stage.host.run("sleep 2")
        for side, into in self.sides(attacker, control):
            rows, secret = self.of(Scene.ALONE, heard=True), word()
            if rows:
                found = stage.hear((side,), rows, secret)[0]
                into |= {row: listened(attempt, secret) for row, attempt in found.items()}
                self.picture(f"{secret!r} was typed at the text console until another terminal came")
                stage.bring(TEXT_VT)
        for side, into in self.sides(attacker, control):
            into |= side.tries(self.of(Scene.ALONE, control=side is control))
            stage.bring(TEXT_VT)

    def arrived(self, where: str, side: Side, into: dict[str, Attempt], text: str) -> None:
        """Which rows' words did the host get?"""
        for row in self.rows:
            if row.arrives == where and row.id in into:
                came = side.words[row.id] in text
                into[row.id] = into[row.id].model_copy(update={"arrived": came})
