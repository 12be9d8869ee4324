"""Random damage: to bytes, and to the values of JSON and YAML files."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import yaml

ODD: list[Any] = [
    None, True, -1, 0, 2**63, 10**40, 1e308, float("nan"), float("-inf"), "", "NaN", "../../etc",
    "/dev/zero", "a\0b", "${oc.env:HOME}", "???", "x" * 70_000, "\ud83d\ude00", "os.system", [], {},
    [[]], {"_target_": "os.system"}, {"_target_": 3}, {"": None}, [1, "a", None],
]  # fmt: skip


def damage_bytes(content: bytes, dice: random.Random) -> bytes:
    """One to four changes: bits, bytes, ranges lost, repeated, zeroed, inserted, swapped, cut."""
    data = bytearray(content)
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if not data:
            return bytes(dice.randbytes(dice.randrange(64)))
        at, size = dice.randrange(len(data)), dice.choice([1, 2, 4, 16, 256, 4096])
        match dice.randrange(9):
            case 0 | 1:
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                data[at] = dice.choice([0, 0xFF, 0x7F, 0x80, dice.randrange(256)])
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                data[at : at + size] = bytes(min(size, len(data) - at))
            case 6:
                data[at:at] = dice.randbytes(size)
            case 7:
                other = dice.randrange(len(data))
                data[at : at + size], data[other : other + size] = (
                    data[other : other + size],
                    data[at : at + size],
                )
            case 8:
                del data[at:]
    return bytes(data)


def damage_values(value: Any, dice: random.Random) -> Any:
    """The same tree with one node replaced, dropped, renamed or wrapped."""
    value = copy.deepcopy(value)
    holders = list(_holders(value))
    if not holders:
        return dice.choice(ODD)
    holder, key = dice.choice(holders)
    match dice.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case 2:
            holder[key] = [holder[key]]
        case 3:
            other, place = dice.choice(holders)
            holder[key] = copy.deepcopy(other[place])
        case _:
            holder[key] = dice.choice(ODD)
    return value


def damage_file(path: Path, dice: random.Random) -> None:
    """Damage a file in place: as bytes, or as the values that it holds."""
    content = path.read_bytes()
    if path.suffix == ".json" and dice.random() < 0.6:
        path.write_text(json.dumps(damage_values(json.loads(content), dice)))
    elif path.suffix == ".yaml" and dice.random() < 0.6:
        path.write_text(yaml.safe_dump(damage_values(yaml.safe_load(content), dice)))
    else:
        path.write_bytes(damage_bytes(content, dice))


def damage_text(text: str, dice: random.Random) -> str:
    """One change to what somebody types."""
    at = dice.randrange(len(text) + 1)
    match dice.randrange(4):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + dice.choice("=.[]{}',:~+@${}\\\n\0 é9-_") + text[at:]
        case 2:
            return text.partition("=")[0] + "=" + str(dice.choice(ODD))
        case _:
            return text[:at] + text[dice.randrange(len(text) + 1) :]


def _holders(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _holders(value[key])
