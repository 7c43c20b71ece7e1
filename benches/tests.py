#!/usr/bin/env python3
"""Whether supervisors.py would notice: its own checks, tried on tools that do it wrong. Seconds, no peer needed."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

from peers import measure, proc, report
from peers.rig import Failed, Rig
from peers.tool import Run, Tool

HERE = pathlib.Path(__file__).resolve().parent


class Script(Tool):
    """A tool that is a shell script; `CHILD` and `FOLDER` are filled in."""

    name = "script"
    text = ""

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        (folder / "script").write_text(self.text.replace("CHILD", str(child)).replace("FOLDER", str(folder)))

    def command(self, folder: pathlib.Path) -> list[str]:
        return ["/bin/sh", f"{folder}/script"]


class Checks(unittest.TestCase):
    def setUp(self) -> None:
        self.rig = Rig()
        self.addCleanup(self.rig.remove)

    def run_of(self, text: str, count: int) -> Run:
        tool = Script(pathlib.Path("/nowhere"), argparse.Namespace())
        tool.text = text
        run = Run(tool, self.rig, count)
        self.addCleanup(run.end)
        return run

    def test_children_that_run_once_each_pass(self) -> None:
        run = self.run_of("CHILD FOLDER c0 & CHILD FOLDER c1 & wait", 2)
        run.start_all(10)
        run.check_quiet(0.2)
        run.check_once()
        own, hosts = run.settled()
        self.assertEqual((own, hosts), ([run.main()], []), "the script itself, without its children")

    def test_a_child_that_is_missing_is_told(self) -> None:
        run = self.run_of("CHILD FOLDER c0 & echo no more >&2; wait", 2)
        with self.assertRaisesRegex(Failed, "1 of 2 ran after 5 s: no more"):
            run.start_all(5)

    def test_a_child_that_runs_twice_is_told(self) -> None:
        run = self.run_of("CHILD FOLDER c0 & CHILD FOLDER c0 & wait", 1)
        run.start_all(10)
        with self.assertRaisesRegex(Failed, "although nothing killed it"):
            run.check_quiet(10)
        with self.assertRaisesRegex(Failed, "1 of 1 children do not run exactly once"):
            run.check_once()

    def test_a_child_that_died_is_told(self) -> None:
        run = self.run_of("CHILD FOLDER c0 & sleep 60", 1)
        run.start_all(10)
        self.assertIsNotNone(proc.kill(run.last["c0"].pid, run.mark))
        deadline = time.monotonic() + 10
        while run.children()["c0"] and time.monotonic() < deadline:
            time.sleep(0.01)
        with self.assertRaisesRegex(Failed, "1 of 1 children do not run exactly once"):
            run.check_once()

    def test_children_are_not_judged_while_something_is_in_its_exec(self) -> None:
        run = self.run_of("CHILD FOLDER c0 & wait", 1)
        run.start_all(10)
        with mock.patch.object(proc, "any_in_exec", side_effect=[True, True, False]) as asked:
            run.check_once()
        self.assertEqual(asked.call_count, 3)

    def test_a_process_without_an_environment_is_in_no_exec(self) -> None:
        other = subprocess.Popen(["sleep", "60"], env={})
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        deadline = time.monotonic() + 10
        # Popen returns a moment before the end of execve(2).
        while proc.is_in_exec(other.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(proc.is_in_exec(other.pid))

    def test_a_zombie_is_in_no_exec(self) -> None:
        other = subprocess.Popen(["true"])
        self.addCleanup(other.wait)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        self.assertFalse(proc.is_in_exec(other.pid))

    def test_the_time_of_a_restart_is_that_of_its_word(self) -> None:
        run = self.run_of("while :; do CHILD FOLDER c0; sleep 0.3; done", 1)
        run.start_all(10)
        took = measure.kill_child(run, "c0")
        self.assertGreaterEqual(took, 300)
        run.check_once()

    def test_only_what_has_the_mark_is_killed(self) -> None:
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        self.assertIsNone(proc.kill(other.pid, str(self.rig.folder)))
        self.assertIsNone(other.poll())

    def test_nothing_is_left_of_a_tool_that_detaches(self) -> None:
        run = self.run_of("(setsid CHILD FOLDER c0 &) & exit", 1)
        run.start_all(10)
        run.check_once()
        run.end()
        self.assertEqual(proc.marked(run.mark), [])


class Figures(unittest.TestCase):
    def test_the_90th_percentile_is_the_nearest_rank(self) -> None:
        self.assertEqual(measure.p90([float(n) for n in range(1, 21)]), 18)
        self.assertEqual(measure.p90([3.0, 1.0, 2.0]), 3)

    def test_the_outcome_tells_kept_doubled_renewed_and_gone(self) -> None:
        before = {"c0": [1], "c1": [2], "c2": [3]}
        self.assertEqual(measure.outcome(before, before), "keeps 3")
        self.assertEqual(measure.outcome(before, {"c0": [1, 9], "c1": [2], "c2": [3]}), "keeps 3, **starts 1 more**")
        self.assertEqual(
            measure.outcome(before, {"c0": [1], "c1": [9], "c2": []}), "keeps 1, 1 ended and run anew, **1 are gone**"
        )


class Readme(unittest.TestCase):
    def test_only_the_part_between_the_markers_is_replaced(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            readme = pathlib.Path(folder, "README.md")
            readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
            report.replace_part(readme, "new\n")
            self.assertEqual(readme.read_text(), f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n")

    def test_a_file_without_the_markers_is_left_alone(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            readme = pathlib.Path(folder, "README.md")
            readme.write_text("text\n")
            with self.assertRaisesRegex(SystemExit, "each once"):
                report.replace_part(readme, "new\n")
            self.assertEqual(readme.read_text(), "text\n")

    def test_the_readme_has_the_markers(self) -> None:
        text = (HERE / "README.md").read_text()
        self.assertEqual([text.count(report.BEGIN), text.count(report.END)], [1, 1])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
