"""What a scenario.toml may say, and which scenarios share a guest."""

import dataclasses
import unittest
from pathlib import Path

from ccvm import scenario
from ccvm.scenario import BadScenario, Scenario, groups, parse

LEAST = 'title = "it is so"\nbudget_minutes = 3\n'


def named(name: str, more: str = "") -> Scenario:
    return parse(name, Path("/checks") / name, LEAST + more)


class ScenarioFiles(unittest.TestCase):
    def test_what_is_left_out_has_a_default(self) -> None:
        one = named("one")
        self.assertEqual((one.timeout_minutes, one.memory, one.crash, one.nodes), (30, 1024, ("quit",), ("machine",)))
        self.assertEqual((one.guest, one.must_fail, one.binaries), (None, (), "release"))
        self.assertEqual(one.script, Path("/checks/one/test.py"))

    def test_an_unknown_key_is_an_error_that_names_it(self) -> None:
        with self.assertRaisesRegex(BadScenario, r"checks/one/scenario.toml: unknown keys \['memroy'\]"):
            named("one", "memroy = 5")

    def test_a_title_and_a_budget_are_needed(self) -> None:
        with self.assertRaisesRegex(BadScenario, "`budget_minutes` is missing"):
            parse("one", Path("one"), 'title = "t"')

    def test_a_crash_is_one_of_three(self) -> None:
        for wrong in ('crash = ["burn"]', "crash = []"):
            with self.subTest(wrong), self.assertRaisesRegex(BadScenario, "`crash` is a list of"):
                named("one", wrong)

    def test_nodes_that_nixos_would_number_otherwise_are_refused(self) -> None:
        with self.assertRaisesRegex(BadScenario, "alphabetical order"):
            named("one", 'nodes = ["machine", "far"]')

    def test_more_than_two_nodes_are_refused(self) -> None:
        with self.assertRaisesRegex(BadScenario, "one or two, not 3"):
            named("one", 'nodes = ["a", "b", "c"]')

    def test_a_twin_uses_the_other_ones_files(self) -> None:
        twin = named("twin", 'like = "one"\nmust_fail = ["lost"]')
        self.assertEqual(twin.script, Path("/checks/one/test.py"))
        self.assertEqual(twin.must_fail, ("lost",))

    def test_every_scenario_here_has_a_script(self) -> None:
        found = scenario.find()
        self.assertIn("driver", found)
        for one in found.values():
            self.assertTrue(one.script.is_file(), one.script)


class Groups(unittest.TestCase):
    def test_scenarios_of_one_guest_stay_together_and_the_longest_come_first(self) -> None:
        chosen = [named("short"), named("a", 'guest = "live"'), named("b", 'guest = "live"')]
        self.assertEqual([[one.name for one in group] for group in groups(chosen)], [["a", "b"], ["short"]])

    def test_those_that_share_a_guest_must_want_the_same_one(self) -> None:
        one = named("a", 'guest = "live"')
        with self.assertRaisesRegex(BadScenario, "memory, nodes, disks and binaries must agree"):
            groups([one, dataclasses.replace(one, name="b", memory=2048)])
