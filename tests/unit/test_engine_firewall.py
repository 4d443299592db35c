"""Which rules of other programs let packets pass before they meet those that keep boxes apart."""

from __future__ import annotations

import re

import pytest

from odc.adapters.engine.firewall import find_earlier_accept

OURS = [f"{chain} -d 10.0.0.0/8 -m comment --comment odc,lab -j DROP" for chain in ("PREROUTING", "FORWARD")]


def earlier(*rules: str) -> str:
    table = [[re.sub(r"^odc,(.*)", r"odc \1: boxes", word) for word in rule.split()] for rule in rules]
    return " ".join(find_earlier_accept(table, "lab") or [])


@pytest.mark.parametrize(
    "rule",
    [
        "FORWARD -j ACCEPT",
        "FORWARD -i eth0 -j ACCEPT",
        "PREROUTING -m mark --mark 0x1 -j RETURN",
        "FORWARD -j NFQUEUE --queue-num 0",
        "PREROUTING -p tcp -j TPROXY --on-port 80",
        "FORWARD -g other",
    ],
)
def test_a_rule_that_may_accept_packets_is_found_above_ours_and_not_below(rule: str) -> None:
    assert earlier(rule, *OURS) == rule
    assert earlier(*OURS, rule) == ""


def test_a_chain_that_leads_to_an_accepting_rule_is_found() -> None:
    jump = "FORWARD -o eth0 -j first"
    chains = ["first -j second", "second -p tcp -j ACCEPT"]
    assert earlier(jump, *OURS, *chains) == jump
    assert earlier(jump, *OURS, "first -j second", "second -j RETURN") == ""


@pytest.mark.parametrize(
    "rule",
    [
        "FORWARD -p tcp -j TCPMSS --clamp-mss-to-pmtu",
        "PREROUTING -j CONNMARK --restore-mark",
        "FORWARD -j DROP",
        "FORWARD -s 10.0.0.0/8",
        "POSTROUTING -j ACCEPT",
        "FORWARD -m comment --comment odc,other -j DROP",
    ],
)
def test_a_rule_after_which_packets_still_meet_ours_is_left_in_its_place(rule: str) -> None:
    assert earlier(rule, *OURS) == ""
