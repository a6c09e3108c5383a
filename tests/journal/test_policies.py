"""Trust policies, to the letter of C2SP tlog-policy."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import NoteInvalid
from tallystick.journal.notes import COSIGNATURE, ED25519, ML_DSA_44, SecretKey, VerifierKey
from tallystick.journal.policies import MAX_DEFINITIONS, MAX_POLICY_BYTES, Policy


def key(number: int, type_: int = COSIGNATURE) -> VerifierKey:
    return SecretKey.from_seed(f"w{number}.example", number.to_bytes(32, "big"), type_).verifier


LOG = key(1000, ED25519)
NAMES = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
KEYS = {name: key(number) for number, name in enumerate(NAMES)}
WITNESSES = "".join(f"witness {name} {KEYS[name]}\n" for name in NAMES)
EXAMPLE = f"""# the example of the specification
log {LOG}

{WITNESSES}
group X-witnesses 2 X1 X2 X3
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def satisfying(policy: Policy) -> set[frozenset[str]]:
    """Every set of the six witnesses that makes the quorum."""
    sets = [frozenset(chosen) for count in range(7) for chosen in combinations(NAMES, count)]
    return {chosen for chosen in sets if policy.satisfied_by([KEYS[name] for name in chosen])}


# ---------------------------------------------------------------- quorums


def test_the_published_example_asks_for_two_of_x_and_one_of_y():
    policy = Policy.parse(EXAMPLE)
    assert policy.log_keys == (LOG,)
    assert policy.witness_keys == tuple(KEYS.values())
    expected = {
        frozenset(chosen)
        for count in range(7)
        for chosen in combinations(NAMES, count)
        if sum(name[0] == "X" for name in chosen) >= 2 and any(name[0] == "Y" for name in chosen)
    }
    assert satisfying(policy) == expected


@pytest.mark.parametrize(("rule", "needed"), [("any", 1), ("all", 6), ("1", 1), ("2", 2), ("5", 5), ("6", 6)])
def test_a_group_is_met_from_its_threshold_on(rule: str, needed: int):
    policy = Policy.parse(f"{WITNESSES}group g {rule} {' '.join(NAMES)}\nquorum g\n")
    for count in range(7):
        assert policy.satisfied_by(KEYS[name] for name in NAMES[:count]) is (count >= needed)


def test_a_quorum_may_be_one_witness_or_none():
    one = Policy.parse(f"{WITNESSES}quorum X2\n")
    assert one.satisfied_by([KEYS["X2"]])
    assert not one.satisfied_by([KEYS["X1"], KEYS["X3"]])
    assert Policy.parse("quorum none\n").satisfied_by([])
    assert Policy.parse("quorum none\n").log_keys == ()


def test_witnesses_count_by_key_or_by_name_and_no_one_twice():
    policy = Policy.parse(f"{WITNESSES}group g 2 X1 X2 X3\nquorum g\n")
    assert policy.satisfied_by(["X1", KEYS["X2"]])
    assert not policy.satisfied_by(["X1", KEYS["X1"], KEYS["X1"]])


def test_strangers_groups_names_of_keys_and_keys_of_another_type_do_not_count():
    policy = Policy.parse(f"{WITNESSES}group g any X1 X2\nquorum g\n")
    strangers = [key(99), "g", "none", KEYS["X1"].name, str(KEYS["X1"]), "Y1", KEYS["Y1"]]
    assert not policy.satisfied_by(strangers)
    other = VerifierKey(KEYS["X1"].name, ED25519, KEYS["X1"].key)
    assert not policy.satisfied_by([other, VerifierKey("renamed", COSIGNATURE, KEYS["X1"].key)])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_tree_of_groups_agrees_with_its_meaning(data: st.DataObject):
    free: list[str] = list(NAMES)
    rules: dict[str, tuple[int, list[str]]] = {}
    lines = [WITNESSES]
    for number in range(data.draw(st.integers(1, 4))):
        members = data.draw(st.lists(st.sampled_from(free), min_size=1, unique=True)) if free else []
        if not members:
            break
        threshold = data.draw(st.integers(1, len(members)))
        free = [name for name in free if name not in members] + [f"g{number}"]
        rules[f"g{number}"] = (threshold, members)
        lines.append(f"group g{number} {threshold} {' '.join(members)}\n")
    quorum = data.draw(st.sampled_from([*rules, *NAMES]))
    policy = Policy.parse("".join([*lines, f"quorum {quorum}\n"]))
    chosen = data.draw(st.sets(st.sampled_from(NAMES)))

    def met(name: str) -> bool:
        if name in NAMES:
            return name in chosen
        threshold, members = rules[name]
        return sum(met(member) for member in members) >= threshold

    assert policy.satisfied_by([KEYS[name] for name in chosen]) is met(quorum)


