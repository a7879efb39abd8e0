"""Which lines of vm_glue.c hold code; made by ``python -m tests.fidelity.statements FILE``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

RANGES = """
59-60, 62-65, 67-88, 90-100, 102, 104-109, 120-123, 125-127, 129-130, 132-134, 136-142, 154-157, 159-161, 163-169,
171-175, 178-179, 181-183, 185-193, 203-207, 212, 215-216, 220-222, 230-231, 233-235, 237-251, 254-261, 268-269,
271, 273-277, 283-284, 286, 288-293, 296-297, 300, 303-307, 309-312, 314-316, 323-324, 326-330, 333-336, 338-343,
345-348, 350, 356, 361, 366-369, 371-377, 380-383, 385-386, 391, 396-397, 401-404, 406-408, 411-412, 414-415,
417-427, 429-432, 438-439, 441-444, 446-458, 460, 463-464, 466, 468-471, 473-475, 477-478, 482-483, 486-487, 490,
492, 496, 498-500, 502-503, 505-507, 514-515, 517-518, 524-525, 527-533, 536, 538, 542-543, 545-547, 549-561, 563,
569-570, 572-574, 576-590, 592-601, 603-605, 607, 617-623, 625-626, 628, 634-638, 641-642, 645-647, 650-651,
654-657, 664-665, 673-675, 678, 681-683, 685, 687-691, 693, 698-701, 703, 708-710, 717-721, 723, 726, 728, 738-739,
741-747, 749-752, 755-763, 765-766, 772-777, 784-786, 789, 791, 793, 798-800, 802, 809-811, 818-820, 823-824, 827,
830, 835-837, 843-845, 855-857, 859-861, 863-868, 875-876, 883-884, 897-901, 903-907, 914-915, 917-918, 921, 923,
928-932, 934, 939-941, 953-955, 963-967, 970-972, 980-989, 992-997, 999, 1004-1005, 1008-1010, 1012, 1014,
1016-1023, 1029-1030, 1032, 1034-1035, 1038-1040, 1042, 1044-1047, 1054-1055, 1060, 1064-1071, 1073-1075, 1077-1079,
1086-1087, 1089-1092, 1094
"""
"""Lines with code, conditions of the preprocessor included: no comment, no blank line, no brace by itself."""


def numbers(text: str) -> set[int]:
    """The line numbers in text such as "12, 14-16"."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def lines_with_code(source: str) -> list[int]:
    """Numbers of the lines of a C file that hold code."""
    bare = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), source, flags=re.DOTALL)
    lines = enumerate(bare.split("\n"), 1)
    return [number for number, line in lines if re.sub(r"[{}\s;]", "", line)]


def told(lines: list[int]) -> str:
    """Line numbers as ranges."""
    ranges: list[list[int]] = []
    for number in lines:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, found)) for found in ranges)


if __name__ == "__main__":
    print(told(lines_with_code(Path(sys.argv[1]).read_text())))