# ---------------------------------------------------------------- the text


def test_white_space_comments_empty_lines_urls_and_order_are_as_specified():
    quantum = SecretKey.from_seed("w.example", bytes(32), ML_DSA_44).verifier
    policy = Policy.parse(
        f"\t # indented comment\n \t \n  witness\tA \t {key(1)} https://w1.example/  \n"
        f"witness #B {quantum}\nquorum A\nlog {LOG} https://log.example\ngroup later any #B\n"
    )
    assert [(witness.name, witness.url) for witness in policy.witnesses] == [("A", "https://w1.example/"), ("#B", "")]
    assert policy.logs[0].url == "https://log.example"
    assert policy.satisfied_by([key(1)])


def test_names_are_octets():
    kelvin, latin, not_utf_8 = "\u212a", "K", b"\xff"
    lines = [
        f"witness {kelvin} {key(1)}\n".encode(),
        f"witness {latin} {key(2)}\n".encode(),
        b"witness " + not_utf_8 + f" {key(3)}\n".encode(),
        f"witness \u00a0 {key(4)}\n".encode(),
        b"quorum " + not_utf_8 + b"\n",
    ]
    policy = Policy.parse(b"".join(lines))
    assert len({witness.name for witness in policy.witnesses}) == 4
    assert policy.satisfied_by([key(3)])
    assert not policy.satisfied_by([key(1), key(2), key(4)])


def test_logs_may_use_every_type_of_key():
    for type_ in (ED25519, COSIGNATURE):
        assert Policy.parse(f"log {key(1, type_)}\nquorum none\n").log_keys == (key(1, type_),)
    quantum = SecretKey.from_seed("log.example", bytes(32), ML_DSA_44).verifier
    assert Policy.parse(f"log {quantum}\nquorum none\n").log_keys == (quantum,)


def test_a_log_may_be_a_witness_too():
    assert Policy.parse(f"log {key(1)}\nwitness A {key(1)}\nquorum A\n").satisfied_by([key(1)])


REFUSED = {
    "nothing": "",
    "no quorum": f"log {LOG}\n",
    "a comment alone": "# quorum none\n",
    "two quorums": "quorum none\nquorum none\n",
    "a quorum of two names": f"{WITNESSES}quorum X1 X2\n",
    "a quorum of no name": "quorum\n",
    "an unknown quorum": f"{WITNESSES}quorum Z\n",
    "a quorum before its definition": f"quorum X1\n{WITNESSES}",
    "an unknown member": f"{WITNESSES}group g any X1 Z\nquorum g\n",
    "a member defined later": f"group g any X1\n{WITNESSES}quorum g\n",
    "a group of itself": f"{WITNESSES}group g any g\nquorum g\n",
    "a circle": f"{WITNESSES}group a any b X1\ngroup b any a X2\nquorum a\n",
    "none as a member": f"{WITNESSES}group g any none\nquorum g\n",
    "none as a group": f"{WITNESSES}group none any X1\nquorum none\n",
    "none as a witness": f"witness none {key(1)}\nquorum none\n",
    "a member twice in a group": f"{WITNESSES}group g 2 X1 X1\nquorum g\n",
    "a member of two groups": f"{WITNESSES}group a any X1\ngroup b any X1\nquorum a\n",
    "a group without members": f"{WITNESSES}group g any\nquorum X1\n",
    "a group without a rule": f"{WITNESSES}group g X1\nquorum X1\n",
    "a threshold of 0": f"{WITNESSES}group g 0 X1\nquorum g\n",
    "a threshold above the members": f"{WITNESSES}group g 3 X1 X2\nquorum g\n",
    "a threshold below 0": f"{WITNESSES}group g -1 X1\nquorum g\n",
    "a threshold with a leading zero": f"{WITNESSES}group g 01 X1\nquorum g\n",
    "a threshold of another script": f"{WITNESSES}group g \u0661 X1\nquorum g\n",
    "an enormous threshold": f"{WITNESSES}group g {'9' * 5000} X1\nquorum g\n",
    "a rule in capitals": f"{WITNESSES}group g ANY X1\nquorum g\n",
    "a name twice": f"witness A {key(1)}\nwitness A {key(2)}\nquorum none\n",
    "a group named as a witness": f"{WITNESSES}group X1 any X2\nquorum X1\n",
    "a witness's key twice": f"witness A {key(1)}\nwitness B {key(1)}\nquorum none\n",
    "a witness's key under another name": (
        f"witness A {key(1)}\nwitness B {VerifierKey('other', COSIGNATURE, key(1).key)}\nquorum none\n"
    ),
    "a log's key twice": f"log {LOG}\nlog {LOG}\nquorum none\n",
    "a log's key under another type": f"log {key(1)}\nlog {key(1, ED25519)}\nquorum none\n",
    "a witness with a plain key": f"witness A {key(1, ED25519)}\nquorum A\n",
    "a witness without a key": "witness A\nquorum none\n",
    "a witness with too many words": f"witness A {key(1)} https://a b\nquorum A\n",
    "a log without a key": "log\nquorum none\n",
    "a log with too many words": f"log {LOG} https://a b\nquorum none\n",
    "a bad key": f"log {str(LOG)[:-1]}\nquorum none\n",
    "an unknown keyword": "trust none\nquorum none\n",
    "a keyword in capitals": "QUORUM none\n",
    "a comment behind a line": "quorum none # hello\n",
    "no last newline": "quorum none",
    "a carriage return": "quorum none\r\n",
    "a form feed": "\fquorum none\n",
    "a null": "quorum none\n\0\n",
    "a delete": "quorum none\n#\x7f\n",
    "a no-break space for a space": "quorum\u00a0none\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_malformed_policies_are_refused(text: str):
    with pytest.raises(NoteInvalid):
        Policy.parse(text)


def test_the_line_at_fault_is_named():
    with pytest.raises(NoteInvalid, match="line 3 of the policy: 'Z' is not a witness or group defined before it"):
        Policy.parse("# one\n\nquorum Z\n")


def test_a_policy_cut_short_anywhere_is_refused():
    for end in range(len(EXAMPLE)):
        with pytest.raises(NoteInvalid):
            Policy.parse(EXAMPLE[:end])


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.binary(max_size=60), st.integers(0, len(EXAMPLE)))
def test_nothing_but_note_invalid_comes_of_any_text(text: str, data: bytes, place: int):
    for candidate in (text, data, EXAMPLE[:place] + text + EXAMPLE[place:], f"quorum {text}\n", f"witness {text}\n"):
        try:
            policy = Policy.parse(candidate)
        except NoteInvalid:
            continue
        assert policy.quorum == "none" or policy.satisfied_by([*policy.witness_keys])


def test_as_many_definitions_as_recommended_and_many_more_are_read():
    lines = [f"log {key(number, ED25519)}\n" for number in range(MAX_DEFINITIONS)]
    lines += [f"witness w{number} {key(number)}\n" for number in range(MAX_DEFINITIONS)]
    lines += ["group g0 any w0\n"]
    lines += [f"group g{number} all g{number - 1} w{number}\n" for number in range(1, MAX_DEFINITIONS)]
    policy = Policy.parse("".join([*lines, f"quorum g{MAX_DEFINITIONS - 1}\n"]))
    everyone = [key(number) for number in range(MAX_DEFINITIONS)]
    assert MAX_DEFINITIONS >= 32
    assert policy.satisfied_by(everyone)
    assert not policy.satisfied_by(everyone[1:])
    with pytest.raises(NoteInvalid, match="more than 256 witness lines"):
        Policy.parse("".join([*lines, f"witness more {key(5000)}\n", "quorum none\n"]))


def test_a_policy_has_a_largest_size():
    text = "quorum none\n"
    assert Policy.parse("#" * (MAX_POLICY_BYTES - len(text) - 1) + "\n" + text)
    with pytest.raises(NoteInvalid, match="more than 1000000"):
        Policy.parse("#" * (MAX_POLICY_BYTES - len(text)) + "\n" + text)
